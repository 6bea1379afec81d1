//! Which squares this host listens to: those that its own vehicles can see into, those that its connections watch, and
//! those of vehicles that they follow.
//!
//! Squares are counted, not computed anew: a vehicle that moves within its squares changes nothing. One that crosses a
//! border to and fro keeps the squares on both sides, because a square is forgotten only some time after the last one
//! who saw into it.
//!
//! All shards of a host count alike. The one that listens to a square decides when it is forgotten, and tells the
//! others: what is known of a square is known to all of them, or to none.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::geo::{Square, Squares};
use crate::limits;

/// What has to be done about a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Listen to it.
    Want(Square),
    /// Stop listening to it.
    Leave(Square),
    /// Forget whom it told of.
    Forget(Square),
}

/// The squares that a host listens to. There are at most [`Square::COUNT`].
#[derive(Debug)]
pub struct Interest {
    shard: u16,
    shards: u16,
    /// By which the squares are spread over the shards.
    seed: u64,
    squares: FxHashMap<Square, Watch>,
    /// Wanted since the last call of `due`, of those that this shard listens to.
    fresh: Vec<Square>,
    /// Squares that nobody sees into, by the time at which they are forgotten.
    lingering: BTreeSet<(u64, Square)>,
}

#[derive(Clone, Copy, Debug)]
enum Watch {
    /// So many see into it, at least one.
    Seen(u32),
    /// Nobody does; it is forgotten at this time, or when the shard that listens says so.
    Lingers(u64),
}

impl Interest {
    /// Nothing yet, on shard `shard` out of `shards`.
    pub fn new(shard: u16, shards: u16) -> Interest {
        let (squares, fresh, lingering) = (FxHashMap::default(), Vec::new(), BTreeSet::new());
        Interest { shard, shards, seed: 0, squares, fresh, lingering }
    }

    /// Spreads the squares over the shards by another hash than that without a seed. For one that has none yet.
    pub fn spread_by(self, seed: u64) -> Interest {
        Interest { seed, ..self }
    }

    /// Which shard of this host listens to a square.
    pub fn listener_of(&self, square: Square) -> u16 {
        (xxh3_64_with_seed(&square.name(), self.seed) % u64::from(self.shards)) as u16
    }

    fn is_mine(&self, square: Square) -> bool {
        self.listener_of(square) == self.shard
    }

