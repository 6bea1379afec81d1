//! What happens in a random world, decided before it begins.

use std::collections::BTreeSet;

use super::area::{E7, normal};
use crate::bad_input::Random;

/// Vehicles of one world.
pub const VEHICLES: usize = 10;

/// Connections at a time.
const SEATS: usize = 13;

/// The seats that are taken to begin with: vehicles, then viewers.
const DRIVERS: usize = 6;
const VIEWERS: usize = 4;

/// Around these the vehicles drive, degrees.
const ANCHORS: [(f64, f64); 8] = [
    (0.0, 0.0),
    (48.137, 11.575),
    (-17.0, 180.0),
    (66.5, -180.0),
    (89.998, 77.0),
    (-89.999, 180.0),
    (90.0, -45.0),
    (-90.0, 0.0),
];

/// What happens at a time. Steps about a connection or a vehicle are left out while it is not there, so that any part
/// of a plan is one too.
#[derive(Clone, Debug)]
pub enum Step {
    Connect {
        seat: usize,
        shard: usize,
        slim: bool,
    },
    /// The second driver of a vehicle has another name.
    Register {
        seat: usize,
        vehicle: usize,
        driver: usize,
    },
    /// In one turn, in this order.
    Move(Vec<(usize, E7)>),
    Leave {
        seat: usize,
    },
    Watch {
        seat: usize,
        wish: Wish,
        max_hz: Option<f64>,
    },
    Alert {
        vehicle: usize,
    },
    /// It takes so many bytes more, and then none.
    Stall {
        seat: usize,
        bytes: usize,
    },
    Trickle {
        seat: usize,
        bytes: usize,
    },
    Resume {
        seat: usize,
    },
    Wait {
        ms: u64,
    },
}

/// What a connection asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    View(Option<[i32; 4]>),
    Near(Option<f64>),
    Follow(BTreeSet<usize>),
}

/// A world, and what happens in it.
pub struct Plan {
    pub shards: usize,
    pub radius_m: f64,
    pub exit_factor: f64,
    pub flush_ms: u64,
    pub coalesce_ms: u64,
    /// `viewers.vehicles_max` and `viewers.nearest`, if they matter.
    pub vehicles_max: Option<usize>,
    pub nearest: Option<usize>,
    pub rest_ms: u64,
    /// What the inboxes between shards hold; 0: any number.
    pub inbox_max: usize,
    pub steps: Vec<Step>,
}

impl Plan {
    pub fn new(seed: u64) -> Plan {
        let mut random = Random(seed);
        let shards = 1 + random.below(3);
        let mut plan = Plan {
            shards,
            radius_m: [30.0, 200.0, 500.0][random.below(3)],
            exit_factor: [1.1, 1.5][random.below(2)],
            flush_ms: [0, 20, 100][random.below(3)],
            coalesce_ms: [0, 0, 150][random.below(3)],
            vehicles_max: [None, None, Some(1 + random.below(4))][random.below(3)],
            nearest: [None, None, Some(1 + random.below(3))][random.below(3)],
            rest_ms: [100, 300, 1_000][random.below(3)],
            inbox_max: if shards > 1 { [0, 0, 1][random.below(3)] } else { 0 },
            steps: Vec::new(),
        };
        let anchor = ANCHORS[random.below(ANCHORS.len())];
        let mut dice = Dice { random, plan: &mut plan, anchor, places: [None; VEHICLES] };
        dice.populate();
        while dice.plan.steps.len() < STEPS {
            dice.step();
            dice.wait();
        }
        plan
    }

    /// The script's head.
    pub fn settings(&self) -> Vec<String> {
        let Plan { radius_m, exit_factor, flush_ms, coalesce_ms, rest_ms, .. } = self;
        let mut lines = vec![
            format!("shards {}", self.shards),
            "set presence.scope = 'none'".into(),
            format!(
                "set vehicles = {{ nearby_radius_m = {radius_m:?}, nearby_exit_factor = {exit_factor:?}, flush_ms = {flush_ms}, \
                 coalesce_ms = {coalesce_ms}, nearby_list_ms = 0, heartbeat_timeout_ms = 3600000, ping_ms = 3600000 }}"
            ),
            format!(
                "set viewers = {{ area_km2_max = 600000000, requests = {{ burst = 0, per_ms = 1 }}, rest_ms = {rest_ms}{}{} }}",
                self.vehicles_max.map_or(String::new(), |most| format!(", vehicles_max = {most}")),
                self.nearest.map_or(String::new(), |most| format!(", nearest = {most}")),
            ),
            "set rate_limits.location_update = { burst = 0, per_ms = 1 }".into(),
            "set rate_limits.emergency_alert = { burst = 0, per_ms = 1 }".into(),
        ];
        if self.inbox_max > 0 {
            lines.push(format!("inbox {}", self.inbox_max));
        }
        lines
    }
}

const STEPS: usize = 220;

/// What decides.
struct Dice<'p> {
    random: Random,
    plan: &'p mut Plan,
    anchor: (f64, f64),
    /// Where vehicles were sent last.
    places: [Option<E7>; VEHICLES],
}

