//! Who comes into a watcher's view, and who leaves it.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use crate::limits;
use crate::turn::Now;
use crate::wire::event::Identity;

use super::super::fanout::Fanout;
use super::super::pairs::Near;
use super::super::world::World;
use super::{Area, Seen, Shape, Sight};

impl World {
    /// A vehicle has moved: looks at who sees it and who should. `tell`: its watchers are to hear of the move.
    pub fn settle_sights(&mut self, now: Now, index: u32, tell: bool, out: &mut Fanout) {
        let vehicle = self.vehicles.at(index);
        if vehicle.seen.is_empty() && self.watchers.is_idle() {
            return;
        }
        let Some(place) = vehicle.position.map(|position| position.place) else { return };
        let key = vehicle.key;
        self.watchers.stamp = self.watchers.stamp.wrapping_add(1);
        let stamp = self.watchers.stamp;

        let mut at = 0;
        self.work += self.vehicles.at(index).seen.len() * limits::SIGHT_WORK;
        while let Some(&seen) = self.vehicles.at(index).seen.get(at) {
            let watcher = self.watchers.at_mut(seen.watcher);
            watcher.stamp = stamp;
            if !watcher.wants(key, place, true) {
                self.end_sight(seen, out);
                continue;
            }
            if tell {
                self.mark_seen(seen, out);
            }
            at += 1;
        }

        let mut found = std::mem::take(&mut self.scratch.watchers);
        self.watchers.areas.candidates(place, |watcher| found.push(watcher));
        found.extend(self.watchers.followed.get(&key).into_iter().flatten());
        self.work += found.len() * limits::SIGHT_WORK;
        for index_of_watcher in found.drain(..) {
            let watcher = self.watchers.at_mut(index_of_watcher);
            // Once, also if it is in the area and followed.
            if std::mem::replace(&mut watcher.stamp, stamp) != stamp && watcher.wants(key, place, false) {
                self.begin_sight(now, index_of_watcher, index, out);
            }
        }
        self.scratch.watchers = found;
    }

    /// A vehicle with an area around it has moved: the area goes with it.
    pub fn recentre(&mut self, now: Now, index: u32, watcher: u32, out: &mut Fanout) {
        let Some(radii) = self.watchers.at(watcher).around else { return };
        let Some(position) = self.vehicles.at(index).position else { return };
        self.watch_area(now, watcher, Some(Area::of_circle(position.place, radii)), out);
    }

    /// Gives a watcher an area, and looks at everything in it.
    pub(super) fn watch_area(&mut self, now: Now, index: u32, area: Option<Area>, out: &mut Fanout) {
        self.watchers.set_area(index, area);
        self.end_sights_outside(index, out);
        let Some(area) = area else { return };
        let mut found = std::mem::take(&mut self.scratch.vehicles);
        self.work += match &area.shape {
            Shape::Box(bounds) => self.index.inside(bounds, |vehicle, _| found.push(vehicle)),
            Shape::Circle { centre, radii } => {
                self.index.within(*centre, radii.enter_m, |vehicle, _| found.push(vehicle))
            }
        };
        self.work += found.len() * limits::SIGHT_WORK;
        self.begin_sights(now, index, &mut found, out);
        self.scratch.vehicles = found;
    }

    /// Gives a watcher a list of vehicles to follow, and looks where they are.
    pub(super) fn watch_vehicles(&mut self, now: Now, index: u32, follows: FxHashSet<u64>, out: &mut Fanout) {
        let mut found = std::mem::take(&mut self.scratch.vehicles);
        found.extend(follows.iter().filter_map(|key| self.vehicles.by_key(*key)));
        self.watchers.set_follows(index, &follows);
        self.end_sights_outside(index, out);
        found.retain(|vehicle| self.vehicles.at(*vehicle).position.is_some());
        // In the order of the table, not of the hashes.
        found.sort_unstable();
        self.begin_sights(now, index, &mut found, out);
        self.scratch.vehicles = found;
    }

