//! The area that viewers watch, as a judge has to know it: what is surely inside, and what is surely outside.
//!
//! A vehicle is in view from inside the area until it is more than 20 m outside of it, so there is a band in which it may
//! be in view or not.

use crate::wire::json::Edges;
use crate::wire::units::{degrees, lat_e7, lon_e7};

/// Two programs may round an edge differently; so close to it nothing is sure, 1e-7 degree (5 cm).
const ROUNDING_E7: i64 = 5;

/// Farther outside than this, metres, a vehicle is not in view, however its gateway turns 20 m into degrees.
const OUTSIDE_M: f64 = 25.0;

/// Once around, 1e-7 degree.
const TURN_E7: i64 = 3_600_000_000;

/// Metres per degree on WGS84 at a latitude in degrees: `(east, north)`; the series of cheap-ruler, good to 1e-7.
pub fn metres_per_degree(lat: f64) -> (f64, f64) {
    let cos = |n: f64| (n * lat.to_radians()).cos();
    let east = 111_412.84 * cos(1.0) - 93.5 * cos(3.0) + 0.118 * cos(5.0);
    let north = 111_132.954 - 559.822 * cos(2.0) + 1.175 * cos(4.0);
    (east, north)
}

/// A square around a centre (degrees north and east).
pub fn square(centre: (f64, f64), side_m: f64) -> Edges {
    let (east, north) = metres_per_degree(centre.0);
    let (lat, lon) = (side_m / 2.0 / north, side_m / 2.0 / east);
    Edges {
        south_e7: lat_e7(centre.0 - lat),
        west_e7: lon_e7(centre.1 - lon),
        north_e7: lat_e7(centre.0 + lat),
        east_e7: lon_e7(centre.1 + lon),
    }
}

/// The middle of an area, degrees north and east.
pub fn centre(edges: Edges) -> (f64, f64) {
    let width = (i64::from(edges.east_e7) - i64::from(edges.west_e7)).rem_euclid(TURN_E7);
    let lat = (f64::from(edges.south_e7) + f64::from(edges.north_e7)) / 2e7;
    (lat, degrees(lon_e7(degrees(edges.west_e7) + width as f64 / 2e7)))
}

/// An area with a margin, so that nobody who drives along its edge is on it: a hundredth of a degree, about a kilometre.
pub fn widened(edges: Edges) -> Edges {
    const MARGIN_DEGREES: f64 = 0.01;
    Edges {
        south_e7: lat_e7(degrees(edges.south_e7) - MARGIN_DEGREES),
        west_e7: lon_e7(degrees(edges.west_e7) - MARGIN_DEGREES),
        north_e7: lat_e7(degrees(edges.north_e7) + MARGIN_DEGREES),
        east_e7: lon_e7(degrees(edges.east_e7) + MARGIN_DEGREES),
    }
}

/// Edges, and the band around them.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    edges: Edges,
    /// The band in degrees, 1e-7: along the parallel and along the meridian.
    band_e7: (i64, i64),
}

/// Where a place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// Surely in view.
    Inside,
    /// In view if it was.
    Band,
    /// Surely not in view.
    Outside,
}

impl Area {
    /// Of these edges.
    pub fn new(edges: Edges) -> Area {
        // A degree of longitude is the shortest at the edge that is nearer to a pole.
        let lat = f64::from(edges.south_e7.abs().max(edges.north_e7.abs())) / 1e7;
        let (east, north) = metres_per_degree(lat);
        let e7 = |metres_per_degree: f64| (OUTSIDE_M / metres_per_degree.max(1.0) * 1e7).ceil() as i64;
        Area { edges, band_e7: (e7(east), e7(north)) }
    }

    /// The edges.
    pub fn edges(&self) -> Edges {
        self.edges
    }

    /// Where a place is, 1e-7 degree.
    pub fn locate(&self, (lat_e7, lon_e7): (i32, i32)) -> Whereabouts {
        if self.holds(lat_e7, lon_e7, (-ROUNDING_E7, -ROUNDING_E7)) {
            Whereabouts::Inside
        } else if self.holds(lat_e7, lon_e7, self.band_e7) {
            Whereabouts::Band
        } else {
            Whereabouts::Outside
        }
    }

