//! What is, by what was done: where the vehicles are, who is near whom, and who has to see whom.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringroad::geo::distance::metres;

use super::area::{Area, E7, Seen, place};
use super::plan::{Plan, VEHICLES, Wish};

/// How long the states of a vehicle that raised an alert say so.
const EMERGENCY_MS: u64 = 60_000;

/// A position that a vehicle has reported. Its number travels as its speed.
#[derive(Clone, Debug)]
pub struct Fix {
    pub vehicle: usize,
    pub e7: E7,
    pub ts: u64,
    /// Whether its state says that there was an alert; `None`: that depends.
    pub emergency: Option<bool>,
}

/// A vehicle.
#[derive(Clone, Debug, Default)]
pub struct Car {
    /// The connection that drives it.
    pub rider: Option<usize>,
    /// Its driver's name.
    pub name: String,
    /// The newest fix that the gateway has taken, which may be from an earlier connection, and when.
    pub fix: Option<usize>,
    processed_ms: Option<u64>,
    /// The newest fix that waits, and until when.
    waiting: Option<(usize, u64)>,
    /// When it last raised an alert, and whether the gateway surely knows.
    alerted: Option<(u64, bool)>,
}

/// The answer that a connection has to get to a view, near or follow.
#[derive(Debug)]
pub struct Answer {
    pub epoch: u64,
    pub vehicles: std::ops::RangeInclusive<usize>,
    pub cut: Option<bool>,
    pub wanted: Wanted,
    /// Before it there was no area and no list.
    pub is_first: bool,
}

/// What a connection watches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    pub view: Option<[i32; 4]>,
    pub near_m: Option<f64>,
    pub follows: BTreeSet<usize>,
}

impl Wanted {
    /// Whether it is anything; otherwise a vehicle is sent its neighbours.
    pub fn is_any(&self) -> bool {
        self.view.is_some() || self.near_m.is_some() || !self.follows.is_empty()
    }
}

/// A connection, and what it has to be sent.
#[derive(Debug)]
pub struct Rider {
    pub shard: usize,
    pub slim: bool,
    pub vehicle: Option<usize>,
    pub wanted: Wanted,
    /// Least time between two flushes.
    pub pace_ms: u64,
    pub epoch: u64,
    /// Whom it sees.
    pub view: [Seen; VEHICLES],
    /// Whom it has seen since it was last listened to.
    pub lately: BTreeSet<usize>,
    /// Whose state it may be told once more although it has not changed.
    pub again: BTreeSet<usize>,
    /// Whom it must know of before it is told that it knows of all.
    pub owed: BTreeSet<usize>,
    pub answers: VecDeque<Answer>,
}

impl Rider {
    fn sees(&mut self, vehicle: usize, seen: Seen) {
        if self.view[vehicle] != seen {
            self.again.insert(vehicle);
        }
        if seen != Seen::No {
            self.lately.insert(vehicle);
        }
        if seen != Seen::Yes {
            self.owed.remove(&vehicle);
        }
        self.view[vehicle] = seen;
    }

    /// It may have seen a vehicle for a moment, or not seen it.
    fn glimpses(&mut self, vehicle: usize) {
        self.lately.insert(vehicle);
        self.again.insert(vehicle);
    }
}

/// The world as it should be.
pub struct Model {
    pub flush_ms: u64,
    coalesce_ms: u64,
    enter_m: f64,
    exit_m: f64,
    exit_factor: f64,
    pub vehicles_max: Option<usize>,
    pub cars: Vec<Car>,
    /// By number; nobody is removed.
    pub riders: Vec<Rider>,
    pub fixes: Vec<Fix>,
    /// Whether one vehicle has another as a neighbour.
    near: BTreeMap<(usize, usize), Seen>,
    /// The fix of a neighbour that a vehicle has to know at least.
    pub shown: BTreeMap<(usize, usize), usize>,
    /// When something last changed.
    pub changed_ms: u64,
}

/// A vehicle's places before and after a turn.
type Places = [Option<E7>; VEHICLES];

impl Model {
    pub fn new(plan: &Plan) -> Model {
        let (enter_m, exit_m) = (plan.radius_m, (plan.radius_m * plan.exit_factor).max(plan.radius_m + 20.0));
        Model {
            flush_ms: plan.flush_ms,
            coalesce_ms: plan.coalesce_ms,
            enter_m,
            exit_m,
            exit_factor: plan.exit_factor,
            vehicles_max: plan.vehicles_max,
            cars: vec![Car::default(); VEHICLES],
            riders: Vec::new(),
            fixes: Vec::new(),
            near: BTreeMap::new(),
            shown: BTreeMap::new(),
            changed_ms: 0,
        }
    }

    pub fn places(&self) -> Places {
        std::array::from_fn(|vehicle| self.cars[vehicle].fix.map(|fix| self.fixes[fix].e7))
    }

