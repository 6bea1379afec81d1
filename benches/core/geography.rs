//! Places: how far, who is in here, whose areas this is in.

use std::hint::black_box;

use criterion::{Criterion, Throughput};

use ringroad::geo::distance::metres;
use ringroad::geo::{AreaIndex, Bounds, CellIndex, Place};

use super::fleet::{VEHICLES, places};

pub fn cells(c: &mut Criterion) {
    let places = places();
    let mut index = CellIndex::new(500.0);
    for (slot, place) in (0..).zip(&places) {
        index.insert(slot, *place);
    }

    let mut group = c.benchmark_group("geo");
    group.throughput(Throughput::Elements(1));
    group.bench_function("metres", |b| b.iter(|| metres(black_box(places[0]), black_box(places[1]))));
    let mut turn = places.iter().cycle();
    group.bench_function("within 500 m of 4,000", |b| {
        b.iter(|| {
            let mut neighbours = 0;
            let place = turn.next().copied().unwrap_or_default();
            index.within(place, 500.0, |_, _| neighbours += 1);
            neighbours
        });
    });
    // What a screen shows of a city at walking scale, at driving scale, and all of it.
    for (view, half_m) in [("1 km", 500.0), ("5 km", 2_500.0), ("40 km", 20_000.0)] {
        let mut turn = places.iter().cycle().map(|place| Bounds::around(*place, half_m));
        group.bench_function(format!("inside {view} of 4,000"), |b| {
            b.iter(|| {
                let mut inside = 0;
                if let Some(bounds) = turn.next() {
                    index.inside(black_box(&bounds), |_, _| inside += 1);
                }
                inside
            });
        });
    }
    // Two metres: what a vehicle moves between two reports. Nearly always within its cell.
    let mut at = places.clone();
    let mut slots = (0..VEHICLES).cycle();
    group.bench_function("relocate by 2 m", |b| {
        b.iter(|| {
            let slot = slots.next().unwrap_or_default();
            let from = at[slot as usize];
            let (lat_e7, lon_e7) = from.to_e7();
            let to = Place::from_e7(lat_e7 + 180, lon_e7);
            index.relocate(slot, from, to);
            at[slot as usize] = to;
        });
    });
    group.finish();
}

/// What it costs to learn that nobody watches a vehicle, and who does.
pub fn areas(c: &mut Criterion) {
    let places = places();
    let mut group = c.benchmark_group("areas");
    group.throughput(Throughput::Elements(1));
    for count in [0, 100, 10_000] {
        let mut areas = AreaIndex::default();
        let mut boxes: Vec<Bounds> = Vec::new();
        for (id, place) in (0..count).zip(places.iter().cycle()) {
            // Vehicles' surroundings, and every tenth a map of 2 to 64 km.
            let half_m = if id % 10 == 0 { 1_000.0 * f64::from(1 << (id / 10 % 6)) } else { 500.0 };
            boxes.push(Bounds::around(*place, half_m));
            areas.insert(id, &boxes[id as usize]);
        }
        for (whereabouts, lat) in [("in their midst", 0), ("elsewhere", 60_000_000)] {
            let (mut candidates, mut inside, mut lookups) = (0_u64, 0_u64, 0_u64);
            let mut turn = places.iter().cycle();
            group.bench_function(format!("candidates of {count}, {whereabouts}"), |b| {
                b.iter(|| {
                    let place = turn.next().copied().unwrap_or_default();
                    let place = black_box(Place { lat: place.lat + lat, ..place });
                    areas.candidates(place, |id| {
                        candidates += 1;
                        inside += u64::from(boxes[id as usize].contains(place));
                    });
                    lookups += 1;
                });
            });
            let per_place = |sum: u64| sum as f64 / lookups.max(1) as f64;
            println!("areas: {:.1} of {:.1} candidates are true", per_place(inside), per_place(candidates));
        }
        if count == 0 {
            continue;
        }
        let mut at = places.clone();
        let mut ids = (0..count).filter(|id| id % 10 != 0).cycle();
        group.bench_function(format!("relocate 500 m of {count} by 2 m"), |b| {
            b.iter(|| {
                let id = ids.next().unwrap_or_default() as usize;
                let slot = id % at.len();
                let (lat_e7, lon_e7) = at[slot].to_e7();
                at[slot] = Place::from_e7(lat_e7 + 180, lon_e7);
                let to = Bounds::around(at[slot], 500.0);
                areas.relocate(id as u32, &boxes[id], &to);
                boxes[id] = to;
            });
        });
    }
    group.finish();
}
