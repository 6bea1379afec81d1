//! What the steward knows: the other nodes, what has been heard of their alerts, and how the reading and sweeping of each
//! world's presence hash stands. What it does with that: `restore`.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::limits;
use crate::turn::Now;

use super::super::vehicles::Epoch;
use super::super::world::WorldId;
use super::Node;
use super::heard::Heard;
use super::nodes::Nodes;
use super::seen::Seen;

/// What worker 0 does for its host.
pub struct Steward {
    pub nodes: Nodes,
    pub heard: Heard,
    pub seen: Seen,
    /// Stewards that have been answered, by their nodes' keys and epochs.
    pub greeted: FxHashMap<u64, u64>,
    /// Each world's hash. One is read at a time.
    pub hashes: Vec<Hash>,
    /// The reading that is under way.
    pub reading: Option<Reading>,
    /// When (`mono_ms`) Redis was last connected.
    pub ready_ms: u64,
    /// When the lease is due again.
    pub lease_at_ms: u64,
    /// Silent nodes without a lease.
    pub leaseless: FxHashSet<u64>,
}

/// What is known of one world's hash.
pub struct Hash {
    pub world: WorldId,
    /// When (`mono_ms`) the next reading begins.
    pub read_at_ms: u64,
    /// When the last one ended.
    pub read_ms: u64,
    /// Dead nodes whose vehicles this host may sweep with the next reading.
    pub to_sweep: FxHashSet<u64>,
    /// Dead nodes that have been swept here, and not everywhere yet.
    pub swept: FxHashSet<u64>,
    /// Vehicles of other hosts that the last reading did not find, by key, and since when or since what question.
    pub absent: FxHashMap<u64, (Epoch, u64)>,
    /// Entries of this node that nobody drives, as the last reading found them.
    pub ghosts: FxHashMap<u64, (u64, u64)>,
}

/// One pass over a hash.
pub struct Reading {
    pub world: WorldId,
    pub sweeping: FxHashSet<u64>,
    /// Vehicles that were known when it began.
    pub known: FxHashMap<u64, Epoch>,
    /// Keys of the entries that it has found.
    pub found: FxHashSet<u64>,
    /// Entries of this node that nobody drives.
    pub ghosts: FxHashMap<u64, (u64, u64)>,
    /// Something could not be sent: the sweep is not complete.
    pub incomplete: bool,
}

impl Steward {
    /// That of a node with these worlds.
    pub fn new(node: &Node, worlds: impl Iterator<Item = WorldId>) -> Steward {
        let hash = |world| Hash {
            world,
            read_at_ms: 0,
            read_ms: 0,
            to_sweep: FxHashSet::default(),
            swept: FxHashSet::default(),
            absent: FxHashMap::default(),
            ghosts: FxHashMap::default(),
        };
        Steward {
            nodes: Nodes::default(),
            heard: Heard::new(node.epoch),
            seen: Seen::default(),
            greeted: FxHashMap::default(),
            hashes: worlds.map(hash).collect(),
            reading: None,
            ready_ms: 0,
            lease_at_ms: 0,
            leaseless: FxHashSet::default(),
        }
    }

    pub fn hash(&mut self, world: WorldId) -> Option<&mut Hash> {
        self.hashes.iter_mut().find(|hash| hash.world == world)
    }

    pub fn link_ready(&mut self, now: Now) {
        self.nodes.link_ready(now.mono_ms);
        self.ready_ms = now.mono_ms;
        self.hashes.iter_mut().for_each(|hash| hash.read_at_ms = now.mono_ms);
        self.lease_at_ms = now.mono_ms;
        self.greeted.clear();
    }

    /// A node beats: nobody has to be swept.
    pub fn is_alive(&mut self, node: u64, leaving: bool) {
        if !leaving {
            self.leaseless.remove(&node);
            for hash in &mut self.hashes {
                hash.to_sweep.remove(&node);
                hash.swept.remove(&node);
            }
            if let Some(reading) = &mut self.reading {
                reading.sweeping.remove(&node);
            }
        }
    }

    /// Whether a steward is heard for the first time since this one listens.
    pub fn greet(&mut self, node: u64, epoch: u64) -> bool {
        if self.greeted.len() >= limits::NODES_MAX {
            // Only that they are answered once more.
            self.greeted.clear();
        }
        self.greeted.insert(node, epoch) != Some(epoch)
    }

    pub fn link_lost(&mut self) {
        self.reading = None;
        self.leaseless.clear();
        for hash in &mut self.hashes {
            hash.to_sweep.clear();
            hash.swept.clear();
            // What was not found may be written when Redis is back.
            hash.absent.clear();
            hash.ghosts.clear();
        }
    }

