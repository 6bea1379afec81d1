//! Which alerts of each worker of the other nodes have come, and what is asked for again.
//!
//! Numbers say what is missing; that nothing is told twice rests on the alerts' ids ([`super::seen`]). So whatever does
//! not fit here may be forgotten: it is asked for once more, and dropped.

use rustc_hash::FxHashMap;

use crate::limits;
use crate::shard::world::WorldId;

/// Who numbers: a worker in one run of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stream {
    /// In which world; each has numbers of its own.
    pub world: WorldId,
    /// The node's key.
    pub node: u64,
    /// The node's start, Unix ms.
    pub epoch: u64,
    /// Which of its workers.
    pub worker: u16,
}

/// Ask for alerts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    /// The first number that has not come.
    pub from: u64,
    /// Only those raised since then, Unix ms; 0: all that are kept.
    pub since: u64,
}

/// What has come from all streams.
pub struct Heard {
    started_ms: u64,
    /// What a run that began earlier than this said first, this node may not have been there to hear, or has forgotten.
    whole_from_ms: u64,
    runs: Runs,
    gaps: u64,
    untracked: u64,
}

/// The current run of each node.
#[derive(Default)]
struct Runs {
    nodes: FxHashMap<u64, Run>,
    streams: usize,
}

struct Run {
    epoch: u64,
    /// Of its workers, in each world.
    streams: FxHashMap<(WorldId, u16), Progress>,
}

/// How far one stream has come.
#[derive(Default)]
struct Progress {
    /// Every number up to this one has come, or will never come.
    settled: u64,
    /// What has come beyond it: first and last numbers, ascending, with something missing between any two.
    pieces: Vec<(u64, u64)>,
    /// The newest number that has been heard of.
    newest: u64,
    /// It is known where this stream begins for us: what is missing is missing since then.
    whole: bool,
    /// How often it was asked since it last came closer.
    asked: u32,
    /// Beats to let pass before it is asked again.
    pause: u32,
    /// A beat has told its newest number.
    told: bool,
}

/// Which message may begin another run of a node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begins {
    /// A beat: it says which run is there now, even if the node's clock was set back in between.
    AnyRun,
    /// Anything else may be a late word of the run before.
    LaterRun,
}

impl Heard {
    /// Nothing has come yet. `started_ms`: this node's start, Unix ms.
    pub fn new(started_ms: u64) -> Self {
        Heard { started_ms, whole_from_ms: started_ms, runs: Runs::default(), gaps: 0, untracked: 0 }
    }

    /// An alert has come; false: that number had come already. True does not promise that it had not: ids tell.
    pub fn alert(&mut self, from: Stream, seq: u64) -> bool {
        let is_number = (1..=limits::SEQ_MAX).contains(&seq);
        let progress = if is_number { self.runs.find(from, Begins::LaterRun, self.whole_from_ms) } else { None };
        let Some(progress) = progress else {
            self.untracked += 1;
            return true;
        };
        self.gaps += u64::from(progress.is_missing_any(seq - 1));
        progress.newest = progress.newest.max(seq);
        progress.came(seq)
    }

    /// A worker beats: `head` is its newest number. What to ask for, if anything is missing.
    pub fn beat(&mut self, from: Stream, head: u64) -> Option<Again> {
        let Some(progress) = self.runs.find(from, Begins::AnyRun, self.whole_from_ms) else {
            self.untracked += 1;
            return None;
        };
        progress.told = true;
        let head = head.min(limits::SEQ_MAX);
        self.gaps += u64::from(progress.is_missing_any(head));
        progress.newest = progress.newest.max(head);
        if progress.newest == progress.settled {
            progress.whole = true;
            return None;
        }
        if progress.pause > 0 {
            progress.pause -= 1;
            return None;
        }
        // At once, with the next beat, then after ever more of them: what can be repeated comes with the first or
        // second answer, and what nobody can read must not be repeated every second.
        progress.pause = (1 << progress.asked.min(16)).min(limits::AGAIN_PAUSE_BEATS_MAX) - 1;
        progress.asked += 1;
        // The clocks of two hosts need not agree, so they are compared only where nothing else tells what is too old.
        let since = if progress.whole { 0 } else { self.started_ms };
        Some(Again { from: progress.settled + 1, since })
    }

