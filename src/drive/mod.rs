//! A fleet of vehicles that speaks the real protocol: load generator and judge in one.
//!
//! [`run`] drives any gateway that speaks the protocol, ours or another. The vehicles wander in a square or replay a
//! recording, and every delivery is held against what the gateway owed, so the result is not only how much arrived but
//! whether it was the right thing.
//!
//! - [`fleet`]: the core: joins, drives, settles, says goodbye. [`conn`] is one of its connections, [`plan`]
//!   what it is to do.
//! - [`owed`]: the ledger: who is owed what, and what came. [`gallery`]: the same for viewers; [`area`]: what they watch.
//! - [`roam`], [`trace`]: where vehicles are, made up or recorded.
//! - [`talk`], [`roster`]: what they say and hear, and their names.
//! - [`report`], [`latency`]: what is shown.
//! - [`target`], [`iso8601`]: URLs, times.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};

use crate::client::Dialect;
use crate::geo::Place;
use crate::io;
use crate::wire::json::Edges;

pub mod fleet;
pub mod conn;
pub mod plan;
pub mod owed;
pub mod gallery;
pub mod area;
pub mod roam;
pub mod trace;
pub mod talk;
pub mod roster;
pub mod report;
pub mod latency;
pub mod target;
pub mod iso8601;

use area::Area;
use fleet::Fleet;
use owed::Promise;
use plan::{Movement, Plan};
use report::Phase;
pub use report::Report;
use roam::Roam;
use roster::Roster;
use target::Target;
pub use target::TargetError;
use trace::Trace;
pub use trace::TraceError;

/// Vehicles without a recording, if nobody says how many.
const VEHICLES: u32 = 100;

/// How long to drive without a recording, if nobody says, seconds.
const SECONDS: f64 = 30.0;

/// Descriptors that the process needs beside its connections.
const DESCRIPTORS_BESIDE: u64 = 64;

/// Receive buffers are larger than a gateway's: what comes is many deliveries at once.
const BUFFER_BYTES: u32 = 2048;

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

/// Where a recording is: CSV, plain or gzip.
#[derive(Clone, Debug)]
pub enum Recording {
    /// In a file.
    File(PathBuf),
    /// In the program.
    Bundled(&'static [u8]),
}

/// What viewers watch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum View {
    /// Between two parallels and two meridians.
    Box(Edges),
    /// A square of so many metres around the middle of the fleet.
    Side(f64),
}

/// What to drive.
#[derive(Clone, Debug)]
pub struct DriveOptions {
    /// `ws://host[:port][/path]`, or `wss://…`
    pub url: String,
    /// PEM file of the authorities that may have signed the gateway's certificate; empty: the system's.
    pub tls_ca: String,
    /// How many; without it 100, or all of a recording.
    pub vehicles: Option<u32>,
    /// Updates per second and vehicle. A gateway with the usual settings takes 5; more it coalesces and refuses, and
    /// what it then does not deliver counts as missing.
    pub hz: f64,
    /// How long, without the joining; without it 30 s, or to the end of a recording.
    pub seconds: Option<f64>,
    /// Side of the square that vehicles wander in, metres.
    pub side_m: f64,
    /// Middle of the square, degrees north and east.
    pub centre: (f64, f64),
    /// A recording to replay instead of wandering.
    pub recording: Option<Recording>,
    /// How many times faster than it was.
    pub speedup: f64,
    /// The gateway's radius, metres.
    pub radius_m: f64,
    /// The gateway's `vehicles.neighbours_max`; 0: it has none.
    pub neighbours_max: u32,
    /// Deliveries to every so-manieth vehicle are held against what it is owed, the others only counted.
    pub judged_every: u32,
    /// How vehicles and viewers speak.
    pub dialect: Dialect,
    /// Connections beside the vehicles that drive nothing and watch.
    pub viewers: u32,
    /// What they watch; without it, all of the fleet.
    pub view: Option<View>,
    /// Vehicle ids begin with it; fleets that drive at the same time need different ones.
    pub prefix: String,
    /// Of the ways, the keys and the masks.
    pub seed: u64,
}

impl Default for DriveOptions {
    fn default() -> Self {
        DriveOptions {
            url: "ws://127.0.0.1:3002/v2v".into(),
            tls_ca: String::new(),
            vehicles: None,
            hz: 1.0,
            seconds: None,
            side_m: 2_000.0,
            centre: (30.2672, -97.7431),
            recording: None,
            speedup: 1.0,
            radius_m: 500.0,
            neighbours_max: 128,
            judged_every: 1,
            dialect: Dialect::Json,
            viewers: 0,
            view: None,
            prefix: "drive".into(),
            seed: 1,
        }
    }
}

