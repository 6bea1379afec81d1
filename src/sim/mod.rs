//! Hosts and their clients in one thread, on a simulated clock.
//!
//! A second shell around the same cores: it carries out turns as `io` does, but its sockets are byte queues, its mesh
//! is a list, its Redis a few maps, and time moves only when it is told to. Everything is deterministic, so a failing
//! run can be repeated.
//!
//! `client` and `host` are the two ends of a connection; `network` is the way from the hosts to `redis`.

mod client;
mod host;
mod network;
mod redis;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::auth::Keys;
use crate::config::Config;
use crate::shard::Shard;
use crate::turn::{Core, Ended, Input, Now};
use crate::wire::frame::{Opcode, encode_masked};
use client::Client;
use host::{Deed, Host, Surroundings};
use network::Network;

pub use client::{ClientId, HANDSHAKE, Heard, handshake_with};
pub use network::Health;
pub use redis::Redis;

/// What can go wrong on the way, off by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Batches that a shard's inbox holds; 0: any number.
    pub inbox_max: usize,
    /// Client bytes are handed over in pieces of at most this many bytes; 0: whole.
    pub split: usize,
    /// Likewise those between hosts and Redis.
    pub link_split: usize,
    /// Turns that a shard carries out before others have theirs and its mail comes; 0: any number.
    pub round_turns_max: usize,
}

/// Rounds in which every shard has a turn, at one time. Far more than anything has needed.
const ROUNDS_MAX: usize = 1_000_000;

/// Hosts of some shards each, their clients, and the Redis that the hosts share if they are told of one.
pub struct World {
    /// Of each host.
    configs: Vec<Arc<Config>>,
    shards: u16,
    hosts: Vec<Host>,
    clients: Vec<Client>,
    network: Network,
    now: Now,
    /// Adjustable at any time.
    pub faults: Faults,
    /// What the radio modem was sent.
    pub radio: Vec<u8>,
    sends: usize,
}

impl World {
    /// One host: `shards` shards with the same configuration, at noon of 2026-01-01.
    pub fn new(shards: u16, config: Config) -> World {
        World::of_nodes(&[""], shards, config)
    }

    /// A host for each node, `shards` shards on each, all with the same configuration, at noon of 2026-01-01.
    pub fn of_nodes(nodes: &[&str], shards: u16, config: Config) -> World {
        World::of_hosts(nodes, shards, vec![config; nodes.len()])
    }

    /// The same, each host with a configuration of its own.
    pub fn of_hosts(nodes: &[&str], shards: u16, configs: Vec<Config>) -> World {
        assert_eq!(nodes.len(), configs.len(), "one for each");
        let mut world = World {
            configs: configs.into_iter().map(Arc::new).collect(),
            shards,
            hosts: (0..nodes.len()).map(Host::new).collect(),
            clients: Vec::new(),
            network: Network::default(),
            now: Now { mono_ms: 1_000_000, unix_ms: 1_767_268_800_000 },
            faults: Faults::default(),
            radio: Vec::new(),
            sends: 0,
        };
        for (host, node) in nodes.iter().enumerate() {
            world.hosts[host].start(world.now, &world.configs[host], node, shards);
        }
        world
    }

    /// The simulated time.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Sets the clock that clients read. Deadlines do not notice.
    pub fn set_clock(&mut self, unix_ms: u64) {
        self.now.unix_ms = unix_ms;
    }

    // ---- Hosts.

    /// How many hosts there are, dead ones too.
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// A host's time, by its own clock.
    pub fn time_at(&self, host: usize) -> Now {
        self.hosts[host].time(self.now)
    }

    /// Sets a host's clock ahead of the others', or behind.
    pub fn set_clock_ahead(&mut self, host: usize, ms: i64) {
        self.hosts[host].clock_ahead_ms = ms;
    }

    /// A host's process is gone at once: its clients' connections break, and so do its links.
    pub fn kill(&mut self, host: usize) {
        self.hosts[host].die(&mut self.clients);
        self.network.forget_host(host);
        self.settle();
    }

