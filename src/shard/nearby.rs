//! Who is near whom.
//!
//! Work is done per turn, not per update: an update moves its vehicle at once and marks it; [`World::settle`] then
//! looks at each marked vehicle once, with everybody's newest place. A pair is kept as long as at least one of its two
//! vehicles sees the other, and each shard tells its own vehicles only. What is different where there are too many to
//! see them all is in `crowd`.

use crate::geo::{Ruler, distance};
use crate::limits;
use crate::metrics::Counters;
use crate::turn::{ConnId, Now};
use crate::wire::event::{Event, Identity, Motion, Neighbour, Status};
use crate::wire::frame::{self, Opcode};
use crate::wire::state::Sample;

use super::Timer;
use super::crowd::Candidate;
use super::fanout::Fanout;
use super::ids::Ids;
use super::log::ByteLog;
use super::pairs::Near;
use super::past::Passed;
use super::vehicles::{Position, Slot};
use super::watch::{self, Flush};
use super::world::World;
use crate::config::PresenceScope;
use crate::geo::Place;

/// What a move means for one of a vehicle's pairs, where it means anything.
#[derive(Clone, Copy, Debug)]
pub enum Apart {
    /// That vehicle's connection is to be flushed.
    Wake(u32),
    /// That vehicle, in whose list the other end is at that position, is not to hear of this move.
    Skip(u32, u32),
    /// The pair at that position ends.
    Exit(u32),
}

impl World {
    /// Gives a vehicle its newest position.
    pub fn place(&mut self, index: u32, sample: Sample, now: Now) {
        let state = sample.state();
        let place = Place::from_e7(state.lat_e7, state.lon_e7);
        let moves = self.vehicles.track(index).moves;
        let vehicle = self.vehicles.at_mut(index);
        match vehicle.position {
            None => self.index.insert(index, place),
            Some(Position { place: from, sample, updated_ms, .. }) => {
                self.index.relocate(index, from, place);
                let number = moves.wrapping_add(vehicle.unsettled + u32::from(vehicle.moved));
                let (rendered, before) = (vehicle.rendered, vehicle.passed);
                vehicle.passed = self.past.push(Passed { sample, updated_ms, number, rendered, before });
                vehicle.unsettled += u32::from(vehicle.moved);
            }
        }
        vehicle.position = Some(Position { place, sample, updated_ms: now.mono_ms, updated_unix_ms: now.unix_ms });
        vehicle.unconfirmed_ms = None;
        vehicle.rendered.1 = 0;
        self.vehicles.track_mut(index).place = place;
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
        out.counters.state_conflated += std::mem::take(&mut self.vehicles.replaced);
        out.counters.settles_cut += u64::from(self.is_behind());
    }

    /// Whether there are vehicles, or views, that the last turn had no time for.
    pub fn is_behind(&self) -> bool {
        !self.moved.is_empty() || !self.choosing.is_empty() || !self.views.is_empty()
    }

