//! Whose areas a place lies in.
//!
//! The other way round than [`super::index`]: what stays is a few areas of any size, and what comes in a stream are
//! places. An area lies in the few cells that its box meets, at the finest level at which they can only be few, so a
//! continent costs no more than a crossroads; and a place asks one cell of each level that is in use. Where no area is,
//! that is next to nothing.

use rustc_hash::FxHashMap;

use super::bounds::Bounds;
use super::cells::{AXIS_BITS_MAX, Cell, Grid};
use super::turns::Place;

/// Cells that an area is in at most. With 16 a cell is about a third as high as a square box, and at least a third of the
/// candidates are true; with fewer there would be more false ones, with more an area that moves would change cells more
/// often.
const CELLS_MAX: usize = 16;

/// Halvings of the coarsest level: its 4 × 4 cells are all the Earth, so every box fits.
const AXIS_BITS_MIN: u32 = 2;

/// Levels that an area may be at, the coarsest first.
const LEVELS: usize = (AXIS_BITS_MAX - AXIS_BITS_MIN + 1) as usize;

/// Areas by the cells they are in. Ids are the caller's, each in the index at most once; so are the boxes, which the
/// caller keeps and has to give again, as they were, to move or remove one.
#[derive(Clone, Debug, Default)]
pub struct AreaIndex {
    /// Invariant: no list is empty, each is in ascending order, and an area is in the lists of all cells of its
    /// [`Cover`], and no others.
    levels: [FxHashMap<Cell, Vec<u32>>; LEVELS],
    /// A bit for each level that has lists.
    used: u32,
    len: usize,
}

impl AreaIndex {
    /// How many areas are in the index.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no area is in the index.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts in an area that is not there yet.
    pub fn insert(&mut self, id: u32, bounds: &Bounds) {
        let cover = Cover::of(bounds);
        for &cell in cover.cells() {
            self.enter(id, cover.level, cell);
        }
        self.len += 1;
    }

    /// Moves an area. `from` is the box that it was given last. Nothing happens if both meet the same cells.
    pub fn relocate(&mut self, id: u32, from: &Bounds, to: &Bounds) {
        let (old, new) = (Cover::of(from), Cover::of(to));
        if old == new {
            return;
        }
        for &cell in old.cells().iter().filter(|&&cell| !new.has(old.level, cell)) {
            self.leave(id, old.level, cell);
        }
        for &cell in new.cells().iter().filter(|&&cell| !old.has(new.level, cell)) {
            self.enter(id, new.level, cell);
        }
    }

    /// Takes an area out. `bounds` is the box that it was given last.
    pub fn remove(&mut self, id: u32, bounds: &Bounds) {
        let cover = Cover::of(bounds);
        for &cell in cover.cells() {
            self.leave(id, cover.level, cell);
        }
        self.len = self.len.saturating_sub(1);
    }

    /// Calls `found` once with every area that a place may be in: those that meet the place's cell, whether or not it
    /// is within their edges. Larger areas come first, then lower ids.
    #[inline]
    pub fn candidates(&self, place: Place, mut found: impl FnMut(u32)) {
        let mut used = self.used;
        while used != 0 {
            let level = used.trailing_zeros() as usize;
            used &= used - 1;
            if let Some(ids) = self.levels[level].get(&grid(level).cell(place)) {
                ids.iter().for_each(|&id| found(id));
            }
        }
    }

    fn enter(&mut self, id: u32, level: usize, cell: Cell) {
        let ids = self.levels[level].entry(cell).or_default();
        match ids.binary_search(&id) {
            Ok(_) => debug_assert!(false, "area {id} is in the index already"),
            Err(rank) => ids.insert(rank, id),
        }
        self.used |= 1 << level;
    }

