//! Vehicles coming and going: registration, takeover, departure, here, on the other shards and on other hosts.

use std::sync::Arc;

use crate::config::PresenceScope;
use crate::limits;
use crate::turn::{ConnId, Now};
use crate::wire::error::ErrorCode;
use crate::wire::event::{Event, Identity, Status};
use crate::wire::json::Info;
use crate::wire::state;

use super::backplane::presence::Left;
use super::close::CloseReason;
use super::conns::Dialect;
use super::mail::{Note, What};
use super::vehicles::{Departed, Driving, Epoch, Owner, Position, Rates, Slot};
use super::world::WorldId;
use super::{Shard, Timer};

impl Shard {
    /// Binds a connection to a vehicle. A vehicle that is connected already is taken over.
    pub(super) fn register(&mut self, now: Now, id: ConnId, vehicle_id: &str, driver_name: &str, info: Info<'_>) {
        let Some(conn) = self.out.conns.find(id) else { return };
        let (world_id, bound) = (conn.world, conn.vehicle);
        let (watcher, slim) = (conn.watcher, conn.dialect == Some(Dialect::Slim));
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
        let epoch = Epoch {
            connected_ms: now.unix_ms.max(after),
            node: self.node.key,
            shard: self.mesh.shard(),
            count: world.registrations,
        };
        // Neither a takeover nor a new connection fills the buckets.
        let mut driving = Box::new(Driving::new(id));
        (driving.watcher, driving.slim) = (watcher, slim);
        driving.rates = departed.map(|departed| departed.rates).unwrap_or_default();
        let (index, replaced) = match known {
            None => (world.vehicles.insert(key, identity.clone(), epoch, Owner::Here(driving)), None),
            Some(index) => {
                let vehicle = world.vehicles.at_mut(index);
                let replaced = vehicle.driving().map(|former| {
                    (driving.rates, driving.alert_until_ms) = (former.rates, former.alert_until_ms);
                    former.conn
                });
                // Of what its former connection was told the new one knows nothing.
                vehicle.near.iter_mut().for_each(|near| (near.told, near.named) = (false, false));
                world.vehicles.track_mut(index).woken = false;
                let vehicle = world.vehicles.at_mut(index);
                vehicle.identity = identity.clone();
                vehicle.rendered.1 = 0;
                vehicle.epoch = epoch;
                vehicle.owner = Owner::Here(driving);
                (vehicle.heard_at, vehicle.unconfirmed_ms) = (0, None);
                world.rename(index);
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
            self.unwatch(old);
            self.out.close_frame(now, old, CloseReason::Replaced);
        }
        self.out.counters.registrations += 1;
        self.out.counters.presence_updates += 1;
        self.out.event(now, id, &Event::Registered { vehicle_id });
        let world = &mut self.worlds[world_id];
        if replaced.is_none() {
            world.see_anew(now, index, &mut self.out, &mut self.ids);
        }
        world.tell_neighbours_again(now, index, &mut self.out, &mut self.ids);
        if let Some(watcher) = watcher {
            world.look_away(watcher, index, &mut self.out);
            if slim && !world.watchers.at(watcher).is_asking() {
                world.show_neighbours(index, watcher, &mut self.out);
            }
            world.recentre(now, index, watcher, &mut self.out);
        }
        if self.config.vehicles.nearby_list_ms > 0 {
            let interval_ms = self.config.vehicles.nearby_interval_ms;
            let slack_ms = interval_ms / limits::REST_SLACK_PART;
            self.out.timers.set_about(now.mono_ms + interval_ms, slack_ms, Timer::Interval(id));
        }
        self.announce(world_id, &identity.vehicle_id, Status::Online, now.unix_ms);
        let position = self.worlds[world_id].vehicles.at(index).position;
        let what = What::Arrived { key, identity, epoch, position };
        self.mesh.tell_all(Note { world: world_id, what }, &mut self.out.counters);
        self.watch_around(now, world_id, index);
        self.look_after(now, world_id, key);
        self.tell_hosts_of(now, world_id, index);
        // Taken over from another host, it is still where it was; that host waits to hear it from this one.
        self.tell_hosts_where_again(world_id, index);
    }

    /// A connection is going: it watches no more, and its vehicle leaves.
    pub(super) fn depart(&mut self, now: Now, id: ConnId, status: Status) {
        self.unwatch(id);
        let Some(conn) = self.out.conns.find(id) else { return };
        let (Some(slot), world_id) = (conn.vehicle.take(), conn.world) else { return };
        let last_seen = now.unix_ms - (now.mono_ms - conn.heard_ms).min(now.unix_ms);
        let world = &mut self.worlds[world_id];
        let Some(vehicle) = world.vehicles.find(slot) else { return };
        let rates = vehicle.driving().map(|driving| driving.rates).unwrap_or_default();
        let (key, departed) = (vehicle.key, Departed { epoch: vehicle.epoch, rates });
        let identity = vehicle.identity.clone();
        self.out.counters.presence_updates += 1;
        self.mesh.forget(world_id, key, vehicle.moved);
        if let Some(bus) = &mut self.bus {
            bus.forget_position(world_id, key);
        }
        self.remove_vehicle(now, world_id, slot, status, last_seen);
        self.remember_departure(now, world_id, key, departed);
        let what = What::Gone { key, departed, status, last_seen };
        self.mesh.tell_all(Note { world: world_id, what }, &mut self.out.counters);
        let vehicle_id = identity.vehicle_id.clone();
        let left = Left { world: world_id, vehicle_id, epoch: departed.epoch, status, last_seen };
        self.tell_hosts_left(now, left);
    }

    /// Takes a vehicle out of a world and tells this shard's connections.
    fn remove_vehicle(&mut self, now: Now, world_id: WorldId, slot: Slot, status: Status, last_seen: u64) {
        let world = &mut self.worlds[world_id];
        world.part(now, slot.index, (status, last_seen), &mut self.out, &mut self.ids);
        let vehicle = world.vehicles.remove(slot.index);
        if let Some(position) = vehicle.position {
            world.index.remove(slot.index, position.place);
        }
        self.watch_no_more(now, world_id, vehicle.squares);
        self.look_after(now, world_id, vehicle.key);
        self.announce(world_id, &vehicle.identity.vehicle_id, status, last_seen);
    }

    fn announce(&mut self, world_id: WorldId, vehicle_id: &str, status: Status, last_seen: u64) {
        if self.config.presence.scope == PresenceScope::All {
            let event = Event::PresenceUpdate { vehicle_id, status, last_seen };
            self.out.broadcast(&mut self.worlds[world_id], &event);
        }
    }

    /// A vehicle registered on another shard, or on another host.
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
            // A later registration has ended this one, and has itself ended since: nobody would ever take it back. One
            // that another host still asserts was only taken for dead.
            None if world.departed.get(&key).is_some_and(|departed| {
                departed.epoch > epoch || (departed.epoch == epoch && epoch.node == self.node.key)
            }) =>
            {
                return;
            }
            None => world.vehicles.insert(key, identity, epoch, Owner::There),
            // The same vehicle registered here at the same time, and later: the other shard gives way.
            Some(index) if world.vehicles.at(index).epoch >= epoch => return,
            Some(index) => {
                let vehicle = world.vehicles.at_mut(index);
                vehicle.identity = identity;
                vehicle.rendered.1 = 0;
                if vehicle.epoch.node != epoch.node {
                    vehicle.heard_at = 0;
                }
                vehicle.epoch = epoch;
                let owner = std::mem::replace(&mut vehicle.owner, Owner::There);
                world.rename(index);
                if let Owner::Here(driving) = owner {
                    if let Some(bus) = &mut self.bus {
                        bus.forget_position(world_id, key);
                    }
                    world.drop_foreign_pairs(index);
                    if let Some(conn) = self.out.conns.find(driving.conn) {
                        conn.vehicle = None;
                    }
                    self.unwatch(driving.conn);
                    self.out.close_frame(now, driving.conn, CloseReason::Replaced);
                    // Another host has the buckets that it shares in Redis; the others it fills anew.
                    if epoch.node == self.node.key {
                        let note = Note { world: world_id, what: What::Spent { key, rates: driving.rates } };
                        self.mesh.tell(epoch.shard, note, &mut self.out.counters);
                    }
                }
                index
            }
        };
        // Its former connection was this shard's and ended before the note of its takeover came: all that was known of
        // it here went with that connection.
        let world = &mut self.worlds[world_id];
        if let (Some(position), None) = (position, world.vehicles.at(index).position) {
            world.place(index, position.sample, now);
        }
        let vehicle = self.worlds[world_id].vehicles.at_mut(index);
        // That host may have said where it is before it could say that it has registered again.
        let is_unconfirmed =
            epoch.node != self.node.key && vehicle.position.is_some() && vehicle.heard_at < epoch.connected_ms;
        vehicle.unconfirmed_ms = is_unconfirmed.then_some(now.mono_ms);
        if is_unconfirmed {
            let slot = self.worlds[world_id].vehicles.slot(index);
            let timer = Timer::Unconfirmed(Box::new((world_id, slot, now.mono_ms)));
            self.out.timers.set(now.mono_ms + limits::UNCONFIRMED_MS, timer);
        }
        self.watch_around(now, world_id, index);
        self.look_after(now, world_id, key);
        self.announce(world_id, &vehicle_id, Status::Online, now.unix_ms);
        self.place_early(now, world_id, index);
    }

    /// A vehicle has been on another host for a while. If it has not been heard of from there, it is somewhere that this
    /// host does not listen to, and not where it was.
    pub(super) fn check_confirmed(&mut self, now: Now, world_id: WorldId, slot: Slot, since_ms: u64) {
        let world = &mut self.worlds[world_id];
        let Some(vehicle) = world.vehicles.find(slot) else { return };
        if vehicle.unconfirmed_ms != Some(since_ms) {
            return;
        }
        vehicle.unconfirmed_ms = None;
        let key = vehicle.key;
        // While Redis is away nobody is heard of. When it is back, the square is asked for again.
        if self.bus.as_ref().is_some_and(|bus| bus.is_up()) {
            self.lose(now, world_id, slot.index);
        } else {
            self.look_after(now, world_id, key);
        }
    }

    /// A vehicle left another shard, or another host.
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
            self.keep_early(now, world_id, index, last_seen);
            self.remove_vehicle(now, world_id, slot, status, last_seen);
        }
    }

    fn remember_departure(&mut self, now: Now, world_id: WorldId, key: u64, mut departed: Departed) {
        let all = &mut self.worlds[world_id].departed;
        if let Some(known) = all.get(&key) {
            // Nobody fills a bucket by way of another host.
            departed.rates.spent(&known.rates);
        }
        if all.get(&key).is_none_or(|known| known.epoch < departed.epoch) {
            all.insert(key, departed);
            let timer = Timer::Departed(Box::new((world_id, key, departed.epoch)));
            self.out.timers.set(now.mono_ms + limits::DEPARTED_MS, timer);
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
