//! The newest alerts of this worker with their numbers: what the other hosts must hear, however often the link breaks.

use std::collections::VecDeque;
use std::sync::Arc;

/// An alert as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Counts the alerts of this worker from 1.
    pub seq: u64,
    /// When it was raised, Unix ms.
    pub raised_ms: u64,
    /// The whole event as JSON text.
    pub text: Arc<[u8]>,
}

/// What became of a new alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Its number.
    pub seq: u64,
    /// An older one that had not been published was dropped to make room.
    pub dropped_unpublished: bool,
}

/// The newest alerts, published or not, under consecutive numbers.
pub struct AlertLog {
    kept: VecDeque<(Alert, Stage)>,
    most: usize,
    head: u64,
    /// None before this one waits.
    waiting_from: u64,
    unpublished: usize,
}

/// How far publishing an alert has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    UnderWay,
    Published,
}

impl AlertLog {
    /// An empty log that keeps `most` alerts, and one in any case: it has to be somewhere until it is published.
    pub fn new(most: usize) -> Self {
        AlertLog { kept: VecDeque::new(), most: most.max(1), head: 0, waiting_from: 1, unpublished: 0 }
    }

    /// Numbers a new alert and keeps it; the oldest one makes room.
    pub fn push(&mut self, raised_ms: u64, text: Arc<[u8]>) -> Pushed {
        let mut dropped_unpublished = false;
        if self.kept.len() == self.most
            && let Some((_, stage)) = self.kept.pop_front()
            && stage != Stage::Published
        {
            self.unpublished -= 1;
            dropped_unpublished = true;
        }
        self.head += 1;
        self.kept.push_back((Alert { seq: self.head, raised_ms, text }, Stage::Waiting));
        self.unpublished += 1;
        Pushed { seq: self.head, dropped_unpublished }
    }

    /// The oldest alert that waits to be published. It is under way from now on.
    pub fn next_unpublished(&mut self) -> Option<Alert> {
        let from = self.position(self.waiting_from.max(self.tail()))?;
        let waiting = self.kept.range_mut(from..).find(|(_, stage)| *stage == Stage::Waiting);
        self.waiting_from = waiting.as_ref().map_or(self.head, |(alert, _)| alert.seq) + 1;
        waiting.map(|(alert, stage)| {
            *stage = Stage::UnderWay;
            alert.clone()
        })
    }

    /// The server has answered: it has this one.
    pub fn published(&mut self, seq: u64) {
        if let Some((_, stage)) = self.entry(seq)
            && *stage != Stage::Published
        {
            *stage = Stage::Published;
            self.unpublished -= 1;
        }
    }

    /// The server has refused this one, or nobody knows: it is to be sent again.
    pub fn not_published(&mut self, seq: u64) {
        if let Some((_, stage)) = self.entry(seq)
            && *stage == Stage::UnderWay
        {
            *stage = Stage::Waiting;
            self.waiting_from = self.waiting_from.min(seq);
        }
    }

    /// The link broke: everything under way is to be sent again.
    pub fn link_lost(&mut self) {
        for (_, stage) in self.kept.iter_mut().filter(|(_, stage)| *stage == Stage::UnderWay) {
            *stage = Stage::Waiting;
        }
        self.waiting_from = self.tail();
    }

    /// How many have not been published.
    pub fn kept_for_retry(&self) -> usize {
        self.unpublished
    }

    /// Whether [`AlertLog::next_unpublished`] may have one.
    pub fn may_have_unpublished(&self) -> bool {
        self.waiting_from <= self.head
    }

    /// The newest number; 0: there has been none.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The oldest number that is kept; the one to come if none is.
    pub fn tail(&self) -> u64 {
        self.head + 1 - self.kept.len() as u64
    }

    /// The oldest kept alert that was raised since then, by its number; the number to come if there is none. What is
    /// before it cannot be repeated.
    pub fn first_since(&self, since_ms: u64) -> u64 {
        self.kept.iter().find(|(alert, _)| alert.raised_ms >= since_ms).map_or(self.head + 1, |(alert, _)| alert.seq)
    }

    /// The kept alerts with numbers from `from` on and from [`AlertLog::first_since`] on, oldest first. There is no gap
    /// in them, even if the clock was set back meanwhile.
    pub fn since(&self, from: u64, since_ms: u64) -> impl Iterator<Item = &Alert> {
        let first = from.max(self.first_since(since_ms));
        let skipped = self.position(first).unwrap_or(self.kept.len());
        self.kept.range(skipped..).map(|(alert, _)| alert)
    }

    /// Where the alert with that number is.
    fn position(&self, seq: u64) -> Option<usize> {
        let position = usize::try_from(seq.checked_sub(self.tail())?).ok()?;
        (position < self.kept.len()).then_some(position)
    }

