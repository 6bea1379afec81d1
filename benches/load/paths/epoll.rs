//! `path-epoll`: edges, one receive buffer for all, no system call that a message does not need.
//!
//! A socket is registered once, for both directions: an edge comes when bytes have come, and when a send that found no
//! room would find some again. So nothing is re-armed, and a message costs one recv(2), and a share of an epoll_wait(2).

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, TcpStream};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use ringroad::limits;
use ringroad::turn::{ConnId, Now};

use super::door::Door;
use super::shell::Shell;
use super::table::ENDED;

/// Events that one epoll_wait(2) brings.
const EVENTS: usize = 1024;

/// What one recv(2) takes.
const SCRATCH_BYTES: usize = 64 * 1024;

/// Receives of one connection in a row; then it is others' turn.
const RECEIVES_MAX: usize = 4;

const LISTENER: u64 = u64::MAX;
const GOODBYE: u64 = u64::MAX - 1;

struct Pump {
    epoll: Epoll,
    /// `None` once no more are let in.
    door: Option<Door>,
    /// No descriptor was left; at this time (`mono_ms`) the listener is looked at again.
    paused: Option<u64>,
    shell: Shell<TcpStream>,
    scratch: Box<[u8]>,
    /// Connections with more than their share of bytes, and whether they may have ended.
    unread: VecDeque<(ConnId, bool)>,
}

/// Serves until `goodbye` is readable.
pub fn run(door: Door, shell: Shell<TcpStream>, goodbye: impl AsFd) -> io::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&door.listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    epoll.add(&goodbye, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, GOODBYE))?;
    let scratch = vec![0; SCRATCH_BYTES].into();
    let mut pump = Pump { epoll, door: Some(door), paused: None, shell, scratch, unread: VecDeque::new() };
    let mut events = vec![EpollEvent::empty(); EVENTS];
    // Events that a round had no time for go first in the next one.
    let (mut next, mut count, mut more) = (0, 0, true);
    while !pump.shell.is_done() {
        if next == count {
            let wait = if more || !pump.unread.is_empty() { EpollTimeout::ZERO } else { pump.wait() };
            (next, count) = match pump.epoll.wait(&mut events, wait) {
                Err(Errno::EINTR) => (0, 0),
                waited => (0, waited?),
            };
        }
        pump.shell.wakes();
        let round_us = pump.shell.micros();
        let now = pump.shell.now();
        next += pump.receive(now, round_us, &events[next..count])?;
        more = pump.shell.turns(now, round_us)?;
        pump.shell.sleeps();
    }
    Ok(())
}

impl Pump {
    fn wait(&self) -> EpollTimeout {
        let Some(at) = [self.shell.next_deadline(), self.paused].into_iter().flatten().min() else {
            return EpollTimeout::NONE;
        };
        let wait_ms = at.saturating_sub(self.shell.now().mono_ms);
        EpollTimeout::try_from(i32::try_from(wait_ms).unwrap_or(i32::MAX)).unwrap_or(EpollTimeout::ZERO)
    }

    /// Hands what has come to the shard until it is all, or its time is over. How many events are done.
    fn receive(&mut self, now: Now, round_us: u64, events: &[EpollEvent]) -> io::Result<usize> {
        if self.paused.is_some_and(|at| now.mono_ms >= at) {
            self.paused = None;
            self.listen(EpollFlags::EPOLLIN)?;
        }
        for _ in 0..self.unread.len() {
            if let Some((conn, ends)) = self.unread.pop_front() {
                self.read(now, conn, ends);
            }
        }
        for (done, event) in (1..).zip(events) {
            match event.data() {
                LISTENER => self.enter(now)?,
                GOODBYE => {
                    self.door = None;
                    self.paused = None;
                    self.shell.stop(now);
                }
                data => self.ready(now, conn_of(data), event.events()),
            }
            // To look at the clock every time would be a hundredth of the work.
            let looks = done % 16 == 0;
            if looks && self.shell.micros() - round_us >= limits::ROUND_RECEIVE_MS_MAX * 1_000 {
                return Ok(done);
            }
        }
        Ok(events.len())
    }

    fn ready(&mut self, now: Now, conn: ConnId, flags: EpollFlags) {
        if flags.intersects(EpollFlags::EPOLLOUT | EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP) {
            self.shell.writable(now, conn);
        }
        let ends = flags.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        if ends || flags.contains(EpollFlags::EPOLLIN) {
            self.read(now, conn, ends);
        }
    }

    fn read(&mut self, now: Now, conn: ConnId, ends: bool) {
        for _ in 0..RECEIVES_MAX {
            let Some(mut stream) = self.shell.table.line_without(conn, ENDED) else { return };
            let result = match stream.read(&mut self.scratch) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                result => result,
            };
            // Less than there was room for: the next bytes are another edge. Not so the end, if it has come already.
            let all = result.as_ref().is_ok_and(|len| *len < SCRATCH_BYTES) && !ends;
            let bytes = result.map(|len| &mut self.scratch[..len]);
            if !self.shell.received(now, conn, bytes) || all {
                return;
            }
        }
        self.unread.push_back((conn, ends));
    }

    fn enter(&mut self, now: Now) -> io::Result<()> {
        let Some(door) = &self.door else { return Ok(()) };
        let (shell, epoll) = (&mut self.shell, &self.epoll);
        let accepted = door.accept(|stream, peer| open(shell, epoll, now, stream, peer));
        if let Err(error) = accepted {
            // No descriptor or no memory: it would only fail again at once.
            eprintln!("path-epoll: new connections have to wait: {error}");
            self.shell.counts.accept_errors += 1;
            self.paused = Some(now.mono_ms + limits::ACCEPT_RETRY_MS);
            self.listen(EpollFlags::empty())?;
        }
        Ok(())
    }

    fn listen(&self, flags: EpollFlags) -> io::Result<()> {
        match &self.door {
            Some(door) => Ok(self.epoll.modify(&door.listener, &mut EpollEvent::new(flags, LISTENER))?),
            None => Ok(()),
        }
    }
}

fn open(shell: &mut Shell<TcpStream>, epoll: &Epoll, now: Now, stream: TcpStream, peer: IpAddr) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let conn = shell.opened(now, stream, peer);
    let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
    match shell.table.line_without(conn, 0) {
        Some(stream) => Ok(epoll.add(stream, EpollEvent::new(both, data_of(conn)))?),
        None => Ok(()),
    }
}

/// Generation (24 bits significant), index (32).
fn data_of(conn: ConnId) -> u64 {
    u64::from(conn.generation) << 32 | u64::from(conn.index)
}

fn conn_of(data: u64) -> ConnId {
    ConnId { index: data as u32, generation: (data >> 32) as u32 }
}
