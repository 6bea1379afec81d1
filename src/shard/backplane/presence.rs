//! Who is where: what this worker tells the other hosts of its vehicles, and what they tell of theirs.

use std::sync::Arc;

use crate::config::PresenceScope;
use crate::limits;
use crate::turn::{Now, ShardId};
use crate::wire::envelope::{self, Entry, Kind, Who};
use crate::wire::event::{Event, Identity, Status};
use crate::wire::state;

use super::super::Shard;
use super::super::mail::{Note, What};
use super::super::vehicles::{Departed, Epoch, Rates};
use super::super::world::WorldId;
use super::counters::Dropped;
use super::scripts;
use super::{Ask, To};

/// A vehicle that has left.
#[derive(Clone, Debug)]
pub struct Left {
    pub world: WorldId,
    pub vehicle_id: Box<str>,
    pub epoch: Epoch,
    pub status: Status,
    pub last_seen: u64,
}

impl Shard {
    /// Tells the other hosts of a vehicle of this shard, once they can be told.
    pub(in super::super) fn tell_hosts_of(&mut self, now: Now, world: WorldId, index: u32) {
        if !self.bus.as_ref().is_some_and(|bus| bus.ready && bus.realms.get(world).is_some()) {
            return;
        }
        let vehicle = self.worlds[world].vehicles.at_mut(index);
        let (identity, connected_ms) = (vehicle.identity.clone(), vehicle.epoch.connected_ms);
        let Some(driving) = vehicle.driving_mut() else { return };
        let announced = std::mem::replace(&mut driving.announced, true);
        self.write_entry(now, world, &identity, connected_ms);
        if !announced {
            let event = Event::PresenceUpdate {
                vehicle_id: &identity.vehicle_id,
                status: Status::Online,
                last_seen: connected_ms,
            };
            let kind = Kind::Presence { connected_ms, identity: Some(who(&identity)) };
            let ask = Ask::Entered(world, identity.key());
            if self.post_presence(now, world, &event, &kind, ask).is_err() {
                self.entered_untold(world, identity.key());
            }
        }
    }

    /// The other hosts believe something older of a vehicle of this shard: say it again.
    pub(in super::super) fn assert_again(&mut self, now: Now, world: WorldId, key: u64) {
        let vehicles = &mut self.worlds[world].vehicles;
        let Some(index) = vehicles.by_key(key) else { return };
        if let Some(driving) = vehicles.at_mut(index).driving_mut() {
            driving.announced = false;
            self.tell_hosts_of(now, world, index);
            self.tell_hosts_where_again(world, index);
        }
    }

    /// Another host does not find the entry of a vehicle that it takes for one of this host.
    pub(super) fn doubted(&mut self, now: Now, world: WorldId, vehicle_id: &str, connected_ms: u64) {
        let vehicles = &self.worlds[world].vehicles;
        let here = vehicles.by_id(vehicle_id).map(|index| (state::key(vehicle_id), vehicles.at(index).epoch));
        match here.filter(|(_, epoch)| epoch.node == self.node.key) {
            Some((key, epoch)) => self.have_asserted(now, world, key, epoch.shard),
            None => {
                let epoch = Epoch::elsewhere(connected_ms, self.node.key);
                let status = Status::Offline;
                let left = Left { world, vehicle_id: vehicle_id.into(), epoch, status, last_seen: now.unix_ms };
                self.announce_left(now, &left, Ask::Nothing);
            }
        }
    }

    /// Has the worker of this host that a vehicle is connected to say so again.
    pub(super) fn have_asserted(&mut self, now: Now, world: WorldId, key: u64, home: ShardId) {
        if self.is_here(home) {
            self.assert_again(now, world, key);
        } else {
            let note = Note { world, what: What::AssertAgain { key } };
            self.mesh.tell(home, note, &mut self.out.counters);
        }
    }

    fn write_entry(&mut self, now: Now, world: WorldId, identity: &Identity, connected_ms: u64) {
        let Some(bus) = &mut self.bus else { return };
        let Some(realm) = bus.realms.get(world) else { return };
        bus.scratch.clear();
        let who = who(identity);
        let entry = Entry { who, connected_ms, node: Some(&self.node.id), last_seen: connected_ms };
        envelope::write_entry(&mut bus.scratch, &entry);
        let node_key = format!("{:016x}", self.node.key);
        let args = scripts::enter(&identity.vehicle_id, &bus.scratch, connected_ms, &node_key);
        let key = realm.names.presence.as_bytes();
        let sent = bus.client.run(now, &scripts::ENTER, key, &args.slices(), Ask::Nothing);
        self.count_command(sent);
    }

