//! Positions as fractions of a turn: 2³² is 360°, one step is 0.93 cm on the equator.
//!
//! Wires count in 1e-7 degree (1.11 cm), where a difference of longitudes has to be taken modulo 3.6e9. Inside, a
//! longitude uses all 32 bits, so the machine's own wrapping is the Earth's.

/// Steps in a whole turn.
const TURN: i64 = 1 << 32;

/// Steps of 1e-7 degree in a whole turn.
const TURN_E7: i64 = 3_600_000_000;

/// A quarter of a turn: the latitude of the north pole.
pub const POLE: i32 = 1 << 30;

/// Where something is.
///
/// Invariant of every place made by [`Place::from_e7`]: `lat` lies within ±[`POLE`]. `lon` wraps: −180° and +180° are
/// the same number, `i32::MIN`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// North of the equator, in turn fractions.
    pub lat: i32,
    /// East of Greenwich, in turn fractions.
    pub lon: i32,
}

impl Place {
    /// From units of 1e-7 degree, as they travel on wires: latitude ±900000000 (what lies beyond is taken as the
    /// pole), longitude −1799999999…1800000000 (what lies beyond wraps).
    ///
    /// A step here is finer than 1e-7 degree, so no two positions of a wire become one place.
    pub fn from_e7(lat_e7: i32, lon_e7: i32) -> Place {
        let lat = lat_e7.clamp(-900_000_000, 900_000_000);
        Place {
            lat: nearest(lat as i64 * TURN, TURN_E7) as i32,
            // Truncating to 32 bits is the wrap.
            lon: nearest(lon_e7 as i64 * TURN, TURN_E7) as i32,
        }
    }

    /// Back to units of 1e-7 degree, `(latitude, longitude)`. Exactly what [`Place::from_e7`] was given.
    pub fn to_e7(self) -> (i32, i32) {
        let lat_e7 = nearest(self.lat as i64 * TURN_E7, TURN) as i32;
        let lon_e7 = nearest(self.lon as i64 * TURN_E7, TURN) as i32;
        // Half a turn has two names; wires use the positive one (SAE J2735 ends at −179.9999999°).
        (lat_e7, if lon_e7 == -1_800_000_000 { 1_800_000_000 } else { lon_e7 })
    }

    /// Degrees, `(latitude, longitude)`; longitude within −180…180.
    pub fn to_degrees(self) -> (f64, f64) {
        const STEP: f64 = 360.0 / TURN as f64;
        (self.lat as f64 * STEP, self.lon as f64 * STEP)
    }
}

/// `numerator / denominator`, rounded to the nearest, halves up.
fn nearest(numerator: i64, denominator: i64) -> i64 {
    (numerator + denominator / 2).div_euclid(denominator)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_places() {
        assert_eq!(Place::from_e7(0, 0), Place { lat: 0, lon: 0 });
        assert_eq!(Place::from_e7(900_000_000, 900_000_000), Place { lat: POLE, lon: 1 << 30 });
        assert_eq!(Place::from_e7(-900_000_000, 1_800_000_000), Place { lat: -POLE, lon: i32::MIN });
        assert_eq!(Place::from_e7(450_000_000, -900_000_000).to_degrees(), (45.0, -90.0));
    }

    #[test]
    fn half_a_turn_is_one_place() {
        assert_eq!(Place::from_e7(0, 1_800_000_000), Place::from_e7(0, -1_800_000_000));
        assert_eq!(Place::from_e7(0, -1_800_000_000).to_e7(), (0, 1_800_000_000));
    }

    #[test]
    fn the_shorter_way_leads_across_the_antimeridian() {
        let west = Place::from_e7(0, 1_799_999_990);
        let east = Place::from_e7(0, -1_799_999_990);
        let steps = east.lon.wrapping_sub(west.lon);
        assert!((20..=26).contains(&steps), "20e-7 degree are {steps} steps");
    }

    #[test]
    fn latitudes_beyond_the_pole_are_the_pole() {
        assert_eq!(Place::from_e7(i32::MAX, 0).lat, POLE);
        assert_eq!(Place::from_e7(i32::MIN, 0).lat, -POLE);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(lat in -900_000_000..=900_000_000, lon in -1_799_999_999..=1_800_000_000) {
            prop_assert_eq!(Place::from_e7(lat, lon).to_e7(), (lat, lon));
        }
    }
}