    fn entry(&mut self, seq: u64) -> Option<&mut (Alert, Stage)> {
        let position = self.position(seq)?;
        self.kept.get_mut(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text() -> Arc<[u8]> {
        Arc::from(*b"{}")
    }

    fn log(most: usize, alerts: u64) -> AlertLog {
        let mut log = AlertLog::new(most);
        for count in 1..=alerts {
            assert_eq!(log.push(count * 10, text()).seq, count);
        }
        log
    }

    fn unpublished(log: &mut AlertLog) -> Vec<u64> {
        std::iter::from_fn(|| log.next_unpublished()).map(|alert| alert.seq).collect()
    }

    fn since(log: &AlertLog, from: u64, since_ms: u64) -> Vec<u64> {
        log.since(from, since_ms).map(|alert| alert.seq).collect()
    }

    #[test]
    fn alerts_are_published_oldest_first_and_again_until_the_server_has_them() {
        let mut log = log(10, 4);
        assert_eq!(unpublished(&mut log), [1, 2, 3, 4]);
        assert_eq!(log.kept_for_retry(), 4);
        assert_eq!(unpublished(&mut log), [0; 0], "all are under way");
        assert!(!log.may_have_unpublished());
        log.published(1);
        log.not_published(3);
        assert_eq!(unpublished(&mut log), [3]);
        log.published(3);
        log.link_lost();
        assert_eq!(unpublished(&mut log), [2, 4]);
        log.published(2);
        log.published(4);
        log.published(4);
        log.not_published(4);
        log.link_lost();
        assert_eq!(unpublished(&mut log), [0; 0]);
        assert_eq!(log.kept_for_retry(), 0);
    }

    #[test]
    fn a_full_log_drops_the_oldest_and_says_whether_it_had_been_published() {
        let mut log = log(2, 2);
        assert_eq!(log.next_unpublished().map(|alert| alert.seq), Some(1));
        log.published(1);
        assert_eq!(log.push(30, text()), Pushed { seq: 3, dropped_unpublished: false });
        assert_eq!(log.push(40, text()), Pushed { seq: 4, dropped_unpublished: true });
        assert_eq!((log.tail(), log.head(), log.kept_for_retry()), (3, 4, 2));
        log.published(2);
        log.not_published(1);
        assert_eq!(log.kept_for_retry(), 2, "answers for what is not kept any more change nothing");
        assert_eq!(unpublished(&mut log), [3, 4]);
    }

    #[test]
    fn a_repetition_begins_with_what_is_asked_for_is_kept_and_is_young_enough() {
        let mut log = log(3, 5);
        assert_eq!(since(&log, 1, 0), [3, 4, 5]);
        assert_eq!(since(&log, 4, 0), [4, 5]);
        assert_eq!(since(&log, 1, 45), [5]);
        assert_eq!(since(&log, 6, 0), [0; 0]);
        assert_eq!(since(&log, u64::MAX, u64::MAX), [0; 0]);
        assert_eq!((log.first_since(0), log.first_since(40), log.first_since(51)), (3, 4, 6));
        log.push(1, text());
        assert_eq!(since(&log, 1, 45), [5, 6], "the clock was set back, and 6 came after 5 all the same");
        let empty = AlertLog::new(3);
        assert_eq!((empty.head(), empty.tail(), empty.first_since(0)), (0, 1, 1));
        assert_eq!(since(&empty, 1, 0), [0; 0]);
    }

    #[test]
    fn a_log_of_nothing_keeps_the_alert_that_is_to_be_published() {
        let mut log = log(0, 2);
        assert_eq!((log.tail(), log.head()), (2, 2));
        assert_eq!(unpublished(&mut log), [2]);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push,
        Next,
        Published(u64),
        NotPublished(u64),
        LinkLost,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => Just(Op::Push),
            3 => Just(Op::Next),
            2 => (0..40u64).prop_map(Op::Published),
            2 => (0..40u64).prop_map(Op::NotPublished),
            1 => Just(Op::LinkLost),
        ]
    }

    proptest! {
        /// Against the plainest model: all alerts ever, with their stages.
        #[test]
        fn the_log_is_the_newest_part_of_all_alerts(most in 1..9usize, ops in prop::collection::vec(op(), 1..120)) {
            let mut log = AlertLog::new(most);
            let mut all: Vec<Stage> = Vec::new();
            for op in ops {
                let tail = all.len().saturating_sub(most);
                match op {
                    Op::Push => {
                        let lost = all.len() >= most && all[tail] != Stage::Published;
                        all.push(Stage::Waiting);
                        let pushed = Pushed { seq: all.len() as u64, dropped_unpublished: lost };
                        prop_assert_eq!(log.push(0, text()), pushed);
                    }
                    Op::Next => {
                        let oldest = (tail..all.len()).find(|at| all[*at] == Stage::Waiting);
                        let next = log.next_unpublished().map(|alert| alert.seq as usize - 1);
                        prop_assert_eq!(next, oldest);
                        if let Some(at) = oldest {
                            all[at] = Stage::UnderWay;
                        }
                    }
                    Op::Published(seq) => {
                        log.published(seq);
                        if let Some(stage) = all.get_mut((seq as usize).wrapping_sub(1)) {
                            *stage = Stage::Published;
                        }
                    }
                    Op::NotPublished(seq) => {
                        log.not_published(seq);
                        if let Some(stage) = all.get_mut((seq as usize).wrapping_sub(1))
                            && *stage == Stage::UnderWay
                        {
                            *stage = Stage::Waiting;
                        }
                    }
                    Op::LinkLost => {
                        log.link_lost();
                        for stage in all.iter_mut().filter(|stage| **stage == Stage::UnderWay) {
                            *stage = Stage::Waiting;
                        }
                    }
                }
                let tail = all.len().saturating_sub(most);
                prop_assert_eq!((log.tail(), log.head()), (tail as u64 + 1, all.len() as u64));
                let unpublished = all[tail..].iter().filter(|stage| **stage != Stage::Published).count();
                prop_assert_eq!(log.kept_for_retry(), unpublished);
                prop_assert!(log.may_have_unpublished() || !all[tail..].contains(&Stage::Waiting));
            }
        }
    }
}
