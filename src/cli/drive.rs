//! `ringroad drive`: its options.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ringroad::client::Dialect;
use ringroad::drive::{DriveOptions, Recording, View};
use ringroad::wire::json::Edges;

use super::positive;

/// `ringroad drive`
#[derive(Args, Clone, Debug)]
pub struct DriveArgs {
    /// The gateway, as in `ws://localhost:3002/v2v`, or `wss://` with TLS
    pub url: String,
    /// PEM file of the authorities that may have signed the gateway's certificate [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Vehicles that move at random
    #[arg(long, value_name = "N", default_value_t = 1_000, conflicts_with = "trace")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub vehicles: u32,
    /// Updates per second and vehicle
    #[arg(long, value_name = "F", default_value_t = 2.0, value_parser = positive)]
    pub hz: f64,
    /// How long to drive [default: 30; with a trace: all of it]
    #[arg(long, value_name = "S", value_parser = positive)]
    pub seconds: Option<f64>,
    /// Side of the square in which the vehicles move, metres
    #[arg(long, value_name = "METRES", default_value_t = 10_000.0, value_parser = positive, conflicts_with = "trace")]
    pub side: f64,
    /// Replay this recorded trace (CSV, plain or gzip) instead
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Replay this many times faster than it was recorded
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = positive, requires = "trace")]
    pub speedup: f64,
    /// The gateway's radius, metres; what is owed is computed with it
    #[arg(long, value_name = "METRES", default_value_t = 500.0, value_parser = positive)]
    pub radius: f64,
    /// The gateway's vehicles.neighbours_max, likewise; 0: it has no such limit
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub neighbours: u32,
    /// Judge only what every Nth vehicle is sent, and count the rest: for more than one core can judge
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub judge_every: u32,
    /// How to speak: positions as JSON, or as the records of `ringroad.v1`
    #[arg(long, value_enum, default_value_t = Protocol::Json)]
    pub protocol: Protocol,
    /// Connections beside the vehicles that drive nothing and watch
    #[arg(long, value_name = "N", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=100_000))]
    pub viewers: u32,
    /// What they watch: edges in degrees, or the side of a square in the fleet's middle, metres [default: all of it]
    #[arg(long, value_name = "S,W,N,E|METRES", value_parser = view, requires = "viewers", allow_hyphen_values = true)]
    pub view: Option<View>,
}

/// How a fleet speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    Json,
    Binary,
}

impl DriveArgs {
    /// What the library is asked for.
    pub fn options(self) -> DriveOptions {
        DriveOptions {
            url: self.url,
            tls_ca: self.tls_ca.map_or_else(String::new, |path| path.to_string_lossy().into_owned()),
            // A recording brings its own vehicles.
            vehicles: self.trace.is_none().then_some(self.vehicles),
            hz: self.hz,
            seconds: self.seconds,
            side_m: self.side,
            recording: self.trace.map(Recording::File),
            speedup: self.speedup,
            radius_m: self.radius,
            neighbours_max: self.neighbours,
            judged_every: self.judge_every,
            dialect: match self.protocol {
                Protocol::Json => Dialect::Json,
                Protocol::Binary => Dialect::Binary,
            },
            viewers: self.viewers,
            view: self.view,
            // Two fleets at one gateway must not take each other's vehicles over.
            prefix: format!("drive{}", std::process::id()),
            ..DriveOptions::default()
        }
    }
}

/// `S,W,N,E` in degrees, or a side in metres.
fn view(text: &str) -> Result<View, String> {
    if !text.contains(',') {
        return positive(text).map(View::Side);
    }
    let degrees: Result<Vec<f64>, _> = text.split(',').map(|number| number.trim().parse()).collect();
    let Some(&[south, west, north, east]) = degrees.as_deref().ok() else {
        return Err("expected four numbers: south, west, north, east".to_owned());
    };
    if !(-90.0..=90.0).contains(&south) || !(south..=90.0).contains(&north) {
        return Err("expected south and north from -90 to 90, south first".to_owned());
    }
    if ![west, east].iter().all(|edge| (-180.0..=180.0).contains(edge)) {
        return Err("expected west and east from -180 to 180".to_owned());
    }
    let [south_e7, west_e7, north_e7, east_e7] = [south, west, north, east].map(|edge| (edge * 1e7).round() as i32);
    Ok(View::Box(Edges { south_e7, west_e7, north_e7, east_e7 }))
}
