//! The other nodes, as the steward knows them: who beats, and whose silence is worth a look.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::limits;

/// The other nodes. Times are `mono_ms`.
#[derive(Default)]
pub struct Nodes {
    nodes: FxHashMap<u64, Node>,
    /// Nobody is overdue before this.
    look_ms: Option<u64>,
    refused: u64,
}

struct Node {
    id: Arc<str>,
    /// Of its newest beat, if it has been heard.
    run: Option<Run>,
    /// It was heard, or heard of for the first time, or could be heard again.
    heard_ms: u64,
    /// Its key was last looked for, or found.
    looked_ms: Option<u64>,
}

struct Run {
    epoch: u64,
    lease_ms: u64,
    leaving: bool,
}

/// What a beat says about its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// The first one.
    First,
    /// It is still there.
    Again,
    /// It is another run than before: what the former one had is gone.
    Restarted,
    /// There are too many nodes, and this one is not known.
    Refused,
}

impl Nodes {
    /// A worker of a node beats.
    pub fn beat(&mut self, key: u64, id: &str, epoch: u64, lease_ms: u64, now_ms: u64) -> Beat {
        let Some(node) = self.find(key, id, now_ms) else { return Beat::Refused };
        (node.heard_ms, node.looked_ms) = (now_ms, None);
        let lease_ms = lease_ms.min(limits::NODE_LEASE_MS_MAX);
        let beat = match &node.run {
            None => Beat::First,
            Some(run) if run.epoch != epoch => Beat::Restarted,
            Some(_) => Beat::Again,
        };
        // The other workers of a node that leaves may beat once more.
        let leaving = beat == Beat::Again && node.run.as_ref().is_some_and(|run| run.leaving);
        node.run = Some(Run { epoch, lease_ms, leaving });
        self.look_by(now_ms + lease_ms);
        beat
    }

    /// Its name stands in the presence hash. It may be dead; a new name gets a lease's time to be heard.
    pub fn mentioned(&mut self, key: u64, id: &str, now_ms: u64) {
        self.find(key, id, now_ms);
    }

    /// It has said that it goes. It counts no more, but it is looked at when its lease is over: it may leave something
    /// behind.
    pub fn leaving(&mut self, key: u64) {
        if let Some(run) = self.nodes.get_mut(&key).and_then(|node| node.run.as_mut()) {
            run.leaving = true;
        }
    }

    /// Until now nobody could be heard: everyone gets a whole lease again.
    pub fn link_ready(&mut self, now_ms: u64) {
        for node in self.nodes.values_mut() {
            (node.heard_ms, node.looked_ms) = (now_ms, None);
        }
    }

    /// Nodes that have been silent for their lease (`own_lease_ms` for those that never said one): look whether their
    /// keys are there. Each comes again at most every [`limits::NODE_LOOK_MS`], until it beats or is dead. Not to be
    /// asked while the link is down.
    pub fn overdue(&mut self, now_ms: u64, own_lease_ms: u64) -> Vec<Arc<str>> {
        if self.look_ms.is_none_or(|look_ms| now_ms < look_ms) {
            return Vec::new();
        }
        let mut overdue = Vec::new();
        let mut next_ms = None;
        for node in self.nodes.values_mut() {
            if node.look_ms(own_lease_ms) <= now_ms {
                node.looked_ms = Some(now_ms);
                overdue.push(node.id.clone());
            }
            let look_ms = node.look_ms(own_lease_ms);
            next_ms = Some(next_ms.map_or(look_ms, |next_ms: u64| next_ms.min(look_ms)));
        }
        self.look_ms = next_ms;
        overdue.sort_unstable();
        overdue
    }

    /// Its key is there after all. While it stays silent it is looked at again, every [`limits::NODE_LOOK_MS`].
    pub fn is_alive(&mut self, key: u64, now_ms: u64) {
        if let Some(node) = self.nodes.get_mut(&key)
            && node.looked_ms.is_some()
        {
            node.looked_ms = Some(now_ms);
        }
    }

    /// It has been swept: forget it.
    pub fn dead(&mut self, key: u64) {
        self.nodes.remove(&key);
    }

