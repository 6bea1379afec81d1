//! Plans that fail, cut down to the steps that matter.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Enough for any plan; a failure should not take minutes to be told.
const SHRINK_TRIES_MAX: usize = 400;

/// Runs something that may also panic. An error: what did not hold.
pub fn caught(run: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
    })
}

/// Leaves out ever smaller parts of some steps, as long as they still fail. (Zeller's delta debugging.)
pub fn shrink<S: Clone>(steps: &[S], play: impl Fn(&[S]) -> Result<(), String>) -> (Vec<S>, String) {
    let mut steps = steps.to_vec();
    let Err(mut why) = play(&steps) else { panic!("it does not fail") };
    let mut part = steps.len().div_ceil(2);
    let mut tries = 0;
    loop {
        let mut at = 0;
        let before = steps.len();
        while at < steps.len() && tries < SHRINK_TRIES_MAX {
            tries += 1;
            let mut fewer = steps.clone();
            fewer.drain(at..(at + part).min(steps.len()));
            match play(&fewer) {
                Err(reason) => (steps, why) = (fewer, reason),
                Ok(()) => at += part,
            }
        }
        if tries >= SHRINK_TRIES_MAX || (part == 1 && steps.len() == before) {
            return (steps, why);
        }
        part = part.div_ceil(2);
    }
}
