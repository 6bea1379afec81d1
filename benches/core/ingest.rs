//! A vehicle's update from bytes to its place in the index, nobody near: 10,000 vehicles, each five times a second.

use criterion::{Criterion, Throughput};

use ringroad::config::Config;
use ringroad::turn::Core;

use super::fleet::{Dialect, Traffic, spread};

const VEHICLES: u32 = 10_000;
const UPDATES_PER_TURN: usize = 100;

/// One update of each vehicle, in 200 ms.
#[inline(never)]
fn round(traffic: &mut Traffic) {
    for _ in 0..VEHICLES as usize / UPDATES_PER_TURN {
        traffic.advance(2);
        traffic.turn(UPDATES_PER_TURN);
    }
}

/// With the rates, the coalescing and all else as it is without a configuration.
pub fn updates(c: &mut Criterion) {
    let mut group = c.benchmark_group("ingest");
    group.throughput(Throughput::Elements(VEHICLES.into()));
    for (name, dialect) in [("JSON", Dialect::Json), ("binary", Dialect::Binary)] {
        let mut traffic = Traffic::with(Config::default(), dialect, spread(VEHICLES));
        let mut rounds = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                rounds += 1;
                round(&mut traffic);
            });
        });
        let counters = traffic.shard.counters();
        let processed = counters.location_updates_processed;
        assert_eq!(processed, (rounds + 1) * u64::from(VEHICLES), "some update was refused, or waits");
        assert_eq!(counters.peer_locations, 0, "somebody was near");
    }
    group.finish();
}
