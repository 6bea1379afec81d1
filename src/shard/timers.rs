//! Deadlines of one shard: a hierarchical wheel with a resolution of one millisecond.
//!
//! Nothing is ever cancelled. An entry that no longer matters is recognised when it fires: its connection or vehicle
//! is gone, or has a later deadline of its own. Setting and firing are a push and a pop.
//!
//! The entries of a slot are a ring of links in one table that all slots share, so the wheel has as much memory as there
//! have been entries at a time, wherever in it they crowd.

use super::table::Table;

const SLOT_BITS: u32 = 8;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 4;

/// No entry.
const NONE: u32 = u32::MAX;

/// Entries of type `T` by the millisecond in which they are due.
pub struct Timers<T> {
    /// Those that wait, and those that are free.
    entries: Table<Entry<T>>,
    /// The first of those that are free.
    free: u32,
    /// `slots[l][s]`: the last of the entries due when bits `8l..8l+8` of the time are `s`, and that are not due on a
    /// lower level. The first one follows it.
    slots: Box<[[u32; SLOTS]; LEVELS]>,
    /// Which slots of each level hold anything.
    occupied: [[u64; SLOTS / 64]; LEVELS],
    /// Everything due up to and including this has fired.
    now_ms: u64,
    len: usize,
}

struct Entry<T> {
    due_ms: u64,
    /// The next one in its slot, or the next free one.
    next: u32,
    /// `None`: free.
    what: Option<T>,
}

impl<T> Timers<T> {
    /// A wheel whose time starts at `now_ms`.
    pub fn new(now_ms: u64) -> Self {
        Timers {
            entries: Table::default(),
            free: NONE,
            slots: Box::new([[NONE; SLOTS]; LEVELS]),
            occupied: [[0; SLOTS / 64]; LEVELS],
            now_ms,
            len: 0,
        }
    }

    /// Lets `entry` fire at `due_ms`; at the next millisecond if that is past.
    pub fn set(&mut self, due_ms: u64, entry: T) {
        let due_ms = due_ms.max(self.now_ms + 1);
        let (level, slot) = self.position(due_ms);
        let entry = Entry { due_ms, next: NONE, what: Some(entry) };
        let at = self.free;
        let at = match self.entries.get_mut(at) {
            Some(free) => {
                self.free = free.next;
                *free = entry;
                at
            }
            None => self.entries.push(entry),
        };
        self.append(level, slot, at);
        self.len += 1;
    }

    /// Lets `entry` fire at `due_ms` or up to `slack_ms` later, together with others that have as much time: what is due
    /// to thousands of idle connections comes in a few bursts a second, not with a wake-up for each.
    pub fn set_about(&mut self, due_ms: u64, slack_ms: u64, entry: T) {
        // Powers of two, so that the finer bursts meet the coarser ones.
        let step_ms = 1 << (slack_ms + 1).ilog2();
        self.set(due_ms.next_multiple_of(step_ms), entry);
    }

    /// Puts an entry behind the last one of a slot.
    fn append(&mut self, level: usize, slot: usize, at: u32) {
        let last = std::mem::replace(&mut self.slots[level][slot], at);
        let first = match self.entries.get_mut(last) {
            Some(last) => std::mem::replace(&mut last.next, at),
            None => at,
        };
        if let Some(entry) = self.entries.get_mut(at) {
            entry.next = first;
        }
        self.occupied[level][slot / 64] |= 1 << (slot % 64);
    }

    /// Empties a slot. Its first entry, and how the list ends: the last one has no next.
    fn take_slot(&mut self, level: usize, slot: usize) -> u32 {
        self.occupied[level][slot / 64] &= !(1 << (slot % 64));
        let last = std::mem::replace(&mut self.slots[level][slot], NONE);
        self.entries.get_mut(last).map_or(NONE, |last| std::mem::replace(&mut last.next, NONE))
    }

    fn position(&self, due_ms: u64) -> (usize, usize) {
        // The highest bit in which the deadline differs from now decides the level.
        let differs = (due_ms ^ self.now_ms) | 1;
        let level = ((63 - differs.leading_zeros()) / SLOT_BITS) as usize;
        if level >= LEVELS {
            // Beyond the top level's current round. Within 256 of its slots the slot is right all the same; farther
            // away the entry is parked in the last slot to come up and sorted in again from there.
            let top = LEVELS - 1;
            let shift = SLOT_BITS * top as u32;
            let last = (self.now_ms >> shift) + SLOTS as u64 - 1;
            return (top, (due_ms >> shift).min(last) as usize % SLOTS);
        }
        (level, (due_ms >> (SLOT_BITS * level as u32)) as usize % SLOTS)
    }

    /// Moves time on to `now_ms` and gives everything that is due to `fire`, earliest millisecond first.
    pub fn advance(&mut self, now_ms: u64, mut fire: impl FnMut(T)) {
        while self.now_ms < now_ms {
            if self.len == 0 {
                self.now_ms = now_ms;
                return;
            }
            // Jump to the next millisecond at which a slot comes up, or to the target.
            let next = self.next_event_ms().map_or(now_ms, |next| next.min(now_ms));
            self.now_ms = next;
            for level in (1..LEVELS).rev() {
                let low_bits = (1u64 << (SLOT_BITS * level as u32)) - 1;
                if next & low_bits == 0 {
                    self.cascade(level, (next >> (SLOT_BITS * level as u32)) as usize % SLOTS);
                }
            }
            let mut at = self.take_slot(0, next as usize % SLOTS);
            while let Some(entry) = self.entries.get_mut(at) {
                let (this, what) = (at, entry.what.take());
                at = std::mem::replace(&mut entry.next, self.free);
                self.free = this;
                self.len -= 1;
                what.into_iter().for_each(&mut fire);
            }
        }
    }