    /// The alerts before `to` cannot be repeated. How many of them had not come and are lost for good.
    pub fn resent(&mut self, from: Stream, to: u64) -> u64 {
        let progress = self.runs.find(from, Begins::LaterRun, self.whole_from_ms);
        progress.map_or(0, |progress| progress.settle(to.min(limits::SEQ_MAX)))
    }

    /// A node is dead.
    pub fn forget_node(&mut self, node: u64) {
        if let Some(run) = self.runs.nodes.remove(&node) {
            self.runs.streams -= run.streams.len();
            // Should this run come back, what it has said until now is forgotten, not lost.
            self.whole_from_ms = self.whole_from_ms.max(run.epoch.saturating_add(1));
        }
    }

    /// How often numbers turned out to be missing.
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    /// What could not be tracked: more than [`limits::ALERT_STREAMS_MAX`] streams, a run that is over, no number.
    pub fn untracked(&self) -> u64 {
        self.untracked
    }
}

impl Runs {
    /// The progress of a stream, which begins if there is room for it.
    fn find(&mut self, from: Stream, begins: Begins, whole_from_ms: u64) -> Option<&mut Progress> {
        let known = self.nodes.get(&from.node);
        let of_worker = (from.world, from.worker);
        let is_known = known.is_some_and(|run| run.epoch == from.epoch && run.streams.contains_key(&of_worker));
        if !is_known {
            if let Some(run) = known.filter(|run| run.epoch != from.epoch) {
                if begins == Begins::LaterRun && from.epoch < run.epoch {
                    return None;
                }
                self.streams -= run.streams.len();
                self.nodes.remove(&from.node);
            }
            if self.streams == limits::ALERT_STREAMS_MAX {
                return None;
            }
            self.streams += 1;
        }
        let run = self.nodes.entry(from.node);
        let run = run.or_insert_with(|| Run { epoch: from.epoch, streams: FxHashMap::default() });
        // Every beat tells the number of the world without tenants, and those of the tenants that have raised any. Of a
        // tenant that no beat had named until now everything is new.
        let of_default = run.streams.get(&(WorldId::default(), from.worker));
        let whole = from.epoch >= whole_from_ms || of_default.is_some_and(|progress| progress.told);
        Some(run.streams.entry(of_worker).or_insert_with(|| Progress { whole, ..Progress::default() }))
    }
}

impl Progress {
    /// Whether `newest` says for the first time that something has not come.
    fn is_missing_any(&self, newest: u64) -> bool {
        self.whole && newest > self.newest
    }

    /// A number has come; false: not for the first time.
    fn came(&mut self, seq: u64) -> bool {
        let at = self.pieces.partition_point(|(_, last)| *last < seq);
        if seq <= self.settled || self.pieces.get(at).is_some_and(|(first, _)| *first <= seq) {
            return false;
        }
        if seq == self.settled + 1 {
            self.settle_up_to(seq);
            return true;
        }
        let extends = at > 0 && self.pieces[at - 1].1 + 1 == seq;
        let precedes = self.pieces.get(at).is_some_and(|(first, _)| seq + 1 == *first);
        match (extends, precedes) {
            (true, true) => self.pieces[at - 1].1 = self.pieces.remove(at).1,
            (true, false) => self.pieces[at - 1].1 = seq,
            (false, true) => self.pieces[at].0 = seq,
            (false, false) if self.pieces.len() < limits::ALERT_PIECES_MAX => self.pieces.insert(at, (seq, seq)),
            (false, false) => {}
        }
        true
    }

    /// Nothing before `to` will come any more. How many numbers that loses.
    fn settle(&mut self, to: u64) -> u64 {
        // The first answer says where a stream begins for us: what came before was not ours to lose.
        let was_whole = std::mem::replace(&mut self.whole, true);
        if to <= self.settled + 1 {
            return 0;
        }
        let last = to - 1;
        let came = |(first, end): &(u64, u64)| (last.min(*end) + 1).saturating_sub(*first);
        let missing = last - self.settled - self.pieces.iter().map(came).sum::<u64>();
        self.pieces.retain(|(_, end)| *end > last);
        if let Some((first, _)) = self.pieces.first_mut() {
            *first = to.max(*first);
        }
        self.newest = self.newest.max(last);
        self.settle_up_to(last);
        // No node raises more alerts than this; a wrong number must not make the sum of many overflow.
        if was_whole { missing.min(u64::from(u32::MAX)) } else { 0 }
    }