    /// A host whose process is gone is started again, as that node.
    pub fn start(&mut self, host: usize, node: &str) {
        assert!(!self.is_alive(host), "it runs");
        self.hosts[host].start(self.now, &self.configs[host], node, self.shards);
        self.settle();
    }

    /// Whether a host's process runs.
    pub fn is_alive(&self, host: usize) -> bool {
        !self.hosts[host].shards.is_empty()
    }

    /// A host's process stands still, and goes on later. Meanwhile what its clients do waits.
    pub fn sleep(&mut self, host: usize, is_asleep: bool) {
        if is_asleep {
            self.hosts[host].is_asleep = true;
        } else {
            self.hosts[host].wake(self.now);
        }
        self.settle();
    }

    /// Asks every shard of one host to stop.
    pub fn stop_host(&mut self, host: usize) {
        let now = self.hosts[host].time(self.now);
        for shard in &mut self.hosts[host].shards {
            shard.handle(now, Input::Stop);
        }
        self.settle();
    }

    /// Hands other settings to every shard.
    pub fn configure(&mut self, config: Config) {
        self.configs.fill(Arc::new(config));
        for (host, config) in self.hosts.iter_mut().zip(&self.configs) {
            let now = host.time(self.now);
            for shard in &mut host.shards {
                shard.handle(now, Input::Configure { config: config.clone() });
            }
        }
        self.settle();
    }

    /// Asks every shard of one host to let go of everybody within this time; once all have, or a moment later, they are
    /// asked to stop.
    pub fn drain_host(&mut self, host: usize, over_ms: u64) {
        self.hosts[host].drain(self.now, over_ms);
        self.settle();
    }

    /// Gives every shard other keys, or tells it that there should have been some.
    pub fn give_keys(&mut self, keys: Option<Arc<Keys>>) {
        for host in &mut self.hosts {
            let now = host.time(self.now);
            host.shards.iter_mut().for_each(|shard| shard.handle(now, Input::Keys(keys.clone())));
        }
        self.settle();
    }

    /// Tells every shard how busy its worker is.
    pub fn load(&mut self, percent: u8) {
        for host in &mut self.hosts {
            let now = host.time(self.now);
            host.shards.iter_mut().for_each(|shard| shard.handle(now, Input::Load { percent }));
        }
        self.settle();
    }

    /// Asks every shard to stop.
    pub fn stop(&mut self) {
        (0..self.hosts.len()).for_each(|host| self.stop_host(host));
    }

    /// Whether every shard of a host has stopped.
    pub fn has_stopped(&self, host: usize) -> bool {
        self.hosts[host].shards.iter().all(Shard::is_stopped)
    }

    /// Whether every shard has stopped.
    pub fn is_stopped(&self) -> bool {
        (0..self.hosts.len()).all(|host| self.has_stopped(host))
    }

    // ---- Redis, and the way to it.

    /// The Redis that all hosts share.
    pub fn redis(&mut self) -> &mut Redis {
        &mut self.network.redis
    }

    /// How Redis is.
    pub fn health(&self) -> Health {
        self.network.health
    }

    /// Redis goes down, stands still, or comes back.
    pub fn set_health(&mut self, health: Health) {
        self.network.change(self.now, health, false);
        self.settle();
    }

    /// Redis ends and is there again at once, without a single key.
    pub fn empty_redis(&mut self) {
        self.network.change(self.now, Health::Down, false);
        self.network.change(self.now, Health::Up, true);
        self.settle();
    }

    /// How long bytes take from a host to Redis, and back.
    pub fn set_latency(&mut self, host: usize, ms: u64) {
        self.network.set_latency(host, ms);
    }

    /// How much longer what Redis says takes to one shard of a host.
    pub fn set_lag(&mut self, host: usize, shard: usize, ms: u64) {
        self.network.set_lag(host, shard, ms);
    }

    /// Nothing gets from a host to Redis or back until the way is open again.
    pub fn cut(&mut self, host: usize, is_cut: bool) {
        self.network.cut(host, is_cut);
        self.settle();
    }

    // ---- Clients.

    /// Opens a connection to a shard, without a handshake.
    pub fn open(&mut self, shard: usize) -> ClientId {
        self.open_at(0, shard)
    }

