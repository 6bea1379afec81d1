//! Whole turns of a shard: a city, a crowd, an alert to everyone; and a scrape of its counters.

use std::hint::black_box;

use criterion::{Criterion, Throughput};

use ringroad::metrics::{Counters, Gauge, render};
use ringroad::turn::{Core, ShardId};

use super::fleet::{Dialect, Traffic, fleet, places, scattered, spread, unhindered};

/// What the shard itself costs: a hundred vehicles move in one turn, and all their neighbours are sent it.
pub fn city(c: &mut Criterion) {
    const MOVERS: usize = 100;
    let mut city = Traffic::of(places());
    let mut group = c.benchmark_group("shard");
    group.throughput(Throughput::Elements(MOVERS as u64));
    group.bench_function("turn of 100 updates among 4,000", |b| {
        b.iter(|| {
            city.advance(25);
            city.turn(MOVERS)
        });
    });
    group.finish();
    let counters = city.shard.counters();
    let updates = counters.location_updates_processed as f64;
    println!("shard: {:.1} deliveries per update", counters.peer_locations as f64 / updates);
}

/// Vehicles that are all within one radius, in a square of this side: 350 m.
const CROWD: usize = 2_000;
const CROWD_SIDE_E7: u64 = 31_500;

/// A depot in which everyone is near everyone: five updates per second of each, and once per second a choice.
pub fn crowds(c: &mut Criterion) {
    let places = || scattered(CROWD as u32, CROWD_SIDE_E7);
    let mut group = c.benchmark_group("crowd");
    group.sample_size(20);
    group.throughput(Throughput::Elements(CROWD as u64));
    group.bench_function("2,000 come at once", |b| {
        b.iter_with_large_drop(|| fleet(unhindered(), Dialect::Json, places()))
    });
    let mut crowd = Traffic::of(places());
    group.bench_function("2,000 of 2,000 move in one turn", |b| {
        b.iter(|| {
            crowd.advance(200);
            crowd.turn(CROWD)
        });
    });
    group.throughput(Throughput::Elements(100));
    group.bench_function("100 of 2,000 move in each turn", |b| {
        b.iter(|| {
            crowd.advance(10);
            crowd.turn(100)
        });
    });
    group.finish();
    let counters = crowd.shard.counters();
    println!(
        "crowd: {:.1} deliveries and {:.2} choices per update, {} turns cut",
        counters.peer_locations as f64 / counters.location_updates_processed as f64,
        counters.crowd_choices as f64 / counters.location_updates_processed as f64,
        counters.settles_cut,
    );
}

/// The broadcast log: one alert to 10,000 connections, each of which is sent the same bytes.
pub fn alerts(c: &mut Criterion) {
    const CONNECTIONS: u32 = 10_000;
    let mut everyone = Traffic::of(spread(CONNECTIONS));
    let mut group = c.benchmark_group("log");
    group.sample_size(20);
    group.throughput(Throughput::Elements(CONNECTIONS.into()));
    group.bench_function("an alert to 10,000 connections", |b| {
        b.iter(|| {
            everyone.advance(1);
            let bytes = everyone.alert();
            assert!(bytes > CONNECTIONS as usize * 100, "{bytes} bytes do not reach everyone");
        });
    });
    group.finish();
}

pub fn scrape(c: &mut Criterion) {
    let workers = [0, 1].map(|worker| (ShardId(worker), Counters::default()));
    c.bench_function("metrics/render", |b| {
        let mut out = String::with_capacity(16 * 1024);
        b.iter(|| {
            out.clear();
            render(&mut out, black_box(&workers), &[Gauge::uptime_seconds(1.0), Gauge::workers(2)]);
        });
    });
}
