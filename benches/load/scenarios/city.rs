//! A city: 4,000 vehicles on a ring road, 31 neighbours each. How many deliveries per second before it takes too long or
//! anything is lost, and what one costs.

use crate::bench::Extent;
use crate::contender::{BUN, BUN_CORK, Contender, NODE_WS, PATH_EPOLL, PATH_TASKS, RINGROAD, RINGROAD_V1, SOCKET_IO};
use crate::places::{NEIGHBOURS, Places, ring_road};
use crate::stage::{self, Measured, Stage, Trial, figure, grouped, percent, times};

const VEHICLES: usize = 4_000;

/// Longer than this, and the capacity is exceeded.
const P99_MS_MAX: f64 = 100.0;

/// How fast the search begins to raise the rate, and when it is content.
const STRIDE: f64 = 1.25;
const PRECISION: f64 = 1.08;

/// A rate at which it fails so often in a row is too high.
const TRIES: u32 = 3;

/// A server in JavaScript is quick only once it has been compiled: seconds at half the rate before anything is measured.
const WARM_S: f64 = 1.5;

/// Deliveries per second where the search begins.
fn guess(contender: &Contender) -> f64 {
    match contender.name {
        "ringroad.v1" => 4e6,
        "node ws" => 110e3,
        "bun" => 220e3,
        "bun cork" => 900e3,
        "socket.io" => 60e3,
        _ => 2e6,
    }
}

pub fn json(stage: &mut Stage) {
    run(stage, "city", &[&RINGROAD, &BUN_CORK, &BUN, &NODE_WS, &SOCKET_IO, &PATH_EPOLL, &PATH_TASKS]);
}

pub fn binary(stage: &mut Stage) {
    run(stage, "city-binary", &[&RINGROAD_V1, &RINGROAD, &BUN_CORK]);
}

fn run(stage: &mut Stage, name: &str, contenders: &[&'static Contender]) {
    let vehicles = stage.extent.pick(100, VEHICLES);
    let places = ring_road(vehicles);
    let have = places.neighbours.iter().all(|near| near.len() == NEIGHBOURS);
    stage.verdict.demand(have || stage.extent == Extent::Smoke, || "not everyone has 31 neighbours".to_owned());
    stage.say(format!("{name}: {vehicles} vehicles, {NEIGHBOURS} neighbours each"));

    let extent = stage.extent;
    let rows = stage.rounds(contenders, |contender, last| capacity(contender, extent, &places, last));
    let first = rows.first().map_or(f64::NAN, |row| figure(&rows, row.contender, 0));
    let head = ["deliveries/s", "to the first", "µs each", "p50 ms", "p99 ms", "server %", "client %", "others %"];
    let table = stage::table(&head, &rows, |figures| {
        [grouped(figures[0]), times(figures[0], first)].into_iter().chain(cells(figures)).collect()
    });
    stage.say(format!("capacity: the most at p99 ≤ {P99_MS_MAX} ms, nothing lost\n{table}"));

    // Where Bun with its cork gives out, or half of what the first can do.
    let bun = figure(&rows, &BUN_CORK, 0);
    let rate = extent.pick(1_000.0, if bun.is_nan() { first / 2.0 } else { bun });
    let able = rows.iter().filter(|row| row.figures.as_ref().is_ok_and(|own| own[0] > rate * 0.95));
    let able: Vec<&'static Contender> = able.map(|row| row.contender).collect();
    let rows = stage.rounds(&able, |contender, _| {
        let mut trial = Trial::place(contender, &[], &places)?;
        trial.drive(rate / 2.0 / NEIGHBOURS as f64, extent.pick(0.1, WARM_S));
        let measured = trial.drive(rate / NEIGHBOURS as f64, extent.pick(0.3, 4.0));
        trial.close();
        Ok(figures(measured))
    });
    let first = rows.first().map_or(f64::NAN, |row| figure(&rows, row.contender, 1));
    let head = ["deliveries/s", "of the first's µs", "µs each", "p50 ms", "p99 ms", "server %", "client %", "others %"];
    let table = stage::table(&head, &rows, |figures| {
        [grouped(figures[0]), times(figures[1], first)].into_iter().chain(cells(figures)).collect()
    });
    stage.say(format!("cost at {} deliveries/s\n{table}", grouped(rate)));
}

/// The most deliveries per second that a contender carries, and how it did there.
fn capacity(
    contender: &'static Contender,
    extent: Extent,
    places: &Places,
    last: Option<&[f64; 7]>,
) -> Result<[f64; 7], String> {
    let mut trial = Trial::place(contender, &[], places)?;
    if extent == Extent::Smoke {
        let measured = trial.drive(200.0, 0.3);
        trial.close();
        return measured.flaw().map_or(Ok(figures(measured)), Err);
    }
    let mut rate = last.map_or(guess(contender), |last| last[0]);
    trial.drive(rate / 2.0 / NEIGHBOURS as f64, WARM_S);
    let mut best: Option<(f64, [f64; 7])> = None;
    let mut failed: Option<f64> = None;
    // The machine stands still at times: what fails once or twice has not failed.
    let mut again = TRIES - 1;
    loop {
        let measured = trial.drive(rate / NEIGHBOURS as f64, 3.0);
        let flaw = measured.flaw();
        let figures = figures(measured);
        eprintln!("      {} at {rate:.0}: {flaw:?} {figures:.2?}", contender.name);
        if flaw.is_none() && figures[3] <= P99_MS_MAX {
            best = Some((rate, figures));
            again = TRIES - 1;
        } else {
            // What it still has to say would come into the next step.
            trial.close();
            trial = Trial::place(contender, &[], places)?;
            trial.drive(rate / 2.0 / NEIGHBOURS as f64, WARM_S);
            if again > 0 {
                again -= 1;
                continue;
            }
            (failed, again) = (Some(rate), TRIES - 1);
        }
        rate = match (&best, failed) {
            (Some((best, _)), None) => best * STRIDE,
            (None, Some(failed)) => failed / STRIDE,
            (Some((best, _)), Some(failed)) if failed / best > PRECISION => (best * failed).sqrt(),
            _ => break,
        };
        if rate < 1_000.0 {
            break;
        }
    }
    trial.close();
    best.map(|(_, figures)| figures).ok_or_else(|| "carries nothing".to_owned())
}

/// Deliveries per second, µs each, p50, p99, and shares of server, client and others.
fn figures(mut measured: Measured) -> [f64; 7] {
    let (rate, each_us, costs) = (measured.rate(), measured.each_us(), measured.costs);
    let heard = &mut measured.driven.heard;
    let (p50, p99) = (heard.quantile_ms(0.5), heard.quantile_ms(0.99));
    [rate, each_us, p50, p99, costs.server, costs.client, costs.others]
}

/// Cells of all figures but the first.
fn cells([_, each_us, p50, p99, server, client, others]: &[f64; 7]) -> Vec<String> {
    let mut cells = vec![format!("{each_us:.2}")];
    cells.extend([p50, p99].map(|ms| format!("{ms:.1}")));
    cells.extend([server, client, others].map(|share| percent(*share)));
    cells
}
