//! The one place where time comes from.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::turn::Now;

/// Reads `CLOCK_MONOTONIC` and the wall clock. Copies share their origin, so `mono_ms` means the same to all workers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono_ms: self.origin.elapsed().as_millis() as u64, unix_ms: unix_ms() }
    }

    /// Microseconds since the shell started: how long the worker's own work takes.
    pub(crate) fn micros(&self) -> u64 {
        self.origin.elapsed().as_micros() as u64
    }
}

/// The wall clock, ms since the Unix epoch.
pub fn unix_ms() -> u64 {
    // A wall clock before 1970 is a wrong clock, not a reason to stop.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