/// Why there was no drive.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// An option that makes no sense.
    #[error("{name} is {value}; it has to be {range}")]
    Option {
        /// Which.
        name: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        range: &'static str,
    },
    /// The gateway cannot be had.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The recording cannot be used.
    #[error("{path}: {source}", path = .path.display())]
    Trace {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: TraceError,
    },
    /// Too few file descriptors.
    #[error("{connections} connections need {needed} file descriptors, and the limit is {limit} (ulimit -Hn)")]
    Descriptors {
        /// How many vehicles and viewers.
        connections: u32,
        /// Descriptors needed.
        needed: u64,
        /// The hard limit.
        limit: u64,
    },
    /// The shell cannot be started.
    #[error(transparent)]
    Start(#[from] io::StartError),
    /// The shell broke.
    #[error(transparent)]
    Failed(#[from] io::Failed),
    /// Not one vehicle could register.
    #[error("no vehicle could register ({})", reasons(.0))]
    Nobody(Box<Report>),
}

impl DriveError {
    /// Whether what was asked for cannot be, whatever the gateway does.
    pub fn is_misuse(&self) -> bool {
        use TargetError::{Authority, Clear, Path, Scheme, Tls};
        matches!(
            self,
            Self::Option { .. }
                | Self::Trace { .. }
                | Self::Target(Tls(_) | Clear(_) | Scheme(_) | Authority(_) | Path(_))
        )
    }
}

fn reasons(report: &Report) -> String {
    let all = report.errors.iter().chain(&report.closes).map(|(why, count)| format!("{why}: {count}"));
    let all = all.collect::<Vec<_>>().join(", ");
    if all.is_empty() { "the gateway did not answer".into() } else { all }
}

/// Drives. Calls `progress` about four times per second, and at the end with what is returned. When it answers `Break`,
/// the fleet says goodbye early.
///
/// It takes as long as asked for, and before that what joining takes, after that up to 2 s for deliveries in flight and
/// 2 s for goodbyes.
pub fn run(options: DriveOptions, mut progress: impl FnMut(&Report) -> ControlFlow<()>) -> Result<Report, DriveError> {
    let target = Target::parse(&options.url)?;
    let plan = plan(&options, &target)?;
    check_descriptor_limit(plan.roster.len() + plan.viewers)?;
    let dialling = target.dialling(&options.tls_ca)?;
    let addr = target.resolve()?;
    if let Some(dialling) = &dialling {
        Target::greet(addr, dialling)?;
    }
    let shell = io::Options {
        workers: 1,
        target: Some(addr),
        dialling,
        // The gateway may be on this host, and pinned.
        pin: false,
        buffer_bytes: BUFFER_BYTES,
        ..io::Options::default()
    };
    let (reports, inbox) = mpsc::channel();
    let running = io::start(shell, move |_| {
        let reports = reports.clone();
        // Whoever is not there to read needs no report.
        Fleet::new(plan.clone(), move |report: &Report| drop(reports.send(report.clone())))
    })?;
    let mut last = Report::default();
    while last.phase != Phase::Done {
        match inbox.recv_timeout(Duration::from_secs(1)) {
            Ok(report) => {
                if progress(&report).is_break() {
                    running.stop();
                }
                last = report;
            }
            Err(RecvTimeoutError::Timeout) if !running.wait(Duration::ZERO) => {}
            Err(_) => break,
        }
    }
    running.stop();
    running.join()?;
    if last.registered == 0 { Err(DriveError::Nobody(Box::new(last))) } else { Ok(last) }
}

/// From what was asked for to what is to be done.
fn plan(options: &DriveOptions, target: &Target) -> Result<Plan, DriveError> {
    let within = |name, value: f64, least: f64, most: f64, range| {
        if (least..=most).contains(&value) { Ok(value) } else { Err(DriveError::Option { name, value, range }) }
    };
    let hz = within("hz", options.hz, 0.01, 100.0, "0.01 to 100 per second")?;
    let radius_m = within("radius", options.radius_m, 1.0, 100_000.0, "1 to 100,000 m")?;
    let speedup = within("speedup", options.speedup, 0.01, 10_000.0, "0.01 to 10,000")?;
    let side_m = within("side", options.side_m, 1.0, 1_000_000.0, "1 to 1,000,000 m")?;
    within("the centre's latitude", options.centre.0, -89.0, 89.0, "-89 to 89 degrees")?;
    within("the centre's longitude", options.centre.1, -180.0, 180.0, "-180 to 180 degrees")?;
    within("vehicles", options.vehicles.map_or(1.0, f64::from), 1.0, 1e6, "1 to 1,000,000")?;
    within("viewers", f64::from(options.viewers), 0.0, 1e5, "0 to 100,000")?;
    let (roster, movement, seconds, whole) = match &options.recording {
        Some(recording) => {
            let trace = open(recording, options.vehicles)?;
            let (first_ms, last_ms) = trace.span_ms();
            let recorded_s = ((last_ms - first_ms) as f64 / 1e3 / speedup).max(1.0);
            let roster = Roster::named(&options.prefix, trace.vehicles.iter().map(|track| track.name.as_str()));
            let seconds = options.seconds.unwrap_or(recorded_s).min(recorded_s);
            let whole = trace.extent();
            (roster, Movement::replay(trace, speedup), seconds, whole)
        }
        None => {
            let vehicles = options.vehicles.unwrap_or(VEHICLES);
            let roam = Roam::new(vehicles, options.centre, side_m, options.seed);
            let seconds = options.seconds.unwrap_or(SECONDS);
            let whole = area::square(options.centre, side_m);
            (Roster::numbered(&options.prefix, vehicles), Movement::Roam(roam), seconds, whole)
        }
    };
    let seconds = within("seconds", seconds, 0.1, 1e7, "0.1 to 10,000,000 s")?;
    let edges = match options.view {
        None => area::widened(whole),
        Some(View::Box(edges)) => edges,
        Some(View::Side(side_m)) => {
            let side_m = within("the view's side", side_m, 1.0, 1_000_000.0, "1 to 1,000,000 m")?;
            area::square(area::centre(whole), side_m)
        }
    };
    let encounters = options.dialect == Dialect::Binary;
    Ok(Plan {
        roster,
        movement,
        period_us: (1e6 / hz) as u64,
        drive_ms: (seconds * 1e3) as u64,
        promise: Promise { radius_m, neighbours_max: options.neighbours_max, encounters },
        judged_every: options.judged_every,
        dialect: options.dialect,
        viewers: options.viewers,
        area: Area::new(edges),
        host: target.host.clone(),
        path: target.path.clone(),
        seed: options.seed,
    })
}

fn open(recording: &Recording, vehicles: Option<u32>) -> Result<Trace, DriveError> {
    let (path, trace) = match recording {
        Recording::File(path) => (path.as_path(), Trace::open(path)),
        Recording::Bundled(bytes) => (Path::new("the bundled recording"), Trace::read(*bytes)),
    };
    let mut trace = trace.map_err(|source| DriveError::Trace { path: path.into(), source })?;
    trace.limit(vehicles.unwrap_or(u32::MAX) as usize);
    Ok(trace)
}

/// Whether the connections may have the descriptors that they need. The shell takes all that the hard limit grants.
fn check_descriptor_limit(connections: u32) -> Result<(), DriveError> {
    let needed = u64::from(connections) + DESCRIPTORS_BESIDE;
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, limit)) if limit < needed => Err(DriveError::Descriptors { connections, needed, limit }),
        // Where the limit cannot be asked for, connections will tell.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(options: DriveOptions) -> Result<Plan, DriveError> {
        plan(&options, &Target::parse(&options.url).unwrap())
    }

    #[test]
    fn a_hundred_vehicles_for_half_a_minute() {
        let plan = planned(DriveOptions::default()).unwrap();
        assert_eq!((plan.roster.len(), plan.drive_ms, plan.period_us), (100, 30_000, 1_000_000));
        assert_eq!((plan.host.as_str(), plan.path.as_str()), ("127.0.0.1:3002", "/v2v"));
    }

    #[test]
    fn a_recording_says_how_many_and_how_long() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/data/austin-hour.csv.gz");
        let recording = Some(Recording::File(file.into()));
        let plan =
            planned(DriveOptions { recording: recording.clone(), speedup: 60.0, ..DriveOptions::default() }).unwrap();
        assert_eq!((plan.roster.len(), plan.drive_ms / 1000), (261, 63));
        let options = DriveOptions { recording, vehicles: Some(9), seconds: Some(5.0), ..DriveOptions::default() };
        let plan = planned(options).unwrap();
        assert_eq!((plan.roster.len(), plan.drive_ms), (9, 5_000));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_range() {
        let error = |options| planned(options).unwrap_err().to_string();
        let options = DriveOptions::default;
        assert_eq!(error(DriveOptions { hz: 0.0, ..options() }), "hz is 0; it has to be 0.01 to 100 per second");
        assert!(error(DriveOptions { hz: f64::NAN, ..options() }).starts_with("hz is NaN"));
        assert!(error(DriveOptions { vehicles: Some(0), ..options() }).starts_with("vehicles is 0"));
        assert!(error(DriveOptions { seconds: Some(0.0), ..options() }).starts_with("seconds is 0"));
        let recording = Some(Recording::File("/nowhere.csv".into()));
        assert!(error(DriveOptions { recording, ..options() }).starts_with("/nowhere.csv: No such file"));
    }
}
