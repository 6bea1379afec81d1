//! What a fleet does because time passes: it joins, drives, settles, closes.

use std::mem;

use super::super::conn::{Stage, Who};
use super::super::report::{Phase, Report};
use super::super::talk;
use super::{CLOSING_MS_MAX, Fleet, JOINING_STALLED_MS, conn};
use crate::turn::{ConnId, Now};
use crate::wire::json::Terms;
use crate::wire::state::State;

/// Vehicles that may be connecting or registering at once: enough to keep a gateway busy, too few to fill its backlog.
const JOINING_MAX: u32 = 64;

/// A vehicle with nothing to report says this often that it is there; a gateway ends it after 60 s of silence.
const HEARTBEAT_MS: u64 = 20_000;

/// So long after the vehicles have begun, viewers ask for their view: by then there is something to see.
const VIEWS_AFTER_MS: u64 = 2_000;

impl<P: FnMut(&Report)> Fleet<P> {
    /// Does what the time asks for; answers how many connections are wanted.
    pub(super) fn advance(&mut self, now: Now) -> u32 {
        let gallery = &mut self.gallery;
        self.ledger.settle(now.mono_ms, |closed| gallery.closed(&closed));
        loop {
            let phase = self.report.phase;
            let waited_ms = now.mono_ms - self.since_ms;
            match phase {
                Phase::Joining => {
                    let wanted = self.everyone() - self.seated - self.connecting;
                    if wanted + self.connecting + self.registering > 0 && waited_ms < JOINING_STALLED_MS {
                        return self.connects(now, wanted);
                    }
                    self.started_ms = now.mono_ms;
                    self.enter(now, Phase::Driving);
                }
                Phase::Driving => {
                    if self.live > 0 {
                        self.there_ms = now.mono_ms;
                    }
                    self.tick(now);
                    self.watch(now);
                    self.report.driven_ms = waited_ms.min(self.plan.drive_ms);
                    let is_over = self.report.driven_ms == self.plan.drive_ms;
                    if is_over || (self.live + self.registering == 0 && !self.may_return(now)) {
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
                        let left = self.conns.iter_mut().filter_map(Option::take);
                        self.released.extend(left.map(|conn| conn.id));
                    }
                    if self.conns.iter().all(Option::is_none) {
                        self.enter(now, Phase::Done);
                    }
                }
                Phase::Done => {}
            }
            if self.report.phase == phase {
                let wanted = self.returning.len() as u32;
                return if phase == Phase::Driving {
                    self.connects(now, wanted.saturating_sub(self.connecting))
                } else {
                    0
                };
            }
        }
    }

    /// Whether somebody is still expected, though nobody is there.
    fn may_return(&self, now: Now) -> bool {
        // With viewers alone there is nothing to see.
        let vehicles = self.returning.iter().any(|who| matches!(who, Who::Vehicle(_)));
        vehicles && now.mono_ms < self.there_ms + JOINING_STALLED_MS
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
        for seat in &mut self.conns {
            match seat {
                Some(conn) if matches!(conn.stage, Stage::Registering | Stage::Ready) => {
                    // Stopped early, accounts are still open. From here on it is owed nothing.
                    match conn.who {
                        Who::Vehicle(vehicle) => self.ledger.left(vehicle, now.mono_ms),
                        Who::Viewer(viewer) => self.gallery.left(viewer),
                    }
                    conn.client.goodbye(1000);
                    conn.stage = Stage::Closing;
                    if !mem::replace(&mut conn.queued, true) {
                        self.queue.push(conn.id);
                    }
                }
                // Not a WebSocket yet: there is no way to say goodbye.
                Some(conn) if conn.stage == Stage::Upgrading => {
                    self.released.push(conn.id);
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

    fn update(&mut self, now: Now, vehicle: u32, id: ConnId) {
        let Some(conn) = conn(&mut self.conns, id) else { return };
        let seat = &mut self.seats[vehicle as usize];
        match self.plan.movement.fix(vehicle, now.mono_ms - self.started_ms) {
            Some(_) if conn.blocked => {
                self.report.withheld += 1;
                return;
            }
            Some(fix) => {
                seat.ts = now.unix_ms.max(seat.ts + 1);
                let state = State { msg_cnt: (seat.sent % 128) as u8, ..talk::state(seat.key, &fix) };
                seat.sent += 1;
                conn.client.report(self.plan.roster.id(vehicle), &state, seat.ts);
                self.ledger.sent(vehicle, now.mono_ms, seat.ts, fix.place());
            }
            None if now.mono_ms >= seat.spoke_ms + HEARTBEAT_MS => conn.client.heartbeat(),
            None => return,
        }
        seat.spoke_ms = now.mono_ms;
        self.queue(id);
    }

    /// When viewers ask for their view.
    pub(super) fn views_at_ms(&self) -> u64 {
        self.started_ms + VIEWS_AFTER_MS.min(self.plan.drive_ms / 4)
    }

    /// Lets the viewers ask once it is time.
    fn watch(&mut self, now: Now) {
        if self.waiting.is_empty() || now.mono_ms < self.views_at_ms() {
            return;
        }
        let edges = self.gallery.area().edges();
        for id in mem::take(&mut self.waiting) {
            let Some(conn) = conn(&mut self.conns, id) else { continue };
            let Who::Viewer(viewer) = conn.who else { continue };
            conn.client.view(Some(edges), &Terms::default());
            let latest =
                (0..self.plan.roster.len()).filter_map(|vehicle| Some((vehicle, self.ledger.latest(vehicle)?)));
            self.gallery.asked(viewer, now.mono_ms, latest);
            self.queue(id);
        }
    }
}
