//! What connections watch, across hosts: the squares that views lie in, and where followed vehicles are.
//!
//! Which squares a vehicle of this host sees into, every shard knows by itself; what a connection watches only its own
//! does, and tells the others when it changes. So does the shard of a follower when the vehicle comes to other squares.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::geo::{Square, Squares};
use crate::limits;
use crate::turn::{Now, ShardId};
use crate::wire::envelope::Kind;
use crate::wire::state;

use super::super::Shard;
use super::super::mail::{Note, What};
use super::super::vehicles::Position;
use super::super::watch::Shift;
use super::super::world::WorldId;
use super::counters::Dropped;
use super::realms::Realm;
use super::{Ask, To};

impl Shard {
    /// What this turn has changed about what connections watch.
    pub(in super::super) fn settle_watched(&mut self, now: Now) {
        for world in self.worlds.iter().map(|world| world.id).collect::<Vec<_>>() {
            for shift in self.worlds[world].watchers.take_shifts() {
                match shift {
                    _ if self.bus.as_ref().is_none_or(|bus| bus.realms.get(world).is_none()) => {}
                    Shift::Area { from, to } => self.watches(now, world, from, to),
                    Shift::Follow { key } => self.follows(now, world, key),
                }
            }
        }
        if self.bus.as_ref().is_some_and(|bus| !bus.closed) {
            self.settle_squares(now);
            self.ask_where(now);
        }
    }

    /// Connections of this shard watch other squares than before.
    fn watches(&mut self, now: Now, world: WorldId, from: Squares, to: Squares) {
        if from != to {
            let what = What::Watched { from, to };
            self.mesh.tell_all(Note { world, what }, &mut self.out.counters);
            self.watched(now, world, from, to);
        }
    }

    /// Connections of this host watch other squares than before.
    pub(in super::super) fn watched(&mut self, now: Now, world: WorldId, from: Squares, to: Squares) {
        if let Some(realm) = self.bus.as_mut().and_then(|bus| bus.realms.get_mut(world)) {
            realm.interest.moved(from, to, now.mono_ms);
        }
    }

    /// The first connection of this shard follows a vehicle, or the last one does no more.
    fn follows(&mut self, now: Now, world: WorldId, key: u64) {
        let is_followed = self.worlds[world].watchers.is_followed(key);
        let Some(realm) = self.bus.as_mut().and_then(|bus| bus.realms.get_mut(world)) else { return };
        if is_followed {
            realm.follows.begin(key);
            self.look_after(now, world, key);
        } else {
            let squares = realm.follows.end(key);
            self.watches(now, world, squares, Squares::NONE);
        }
    }

    /// A vehicle may be somewhere else than before, or with somebody else, or lost: if a connection of this shard follows
    /// it, this host listens where it is, or asks where that is.
    pub(in super::super) fn look_after(&mut self, now: Now, world: WorldId, key: u64) {
        let Some(realm) = self.bus.as_mut().and_then(|bus| bus.realms.get_mut(world)) else { return };
        if !realm.follows.has(key) {
            return;
        }
        let vehicles = &self.worlds[world].vehicles;
        let vehicle = vehicles.by_key(key).map(|index| vehicles.at(index));
        let squares = match vehicle.filter(|vehicle| vehicle.epoch.node != self.node.key) {
            // A vehicle of this host is found without being looked for.
            None => {
                realm.follows.found(key);
                Squares::NONE
            }
            Some(vehicle) => {
                match vehicle.position {
                    Some(_) if vehicle.unconfirmed_ms.is_none() => realm.follows.found(key),
                    _ => realm.follows.ask(key, now.mono_ms),
                }
                let around = |position: Position| Squares::around(position.place, limits::SQUARE_MARGIN_M);
                vehicle.position.map_or(Squares::NONE, around)
            }
        };
        self.listen_for(now, world, key, squares);
    }

    fn listen_for(&mut self, now: Now, world: WorldId, key: u64, squares: Squares) {
        let Some(realm) = self.bus.as_mut().and_then(|bus| bus.realms.get_mut(world)) else { return };
        let before = realm.follows.listen(key, squares);
        self.watches(now, world, before, squares);
    }

