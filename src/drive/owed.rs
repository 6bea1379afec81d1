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
//! Two things that the gateway may do make more deliveries uncertain ([`Promise`]): in a crowd it tells a vehicle of the
//! nearest others only, and it may tell two vehicles that come near each other where the other one is, without waiting
//! for it to move. Such an *encounter* brings an update that was sent before they met.
//!
//! An update's account is closed [`PATIENCE_MS`] after it was sent. Until then its deliveries are noted beside it, in a
//! ring of recent updates per vehicle, so that a delivery costs a few comparisons and no memory.

use std::collections::VecDeque;

use super::latency::Latency;
use crate::geo::distance::metres;
use crate::geo::{CellIndex, Place};
use verdict::{Crowd, Verdict};

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

/// What the gateway promises to vehicles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Promise {
    /// Those within this distance are told of each other, metres.
    pub radius_m: f64,
    /// In a crowd a vehicle is told of so many others, the nearest; 0: always of all.
    pub neighbours_max: u32,
    /// Vehicles that come near each other are told so at once, whether they move or not.
    pub encounters: bool,
}

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
    /// Came because two vehicles had come near each other, of an update that was sent before.
    pub encounters: u64,
    /// Came without a time, so nobody can say which update it is of.
    pub undated: u64,
    /// Came to a vehicle whose deliveries are not judged.
    pub unjudged: u64,
    /// From sending an update to its delivery, in ms. Without encounters.
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
    promise: Promise,
    /// Deliveries to vehicles whose number is a multiple of this are judged.
    judged_every: u32,
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
    /// Vehicles that are in the index.
    indexed: u32,
    /// Who may be owed the update whose account is being closed.
    candidates: Vec<(u32, f64)>,
    tally: Tally,
}

#[derive(Clone, Debug)]
struct Account {
    /// Updates sent; the next one's number.
    sent: u32,
    first_ms: u64,
    /// Of its present stay, or the last one: updates sent from then on may be owed, to it and by it.
    since_ms: u64,
    left_ms: u64,
    /// In the index, if it is there.
    indexed: Option<Place>,
    /// Around it.
    crowd: Option<Crowd>,
}

/// An update as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// When.
    pub sent_ms: u64,
    /// From where.
    pub place: Place,
}

/// An update whose account has been closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Whose.
    pub vehicle: u32,
    /// Its name.
    pub ts: u64,
    /// When and from where.
    pub sent: Sent,
    /// Its vehicle was connected for long enough after it.
    pub stayed: bool,
}

#[derive(Clone, Debug, Default)]
struct Update {
    sent_ms: u64,
    ts: u64,
    place: Place,
    closed: bool,
    receivers: Vec<u32>,
}

