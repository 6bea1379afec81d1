//! Who is near whom.
//!
//! Work is done per turn, not per update: an update moves its vehicle at once and marks it; [`World::settle`] then
//! looks at each marked vehicle once, with everybody's newest place. A pair is kept as long as at least one of its two
//! vehicles is owned here, and each shard tells its own vehicles only.

use crate::geo::{Change, distance};
use crate::limits;
use crate::metrics::Counters;
use crate::turn::{ConnId, Now};
use crate::wire::event::{Event, Motion, Neighbour, Status};
use crate::wire::frame::{self, Opcode};

use super::Timer;
use super::fanout::Fanout;
use super::ids::Ids;
use super::vehicles::{Position, Slot};
use super::world::World;
use crate::config::PresenceScope;
use crate::geo::Place;

impl World {
    /// Gives a vehicle its newest position.
    pub fn place(&mut self, index: u32, motion: Motion, now: Now) {
        let place = Place::from_e7(motion.lat_e7, motion.lon_e7);
        let vehicle = self.vehicles.at_mut(index);
        match vehicle.position {
            None => self.index.insert(index, place),
            Some(Position { place: from, .. }) => self.index.relocate(index, from, place),
        }
        vehicle.position = Some(Position { place, motion, updated_ms: now.mono_ms, updated_unix_ms: now.unix_ms });
        vehicle.unconfirmed_ms = None;
        vehicle.rendered.1 = 0;
        if !vehicle.moved {
            vehicle.moved = true;
            self.moved.push(index);
        }
    }

    /// Looks at every vehicle that moved in this turn: tells of enters and exits, and marks who is to hear of the move.
    pub fn settle(&mut self, now: Now, out: &mut Fanout, ids: &mut Ids) {
        let moved = std::mem::take(&mut self.moved);
        for &index in &moved {
            // It may have gone, or its slot may be another's, since it moved.
            if let Some(vehicle) = self.vehicles.get_mut(index)
                && std::mem::take(&mut vehicle.moved)
            {
                self.settle_one(now, index, out, ids);
            }
        }
        self.moved = moved;
        self.moved.clear();
    }

    fn settle_one(&mut self, now: Now, index: u32, out: &mut Fanout, ids: &mut Ids) {
        let vehicle = self.vehicles.at(index);
        let Some(Position { place, .. }) = vehicle.position else { return };
        let owned = vehicle.driving().is_some();
        self.scratch.stamp = self.scratch.stamp.wrapping_add(1);
        let stamp = self.scratch.stamp;
        mark(&mut self.scratch.marks, index, stamp);

        // Those who are neighbours already: still near, or gone?
        let mut at = 0;
        while let Some(&near) = self.vehicles.at(index).near.get(at) {
            mark(&mut self.scratch.marks, near.peer, stamp);
            let peer = self.vehicles.at(near.peer);
            let metres = peer.position.map_or(f64::INFINITY, |position| distance::metres(place, position.place));
            if self.hysteresis.next(true, metres) == Some(Change::Exit) {
                self.vehicles.unpair(index, at as u32);
                self.tell_exit(now, index, near.peer, out, ids);
                self.tell_exit(now, near.peer, index, out, ids);
                continue;
            }
            if metres <= self.hysteresis.enter_m {
                self.mark_due(near.peer, near.back, out);
            }
            at += 1;
        }

        // Those who are near now and were not.
        let mut entering = std::mem::take(&mut self.scratch.entering);
        let (vehicles, marks) = (&self.vehicles, &self.scratch.marks);
        let mut within = 0;
        let examined = self.index.within(place, self.hysteresis.enter_m, |peer, metres| {
            within += 1;
            let known = marks.get(peer as usize) == Some(&stamp);
            if !known && (owned || vehicles.at(peer).driving().is_some()) {
                entering.push((peer, metres));
            }
        });
        // The vehicle itself is in the index too.
        out.counters.candidates_examined += examined as u64 - 1;
        out.counters.candidates_within_radius += within - 1;
        for &(peer, metres) in &entering {
            self.vehicles.pair(index, peer);
            self.tell_enter(now, index, peer, metres, out, ids);
            self.tell_enter(now, peer, index, metres, out, ids);
            let near_at = self.vehicles.at(peer).near.len() as u32 - 1;
            self.mark_due(peer, near_at, out);
        }
        entering.clear();
        self.scratch.entering = entering;
    }

    /// Marks that the connection of `index`, if it is ours, is to hear of the neighbour at `at` in its list.
    fn mark_due(&mut self, index: u32, at: u32, out: &mut Fanout) {
        let vehicle = self.vehicles.at_mut(index);
        let Some(driving) = vehicle.driving() else { return };
        let id = driving.conn;
        let near = &mut vehicle.near[at as usize];
        if near.due {
            out.counters.state_conflated += 1;
        }
        near.due = true;
        if let Some(conn) = out.conns.find(id) {
            conn.state_due = true;
            Fanout::enqueue(&mut out.queue, id, conn);
        }
    }

