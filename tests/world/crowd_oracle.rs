//! Neighbours in crowds against a slow exact model, in random worlds where a vehicle may have few.
//!
//! The model sorts everybody by distance whenever somebody chooses. What holds, and is checked:
//!
//! - On one shard: every enter, exit and position is the model's, and so is the number of choices. First those who moved
//!   look around, in the order of their reports, then those whose time to choose has come; one that is not crowded sees
//!   all within the radius, offers itself to them, and whoever is full chooses later.
//! - On any number of shards: nobody ever has more neighbours than it may, an enter is only of one that is none and an
//!   exit only of one that is, and positions only of neighbours. Once all have stood still for `crowd_ms`, everyone has
//!   the nearest, but for those that nobody nearer by a fifth displaces.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringroad::config::Config;
use ringroad::geo::Place;
use ringroad::geo::distance::metres;
use ringroad::sim::{ClientId, World};
use ringroad::turn::Ended;
use ringroad::wire::state;
use serde_json::Value;

use crate::bad_input::Random;
use crate::oracle::{ANCHORS, scatter};

/// What the distance of a neighbour counts when somebody chooses.
const STAYING: f64 = 0.8;

/// Steps of the simulated clock between two looks at what was heard.
const STEP_MS: u64 = 25;

#[derive(Default)]
struct Vehicle {
    shard: usize,
    /// `None` while it is away.
    client: Option<ClientId>,
    /// 1e-7 degree, and the time, as it last reported.
    fix: Option<((i32, i32), u64)>,
    /// Its neighbours, by what its connection has been told.
    told: BTreeSet<usize>,
    /// From here on the model's: its neighbours.
    sees: BTreeSet<usize>,
    crowded: bool,
    choose_at_ms: u64,
    /// When it is asked whether it is to choose.
    wakes_ms: Vec<u64>,
}

impl Vehicle {
    fn place(&self) -> Option<Place> {
        self.client?;
        self.fix.map(|((lat, lon), _)| Place::from_e7(lat, lon))
    }
}

/// What a vehicle is told, order left out.
type Told = BTreeMap<usize, Vec<String>>;

struct Model {
    vehicles: Vec<Vehicle>,
    most: usize,
    crowd_ms: u64,
    enter_m: f64,
    exit_m: f64,
    choices: u64,
    told: Told,
    /// Who is to look around in this turn although it may not have moved.
    choosers: VecDeque<usize>,
    /// (viewer, other): to be sent at the end of the turn.
    due: BTreeSet<(usize, usize)>,
}

impl Model {
    fn metres(&self, a: usize, b: usize) -> Option<f64> {
        (a != b).then_some(())?;
        Some(metres(self.vehicles[a].place()?, self.vehicles[b].place()?))
    }

    fn within(&self, v: usize) -> Vec<(usize, f64)> {
        let all = (0..self.vehicles.len()).filter_map(|other| Some((other, self.metres(v, other)?)));
        all.filter(|(_, metres)| *metres <= self.enter_m).collect()
    }

    fn enter(&mut self, viewer: usize, other: usize, metres: f64) {
        assert!(self.vehicles[viewer].sees.insert(other));
        self.told.entry(viewer).or_default().push(format!("enter {other} {}", metres.round()));
    }

    fn exit(&mut self, viewer: usize, other: usize) {
        if self.vehicles[viewer].sees.remove(&other) {
            self.due.remove(&(viewer, other));
            self.told.entry(viewer).or_default().push(format!("exit {other}"));
        }
    }

    fn crowd(&mut self, now_ms: u64, v: usize) {
        let vehicle = &mut self.vehicles[v];
        vehicle.crowded = true;
        vehicle.choose_at_ms = vehicle.choose_at_ms.max(now_ms);
        vehicle.wakes_ms.push(vehicle.choose_at_ms.max(now_ms + 1));
    }

    /// Exits of those that are too far away, and the news of a move to those who see the vehicle.
    fn walk(&mut self, v: usize, moved: bool) {
        for other in 0..self.vehicles.len() {
            let Some(metres) = self.metres(v, other) else { continue };
            if metres > self.exit_m {
                self.exit(v, other);
                self.exit(other, v);
            } else if metres <= self.enter_m && moved && self.vehicles[other].sees.contains(&v) {
                self.due.insert((other, v));
            }
        }
    }