    /// Asks the hosts of those that are followed and have not been found.
    fn ask_where(&mut self, now: Now) {
        let Some(bus) = &mut self.bus else { return };
        if !bus.can_ask_where() {
            return;
        }
        let mut asked: Vec<(WorldId, BTreeMap<u64, Vec<_>>)> = Vec::new();
        for realm in bus.realms.iter_mut() {
            let vehicles = &self.worlds[realm.world].vehicles;
            let mut by_node: BTreeMap<u64, Vec<_>> = BTreeMap::new();
            for key in realm.follows.due(now.mono_ms) {
                if let Some(index) = vehicles.by_key(key) {
                    let vehicle = vehicles.at(index);
                    by_node.entry(vehicle.epoch.node).or_default().push(vehicle.identity.clone());
                }
            }
            if !by_node.is_empty() {
                asked.push((realm.world, by_node));
            }
        }
        for (world, node, identities) in asked
            .into_iter()
            .flat_map(|(world, by_node)| by_node.into_iter().map(move |(node, all)| (world, node, all)))
        {
            let Some(id) = self.bus.as_ref().and_then(|bus| bus.node_names.get(&node).cloned()) else { continue };
            for some in identities.chunks(limits::WHERE_VEHICLES_MAX) {
                self.out.counters.backplane.whereabouts_asked += some.len() as u64;
                let vehicle_ids = some.iter().map(|identity| &*identity.vehicle_id).collect();
                // What is not answered is asked again.
                let _ = self.post(now, world, To::Node(&id), &Kind::Where { vehicle_ids }, None, Ask::Nothing);
            }
        }
    }

    /// Another node wants to know where vehicles of this one are.
    pub(super) fn where_asked(&mut self, now: Now, world: WorldId, node: &str, worker: u16, vehicle_ids: &[&str]) {
        let vehicles = &self.worlds[world].vehicles;
        let placed = vehicle_ids.iter().filter_map(|vehicle_id| {
            let vehicle = vehicles.at(vehicles.by_id(vehicle_id)?);
            let position = vehicle.position.filter(|_| vehicle.epoch.node == self.node.key)?;
            Some((*vehicle_id, Square::of(position.place).name()))
        });
        let placed: Vec<(&str, [u8; 4])> = placed.collect();
        if !placed.is_empty() {
            let squares = placed.iter().filter_map(|(id, name)| Some((*id, std::str::from_utf8(name).ok()?)));
            let kind = Kind::There { to: worker, squares: squares.collect() };
            let _ = self.post(now, world, To::Node(node), &kind, None, Ask::Nothing);
        }
    }

    /// Another node says where vehicles of its are, for the worker that has asked.
    pub(super) fn where_answered(
        &mut self,
        now: Now,
        world: WorldId,
        node: &str,
        worker: u16,
        squares: &[(&str, &str)],
    ) {
        let mut found = Vec::with_capacity(squares.len());
        for (vehicle_id, name) in squares {
            match Square::parse(name.as_bytes()) {
                Some(square) => found.push((state::key(vehicle_id), square)),
                None => self.out.counters.backplane.dropped.increment(Dropped::Malformed),
            }
        }
        let (node, found) = (state::key(node), Arc::<[(u64, Square)]>::from(found));
        if self.is_here(ShardId(worker)) {
            self.whereabouts(now, world, node, &found);
        } else {
            let note = Note { world, what: What::Whereabouts { node, found } };
            self.mesh.tell(ShardId(worker), note, &mut self.out.counters);
        }
    }

    /// A node has said in which squares some of its vehicles are. There they are heard, if they have not gone on; then
    /// they are asked for once more.
    pub(in super::super) fn whereabouts(&mut self, now: Now, world: WorldId, node: u64, found: &[(u64, Square)]) {
        let Some(realm) = self.bus.as_ref().and_then(|bus| bus.realms.get(world)) else { return };
        let vehicles = &self.worlds[world].vehicles;
        let is_wanted = |key| {
            let index = vehicles.by_key(key).filter(|_| realm.follows.is_asking(key));
            index.is_some_and(|index| vehicles.at(index).epoch.node == node)
        };
        let found: Vec<_> = found.iter().filter(|(key, _)| is_wanted(*key)).copied().collect();
        let squares: BTreeSet<Square> = found.iter().map(|(_, square)| *square).collect();
        // Where this host listens already, it does not ask who is there when somebody sees into it.
        let missed: Vec<Square> = squares.into_iter().filter(|square| realm.interest.wants(*square)).collect();
        for (key, square) in found {
            self.listen_for(now, world, key, Squares::only(square));
        }
        for square in missed {
            let Some(realm) = self.bus.as_ref().and_then(|bus| bus.realms.get(world)) else { return };
            let listener = ShardId(realm.interest.listener_of(square));
            if self.is_here(listener) {
                self.ask_square(now, world, square);
            } else {
                let note = Note { world, what: What::MissedIn(square) };
                self.mesh.tell(listener, note, &mut self.out.counters);
            }
        }
    }
}

