//! A city at 10 Hz: deliveries per second and core.

use ringroad::drive::DriveOptions;

use crate::DIALECTS;
use crate::bench::{Extent, Verdict};
use crate::run::{Trial, grouped, run as measure};
use crate::table::Table;

/// Vehicles, and the square that gives each 31 neighbours, metres.
const VEHICLES: u32 = 4_000;
const SIDE_M: f64 = 10_060.0;

/// Updates per second and vehicle; the last is the one that is asked for, the others show what grows.
const RATES_HZ: [f64; 3] = [2.0, 5.0, 10.0];

/// Positions alone: what is near is not listed as well.
const SETTINGS: [&str; 2] = ["vehicles.coalesce_ms=50", "vehicles.nearby_list_ms=0"];

pub fn run(extent: Extent, verdict: &mut Verdict) {
    let vehicles = extent.pick(60, VEHICLES);
    let side_m = extent.pick(1_200.0, SIDE_M);
    println!("a city of {} vehicles, about 31 neighbours each", grouped(vehicles.into()));
    let head = [
        "",
        "updates/s",
        "delivered/s",
        "owed, came",
        "gateway %",
        "µs each",
        "per CPU second",
        "p50",
        "p99",
        "fleet %",
        "others %",
    ];
    let mut table = Table::new(head);
    for &hz in extent.pick(&RATES_HZ[1..2], &RATES_HZ[..]) {
        let mut each_us = Vec::new();
        for (name, dialect) in DIALECTS {
            let seconds = Some(extent.pick(2.0, 15.0));
            let options = DriveOptions {
                dialect,
                vehicles: Some(vehicles),
                hz,
                side_m,
                seconds,
                // The fleet has one core too, and is not what is measured.
                judged_every: extent.pick(1, 8),
                ..DriveOptions::default()
            };
            let trial = Trial { name: format!("{name}, {hz} Hz"), settings: &SETTINGS, options, is_timed: true };
            let measured = measure(extent, &trial, verdict);
            let latency = &measured.report.tally.latency;
            each_us.push(measured.each_us());
            table.row([
                trial.name,
                measured.rate(measured.sent),
                measured.rate(measured.deliveries),
                measured.report.ratio(),
                measured.percent(measured.gateway_s),
                format!("{:.2}", measured.each_us()),
                grouped((1e6 / measured.each_us()) as u64),
                latency.quantile_ms(0.5).to_string(),
                latency.quantile_ms(0.99).to_string(),
                measured.percent(measured.driver_s),
                measured.others_percent(),
            ]);
        }
        table.row(
            ["  JSON : binary".to_owned(), String::new(), String::new(), String::new(), String::new()]
                .into_iter()
                .chain([format!("{:.1}×", each_us[0] / each_us[1])]),
        );
    }
    println!("{table}");
}
