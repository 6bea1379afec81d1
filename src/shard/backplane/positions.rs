//! Own vehicles' states on their way to other hosts: they wait for the tick, the newest of each vehicle, and leave
//! grouped by square.
//!
//! Whoever listens only to the square that a vehicle has left must see it leave, so its first state in a new square goes
//! to the old one too. *Old* is where it was published last: what it crossed between two ticks never heard of it.

use std::collections::{BTreeMap, VecDeque};

use rustc_hash::FxHashMap;

use crate::geo::Square;
use crate::limits;
use crate::wire::state::Sample;

/// Counts of what did not go out as it came; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// States that a newer one of the same vehicle replaced.
    pub conflated: u64,
    /// States dropped because nobody could be told.
    pub dropped: u64,
    /// Asks that were not remembered because too many squares had been asked for.
    pub asks_refused: u64,
}

/// What waits for the tick, and what has to be known of the last one.
#[derive(Debug, Default)]
pub struct Positions {
    /// The newest of each vehicle, by its key, and where it lies.
    waiting: FxHashMap<u64, (Sample, Square)>,
    /// The square in which each vehicle was published last.
    published: FxHashMap<u64, Square>,
    /// Number of the last frame in each square. Kept for good: a number that began again would be taken for an old one.
    /// They are 8 bytes each, and no more than there are squares.
    sequences: FxHashMap<Square, u32>,
    /// When states last left.
    taken_ms: Option<u64>,
    /// Squares in which an ask was answered lately, and whether there was another one meanwhile.
    asked: FxHashMap<Square, bool>,
    /// The same squares, each once, by the time until which no ask is answered there; times only grow.
    quiet: VecDeque<(u64, Square)>,
    /// How many of them are owed another answer.
    owed: usize,
    counts: Counts,
}

impl Positions {
    /// A vehicle has moved, or someone asked where it is.
    pub fn moved(&mut self, state: Sample, square: Square) {
        if self.waiting.insert(state.key(), (state, square)).is_some() {
            self.counts.conflated += 1;
        }
    }

    /// A vehicle has left: what waits of it would be taken for that of its next registration.
    pub fn forget(&mut self, key: u64) {
        self.waiting.remove(&key);
        self.published.remove(&key);
    }

    /// Someone asked who is in a square. True: all vehicles there have to be added now ([`Positions::moved`]). False: an
    /// ask was answered less than [`limits::ASK_MS`] ago, and who asked may have missed that; [`Positions::due_asks`]
    /// names the square when its time has come.
    pub fn ask(&mut self, square: Square, now_ms: u64) -> bool {
        if let Some(again) = self.asked.get_mut(&square) {
            self.owed += usize::from(!*again);
            *again = true;
            return false;
        }
        while let Some(&(until, over)) = self.quiet.front()
            && until <= now_ms
            && self.asked.get(&over) == Some(&false)
        {
            self.asked.remove(&over);
            self.quiet.pop_front();
        }
        if self.asked.len() >= limits::ASKED_SQUARES_MAX {
            self.counts.asks_refused += 1;
            return false;
        }
        self.answer(square, now_ms);
        true
    }

    /// Squares that were asked for too early, and that all vehicles have to be added of now.
    pub fn due_asks(&mut self, now_ms: u64) -> Vec<Square> {
        let mut squares = Vec::new();
        while let Some(&(until, square)) = self.quiet.front()
            && until <= now_ms
        {
            self.quiet.pop_front();
            if self.asked.remove(&square) == Some(true) {
                self.owed -= 1;
                squares.push(square);
            }
        }
        squares.iter().for_each(|square| self.answer(*square, now_ms));
        squares
    }

    fn answer(&mut self, square: Square, now_ms: u64) {
        self.asked.insert(square, false);
        self.quiet.push_back((now_ms + limits::ASK_MS, square));
    }

    /// What waits, if something does and `tick_ms` have passed since the last time: squares in order, each in pieces of
    /// at most [`limits::BUS_RECORDS_MAX`] states. Each piece is one frame and needs [`Positions::next_sequence`].
    pub fn take(&mut self, now_ms: u64, tick_ms: u64) -> Option<impl Iterator<Item = (Square, Vec<Sample>)> + use<>> {
        if self.waiting.is_empty() || self.taken_ms.is_some_and(|taken_ms| now_ms < taken_ms + tick_ms) {
            return None;
        }
        self.taken_ms = Some(now_ms);
        let mut squares: BTreeMap<Square, Vec<Sample>> = BTreeMap::new();
        for (key, (state, square)) in self.waiting.drain() {
            squares.entry(square).or_default().push(state);
            if let Some(old) = self.published.insert(key, square)
                && old != square
            {
                squares.entry(old).or_default().push(state);
            }
        }
        Some(squares.into_iter().flat_map(|(square, states)| pieces(states).map(move |piece| (square, piece))))
    }

    /// The number of the next frame in a square: from 1, and from 0 after the largest.
    pub fn next_sequence(&mut self, square: Square) -> u32 {
        let sequence = self.sequences.entry(square).or_default();
        *sequence = sequence.wrapping_add(1);
        *sequence
    }

    /// When `take` or `due_asks` may have something next; 0 if at once.
    pub fn next_deadline(&self, tick_ms: u64) -> Option<u64> {
        let take = (!self.waiting.is_empty()).then(|| self.taken_ms.map_or(0, |taken_ms| taken_ms + tick_ms));
        let ask = self.quiet.front().filter(|_| self.owed > 0).map(|(until, _)| *until);
        take.into_iter().chain(ask).min()
    }

    /// Nobody can be told now: what waits is dropped, and how many states it was is answered. Where vehicles were
    /// published last is still known.
    pub fn drop_all(&mut self) -> usize {
        let dropped = self.waiting.len();
        self.waiting.clear();
        self.counts.dropped += dropped as u64;
        dropped
    }

    /// How many states wait.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// What it has counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

/// States in frames' worth.
fn pieces(mut states: Vec<Sample>) -> impl Iterator<Item = Vec<Sample>> {
    std::iter::from_fn(move || {
        let rest = states.split_off(states.len().min(limits::BUS_RECORDS_MAX));
        Some(std::mem::replace(&mut states, rest)).filter(|piece| !piece.is_empty())
    })
}

#[cfg(test)]
mod tests;
