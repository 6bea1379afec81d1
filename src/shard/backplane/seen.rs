//! The ids of alerts that this host has delivered: an alert may come by several ways, and must be told once.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;
use xxhash_rust::xxh3::xxh3_128;

use crate::limits;

/// A window of the newest ids, as hashes of 128 bits: two ids that differ do not meet in practice, and a long one takes
/// no more room than a short one.
#[derive(Default)]
pub struct Seen {
    hashes: FxHashSet<u128>,
    /// The same, oldest first.
    order: VecDeque<u128>,
}

impl Seen {
    /// Remembers an id; false: it had been there before. Beyond [`limits::ALERT_IDS_MAX`] the oldest is forgotten.
    pub fn insert(&mut self, id: &str) -> bool {
        let hash = xxh3_128(id.as_bytes());
        if self.hashes.contains(&hash) {
            return false;
        }
        if self.order.len() == limits::ALERT_IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.hashes.remove(&oldest);
        }
        self.order.push_back(hash);
        self.hashes.insert(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_new_once_and_again_when_it_has_left_the_window() {
        let mut seen = Seen::default();
        assert!(seen.insert("first"));
        assert!(!seen.insert("first"));
        assert!(seen.insert(""), "an empty id is one too");
        assert!(!seen.insert(""));
        for count in 2..limits::ALERT_IDS_MAX {
            assert!(seen.insert(&count.to_string()));
        }
        assert!(!seen.insert("first"), "the window is full, and nothing has left it");
        assert!(seen.insert("one more"));
        assert!(!seen.insert(""), "only the oldest has left");
        assert!(seen.insert("first"));
    }

    #[test]
    fn memory_is_bounded_and_an_empty_window_takes_none() {
        let mut seen = Seen::default();
        assert_eq!((seen.hashes.capacity(), seen.order.capacity()), (0, 0));
        for count in 0..3 * limits::ALERT_IDS_MAX {
            assert!(seen.insert(&count.to_string()));
            assert_eq!(seen.hashes.len(), seen.order.len());
        }
        assert_eq!(seen.order.len(), limits::ALERT_IDS_MAX);
        assert_eq!(seen.order.capacity(), limits::ALERT_IDS_MAX);
        assert!(seen.hashes.capacity() < 4 * limits::ALERT_IDS_MAX);
    }
}
