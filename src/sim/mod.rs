//! Shards and their clients in one thread, on a simulated clock.
//!
//! A second shell around the same cores: it carries out turns as `io` does, but its sockets are byte queues, its mesh
//! is a list, and time moves only when it is told to. Everything is deterministic, so a failing run can be repeated.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::config::Config;
use crate::shard::{Batch, Shard};
use crate::turn::{ConnId, Core, Ended, Input, Now, ShardId};
use crate::wire::frame::{Opcode, Role, encode_masked};
use crate::wire::message::{Decoder, Message};

/// A client of the world, in the order of their connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub usize);

/// The opening handshake that every simulated client sends.
pub const HANDSHAKE: &str = "GET /v2v HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// What a client has seen.
#[derive(Default)]
struct Client {
    shard: usize,
    conn: Option<ConnId>,
    /// Bytes of a reply head that has not ended.
    head: Vec<u8>,
    upgraded: bool,
    decoder: Decoder,
    messages: Vec<String>,
    closed: Option<(Option<u16>, String)>,
    /// How many more bytes it will take; `None`: any number.
    window: Option<usize>,
    pongs: usize,
    pings: usize,
}

/// What can go wrong on the way, off by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Batches that a shard's inbox holds; 0: any number.
    pub inbox_max: usize,
    /// Client bytes are handed over in pieces of at most this many bytes; 0: whole.
    pub split: usize,
}

/// Several shards of one host, and their clients.
pub struct World {
    shards: Vec<Shard>,
    inboxes: Vec<VecDeque<(ShardId, Batch)>>,
    clients: Vec<Client>,
    /// Per shard: which client has an index, and how often the index was used.
    indexes: Vec<Vec<(Option<ClientId>, u32)>>,
    now: Now,
    /// Adjustable at any time.
    pub faults: Faults,
    /// What the radio modem was sent.
    pub radio: Vec<u8>,
    sends: usize,
}

impl World {
    /// `shards` shards with the same configuration, at noon of 2026-01-01.
    pub fn new(shards: u16, config: Config) -> World {
        let config = Arc::new(config);
        let now = Now { mono_ms: 1_000_000, unix_ms: 1_767_268_800_000 };
        World {
            shards: (0..shards)
                .map(|shard| Shard::new(config.clone(), ShardId(shard), shards, u64::from(shard) + 1))
                .collect(),
            inboxes: (0..shards).map(|_| VecDeque::new()).collect(),
            clients: Vec::new(),
            indexes: (0..shards).map(|_| Vec::new()).collect(),
            now,
            faults: Faults::default(),
            radio: Vec::new(),
            sends: 0,
        }
    }

    /// The simulated time.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Sets the clock that clients read. Deadlines do not notice.
    pub fn set_clock(&mut self, unix_ms: u64) {
        self.now.unix_ms = unix_ms;
    }

    /// Opens a connection to a shard, without a handshake.
    pub fn open(&mut self, shard: usize) -> ClientId {
        let client = ClientId(self.clients.len());
        let indexes = &mut self.indexes[shard];
        let index = indexes.iter().position(|(user, _)| user.is_none()).unwrap_or_else(|| {
            indexes.push((None, 0));
            indexes.len() - 1
        });
        indexes[index].0 = Some(client);
        indexes[index].1 += 1;
        let conn = ConnId { index: index as u32, generation: indexes[index].1 };
        self.clients.push(Client { shard, conn: Some(conn), ..Client::default() });
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.shards[shard].handle(self.now, Input::Opened { conn, peer });
        self.settle();
        client
    }

    /// Opens a WebSocket connection to a shard.
    pub fn connect(&mut self, shard: usize) -> ClientId {
        let client = self.open(shard);
        self.send_bytes(client, HANDSHAKE.as_bytes());
        client
    }

    /// Sends a text message and lets the world come to rest.
    pub fn send(&mut self, client: ClientId, text: &str) {
        self.say(client, text);
        self.settle();
    }

    /// Sends a text message; what it causes happens in the same turn as what is said next.
    pub fn say(&mut self, client: ClientId, text: &str) {
        let mut bytes = Vec::new();
        encode_masked(&mut bytes, Opcode::Text, [1, 2, 3, 4], text.as_bytes());
        self.hand_over(client, &bytes);
    }

