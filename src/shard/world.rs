//! What one tenant can see: its vehicles, where they are, and what is told to all of them.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::config::Config;
use crate::geo::{CellIndex, Hysteresis};

use super::log::ByteLog;
use super::relay::Pending;
use super::vehicles::{Departed, Vehicles};

/// A world of this process. Without tenants there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorldId(pub u16);

/// One world on one shard. Nothing in it is ever shown to a connection of another world.
pub struct World {
    pub id: WorldId,
    pub config: Arc<Config>,
    pub vehicles: Vehicles,
    pub index: CellIndex,
    pub hysteresis: Hysteresis,
    /// What goes to every connection.
    pub log: ByteLog,
    /// The log's head when its readers were last queued.
    pub announced: u64,
    /// Position events, rendered once per update whoever is to get them.
    pub rendered: ByteLog,
    /// Vehicles that moved in this turn.
    pub moved: Vec<u32>,
    /// `connect_request`s without an answer, by (requester, target).
    pub pending: FxHashMap<(u64, u64), Pending>,
    /// Which registration of a vehicle ended lately. News of an older one may still be on its way, and the next one
    /// does not begin with full buckets.
    pub departed: FxHashMap<u64, Departed>,
    /// Registrations on this shard so far.
    pub registrations: u64,
    /// Reused by `settle`.
    pub scratch: Scratch,
}

/// Lists that a turn fills and empties.
#[derive(Default)]
pub struct Scratch {
    pub entering: Vec<(u32, f64)>,
    /// `marks[i] == stamp`: vehicle `i` is already a neighbour of the one being settled.
    pub marks: Vec<u32>,
    pub stamp: u32,
}

/// The worlds of one shard, by their ids.
pub struct Worlds(Vec<World>);

impl Worlds {
    /// The default world alone.
    pub fn new(config: &Arc<Config>) -> Self {
        Worlds(vec![World::new(WorldId::default(), config.clone())])
    }

    pub fn iter(&self) -> impl Iterator<Item = &World> {
        self.0.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut World> {
        self.0.iter_mut()
    }
}

impl Index<WorldId> for Worlds {
    type Output = World;

    fn index(&self, id: WorldId) -> &World {
        &self.0[usize::from(id.0)]
    }
}

impl IndexMut<WorldId> for Worlds {
    fn index_mut(&mut self, id: WorldId) -> &mut World {
        &mut self.0[usize::from(id.0)]
    }
}

impl World {
    /// An empty world.
    pub fn new(id: WorldId, config: Arc<Config>) -> Self {
        World {
            id,
            vehicles: Vehicles::default(),
            index: CellIndex::new(config.vehicles.nearby_radius_m),
            hysteresis: Hysteresis::new(config.vehicles.nearby_radius_m, config.vehicles.nearby_exit_factor),
            log: ByteLog::new(config.limits.broadcast_log_bytes as usize),
            announced: 0,
            rendered: ByteLog::new(crate::limits::RENDERED_BYTES_MAX),
            moved: Vec::new(),
            pending: FxHashMap::default(),
            departed: FxHashMap::default(),
            registrations: 0,
            scratch: Scratch::default(),
            config,
        }
    }

    /// Every pair stands in both lists, pointing at its other end, with a vehicle of this shard in it.
    pub fn check_invariants(&self) {
        for (index, vehicle) in self.vehicles.iter() {
            assert_eq!(self.vehicles.by_key(vehicle.key), Some(index));
            for (at, near) in vehicle.near.iter().enumerate() {
                let peer = self.vehicles.at(near.peer);
                let other = peer.near[near.back as usize];
                assert_eq!((other.peer, other.back as usize), (index, at), "a pair points at its other end");
                assert!(vehicle.driving().is_some() || peer.driving().is_some(), "a pair of strangers");
                assert!(vehicle.position.is_some() && peer.position.is_some(), "a neighbour without a place");
            }
        }
        let placed = self.vehicles.iter().filter(|(_, vehicle)| vehicle.position.is_some()).count();
        assert_eq!(self.index.len(), placed, "the index holds every vehicle that has a place");
    }
}
