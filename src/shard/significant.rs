//! Which moves are worth telling, if the operator has it so.
//!
//! The rule is that of ETSI EN 302 637-2, section 6.1.3, by which vehicles generate Cooperative Awareness Messages: the
//! heading differs by more than 4°, the position by more than 4 m or the speed by more than 0.5 m/s from what was told
//! last, or that was a second ago. What is not worth telling is still the vehicle's newest state, and is told when that
//! second is over.

use crate::geo::{Place, distance};
use crate::turn::Now;
use crate::wire::state::State;
use crate::wire::units;

use super::Timer;
use super::fanout::Fanout;
use super::vehicles::{Position, Slot};
use super::world::World;

const METRES: f64 = 4.0;
const DEGREES: f64 = 4.0;
const METRES_PER_SECOND: f64 = 0.5;
const MS: u64 = 1_000;

/// What was told last of a vehicle.
#[derive(Debug)]
pub struct Shown {
    place: Place,
    heading: Option<f64>,
    speed: Option<f64>,
    at_ms: u64,
    /// A timer will tell the rest.
    pending: bool,
}

impl Shown {
    fn of(place: Place, state: &State, now: Now) -> Shown {
        let heading = units::heading_degrees(state.heading);
        let speed = units::speed_mps(state.speed);
        Shown { place, heading, speed, at_ms: now.mono_ms, pending: false }
    }

    /// Whether this is worth telling after that.
    fn differs(&self, before: &Shown) -> bool {
        let turned = match (self.heading, before.heading) {
            (Some(to), Some(from)) => {
                let apart = (to - from).abs();
                apart.min(360.0 - apart) > DEGREES
            }
            (to, from) => to.is_some() != from.is_some(),
        };
        let sped = match (self.speed, before.speed) {
            (Some(to), Some(from)) => (to - from).abs() > METRES_PER_SECOND,
            (to, from) => to.is_some() != from.is_some(),
        };
        turned || sped || distance::metres(self.place, before.place) > METRES || self.at_ms >= before.at_ms + MS
    }
}

impl World {
    /// Whether a vehicle's newest state is to be told now.
    pub fn is_significant(&mut self, now: Now, index: u32, out: &mut Fanout) -> bool {
        if !self.config.vehicles.significant_changes {
            return true;
        }
        let slot = self.vehicles.slot(index);
        let vehicle = self.vehicles.at_mut(index);
        let Some(Position { place, sample, .. }) = vehicle.position else { return true };
        let shown = Shown::of(place, &sample.state(), now);
        match &mut vehicle.shown {
            Some(before) if !shown.differs(before) => {
                out.counters.states_insignificant += 1;
                if !std::mem::replace(&mut before.pending, true) {
                    out.timers.set(before.at_ms + MS, Timer::Show(self.id, slot));
                }
                false
            }
            _ => {
                vehicle.shown = Some(Box::new(shown));
                true
            }
        }
    }

    /// A second has passed since a vehicle's state was told.
    pub fn show(&mut self, now: Now, slot: Slot) {
        let Some(vehicle) = self.vehicles.find(slot) else { return };
        // If it was told meanwhile, what waited then has been told with it.
        if vehicle.shown.as_ref().is_some_and(|shown| shown.pending && now.mono_ms >= shown.at_ms + MS) {
            vehicle.shown = None;
            self.mark_moved(slot.index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_significant_beyond_each_of_the_four_bounds() {
        let shown = |north_m: f64, heading: Option<f64>, speed: Option<f64>, at_ms| {
            let place = Place::from_e7((north_m / 111_200.0 * 1e7) as i32 + 480_000_000, 110_000_000);
            let state = State { heading: units::heading(heading), speed: units::speed(speed), ..State::unavailable(1) };
            Shown::of(place, &state, Now { mono_ms: at_ms, unix_ms: 0 })
        };
        let before = shown(0.0, Some(358.0), Some(10.0), 5_000);
        for (after, expected) in [
            (shown(3.9, Some(358.0), Some(10.0), 5_999), false),
            (shown(4.1, Some(358.0), Some(10.0), 5_100), true),
            (shown(0.0, Some(1.9), Some(10.0), 5_100), false),
            (shown(0.0, Some(2.1), Some(10.0), 5_100), true),
            (shown(0.0, Some(353.9), Some(10.0), 5_100), true),
            (shown(0.0, Some(358.0), Some(10.48), 5_100), false),
            (shown(0.0, Some(358.0), Some(10.52), 5_100), true),
            (shown(0.0, None, Some(10.0), 5_100), true),
            (shown(0.0, Some(358.0), None, 5_100), true),
            (shown(0.0, Some(358.0), Some(10.0), 6_000), true),
        ] {
            assert_eq!(after.differs(&before), expected, "{after:?}");
        }
    }
}
