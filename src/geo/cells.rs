//! The integer geohash grid: which cell a place lies in.
//!
//! A level halves the Earth `bits` times along each axis. On the equator its cells are twice as wide as they are high;
//! at 60° they are square. Towards the poles columns are joined two by two, row by row, so that a cell never becomes
//! narrower than it is high, and the row around a pole is two cells. A plain geohash grid has 32,768 columns at a pole
//! (500 m level), all of them within 500 m of a vehicle there: one such vehicle would cost a whole core.
//!
//! The text form ([`geohash`]) is the common one, without joining: it names channels on the backplane.

use std::ops::RangeInclusive;

use super::bounds::Bounds;
use super::distance::metres_per_radian_east;
use super::turns::{POLE, Place};

/// Least length of a meridian's half, metres: 180° at the equator's 110,574 m per degree. A cell of a level with `n`
/// bits per axis is at least this / 2ⁿ high.
const HALF_MERIDIAN_M: f64 = 110_574.0 * 180.0;

/// From here (60°) towards the poles a cell of the plain grid is narrower than high.
const SQUARE_LAT: i64 = (1i64 << 32) / 6;

/// Bits of one axis at the finest level: cells 19 m high.
pub(super) const AXIS_BITS_MAX: u32 = 20;

/// Base 32 as geohash has it: no a, i, l, o.
pub(super) const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";

/// Longest geohash in use: 60 bits, 3.7 cm.
pub const GEOHASH_CHARS_MAX: usize = 12;

/// One cell of one level. Cells of different levels do not compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell(u64);

impl Cell {
    pub(super) fn new(row: u32, column: u32) -> Cell {
        Cell((row as u64) << 32 | column as u64)
    }

    /// Its row and its column.
    pub(super) fn row_and_column(self) -> (u32, u32) {
        ((self.0 >> 32) as u32, self.0 as u32)
    }
}

/// Columns of a row, one after another, round the Earth: what follows the last one is column 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    pub(super) first: u32,
    /// How many, each once.
    pub(super) count: u64,
    /// The last column of the row; one less than a power of two.
    pub(super) last: u32,
}

/// One level of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Halvings along each axis.
    axis_bits: u32,
}

impl Grid {
    /// The finest level whose cells are at least `radius_m` high, so that up to 60° whatever lies within the radius
    /// lies within the 3 × 3 cells around.
    pub fn for_radius(radius_m: f64) -> Grid {
        let mut axis_bits = AXIS_BITS_MAX;
        while axis_bits > 1 && HALF_MERIDIAN_M / ((1u64 << axis_bits) as f64) < radius_m {
            axis_bits -= 1;
        }
        Grid { axis_bits }
    }

    /// The level with so many halvings along each axis, at most [`AXIS_BITS_MAX`].
    pub(super) fn with_axis_bits(axis_bits: u32) -> Grid {
        Grid { axis_bits: axis_bits.min(AXIS_BITS_MAX) }
    }

    /// Length in bits of the geohash that names a cell of this level.
    pub fn bits(self) -> u32 {
        2 * self.axis_bits
    }

    /// The cell that a place lies in.
    #[inline]
    pub fn cell(self, place: Place) -> Cell {
        let row = self.row(place.lat as i64);
        let east = place.lon as u32 ^ 1 << 31;
        Cell::new(row, (east as u64 >> self.column_shift(row)) as u32)
    }

    /// Whether two places lie in one cell: the same as comparing their cells, and most of that is done once.
    #[inline]
    pub(super) fn is_one_cell(self, a: Place, b: Place) -> bool {
        let row = self.row(a.lat as i64);
        row == self.row(b.lat as i64) && ((a.lon ^ b.lon) as u32 as u64) >> self.column_shift(row) == 0
    }

    /// The row of a latitude; the poles belong to the outermost rows.
    #[inline]
    fn row(self, lat: i64) -> u32 {
        let north_of_south_pole = (lat + POLE as i64).clamp(0, (1 << 31) - 1);
        (north_of_south_pole >> (31 - self.axis_bits)) as u32
    }

    /// The rows that meet a box.
    #[inline]
    pub(super) fn rows(self, bounds: &Bounds) -> RangeInclusive<u32> {
        self.row(bounds.south as i64)..=self.row(bounds.north as i64)
    }

