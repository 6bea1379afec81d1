//! The one distance of Ringroad.
//!
//! Products in this field measure with three different Earths, up to 0.5 % apart, and then disagree about who is within
//! 500 m. So there is one formula, and everything that decides by distance uses it:
//!
//! ```text
//! d² = (ky · Δφ · cos(Δλ/2))² + (kx · 2 sin(Δλ/2))²
//! ```
//!
//! with `kx` and `ky` the metres per radian of longitude and latitude on WGS84 at the middle latitude. Away from the
//! poles `cos(Δλ/2)` is 1 and `2 sin(Δλ/2)` is Δλ, and this is the *cheap ruler* of Mapbox. The half angle is there for
//! the poles: where meridians converge, the formula is the law of cosines in the plane, so that two places on opposite
//! sides of a pole are as far apart as they are.
//!
//! Against the exact geodesic (Karney, WGS84), measured by the tests below: within 0.01 % for distances up to 20 km at
//! any latitude, poles included. It is made for a vehicle's surroundings; at 1,000 km it is only right to a few
//! percent, and between antipodes it means nothing.
//!
//! No call computes a sine: `kx` and `ky` come from a table over the latitude, interpolated linearly, and the half
//! angle from a polynomial.

use std::f64::consts::{FRAC_PI_2, TAU};

use super::turns::Place;

/// Equatorial radius of WGS84, metres (NIMA TR8350.2).
pub(super) const RADIUS_M: f64 = 6_378_137.0;

/// First eccentricity of WGS84, squared: f(2 − f) with f = 1/298.257223563 (NIMA TR8350.2).
pub(super) const E2: f64 = (2.0 - 1.0 / 298.257_223_563) / 298.257_223_563;

/// Radians in one step of [`Place`].
pub(super) const STEP: f64 = TAU / (1u64 << 32) as f64;

/// Intervals of the table between equator and pole. An interval is 0.088°, and the error of linear interpolation of
/// a cosine over h radians is h²/8 of its value: 3e-7.
const INTERVALS: usize = 1024;

/// A sum of two latitudes has this many bits below the number of its interval: 2³¹ / 1024.
const FRACTION_BITS: u32 = 21;

/// Metres per radian at one latitude.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    /// Along the parallel.
    pub(super) x: f64,
    /// Along the meridian.
    pub(super) y: f64,
}

/// Computed by the compiler, so there is nothing to initialise and nothing to share. One entry beyond the pole keeps
/// the pole itself inside the last interval.
static SCALES: [Scale; INTERVALS + 2] = {
    let mut scales = [Scale { x: 0.0, y: 0.0 }; INTERVALS + 2];
    let mut i = 0;
    while i <= INTERVALS {
        scales[i] = exact_scale(i as f64 / INTERVALS as f64 * FRAC_PI_2);
        i += 1;
    }
    scales[INTERVALS + 1] = scales[INTERVALS];
    scales
};

/// Metres from `a` to `b` along the ground. Symmetric to the bit.
#[inline]
pub fn metres(a: Place, b: Place) -> f64 {
    let scale = scale_at((a.lat as i64 + b.lat as i64).unsigned_abs());
    let half_lon = sine(b.lon.wrapping_sub(a.lon) as f64 * (STEP / 2.0));
    let dy = scale.y * (b.lat as i64 - a.lat as i64) as f64 * STEP;
    let dx = scale.x * half_lon * 2.0;
    (dy * dy * (1.0 - half_lon * half_lon) + dx * dx).sqrt()
}

/// Metres per radian at a latitude.
#[inline]
pub(super) fn scale(lat: i64) -> Scale {
    scale_at(2 * lat.unsigned_abs().min(1 << 30))
}

/// Metres per radian of longitude at a latitude, for whoever has to know how many degrees a radius spans.
pub(super) fn metres_per_radian_east(lat: i64) -> f64 {
    scale(lat).x
}

/// At a latitude given as twice its distance from the equator, at most 2³¹.
#[inline]
fn scale_at(twice_lat: u64) -> Scale {
    let interval = (twice_lat >> FRACTION_BITS) as usize;
    let fraction = (twice_lat & ((1 << FRACTION_BITS) - 1)) as f64 * (1.0 / (1u64 << FRACTION_BITS) as f64);
    // Latitudes are public fields: one beyond the pole measures nonsense, but it does not panic.
    let (below, above) = match SCALES.get(interval..interval + 2) {
        Some(pair) => (pair[0], pair[1]),
        None => (SCALES[INTERVALS], SCALES[INTERVALS]),
    };
    Scale { x: below.x + (above.x - below.x) * fraction, y: below.y + (above.y - below.y) * fraction }
}

/// The sine of −π/2…π/2, by its series up to x¹³; the first term left out is at most 7e-10.
#[inline]
const fn sine(x: f64) -> f64 {
    let q = x * x;
    let tail = 1.0 - q / 110.0 * (1.0 - q / 156.0);
    x * (1.0 - q / 6.0 * (1.0 - q / 20.0 * (1.0 - q / 42.0 * (1.0 - q / 72.0 * tail))))
}

/// The radii of curvature of the ellipsoid: N cos φ along the parallel, M along the meridian.
const fn exact_scale(latitude: f64) -> Scale {
    // By halves, because the series is sharp to the last bits only for small angles.
    let half = exact_sine(latitude / 2.0);
    let quarter = exact_sine(latitude / 4.0);
    let cos = 1.0 - 2.0 * half * half;
    let sin = 2.0 * half * (1.0 - 2.0 * quarter * quarter);
    let w2 = 1.0 - E2 * sin * sin;
    let w = square_root(w2);
    Scale { x: RADIUS_M / w * cos, y: RADIUS_M * (1.0 - E2) / (w2 * w) }
}