/// For tests.
impl Shard {
    /// What this shard's connections watch of other hosts is listened to, and what they cannot see is asked for.
    pub(in super::super) fn check_watched(&self) {
        let Some(bus) = &self.bus else { return };
        bus.realms.iter().for_each(|realm| self.check_watched_in(realm));
    }

    fn check_watched_in(&self, realm: &Realm) {
        let (vehicles, watchers) = (&self.worlds[realm.world].vehicles, &self.worlds[realm.world].watchers);
        let reach_m = self.worlds[realm.world].hysteresis.exit_m + limits::SQUARE_MARGIN_M;
        for (_, vehicle) in vehicles.iter() {
            let own = vehicle.position.filter(|_| vehicle.epoch.node == self.node.key);
            let squares = own.map_or(Squares::NONE, |position| Squares::around(position.place, reach_m));
            assert_eq!(vehicle.squares, squares, "a vehicle of this host sees into the squares around it");
        }
        let followed: BTreeSet<u64> = watchers.followed().collect();
        assert_eq!(realm.follows.iter().map(|(key, _)| key).collect::<BTreeSet<_>>(), followed);
        for (key, squares) in realm.follows.iter() {
            let vehicle = vehicles.by_key(key).map(|index| vehicles.at(index));
            let elsewhere = vehicle.filter(|vehicle| vehicle.epoch.node != self.node.key);
            let place =
                elsewhere.filter(|vehicle| vehicle.unconfirmed_ms.is_none()).and_then(|vehicle| vehicle.position);
            assert_eq!(
                realm.follows.is_asking(key),
                elsewhere.is_some() && place.is_none(),
                "whoever is lost is asked for"
            );
            if let Some(position) = place {
                assert_eq!(squares, Squares::around(position.place, limits::SQUARE_MARGIN_M), "where it is");
            } else if elsewhere.is_none() {
                assert_eq!(squares, Squares::NONE, "nobody has to be listened to");
            }
        }
    }

    /// Whether it has told the other shards of its host everything.
    pub fn is_at_rest(&self) -> bool {
        self.mesh.is_at_rest()
    }

    /// Checks what must hold between the shards of one host once all mail has come; panics if it does not: all count
    /// alike who sees into a square, and what one has kept of it the one that listens has kept.
    pub fn check_agreement(shards: &[Shard]) {
        let worlds = shards.iter().filter_map(|shard| shard.bus.as_ref()).flat_map(|bus| bus.realms.worlds());
        for world in worlds.collect::<BTreeSet<_>>() {
            Shard::check_agreement_in(world, shards);
        }
    }

    fn check_agreement_in(world: WorldId, shards: &[Shard]) {
        let watched = |shard: &Shard| -> Vec<Squares> {
            let areas =
                shard.worlds[world].watchers.iter().filter_map(|(_, watcher)| watcher.area).map(|area| area.squares);
            let realm = shard.bus.as_ref().and_then(|bus| bus.realms.get(world));
            let follows = realm.into_iter().flat_map(|realm| realm.follows.iter()).map(|(_, squares)| squares);
            areas.chain(follows).collect()
        };
        let watched: Vec<Squares> = shards.iter().flat_map(watched).collect();
        for shard in shards {
            let Some(realm) = shard.bus.as_ref().and_then(|bus| bus.realms.get(world)) else { continue };
            let mut counted: BTreeMap<Square, u32> = BTreeMap::new();
            let vehicles = shard.worlds[world].vehicles.iter().map(|(_, vehicle)| vehicle.squares);
            for square in vehicles.chain(watched.iter().copied()).flat_map(Squares::iter) {
                *counted.entry(square).or_default() += 1;
            }
            let interest: BTreeMap<Square, u32> = realm.interest.iter().filter(|(_, count)| *count > 0).collect();
            assert_eq!(interest, counted, "shard {:?} counts who sees into each square", shard.mesh.shard());
            for (square, _) in realm.interest.iter() {
                let listener = shards[usize::from(realm.interest.listener_of(square))].bus.as_ref();
                let there = listener.and_then(|bus| bus.realms.get(world));
                assert!(there.is_some_and(|realm| realm.interest.wants(square)), "{square:?} will never be forgotten");
            }
        }
    }
}