    fn end_sights_outside(&mut self, index: u32, out: &mut Fanout) {
        self.work += self.watchers.at(index).sights.len() * limits::SIGHT_WORK;
        let mut at = 0;
        while let Some(&Sight { vehicle, back, .. }) = self.watchers.at(index).sights.get(at) {
            let seen = self.vehicles.at(vehicle);
            let wanted =
                seen.position.is_some_and(|position| self.watchers.at(index).wants(seen.key, position.place, true));
            if wanted {
                at += 1;
            } else {
                debug_assert_eq!(seen.seen[back as usize].at as usize, at);
                self.end_sight(Seen { watcher: index, at: at as u32 }, out);
            }
        }
    }

    /// Begins those sights that are not there yet.
    pub(super) fn begin_sights(&mut self, now: Now, index: u32, vehicles: &mut Vec<u32>, out: &mut Fanout) {
        let sights = &self.watchers.at(index).sights;
        self.scratch.mark_all(sights.iter().map(|sight| sight.vehicle));
        let scratch = &self.scratch;
        vehicles.retain(|vehicle| !scratch.is_marked(*vehicle));
        for vehicle in vehicles.drain(..) {
            self.begin_sight(now, index, vehicle, out);
        }
    }

    /// A vehicle with a position has come into a watcher's view.
    pub(super) fn begin_sight(&mut self, now: Now, index: u32, vehicle_index: u32, out: &mut Fanout) {
        let watcher = self.watchers.at_mut(index);
        let own = out.conns.peek(watcher.conn).and_then(|conn| conn.vehicle);
        if own.is_some_and(|own| own.index == vehicle_index) {
            return;
        }
        if watcher.sights.len() >= self.config.viewers.vehicles_max as usize {
            watcher.cut = true;
            out.counters.sights_refused += 1;
            self.choose_soon(now, index, out);
            return;
        }
        let vehicle = self.vehicles.at_mut(vehicle_index);
        let told = watcher.regains(vehicle.key);
        let at = watcher.sights.len() as u32;
        let back = vehicle.seen.len() as u32;
        watcher.sights.push(Sight { vehicle: vehicle_index, back, due: false, told, named: false, far: false });
        vehicle.seen.push(Seen { watcher: index, at });
        let crowded = watcher.sights.len() > self.config.viewers.nearest as usize;
        self.mark_seen(Seen { watcher: index, at }, out);
        if crowded {
            self.choose_soon(now, index, out);
        }
    }

    /// Ends a sight. The last one of the watcher's list, and of the vehicle's, move to its positions.
    pub(super) fn end_sight(&mut self, mut seen: Seen, out: &mut Fanout) {
        let watcher = self.watchers.at_mut(seen.watcher);
        if (seen.at as usize) < watcher.walk_at {
            // Amid a flush, the last one may not have been looked at and must stay before those that have not: of those
            // that have been, the last one moves here.
            watcher.walk_at -= 1;
            let hole = watcher.walk_at as u32;
            watcher.sights.swap(seen.at as usize, hole as usize);
            let moved = watcher.sights[seen.at as usize];
            self.vehicles.at_mut(moved.vehicle).seen[moved.back as usize].at = seen.at;
            seen.at = hole;
        }
        let sight = watcher.sights.swap_remove(seen.at as usize);
        if let Some(moved) = watcher.sights.get(seen.at as usize) {
            self.vehicles.at_mut(moved.vehicle).seen[moved.back as usize].at = seen.at;
        }
        let vehicle = self.vehicles.at_mut(sight.vehicle);
        vehicle.seen.swap_remove(sight.back as usize);
        if let Some(moved) = vehicle.seen.get(sight.back as usize) {
            self.watchers.at_mut(moved.watcher).sights[moved.at as usize].back = sight.back;
        }
        if sight.told {
            let (key, identity) = (vehicle.key, vehicle.identity.clone());
            self.lose_sight(seen.watcher, key, &identity, out);
        }
    }

    /// A vehicle that a watcher has been told of has left its view.
    pub fn lose_sight(&mut self, index: u32, key: u64, identity: &Arc<Identity>, out: &mut Fanout) {
        self.watchers.at_mut(index).loses(key, identity);
        self.stir(index, out);
    }

    /// Ends all sights of a vehicle that is going, or of which nothing more is known.
    pub fn end_sights_of(&mut self, index: u32, out: &mut Fanout) {
        while let Some(&seen) = self.vehicles.at(index).seen.last() {
            self.end_sight(seen, out);
        }
    }

