//! What a worker's hands do for its TLS sessions: send what is encrypted, what sessions say of their own, and both in the
//! order in which it was said.

use std::io;
use std::sync::Arc;

use super::Certificate;
use super::desk::{Desk, Sealed, SealedHow};
use crate::io::hands::{Aftermath, Hands, shut};
use crate::io::sockets::{BLOCKED, CONNECTING, RELEASED, SESSION};
use crate::turn::{ConnId, Turn};

/// The encrypted sends of a turn, to be looked up in their order.
pub(crate) struct Sealings<'a> {
    desk: Option<&'a Desk>,
    next: usize,
}

impl<'a> Sealings<'a> {
    pub(crate) fn of(desk: Option<&'a Desk>) -> Sealings<'a> {
        Sealings { desk, next: 0 }
    }

    /// What is to be sent now in the place of `bytes`.
    pub(crate) fn bytes(&mut self, position: u32, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let desk = self.desk?;
        let of_it = desk.sealed[self.next..].iter().position(|sealed| sealed.position == position)?;
        self.next += of_it + 1;
        match desk.sealed[self.next - 1].how {
            SealedHow::Clear => Some(bytes),
            SealedHow::Arena { start, end, .. } => Some(&desk.arena[start..end]),
            SealedHow::Waiting { .. } | SealedHow::Cut { .. } | SealedHow::Later => None,
            SealedHow::Unreadable | SealedHow::Broken => None,
        }
    }
}

impl<M> Hands<M> {
    /// New connections get this certificate; `None`: there should be another, and it could not be used.
    pub(crate) fn show(&mut self, certificate: Option<&Arc<Certificate>>) {
        let counts = u64::from(self.mesh.is_first());
        let (Some(desk), Some(certificate)) = (&mut self.desk, certificate) else {
            self.counts.tls_reloads_failed += counts;
            return;
        };
        desk.show(certificate);
        self.counts.tls_reloads += counts;
        self.note_certificate(certificate);
    }

    /// All workers show the same, so one tells how long.
    pub(crate) fn note_certificate(&mut self, certificate: &Certificate) {
        if self.mesh.is_first() {
            self.counts.tls_expiry_s = certificate.expires_unix_s;
        }
    }

    /// A connection has come to the port, or was made; it may speak TLS, or has to.
    pub(crate) fn expect_session(&mut self, conn: ConnId) {
        if let Some(desk) = &mut self.desk
            && let Some(socket) = self.sockets.find(conn)
        {
            socket.set(SESSION);
            desk.open(conn);
        }
    }

    /// A connection does not speak TLS.
    pub(crate) fn speak_in_clear(&mut self, conn: ConnId) {
        let is_blocked = self.desk.as_ref().and_then(|desk| desk.peek(conn)).is_some_and(|session| session.is_blocked);
        self.close_session(conn);
        if let Some(socket) = self.sockets.find(conn) {
            socket.clear(SESSION);
            if is_blocked && !socket.has(BLOCKED) {
                // It would have been told with the others that have sessions.
                self.aftermath.push(Aftermath::Writable(conn));
            }
        }
    }

    /// The core is told that the kernel took only a part of something sent in clear.
    pub(crate) fn note_blocked(&mut self, conn: ConnId) {
        if let Some(session) = self.desk.as_mut().and_then(|desk| desk.session(conn)) {
            (session.is_blocked, session.is_owed) = (true, true);
        }
    }

    pub(crate) fn close_session(&mut self, conn: ConnId) {
        if let Some(desk) = &mut self.desk
            && self.sockets.peek(conn).is_some_and(|socket| socket.has(SESSION))
        {
            desk.close(conn, &mut self.counts);
        }
    }

    /// The core has said its last word: so does TLS, and then the sending side is shut.
    pub(crate) fn end_session(&mut self, conn: ConnId) {
        if let Some(desk) = &mut self.desk
            && let Some(session) = desk.session(conn)
        {
            session.end();
            desk.look_after(conn);
        }
    }

    /// There is room for what waits in a session.
    pub(crate) fn look_after(&mut self, conn: ConnId) {
        if let Some(desk) = &mut self.desk {
            desk.look_after(conn);
        }
    }

    /// Encrypts what a turn sends to those who speak TLS.
    pub(crate) fn seal(&mut self, turn: &Turn<'_, M>) {
        let Some(desk) = &mut self.desk else { return };
        desk.begin_turn();
        for (position, send) in (0..).zip(turn.sends) {
            let socket = self.sockets.peek(send.conn).filter(|socket| socket.has(SESSION));
            if let Some(socket) = socket.filter(|socket| !socket.has(RELEASED | CONNECTING)) {
                desk.seal(position, send.conn, turn.bytes(send), socket.has(BLOCKED));
            }
        }
    }