    /// A vehicle of this shard has left.
    pub(in super::super) fn tell_hosts_left(&mut self, now: Now, left: Left) {
        let Some(bus) = self.bus.as_mut().filter(|bus| bus.realms.get(left.world).is_some()) else { return };
        if !bus.ready || !bus.departures.is_empty() || bus.client.in_flight_bytes() > limits::REWRITE_BYTES_MAX {
            self.left_untold(left);
        } else {
            self.tell_left(now, left);
        }
    }

    fn tell_left(&mut self, now: Now, left: Left) {
        self.delete_entry(now, &left, Ask::Nothing);
        self.announce_left(now, &left, Ask::Left(left.clone()));
    }

    /// The other hosts are still to be told that a vehicle has left.
    pub(super) fn left_untold(&mut self, left: Left) {
        let Some(bus) = &mut self.bus else { return };
        if bus.departures.len() >= limits::DEPARTURES_MAX {
            bus.departures.pop_front();
            self.out.counters.backplane.dropped.increment(Dropped::DepartureOverflow);
        }
        bus.departures.push_back(left);
    }

    /// The other hosts are still to be told that a vehicle has come: it goes with the entries that are written again
    /// with the next beat.
    pub(super) fn entered_untold(&mut self, world: WorldId, key: u64) {
        if let Some(bus) = &mut self.bus {
            bus.rewrite_wanted = true;
        }
        let vehicles = &mut self.worlds[world].vehicles;
        let Some(index) = vehicles.by_key(key) else { return };
        if let Some(driving) = vehicles.at_mut(index).driving_mut() {
            driving.announced = false;
        }
    }

    /// Deletes a vehicle's entry, if it is that of this registration.
    pub(super) fn delete_entry(&mut self, now: Now, left: &Left, ask: Ask) {
        let Some(bus) = &mut self.bus else { return };
        let Some(realm) = bus.realms.get(left.world) else { return };
        let args = scripts::leave(&left.vehicle_id, &self.node.id, left.epoch.connected_ms);
        let key = realm.names.presence.as_bytes();
        let sent = bus.client.run(now, &scripts::LEAVE, key, &args.slices(), ask);
        self.count_command(sent);
    }

    /// Publishes that a vehicle has left.
    pub(super) fn announce_left(&mut self, now: Now, left: &Left, ask: Ask) {
        let Left { vehicle_id, status, last_seen, .. } = left;
        let event = Event::PresenceUpdate { vehicle_id, status: *status, last_seen: *last_seen };
        let kind = Kind::Presence { connected_ms: left.epoch.connected_ms, identity: None };
        if self.post_presence(now, left.world, &event, &kind, ask.clone()).is_err()
            && let Ask::Left(left) = ask
        {
            self.left_untold(left);
            if let Some(bus) = &mut self.bus {
                bus.departures_at_ms = now.mono_ms + limits::BEAT_MS;
            }
        }
    }

    fn post_presence(
        &mut self,
        now: Now,
        world: WorldId,
        event: &Event<'_>,
        kind: &Kind<'_>,
        ask: Ask,
    ) -> Result<(), super::client::NotSent> {
        let public = self.config.presence.scope == PresenceScope::All && self.is_whitelisted("presence_update");
        let to = if public { To::Broadcast } else { To::Gateways };
        let mut obj = Vec::new();
        event.write(&mut obj);
        self.post(now, world, to, kind, Some(&obj), ask)
    }

    /// Says what has left while nobody could hear it, as much as the link takes now.
    pub(super) fn tell_departures(&mut self, now: Now) {
        let Some(bus) = &self.bus else { return };
        if now.mono_ms < bus.departures_at_ms {
            return;
        }
        for _ in 0..bus.departures.len() {
            let Some(bus) = &mut self.bus else { return };
            if bus.client.in_flight_bytes() > limits::REWRITE_BYTES_MAX || now.mono_ms < bus.departures_at_ms {
                return;
            }
            if let Some(left) = bus.departures.pop_front() {
                self.tell_left(now, left);
            }
        }
    }

