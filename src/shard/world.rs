//! What one tenant can see: its vehicles, where they are, and what is told to all of them.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::config::Config;
use crate::geo::{CellIndex, Hysteresis};
use crate::turn::ConnId;
use crate::wire::state::RECORD_BYTES;

use super::crowd::{Candidate, Ranked};
use super::log::ByteLog;
use super::nearby::Apart;
use super::past::Past;
use super::relay::Pending;
use super::tally::Unannounced;
use super::vehicles::{Departed, Vehicles};
use super::watch::Watchers;

/// A world of this process. Without tenants there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorldId(pub u16);

impl WorldId {
    /// Where connections are that have shown no token yet: nothing happens there. Only where tokens are required.
    pub const LOBBY: WorldId = WorldId(1);

    /// The world of a tenant, by its position in `auth.tenants`, which is the same on every shard.
    pub fn of_tenant(tenant: usize) -> WorldId {
        WorldId(Self::LOBBY.0 + 1 + tenant as u16)
    }
}

/// One world on one shard. Nothing in it is ever shown to a connection of another world.
pub struct World {
    pub id: WorldId,
    pub config: Arc<Config>,
    pub vehicles: Vehicles,
    pub index: CellIndex,
    /// What connections watch.
    pub watchers: Watchers,
    pub hysteresis: Hysteresis,
    /// What goes to every connection.
    pub log: ByteLog,
    /// The log's head when its readers were last queued.
    pub announced: u64,
    /// What the log has got since, to be counted for each of them.
    pub unannounced: Unannounced,
    /// Position events, rendered once per update whoever is to get them.
    pub rendered: ByteLog,
    /// What newer positions have replaced.
    pub past: Past,
    /// Vehicles that moved, the first one first.
    pub moved: VecDeque<u32>,
    /// Vehicles that are to choose anew whom they see, likewise.
    pub choosing: VecDeque<u32>,
    /// Connections that watch and are to choose anew whom they see, likewise.
    pub views: VecDeque<ConnId>,
    /// What this turn has looked at so far, in units of [`SETTLE_WORK_MAX`](crate::limits::SETTLE_WORK_MAX).
    pub work: usize,
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
    pub around: Vec<Candidate>,
    pub apart: Vec<Apart>,
    pub ranked: Vec<Ranked>,
    /// `marks[i] == stamp`: vehicle `i` has a pair with the one being settled already.
    pub marks: Vec<u32>,
    pub stamp: u32,
    /// Vehicles that may belong into a view.
    pub vehicles: Vec<u32>,
    /// Watchers that may want to see a vehicle.
    pub watchers: Vec<u32>,
    /// Records of the flush that is being written.
    pub records: Vec<[u8; RECORD_BYTES]>,
}

impl Scratch {
    /// Marks these vehicles and no others.
    pub fn mark_all(&mut self, vehicles: impl Iterator<Item = u32>) {
        self.next_stamp();
        for vehicle in vehicles {
            let vehicle = vehicle as usize;
            if self.marks.len() <= vehicle {
                self.marks.resize(vehicle + 1, self.stamp.wrapping_sub(1));
            }
            self.marks[vehicle] = self.stamp;
        }
    }

    /// Whether a vehicle is marked.
    pub fn is_marked(&self, vehicle: u32) -> bool {
        self.marks.get(vehicle as usize) == Some(&self.stamp)
    }

    /// A stamp that no mark has yet.
    pub fn next_stamp(&mut self) -> u32 {
        self.stamp = self.stamp.wrapping_add(1);
        self.stamp
    }
}

/// The worlds of one shard, by their ids.
pub struct Worlds(Vec<World>);

impl Worlds {
    /// The default world, the lobby where there is one, and a world for each tenant.
    pub fn new(config: &Arc<Config>) -> Self {
        let others = if config.auth.required { 1 + config.auth.tenants.len() } else { 0 };
        Worlds((0..=others as u16).map(|id| World::new(WorldId(id), config.clone())).collect())
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
            watchers: Watchers::default(),
            index: CellIndex::new(config.vehicles.nearby_radius_m),
            hysteresis: Hysteresis::new(config.vehicles.nearby_radius_m, config.vehicles.nearby_exit_factor),
            log: ByteLog::new(config.limits.broadcast_log_bytes as usize),
            announced: 0,
            unannounced: Unannounced::default(),
            rendered: ByteLog::new(crate::limits::RENDERED_BYTES_MAX),
            past: Past::default(),
            moved: VecDeque::new(),
            choosing: VecDeque::new(),
            views: VecDeque::new(),
            work: 0,
            pending: FxHashMap::default(),
            departed: FxHashMap::default(),
            registrations: 0,
            scratch: Scratch::default(),
            config,
        }
    }

    /// Every pair stands in both lists, pointing at its other end, and one of the two sees the other.
    pub fn check_invariants(&self) {
        let most = self.config.vehicles.neighbours_max;
        for (index, vehicle) in self.vehicles.iter() {
            assert_eq!(self.vehicles.by_key(vehicle.key), Some(index));
            assert_eq!(vehicle.near.iter().filter(|near| near.sees).count(), vehicle.seeing as usize);
            assert!(vehicle.seeing <= most, "a vehicle sees too many");
            assert!(vehicle.driving().is_some() || vehicle.seeing == 0, "another shard's vehicle sees somebody here");
            let place = vehicle.position.map(|position| position.place);
            assert!(place.is_none_or(|place| place == self.vehicles.track(index).place), "two places");
            for (at, near) in vehicle.near.iter().enumerate() {
                let peer = self.vehicles.at(near.peer);
                let other = peer.near[near.back as usize];
                assert_eq!((other.peer, other.back as usize), (index, at), "a pair points at its other end");
                assert!(near.sees || other.sees, "a pair of strangers");
                assert_eq!(near.seen, other.sees, "what an end says of the other one");
                assert!(vehicle.position.is_some() && peer.position.is_some(), "a neighbour without a place");
            }
        }
        let placed = self.vehicles.iter().filter(|(_, vehicle)| vehicle.position.is_some()).count();
        assert_eq!(self.index.len(), placed, "the index holds every vehicle that has a place");
        self.check_sights();
    }
}
