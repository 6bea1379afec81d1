//! Positions of many vehicles from one host to another, at a rate.

use crate::machine;
use crate::measured::{Measured, Tables};
use crate::redis::Redis;
use crate::stage::{self, ALERTS, Setup, Stage};
use crate::{Extent, Verdict};

/// States per second that have to work.
const REQUIRED: u64 = 200_000;

/// How long most rows are measured, seconds.
const SECONDS: f64 = 5.0;

/// Everyone ten times per second.
const USUAL: Setup = Setup { vehicles: 20_000, squares: 16, tick_ms: 20 };

/// What has to work, beside the same without Redis.
pub fn required(extent: Extent, redis: &Redis, verdict: &mut Verdict) {
    let setup = extent.pick(Setup { vehicles: 1_000, squares: 4, tick_ms: 20 }, USUAL);
    let rate = extent.pick(10_000, REQUIRED);
    let seconds = extent.pick(0.5, 2.0 * SECONDS);
    announce(setup);
    let mut tables = Tables::new();
    let alone = quietly(extent, || stage::alone(setup, rate, seconds));
    tables.row("without Redis", &alone);
    let mut stage = Stage::open(setup, redis);
    let measured = quietly(extent, || stage.measure(redis, rate, seconds));
    tables.row("to the other host", &measured);
    measured.check(rate, extent, verdict);
    stage.close(verdict);
    tables.print();
    let per_state = |cpu: f64| cpu / measured.delivered() * 1e6;
    let ratio = measured.sender / alone.sender;
    let (extra, hearing, redis) =
        (per_state(measured.sender - alone.sender), per_state(measured.receiver), per_state(measured.redis));
    println!("  publishing costs {extra:.2} µs per state, and the sender {ratio:.2}× what it needs without Redis");
    println!("  hearing costs {hearing:.2} µs per state");
    println!("  Redis needs {redis:.2} s of processor time per million states\n");
}

/// From little to more than works.
pub fn most(extent: Extent, redis: &Redis, verdict: &mut Verdict) {
    if extent == Extent::Smoke {
        return;
    }
    announce(USUAL);
    let mut tables = Tables::new();
    let mut most = 0;
    let mut stage = Stage::open(USUAL, redis);
    for rate in [20_000, 100_000, 200_000, 300_000, 350_000, 400_000, 450_000, 500_000] {
        let measured = quietly(extent, || stage.measure(redis, rate, SECONDS));
        tables.row(&format!("{rate}/s"), &measured);
        if measured.works() {
            most = rate;
        } else if !machine::is_disturbed(measured.others) {
            break;
        }
    }
    stage.close(verdict);
    tables.print();
    println!("  the most that works of these: {most} states per second\n");
}

/// What squares and ticks change.
pub fn spread(extent: Extent, redis: &Redis, verdict: &mut Verdict) {
    if extent == Extent::Smoke {
        return;
    }
    let mut tables = Tables::new();
    for squares in [16, 256] {
        for tick_ms in [50, 20, 10, 5] {
            let mut stage = Stage::open(Setup { squares, tick_ms, ..USUAL }, redis);
            let measured = quietly(extent, || stage.measure(redis, REQUIRED, SECONDS));
            tables.row(&format!("{squares} squares, tick {tick_ms} ms"), &measured);
            stage.close(verdict);
        }
    }
    println!("{} vehicles, {REQUIRED} states per second, {ALERTS} alerts per second among them", USUAL.vehicles);
    tables.print();
}

/// Most times that a row is measured until nothing else ran beside it.
const TRIES: usize = 3;

/// The result of the try that other work disturbed least.
fn quietly(extent: Extent, mut measure: impl FnMut() -> Measured) -> Measured {
    if extent == Extent::Smoke {
        return measure();
    }
    let mut best: Option<Measured> = None;
    for _ in 0..TRIES {
        machine::wait_for_quiet();
        let measured = measure();
        let is_quiet = !machine::is_disturbed(measured.others);
        if best.as_ref().is_none_or(|best| measured.others < best.others) {
            best = Some(measured);
        }
        if is_quiet {
            break;
        }
    }
    best.unwrap_or_default()
}

fn announce(Setup { vehicles, squares, tick_ms }: Setup) {
    println!("{vehicles} vehicles in {squares} squares, tick {tick_ms} ms, {ALERTS} alerts per second among positions");
}