    /// A client has connected. Its number.
    pub fn connect(&mut self, shard: usize, slim: bool) -> usize {
        self.riders.push(Rider {
            shard,
            slim,
            vehicle: None,
            wanted: Wanted::default(),
            pace_ms: 0,
            epoch: 0,
            view: [Seen::No; VEHICLES],
            lately: BTreeSet::new(),
            again: BTreeSet::new(),
            owed: BTreeSet::new(),
            answers: VecDeque::new(),
        });
        self.riders.len() - 1
    }

    /// Vehicles have reported fixes in one turn, in this order.
    pub fn report(&mut self, now_ms: u64, fixes: &[usize]) {
        let mut taken = Vec::new();
        for &fix in fixes {
            let coalesce_ms = self.coalesce_ms;
            let car = &mut self.cars[self.fixes[fix].vehicle];
            match car.processed_ms {
                Some(processed_ms) if now_ms < processed_ms + coalesce_ms => {
                    car.waiting = Some((fix, processed_ms + coalesce_ms));
                }
                _ => {
                    car.processed_ms = Some(now_ms);
                    taken.push(fix);
                }
            }
        }
        self.turn(now_ms, &taken);
    }

    /// Time has passed.
    pub fn pass(&mut self, until_ms: u64) {
        let due = |model: &Model| model.cars.iter().filter_map(|car| Some(car.waiting?.1)).min();
        while let Some(due_ms) = due(self).filter(|due_ms| *due_ms <= until_ms) {
            let mut taken = Vec::new();
            for car in &mut self.cars {
                if let Some((fix, _)) = car.waiting.take_if(|(_, at_ms)| *at_ms == due_ms) {
                    car.processed_ms = Some(due_ms);
                    taken.push(fix);
                }
            }
            self.turn(due_ms, &taken);
        }
    }

    /// The gateway takes these fixes in one turn.
    fn turn(&mut self, now_ms: u64, fixes: &[usize]) {
        let before = self.places();
        let mut moved = BTreeSet::new();
        for &fix in fixes {
            let car = &mut self.cars[self.fixes[fix].vehicle];
            self.fixes[fix].emergency = match car.alerted {
                Some((at_ms, _)) if now_ms >= at_ms + EMERGENCY_MS => Some(false),
                Some((_, is_sure)) => is_sure.then_some(true),
                None => Some(false),
            };
            car.fix = Some(fix);
            moved.insert(self.fixes[fix].vehicle);
        }
        if moved.is_empty() {
            return;
        }
        self.changed_ms = now_ms;
        let after = self.places();
        self.settle_near(&moved, &before, &after);
        for rider in 0..self.riders.len() {
            self.settle_view(rider, &moved, &before, &after);
        }
    }

    fn hysteresis(&self, was: Seen, a: E7, b: E7) -> Seen {
        match (was, metres(place(a), place(b))) {
            (_, m) if m <= self.enter_m => Seen::Yes,
            (_, m) if m > self.exit_m => Seen::No,
            _ => was,
        }
    }

    fn settle_near(&mut self, moved: &BTreeSet<usize>, before: &Places, after: &Places) {
        for vehicle in 0..VEHICLES {
            let Some(rider) = self.cars[vehicle].rider else { continue };
            for other in (0..VEHICLES).filter(|other| *other != vehicle) {
                let (Some(mine), Some(theirs)) = (after[vehicle], after[other]) else { continue };
                if !moved.contains(&vehicle) && !moved.contains(&other) {
                    continue;
                }
                let was = self.near(vehicle, other);
                let mut now = self.hysteresis(was, mine, theirs);
                let elsewhere = self.cars[other].rider.map(|rider| self.riders[rider].shard);
                if elsewhere != Some(self.riders[rider].shard) && moved.contains(&vehicle) && moved.contains(&other) {
                    // One of the two moves may be known before the other.
                    for (a, b) in [(Some(mine), before[other]), (before[vehicle], Some(theirs))] {
                        let Some((a, b)) = a.zip(b) else { continue };
                        if self.hysteresis(self.hysteresis(was, a, b), mine, theirs) != now {
                            now = Seen::Maybe;
                        }
                        self.riders[rider].glimpses(other);
                    }
                }
                self.near.insert((vehicle, other), now);
                let is_within = metres(place(mine), place(theirs)) <= self.enter_m;
                let is_told = moved.contains(&other) && is_within || was == Seen::No && self.riders[rider].slim;
                if now == Seen::Yes && is_told {
                    self.shown.extend(self.cars[other].fix.map(|fix| ((vehicle, other), fix)));
                } else if now == Seen::No || (now == Seen::Maybe && !self.riders[rider].slim) {
                    self.shown.remove(&(vehicle, other));
                }
            }
        }
    }

