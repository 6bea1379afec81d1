//! SAE J2735 units: what a vehicle measures, as the integers of a wire, and back.
//!
//! Each quantity has its own sentinel for *unavailable*, and the conversions keep what was measured away from it: speed
//! stops at 8190, a heading of 359.995° becomes north and not 28800. What is not a number is unavailable. Ranges and
//! sentinels are those of the data elements named at each function.

/// Latitude, unavailable. DE_Latitude: 1e-7 degree, ±900000000.
pub const LAT_UNAVAILABLE: i32 = 900_000_001;
/// Longitude, unavailable. DE_Longitude: 1e-7 degree, −1799999999…1800000000.
pub const LON_UNAVAILABLE: i32 = 1_800_000_001;
/// Elevation, unavailable, as stored: DE_Elevation's −4096 with 4096 added.
pub const ELEVATION_UNAVAILABLE: u16 = 0;
/// Speed, unavailable. DE_Speed: 0.02 m/s, 13 bits.
pub const SPEED_UNAVAILABLE: u16 = 8191;
/// Heading, unavailable. DE_Heading: 0.0125°, 0…28799.
pub const HEADING_UNAVAILABLE: u16 = 28_800;
/// Yaw rate, unavailable. DE_YawRate, 0.01°/s, ±32767, has no sentinel; this value lies outside of its range.
pub const YAW_UNAVAILABLE: i16 = i16::MIN;
/// Acceleration, unavailable. DE_Acceleration: 0.01 m/s², ±2000.
pub const ACCELERATION_UNAVAILABLE: i16 = 2001;
/// Time within the minute, unavailable. DE_DSecond: ms.
pub const SEC_MARK_UNAVAILABLE: u16 = 65_535;
/// Accuracy, unavailable. DE_SemiMajorAxisAccuracy: 0.05 m.
pub const ACCURACY_UNAVAILABLE: u8 = 255;

/// DE_DSecond ends at 60999 (a leap second); from here up to the sentinel it is reserved.
const SEC_MARK_RESERVED: u16 = 61_000;

/// How far the clock of a vehicle may be ahead of the gateway's for its times to be resolved right.
pub const CLOCK_AHEAD_MS_MAX: u64 = 10_000;

/// Degrees north to 1e-7 degree; beyond a pole is the pole.
pub fn lat_e7(degrees: f64) -> i32 {
    if degrees.is_finite() { scaled(degrees, 1e7, -900_000_000.0, 900_000_000.0) } else { LAT_UNAVAILABLE }
}

/// Degrees east to 1e-7 degree; −180° is written as +180°, and what lies beyond wraps.
pub fn lon_e7(degrees: f64) -> i32 {
    if !degrees.is_finite() {
        return LON_UNAVAILABLE;
    }
    // Only what is outside is folded: folding costs a bit of precision, and then a number of 7 decimals would not
    // come back as it was.
    let degrees = if degrees.abs() <= 180.0 { degrees } else { (degrees + 180.0).rem_euclid(360.0) - 180.0 };
    match rounded(degrees * 1e7) {
        -1_800_000_000 => 1_800_000_000,
        e7 => e7,
    }
}

/// Whether it is a latitude that is available.
pub fn is_lat_e7(wire: i32) -> bool {
    (-900_000_000..=900_000_000).contains(&wire)
}

/// Whether it is a longitude that is available.
pub fn is_lon_e7(wire: i32) -> bool {
    (-1_799_999_999..=1_800_000_000).contains(&wire)
}

/// 1e-7 degree to degrees.
pub fn degrees(e7: i32) -> f64 {
    e7 as f64 / 1e7
}

/// Metres above the ellipsoid to 0.1 m, stored with 4096 added: the largest, 61439, does not fit an `i16`.
pub fn elevation(metres: Option<f64>) -> u16 {
    // DE_Elevation gives −409.5 m the number −4095; −4096 is its sentinel.
    measured(metres).map_or(ELEVATION_UNAVAILABLE, |m| (scaled(m, 10.0, -4095.0, 61_439.0) + 4096) as u16)
}

/// Back to metres.
pub fn elevation_m(stored: u16) -> Option<f64> {
    (stored != ELEVATION_UNAVAILABLE).then(|| (stored as i32 - 4096) as f64 / 10.0)
}

/// Metres per second to 0.02 m/s, at most 8190 (163.8 m/s).
pub fn speed(mps: Option<f64>) -> u16 {
    measured(mps).map_or(SPEED_UNAVAILABLE, |v| scaled(v, 50.0, 0.0, 8190.0) as u16)
}

/// Back to metres per second.
pub fn speed_mps(wire: u16) -> Option<f64> {
    (wire < SPEED_UNAVAILABLE).then(|| wire as f64 / 50.0)
}

