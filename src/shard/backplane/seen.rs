//! The ids of alerts that this host has delivered: an alert may come by several ways, and must be told once.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::limits;
use crate::shard::world::WorldId;

/// A window of the newest ids, as hashes of 128 bits: two ids that differ do not meet in practice, and a long one takes
/// no more room than a short one.
#[derive(Default)]
pub struct Seen {
    hashes: FxHashSet<u128>,
    /// The same, oldest first.
    order: VecDeque<u128>,
}

impl Seen {
    /// Remembers an id of a world; false: it had been there before. Beyond [`limits::ALERT_IDS_MAX`] the oldest is forgotten.
    pub fn insert(&mut self, world: WorldId, id: &str) -> bool {
        // What one tenant has been told says nothing to another.
        let hash = xxh3_128_with_seed(id.as_bytes(), world.0.into());
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

    const WORLD: WorldId = WorldId(0);

    #[test]
    fn an_id_is_new_once_and_again_when_it_has_left_the_window() {
        let mut seen = Seen::default();
        assert!(seen.insert(WORLD, "first"));
        assert!(!seen.insert(WORLD, "first"));
        assert!(seen.insert(WORLD, ""), "an empty id is one too");
        assert!(!seen.insert(WORLD, ""));
        for count in 2..limits::ALERT_IDS_MAX {
            assert!(seen.insert(WORLD, &count.to_string()));
        }
        assert!(!seen.insert(WORLD, "first"), "the window is full, and nothing has left it");
        assert!(seen.insert(WORLD, "one more"));
        assert!(!seen.insert(WORLD, ""), "only the oldest has left");
        assert!(seen.insert(WORLD, "first"));
    }

    #[test]
    fn an_id_is_new_in_each_world() {
        let mut seen = Seen::default();
        assert!(seen.insert(WORLD, "first") && seen.insert(WorldId(2), "first") && seen.insert(WorldId(3), "first"));
        assert!(!seen.insert(WorldId(2), "first"));
    }

    #[test]
    fn memory_is_bounded_and_an_empty_window_takes_none() {
        let mut seen = Seen::default();
        assert_eq!((seen.hashes.capacity(), seen.order.capacity()), (0, 0));
        for count in 0..3 * limits::ALERT_IDS_MAX {
            assert!(seen.insert(WORLD, &count.to_string()));
            assert_eq!(seen.hashes.len(), seen.order.len());
        }
        assert_eq!(seen.order.len(), limits::ALERT_IDS_MAX);
        assert_eq!(seen.order.capacity(), limits::ALERT_IDS_MAX);
        assert!(seen.hashes.capacity() < 4 * limits::ALERT_IDS_MAX);
    }
}