    /// Sends any bytes and lets the world come to rest.
    pub fn send_bytes(&mut self, client: ClientId, bytes: &[u8]) {
        self.hand_over(client, bytes);
        self.settle();
    }

    fn hand_over(&mut self, client: ClientId, bytes: &[u8]) {
        let split = if self.faults.split == 0 { bytes.len().max(1) } else { self.faults.split };
        for piece in bytes.chunks(split) {
            let Client { shard, conn: Some(conn), .. } = self.clients[client.0] else { return };
            self.shards[shard].handle(self.now, Input::Bytes { conn, bytes: &mut piece.to_vec() });
            if split < bytes.len() {
                self.settle();
            }
        }
    }

    /// The client closes its socket, or its machine is gone.
    pub fn hang_up(&mut self, client: ClientId, how: Ended) {
        let Client { shard, conn: Some(conn), .. } = self.clients[client.0] else { return };
        self.shards[shard].handle(self.now, Input::Ended { conn, how });
        self.settle();
    }

    /// From now on the client takes `bytes` more and then none.
    pub fn stall(&mut self, client: ClientId, bytes: usize) {
        self.clients[client.0].window = Some(bytes);
    }

    /// A stalled client takes `bytes` more.
    pub fn trickle(&mut self, client: ClientId, bytes: usize) {
        self.clients[client.0].window = Some(bytes);
        let Client { shard, conn: Some(conn), .. } = self.clients[client.0] else { return };
        self.shards[shard].handle(self.now, Input::Writable { conn });
        self.settle();
    }

    /// The client reads again.
    pub fn resume(&mut self, client: ClientId) {
        self.clients[client.0].window = None;
        let Client { shard, conn: Some(conn), .. } = self.clients[client.0] else { return };
        self.shards[shard].handle(self.now, Input::Writable { conn });
        self.settle();
    }

    /// Bytes arrive from the radio modem.
    pub fn radio_receives(&mut self, bytes: &[u8]) {
        self.shards[0].handle(self.now, Input::Radio { bytes });
        self.settle();
    }

    /// Asks every shard to stop.
    pub fn stop(&mut self) {
        for shard in &mut self.shards {
            shard.handle(self.now, Input::Stop);
        }
        self.settle();
    }

    /// Whether every shard has stopped.
    pub fn is_stopped(&self) -> bool {
        self.shards.iter().all(Shard::is_stopped)
    }

    /// Lets time pass, stopping at every deadline on the way.
    pub fn advance(&mut self, ms: u64) {
        let target = self.now.mono_ms + ms;
        while self.now.mono_ms < target {
            let next = self.shards.iter().filter_map(|shard| shard.next_deadline()).min().unwrap_or(target);
            let step = next.clamp(self.now.mono_ms + 1, target) - self.now.mono_ms;
            self.now.mono_ms += step;
            self.now.unix_ms += step;
            self.settle();
        }
    }

    /// Runs turns until no shard has anything left to do at this time.
    pub fn settle(&mut self) {
        loop {
            let mut rested = true;
            for at in 0..self.shards.len() {
                while let Some((from, mail)) = self.inboxes[at].pop_front() {
                    self.shards[at].handle(self.now, Input::Mail { from, mail });
                }
                rested &= !self.run_turn(at);
            }
            if rested && self.inboxes.iter().all(VecDeque::is_empty) {
                if cfg!(debug_assertions) {
                    self.shards.iter_mut().for_each(Shard::check_invariants);
                }
                return;
            }
        }
    }

