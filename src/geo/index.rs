//! Who is in here, within a radius or in a box: lists of places by cell.
//!
//! Entries carry their coordinates, so a search walks a few contiguous lists and never follows a slot back to its
//! vehicle. Lists are unordered: an entry leaves by giving its place to the last. A move within a cell, as nearly all
//! are, is two stores.
//!
//! A search in a box looks at the cells that meet it and compares integers. One within a radius draws a box around its
//! circle (it meets at most 3 × 3 cells for the radius the index was made for), and a [`Ruler`] decides about what its
//! cells hold, four entries at a time. The box is a hair (0.1 %) too large, never too small, and the ruler agrees with
//! [`metres`], so the answer is exact everywhere: across the antimeridian, around a pole, and for any radius.

use super::bounds::Bounds;
use super::cells::Grid;
use super::distance::metres;
use super::lists::{Group, Lists, Position};
use super::ruler::{Ruler, Sieve};
use super::turns::Place;

/// Looking up a cell that may be empty takes about as long as reading one that is there, and as long as comparing so
/// many of its entries with a box (measured with 4,000 to 200,000 places, dense and scattered).
const ENTRIES_PER_LOOKUP: usize = 16;

/// `at` of a slot that is not in the index.
const ABSENT: Position = Position { list: u32::MAX, entry: u32::MAX };

/// Places by cell. Slots are the caller's: small numbers, dense, each in the index at most once.
#[derive(Clone, Debug)]
pub struct CellIndex {
    grid: Grid,
    lists: Lists,
    /// Where each slot's entry is, so that a crowded cell is not searched at each move.
    at: Vec<Position>,
    len: usize,
}

impl CellIndex {
    /// An empty index, made for searches with about this radius. Others are exact too, only slower.
    pub fn new(radius_m: f64) -> CellIndex {
        CellIndex { grid: Grid::for_radius(radius_m), lists: Lists::default(), at: Vec::new(), len: 0 }
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
        self.lists.occupied()
    }

    /// Puts in a slot that is not there yet.
    pub fn insert(&mut self, slot: u32, place: Place) {
        if self.at.len() <= slot as usize {
            self.at.resize(slot as usize + 1, ABSENT);
        }
        debug_assert_eq!(self.at[slot as usize], ABSENT, "slot {slot} is in the index already");
        let at = &mut self.at;
        let moved = |slot: u32, entry| at[slot as usize].entry = entry;
        self.at[slot as usize] = self.lists.push(self.grid.cell(place), place, slot, moved);
        self.len += 1;
    }

    /// Moves a slot. `from` is the place it was put at last.
    #[inline]
    pub fn relocate(&mut self, slot: u32, from: Place, to: Place) {
        if !self.grid.is_one_cell(from, to) {
            self.remove(slot, from);
            self.insert(slot, to);
            return;
        }
        match self.at.get(slot as usize) {
            Some(&Position { entry, .. }) if entry != ABSENT.entry => self.lists.set_place(entry, to),
            _ => debug_assert!(false, "slot {slot} is not at {from:?}"),
        }
    }

    /// Takes a slot out. `place` is the place it was put at last.
    pub fn remove(&mut self, slot: u32, place: Place) {
        let at = match self.at.get_mut(slot as usize) {
            Some(at) if *at != ABSENT => std::mem::replace(at, ABSENT),
            _ => {
                debug_assert!(false, "slot {slot} is not at {place:?}");
                return;
            }
        };
        self.lists.remove(at, |slot, entry| self.at[slot as usize].entry = entry);
        self.len -= 1;
    }

    /// Calls `found` with every slot at most `radius_m` from `place`, and its distance in metres, in no particular but
    /// a reproducible order. The slot whose place it is, if any, is found like the others.
    ///
    /// Answers how many entries had to be looked at.
    pub fn within(&self, place: Place, radius_m: f64, mut found: impl FnMut(u32, f64)) -> usize {
        self.around(&Ruler::at(place, radius_m), |slot, other| found(slot, metres(place, other)))
    }

    /// Calls `found` with every slot within a ruler's reach, and its place: the same slots as [`CellIndex::within`], and
    /// no distance is taken.
    #[inline]
    pub fn around(&self, ruler: &Ruler, mut found: impl FnMut(u32, Place)) -> usize {
        let Some(sieve) = ruler.sieve() else {
            return self.inside(&ruler.bounds(), |slot, other| {
                if ruler.reaches(other) {
                    found(slot, other);
                }
            });
        };
        let mut examined = 0;
        self.look_into(&ruler.bounds(), |groups, len| {
            examined += len;
            sift(groups, &sieve, ruler, &mut found);
        });
        examined
    }

    /// How many slots are within a ruler's reach: as many as [`CellIndex::around`] finds, in less time. And how many
    /// entries had to be looked at.
    #[inline]
    pub fn count(&self, ruler: &Ruler) -> (usize, usize) {
        let mut within = 0;
        let Some(sieve) = ruler.sieve() else {
            let examined = self.around(ruler, |_, _| within += 1);
            return (within, examined);
        };
        let mut examined = 0;
        self.look_into(&ruler.bounds(), |groups, len| {
            examined += len;
            within +=
                groups.iter().map(|group| usize::from(LANES_COUNT[lanes_near(group, &sieve, ruler)])).sum::<usize>();
        });
        (within, examined)
    }