    fn leave(&mut self, id: u32, level: usize, cell: Cell) {
        let cells = &mut self.levels[level];
        let Some((ids, rank)) =
            cells.get_mut(&cell).and_then(|ids| ids.binary_search(&id).ok().map(|rank| (ids, rank)))
        else {
            debug_assert!(false, "area {id} is not in {cell:?} of level {level}");
            return;
        };
        ids.remove(rank);
        if ids.is_empty() {
            cells.remove(&cell);
            if cells.is_empty() {
                self.used &= !(1 << level);
            }
        }
    }
}

fn grid(level: usize) -> Grid {
    Grid::with_axis_bits(AXIS_BITS_MIN + level as u32)
}

/// The cells that a box meets, at the level where it belongs.
#[derive(Debug, PartialEq, Eq)]
struct Cover {
    level: usize,
    len: usize,
    /// The first `len` of them; the others are all the same.
    cells: [Cell; CELLS_MAX],
}

impl Cover {
    fn of(bounds: &Bounds) -> Cover {
        // By its size and not by the cells it meets just here: moving it does not take it from level to level.
        let mut level = LEVELS - 1;
        while level > 0 && grid(level).cells_max_by_size(bounds) > CELLS_MAX as u64 {
            level -= 1;
        }
        let grid = grid(level);
        let mut cover = Cover { level, len: 0, cells: [Cell::default(); CELLS_MAX] };
        for (room, cell) in cover.cells.iter_mut().zip(grid.rows(bounds).flat_map(|row| grid.cells(row, bounds))) {
            *room = cell;
            cover.len += 1;
        }
        cover
    }

    fn cells(&self) -> &[Cell] {
        &self.cells[..self.len]
    }

