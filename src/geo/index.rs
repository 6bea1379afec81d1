//! Who is within a radius: a hash map from cell to the places in it.
//!
//! Entries carry their coordinates, so a search walks a few contiguous lists and never follows a slot back to its
//! vehicle. Lists are unordered: an entry leaves by swapping with the last.
//!
//! A search first draws a box of latitude and longitude around its circle, then looks at the cells that meet the box
//! (at most 3 × 3 for the radius the index was made for), drops by integer comparisons what is outside of the box, and
//! lets the distance decide about the rest. The box is a hair (0.1 %) too large, never too small, so the answer is
//! exact by [`metres`] everywhere: across the antimeridian, around a pole, and for any radius.

use rustc_hash::FxHashMap;

use super::cells::{Cell, Grid};
use super::distance::{metres, metres_per_radian_east};
use super::turns::{POLE, Place};

/// Least metres per radian of latitude, at the equator: a(1 − e²) of WGS84, rounded down.
const MERIDIAN_M_PER_RADIAN: f64 = 6_335_439.0;

/// Turn fractions in a radian.
const STEPS_PER_RADIAN: f64 = (1u64 << 32) as f64 / std::f64::consts::TAU;

/// Looking up this many cells is never worth avoiding.
const LOOKUPS_CHEAP: u64 = 64;

/// `at` of a slot that is not in the index.
const ABSENT: u32 = u32::MAX;

/// Places by cell. Slots are the caller's: small numbers, dense, each in the index at most once.
#[derive(Clone, Debug)]
pub struct CellIndex {
    grid: Grid,
    /// Invariant: no list is empty, and each entry lies in the list of its place's cell.
    cells: FxHashMap<Cell, Vec<Entry>>,
    /// Where in its cell's list a slot's entry is, so that a crowded cell is not searched at each move.
    at: Vec<u32>,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    place: Place,
    slot: u32,
}

impl CellIndex {
    /// An empty index, made for searches with about this radius. Others are exact too, only slower.
    pub fn new(radius_m: f64) -> CellIndex {
        CellIndex { grid: Grid::for_radius(radius_m), cells: FxHashMap::default(), at: Vec::new(), len: 0 }
    }

    /// How many slots are in the index.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no slot is in the index.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Cells that hold at least one place.
    pub fn cells_occupied(&self) -> usize {
        self.cells.len()
    }

    /// Puts in a slot that is not there yet.
    pub fn insert(&mut self, slot: u32, place: Place) {
        if self.at.len() <= slot as usize {
            self.at.resize(slot as usize + 1, ABSENT);
        }
        debug_assert_eq!(self.at[slot as usize], ABSENT, "slot {slot} is in the index already");
        let entries = self.cells.entry(self.grid.cell(place)).or_default();
        self.at[slot as usize] = entries.len() as u32;
        entries.push(Entry { place, slot });
        self.len += 1;
    }

    /// Moves a slot. `from` is the place it was put at last.
    pub fn relocate(&mut self, slot: u32, from: Place, to: Place) {
        let cell = self.grid.cell(from);
        if cell != self.grid.cell(to) {
            self.remove(slot, from);
            self.insert(slot, to);
        } else if let Some(entry) = self.cells.get_mut(&cell).and_then(|entries| entry_of(entries, &self.at, slot)) {
            entry.place = to;
        } else {
            debug_assert!(false, "slot {slot} is not at {from:?}");
        }
    }

    /// Takes a slot out. `place` is the place it was put at last.
    pub fn remove(&mut self, slot: u32, place: Place) {
        let cell = self.grid.cell(place);
        let Some(entries) = self.cells.get_mut(&cell) else {
            debug_assert!(false, "slot {slot} is not at {place:?}");
            return;
        };
        if entry_of(entries, &self.at, slot).is_none() {
            debug_assert!(false, "slot {slot} is not at {place:?}");
            return;
        }
        let hole = self.at[slot as usize];
        entries.swap_remove(hole as usize);
        if let Some(moved) = entries.get(hole as usize) {
            self.at[moved.slot as usize] = hole;
        }
        self.at[slot as usize] = ABSENT;
        self.len -= 1;
        if entries.is_empty() {
            self.cells.remove(&cell);
        }
    }

