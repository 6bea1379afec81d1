//! Where vehicles are, such that it is known who is near whom.

use ringroad::geo::distance::metres;
use ringroad::geo::turns::Place;

use crate::client::Neighbours;

/// The radius of a neighbourhood, `vehicles.nearby_radius_m`.
const RADIUS_M: f64 = 500.0;

/// The middle of it all, degrees.
const MIDDLE: (f64, f64) = (30.2672, -97.7431);

/// Metres of a degree of a great circle.
const DEGREE_M: f64 = 111_195.0;

/// Neighbours of everyone on [`ring_road`].
pub const NEIGHBOURS: usize = 31;

/// Two lanes of a ring road; with 58 m from one vehicle to the next and 240 m between the lanes everyone has 31 neighbours:
/// 8 on each side in its own lane, the one opposite, and 7 on each side of that. The nearest miss is 13 m.
const GAP_M: f64 = 58.0;
const LANES_M: f64 = 240.0;

/// So far along the road nobody is near any more.
const REACH: usize = 12;

/// Vehicles abreast on a ring that is so small that it is looked at whole.
const SMALL: usize = 200;

/// Positions, 1e-7 degree, and who is near whom.
pub struct Places {
    pub at: Vec<(i32, i32)>,
    pub neighbours: Neighbours,
}

/// Vehicles along a ring road, all of them with as many neighbours (if there are 1,000 or more).
pub fn ring_road(vehicles: usize) -> Places {
    let abreast = vehicles / 2;
    let radius_m = abreast as f64 * GAP_M / std::f64::consts::TAU;
    let at: Vec<(i32, i32)> = (0..abreast * 2)
        .map(|number| {
            let angle = std::f64::consts::TAU * (number / 2) as f64 / abreast as f64;
            let radius_m = radius_m + if number % 2 == 0 { LANES_M / 2.0 } else { -LANES_M / 2.0 };
            around(radius_m * angle.sin(), radius_m * angle.cos())
        })
        .collect();
    let near = |one: usize, other: usize| one != other && metres(place(at[one]), place(at[other])) <= RADIUS_M;
    let neighbours = (0..at.len())
        .map(|one| {
            // Across a small ring all may be near.
            let beside =
                if abreast < SMALL { 0..abreast } else { abreast + one / 2 - REACH..abreast + one / 2 + REACH + 1 };
            let others = beside.flat_map(|row| [row % abreast * 2, row % abreast * 2 + 1]);
            let mut near: Vec<u32> = others.filter(|other| near(one, *other)).map(|other| other as u32).collect();
            near.sort_unstable();
            near
        })
        .collect();
    Places { at, neighbours }
}

/// Vehicles that have nobody near.
pub fn apart(vehicles: usize) -> Places {
    let side = (vehicles as f64).sqrt().ceil() as usize;
    let step_m = RADIUS_M * 2.5;
    let at = (0..vehicles).map(|number| around((number / side) as f64 * step_m, (number % side) as f64 * step_m));
    Places { at: at.collect(), neighbours: vec![Vec::new(); vehicles] }
}

fn place((lat_e7, lon_e7): (i32, i32)) -> Place {
    Place::from_e7(lat_e7, lon_e7)
}

/// So far north and east of the middle.
fn around(north_m: f64, east_m: f64) -> (i32, i32) {
    let lat = MIDDLE.0 + north_m / DEGREE_M;
    let lon = MIDDLE.1 + east_m / DEGREE_M / lat.to_radians().cos();
    ((lat * 1e7) as i32, (lon * 1e7) as i32)
}
