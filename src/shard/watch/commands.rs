//! `view`, `near` and `follow`.

use rustc_hash::FxHashSet;

use crate::geo::{Bounds, Hysteresis};
use crate::limits;
use crate::turn::{ConnId, Now};
use crate::wire::error::ErrorCode;
use crate::wire::event::Event;
use crate::wire::json::{Command, Edges, EventKind, Terms};
use crate::wire::state;

use super::super::Shard;
use super::super::auth::Wants;
use super::super::conns::Dialect;
use super::super::fanout::Fanout;
use super::super::vehicles::Slot;
use super::super::world::{World, WorldId};
use super::{Area, Shape};

impl Shard {
    /// Whether a connection may change what it watches now; if not, it has been told.
    pub(in super::super) fn may_watch(&mut self, now: Now, id: ConnId, kind: EventKind) -> bool {
        let bucket = self.config.viewers.requests;
        let Some(index) = self.watcher_of(id) else { return false };
        let Some(conn) = self.out.conns.peek(id) else { return false };
        match self.worlds[conn.world].watchers.at_mut(index).rate.take(bucket, now.mono_ms) {
            Ok(()) => true,
            Err(retry_ms) => {
                self.too_fast(now, id, kind, retry_ms);
                false
            }
        }
    }

    /// Changes what a connection watches.
    pub(in super::super) fn watch(&mut self, now: Now, id: ConnId, command: Command<'_>) {
        let (terms, wish) = match command {
            Command::View { edges, terms } => (terms, self.wish_for_view(edges)),
            Command::Near { radius_m, terms } => (terms, self.wish_for_near(radius_m)),
            Command::Follow { vehicle_ids, terms } => (terms, self.wish_for_vehicles(&vehicle_ids)),
            _ => return,
        };
        if let Err(fault) = self.authorize(now, id, terms.auth_token, Wants::Watch) {
            self.token_refused(now, id, fault);
            return;
        }
        match wish {
            Ok(wish) => self.grant(now, id, wish, &terms),
            Err(Refused { code, message, details }) => {
                self.error_with(now, id, code, message, details.as_deref().map(str::as_bytes));
            }
        }
    }

    fn wish_for_view(&self, edges: Option<Edges>) -> Result<Wish, Refused> {
        let Some(edges) = edges else { return Ok(Wish::View(None)) };
        let Edges { south_e7, west_e7, north_e7, east_e7 } = edges;
        let bounds = Bounds::from_e7(south_e7, west_e7, north_e7, east_e7).ok_or(Refused {
            code: ErrorCode::InvalidView,
            message: "south lies north of north",
            details: None,
        })?;
        let (area_km2, max) = (bounds.area_km2(), self.config.viewers.area_km2_max);
        if area_km2 > max {
            let details = format!("{{\"areaKm2\":{},\"areaKm2Max\":{max}}}", area_km2.ceil());
            return Err(Refused::too_large("the area is larger than viewers.area_km2_max", details));
        }
        // Near a pole a small area has many of them. Without other hosts nobody counts.
        let squares = Area::of_box(bounds).squares.len();
        if self.bus.is_some() && squares > limits::VIEW_SQUARES_MAX {
            let details = format!("{{\"squares\":{squares},\"squaresMax\":{}}}", limits::VIEW_SQUARES_MAX);
            return Err(Refused::too_large("the area lies in more squares than one may", details));
        }
        Ok(Wish::View(Some(bounds)))
    }

    fn wish_for_near(&self, radius_m: Option<f64>) -> Result<Wish, Refused> {
        let Some(radius_m) = radius_m else { return Ok(Wish::Near(None)) };
        let max = self.config.viewers.near_radius_m_max;
        if radius_m > max {
            let details = format!("{{\"radiusMMax\":{max}}}");
            return Err(Refused::too_large("radiusM is larger than viewers.near_radius_m_max", details));
        }
        Ok(Wish::Near(Some(Hysteresis::new(radius_m, self.config.vehicles.nearby_exit_factor))))
    }

    fn wish_for_vehicles(&self, vehicle_ids: &[&str]) -> Result<Wish, Refused> {
        let keys: FxHashSet<u64> = vehicle_ids.iter().map(|vehicle_id| state::key(vehicle_id)).collect();
        let max = self.config.viewers.follow_max;
        if keys.len() > max as usize {
            let details = format!("{{\"followMax\":{max}}}");
            return Err(Refused::too_large("more vehicleIds than viewers.follow_max", details));
        }
        Ok(Wish::Vehicles(keys))
    }

