//! Vehicles coming and going: registration, takeover, departure, here and on the other shards.

use std::sync::Arc;

use crate::config::PresenceScope;
use crate::limits;
use crate::turn::{ConnId, Now};
use crate::wire::error::ErrorCode;
use crate::wire::event::{Event, Identity, Status};
use crate::wire::json::Info;
use crate::wire::state;

use super::close::CloseReason;
use super::mail::{Note, What};
use super::vehicles::{Departed, Driving, Epoch, Owner, Position, Rates, Slot};
use super::world::WorldId;
use super::{Shard, Timer};

impl Shard {
    /// Binds a connection to a vehicle. A vehicle that is connected already is taken over.
    pub(super) fn register(&mut self, now: Now, id: ConnId, vehicle_id: &str, driver_name: &str, info: Info<'_>) {
        let Some(conn) = self.out.conns.find(id) else { return };
        let (world_id, bound) = (conn.world, conn.vehicle);
        let key = state::key(vehicle_id);
        let world = &mut self.worlds[world_id];
        if let Some(slot) = bound {
            // A client that says the same thing twice is answered twice; the second time nobody else hears of it.
            if world.vehicles.find(slot).is_some_and(|vehicle| &*vehicle.identity.vehicle_id == vehicle_id) {
                self.out.event(now, id, &Event::Registered { vehicle_id });
            } else {
                self.error(now, id, ErrorCode::InvalidRegister, "this connection is registered as another vehicle");
            }
            return;
        }
        let known = world.vehicles.by_key(key);
        if known.is_some_and(|index| &*world.vehicles.at(index).identity.vehicle_id != vehicle_id) {
            // Two ids with one hash. Taking the first one over would move another's vehicle.
            self.error(now, id, ErrorCode::InvalidRegister, "vehicleId collides with another vehicle's key");
            return;
        }
        let identity = Arc::new(Identity {
            vehicle_id: vehicle_id.into(),
            driver_name: driver_name.into(),
            license_plate: info.license_plate.map(Into::into),
            model: info.model.map(Into::into),
            color: info.color.map(Into::into),
            connected_ms: now.unix_ms,
        });
        world.registrations += 1;
        let departed = world.departed.get(&key).copied();
        // Later than what it replaces, even within one millisecond or when the clock was set back.
        let before = known.map(|index| world.vehicles.at(index).epoch).max(departed.map(|departed| departed.epoch));
        let after = before.map_or(0, |epoch| epoch.connected_ms + 1);
        let epoch =
            Epoch { connected_ms: now.unix_ms.max(after), shard: self.mesh.shard(), count: world.registrations };
        // Neither a takeover nor a new connection fills the buckets.
        let mut driving = Box::new(Driving::new(id));
        driving.rates = departed.map(|departed| departed.rates).unwrap_or_default();
        let (index, replaced) = match known {
            None => (world.vehicles.insert(key, identity.clone(), epoch, Owner::Here(driving)), None),
            Some(index) => {
                let vehicle = world.vehicles.at_mut(index);
                let replaced = vehicle.driving().map(|former| {
                    driving.rates = former.rates;
                    former.conn
                });
                vehicle.identity = identity.clone();
                vehicle.rendered.1 = 0;
                vehicle.epoch = epoch;
                vehicle.owner = Owner::Here(driving);
                (index, replaced)
            }
        };
        let slot = world.vehicles.slot(index);
        if let Some(conn) = self.out.conns.find(id) {
            conn.vehicle = Some(slot);
        }
        if let Some(old) = replaced {
            if let Some(conn) = self.out.conns.find(old) {
                conn.vehicle = None;
            }
            self.out.close_frame(now, old, CloseReason::Replaced);
        }
        self.out.counters.registrations += 1;
        self.out.counters.presence_updates += 1;
        self.out.event(now, id, &Event::Registered { vehicle_id });
        let world = &mut self.worlds[world_id];
        world.tell_neighbours_again(now, index, &mut self.out, &mut self.ids);
        if self.config.vehicles.nearby_list_ms > 0 {
            self.out.timers.set(now.mono_ms + self.config.vehicles.nearby_interval_ms, Timer::Interval(id));
        }
        self.announce(world_id, &identity.vehicle_id, Status::Online, now.unix_ms);
        let position = self.worlds[world_id].vehicles.at(index).position;
        let what = What::Arrived { key, identity, epoch, position };
        self.mesh.tell_all(Note { world: world_id, what }, &mut self.out.counters);
    }

