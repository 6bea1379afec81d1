//! What connections watch: areas, the surroundings of their own vehicle, and vehicles by name.
//!
//! A *watcher* belongs to a connection and holds a *sight* for each vehicle that it sees. State is not queued: a vehicle
//! that moves marks its sights as due, and when the connection is flushed, the newest of each is taken. So a reader that
//! takes nothing costs one bit per update, and its memory does not grow.
//!
//! In reading order: this page (who watches, and what), `commands` (what clients ask), `sights` (who comes into view and
//! leaves it), `choice` (too many to show all), `flush` (what is written).

mod choice;
mod commands;
mod flush;
mod sights;

pub use flush::{Flush, Left, count, count_newest};

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::geo::{AreaIndex, Bounds, Hysteresis, Place, Squares, distance};
use crate::limits;
use crate::turn::ConnId;
use crate::wire::event::Identity;

use super::rate::Level;

/// What a connection of a world watches, and what it has been told.
pub struct Watcher {
    pub conn: ConnId,
    /// Counts the view, near and follow events that were accepted.
    pub epoch: u64,
    pub area: Option<Area>,
    /// How far it sees around its own vehicle, wherever that is.
    pub around: Option<Hysteresis>,
    /// Keys of vehicles that it sees wherever they are, and its position among those who follow them.
    pub follows: FxHashMap<u64, u32>,
    pub sights: Vec<Sight>,
    /// Vehicles that it has been told of and that have left its view since the last flush. At most as many as it can
    /// have been told of at a time.
    gone: FxHashMap<u64, Arc<Identity>>,
    /// Vehicles by key whose identity it has been told, and which one that was.
    named: FxHashMap<u64, u32>,
    /// The first sight that the next flush looks at. Those before it have been sent by the pieces of this flush so far.
    walk_at: usize,
    /// Not everything has been sent yet since the last event of the kind above.
    incomplete: bool,
    /// Something has become due since the flush that is on its way, or was the last, began; and the connection knows.
    stirred: bool,
    /// There are more vehicles in view than it may see.
    pub cut: bool,
    /// There are so many that the far ones are sent less often.
    pub tiered: bool,
    /// The far ones are to be sent with the next flush.
    rest_due: bool,
    /// They are sent with the one that is on its way.
    rest_walks: bool,
    /// A choice is to be made at a time.
    choosing: bool,
    pub rate: Level,
    /// Found by the vehicle that is being looked at.
    stamp: u32,
}

/// One vehicle in the view of a watcher.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// Table index of the vehicle.
    pub vehicle: u32,
    /// Position of the other end in the vehicle's list.
    pub back: u32,
    /// It has moved since the last flush.
    pub due: bool,
    /// The connection has been sent a state of it.
    pub told: bool,
    /// The connection surely knows who it is.
    pub named: bool,
    /// Not among the nearest: sent at the slower pace.
    pub far: bool,
}

/// The other end of a sight, at the vehicle.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub watcher: u32,
    /// Position in the watcher's list of sights.
    pub at: u32,
}

/// An area with two edges: what comes inside the inner one is in view until it is outside the outer one.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    pub shape: Shape,
    /// The box around the outer edge, by which the area is found.
    pub reach: Bounds,
    /// The squares that vehicles of other hosts are heard in because of it. A circle moves.
    pub squares: Squares,
}

/// Which area.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// A box. Its outer edge is [`Hysteresis::MARGIN_M`] outside.
    Box(Bounds),
    /// A circle around the connection's own vehicle, which is at `centre`.
    Circle { centre: Place, radii: Hysteresis },
}

impl Area {
    pub fn of_box(bounds: Bounds) -> Area {
        let reach = bounds.widened(Hysteresis::MARGIN_M);
        Area { shape: Shape::Box(bounds), reach, squares: Squares::covering(&reach) }
    }

    pub fn of_circle(centre: Place, radii: Hysteresis) -> Area {
        let squares = Squares::around(centre, radii.exit_m + limits::SQUARE_MARGIN_M);
        Area { shape: Shape::Circle { centre, radii }, reach: Bounds::around(centre, radii.exit_m), squares }
    }

    /// Whether a place is in the area, for a vehicle that was in view before or not.
    pub fn holds(&self, place: Place, was_in_view: bool) -> bool {
        match (&self.shape, was_in_view) {
            (Shape::Box(inner), false) => inner.contains(place),
            (Shape::Box(inner), true) => {
                // `reach` is further away where a tall box, or one at a pole, is not widest.
                self.reach.contains(place) && inner.metres_to(place) <= Hysteresis::MARGIN_M
            }
            (Shape::Circle { centre, radii }, _) => {
                distance::metres(*centre, place) <= if was_in_view { radii.exit_m } else { radii.enter_m }
            }
        }
    }

    /// The middle, from which the nearest are nearest.
    pub fn centre(&self) -> Place {
        match &self.shape {
            Shape::Box(bounds) => bounds.centre(),
            Shape::Circle { centre, .. } => *centre,
        }
    }
}

impl Watcher {
    fn new(conn: ConnId) -> Watcher {
        Watcher {
            conn,
            epoch: 0,
            area: None,
            around: None,
            follows: FxHashMap::default(),
            sights: Vec::new(),
            gone: FxHashMap::default(),
            named: FxHashMap::default(),
            walk_at: 0,
            incomplete: false,
            stirred: false,
            cut: false,
            tiered: false,
            rest_due: false,
            rest_walks: false,
            choosing: false,
            rate: Level::default(),
            stamp: 0,
        }
    }

