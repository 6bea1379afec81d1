//! Recorded movement: a CSV of fixes, replayed.
//!
//! Recordings are dirty. What cannot be used is skipped, what is out of order is sorted, each is counted by kind, and
//! the replay goes on; the report tells.
//!
//! A bus reports about every two minutes, so the replay interpolates between fixes, in a straight line. Over a longer
//! silence nothing is known, and the vehicle is silent too.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::{Fix, iso8601};
use crate::geo::Place;
use crate::geo::distance::metres;
use crate::wire::json::Edges;
use crate::wire::units::{degrees, lat_e7, lon_e7};

/// Faster than any road vehicle: 252 km/h. As a reported speed, or as what two fixes imply.
pub const SPEED_MPS_MAX: f64 = 70.0;

/// Between two fixes further apart in time than this, nothing is interpolated.
pub const GAP_MS_MAX: i64 = 300_000;

/// A step this short (GPS at rest) says nothing about where a vehicle heads.
const HEADING_M_MIN: f64 = 2.0;

/// What a trace could not be read for.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be opened or read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file is not CSV.
    #[error("{0}")]
    Csv(#[from] csv::Error),
    /// The heading line lacks a column that is needed.
    #[error("there is no column {0:?}")]
    Column(&'static str),
    /// No vehicle has a usable fix.
    #[error("no row can be used ({0})")]
    Empty(Dirt),
}

/// Rows that are not as they should be, by what is wrong with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dirt {
    /// A field is missing or is not what its column says. Skipped.
    pub unparsable: u64,
    /// At (0, 0), where no vehicle is: a receiver without a fix. Skipped.
    pub null_island: u64,
    /// Not on Earth. Skipped.
    pub out_of_range: u64,
    /// Faster than [`SPEED_MPS_MAX`], as reported or from the fix before. Skipped.
    pub impossible_speed: u64,
    /// A second fix of the same vehicle and time. Skipped.
    pub duplicate: u64,
    /// Earlier than the row of the same vehicle above it. Sorted in.
    pub out_of_order: u64,
}

impl Dirt {
    /// Rows that were left out.
    pub fn skipped(&self) -> u64 {
        self.unparsable + self.null_island + self.out_of_range + self.impossible_speed + self.duplicate
    }

    /// Each kind in words, and how many.
    pub fn kinds(&self) -> [(&'static str, u64); 6] {
        [
            ("unparsable, skipped", self.unparsable),
            ("at (0, 0), skipped", self.null_island),
            ("off Earth, skipped", self.out_of_range),
            ("too fast, skipped", self.impossible_speed),
            ("twice, skipped", self.duplicate),
            ("late, sorted in", self.out_of_order),
        ]
    }
}

impl fmt::Display for Dirt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.kinds().into_iter().filter(|(_, rows)| *rows > 0);
        let found: Vec<String> = found.map(|(kind, rows)| format!("{rows} {kind}")).collect();
        f.write_str(if found.is_empty() { "it has none".to_owned() } else { found.join("; ") }.as_str())
    }
}

/// A recording, by vehicle and time.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// By name; each has at least one fix.
    pub vehicles: Vec<Track>,
    /// Usable rows.
    pub rows: u64,
    /// The others, and those that had to be sorted.
    pub dirt: Dirt,
}

/// One vehicle's fixes.
#[derive(Clone, Debug)]
pub struct Track {
    /// As the recording calls it.
    pub name: String,
    /// By time, no two at the same.
    points: Vec<Point>,
    /// The last point that is not after the time asked for last.
    at: usize,
    heading_degrees: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    unix_ms: i64,
    lat_e7: i32,
    lon_e7: i32,
}

impl Point {
    fn place(&self) -> Place {
        Place::from_e7(self.lat_e7, self.lon_e7)
    }
}

impl Trace {
    /// Reads a file, plain or gzipped by its content.
    pub fn open(path: &Path) -> Result<Trace, TraceError> {
        Trace::read(BufReader::new(File::open(path)?))
    }

