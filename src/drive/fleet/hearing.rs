//! What a fleet does with what comes: it enters it into the ledgers.

use super::super::conn::{Conn, Stage, Who};
use super::super::gallery::Gallery;
use super::super::owed::Ledger;
use super::super::report::{Phase, Report};
use super::super::roster::Roster;
use super::super::talk::{self, Told};
use super::{Fleet, conn};
use crate::client::{Broken, Heard, Seen, States};
use crate::turn::{ConnId, Now};

impl<P: FnMut(&Report)> Fleet<P> {
    pub(super) fn bytes(&mut self, now: Now, id: ConnId, bytes: &mut [u8]) {
        let Some(conn) = conn(&mut self.conns, id) else { return };
        let is_counted = matches!(self.report.phase, Phase::Driving | Phase::Settling);
        let (roster, ledger, gallery, report) =
            (&self.plan.roster, &mut self.ledger, &mut self.gallery, &mut self.report);
        let before = conn.stage;
        let heard = Ear { now, is_counted, roster, ledger, gallery, report }.hear(conn, bytes);
        // Something was answered.
        let is_pending = !conn.client.pending().is_empty();
        if before != Stage::Ready && conn.stage == Stage::Ready {
            let who = conn.who;
            self.ready(now, id, who);
        }
        if is_pending {
            self.queue(id);
        }
        match heard {
            Ok(None) => {}
            Ok(Some((code, reason))) => self.goodbye(now, id, code, &reason),
            Err(broken) => self.broken(now, id, broken),
        }
    }

    /// A vehicle may drive, or a viewer watch.
    fn ready(&mut self, now: Now, id: ConnId, who: Who) {
        self.registering -= 1;
        match who {
            Who::Vehicle(vehicle) => {
                if self.seats[vehicle as usize].has_driven {
                    self.report.returned += 1;
                    self.ledger.returned(vehicle, now.mono_ms);
                } else {
                    self.report.registered += 1;
                }
                self.seats[vehicle as usize].has_driven = true;
                self.live += 1;
                self.seats[vehicle as usize].conn = Some(id);
            }
            Who::Viewer(viewer) => {
                if std::mem::replace(&mut self.has_watched[viewer as usize], true) {
                    self.report.viewers_returned += 1;
                    self.gallery.returned(viewer);
                }
                self.waiting.push(id);
            }
        }
        if self.report.phase == Phase::Joining {
            self.since_ms = now.mono_ms;
        }
    }
}

/// Where what is heard is written down.
struct Ear<'a> {
    now: Now,
    /// It is a time of which bytes are counted.
    is_counted: bool,
    roster: &'a Roster,
    ledger: &'a mut Ledger,
    gallery: &'a mut Gallery,
    report: &'a mut Report,
}

impl Ear<'_> {
    /// Hears everything in some bytes; answers the gateway's goodbye, if it came.
    fn hear(&mut self, conn: &mut Conn, bytes: &mut [u8]) -> Result<Option<(u16, String)>, Broken> {
        if self.is_counted {
            self.report.traffic.bytes += bytes.len() as u64;
        }
        let who = conn.who;
        let mut at = 0;
        loop {
            let (used, heard) = conn.client.hear(&mut bytes[at..])?;
            at += used;
            let message_bytes = std::mem::take(&mut conn.partial_bytes) + used as u64;
            match heard {
                None => {
                    conn.partial_bytes = message_bytes;
                    return Ok(None);
                }
                Some(Heard::Upgraded) => match who {
                    Who::Vehicle(vehicle) => {
                        conn.stage = Stage::Registering;
                        talk::register(&mut conn.client, self.roster.id(vehicle), vehicle);
                    }
                    Who::Viewer(_) => conn.stage = Stage::Ready,
                },
                Some(Heard::Event { name, text }) => {
                    let told = talk::understand(&name, text, self.roster);
                    if told == Told::Registered && conn.stage == Stage::Registering {
                        conn.stage = Stage::Ready;
                    }
                    self.event(who, told, message_bytes);
                }
                Some(Heard::States(states)) => {
                    for seen in states.iter() {
                        if let Seen::Here { state, .. } = seen {
                            self.report.traffic.unnamed += !conn.named.contains(&state.key) as u64;
                        }
                    }
                    self.states(who, states, message_bytes);
                }
                Some(Heard::Identity(identity)) => {
                    conn.named.insert(identity.key);
                    if self.is_counted {
                        self.report.traffic.identities += 1;
                        self.report.traffic.identity_bytes += message_bytes;
                    }
                }
                Some(Heard::Nonsense { .. }) => self.report.count_error(NONSENSE),
                Some(Heard::Closed { code, reason }) => return Ok(Some((code, reason.to_owned()))),
                Some(Heard::Nothing) => {}
            }
        }
    }

    fn event(&mut self, who: Who, told: Told, message_bytes: u64) {
        match (told, who) {
            (Told::PeerLocation { sender, ts }, _) => {
                self.positions(1, message_bytes);
                self.located(who, sender, Some(ts));
            }
            (Told::PeerGone { sender }, _) => self.gone(who, sender),
            (Told::Watching { cut: true }, Who::Viewer(viewer)) => self.gallery.cut(viewer),
            (Told::Error { code }, _) => self.report.count_error(&code),
            (Told::Nonsense, _) => self.report.count_error(NONSENSE),
            (Told::Registered | Told::Watching { .. } | Told::Other, _) => {}
        }
    }

    fn states(&mut self, who: Who, states: States<'_>, message_bytes: u64) {
        let mut here = 0;
        for seen in states.iter() {
            match seen {
                Seen::Here { state, unix_ms } => {
                    here += 1;
                    self.located(who, self.roster.by_key(state.key), unix_ms);
                }
                Seen::Gone { key } => self.gone(who, self.roster.by_key(key)),
            }
        }
        self.positions(here, message_bytes);
        if let Who::Viewer(viewer) = who {
            if states.is_cut() {
                self.gallery.cut(viewer);
            }
            if states.is_complete() {
                self.gallery.completed(viewer, self.now.mono_ms);
            }
        }
    }

    /// So many positions came in one message.
    fn positions(&mut self, count: u64, message_bytes: u64) {
        if self.is_counted {
            self.report.traffic.positions += count;
            self.report.traffic.position_messages += 1;
            self.report.traffic.position_bytes += message_bytes;
        }
    }

    /// A position came.
    #[inline]
    fn located(&mut self, who: Who, sender: Option<u32>, ts: Option<u64>) {
        let Some(sender) = sender else {
            self.report.strangers += 1;
            return;
        };
        match (who, ts) {
            (Who::Vehicle(receiver), Some(ts)) => self.ledger.received(receiver, sender, ts, self.now.mono_ms),
            (Who::Vehicle(_), None) => self.ledger.received_undated(),
            (Who::Viewer(viewer), ts) => {
                let sent = ts.and_then(|ts| self.ledger.update(sender, ts));
                self.gallery.received(viewer, sender, ts, sent, self.now.mono_ms);
            }
        }
    }

    /// A vehicle has left somebody's view. Once all say goodbye, nobody counts who is told of it in time.
    fn gone(&mut self, who: Who, sender: Option<u32>) {
        match (who, sender) {
            _ if !self.is_counted => {}
            (Who::Viewer(viewer), Some(sender)) => self.gallery.gone(viewer, sender),
            (Who::Vehicle(_), Some(_)) => self.report.gone += 1,
            (_, None) => {}
        }
    }
}

/// The error that a message counts as that is no event, or lacks what its name promises.
const NONSENSE: &str = "(not an event)";
