//! Who is near whom.
//!
//! Work is done per turn, not per update: an update moves its vehicle at once and marks it; [`World::settle`] then
//! looks at each marked vehicle once, with everybody's newest place. A pair is kept as long as at least one of its two
//! vehicles sees the other, and each shard tells its own vehicles only. What is different where there are too many to
//! see them all is in `crowd`.

use crate::geo::{Change, distance};
use crate::limits;
use crate::metrics::Counters;
use crate::turn::{ConnId, Now};
use crate::wire::event::{Event, Motion, Neighbour, Status};
use crate::wire::frame::{self, Opcode};
use crate::wire::state::Sample;

use super::Timer;
use super::crowd::Candidate;
use super::fanout::Fanout;
use super::ids::Ids;
use super::pairs::Near;
use super::vehicles::{Position, Slot};
use super::watch;
use super::world::World;
use crate::config::PresenceScope;
use crate::geo::Place;

impl World {
    /// Gives a vehicle its newest position.
    pub fn place(&mut self, index: u32, sample: Sample, now: Now) {
        let state = sample.state();
        let place = Place::from_e7(state.lat_e7, state.lon_e7);
        let vehicle = self.vehicles.at_mut(index);
        match vehicle.position {
            None => self.index.insert(index, place),
            Some(Position { place: from, .. }) => self.index.relocate(index, from, place),
        }
        vehicle.position = Some(Position { place, sample, updated_ms: now.mono_ms, updated_unix_ms: now.unix_ms });
        vehicle.unconfirmed_ms = None;
        vehicle.rendered.1 = 0;
        self.mark_moved(index);
    }

    /// A vehicle is to be settled as one that has moved.
    pub(super) fn mark_moved(&mut self, index: u32) {
        let vehicle = self.vehicles.at_mut(index);
        if !std::mem::replace(&mut vehicle.moved, true) {
            self.moved.push_back(index);
        }
    }

    /// Looks at every vehicle that moved: tells of enters and exits, and marks who is to hear of the move. Then at those
    /// that are to choose anew whom they see, and at views that are. All first come, first served; what is more than the
    /// work of one turn is left for the next.
    pub fn settle(&mut self, now: Now, out: &mut Fanout, ids: &mut Ids) {
        // The lists of this turn count too, but they must not be all there is.
        self.work = self.work.min(limits::SETTLE_WORK_MAX / 2);
        // A move goes before a choice; choices get a quarter of a turn all the same.
        let for_views = if self.views.is_empty() { 0 } else { limits::SETTLE_WORK_MAX / 8 };
        let for_choices = if self.choosing.is_empty() { for_views } else { limits::SETTLE_WORK_MAX / 4 };
        while self.work + for_choices < limits::SETTLE_WORK_MAX
            && let Some(index) = self.moved.pop_front()
        {
            // It may have gone, or its slot may be another's, since it moved.
            if let Some(vehicle) = self.vehicles.get_mut(index)
                && std::mem::take(&mut vehicle.moved)
            {
                vehicle.strayed = true;
                let looks = !vehicle.crowded;
                self.settle_one(now, index, (true, looks), out, ids);
            }
        }
        // At least one of each, whatever the last one before took.
        let before_choices = self.work;
        while (self.work + for_views < limits::SETTLE_WORK_MAX || self.work == before_choices)
            && let Some(index) = self.choosing.pop_front()
        {
            if let Some(vehicle) = self.vehicles.get_mut(index)
                && std::mem::take(&mut vehicle.choosing)
            {
                self.settle_one(now, index, (false, true), out, ids);
            }
        }
        let before_views = self.work;
        while (self.work < limits::SETTLE_WORK_MAX || self.work == before_views)
            && let Some(id) = self.views.pop_front()
        {
            self.choose_view(now, id, out);
        }
        self.work = 0;
        out.counters.settles_cut += u64::from(self.is_behind());
    }

    /// Whether there are vehicles, or views, that the last turn had no time for.
    pub fn is_behind(&self) -> bool {
        !self.moved.is_empty() || !self.choosing.is_empty() || !self.views.is_empty()
    }

