//! The fleet: a core that is all the vehicles.
//!
//! Its life is five phases ([`Phase`]). Vehicles join, a bounded number at a time. Once all have registered they drive:
//! time is cut into one period per update and spread over the vehicles, so updates leave evenly and not in bursts. Then
//! no more are sent, and what is in flight may arrive; then connections are closed properly.
//!
//! Like every core it has no clock, no socket and no chance of its own.

use std::mem;

use super::client::{Broken, Client, Stage};
use super::dice::Dice;
use super::owed::{Ledger, PATIENCE_MS};
use super::plan::{Movement, Plan};
use super::report::{Phase, Report};
use super::talk::{self, Heard};
use crate::metrics::Counters;
use crate::turn::{ConnId, Core, Ended, Input, Now, Send, ShardId, Store, Turn};

/// After a connection could not be made.
const CONNECT_RETRY_MS: u64 = 200;

/// So long without a single vehicle more, and those that are there drive alone.
const JOINING_STALLED_MS: u64 = 10_000;

/// For the gateway's goodbyes.
const CLOSING_MS_MAX: u64 = 2_000;

/// Between two reports.
const REPORT_MS: u64 = 250;

/// All vehicles and their connections.
pub struct Fleet<P> {
    plan: Plan,
    publish: P,
    report: Report,
    ledger: Ledger,
    /// By index of their [`ConnId`].
    clients: Vec<Option<Client>>,
    /// By vehicle.
    seats: Vec<Seat>,
    /// Vehicles that have a connection or had one.
    seated: u32,
    /// Connections asked for and neither there nor failed.
    connecting: u32,
    /// Vehicles that are connected and not registered.
    registering: u32,
    /// Vehicles that are registered now.
    live: u32,
    /// After a failure: not before.
    retry_at_ms: Option<u64>,
    /// From the first turn on: only there it learns what time it is.
    has_begun: bool,
    /// When the phase began; while joining, when a vehicle registered last.
    since_ms: u64,
    /// When the fleet began to drive.
    started_ms: u64,
    /// Updates of all vehicles whose time has come, sent or not.
    ticks: u64,
    report_at_ms: u64,
    queue: Vec<ConnId>,
    /// To be released with the next turn.
    released: Vec<ConnId>,
    scratch: Vec<u8>,
    turn: Composed,
    counters: Counters,
}

