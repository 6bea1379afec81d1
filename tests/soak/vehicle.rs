//! One vehicle and its connection, which never waits.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ringroad::wire::state::key;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Error, Message, WebSocket};

use crate::dialect::{Dialect, Said, event};
use crate::{GROUP, PATIENCE, Plan};

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    /// Somewhere between two numbers of seconds.
    pub fn within(&mut self, (least_s, most_s): (f64, f64)) -> Duration {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let unit = ((z ^ (z >> 27)) >> 11) as f64 / (1u64 << 53) as f64;
        Duration::from_secs_f64(least_s + unit * (most_s - least_s))
    }
}

/// What a vehicle does about what it is sent.
#[derive(Clone, Copy, PartialEq)]
pub enum Habit {
    Reads,
    /// Reads for a while and does not for a while.
    Pauses,
    /// Reads for a while and never again.
    Quits,
}

/// What came of it.
#[derive(Default)]
pub struct Tally {
    pub positions: u64,
    pub pauses: u64,
    pub musters: u64,
    /// Closed by the gateway, as they had to be, and back.
    pub lost: u64,
}

pub struct Vehicle {
    pub id: String,
    habit: Habit,
    dialect: Dialect,
    /// Its group, by their keys.
    names: BTreeMap<u64, String>,
    socket: WebSocket<TcpStream>,
    lon_e7: i32,
    /// It goes north by 1e-7 degree per step.
    pub lat_e7: i32,
    /// The last latitude of each other that it was told.
    pub heard: BTreeMap<String, i32>,
    pub stalled: bool,
    changes_at: Instant,
    read_at: Instant,
    /// It has not read for so long that it may be closed: it has quit, or this machine has stood still.
    pub overdue: bool,
    pub closed: bool,
}

impl Vehicle {
    pub fn new(addr: SocketAddr, (group, at): (usize, usize), habit: Habit, reads: Duration) -> Self {
        let now = Instant::now();
        let dialect = if (group + at).is_multiple_of(2) { Dialect::V2vJson } else { Dialect::Slim };
        let name = |at: usize| format!("car-{group}-{at}");
        let mut vehicle = Vehicle {
            id: name(at),
            habit,
            dialect,
            names: (0..GROUP).map(|at| (key(&name(at)), name(at))).collect(),
            socket: connect(addr, dialect, habit != Habit::Reads),
            // Groups are two kilometres apart.
            lat_e7: 500_000_000 + group as i32 * 200_000,
            lon_e7: 80_000_000 + at as i32 * 10,
            heard: BTreeMap::new(),
            stalled: false,
            changes_at: now + reads,
            read_at: now,
            overdue: false,
            closed: false,
        };
        vehicle.register();
        vehicle
    }

    fn register(&mut self) {
        self.say(event("register", json!({"vehicleId": self.id, "driverName": "Ada"})));
        self.step();
    }

    pub fn step(&mut self) {
        self.lat_e7 += 1;
        self.say(self.dialect.position(&self.id, self.lat_e7, self.lon_e7));
    }

    pub fn say(&mut self, message: Message) {
        match self.socket.send(message) {
            Ok(()) => {}
            // It is kept, and goes with the next.
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
            Err(why) => self.is_closed(&why.to_string()),
        }
    }

    fn is_closed(&mut self, why: &str) {
        assert!(self.overdue, "{} reads and was closed: {why}", self.id);
        self.closed = true;
    }

    /// Reads what has come, unless it is stalled.
    pub fn read(&mut self, plan: &Plan, tally: &mut Tally) {
        self.overdue |= self.read_at.elapsed() > plan.patience();
        if self.stalled {
            return;
        }
        self.read_at = Instant::now();
        while !self.closed {
            let message = match self.socket.read() {
                Ok(Message::Close(Some(close))) => return self.is_closed(&format!("{} {}", close.code, close.reason)),
                Ok(message) => message,
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return,
                Err(why) => return self.is_closed(&why.to_string()),
            };
            for (id, said) in self.dialect.positions(&message, &self.names) {
                match said {
                    Said::Gone => drop(self.heard.remove(&id)),
                    Said::At(lat_e7) => {
                        tally.positions += 1;
                        let before = self.heard.insert(id, lat_e7);
                        assert!(before.is_none_or(|before| before < lat_e7), "{} was told something old", self.id);
                    }
                }
            }
        }
    }

    /// Begins to pause, or to read again, when it is time for it.
    pub fn change(&mut self, plan: &Plan, random: &mut Random, tally: &mut Tally) {
        let never = self.habit == Habit::Reads || (self.habit == Habit::Quits && self.stalled);
        if never || Instant::now() < self.changes_at {
            return;
        }
        self.stalled = !self.stalled;
        tally.pauses += u64::from(self.stalled);
        self.changes_at = Instant::now() + random.within(if self.stalled { plan.pauses_s } else { plan.reads_s });
    }

    /// Comes back after the gateway has closed it.
    pub fn come_back(&mut self, addr: SocketAddr, reads: Duration) {
        self.socket = connect(addr, self.dialect, self.habit != Habit::Reads);
        let now = Instant::now();
        (self.stalled, self.overdue, self.closed) = (false, false, false);
        (self.changes_at, self.read_at) = (now + reads, now);
        self.heard.clear();
        self.register();
    }
}

/// A connection that never waits. A narrow one is blocked after some kilobytes.
fn connect(addr: SocketAddr, dialect: Dialect, narrow: bool) -> WebSocket<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    if narrow {
        socket.set_recv_buffer_size(8 * 1024).expect("settable");
        // As on a road. With segments of 64 KiB, as on loopback, a window of this size may stay a little smaller than half
        // of what it was at its largest, and a Linux sender then waits for its persist timer, 16 s after a pause.
        socket.set_tcp_mss(1_400).expect("settable");
    }
    socket.connect(&addr.into()).expect("it listens");
    socket.set_tcp_nodelay(true).expect("settable");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut request = format!("ws://{addr}/v2v").into_client_request().expect("a URL");
    if let Some(name) = dialect.subprotocol() {
        request.headers_mut().insert("Sec-WebSocket-Protocol", name.parse().expect("a header"));
    }
    let (socket, _) = tungstenite::client(request, stream).expect("an upgrade");
    socket.get_ref().set_nonblocking(true).expect("settable");
    socket
}