    fn look(&mut self, now_ms: u64, v: usize, moved: bool, about_to_look: &[usize]) {
        let within = self.within(v);
        let unseen: Vec<_> = within.iter().filter(|(other, _)| !self.vehicles[v].sees.contains(other)).collect();
        let too_many = self.vehicles[v].sees.len() + unseen.len() > self.most;
        for &(other, metres) in &within {
            let taker = &self.vehicles[other];
            if taker.sees.contains(&v) || taker.crowded || self.choosers.contains(&other) {
                continue;
            }
            if moved && !too_many && taker.sees.len() < self.most {
                self.enter(other, v, metres);
                self.due.insert((other, v));
            } else if !about_to_look.contains(&other) {
                self.choosers.push_back(other);
            }
        }
        let vehicle = &mut self.vehicles[v];
        let is_due = now_ms >= vehicle.choose_at_ms;
        if is_due && (vehicle.crowded || too_many) {
            vehicle.choose_at_ms = now_ms + self.crowd_ms;
        }
        vehicle.crowded = false;
        if !too_many {
            unseen.iter().for_each(|(other, metres)| self.begin(v, *other, *metres, moved));
            return;
        }
        self.crowd(now_ms, v);
        if is_due {
            self.choose(v, moved, unseen.into_iter().copied().collect());
        }
    }

    fn choose(&mut self, v: usize, moved: bool, unseen: Vec<(usize, f64)>) {
        self.choices += 1;
        let present = self.vehicles[v].sees.iter().map(|other| (*other, self.metres(v, *other).expect("it is near")));
        let key = |other: usize| state::key(&format!("veh-{other}"));
        let mut ranked: Vec<_> = present.map(|(other, metres)| (metres * STAYING, false, key(other), other)).collect();
        ranked.extend(unseen.iter().map(|(other, metres)| (*metres, true, key(*other), *other)));
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        for &(_, is_new, _, other) in &ranked[self.most..] {
            if !is_new {
                self.exit(v, other);
            }
        }
        for &(metres, is_new, _, other) in &ranked[..self.most] {
            if is_new {
                self.begin(v, other, metres, moved);
            }
        }
    }

    /// A vehicle has found another. Unless it has come to where that one was, it is sent where the other is.
    fn begin(&mut self, v: usize, other: usize, metres: f64, moved: bool) {
        self.enter(v, other, metres);
        if !moved {
            self.due.insert((v, other));
        }
    }

    /// One turn. `movers`: who has reported a new place, in order.
    fn turn(&mut self, now_ms: u64, movers: &[usize]) {
        for (v, vehicle) in self.vehicles.iter_mut().enumerate() {
            let woken = vehicle.wakes_ms.extract_if(.., |wakes_ms| *wakes_ms <= now_ms).count() > 0;
            if woken && vehicle.crowded && now_ms >= vehicle.choose_at_ms {
                self.choosers.push_back(v);
            }
        }
        for (at, &mover) in movers.iter().enumerate() {
            self.walk(mover, true);
            if !self.vehicles[mover].crowded {
                self.look(now_ms, mover, true, &movers[at + 1..]);
            }
        }
        while let Some(chooser) = self.choosers.pop_front() {
            self.walk(chooser, false);
            self.look(now_ms, chooser, false, &[]);
        }
        for (viewer, other) in std::mem::take(&mut self.due) {
            let ((lat, lon), ts) = self.vehicles[other].fix.expect("it has a place");
            self.told.entry(viewer).or_default().push(format!("peer {other} {lat} {lon} {ts}"));
        }
    }

    fn leave(&mut self, gone: usize) {
        (0..self.vehicles.len()).for_each(|viewer| self.exit(viewer, gone));
        self.told.remove(&gone);
        self.vehicles[gone] = Vehicle::default();
    }

    /// A vehicle has a new connection on the same shard.
    fn told_again(&mut self, v: usize) {
        self.told.remove(&v);
        for other in self.vehicles[v].sees.clone() {
            let metres = self.metres(v, other).expect("it is near");
            self.told.entry(v).or_default().push(format!("enter {other} {}", metres.round()));
        }
    }