    /// Calls `found` with every slot at most `radius_m` from `place`, and its distance in metres, in no particular but
    /// a reproducible order. The slot whose place it is, if any, is found like the others.
    ///
    /// Answers how many entries had to be looked at.
    pub fn within(&self, place: Place, radius_m: f64, mut found: impl FnMut(u32, f64)) -> usize {
        let reach = Reach::new(place, radius_m);
        let mut examined = 0;
        let mut look_at = |entries: &[Entry]| {
            examined += entries.len();
            for entry in entries {
                if reach.covers(entry.place) {
                    let distance_m = metres(place, entry.place);
                    if distance_m <= radius_m {
                        found(entry.slot, distance_m);
                    }
                }
            }
        };
        let rows = self.grid.row(reach.south)..=self.grid.row(reach.north);
        let columns = self.grid.cells(self.grid.row(place.lat as i64), place.lon, reach.lon).size_hint().0;
        let lookups = (rows.end() - rows.start() + 1) as u64 * columns as u64;
        if lookups > LOOKUPS_CHEAP.max(self.cells.capacity() as u64 / 8) {
            // A radius far beyond the level's: more cells than there are places.
            self.cells.values().for_each(|entries| look_at(entries));
            return examined;
        }
        for row in rows {
            for cell in self.grid.cells(row, place.lon, reach.lon) {
                if let Some(entries) = self.cells.get(&cell) {
                    look_at(entries);
                }
            }
        }
        examined
    }
}

fn entry_of<'a>(entries: &'a mut [Entry], at: &[u32], slot: u32) -> Option<&'a mut Entry> {
    entries.get_mut(*at.get(slot as usize)? as usize).filter(|entry| entry.slot == slot)
}

/// The box around a circle, in turn fractions.
pub(super) struct Reach {
    centre: Place,
    pub(super) south: i64,
    pub(super) north: i64,
    /// To either side; `1 << 31` and above is all the way round.
    pub(super) lon: u32,
}

impl Reach {
    /// The margin covers the ellipsoid, rounding, and for latitudes the curvature of circles that reach over a pole,
    /// up to a radius of 400 km; a larger one takes in the whole Earth.
    const MARGIN: f64 = 1.001;
    const RADIUS_M_MAX: f64 = 400_000.0;

    pub(super) fn new(centre: Place, radius_m: f64) -> Reach {
        if radius_m.is_nan() || radius_m > Self::RADIUS_M_MAX {
            return Reach { centre, south: -(POLE as i64), north: POLE as i64, lon: 1 << 31 };
        }
        let radius_m = radius_m.max(0.0) * Self::MARGIN;
        let lat = (radius_m / MERIDIAN_M_PER_RADIAN * STEPS_PER_RADIAN) as i64 + 1;
        let south = (centre.lat as i64 - lat).max(-(POLE as i64));
        let north = (centre.lat as i64 + lat).min(POLE as i64);
        // d² ≥ (2 kx sin(Δλ/2))², with kx at its least over the middle latitudes that can occur.
        let kx = metres_per_radian_east((centre.lat as i64).abs() + lat / 2 + 1);
        let half_sine = radius_m / (2.0 * kx);
        let lon = if half_sine < 0.5 {
            // x + x³/4 is at least asin x up to one half, and within 2 % of it.
            let half_angle = half_sine + half_sine * half_sine * half_sine / 4.0;
            (2.0 * half_angle * STEPS_PER_RADIAN) as u32 + 1
        } else {
            1 << 31
        };
        Reach { centre, south, north, lon }
    }