    /// Calls `found` with every slot whose place is in a box, and that place, in no particular but a reproducible order.
    ///
    /// Answers how many entries had to be looked at.
    pub fn inside(&self, bounds: &Bounds, mut found: impl FnMut(u32, Place)) -> usize {
        let mut examined = 0;
        self.look_into(bounds, |groups, len| {
            examined += len;
            for group in groups {
                for lane in 0..group.slot.len() {
                    if bounds.contains(group.place(lane)) {
                        found(group.slot[lane], group.place(lane));
                    }
                }
            }
        });
        examined
    }

    /// Every slot, those of one cell together and near cells mostly soon after each other: who looks around from all of
    /// them in this order finds what it needs in the processor's caches.
    pub fn cell_by_cell(&self) -> impl Iterator<Item = u32> {
        self.lists.each().flat_map(|(groups, len)| groups.iter().flat_map(|group| group.slot).take(len))
    }

    /// The lists of all cells that meet a box, or all there are.
    #[inline]
    fn look_into(&self, bounds: &Bounds, mut look_at: impl FnMut(&[Group], usize)) {
        // A box far beyond the level's cells: reading all that is there is quicker.
        let all = self.cells_occupied() + self.len / ENTRIES_PER_LOOKUP;
        if !self.grid.is_small(bounds) && self.grid.cells_max(bounds) > all as u64 {
            self.look_into_all(&mut look_at);
            return;
        }
        for row in self.grid.rows(bounds) {
            self.lists.of_row(row, self.grid.columns(row, bounds), &mut look_at);
        }
    }

    #[cold]
    #[inline(never)]
    fn look_into_all(&self, look_at: &mut dyn FnMut(&[Group], usize)) {
        self.lists.each().for_each(|(groups, len)| look_at(groups, len));
    }
}

/// Most entries that are put by before they are looked at.
const SIFTED_MAX: usize = 64;

/// How many of four lanes are set. Processors count bits, but the least of those that Ringroad runs on does not.
const LANES_COUNT: [u8; 16] = [0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4];

/// For each set of four lanes, which lanes they are, first the set ones.
const LANES_SET: [[u8; 4]; 16] = {
    let mut lanes = [[0; 4]; 16];
    let mut set = 0;
    while set < 16 {
        let (mut lane, mut at) = (0, 0);
        while lane < 4 {
            if set >> lane & 1 == 1 {
                lanes[set][at] = lane;
                at += 1;
            }
            lane += 1;
        }
        set += 1;
    }
    lanes
};

/// Bits of the entries of a group that are within reach.
#[inline]
fn lanes_near(group: &Group, sieve: &Sieve, ruler: &Ruler) -> usize {
    let (near, possibly) = sieve.four(&group.lat, &group.lon);
    if near == possibly { near } else { near | lanes_measured(group, near ^ possibly, ruler) }
}

/// Of some entries of a group those that are within reach, where the sieve cannot tell.
#[cold]
#[inline(never)]
fn lanes_measured(group: &Group, unsure: usize, ruler: &Ruler) -> usize {
    let near = |lane| unsure >> lane & 1 == 1 && ruler.reaches(group.place(lane));
    (0..4).map(|lane| usize::from(near(lane)) << lane).sum()
}

/// Calls `found` with all of a list that is within reach. What is found is first put by, without a branch: whether an
/// entry is near nobody can predict.
#[inline]
fn sift(groups: &[Group], sieve: &Sieve, ruler: &Ruler, found: &mut impl FnMut(u32, Place)) {
    // Most cells outside of towns.
    if let [group] = groups {
        let mut near = lanes_near(group, sieve, ruler);
        while near != 0 {
            let lane = near.trailing_zeros() as usize;
            found(group.slot[lane], group.place(lane));
            near &= near - 1;
        }
        return;
    }
    for groups in groups.chunks(SIFTED_MAX / 4) {
        let mut sifted = [0_u8; SIFTED_MAX + 4];
        let mut len = 0;
        for (at, group) in groups.iter().enumerate() {
            let near = lanes_near(group, sieve, ruler);
            let lanes = u32::from_le_bytes(LANES_SET[near]) + at as u32 * 0x0404_0404;
            sifted[len..len + 4].copy_from_slice(&lanes.to_le_bytes());
            len += usize::from(LANES_COUNT[near]);
        }
        for entry in &sifted[..len] {
            let (group, lane) = (&groups[usize::from(entry / 4)], usize::from(entry % 4));
            found(group.slot[lane], group.place(lane));
        }
    }
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
        assert_eq!(index.count(&Ruler::at(centre, radius_m)), (expected.len(), examined));
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
            let mut slots: Vec<u32> = index.cell_by_cell().collect();
            slots.sort();
            let placed = (0..30).filter(|slot| world[*slot as usize].is_some());
            prop_assert_eq!(slots, placed.collect::<Vec<u32>>());
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
