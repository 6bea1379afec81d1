//! Who is owed an update: what the gateway may have known, and who was in a crowd.

use super::{Ledger, NEVER, ROUNDING_M, Update};
use crate::geo::Hysteresis;
use crate::geo::distance::metres;

/// `vehicles.nearby_exit_factor` of a gateway with the usual settings.
const EXIT_FACTOR: f64 = 1.1;

/// So long after a vehicle was in a crowd, the gateway may not yet have chosen neighbours for the places that are free:
/// `vehicles.crowd_ms`.
const CROWD_MS: u64 = 1_000;

/// For so long a count of those around a vehicle is used again.
const COUNT_MS: u64 = 250;

/// A count of those around a vehicle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowd {
    at_ms: u64,
    count: u32,
    /// How many were in the index then.
    indexed: u32,
    /// When they were last more than it is told of.
    full_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has to come.
    Owed,
    /// It may come.
    Unsure,
    /// It must not come.
    Wrong,
}

impl Ledger {
    /// By every position of `receiver` that the gateway may have known when it handled the update at `at`.
    pub(super) fn verdict(&self, sender: u32, receiver: u32, at: usize, lag_ms: u64) -> Verdict {
        if receiver == sender {
            return Verdict::Wrong;
        }
        let Update { sent_ms, place, .. } = self.updates[at];
        let sent = self.vehicles[receiver as usize].sent;
        let (mut within, mut beyond) = (false, false);
        for number in (sent.saturating_sub(self.ring as u32)..sent).rev() {
            let known = &self.updates[self.at(receiver, number)];
            if known.sent_ms > sent_ms + lag_ms {
                continue;
            }
            let distance_m = metres(place, known.place);
            within |= distance_m <= self.promise.radius_m + ROUNDING_M;
            beyond |= distance_m > self.promise.radius_m - ROUNDING_M;
            if known.sent_ms + lag_ms <= sent_ms {
                break;
            }
        }
        match (within, beyond) {
            (true, false) if self.was_there(sender, receiver, at, lag_ms) => Verdict::Owed,
            (true, _) => Verdict::Unsure,
            (false, _) => Verdict::Wrong,
        }
    }

    /// Whether both were connected for long enough before and after the update, and the receiver's first position had
    /// certainly been handled.
    pub(super) fn was_there(&self, sender: u32, receiver: u32, at: usize, lag_ms: u64) -> bool {
        let sent_ms = self.updates[at].sent_ms;
        self.vehicles[receiver as usize].first_ms.saturating_add(lag_ms) <= sent_ms
            && self.stayed(receiver, sent_ms, lag_ms)
            && self.stayed(sender, sent_ms, lag_ms)
    }

    /// The gateway may have ended a connection up to a lag before we heard of it.
    pub(super) fn stayed(&self, vehicle: u32, sent_ms: u64, lag_ms: u64) -> bool {
        let account = &self.vehicles[vehicle as usize];
        account.since_ms <= sent_ms && sent_ms.saturating_add(2 * lag_ms) < account.left_ms
    }

    /// Whether the gateway may not know a later update yet.
    pub(super) fn may_be_latest(&self, sender: u32, number: u32, now_ms: u64) -> bool {
        number + 1 == self.vehicles[sender as usize].sent
            || self.updates[self.at(sender, number + 1)].sent_ms + self.lag_ms() > now_ms
    }

    /// Whether the receiver may have come near the sender between this update and what is known of the next.
    pub(super) fn have_met(&self, sender: u32, receiver: u32, number: u32) -> bool {
        let lag_ms = self.lag_ms();
        let Update { sent_ms, place, .. } = self.updates[self.at(sender, number)];
        let is_last = number + 1 == self.vehicles[sender as usize].sent;
        let until_ms = if is_last { NEVER } else { self.updates[self.at(sender, number + 1)].sent_ms + lag_ms };
        let sent = self.vehicles[receiver as usize].sent;
        for number in (sent.saturating_sub(self.ring as u32)..sent).rev() {
            let known = &self.updates[self.at(receiver, number)];
            if known.sent_ms <= until_ms && metres(place, known.place) <= self.promise.radius_m + ROUNDING_M {
                return receiver != sender;
            }
            if known.sent_ms + lag_ms <= sent_ms {
                break;
            }
        }
        false
    }

    /// Whether more than it is told of may have been around a vehicle at that time, or shortly before.
    pub(super) fn is_in_crowd(&mut self, vehicle: u32, at_ms: u64, lag_ms: u64, reach_m: f64) -> bool {
        let most = self.promise.neighbours_max;
        let account = &self.vehicles[vehicle as usize];
        let Some(place) = account.indexed.filter(|_| most > 0 && self.indexed > most) else { return false };
        let mut crowd = match account.crowd {
            Some(crowd) if at_ms < crowd.at_ms + COUNT_MS => crowd,
            last => {
                // Who was near stays so for a while beyond the radius, and both move.
                let exit_m = Hysteresis::new(self.promise.radius_m, EXIT_FACTOR).exit_m;
                let mut count = 0;
                self.index.within(place, exit_m + 2.0 * reach_m, |other, _| count += (other != vehicle) as u32);
                Crowd { at_ms, count, indexed: self.indexed, full_ms: last.and_then(|last| last.full_ms) }
            }
        };
        // All that have come since may have come here.
        if crowd.count + (self.indexed - crowd.indexed) > most {
            crowd.full_ms = Some(at_ms);
        }
        self.vehicles[vehicle as usize].crowd = Some(crowd);
        crowd.full_ms.is_some_and(|full_ms| at_ms <= full_ms + CROWD_MS + lag_ms)
    }
}