    /// Whether it has asked for anything: then its vehicle is not sent its neighbours by themselves.
    pub fn is_asking(&self) -> bool {
        self.area.is_some() || self.around.is_some() || !self.follows.is_empty()
    }

    /// Whether a vehicle belongs into view.
    fn wants(&self, key: u64, place: Place, was_in_view: bool) -> bool {
        self.area.as_ref().is_some_and(|area| area.holds(place, was_in_view)) || self.follows.contains_key(&key)
    }

    /// Whether the connection knows this identity of the vehicle.
    pub fn knows(&self, key: u64, identity: &Identity) -> bool {
        self.named.get(&key) == Some(&identity.fingerprint())
    }

    /// The connection is being told who a vehicle is. Those that are not in view may be forgotten.
    pub fn learns(&mut self, key: u64, identity: &Identity) {
        if self.named.len() >= limits::NAMES_KEPT_MAX + 2 * self.sights.len() {
            self.named.clear();
        }
        self.named.insert(key, identity.fingerprint());
    }

    /// A vehicle that the connection was told of has left its view.
    pub fn loses(&mut self, key: u64, identity: &Arc<Identity>) {
        self.gone.insert(key, identity.clone());
    }

    /// A vehicle comes into view. Whether the connection still believes that it is there.
    pub fn regains(&mut self, key: u64) -> bool {
        self.gone.remove(&key).is_some()
    }
}

/// All watchers of a world on one shard.
#[derive(Default)]
pub struct Watchers {
    slots: Vec<Option<Box<Watcher>>>,
    free: Vec<u32>,
    areas: AreaIndex,
    /// Who follows a vehicle, by its key.
    followed: FxHashMap<u64, Vec<u32>>,
    shifts: Vec<Shift>,
    stamp: u32,
}

/// A change in what is watched that other hosts' vehicles may come into view by.
#[derive(Clone, Copy, Debug)]
pub enum Shift {
    /// Of one watcher's area.
    Area { from: Squares, to: Squares },
    /// This vehicle has its first follower, or none any more.
    Follow { key: u64 },
}

impl Watchers {
    /// A new watcher that watches nothing yet.
    pub fn add(&mut self, conn: ConnId) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[index as usize] = Some(Box::new(Watcher::new(conn)));
        index
    }

    /// Takes a watcher out. Its sights must be gone.
    fn remove(&mut self, index: u32) {
        self.set_area(index, None);
        self.set_follows(index, &FxHashSet::default());
        let watcher = self.slots[index as usize].take();
        debug_assert!(watcher.is_some_and(|watcher| watcher.sights.is_empty()));
        self.free.push(index);
    }

    /// A watcher by its index, which must be in use.
    pub fn at(&self, index: u32) -> &Watcher {
        self.slots[index as usize].as_ref().expect("an index in use: sights are removed with their watcher")
    }

    /// Like [`Watchers::at`], to change it.
    pub fn at_mut(&mut self, index: u32) -> &mut Watcher {
        self.slots[index as usize].as_mut().expect("an index in use: sights are removed with their watcher")
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Watcher)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| Some((index as u32, slot.as_deref()?)))
    }

    fn set_area(&mut self, index: u32, area: Option<Area>) {
        let former = std::mem::replace(&mut self.at_mut(index).area, area);
        let squares = |area: Option<Area>| area.map_or(Squares::NONE, |area| area.squares);
        let (from, to) = (squares(former), squares(area));
        if from != to {
            self.shifts.push(Shift::Area { from, to });
        }
        match (former, area) {
            (None, None) => {}
            (None, Some(area)) => self.areas.insert(index, &area.reach),
            (Some(former), None) => self.areas.remove(index, &former.reach),
            (Some(former), Some(area)) => self.areas.relocate(index, &former.reach, &area.reach),
        }
    }

    fn set_follows(&mut self, index: u32, follows: &FxHashSet<u64>) {
        let former = self.at(index).follows.keys().filter(|key| !follows.contains(key));
        for key in former.copied().collect::<Vec<u64>>() {
            self.unfollow(index, key);
        }
        for key in follows {
            if !self.at(index).follows.contains_key(key) {
                let watchers = self.followed.entry(*key).or_default();
                if watchers.is_empty() {
                    self.shifts.push(Shift::Follow { key: *key });
                }
                let at = watchers.len() as u32;
                watchers.push(index);
                self.at_mut(index).follows.insert(*key, at);
            }
        }
        self.at_mut(index).follows.shrink_to_fit();
    }

    /// Ends the following of a vehicle. The last of its followers moves to that position.
    fn unfollow(&mut self, index: u32, key: u64) {
        let Some(at) = self.at_mut(index).follows.remove(&key) else { return };
        let Some(watchers) = self.followed.get_mut(&key) else { return };
        watchers.swap_remove(at as usize);
        match watchers.get(at as usize).copied() {
            Some(moved) => drop(self.at_mut(moved).follows.insert(key, at)),
            None if watchers.is_empty() => {
                self.followed.remove(&key);
                self.shifts.push(Shift::Follow { key });
            }
            None => {}
        }
    }

    /// Whether nobody watches anything: then a move costs nothing more.
    fn is_idle(&self) -> bool {
        self.areas.is_empty() && self.followed.is_empty()
    }

    /// What has changed since the last call.
    pub fn take_shifts(&mut self) -> Vec<Shift> {
        std::mem::take(&mut self.shifts)
    }

    /// Whether anybody follows a vehicle.
    pub fn is_followed(&self, key: u64) -> bool {
        self.followed.contains_key(&key)
    }

    /// Every vehicle that somebody follows, in no particular order.
    pub fn followed(&self) -> impl Iterator<Item = u64> {
        self.followed.keys().copied()
    }
}
