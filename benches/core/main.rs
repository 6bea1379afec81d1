//! What the pure parts cost by themselves, one file per room.
//!
//! `cargo bench --bench core` measures, `cargo bench --bench core -- --test` only runs each once. Inputs are fixed, so
//! two runs measure the same work. What these numbers do not say: anything about sockets or the kernel.
//!
//! Instructions instead of time, for a machine that is not quiet: each `round` below is one call that is never inlined,
//! and `--test` makes a fixed number of them, so
//! `valgrind --tool=callgrind --toggle-collect='*::round' BENCHMARK --test ingest` counts nothing else.

mod codec;
mod fleet;
mod geography;
mod ingest;
mod scale;
mod scrape;
mod tokens;
mod turns;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    benches,
    codec::frames,
    codec::messages,
    codec::upgrades,
    codec::commands,
    codec::states,
    codec::replies,
    geography::cells,
    geography::areas,
    scale::full_turns,
    ingest::updates,
    turns::city,
    turns::crowds,
    turns::alerts,
    turns::scrape,
    scrape::census,
    tokens::auth,
);
criterion_main!(benches);
