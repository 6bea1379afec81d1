//! The ledger: which deliveries the gateway owes, and which it made.
//!
//! The gateway owes an update of one vehicle to every other vehicle within the radius at the moment at which it handles
//! the update. Which moment that is, and which position of the other vehicle it knows by then, a client cannot see:
//! both are in flight. So the ledger asks for all positions that the gateway may have known. If every one of them lies
//! within the radius, the delivery is owed; if none does, it would be wrong; otherwise it may come or not, and counts
//! as neither.
//!
//! What the gateway may have known follows from one bound, the *lag*: an update is handled at most that long after it
//! was sent. It is taken from the slowest delivery so far, and is never less than [`LAG_MS_MIN`].
//!
//! An update's account is closed [`PATIENCE_MS`] after it was sent. Until then its deliveries are noted beside it, in a
//! ring of recent updates per vehicle, so that a delivery costs a few comparisons and no memory.

use std::collections::VecDeque;

use super::latency::Latency;
use crate::geo::distance::metres;
use crate::geo::{CellIndex, Place};

/// A delivery that has not come by now counts as missing.
pub const PATIENCE_MS: u64 = 2_000;

/// Least lag assumed: the gateway may hold an update back for 150 ms (`coalesce_ms`), plus a busy turn.
pub const LAG_MS_MIN: u64 = 250;

/// Two programs that agree on the formula may still round a position differently, by a step of 1e-7 degree at either
/// end. So close to the radius, nothing is owed and nothing wrong.
const ROUNDING_M: f64 = 0.05;

/// For so long at least the longest step is remembered; an account asks for what lies up to twice the patience back.
const STEP_SPAN_MS: u64 = 3 * PATIENCE_MS;

/// Of a connection that is still there.
const NEVER: u64 = u64::MAX;

/// What the ledger counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Updates sent.
    pub sent: u64,
    /// Deliveries that came, of whatever kind.
    pub received: u64,
    /// Deliveries owed, of the updates whose account is closed.
    pub owed: u64,
    /// Owed, and came in time.
    pub paid: u64,
    /// Came to a vehicle that may or may not have been within the radius.
    pub unsure: u64,
    /// Came to a vehicle that certainly was not, or tells of an update that was never sent.
    pub wrong: u64,
    /// Came again.
    pub duplicate: u64,
    /// Came after the account was closed; if it was owed, it has been counted as missing.
    pub late: u64,
    /// From sending an update to its delivery, in ms.
    pub latency: Latency,
}

impl Tally {
    /// Owed, and did not come.
    pub fn missing(&self) -> u64 {
        self.owed - self.paid
    }

    /// The share of what was owed that came; 1 if nothing was.
    pub fn ratio(&self) -> f64 {
        if self.owed == 0 { 1.0 } else { self.paid as f64 / self.owed as f64 }
    }
}

/// Who is owed what.
#[derive(Debug)]
pub struct Ledger {
    radius_m: f64,
    /// Least time between two updates of one vehicle, ms.
    gap_ms: u64,
    vehicles: Vec<Account>,
    /// All vehicles' rings, one after the other.
    updates: Vec<Update>,
    /// Updates of one ring; a power of two.
    ring: usize,
    /// Updates whose account is open, in the order in which they were sent.
    open: VecDeque<(u32, u32)>,
    /// Where each vehicle was as of the account closed last.
    index: CellIndex,
    /// Longest step between two updates, of any vehicle, in the present and in the last [`STEP_SPAN_MS`].
    steps_m: [f64; 2],
    step_span: u64,
    /// By vehicle: the last account for which it was noted as a receiver.
    stamps: Vec<u64>,
    accounts_closed: u64,
    tally: Tally,
}

#[derive(Clone, Debug)]
struct Account {
    /// Updates sent; the next one's number.
    sent: u32,
    first_ms: u64,
    left_ms: u64,
    /// In the index, if it is there.
    indexed: Option<Place>,
}

#[derive(Clone, Debug, Default)]
struct Update {
    sent_ms: u64,
    ts: u64,
    place: Place,
    closed: bool,
    receivers: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Owed,
    Unsure,
    Wrong,
}

impl Ledger {
    /// For vehicles `0..vehicles` that each send at least `gap_ms` apart.
    pub fn new(vehicles: u32, radius_m: f64, gap_ms: u64) -> Ledger {
        let gap_ms = gap_ms.max(1);
        // When an account is closed, positions are asked for that were sent up to a lag before the update.
        let ring = (2 * PATIENCE_MS / gap_ms + 3).next_power_of_two() as usize;
        let account = Account { sent: 0, first_ms: NEVER, left_ms: NEVER, indexed: None };
        Ledger {
            radius_m,
            gap_ms,
            vehicles: vec![account; vehicles as usize],
            updates: vec![Update::default(); vehicles as usize * ring],
            ring,
            open: VecDeque::new(),
            index: CellIndex::new(radius_m),
            steps_m: [0.0; 2],
            step_span: 0,
            stamps: vec![0; vehicles as usize],
            accounts_closed: 0,
            tally: Tally::default(),
        }
    }

    /// What has been counted.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// A vehicle sends an update. `ts` is its name: greater than that of the one before.
    pub fn sent(&mut self, vehicle: u32, sent_ms: u64, ts: u64, place: Place) {
        let account = &mut self.vehicles[vehicle as usize];
        let number = account.sent;
        account.sent += 1;
        if number == 0 {
            account.first_ms = sent_ms;
        } else {
            let step_m = metres(self.updates[self.at(vehicle, number - 1)].place, place);
            self.note_step(sent_ms, step_m);
        }
        let at = self.at(vehicle, number);
        let update = &mut self.updates[at];
        debug_assert!(number < self.ring as u32 || update.closed, "the ring is too short for this rate");
        (update.sent_ms, update.ts, update.place, update.closed) = (sent_ms, ts, place, false);
        update.receivers.clear();
        self.open.push_back((vehicle, number));
        self.tally.sent += 1;
    }