    /// Appends the newest position of every neighbour that has moved since the last flush.
    pub fn take_positions(&mut self, now: Now, slot: Slot, out: &mut Vec<u8>, counters: &mut Counters) {
        let Some(vehicle) = self.vehicles.find(slot) else { return };
        for at in 0..vehicle.near.len() {
            let near = &mut self.vehicles.at_mut(slot.index).near[at];
            if !std::mem::take(&mut near.due) {
                continue;
            }
            let peer = near.peer;
            if self.write_position(peer, out) {
                counters.peer_locations += 1;
                let updated_ms = self.vehicles.at(peer).position.map_or(now.mono_ms, |position| position.updated_ms);
                counters.delivery_latency_ms.observe(now.mono_ms.saturating_sub(updated_ms));
            }
        }
    }

    /// Appends a vehicle's `peer_location` frame, rendered at most once per update. False if it has no position.
    fn write_position(&mut self, index: u32, out: &mut Vec<u8>) -> bool {
        let vehicle = self.vehicles.at_mut(index);
        let (at, len) = vehicle.rendered;
        if len > 0
            && let Some(frame) = self.rendered.piece(at, len as usize)
        {
            out.extend_from_slice(frame);
            return true;
        }
        let Some(Position { motion, .. }) = &vehicle.position else { return false };
        let start = out.len();
        let event = Event::PeerLocation { vehicle_id: &vehicle.identity.vehicle_id, motion };
        frame::encode_with(out, Opcode::Text, |text| event.write(text));
        let at = self.rendered.head();
        self.rendered.writer().extend_from_slice(&out[start..]);
        vehicle.rendered = (at, (out.len() - start) as u32);
        true
    }

    /// Ends all pairs of a vehicle that is going, and tells those who had it near.
    pub fn part(&mut self, now: Now, index: u32, (status, last_seen): (Status, u64), out: &mut Fanout, ids: &mut Ids) {
        while let Some(near) = self.vehicles.at(index).near.last().copied() {
            let at = self.vehicles.at(index).near.len() as u32 - 1;
            self.vehicles.unpair(index, at);
            if self.config.presence.scope == PresenceScope::Nearby {
                self.tell_presence(now, near.peer, index, (status, last_seen), out);
            }
            self.tell_exit(now, near.peer, index, out, ids);
        }
    }

    /// Nothing more will be heard of where a vehicle is: it has no position until then, and nobody near it.
    pub fn lose(&mut self, now: Now, index: u32, out: &mut Fanout, ids: &mut Ids) {
        while let Some(near) = self.vehicles.at(index).near.last().copied() {
            let at = self.vehicles.at(index).near.len() as u32 - 1;
            self.vehicles.unpair(index, at);
            self.tell_exit(now, near.peer, index, out, ids);
        }
        if let Some(position) = self.vehicles.at_mut(index).position.take() {
            self.index.remove(index, position.place);
        }
    }

    /// Ends the pairs that no vehicle of this shard is part of any more, once `index` has become another shard's.
    pub fn drop_foreign_pairs(&mut self, index: u32) {
        let mut at = 0;
        while let Some(near) = self.vehicles.at(index).near.get(at).copied() {
            if self.vehicles.at(near.peer).driving().is_none() {
                self.vehicles.unpair(index, at as u32);
            } else {
                at += 1;
            }
        }
    }

    /// Tells a vehicle that has a new connection who is near it.
    pub fn tell_neighbours_again(&mut self, now: Now, index: u32, out: &mut Fanout, ids: &mut Ids) {
        let Some(Position { place, .. }) = self.vehicles.at(index).position else { return };
        // Of a vehicle that was another shard's, only the pairs with this shard's own vehicles are known.
        self.scratch.stamp = self.scratch.stamp.wrapping_add(1);
        let stamp = self.scratch.stamp;
        mark(&mut self.scratch.marks, index, stamp);
        for near in &self.vehicles.at(index).near {
            mark(&mut self.scratch.marks, near.peer, stamp);
        }
        let mut entering = std::mem::take(&mut self.scratch.entering);
        let (vehicles, marks) = (&self.vehicles, &self.scratch.marks);
        self.index.within(place, self.hysteresis.enter_m, |peer, metres| {
            if marks.get(peer as usize) != Some(&stamp) && vehicles.at(peer).driving().is_none() {
                entering.push((peer, metres));
            }
        });
        for (peer, _) in entering.drain(..) {
            self.vehicles.pair(index, peer);
        }
        self.scratch.entering = entering;
        for at in 0..self.vehicles.at(index).near.len() {
            let peer = self.vehicles.at(index).near[at].peer;
            if let Some(position) = self.vehicles.at(peer).position {
                self.tell_enter(now, index, peer, distance::metres(place, position.place), out, ids);
            }
        }
    }

    fn tell_enter(&mut self, now: Now, index: u32, peer: u32, metres: f64, out: &mut Fanout, ids: &mut Ids) {
        if self.config.presence.scope == PresenceScope::Nearby {
            self.tell_presence(now, index, peer, (Status::Online, now.unix_ms), out);
        }
        out.counters.proximity_enters += self.tell(now, index, peer, Some(metres), out, ids);
    }