    /// Of an encrypted send the kernel has not taken everything. False: this one is not.
    pub(crate) fn note_sealed(&mut self, position: u32, result: i32) -> bool {
        let Some(desk) = &mut self.desk else { return false };
        let found = desk.sealed.binary_search_by_key(&position, |sealed| sealed.position);
        let Some(sealed) = found.ok().map(|at| &mut desk.sealed[at]) else { return false };
        sealed.how = match sealed.how {
            // As any other: the core gets its rest back.
            SealedHow::Clear => return false,
            SealedHow::Arena { taken, start, end } => match -result {
                ..=0 => SealedHow::Cut { taken, start: start + result as usize, end },
                libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM => SealedHow::Cut { taken, start, end },
                _ => {
                    self.counts.sends_failed += 1;
                    self.counts.sent_bytes -= (end - start) as u64;
                    SealedHow::Broken
                }
            },
            // Nothing of it was submitted.
            ref other => *other,
        };
        true
    }

    /// What the kernel has not taken stays in the sessions, and the core hears of it.
    pub(crate) fn settle_sealed(&mut self, turn: &Turn<'_, M>) -> io::Result<()> {
        let Some(desk) = &mut self.desk else { return Ok(()) };
        let sealed = std::mem::take(&mut desk.sealed);
        for Sealed { position, how } in &sealed {
            let send = &turn.sends[*position as usize];
            let (taken, is_cut) = match *how {
                SealedHow::Clear => continue,
                SealedHow::Unreadable => {
                    self.counts.tls_unread += 1;
                    continue;
                }
                SealedHow::Broken => {
                    self.aftermath.push(Aftermath::Broken(send.conn));
                    continue;
                }
                SealedHow::Arena { taken, .. } => (taken, false),
                SealedHow::Waiting { taken } => (taken, true),
                SealedHow::Later => (0, true),
                SealedHow::Cut { taken, start, end } => {
                    self.counts.sent_bytes -= (end - start) as u64;
                    self.keep(send.conn, start, end);
                    (taken, true)
                }
            };
            if !is_cut && taken == send.len {
                continue;
            }
            let rest = self.rests.note(send, taken);
            if let Some(session) = self.desk.as_mut().and_then(|desk| desk.session(send.conn)) {
                session.is_blocked = true;
                session.is_owed = !rest.is_empty();
            }
            if self.sockets.peek(send.conn).is_some_and(|socket| !socket.has(BLOCKED)) {
                self.block(send.conn)?;
            }
            self.aftermath.push(Aftermath::Blocked(send.conn, rest));
        }
        if let Some(desk) = &mut self.desk {
            desk.sealed = sealed;
            self.counts.tls_broken += std::mem::take(&mut desk.broken);
        }
        Ok(())
    }

    fn keep(&mut self, conn: ConnId, start: usize, end: usize) {
        if let Some(desk) = &mut self.desk {
            desk.keep(conn, start, end);
        }
    }

    /// Sends what sessions have of their own, shuts those that have ended, and notes for the core whose room is its own
    /// again.
    pub(crate) fn send_own(&mut self) -> io::Result<()> {
        let Some(desk) = &mut self.desk else { return Ok(()) };
        let due = desk.take_due();
        if due.is_empty() {
            return Ok(());
        }
        let (desk, sockets) = (&*desk, &self.sockets);
        let is_open = |conn: &ConnId| {
            let socket = sockets.peek(*conn)?;
            (!socket.has(RELEASED | BLOCKED)).then_some(socket)?.fd()
        };
        let mut bytes = 0;
        let mut sends = 0;
        let takers = (0..).zip(&due).filter_map(|(position, conn)| {
            let (fd, session) = (is_open(conn)?, desk.peek(*conn)?);
            let waits = (!session.outgoing.is_empty()).then_some(&*session.outgoing)?;
            bytes += waits.len() as u64;
            sends += 1;
            Some((position, fd, waits))
        });
        let mut unsent = std::mem::take(&mut self.unsent);
        self.ring.send_all(takers, &mut unsent)?;
        self.counts.sends += sends;
        self.counts.sent_bytes += bytes;
        unsent.sort_unstable();
        let mut results = unsent.iter().peekable();
        for (position, &conn) in (0..).zip(&due) {
            let result = results.next_if(|(at, _)| *at == position).map(|(_, result)| *result);
            let Some(socket) = self.sockets.peek(conn).filter(|socket| !socket.has(RELEASED | BLOCKED)) else {
                continue;
            };
            let Some(session) = self.desk.as_mut().and_then(|desk| desk.session(conn)) else { continue };
            let waits = session.outgoing.len();
            let taken = match result {
                None => waits,
                Some(result @ 0..) => result as usize,
                Some(result) if matches!(-result, libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM) => 0,
                Some(_) => {
                    self.counts.sends_failed += 1;
                    self.counts.sent_bytes -= waits as u64;
                    session.outgoing = Vec::new();
                    self.aftermath.push(Aftermath::Broken(conn));
                    continue;
                }
            };
            session.outgoing.drain(..taken);
            if !session.outgoing.is_empty() {
                self.counts.sent_bytes -= session.outgoing.len() as u64;
                self.block(conn)?;
                continue;
            }
            session.outgoing = Vec::new();
            if std::mem::take(&mut session.is_ending) {
                shut(socket.fd());
            }
            if !session.is_calling() && std::mem::take(&mut session.is_blocked) {
                self.aftermath.push(Aftermath::Writable(conn));
            }
        }
        self.unsent = unsent;
        Ok(())
    }
}
