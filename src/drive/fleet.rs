//! The fleet: a core that is all the vehicles.
//!
//! Its life is five phases ([`Phase`]). Vehicles join, a bounded number at a time. Once all have registered they drive:
//! time is cut into one period per update and spread over the vehicles, so updates leave evenly and not in bursts. Then
//! no more are sent, and what is in flight may arrive; then connections are closed properly. Viewers join after the
//! vehicles, and begin to watch once these are on their way.
//!
//! Like every core it has no clock, no socket and no chance of its own.

use std::collections::VecDeque;
use std::mem;

use super::conn::{Conn, Stage, Who};
use super::gallery::Gallery;
use super::owed::{Ledger, PATIENCE_MS};
use super::plan::{Movement, Plan};
use super::report::{Phase, Report};
use crate::client::{Broken, Client};
use crate::dice::Dice;
use crate::metrics::Counters;
use crate::turn::{ConnId, Core, Ended, Input, Now, Send, ShardId, Store, Turn};

/// After a connection could not be made.
const CONNECT_RETRY_MS: u64 = 200;

/// So long without a single vehicle more, and those that are there drive alone.
const JOINING_STALLED_MS: u64 = 10_000;

/// For the gateway's goodbyes.
const CLOSING_MS_MAX: u64 = 2_000;

/// A gateway ends in order, and there is another one to come to ("Service Restart").
const SENT_AWAY: u16 = 1012;

/// Between two reports.
const REPORT_MS: u64 = 250;

/// All vehicles and their connections.
pub struct Fleet<P> {
    plan: Plan,
    publish: P,
    report: Report,
    ledger: Ledger,
    gallery: Gallery,
    /// By index of their [`ConnId`].
    conns: Vec<Option<Conn>>,
    /// By vehicle.
    seats: Vec<Seat>,
    /// Viewers that are ready to ask.
    waiting: Vec<ConnId>,
    /// Who has been sent away by a gateway, and is to come back.
    returning: VecDeque<Who>,
    /// By viewer: it has been ready before.
    has_watched: Vec<bool>,
    /// Vehicles, then viewers, that have a connection or had one.
    seated: u32,
    /// Connections that were made for somebody.
    opens: u64,
    /// Connections asked for and neither there nor failed.
    connecting: u32,
    /// Connections that are not ready.
    registering: u32,
    /// Vehicles that are registered now.
    live: u32,
    /// After a failure: not before.
    retry_at_ms: Option<u64>,
    /// From the first turn on: only there it learns what time it is.
    has_begun: bool,
    /// When the phase began; while joining, when a connection was ready last.
    since_ms: u64,
    /// When a vehicle was last registered.
    there_ms: u64,
    /// When the fleet began to drive.
    started_ms: u64,
    /// Updates of all vehicles whose time has come, sent or not.
    ticks: u64,
    report_at_ms: u64,
    queue: Vec<ConnId>,
    /// To be released with the next turn.
    released: Vec<ConnId>,
    turn: Composed,
    counters: Counters,
}

/// What the ledger does not know of a vehicle.
#[derive(Clone, Copy, Debug, Default)]
struct Seat {
    /// While it is registered.
    conn: Option<ConnId>,
    /// It has been.
    has_driven: bool,
    key: u64,
    /// Of its last update; the next one's is greater.
    ts: u64,
    /// Updates sent.
    sent: u32,
    spoke_ms: u64,
}

/// One turn's work for the shell.
#[derive(Default)]
struct Composed {
    arena: Vec<u8>,
    sends: Vec<Send>,
    finished: Vec<ConnId>,
    released: Vec<ConnId>,
    mail: Vec<(ShardId, ())>,
}

impl<P: FnMut(&Report)> Fleet<P> {
    /// A fleet that is about to join. `publish` is called with a report four times per second, and with the last one.
    pub fn new(plan: Plan, publish: P) -> Fleet<P> {
        let vehicles = plan.roster.len();
        // An update that is late by more than a fifth of the period is skipped, so two are never closer than the rest.
        let gap_ms = plan.period_us * 4 / 5 / 1000;
        let trace = match &plan.movement {
            Movement::Replay { trace, .. } => Some((trace.rows, trace.dirt)),
            Movement::Roam(_) => None,
        };
        let seats = (0..vehicles).map(|vehicle| Seat { key: plan.roster.key(vehicle), ..Seat::default() });
        let dialect = plan.dialect;
        Fleet {
            seats: seats.collect(),
            report: Report { dialect, vehicles, planned_ms: plan.drive_ms, trace, ..Report::default() },
            ledger: Ledger::new(vehicles, plan.promise, gap_ms.saturating_sub(1)).judging_every(plan.judged_every),
            gallery: Gallery::new(plan.viewers, plan.area, vehicles),
            has_watched: vec![false; plan.viewers as usize],
            plan,
            publish,
            conns: Vec::new(),
            waiting: Vec::new(),
            returning: VecDeque::new(),
            seated: 0,
            opens: 0,
            connecting: 0,
            registering: 0,
            live: 0,
            retry_at_ms: None,
            has_begun: false,
            since_ms: 0,
            there_ms: 0,
            started_ms: 0,
            ticks: 0,
            report_at_ms: 0,
            queue: Vec::new(),
            released: Vec::new(),
            turn: Composed::default(),
            counters: Counters::default(),
        }
    }