    /// Runs one shard's turn to its end. Whether it sent mail.
    fn run_turn(&mut self, at: usize) -> bool {
        let mut mailed = false;
        loop {
            let shard = &mut self.shards[at];
            let Some(turn) = shard.poll_turn(self.now) else { return mailed };
            let mut blocked = Vec::new();
            for send in turn.sends {
                self.sends += 1;
                let client = self.indexes[at][send.conn.index as usize].0.expect("sends go to open connections");
                let bytes = turn.bytes(send);
                assert!(!bytes.is_empty(), "an empty send");
                assert!(!blocked.iter().any(|(conn, _)| *conn == send.conn), "two sends to one connection in a turn");
                let client = &mut self.clients[client.0];
                let taken = client.window.map_or(bytes.len(), |window| window.min(bytes.len()));
                if let Some(window) = &mut client.window {
                    *window -= taken;
                }
                client.receive(&bytes[..taken]);
                if taken < bytes.len() {
                    blocked.push((send.conn, bytes[taken..].to_vec()));
                }
            }
            for conn in turn.finished {
                let client = self.indexes[at][conn.index as usize].0.expect("open");
                let client = &mut self.clients[client.0];
                client.closed.get_or_insert((None, String::new()));
            }
            for conn in turn.released {
                let client = self.indexes[at][conn.index as usize].0.take().expect("released once");
                let client = &mut self.clients[client.0];
                client.conn = None;
                client.closed.get_or_insert((None, String::new()));
            }
            self.radio.extend_from_slice(turn.radio);
            let mut refused = Vec::new();
            for (to, mail) in turn.mail.drain(..) {
                let inbox = &mut self.inboxes[usize::from(to.0)];
                if self.faults.inbox_max > 0 && inbox.len() >= self.faults.inbox_max {
                    refused.push((to, mail));
                } else {
                    inbox.push_back((ShardId(at as u16), mail));
                    mailed = true;
                }
            }
            for (conn, rest) in blocked {
                self.shards[at].handle(self.now, Input::Blocked { conn, rest: &rest });
            }
            for (to, mail) in refused {
                self.shards[at].counters().shell.mail_refused += 1;
                self.shards[at].handle(self.now, Input::MailRefused { to, mail });
            }
        }
    }

    /// The messages that a client has received since the last call.
    pub fn take(&mut self, client: ClientId) -> Vec<String> {
        std::mem::take(&mut self.clients[client.0].messages)
    }

    /// Code and reason with which a client's connection was closed.
    pub fn closed(&self, client: ClientId) -> Option<(Option<u16>, &str)> {
        self.clients[client.0].closed.as_ref().map(|(code, reason)| (*code, reason.as_str()))
    }

    /// Whether the shard still holds the connection.
    pub fn is_held(&self, client: ClientId) -> bool {
        self.clients[client.0].conn.is_some()
    }

    /// Pings and pongs that a client has received.
    pub fn pings_and_pongs(&self, client: ClientId) -> (usize, usize) {
        (self.clients[client.0].pings, self.clients[client.0].pongs)
    }

    /// Bytes of a reply that is not WebSocket.
    pub fn reply(&self, client: ClientId) -> String {
        String::from_utf8_lossy(&self.clients[client.0].head).into_owned()
    }

    /// Sends that reached a socket so far, each a system call of a real gateway.
    pub fn sends(&self) -> usize {
        self.sends
    }

    /// A shard's counters.
    pub fn counters(&mut self, shard: usize) -> &mut crate::metrics::Counters {
        self.shards[shard].counters()
    }
}

impl Client {
    fn receive(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        if !self.upgraded {
            self.head.append(&mut bytes);
            let end = self.head.windows(4).position(|window| window == b"\r\n\r\n");
            let Some(end) = end.filter(|_| self.head.starts_with(b"HTTP/1.1 101")) else { return };
            bytes = self.head.split_off(end + 4);
            self.upgraded = true;
        }
        let mut decoder = std::mem::take(&mut self.decoder);
        let mut at = 0;
        loop {
            let (used, message) =
                decoder.decode(Role::Client, usize::MAX, &mut bytes[at..]).expect("the gateway's own frames are valid");
            at += used;
            match message {
                None => break,
                Some(Message::Text(text) | Message::Binary(text)) => {
                    self.messages.push(String::from_utf8(text.to_vec()).expect("events are UTF-8"));
                }
                Some(Message::Ping(_)) => self.pings += 1,
                Some(Message::Pong(_)) => self.pongs += 1,
                Some(Message::Close { code, reason }) => self.closed = Some((code, reason.to_owned())),
            }
        }
        self.decoder = decoder;
    }
}
