//! What a scrape takes of a worker's turn: the census of its connections, and the text.

use std::net::Ipv4Addr;

use criterion::Criterion;

use ringroad::turn::{ConnId, Core, Ended, Input};

use super::fleet::{Dialect, fleet, spread, turns_at, unhindered};

const CONNECTIONS: u32 = 100_000;
const DAY_MS: u64 = 86_400_000;

/// `GET /metrics` of a shard with 100,000 vehicles connected, from the request to the reply.
pub fn census(c: &mut Criterion) {
    let mut config = unhindered();
    // And the one that asks.
    config.limits.conns_per_worker_max = CONNECTIONS + 1;
    // Nothing else happens while it is measured.
    (config.vehicles.ping_ms, config.vehicles.heartbeat_timeout_ms) = (DAY_MS - 1, DAY_MS);
    config.vehicles.nearby_interval_ms = DAY_MS;
    let (mut shard, mut now, _) = fleet(config, Dialect::Json, spread(CONNECTIONS));
    let mut group = c.benchmark_group("scrape");
    let mut generation = 0;
    group.bench_function("a scrape among 100,000 connections", |b| {
        b.iter(|| {
            generation += 1;
            let conn = ConnId { index: CONNECTIONS, generation };
            shard.handle(now, Input::Opened { conn, peer: Ipv4Addr::LOCALHOST.into() });
            let mut request = b"GET /metrics HTTP/1.1\r\nHost: bench\r\n\r\n".to_vec();
            shard.handle(now, Input::Bytes { conn, bytes: &mut request });
            // Each turn counts some of them, and the next comes a millisecond later.
            let mut bytes = turns_at(&mut shard, now);
            while bytes == 0 {
                now.mono_ms += 1;
                bytes = turns_at(&mut shard, now);
            }
            assert!(bytes > 10_000, "{bytes} bytes are no listing of the metrics");
            shard.handle(now, Input::Ended { conn, how: Ended::Reset });
            turns_at(&mut shard, now);
        });
    });
    group.finish();
}
