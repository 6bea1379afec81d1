//! How long something took, in fixed buckets.

/// Upper bounds of the buckets, milliseconds; one more bucket takes what is above. Dashboards of existing servers know
/// these.
pub const BOUNDS_MS: [u64; 9] = [0, 10, 50, 100, 250, 500, 1000, 2000, 5000];

/// Durations in whole milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Each duration is in one bucket only; the exposition adds them up.
    buckets: [u64; BOUNDS_MS.len() + 1],
    sum_ms: u64,
}

impl Histogram {
    /// One more duration.
    pub fn observe(&mut self, ms: u64) {
        let bucket = BOUNDS_MS.partition_point(|&bound| bound < ms);
        self.buckets[bucket] += 1;
        self.sum_ms = self.sum_ms.saturating_add(ms);
    }

    /// How many durations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All of them together.
    pub fn sum_ms(&self) -> u64 {
        self.sum_ms
    }

    /// How many were at most `BOUNDS_MS[i]`, for each `i`.
    pub fn cumulative(&self) -> [u64; BOUNDS_MS.len()] {
        let mut so_far = 0;
        std::array::from_fn(|i| {
            so_far += self.buckets[i];
            so_far
        })
    }

    /// Takes over the durations of another.
    pub fn add_all(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.sum_ms = self.sum_ms.saturating_add(other.sum_ms);
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
    }

    #[test]
    fn sums_are_those_of_both() {
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        [0, 7, 7000].into_iter().for_each(|ms| a.observe(ms));
        [40, 60].into_iter().for_each(|ms| b.observe(ms));
        a.add_all(&b);
        assert_eq!((a.count(), a.sum_ms()), (5, 7107));
        assert_eq!(a.cumulative(), [1, 2, 3, 4, 4, 4, 4, 4, 4]);
    }
}