    /// How many have been heard and have not left.
    pub fn count(&self) -> usize {
        self.nodes.values().filter(|node| node.run.as_ref().is_some_and(|run| !run.leaving)).count()
    }

    /// The name of a node.
    #[cfg(test)]
    pub fn id(&self, key: u64) -> Option<&Arc<str>> {
        self.nodes.get(&key).map(|node| &node.id)
    }

    /// When [`Nodes::overdue`] may have something.
    pub fn next_deadline(&self) -> Option<u64> {
        self.look_ms
    }

    /// Beats and mentions of nodes beyond [`limits::NODES_MAX`].
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn find(&mut self, key: u64, id: &str, now_ms: u64) -> Option<&mut Node> {
        if !self.nodes.contains_key(&key) {
            if self.nodes.len() == limits::NODES_MAX {
                self.refused += 1;
                return None;
            }
            // Which lease it gets is known when somebody looks.
            self.look_by(now_ms);
        }
        let new = || Node { id: id.into(), run: None, heard_ms: now_ms, looked_ms: None };
        Some(self.nodes.entry(key).or_insert_with(new))
    }

    fn look_by(&mut self, look_ms: u64) {
        self.look_ms = Some(self.look_ms.map_or(look_ms, |earlier_ms| earlier_ms.min(look_ms)));
    }
}