    #[inline]
    fn covers(&self, place: Place) -> bool {
        (self.south..=self.north).contains(&(place.lat as i64))
            && place.lon.wrapping_sub(self.centre.lon).unsigned_abs() <= self.lon
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(lat: f64, lon: f64) -> Place {
        Place::from_e7((lat * 1e7).round() as i32, (lon * 1e7).round() as i32)
    }

    /// Asks the index and every single place, and compares.
    fn check(index: &CellIndex, places: &[Option<Place>], centre: Place, radius_m: f64) -> usize {
        let mut found = Vec::new();
        let examined = index.within(centre, radius_m, |slot, distance_m| found.push((slot, distance_m)));
        found.sort_by_key(|&(slot, _)| slot);
        let expected: Vec<(u32, f64)> = places
            .iter()
            .enumerate()
            .filter_map(|(slot, place)| Some((slot as u32, metres(centre, (*place)?))))
            .filter(|&(_, distance_m)| distance_m <= radius_m)
            .collect();
        assert_eq!(found, expected, "{radius_m} m around {centre:?}");
        examined
    }

    /// Where the trouble is: an ordinary city, the antimeridian, both poles and their surroundings, the 60° at which
    /// cells are first joined.
    fn anchors() -> impl Strategy<Value = (f64, f64)> {
        prop_oneof![
            Just((30.2672, -97.7431)),
            Just((-17.0, 180.0)),
            Just((60.0, 25.0)),
            Just((78.2, 180.0)),
            Just((90.0, 0.0)),
            Just((-90.0, 0.0)),
            Just((89.97, 77.0)),
            (-90.0..90.0f64, -180.0..180.0f64),
        ]
    }

    /// Places scattered around an anchor, some degrees of longitude wide near a pole.
    fn scattered(count: usize) -> impl Strategy<Value = Vec<Place>> {
        anchors().prop_flat_map(move |(lat, lon)| {
            let widen = (1.0 / lat.to_radians().cos().max(1e-4)).min(20_000.0);
            prop::collection::vec((-0.03..0.03f64, -0.03..0.03f64), count).prop_map(move |offsets| {
                offsets
                    .iter()
                    .map(|(dlat, dlon)| {
                        let beyond = lon + dlon * widen;
                        place((lat + dlat).clamp(-90.0, 90.0), (beyond + 180.0).rem_euclid(360.0) - 180.0)
                    })
                    .collect()
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn finds_what_all_pairs_find(
            places in scattered(40), level_m in 20.0..2_000.0f64, factor in 0.0..4.5f64,
        ) {
            let mut index = CellIndex::new(level_m);
            for (slot, &place) in places.iter().enumerate() {
                index.insert(slot as u32, place);
            }
            let places: Vec<_> = places.into_iter().map(Some).collect();
            for &centre in places.iter().flatten().take(4) {
                check(&index, &places, centre, level_m * factor);
            }
        }

        #[test]
        fn any_radius_at_all(places in scattered(40), log_metres in 0.0..8.0f64) {
            let mut index = CellIndex::new(500.0);
            for (slot, &place) in places.iter().enumerate() {
                index.insert(slot as u32, place);
            }
            let centre = places[0];
            let places: Vec<_> = places.into_iter().map(Some).collect();
            check(&index, &places, centre, 10f64.powf(log_metres));
        }
    }

    proptest! {
        #[test]
        fn stays_true_while_slots_come_move_and_go(
            places in scattered(300), steps in prop::collection::vec((0..30u32, 0..300usize, 0..10), 300),
        ) {
            let mut index = CellIndex::new(500.0);
            let mut world: Vec<Option<Place>> = vec![None; 30];
            for (slot, to, dice) in steps {
                let to = places[to];
                match world[slot as usize] {
                    None => index.insert(slot, to),
                    Some(from) if dice == 0 => index.remove(slot, from),
                    Some(from) => index.relocate(slot, from, to),
                }
                world[slot as usize] = if dice == 0 && world[slot as usize].is_some() { None } else { Some(to) };
                prop_assert_eq!(index.len(), world.iter().flatten().count());
                check(&index, &world, to, 500.0);
            }
            for (slot, place) in world.iter().enumerate() {
                place.iter().for_each(|&place| index.remove(slot as u32, place));
            }
            prop_assert!(index.is_empty());
            prop_assert_eq!(index.cells_occupied(), 0);
        }
    }

    #[test]
    fn looks_only_at_the_cells_around() {
        let mut index = CellIndex::new(500.0);
        let mut places = Vec::new();
        for i in 0..10_000u32 {
            let here = place(30.0 + (i / 100) as f64 * 0.01, -97.0 + (i % 100) as f64 * 0.01);
            index.insert(i, here);
            places.push(Some(here));
        }
        let examined = check(&index, &places, place(30.5, -96.5), 500.0);
        assert!((1..=9).contains(&examined), "{examined}");
    }

    #[test]
    fn a_crowd_at_a_pole_is_not_searched_from_afar() {
        let mut index = CellIndex::new(500.0);
        let mut places = Vec::new();
        for i in 0..3_600u32 {
            let here = place(89.0, i as f64 / 10.0 - 180.0);
            index.insert(i, here);
            places.push(Some(here));
        }
        let examined = check(&index, &places, place(89.0, 0.0), 500.0);
        assert!(examined < 40, "{examined}");
        assert_eq!(check(&index, &places, place(90.0, 0.0), 500.0), 0);
    }
}