    /// A vehicle may call itself something else from now on: who sees it is told before its next state.
    pub fn rename(&mut self, index: u32) {
        for seen in &self.vehicles.at(index).seen {
            self.watchers.at_mut(seen.watcher).sights[seen.at as usize].named = false;
        }
        for at in 0..self.vehicles.at(index).near.len() {
            let Near { peer, back, .. } = self.vehicles.at(index).near[at];
            self.vehicles.at_mut(peer).near[back as usize].named = false;
        }
    }

    /// A vehicle sees another. If its connection speaks `ringroad.v1`, it is sent that one's state at once, and need not
    /// be told any more that it had lost it. Whether it does.
    pub fn regain_neighbour(&mut self, index: u32, at: u32) -> bool {
        let vehicle = self.vehicles.at(index);
        let near = vehicle.near[at as usize];
        let Some(driving) = vehicle.driving().filter(|driving| driving.slim) else { return false };
        if let Some(watcher) = driving.watcher.filter(|watcher| !self.watchers.at(*watcher).is_asking()) {
            let told = self.watchers.at_mut(watcher).regains(self.vehicles.at(near.peer).key);
            self.vehicles.at_mut(index).near[at as usize].told = told;
        }
        true
    }

    /// A connection drives a vehicle from now on, and does not watch that one any more.
    pub fn look_away(&mut self, index: u32, vehicle: u32, out: &mut Fanout) {
        if let Some(seen) = self.vehicles.at(vehicle).seen.iter().find(|seen| seen.watcher == index).copied() {
            self.end_sight(seen, out);
        }
    }

    /// A connection that watches is going. It is not told any more who leaves its view.
    pub fn unwatch(&mut self, index: u32, out: &mut Fanout) {
        self.watchers.at_mut(index).sights.iter_mut().for_each(|sight| sight.told = false);
        while let Some(at) = self.watchers.at(index).sights.len().checked_sub(1) {
            self.end_sight(Seen { watcher: index, at: at as u32 }, out);
        }
        self.watchers.remove(index);
    }

    /// A vehicle in a watcher's view has moved.
    fn mark_seen(&mut self, seen: Seen, out: &mut Fanout) {
        let watcher = self.watchers.at_mut(seen.watcher);
        let sight = &mut watcher.sights[seen.at as usize];
        if sight.due {
            out.counters.state_conflated += 1;
            return;
        }
        sight.due = true;
        if !sight.far {
            self.stir(seen.watcher, out);
        }
    }

    /// Something is due to a watcher.
    pub(super) fn stir(&mut self, index: u32, out: &mut Fanout) {
        let watcher = self.watchers.at_mut(index);
        if std::mem::replace(&mut watcher.stirred, true) {
            return;
        }
        let id = watcher.conn;
        if let Some(conn) = out.conns.find(id) {
            conn.state_due = true;
            Fanout::enqueue(&mut out.queue, id, conn);
        }
    }

    /// Every sight stands in both lists, pointing at its other end, and what is watched is where it is looked for.
    pub fn check_sights(&self) {
        for (index, watcher) in self.watchers.iter() {
            for (at, sight) in watcher.sights.iter().enumerate() {
                let vehicle = self.vehicles.at(sight.vehicle);
                let seen = vehicle.seen[sight.back as usize];
                assert_eq!((seen.watcher, seen.at as usize), (index, at), "a sight points at its other end");
                let place = vehicle.position.expect("a vehicle in view has a place").place;
                assert!(watcher.wants(vehicle.key, place, true) || vehicle.moved, "in view, and not wanted");
                assert!(!watcher.gone.contains_key(&vehicle.key), "gone, and in view");
            }
            let sent = watcher.sights.get(..watcher.walk_at).expect("a flush is on its way among the sights");
            assert!(sent.iter().all(|sight| sight.told), "passed over");
            for (key, at) in &watcher.follows {
                assert_eq!(self.watchers.followed[key][*at as usize], index, "a followed vehicle knows its follower");
            }
        }
        for (index, vehicle) in self.vehicles.iter() {
            for (back, seen) in vehicle.seen.iter().enumerate() {
                let sight = self.watchers.at(seen.watcher).sights[seen.at as usize];
                assert_eq!((sight.vehicle, sight.back as usize), (index, back));
            }
        }
    }
}
