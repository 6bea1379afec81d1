//! How long deliveries took: a histogram of milliseconds, exact below 32 ms and to within 1/16 above.

/// Buckets per power of two.
const STEPS: usize = 16;
const STEPS_LOG2: u32 = STEPS.ilog2();

/// Values up to 2³²; what is longer counts in the last bucket.
const BUCKETS: usize = (32 - STEPS_LOG2 as usize + 1) * STEPS;

/// Counts of milliseconds in buckets that widen with their value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    counts: Vec<u64>,
    count: u64,
    max_ms: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Latency { counts: vec![0; BUCKETS], count: 0, max_ms: 0 }
    }
}

impl Latency {
    /// One more.
    #[inline]
    pub fn record(&mut self, ms: u64) {
        self.counts[bucket(ms)] += 1;
        self.count += 1;
        self.max_ms = self.max_ms.max(ms);
    }

    /// All of another's.
    pub fn add(&mut self, other: &Latency) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.count += other.count;
        self.max_ms = self.max_ms.max(other.max_ms);
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest.
    pub fn max_ms(&self) -> u64 {
        self.max_ms
    }

    /// The least value that at least this share (0…1) of all do not exceed: the upper end of its bucket.
    pub fn quantile_ms(&self, share: f64) -> u64 {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_ms(bucket).min(self.max_ms);
            }
        }
        self.max_ms
    }
}

/// The first 2 × `STEPS` values have a bucket each; from there on, a power of two has `STEPS` buckets.
#[inline]
fn bucket(ms: u64) -> usize {
    let ms = ms.min(u32::MAX as u64);
    let shift = (63 - (ms | 1).leading_zeros()).saturating_sub(STEPS_LOG2);
    (shift as usize * STEPS + (ms >> shift) as usize).min(BUCKETS - 1)
}

fn upper_ms(bucket: usize) -> u64 {
    let shift = (bucket / STEPS).saturating_sub(1);
    (((bucket - shift * STEPS) as u64 + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_join_without_gap_or_overlap() {
        let mut last = bucket(0);
        for ms in 1..100_000 {
            let here = bucket(ms);
            assert!(here == last || (here == last + 1 && upper_ms(last) == ms - 1), "{ms}");
            assert!(upper_ms(here) >= ms && (upper_ms(here) - ms) as f64 <= ms as f64 / 16.0, "{ms}");
            last = here;
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(upper_ms(BUCKETS - 1), u32::MAX as u64);
    }

    #[test]
    fn quantiles() {
        let mut latency = Latency::default();
        assert_eq!((latency.quantile_ms(0.5), latency.max_ms()), (0, 0));
        for ms in 1..=100 {
            latency.record(ms);
        }
        assert_eq!(latency.count(), 100);
        assert_eq!(latency.quantile_ms(0.01), 1);
        assert_eq!(latency.quantile_ms(0.25), 25);
        assert_eq!(latency.quantile_ms(0.5), 51);
        assert_eq!(latency.quantile_ms(1.0), 100);
        latency.record(7_000_000_000);
        assert_eq!(latency.max_ms(), 7_000_000_000);
        let mut both = Latency::default();
        both.record(1);
        both.add(&latency);
        assert_eq!((both.count(), both.quantile_ms(0.02), both.max_ms()), (102, 2, 7_000_000_000));
    }
}
