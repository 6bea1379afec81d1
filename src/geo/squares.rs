//! Squares: cells of the plain geohash grid with names of four characters, 0.35° × 0.18°.
//!
//! They divide positions among the channels of the backplane, so every host has to find the same ones. Columns are not
//! joined towards the poles as in [`super::cells`]: a name of four characters is what others compute.

use super::bounds::Bounds;
use super::cells::ALPHABET;
use super::turns::{POLE, Place};

/// Bits of a column, and of a row: half of four characters with five bits each.
const AXIS_BITS: u32 = 10;

/// Columns around the Earth, and rows from pole to pole.
const PER_AXIS: u16 = 1 << AXIS_BITS;

/// Low bits of a 32-bit coordinate that a square spans.
const INNER_BITS: u32 = 32 - AXIS_BITS;

/// A cell of the plain geohash grid, four characters: 10 bits each way.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug)]
pub struct Square {
    column: u16,
    row: u16,
}

impl Square {
    /// How many there are on Earth: what is kept by squares is bounded by it.
    pub const COUNT: usize = PER_AXIS as usize * PER_AXIS as usize;

    /// The square that a place lies in.
    #[inline]
    pub fn of(place: Place) -> Square {
        Square { column: column(eastward(place.lon)), row: row(place.lat as i64) }
    }

    /// Its geohash.
    pub fn name(self) -> [u8; 4] {
        let hash = spread(self.column) << 1 | spread(self.row);
        [15, 10, 5, 0].map(|shift| ALPHABET[(hash >> shift & 31) as usize])
    }

    /// The square of a geohash; `None` if it is not one of four characters. Capitals are none: nobody writes them.
    pub fn parse(name: &[u8]) -> Option<Square> {
        let name: &[u8; 4] = name.try_into().ok()?;
        let mut hash = 0;
        for character in name {
            hash = hash << 5 | ALPHABET.iter().position(|letter| letter == character)? as u32;
        }
        Some(Square { column: gather(hash >> 1), row: gather(hash) })
    }
}

/// The squares that meet a box: a block of columns (wrapping) and rows. Default: none.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Squares {
    west: u16,
    columns: u16,
    south: u16,
    rows: u16,
}

impl Squares {
    /// No square.
    pub const NONE: Squares = Squares { west: 0, columns: 0, south: 0, rows: 0 };

    /// Every square that somebody within `reach_m` of a place may be in.
    pub fn around(place: Place, reach_m: f64) -> Squares {
        Squares::covering(&Bounds::around(place, reach_m))
    }

    /// Every square that meets a box.
    pub fn covering(bounds: &Bounds) -> Squares {
        let (south, north) = (row(bounds.south as i64), row(bounds.north as i64));
        let west = eastward(bounds.west);
        // Steps from the western edge of the western square to the eastern end of the box.
        let width = (west & ((1 << INNER_BITS) - 1)) as u64 + bounds.width as u64;
        let columns = (width >> INNER_BITS) + 1;
        let (west, columns) = if columns >= PER_AXIS as u64 { (0, PER_AXIS) } else { (column(west), columns as u16) };
        Squares { west, columns, south, rows: north - south + 1 }
    }

    /// This one alone.
    pub fn only(square: Square) -> Squares {
        Squares { west: square.column, columns: 1, south: square.row, rows: 1 }
    }

    /// How many they are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(self) -> usize {
        self.columns as usize * self.rows as usize
    }

    /// Each of them, once.
    pub fn iter(self) -> impl Iterator<Item = Square> {
        let columns = (self.west..self.west + self.columns).map(|column| column % PER_AXIS);
        columns.flat_map(move |column| (self.south..self.south + self.rows).map(move |row| Square { column, row }))
    }

    /// Whether a square is one of them.
    #[inline]
    pub fn contains(self, square: Square) -> bool {
        // An unsigned difference is large where the square lies west of the block, or south of it.
        square.column.wrapping_sub(self.west) % PER_AXIS < self.columns
            && square.row.wrapping_sub(self.south) < self.rows
    }
}

