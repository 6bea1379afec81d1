//! Durations to percentiles.

use std::time::Duration;

/// What many deliveries took.
#[derive(Clone, Default)]
pub struct Delays(Vec<Duration>);

impl Delays {
    pub fn add(&mut self, delay: Duration) {
        self.0.push(delay);
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The least delay that at least this share of all do not exceed; none: NaN. Milliseconds.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() as f64 * share).ceil() as usize;
        sorted.get(rank.max(1) - 1).map_or(f64::NAN, |delay| delay.as_secs_f64() * 1e3)
    }

    /// p50, p99 and the longest, as cells of a table.
    pub fn cells(&self) -> [String; 3] {
        [0.5, 0.99, 1.0].map(|share| format!("{:.2}", self.quantile_ms(share)))
    }
}
