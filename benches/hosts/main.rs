//! What several hosts cost, and what they carry: two gateways of one worker each, and one Redis between them.
//!
//! `cargo bench --bench hosts` measures and takes some minutes; names after `--` choose parts (`alerts`, `moves`,
//! `required`, `most`, `spread`). `-- --test` runs each part for a moment. Both fail if anything is lost. It needs `redis-server`.

mod alerts;
mod client;
mod feed;
mod figures;
mod gateway;
mod machine;
mod measured;
mod moves;
mod plan;
mod positions;
mod redis;
mod stage;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use crate::redis::Redis;

/// As in the gateway's own binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Far beyond what anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Only whether it works.
    Smoke,
    Full,
}

impl Extent {
    fn pick<T>(self, smoke: T, full: T) -> T {
        match self {
            Extent::Smoke => smoke,
            Extent::Full => full,
        }
    }
}

/// What was not as it has to be.
#[derive(Default)]
struct Verdict {
    failures: Vec<String>,
    wishes: Vec<String>,
}

impl Verdict {
    /// Must hold on any machine.
    fn demand(&mut self, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            self.failures.push(why());
        }
    }

    /// A target, which a busy or slow machine may miss.
    fn wish(&mut self, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            self.wishes.push(why());
        }
    }
}

type Part = fn(Extent, &Redis, &mut Verdict);

const PARTS: [(&str, Part); 5] = [
    ("alerts", alerts::run),
    ("moves", moves::run),
    ("required", positions::required),
    ("most", positions::most),
    ("spread", positions::spread),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` says so; `cargo test` runs benchmarks too.
    let measures = args.iter().any(|arg| arg == "--bench") && !args.iter().any(|arg| arg == "--test");
    let extent = if measures { Extent::Full } else { Extent::Smoke };
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let parts =
        PARTS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|part| name.contains(&part[..])));
    if machine::version(redis::PROGRAM).is_none() {
        eprintln!("hosts: needs {} in the PATH (Debian: apt-get install redis-server)", redis::PROGRAM);
        return ExitCode::from(2);
    }
    println!("{}\n", machine::describe());
    let mut verdict = Verdict::default();
    for (_, run) in parts {
        run(extent, &Redis::start(), &mut verdict);
    }
    verdict.wishes.iter().for_each(|missed| println!("MISSED: {missed}"));
    verdict.failures.iter().for_each(|failure| eprintln!("FAILED: {failure}"));
    if verdict.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Waits until something is so.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