    /// Nobody has moved for long enough: everyone has the nearest of those around.
    fn check_at_rest(&self, what: &str) {
        for (v, vehicle) in self.vehicles.iter().enumerate() {
            let (told, within) = (&vehicle.told, self.within(v));
            let metres = |other: &usize| self.metres(v, *other).unwrap_or(f64::INFINITY);
            assert!(told.iter().all(|other| metres(other) <= self.exit_m), "{what}: {v} has one that is too far away");
            let missing: Vec<_> = within.iter().filter(|(other, _)| !told.contains(other)).collect();
            if told.len() + missing.len() <= self.most {
                assert!(missing.is_empty(), "{what}: {v} has room, and misses {missing:?}");
                continue;
            }
            assert_eq!(told.len(), self.most, "{what}: {v} has more around it than it may have");
            let farthest = told.iter().map(metres).fold(0.0, f64::max);
            for (other, metres) in missing {
                assert!(*metres >= farthest * STAYING, "{what}: {v} misses {other}, {metres} m away, for {farthest} m");
            }
        }
    }
}

/// Takes what a vehicle's client has received, in the model's words, and what it makes of its neighbours.
fn heard(world: &mut World, v: usize, vehicle: &mut Vehicle, most: usize) -> Vec<String> {
    let Some(client) = vehicle.client else { return Vec::new() };
    let number = |id: &Value| -> usize {
        id.as_str().and_then(|id| id.strip_prefix("veh-")?.parse().ok()).expect("a vehicle of this world")
    };
    let e7 = |degrees: &Value| (degrees.as_f64().unwrap_or(f64::NAN) * 1e7).round() as i32;
    let mut heard = Vec::new();
    for text in world.take(client) {
        let event: Value = serde_json::from_str(&text).expect("JSON");
        let data = &event["data"];
        heard.push(match event["event"].as_str().expect("a name") {
            "connected" | "registered" => continue,
            "proximity_event" if data["eventType"] == "enter" => {
                let peer = number(&data["peerVehicleId"]);
                assert!(vehicle.told.insert(peer), "{v} has {peer} already");
                assert!(vehicle.told.len() <= most, "{v} has too many neighbours");
                format!("enter {peer} {}", data["distanceM"])
            }
            "proximity_event" => {
                let peer = number(&data["peerVehicleId"]);
                assert!(vehicle.told.remove(&peer), "{v} does not have {peer}");
                format!("exit {peer}")
            }
            "peer_location" => {
                let peer = number(&data["vehicleId"]);
                assert!(vehicle.told.contains(&peer), "{v} hears of {peer}, which is none of its neighbours");
                format!("peer {peer} {} {} {}", e7(&data["lat"]), e7(&data["lon"]), data["ts"])
            }
            other => panic!("{v} hears {other}"),
        });
    }
    heard.sort();
    heard
}

/// A random world, and how it goes on.
struct Play {
    world: World,
    model: Model,
    random: Random,
    shards: usize,
    anchor: (f64, f64),
    reach_m: f64,
    what: String,
}