    /// Vehicles and viewers.
    fn everyone(&self) -> u32 {
        self.plan.roster.len() + self.plan.viewers
    }

    fn opened(&mut self, id: ConnId) {
        self.connecting = self.connecting.saturating_sub(1);
        let who = match self.report.phase {
            Phase::Joining if self.seated < self.everyone() => {
                self.seated += 1;
                match (self.seated - 1).checked_sub(self.plan.roster.len()) {
                    None => Some(Who::Vehicle(self.seated - 1)),
                    Some(viewer) => Some(Who::Viewer(viewer)),
                }
            }
            Phase::Driving => self.returning.pop_front(),
            _ => None,
        };
        let Some(who) = who else {
            self.released.push(id);
            return;
        };
        self.opens += 1;
        let seed = Dice::new(self.plan.seed, self.opens).bits();
        let client = Client::new(self.plan.dialect, &self.plan.host, &self.plan.path, seed);
        self.registering += 1;
        let index = id.index as usize;
        if self.conns.len() <= index {
            self.conns.resize_with(index + 1, || None);
        }
        self.conns[index] = Some(Conn::new(id, who, client));
        self.queue(id);
    }

    /// The gateway has said goodbye, and has been answered.
    fn goodbye(&mut self, now: Now, id: ConnId, code: u16, reason: &str) {
        let Some(conn) = conn(&mut self.conns, id) else { return };
        match mem::replace(&mut conn.stage, Stage::Closed) {
            Stage::Closing => {}
            before => {
                let who = conn.who;
                self.report.count_close(&format!("{code} {reason}"));
                self.lost(now, who, before);
                if (code, self.report.phase) == (SENT_AWAY, Phase::Driving) {
                    self.returning.push_back(who);
                }
            }
        }
        self.queue(id);
    }

    fn broken(&mut self, now: Now, id: ConnId, broken: Broken) {
        let Some(conn) = take_conn(&mut self.conns, id) else { return };
        self.released.push(id);
        if conn.stage == Stage::Closing {
            return;
        }
        self.report.count_close(&broken.to_string());
        self.lost(now, conn.who, conn.stage);
    }

    fn ended(&mut self, now: Now, id: ConnId, how: Ended) {
        if how == Ended::ConnectFailed {
            // The shell has forgotten it already.
            self.connecting = self.connecting.saturating_sub(1);
            self.retry_at_ms = Some(now.mono_ms + CONNECT_RETRY_MS);
            // Once we leave, the shell gives up by itself what was still being connected.
            if self.report.phase < Phase::Closing {
                self.report.count_close("connection failed");
            }
            return;
        }
        let Some(conn) = take_conn(&mut self.conns, id) else { return };
        self.released.push(id);
        if matches!(conn.stage, Stage::Closing | Stage::Closed) {
            return;
        }
        self.report.count_close(if how == Ended::Eof { "without a close frame" } else { "reset" });
        self.lost(now, conn.who, conn.stage);
    }

    /// Somebody is gone before their time.
    fn lost(&mut self, now: Now, who: Who, before: Stage) {
        match (before, who) {
            (Stage::Upgrading | Stage::Registering, _) => self.registering -= 1,
            (_, Who::Vehicle(vehicle)) => {
                self.live -= 1;
                self.seats[vehicle as usize].conn = None;
                self.ledger.left(vehicle, now.mono_ms);
            }
            (_, Who::Viewer(viewer)) => self.gallery.left(viewer),
        }
    }

    fn queue(&mut self, id: ConnId) {
        if let Some(conn) = conn(&mut self.conns, id)
            && !mem::replace(&mut conn.queued, true)
        {
            self.queue.push(id);
        }
    }

