//! What several hosts cost, and what they carry: two gateways of one worker each, and one Redis between them.
//!
//! `cargo bench --bench hosts` measures and takes some minutes; names after `--` choose parts (`alerts`, `moves`,
//! `required`, `most`, `spread`). `-- --test` runs each part for a moment. Both fail if anything is lost. It needs `redis-server`.

#[path = "../shared/bench.rs"]
mod bench;
#[path = "../shared/gateway.rs"]
mod gateway;
#[path = "../shared/machine.rs"]
mod machine;
#[path = "../shared/table.rs"]
mod table;

mod alerts;
mod client;
mod delays;
mod feed;
mod measured;
mod moves;
mod plan;
mod positions;
mod redis;
mod stage;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::{Asked, Extent, PATIENCE, Verdict};
use crate::redis::Redis;

/// As in the gateway's own binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Part = fn(Extent, &Redis, &mut Verdict);

const PARTS: [(&str, Part); 5] = [
    ("alerts", alerts::run),
    ("moves", moves::run),
    ("required", positions::required),
    ("most", positions::most),
    ("spread", positions::spread),
];

fn main() -> ExitCode {
    let asked = Asked::read();
    let Some(version) = redis::version(redis::PROGRAM) else {
        eprintln!("hosts: needs {} in the PATH (Debian: apt-get install redis-server)", redis::PROGRAM);
        return ExitCode::from(2);
    };
    println!("{}; {version}\n", machine::describe());
    let mut verdict = Verdict::default();
    for (_, run) in PARTS.iter().filter(|(name, _)| asked.wants(name)) {
        run(asked.extent, &Redis::start(), &mut verdict);
    }
    verdict.tell()
}

/// Waits until something is so.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
