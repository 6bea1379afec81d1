//! Bytes on the wire per delivered position.

use ringroad::drive::DriveOptions;

use crate::DIALECTS;
use crate::bench::{Extent, Verdict};
use crate::run::{Trial, grouped, run as measure};
use crate::table::Table;

/// Vehicles, and the square that gives each 31 neighbours, metres.
const VEHICLES: u32 = 1_000;
const SIDE_M: f64 = 5_030.0;

pub fn run(extent: Extent, verdict: &mut Verdict) {
    let vehicles = extent.pick(60, VEHICLES);
    let side_m = extent.pick(1_200.0, SIDE_M);
    println!("bytes on the wire per delivered position, {} vehicles, about 31 neighbours", grouped(vehicles.into()));
    let mut table = Table::new(["", "per position", "with identities", "of everything", "positions/message"]);
    let rates: &[f64] = extent.pick(&[5.0], &[1.0, 2.0, 10.0]);
    for &hz in rates {
        let mut each = Vec::new();
        for (name, dialect) in DIALECTS {
            let seconds = Some(extent.pick(2.0, 12.0));
            let options =
                DriveOptions { dialect, vehicles: Some(vehicles), hz, side_m, seconds, ..DriveOptions::default() };
            let name = format!("{name}, {hz} Hz");
            let trial = Trial { name, settings: &["vehicles.coalesce_ms=50"], options, is_timed: false };
            let traffic = measure(extent, &trial, verdict).report.traffic;
            let per = |bytes: u64| bytes as f64 / traffic.positions as f64;
            each.push(traffic.bytes_per_position());
            table.row(
                [trial.name].into_iter().chain(
                    [
                        traffic.bytes_per_position(),
                        per(traffic.position_bytes + traffic.identity_bytes),
                        traffic.all_bytes_per_position(),
                        traffic.positions as f64 / traffic.position_messages as f64,
                    ]
                    .map(|cell| format!("{cell:.1}")),
                ),
            );
        }
        table.row(["  JSON : binary".to_owned(), format!("{:.1}×", each[0] / each[1])]);
    }
    println!("{table}");
}
