//! All connections of a client, and the loop that serves them.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use ringroad::wire::frame::Opcode;

use super::conn::{Conn, Stage, frame, masked};
use super::ledger::{Heard, Ledger, Neighbours};
use super::talk::{Named, Said, Talk};
use crate::bench::PATIENCE;

/// What one read may bring: all that a server has for a connection, usually.
const READ_BYTES: usize = 256 * 1024;

/// Connections served before the clock is looked at.
pub const SERVED_AT_ONCE: usize = 128;

/// A fleet that is not in a storm has so many connections under way at a time.
pub const POLITE: usize = 256;

pub struct Fleet {
    pub talk: Talk,
    pub ledger: Ledger,
    pub vehicles: Vec<Named>,
    conns: Vec<Conn>,
    places: Vec<(i32, i32)>,
    /// What viewers ask for: `data` of a `view`.
    view: String,
    ready: usize,
    epoll: Epoll,
    buffer: Vec<u8>,
    /// A frame that is being written.
    frame: Vec<u8>,
}

impl Fleet {
    /// So many vehicles, connected and registered, or why not; at most `at_once` on their way at a time. Several servers
    /// get them in turn.
    pub fn connect(servers: &[SocketAddr], talk: Talk, vehicles: usize, at_once: usize) -> Result<Fleet, String> {
        let vehicles: Vec<Named> = (0..vehicles).map(Named::new).collect();
        let mut fleet = Fleet {
            talk,
            ledger: Ledger::new(&vehicles),
            conns: Vec::with_capacity(vehicles.len()),
            places: Vec::new(),
            view: String::new(),
            ready: 0,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|error| error.to_string())?,
            buffer: vec![0; READ_BYTES],
            frame: Vec::new(),
            vehicles,
        };
        let all = fleet.vehicles.len();
        fleet.gather(servers, all, at_once)?;
        Ok(fleet)
    }

    /// As many viewers of everything beside the vehicles. What they are owed is counted like what vehicles are owed.
    pub fn add_viewers(&mut self, servers: &[SocketAddr], viewers: usize, area: &str) -> Result<(), String> {
        self.view = area.to_owned();
        self.gather(servers, self.conns.len() + viewers, POLITE)
    }

    /// Connects until there are so many.
    fn gather(&mut self, servers: &[SocketAddr], all: usize, at_once: usize) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while self.ready < all {
            let (made, closed) = (self.conns.len(), self.ledger.heard.closed);
            if closed > 0 || Instant::now() > deadline {
                let errors = self.ledger.heard.errors;
                return Err(format!("{} of {all} were let in, {closed} refused, {errors} errors", self.ready));
            }
            // Dialled in pieces, so that replies are read meanwhile.
            for number in made..all.min(self.ready + at_once).min(made + SERVED_AT_ONCE) {
                self.dial(servers[number % servers.len()]).map_err(|error| format!("connection {number}: {error}"))?;
            }
            self.poll(if made < all { 0 } else { 1 });
        }
        Ok(())
    }

    /// Connections that see everything.
    pub fn viewers(&self) -> usize {
        self.conns.len() - self.vehicles.len()
    }

    fn dial(&mut self, server: SocketAddr) -> io::Result<()> {
        let conn = Conn::dial(server)?;
        self.epoll.add(&conn, EpollEvent::new(EpollFlags::EPOLLIN, self.conns.len() as u64))?;
        self.conns.push(conn);
        let request = self.talk.request(&server.to_string());
        self.say(self.conns.len() - 1, &request);
        Ok(())
    }

    /// Sends bytes on a connection.
    fn say(&mut self, at: usize, bytes: &[u8]) {
        let conn = &mut self.conns[at];
        let watched = match conn.send(bytes) {
            Ok(false) => Ok(()),
            Ok(true) => {
                let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
                self.epoll.modify(&*conn, &mut EpollEvent::new(flags, at as u64)).map_err(io::Error::from)
            }
            Err(error) => Err(error),
        };
        if watched.is_err() {
            self.lose(at);
        }
    }

    fn lose(&mut self, at: usize) {
        let conn = &mut self.conns[at];
        if conn.stage != Stage::Closed {
            conn.stage = Stage::Closed;
            self.ledger.heard.closed += 1;
            // It is being given up; a descriptor that is not watched any more is as good.
            let _ = self.epoll.delete(&*conn);
        }
    }

    /// Serves what is ready, or waits so long for it. How many connections were served.
    pub fn poll(&mut self, wait_ms: u8) -> usize {
        let mut events = [EpollEvent::empty(); SERVED_AT_ONCE];
        let count = match self.epoll.wait(&mut events, EpollTimeout::from(wait_ms)) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => panic!("epoll: {error}"),
        };
        for event in &events[..count] {
            let at = event.data() as usize;
            if self.conns[at].stage == Stage::Closed {
                continue;
            }
            let served = self.serve(at, event.events());
            if served.is_err() {
                self.lose(at);
            }
        }
        count
    }

    fn serve(&mut self, at: usize, ready: EpollFlags) -> io::Result<()> {
        if ready.contains(EpollFlags::EPOLLOUT) && self.conns[at].flush()? {
            let conn = &self.conns[at];
            self.epoll.modify(conn, &mut EpollEvent::new(EpollFlags::EPOLLIN, at as u64))?;
        }
        if !ready.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let heard = match self.conns[at].read(&mut buffer) {
            Ok(Some(len)) => self.hear(at, &buffer[..len]),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        self.buffer = buffer;
        heard
    }

    fn hear(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        let now = Instant::now();
        let mut from = 0;
        if self.conns[at].stage == Stage::Upgrading {
            match self.talk.reply_len(bytes).map_err(io::Error::other)? {
                None => {
                    self.conns[at].keep(bytes);
                    return Ok(());
                }
                Some(len) => from = len,
            }
            self.conns[at].stage = Stage::Greeting;
            match self.talk {
                Talk::Bare => self.count_in(at),
                // It says first that it is open.
                Talk::SocketIo => {}
                Talk::Json | Talk::Slim => self.register(at),
            }
        }
        while let Some((opcode, payload)) = frame(&bytes[from..])? {
            let (start, end) = (from + payload.start, from + payload.end);
            self.frame(at, opcode, &bytes[start..end], now)?;
            from = end;
        }
        self.conns[at].keep(&bytes[from..]);
        Ok(())
    }

    #[inline]
    fn frame(&mut self, at: usize, opcode: u8, payload: &[u8], now: Instant) -> io::Result<()> {
        if opcode > 2 {
            return self.control(at, opcode, payload);
        }
        match self.talk.said(opcode, payload) {
            Said::Position => self.ledger.hear(at, false, 1, payload, now),
            Said::States(count) => self.ledger.hear(at, true, count, payload, now),
            Said::Alert => self.ledger.heard.alerts += 1,
            Said::Registered | Said::Watching => self.count_in(at),
            Said::Open => self.packet(at, b"40"),
            Said::Welcome => self.register(at),
            Said::Ping => self.packet(at, b"3"),
            Said::Error => self.ledger.heard.errors += 1,
            Said::Other => {}
        }
        Ok(())
    }

    fn control(&mut self, at: usize, opcode: u8, payload: &[u8]) -> io::Result<()> {
        match opcode {
            8 => Err(io::ErrorKind::ConnectionAborted.into()),
            9 => {
                let mut pong = Vec::new();
                masked(&mut pong, Opcode::Pong, payload);
                self.say(at, &pong);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn packet(&mut self, at: usize, packet: &[u8]) {
        let mut frame = Vec::new();
        masked(&mut frame, Opcode::Text, packet);
        self.say(at, &frame);
    }

    fn count_in(&mut self, at: usize) {
        if self.conns[at].stage == Stage::Greeting {
            self.conns[at].stage = Stage::Ready;
            self.ready += 1;
        }
    }

    /// Says who it is; a viewer says what it wants to see.
    fn register(&mut self, at: usize) {
        if at >= self.vehicles.len() {
            let area = std::mem::take(&mut self.view);
            self.event(at, "view", &area);
            self.view = area;
            return;
        }
        let data = format!(r#"{{"vehicleId":"{}","driverName":"Ada"}}"#, self.vehicles[at].id);
        self.event(at, "register", &data);
    }

    /// Sends an event on a connection.
    pub fn event(&mut self, at: usize, name: &str, data: &str) {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        self.talk.event(&mut frame, name, data);
        self.say(at, &frame);
        self.frame = frame;
    }

    /// Sends a vehicle's position, a centimetre beside the one before. How many others are owed it; `None`: its server has
    /// not taken the ones before.
    pub fn report(&mut self, vehicle: usize, now: Instant) -> Option<u64> {
        if self.conns[vehicle].is_held_up() || self.conns[vehicle].stage == Stage::Closed {
            return None;
        }
        let (ts, count) = self.ledger.send(vehicle, now);
        let (lat_e7, lon_e7) = self.places[vehicle];
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        self.talk.position(&mut frame, &self.vehicles[vehicle], (lat_e7 + count as i32 % 2, lon_e7), ts);
        self.say(vehicle, &frame);
        self.frame = frame;
        Some(self.ledger.owed(vehicle) + self.viewers() as u64)
    }

    /// Puts every vehicle at its place, and waits until all have heard of it.
    pub fn place(&mut self, places: Vec<(i32, i32)>, neighbours: Neighbours) {
        self.places = places;
        self.ledger.settle(neighbours);
        for vehicle in 0..self.vehicles.len() {
            self.report(vehicle, Instant::now());
            if vehicle % SERVED_AT_ONCE == 0 {
                self.poll(0);
            }
        }
        self.rest(Duration::from_millis(300));
        self.take_heard();
    }

    /// Serves connections until nothing has come for so long.
    pub fn rest(&mut self, quiet: Duration) {
        let (mut last, deadline) = (Instant::now(), Instant::now() + PATIENCE);
        while last.elapsed() < quiet && Instant::now() < deadline {
            if self.poll(5) > 0 {
                last = Instant::now();
            }
        }
    }

    /// What has come since the last time.
    pub fn take_heard(&mut self) -> Heard {
        std::mem::take(&mut self.ledger.heard)
    }
}
