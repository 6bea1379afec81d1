//! Boxes of latitude and longitude.
//!
//! A box is its southern and northern edge, its western edge, and how far east it goes from there: so crossing the
//! antimeridian is nothing special, and whether a place is inside are two subtractions. A pole belongs to a box under the
//! longitude that the place was given.

use super::distance::{E2, RADIUS_M, STEP, metres, metres_per_radian_east};
use super::turns::{POLE, Place};

/// Least metres per radian of latitude, at the equator: a(1 − e²) of WGS84, rounded down.
const MERIDIAN_M_PER_RADIAN: f64 = 6_335_439.0;

/// Turn fractions in a radian.
const STEPS_PER_RADIAN: f64 = 1.0 / STEP;

/// Half a turn and a quarter, in 1e-7 degree.
const LON_E7_MAX: i32 = 1_800_000_000;
const LAT_E7_MAX: i32 = 900_000_000;

/// A box of latitude and longitude; its edges belong to it.
///
/// Invariant: `-POLE <= south <= north <= POLE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Turn fractions.
    pub(super) south: i32,
    pub(super) north: i32,
    pub(super) west: i32,
    /// Turn fractions from the western edge to the eastern; [`ROUND`] is all the way round.
    pub(super) width: u32,
}

/// The width that has no longitude outside: both edges are inside, so from 0 to here are all 2³².
const ROUND: u32 = u32::MAX;

impl Bounds {
    /// All of it.
    const EARTH: Bounds = Bounds { south: -POLE, north: POLE, west: i32::MIN, width: ROUND };

    /// From units of 1e-7 degree; a `west` beyond `east` makes a box across the antimeridian. −180° to 180° is all the
    /// way round, any other box whose western edge is its eastern one has no width.
    ///
    /// `None` if an edge lies beyond ±90° or ±180°, or the southern one north of the northern.
    pub fn from_e7(south: i32, west: i32, north: i32, east: i32) -> Option<Bounds> {
        let on_earth =
            |lat: i32, lon: i32| (-LAT_E7_MAX..=LAT_E7_MAX).contains(&lat) && (-LON_E7_MAX..=LON_E7_MAX).contains(&lon);
        if !on_earth(south, west) || !on_earth(north, east) || south > north {
            return None;
        }
        let all_round = west == -LON_E7_MAX && east == LON_E7_MAX;
        let (south_west, north_east) = (Place::from_e7(south, west), Place::from_e7(north, east));
        let width = if all_round { ROUND } else { north_east.lon.wrapping_sub(south_west.lon) as u32 };
        Some(Bounds { south: south_west.lat, north: north_east.lat, west: south_west.lon, width })
    }

    /// The four edges (south, west, north, east) in units of 1e-7 degree, as [`Bounds::from_e7`] was given them, but
    /// for half a turn, which has two names: a western edge there is −180°, an eastern one 180°.
    pub fn to_e7(&self) -> (i32, i32, i32, i32) {
        let east = self.west.wrapping_add_unsigned(self.width);
        let (south, west) = Place { lat: self.south, lon: self.west }.to_e7();
        let (north, east) = Place { lat: self.north, lon: east }.to_e7();
        match (west, self.width) {
            (LON_E7_MAX, ROUND) => (south, -LON_E7_MAX, north, LON_E7_MAX),
            (LON_E7_MAX, 1..) => (south, -LON_E7_MAX, north, east),
            _ => (south, west, north, east),
        }
    }

    /// A box around a circle: nobody within `radius_m` of `place` is outside. It is a hair (0.1 %) larger than it
    /// need be; beyond a radius of 400 km it is the whole Earth.
    pub fn around(place: Place, radius_m: f64) -> Bounds {
        let lat = place.lat.clamp(-POLE, POLE);
        Bounds { south: lat, north: lat, west: place.lon, width: 0 }.widened(radius_m)
    }

