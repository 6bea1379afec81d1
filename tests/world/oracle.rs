//! Neighbours against a slow exact model, in random worlds.
//!
//! The model knows nothing of cells, marks or batches: it computes every distance with [`metres`] after every step.
//! What holds, and is checked exactly:
//!
//! - Who gets which position: every vehicle within the radius of the one that moved, by the places of both at the end
//!   of the step, exactly once, with its timestamp; across shards as on one. On its own shard a vehicle that moves twice in a
//!   step may be told of twice, and the last place counts.
//! - Pairs on one shard: the hysteresis over the distances at the end of each step, both sides alike.
//! - Pairs on two shards: each side keeps the hysteresis over the distances that its own shard has seen. As long as one
//!   vehicle moves at a time both sides are alike. When both move in the same turn, the shard that is served first sees
//!   the other's old place for one turn: it may tell of an enter or exit that the other side does not, and afterwards
//!   the sides may differ, but only while the distance lies between the two radii.

use std::collections::{BTreeMap, BTreeSet};

use ringroad::config::Config;
use ringroad::geo::Place;
use ringroad::geo::distance::metres;
use ringroad::sim::{ClientId, World};
use ringroad::turn::Ended;
use serde_json::Value;

use crate::bad_input::Random;

/// Around these the vehicles drive; degrees.
pub const ANCHORS: [(f64, f64); 9] = [
    (0.0, 0.0),
    (48.137, 11.575),
    (-17.0, 180.0),
    (66.5, -180.0),
    (60.0, 25.0),
    (89.9, 77.0),
    (-89.9, 180.0),
    (89.999, -45.0),
    (-90.0, 0.0),
];

struct Vehicle {
    shard: usize,
    /// `None` while it is away.
    client: Option<ClientId>,
    /// 1e-7 degree, as it last reported.
    e7: Option<(i32, i32)>,
}

impl Vehicle {
    fn place(&self) -> Option<Place> {
        self.client?;
        self.e7.map(|(lat, lon)| Place::from_e7(lat, lon))
    }
}

/// What a vehicle is told in one step, order left out.
type Told = BTreeMap<usize, Vec<String>>;

struct Model {
    vehicles: Vec<Vehicle>,
    /// (viewer, other): the viewer's shard holds the other near.
    near: BTreeSet<(usize, usize)>,
    enter_m: f64,
    exit_m: f64,
}

impl Model {
    /// What `shard` tells its vehicles in one turn in which it learns that `moved` are at their newest places. It still
    /// sees those in `old` where they were.
    fn turn(&mut self, shard: usize, moved: &[usize], old: &BTreeMap<usize, Option<Place>>, told: &mut Told) {
        let place = |model: &Model, v: usize| old.get(&v).copied().unwrap_or_else(|| model.vehicles[v].place());
        let viewers: Vec<usize> = (0..self.vehicles.len())
            .filter(|v| self.vehicles[*v].shard == shard && self.vehicles[*v].client.is_some())
            .collect();
        for &viewer in &viewers {
            for other in 0..self.vehicles.len() {
                if other == viewer || !(moved.contains(&viewer) || moved.contains(&other)) {
                    continue;
                }
                let (Some(mine), Some(theirs)) = (place(self, viewer), place(self, other)) else { continue };
                let distance = metres(mine, theirs);
                let was_near = self.near.contains(&(viewer, other));
                if was_near && distance > self.exit_m {
                    self.near.remove(&(viewer, other));
                    told.entry(viewer).or_default().push(format!("exit {other}"));
                } else if !was_near && distance <= self.enter_m {
                    self.near.insert((viewer, other));
                    told.entry(viewer).or_default().push(format!("enter {other} {}", distance.round()));
                }
                if moved.contains(&other) && distance <= self.enter_m {
                    let (lat, lon) = self.vehicles[other].e7.expect("it moved");
                    told.entry(viewer).or_default().push(format!("peer {other} {lat} {lon}"));
                }
            }
        }
    }

    /// Everything that a step's moves cause, in the order in which the world serves its shards.
    fn step(&mut self, shards: usize, moves: &BTreeMap<usize, (i32, i32)>) -> Told {
        let old: BTreeMap<usize, Option<Place>> = moves.keys().map(|v| (*v, self.vehicles[*v].place())).collect();
        for (v, e7) in moves {
            self.vehicles[*v].e7 = Some(*e7);
        }
        let of = |model: &Model, wanted: &dyn Fn(usize) -> bool| -> Vec<usize> {
            moves.keys().copied().filter(|v| wanted(model.vehicles[*v].shard)).collect()
        };
        let mut told = Told::new();
        for shard in 0..shards {
            let known = of(self, &|of| of <= shard);
            let unknown = old.iter().filter(|(v, _)| self.vehicles[**v].shard > shard).map(|(v, p)| (*v, *p)).collect();
            self.turn(shard, &known, &unknown, &mut told);
        }
        for shard in 0..shards {
            let late = of(self, &|of| of > shard);
            self.turn(shard, &late, &BTreeMap::new(), &mut told);
        }
        told
    }