    /// A connection is no longer its vehicle's: the vehicle leaves.
    pub(super) fn depart(&mut self, now: Now, id: ConnId, status: Status) {
        let Some(conn) = self.out.conns.find(id) else { return };
        let (Some(slot), world_id) = (conn.vehicle.take(), conn.world) else { return };
        let last_seen = now.unix_ms - (now.mono_ms - conn.heard_ms).min(now.unix_ms);
        let world = &mut self.worlds[world_id];
        let Some(vehicle) = world.vehicles.find(slot) else { return };
        let rates = vehicle.driving().map(|driving| driving.rates).unwrap_or_default();
        let (key, departed) = (vehicle.key, Departed { epoch: vehicle.epoch, rates });
        self.out.counters.presence_updates += 1;
        self.mesh.forget(key, vehicle.moved);
        self.remove_vehicle(now, world_id, slot, status, last_seen);
        self.remember_departure(now, world_id, key, departed);
        let what = What::Gone { key, departed, status, last_seen };
        self.mesh.tell_all(Note { world: world_id, what }, &mut self.out.counters);
    }

    /// Takes a vehicle out of a world and tells this shard's connections.
    fn remove_vehicle(&mut self, now: Now, world_id: WorldId, slot: Slot, status: Status, last_seen: u64) {
        let world = &mut self.worlds[world_id];
        world.part(now, slot.index, (status, last_seen), &mut self.out, &mut self.ids);
        let vehicle = world.vehicles.remove(slot.index);
        if let Some(position) = vehicle.position {
            world.index.remove(slot.index, position.place);
        }
        self.announce(world_id, &vehicle.identity.vehicle_id, status, last_seen);
    }

    fn announce(&mut self, world_id: WorldId, vehicle_id: &str, status: Status, last_seen: u64) {
        if self.config.presence.scope == PresenceScope::All {
            let event = Event::PresenceUpdate { vehicle_id, status, last_seen };
            self.out.broadcast(&mut self.worlds[world_id], &event);
        }
    }

    /// A vehicle registered on another shard.
    pub(super) fn arrived(
        &mut self,
        now: Now,
        world_id: WorldId,
        key: u64,
        identity: Arc<Identity>,
        epoch: Epoch,
        position: Option<Position>,
    ) {
        let world = &mut self.worlds[world_id];
        let vehicle_id = identity.vehicle_id.clone();
        let index = match world.vehicles.by_key(key) {
            // A later registration has ended this one, and has itself ended since: nobody would ever take it back.
            None if world.departed.get(&key).is_some_and(|departed| departed.epoch >= epoch) => return,
            None => world.vehicles.insert(key, identity, epoch, Owner::There),
            // The same vehicle registered here at the same time, and later: the other shard gives way.
            Some(index) if world.vehicles.at(index).epoch > epoch => return,
            Some(index) => {
                let vehicle = world.vehicles.at_mut(index);
                vehicle.identity = identity;
                vehicle.rendered.1 = 0;
                vehicle.epoch = epoch;
                if let Owner::Here(driving) = std::mem::replace(&mut vehicle.owner, Owner::There) {
                    world.drop_foreign_pairs(index);
                    if let Some(conn) = self.out.conns.find(driving.conn) {
                        conn.vehicle = None;
                    }
                    self.out.close_frame(now, driving.conn, CloseReason::Replaced);
                    let note = Note { world: world_id, what: What::Spent { key, rates: driving.rates } };
                    self.mesh.tell(epoch.shard, note, &mut self.out.counters);
                }
                index
            }
        };
        // Its former connection was this shard's and ended before the note of its takeover came: all that was known of
        // it here went with that connection.
        let world = &mut self.worlds[world_id];
        if let (Some(position), None) = (position, world.vehicles.at(index).position) {
            world.place(index, position.motion, now);
        }
        self.announce(world_id, &vehicle_id, Status::Online, now.unix_ms);
    }

    /// A vehicle left another shard.
    pub(super) fn gone(
        &mut self,
        now: Now,
        world_id: WorldId,
        key: u64,
        departed: Departed,
        (status, last_seen): (Status, u64),
    ) {
        self.remember_departure(now, world_id, key, departed);
        self.spent(world_id, key, &departed.rates);
        let world = &mut self.worlds[world_id];
        let Some(index) = world.vehicles.by_key(key) else { return };
        // An older registration of a vehicle that has been taken over since says nothing about it.
        if world.vehicles.at(index).epoch == departed.epoch {
            let slot = world.vehicles.slot(index);
            self.remove_vehicle(now, world_id, slot, status, last_seen);
        }
    }

    fn remember_departure(&mut self, now: Now, world_id: WorldId, key: u64, departed: Departed) {
        let all = &mut self.worlds[world_id].departed;
        if all.get(&key).is_none_or(|known| known.epoch < departed.epoch) {
            all.insert(key, departed);
            self.out.timers.set(now.mono_ms + limits::DEPARTED_MS, Timer::Departed(world_id, key, departed.epoch));
        }
    }

    /// A former connection of a vehicle on another shard had emptied its buckets so far.
    pub(super) fn spent(&mut self, world_id: WorldId, key: u64, rates: &Rates) {
        let vehicles = &mut self.worlds[world_id].vehicles;
        let Some(index) = vehicles.by_key(key) else { return };
        if let Some(driving) = vehicles.at_mut(index).driving_mut() {
            driving.rates.spent(rates);
        }
    }
}