    /// Sorts the entries of a slot whose time has come into the lower levels.
    fn cascade(&mut self, level: usize, slot: usize) {
        let mut at = self.take_slot(level, slot);
        while let Some(entry) = self.entries.get(at) {
            let (this, due_ms) = (at, entry.due_ms);
            at = entry.next;
            let (level, slot) =
                if due_ms <= self.now_ms { (0, self.now_ms as usize % SLOTS) } else { self.position(due_ms) };
            self.append(level, slot, this);
        }
    }

    /// When `advance` has work next: exact on the lowest level, the start of a slot above it.
    pub fn next_event_ms(&self) -> Option<u64> {
        let mut earliest: Option<u64> = None;
        for level in 0..LEVELS {
            let shift = SLOT_BITS * level as u32;
            let current = (self.now_ms >> shift) as usize % SLOTS;
            let Some(ahead) = self.slots_ahead(level, current) else { continue };
            let at = ((self.now_ms >> shift) + ahead as u64) << shift;
            earliest = Some(earliest.map_or(at, |earliest| earliest.min(at)));
        }
        earliest
    }

    /// Distance from `current` to the next occupied slot of a level, 1 to 256.
    fn slots_ahead(&self, level: usize, current: usize) -> Option<usize> {
        let words = &self.occupied[level];
        for step in 0..=words.len() {
            let word_at = (current / 64 + step) % words.len();
            let mut word = words[word_at];
            if step == 0 {
                // Only what lies behind `current`; it comes up again at the end of the round.
                word &= !0u64 << (current % 64) << 1;
                if current % 64 == 63 {
                    word = 0;
                }
            } else if step == words.len() {
                word &= (1u64 << (current % 64) << 1).wrapping_sub(1);
            }
            if word != 0 {
                let slot = word_at * 64 + word.trailing_zeros() as usize;
                return Some((slot + SLOTS - current - 1) % SLOTS + 1);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_fires_once_in_its_millisecond_and_in_order() {
        let mut random = 1u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) % below
        };
        for start in [0, 255, 65_535, (1 << 32) - 3, 1 << 40] {
            let mut timers = Timers::new(start);
            let mut expected = Vec::new();
            for id in 0..2_000 {
                let due = start + 1 + next([10, 300, 70_000, 20_000_000][id % 4]);
                timers.set(due, (due, id));
                expected.push((due, id));
            }
            expected.sort();
            let mut fired = Vec::new();
            let mut now = start;
            while fired.len() < expected.len() {
                now = if next(2) == 0 { timers.next_event_ms().expect("entries are left") } else { now + next(5_000) };
                let before = fired.len();
                timers.advance(now, |(due, id)| fired.push((due, id)));
                assert!(fired[before..].iter().all(|(due, _)| *due <= now));
                if let Some((due, _)) = expected.get(fired.len()) {
                    assert!(*due > now, "due {due} has not fired at {now}");
                }
            }
            fired.sort();
            assert_eq!(fired, expected);
            assert_eq!(timers.next_event_ms(), None);
        }
    }

    #[test]
    fn whoever_has_time_fires_with_others_and_never_early_nor_too_late() {
        for (slack, bursts) in [(0, 1_000), (1, 501), (14, 126), (255, 4), (300, 4)] {
            let mut timers = Timers::new(7);
            (10_000..11_000).for_each(|due| timers.set_about(due, slack, due));
            let mut fired = Vec::new();
            while let Some(at) = timers.next_event_ms() {
                timers.advance(at, |due| fired.push((at, due)));
            }
            assert_eq!(fired.len(), 1_000);
            assert!(fired.iter().all(|(at, due)| (*due..=due + slack).contains(at)), "slack {slack}");
            fired.dedup_by_key(|(at, _)| *at);
            assert_eq!(fired.len(), bursts, "slack {slack}");
        }
    }

    #[test]
    fn a_deadline_in_the_past_fires_at_the_next_millisecond() {
        let mut timers = Timers::new(100);
        timers.set(5, "late");
        assert_eq!(timers.next_event_ms(), Some(101));
        let mut fired = Vec::new();
        timers.advance(101, |entry| fired.push(entry));
        assert_eq!(fired, ["late"]);
    }

    #[test]
    fn the_whole_round_ahead_is_seen() {
        for start in 0..600 {
            for ahead in [1, 63, 64, 65, 128, 255, 256, 257, 511] {
                let mut timers = Timers::new(start);
                timers.set(start + ahead, ());
                let mut count = 0;
                let mut steps = 0;
                while count == 0 && steps < 5 {
                    let at = timers.next_event_ms().unwrap();
                    timers.advance(at, |()| count += 1);
                    assert!(count == 0 || at == start + ahead, "start {start}, ahead {ahead}, fired at {at}");
                    steps += 1;
                }
                assert_eq!(count, 1);
            }
        }
    }
}