    /// A box that holds whatever is at most so many metres from a place in this one. Like [`Bounds::around`] it is a
    /// hair too large, and at more than 400 km the whole Earth. Metres below zero count as none.
    pub fn widened(&self, metres: f64) -> Bounds {
        // The further from the equator, the more degrees a metre is.
        let furthest = self.south.abs().max(self.north.abs());
        let Some((lat, lon)) = reach(furthest, metres) else {
            return Bounds::EARTH;
        };
        let south = self.south.saturating_sub(lat).max(-POLE);
        let north = self.north.saturating_add(lat).min(POLE);
        let width = self.width as u64 + 2 * lon as u64;
        if width >= ROUND as u64 {
            return Bounds { south, north, west: i32::MIN, width: ROUND };
        }
        Bounds { south, north, west: self.west.wrapping_sub_unsigned(lon), width: width as u32 }
    }

    /// Whether a place is in it; edges are.
    #[inline]
    pub fn contains(&self, place: Place) -> bool {
        // South of the box, or west of it, the unsigned difference is large.
        let north = place.lat.wrapping_sub(self.south) as u32;
        let east = place.lon.wrapping_sub(self.west) as u32;
        (north <= self.north.wrapping_sub(self.south) as u32) & (east <= self.width)
    }

    /// How far a place is from it, metres; 0 inside. For what is near: from far away, an edge may be nearer than that.
    pub fn metres_to(&self, place: Place) -> f64 {
        if self.contains(place) {
            return 0.0;
        }
        let east = place.lon.wrapping_sub(self.west) as u32;
        if east <= self.width {
            return metres(place, Place { lat: place.lat.clamp(self.south, self.north), ..place });
        }
        let (beyond_east, short_of_west) = (east - self.width, east.wrapping_neg());
        let (lon, turn) = if beyond_east <= short_of_west {
            (self.west.wrapping_add_unsigned(self.width), beyond_east)
        } else {
            (self.west, short_of_west)
        };
        // The foot of the perpendicular on a meridian is nearer to the pole, and beyond a quarter of a turn it is the pole.
        let to_pole = (POLE - place.lat.abs()) as f64 * (turn as f64 * STEP).cos().max(0.0);
        let foot = (POLE - to_pole as i32) * place.lat.signum();
        metres(place, Place { lat: foot.clamp(self.south, self.north), lon })
    }

    /// Its middle. Of what lies all the way round one of the poles it is that pole.
    pub fn centre(&self) -> Place {
        let lat = match (self.width == ROUND, self.south == -POLE, self.north == POLE) {
            (true, true, false) => -POLE,
            (true, false, true) => POLE,
            _ => self.south.midpoint(self.north),
        };
        Place { lat, lon: self.west.wrapping_add_unsigned(self.width.div_ceil(2)) }
    }

    /// Its area on the ellipsoid, square kilometres.
    pub fn area_km2(&self) -> f64 {
        // b²/2 · Δλ · [sin φ / (1 − e² sin² φ) + atanh(e sin φ) / e], from south to north.
        let e = E2.sqrt();
        let from_the_equator = |lat: i32| {
            let sine = (lat as f64 * STEP).sin();
            sine / (1.0 - E2 * sine * sine) + (e * sine).atanh() / e
        };
        let polar_km2 = RADIUS_M * RADIUS_M * (1.0 - E2) / 1e6;
        polar_km2 / 2.0 * self.width as f64 * STEP * (from_the_equator(self.north) - from_the_equator(self.south))
    }
}

