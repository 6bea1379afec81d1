//! What a worker takes of the machine: processor time, and of the whole process memory.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::counters::ShellCounters;
use crate::limits;

/// When to look again, and at what.
#[derive(Debug)]
pub(crate) struct Usage {
    /// Looks at the memory of the process too.
    is_first: bool,
    /// Not before this time, µs.
    look_at_us: u64,
}

impl Usage {
    /// Of one worker; the first one looks after the process.
    pub(crate) fn of(is_first: bool) -> Usage {
        Usage { is_first, look_at_us: 0 }
    }

    /// Looks, if it is time. A scrape wakes every worker and then asks it, so a sleeping one is up to date too. What
    /// cannot be read stays as it was.
    pub(crate) fn look(&mut self, now_us: u64, counts: &mut ShellCounters) {
        if now_us < self.look_at_us {
            return;
        }
        self.look_at_us = now_us + limits::USAGE_MS * 1_000;
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_THREAD) {
            let ms = usage.user_time().num_milliseconds() + usage.system_time().num_milliseconds();
            counts.cpu_ms = u64::try_from(ms).unwrap_or(0).max(counts.cpu_ms);
        }
        if self.is_first
            && let Some(bytes) = resident_bytes()
        {
            counts.memory_bytes = bytes;
        }
    }
}

/// proc_pid_status(5): "VmRSS: Resident set size", in units of 1,024 bytes.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_once_in_a_while_and_only_the_first_at_memory() {
        let (mut first, mut other) = (Usage::of(true), Usage::of(false));
        let mut counts = ShellCounters::default();
        other.look(5, &mut counts);
        assert_eq!(counts.memory_bytes, 0);
        first.look(5, &mut counts);
        // This process is larger than its own code.
        assert!(counts.memory_bytes > 1 << 20, "{}", counts.memory_bytes);
        counts.memory_bytes = 1;
        first.look(4 + limits::USAGE_MS * 1_000, &mut counts);
        assert_eq!(counts.memory_bytes, 1, "too early");
        first.look(5 + limits::USAGE_MS * 1_000, &mut counts);
        assert!(counts.memory_bytes > 1);
    }
}