    /// Reads CSV with a heading line; needs the columns `vehicle_id`, `timestamp`, `latitude` and `longitude`, and
    /// heeds `speed` (m/s) where it is there.
    pub fn read(mut input: impl Read) -> Result<Trace, TraceError> {
        let mut magic = Vec::new();
        input.by_ref().take(2).read_to_end(&mut magic)?;
        let whole = io::Cursor::new(magic.clone()).chain(input);
        if magic == [0x1F, 0x8B] { Trace::read_csv(MultiGzDecoder::new(whole)) } else { Trace::read_csv(whole) }
    }

    fn read_csv(input: impl Read) -> Result<Trace, TraceError> {
        let mut csv = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(input);
        let headers = csv.byte_headers()?.clone();
        let column = |name: &'static str| headers.iter().position(|header| header == name.as_bytes());
        let needed = |name| column(name).ok_or(TraceError::Column(name));
        let columns = Columns {
            vehicle: needed("vehicle_id")?,
            timestamp: needed("timestamp")?,
            lat: needed("latitude")?,
            lon: needed("longitude")?,
            speed: column("speed"),
        };
        let mut trace = Trace::default();
        let mut numbers: HashMap<String, usize> = HashMap::new();
        let mut row = csv::ByteRecord::new();
        while csv.read_byte_record(&mut row)? {
            let Some((name, point)) = columns.read(&row, &mut trace.dirt) else { continue };
            let number = *numbers.entry(name.to_string()).or_insert_with(|| {
                trace.vehicles.push(Track::new(name));
                trace.vehicles.len() - 1
            });
            let points = &mut trace.vehicles[number].points;
            trace.dirt.out_of_order += points.last().is_some_and(|last| point.unix_ms < last.unix_ms) as u64;
            points.push(point);
        }
        for track in &mut trace.vehicles {
            track.clean(&mut trace.dirt);
            trace.rows += track.points.len() as u64;
        }
        trace.vehicles.sort_by(|a, b| a.name.cmp(&b.name));
        if trace.vehicles.is_empty() { Err(TraceError::Empty(trace.dirt)) } else { Ok(trace) }
    }

    /// Keeps the first vehicles, by name.
    pub fn limit(&mut self, vehicles: usize) {
        self.vehicles.truncate(vehicles);
    }

    /// First and last fix of all, Unix ms.
    pub fn span_ms(&self) -> (i64, i64) {
        let points = || self.vehicles.iter().flat_map(|track| &track.points).map(|point| point.unix_ms);
        (points().min().unwrap_or(0), points().max().unwrap_or(0))
    }

    /// The box around all fixes; the shorter way round from the first one.
    pub fn extent(&self) -> Edges {
        let points = || self.vehicles.iter().flat_map(|track| &track.points);
        let Some(first) = points().next() else { return Edges { south_e7: 0, west_e7: 0, north_e7: 0, east_e7: 0 } };
        let lats = || points().map(|point| point.lat_e7);
        let steps = || points().map(|point| lon_step(first, point));
        let lon_e7 = |step: i64| lon_e7(degrees(first.lon_e7) + step as f64 / 1e7);
        Edges {
            south_e7: lats().min().unwrap_or(first.lat_e7),
            west_e7: lon_e7(steps().min().unwrap_or(0)),
            north_e7: lats().max().unwrap_or(first.lat_e7),
            east_e7: lon_e7(steps().max().unwrap_or(0)),
        }
    }
}

/// Where the columns are.
struct Columns {
    vehicle: usize,
    timestamp: usize,
    lat: usize,
    lon: usize,
    speed: Option<usize>,
}