    /// Moves what is queued into the turn, one send per connection.
    fn flush(&mut self) {
        for id in self.queue.drain(..) {
            let Some(conn) = conn(&mut self.conns, id) else { continue };
            conn.queued = false;
            if conn.blocked {
                continue;
            }
            let pending = conn.client.pending_mut();
            if !pending.is_empty() {
                let start = self.turn.arena.len() as u32;
                self.turn.arena.append(pending);
                let len = self.turn.arena.len() as u32 - start;
                self.turn.sends.push(Send { conn: id, store: Store::Arena, start, len });
            }
            if conn.stage == Stage::Closed {
                // Both have said goodbye: the gateway sees our end and gives up the connection.
                self.turn.finished.push(id);
            }
        }
    }
}

impl<P: FnMut(&Report)> Core for Fleet<P> {
    type Mail = ();

    fn handle(&mut self, now: Now, input: Input<'_, ()>) {
        match input {
            Input::Opened { conn, .. } => self.opened(conn),
            Input::Bytes { conn, bytes } => self.bytes(now, conn, bytes),
            Input::Ended { conn, how } => self.ended(now, conn, how),
            Input::Blocked { conn: id, rest } => {
                if let Some(conn) = conn(&mut self.conns, id) {
                    conn.block(rest);
                }
            }
            Input::Writable { conn: id } => {
                if let Some(conn) = conn(&mut self.conns, id) {
                    conn.blocked = false;
                    self.queue(id);
                }
            }
            Input::Stop if self.report.phase < Phase::Closing => self.enter(now, Phase::Closing),
            // A fleet has one worker and no radio.
            Input::Load { .. } | Input::Configure { .. } | Input::Drain { .. } | Input::Stop => {}
            Input::Mail { .. } | Input::MailRefused { .. } | Input::Radio { .. } => {}
            Input::LinkUp { .. } | Input::LinkBytes { .. } | Input::LinkDown { .. } => {}
            // Nor does anybody come to it.
            Input::OpenedPrivately { .. } | Input::Keys(_) => {}
        }
    }

    fn poll_turn(&mut self, now: Now) -> Option<Turn<'_, ()>> {
        if !mem::replace(&mut self.has_begun, true) {
            self.since_ms = now.mono_ms;
        }
        self.turn.arena.clear();
        self.turn.sends.clear();
        self.turn.finished.clear();
        self.turn.released.clear();
        let connects = self.advance(now);
        self.flush();
        self.turn.released.append(&mut self.released);
        if now.mono_ms >= self.report_at_ms {
            self.report_at_ms = if self.report.phase == Phase::Done { u64::MAX } else { now.mono_ms + REPORT_MS };
            self.report.tally.clone_from(self.ledger.tally());
            self.gallery.watched().clone_into(&mut self.report.watched);
            (self.publish)(&self.report);
        }
        let Composed { arena, sends, finished, released, mail } = &mut self.turn;
        if sends.is_empty() && finished.is_empty() && released.is_empty() && connects == 0 {
            return None;
        }
        Some(Turn {
            arena,
            log: &[],
            sends,
            finished,
            released,
            mail,
            radio: &[],
            connects,
            links: &[],
            link_bytes: &[],
        })
    }

    fn next_deadline(&self) -> Option<u64> {
        if !self.has_begun {
            return Some(0);
        }
        let next = match self.report.phase {
            Phase::Joining => (self.since_ms + JOINING_STALLED_MS).min(self.retry_at_ms.unwrap_or(u64::MAX)),
            Phase::Driving => {
                let tick_us = self.due_us(self.ticks).min(self.plan.drive_ms * 1000);
                let views_ms = if self.waiting.is_empty() { u64::MAX } else { self.views_at_ms() };
                let retry_ms = self.retry_at_ms.filter(|_| !self.returning.is_empty()).unwrap_or(u64::MAX);
                (self.started_ms + tick_us.div_ceil(1000)).min(views_ms).min(retry_ms)
            }
            // Patience counts from the last update, which was sent before this phase began.
            Phase::Settling => self.since_ms + PATIENCE_MS,
            Phase::Closing => self.since_ms + CLOSING_MS_MAX,
            Phase::Done => return None,
        };
        Some(next.min(self.report_at_ms))
    }

    fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    fn is_stopped(&self) -> bool {
        self.report.phase == Phase::Done
    }
}

fn conn(conns: &mut [Option<Conn>], id: ConnId) -> Option<&mut Conn> {
    conns.get_mut(id.index as usize)?.as_mut().filter(|conn| conn.id == id)
}

fn take_conn(conns: &mut [Option<Conn>], id: ConnId) -> Option<Conn> {
    conns.get_mut(id.index as usize)?.take_if(|conn| conn.id == id)
}

mod hearing;
mod phases;

#[cfg(test)]
mod tests;