    /// Opens a connection to a shard of a host, without a handshake.
    pub fn open_at(&mut self, host: usize, shard: usize) -> ClientId {
        self.open_from(host, shard, Ipv4Addr::LOCALHOST.into())
    }

    /// Opens a connection to a shard of a host from an address, without a handshake.
    pub fn open_from(&mut self, host: usize, shard: usize, peer: IpAddr) -> ClientId {
        assert!(self.is_alive(host), "nobody listens");
        let client = ClientId(self.clients.len());
        let conn = self.hosts[host].seat(shard, client);
        self.clients.push(Client::new(host, shard, conn));
        self.does(client, Deed::Opened(peer));
        self.settle();
        client
    }

    /// Opens a connection to the private address of the host, which gives it to a shard.
    pub fn open_privately(&mut self, shard: usize) -> ClientId {
        let client = ClientId(self.clients.len());
        let conn = self.hosts[0].seat(shard, client);
        self.clients.push(Client::new(0, shard, conn));
        self.does(client, Deed::OpenedPrivately(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        self.settle();
        client
    }

    /// Opens a WebSocket connection to a shard.
    pub fn connect(&mut self, shard: usize) -> ClientId {
        self.connect_at(0, shard)
    }

    /// Opens a WebSocket connection to a shard of a host.
    pub fn connect_at(&mut self, host: usize, shard: usize) -> ClientId {
        self.shake_hands(host, shard, HANDSHAKE)
    }

    /// Opens a connection to a shard of a host, and begins it with a handshake of its own.
    pub fn shake_hands(&mut self, host: usize, shard: usize, handshake: &str) -> ClientId {
        let client = self.open_at(host, shard);
        self.send_bytes(client, handshake.as_bytes());
        client
    }

    /// Opens a WebSocket connection to a shard, and offers a subprotocol.
    pub fn connect_with(&mut self, shard: usize, protocol: &str) -> ClientId {
        self.connect_at_with(0, shard, protocol)
    }

    /// Opens a WebSocket connection to a shard of a host, and offers a subprotocol.
    pub fn connect_at_with(&mut self, host: usize, shard: usize, protocol: &str) -> ClientId {
        self.shake_hands(host, shard, &client::handshake_with(protocol))
    }

    /// A client does something, if it still has a connection.
    fn does(&mut self, client: ClientId, deed: Deed) {
        let Client { host, shard, conn: Some(conn), .. } = self.clients[client.0] else { return };
        self.hosts[host].notice(self.now, shard, conn, deed);
    }

    /// Sends a text message and lets the world come to rest.
    pub fn send(&mut self, client: ClientId, text: &str) {
        self.say(client, text);
        self.settle();
    }

    /// Sends a text message; what it causes happens in the same turn as what is said next.
    pub fn say(&mut self, client: ClientId, text: &str) {
        self.say_frame(client, Opcode::Text, text.as_bytes());
    }

    /// Sends a binary message and lets the world come to rest.
    pub fn send_binary(&mut self, client: ClientId, message: &[u8]) {
        self.say_binary(client, message);
        self.settle();
    }

    /// Sends a binary message; what it causes happens in the same turn as what is said next.
    pub fn say_binary(&mut self, client: ClientId, message: &[u8]) {
        self.say_frame(client, Opcode::Binary, message);
    }

    fn say_frame(&mut self, client: ClientId, opcode: Opcode, payload: &[u8]) {
        let mut bytes = Vec::new();
        encode_masked(&mut bytes, opcode, [1, 2, 3, 4], payload);
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
            self.does(client, Deed::Bytes(piece.to_vec()));
            if split < bytes.len() {
                self.settle();
            }
        }
    }

    /// The client closes its socket, or its machine is gone.
    pub fn hang_up(&mut self, client: ClientId, how: Ended) {
        self.break_off(client, how);
        self.settle();
    }

    /// The same; what it causes happens in the same turn as what is done next.
    pub fn break_off(&mut self, client: ClientId, how: Ended) {
        self.does(client, Deed::Ended(how));
    }

    /// From now on the client takes `bytes` more and then none.
    pub fn stall(&mut self, client: ClientId, bytes: usize) {
        self.clients[client.0].window = Some(bytes);
    }

    /// A stalled client takes `bytes` more.
    pub fn trickle(&mut self, client: ClientId, bytes: usize) {
        self.clients[client.0].window = Some(bytes);
        self.does(client, Deed::Writable);
        self.settle();
    }

    /// The client reads again.
    pub fn resume(&mut self, client: ClientId) {
        self.wake(client);
        self.settle();
    }

    /// The client reads again; what that causes happens in the same turn as what comes next.
    pub fn wake(&mut self, client: ClientId) {
        self.clients[client.0].window = None;
        self.does(client, Deed::Writable);
    }

    /// Bytes arrive from the radio modem of the first host.
    pub fn radio_receives(&mut self, bytes: &[u8]) {
        let now = self.hosts[0].time(self.now);
        self.hosts[0].shards[0].handle(now, Input::Radio { bytes });
        self.settle();
    }

    // ---- Time.

    /// Lets time pass, stopping at every deadline on the way.
    pub fn advance(&mut self, ms: u64) {
        let target = self.now.mono_ms + ms;
        while self.now.mono_ms < target {
            let hosts = &self.hosts;
            let arrival = self.network.next_deadline(|host| hosts[host].is_asleep);
            let next = hosts.iter().filter_map(Host::next_deadline).chain(arrival).min().unwrap_or(target);
            let step = next.clamp(self.now.mono_ms + 1, target) - self.now.mono_ms;
            self.now.mono_ms += step;
            self.now.unix_ms += step;
            self.settle();
        }
    }

    /// Lets time pass, and nothing happen.
    pub fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.unix_ms += ms;
    }