    /// The columns of one row that meet a box's longitudes.
    #[inline]
    pub(super) fn columns(self, row: u32, bounds: &Bounds) -> Columns {
        let shift = self.column_shift(row);
        let columns = 1u64 << (32 - shift);
        let west = (bounds.west as u32 ^ 1 << 31) as u64;
        let first = west >> shift;
        let last = (west + bounds.width as u64) >> shift;
        Columns { first: first as u32, count: (last - first + 1).min(columns), last: (columns - 1) as u32 }
    }

    /// The cells of one row that meet a box's longitudes, each once.
    #[inline]
    pub(super) fn cells(self, row: u32, bounds: &Bounds) -> impl Iterator<Item = Cell> + use<> {
        let Columns { first, count, last } = self.columns(row, bounds);
        (first as u64..first as u64 + count).map(move |column| Cell::new(row, column as u32 & last))
    }

    /// At least as many as there are cells that meet a box.
    pub(super) fn cells_max(self, bounds: &Bounds) -> u64 {
        let rows = self.rows(bounds);
        let columns = self.cells(self.widest_row(bounds), bounds).size_hint().0;
        (rows.end() - rows.start() + 1) as u64 * columns as u64
    }

    /// At least as many as there are cells that meet a box of this size, wherever its edges lie between theirs.
    pub(super) fn cells_max_by_size(self, bounds: &Bounds) -> u64 {
        let shift = self.column_shift(self.widest_row(bounds));
        let height = bounds.north.wrapping_sub(bounds.south) as u32;
        let rows = ((height >> (31 - self.axis_bits)) as u64 + 2).min(1 << self.axis_bits);
        let columns = ((bounds.width as u64 >> shift) + 2).min(1 << (32 - shift));
        rows * columns
    }

    /// Whether a box is so small that it meets at most a few dozen cells.
    #[inline]
    pub(super) fn is_small(self, bounds: &Bounds) -> bool {
        let height = bounds.north.wrapping_sub(bounds.south) as u32;
        height >> (31 - self.axis_bits) <= 3 && bounds.width >> (32 - self.axis_bits) <= 7
    }

    /// The row, of those that meet a box, in which it meets the most cells: the one nearest to the equator.
    fn widest_row(self, bounds: &Bounds) -> u32 {
        self.row(0.clamp(bounds.south, bounds.north) as i64)
    }

    /// How many low bits of a longitude a cell of this row spans.
    #[inline]
    fn column_shift(self, row: u32) -> u32 {
        let height = 1i64 << (31 - self.axis_bits);
        let middle = row as i64 * height + height / 2 - POLE as i64;
        let joined_bits = if middle.abs() <= SQUARE_LAT {
            0
        } else {
            // height / width of this row's plain cells, at any level; the next power of two columns make one cell.
            let ratio = HALF_MERIDIAN_M / (metres_per_radian_east(middle) * std::f64::consts::TAU);
            (ratio.ceil().clamp(1.0, 2e9) as u32).next_power_of_two().trailing_zeros().min(self.axis_bits)
        };
        32 - self.axis_bits + joined_bits
    }
}

/// The first `5 × chars` bits of a place's geohash, longitude first, in the low bits of the answer.
pub fn geohash_bits(place: Place, chars: usize) -> u64 {
    let east = place.lon as u32 ^ 1 << 31;
    // 2³² / 180° per step: the north pole itself would be one beyond the last row.
    let north = ((place.lat as i64 + POLE as i64) * 2).clamp(0, u32::MAX as i64) as u32;
    let bits = 5 * chars.min(GEOHASH_CHARS_MAX) as u32;
    (0..bits).fold(0, |hash, i| {
        let axis = if i % 2 == 0 { east } else { north };
        hash << 1 | (axis >> (31 - i / 2) & 1) as u64
    })
}

/// A place's geohash in the usual text form; at most [`GEOHASH_CHARS_MAX`] characters.
pub fn geohash(place: Place, chars: usize) -> String {
    let chars = chars.min(GEOHASH_CHARS_MAX);
    let bits = geohash_bits(place, chars);
    (0..chars).rev().map(|i| ALPHABET[(bits >> (5 * i) & 31) as usize] as char).collect()
}

