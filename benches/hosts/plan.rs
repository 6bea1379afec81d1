//! Who drives where: vehicles spread over squares so that hardly any two are near each other, and probes among them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringroad::geo::{Place, Square};
use ringroad::wire::frame::{Opcode, encode_masked};
use serde_json::Value;

use crate::client::{location, registration};

/// Sides of a square of the backplane, 1e-7 degree: 360° by 180° in 1,024 parts each.
const SQUARE_E7: (f64, f64) = (1_757_812.5, 3_515_625.0);

/// Where the westernmost square begins.
pub const WEST_E7: i32 = 0;

/// No vehicle is nearer to the border of a square than this (1,670 m).
const MARGIN_E7: f64 = 150_000.0;

/// Where somebody stands who is only to look into a square: near none of its vehicles (780 m), and near no border
/// (890 m).
const ASIDE_E7: i32 = 70_000;

/// Moves of a probe that can be told apart: one step each, 1e-7 degree or 1 cm.
const STEPS: u32 = 4096;

/// Where listeners stand beside a probe (100 m): near it, and not near the next vehicle.
const BESIDE_E7: i32 = 9_000;

/// A vehicle whose every position says which it is, so that whoever hears of it knows when it was sent.
pub struct Probe {
    pub id: String,
    home_e7: (i32, i32),
    count: AtomicU32,
    origin: Instant,
    sent_ns: Vec<AtomicU64>,
}

impl Probe {
    pub fn new(id: String, home_e7: (i32, i32)) -> Probe {
        let sent_ns = (0..STEPS).map(|_| AtomicU64::new(0)).collect();
        Probe { id, home_e7, count: AtomicU32::new(0), origin: Instant::now(), sent_ns }
    }

    /// Where a listener on each of the two hosts stands, 1e-7 degree.
    pub fn beside(&self, host: usize) -> (i32, i32) {
        (self.home_e7.0, self.home_e7.1 + if host == 0 { BESIDE_E7 } else { -BESIDE_E7 })
    }

    /// Its next position, which counts as sent now.
    pub fn next(&self) -> (i32, i32) {
        let step = self.count.fetch_add(1, Ordering::Relaxed) % STEPS;
        self.sent_ns[step as usize].store(self.origin.elapsed().as_nanos() as u64, Ordering::Relaxed);
        (self.home_e7.0 + step as i32, self.home_e7.1)
    }

    /// The number of the position in an event, and how long it was under way; `None`: the event is about another.
    pub fn heard(&self, event: &Value, arrived: Instant) -> Option<(u32, Duration)> {
        let data = &event["data"];
        if event["event"] != "peer_location" || data["vehicleId"] != self.id {
            return None;
        }
        let lat_e7 = (data["lat"].as_f64().expect("a latitude") * 1e7).round() as i32;
        let step = u32::try_from(lat_e7 - self.home_e7.0).expect("a step northward");
        let sent = self.origin + Duration::from_nanos(self.sent_ns[step as usize].load(Ordering::Relaxed));
        Some((step, arrived.saturating_duration_since(sent)))
    }
}

/// A vehicle that a connection is made up for, and what it says.
pub struct Driver {
    pub registration: Vec<u8>,
    /// Two places some metres apart, in turn.
    pub moves: [Vec<u8>; 2],
    /// It is this probe instead.
    pub probe: Option<usize>,
}

/// All vehicles of the sending host.
pub struct Plan {
    pub drivers: Vec<Driver>,
    pub probes: Vec<Probe>,
    /// Somebody of the other host has to stand in each square for that host to listen there, 1e-7 degree.
    pub posts: Vec<(i32, i32)>,
}

impl Plan {
    /// As many vehicles as wanted, as evenly as they go, with one probe in each of the first squares.
    pub fn new(vehicles: usize, squares: usize, probes: usize) -> Plan {
        let across = (squares as f64).sqrt().ceil() as usize;
        let mut plan = Plan { drivers: Vec::new(), probes: Vec::new(), posts: Vec::new() };
        for square in 0..squares {
            let (row, column) = (square / across, square % across);
            let south = row as f64 * SQUARE_E7.0 + MARGIN_E7;
            let west = f64::from(WEST_E7) + column as f64 * SQUARE_E7.1 + MARGIN_E7;
            let share = vehicles / squares + usize::from(square < vehicles % squares);
            // Twice as wide as high, so twice as many columns as rows.
            let columns = (2.0 * share as f64).sqrt().ceil().max(1.0) as usize;
            let rows = share.div_ceil(columns).max(1);
            let step = |side: f64, places: usize| (side - 2.0 * MARGIN_E7) / places as f64;
            let (up, right) = (step(SQUARE_E7.0, rows), step(SQUARE_E7.1, columns));
            for at in 0..share {
                let lat_e7 = (south + (at / columns) as f64 * up) as i32;
                let lon_e7 = (west + (at % columns) as f64 * right) as i32;
                plan.add((lat_e7, lon_e7), at == 0 && square < probes);
            }
            let (lat_e7, lon_e7) = (south as i32, west as i32);
            let aside = (lat_e7 - ASIDE_E7, lon_e7);
            plan.posts.push(if square < probes { plan.probes[square].beside(1) } else { aside });
        }
        plan.check(squares);
        plan
    }

    fn add(&mut self, (lat_e7, lon_e7): (i32, i32), is_probe: bool) {
        let id = format!("car-{}", self.drivers.len());
        // Some 2 m: what a vehicle moves between two reports.
        let moves = [0, 180].map(|north| masked(&location(&id, lat_e7 + north, lon_e7)));
        let registration = masked(&registration(&id));
        let probe = is_probe.then(|| {
            self.probes.push(Probe::new(id, (lat_e7, lon_e7)));
            self.probes.len() - 1
        });
        self.drivers.push(Driver { registration, moves, probe });
    }

    /// The posts are in squares of their own: as many as were wanted.
    fn check(&self, squares: usize) {
        let place = |&(lat_e7, lon_e7): &(i32, i32)| Square::of(Place::from_e7(lat_e7, lon_e7));
        let distinct: std::collections::BTreeSet<Square> = self.posts.iter().map(place).collect();
        assert_eq!(distinct.len(), squares, "the plan's squares are the backplane's");
    }
}

/// A client's frame.
pub fn masked(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_masked(&mut bytes, Opcode::Text, [0x12, 0x34, 0x56, 0x78], text.as_bytes());
    bytes
}