impl Columns {
    fn read<'a>(&self, row: &'a csv::ByteRecord, dirt: &mut Dirt) -> Option<(&'a str, Point)> {
        let text = |column: usize| row.get(column).and_then(|field| str::from_utf8(field).ok());
        let number = |column: usize| text(column)?.parse::<f64>().ok().filter(|number| number.is_finite());
        let fields = || {
            let name = text(self.vehicle).filter(|name| !name.is_empty())?;
            // An empty speed is no speed; a word is a row that went wrong.
            let speed = match self.speed.and_then(text).filter(|field| !field.is_empty()) {
                Some(field) => field.parse::<f64>().ok()?,
                None => 0.0,
            };
            Some((name, iso8601::unix_ms(text(self.timestamp)?)?, number(self.lat)?, number(self.lon)?, speed))
        };
        let Some((name, unix_ms, lat, lon, speed)) = fields() else {
            dirt.unparsable += 1;
            return None;
        };
        let wrong = if lat == 0.0 && lon == 0.0 {
            &mut dirt.null_island
        } else if lat.abs() > 90.0 || lon.abs() > 180.0 {
            &mut dirt.out_of_range
        } else if !(0.0..=SPEED_MPS_MAX).contains(&speed) {
            &mut dirt.impossible_speed
        } else {
            return Some((name, Point { unix_ms, lat_e7: lat_e7(lat), lon_e7: lon_e7(lon) }));
        };
        *wrong += 1;
        None
    }
}

impl Track {
    fn new(name: &str) -> Track {
        Track { name: name.to_string(), points: Vec::new(), at: 0, heading_degrees: None }
    }

    fn clean(&mut self, dirt: &mut Dirt) {
        // Stable: of two fixes of one time, the one that was written first is kept.
        self.points.sort_by_key(|point| point.unix_ms);
        let before = self.points.len();
        self.points.dedup_by_key(|point| point.unix_ms);
        dirt.duplicate += (before - self.points.len()) as u64;
        let before = self.points.len();
        self.points.dedup_by(|point, kept| {
            let seconds = (point.unix_ms - kept.unix_ms) as f64 / 1e3;
            metres(kept.place(), point.place()) > SPEED_MPS_MAX * seconds
        });
        dirt.impossible_speed += (before - self.points.len()) as u64;
    }

    /// Where the vehicle is at a time, which must not go back. `None` before its first fix, after its last, and in a
    /// gap.
    pub fn fix(&mut self, unix_ms: i64) -> Option<Fix> {
        while self.points.get(self.at + 1).is_some_and(|next| next.unix_ms <= unix_ms) {
            self.at += 1;
        }
        let from = *self.points.get(self.at)?;
        let to = match self.points.get(self.at + 1) {
            Some(&to) if to.unix_ms - from.unix_ms <= GAP_MS_MAX => to,
            _ if from.unix_ms == unix_ms => from,
            _ => return None,
        };
        if unix_ms < from.unix_ms {
            return None;
        }
        let (passed_ms, step_ms) = (unix_ms - from.unix_ms, (to.unix_ms - from.unix_ms).max(1));
        let way_m = metres(from.place(), to.place());
        if way_m >= HEADING_M_MIN {
            self.heading_degrees = Some(heading_degrees(&from, &to));
        }
        let part = |whole: i64| (whole * passed_ms + whole.signum() * step_ms / 2) / step_ms;
        let lon_e7 = from.lon_e7 as i64 + part(lon_step(&from, &to));
        Some(Fix {
            lat_e7: from.lat_e7 + part((to.lat_e7 - from.lat_e7) as i64) as i32,
            lon_e7: if lon_e7 > 1_800_000_000 {
                lon_e7 - 3_600_000_000
            } else if lon_e7 <= -1_800_000_000 {
                lon_e7 + 3_600_000_000
            } else {
                lon_e7
            } as i32,
            speed_mps: way_m / step_ms as f64 * 1e3,
            heading_degrees: self.heading_degrees,
        })
    }
}

/// The shorter way round.
fn lon_step(from: &Point, to: &Point) -> i64 {
    (to.lon_e7 as i64 - from.lon_e7 as i64 + 1_800_000_000).rem_euclid(3_600_000_000) - 1_800_000_000
}

fn heading_degrees(from: &Point, to: &Point) -> f64 {
    let middle = degrees(from.lat_e7) / 2.0 + degrees(to.lat_e7) / 2.0;
    let east = lon_step(from, to) as f64 * middle.to_radians().cos();
    let north = (to.lat_e7 as i64 - from.lat_e7 as i64) as f64;
    east.atan2(north).to_degrees().rem_euclid(360.0)
}

#[cfg(test)]
mod tests;
