//! How busy a worker is: what [`Input::Load`](crate::turn::Input::Load) says.

use crate::limits;

/// How busy a worker has been lately: the share of its time that it did not sleep. Times are µs on a monotonic clock.
#[derive(Debug, Default)]
pub struct Load {
    /// What the core was told last, percent.
    told: u8,
    /// Share of the time, 0 to 1; what was long ago counts little.
    share: f64,
    /// When it was last reckoned, how long it was awake since, and when it last began to.
    since_us: u64,
    busy_us: u64,
    began_us: u64,
}

impl Load {
    /// The worker has woken. What the core is to be told, percent, if there is anything new.
    pub fn began(&mut self, now_us: u64) -> Option<u8> {
        self.began_us = now_us;
        let elapsed_us = now_us - self.since_us;
        if elapsed_us < limits::LOAD_STEP_MS * 1_000 {
            return None;
        }
        let latest = (self.busy_us as f64 / elapsed_us as f64).min(1.0);
        let weight = elapsed_us as f64 / (limits::LOAD_MEMORY_MS * 1_000) as f64;
        self.share += (latest - self.share) * weight.min(1.0);
        (self.since_us, self.busy_us) = (now_us, 0);
        let percent = (self.share * 100.0).round() as u8;
        (percent != std::mem::replace(&mut self.told, percent)).then_some(percent)
    }

    /// The worker goes to sleep.
    pub fn over(&mut self, now_us: u64) {
        self.busy_us += now_us - self.began_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of a worker that is awake for `awake_us` of each millisecond, from one time (ms) to another.
    fn told(load: &mut Load, ms: std::ops::Range<u64>, awake_us: u64) -> Vec<u8> {
        ms.filter_map(|ms| {
            let told = load.began(ms * 1_000);
            load.over(ms * 1_000 + awake_us);
            told
        })
        .collect()
    }

    #[test]
    fn what_is_told_follows_the_work_and_only_when_it_changes() {
        let mut load = Load::default();
        assert_eq!(told(&mut load, 0..100, 0), [0; 0], "nothing was expected");
        let rising = told(&mut load, 100..2_000, 600);
        assert!(rising.is_sorted_by(|a, b| a < b), "{rising:?}");
        assert_eq!(rising.last(), Some(&60));
        assert_eq!(told(&mut load, 2_000..3_000, 600), [0; 0], "as before");
        assert_eq!(told(&mut load, 3_000..5_000, 0).last(), Some(&0));
    }

    #[test]
    fn a_long_run_is_no_more_than_all_of_the_time() {
        let mut load = Load::default();
        load.began(0);
        load.over(50_000_000);
        assert_eq!(load.began(50_000_000), Some(100));
    }
}
