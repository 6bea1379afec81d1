//! The past: positions that newer ones have replaced a moment ago.
//!
//! State is not queued, and a flush takes the newest. But positions wait for each other while a worker is busy, and a worker
//! may itself be late; by then who reports often has moved twice. So what is replaced stays here for a moment, once for
//! everybody, and a flush that is behind by a few moves brings these too. A reader that is further behind is slow, and gets the
//! newest alone.

use std::collections::VecDeque;

use crate::limits;
use crate::wire::state::Sample;

/// A position that was replaced.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    pub sample: Sample,
    /// When the update arrived.
    pub updated_ms: u64,
    /// Which of its vehicle's moves it was: see [`Track::moves`](super::vehicles::Track).
    pub number: u32,
    /// Its position event in the render log: where, and how long. Length 0: not rendered.
    pub rendered: (u64, u32),
    /// The one that it had replaced.
    pub before: Link,
}

/// Where in the past something is, if it still is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link(u64);

/// What newer positions have replaced, of all vehicles, the oldest first.
#[derive(Default)]
pub struct Past {
    passed: VecDeque<Passed>,
    /// How many have been forgotten.
    forgotten: u64,
}

impl Past {
    /// Adds one. The oldest goes if there are too many.
    pub fn push(&mut self, passed: Passed) -> Link {
        if self.passed.len() == limits::PAST_MAX {
            self.passed.pop_front();
            self.forgotten += 1;
        }
        self.passed.push_back(passed);
        // From one on: zero leads nowhere.
        Link(self.forgotten + self.passed.len() as u64)
    }

    fn at(&self, Link(link): Link) -> Option<usize> {
        usize::try_from(link.checked_sub(self.forgotten + 1)?).ok()
    }

    pub fn get(&self, link: Link) -> Option<&Passed> {
        self.passed.get(self.at(link)?)
    }

    pub fn get_mut(&mut self, link: Link) -> Option<&mut Passed> {
        let at = self.at(link)?;
        self.passed.get_mut(at)
    }

    /// Of a vehicle the moves before `newest`, `count` of them or fewer: as far back as none is missing, and none came
    /// before `since_ms`.
    pub fn before(&self, mut link: Link, newest: u32, count: u32, since_ms: u64) -> Passage {
        let mut passage = Passage::default();
        let count = (count as usize).min(passage.links.len());
        while passage.len < count
            && let Some(passed) = self.get(link)
            && passed.updated_ms >= since_ms
        {
            let ago = newest.wrapping_sub(passed.number) as usize;
            if ago == passage.len + 1 {
                passage.links[passage.len] = link;
                passage.len += 1;
            } else if ago > passage.len + 1 {
                break;
            }
            // One that was not worth telling has its predecessor's number, and the later of the two is taken.
            link = passed.before;
        }
        passage
    }
}

/// Some positions of one vehicle.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passage {
    links: [Link; limits::PAST_MOVES_MAX as usize],
    len: usize,
}

impl Passage {
    pub fn len(&self) -> usize {
        self.len
    }

    /// The earliest first.
    pub fn iter(self) -> impl Iterator<Item = Link> {
        self.links.into_iter().take(self.len).rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::state::{self, State};

    fn passed(number: u32, before: Link) -> Passed {
        let sample = Sample { record: state::encode(&State::unavailable(1)), ts: 0, accuracy: None };
        Passed { sample, updated_ms: 0, number, rendered: (0, 0), before }
    }

    fn numbers(past: &Past, link: Link, newest: u32, count: u32) -> Vec<u32> {
        past.before(link, newest, count, 0).iter().map(|link| past.get(link).unwrap().number).collect()
    }

    #[test]
    fn it_goes_back_as_far_as_no_move_is_missing() {
        // The numbers of what was replaced, the newest move, how many are asked for, and which are found.
        for (replaced, newest, count, found) in [
            (&[][..], 1, 3, &[][..]),
            (&[1, 2, 3], 4, 3, &[1, 2, 3]),
            (&[1, 2, 3], 4, 2, &[2, 3]),
            (&[1, 3], 4, 3, &[3]),
            (&[1, 2], 4, 3, &[]),
            (&[1, 2, 2], 3, 3, &[1, 2]),
            (&[1, 2, 3], 3, 2, &[1, 2]),
            (&[u32::MAX, 0], 1, 3, &[u32::MAX, 0]),
            (&[1, 2, 3, 4, 5, 6, 7, 8], 9, 8, &[3, 4, 5, 6, 7, 8]),
        ] {
            let mut past = Past::default();
            let link = replaced.iter().fold(Link::default(), |link, number| past.push(passed(*number, link)));
            assert_eq!(numbers(&past, link, newest, count), found, "{replaced:?} before {newest}");
        }
    }

    #[test]
    fn it_goes_back_to_a_time() {
        let mut past = Past::default();
        let at = |number: u32, before| Passed { updated_ms: u64::from(number) * 10, ..passed(number, before) };
        let link = (1..=3).fold(Link::default(), |link, number| past.push(at(number, link)));
        for (since_ms, len) in [(10, 3), (11, 2), (30, 1), (31, 0)] {
            assert_eq!(past.before(link, 4, 3, since_ms).len(), len, "since {since_ms}");
        }
    }

    #[test]
    fn it_forgets_the_oldest() {
        let mut past = Past::default();
        let first = past.push(passed(1, Link::default()));
        let mut link = first;
        for number in 2..=limits::PAST_MAX as u32 + 1 {
            link = past.push(passed(number, if number == 2 { first } else { link }));
        }
        assert!(past.get(first).is_none() && past.get(Link::default()).is_none());
        assert_eq!(past.get(link).unwrap().number, limits::PAST_MAX as u32 + 1);
        assert_eq!(past.passed.len(), limits::PAST_MAX);
    }
}