impl Node {
    /// When its key is to be looked for.
    fn look_ms(&self, own_lease_ms: u64) -> u64 {
        let lease_ms = self.run.as_ref().map_or(own_lease_ms, |run| run.lease_ms);
        let silent_ms = self.heard_ms + lease_ms;
        self.looked_ms.map_or(silent_ms, |looked_ms| silent_ms.max(looked_ms + limits::NODE_LOOK_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWN_LEASE_MS: u64 = 10_000;

    fn overdue(nodes: &mut Nodes, now_ms: u64) -> Vec<String> {
        nodes.overdue(now_ms, OWN_LEASE_MS).iter().map(|id| id.to_string()).collect()
    }

    #[test]
    fn a_beat_is_the_first_or_one_more_or_of_another_run() {
        let mut nodes = Nodes::default();
        assert_eq!(nodes.beat(1, "a", 100, 5_000, 0), Beat::First);
        assert_eq!(nodes.beat(1, "a", 100, 5_000, 1), Beat::Again);
        assert_eq!(nodes.beat(1, "a", 200, 5_000, 2), Beat::Restarted);
        assert_eq!(nodes.beat(1, "a", 150, 5_000, 3), Beat::Restarted, "with its clock set back");
        assert_eq!((nodes.count(), nodes.id(1).map(|id| &**id), nodes.id(2)), (1, Some("a"), None));
        nodes.mentioned(2, "b", 4);
        nodes.mentioned(1, "a", 4);
        assert_eq!((nodes.count(), nodes.id(2).map(|id| &**id)), (1, Some("b")), "nobody has heard b");
        assert_eq!(nodes.beat(2, "b", 100, 5_000, 5), Beat::First);
        nodes.dead(1);
        assert_eq!(nodes.beat(1, "a", 150, 5_000, 6), Beat::First);
    }

    #[test]
    fn who_is_silent_for_its_lease_is_looked_at_every_second_until_it_beats_or_is_dead() {
        let mut nodes = Nodes::default();
        nodes.beat(1, "a", 1, 5_000, 1_000);
        nodes.mentioned(2, "b", 2_000);
        assert_eq!(overdue(&mut nodes, 5_999), [""; 0]);
        assert_eq!(nodes.next_deadline(), Some(6_000));
        assert_eq!(overdue(&mut nodes, 6_000), ["a"]);
        assert_eq!(overdue(&mut nodes, 6_999), [""; 0]);
        nodes.is_alive(1, 6_500);
        assert_eq!(overdue(&mut nodes, 7_499), [""; 0]);
        assert_eq!(nodes.next_deadline(), Some(7_500));
        assert_eq!(overdue(&mut nodes, 7_500), ["a"]);
        nodes.beat(1, "a", 1, 5_000, 8_000);
        nodes.is_alive(1, 8_001);
        assert_eq!(overdue(&mut nodes, 12_000), ["b"], "a name without a beat has this node's own lease");
        assert_eq!(overdue(&mut nodes, 13_000), ["a", "b"]);
        nodes.dead(2);
        nodes.dead(1);
        assert_eq!(overdue(&mut nodes, 20_000), [""; 0]);
        assert_eq!(nodes.next_deadline(), None);
    }

    #[test]
    fn after_an_outage_everyone_has_a_whole_lease() {
        let mut nodes = Nodes::default();
        nodes.beat(1, "a", 1, 5_000, 0);
        nodes.mentioned(2, "b", 0);
        assert_eq!(overdue(&mut nodes, 60_000), ["a", "b"]);
        nodes.link_ready(60_100);
        assert_eq!(overdue(&mut nodes, 65_099), [""; 0]);
        assert_eq!(overdue(&mut nodes, 65_100), ["a"]);
        assert_eq!(overdue(&mut nodes, 70_100), ["a", "b"]);
    }

    #[test]
    fn who_leaves_counts_no_more_and_is_looked_at_once_its_lease_is_over() {
        let mut nodes = Nodes::default();
        nodes.beat(1, "a", 1, 5_000, 0);
        nodes.leaving(1);
        nodes.leaving(9);
        assert_eq!(nodes.count(), 0);
        assert_eq!(nodes.beat(1, "a", 1, 5_000, 10), Beat::Again, "another worker's last one");
        assert_eq!(nodes.count(), 0);
        assert_eq!(overdue(&mut nodes, 5_010), ["a"]);
        assert_eq!(nodes.beat(1, "a", 2, 5_000, 6_000), Beat::Restarted);
        assert_eq!(nodes.count(), 1);
    }

    #[test]
    fn nodes_are_bounded_and_so_are_their_leases() {
        let mut nodes = Nodes::default();
        for key in 0..limits::NODES_MAX as u64 {
            assert_eq!(nodes.beat(key, &key.to_string(), 1, u64::MAX, 0), Beat::First);
        }
        assert_eq!(nodes.beat(5_000, "more", 1, 1, 0), Beat::Refused);
        nodes.mentioned(5_001, "and more", 0);
        assert_eq!((nodes.count(), nodes.refused()), (limits::NODES_MAX, 2));
        assert_eq!(overdue(&mut nodes, limits::NODE_LEASE_MS_MAX).len(), limits::NODES_MAX);
        nodes.dead(0);
        assert_eq!(nodes.beat(5_000, "more", 1, 1, 0), Beat::First);
    }

    proptest! {
        /// Asked only when `next_deadline` says so, the steward misses nobody and looks at nobody too early or often.
        #[test]
        fn a_deadline_is_never_too_late(steps in prop::collection::vec((0..4u64, 0..5u8, 0..3_000u64), 1..80)) {
            let mut nodes = Nodes::default();
            let mut now_ms = 0;
            let mut due: [Option<u64>; 4] = [None; 4];
            for (key, what, pause_ms) in steps {
                let until_ms = now_ms + pause_ms;
                while let Some(at_ms) = nodes.next_deadline().filter(|at_ms| *at_ms <= until_ms) {
                    let at_ms = at_ms.max(now_ms);
                    for id in nodes.overdue(at_ms, 2_000) {
                        let due_ms = &mut due[id.parse::<usize>().unwrap()];
                        prop_assert_eq!(*due_ms, Some(at_ms));
                        *due_ms = Some(at_ms + limits::NODE_LOOK_MS);
                    }
                }
                prop_assert!(due.iter().flatten().all(|due_ms| *due_ms > until_ms), "{due:?} at {until_ms}");
                now_ms = until_ms;
                let (id, due_ms) = (key.to_string(), &mut due[key as usize]);
                match what {
                    0 | 1 => {
                        nodes.beat(key, &id, u64::from(what), 1_000 + key * 500, now_ms);
                        *due_ms = Some(now_ms + 1_000 + key * 500);
                    }
                    2 => {
                        nodes.mentioned(key, &id, now_ms);
                        due_ms.get_or_insert(now_ms + 2_000);
                    }
                    3 => nodes.leaving(key),
                    _ => {
                        nodes.dead(key);
                        *due_ms = None;
                    }
                }
            }
        }
    }
}
