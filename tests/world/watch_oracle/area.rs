//! Areas with two edges, computed the slow way.

use ringroad::geo::Place;
use ringroad::geo::distance::metres;

/// Whether something is in view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Seen {
    #[default]
    No,
    /// Both are right: it depends on an order that nothing promises, or on a hair's breadth.
    Maybe,
    Yes,
}

/// Latitude and longitude, 1e-7 degree.
pub type E7 = (i32, i32);

/// Half of the Earth's circumference in longitude.
const HALF_E7: i64 = 1_800_000_000;

/// How far a vehicle leaves a view before it is out of it.
const MARGIN_M: f64 = 20.0;

/// Distances to an edge are right to within this.
const HAIR_M: f64 = 0.03;

pub fn place((lat, lon): E7) -> Place {
    Place::from_e7(lat, lon)
}

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Area {
    /// South, west, north, east; 1e-7 degree.
    Box([i32; 4]),
    /// A radius around a place, and that beyond which one is out.
    Circle { centre: E7, enter_m: f64, exit_m: f64 },
}

impl Area {
    pub fn circle(centre: E7, radius_m: f64, exit_factor: f64) -> Area {
        Area::Circle { centre, enter_m: radius_m, exit_m: (radius_m * exit_factor).max(radius_m + MARGIN_M) }
    }

    /// Whether a vehicle is in view that was, or was not.
    pub fn sees(&self, at: E7, was: Seen) -> Seen {
        match was {
            Seen::Yes => self.keeps(at),
            Seen::No if self.takes(at) => Seen::Yes,
            Seen::No => Seen::No,
            Seen::Maybe if self.takes(at) => Seen::Yes,
            Seen::Maybe if self.keeps(at) == Seen::No => Seen::No,
            Seen::Maybe => Seen::Maybe,
        }
    }

    /// Whether it is within the inner edge.
    pub fn takes(&self, at: E7) -> bool {
        match *self {
            Area::Box(edges) => contains(edges, at),
            Area::Circle { centre, enter_m, .. } => metres(place(centre), place(at)) <= enter_m,
        }
    }

    /// Whether it is within the outer edge.
    pub fn keeps(&self, at: E7) -> Seen {
        let within = |yes| if yes { Seen::Yes } else { Seen::No };
        match *self {
            Area::Box(edges) => match metres_outside(edges, at) - MARGIN_M {
                beyond if beyond.abs() < HAIR_M => Seen::Maybe,
                beyond => within(beyond < 0.0),
            },
            Area::Circle { centre, exit_m, .. } => within(metres(place(centre), place(at)) <= exit_m),
        }
    }

    /// The middle.
    pub fn centre(&self) -> E7 {
        match *self {
            Area::Box(edges @ [south, west, north, _]) => {
                let lat = ((i64::from(south) + i64::from(north)) / 2) as i32;
                let lat = match (is_all_round(edges), south == -900_000_000, north == 900_000_000) {
                    (true, true, false) => south,
                    (true, false, true) => north,
                    _ => lat,
                };
                (lat, normal(i64::from(west) + width(edges) / 2))
            }
            Area::Circle { centre, .. } => centre,
        }
    }
}

fn is_all_round([_, west, _, east]: [i32; 4]) -> bool {
    (i64::from(west), i64::from(east)) == (-HALF_E7, HALF_E7)
}

/// From the western edge to the eastern.
fn width(edges @ [_, west, _, east]: [i32; 4]) -> i64 {
    if is_all_round(edges) { 2 * HALF_E7 } else { (i64::from(east) - i64::from(west)).rem_euclid(2 * HALF_E7) }
}

/// A longitude as wires have it.
pub fn normal(lon: i64) -> i32 {
    let lon = (lon + HALF_E7).rem_euclid(2 * HALF_E7) - HALF_E7;
    if lon == -HALF_E7 { HALF_E7 as i32 } else { lon as i32 }
}

fn is_within_longitudes(edges: [i32; 4], lon: i32) -> bool {
    (i64::from(lon) - i64::from(edges[1])).rem_euclid(2 * HALF_E7) <= width(edges)
}

fn contains(edges @ [south, _, north, _]: [i32; 4], (lat, lon): E7) -> bool {
    (south..=north).contains(&lat) && is_within_longitudes(edges, lon)
}

/// How far a place is from a box, if that is not much more than the margin.
fn metres_outside(edges @ [south, west, north, east]: [i32; 4], at @ (lat, lon): E7) -> f64 {
    let (lat64, about) = (i64::from(lat), 5_000);
    if lat64 < i64::from(south) - about || lat64 > i64::from(north) + about {
        return f64::INFINITY;
    }
    let to = |lat: i32, lon: i32| metres(place(at), place((lat, lon)));
    if is_within_longitudes(edges, lon) {
        return to(lat.clamp(south, north), lon);
    }
    // The nearest point of each of the two meridians, by thirds.
    let edge = |lon: i32| {
        let (mut from, mut until) = (south.max(lat - 10_000), north.min(lat.saturating_add(10_000)));
        while until - from > 2 {
            let (a, b) = (from + (until - from) / 3, until - (until - from) / 3);
            if to(a, lon) <= to(b, lon) { until = b } else { from = a }
        }
        to(from, lon).min(to(until, lon))
    };
    edge(west).min(edge(east))
}