    /// `looks`: not only at those with whom it has pairs, but for others too.
    fn settle_one(&mut self, now: Now, index: u32, (moved, looks): (bool, bool), out: &mut Fanout, ids: &mut Ids) {
        let tell = moved && self.is_significant(now, index, out);
        let vehicle = self.vehicles.at(index);
        let Some(Position { place, .. }) = vehicle.position else { return };
        let owned = vehicle.driving().is_some();
        let stamp = self.scratch.next_stamp();
        mark(&mut self.scratch.marks, index, stamp);

        let mut around = std::mem::take(&mut self.scratch.around);
        let mut at = 0;
        while let Some(&near) = self.vehicles.at(index).near.get(at) {
            mark(&mut self.scratch.marks, near.peer, stamp);
            self.work += 1;
            let peer = self.vehicles.at(near.peer);
            let metres = peer.position.map_or(f64::INFINITY, |position| distance::metres(place, position.place));
            let theirs = peer.near[near.back as usize];
            let is_seen = peer.driving().is_some() && theirs.sees;
            if self.hysteresis.next(true, metres) == Some(Change::Exit) {
                self.vehicles.unpair(index, at as u32);
                if near.sees {
                    self.tell_exit(now, index, near, out, ids);
                }
                if is_seen {
                    self.tell_exit(now, near.peer, theirs, out, ids);
                }
                continue;
            }
            if metres <= self.hysteresis.enter_m {
                if looks && ((owned && !near.sees) || (!is_seen && peer.is_open())) {
                    around.push(Candidate {
                        peer: near.peer,
                        metres,
                        back: Some(near.back),
                        wanted: owned && !near.sees,
                    });
                }
                if is_seen && tell {
                    self.mark_due(near.peer, near.back, out);
                }
            }
            at += 1;
        }
        if looks {
            self.look_around(now, index, moved, &mut around, out, ids);
        }
        around.clear();
        self.scratch.around = around;
        if !moved {
            return;
        }
        self.settle_sights(now, index, tell, out);
        if let Some(watcher) = self.vehicles.at(index).driving().and_then(|driving| driving.watcher) {
            self.recentre(now, index, watcher, out);
        }
    }

