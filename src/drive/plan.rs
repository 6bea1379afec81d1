//! What a fleet is to do, and where its vehicles are.

use super::Fix;
use super::area::Area;
use super::owed::Promise;
use super::roam::Roam;
use super::roster::Roster;
use super::trace::Trace;
use crate::client::Dialect;

/// What a fleet is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who.
    pub roster: Roster,
    /// Where.
    pub movement: Movement,
    /// Updates of one vehicle are this far apart, µs.
    pub period_us: u64,
    /// How long to drive.
    pub drive_ms: u64,
    /// What the gateway promises.
    pub promise: Promise,
    /// Deliveries to every so-manieth vehicle are judged.
    pub judged_every: u32,
    /// How everyone speaks.
    pub dialect: Dialect,
    /// How many watch, and what.
    pub viewers: u32,
    /// All of them the same.
    pub area: Area,
    /// For `Host`.
    pub host: String,
    /// Of the endpoint, with its query.
    pub path: String,
    /// For keys and masks.
    pub seed: u64,
}

/// Where vehicles are.
#[derive(Clone, Debug)]
pub enum Movement {
    /// Made up.
    Roam(Roam),
    /// Recorded.
    Replay {
        /// The recording; one track per vehicle.
        trace: Trace,
        /// Its first fix, Unix ms.
        from_ms: i64,
        /// How many times faster than it was.
        speedup: f64,
    },
}

impl Movement {
    /// Replays a recording from its first fix on.
    pub fn replay(trace: Trace, speedup: f64) -> Movement {
        Movement::Replay { from_ms: trace.span_ms().0, trace, speedup }
    }

    /// Where a vehicle is after so long; time must not go back. `None`: nobody knows.
    pub fn fix(&mut self, vehicle: u32, driven_ms: u64) -> Option<Fix> {
        match self {
            Movement::Roam(roam) => Some(roam.fix(vehicle, driven_ms)),
            Movement::Replay { trace, from_ms, speedup } => {
                let at_ms = *from_ms + (driven_ms as f64 * *speedup) as i64;
                trace.vehicles[vehicle as usize].fix(at_ms)
            }
        }
    }
}
