//! A crowd: thousands within one radius, each of whom has only the nearest as neighbours.

use ringroad::drive::DriveOptions;

use crate::DIALECTS;
use crate::bench::{Extent, Verdict};
use crate::run::{Trial, grouped, run as measure};
use crate::table::Table;

/// Vehicles in a square whose diagonal is shorter than the radius.
const VEHICLES: u32 = 2_000;
const SIDE_M: f64 = 350.0;

pub fn run(extent: Extent, verdict: &mut Verdict) {
    // Few are a crowd only to a gateway that says so.
    let (vehicles, neighbours_max) = extent.pick((60, 16), (VEHICLES, 128));
    println!("a crowd of {} vehicles within one radius, {neighbours_max} neighbours each", grouped(vehicles.into()));
    let head = [
        "",
        "updates/s",
        "delivered/s",
        "per update",
        "gateway %",
        "µs each",
        "longest turn ms",
        "longest round ms",
        "p50",
        "p99",
        "max",
        "fleet %",
        "others %",
    ];
    let mut table = Table::new(head);
    let rates: &[f64] = extent.pick(&[2.0], &[1.0, 2.0]);
    let neighbours = format!("vehicles.neighbours_max={neighbours_max}");
    for &hz in rates {
        for (name, dialect) in DIALECTS {
            let options = DriveOptions {
                dialect,
                vehicles: Some(vehicles),
                neighbours_max,
                hz,
                side_m: SIDE_M,
                judged_every: extent.pick(1, 8),
                seconds: Some(extent.pick(2.0, 20.0)),
                ..DriveOptions::default()
            };
            let settings = [&neighbours[..], "vehicles.nearby_list_ms=0"];
            let trial = Trial { name: format!("{name}, {hz} Hz"), settings: &settings, options, is_timed: true };
            let measured = measure(extent, &trial, verdict);
            let latency = &measured.report.tally.latency;
            table.row([
                trial.name,
                measured.rate(measured.sent),
                measured.rate(measured.deliveries),
                format!("{:.1}", measured.deliveries as f64 / measured.sent as f64),
                measured.percent(measured.gateway_s),
                format!("{:.2}", measured.each_us()),
                measured.turn_ms.to_string(),
                measured.round_ms.to_string(),
                latency.quantile_ms(0.5).to_string(),
                latency.quantile_ms(0.99).to_string(),
                latency.max_ms().to_string(),
                measured.percent(measured.driver_s),
                measured.others_percent(),
            ]);
        }
    }
    println!("{table}");
}