/// Degrees clockwise from north to 0.0125°, 0…28799.
pub fn heading(degrees: Option<f64>) -> u16 {
    measured(degrees).filter(|d| d.is_finite()).map_or(HEADING_UNAVAILABLE, |d| {
        // Most come as they should be, and a remainder costs more than all else here.
        let d = if (0.0..360.0).contains(&d) { d } else { d.rem_euclid(360.0) };
        rounded(d * 80.0) as u16 % 28_800
    })
}

/// Back to degrees.
pub fn heading_degrees(wire: u16) -> Option<f64> {
    (wire < HEADING_UNAVAILABLE).then(|| wire as f64 / 80.0)
}

/// Degrees per second, to the right positive, to 0.01°/s.
pub fn yaw(dps: Option<f64>) -> i16 {
    measured(dps).map_or(YAW_UNAVAILABLE, |r| scaled(r, 100.0, -32_767.0, 32_767.0) as i16)
}

/// Back to degrees per second.
pub fn yaw_dps(wire: i16) -> Option<f64> {
    (wire != YAW_UNAVAILABLE).then(|| wire as f64 / 100.0)
}

/// Metres per second squared to 0.01 m/s², ±2000.
pub fn acceleration(mps2: Option<f64>) -> i16 {
    measured(mps2).map_or(ACCELERATION_UNAVAILABLE, |a| scaled(a, 100.0, -2000.0, 2000.0) as i16)
}

/// Back to metres per second squared.
pub fn acceleration_mps2(wire: i16) -> Option<f64> {
    (-2000..=2000).contains(&wire).then(|| wire as f64 / 100.0)
}

/// Whether it is an acceleration, or its sentinel.
pub fn is_acceleration(wire: i16) -> bool {
    (-2000..=ACCELERATION_UNAVAILABLE).contains(&wire)
}

/// Metres of the semi-major axis to 0.05 m; 254 stands for 12.7 m and more.
pub fn accuracy(metres: Option<f64>) -> u8 {
    measured(metres).map_or(ACCURACY_UNAVAILABLE, |m| scaled(m, 20.0, 0.0, 254.0) as u8)
}

/// Back to metres; 12.7 may be any distance from there.
pub fn accuracy_m(wire: u8) -> Option<f64> {
    (wire != ACCURACY_UNAVAILABLE).then(|| wire as f64 / 20.0)
}

/// Milliseconds within the UTC minute.
pub fn sec_mark(unix_ms: u64) -> u16 {
    (unix_ms % 60_000) as u16
}

/// Whether it is a time within a minute, or its sentinel.
pub fn is_sec_mark(wire: u16) -> bool {
    wire < SEC_MARK_RESERVED || wire == SEC_MARK_UNAVAILABLE
}

/// Whether [`resolve_sec_mark`] finds this instant by its secMark and that base.
pub fn is_resolved_from(unix_ms: u64, base_unix_ms: u64) -> bool {
    base_unix_ms.saturating_add(CLOCK_AHEAD_MS_MAX).checked_sub(unix_ms).is_some_and(|back_ms| back_ms < 60_000)
}

/// The instant that a time within a minute means, given another at which it was already known.
///
/// A position is older than the frame that carries it, by up to the minute after which its vehicle counts as gone, or
/// its clock is a little ahead: so it is the last such instant that is at most [`CLOCK_AHEAD_MS_MAX`] after the base.
pub fn resolve_sec_mark(sec_mark: u16, base_unix_ms: u64) -> Option<u64> {
    if sec_mark >= SEC_MARK_RESERVED {
        return None;
    }
    let latest = base_unix_ms.checked_add(CLOCK_AHEAD_MS_MAX)?;
    let back = (latest % 60_000 + 60_000 - sec_mark as u64 % 60_000) % 60_000;
    // A leap second has no number of its own in Unix time; it is the first second of the next minute.
    latest.checked_sub(back)
}

fn measured(value: Option<f64>) -> Option<f64> {
    value.filter(|v| !v.is_nan())
}

/// To the nearest integer between two integers.
fn scaled(value: f64, per_unit: f64, least: f64, most: f64) -> i32 {
    rounded((value * per_unit).clamp(least, most))
}

