//! A client's own account of what it was sent, held against the model.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::area::{Seen, normal};
use super::ear::{Told, Word};
use super::model::{Answer, Model};
use super::plan::{Plan, VEHICLES};

/// What a client of a connection knows.
#[derive(Debug, Default)]
pub struct Account {
    /// The newest fix of each vehicle that it believes to be in view.
    held: BTreeMap<usize, usize>,
    /// The same of each that it was ever told of.
    newest: BTreeMap<usize, usize>,
    /// Those of whom it was told without having asked. In JSON nobody says that they are gone.
    neighbours: BTreeSet<usize>,
    /// Neighbours that have exited; of those that it had watched before it is still told that they are gone.
    exited: BTreeSet<usize>,
    names: BTreeMap<usize, String>,
    epoch: u64,
    /// There is an area or a list, by the newest answer.
    watches: bool,
    completed: Option<u64>,
    /// Base time of the newest state frame.
    base_ms: u64,
    /// How often it was told of each vehicle since it was last listened to, and when that was.
    times: BTreeMap<usize, u64>,
    listened_ms: u64,
}

/// How strictly a client is listened to.
#[derive(Clone, Copy)]
pub struct Strictness {
    /// It takes everything at once, so that what it hears is new.
    pub reads: bool,
    /// Everything has been said, and there was time to say it.
    pub quiet: bool,
}

/// What is known when something is heard.
pub struct Present<'a> {
    pub plan: &'a Plan,
    pub model: &'a mut Model,
    pub now_ms: u64,
}

impl Account {
    pub fn new(now_ms: u64) -> Account {
        Account { listened_ms: now_ms, ..Account::default() }
    }

    /// Takes everything that was heard since the last time.
    pub fn take(
        &mut self,
        number: usize,
        words: Vec<Word>,
        strict: Strictness,
        present: &mut Present<'_>,
    ) -> Result<(), String> {
        self.times.clear();
        for word in words {
            self.hear(number, &word, strict.reads, present).map_err(|why| format!("{why}: {word:?}"))?;
        }
        let pace_ms = present.model.riders[number].pace_ms.max(present.model.flush_ms);
        if let Some((vehicle, times)) = self.times.iter().max_by_key(|(_, times)| **times)
            && strict.reads
            && pace_ms > 0
            && *times > (present.now_ms - self.listened_ms) / pace_ms + 1
        {
            return Err(format!("told of {vehicle} {times} times"));
        }
        self.listened_ms = present.now_ms;
        if strict.quiet {
            self.compare(number, present)?;
        }
        let rider = &mut present.model.riders[number];
        if strict.reads {
            rider.lately = (0..VEHICLES).filter(|vehicle| rider.view[*vehicle] != Seen::No).collect();
        }
        Ok(())
    }

    fn hear(&mut self, number: usize, word: &Word, reads: bool, present: &mut Present<'_>) -> Result<(), &'static str> {
        let Present { plan, model, .. } = present;
        let rider = &mut model.riders[number];
        match word {
            Word::Frame { epoch, base_ms, cut, tiered } => {
                if u64::from(*epoch) != self.epoch {
                    return Err("not the newest epoch");
                }
                let since_ms = base_ms.checked_sub(self.base_ms).ok_or("the base time goes back")?;
                if reads && since_ms > 0 && since_ms < rider.pace_ms.max(plan.flush_ms) {
                    return Err("too soon");
                }
                if (*cut && plan.vehicles_max.is_none()) || (*tiered && plan.nearest.is_none()) {
                    return Err("there are not so many");
                }
                self.base_ms = *base_ms;
            }
            Word::State(told) => self.hear_state(number, told, reads, present)?,
            Word::Gone(vehicle) => {
                let has_exited = self.exited.remove(vehicle);
                self.held.remove(vehicle).or(has_exited.then_some(0)).ok_or("it was not in view")?;
            }
            Word::Named(vehicle, name) => {
                if self.names.insert(*vehicle, name.clone()).as_ref() == Some(name) {
                    return Err("that was known");
                }
            }
            Word::Complete => {
                if self.completed == Some(self.epoch) || self.epoch == 0 {
                    return Err("once too often");
                }
                self.completed = Some(self.epoch);
                let is_newest = self.epoch == rider.epoch && plan.vehicles_max.is_none();
                if is_newest && !rider.owed.iter().all(|vehicle| self.held.contains_key(vehicle)) {
                    return Err("it is not");
                }
            }
            Word::Exit(vehicle) => {
                // In JSON nothing else says so.
                let has_exited = !rider.slim && !self.watches && self.held.remove(vehicle).is_some();
                if has_exited && !self.neighbours.contains(vehicle) {
                    self.exited.insert(*vehicle);
                }
            }
            Word::Watching(data) => {
                let answer = rider.answers.pop_front().ok_or("nothing was asked")?;
                compare_answer(&answer, data)?;
                (self.epoch, self.watches) = (answer.epoch, answer.wanted.is_any());
                if answer.is_first && !rider.slim {
                    self.held.retain(|vehicle, _| !self.neighbours.contains(vehicle));
                }
            }
        }
        Ok(())
    }

    fn hear_state(
        &mut self,
        number: usize,
        told: &Told,
        reads: bool,
        present: &mut Present<'_>,
    ) -> Result<(), &'static str> {
        let Present { plan, model, .. } = present;
        let vehicle = told.vehicle;
        let fix = model.fixes.get(told.fix).filter(|fix| fix.vehicle == vehicle).ok_or("it never said so")?;
        if fix.e7 != told.e7 {
            return Err("it was somewhere else");
        }
        let is_old = |base_ms: u64| base_ms + 10_000 >= fix.ts + 60_000;
        if told.ts != Some(fix.ts).filter(|_| !told.base_ms.is_some_and(is_old)) {
            return Err("it was then");
        }
        if told.emergency.zip(fix.emergency).is_some_and(|(told, is)| told != is) {
            return Err("an alert, or none");
        }
        let name = &model.cars[vehicle].name;
        let rider = &mut model.riders[number];
        if rider.vehicle == Some(vehicle) && reads {
            return Err("its own");
        }
        if rider.slim && self.names.get(&vehicle).is_none_or(|known| reads && plan.inbox_max == 0 && known != name) {
            return Err("it has another name");
        }
        let before = self.newest.insert(vehicle, told.fix);
        if before > Some(told.fix) {
            return Err("there was a newer one");
        }
        let may_come_again = rider.again.remove(&vehicle) || !reads || plan.vehicles_max.is_some();
        if before == Some(told.fix) && !may_come_again {
            return Err("once more");
        }
        if reads && !rider.lately.contains(&vehicle) {
            return Err("it is not in view");
        }
        let is_any = rider.wanted.is_any();
        self.held.insert(vehicle, told.fix);
        if self.watches {
            self.neighbours.remove(&vehicle);
        } else {
            self.neighbours.insert(vehicle);
        }
        if reads && plan.vehicles_max.is_some_and(|most| is_any && self.held.len() > most) {
            return Err("more than may be shown");
        }
        *self.times.entry(vehicle).or_default() += 1;
        Ok(())
    }