    /// A node has appeared of which nothing is known.
    pub fn read_soon(&mut self, now: Now) {
        for hash in &mut self.hashes {
            let at_ms = (now.mono_ms + limits::READ_SOON_MS).max(hash.read_ms + limits::READ_AGAIN_MS);
            hash.read_at_ms = hash.read_at_ms.min(at_ms);
        }
    }

    /// A vehicle has appeared of which nothing is known. Who publishes nonsense must not keep everyone reading.
    pub fn read_for_unknown(&mut self, now: Now, world: WorldId) {
        if let Some(hash) = self.hash(world) {
            let at_ms = (now.mono_ms + limits::READ_SOON_MS).max(hash.read_ms + limits::ABSENT_MS);
            hash.read_at_ms = hash.read_at_ms.min(at_ms);
        }
    }

    /// A reading was not whole.
    pub fn not_read(&mut self, now: Now, reading: Reading) {
        if let Some(hash) = self.hash(reading.world) {
            hash.to_sweep.extend(reading.sweeping);
            hash.read_at_ms = hash.read_at_ms.min(now.mono_ms + limits::READ_AGAIN_MS);
        }
    }

    /// These nodes have been swept in a world. Those that have been in all of them, and are forgotten.
    pub fn swept(&mut self, world: WorldId, nodes: FxHashSet<u64>) -> Vec<u64> {
        if let Some(hash) = self.hash(world) {
            hash.swept.extend(&nodes);
        }
        let dead: Vec<u64> =
            nodes.into_iter().filter(|node| self.hashes.iter().all(|hash| hash.swept.contains(node))).collect();
        for node in &dead {
            self.nodes.dead(*node);
            self.heard.forget_node(*node);
            self.leaseless.remove(node);
            for hash in &mut self.hashes {
                hash.to_sweep.remove(node);
                hash.swept.remove(node);
            }
        }
        dead
    }

    pub fn next_deadline(&self) -> Option<u64> {
        let next = self.hashes.iter().map(|hash| hash.read_at_ms).min();
        let reading = next.filter(|_| self.reading.is_none());
        [reading, Some(self.lease_at_ms), self.nodes.next_deadline()].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NORTH: WorldId = WorldId(2);
    const SOUTH: WorldId = WorldId(3);

    fn steward(now: Now) -> Steward {
        let mut steward = Steward::new(&Node::new("a", 1), [NORTH, SOUTH].into_iter());
        steward.link_ready(now);
        steward
    }

    fn nodes(nodes: &[u64]) -> FxHashSet<u64> {
        nodes.iter().copied().collect()
    }

    #[test]
    fn a_node_is_dead_when_it_has_been_swept_in_every_world() {
        let mut steward = steward(Now::default());
        for node in [7, 8] {
            steward.nodes.beat(node, "b", 1, 1_000, 0);
            steward.leaseless.insert(node);
        }
        assert_eq!(steward.swept(NORTH, nodes(&[7, 8])), [0; 0], "the south has not been");
        assert_eq!(steward.nodes.count(), 2);
        assert_eq!(steward.swept(SOUTH, nodes(&[7])), [7]);
        assert_eq!((steward.nodes.count(), steward.leaseless.len()), (1, 1));
        steward.is_alive(8, false);
        assert_eq!(steward.swept(SOUTH, nodes(&[8])), [0; 0], "it has come back meanwhile: the north begins again");
        assert_eq!(steward.swept(NORTH, nodes(&[8])), [8]);
        assert!(steward.hashes.iter().all(|hash| hash.swept.is_empty() && hash.to_sweep.is_empty()));
    }

    #[test]
    fn an_outage_begins_every_sweep_again() {
        let mut steward = steward(Now::default());
        steward.swept(NORTH, nodes(&[7]));
        steward.link_lost();
        assert_eq!(steward.swept(SOUTH, nodes(&[7])), [0; 0]);
    }

    #[test]
    fn who_appears_has_all_hashes_read_and_an_unknown_vehicle_its_own() {
        let mut steward = steward(Now::default());
        let read_at = |steward: &Steward| steward.hashes.iter().map(|hash| hash.read_at_ms).collect::<Vec<_>>();
        let later = u64::MAX;
        steward.hashes.iter_mut().for_each(|hash| hash.read_at_ms = later);
        let now = Now { mono_ms: 60_000, ..Now::default() };
        steward.read_for_unknown(now, SOUTH);
        assert_eq!(read_at(&steward), [later, 60_000 + limits::READ_SOON_MS]);
        assert_eq!(steward.next_deadline(), Some(0), "the lease is due");
        steward.read_soon(now);
        assert_eq!(read_at(&steward), [60_000 + limits::READ_SOON_MS; 2]);
    }
}