    /// Runs turns until nobody has anything left to do at this time.
    pub fn settle(&mut self) {
        let mut rounds = 0;
        while self.round() {
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "the world does not come to rest");
        }
        if cfg!(debug_assertions) {
            for host in self.hosts.iter_mut().filter(|host| !host.is_asleep) {
                host.check_agreement();
                for shard in &mut host.shards {
                    shard.check_invariants();
                    // A worker would wake again at once, for nothing.
                    let due_ms = shard.next_deadline();
                    assert!(due_ms.is_none_or(|due_ms| due_ms > self.now.mono_ms), "a deadline stays in the past");
                }
            }
        }
    }

    /// Gives every shard its turns once, all of them or [`Faults::round_turns_max`]. Whether there is more to do.
    pub fn round(&mut self) -> bool {
        self.network.split = self.faults.link_split;
        let mut rested = true;
        for host in self.hosts.iter_mut().filter(|host| host.is_awake()) {
            let mut around = Surroundings {
                clients: &mut self.clients,
                network: &mut self.network,
                faults: self.faults,
                radio: &mut self.radio,
                sends: &mut self.sends,
            };
            rested &= !host.take_turns(self.now, &mut around);
        }
        let hosts = &self.hosts;
        for (from, tidings) in self.network.arrivals(self.now, |host| hosts[host].is_asleep) {
            rested = false;
            self.hosts[from.host].link_brings(self.now, from, tidings);
        }
        !rested
    }

    // ---- What clients have seen.

    /// The text messages that a client has received since the last call. Binary ones stay for [`World::take_heard`].
    pub fn take(&mut self, client: ClientId) -> Vec<String> {
        let mut texts = Vec::new();
        self.clients[client.0].heard.retain_mut(|one| match one {
            Heard::Text(text) => {
                texts.push(std::mem::take(text));
                false
            }
            Heard::Binary(_) => true,
        });
        texts
    }

    /// The messages that a client has received since the last call, of both kinds.
    pub fn take_heard(&mut self, client: ClientId) -> Vec<Heard> {
        std::mem::take(&mut self.clients[client.0].heard)
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

    /// The counters of a shard of the first host.
    pub fn counters(&mut self, shard: usize) -> &mut crate::metrics::Counters {
        self.counters_at(0, shard)
    }

    /// The counters of a shard of a host.
    pub fn counters_at(&mut self, host: usize, shard: usize) -> &mut crate::metrics::Counters {
        self.hosts[host].shards[shard].counters()
    }
}
