//! Next to nothing to do: from sending a position to its neighbours' having it.

use crate::contender::{BUN, BUN_CORK, Contender, NODE_WS, PATH_EPOLL, PATH_TASKS, RINGROAD, RINGROAD_V1, SOCKET_IO};
use crate::places::ring_road;
use crate::stage::{Stage, Trial, percent, table};

const VEHICLES: usize = 1_000;

/// Updates per second and vehicle.
const HZ: f64 = 1.0;

/// Without a pace, as most have none, and with the pace that they keep for many.
const CASES: [(&str, &[&str], &[&Contender]); 2] = [
    (
        "every turn (vehicles.flush_ms=0)",
        &["vehicles.flush_ms=0"],
        &[&RINGROAD, &RINGROAD_V1, &PATH_EPOLL, &PATH_TASKS, &BUN, &NODE_WS, &SOCKET_IO],
    ),
    (
        "at most every 20 ms to one connection (vehicles.flush_ms=20)",
        &["vehicles.flush_ms=20"],
        &[&RINGROAD, &BUN_CORK],
    ),
];

pub fn run(stage: &mut Stage) {
    let extent = stage.extent;
    let places = ring_road(extent.pick(60, VEHICLES));
    for (pace, settings, contenders) in CASES {
        stage.say(format!("light: {} vehicles at {HZ} Hz, {pace}", places.at.len()));
        let rows = stage.rounds(contenders, |contender, _| {
            let mut trial = Trial::place(contender, settings, &places)?;
            let mut measured = trial.drive(places.at.len() as f64 * HZ, extent.pick(0.3, 5.0));
            trial.close();
            if let Some(flaw) = measured.flaw() {
                return Err(flaw);
            }
            let heard = &mut measured.driven.heard;
            let [p50, p99] = [0.5, 0.99].map(|share| heard.quantile_ms(share));
            Ok([p50, p99, measured.costs.server, measured.costs.client, measured.costs.others])
        });
        let table =
            table(&["p50 µs", "p99 µs", "server %", "client %", "others %"], &rows, |[p50, p99, shares @ ..]| {
                let mut cells: Vec<String> = [p50, p99].map(|ms| format!("{:.0}", ms * 1e3)).to_vec();
                cells.extend(shares.map(percent));
                cells
            });
        stage.say(table);
    }
}