/// The nearest integer, halves away from zero, of what an `i32` holds: [`f64::round`] is a call where the processor is
/// not known to have the instruction.
fn rounded(value: f64) -> i32 {
    let whole = value as i32;
    let rest = value - f64::from(whole);
    whole + i32::from(rest >= 0.5) - i32::from(rest <= -0.5)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_measured_becomes_a_sentinel() {
        assert_eq!(speed(Some(1e9)), 8190);
        assert_eq!(speed(Some(163.82)), 8190);
        assert_eq!(speed(Some(-3.0)), 0);
        assert_eq!(heading(Some(359.995)), 0);
        assert_eq!(heading(Some(360.0)), 0);
        assert_eq!(heading(Some(-0.001)), 0);
        assert_eq!(heading(Some(-90.0)), 21_600);
        assert_eq!(elevation(Some(-5000.0)), 1);
        assert_eq!(elevation(Some(99_999.0)), 65_535);
        assert_eq!(acceleration(Some(50.0)), 2000);
        assert_eq!(acceleration(Some(-50.0)), -2000);
        assert_eq!(yaw(Some(-1e4)), -32_767);
        assert_eq!(accuracy(Some(12.7)), 254);
        assert_eq!(accuracy(Some(1e6)), 254);
        assert_eq!(accuracy(Some(0.0)), 0);
    }

    #[test]
    fn nothing_is_measured_without_a_number() {
        for none in [None, Some(f64::NAN)] {
            assert_eq!(speed_mps(speed(none)), None);
            assert_eq!(heading_degrees(heading(none)), None);
            assert_eq!(elevation_m(elevation(none)), None);
            assert_eq!(acceleration_mps2(acceleration(none)), None);
            assert_eq!(yaw_dps(yaw(none)), None);
            assert_eq!(accuracy_m(accuracy(none)), None);
        }
        assert_eq!(heading(Some(f64::INFINITY)), HEADING_UNAVAILABLE);
        assert_eq!(lat_e7(f64::NAN), LAT_UNAVAILABLE);
        assert_eq!(lon_e7(f64::INFINITY), LON_UNAVAILABLE);
    }

    proptest! {
        #[test]
        fn rounding_is_that_of_the_standard_library(value in -2_147_483_647.0..2_147_483_647.0f64, whole in -50_000..50_000) {
            let half = f64::from(whole) + 0.5;
            for value in [value, value / 1e5, value / 1e9, half, half.next_up(), half.next_down(), f64::from(whole)] {
                prop_assert_eq!(f64::from(rounded(value)), value.round() + 0.0, "{}", value);
            }
        }
    }

    #[test]
    fn half_a_turn_has_one_name() {
        assert_eq!(lon_e7(-180.0), 1_800_000_000);
        assert_eq!(lon_e7(180.0), 1_800_000_000);
        assert_eq!(lon_e7(-179.999_999_99), 1_800_000_000);
        assert_eq!(lon_e7(-179.999_999_9), -1_799_999_999);
        assert_eq!(lon_e7(190.0), -1_700_000_000);
        assert_eq!(lat_e7(90.5), 900_000_000);
    }

    #[test]
    fn every_integer_comes_back() {
        for wire in 0..8191 {
            assert_eq!(speed(speed_mps(wire)), wire);
        }
        for wire in 0..28_800 {
            assert_eq!(heading(heading_degrees(wire)), wire);
        }
        for wire in 0..=u16::MAX {
            assert_eq!(elevation(elevation_m(wire)), wire);
            assert_eq!(yaw(yaw_dps(wire as i16)), wire as i16);
        }
        for wire in -2000..=2001 {
            assert_eq!(acceleration(acceleration_mps2(wire)), wire);
        }
        for wire in 0..=255 {
            assert_eq!(accuracy(accuracy_m(wire)), wire);
        }
        for e7 in (-1_799_999_999..=1_800_000_000).step_by(999_983) {
            assert_eq!(lon_e7(degrees(e7)), e7);
        }
    }

    #[test]
    fn the_minute_is_found() {
        let minute = 29_333_333 * 60_000;
        assert_eq!(resolve_sec_mark(30_000, minute + 30_000), Some(minute + 30_000));
        // Sent just before the minute, received just after; and the other way round with a fast clock.
        assert_eq!(resolve_sec_mark(59_900, minute + 50), Some(minute - 100));
        assert_eq!(resolve_sec_mark(50, minute - 100), Some(minute + 50));
        // A parked car in a snapshot, 49 s old.
        assert_eq!(resolve_sec_mark(1_000, minute + 50_000), Some(minute + 1_000));
        assert_eq!(resolve_sec_mark(10_001, minute), Some(minute - 49_999));
        assert_eq!(resolve_sec_mark(10_000, minute), Some(minute + 10_000));
    }

    #[test]
    fn times_that_are_none() {
        assert_eq!(resolve_sec_mark(SEC_MARK_UNAVAILABLE, 1_760_000_000_000), None);
        assert_eq!(resolve_sec_mark(61_000, 1_760_000_000_000), None);
        assert_eq!(resolve_sec_mark(60_500, 1_760_000_040_000), Some(1_760_000_040_500));
        assert_eq!(resolve_sec_mark(0, u64::MAX), None);
        assert_eq!(resolve_sec_mark(59_000, 0), None);
    }
}