    /// Whether it is within the edges, moved outwards by so much.
    fn holds(&self, lat_e7: i32, lon_e7: i32, (east, north): (i64, i64)) -> bool {
        let Edges { south_e7, west_e7, north_e7, east_e7 } = self.edges;
        let [lat, south, upper, lon, west, right] =
            [lat_e7, south_e7, north_e7, lon_e7, west_e7, east_e7].map(i64::from);
        let width = (right - west).rem_euclid(TURN_E7) + 2 * east;
        let from_west = (lon - west + east).rem_euclid(TURN_E7);
        // From −180° to 180° is all around, which the remainder takes for nothing.
        let is_between = right - west == TURN_E7 || width >= TURN_E7 || from_west <= width;
        (south - north..=upper + north).contains(&lat) && is_between
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::Place;
    use crate::geo::distance::metres;

    #[test]
    fn a_square_is_as_long_as_it_says() {
        for centre in [(30.2672, -97.7431), (-33.9, 180.0), (69.6, 18.9)] {
            let Edges { south_e7, west_e7, north_e7, east_e7 } = square(centre, 2_000.0);
            let (lat, lon) = (lat_e7(centre.0), lon_e7(centre.1));
            let high = metres(Place::from_e7(south_e7, lon), Place::from_e7(north_e7, lon));
            let wide = metres(Place::from_e7(lat, west_e7), Place::from_e7(lat, east_e7));
            assert!((high - 2_000.0).abs() < 0.1 && (wide - 2_000.0).abs() < 0.1, "{high} m by {wide} m");
            let (middle_lat, middle_lon) = super::centre(square(centre, 2_000.0));
            assert!((middle_lat - centre.0).abs() < 1e-6 && (middle_lon - centre.1).abs() < 1e-6, "{middle_lon}");
            let wider = Area::new(widened(square(centre, 2_000.0)));
            assert_eq!(wider.locate((south_e7, west_e7)), Whereabouts::Inside);
            assert_eq!(wider.locate((south_e7 - 150_000, west_e7)), Whereabouts::Outside);
        }
    }

    #[test]
    fn inside_the_band_and_outside() {
        // 1,000e-7 degree are 11 m to the north; to the east 11 m on the equator, and half of it at 60°.
        for (south, west, north, east, what) in [
            (100_000, 200_000, 300_000, 400_000, "beside Greenwich"),
            (-300_000, 1_799_900_000, -100_000, -1_799_900_000, "across the antimeridian"),
            (599_000_000, -400_000, 600_000_000, -200_000, "at 60 degrees"),
        ] {
            let area = Area::new(Edges { south_e7: south, west_e7: west, north_e7: north, east_e7: east });
            let wrap = |lon: i64| ((lon + TURN_E7 / 2).rem_euclid(TURN_E7) - TURN_E7 / 2) as i32;
            let lon_in = wrap(i64::from(west) + 50_000);
            let lat_in = south / 2 + north / 2;
            for (at, expected) in [
                ((lat_in, lon_in), Whereabouts::Inside),
                ((south + 6, west + 6), Whereabouts::Inside),
                ((north - 6, east - 6), Whereabouts::Inside),
                ((south, lon_in), Whereabouts::Band),
                ((lat_in, west), Whereabouts::Band),
                ((north + 1_800, lon_in), Whereabouts::Band),
                ((lat_in, wrap(i64::from(east) + 1_800)), Whereabouts::Band),
                ((north + 2_600, lon_in), Whereabouts::Outside),
                ((lat_in, wrap(i64::from(east) + 5_000)), Whereabouts::Outside),
                ((lat_in, wrap(i64::from(west) - 5_000)), Whereabouts::Outside),
                ((lat_in, wrap(i64::from(lon_in) + TURN_E7 / 2)), Whereabouts::Outside),
            ] {
                assert_eq!(area.locate(at), expected, "{at:?} {what}");
            }
        }
    }

    #[test]
    fn all_around_is_all_around() {
        let world =
            Edges { south_e7: -900_000_000, west_e7: -1_800_000_000, north_e7: 900_000_000, east_e7: 1_800_000_000 };
        for lon in [-1_799_999_999, -5, 0, 7, 1_800_000_000] {
            assert_eq!(Area::new(world).locate((0, lon)), Whereabouts::Inside, "{lon}");
        }
        let line = Area::new(Edges { west_e7: 1_800_000_000, east_e7: -1_800_000_000, ..world });
        assert_eq!(line.locate((0, 1_800_000_000)), Whereabouts::Band);
        assert_eq!(line.locate((0, 0)), Whereabouts::Outside);
    }
}