/// A longitude as steps east of the antimeridian.
fn eastward(lon: i32) -> u32 {
    lon as u32 ^ 1 << 31
}

fn column(eastward: u32) -> u16 {
    (eastward >> INNER_BITS) as u16
}

/// The row of a latitude; the poles belong to the outermost rows.
fn row(lat: i64) -> u16 {
    // Half a turn from pole to pole is as many steps as fit 31 bits; the north pole itself would be one beyond.
    let northward = (lat + POLE as i64).clamp(0, (1 << 31) - 1);
    (northward >> (INNER_BITS - 1)) as u16
}

/// The ten bits of an axis, each followed by room for one of the other.
fn spread(axis: u16) -> u32 {
    (0..AXIS_BITS).fold(0, |bits, i| bits | (axis as u32 >> i & 1) << (2 * i))
}

/// Every other bit of twenty, from the lowest.
fn gather(hash: u32) -> u16 {
    (0..AXIS_BITS).fold(0, |bits, i| bits | (hash >> (2 * i) & 1) << i) as u16
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::super::cells::geohash;
    use super::super::distance::metres;
    use super::super::samples::{anchors, boxes, place, probes};
    use super::*;

    fn names(squares: Squares) -> Vec<String> {
        squares.iter().map(|square| String::from_utf8(square.name().to_vec()).unwrap()).collect()
    }

    #[test]
    fn every_square_has_a_name_of_its_own() {
        let mut seen = HashSet::new();
        for column in 0..PER_AXIS {
            for row in 0..PER_AXIS {
                let square = Square { column, row };
                assert_eq!(Square::parse(&square.name()), Some(square));
                seen.insert(square.name());
            }
        }
        assert_eq!(seen.len(), Square::COUNT);
    }

    #[test]
    fn names_that_are_none() {
        for name in ["", "u17", "u1733", "u17a", "U173", "u17 ", "u17\u{e9}"] {
            assert_eq!(Square::parse(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn a_circle_within_a_square_and_one_across_a_corner() {
        assert_eq!(names(Squares::around(place(52.30, 4.75), 500.0)), ["u173"]);
        // The corner of four at the middle of the map.
        assert_eq!(names(Squares::around(place(0.0, 0.0), 500.0)), ["7zzz", "ebpb", "kpbp", "s000"]);
    }

    #[test]
    fn the_antimeridian_is_a_border_like_any_other() {
        let squares = Squares::around(place(10.0, 179.999), 500.0);
        assert!(squares.contains(Square::of(place(10.0, -179.999))));
        assert_eq!((squares.columns, squares.rows), (2, 1));
        assert_eq!(squares, Squares::around(place(10.0, -179.999), 500.0));
    }

    #[test]
    fn around_a_pole_are_all_squares_of_its_row() {
        for (lat, row) in [(90.0, PER_AXIS - 1), (-90.0, 0)] {
            for reach_m in [1.0, 500.0, 19_000.0] {
                let squares = Squares::around(place(lat, 12.0), reach_m);
                assert_eq!(squares, Squares { west: 0, columns: PER_AXIS, south: row, rows: 1 });
            }
        }
    }

    #[test]
    fn none_is_none() {
        assert_eq!(Squares::default(), Squares::NONE);
        assert_eq!(Squares::NONE.iter().count(), 0);
        assert!(!Squares::NONE.contains(Square { column: 0, row: 0 }));
    }

    #[test]
    fn one_alone() {
        for (lat, lon) in [(0.0, 0.0), (52.3, 4.75), (-90.0, 180.0), (90.0, -180.0)] {
            let square = Square::of(place(lat, lon));
            assert_eq!(Squares::only(square).iter().collect::<Vec<_>>(), [square]);
            assert!(Squares::only(square).contains(square));
        }
    }

    #[test]
    fn nonsense_does_not_panic() {
        for lat in [i32::MIN, i32::MAX, POLE, -POLE, 0] {
            for lon in [i32::MIN, 0, i32::MAX] {
                for reach_m in [f64::NAN, -1.0, 0.0, 1e9, f64::INFINITY] {
                    let squares = Squares::around(Place { lat, lon }, reach_m);
                    assert!(squares.contains(Square::of(Place { lat, lon })), "{lat} {lon} {reach_m}");
                    assert_eq!(squares.iter().count(), squares.len());
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn a_name_is_the_geohash(lat in -900_000_000..=900_000_000, lon in -1_800_000_000..=1_800_000_000) {
            let place = Place::from_e7(lat, lon);
            let name = Square::of(place).name();
            prop_assert_eq!(std::str::from_utf8(&name).unwrap(), geohash(place, 4));
        }

        #[test]
        fn nobody_within_reach_is_outside(
            (lat, lon) in anchors(), dlat in -0.17..0.17f64, dlon in -0.17..0.17f64, share in 0.0..1.0f64,
        ) {
            let widen = (1.0 / lat.to_radians().cos().max(1e-4)).min(20_000.0);
            let wrapped = |degrees: f64| (degrees + 180.0).rem_euclid(360.0) - 180.0;
            let centre = place(lat, wrapped(lon + dlon * widen * share));
            let other = place((lat + dlat).clamp(-90.0, 90.0), wrapped(lon + dlon * widen));
            // As tight as can be: the other is on the rim. What is further away is left to the next case.
            let reach_m = metres(centre, other);
            if reach_m > 20_000.0 {
                return Ok(());
            }
            let squares = Squares::around(centre, reach_m);
            prop_assert!(squares.contains(Square::of(other)), "{:?} around {:?}: {:?}", other, centre, squares);
            prop_assert!(squares.contains(Square::of(centre)));
        }
    }

    proptest! {
        #[test]
        fn a_box_meets_the_squares_of_what_is_inside_and_no_others(bounds in boxes(), seed in any::<u64>()) {
            let squares = Squares::covering(&bounds);
            for place in probes(&bounds, seed).filter(|place| bounds.contains(*place)) {
                prop_assert!(squares.contains(Square::of(place)), "{:?} of {:?}: {:?}", place, bounds, squares);
            }
            // Each row and column holds a place of the box: an edge, or the western edge of a column within.
            for column in (squares.west..squares.west + squares.columns).map(|column| column % PER_AXIS) {
                let border = ((column as u32) << INNER_BITS ^ 1 << 31) as i32;
                let meets = [bounds.west, border].map(|lon| Place { lat: bounds.south, lon });
                let met = meets.into_iter().any(|place| bounds.contains(place) && Square::of(place).column == column);
                prop_assert!(met, "column {} of {:?} does not meet {:?}", column, squares, bounds);
            }
            prop_assert_eq!(squares.south, row(bounds.south as i64));
            prop_assert_eq!(squares.south + squares.rows - 1, row(bounds.north as i64));
        }

        #[test]
        fn what_it_lists_is_what_it_contains((lat, lon) in anchors(), reach_m in 0.0..20_000.0f64, near in 0u16..9) {
            let squares = Squares::around(place(lat, lon), reach_m);
            let listed: HashSet<Square> = squares.iter().collect();
            prop_assert_eq!(listed.len(), squares.iter().count());
            prop_assert!(listed.iter().all(|square| squares.contains(*square)));
            // Those just outside of the block, on each side.
            for (column, row) in [
                (squares.west.wrapping_sub(near) % PER_AXIS, squares.south),
                ((squares.west + squares.columns + near) % PER_AXIS, squares.south),
                (squares.west, squares.south.saturating_sub(near)),
                (squares.west, (squares.south + squares.rows + near).min(PER_AXIS - 1)),
            ] {
                let square = Square { column, row };
                prop_assert_eq!(squares.contains(square), listed.contains(&square));
            }
        }

        #[test]
        fn away_from_the_poles_it_is_a_handful(lat in -80.0..80.0f64, lon in -180.0..180.0f64, reach_m in 0.0..600.0f64) {
            prop_assert!(Squares::around(place(lat, lon), reach_m).iter().count() <= 4);
        }
    }
}