    /// Somebody's squares have changed; [`Squares::NONE`] before it comes and after it has gone.
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
            Some(Watch::Seen(count)) => *count += 1,
            Some(watch) => {
                if let Watch::Lingers(until) = *watch {
                    self.lingering.remove(&(until, square));
                }
                *watch = Watch::Seen(1);
            }
            None => {
                self.squares.insert(square, Watch::Seen(1));
                if self.is_mine(square) {
                    self.fresh.push(square);
                }
            }
        }
    }

    fn leave(&mut self, square: Square, now_ms: u64) {
        match self.squares.get_mut(&square) {
            Some(Watch::Seen(count)) if *count > 1 => *count -= 1,
            Some(Watch::Seen(_)) => self.linger(square, now_ms),
            _ => debug_assert!(false, "nobody sees into {square:?}"),
        }
    }

    fn linger(&mut self, square: Square, now_ms: u64) {
        let linger_ms = if self.is_mine(square) { limits::SQUARE_LINGER_MS } else { limits::SQUARE_KEPT_MS };
        self.squares.insert(square, Watch::Lingers(now_ms + linger_ms));
        self.lingering.insert((now_ms + linger_ms, square));
    }

    /// What has to be done by now, in order. Each change is told once.
    pub fn due(&mut self, now_ms: u64) -> Vec<Change> {
        let mut changes: Vec<Change> = self.fresh.drain(..).map(Change::Want).collect();
        while let Some(&(until, square)) = self.lingering.first().filter(|(until, _)| *until <= now_ms) {
            self.lingering.remove(&(until, square));
            self.squares.remove(&square);
            changes.extend(self.is_mine(square).then_some(Change::Leave(square)));
            changes.push(Change::Forget(square));
        }
        changes
    }

    /// When `due` has something next; 0 if it has already.
    pub fn next_deadline(&self) -> Option<u64> {
        if self.fresh.is_empty() { self.lingering.first().map(|(until, _)| *until) } else { Some(0) }
    }

    /// The shard that listens to a square has heard something there. It is kept, although nobody has said here yet why.
    pub fn heard(&mut self, square: Square, now_ms: u64) {
        if !self.wants(square) {
            self.linger(square, now_ms);
        }
    }

    /// The shard that listens to a square has forgotten it. Whether this one does too: who sees into it again meanwhile
    /// has that shard listen anew.
    pub fn forgotten(&mut self, square: Square) -> bool {
        let Some(&Watch::Lingers(until)) = self.squares.get(&square) else { return false };
        self.lingering.remove(&(until, square));
        self.squares.remove(&square);
        true
    }

    /// Whether this host listens to a square, or is about to. Squares that nobody sees into are still wanted for a
    /// while.
    pub fn wants(&self, square: Square) -> bool {
        self.squares.contains_key(&square)
    }

    /// Every square that is wanted and how many see into it, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (Square, u32)> {
        self.squares.iter().map(|(square, watch)| match *watch {
            Watch::Seen(count) => (*square, count),
            Watch::Lingers(_) => (*square, 0),
        })
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
    use std::collections::{BTreeMap, BTreeSet, VecDeque};

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
        let mut interest = Interest::new(0, 1);
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
        assert_eq!(interest.due(300 + LINGER_MS), [Change::Leave(square), Change::Forget(square)]);
        assert!(!interest.wants(square) && interest.is_empty());

        interest.moved(Squares::NONE, squares, 400 + LINGER_MS);
        assert_eq!(interest.due(400 + LINGER_MS), [Change::Want(square)]);
    }

    #[test]
    fn a_way_to_and_fro_across_a_border_changes_nothing() {
        let mut interest = Interest::new(0, 1);
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

    #[test]
    fn who_does_not_listen_keeps_a_square_until_it_is_told() {
        let (squares, square) = alone(1, 1);
        let listener = Interest::new(0, 3).listener_of(square);
        let mut interest = Interest::new((listener + 1) % 3, 3);
        interest.moved(Squares::NONE, squares, 0);
        assert_eq!((interest.due(0), interest.next_deadline()), (vec![], None));
        assert!(!interest.forgotten(square), "somebody sees into it again");
        interest.moved(squares, Squares::NONE, 1);
        assert_eq!((interest.due(LINGER_MS + 1), interest.next_deadline()), (vec![], Some(1 + limits::SQUARE_KEPT_MS)));
        assert!(interest.wants(square) && interest.forgotten(square));
        assert!(!interest.wants(square) && !interest.forgotten(square) && interest.next_deadline().is_none());
        interest.heard(square, 100);
        assert!(interest.wants(square), "whoever sees into it has not said so yet");
        interest.moved(Squares::NONE, squares, 200);
        interest.heard(square, 300);
        assert_eq!((interest.iter().collect::<Vec<_>>(), interest.next_deadline()), (vec![(square, 1)], None));
        interest.moved(squares, Squares::NONE, 400);
        assert_eq!(interest.due(400 + limits::SQUARE_KEPT_MS), [Change::Forget(square)], "it has been told too early");
        assert!(interest.is_empty());
    }

    /// What one shard of a host tells another.
    #[derive(Clone, Debug)]
    enum Note {
        Moved(Squares, Squares),
        Forgotten(Square),
        /// Positions, heard by the so many-th subscription.
        Heard(Square, u32),
    }

    /// The shards of a host, and what is on its way between them, in order.
    #[derive(Default)]
    struct Host {
        shards: Vec<Interest>,
        /// By sender and receiver, with the time of sending.
        ways: BTreeMap<(usize, usize), VecDeque<(u64, Note)>>,
        /// What each shard knows of each square: the subscription by which it was heard.
        known: [BTreeMap<Square, u32>; 3],
        /// The listeners' subscriptions.
        listening: BTreeMap<Square, u32>,
        subscriptions: u32,
        now_ms: u64,
    }

    impl Host {
        fn tell(&mut self, from: usize, note: &Note) {
            for to in (0..3).filter(|to| *to != from) {
                self.ways.entry((from, to)).or_default().push_back((self.now_ms, note.clone()));
            }
        }

        fn look(&mut self, shard: usize, from: Squares, to: Squares) {
            self.shards[shard].moved(from, to, self.now_ms);
            self.tell(shard, &Note::Moved(from, to));
            self.settle();
        }

        fn deliver(&mut self, from: usize, to: usize) {
            let interest = &mut self.shards[to];
            match self.ways.get_mut(&(from, to)).and_then(VecDeque::pop_front) {
                None => {}
                Some((_, Note::Moved(before, after))) => interest.moved(before, after, self.now_ms),
                Some((_, Note::Forgotten(square))) if interest.forgotten(square) => {
                    self.known[to].remove(&square);
                }
                Some((_, Note::Forgotten(_))) => {}
                Some((_, Note::Heard(square, subscription))) => {
                    interest.heard(square, self.now_ms);
                    self.known[to].insert(square, subscription);
                }
            }
            self.settle();
        }

        /// Everything arrives that was sent before then.
        fn deliver_before(&mut self, before_ms: u64) {
            while let Some(way) = self
                .ways
                .iter()
                .find_map(|(way, notes)| notes.front().filter(|(sent_ms, _)| *sent_ms < before_ms).map(|_| *way))
            {
                self.deliver(way.0, way.1);
            }
        }

        /// Listeners begin to listen, and hear something at once; or they forget.
        fn settle(&mut self) {
            for shard in 0..self.shards.len() {
                for change in self.shards[shard].due(self.now_ms) {
                    match change {
                        Change::Want(square) => {
                            self.subscriptions += 1;
                            assert_eq!(self.listening.insert(square, self.subscriptions), None);
                            self.known[shard].insert(square, self.subscriptions);
                            self.tell(shard, &Note::Heard(square, self.subscriptions));
                        }
                        Change::Leave(square) => {
                            assert!(self.listening.remove(&square).is_some());
                            self.tell(shard, &Note::Forgotten(square));
                        }
                        Change::Forget(square) => drop(self.known[shard].remove(&square)),
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// Views come, move and go on any shard, and what shards tell each other comes late, but in order.
        #[test]
        fn what_a_host_hears_all_its_shards_know(
            steps in vec(
                (
                    0..3usize,
                    prop::option::weighted(0.6, (-2..2i32, -2..2i32)),
                    0..LINGER_MS / 2,
                    vec((0..3usize, 0..3usize), 0..12),
                ),
                1..80,
            ),
            late_ms in prop_oneof![Just(LINGER_MS - 1), Just(4 * LINGER_MS)],
        ) {
            let shards = (0..3).map(|shard| Interest::new(shard, 3)).collect();
            let mut host = Host { shards, now_ms: 10 * LINGER_MS, ..Host::default() };
            let mut views = [Squares::NONE; 3];
            for (at, to, pause_ms, delivered) in steps {
                for _ in 0..pause_ms / 100 {
                    host.now_ms += 100;
                    host.deliver_before(host.now_ms - late_ms);
                    host.settle();
                }
                let to = to.map_or(Squares::NONE, |(north, east)| view(north, east));
                host.look(at, std::mem::replace(&mut views[at], to), to);
                delivered.into_iter().for_each(|(from, to)| host.deliver(from, to));
            }
            host.deliver_before(u64::MAX);
            let seen: BTreeMap<Square, u32> = views.iter().flat_map(|view| view.iter()).fold(
                BTreeMap::new(),
                |mut seen, square| { *seen.entry(square).or_default() += 1; seen },
            );
            for (interest, known) in host.shards.iter().zip(&host.known) {
                prop_assert_eq!(interest.iter().filter(|(_, count)| *count > 0).collect::<BTreeMap<_, _>>(), seen.clone());
                prop_assert!(late_ms >= LINGER_MS || *known == host.listening);
                prop_assert!(known.keys().all(|square| interest.wants(*square)), "it will never be forgotten");
            }
            for (shard, from) in views.into_iter().enumerate() {
                host.look(shard, from, Squares::NONE);
            }
            host.deliver_before(u64::MAX);
            host.now_ms += limits::SQUARE_KEPT_MS;
            host.settle();
            host.deliver_before(u64::MAX);
            prop_assert!(host.shards.iter().all(Interest::is_empty) && host.known.iter().all(BTreeMap::is_empty));
            prop_assert!(host.listening.is_empty());
        }

        #[test]
        fn it_listens_to_what_a_recount_finds(
            steps in vec((0..4usize, prop::option::weighted(0.8, (-6..6i32, -8..8i32)), 0..LINGER_MS), 1..80),
        ) {
            let mut interest = Interest::new(0, 1);
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
                        Change::Leave(square) => prop_assert!(listening.remove(&square), "left twice"),
                        Change::Forget(square) => prop_assert!(!listening.contains(&square), "forgotten and not left"),
                    }
                }
                let is_seen = |square: &Square| vehicles.iter().any(|squares| squares.contains(*square));
                for (square, count) in interest.iter() {
                    let seeing = vehicles.iter().filter(|squares| squares.contains(square)).count();
                    prop_assert_eq!(seeing, count as usize);
                }
                seen_ms.retain(|square, seen_ms| is_seen(square) || *seen_ms + LINGER_MS > now_ms);
                prop_assert_eq!(&listening, &seen_ms.keys().copied().collect::<BTreeSet<_>>());
                prop_assert_eq!(&listening, &interest.iter().map(|(square, _)| square).collect::<BTreeSet<_>>());
                prop_assert_eq!(interest.len(), listening.len());
                prop_assert!(listening.iter().all(|square| interest.wants(*square)));
                let next = seen_ms.iter().filter(|(square, _)| !is_seen(square)).map(|(_, ms)| ms + LINGER_MS).min();
                prop_assert_eq!(interest.next_deadline(), next);
            }
        }
    }
}