    /// Marks that the connection of `index`, if it is ours, is to hear of the neighbour at `at` in its list.
    pub(super) fn mark_due(&mut self, index: u32, at: u32, out: &mut Fanout) {
        let vehicle = self.vehicles.at_mut(index);
        let Some(driving) = vehicle.driving() else { return };
        let id = driving.conn;
        if driving.watcher.is_some_and(|watcher| self.watchers.at(watcher).is_asking()) {
            return;
        }
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
            let (peer, is_first) = (near.peer, !std::mem::replace(&mut near.told, true));
            if self.write_position(peer, out) {
                watch::count(now, self.vehicles.at(peer), is_first, counters);
            }
        }
    }

    /// Appends a vehicle's `peer_location` frame, rendered at most once per update. False if it has no position.
    pub fn write_position(&mut self, index: u32, out: &mut Vec<u8>) -> bool {
        let vehicle = self.vehicles.at_mut(index);
        let (at, len) = vehicle.rendered;
        if len > 0
            && let Some(frame) = self.rendered.piece(at, len as usize)
        {
            out.extend_from_slice(frame);
            return true;
        }
        let Some(Position { sample, .. }) = &vehicle.position else { return false };
        let start = out.len();
        let event = Event::PeerLocation { vehicle_id: &vehicle.identity.vehicle_id, motion: &Motion::of(sample) };
        frame::encode_with(out, Opcode::Text, |text| event.write(text));
        let at = self.rendered.head();
        self.rendered.writer().extend_from_slice(&out[start..]);
        vehicle.rendered = (at, (out.len() - start) as u32);
        true
    }

    /// Ends all pairs of a vehicle that is going, and tells those who had it near.
    pub fn part(&mut self, now: Now, index: u32, (status, last_seen): (Status, u64), out: &mut Fanout, ids: &mut Ids) {
        while let Some((peer, theirs)) = self.end_last_pair(index) {
            if theirs.sees {
                if self.config.presence.scope == PresenceScope::Nearby {
                    self.tell_presence(now, peer, index, (status, last_seen), out);
                }
                self.tell_exit(now, peer, theirs, out, ids);
            }
        }
        self.end_sights_of(index, out);
    }

    /// Nothing more will be heard of where a vehicle is: it has no position until then, and nobody near it.
    pub fn lose(&mut self, now: Now, index: u32, out: &mut Fanout, ids: &mut Ids) {
        while let Some((peer, theirs)) = self.end_last_pair(index) {
            if theirs.sees {
                self.tell_exit(now, peer, theirs, out, ids);
            }
        }
        self.end_sights_of(index, out);
        let vehicle = self.vehicles.at_mut(index);
        (vehicle.crowded, vehicle.strayed) = (false, false);
        if let Some(position) = vehicle.position.take() {
            self.index.remove(index, position.place);
        }
    }

    /// Ends one of a vehicle's pairs. With whom, and what that one's end was.
    fn end_last_pair(&mut self, index: u32) -> Option<(u32, Near)> {
        let near = *self.vehicles.at(index).near.last()?;
        let theirs = self.vehicles.at(near.peer).near[near.back as usize];
        let at = self.vehicles.at(index).near.len() as u32 - 1;
        self.vehicles.unpair(index, at);
        Some((near.peer, theirs))
    }

    /// A vehicle has become another shard's: it sees nobody here any more.
    pub fn drop_foreign_pairs(&mut self, index: u32) {
        let mut at = 0;
        while (at as usize) < self.vehicles.at(index).near.len() {
            if !self.vehicles.unsee(index, at) {
                at += 1;
            }
        }
        self.uncrowd(index);
    }

    /// Tells a vehicle that has a new connection who is near it.
    pub fn tell_neighbours_again(&mut self, now: Now, index: u32, out: &mut Fanout, ids: &mut Ids) {
        for at in 0..self.vehicles.at(index).near.len() {
            let near = self.vehicles.at(index).near[at];
            if near.sees {
                self.tell_enter(now, index, near.peer, self.metres_between(index, near.peer), out, ids);
            }
        }
    }

    pub(super) fn tell_enter(&mut self, now: Now, index: u32, peer: u32, metres: f64, out: &mut Fanout, ids: &mut Ids) {
        if self.config.presence.scope == PresenceScope::Nearby {
            self.tell_presence(now, index, peer, (Status::Online, now.unix_ms), out);
        }
        out.counters.proximity_enters += self.tell(now, index, peer, Some(metres), out, ids);
    }

    /// Tells `index` that it does not see a neighbour any more. `ended`: its end of the pair, as it was.
    pub(super) fn tell_exit(&mut self, now: Now, index: u32, ended: Near, out: &mut Fanout, ids: &mut Ids) {
        out.counters.proximity_exits += self.tell(now, index, ended.peer, None, out, ids);
        let watcher = self.vehicles.at(index).driving().filter(|driving| driving.slim && ended.told);
        if let Some(watcher) = watcher.and_then(|driving| driving.watcher) {
            let peer = self.vehicles.at(ended.peer);
            let (key, identity) = (peer.key, peer.identity.clone());
            self.lose_sight(watcher, key, &identity, out);
        }
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
        self.work += limits::EVENT_WORK;
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
            .filter(|near| near.sees)
            .filter_map(|near| {
                let position = self.vehicles.at(near.peer).position?;
                Some((distance::metres(place, position.place), near.peer))
            })
            .collect();
        neighbours.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        neighbours.truncate(limits::NEARBY_LIST_MAX);
        self.work += (1 + neighbours.len()) * limits::LINE_WORK;
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

pub(super) fn mark(marks: &mut Vec<u32>, index: u32, stamp: u32) {
    let index = index as usize;
    if marks.len() <= index {
        marks.resize(index + 1, stamp.wrapping_sub(1));
    }
    marks[index] = stamp;
}