    pub fn near(&self, vehicle: usize, other: usize) -> Seen {
        self.near.get(&(vehicle, other)).copied().unwrap_or_default()
    }

    /// What was in doubt has been decided.
    pub fn decide(&mut self, rider: usize, vehicle: usize, seen: Seen) {
        let Rider { vehicle: own, wanted, view, .. } = &mut self.riders[rider];
        view[vehicle] = seen;
        if let (Some(own), false) = (own, wanted.is_any()) {
            self.near.insert((*own, vehicle), seen);
        }
    }

    /// The area that a connection watches, if there is one and its vehicle is at that place.
    pub fn area(&self, rider: usize, own: Option<E7>) -> Option<Area> {
        let Wanted { view, near_m, .. } = &self.riders[rider].wanted;
        let circle = || Some(Area::circle(own?, (*near_m)?, self.exit_factor));
        view.map(Area::Box).or_else(circle)
    }

    fn look(&self, rider: usize, own: Option<E7>, vehicle: usize, at: Option<E7>, was: Seen) -> Seen {
        let Some(at) = at else { return Seen::No };
        if self.riders[rider].wanted.follows.contains(&vehicle) {
            return Seen::Yes;
        }
        self.area(rider, own).map_or(Seen::No, |area| area.sees(at, was))
    }

    fn settle_view(&mut self, number: usize, moved: &BTreeSet<usize>, before: &Places, after: &Places) {
        let own = self.riders[number].vehicle;
        let place = |places: &Places| own.and_then(|own| places[own]);
        let has_moved = own.is_some_and(|own| moved.contains(&own));
        for vehicle in (0..VEHICLES).filter(|vehicle| Some(*vehicle) != own) {
            if !self.riders[number].wanted.is_any() {
                let seen = own.map_or(Seen::No, |own| self.near(own, vehicle));
                self.riders[number].sees(vehicle, seen);
                continue;
            }
            let was = self.riders[number].view[vehicle];
            let (old, new) = (before[vehicle], after[vehicle]);
            let seen = if has_moved && moved.contains(&vehicle) {
                // Either may be looked at first, before or after the other's move is known.
                let first = self.look(number, place(before), vehicle, new, was);
                let own_first = self.look(number, place(after), vehicle, old, was);
                self.riders[number].glimpses(vehicle);
                let [a, b, c] = [first, own_first, was].map(|was| self.look(number, place(after), vehicle, new, was));
                if a == b && b == c { a } else { Seen::Maybe }
            } else if moved.contains(&vehicle) || has_moved {
                self.look(number, place(after), vehicle, new, was)
            } else {
                continue;
            };
            self.riders[number].sees(vehicle, seen);
        }
    }

    /// A connection has registered as a vehicle that it may have taken over.
    pub fn register(&mut self, now_ms: u64, number: usize, vehicle: usize, name: &str) {
        self.changed_ms = now_ms;
        let shard = self.riders[number].shard;
        let former = self.cars[vehicle].rider.replace(number);
        let is_elsewhere = former.is_none_or(|former| self.riders[former].shard != shard);
        let car = &mut self.cars[vehicle];
        name.clone_into(&mut car.name);
        (car.processed_ms, car.waiting) = (None, None);
        car.alerted = car.alerted.map(|(at_ms, is_sure)| (at_ms, is_sure && !is_elsewhere));
        self.riders[number].vehicle = Some(vehicle);
        self.riders[number].sees(vehicle, Seen::No);
        let places = self.places();
        for other in (0..VEHICLES).filter(|other| *other != vehicle) {
            let (Some(mine), Some(theirs)) = (places[vehicle], places[other]) else { continue };
            // Between the radii it depends on what the new shard knew.
            let was = match (self.near(vehicle, other), self.near(other, vehicle)) {
                (Seen::No, Seen::No) => Seen::No,
                _ => Seen::Maybe,
            };
            let seen = self.hysteresis(was, mine, theirs);
            self.near.insert((vehicle, other), seen);
        }
        self.show_neighbours(number);
    }

    /// Without an area and a list a vehicle is sent its neighbours, in `ringroad.v1` all of them at once.
    fn show_neighbours(&mut self, number: usize) {
        let Rider { vehicle, slim, ref wanted, .. } = self.riders[number];
        if wanted.is_any() {
            return;
        }
        for other in 0..VEHICLES {
            let seen = vehicle.map_or(Seen::No, |vehicle| self.near(vehicle, other));
            self.riders[number].sees(other, seen);
            let Some(vehicle) = vehicle else { continue };
            match self.cars[other].fix.filter(|_| slim && seen == Seen::Yes) {
                Some(fix) => self.shown.insert((vehicle, other), fix),
                None => self.shown.remove(&(vehicle, other)),
            };
        }
        self.riders[number].again.extend(0..VEHICLES);
    }