impl Dice<'_> {
    fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound)
    }

    fn push(&mut self, step: Step) {
        self.plan.steps.push(step);
    }

    fn populate(&mut self) {
        for seat in 0..DRIVERS + VIEWERS {
            let (shard, slim) = (self.below(self.plan.shards), self.below(2) == 0);
            self.push(Step::Connect { seat, shard, slim });
            if seat < DRIVERS {
                self.push(Step::Register { seat, vehicle: seat, driver: 0 });
                let to = self.somewhere();
                self.places[seat] = Some(to);
                self.push(Step::Move(vec![(seat, to)]));
            } else {
                self.watch(seat);
            }
        }
    }

    fn step(&mut self) {
        let (seat, vehicle) = (self.below(SEATS), self.below(VEHICLES));
        match self.below(100) {
            0..50 => self.moves(),
            50..68 => self.watch(seat),
            68..74 => {
                let driver = self.below(2);
                self.push(Step::Register { seat, vehicle, driver });
            }
            74..79 => {
                let (shard, slim) = (self.below(self.plan.shards), self.below(3) > 0);
                self.push(Step::Connect { seat, shard, slim });
            }
            79..82 => self.push(Step::Leave { seat }),
            82..87 => {
                let bytes = [0, 1, 40, 100, 400, 1_500][self.below(6)];
                self.push(Step::Stall { seat, bytes });
            }
            87..89 => {
                let bytes = 1 + self.below(300);
                self.push(Step::Trickle { seat, bytes });
            }
            89..97 => self.push(Step::Resume { seat }),
            _ => self.push(Step::Alert { vehicle }),
        }
    }

    fn wait(&mut self) {
        let ms = match self.below(20) {
            0..6 => return,
            6..9 => 1 + self.below(30) as u64,
            9..14 => self.plan.flush_ms + self.plan.coalesce_ms + 1,
            14..18 => 150 + self.below(200) as u64,
            _ => 1_000 + self.below(2_000) as u64,
        };
        self.push(Step::Wait { ms });
    }

    fn moves(&mut self) {
        let mut moves = Vec::new();
        for _ in 0..1 + self.below(4) {
            let vehicle = self.below(VEHICLES);
            let (jumps, reach_m) = (self.below(5) == 0, [15.0, 60.0][self.below(2)]);
            let to = match self.places[vehicle] {
                Some(from) if !jumps => self.around(from, reach_m),
                _ => self.somewhere(),
            };
            self.places[vehicle] = Some(to);
            moves.push((vehicle, to));
        }
        self.push(Step::Move(moves));
    }

    fn watch(&mut self, seat: usize) {
        let wish = match self.below(20) {
            0 => Wish::View(None),
            1 => Wish::Near(None),
            2 => Wish::Follow(BTreeSet::new()),
            3..6 => {
                let count = 1 + self.below(4);
                Wish::Follow((0..count).map(|_| self.below(VEHICLES)).collect())
            }
            6..10 => Wish::Near(Some([20.0, 150.0, 400.0, 2_000.0][self.below(4)])),
            _ => Wish::View(Some(self.view())),
        };
        let max_hz = [None, None, None, Some(50.0), Some(10.0), Some(1.0)][self.below(6)];
        self.push(Step::Watch { seat, wish, max_hz });
    }

    /// Mostly a part of what is around; sometimes a point, or the Earth.
    fn view(&mut self) -> [i32; 4] {
        match self.below(12) {
            0 => return [-900_000_000, -1_800_000_000, 900_000_000, 1_800_000_000],
            1 => {
                let vehicle = self.below(VEHICLES);
                let (lat, lon) = self.places[vehicle].unwrap_or_default();
                return [lat, lon, lat, lon];
            }
            2 => {
                // All that lies around a pole, or far around elsewhere.
                let (lat, _) = self.somewhere();
                let (south, north) = ((lat - 9_000).max(-900_000_000), (lat + 9_000).min(900_000_000));
                return [south, -1_800_000_000, north, 1_800_000_000];
            }
            _ => {}
        }
        let (a, b) = (self.somewhere(), self.somewhere());
        let (west, east) = if self.is_westwards(a.1, b.1) { (a.1, b.1) } else { (b.1, a.1) };
        [a.0.min(b.0), west, a.0.max(b.0), east]
    }

    /// Mostly the shorter way round.
    fn is_westwards(&mut self, west: i32, east: i32) -> bool {
        let width = (i64::from(east) - i64::from(west)).rem_euclid(3_600_000_000);
        (width <= 1_800_000_000) != (self.below(10) == 0)
    }

    fn somewhere(&mut self) -> E7 {
        let reach_m = [200.0, 700.0][self.below(2)];
        let (lat, lon) = self.anchor;
        self.around(((lat * 1e7) as i32, (lon * 1e7) as i32), reach_m)
    }

    fn around(&mut self, (lat, lon): E7, reach_m: f64) -> E7 {
        let (north, east) = (self.random.unit() * 2.0 - 1.0, self.random.unit() * 2.0 - 1.0);
        let e7_per_m = 1e7 / 111_195.0;
        let to_north = i64::from(lat) + (north * reach_m * e7_per_m) as i64;
        let narrower = (f64::from(lat) / 1e7).to_radians().cos().max(1e-6);
        let to_east = (east * reach_m * e7_per_m / narrower).clamp(-1.8e9, 1.8e9) as i64;
        // Over the pole it goes on along the other meridian.
        if to_north.abs() > 900_000_000 {
            let beyond = to_north.abs() - 900_000_000;
            let lat = (900_000_000 - beyond) * to_north.signum();
            return (lat as i32, normal(i64::from(lon) + to_east + 1_800_000_000));
        }
        (to_north as i32, normal(i64::from(lon) + to_east))
    }
}