    /// `looks`: not only at those with whom it has pairs, but for others too.
    fn settle_one(&mut self, now: Now, index: u32, (moved, looks): (bool, bool), out: &mut Fanout, ids: &mut Ids) {
        let tell = moved && self.is_significant(now, index, out);
        let vehicle = self.vehicles.at_mut(index);
        let Some(Position { place, .. }) = vehicle.position else { return };
        let owned = vehicle.driving().is_some();
        let moves = if tell { 1 + std::mem::take(&mut vehicle.unsettled) } else { 0 };
        let track = self.vehicles.track_mut(index);
        let moves_before = track.moves;
        track.moves = moves_before.wrapping_add(moves);

        let mut around = std::mem::take(&mut self.scratch.around);
        let mut apart = std::mem::take(&mut self.scratch.apart);
        let near = &self.vehicles.at(index).near[..];
        self.work += near.len();
        // Most pairs stay what they are, and of most vehicles that see this one the connection waits to be flushed anyway:
        // this loop only reads, and what has to be done is done behind it.
        let ruler = Ruler::at(place, self.hysteresis.exit_m);
        let mut within = 0;
        for (at, near) in (0..).zip(near) {
            let peer = self.vehicles.track(near.peer);
            if ruler.is_within(peer.place, self.hysteresis.enter_m) {
                within += 1;
                if near.seen && tell && !peer.woken {
                    apart.push(Apart::Wake(near.peer));
                }
                let wanted = owned && !near.sees;
                if looks && (wanted || (!near.seen && self.vehicles.at(near.peer).is_open())) {
                    let metres = distance::metres(place, peer.place);
                    around.push(Candidate { peer: near.peer, metres, back: Some(near.back), wanted });
                }
            } else if !ruler.reaches(peer.place) {
                apart.push(Apart::Exit(at));
            } else if near.seen && tell {
                apart.push(Apart::Skip(near.peer, near.back));
            }
        }
        // From the end: where a pair ends, the last one takes its place.
        for what in apart.drain(..).rev() {
            match what {
                Apart::Wake(peer) => self.wake(peer, out),
                Apart::Skip(peer, back) => {
                    // Not told: unless an earlier move is still due, and then the newest state is.
                    let theirs = &mut self.vehicles.at_mut(peer).near[back as usize];
                    if theirs.heard == moves_before {
                        theirs.heard = moves_before.wrapping_add(moves);
                    }
                }
                Apart::Exit(at) => {
                    let ours = self.vehicles.at(index).near[at as usize];
                    let theirs = self.vehicles.at(ours.peer).near[ours.back as usize];
                    self.vehicles.unpair(index, at);
                    if ours.sees {
                        self.tell_exit(now, index, ours, out, ids);
                    }
                    if ours.seen {
                        self.tell_exit(now, ours.peer, theirs, out, ids);
                    }
                }
            }
        }
        self.scratch.apart = apart;
        if looks {
            self.look_around(now, index, (moved, within), &mut around, out, ids);
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

    /// Marks that the connection of `index`, which is ours, is to hear of the neighbour at `at` in its list.
    pub(super) fn mark_due(&mut self, index: u32, at: u32, out: &mut Fanout) {
        self.vehicles.mishear(index, at);
        self.wake(index, out);
    }

    /// Neighbours of `index` have moved: its connection is to be flushed, unless it has asked for something else.
    fn wake(&mut self, index: u32, out: &mut Fanout) {
        let Some(driving) = self.vehicles.at(index).driving() else { return };
        if driving.watcher.is_some_and(|watcher| self.watchers.at(watcher).is_asking()) {
            return;
        }
        let id = driving.conn;
        self.vehicles.track_mut(index).woken = true;
        if let Some(conn) = out.conns.find(id) {
            conn.state_due = true;
            Fanout::enqueue(&mut out.queue, id, conn);
        }
    }

    /// Appends the positions of every neighbour that has moved since the last flush.
    pub fn take_positions(&mut self, flush: Flush, slot: Slot, out: &mut Vec<u8>, counters: &mut Counters) {
        let Some(vehicle) = self.vehicles.find(slot) else { return };
        let mut neighbours = std::mem::take(&mut vehicle.near);
        self.vehicles.track_mut(slot.index).woken = false;
        for near in &mut neighbours {
            let Some(due) = self.vehicles.take_due(flush.now, near, flush.past(&self.past), counters) else { continue };
            for link in due.passed.iter() {
                let Some(passed) = self.past.get_mut(link) else { continue };
                let identity = &self.vehicles.at(near.peer).identity;
                passed.rendered = write_rendered(identity, &passed.sample, passed.rendered, &mut self.rendered, out);
                watch::count(flush.now, passed.updated_ms, due.is_first, counters);
            }
            if self.write_position(near.peer, out) {
                watch::count_newest(flush.now, self.vehicles.at(near.peer), due.is_first, counters);
            }
        }
        self.vehicles.at_mut(slot.index).near = neighbours;
    }

    /// Appends the `peer_location` frame of a vehicle's newest position. False if it has none.
    pub fn write_position(&mut self, index: u32, out: &mut Vec<u8>) -> bool {
        let vehicle = self.vehicles.at_mut(index);
        let Some(Position { sample, .. }) = &vehicle.position else { return false };
        vehicle.rendered = write_rendered(&vehicle.identity, sample, vehicle.rendered, &mut self.rendered, out);
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
        let mut left_ms = interval_ms.saturating_sub(since_ms);
        if left_ms == 0 {
            self.list(now, slot, out);
            left_ms = interval_ms;
        }
        let slack_ms = interval_ms / limits::REST_SLACK_PART;
        out.timers.set_about(now.mono_ms + left_ms, slack_ms, Timer::Interval(id));
    }
}

/// Appends a position's `peer_location` frame, rendered at most once: where it is in the render log.
fn write_rendered(
    identity: &Identity,
    sample: &Sample,
    (at, len): (u64, u32),
    log: &mut ByteLog,
    out: &mut Vec<u8>,
) -> (u64, u32) {
    if len > 0
        && let Some(frame) = log.piece(at, len as usize)
    {
        out.extend_from_slice(frame);
        return (at, len);
    }
    let start = out.len();
    let event = Event::PeerLocation { vehicle_id: &identity.vehicle_id, motion: &Motion::of(sample) };
    frame::encode_with(out, Opcode::Text, |text| event.write(text));
    let at = log.head();
    log.writer().extend_from_slice(&out[start..]);
    (at, (out.len() - start) as u32)
}