/// What the ledger does not know of a vehicle.
#[derive(Clone, Copy, Debug, Default)]
struct Seat {
    /// While it is registered.
    conn: Option<ConnId>,
    /// Of its last update; the next one's is greater.
    ts: u64,
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
        Fleet {
            report: Report { vehicles, planned_ms: plan.drive_ms, trace, ..Report::default() },
            ledger: Ledger::new(vehicles, plan.radius_m, gap_ms.saturating_sub(1)),
            plan,
            publish,
            clients: Vec::new(),
            seats: vec![Seat::default(); vehicles as usize],
            seated: 0,
            connecting: 0,
            registering: 0,
            live: 0,
            retry_at_ms: None,
            has_begun: false,
            since_ms: 0,
            started_ms: 0,
            ticks: 0,
            report_at_ms: 0,
            queue: Vec::new(),
            released: Vec::new(),
            scratch: Vec::new(),
            turn: Composed::default(),
            counters: Counters::default(),
        }
    }

    fn opened(&mut self, conn: ConnId) {
        self.connecting = self.connecting.saturating_sub(1);
        if self.report.phase != Phase::Joining || self.seated == self.plan.roster.len() {
            self.released.push(conn);
            return;
        }
        let masks = Dice::new(self.plan.seed, self.seated as u64);
        let client = Client::new(conn, self.seated, &self.plan.host, &self.plan.path, masks);
        self.seated += 1;
        self.registering += 1;
        let index = conn.index as usize;
        if self.clients.len() <= index {
            self.clients.resize_with(index + 1, || None);
        }
        self.clients[index] = Some(client);
        self.queue(conn);
    }

    fn bytes(&mut self, now: Now, conn: ConnId, bytes: &mut [u8]) {
        let Some(client) = client(&mut self.clients, conn) else { return };
        match client.stage {
            Stage::Upgrading => {}
            // RFC 6455, section 5.5.1: after a close frame nothing that comes has a meaning.
            Stage::Closed => return,
            _ => return self.frames(now, conn, bytes),
        }
        match client.upgrade(bytes) {
            Ok(None) => {}
            Ok(Some(mut frames)) => {
                self.scratch.clear();
                talk::register(&mut self.scratch, self.plan.roster.id(client.vehicle), client.vehicle);
                client.say(&self.scratch);
                self.queue(conn);
                self.frames(now, conn, &mut frames);
            }
            Err(broken) => self.broken(now, conn, broken),
        }
    }

    fn frames(&mut self, now: Now, conn: ConnId, bytes: &mut [u8]) {
        let Some(client) = client(&mut self.clients, conn) else { return };
        let (receiver, before) = (client.vehicle, client.stage);
        let (roster, ledger, report) = (&self.plan.roster, &mut self.ledger, &mut self.report);
        let heard = client.hear(bytes, |stage, text| match talk::hear(text, roster) {
            Heard::PeerLocation { sender: Some(sender), ts } => ledger.received(receiver, sender, ts, now.mono_ms),
            Heard::PeerLocation { sender: None, .. } => report.strangers += 1,
            Heard::Registered if *stage == Stage::Registering => *stage = Stage::Registered,
            Heard::Registered | Heard::Other => {}
            Heard::Error { code } => report.count_error(&code),
            Heard::Nonsense => report.count_error("(not an event)"),
        });
        let said = !client.pending.is_empty();
        if before == Stage::Registering && client.stage == Stage::Registered {
            self.registering -= 1;
            self.report.registered += 1;
            self.live += 1;
            self.seats[receiver as usize].conn = Some(conn);
            if self.report.phase == Phase::Joining {
                self.since_ms = now.mono_ms;
            }
        }
        if said {
            self.queue(conn);
        }
        match heard {
            Ok(None) => {}
            Ok(Some((code, reason))) => self.goodbye(now, conn, code, &reason),
            Err(broken) => self.broken(now, conn, broken),
        }
    }

    /// The gateway closes.
    fn goodbye(&mut self, now: Now, conn: ConnId, code: u16, reason: &str) {
        let Some(client) = client(&mut self.clients, conn) else { return };
        match mem::replace(&mut client.stage, Stage::Closed) {
            Stage::Closing => {}
            before => {
                // RFC 6455, section 7.4.1: 1005 "MUST NOT be set as a status code in a Close control frame".
                client.say_goodbye(if code == 1005 { 1000 } else { code });
                let vehicle = client.vehicle;
                self.report.count_close(&format!("{code} {reason}"));
                self.lost(now, vehicle, before);
            }
        }
        self.queue(conn);
    }

    fn broken(&mut self, now: Now, conn: ConnId, broken: Broken) {
        let Some(client) = take_client(&mut self.clients, conn) else { return };
        self.released.push(conn);
        if client.stage == Stage::Closing {
            return;
        }
        self.report.count_close(&broken.to_string());
        self.lost(now, client.vehicle, client.stage);
    }

    fn ended(&mut self, now: Now, conn: ConnId, how: Ended) {
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
        let Some(client) = take_client(&mut self.clients, conn) else { return };
        self.released.push(conn);
        if matches!(client.stage, Stage::Closing | Stage::Closed) {
            return;
        }
        self.report.count_close(if how == Ended::Eof { "without a close frame" } else { "reset" });
        self.lost(now, client.vehicle, client.stage);
    }

    /// A vehicle is gone before its time.
    fn lost(&mut self, now: Now, vehicle: u32, before: Stage) {
        match before {
            Stage::Upgrading | Stage::Registering => self.registering -= 1,
            _ => {
                self.live -= 1;
                self.seats[vehicle as usize].conn = None;
                self.ledger.left(vehicle, now.mono_ms);
            }
        }
    }

    fn queue(&mut self, conn: ConnId) {
        if let Some(client) = client(&mut self.clients, conn)
            && !mem::replace(&mut client.queued, true)
        {
            self.queue.push(conn);
        }
    }

    /// Moves what is queued into the turn, one send per connection.
    fn flush(&mut self) {
        for conn in self.queue.drain(..) {
            let Some(client) = client(&mut self.clients, conn) else { continue };
            client.queued = false;
            if client.blocked {
                continue;
            }
            if !client.pending.is_empty() {
                let start = self.turn.arena.len() as u32;
                self.turn.arena.append(&mut client.pending);
                let len = self.turn.arena.len() as u32 - start;
                self.turn.sends.push(Send { conn, store: Store::Arena, start, len });
            }
            if client.stage == Stage::Closed {
                // Both have said goodbye: the gateway sees our end and gives up the connection.
                self.turn.finished.push(conn);
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
            Input::Blocked { conn, rest } => {
                if let Some(client) = client(&mut self.clients, conn) {
                    client.block(rest);
                }
            }
            Input::Writable { conn } => {
                if let Some(client) = client(&mut self.clients, conn) {
                    client.blocked = false;
                    self.queue(conn);
                }
            }
            Input::Stop if self.report.phase < Phase::Closing => self.enter(now, Phase::Closing),
            // A fleet has one worker and no radio.
            Input::Stop | Input::Mail { .. } | Input::MailRefused { .. } | Input::Radio { .. } => {}
            Input::LinkUp { .. } | Input::LinkBytes { .. } | Input::LinkDown { .. } => {}
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
                self.started_ms + tick_us.div_ceil(1000)
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

fn client(clients: &mut [Option<Client>], conn: ConnId) -> Option<&mut Client> {
    clients.get_mut(conn.index as usize)?.as_mut().filter(|client| client.conn == conn)
}

fn take_client(clients: &mut [Option<Client>], conn: ConnId) -> Option<Client> {
    clients.get_mut(conn.index as usize)?.take_if(|client| client.conn == conn)
}

mod phases;

#[cfg(test)]
mod tests;
