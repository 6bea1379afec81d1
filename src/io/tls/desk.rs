//! The sessions of one worker, by the index of their connection.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::outcome::HandshakeOutcome;
use super::session::{Next, Sealing, Session, Terms};
use super::{Certificate, Dialling, Encryption};
use crate::io::counters::ShellCounters;
use crate::limits;
use crate::turn::ConnId;

/// What the core has to hear of bytes that a session took, besides what was in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing.
    On,
    /// It speaks in clear: from now on its bytes are the core's.
    Clear,
    /// The client will send nothing more.
    Ended,
    /// The connection is of no use.
    Broken,
}

/// A send to a connection that has a session.
pub(crate) struct Sealed {
    /// Its place among the turn's sends.
    pub(crate) position: u32,
    pub(crate) how: SealedHow,
}

/// What has become of it.
#[derive(Clone, Copy)]
pub(crate) enum SealedHow {
    /// It goes as it is.
    Clear,
    /// So many of its bytes are encrypted, from here to there in the arena.
    Arena { taken: u32, start: usize, end: usize },
    /// The same, and the kernel has not taken what lies from here to there.
    Cut { taken: u32, start: usize, end: usize },
    /// So many of its bytes are encrypted, behind what waits in the session.
    Waiting { taken: u32 },
    /// Nothing of it is encrypted yet: enough is, for one turn, or the handshake is not done.
    Later,
    /// Nobody can read it.
    Unreadable,
    /// Nothing can be encrypted any more.
    Broken,
}

/// The sessions of one worker.
pub(crate) struct Desk {
    terms: Terms,
    sessions: FxHashMap<u32, Session>,
    /// What the last call of [`Desk::take`] has for the core.
    pub(crate) plain: Vec<u8>,
    /// A turn's sends, encrypted.
    pub(crate) arena: Vec<u8>,
    /// What is in it, in the order of the sends.
    pub(crate) sealed: Vec<Sealed>,
    /// Sessions that have something to send of their own, or to shut.
    due: Vec<ConnId>,
    /// Sessions that can encrypt nothing any more, until they are counted.
    pub(super) broken: u64,
}

impl Desk {
    /// For connections that come.
    pub(crate) fn of_port(encryption: &Encryption) -> Desk {
        Desk::new(Terms::Port { config: encryption.certificate.config.clone(), required: encryption.required })
    }

    /// For connections that are made.
    pub(crate) fn of_calls(dialling: &Dialling) -> Desk {
        Desk::new(Terms::Call { config: dialling.config.clone(), name: dialling.name.clone() })
    }

    fn new(terms: Terms) -> Desk {
        Desk {
            terms,
            sessions: FxHashMap::default(),
            plain: Vec::new(),
            arena: Vec::new(),
            sealed: Vec::new(),
            due: Vec::new(),
            broken: 0,
        }
    }

    /// New sessions show another certificate.
    pub(crate) fn show(&mut self, certificate: &Arc<Certificate>) {
        if let Terms::Port { config, .. } = &mut self.terms {
            *config = certificate.config.clone();
        }
    }

    /// A connection has come to the port, or was made.
    pub(crate) fn open(&mut self, conn: ConnId) {
        let session = Session::new(&self.terms);
        let has_something = !session.outgoing.is_empty() || session.is_ending;
        self.sessions.insert(conn.index, session);
        if has_something {
            self.look_after(conn);
        }
    }

    /// A connection is gone, or needs no session.
    pub(crate) fn close(&mut self, conn: ConnId, counts: &mut ShellCounters) {
        if let Some(session) = self.sessions.remove(&conn.index) {
            counts.tls_sessions -= u64::from(session.is_greeted());
            if session.is_shaking_hands() {
                counts.tls_handshakes.increment(HandshakeOutcome::Abandoned);
            }
        }
    }

    pub(super) fn session(&mut self, conn: ConnId) -> Option<&mut Session> {
        self.sessions.get_mut(&conn.index)
    }

    pub(super) fn peek(&self, conn: ConnId) -> Option<&Session> {
        self.sessions.get(&conn.index)
    }

