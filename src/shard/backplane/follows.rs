//! Vehicles that connections of this shard follow: which squares the host listens to because of them, and which of them
//! have to be asked for.
//!
//! One that is connected to another host and whose place is not known here is asked for there: by nobody's positions
//! could it be found. Until it is, the question is repeated, each time after a longer pause.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use crate::geo::Squares;
use crate::limits;

/// Every vehicle that this shard's connections follow, by key. They are as many as `viewers.follow_max` allows.
#[derive(Debug, Default)]
pub struct Follows {
    vehicles: FxHashMap<u64, Followed>,
    /// Those that are asked for, by the time of the next question.
    asking: BTreeSet<(u64, u64)>,
    /// Not before this do the next questions go out.
    ask_at_ms: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Followed {
    squares: Squares,
    asking: Option<Asking>,
}

#[derive(Clone, Copy, Debug)]
struct Asking {
    /// When the next question is due.
    due_ms: u64,
    /// How long it is until the one after that.
    pause_ms: u64,
}

impl Follows {
    /// A vehicle is followed from now on.
    pub fn begin(&mut self, key: u64) {
        self.vehicles.entry(key).or_default();
    }

    /// Nobody here follows a vehicle any more. The squares that were listened to because of it.
    pub fn end(&mut self, key: u64) -> Squares {
        self.found(key);
        self.vehicles.remove(&key).map_or(Squares::NONE, |followed| followed.squares)
    }

    /// Whether a vehicle is followed.
    pub fn has(&self, key: u64) -> bool {
        // Mostly nobody follows anybody.
        !self.vehicles.is_empty() && self.vehicles.contains_key(&key)
    }

    /// Sets the squares that are to be listened to because of a followed vehicle. Those of before.
    pub fn listen(&mut self, key: u64, squares: Squares) -> Squares {
        self.vehicles.get_mut(&key).map_or(squares, |followed| std::mem::replace(&mut followed.squares, squares))
    }

    /// A followed vehicle is somewhere, and nobody here knows where.
    pub fn ask(&mut self, key: u64, now_ms: u64) {
        if let Some(followed) = self.vehicles.get_mut(&key)
            && followed.asking.is_none()
        {
            // Not at once: those of a turn go together.
            let asking = Asking { due_ms: now_ms + 1, pause_ms: limits::WHERE_PAUSE_MS };
            followed.asking = Some(asking);
            self.asking.insert((asking.due_ms, key));
        }
    }

    /// Nobody has to be asked where a vehicle is.
    pub fn found(&mut self, key: u64) {
        if let Some(asking) = self.vehicles.get_mut(&key).and_then(|followed| followed.asking.take()) {
            self.asking.remove(&(asking.due_ms, key));
        }
    }

    /// Whether a vehicle is being asked for.
    pub fn is_asking(&self, key: u64) -> bool {
        self.vehicles.get(&key).is_some_and(|followed| followed.asking.is_some())
    }

    /// How many are.
    pub fn asking(&self) -> usize {
        self.asking.len()
    }

    /// Those that are to be asked for now, at most [`limits::WHERE_ASKED_MAX`], in order. Each comes again after its
    /// pause.
    pub fn due(&mut self, now_ms: u64) -> Vec<u64> {
        let mut due = Vec::new();
        if now_ms < self.ask_at_ms {
            return due;
        }
        while let Some(&(due_ms, key)) = self.asking.first()
            && due_ms <= now_ms
            && due.len() < limits::WHERE_ASKED_MAX
        {
            self.asking.remove(&(due_ms, key));
            due.push(key);
            if let Some(asking) = self.vehicles.get_mut(&key).and_then(|followed| followed.asking.as_mut()) {
                asking.due_ms = now_ms + asking.pause_ms;
                asking.pause_ms = (asking.pause_ms * 2).min(limits::WHERE_PAUSE_MS_MAX);
                self.asking.insert((asking.due_ms, key));
            }
        }
        if !due.is_empty() {
            self.ask_at_ms = now_ms + limits::WHERE_MS;
        }
        due
    }

    /// When `due` has something next.
    pub fn next_deadline(&self) -> Option<u64> {
        self.asking.first().map(|(due_ms, _)| (*due_ms).max(self.ask_at_ms))
    }

    /// Every vehicle that is followed, in no particular order, and the squares that are listened to because of it.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Squares)> {
        self.vehicles.iter().map(|(key, followed)| (*key, followed.squares))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::Place;

    const PAUSE_MS: u64 = limits::WHERE_PAUSE_MS;

    fn following(keys: impl IntoIterator<Item = u64>, now_ms: u64) -> Follows {
        let mut follows = Follows::default();
        for key in keys {
            follows.begin(key);
            follows.ask(key, now_ms);
        }
        follows
    }

    #[test]
    fn who_is_not_found_is_asked_for_after_ever_longer_pauses() {
        let mut follows = following([7], 1_000);
        let mut asked_ms = Vec::new();
        while asked_ms.len() < 7 {
            let now_ms = follows.next_deadline().expect("it is not found");
            assert!(follows.due(now_ms - 1).is_empty());
            assert_eq!(follows.due(now_ms), [7]);
            asked_ms.push(now_ms - 1_001);
        }
        assert_eq!(asked_ms[..4], [0, PAUSE_MS, 3 * PAUSE_MS, 7 * PAUSE_MS]);
        assert_eq!(asked_ms[6] - asked_ms[5], limits::WHERE_PAUSE_MS_MAX);
        follows.found(7);
        assert_eq!((follows.next_deadline(), follows.asking(), follows.has(7)), (None, 0, true));
        follows.ask(7, 90_000);
        assert_eq!(follows.due(90_001), [7]);
        assert_eq!(follows.next_deadline(), Some(90_001 + PAUSE_MS));
    }

    #[test]
    fn nobody_is_asked_for_who_is_not_followed() {
        let mut follows = following([7], 0);
        assert_eq!(follows.end(7), Squares::NONE);
        follows.ask(7, 1);
        follows.ask(8, 1);
        assert_eq!((follows.next_deadline(), follows.is_asking(7), follows.has(7)), (None, false, false));
    }

    #[test]
    fn questions_are_bounded_and_those_beyond_follow() {
        let most = limits::WHERE_ASKED_MAX;
        let mut follows = following(0..most as u64 + 5, 0);
        assert_eq!(follows.due(1).len(), most);
        assert_eq!((follows.due(1), follows.next_deadline()), (vec![], Some(1 + limits::WHERE_MS)));
        let rest = follows.due(1 + limits::WHERE_MS);
        assert_eq!(rest, Vec::from_iter(most as u64..most as u64 + 5));
        assert_eq!(follows.next_deadline(), Some(1 + PAUSE_MS));
    }

    #[test]
    fn its_squares_are_left_with_it() {
        let squares = Squares::around(Place::from_e7(480_000_000, 110_000_000), 100.0);
        let mut follows = Follows::default();
        assert_eq!(follows.listen(7, squares), squares, "nobody follows it: nothing changes");
        follows.begin(7);
        assert_eq!(follows.listen(7, squares), Squares::NONE);
        assert_eq!(follows.iter().collect::<Vec<_>>(), [(7, squares)]);
        assert_eq!((follows.end(7), follows.end(7)), (squares, Squares::NONE));
    }
}