    fn leave(&mut self, gone: usize) -> Told {
        let mut told = Told::new();
        let viewers: Vec<usize> =
            self.near.iter().filter(|(_, other)| *other == gone).map(|(viewer, _)| *viewer).collect();
        for viewer in viewers {
            told.entry(viewer).or_default().push(format!("exit {gone}"));
        }
        self.near.retain(|(viewer, other)| *viewer != gone && *other != gone);
        (self.vehicles[gone].client, self.vehicles[gone].e7) = (None, None);
        told
    }

    /// The two sides of every pair agree, but for pairs on two shards between the radii. How many differ.
    fn compare_sides(&self) -> usize {
        let mut differ = 0;
        for a in 0..self.vehicles.len() {
            for b in 0..a {
                let (Some(at), Some(to)) = (self.vehicles[a].place(), self.vehicles[b].place()) else { continue };
                if self.near.contains(&(a, b)) != self.near.contains(&(b, a)) {
                    let distance = metres(at, to);
                    assert!(
                        distance > self.enter_m
                            && distance <= self.exit_m
                            && self.vehicles[a].shard != self.vehicles[b].shard
                    );
                    differ += 1;
                }
            }
        }
        differ
    }
}

/// What a vehicle's client has received since the last call, in the model's words.
fn heard(world: &mut World, client: ClientId, ts: u64) -> Vec<String> {
    let number = |id: &Value| id.as_str().and_then(|id| id.strip_prefix("veh-")).unwrap_or("?").to_owned();
    let e7 = |degrees: &Value| (degrees.as_f64().unwrap_or(f64::NAN) * 1e7).round() as i32;
    let mut last = BTreeMap::new();
    let mut heard: Vec<String> = world
        .take(client)
        .iter()
        .filter_map(|text| {
            let event: Value = serde_json::from_str(text).expect("JSON");
            let data = &event["data"];
            Some(match event["event"].as_str().unwrap_or("?") {
                "proximity_event" if data["eventType"] == "enter" => {
                    format!("enter {} {}", number(&data["peerVehicleId"]), data["distanceM"])
                }
                "proximity_event" => format!("exit {}", number(&data["peerVehicleId"])),
                "peer_location" => {
                    assert_eq!(data["ts"], ts, "{text}");
                    let peer = number(&data["vehicleId"]);
                    let line = format!("peer {peer} {} {}", e7(&data["lat"]), e7(&data["lon"]));
                    let before = last.insert(peer, line.clone());
                    assert_ne!(before, Some(line), "told twice");
                    return None;
                }
                _ => text.clone(),
            })
        })
        .collect();
    heard.extend(last.into_values());
    heard.sort();
    heard
}

pub fn scatter(random: &mut Random, (lat, lon): (f64, f64), reach_m: f64) -> (i32, i32) {
    let (north, east) = (random.unit() * 2.0 - 1.0, random.unit() * 2.0 - 1.0);
    let lat = (lat + north * reach_m / 111_200.0).clamp(-90.0, 90.0);
    let spread = reach_m / (111_200.0 * lat.to_radians().cos().max(1e-6));
    let lon = (lon + east * spread.min(180.0) + 540.0).rem_euclid(360.0) - 180.0;
    // As the gateway writes it: half a turn is positive.
    let lon_e7 = (lon * 1e7).round() as i32;
    ((lat * 1e7).round() as i32, if lon_e7 == -1_800_000_000 { 1_800_000_000 } else { lon_e7 })
}

