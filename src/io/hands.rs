//! How a worker carries out what its core wants: one turn at a time, each in full.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket as Socket2, Type};

use super::counters::ShellCounters;
use super::mesh::Mesh;
use super::radio::Radio;
use super::redis::Links;
use super::rests::{Rests, Unsent};
use super::ring::{DataRing, Op};
use super::sockets::{BLOCKED, CONNECTING, FINISHING, RECV, RELEASED, RUNNING, SESSION, STARVED, Sockets};
use super::tls::Sealings;
use super::tls::desk::Desk;
use crate::turn::{ConnId, ShardId, Turn};

/// What the listener of a worker is doing.
pub(crate) enum Listening {
    /// There is none, or no more.
    Off,
    /// A multishot accept is running.
    On(OwnedFd),
    /// No descriptor was left. Goes on when one of ours is closed, or at this time (`mono_ms`).
    Paused(OwnedFd, u64),
    /// The accept was told to end; until it has, the descriptor stays.
    Closing { _listener: OwnedFd },
}

/// What a core is told once the turn it happened in does not borrow from it any more.
pub(crate) enum Aftermath<M> {
    Blocked(ConnId, Unsent),
    Writable(ConnId),
    Broken(ConnId),
    ConnectFailed(ConnId),
    MailRefused(ShardId, M),
}

/// Everything that a worker has and its core has not.
pub(crate) struct Hands<M> {
    pub(crate) ring: DataRing,
    pub(crate) sockets: Sockets,
    pub(crate) listening: Listening,
    pub(crate) target: Option<SocketAddr>,
    pub(crate) mesh: Mesh<M>,
    pub(crate) radio: Option<Radio>,
    pub(crate) links: Links,
    /// The TLS sessions, where the listener encrypts.
    pub(crate) desk: Option<Desk>,
    pub(crate) counts: ShellCounters,
    /// Connections whose receive ended for want of buffers, longest first.
    pub(crate) starved: VecDeque<ConnId>,
    /// Requests that were not found when they were cancelled, and whose last completion has not come either.
    pub(crate) to_cancel_again: Vec<(Op, ConnId)>,
    pub(crate) aftermath: Vec<Aftermath<M>>,
    /// A descriptor was closed since the listener was looked at.
    pub(crate) descriptor_freed: bool,
    pub(crate) stopping: bool,
    pub(super) unsent: Vec<(u32, i32)>,
    pub(crate) rests: Rests,
    /// Connections with [`FINISHING`].
    pub(super) finishing: usize,
}

impl<M> Hands<M> {
    pub(crate) fn new(ring: DataRing, mesh: Mesh<M>, links: Links) -> Hands<M> {
        Hands {
            ring,
            sockets: Sockets::default(),
            listening: Listening::Off,
            target: None,
            mesh,
            radio: None,
            links,
            desk: None,
            counts: ShellCounters::default(),
            starved: VecDeque::new(),
            to_cancel_again: Vec::new(),
            aftermath: Vec::new(),
            descriptor_freed: false,
            stopping: false,
            unsent: Vec::new(),
            rests: Rests::default(),
            finishing: 0,
        }
    }

    /// Closes the listener once its accept has ended.
    pub(crate) fn stop_listening(&mut self) -> io::Result<()> {
        self.listening = match std::mem::replace(&mut self.listening, Listening::Off) {
            Listening::On(listener) => {
                self.ring.cancel_accept()?;
                Listening::Closing { _listener: listener }
            }
            closing @ Listening::Closing { .. } => closing,
            Listening::Off | Listening::Paused(..) => Listening::Off,
        };
        Ok(())
    }