    /// Moves on to `last`, and over what has come right behind it.
    fn settle_up_to(&mut self, last: u64) {
        self.settled = last;
        if self.pieces.first().is_some_and(|(first, _)| *first == last + 1) {
            self.settled = self.pieces.remove(0).1;
        }
        (self.asked, self.pause) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::backplane::alerts::AlertLog;
    use crate::shard::backplane::seen::Seen;
    use proptest::prelude::*;

    const STARTED_MS: u64 = 1_000;

    const WORKER: Stream = Stream { world: WorldId(0), node: 7, epoch: 2_000, worker: 0 };

    /// Its node was there before this one.
    const OLDER: Stream = Stream { world: WorldId(0), node: 8, epoch: 500, worker: 0 };

    fn heard() -> Heard {
        Heard::new(STARTED_MS)
    }

    /// Lets alerts come; which of them were new.
    fn come(heard: &mut Heard, from: Stream, numbers: impl IntoIterator<Item = u64>) -> Vec<u64> {
        numbers.into_iter().filter(|seq| heard.alert(from, *seq)).collect()
    }

    #[test]
    fn numbers_come_once_in_any_order() {
        let mut heard = heard();
        assert_eq!(come(&mut heard, WORKER, [1, 2, 2, 5, 4, 5, 1, 3, 4, 6, 6]), [1, 2, 5, 4, 3, 6]);
        assert_eq!(heard.gaps(), 1, "between 2 and 5; the rest came late");
        assert_eq!(heard.beat(WORKER, 6), None);
        let other = Stream { worker: 1, ..WORKER };
        assert_eq!(come(&mut heard, other, [1, 1]), [1], "each worker counts on its own");
    }

    #[test]
    fn a_gap_and_a_head_that_has_not_come_are_asked_for() {
        let mut heard = heard();
        assert_eq!(heard.beat(WORKER, 0), None);
        come(&mut heard, WORKER, [1, 3]);
        assert_eq!(heard.gaps(), 1);
        assert_eq!(heard.beat(WORKER, 3), Some(Again { from: 2, since: 0 }));
        come(&mut heard, WORKER, [2]);
        assert_eq!(heard.beat(WORKER, 3), None);
        assert_eq!(heard.beat(WORKER, 5), Some(Again { from: 4, since: 0 }));
        assert_eq!(heard.gaps(), 2);
        assert_eq!(come(&mut heard, WORKER, [4, 5]), [4, 5]);
        assert_eq!(heard.beat(WORKER, 4), None, "a late beat asks for nothing");
        assert_eq!(heard.gaps(), 2);
    }

    #[test]
    fn what_never_comes_is_asked_for_ever_more_rarely_until_something_comes() {
        let mut heard = heard();
        let asked = |heard: &mut Heard| heard.beat(WORKER, 9).is_some();
        let beats: Vec<usize> = (0..300).filter(|_| asked(&mut heard)).collect();
        assert_eq!(beats, [0, 1, 3, 7, 15, 31, 63, 127, 191, 255]);
        come(&mut heard, WORKER, [2]);
        assert!(!asked(&mut heard), "still the same one is missing");
        come(&mut heard, WORKER, [1]);
        assert_eq!(heard.beat(WORKER, 9), Some(Again { from: 3, since: 0 }));
        assert_eq!(heard.beat(WORKER, 9), Some(Again { from: 3, since: 0 }));
        assert_eq!(heard.beat(WORKER, 9), None);
    }

    #[test]
    fn what_cannot_be_repeated_is_lost_and_counted_once() {
        let mut heard = heard();
        come(&mut heard, WORKER, [1, 4, 8, 9]);
        assert_eq!(heard.resent(WORKER, 7), 4, "2, 3, 5, 6");
        assert_eq!(heard.resent(WORKER, 7), 0);
        assert_eq!(come(&mut heard, WORKER, [4, 6, 7, 9]), [7]);
        assert_eq!(heard.beat(WORKER, 9), None);
        come(&mut heard, WORKER, [11, 12, 13]);
        assert_eq!(heard.resent(WORKER, 13), 1, "in the midst of a piece");
        assert_eq!(heard.beat(WORKER, 13), None);
        assert_eq!(heard.resent(WORKER, 20), 6, "more than had been heard of");
        assert_eq!(heard.beat(WORKER, 19), None);
    }

    #[test]
    fn an_older_node_is_asked_for_what_it_raised_since_the_start_here() {
        let mut heard = heard();
        assert_eq!(come(&mut heard, OLDER, [500, 501]), [500, 501]);
        assert_eq!(heard.beat(OLDER, 501), Some(Again { from: 1, since: STARTED_MS }));
        assert_eq!(heard.resent(OLDER, 498), 0, "what was before is not lost");
        assert_eq!(heard.gaps(), 0);
        assert_eq!(heard.beat(OLDER, 501), Some(Again { from: 498, since: 0 }), "here it begins, whatever clocks say");
        assert_eq!(come(&mut heard, OLDER, [498, 499, 500]), [498, 499]);
        assert_eq!(heard.beat(OLDER, 501), None);
        come(&mut heard, OLDER, [503]);
        assert_eq!((heard.gaps(), heard.resent(OLDER, 503)), (1, 1));
    }

    #[test]
    fn a_new_run_begins_at_one_and_late_words_of_the_old_run_change_nothing() {
        let mut heard = heard();
        come(&mut heard, WORKER, [1, 2, 3]);
        let restarted = Stream { epoch: WORKER.epoch + 1, ..WORKER };
        assert_eq!(come(&mut heard, restarted, [1, 2]), [1, 2]);
        assert_eq!(come(&mut heard, WORKER, [3, 4]), [3, 4], "their ids will tell");
        assert_eq!(heard.resent(WORKER, 9), 0);
        assert_eq!(come(&mut heard, restarted, [2, 3]), [3]);
        assert_eq!(heard.untracked(), 2);
        assert_eq!(heard.beat(WORKER, 0), None, "the clock there was set back, and this run is the one that beats");
        assert_eq!(come(&mut heard, WORKER, [1]), [1]);
    }

    #[test]
    fn each_world_has_its_numbers() {
        let mut heard = heard();
        let of = |world| Stream { world: WorldId(world), ..WORKER };
        assert_eq!(come(&mut heard, of(2), [1, 2, 4]), [1, 2, 4]);
        assert_eq!(come(&mut heard, of(3), [1]), [1], "what another tenant has heard is not heard here");
        assert_eq!(heard.beat(of(2), 4), Some(Again { from: 3, since: 0 }));
        assert_eq!((heard.beat(of(3), 1), heard.beat(of(0), 0)), (None, None));
        assert_eq!((heard.resent(of(3), 9), heard.resent(of(2), 4)), (7, 1));
        heard.forget_node(WORKER.node);
        assert_eq!((heard.runs.streams, heard.runs.nodes.len()), (0, 0));
    }

    #[test]
    fn of_a_tenant_that_no_beat_had_named_everything_is_new() {
        let mut heard = heard();
        let (early, late) = (Stream { world: WorldId(2), ..OLDER }, Stream { world: WorldId(3), ..OLDER });
        assert_eq!(heard.beat(early, 5), Some(Again { from: 1, since: STARTED_MS }), "some of it was before the start");
        assert_eq!(heard.beat(OLDER, 0), None);
        assert_eq!(heard.beat(late, 1), Some(Again { from: 1, since: 0 }), "its first alert, after a beat without any");
        let other = Stream { worker: 1, ..late };
        assert_eq!(heard.beat(other, 1), Some(Again { from: 1, since: STARTED_MS }), "its first beat names it already");
    }

    #[test]
    fn a_node_that_comes_back_from_the_dead_has_lost_nothing() {
        let mut heard = heard();
        come(&mut heard, WORKER, 1..=100);
        heard.forget_node(WORKER.node);
        heard.forget_node(WORKER.node);
        assert_eq!(heard.beat(WORKER, 101), Some(Again { from: 1, since: STARTED_MS }));
        assert_eq!(heard.resent(WORKER, 91), 0);
        assert_eq!(come(&mut heard, WORKER, 91..=101).len(), 11, "their ids will tell");
        assert_eq!((heard.beat(WORKER, 101), heard.gaps()), (None, 0));
    }

    #[test]
    fn pieces_beyond_the_bound_are_asked_for_once_more() {
        let mut heard = heard();
        let odd = || (0..1_000).map(|count| 3 + 2 * count);
        assert_eq!(come(&mut heard, WORKER, odd()).len(), 1_000);
        assert_eq!(heard.runs.nodes[&WORKER.node].streams[&(WorldId(0), 0)].pieces.len(), limits::ALERT_PIECES_MAX);
        let again = come(&mut heard, WORKER, 1..=2_001);
        assert_eq!(again.len(), 2_001 - limits::ALERT_PIECES_MAX);
        assert_eq!(heard.beat(WORKER, 2_001), None);
    }

    #[test]
    fn streams_are_bounded_and_room_comes_back() {
        let mut heard = heard();
        for worker in 0..limits::ALERT_STREAMS_MAX {
            assert!(heard.alert(Stream { worker: worker as u16, ..WORKER }, 1));
        }
        assert_eq!((heard.beat(OLDER, 3), heard.untracked()), (None, 1));
        assert!(heard.alert(OLDER, 1) && heard.alert(OLDER, 1), "without numbers, ids tell");
        assert_eq!(heard.beat(Stream { epoch: WORKER.epoch + 1, ..WORKER }, 0), None);
        assert!(heard.beat(OLDER, 3).is_some());
        heard.forget_node(WORKER.node);
        heard.forget_node(OLDER.node);
        assert_eq!((heard.runs.streams, heard.runs.nodes.len()), (0, 0));
    }

    #[test]
    fn no_number_is_too_large() {
        let mut heard = heard();
        for seq in [0, limits::SEQ_MAX + 1, u64::MAX] {
            assert!(heard.alert(WORKER, seq));
        }
        assert!(heard.beat(WORKER, u64::MAX).is_some());
        assert!(heard.resent(WORKER, u64::MAX) > 0);
        assert!(heard.alert(WORKER, limits::SEQ_MAX));
        assert!(!heard.alert(WORKER, limits::SEQ_MAX));
        assert_eq!(heard.beat(WORKER, u64::MAX), None);
        assert_eq!(heard.resent(WORKER, 0), 0);
        heard.forget_node(WORKER.node);
        let last = Stream { epoch: u64::MAX, ..WORKER };
        assert!(heard.alert(last, 1));
        heard.forget_node(last.node);
    }

    /// What is on its way between a sender and a receiver.
    #[derive(Clone, Debug)]
    enum Message {
        Alert { seq: u64, id: String },
        Beat { head: u64 },
        Again(Again),
        Resent { to: u64 },
    }

    /// A worker, a host that listens to it, and a network that loses, doubles and overtakes.
    struct Pair {
        stream: Stream,
        log: AlertLog,
        clock_ms: u64,
        under_way: Vec<u64>,
        network: Vec<Message>,
        heard: Heard,
        seen: Seen,
        delivered: Vec<String>,
        lost: u64,
    }

    impl Pair {
        fn new(stream: Stream, most: usize) -> Pair {
            Pair {
                stream,
                log: AlertLog::new(most),
                clock_ms: stream.epoch,
                under_way: Vec::new(),
                network: Vec::new(),
                heard: heard(),
                seen: Seen::default(),
                delivered: Vec::new(),
                lost: 0,
            }
        }

        fn raise(&mut self) {
            self.clock_ms += 10;
            let id = format!("alert {}", self.log.head() + 1);
            self.log.push(self.clock_ms, id.into_bytes().into());
        }

        fn publish(&mut self) {
            while let Some(alert) = self.log.next_unpublished() {
                self.under_way.push(alert.seq);
                self.network.push(message(&alert));
            }
        }

        fn answered(&mut self, well: bool) {
            for seq in self.under_way.drain(..) {
                if well { self.log.published(seq) } else { self.log.not_published(seq) }
            }
        }

        fn beat(&mut self) {
            self.network.push(Message::Beat { head: self.log.head() });
        }

        fn arrive(&mut self, at: usize) {
            match self.network.remove(at) {
                Message::Alert { seq, id } => {
                    if self.heard.alert(self.stream, seq) && self.seen.insert(self.stream.world, &id) {
                        self.delivered.push(id);
                    }
                }
                Message::Beat { head } => {
                    self.network.extend(self.heard.beat(self.stream, head).map(Message::Again));
                }
                Message::Again(Again { from, since }) => {
                    self.network.push(Message::Resent { to: self.log.first_since(since) });
                    self.network.extend(self.log.since(from, since).map(message));
                }
                Message::Resent { to } => self.lost += self.heard.resent(self.stream, to),
            }
        }

        /// The network keeps everything from now on, and all have time.
        fn calm(&mut self) {
            for _ in 0..2 * limits::AGAIN_PAUSE_BEATS_MAX {
                self.publish();
                self.answered(true);
                self.beat();
                while !self.network.is_empty() {
                    self.arrive(0);
                }
                let progress =
                    &self.heard.runs.nodes[&self.stream.node].streams[&(self.stream.world, self.stream.worker)];
                if progress.settled == self.log.head() {
                    return;
                }
            }
            panic!("it still asks");
        }
    }

    fn message(alert: &crate::shard::backplane::alerts::Alert) -> Message {
        Message::Alert { seq: alert.seq, id: String::from_utf8(alert.text.to_vec()).unwrap() }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Raise,
        Publish,
        Answered(bool),
        LinkLost,
        Beat,
        Arrive(usize),
        Lose(usize),
        Double(usize),
        ReceiverLost,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            5 => Just(Op::Raise),
            5 => Just(Op::Publish),
            3 => any::<bool>().prop_map(Op::Answered),
            1 => Just(Op::LinkLost),
            3 => Just(Op::Beat),
            12 => any::<usize>().prop_map(Op::Arrive),
            4 => any::<usize>().prop_map(Op::Lose),
            2 => any::<usize>().prop_map(Op::Double),
            1 => Just(Op::ReceiverLost),
        ]
    }

