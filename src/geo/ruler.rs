//! Many places measured from one: whether each is within a distance, without a square root, a division or a table per pair.
//!
//! [`metres`] takes its scale at the latitude in the middle of two places. From one place to what is near it, that scale
//! hardly differs from the place's own, and how much it can is known: `kx` falls by `M sin φ` per radian, at most
//! `KX_PER_RADIAN`. So nearly always the plain square says which side of the limit a place is on, whatever the exact
//! one would be; where it does not, [`metres`] decides. The answers are those of [`metres`], always.

use wide::{f32x4, i32x4};

use super::bounds::Bounds;
use super::distance::{STEP, metres, scale};
use super::turns::{POLE, Place};

/// Most that the scale along a parallel changes per radian of latitude, metres: the greatest radius of curvature of a
/// meridian (6,399,594 m, at the poles), rounded up.
const KX_PER_RADIAN: f64 = 6.4e6;

/// Least metres per radian of latitude, at the equator, rounded down.
const KY_MIN: f64 = 6_335_400.0;

/// Beyond this share of the scale, places are too far, or the pole too near, for the plain square.
const DRIFT_MAX: f64 = 0.004;

/// What rounding may add, by single precision too.
const ROUNDING: f64 = 4e-6;

/// A place from which others are measured.
#[derive(Clone, Copy, Debug)]
pub struct Ruler {
    place: Place,
    /// Metres per step of longitude, and of latitude.
    x: f64,
    y: f64,
    reach_m: f64,
    /// How far the plain square may be off, as a share of it, up to `reach_m`. Infinite: nothing is known.
    slack: f64,
}

impl Ruler {
    /// For limits of up to `reach_m` around a place.
    #[inline]
    pub fn at(place: Place, reach_m: f64) -> Ruler {
        let scale = scale(place.lat as i64);
        // The middle of two latitudes is half as far away as they are apart, and those are apart by a hair (0.1 %) more
        // than the reach where a box around the circle ends.
        let drift = reach_m * (0.501 * KX_PER_RADIAN / KY_MIN) / scale.x;
        let slack = if (0.0..DRIFT_MAX).contains(&drift) {
            // Twice for the square, and the rest covers the half angles (Δλ²/4) and the change of `ky`, a hundredth
            // of that of `kx`.
            2.1 * drift + drift * drift + ROUNDING
        } else {
            f64::INFINITY
        };
        Ruler { place, x: scale.x * STEP, y: scale.y * STEP, reach_m, slack }
    }

    /// Whether a place is at most `limit_m` (from 0 to the reach) away by [`metres`].
    #[inline]
    pub fn is_within(&self, other: Place, limit_m: f64) -> bool {
        debug_assert!(
            limit_m <= self.reach_m || self.slack > 1.0,
            "{limit_m} m are beyond the reach of {} m",
            self.reach_m
        );
        let (square, limit) = (self.square(other), limit_m * limit_m);
        // With infinite slack neither comparison is true.
        if square <= limit - limit * self.slack {
            true
        } else if square > limit + limit * self.slack {
            false
        } else {
            metres(self.place, other) <= limit_m
        }
    }

    /// Whether a place is within reach.
    #[inline]
    pub fn reaches(&self, other: Place) -> bool {
        self.is_within(other, self.reach_m)
    }

    /// About the square of the distance.
    #[inline]
    fn square(&self, other: Place) -> f64 {
        let y = (other.lat as i64 - self.place.lat as i64) as f64 * self.y;
        let x = other.lon.wrapping_sub(self.place.lon) as f64 * self.x;
        y * y + x * x
    }

    /// The same for four places at a time; `None` where the plain square is not enough.
    #[inline]
    pub(super) fn sieve(&self) -> Option<Sieve> {
        let limit = self.reach_m * self.reach_m;
        (self.slack < 1.0).then_some(Sieve {
            lat: i32x4::splat(self.place.lat),
            lon: i32x4::splat(self.place.lon),
            x: f32x4::splat(self.x as f32),
            y: f32x4::splat(self.y as f32),
            surely: f32x4::splat((limit - limit * self.slack) as f32),
            possibly: f32x4::splat((limit + limit * self.slack) as f32),
        })
    }

    /// A box around everything within reach.
    #[inline]
    pub(super) fn bounds(&self) -> Bounds {
        if self.slack > 1.0 {
            return Bounds::around(self.place, self.reach_m);
        }
        // No pole is near. A hair more than the reach; along the parallel, by the scale where it is smallest.
        let per_metre = 1.001 / (self.x * self.y);
        let lat = (self.reach_m * per_metre * self.x) as i32 + 1;
        let lon = (self.reach_m * per_metre * (1.0 + self.slack) * self.y) as u32 + 1;
        Bounds {
            south: self.place.lat.saturating_sub(lat).clamp(-POLE, POLE),
            north: self.place.lat.saturating_add(lat).clamp(-POLE, POLE),
            west: self.place.lon.wrapping_sub_unsigned(lon),
            width: 2 * lon,
        }
    }
}