    /// There was time for everything.
    fn compare(&mut self, number: usize, present: &mut Present<'_>) -> Result<(), String> {
        let model = &mut *present.model;
        let rider = &model.riders[number];
        if !rider.answers.is_empty() {
            return Err(format!("without an answer: {:?}", rider.answers));
        }
        if rider.slim && rider.epoch > 0 && self.completed != Some(rider.epoch) {
            return Err(format!("not complete: {}", rider.epoch));
        }
        let (view, slim, own, is_any) = (rider.view, rider.slim, rider.vehicle, rider.wanted.is_any());
        for (vehicle, seen) in view.into_iter().enumerate() {
            let held = self.held.get(&vehicle).copied();
            let of_neighbour = own.filter(|_| !is_any).map(|own| model.shown.get(&(own, vehicle)).copied());
            let least = of_neighbour.unwrap_or(model.cars[vehicle].fix);
            let is_right = match (seen, held) {
                (Seen::No, None) | (Seen::Maybe, _) => true,
                (Seen::No, Some(_)) => false,
                // In JSON a neighbour is told of when it moves.
                (Seen::Yes, None) => (!slim && !is_any && least.is_none()) || (is_any && model.vehicles_max.is_some()),
                (Seen::Yes, Some(fix)) if is_any => Some(fix) == least,
                (Seen::Yes, Some(fix)) => Some(fix) >= least,
            };
            if !is_right {
                return Err(format!("{vehicle}: {seen:?}, holds {held:?}, at least {least:?}"));
            }
            if seen == Seen::Maybe && (slim || is_any) && model.vehicles_max.is_none() {
                model.decide(number, vehicle, if held.is_some() { Seen::Yes } else { Seen::No });
            }
        }
        if let Some(most) = model.vehicles_max.filter(|_| is_any) {
            self.compare_nearest(number, most, model)?;
        }
        model.riders[number].again.clear();
        Ok(())
    }

    /// Of too many it knows the nearest.
    fn compare_nearest(&self, number: usize, most: usize, model: &Model) -> Result<(), String> {
        let within = model.within(number);
        let furthest = self.held.keys().map(|vehicle| model.metres_from_middle(number, *vehicle)).fold(0.0, f64::max);
        for (vehicle, metres) in within.iter().filter(|(vehicle, _)| !self.held.contains_key(vehicle)) {
            // The middle is right to a centimetre.
            if self.held.len() < most || metres + 0.03 < furthest {
                return Err(format!("{vehicle} is {metres} m from the middle and not in view: {:?}", self.held));
            }
        }
        Ok(())
    }
}

fn compare_answer(answer: &Answer, data: &Value) -> Result<(), &'static str> {
    let number = |field: &str| data[field].as_u64();
    if number("epoch") != Some(answer.epoch) {
        return Err("another epoch");
    }
    if !number("vehicles").is_some_and(|count| answer.vehicles.contains(&(count as usize))) {
        return Err("another number of vehicles");
    }
    if answer.cut.is_some_and(|cut| data["cut"] != cut) {
        return Err("cut, or not");
    }
    if data["nearM"].as_f64() != answer.wanted.near_m || number("follow") != Some(answer.wanted.follows.len() as u64) {
        return Err("another circle or list");
    }
    let edge = |name: &str| (data["view"][name].as_f64().unwrap_or(f64::NAN) * 1e7).round() as i64;
    let edges = || ["south", "west", "north", "east"].map(edge).map(normal);
    if data["view"].is_null() != answer.wanted.view.is_none()
        || answer.wanted.view.is_some_and(|view| view.map(|e7| normal(i64::from(e7))) != edges())
    {
        return Err("another view");
    }
    Ok(())
}