#[cfg(test)]
mod tests {
    use super::super::distance::metres;
    use super::*;

    const ALL_ROUND: Bounds = Bounds { south: 0, north: 0, west: 0, width: u32::MAX };

    fn place(lat: f64, lon: f64) -> Place {
        Place::from_e7((lat * 1e7).round() as i32, (lon * 1e7).round() as i32)
    }

    #[test]
    fn geohashes_that_others_published() {
        // geohash.org; Wikipedia, "Geohash"; tests of PostGIS ST_GeoHash and of the Elasticsearch documentation.
        assert_eq!(geohash(place(57.64911, 10.40744), 11), "u4pruydqqvj");
        assert_eq!(geohash(place(42.6, -5.6), 5), "ezs42");
        assert_eq!(geohash(place(48.0, -126.0), 12), "c0w3hf1s70w3");
        assert_eq!(geohash(place(52.3738, 4.8910), 4), "u173");
        assert_eq!(geohash(place(30.2672, -97.7431), 4), "9v6k");
    }

    #[test]
    fn corners_of_the_earth() {
        assert_eq!(geohash(place(90.0, 179.9999999), 4), "zzzz");
        assert_eq!(geohash(place(-90.0, -180.0), 4), "0000");
        assert_eq!(geohash(place(0.0, 0.0), 2), "s0");
        assert_eq!(geohash(place(0.0, 0.0), 99).len(), GEOHASH_CHARS_MAX);
    }

    #[test]
    fn levels_by_radius() {
        for (radius_m, bits) in [
            (50.0, 36),
            (100.0, 34),
            (150.0, 34),
            (300.0, 32),
            (500.0, 30),
            (600.0, 30),
            (1e3, 28),
            (2e3, 26),
            (5e3, 22),
        ] {
            assert_eq!(Grid::for_radius(radius_m).bits(), bits, "{radius_m} m");
        }
        assert_eq!(Grid::for_radius(0.0).bits(), 40);
        assert_eq!(Grid::for_radius(f64::INFINITY).bits(), 2);
    }

    #[test]
    fn up_to_sixty_degrees_a_cell_is_a_geohash() {
        let grid = Grid::for_radius(500.0);
        for (lat, lon) in [(57.64911, 10.40744), (30.2672, -97.7431), (-33.9, 151.2), (0.0, -0.001)] {
            let Cell(cell) = grid.cell(place(lat, lon));
            let interleaved = (0..15).rev().fold(0, |hash, i| hash << 2 | (cell >> i & 1) << 1 | cell >> (32 + i) & 1);
            assert_eq!(interleaved, geohash_bits(place(lat, lon), 6));
        }
    }

    #[test]
    fn no_cell_is_narrower_than_high_and_a_pole_is_two() {
        let grid = Grid::for_radius(500.0);
        for tenth in 0..900 {
            let lat = tenth as f64 / 10.0;
            let row = grid.row(place(lat, 0.0).lat as i64);
            let columns = grid.cells(row, &ALL_ROUND).count();
            let width_m = metres_per_radian_east(place(lat, 0.0).lat as i64) * std::f64::consts::TAU / columns as f64;
            assert!((595.0..=1230.0).contains(&width_m), "{columns} columns of {width_m} m at {lat}");
        }
        for pole in [POLE as i64, -(POLE as i64)] {
            assert_eq!(grid.cells(grid.row(pole), &ALL_ROUND).count(), 2);
        }
    }

    #[test]
    fn cells_of_a_row_wrap_and_come_once() {
        let grid = Grid::for_radius(500.0);
        let row = grid.row(0);
        let across = Bounds { south: 0, north: 0, west: i32::MIN.wrapping_sub(10), width: 20 };
        let around: Vec<Cell> = grid.cells(row, &across).collect();
        assert_eq!(around, [Cell::new(row, 32_767), Cell::new(row, 0)]);
        for west in [i32::MIN, 12_345, i32::MAX] {
            assert_eq!(grid.cells(row, &Bounds { west, ..ALL_ROUND }).count(), 32_768);
        }
        assert!(metres(place(0.0, 179.99999), place(0.0, -179.99999)) < 3.0);
    }
}
