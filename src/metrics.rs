//! Counters of one worker, and their exposition as Prometheus text.

/// Plain counters of one worker. Written by its thread alone; summed over workers at scrape.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// What only the shell can see.
    pub shell: crate::io::counters::ShellCounters,
}
