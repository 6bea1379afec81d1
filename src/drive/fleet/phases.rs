//! What a fleet does because time passes: it joins, drives, settles, closes.

use std::mem;

use super::super::client::Stage;
use super::super::report::{Phase, Report};
use super::super::talk;
use super::{CLOSING_MS_MAX, Fleet, JOINING_STALLED_MS, client};
use crate::turn::{ConnId, Now};

/// Vehicles that may be connecting or registering at once: enough to keep a gateway busy, too few to fill its backlog.
const JOINING_MAX: u32 = 64;

/// A vehicle with nothing to report says this often that it is there; a gateway ends it after 60 s of silence.
const HEARTBEAT_MS: u64 = 20_000;

const HEARTBEAT: &[u8] = br#"{"event":"heartbeat","data":{}}"#;

impl<P: FnMut(&Report)> Fleet<P> {
    /// Does what the time asks for; answers how many connections are wanted.
    pub(super) fn advance(&mut self, now: Now) -> u32 {
        self.ledger.settle(now.mono_ms);
        loop {
            let phase = self.report.phase;
            let waited_ms = now.mono_ms - self.since_ms;
            match phase {
                Phase::Joining => {
                    let wanted = self.plan.roster.len() - self.seated - self.connecting;
                    if wanted + self.connecting + self.registering > 0 && waited_ms < JOINING_STALLED_MS {
                        return self.connects(now, wanted);
                    }
                    self.started_ms = now.mono_ms;
                    self.enter(now, Phase::Driving);
                }
                Phase::Driving => {
                    self.tick(now);
                    self.report.driven_ms = waited_ms.min(self.plan.drive_ms);
                    if self.report.driven_ms == self.plan.drive_ms || self.live + self.registering == 0 {
                        self.report.deserted = self.live == 0;
                        self.enter(now, Phase::Settling);
                    }
                }
                Phase::Settling => {
                    if self.ledger.is_settled() {
                        self.enter(now, Phase::Closing);
                    }
                }
                Phase::Closing => {
                    if waited_ms >= CLOSING_MS_MAX {
                        let left = self.clients.iter_mut().filter_map(Option::take);
                        self.released.extend(left.map(|client| client.conn));
                    }
                    if self.clients.iter().all(Option::is_none) {
                        self.enter(now, Phase::Done);
                    }
                }
                Phase::Done => {}
            }
            if self.report.phase == phase {
                return 0;
            }
        }
    }

    fn connects(&mut self, now: Now, wanted: u32) -> u32 {
        if self.retry_at_ms.is_some_and(|retry_at_ms| now.mono_ms < retry_at_ms) {
            return 0;
        }
        self.retry_at_ms = None;
        let connects = wanted.min(JOINING_MAX.saturating_sub(self.connecting + self.registering));
        self.connecting += connects;
        connects
    }

    pub(super) fn enter(&mut self, now: Now, phase: Phase) {
        self.report.phase = phase;
        self.since_ms = now.mono_ms;
        self.report_at_ms = now.mono_ms;
        if phase != Phase::Closing {
            return;
        }
        for seat in &mut self.clients {
            match seat {
                Some(client) if matches!(client.stage, Stage::Registering | Stage::Registered) => {
                    // Stopped early, accounts are still open. From here on it is owed nothing.
                    self.ledger.left(client.vehicle, now.mono_ms);
                    client.say_goodbye(1000);
                    client.stage = Stage::Closing;
                    if !mem::replace(&mut client.queued, true) {
                        self.queue.push(client.conn);
                    }
                }
                // Not a WebSocket yet: there is no way to say goodbye.
                Some(client) if client.stage == Stage::Upgrading => {
                    self.released.push(client.conn);
                    *seat = None;
                }
                _ => {}
            }
        }
    }

    /// Sends the updates whose time has come.
    fn tick(&mut self, now: Now) {
        let driven_us = (now.mono_ms - self.started_ms) * 1000;
        let vehicles = self.plan.roster.len() as u64;
        while self.due_us(self.ticks) <= driven_us && self.due_us(self.ticks) < self.plan.drive_ms * 1000 {
            let late_us = driven_us - self.due_us(self.ticks);
            let vehicle = (self.ticks % vehicles) as u32;
            self.ticks += 1;
            let Some(conn) = self.seats[vehicle as usize].conn else { continue };
            if late_us > self.plan.period_us / 5 {
                self.report.skipped += 1;
                continue;
            }
            self.update(now, vehicle, conn);
        }
    }

    /// When a tick is due, µs after the start: the period, spread over the vehicles.
    pub(super) fn due_us(&self, tick: u64) -> u64 {
        (tick as u128 * self.plan.period_us as u128 / self.plan.roster.len() as u128) as u64
    }

    fn update(&mut self, now: Now, vehicle: u32, conn: ConnId) {
        let Some(client) = client(&mut self.clients, conn) else { return };
        let seat = &mut self.seats[vehicle as usize];
        self.scratch.clear();
        match self.plan.movement.fix(vehicle, now.mono_ms - self.started_ms) {
            Some(_) if client.blocked => {
                self.report.withheld += 1;
                return;
            }
            Some(fix) => {
                seat.ts = now.unix_ms.max(seat.ts + 1);
                talk::location_update(&mut self.scratch, self.plan.roster.id(vehicle), &fix, seat.ts);
                self.ledger.sent(vehicle, now.mono_ms, seat.ts, fix.place());
            }
            None if now.mono_ms >= seat.spoke_ms + HEARTBEAT_MS => self.scratch.extend_from_slice(HEARTBEAT),
            None => return,
        }
        seat.spoke_ms = now.mono_ms;
        client.say(&self.scratch);
        self.queue(conn);
    }
}
