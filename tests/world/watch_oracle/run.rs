//! A world in which a plan is carried out, step by step, while everyone is listened to.

use std::collections::BTreeMap;

use ringroad::sim::ClientId;

use super::account::{Account, Present, Strictness};
use super::area::E7;
use super::ear::words;
use super::model::{Fix, Model};
use super::plan::{Plan, Step, VEHICLES, Wish};
use crate::script::Play;

/// Longer than anything takes that is still to be said.
const REST_MS: u64 = 5_000;

/// A connection of the world.
struct Seat {
    number: usize,
    client: ClientId,
    account: Account,
    is_stalled: bool,
    /// It reads again since this step: what was on its way may be old.
    has_resumed: bool,
    resumed_ms: u64,
}

/// The world, and what should be.
pub struct Run<'p> {
    plan: &'p Plan,
    script: &'p mut Vec<String>,
    play: Play,
    model: Model,
    seats: BTreeMap<usize, Seat>,
}

impl<'p> Run<'p> {
    pub fn new(plan: &'p Plan, script: &'p mut Vec<String>) -> Run<'p> {
        let (play, model) = (Play::default(), Model::new(plan));
        let mut run = Run { plan, script, play, model, seats: BTreeMap::new() };
        plan.settings().into_iter().for_each(|line| run.play(line));
        run
    }

    fn play(&mut self, line: String) {
        self.script.push(line);
        self.play.run(&self.script[self.script.len() - 1]);
    }

    fn now_ms(&mut self) -> u64 {
        self.play.world().now().mono_ms
    }

    /// The seat of a vehicle's driver.
    fn driver(&self, vehicle: usize) -> Option<usize> {
        let number = self.model.cars[vehicle].rider?;
        self.seats.iter().find(|(_, seat)| seat.number == number).map(|(seat, _)| *seat)
    }

    pub fn step(&mut self, step: &Step) -> Result<(), String> {
        let now_ms = self.now_ms();
        match step {
            Step::Connect { seat, shard, slim } if !self.seats.contains_key(seat) => {
                self.connect(*seat, *shard, *slim);
            }
            Step::Register { seat, vehicle, driver } => self.register(*seat, *vehicle, *driver)?,
            Step::Move(moves) => self.drive(moves),
            Step::Leave { seat } => {
                if let Some(Seat { number, .. }) = self.seats.remove(seat) {
                    let how = if number % 2 == 0 { "hangs" } else { "breaks" };
                    self.play(format!("c{seat} {how}"));
                    self.model.leave(now_ms, number);
                }
            }
            Step::Watch { seat, wish, max_hz } => self.watch(*seat, wish, *max_hz),
            Step::Alert { vehicle } => {
                if let Some(seat) = self.driver(*vehicle) {
                    self.play(format!("c{seat} alerts"));
                    self.model.alert(now_ms, *vehicle);
                }
            }
            Step::Stall { seat, bytes } => {
                if let Some(one) = self.seats.get_mut(seat) {
                    one.is_stalled = true;
                    self.play(format!("c{seat} stalls {bytes}"));
                }
            }
            Step::Trickle { seat, bytes } if self.seats.get(seat).is_some_and(|seat| seat.is_stalled) => {
                self.play(format!("c{seat} trickles {bytes}"));
            }
            Step::Resume { seat } => {
                if let Some(one) = self.seats.get_mut(seat).filter(|seat| seat.is_stalled) {
                    (one.is_stalled, one.has_resumed, one.resumed_ms) = (false, true, now_ms);
                    self.play(format!("c{seat} resumes"));
                }
            }
            Step::Wait { ms } => self.pass(*ms),
            Step::Connect { .. } | Step::Trickle { .. } => {}
        }
        if self.plan.inbox_max > 0 {
            // What another shard could not take at once, it is sent a millisecond later.
            self.pass(3);
        }
        self.listen()
    }

    fn pass(&mut self, ms: u64) {
        self.play(format!("+{ms}ms"));
        let now_ms = self.now_ms();
        self.model.pass(now_ms);
    }

    fn connect(&mut self, seat: usize, shard: usize, slim: bool) {
        self.play(format!("c{seat}@{shard} connects{}", if slim { " slim" } else { "" }));
        let (client, resumed_ms) = (self.play.client(&format!("c{seat}")), self.now_ms());
        let account = Account::new(resumed_ms);
        let number = self.model.connect(shard, slim);
        self.seats.insert(seat, Seat { number, client, account, is_stalled: false, has_resumed: false, resumed_ms });
    }

    fn register(&mut self, seat: usize, vehicle: usize, driver: usize) -> Result<(), String> {
        let Some(number) = self.seats.get(&seat).map(|seat| seat.number) else { return Ok(()) };
        if self.model.riders[number].vehicle.is_some() {
            return Ok(());
        }
        let former = self.driver(vehicle);
        let name = format!("Driver {}", ["Ada", "Ben"][driver]);
        self.play(format!("c{seat} registers as v{vehicle} called {name}"));
        let now_ms = self.now_ms();
        self.model.register(now_ms, number, vehicle, &name);
        if let Some(Seat { client, is_stalled, .. }) = former.and_then(|former| self.seats.remove(&former)) {
            if self.plan.inbox_max > 0 {
                self.pass(3);
            }
            let closed = self.play.world().closed(client).map(|(code, _)| code);
            if !is_stalled && closed != Some(Some(4001)) {
                return Err(format!("its former connection was closed: {closed:?}"));
            }
        }
        Ok(())
    }

    fn drive(&mut self, moves: &[(usize, E7)]) {
        let now = self.play.world().now();
        let (mut words, mut fixes) = (Vec::new(), Vec::new());
        for &(vehicle, e7) in moves {
            let Some(seat) = self.driver(vehicle) else { continue };
            let fix = self.model.fixes.len();
            self.model.fixes.push(Fix { vehicle, e7, ts: now.unix_ms, emergency: None });
            fixes.push(fix);
            let says = if self.model.riders[self.seats[&seat].number].slim { "reports" } else { "at" };
            let (lat, lon) = (f64::from(e7.0) / 1e7, f64::from(e7.1) / 1e7);
            words.push(format!("c{seat} {says} {lat} {lon} speed={} ts=0", fix as f64 / 50.0));
        }
        if !words.is_empty() {
            self.play(format!("at once: {}", words.join("; ")));
            self.model.report(now.mono_ms, &fixes);
        }
    }

    fn watch(&mut self, seat: usize, wish: &Wish, max_hz: Option<f64>) {
        let Some(number) = self.seats.get(&seat).map(|seat| seat.number) else { return };
        if matches!(wish, Wish::Near(_)) && self.model.riders[number].vehicle.is_none() {
            return;
        }
        let degrees = |e7: i32| format!("{}", f64::from(e7) / 1e7);
        let (event, mut fields) = match wish {
            Wish::View(None) => ("view", vec![]),
            Wish::View(Some(edges)) => {
                let names = ["south", "west", "north", "east"].iter();
                ("view", names.zip(edges).map(|(name, edge)| format!("\"{name}\":{}", degrees(*edge))).collect())
            }
            Wish::Near(radius_m) => ("near", radius_m.iter().map(|m| format!("\"radiusM\":{m}")).collect()),
            Wish::Follow(vehicles) => {
                let ids: Vec<String> = vehicles.iter().map(|vehicle| format!("\"veh-v{vehicle}\"")).collect();
                ("follow", vec![format!("\"vehicleIds\":[{}]", ids.join(","))])
            }
        };
        fields.extend(max_hz.map(|hz| format!("\"maxHz\":{hz}")));
        self.play(format!("c{seat} sends {event} {{{}}}", fields.join(",")));
        let now_ms = self.now_ms();
        self.model.watch(now_ms, number, wish, max_hz);
    }

    /// Everyone says what it has heard.
    fn listen(&mut self) -> Result<(), String> {
        let now_ms = self.now_ms();
        for (name, seat) in &mut self.seats {
            let world = self.play.world();
            if let Some(closed) = world.closed(seat.client) {
                return Err(format!("c{name} was closed: {closed:?}"));
            }
            let rider = &self.model.riders[seat.number];
            let mut due_ms = self.model.changed_ms.max(seat.resumed_ms) + self.plan.flush_ms.max(rider.pace_ms);
            if self.plan.vehicles_max.is_some() || self.plan.nearest.is_some() {
                due_ms += self.plan.rest_ms;
            }
            if self.plan.inbox_max > 0 {
                due_ms += 3;
            }
            let reads = !seat.is_stalled && !seat.has_resumed;
            let strict = Strictness { reads, quiet: !seat.is_stalled && now_ms >= due_ms };
            let mut heard = Vec::new();
            for one in world.take_heard(seat.client) {
                heard.extend(words(&one).map_err(|why| format!("c{name}: {why}"))?);
            }
            let mut present = Present { plan: self.plan, model: &mut self.model, now_ms };
            let outcome = seat.account.take(seat.number, heard, strict, &mut present);
            outcome.map_err(|why| {
                let rider = &self.model.riders[seat.number];
                format!(
                    "c{name} (drives {:?}): {why}\nwatches {:?}, sees {:?}",
                    rider.vehicle, rider.wanted, rider.view
                )
            })?;
            seat.has_resumed = false;
        }
        Ok(())
    }

    /// Everyone reads and hears everything, and then goes. Nothing is left.
    pub fn finish(mut self) -> Result<(), String> {
        let seats: Vec<usize> = self.seats.keys().copied().collect();
        for seat in &seats {
            self.step(&Step::Resume { seat: *seat })?;
        }
        self.step(&Step::Wait { ms: REST_MS })?;
        for seat in seats {
            self.step(&Step::Leave { seat })?;
        }
        self.pass(REST_MS);
        for shard in 0..self.plan.shards {
            let counters = self.play.world().counters(shard);
            let (opened, closed, errors) =
                (counters.connections_opened, counters.closes.total(), counters.errors.total());
            if opened != closed || errors > 0 {
                return Err(format!("{opened} opened, {closed} closed, {errors} errors"));
            }
        }
        debug_assert!(self.model.cars.iter().take(VEHICLES).all(|car| car.rider.is_none()));
        Ok(())
    }
}