    fn grant(&mut self, now: Now, id: ConnId, wish: Wish, terms: &Terms<'_>) {
        let Some(index) = self.watcher_of(id) else { return };
        let Some(conn) = self.out.conns.find(id) else { return };
        let pace_ms = terms.max_hz.map_or(0, |hz| (1_000.0 / hz).round() as u32);
        // The timer of a slower pace comes too late.
        conn.paced &= pace_ms >= conn.pace_ms;
        conn.pace_ms = pace_ms;
        let (world_id, own, slim) = (conn.world, conn.vehicle, conn.dialect == Some(Dialect::Slim));
        let (world, out) = (&mut self.worlds[world_id], &mut self.out);
        // What the connection was told of and does not watch has gone; what it was told of and watches stays.
        if let Some(own) = own.filter(|_| slim && !world.watchers.at(index).is_asking()) {
            world.hide_neighbours(own.index, index);
        }
        let was_asking = world.watchers.at(index).is_asking();
        let work = world.work;
        match wish {
            Wish::View(bounds) => {
                world.watchers.at_mut(index).around = None;
                world.watch_area(now, index, bounds.map(Area::of_box), out);
            }
            Wish::Near(radii) => {
                world.watchers.at_mut(index).around = radii;
                let place = own.and_then(|own| world.vehicles.find(own)?.position).map(|position| position.place);
                let area = radii.zip(place).map(|(radii, place)| Area::of_circle(place, radii));
                world.watch_area(now, index, area, out);
            }
            Wish::Vehicles(keys) => world.watch_vehicles(now, index, keys, out),
        }
        world.choose_now(now, index, out);
        let looked_at = (world.work - work) / limits::SIGHT_WORK;
        let more = (looked_at / limits::LOOKS_PER_REQUEST) as u64;
        world.watchers.at_mut(index).rate.spend(self.config.viewers.requests, more, now.mono_ms);
        if let Some(own) = own.filter(|_| !world.watchers.at(index).is_asking()) {
            if slim {
                world.show_neighbours(own.index, index, out);
            } else if was_asking {
                world.catch_up(own.index);
            }
        }
        let watcher = world.watchers.at_mut(index);
        watcher.epoch += 1;
        watcher.incomplete = true;
        watcher.walk_at = 0;
        world.stir(index, out);
        self.say_watching(now, id, world_id, index, own);
    }

    /// Answers with what the connection watches now.
    fn say_watching(&mut self, now: Now, id: ConnId, world_id: WorldId, index: u32, own: Option<Slot>) {
        let world = &mut self.worlds[world_id];
        let own = own.and_then(|own| world.vehicles.find(own));
        let (neighbours, crowded) = own.map_or((0, false), |own| (own.seeing as usize, own.crowded));
        let watcher = world.watchers.at(index);
        let (vehicles, cut) =
            if watcher.is_asking() { (watcher.sights.len(), watcher.cut) } else { (neighbours, crowded) };
        let view = watcher.area.as_ref().and_then(|area| match &area.shape {
            Shape::Box(bounds) => Some(bounds.to_e7()),
            Shape::Circle { .. } => None,
        });
        let event = Event::Watching {
            epoch: watcher.epoch,
            vehicles,
            cut,
            view: view.map(|(south_e7, west_e7, north_e7, east_e7)| Edges { south_e7, west_e7, north_e7, east_e7 }),
            near_m: watcher.around.map(|radii| radii.enter_m),
            follow: watcher.follows.len(),
        };
        self.out.event(now, id, &event);
    }

    /// The watcher of a connection; one in JSON gets it when it first asks.
    fn watcher_of(&mut self, id: ConnId) -> Option<u32> {
        let conn = self.out.conns.find(id)?;
        let world = &mut self.worlds[conn.world];
        let index = *conn.watcher.get_or_insert_with(|| world.watchers.add(id));
        if let Some(driving) = conn.vehicle.and_then(|own| world.vehicles.find(own)?.driving_mut()) {
            driving.watcher = Some(index);
        }
        Some(index)
    }

    /// A connection watches no more: it is going.
    pub(in super::super) fn unwatch(&mut self, id: ConnId) {
        if let Some(conn) = self.out.conns.find(id)
            && let Some(index) = conn.watcher.take()
        {
            let world = conn.world;
            self.worlds[world].unwatch(index, &mut self.out);
        }
    }
}

/// What a connection wants to watch.
enum Wish {
    View(Option<Bounds>),
    Near(Option<Hysteresis>),
    Vehicles(FxHashSet<u64>),
}

/// Why it may not.
struct Refused {
    code: ErrorCode,
    message: &'static str,
    details: Option<String>,
}

impl Refused {
    fn too_large(message: &'static str, details: String) -> Refused {
        Refused { code: ErrorCode::ViewTooLarge, message, details: Some(details) }
    }
}

impl World {
    /// The neighbours that a connection in `ringroad.v1` was told of are not sent by themselves any more.
    fn hide_neighbours(&mut self, own: u32, index: u32) {
        for at in 0..self.vehicles.at(own).near.len() {
            self.vehicles.hear(own, at as u32);
            let near = &mut self.vehicles.at_mut(own).near[at];
            near.named = false;
            let peer = near.peer;
            if std::mem::take(&mut near.told) {
                let peer = self.vehicles.at(peer);
                let (key, identity) = (peer.key, peer.identity.clone());
                self.watchers.at_mut(index).loses(key, &identity);
            }
        }
    }

    /// A connection is sent its neighbours again from their next moves on.
    fn catch_up(&mut self, own: u32) {
        self.vehicles.track_mut(own).woken = false;
        for at in 0..self.vehicles.at(own).near.len() {
            self.vehicles.hear(own, at as u32);
        }
    }

    /// A connection in `ringroad.v1` is sent the neighbours of its vehicle, whether they move or not.
    pub fn show_neighbours(&mut self, own: u32, index: u32, out: &mut Fanout) {
        for at in 0..self.vehicles.at(own).near.len() {
            let near = &self.vehicles.at(own).near[at];
            if near.sees {
                let told = self.watchers.at_mut(index).regains(self.vehicles.at(near.peer).key);
                self.vehicles.mishear(own, at as u32);
                let near = &mut self.vehicles.at_mut(own).near[at];
                (near.told, near.named) = (told, false);
            }
        }
        self.stir(index, out);
    }
}