    /// Writes the entries of this shard's vehicles again, as many as the link takes now.
    pub(super) fn rewrite_entries(&mut self, now: Now) {
        while let Some(bus) = &mut self.bus
            && let Some((index, realm)) = bus.realms.next_rewriting()
        {
            if bus.client.in_flight_bytes() > limits::REWRITE_BYTES_MAX {
                // Goes on when Redis has answered some.
                return;
            }
            let world = realm.world;
            let vehicles = &mut self.worlds[world].vehicles;
            realm.rewriting = ((index as usize) < vehicles.slots()).then_some(index + 1);
            if vehicles.get_mut(index).is_some_and(|vehicle| vehicle.driving().is_some()) {
                self.tell_hosts_of(now, world, index);
                // While the link was away, others may have come who have never heard of it, and nobody is parked for good.
                self.tell_hosts_where_again(world, index);
            }
        }
    }

    /// Writes the entries of this shard's vehicles again from the first one on.
    pub(in super::super) fn rewrite_all(&mut self, world: WorldId) {
        if let Some(bus) = &mut self.bus
            && bus.ready
            && let Some(realm) = bus.realms.get_mut(world)
        {
            realm.rewriting.get_or_insert(0);
        }
    }

    /// A vehicle has registered on another host, says that host or the presence hash.
    pub(super) fn entered_elsewhere(
        &mut self,
        now: Now,
        world: WorldId,
        node: &str,
        identity: Arc<Identity>,
        epoch: Epoch,
    ) {
        let key = state::key(&identity.vehicle_id);
        if self.bus.as_ref().is_some_and(|bus| !bus.node_names.contains_key(&epoch.node)) {
            let what = What::NodeNamed(node.into());
            self.mesh.tell_all(Note { world, what }, &mut self.out.counters);
            self.node_named(node.into());
        }
        let vehicles = &self.worlds[world].vehicles;
        let known = || self.worlds.iter().map(|world| world.vehicles.len()).sum::<usize>();
        if vehicles.by_key(key).is_none() && known() >= limits::VEHICLES_KNOWN_MAX {
            self.out.counters.backplane.dropped.increment(Dropped::Vehicles);
            return;
        }
        if let Some(index) = vehicles.by_key(key) {
            let known = vehicles.at(index);
            if known.identity.vehicle_id != identity.vehicle_id {
                self.out.counters.backplane.dropped.increment(Dropped::KeyCollision);
                return;
            }
            if known.epoch >= epoch {
                // Of two registrations the later one wins. If that is ours, the others have not heard of it.
                if known.epoch > epoch && known.epoch.node == self.node.key {
                    let home = known.epoch.shard;
                    self.have_asserted(now, world, key, home);
                }
                return;
            }
        }
        let what = What::Arrived { key, identity: identity.clone(), epoch, position: None };
        self.mesh.tell_all(Note { world, what }, &mut self.out.counters);
        self.arrived(now, world, key, identity, epoch, None);
    }

    /// A node has vehicles: what is sent to them goes by its name.
    pub(in super::super) fn node_named(&mut self, id: Arc<str>) {
        if let Some(bus) = &mut self.bus
            && bus.node_names.len() < limits::NODES_MAX
        {
            bus.node_names.insert(state::key(&id), id);
        }
    }

    /// A vehicle has left another host, says somebody who knows.
    pub(super) fn left_elsewhere(
        &mut self,
        now: Now,
        world: WorldId,
        vehicle_id: &str,
        connected_ms: u64,
        (status, last_seen): (Status, u64),
    ) {
        let key = state::key(vehicle_id);
        let vehicles = &self.worlds[world].vehicles;
        let Some(index) = vehicles.by_id(vehicle_id) else { return };
        let epoch = vehicles.at(index).epoch;
        if epoch.connected_ms > connected_ms {
            // It was an earlier registration that ended.
            return;
        }
        if epoch.node == self.node.key {
            // Nobody else knows better. Whoever says so has taken this host for dead.
            self.have_asserted(now, world, key, epoch.shard);
            return;
        }
        let departed = Departed { epoch, rates: Rates::default() };
        let what = What::Gone { key, departed, status, last_seen };
        self.mesh.tell_all(Note { world, what }, &mut self.out.counters);
        self.gone(now, world, key, departed, (status, last_seen));
    }
}

fn who(identity: &Identity) -> Who<'_> {
    Who {
        driver_name: &identity.driver_name,
        license_plate: identity.license_plate.as_deref(),
        model: identity.model.as_deref(),
        color: identity.color.as_deref(),
    }
}

/// An identity as another host tells it.
pub(super) fn identity(vehicle_id: &str, who: &Who<'_>, connected_ms: u64) -> Arc<Identity> {
    Arc::new(Identity {
        vehicle_id: vehicle_id.into(),
        driver_name: who.driver_name.into(),
        license_plate: who.license_plate.map(Into::into),
        model: who.model.map(Into::into),
        color: who.color.map(Into::into),
        connected_ms,
    })
}