impl Ledger {
    /// For vehicles `0..vehicles` that each send at least `gap_ms` apart.
    pub fn new(vehicles: u32, promise: Promise, gap_ms: u64) -> Ledger {
        let gap_ms = gap_ms.max(1);
        // When an account is closed, positions are asked for that were sent up to a lag before the update.
        let ring = (2 * PATIENCE_MS / gap_ms + 3).next_power_of_two() as usize;
        let account = Account { sent: 0, first_ms: NEVER, since_ms: 0, left_ms: NEVER, indexed: None, crowd: None };
        Ledger {
            promise,
            judged_every: 1,
            gap_ms,
            vehicles: vec![account; vehicles as usize],
            updates: vec![Update::default(); vehicles as usize * ring],
            ring,
            open: VecDeque::new(),
            index: CellIndex::new(promise.radius_m),
            steps_m: [0.0; 2],
            step_span: 0,
            stamps: vec![0; vehicles as usize],
            accounts_closed: 0,
            indexed: 0,
            candidates: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Judges what comes to every so-manieth vehicle, and counts the rest: one core cannot judge a million deliveries per
    /// second.
    pub fn judging_every(self, vehicles: u32) -> Ledger {
        Ledger { judged_every: vehicles.max(1), ..self }
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
        if !receiver.is_multiple_of(self.judged_every) {
            self.tally.unjudged += 1;
            return;
        }
        let sent = self.vehicles[sender as usize].sent;
        let Some(number) = self.find(sender, ts) else {
            // Older than the ring remembers, or never sent.
            let oldest = sent.saturating_sub(self.ring as u32);
            let forgotten = oldest > 0 && ts < self.updates[self.at(sender, oldest)].ts;
            *(if forgotten { &mut self.tally.late } else { &mut self.tally.wrong }) += 1;
            return;
        };
        let at = self.at(sender, number);
        let update = &self.updates[at];
        // Where encounters are told, and in a crowd whoever is chosen anew, only who was sent the update before can be
        // waiting for this one.
        let most = self.promise.neighbours_max;
        let may_be_crowded = most > 0 && self.vehicles.len() > most as usize;
        let is_awaited = !(self.promise.encounters || may_be_crowded)
            || number.checked_sub(1).is_some_and(|last| {
                let last = self.at(sender, last);
                self.updates[last].receivers.contains(&receiver)
            });
        if update.closed && self.promise.encounters && self.may_be_latest(sender, number, now_ms) {
            let met = self.have_met(sender, receiver, number);
            *(if met { &mut self.tally.encounters } else { &mut self.tally.wrong }) += 1;
            return;
        }
        if update.receivers.contains(&receiver) {
            self.tally.duplicate += 1;
            return;
        }
        let update = &mut self.updates[at];
        update.receivers.push(receiver);
        self.tally.late += update.closed as u64;
        if is_awaited {
            self.tally.latency.record(now_ms.saturating_sub(update.sent_ms));
        }
    }

    /// Something came that does not say which update it is of.
    pub fn received_undated(&mut self) {
        self.tally.received += 1;
        self.tally.undated += 1;
    }

    /// An update by its name, if the ring remembers it.
    #[inline]
    pub fn update(&self, vehicle: u32, ts: u64) -> Option<Sent> {
        let Update { sent_ms, place, .. } = self.updates[self.at(vehicle, self.find(vehicle, ts)?)];
        Some(Sent { sent_ms, place })
    }

    /// The latest update of a vehicle.
    pub fn latest(&self, vehicle: u32) -> Option<Sent> {
        let number = self.vehicles[vehicle as usize].sent.checked_sub(1)?;
        let Update { sent_ms, place, .. } = self.updates[self.at(vehicle, number)];
        Some(Sent { sent_ms, place })
    }

    #[inline]
    fn find(&self, vehicle: u32, ts: u64) -> Option<u32> {
        let sent = self.vehicles[vehicle as usize].sent;
        (sent.saturating_sub(self.ring as u32)..sent)
            .rev()
            .find(|&number| self.updates[self.at(vehicle, number)].ts == ts)
    }

    /// A vehicle's connection has ended.
    pub fn left(&mut self, vehicle: u32, now_ms: u64) {
        self.vehicles[vehicle as usize].left_ms = now_ms;
    }

    /// A vehicle that had left is registered again. What was sent before, and until both it and those around it are known to
    /// each other again, may come or not.
    pub fn returned(&mut self, vehicle: u32, now_ms: u64) {
        let account = &mut self.vehicles[vehicle as usize];
        (account.since_ms, account.left_ms) = (now_ms + PATIENCE_MS, NEVER);
    }

    /// Closes the accounts whose time has come, and hands out each.
    pub fn settle(&mut self, now_ms: u64, mut closed: impl FnMut(Closed)) {
        while let Some(&(vehicle, number)) = self.open.front() {
            let Update { sent_ms, ts, place, .. } = self.updates[self.at(vehicle, number)];
            if sent_ms + PATIENCE_MS > now_ms {
                break;
            }
            self.open.pop_front();
            self.close(vehicle, number);
            let stayed = self.stayed(vehicle, sent_ms, self.lag_ms());
            closed(Closed { vehicle, ts, sent: Sent { sent_ms, place }, stayed });
        }
    }

    /// Whether an account is open.
    pub fn is_settled(&self) -> bool {
        self.open.is_empty()
    }

    fn close(&mut self, sender: u32, number: u32) {
        let at = self.at(sender, number);
        self.updates[at].closed = true;
        let Update { place, sent_ms, .. } = self.updates[at];
        match self.vehicles[sender as usize].indexed.replace(place) {
            Some(from) => self.index.relocate(sender, from, place),
            None => {
                self.index.insert(sender, place);
                self.indexed += 1;
            }
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
        let radius_m = self.promise.radius_m;
        let mut candidates = std::mem::take(&mut self.candidates);
        self.index.within(place, radius_m + reach_m, |other, distance_m| candidates.push((other, distance_m)));
        let (mut owed, mut paid, mut unsure) = (0, 0, 0);
        for (other, distance_m) in candidates.drain(..) {
            if other == sender || !other.is_multiple_of(self.judged_every) {
                continue;
            }
            let verdict = if distance_m + reach_m <= radius_m && self.was_there(sender, other, at, lag_ms) {
                Verdict::Owed
            } else {
                self.verdict(sender, other, at, lag_ms)
            };
            let came = self.stamps[other as usize] == stamp;
            match verdict {
                Verdict::Owed if self.is_in_crowd(other, sent_ms, lag_ms, reach_m) => unsure += came as u64,
                Verdict::Owed => {
                    owed += 1;
                    paid += came as u64;
                }
                Verdict::Unsure => unsure += came as u64,
                Verdict::Wrong => continue,
            }
            self.stamps[other as usize] = 0;
        }
        self.candidates = candidates;
        // Whoever keeps the stamp got what was not meant for it, or has no position that could be looked up.
        for &receiver in &receivers {
            if self.stamps[receiver as usize] == stamp {
                match self.verdict(sender, receiver, at, lag_ms) {
                    Verdict::Wrong if self.promise.encounters && self.have_met(sender, receiver, number) => {
                        self.tally.encounters += 1;
                    }
                    Verdict::Wrong => self.tally.wrong += 1,
                    Verdict::Owed | Verdict::Unsure => unsure += 1,
                }
            }
        }
        self.tally.owed += owed;
        self.tally.paid += paid;
        self.tally.unsure += unsure;
        self.updates[at].receivers = receivers;
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

mod verdict;

#[cfg(test)]
mod tests;