/// Plays one random world. `together`: several vehicles may move in one turn. How many pairs had sides that differed.
fn world(seed: u64, steps: usize, together: bool) -> usize {
    let mut random = Random(seed);
    let shards = 1 + random.below(3);
    let radius_m = [30.0, 100.0, 250.0, 500.0, 1_000.0][random.below(5)];
    let flush_ms = [0, 20][random.below(2)];
    let config: Config = toml::from_str(&format!(
        "vehicles = {{ nearby_radius_m = {radius_m:?}, nearby_list_ms = 0, coalesce_ms = 0, flush_ms = {flush_ms} }}
         presence.scope = 'none'
         rate_limits.location_update = {{ burst = 0, per_ms = 1 }}"
    ))
    .expect("known keys");
    let mut world = World::new(shards as u16, config);
    let anchor = ANCHORS[random.below(ANCHORS.len())];
    let count = 10 + random.below(25);
    let reach_m = radius_m * (1.0 + random.unit() * 3.0);
    let vehicles = (0..count).map(|_| Vehicle { shard: 0, client: None, e7: None }).collect();
    let mut model =
        Model { vehicles, near: BTreeSet::new(), enter_m: radius_m, exit_m: (radius_m * 1.1).max(radius_m + 20.0) };
    let mut differed = 0;

    let arrive = |world: &mut World, model: &mut Model, random: &mut Random, v: usize| {
        let shard = random.below(shards);
        let client = world.connect(shard);
        world.send(client, &format!(r#"{{"event":"register","data":{{"vehicleId":"veh-{v}","driverName":"x"}}}}"#));
        assert_eq!(world.take(client).len(), 2, "connected and registered");
        model.vehicles[v] = Vehicle { shard, client: Some(client), e7: None };
    };
    for v in 0..count {
        arrive(&mut world, &mut model, &mut random, v);
    }
    for step in 0..steps {
        let ts = world.now().unix_ms;
        let one = random.below(count);
        let mut told = Told::new();
        if model.vehicles[one].client.is_none() {
            arrive(&mut world, &mut model, &mut random, one);
        } else if random.below(40) == 0 {
            let client = model.vehicles[one].client.expect("it is here");
            world.hang_up(client, Ended::Eof);
            told = model.leave(one);
        } else {
            let movers = if together { 1 + random.below(6) } else { 1 };
            let mut moves = BTreeMap::new();
            for mover in (0..movers).map(|i| (one + i * 7) % count) {
                let Some(client) = model.vehicles[mover].client else { continue };
                let centre = match model.vehicles[mover].e7 {
                    Some((lat, lon)) if random.below(4) > 0 => (lat as f64 / 1e7, lon as f64 / 1e7),
                    _ => anchor,
                };
                let reach_m = if centre == anchor { reach_m } else { radius_m * 0.3 };
                // Sometimes twice in a turn.
                for _ in 0..=usize::from(together && random.below(8) == 0) {
                    let e7 = scatter(&mut random, centre, reach_m);
                    let (lat, lon) = (e7.0 as f64 / 1e7, e7.1 as f64 / 1e7);
                    world.say(client, &format!(
                        r#"{{"event":"location_update","data":{{"vehicleId":"veh-{mover}","lat":{lat},"lon":{lon},"ts":{ts}}}}}"#
                    ));
                    moves.insert(mover, e7);
                }
            }
            world.settle();
            told = model.step(shards, &moves);
        }
        world.advance(25);
        for (v, vehicle) in model.vehicles.iter().enumerate() {
            let Some(client) = vehicle.client else { continue };
            let mut expected = told.remove(&v).unwrap_or_default();
            expected.sort();
            let heard = heard(&mut world, client, ts);
            assert_eq!(
                heard, expected,
                "seed {seed}, step {step}: vehicle {v} of {count} on shard {} of {shards}",
                vehicle.shard
            );
        }
        let differ = model.compare_sides();
        assert!(together || differ == 0, "seed {seed}, step {step}");
        differed += differ;
    }
    // Everyone goes; nothing is left.
    let clients: Vec<ClientId> = model.vehicles.iter().filter_map(|vehicle| vehicle.client).collect();
    for client in clients {
        world.hang_up(client, if random.below(2) == 0 { Ended::Eof } else { Ended::Reset });
    }
    let mut sums = (0, 0);
    for shard in 0..shards {
        let client = world.open(shard);
        world.send_bytes(client, b"GET /health HTTP/1.1\r\nHost: sim\r\n\r\n");
        assert!(world.reply(client).contains(r#""vehicles":0,"#), "{}", world.reply(client));
        world.hang_up(client, Ended::Eof);
        let counters = world.counters(shard);
        sums = (sums.0 + counters.connections_opened, sums.1 + counters.closes.total());
        assert_eq!(counters.shed.total() + counters.errors.total(), 0);
    }
    assert_eq!(sums.0, sums.1, "everything that was opened is closed");
    differed
}

#[test]
fn one_vehicle_at_a_time_is_exact_on_any_number_of_shards() {
    for seed in 0..25 {
        world(seed, 200, false);
    }
}

#[test]
fn several_vehicles_in_one_turn_are_exact_too() {
    let differed: usize = (1_000..1_025).map(|seed| world(seed, 200, true)).sum();
    assert!(differed > 0, "the worlds are wild enough to show what the head of this file says");
}
