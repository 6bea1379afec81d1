//! What a fleet does with a server: positions at a rate, or alerts one after the other.

use std::thread;
use std::time::{Duration, Instant};

use ringroad::dice::Dice;

use super::fleet::SERVED_AT_ONCE;
use super::{Fleet, Heard};

/// What is not there so long after the last was sent is not waited for.
const DRAIN: Duration = Duration::from_secs(4);

/// Without any news for so long, nothing more will come.
const SILENCE: Duration = Duration::from_millis(500);

/// From so many updates per second on, nobody is woken.
const WOKEN_PER_SECOND_MAX: f64 = 2_000.0;

/// Who sends to a process that sleeps on another processor interrupts that one, and pays for it, once per message; over a
/// network it would not. So under load the client looks so often by itself, and what it adds to the latency is seen in it.
const LOOK: Duration = Duration::from_micros(300);

/// Updates sent before connections are served.
const SENT_AT_ONCE: u64 = 64;

/// What was sent for a while, and what came.
pub struct Driven {
    /// From the first update to the last.
    pub seconds: f64,
    pub sent: u64,
    /// Updates that were due and could not be sent: the server did not take them, or this process was too slow.
    pub withheld: u64,
    /// Deliveries that are to come of what was sent.
    pub owed: u64,
    pub heard: Heard,
}

impl Driven {
    /// Deliveries that did not come.
    pub fn lost(&self) -> i64 {
        self.owed as i64 - self.heard.positions as i64
    }
}

/// Sends positions at this rate, all vehicles together, for so long, and waits for what is owed.
pub fn positions(fleet: &mut Fleet, per_second: f64, seconds: f64) -> Driven {
    // Not in the order of their places: neighbours are not to be heard of together.
    let mut dice = Dice::new(7, 0);
    let mut order: Vec<usize> = (0..fleet.vehicles.len()).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, (dice.bits() % (at as u64 + 1)) as usize);
    }
    let planned = (per_second * seconds) as u64;
    fleet.take_heard();
    let began = Instant::now();
    let (mut due_count, mut sent, mut owed) = (0, 0, 0);
    loop {
        let now = Instant::now();
        let elapsed = (now - began).as_secs_f64();
        // A machine that stands still makes up for it, but not for ever.
        if due_count >= planned || elapsed > seconds * 1.2 {
            break;
        }
        let due = ((elapsed * per_second) as u64 + 1).min(planned).min(due_count + SENT_AT_ONCE);
        let is_behind = due == due_count + SENT_AT_ONCE;
        while due_count < due {
            let vehicle = order[due_count as usize % order.len()];
            due_count += 1;
            if let Some(others) = fleet.report(vehicle, Instant::now()) {
                sent += 1;
                owed += others;
            }
        }
        if is_behind || per_second < WOKEN_PER_SECOND_MAX {
            fleet.poll(if is_behind { 0 } else { 1 });
        } else if fleet.poll(0) < SERVED_AT_ONCE {
            thread::sleep(LOOK);
        }
    }
    let driven_s = began.elapsed().as_secs_f64();
    let (mut last, deadline) = (Instant::now(), Instant::now() + DRAIN);
    while fleet.ledger.heard.positions < owed && last.elapsed() < SILENCE && Instant::now() < deadline {
        if fleet.poll(1) > 0 {
            last = Instant::now();
        }
    }
    // One that comes twice comes at once.
    fleet.poll(1);
    Driven { seconds: driven_s, sent, withheld: planned - sent, owed, heard: fleet.take_heard() }
}

/// Alerts of the first vehicle for so long, each raised when the one before has come to half of all: so the server never
/// waits for the next, and never has two to read. How many were raised, and in which time they came to all.
pub fn alerts(fleet: &mut Fleet, seconds: f64) -> (u64, f64, Heard) {
    let everyone = fleet.vehicles.len() as u64;
    let data = format!(r#"{{"senderId":"{}"}}"#, fleet.vehicles[0].id);
    fleet.take_heard();
    let (began, mut last) = (Instant::now(), Instant::now());
    let mut raised = 0;
    loop {
        let came = fleet.ledger.heard.alerts;
        let is_time = began.elapsed().as_secs_f64() < seconds;
        if is_time && 2 * came + everyone >= 2 * raised * everyone {
            fleet.event(0, "emergency_alert", &data);
            raised += 1;
        }
        if (!is_time && came >= raised * everyone) || last.elapsed() > DRAIN {
            break;
        }
        if fleet.poll(1) > 0 {
            last = Instant::now();
        }
    }
    (raised, began.elapsed().as_secs_f64(), fleet.take_heard())
}