    fn has(&self, level: usize, cell: Cell) -> bool {
        self.level == level && self.cells().contains(&cell)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::distance::metres;
    use super::super::samples::{anchors, boxes, far, place, probes};
    use super::super::turns::POLE;
    use super::*;

    /// What the index finds at a place; each at most once.
    fn candidates(areas: &AreaIndex, place: Place) -> Vec<u32> {
        let mut found = Vec::new();
        areas.candidates(place, |id| found.push(id));
        let mut once = found.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), found.len(), "{found:?}");
        found
    }

    /// No area is missing that contains the place, and none is found that is not in the place's cell.
    fn check(areas: &AreaIndex, world: &[Option<Bounds>], place: Place) {
        let found = candidates(areas, place);
        for (id, bounds) in (0..).zip(world) {
            let is_found = found.contains(&id);
            let Some(bounds) = bounds else {
                assert!(!is_found, "{id} is not there any more");
                continue;
            };
            assert!(is_found || !bounds.contains(place), "{place:?} in {bounds:?}");
            let cover = Cover::of(bounds);
            assert_eq!(is_found, cover.cells().contains(&grid(cover.level).cell(place)), "{place:?} {bounds:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn finds_every_area_that_a_place_is_in(
            steps in prop::collection::vec((0..12usize, boxes(), 0..6), 60), seed in any::<u64>(),
        ) {
            let mut areas = AreaIndex::default();
            let mut world: Vec<Option<Bounds>> = vec![None; 12];
            for (id, bounds, dice) in steps {
                let next = if dice == 0 { None } else { Some(bounds) };
                match (world[id], next) {
                    (None, Some(to)) => areas.insert(id as u32, &to),
                    (Some(from), Some(to)) => areas.relocate(id as u32, &from, &to),
                    (Some(from), None) => areas.remove(id as u32, &from),
                    (None, None) => {}
                }
                world[id] = next;
                prop_assert_eq!(areas.len(), world.iter().flatten().count());
                for place in probes(&bounds, seed) {
                    check(&areas, &world, place);
                }
            }
            for (id, bounds) in (0..).zip(&world) {
                bounds.iter().for_each(|bounds| areas.remove(id, bounds));
            }
            prop_assert!(areas.is_empty() && areas.used == 0 && areas.levels.iter().all(|cells| cells.is_empty()));
        }

        #[test]
        fn moved_or_put_in_anew_is_the_same(
            (lat, lon) in anchors(), azimuths in prop::collection::vec(0.0..360.0f64, 60), radius_m in 20.0..3_000.0f64,
        ) {
            let mut at = place(lat, lon);
            let mut areas = AreaIndex::default();
            areas.insert(7, &Bounds::around(at, radius_m));
            for azimuth in azimuths {
                let to = far(at, azimuth, radius_m / 4.0);
                areas.relocate(7, &Bounds::around(at, radius_m), &Bounds::around(to, radius_m));
                at = to;
                let mut anew = AreaIndex::default();
                anew.insert(7, &Bounds::around(at, radius_m));
                prop_assert_eq!(&areas.levels, &anew.levels);
                prop_assert_eq!((areas.used, areas.len), (anew.used, anew.len));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn any_area_is_in_few_cells(bounds in boxes()) {
            let cover = Cover::of(&bounds);
            let grid = grid(cover.level);
            let cells = grid.rows(&bounds).flat_map(|row| grid.cells(row, &bounds)).count();
            prop_assert!((1..=CELLS_MAX).contains(&cells), "{} cells for {:?}", cells, bounds);
            prop_assert_eq!(cover.cells().len(), cells);
        }

        #[test]
        fn a_false_candidate_is_not_far((lat, lon) in anchors(), log_m in 0.0..5.0f64, share in 0.0..1.0f64, azimuth in 0.0..360.0f64) {
            // A cell is at most as high as the circle is wide, and twice as wide as high; four for slanting.
            let radius_m = 10f64.powf(log_m).max(20.0);
            let centre = place(lat, lon);
            let mut areas = AreaIndex::default();
            areas.insert(0, &Bounds::around(centre, radius_m));
            let place = far(centre, azimuth, radius_m * 20.0 * share);
            let away_m = metres(centre, place);
            let is_found = !candidates(&areas, place).is_empty();
            prop_assert!(is_found || away_m > radius_m);
            prop_assert!(!is_found || away_m < radius_m * 8.0, "{} m around, found {} m away", radius_m, away_m);
        }
    }

    #[test]
    fn most_candidates_are_true() {
        // A thousand circles of 500 m over a city of 20 km, and 10,000 places: the cells around a box are some three
        // times as large as it is.
        let mut areas = AreaIndex::default();
        let spot = |i: u64| {
            let [north, east] = [i * 7_919 % 1_009, i * 6_271 % 1_013].map(|share| share as f64 / 1_010.0);
            place(52.3 + north * 0.18, 4.8 + east * 0.29)
        };
        let boxes: Vec<Bounds> = (0..1_000).map(|i| Bounds::around(spot(i), 500.0)).collect();
        for (id, bounds) in (0..).zip(&boxes) {
            areas.insert(id, bounds);
        }
        let (mut found, mut inside) = (0, 0);
        for i in 0..10_000 {
            let place = spot(i * 31 + 5);
            areas.candidates(place, |id| {
                found += 1;
                inside += usize::from(boxes[id as usize].contains(place));
            });
        }
        assert!(inside > 10_000, "{inside}");
        assert!(found < inside * 4, "{inside} of {found} are inside");
    }

    #[test]
    fn a_continent_costs_no_more_than_a_crossroads() {
        let mut areas = AreaIndex::default();
        let all = Bounds::from_e7(-900_000_000, -1_800_000_000, 900_000_000, 1_800_000_000).expect("the Earth");
        areas.insert(1, &all);
        areas.insert(2, &Bounds::around(place(52.37, 4.89), 50.0));
        assert_eq!(candidates(&areas, place(52.37, 4.89)), [1, 2]);
        for place in [place(-33.9, 151.2), Place { lat: POLE, lon: 0 }, Place { lat: -POLE, lon: i32::MIN }] {
            assert_eq!(candidates(&areas, place), [1]);
        }
        let cells: usize = areas.levels.iter().map(|cells| cells.len()).sum();
        assert!(cells <= 2 * CELLS_MAX, "{cells}");
        assert_eq!(areas.used.count_ones(), 2);
    }
}
