//! What the properties of this room are tried with: places and boxes where the trouble is, and anywhere.

use geographiclib_rs::{DirectGeodesic, Geodesic};
use proptest::prelude::*;

use super::bounds::Bounds;
use super::turns::{POLE, Place};

pub(super) fn place(lat: f64, lon: f64) -> Place {
    Place::from_e7((lat * 1e7).round() as i32, (lon * 1e7).round() as i32)
}

/// An ordinary city, the corner of four quarters, the antimeridian, both poles and their surroundings, the 60° at
/// which cells are first joined; and anywhere.
pub(super) fn anchors() -> impl Strategy<Value = (f64, f64)> {
    prop_oneof![
        Just((30.2672, -97.7431)),
        Just((0.0, 0.0)),
        Just((-17.0, 180.0)),
        Just((60.0, 25.0)),
        Just((78.2, 180.0)),
        Just((90.0, 0.0)),
        Just((-90.0, 0.0)),
        Just((89.97, 77.0)),
        (-90.0..90.0f64, -180.0..180.0f64),
    ]
}

/// Places scattered around an anchor, some degrees of longitude wide near a pole.
pub(super) fn scattered(count: usize) -> impl Strategy<Value = Vec<Place>> {
    anchors().prop_flat_map(move |(lat, lon)| {
        let widen = (1.0 / lat.to_radians().cos().max(1e-4)).min(20_000.0);
        prop::collection::vec((-0.03..0.03f64, -0.03..0.03f64), count).prop_map(move |offsets| {
            offsets
                .iter()
                .map(|(dlat, dlon)| place((lat + dlat).clamp(-90.0, 90.0), wrapped(lon + dlon * widen)))
                .collect()
        })
    })
}

/// Boxes of every size and shape: around an anchor from a few centimetres up, around circles, without height or width
/// or both, all the way round, to a pole, and any at all.
pub(super) fn boxes() -> impl Strategy<Value = Bounds> {
    let sizes = (-6.0..2.2f64, -6.0..2.2f64, any::<(bool, bool)>());
    let shaped = (anchors(), sizes).prop_map(|((lat, lon), (log_height, log_width, (thin, flat)))| {
        let height = if flat { 0.0 } else { 10f64.powf(log_height) };
        let width = if thin { 0.0 } else { 10f64.powf(log_width) };
        from_degrees(lat - height / 2.0, wrapped(lon - width / 2.0), lat + height / 2.0, wrapped(lon + width / 2.0))
    });
    let any_at_all = (-90.0..90.0f64, -90.0..90.0f64, -180.0..180.0f64, -180.0..180.0f64)
        .prop_map(|(a, b, west, east)| from_degrees(a.min(b), west, a.max(b), east));
    let around = (anchors(), -1.0..6.0f64)
        .prop_map(|((lat, lon), log_metres)| Bounds::around(place(lat, lon), 10f64.powf(log_metres)));
    let zones = (-90.0..90.0f64, -3.0..2.2f64)
        .prop_map(|(lat, log_height)| from_degrees(lat, -180.0, lat + 10f64.powf(log_height), 180.0));
    let to_a_pole =
        (0.0..90.0f64, -180.0..180.0f64, -180.0..180.0f64, any::<bool>()).prop_map(|(lat, west, east, south)| {
            if south { from_degrees(-90.0, west, -lat, east) } else { from_degrees(lat, west, 90.0, east) }
        });
    prop_oneof![4 => shaped, 2 => any_at_all, 2 => around, 1 => zones, 1 => to_a_pole]
}

/// Places in a box, on its edges and corners, just outside of them, and anywhere; about forty.
pub(super) fn probes(bounds: &Bounds, seed: u64) -> impl Iterator<Item = Place> + use<> {
    let (bounds, mut random) = (*bounds, seed | 1);
    let mut below = move |end: u64| {
        // Knuth's MMIX generator.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 31) % end
    };
    let height = bounds.north.wrapping_sub(bounds.south) as u64;
    (0..40).map(move |kind| {
        let lat = match kind % 5 {
            0 => bounds.south,
            1 => bounds.north,
            2 => bounds.south - below(5) as i32,
            3 => bounds.north + below(5) as i32,
            _ => (bounds.south as i64 + below(height + 1) as i64) as i32,
        };
        let lon = match kind / 5 {
            0 => bounds.west,
            1 => bounds.west.wrapping_add_unsigned(bounds.width),
            2 => bounds.west.wrapping_sub(below(5) as i32),
            3 => bounds.west.wrapping_add_unsigned(bounds.width).wrapping_add(below(5) as i32),
            4 => below(1 << 32) as u32 as i32,
            _ => bounds.west.wrapping_add_unsigned(below(bounds.width as u64 + 1) as u32),
        };
        Place { lat: lat.clamp(-POLE, POLE), lon }
    })
}

/// The place so far away, by the exact geodesic.
pub(super) fn far(from: Place, azimuth: f64, metres: f64) -> Place {
    let (lat, lon) = from.to_degrees();
    let (lat, lon): (f64, f64) = Geodesic::wgs84().direct(lat, lon, azimuth, metres);
    place(lat, wrapped(lon))
}

fn wrapped(lon: f64) -> f64 {
    (lon + 180.0).rem_euclid(360.0) - 180.0
}

fn from_degrees(south: f64, west: f64, north: f64, east: f64) -> Bounds {
    let [south, north] = [south, north].map(|lat| (lat.clamp(-90.0, 90.0) * 1e7).round() as i32);
    let [west, east] = [west, east].map(|lon| (lon * 1e7).round() as i32);
    Bounds::from_e7(south, west, north, east).expect("edges on Earth, in order")
}