    /// An update of `sender` came to `receiver`.
    #[inline]
    pub fn received(&mut self, receiver: u32, sender: u32, ts: u64, now_ms: u64) {
        self.tally.received += 1;
        let sent = self.vehicles[sender as usize].sent;
        let oldest = sent.saturating_sub(self.ring as u32);
        for number in (oldest..sent).rev() {
            let at = self.at(sender, number);
            let update = &mut self.updates[at];
            if update.ts != ts {
                continue;
            }
            if update.receivers.contains(&receiver) {
                self.tally.duplicate += 1;
                return;
            }
            update.receivers.push(receiver);
            self.tally.late += update.closed as u64;
            self.tally.latency.record(now_ms.saturating_sub(update.sent_ms));
            return;
        }
        // Older than the ring remembers, or never sent.
        let forgotten = oldest > 0 && ts < self.updates[self.at(sender, oldest)].ts;
        *(if forgotten { &mut self.tally.late } else { &mut self.tally.wrong }) += 1;
    }

    /// A vehicle's connection has ended.
    pub fn left(&mut self, vehicle: u32, now_ms: u64) {
        self.vehicles[vehicle as usize].left_ms = now_ms;
    }

    /// Closes the accounts whose time has come.
    pub fn settle(&mut self, now_ms: u64) {
        while let Some(&(vehicle, number)) = self.open.front() {
            if self.updates[self.at(vehicle, number)].sent_ms + PATIENCE_MS > now_ms {
                break;
            }
            self.open.pop_front();
            self.close(vehicle, number);
        }
    }

    /// Whether an account is open.
    pub fn is_settled(&self) -> bool {
        self.open.is_empty()
    }

    fn close(&mut self, sender: u32, number: u32) {
        let at = self.at(sender, number);
        self.updates[at].closed = true;
        let place = self.updates[at].place;
        match self.vehicles[sender as usize].indexed.replace(place) {
            Some(from) => self.index.relocate(sender, from, place),
            None => self.index.insert(sender, place),
        }
        self.accounts_closed += 1;
        let stamp = self.accounts_closed;
        let receivers = std::mem::take(&mut self.updates[at].receivers);
        for &receiver in &receivers {
            self.stamps[receiver as usize] = stamp;
        }
        // The index knows where a vehicle was when the update was sent; a lag before or after, it was at most `reach`
        // away from there.
        let lag_ms = self.lag_ms();
        let steps = lag_ms / self.gap_ms + 2;
        let reach_m = steps as f64 * self.steps_m[0].max(self.steps_m[1]) + ROUNDING_M;
        let mut stamps = std::mem::take(&mut self.stamps);
        let (mut owed, mut paid, mut unsure) = (0, 0, 0);
        self.index.within(place, self.radius_m + reach_m, |other, distance_m| {
            if other == sender {
                return;
            }
            let verdict = if distance_m + reach_m <= self.radius_m && self.was_there(sender, other, at, lag_ms) {
                Verdict::Owed
            } else {
                self.verdict(sender, other, at, lag_ms)
            };
            let came = stamps[other as usize] == stamp;
            match verdict {
                Verdict::Owed => {
                    owed += 1;
                    paid += came as u64;
                }
                Verdict::Unsure => unsure += came as u64,
                Verdict::Wrong => return,
            }
            stamps[other as usize] = 0;
        });
        // Whoever keeps the stamp got what was not meant for it, or has no position that could be looked up.
        for &receiver in &receivers {
            if stamps[receiver as usize] == stamp {
                match self.verdict(sender, receiver, at, lag_ms) {
                    Verdict::Wrong => self.tally.wrong += 1,
                    Verdict::Owed | Verdict::Unsure => unsure += 1,
                }
            }
        }
        self.stamps = stamps;
        self.tally.owed += owed;
        self.tally.paid += paid;
        self.tally.unsure += unsure;
        self.updates[at].receivers = receivers;
    }

    /// By every position of `receiver` that the gateway may have known when it handled the update at `at`.
    fn verdict(&self, sender: u32, receiver: u32, at: usize, lag_ms: u64) -> Verdict {
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
            within |= distance_m <= self.radius_m + ROUNDING_M;
            beyond |= distance_m > self.radius_m - ROUNDING_M;
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
    fn was_there(&self, sender: u32, receiver: u32, at: usize, lag_ms: u64) -> bool {
        let sent_ms = self.updates[at].sent_ms;
        let [sender, receiver] = [sender, receiver].map(|vehicle| &self.vehicles[vehicle as usize]);
        // The gateway may have ended a connection up to a lag before we heard of it.
        let stayed = |account: &Account| sent_ms.saturating_add(2 * lag_ms) < account.left_ms;
        receiver.first_ms.saturating_add(lag_ms) <= sent_ms && stayed(receiver) && stayed(sender)
    }

    fn lag_ms(&self) -> u64 {
        self.tally.latency.max_ms().clamp(LAG_MS_MIN, PATIENCE_MS)
    }

    fn note_step(&mut self, now_ms: u64, step_m: f64) {
        let span = now_ms / STEP_SPAN_MS;
        if span != self.step_span {
            let last = if span == self.step_span + 1 { self.steps_m[0] } else { 0.0 };
            self.steps_m = [0.0, last];
            self.step_span = span;
        }
        self.steps_m[0] = self.steps_m[0].max(step_m);
    }

    #[inline]
    fn at(&self, vehicle: u32, number: u32) -> usize {
        vehicle as usize * self.ring + (number as usize & (self.ring - 1))
    }
}

#[cfg(test)]
mod tests;