/// How many turn fractions of latitude, and of longitude to either side, a circle at this latitude spans at most. The
/// longitude is `1 << 31` if that is all the way round; `None` if nothing is sure to be outside.
fn reach(lat: i32, radius_m: f64) -> Option<(i32, u32)> {
    /// The margin covers the ellipsoid, rounding, and for latitudes the curvature of circles that reach over a pole,
    /// up to this radius.
    const MARGIN: f64 = 1.001;
    const RADIUS_M_MAX: f64 = 400_000.0;

    if radius_m.is_nan() || radius_m > RADIUS_M_MAX {
        return None;
    }
    let radius_m = radius_m.max(0.0) * MARGIN;
    let lat_reach = (radius_m / MERIDIAN_M_PER_RADIAN * STEPS_PER_RADIAN) as i32 + 1;
    // d² ≥ (2 kx sin(Δλ/2))², with kx at its least over the middle latitudes that can occur.
    let kx = metres_per_radian_east(lat as i64 + lat_reach as i64 / 2 + 1);
    let half_sine = radius_m / (2.0 * kx);
    // A pole is at every longitude.
    let lon_reach = if half_sine < 0.5 && lat + lat_reach < POLE {
        // x + x³/4 is at least asin x up to one half, and within 2 % of it.
        let half_angle = half_sine + half_sine * half_sine * half_sine / 4.0;
        (2.0 * half_angle * STEPS_PER_RADIAN) as u32 + 1
    } else {
        1 << 31
    };
    Some((lat_reach, lon_reach))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::distance::metres;
    use super::super::samples::{anchors, boxes, far, place, probes};
    use super::*;

    const E7: f64 = 1e7;

    fn degrees(south: f64, west: f64, north: f64, east: f64) -> Bounds {
        let e7 = [south, west, north, east].map(|degrees| (degrees * E7).round() as i32);
        Bounds::from_e7(e7[0], e7[1], e7[2], e7[3]).expect("a box")
    }

    #[test]
    fn half_a_turn_has_two_names() {
        let all_round = degrees(-10.0, -180.0, 10.0, 180.0);
        let meridians = [(180.0, 180.0), (-180.0, -180.0), (180.0, -180.0)];
        for lon in [-180.0, -179.9999999, -0.0000001, 0.0, 90.0, 179.9999999, 180.0] {
            assert!(all_round.contains(place(0.0, lon)), "{lon}");
            assert!(!all_round.contains(place(10.0000001, lon)), "{lon}");
            for (west, east) in meridians {
                let meridian = degrees(-10.0, west, 10.0, east);
                assert_eq!(meridian.contains(place(0.0, lon)), lon.abs() == 180.0, "{west} {east} {lon}");
            }
        }
        assert_eq!(all_round.to_e7(), (-100_000_000, -1_800_000_000, 100_000_000, 1_800_000_000));
        for (west, east) in meridians {
            let (_, west, _, east) = degrees(-10.0, west, 10.0, east).to_e7();
            assert_eq!((west, east), (1_800_000_000, 1_800_000_000));
        }
        assert_eq!(degrees(0.0, -180.0, 1.0, -170.0).to_e7(), (0, -1_800_000_000, 10_000_000, -1_700_000_000));
        assert_eq!(degrees(0.0, 170.0, 1.0, 180.0).to_e7(), (0, 1_700_000_000, 10_000_000, 1_800_000_000));
        assert_eq!(degrees(0.0, 180.0, 1.0, -170.0), degrees(0.0, -180.0, 1.0, -170.0));
        assert_eq!(degrees(0.0, 170.0, 1.0, -180.0), degrees(0.0, 170.0, 1.0, 180.0));
    }

    #[test]
    fn edges_that_are_none() {
        for (south, west, north, east) in [
            (1, 0, 0, 0),
            (-900_000_001, 0, 0, 0),
            (0, 0, 900_000_001, 0),
            (0, -1_800_000_001, 0, 0),
            (0, 0, 0, 1_800_000_001),
            (i32::MIN, i32::MIN, i32::MAX, i32::MAX),
        ] {
            assert_eq!(Bounds::from_e7(south, west, north, east), None, "{south} {west} {north} {east}");
        }
    }

    #[test]
    fn middles() {
        for (bounds, middle) in [
            (degrees(-90.0, -180.0, 90.0, 180.0), (0.0, 0.0)),
            (degrees(50.0, -180.0, 90.0, 180.0), (90.0, 0.0)),
            (degrees(-90.0, -180.0, -60.0, 180.0), (-90.0, 0.0)),
            (degrees(-40.0, -180.0, 60.0, 180.0), (10.0, 0.0)),
            (degrees(60.0, 0.0, 90.0, 90.0), (75.0, 45.0)),
            (degrees(10.0, 170.0, 20.0, -160.0), (15.0, -175.0)),
            (degrees(52.0, 4.0, 52.0, 4.0), (52.0, 4.0)),
        ] {
            let centre = bounds.centre().to_degrees();
            assert!((centre.0 - middle.0).abs() < 1e-6 && (centre.1 - middle.1).abs() < 1e-6, "{centre:?} {middle:?}");
        }
    }

    #[test]
    fn areas_that_others_published() {
        // The Earth (Moritz, GRS80); the cap north of the Arctic Circle (its share of the Earth: 4 %); a cell of one
        // degree at the equator; a zone, and half of it across the antimeridian.
        let zone_km2 = degrees(30.0, -180.0, 60.0, 180.0).area_km2();
        for (bounds, km2, share) in [
            (degrees(-90.0, -180.0, 90.0, 180.0), 510_065_622.0, 1e-6),
            (degrees(66.5639, -180.0, 90.0, 180.0), 21_200_000.0, 5e-3),
            (degrees(0.0, 10.0, 1.0, 11.0), 12_308.8, 1e-4),
            (degrees(30.0, 90.0, 60.0, -90.0), zone_km2 / 2.0, 1e-6),
        ] {
            let area_km2 = bounds.area_km2();
            assert!((area_km2 / km2 - 1.0).abs() < share, "{area_km2} km², not {km2}");
        }
        assert_eq!(degrees(52.0, 4.0, 52.0, 5.0).area_km2(), 0.0);
    }

    #[test]
    fn what_holds_a_pole_goes_all_round() {
        for bounds in [
            Bounds::around(place(90.0, 12.0), 0.0),
            Bounds::around(place(-89.999, 12.0), 200.0),
            degrees(80.0, 10.0, 90.0, 20.0).widened(1.0),
        ] {
            assert_eq!(bounds.width, ROUND, "{bounds:?}");
            assert!(bounds.south == -POLE || bounds.north == POLE, "{bounds:?}");
        }
        assert_eq!(degrees(0.0, -179.99, 1.0, 179.99).widened(2_000.0).width, ROUND);
        let near = Bounds::around(place(52.0, 180.0), 500.0);
        assert!(near.width < 1 << 20 && near.contains(place(52.0, -179.999)), "{near:?}");
    }

    #[test]
    fn nonsense_does_not_panic() {
        for lat in [i32::MIN, i32::MAX, POLE, -POLE, 0] {
            for lon in [i32::MIN, 0, i32::MAX] {
                for metres in [f64::NAN, f64::NEG_INFINITY, -1.0, 0.0, 400_000.0, 1e9, f64::INFINITY] {
                    let place = Place { lat: lat.clamp(-POLE, POLE), lon };
                    let bounds = Bounds::around(Place { lat, lon }, metres).widened(metres);
                    assert!(bounds.contains(place), "{lat} {lon} {metres}");
                    assert!(bounds.contains(bounds.centre()) && bounds.area_km2() >= 0.0);
                }
            }
        }
    }

    /// Whether `lon` lies between two edges as a map has them, by numbers that do not wrap.
    fn between(west: i32, lon: i32, east: i32) -> bool {
        let names: &[i32] = if lon.abs() == LON_E7_MAX { &[-LON_E7_MAX, LON_E7_MAX] } else { &[lon] };
        names.iter().any(|&lon| if west <= east { west <= lon && lon <= east } else { lon >= west || lon <= east })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn inside_is_between_the_edges(bounds in boxes(), seed in any::<u64>()) {
            let (south, west, north, east) = bounds.to_e7();
            let bounds = Bounds::from_e7(south, west, north, east).expect("what was a box is one");
            prop_assert_eq!(bounds.to_e7(), (south, west, north, east));
            for probe in probes(&bounds, seed) {
                let (lat, lon) = probe.to_e7();
                let probe = Place::from_e7(lat, lon);
                let expected = south <= lat && lat <= north && between(west, lon, east);
                prop_assert_eq!(bounds.contains(probe), expected, "{:?} in {:?}", (lat, lon), bounds.to_e7());
            }
        }

        #[test]
        fn edges_come_back_as_they_were(
            south in -900_000_000..=900_000_000, west in -1_799_999_999..1_800_000_000,
            north in -900_000_000..=900_000_000, east in -1_799_999_999..1_800_000_000,
        ) {
            let bounds = Bounds::from_e7(south, west, north, east);
            prop_assert_eq!(bounds.is_some(), south <= north);
            if let Some(bounds) = bounds {
                prop_assert_eq!(bounds.to_e7(), (south, west, north, east));
            }
        }

        #[test]
        fn nobody_that_near_is_outside_of_the_widened(
            bounds in boxes(), metres_log in 0.0..4.3f64, seed in any::<u64>(), azimuth in 0.0..360.0f64,
        ) {
            let reach_m = 10f64.powf(metres_log);
            let wide = bounds.widened(reach_m);
            for from in probes(&bounds, seed).filter(|probe| bounds.contains(*probe)) {
                prop_assert!(wide.contains(from));
                for share in [0.1, 0.9, 0.999_9] {
                    let to = far(from, azimuth, reach_m * share);
                    if metres(from, to) <= reach_m {
                        prop_assert!(wide.contains(to), "{:?} {} m from {:?}, {:?}", to, reach_m, bounds, wide);
                    }
                }
            }
        }

        #[test]
        fn a_widened_box_is_only_a_hair_too_large((lat, lon) in anchors(), reach_m in 1.0..20_000.0f64) {
            let centre = place(lat, lon);
            let bounds = Bounds::around(centre, reach_m);
            for lat in [bounds.south, bounds.north].into_iter().filter(|lat| lat.abs() < POLE) {
                let across_m = metres(centre, Place { lat, lon: centre.lon });
                prop_assert!(across_m < reach_m * 1.015 + 0.1, "{} m north or south for {} m", across_m, reach_m);
            }
            if bounds.width != ROUND && lat.abs() < 85.0 {
                let across_m = metres(centre, Place { lat: centre.lat, lon: bounds.west });
                prop_assert!(across_m < reach_m * 1.03 + 0.1, "{} m west for {} m", across_m, reach_m);
            }
        }

        #[test]
        fn an_area_is_the_sum_of_small_ones(
            lat in -89.0..88.0f64, lon in -180.0..179.0f64, height in 0.01..0.9f64, width in 0.01..0.9f64,
        ) {
            let bounds = degrees(lat, lon, lat + height, lon + width);
            // Trapezoids, as the one distance measures them.
            let (rows, mut sum_km2) = (64, 0.0);
            for row in 0..rows {
                let middle = lat + height * (row as f64 + 0.5) / rows as f64;
                let wide_m = metres(place(middle, lon), place(middle, lon + width / 8.0)) * 8.0;
                let high_m = metres(place(lat, lon), place(lat + height, lon)) / rows as f64;
                sum_km2 += wide_m * high_m / 1e6;
            }
            prop_assert!((bounds.area_km2() / sum_km2 - 1.0).abs() < 1e-3, "{} {}", bounds.area_km2(), sum_km2);
        }

        #[test]
        fn the_middle_is_inside(bounds in boxes()) {
            prop_assert!(bounds.contains(bounds.centre()));
        }
    }
}
