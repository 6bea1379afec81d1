//! A benchmark of several parts: what was asked for, what was not as it has to be.

use std::process::ExitCode;
use std::time::Duration;

/// Far beyond what anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Only whether it works.
    Smoke,
    Full,
}

impl Extent {
    pub fn pick<T>(self, smoke: T, full: T) -> T {
        match self {
            Extent::Smoke => smoke,
            Extent::Full => full,
        }
    }
}

/// What was asked for on the command line.
pub struct Asked {
    pub extent: Extent,
    parts: Vec<String>,
}

impl Asked {
    pub fn read() -> Asked {
        let args: Vec<String> = std::env::args().skip(1).collect();
        // `cargo bench` says so; `cargo test` runs benchmarks too.
        let measures = args.iter().any(|arg| arg == "--bench") && !args.iter().any(|arg| arg == "--test");
        let extent = if measures { Extent::Full } else { Extent::Smoke };
        Asked { extent, parts: args.into_iter().filter(|arg| !arg.starts_with("--")).collect() }
    }

    /// Whether a part is wanted: all are, unless some are named.
    pub fn wants(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|named| part.contains(&named[..]))
    }
}

/// What was not as it has to be.
#[derive(Default)]
pub struct Verdict {
    failures: Vec<String>,
    wishes: Vec<String>,
}

impl Verdict {
    /// Must hold on any machine.
    pub fn demand(&mut self, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            self.failures.push(why());
        }
    }

    /// A target, which a busy or slow machine may miss.
    pub fn wish(&mut self, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            self.wishes.push(why());
        }
    }

    /// Says what was missed, and how the process ends.
    pub fn tell(self) -> ExitCode {
        self.wishes.iter().for_each(|missed| println!("MISSED: {missed}"));
        self.failures.iter().for_each(|failure| eprintln!("FAILED: {failure}"));
        if self.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
