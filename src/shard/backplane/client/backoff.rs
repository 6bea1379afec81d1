//! When to try again: exponential backoff with full jitter.

use crate::limits;

/// Numbers from a seed: SplitMix64 (Steele, Lea and Flood, 2014). Only there so that many workers do not all try again
/// at the same moment.
#[derive(Clone, Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) fn new(seed: u64) -> Jitter {
        Jitter(seed)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// The attempts at one thing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    succeeded_ms: Option<u64>,
    /// Not before this (`mono_ms`) is it tried again.
    pub(super) due_ms: u64,
}

impl Backoff {
    /// It has worked.
    pub(super) fn succeeded(&mut self, now_ms: u64) {
        self.succeeded_ms = Some(now_ms);
    }

    /// It has not, or not any longer. If it had worked for a while, this counts as the first failure.
    pub(super) fn failed(&mut self, now_ms: u64, jitter: &mut Jitter) {
        let lasted = self.succeeded_ms.take().is_some_and(|since| now_ms - since >= limits::LINK_STEADY_MS);
        self.failures = if lasted { 1 } else { self.failures.saturating_add(1) };
        let doublings = (self.failures - 1).min(16);
        let most = (limits::LINK_RETRY_MS << doublings).min(limits::LINK_RETRY_MS_MAX);
        self.due_ms = now_ms + 1 + jitter.below(most);
    }

    /// How often in a row it has failed.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_spread_out_until_one_has_lasted() {
        let mut jitter = Jitter::new(7);
        let mut longest = |mut backoff: Backoff| {
            let waits = (0..200).map(|_| {
                let mut next = backoff;
                next.failed(1_000, &mut jitter);
                next.due_ms - 1_000
            });
            let (shortest, longest) = waits.fold((u64::MAX, 0), |(low, high), ms| (low.min(ms), high.max(ms)));
            assert!(shortest > 0 && shortest < longest / 4);
            backoff.failures += 1;
            (longest, backoff)
        };
        let (first, mut backoff) = longest(Backoff::default());
        assert!(first <= limits::LINK_RETRY_MS && first > limits::LINK_RETRY_MS * 3 / 4);
        for _ in 0..10 {
            backoff = longest(backoff).1;
        }
        let (last, _) = longest(backoff);
        assert!(last <= limits::LINK_RETRY_MS_MAX && last > limits::LINK_RETRY_MS_MAX * 3 / 4);
        backoff.succeeded(5_000);
        backoff.failed(5_000 + limits::LINK_STEADY_MS, &mut jitter);
        assert_eq!(backoff.failures(), 1);
    }
}
