//! Which squares this host listens to: those that its own vehicles can see into.
//!
//! Squares are counted, not computed anew: a vehicle that moves within its squares changes nothing. One that crosses a
//! border to and fro keeps the squares on both sides, because a square is forgotten only some time after its last
//! vehicle.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use crate::geo::{Square, Squares};
use crate::limits;

/// What has to be done about a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Listen to it.
    Want(Square),
    /// Stop listening, and forget whom it told of.
    Forget(Square),
}

/// The squares that a host listens to. There are at most [`Square::COUNT`].
#[derive(Debug, Default)]
pub struct Interest {
    squares: FxHashMap<Square, Watch>,
    /// Wanted since the last call of `due`.
    fresh: Vec<Square>,
    /// Squares without a vehicle, by the time at which they are forgotten.
    lingering: BTreeSet<(u64, Square)>,
}

#[derive(Clone, Copy, Debug)]
enum Watch {
    /// So many vehicles see into it, at least one.
    Seen(u32),
    /// None does; it is forgotten at this time.
    Lingers(u64),
}

impl Interest {
    /// A vehicle's squares have changed; [`Squares::NONE`] before it comes and after it has gone.
    pub fn moved(&mut self, from: Squares, to: Squares, now_ms: u64) {
        if from == to {
            return;
        }
        for square in to.iter().filter(|square| !from.contains(*square)) {
            self.enter(square);
        }
        for square in from.iter().filter(|square| !to.contains(*square)) {
            self.leave(square, now_ms);
        }
    }

    fn enter(&mut self, square: Square) {
        match self.squares.get_mut(&square) {
            Some(Watch::Seen(vehicles)) => *vehicles += 1,
            Some(watch) => {
                if let Watch::Lingers(until) = *watch {
                    self.lingering.remove(&(until, square));
                }
                *watch = Watch::Seen(1);
            }
            None => {
                self.squares.insert(square, Watch::Seen(1));
                self.fresh.push(square);
            }
        }
    }

    fn leave(&mut self, square: Square, now_ms: u64) {
        match self.squares.get_mut(&square) {
            Some(Watch::Seen(vehicles)) if *vehicles > 1 => *vehicles -= 1,
            Some(watch @ Watch::Seen(_)) => {
                let until = now_ms + limits::SQUARE_LINGER_MS;
                *watch = Watch::Lingers(until);
                self.lingering.insert((until, square));
            }
            _ => debug_assert!(false, "nobody sees into {square:?}"),
        }
    }

    /// What has to be done by now, in order. Each change is told once.
    pub fn due(&mut self, now_ms: u64) -> Vec<Change> {
        let mut changes: Vec<Change> = self.fresh.drain(..).map(Change::Want).collect();
        while let Some(&(until, square)) = self.lingering.first().filter(|(until, _)| *until <= now_ms) {
            self.lingering.remove(&(until, square));
            self.squares.remove(&square);
            changes.push(Change::Forget(square));
        }
        changes
    }

    /// When `due` has something next; 0 if it has already.
    pub fn next_deadline(&self) -> Option<u64> {
        if self.fresh.is_empty() { self.lingering.first().map(|(until, _)| *until) } else { Some(0) }
    }

    /// Whether this host listens to a square, or is about to. Squares that nobody sees into are still wanted for a
    /// while.
    pub fn wants(&self, square: Square) -> bool {
        self.squares.contains_key(&square)
    }