/// A ruler in single precision, made for vectors: which of four places are within its reach.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sieve {
    lat: i32x4,
    lon: i32x4,
    x: f32x4,
    y: f32x4,
    surely: f32x4,
    possibly: f32x4,
}

impl Sieve {
    /// Bits of those that are surely within reach, and of those that may be.
    #[inline]
    pub(super) fn four(&self, lat: &[i32; 4], lon: &[i32; 4]) -> (usize, usize) {
        let y = f32x4::from_i32x4(i32x4::from(*lat) - self.lat) * self.y;
        let x = f32x4::from_i32x4(i32x4::from(*lon) - self.lon) * self.x;
        let squares = y * y + x * x;
        let below = |limit: f32x4| squares.simd_le(limit).to_bitmask() as usize;
        (below(self.surely), below(self.possibly))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::{anchors, far, place};
    use super::*;

    fn check(from: Place, to: Place, limit_m: f64, reach_m: f64) {
        let ruler = Ruler::at(from, reach_m);
        let expected = metres(from, to) <= limit_m;
        assert_eq!(ruler.is_within(to, limit_m), expected, "{limit_m} m of {reach_m} m, {from:?} to {to:?}");
        if let Some(sieve) = ruler.sieve() {
            let (surely, possibly) = sieve.four(&[to.lat, from.lat, i32::MIN, to.lat], &[to.lon, from.lon, 0, to.lon]);
            let is_within = metres(from, to) <= reach_m;
            assert!(surely & 0b1001 == 0 || is_within, "{reach_m} m, {from:?} to {to:?}");
            assert!(possibly & 0b1001 == 0b1001 || !is_within, "{reach_m} m, {from:?} to {to:?}");
            assert_eq!((surely & 0b110, possibly & 0b110), (0b10, 0b10), "itself and nobody");
        }
    }

    #[test]
    fn in_a_city_hardly_anything_is_left_to_the_exact_distance() {
        for (lat, reach_m, slack_max) in [(0.0, 100.0, 5e-5), (52.0, 550.0, 4e-4), (70.0, 550.0, 6e-4)] {
            let ruler = Ruler::at(place(lat, 13.0), reach_m);
            assert!(ruler.slack < slack_max, "{} at {lat}", ruler.slack);
        }
        assert!(Ruler::at(place(89.9, 0.0), 500.0).sieve().is_none());
        assert!(Ruler::at(place(10.0, 0.0), 1e6).sieve().is_none());
    }

    #[test]
    fn nonsense_does_not_panic() {
        for lat in [i32::MIN, i32::MAX, POLE, -POLE, 0] {
            for reach_m in [f64::NAN, f64::INFINITY, 1e9, 100.0, 0.0, -1.0] {
                let ruler = Ruler::at(Place { lat, lon: 5 }, reach_m);
                ruler.bounds();
                if reach_m > 0.0 {
                    assert!(!ruler.is_within(Place { lat: 7, lon: i32::MIN }, 0.0));
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn it_agrees_with_the_distance(
            (lat, lon) in anchors(), log_reach in 0.0..5.0f64, share in 0.0..=1.0f64, azimuth in 0.0..360.0f64,
            log_off in -9.0..0.5f64, beyond: bool,
        ) {
            let (from, reach_m) = (place(lat, lon), 10f64.powf(log_reach));
            let limit_m = reach_m * share;
            // At the edge, or anywhere near it.
            let off = 10f64.powf(log_off) * if beyond { 1.0 } else { -1.0 };
            check(from, far(from, azimuth, limit_m * (1.0 + off).max(0.0)), limit_m, reach_m);
            check(from, far(from, azimuth, reach_m * (1.0 + off).max(0.0)), limit_m, reach_m);
            // Exactly at it.
            let to = far(from, azimuth, limit_m);
            check(from, to, metres(from, to), metres(from, to));
        }

        #[test]
        fn the_box_holds_the_circle((lat, lon) in anchors(), log_reach in 0.0..5.0f64, azimuth in 0.0..360.0f64) {
            let (from, reach_m) = (place(lat, lon), 10f64.powf(log_reach));
            let bounds = Ruler::at(from, reach_m).bounds();
            for share in [0.0, 0.5, 0.999_99, 1.0] {
                let to = far(from, azimuth, reach_m * share);
                prop_assert!(bounds.contains(to) || metres(from, to) > reach_m, "{:?} of {:?}", to, bounds);
            }
        }

        #[test]
        fn also_from_one_end_of_the_earth_to_another(
            (lat, lon) in anchors(), (to_lat, to_lon) in anchors(), log_reach in 0.0..8.0f64,
        ) {
            let reach_m = 10f64.powf(log_reach);
            check(place(lat, lon), place(to_lat, to_lon), reach_m, reach_m);
        }
    }
}
