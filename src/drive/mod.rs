//! drive

pub mod dice;
pub mod iso8601;
pub mod latency;
pub mod owed;
pub mod roam;
pub mod trace;

use crate::geo::Place;

/// Where a vehicle is and how it moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fix {
    /// 1e-7 degree.
    pub lat_e7: i32,
    /// 1e-7 degree.
    pub lon_e7: i32,
    /// Metres per second.
    pub speed_mps: f64,
    /// Clockwise from north, 0…360; `None` for a vehicle that has not moved yet.
    pub heading_degrees: Option<f64>,
}

impl Fix {
    /// The place, for the one distance.
    pub fn place(&self) -> Place {
        Place::from_e7(self.lat_e7, self.lon_e7)
    }
}
