//! Vehicles that wander in a square.
//!
//! They drive straight, turn now and then, and are reflected by the border: that keeps the density equal all over the
//! square, so the number of neighbours is what area and radius say, and it stays so however long it runs.

use std::f64::consts::{PI, TAU};

use super::Fix;
use super::area::metres_per_degree;
use crate::dice::Dice;
use crate::wire::units::{lat_e7, lon_e7};

/// City traffic: walking pace to a fast arterial road.
const SPEED_MPS: (f64, f64) = (3.0, 20.0);

/// A vehicle turns after this many seconds.
const STRAIGHT_S: (f64, f64) = (5.0, 40.0);

/// All vehicles of a square.
#[derive(Clone, Debug)]
pub struct Roam {
    centre: (f64, f64),
    metres_per_degree: (f64, f64),
    side_m: f64,
    vehicles: Vec<Wanderer>,
}

/// One of them; metres east and north of the square's south-west corner.
#[derive(Clone, Debug)]
struct Wanderer {
    x: f64,
    y: f64,
    /// Clockwise from north, radians.
    heading: f64,
    speed_mps: f64,
    at_ms: u64,
    turns_at_ms: u64,
    /// Its own, so that its way does not depend on who is asked first.
    dice: Dice,
}

impl Roam {
    /// `count` vehicles at random places of a square around `centre` (degrees north and east).
    pub fn new(count: u32, centre: (f64, f64), side_m: f64, seed: u64) -> Roam {
        let vehicles = (0..count)
            .map(|vehicle| {
                let mut dice = Dice::new(seed, vehicle as u64);
                Wanderer {
                    x: dice.between(0.0, side_m),
                    y: dice.between(0.0, side_m),
                    heading: dice.between(0.0, TAU),
                    speed_mps: dice.between(SPEED_MPS.0, SPEED_MPS.1),
                    at_ms: 0,
                    turns_at_ms: (dice.between(0.0, STRAIGHT_S.1) * 1e3) as u64,
                    dice,
                }
            })
            .collect();
        Roam { centre, metres_per_degree: metres_per_degree(centre.0), side_m, vehicles }
    }

    /// Where a vehicle is at a time, which must not go back.
    pub fn fix(&mut self, vehicle: u32, at_ms: u64) -> Fix {
        let wanderer = &mut self.vehicles[vehicle as usize];
        while wanderer.turns_at_ms <= at_ms {
            wanderer.drive(wanderer.turns_at_ms, self.side_m);
            // Up to a right angle to either side.
            wanderer.heading += wanderer.dice.between(-PI / 2.0, PI / 2.0);
            wanderer.turns_at_ms += (wanderer.dice.between(STRAIGHT_S.0, STRAIGHT_S.1) * 1e3) as u64;
        }
        wanderer.drive(at_ms, self.side_m);
        let (east, north) = self.metres_per_degree;
        Fix {
            lat_e7: lat_e7(self.centre.0 + (wanderer.y - self.side_m / 2.0) / north),
            lon_e7: lon_e7(self.centre.1 + (wanderer.x - self.side_m / 2.0) / east),
            speed_mps: wanderer.speed_mps,
            heading_degrees: Some(wanderer.heading.rem_euclid(TAU).to_degrees()),
        }
    }
}

impl Wanderer {
    fn drive(&mut self, until_ms: u64, side_m: f64) {
        let way = self.speed_mps * until_ms.saturating_sub(self.at_ms) as f64 / 1e3;
        self.at_ms = self.at_ms.max(until_ms);
        let (x, east) = reflected(self.x + way * self.heading.sin(), side_m);
        let (y, north) = reflected(self.y + way * self.heading.cos(), side_m);
        (self.x, self.y) = (x, y);
        self.heading = (east * self.heading.sin()).atan2(north * self.heading.cos());
    }
}

/// A coordinate thrown back by walls at 0 and `side`: where it is, and +1 or −1 for the direction it moves on in.
fn reflected(coordinate: f64, side: f64) -> (f64, f64) {
    let unfolded = coordinate.rem_euclid(2.0 * side);
    if unfolded <= side { (unfolded, 1.0) } else { (2.0 * side - unfolded, -1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::Place;
    use crate::geo::distance::metres;

    const AUSTIN: (f64, f64) = (30.2672, -97.7431);

    #[test]
    fn walls_throw_back() {
        assert_eq!(reflected(5.0, 10.0), (5.0, 1.0));
        assert_eq!(reflected(12.0, 10.0), (8.0, -1.0));
        assert_eq!(reflected(-3.0, 10.0), (3.0, -1.0));
        assert_eq!(reflected(25.0, 10.0), (5.0, 1.0));
    }

    #[test]
    fn one_seed_one_drive() {
        let mut drives = [3, 3, 4].map(|seed| Roam::new(5, AUSTIN, 2000.0, seed));
        let ends = drives.each_mut().map(|roam| [1_000, 30_000, 90_000].map(|at_ms| roam.fix(2, at_ms)));
        assert_eq!(ends[0], ends[1]);
        assert_ne!(ends[0], ends[2]);
    }

    #[test]
    fn nobody_leaves_or_jumps_and_the_density_stays_equal() {
        for centre in [AUSTIN, (-17.0, 180.0), (69.6, 18.9)] {
            let mut roam = Roam::new(400, centre, 2000.0, 7);
            let middle = Place::from_e7(lat_e7(centre.0), lon_e7(centre.1));
            let mut last: Vec<_> = (0..400).map(|vehicle| roam.fix(vehicle, 0).place()).collect();
            let mut inner = 0;
            for second in 1..=300 {
                for vehicle in 0..400 {
                    let fix = roam.fix(vehicle, second * 1000);
                    let moved = metres(last[vehicle as usize], fix.place());
                    assert!(moved <= fix.speed_mps * 1.001 + 0.02, "{moved} m in a second");
                    last[vehicle as usize] = fix.place();
                    let off = metres(middle, fix.place());
                    assert!(off <= 1_416.0, "{off} m off");
                    inner += (off <= 500.0) as u32;
                }
            }
            // The circle is π/16 of the square.
            let share = inner as f64 / (400.0 * 300.0);
            assert!((share - PI / 16.0).abs() < 0.03, "{share}");
        }
    }
}
