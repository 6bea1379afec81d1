//! One full turn of 100,000 vehicles: all have moved, all pairs are looked at. What a shard's turn cannot be below.

use criterion::{Criterion, Throughput};

use ringroad::geo::{CellIndex, Hysteresis, Place, Ruler};

const VEHICLES: usize = 100_000;
const RADIUS_M: f64 = 100.0;

/// 40 km square, and the square of 12 km in its middle in which 60 % are: 7.5 neighbours on average.
const SIDE_E7: u64 = 3_600_000;
const CORE_E7: u64 = 1_080_000;

/// A number below another, the same every time (Knuth's MMIX generator).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> i32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % bound) as i32
    }
}

/// Vehicles, the index that finds them, and the pairs that they make.
struct Fleet {
    index: CellIndex,
    rule: Hysteresis,
    places: Vec<Place>,
    near: Vec<Vec<u32>>,
    marks: Vec<u32>,
    stamp: u32,
    /// Who is looked at when.
    order: Vec<u32>,
    changes: usize,
}

impl Fleet {
    fn new() -> Fleet {
        let mut dice = Dice(42);
        let mut index = CellIndex::new(RADIUS_M);
        let mut places = Vec::new();
        for vehicle in 0..VEHICLES {
            let (side_e7, corner_e7) =
                if vehicle % 5 < 3 { (CORE_E7, (SIDE_E7 - CORE_E7) as i32 / 2) } else { (SIDE_E7, 0) };
            let (lat, lon) = (dice.below(side_e7), dice.below(side_e7 * 100 / 86));
            let place = Place::from_e7(302_000_000 + corner_e7 + lat, -978_000_000 + corner_e7 + lon);
            index.insert(vehicle as u32, place);
            places.push(place);
        }
        let mut fleet = Fleet {
            index,
            rule: Hysteresis::new(RADIUS_M, 1.1),
            places,
            near: vec![Vec::new(); VEHICLES],
            marks: vec![0; VEHICLES],
            stamp: 0,
            order: Vec::new(),
            changes: 0,
        };
        fleet.settle();
        fleet
    }

    /// Every vehicle drives some metres: two hundredths of them change their cell.
    fn drive(&mut self, by_e7: i32) {
        for vehicle in 0..VEHICLES {
            let from = self.places[vehicle];
            let (lat, lon) = from.to_e7();
            let to = if vehicle % 2 == 0 { Place::from_e7(lat + by_e7, lon) } else { Place::from_e7(lat, lon + by_e7) };
            self.index.relocate(vehicle as u32, from, to);
            self.places[vehicle] = to;
        }
    }

    /// Looks at every vehicle, cell by cell: at those that it has near, and at those around that it has not.
    fn settle(&mut self) {
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(self.index.cell_by_cell());
        for &vehicle in &order {
            let place = self.places[vehicle as usize];
            let (enter, exit) = (Ruler::at(place, self.rule.enter_m), Ruler::at(place, self.rule.exit_m));
            // The vehicle itself is in the index too.
            let (mut at, mut within) = (0, 1);
            while let Some(&peer) = self.near[vehicle as usize].get(at) {
                let there = self.places[peer as usize];
                if exit.is_within(there, self.rule.enter_m) {
                    within += 1;
                } else if !exit.reaches(there) {
                    self.part(vehicle, at, peer);
                    continue;
                }
                at += 1;
            }
            if self.index.count(&enter).0 != within {
                self.pair_with_all(vehicle, &enter);
            }
        }
        self.order = order;
    }

    /// Pairs a vehicle with everybody within reach with whom it has no pair yet.
    fn pair_with_all(&mut self, vehicle: u32, enter: &Ruler) {
        self.stamp += 1;
        self.marks[vehicle as usize] = self.stamp;
        for &peer in &self.near[vehicle as usize] {
            self.marks[peer as usize] = self.stamp;
        }
        let Fleet { index, marks, near, stamp, changes, .. } = self;
        index.around(enter, |peer, _| {
            if marks[peer as usize] != *stamp {
                near[vehicle as usize].push(peer);
                near[peer as usize].push(vehicle);
                *changes += 1;
            }
        });
    }

    fn part(&mut self, vehicle: u32, at: usize, peer: u32) {
        self.near[vehicle as usize].swap_remove(at);
        let theirs = &mut self.near[peer as usize];
        let back = theirs.iter().position(|other| *other == vehicle).expect("a pair has two ends");
        theirs.swap_remove(back);
        self.changes += 1;
    }
}

/// Everybody drives on, and everybody is looked at.
#[inline(never)]
fn round(fleet: &mut Fleet, by_e7: i32) {
    fleet.drive(by_e7);
    fleet.settle();
}

pub fn full_turns(c: &mut Criterion) {
    let mut fleet = Fleet::new();
    let mut group = c.benchmark_group("scale");
    group.sample_size(20);
    group.throughput(Throughput::Elements(VEHICLES as u64));
    // There and back in four turns, so that it is the same work however often it is measured.
    let mut steps = [300, 300, -300, -300].into_iter().cycle();
    group.bench_function("index alone, 100,000 move", |b| {
        b.iter(|| fleet.drive(steps.next().unwrap_or_default()));
    });
    fleet.settle();
    let (before, mut turns) = (fleet.changes, 0);
    group.bench_function("a full turn of 100,000", |b| {
        b.iter(|| {
            turns += 1;
            round(&mut fleet, steps.next().unwrap_or_default());
        });
    });
    group.finish();
    let neighbours: usize = fleet.near.iter().map(Vec::len).sum();
    println!(
        "scale: {:.1} neighbours per vehicle, {} changes per turn",
        neighbours as f64 / VEHICLES as f64,
        (fleet.changes - before) / turns.max(1),
    );
}
