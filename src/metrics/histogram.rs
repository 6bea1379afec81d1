//! How long something took, in fixed buckets.

use std::marker::PhantomData;

/// Upper bounds of the buckets of a [`Histogram`], milliseconds; one more bucket takes what is above. Dashboards of
/// existing servers know these.
pub const BOUNDS_MS: [u64; 9] = [0, 10, 50, 100, 250, 500, 1000, 2000, 5000];

/// Upper bounds of the buckets of a [`FineHistogram`], microseconds: what a worker does at a time, from a single send to
/// a stall that clients notice.
pub const BOUNDS_US: [u64; 13] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];

/// Most bounds that a scale may have; the buckets lie in place, without a heap.
const BUCKETS_MAX: usize = 14;

/// What a histogram counts in.
pub trait Scale: 'static {
    /// Upper bounds of its buckets, rising.
    const BOUNDS: &'static [u64];
    /// How many of its units are a millisecond, in which all of them are exposed.
    const UNITS_PER_MS: u64;
}

/// Whole milliseconds: what clients wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Milliseconds;

impl Scale for Milliseconds {
    const BOUNDS: &'static [u64] = &BOUNDS_MS;
    const UNITS_PER_MS: u64 = 1;
}

/// Microseconds: what a worker itself takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Microseconds;

impl Scale for Microseconds {
    const BOUNDS: &'static [u64] = &BOUNDS_US;
    const UNITS_PER_MS: u64 = 1_000;
}

/// Durations in whole milliseconds.
pub type Histogram = Durations<Milliseconds>;

/// Durations in microseconds.
pub type FineHistogram = Durations<Microseconds>;

/// Durations in the units of a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durations<S> {
    /// Each duration is in one bucket only; the exposition adds them up.
    buckets: [u64; BUCKETS_MAX],
    sum: u64,
    of: PhantomData<S>,
}

impl<S: Scale> Default for Durations<S> {
    fn default() -> Self {
        const { assert!(S::BOUNDS.len() < BUCKETS_MAX, "a bucket for each bound, and one above") }
        Durations { buckets: [0; BUCKETS_MAX], sum: 0, of: PhantomData }
    }
}

impl<S: Scale> Durations<S> {
    /// One more duration, in the units of the scale.
    pub fn observe(&mut self, duration: u64) {
        let bucket = S::BOUNDS.partition_point(|&bound| bound < duration);
        self.buckets[bucket] += 1;
        self.sum = self.sum.saturating_add(duration);
    }

    /// How many durations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All of them together, milliseconds.
    pub fn sum_ms(&self) -> f64 {
        self.sum as f64 / S::UNITS_PER_MS as f64
    }

    /// How many were at most each bound of the scale.
    pub fn cumulative(&self) -> impl Iterator<Item = u64> + '_ {
        self.buckets[..S::BOUNDS.len()].iter().scan(0, |so_far, bucket| {
            *so_far += bucket;
            Some(*so_far)
        })
    }

    /// Bounds, in milliseconds, each with how many were at most that.
    pub fn buckets_ms(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = S::BOUNDS.iter().map(|&bound| bound as f64 / S::UNITS_PER_MS as f64);
        bounds.zip(self.cumulative())
    }

    /// Takes over the durations of another.
    pub fn add_all(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let cases = [(0, 0), (1, 1), (10, 1), (11, 2), (250, 4), (251, 5), (5000, 8), (5001, 9), (u64::MAX, 9)];
        for (ms, bucket) in cases {
            let mut histogram = Histogram::default();
            histogram.observe(ms);
            assert_eq!(histogram.buckets.iter().position(|&n| n == 1), Some(bucket), "{ms} ms");
        }
        let cases = [(0, 0), (50, 0), (51, 1), (10_000, 7), (10_001, 8), (1_000_000, 12), (1_000_001, 13)];
        for (us, bucket) in cases {
            let mut histogram = FineHistogram::default();
            histogram.observe(us);
            assert_eq!(histogram.buckets.iter().position(|&n| n == 1), Some(bucket), "{us} µs");
        }
    }

    #[test]
    fn sums_are_those_of_both() {
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        [0, 7, 7000].into_iter().for_each(|ms| a.observe(ms));
        [40, 60].into_iter().for_each(|ms| b.observe(ms));
        a.add_all(&b);
        assert_eq!((a.count(), a.sum_ms()), (5, 7107.0));
        assert!(a.cumulative().eq([1, 2, 3, 4, 4, 4, 4, 4, 4]));
    }

    #[test]
    fn microseconds_are_shown_as_milliseconds() {
        let mut histogram = FineHistogram::default();
        [40, 250, 2_000_000].into_iter().for_each(|us| histogram.observe(us));
        assert_eq!((histogram.count(), histogram.sum_ms()), (3, 2000.29));
        let first: Vec<(f64, u64)> = histogram.buckets_ms().take(3).collect();
        assert_eq!(first, [(0.05, 1), (0.1, 1), (0.25, 2)]);
        assert_eq!(histogram.buckets_ms().last(), Some((1000.0, 2)), "the longest is above every bound");
    }

    #[test]
    fn bounds_rise() {
        assert!(BOUNDS_MS.is_sorted() && BOUNDS_US.is_sorted());
    }
}