    /// Every square that is wanted, in no particular order.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = Square> {
        self.squares.keys().copied()
    }

    /// How many squares are wanted.
    pub fn len(&self) -> usize {
        self.squares.len()
    }

    /// Whether no square is wanted.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.squares.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::geo::Place;

    const LINGER_MS: u64 = limits::SQUARE_LINGER_MS;

    /// What someone with a view of 600 m sees into, in tenths of a degree from the corner of four squares.
    fn view(north: i32, east: i32) -> Squares {
        Squares::around(Place::from_e7(north * 1_000_000, east * 1_000_000), 600.0)
    }

    fn alone(north: i32, east: i32) -> (Squares, Square) {
        let squares = view(north, east);
        let mut all = squares.iter();
        let square = all.next().expect("a view has a square");
        assert_eq!(all.next(), None);
        (squares, square)
    }

    #[test]
    fn a_square_is_wanted_once_and_forgotten_some_time_after_its_last_vehicle() {
        let mut interest = Interest::default();
        let (squares, square) = alone(1, 1);
        assert_eq!(interest.next_deadline(), None);
        interest.moved(Squares::NONE, squares, 100);
        interest.moved(Squares::NONE, squares, 101);
        assert!(interest.wants(square));
        assert_eq!(interest.next_deadline(), Some(0));
        assert_eq!(interest.due(101), [Change::Want(square)]);
        assert_eq!((interest.due(102), interest.next_deadline()), (vec![], None));

        interest.moved(squares, Squares::NONE, 200);
        assert_eq!(interest.next_deadline(), None);
        interest.moved(squares, Squares::NONE, 300);
        assert_eq!(interest.next_deadline(), Some(300 + LINGER_MS));
        assert_eq!(interest.due(299 + LINGER_MS), []);
        assert!(interest.wants(square));
        assert_eq!(interest.due(300 + LINGER_MS), [Change::Forget(square)]);
        assert!(!interest.wants(square) && interest.is_empty());

        interest.moved(Squares::NONE, squares, 400 + LINGER_MS);
        assert_eq!(interest.due(400 + LINGER_MS), [Change::Want(square)]);
    }

    #[test]
    fn a_way_to_and_fro_across_a_border_changes_nothing() {
        let mut interest = Interest::default();
        let (here, there) = (view(1, 1), view(1, -1));
        interest.moved(Squares::NONE, here, 0);
        interest.moved(here, there, 1);
        assert_eq!(interest.due(1).len(), 2);
        for now_ms in (10..20 * LINGER_MS).step_by(LINGER_MS as usize - 10) {
            interest.moved(there, here, now_ms);
            interest.moved(here, there, now_ms + 5);
            assert_eq!(interest.due(now_ms + 5), []);
            assert_eq!((interest.len(), interest.lingering.len()), (2, 1));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn it_listens_to_what_a_recount_finds(
            steps in vec((0..4usize, prop::option::weighted(0.8, (-6..6i32, -8..8i32)), 0..LINGER_MS), 1..80),
        ) {
            let mut interest = Interest::default();
            let mut vehicles = [Squares::NONE; 4];
            let mut listening = BTreeSet::new();
            // When each square was last seen into.
            let mut seen_ms: BTreeMap<Square, u64> = BTreeMap::new();
            let mut now_ms = 0;
            for (vehicle, to, pause_ms) in steps {
                now_ms += pause_ms;
                vehicles.iter().flat_map(|squares| squares.iter()).for_each(|square| { seen_ms.insert(square, now_ms); });
                let to = to.map_or(Squares::NONE, |(north, east)| view(north, east));
                interest.moved(vehicles[vehicle], to, now_ms);
                vehicles[vehicle] = to;
                vehicles.iter().flat_map(|squares| squares.iter()).for_each(|square| { seen_ms.insert(square, now_ms); });

                for change in interest.due(now_ms) {
                    match change {
                        Change::Want(square) => prop_assert!(listening.insert(square), "wanted twice"),
                        Change::Forget(square) => prop_assert!(listening.remove(&square), "forgotten twice"),
                    }
                }
                let is_seen = |square: &Square| vehicles.iter().any(|squares| squares.contains(*square));
                seen_ms.retain(|square, seen_ms| is_seen(square) || *seen_ms + LINGER_MS > now_ms);
                prop_assert_eq!(&listening, &seen_ms.keys().copied().collect::<BTreeSet<_>>());
                prop_assert_eq!(&listening, &interest.iter().collect::<BTreeSet<_>>());
                prop_assert_eq!(interest.len(), listening.len());
                prop_assert!(listening.iter().all(|square| interest.wants(*square)));
                let next = seen_ms.iter().filter(|(square, _)| !is_seen(square)).map(|(_, ms)| ms + LINGER_MS).min();
                prop_assert_eq!(interest.next_deadline(), next);
            }
        }
    }
}
