//! What was sent when, and what of it has come.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::talk::{Named, records, sender};

/// Updates of one vehicle whose instants are remembered: at 50 per second, the last third of a second.
const REMEMBERED: usize = 16;

/// Of so many positions that come, one is looked at closely. Odd, so that no vehicle's share is always left out.
const LOOKED_AT_EVERY: u32 = 17;

/// Numbers of the vehicles that are sent each vehicle's positions, ascending.
pub type Neighbours = Vec<Vec<u32>>;

/// What has come since it was last asked.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    pub positions: u64,
    pub alerts: u64,
    pub errors: u64,
    /// Connections that the server has ended.
    pub closed: u64,
    /// Positions looked at that nobody has sent, or that went to somebody who is not near.
    pub wrong: u64,
    /// Of the positions looked at: from sending to reading, µs.
    pub delays_us: Vec<u32>,
}

impl Heard {
    /// The least delay that at least this share (0…1) of all do not exceed, ms; NaN without any.
    pub fn quantile_ms(&mut self, share: f64) -> f64 {
        if self.delays_us.is_empty() {
            return f64::NAN;
        }
        let rank = (self.delays_us.len() as f64 * share).ceil() as usize;
        let (_, delay, _) = self.delays_us.select_nth_unstable(rank.max(1) - 1);
        f64::from(*delay) / 1e3
    }
}

/// One update that was sent.
#[derive(Clone, Copy, Default)]
struct Sent {
    ts: u64,
    at_us: u64,
}

pub struct Ledger {
    began: Instant,
    unix_ms: u64,
    sent: Vec<[Sent; REMEMBERED]>,
    count: Vec<u32>,
    numbers: FxHashMap<u64, u32>,
    neighbours: Neighbours,
    /// Positions that are counted only, before the next is looked at.
    until_look: u32,
    pub heard: Heard,
}

impl Ledger {
    pub fn new(vehicles: &[Named]) -> Ledger {
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        Ledger {
            began: Instant::now(),
            unix_ms: unix.as_millis() as u64,
            sent: vec![[Sent::default(); REMEMBERED]; vehicles.len()],
            count: vec![0; vehicles.len()],
            numbers: vehicles.iter().zip(0..).map(|(vehicle, number)| (vehicle.key, number)).collect(),
            neighbours: Vec::new(),
            until_look: LOOKED_AT_EVERY,
            heard: Heard::default(),
        }
    }

    /// From now on these are near each other.
    pub fn settle(&mut self, neighbours: Neighbours) {
        self.neighbours = neighbours;
    }

    /// To how many others a vehicle's positions go.
    pub fn owed(&self, vehicle: usize) -> u64 {
        self.neighbours.get(vehicle).map_or(0, Vec::len) as u64
    }

    /// A vehicle sends its position now: with this `ts`, and as its how manieth.
    pub fn send(&mut self, vehicle: usize, now: Instant) -> (u64, u32) {
        let at = self.since(now);
        let count = self.count[vehicle];
        let before = self.sent[vehicle][count as usize % REMEMBERED].ts;
        // No `ts` twice.
        let ts = (self.unix_ms + at.as_millis() as u64).max(before + 1);
        self.count[vehicle] += 1;
        self.sent[vehicle][self.count[vehicle] as usize % REMEMBERED] = Sent { ts, at_us: at.as_micros() as u64 };
        (ts, count)
    }

    fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    /// Positions that came now, `count` of them in one message.
    #[inline]
    pub fn hear(&mut self, receiver: usize, is_binary: bool, count: u16, message: &[u8], now: Instant) {
        self.heard.positions += u64::from(count);
        let count = u32::from(count);
        let first = self.until_look;
        if first >= count {
            self.until_look -= count;
            return;
        }
        let looks = (count - first - 1) / LOOKED_AT_EVERY + 1;
        self.until_look = first + looks * LOOKED_AT_EVERY - count;
        if !is_binary {
            let seen = sender(message);
            return self.look(receiver, seen.map(|(number, ts)| (number, ts, u64::MAX)), now);
        }
        for (key, sec_mark) in records(message).skip(first as usize).step_by(LOOKED_AT_EVERY as usize) {
            let number = self.numbers.get(&key).map(|number| *number as usize);
            self.look(receiver, number.map(|number| (number, u64::from(sec_mark), 60_000)), now);
        }
    }

    /// One position: whose it is, and its `ts` modulo something.
    fn look(&mut self, receiver: usize, seen: Option<(usize, u64, u64)>, now: Instant) {
        let Some((number, ts, modulus)) = seen.filter(|(number, ..)| *number < self.sent.len()) else {
            self.heard.wrong += 1;
            return;
        };
        // Viewers are not among the vehicles: who is near them is not asked.
        if self
            .neighbours
            .get(number)
            .is_some_and(|near| receiver < self.sent.len() && near.binary_search(&(receiver as u32)).is_err())
        {
            self.heard.wrong += 1;
            return;
        }
        let now_us = self.since(now).as_micros() as u64;
        let sent = self.sent[number].iter().find(|sent| sent.ts > 0 && sent.ts % modulus == ts);
        let delay_us = match sent {
            Some(sent) => now_us.saturating_sub(sent.at_us),
            // Too long ago to be remembered: the `ts` itself says it to the millisecond.
            None => {
                let now_ms = self.unix_ms + now_us / 1000;
                let behind_ms =
                    if modulus == u64::MAX { now_ms.checked_sub(ts) } else { Some((now_ms + modulus - ts) % modulus) };
                match behind_ms {
                    Some(behind_ms) => behind_ms * 1000,
                    None => {
                        self.heard.wrong += 1;
                        return;
                    }
                }
            }
        };
        self.heard.delays_us.push(delay_us.min(u64::from(u32::MAX)) as u32);
    }
}
