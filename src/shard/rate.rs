//! Token buckets, one number each.

use crate::config::Bucket;

/// How far a bucket is emptied, as the time at which it will be full again (the generic cell rate algorithm).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level {
    full_at_us: u64,
}

impl Level {
    /// Takes a token, or says in how many milliseconds there will be one.
    pub fn take(&mut self, bucket: Bucket, now_ms: u64) -> Result<(), u64> {
        if bucket.burst == 0 {
            return Ok(());
        }
        let now_us = now_ms * 1_000;
        let period_us = bucket.per_ms * 1_000;
        let token_us = period_us / u64::from(bucket.burst);
        let full_at_us = self.full_at_us.max(now_us) + token_us;
        if full_at_us > now_us + period_us {
            return Err((full_at_us - now_us - period_us).div_ceil(1_000));
        }
        self.full_at_us = full_at_us;
        Ok(())
    }

    /// In how many milliseconds the bucket will be full again.
    pub fn wait_ms(&self, now_ms: u64) -> u64 {
        self.full_at_us.saturating_sub(now_ms * 1_000).div_ceil(1_000)
    }

    /// Takes tokens whether they are there or not: what they were for has been done.
    pub fn spend(&mut self, bucket: Bucket, tokens: u64, now_ms: u64) {
        if bucket.burst > 0 && tokens > 0 {
            let token_us = bucket.per_ms * 1_000 / u64::from(bucket.burst);
            self.full_at_us = self.full_at_us.max(now_ms * 1_000) + tokens * token_us;
        }
    }

    /// Puts back a token that was taken and not used.
    pub fn give_back(&mut self, bucket: Bucket) {
        if bucket.burst > 0 {
            self.full_at_us = self.full_at_us.saturating_sub(bucket.per_ms * 1_000 / u64::from(bucket.burst));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_the_rate_holds_after_it() {
        let bucket = Bucket { burst: 5, per_ms: 1_000 };
        let mut level = Level::default();
        for _ in 0..5 {
            assert_eq!(level.take(bucket, 10_000), Ok(()));
        }
        assert_eq!(level.take(bucket, 10_000), Err(200));
        assert_eq!(level.take(bucket, 10_150), Err(50));
        assert_eq!(level.take(bucket, 10_200), Ok(()));
        assert_eq!(level.take(bucket, 10_200), Err(200));
        let passed = (0..10_000u64).filter(|ms| level.take(bucket, 20_000 + ms).is_ok()).count();
        assert_eq!(passed, 5 + 49, "a full bucket, then five a second");
    }

    #[test]
    fn what_is_given_back_may_be_taken_again() {
        let bucket = Bucket { burst: 2, per_ms: 1_000 };
        let mut level = Level::default();
        for _ in 0..10 {
            assert_eq!(level.take(bucket, 10_000), Ok(()));
            level.give_back(bucket);
        }
        assert_eq!((level.take(bucket, 10_000), level.take(bucket, 10_000)), (Ok(()), Ok(())));
        assert_eq!(level.take(bucket, 10_000), Err(500));
    }

    #[test]
    fn what_is_spent_beyond_the_bucket_is_waited_for() {
        let bucket = Bucket { burst: 5, per_ms: 1_000 };
        let mut level = Level::default();
        level.spend(bucket, 0, 10_000);
        assert_eq!(level.take(bucket, 10_000), Ok(()));
        level.spend(bucket, 6, 10_000);
        assert_eq!(level.take(bucket, 10_000), Err(600));
        assert_eq!(level.take(bucket, 10_600), Ok(()));
    }

    #[test]
    fn burst_zero_is_unlimited() {
        let mut level = Level::default();
        assert!((0..1_000).all(|_| level.take(Bucket { burst: 0, per_ms: 1_000 }, 0).is_ok()));
    }
}