    /// Whether nothing is left to do before something happens.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.starved.is_empty() && self.to_cancel_again.is_empty() && self.ring.is_idle()
    }

    /// Carries out one turn, in the order of its fields. What there is to tell the core lies in `aftermath` then.
    pub(crate) fn carry_out(&mut self, turn: Turn<'_, M>) -> io::Result<()> {
        self.counts.turns += 1;
        if !turn.sends.is_empty() {
            self.send(&turn)?;
        }
        for &conn in turn.finished {
            self.finish(conn);
        }
        self.send_own()?;
        for &conn in turn.released {
            self.release(conn)?;
        }
        if !turn.mail.is_empty() {
            let (aftermath, counts) = (&mut self.aftermath, &mut self.counts);
            self.mesh.post(turn.mail, |to, mail| {
                counts.mail_refused += 1;
                aftermath.push(Aftermath::MailRefused(to, mail));
            });
        }
        if !turn.radio.is_empty() {
            match &mut self.radio {
                Some(radio) => radio.write(turn.radio, &mut self.ring, &mut self.counts)?,
                None => self.counts.radio_bytes_shed += turn.radio.len() as u64,
            }
        }
        if turn.connects > 0 {
            self.connect(turn.connects)?;
        }
        self.links.carry_out(turn.links, turn.link_bytes, &mut self.counts);
        Ok(())
    }

    fn send(&mut self, turn: &Turn<'_, M>) -> io::Result<()> {
        self.seal(turn);
        let sockets = &self.sockets;
        let mut sealed = Sealings::of(self.desk.as_ref());
        let (mut sends, mut bytes) = (0, 0);
        let takers = (0..).zip(turn.sends).filter_map(|(position, send)| {
            let socket = sockets.peek(send.conn).filter(|socket| !socket.has(RELEASED | CONNECTING));
            debug_assert!(socket.is_some(), "a send to {:?}, which is not open", send.conn);
            let socket = socket?;
            if socket.has(SESSION) {
                let encrypted = sealed.bytes(position, turn.bytes(send))?;
                sends += 1;
                bytes += encrypted.len() as u64;
                return Some((position, socket.fd()?, encrypted));
            }
            // Bytes that overtake the rest of an earlier send would corrupt the stream.
            debug_assert!(!socket.has(BLOCKED), "a send to {:?}, which is blocked", send.conn);
            let fd = socket.fd().filter(|_| !socket.has(BLOCKED))?;
            sends += 1;
            bytes += u64::from(send.len);
            Some((position, fd, turn.bytes(send)))
        });
        let mut unsent = std::mem::take(&mut self.unsent);
        self.ring.send_all(takers, &mut unsent)?;
        self.counts.sends += sends;
        self.counts.sent_bytes += bytes;
        self.rests.clear();
        for &(position, result) in &unsent {
            let send = &turn.sends[position as usize];
            if self.note_sealed(position, result) {
                continue;
            }
            let taken = match -result {
                ..=0 => result as u32,
                libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM => 0,
                _ => {
                    self.counts.sends_failed += 1;
                    self.counts.sent_bytes -= u64::from(send.len);
                    self.aftermath.push(Aftermath::Broken(send.conn));
                    continue;
                }
            };
            let rest = self.rests.note(send, taken);
            self.counts.sent_bytes -= u64::from(rest.len());
            self.block(send.conn)?;
            self.note_blocked(send.conn);
            self.aftermath.push(Aftermath::Blocked(send.conn, rest));
        }
        self.unsent = unsent;
        self.settle_sealed(turn)?;
        self.rests.keep(turn.arena, turn.log);
        if self.finishing > 0 {
            for send in turn.sends {
                self.finish_if_due(send.conn);
            }
        }
        Ok(())
    }

    pub(super) fn block(&mut self, conn: ConnId) -> io::Result<()> {
        self.counts.sends_blocked += 1;
        let Some(socket) = self.sockets.find(conn) else { return Ok(()) };
        socket.set(BLOCKED);
        match socket.fd() {
            Some(fd) => self.ring.writable(fd, conn),
            None => Ok(()),
        }
    }

    fn finish(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.find(conn) else { return };
        let has_session = socket.has(SESSION);
        let is_owed = has_session && self.desk.as_ref().is_some_and(|desk| desk.is_owed(conn));
        if has_session && !is_owed {
            self.end_session(conn);
        } else if socket.has(BLOCKED) || is_owed {
            // The core still has bytes to send; the shut comes behind them.
            if !socket.has(FINISHING) {
                socket.set(FINISHING);
                self.finishing += 1;
            }
        } else {
            shut(socket.fd());
        }
    }

    fn finish_if_due(&mut self, conn: ConnId) {
        if let Some(socket) = self.sockets.find(conn)
            && socket.has(FINISHING)
        {
            if socket.has(SESSION) {
                if self.desk.as_ref().is_some_and(|desk| !desk.is_owed(conn)) {
                    socket.clear(FINISHING);
                    self.finishing -= 1;
                    self.end_session(conn);
                }
            } else if !socket.has(BLOCKED) {
                socket.clear(FINISHING);
                self.finishing -= 1;
                shut(socket.fd());
            }
        }
    }

    /// Gives a connection up. An id that is stale already stays so: a connect that failed is forgotten by the shell.
    fn release(&mut self, conn: ConnId) -> io::Result<()> {
        let Some(socket) = self.sockets.find(conn) else { return Ok(()) };
        debug_assert!(!socket.has(RELEASED), "{conn:?} was released twice");
        socket.set(RELEASED);
        self.cancel(conn)?;
        self.close_if_done(conn);
        Ok(())
    }

    /// Asks everything that runs for a connection to end.
    pub(crate) fn cancel(&mut self, conn: ConnId) -> io::Result<()> {
        let Some(socket) = self.sockets.peek(conn) else { return Ok(()) };
        for (flag, op) in [(RECV, Op::Recv), (BLOCKED, Op::Writable), (CONNECTING, Op::Connect)] {
            if socket.has(flag) {
                self.ring.cancel(op, conn)?;
            }
        }
        Ok(())
    }

    /// Closes a released connection once nothing refers to its descriptor.
    pub(crate) fn close_if_done(&mut self, conn: ConnId) {
        if self.sockets.peek(conn).is_some_and(|socket| socket.has(RELEASED) && !socket.has(RUNNING)) {
            self.forget(conn);
        }
    }

    /// Closes a connection about which nothing is under way.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        if self.sockets.peek(conn).is_some_and(|socket| socket.has(FINISHING)) {
            self.finishing -= 1;
        }
        self.close_session(conn);
        drop(self.sockets.remove(conn));
        self.counts.closes += 1;
        self.descriptor_freed = true;
    }

    /// Starts the receive of a connection, unless it may not or need not be started.
    pub(crate) fn receive(&mut self, conn: ConnId) -> io::Result<()> {
        let Some(socket) = self.sockets.find(conn) else { return Ok(()) };
        if socket.has(RELEASED | RECV) {
            return Ok(());
        }
        socket.clear(STARVED);
        socket.set(RECV);
        match socket.fd() {
            Some(fd) => self.ring.recv(fd, conn),
            None => Ok(()),
        }
    }

    fn connect(&mut self, count: u32) -> io::Result<()> {
        let mut begun = Vec::new();
        for _ in 0..count {
            let fd = self.target.filter(|_| !self.stopping).and_then(|target| dial(&target).ok());
            let dialled = fd.is_some();
            let conn = self.sockets.insert(fd);
            if dialled {
                self.sockets.find(conn).expect("just inserted").set(CONNECTING);
                begun.push(conn);
            } else {
                self.aftermath.push(Aftermath::ConnectFailed(conn));
            }
        }
        let Some(target) = self.target else { return Ok(()) };
        let sockets = &self.sockets;
        let begun = begun.iter().filter_map(|&conn| Some((conn, sockets.peek(conn)?.fd()?)));
        self.ring.connect_all(begun, &SockAddr::from(target))
    }
}

/// A socket that is about to be connected.
fn dial(target: &SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket2::new(Domain::for_address(*target), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

pub(super) fn shut(fd: Option<BorrowedFd<'_>>) {
    if let Some(fd) = fd {
        // A peer that has gone already has nothing to be told.
        let _ = SockRef::from(&fd).shutdown(Shutdown::Write);
    }
}

/// The other end of an accepted socket. An error: it has gone again.
pub(crate) fn peer(fd: &OwnedFd) -> io::Result<IpAddr> {
    let address = SockRef::from(fd).peer_addr()?;
    Ok(match address.as_socket() {
        Some(address) => address.ip().to_canonical(),
        None => Ipv4Addr::UNSPECIFIED.into(),
    })
}