    fn tell_exit(&mut self, now: Now, index: u32, peer: u32, out: &mut Fanout, ids: &mut Ids) {
        out.counters.proximity_exits += self.tell(now, index, peer, None, out, ids);
    }

    /// Sends `index` a proximity event about `peer`, if `index` is ours. How many were sent.
    fn tell(&mut self, now: Now, index: u32, peer: u32, metres: Option<f64>, out: &mut Fanout, ids: &mut Ids) -> u64 {
        let Some(driving) = self.vehicles.at(index).driving() else { return 0 };
        let conn = driving.conn;
        let event = Event::ProximityEvent {
            id: ids.next_uuid(),
            vehicle_id: &self.vehicles.at(index).identity.vehicle_id,
            peer_id: &self.vehicles.at(peer).identity.vehicle_id,
            distance_m: metres.map(|metres| metres.round() as u32),
            ts: now.unix_ms,
        };
        out.event(now, conn, &event);
        self.list_soon(index, out);
        1
    }

    fn tell_presence(&self, now: Now, index: u32, peer: u32, (status, last_seen): (Status, u64), out: &mut Fanout) {
        let Some(driving) = self.vehicles.at(index).driving() else { return };
        let vehicle_id = &self.vehicles.at(peer).identity.vehicle_id;
        let event = Event::PresenceUpdate { vehicle_id, status, last_seen };
        out.event(now, driving.conn, &event);
    }

    /// The set of neighbours has changed: the list follows, but not more often than `nearby_list_ms`.
    fn list_soon(&mut self, index: u32, out: &mut Fanout) {
        let list_ms = self.config.vehicles.nearby_list_ms;
        let slot = self.vehicles.slot(index);
        let Some(driving) = self.vehicles.at_mut(index).driving_mut() else { return };
        if list_ms == 0 || driving.list_pending {
            return;
        }
        driving.list_pending = true;
        // Not before the next millisecond: the changes of one turn make one list.
        out.timers.set(driving.listed_ms + list_ms, Timer::List(self.id, slot));
    }

    /// The list after a change, unless its timer was set for a connection that has been replaced since.
    pub fn list_changes(&mut self, now: Now, slot: Slot, out: &mut Fanout) {
        let list_ms = self.config.vehicles.nearby_list_ms;
        let due = self
            .vehicles
            .find(slot)
            .and_then(|vehicle| vehicle.driving())
            .is_some_and(|driving| driving.list_pending && now.mono_ms >= driving.listed_ms + list_ms);
        if due {
            self.list(now, slot, out);
        }
    }

    /// Sends a vehicle the list of its neighbours.
    fn list(&mut self, now: Now, slot: Slot, out: &mut Fanout) {
        let Some(vehicle) = self.vehicles.find(slot) else { return };
        let place = vehicle.position.map(|position| position.place);
        let Some(driving) = vehicle.driving_mut() else { return };
        driving.listed_ms = now.mono_ms;
        let conn = driving.conn;
        // A list is state: a reader that takes nothing gets no queue of them, but the newest once it does.
        driving.list_pending = out.conns.find(conn).is_some_and(|conn| conn.blocked);
        if driving.list_pending {
            let again_ms = self.config.vehicles.nearby_list_ms;
            out.timers.set(now.mono_ms + again_ms, Timer::List(self.id, slot));
            return;
        }
        let Some(place) = place else { return };
        let mut neighbours: Vec<(f64, u32)> = self
            .vehicles
            .at(slot.index)
            .near
            .iter()
            .filter_map(|near| {
                let position = self.vehicles.at(near.peer).position?;
                Some((distance::metres(place, position.place), near.peer))
            })
            .collect();
        neighbours.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        neighbours.truncate(limits::NEARBY_LIST_MAX);
        let vehicles: Vec<Neighbour> = neighbours
            .into_iter()
            .map(|(metres, peer)| Neighbour {
                identity: self.vehicles.at(peer).identity.clone(),
                distance_m: metres.round() as u32,
            })
            .collect();
        out.event(now, conn, &Event::NearbyVehicles { vehicles: &vehicles, radius_m: self.hysteresis.enter_m });
    }

    /// The periodic list, unless one was sent lately. Sets the next.
    pub fn list_periodically(&mut self, now: Now, id: ConnId, slot: Slot, out: &mut Fanout) {
        let interval_ms = self.config.vehicles.nearby_interval_ms;
        let Some(driving) = self.vehicles.find(slot).and_then(|vehicle| vehicle.driving_mut()) else { return };
        let since_ms = now.mono_ms - driving.listed_ms.min(now.mono_ms);
        if since_ms >= interval_ms {
            self.list(now, slot, out);
            out.timers.set(now.mono_ms + interval_ms, Timer::Interval(id));
        } else {
            out.timers.set(now.mono_ms + interval_ms - since_ms, Timer::Interval(id));
        }
    }
}

fn mark(marks: &mut Vec<u32>, index: u32, stamp: u32) {
    let index = index as usize;
    if marks.len() <= index {
        marks.resize(index + 1, stamp.wrapping_sub(1));
    }
    marks[index] = stamp;
}