    /// Whether the core has bytes to send to this connection before anything else.
    pub(crate) fn is_owed(&self, conn: ConnId) -> bool {
        self.peek(conn).is_some_and(|session| session.is_owed)
    }

    /// Takes what was received. What the core should see of it is in `plain` then.
    pub(crate) fn take(&mut self, conn: ConnId, bytes: &mut [u8], counts: &mut ShellCounters) -> Heard {
        self.plain.clear();
        let Some(session) = self.sessions.get_mut(&conn.index) else { return Heard::On };
        let was_greeted = session.is_greeted();
        let next = session.take(&self.terms, bytes, &mut self.plain);
        if let Some(outcome) = session.outcome.take() {
            counts.tls_handshakes.increment(outcome);
        }
        match (was_greeted, session.is_greeted()) {
            (false, true) => counts.tls_sessions += 1,
            (true, false) => counts.tls_sessions -= 1,
            _ => {}
        }
        let is_new = !was_greeted && session.is_greeted();
        if !session.outgoing.is_empty() || session.is_ending || is_new {
            self.look_after(conn);
        }
        match next {
            Next::On => Heard::On,
            Next::Clear => Heard::Clear,
            Next::Ended => Heard::Ended,
            Next::Refused(None) => Heard::On,
            Next::Refused(Some(error)) => {
                tracing::debug!(%error, "a TLS handshake has failed");
                // Whom we have called there is nothing more to wait for.
                if matches!(self.terms, Terms::Call { .. }) { Heard::Broken } else { Heard::On }
            }
            Next::Broken(error) => {
                tracing::debug!(%error, "a TLS session has broken");
                counts.tls_broken += 1;
                Heard::Broken
            }
        }
    }

    /// A turn's sends are about to be encrypted.
    pub(crate) fn begin_turn(&mut self) {
        self.sealed.clear();
        self.arena.clear();
        self.arena.shrink_to(limits::TLS_SCRATCH_BYTES_KEPT_MAX);
    }

    /// Encrypts one of a turn's sends, as far as it goes at a time. With `waits`, what was sent before is not out.
    pub(crate) fn seal(&mut self, position: u32, conn: ConnId, bytes: &[u8], waits: bool) {
        let Some(session) = self.sessions.get_mut(&conn.index) else { return };
        session.is_owed = false;
        let start = self.arena.len();
        if start >= limits::TLS_TURN_BYTES_MAX && session.is_greeted() {
            self.sealed.push(Sealed { position, how: SealedHow::Later });
            return;
        }
        let how = match session.seal(&self.terms, bytes, &mut self.arena) {
            Sealing::Clear => SealedHow::Clear,
            Sealing::NotYet => SealedHow::Later,
            Sealing::Unreadable => SealedHow::Unreadable,
            Sealing::Broken => {
                self.broken += 1;
                SealedHow::Broken
            }
            Sealing::Sealed(taken) if waits || !session.outgoing.is_empty() => {
                session.outgoing.extend(self.arena.drain(start..));
                SealedHow::Waiting { taken: taken as u32 }
            }
            Sealing::Sealed(taken) => SealedHow::Arena { taken: taken as u32, start, end: self.arena.len() },
        };
        self.sealed.push(Sealed { position, how });
    }

    /// What the kernel has not taken of the arena stays with its session.
    pub(crate) fn keep(&mut self, conn: ConnId, start: usize, end: usize) {
        if let Some(session) = self.sessions.get_mut(&conn.index) {
            session.outgoing.extend_from_slice(&self.arena[start..end]);
        }
    }

    /// A session has something to send, or to shut.
    pub(crate) fn look_after(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(&conn.index)
            && !std::mem::replace(&mut session.is_due, true)
        {
            self.due.push(conn);
        }
    }

    /// Those to look after, each once.
    pub(crate) fn take_due(&mut self) -> Vec<ConnId> {
        let due = std::mem::take(&mut self.due);
        for conn in &due {
            if let Some(session) = self.sessions.get_mut(&conn.index) {
                session.is_due = false;
            }
        }
        due
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
