//! Who is in here, within a radius or in a box: a hash map from cell to the places in it.
//!
//! Entries carry their coordinates, so a search walks a few contiguous lists and never follows a slot back to its
//! vehicle. Lists are unordered: an entry leaves by swapping with the last.
//!
//! A search in a box looks at the cells that meet it and compares integers. One within a radius first draws a box around
//! its circle (it meets at most 3 × 3 cells for the radius the index was made for) and lets the distance decide about
//! what is inside. That box is a hair (0.1 %) too large, never too small, so the answer is exact by [`metres`]
//! everywhere: across the antimeridian, around a pole, and for any radius.

use rustc_hash::FxHashMap;

use super::bounds::Bounds;
use super::cells::{Cell, Grid};
use super::distance::metres;
use super::turns::Place;

/// Looking up a cell that may be empty takes about as long as reading one that is there, and as long as comparing so
/// many of its entries with a box (measured with 4,000 to 200,000 places, dense and scattered).
const ENTRIES_PER_LOOKUP: usize = 16;

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
        let reach = Bounds::around(place, radius_m);
        self.inside(&reach, |slot, other| {
            let distance_m = metres(place, other);
            if distance_m <= radius_m {
                found(slot, distance_m);
            }
        })
    }

    /// Calls `found` with every slot whose place is in a box, and that place, in no particular but a reproducible order.
    ///
    /// Answers how many entries had to be looked at.
    pub fn inside(&self, bounds: &Bounds, mut found: impl FnMut(u32, Place)) -> usize {
        let mut examined = 0;
        let mut look_at = |entries: &[Entry]| {
            examined += entries.len();
            for entry in entries {
                if bounds.contains(entry.place) {
                    found(entry.slot, entry.place);
                }
            }
        };
        if self.grid.cells_max(bounds) > (self.cells.len() + self.len / ENTRIES_PER_LOOKUP) as u64 {
            // A box far beyond the level's cells: reading all that is there is quicker.
            self.cells.values().for_each(|entries| look_at(entries));
            return examined;
        }
        for row in self.grid.rows(bounds) {
            for cell in self.grid.cells(row, bounds) {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::{boxes, place, probes, scattered};
    use super::*;

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

        #[test]
        fn any_box_at_all(
            places in scattered(40), bounds in boxes(), level_m in 20.0..200_000.0f64, seed in any::<u64>(),
        ) {
            let mut index = CellIndex::new(level_m);
            let mut expected = Vec::new();
            for (slot, place) in (0..).zip(places.into_iter().chain(probes(&bounds, seed))) {
                index.insert(slot, place);
                if bounds.contains(place) {
                    expected.push((slot, place));
                }
            }
            let mut found = Vec::new();
            let examined = index.inside(&bounds, |slot, place| found.push((slot, place)));
            found.sort_by_key(|&(slot, _)| slot);
            prop_assert_eq!(&found, &expected);
            prop_assert!((found.len()..=index.len()).contains(&examined));
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

        let city = Bounds::from_e7(302_950_000, -965_050_000, 303_950_000, -964_050_000).expect("a box");
        let mut inside = 0;
        let examined = index.inside(&city, |_, _| inside += 1);
        assert_eq!(inside, 100);
        assert!((100..=144).contains(&examined), "{examined}");
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