impl Play {
    fn new(seed: u64, shards: usize) -> Play {
        let mut random = Random(seed);
        let radius_m = [30.0, 100.0, 500.0][random.below(3)];
        let most = 1 + random.below(6);
        let crowd_ms = [100, 250, 1_000][random.below(3)];
        let config: Config = toml::from_str(&format!(
            "vehicles = {{ nearby_radius_m = {radius_m:?}, nearby_list_ms = 0, coalesce_ms = 0, flush_ms = 0,
                           neighbours_max = {most}, crowd_ms = {crowd_ms},
                           ping_ms = 10000000, heartbeat_timeout_ms = 20000000 }}
             presence.scope = 'none'
             rate_limits.location_update = {{ burst = 0, per_ms = 1 }}"
        ))
        .expect("known keys");
        let count = 8 + random.below(25);
        let model = Model {
            vehicles: (0..count).map(|_| Vehicle::default()).collect(),
            most,
            crowd_ms,
            enter_m: radius_m,
            exit_m: (radius_m * 1.1).max(radius_m + 20.0),
            choices: 0,
            told: Told::new(),
            choosers: VecDeque::new(),
            due: BTreeSet::new(),
        };
        Play {
            world: World::new(shards as u16, config),
            model,
            shards,
            anchor: ANCHORS[random.below(ANCHORS.len())],
            reach_m: radius_m * (0.2 + random.unit() * 2.5),
            what: format!("seed {seed}"),
            random,
        }
    }

    /// A vehicle gets a connection, its first or another.
    fn connect(&mut self, v: usize) {
        let shard = self.random.below(self.shards);
        let client = self.world.connect(shard);
        let register = format!(r#"{{"event":"register","data":{{"vehicleId":"veh-{v}","driverName":"x"}}}}"#);
        self.world.send(client, &register);
        let vehicle = &mut self.model.vehicles[v];
        (vehicle.shard, vehicle.client) = (shard, Some(client));
        vehicle.told.clear();
    }

    fn take_over(&mut self, v: usize) {
        if self.model.vehicles[v].client.is_some() {
            self.connect(v);
            if self.shards == 1 {
                self.model.told_again(v);
            }
        }
    }

    fn depart(&mut self, v: usize) {
        let client = self.model.vehicles[v].client.expect("it is here");
        self.world.hang_up(client, Ended::Eof);
        self.model.leave(v);
    }

    /// Several vehicles move in one turn.
    fn drive(&mut self, first: usize) {
        let ts = self.world.now().unix_ms;
        let count = self.model.vehicles.len();
        let together = if self.random.below(10) == 0 { count } else { 1 + self.random.below(6) };
        let mut movers: Vec<usize> = Vec::new();
        for mover in (0..together).map(|i| (first + i * 7) % count) {
            let vehicle = &self.model.vehicles[mover];
            let Some(client) = vehicle.client.filter(|_| !movers.contains(&mover)) else { continue };
            let mut reach_m = self.reach_m;
            let centre = match vehicle.fix {
                Some(((lat, lon), _)) if self.random.below(4) > 0 => {
                    reach_m = self.model.enter_m * 0.3;
                    (lat as f64 / 1e7, lon as f64 / 1e7)
                }
                _ => self.anchor,
            };
            // Some park where another stands.
            let other = self.random.below(count);
            let e7 = match self.model.vehicles[other].fix {
                Some((e7, _)) if self.random.below(8) == 0 => e7,
                _ => scatter(&mut self.random, centre, reach_m),
            };
            let (lat, lon) = (e7.0 as f64 / 1e7, e7.1 as f64 / 1e7);
            self.world.say(
                client,
                &format!(
                    r#"{{"event":"location_update","data":{{"vehicleId":"veh-{mover}","lat":{lat},"lon":{lon},"ts":{ts}}}}}"#
                ),
            );
            self.model.vehicles[mover].fix = Some((e7, ts));
            movers.push(mover);
        }
        self.world.settle();
        if self.shards == 1 {
            self.model.turn(self.world.now().mono_ms, &movers);
        }
    }

    /// Lets time pass, and compares what everyone has heard.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms {
            self.world.advance(1);
            if self.shards == 1 {
                self.model.turn(self.world.now().mono_ms, &[]);
            }
        }
        if self.shards == 1 {
            assert_eq!(self.world.counters(0).crowd_choices, self.model.choices, "{}", self.what);
        }
        for v in 0..self.model.vehicles.len() {
            let heard = heard(&mut self.world, v, &mut self.model.vehicles[v], self.model.most);
            if self.shards == 1 {
                let mut expected = self.model.told.remove(&v).unwrap_or_default();
                expected.sort();
                assert_eq!(heard, expected, "{}: vehicle {v}", self.what);
            }
        }
    }

    fn play(&mut self, steps: usize) {
        let what = self.what.clone();
        for step in 0..steps {
            self.what = format!("{what}, step {step}, {} shards", self.shards);
            let v = self.random.below(self.model.vehicles.len());
            match self.random.below(40) {
                _ if self.model.vehicles[v].client.is_none() => self.connect(v),
                0 => self.depart(v),
                1 => self.take_over(v),
                2 | 3 => {
                    // Some have just moved, or been taken over by another connection, or both.
                    if self.random.below(2) == 0 {
                        self.drive(v);
                    }
                    for _ in 0..self.random.below(5) {
                        let v = self.random.below(self.model.vehicles.len());
                        self.take_over(v);
                    }
                    // Between shards one is served first, so the last enter may bring another choice.
                    self.pass(2 * self.model.crowd_ms + STEP_MS);
                    self.model.check_at_rest(&self.what);
                }
                _ => self.drive(v),
            }
            self.pass(STEP_MS);
        }
    }
}

#[test]
fn crowds_on_one_shard_are_the_models() {
    let mut choices = 0;
    for seed in 0..60 {
        let mut play = Play::new(seed, 1);
        play.play(200);
        choices += play.model.choices;
    }
    assert!(choices > 10_000, "the worlds are dense enough to say something: {choices} choices");
}

#[test]
fn crowds_on_several_shards_keep_the_rules_and_come_to_the_same_rest() {
    for seed in 1_000..1_060 {
        Play::new(seed, 2 + seed as usize % 2).play(200);
    }
}
