//! More vehicles in view than can be shown at the full pace, or at all: the nearest to the middle come first.
//!
//! Distances change with every move, so the choice is made anew once per `viewers.rest_ms`, and what is not among the
//! nearest is sent then too.

use rustc_hash::FxHashSet;

use crate::geo::{Place, distance};
use crate::limits;
use crate::turn::{ConnId, Now};

use super::super::Timer;
use super::super::fanout::Fanout;
use super::super::world::World;
use super::{Seen, Shape};

impl World {
    /// A choice is to be made.
    pub(super) fn choose_soon(&mut self, now: Now, index: u32, out: &mut Fanout) {
        let watcher = self.watchers.at_mut(index);
        if !std::mem::replace(&mut watcher.choosing, true) {
            out.timers.set(now.mono_ms + self.config.viewers.rest_ms, Timer::View(self.id, watcher.conn));
        }
    }

    /// The time for a choice has come.
    pub fn choose_view(&mut self, now: Now, id: ConnId, out: &mut Fanout) {
        let Some(conn) = out.conns.peek(id) else { return };
        let (Some(index), blocked) = (conn.watcher, conn.blocked) else { return };
        self.watchers.at_mut(index).choosing = false;
        self.work += if blocked { 1 } else { self.choice_work(index) };
        if blocked {
            // Nobody is there to see it.
            self.choose_soon(now, index, out);
            return;
        }
        self.choose_now(now, index, out);
        self.watchers.at_mut(index).rest_due = true;
        self.stir(index, out);
    }

    /// Chooses who is seen, and who at the full pace.
    pub(super) fn choose_now(&mut self, now: Now, index: u32, out: &mut Fanout) {
        if self.watchers.at(index).cut {
            self.choose_seen(now, index, out);
        }
        self.choose_near(index);
        let watcher = self.watchers.at(index);
        if watcher.tiered || watcher.cut {
            self.choose_soon(now, index, out);
        }
    }

    /// What a choice costs, about.
    fn choice_work(&self, index: u32) -> usize {
        let watcher = self.watchers.at(index);
        let candidates = if watcher.cut { self.index.len() } else { 0 };
        (watcher.sights.len() + 2 * candidates) * limits::SIGHT_WORK
    }

    /// Who is seen at all.
    fn choose_seen(&mut self, now: Now, index: u32, out: &mut Fanout) {
        let most = self.config.viewers.vehicles_max as usize;
        let conn = out.conns.peek(self.watchers.at(index).conn);
        let own = conn.and_then(|conn| conn.vehicle).map(|own| own.index);
        let mut all = self.candidates(index, own);
        self.watchers.at_mut(index).cut = all.len() > most;
        keep_nearest(&mut all, most);
        let chosen: FxHashSet<u32> = all.iter().map(|(_, vehicle)| *vehicle).collect();
        let mut at = 0;
        while let Some(sight) = self.watchers.at(index).sights.get(at) {
            if chosen.contains(&sight.vehicle) {
                at += 1;
            } else {
                self.end_sight(Seen { watcher: index, at: at as u32 }, out);
            }
        }
        let mut coming: Vec<u32> = all.into_iter().map(|(_, vehicle)| vehicle).collect();
        self.begin_sights(now, index, &mut coming, out);
    }

    /// Everything that belongs into view, but for the connection's own vehicle, and how far it is from the middle. What
    /// is followed is nearest of all.
    fn candidates(&self, index: u32, own: Option<u32>) -> Vec<(f64, u32)> {
        let watcher = self.watchers.at(index);
        let mut vehicles: Vec<u32> = watcher.sights.iter().map(|sight| sight.vehicle).collect();
        vehicles.extend(watcher.follows.keys().filter_map(|key| self.vehicles.by_key(*key)));
        match watcher.area.as_ref().map(|area| &area.shape) {
            Some(Shape::Box(bounds)) => {
                self.index.inside(bounds, |vehicle, _| vehicles.push(vehicle));
            }
            Some(Shape::Circle { centre, radii }) => {
                self.index.within(*centre, radii.enter_m, |vehicle, _| vehicles.push(vehicle));
            }
            None => {}
        }
        vehicles.retain(|vehicle| Some(*vehicle) != own);
        vehicles.sort_unstable();
        vehicles.dedup();
        let centre = watcher.area.as_ref().map(|area| area.centre());
        vehicles.into_iter().filter_map(|vehicle| Some((self.metres_from(centre, index, vehicle)?, vehicle))).collect()
    }

    fn metres_from(&self, centre: Option<Place>, watcher: u32, vehicle: u32) -> Option<f64> {
        let vehicle = self.vehicles.at(vehicle);
        let place = vehicle.position?.place;
        let is_followed = self.watchers.at(watcher).follows.contains_key(&vehicle.key);
        Some(centre.filter(|_| !is_followed).map_or(0.0, |centre| distance::metres(centre, place)))
    }

    /// Who is seen at the full pace.
    fn choose_near(&mut self, index: u32) {
        let most = self.config.viewers.nearest as usize;
        let watcher = self.watchers.at(index);
        let tiered = watcher.sights.len() > most;
        if tiered {
            let centre = watcher.area.as_ref().map(|area| area.centre());
            let mut all: Vec<(f64, u32)> = (0..watcher.sights.len() as u32)
                .filter_map(|at| Some((self.metres_from(centre, index, watcher.sights[at as usize].vehicle)?, at)))
                .collect();
            keep_nearest(&mut all, most);
            let watcher = self.watchers.at_mut(index);
            watcher.sights.iter_mut().for_each(|sight| sight.far = true);
            all.iter().for_each(|(_, at)| watcher.sights[*at as usize].far = false);
        } else {
            self.watchers.at_mut(index).sights.iter_mut().for_each(|sight| sight.far = false);
        }
        self.watchers.at_mut(index).tiered = tiered;
    }
}

/// The `most` nearest, in no particular order; of equals the first in the table.
fn keep_nearest(all: &mut Vec<(f64, u32)>, most: usize) {
    if all.len() > most {
        all.select_nth_unstable_by(most, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        all.truncate(most);
    }
}