    /// A connection has gone, and with it its vehicle unless that was taken over.
    pub fn leave(&mut self, now_ms: u64, number: usize) {
        self.changed_ms = now_ms;
        let Some(vehicle) = self.riders[number].vehicle.filter(|vehicle| self.cars[*vehicle].rider == Some(number))
        else {
            return;
        };
        let alerted = self.cars[vehicle].alerted.map(|(at_ms, _)| (at_ms, false));
        self.cars[vehicle] = Car { alerted, ..Car::default() };
        self.near.retain(|(a, b), _| *a != vehicle && *b != vehicle);
        self.shown.retain(|(a, b), _| *a != vehicle && *b != vehicle);
        self.riders.iter_mut().for_each(|rider| rider.sees(vehicle, Seen::No));
    }

    pub fn alert(&mut self, now_ms: u64, vehicle: usize) {
        self.cars[vehicle].alerted = Some((now_ms, true));
    }

    /// A connection watches something else.
    pub fn watch(&mut self, now_ms: u64, number: usize, wish: &Wish, max_hz: Option<f64>) {
        self.changed_ms = now_ms;
        let rider = &mut self.riders[number];
        let is_first = !rider.wanted.is_any();
        match wish {
            Wish::View(view) => (rider.wanted.view, rider.wanted.near_m) = (*view, None),
            Wish::Near(near_m) => (rider.wanted.view, rider.wanted.near_m) = (None, *near_m),
            Wish::Follow(follows) => rider.wanted.follows = follows.clone(),
        }
        rider.pace_ms = max_hz.map_or(0, |hz| (1_000.0 / hz).round() as u64);
        rider.epoch += 1;
        let (own, is_any) = (rider.vehicle, rider.wanted.is_any());
        if is_first || !is_any {
            // The neighbours that it was sent before are one thing, what it watches is another.
            rider.again.extend(0..VEHICLES);
            (0..VEHICLES).for_each(|vehicle| rider.sees(vehicle, Seen::No));
        }
        if is_any {
            let places = self.places();
            let place = own.and_then(|own| places[own]);
            for vehicle in (0..VEHICLES).filter(|vehicle| Some(*vehicle) != own) {
                let seen = self.look(number, place, vehicle, places[vehicle], self.riders[number].view[vehicle]);
                self.riders[number].sees(vehicle, seen);
            }
        } else {
            self.show_neighbours(number);
        }
        let cut = self.is_cut(number);
        let rider = &mut self.riders[number];
        let view = rider.view;
        let all = |seen: Seen| (0..VEHICLES).filter(move |vehicle| view[*vehicle] == seen);
        let (surely, perhaps) = (all(Seen::Yes).count(), all(Seen::Maybe).count());
        let most = self.vehicles_max.filter(|_| is_any).unwrap_or(VEHICLES);
        rider.owed = all(Seen::Yes).collect();
        let (epoch, wanted) = (rider.epoch, rider.wanted.clone());
        let vehicles = if most < VEHICLES { 0..=most.min(surely + perhaps) } else { surely..=surely + perhaps };
        rider.answers.push_back(Answer { epoch, vehicles, cut, wanted, is_first });
    }

    /// Whom a connection would see that had seen nobody before: these it must see, and their distance to the middle.
    pub fn within(&self, number: usize) -> BTreeMap<usize, f64> {
        let (places, own) = (self.places(), self.riders[number].vehicle);
        let area = self.area(number, own.and_then(|own| places[own]));
        let mut within = BTreeMap::new();
        for vehicle in (0..VEHICLES).filter(|vehicle| Some(*vehicle) != own) {
            let Some(at) = places[vehicle] else { continue };
            let is_inside = area.is_some_and(|area| area.takes(at));
            if is_inside || self.riders[number].wanted.follows.contains(&vehicle) {
                within.insert(vehicle, self.metres_from_middle(number, vehicle));
            }
        }
        within
    }

    /// What is followed is nearest of all.
    pub fn metres_from_middle(&self, number: usize, vehicle: usize) -> f64 {
        let (places, own) = (self.places(), self.riders[number].vehicle);
        let area = self.area(number, own.and_then(|own| places[own]));
        match area.zip(places[vehicle]) {
            Some((area, at)) if !self.riders[number].wanted.follows.contains(&vehicle) => {
                metres(place(area.centre()), place(at))
            }
            _ => 0.0,
        }
    }

    /// Whether there are more in a view than are sent; `None` if that depends.
    fn is_cut(&self, number: usize) -> Option<bool> {
        let rider = &self.riders[number];
        let Some(most) = self.vehicles_max.filter(|_| rider.wanted.is_any()) else { return Some(false) };
        if self.within(number).len() > most {
            return Some(true);
        }
        let could = rider.view.iter().filter(|seen| **seen != Seen::No).count();
        (could <= most).then_some(false)
    }
}