/// The sine of 0…π/4 to the last bits.
const fn exact_sine(x: f64) -> f64 {
    let mut term = x;
    let mut sum = x;
    let mut n = 1.0;
    while n < 12.0 {
        term = -term * x * x / ((2.0 * n) * (2.0 * n + 1.0));
        sum += term;
        n += 1.0;
    }
    sum
}

/// Newton's; `f64::sqrt` is not there for the compiler to call.
const fn square_root(x: f64) -> f64 {
    let mut root = 1.0;
    let mut round = 0;
    while round < 8 {
        root = (root + x / root) / 2.0;
        round += 1;
    }
    root
}

#[cfg(test)]
mod tests {
    use geographiclib_rs::{Geodesic, InverseGeodesic};
    use proptest::prelude::*;

    use super::super::turns::POLE;
    use super::*;

    fn place(lat: f64, lon: f64) -> Place {
        Place::from_e7((lat * 1e7).round() as i32, (lon * 1e7).round() as i32)
    }

    fn geodesic(a: Place, b: Place) -> f64 {
        let ((a_lat, a_lon), (b_lat, b_lon)) = (a.to_degrees(), b.to_degrees());
        Geodesic::wgs84().inverse(a_lat, a_lon, b_lat, b_lon)
    }

    fn check(a: Place, b: Place) {
        let (ours, exact) = (metres(a, b), geodesic(a, b));
        assert!((ours - exact).abs() <= 1e-4 * exact + 0.01, "{ours} m, exactly {exact} m, {a:?} to {b:?}");
        assert_eq!(ours, metres(b, a));
    }

    #[test]
    fn the_table_is_the_ellipsoid() {
        for i in 0..100_000u64 {
            let twice_lat = i * (1 << 31) / 100_000;
            let latitude = twice_lat as f64 / 2.0 * STEP;
            let table = scale_at(twice_lat);
            let w2: f64 = 1.0 - E2 * latitude.sin().powi(2);
            let x = RADIUS_M / w2.sqrt() * latitude.cos();
            let y = RADIUS_M * (1.0 - E2) / w2.powf(1.5);
            assert!((table.x / x - 1.0).abs() < 1e-6, "x at {latitude}: {} for {x}", table.x);
            assert!((table.y / y - 1.0).abs() < 1e-6, "y at {latitude}: {} for {y}", table.y);
        }
    }

    #[test]
    fn the_polynomial_is_the_sine() {
        for i in -1000..=1000 {
            let x = i as f64 / 1000.0 * FRAC_PI_2;
            assert!((sine(x) - x.sin()).abs() < 1e-9, "{x}");
        }
    }

    #[test]
    fn a_degree_at_the_equator() {
        assert!((metres(place(0.0, 0.0), place(0.0, 1.0)) - 111_319.49).abs() < 2.0);
        assert!((metres(place(-0.5, 0.0), place(0.5, 0.0)) - 110_574.39).abs() < 2.0);
    }

    #[test]
    fn a_pole_has_one_place_and_two_sides() {
        let pole = |lon| Place { lat: POLE, lon };
        assert!(metres(pole(0), pole(i32::MIN)) < 1e-6);
        let (near, far) = (place(89.999, 10.0), place(89.998, -170.0));
        assert!((metres(near, far) - 335.08).abs() < 0.05, "{}", metres(near, far));
    }

    #[test]
    fn nonsense_does_not_panic() {
        for lat in [i32::MIN, i32::MAX, POLE, -POLE] {
            for lon in [i32::MIN, 0, i32::MAX] {
                assert!(metres(Place { lat, lon }, Place { lat, lon: 0 }).is_finite());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn anywhere_up_to_20_km(
            lat in -89.9..89.9f64, lon in -180.0..180.0f64, azimuth in 0.0..360.0f64, log_metres in 0.0..4.3f64,
        ) {
            let (b_lat, b_lon, _) = direct(lat, lon, azimuth, 10f64.powf(log_metres));
            check(place(lat, lon), place(b_lat, b_lon));
        }

        #[test]
        fn across_the_antimeridian(
            lat in -89.9..89.9f64, off in -0.05..0.05f64, azimuth in 0.0..360.0f64, log_metres in 0.0..4.3f64,
        ) {
            let lon = if off < 0.0 { 180.0 + off } else { -180.0 + off };
            let (b_lat, b_lon, _) = direct(lat, lon, azimuth, 10f64.powf(log_metres));
            check(place(lat, lon), place(b_lat, b_lon));
        }

        #[test]
        fn around_the_poles(
            colatitude in 0.0..1.0f64, lon in -180.0..180.0f64, azimuth in 0.0..360.0f64, log_metres in 0.0..4.3f64,
            south: bool,
        ) {
            let lat = (90.0 - colatitude * colatitude) * if south { -1.0 } else { 1.0 };
            let (b_lat, b_lon, _) = direct(lat, lon, azimuth, 10f64.powf(log_metres));
            check(place(lat, lon), place(b_lat, b_lon));
        }
    }

    fn direct(lat: f64, lon: f64, azimuth: f64, metres: f64) -> (f64, f64, f64) {
        use geographiclib_rs::DirectGeodesic;
        Geodesic::wgs84().direct(lat, lon, azimuth, metres)
    }
}