    fn run(pair: &mut Pair, ops: Vec<Op>) {
        for op in ops {
            let pick = |at: usize, network: &[Message]| at.checked_rem(network.len());
            match op {
                Op::Raise => pair.raise(),
                Op::Publish => pair.publish(),
                Op::Answered(well) => pair.answered(well),
                Op::LinkLost => {
                    pair.under_way.clear();
                    pair.log.link_lost();
                }
                Op::Beat => pair.beat(),
                Op::Arrive(at) => {
                    if let Some(at) = pick(at, &pair.network) {
                        pair.arrive(at);
                    }
                }
                Op::Lose(at) => {
                    if let Some(at) = pick(at, &pair.network) {
                        pair.network.remove(at);
                    }
                }
                Op::Double(at) => {
                    if let Some(at) = pick(at, &pair.network) {
                        pair.network.push(pair.network[at].clone());
                    }
                }
                Op::ReceiverLost => pair.network.clear(),
            }
        }
    }

    fn is_delivered_once(pair: &Pair) {
        let mut ids = pair.delivered.clone();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), pair.delivered.len(), "nothing was delivered twice");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn whatever_the_network_does_each_alert_comes_once_or_is_counted_as_lost(
            most in 1..12usize,
            ops in prop::collection::vec(op(), 1..200),
        ) {
            let mut pair = Pair::new(WORKER, most);
            run(&mut pair, ops);
            pair.calm();
            is_delivered_once(&pair);
            for alert in pair.log.since(1, 0) {
                let id = std::str::from_utf8(&alert.text).unwrap();
                prop_assert!(pair.delivered.iter().any(|delivered| delivered == id), "{id} is kept and has not come");
            }
            prop_assert_eq!(pair.delivered.len() as u64 + pair.lost, pair.log.head());
            prop_assert_eq!(pair.log.kept_for_retry(), 0);
        }

        #[test]
        fn of_an_older_node_everything_since_the_start_comes(
            before in 0..120u64,
            most in 1..12usize,
            ops in prop::collection::vec(op(), 1..200),
        ) {
            let mut pair = Pair::new(OLDER, most);
            (0..before).for_each(|_| pair.raise());
            run(&mut pair, ops);
            pair.calm();
            is_delivered_once(&pair);
            for alert in pair.log.since(1, STARTED_MS) {
                let id = std::str::from_utf8(&alert.text).unwrap();
                prop_assert!(pair.delivered.iter().any(|delivered| delivered == id), "{id} is kept and has not come");
            }
        }
    }
}
