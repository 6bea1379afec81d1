//! Between the hosts' links and Redis: bytes on their way, at any split, late, or stuck.

use std::collections::{BTreeMap, VecDeque};

use super::redis::{Redis, SessionId};
use crate::limits;
use crate::turn::{LinkId, LinkWork, Now};

/// A link of one run of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WireId {
    pub(super) host: usize,
    pub(super) run: u32,
    pub(super) shard: usize,
    pub(super) link: LinkId,
}

/// What a link brings its host.
#[derive(Clone, Debug)]
pub(super) enum Tidings {
    Up,
    Bytes(Vec<u8>),
    Down(&'static str),
}

/// How Redis is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    #[default]
    Up,
    /// It is not there: links break, new ones are refused.
    Down,
    /// It stands still: its kernel accepts links and bytes, and nobody reads them until it goes on.
    Frozen,
}

/// The way between a host and Redis.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    latency_ms: u64,
    /// Nothing gets through. As TCP has it, what was sent arrives once the way is open again.
    is_cut: bool,
}

/// One link, and what is on its way in both directions, with the times of its arrival.
#[derive(Debug, Default)]
struct Wire {
    /// What Redis knows it by, once it has accepted it and until it has ended it.
    session: Option<SessionId>,
    /// While it is being connected: when the first packet arrives, and when the shell gives up.
    connecting_ms: Option<(u64, u64)>,
    to_redis: VecDeque<(u64, Vec<u8>)>,
    to_host: VecDeque<(u64, Tidings)>,
    /// The host has been told that it is up.
    is_up: bool,
    /// The host does not know it any more. What it had sent still arrives.
    is_closed: bool,
}

/// All links, and what they lead to.
#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) redis: Redis,
    pub(super) health: Health,
    /// Bytes arrive in pieces of at most this many; 0: as they were sent.
    pub(super) split: usize,
    ways: BTreeMap<usize, Way>,
    /// How much longer what Redis says takes to one shard of a host.
    lags_ms: BTreeMap<(usize, usize), u64>,
    wires: BTreeMap<WireId, Wire>,
}

impl Network {
    pub(super) fn set_latency(&mut self, host: usize, latency_ms: u64) {
        self.ways.entry(host).or_default().latency_ms = latency_ms;
    }

    pub(super) fn set_lag(&mut self, host: usize, shard: usize, lag_ms: u64) {
        self.lags_ms.insert((host, shard), lag_ms);
    }

    pub(super) fn cut(&mut self, host: usize, is_cut: bool) {
        self.ways.entry(host).or_default().is_cut = is_cut;
    }

    /// Redis goes from one state to another. Coming up after it was down, it knows no key if `empty`.
    pub(super) fn change(&mut self, now: Now, health: Health, empty: bool) {
        if health == Health::Down {
            self.redis.restart(false);
            for (id, wire) in &mut self.wires {
                if wire.session.take().is_some() {
                    let due_ms = now.mono_ms + self.ways.get(&id.host).map_or(0, |way| way.latency_ms);
                    wire.to_host.push_back((due_ms, Tidings::Down("the server closed the connection")));
                }
                wire.to_redis.clear();
            }
        } else if empty {
            self.redis.restart(true);
        }
        self.health = health;
    }

    /// A host's process is gone: nobody is there for what still comes.
    pub(super) fn forget_host(&mut self, host: usize) {
        for (_, wire) in self.wires.iter_mut().filter(|(id, _)| id.host == host) {
            wire.is_closed = true;
            wire.to_host.clear();
            wire.connecting_ms = None;
        }
        self.drop_ended();
    }

    /// Does what a core wants done with its links.
    pub(super) fn carry_out(&mut self, now: Now, of: WireId, work: &[LinkWork], bytes: &[u8]) {
        let mut sent = Vec::new();
        for item in work {
            match item {
                LinkWork::Open { link, .. } => {
                    let latency_ms = self.ways.get(&of.host).map_or(0, |way| way.latency_ms);
                    let times = (now.mono_ms + 2 * latency_ms, now.mono_ms + limits::LINK_CONNECT_MS_MAX);
                    let wire = Wire { connecting_ms: Some(times), ..Wire::default() };
                    let before = self.wires.insert(WireId { link: *link, ..of }, wire);
                    assert!(before.is_none(), "{link:?} for the second time");
                }
                LinkWork::Send { link, start, len } => {
                    assert!(!sent.contains(link) && *len > 0, "one send for each link and turn");
                    sent.push(*link);
                    let due_ms = now.mono_ms + self.ways.get(&of.host).map_or(0, |way| way.latency_ms);
                    let wire = self.wires.get_mut(&WireId { link: *link, ..of });
                    let wire = wire.filter(|wire| wire.is_up && !wire.is_closed).expect("a send to a link that is up");
                    // A server that has gone takes nothing any more; the host is about to hear of it.
                    if wire.session.is_some() {
                        wire.to_redis.push_back((due_ms, bytes[*start as usize..][..*len as usize].to_vec()));
                    }
                }
                LinkWork::Close { link } => {
                    let wire = self.wires.get_mut(&WireId { link: *link, ..of });
                    let wire = wire.filter(|wire| !wire.is_closed).expect("a link that is there");
                    (wire.is_closed, wire.connecting_ms) = (true, None);
                    wire.to_host.clear();
                }
            }
        }
        self.drop_ended();
    }

    fn drop_ended(&mut self) {
        let redis = &mut self.redis;
        self.wires.retain(|_, wire| {
            let ended = wire.is_closed && (wire.session.is_none() || wire.to_redis.is_empty());
            if let Some(session) = wire.session.filter(|_| ended) {
                redis.hang_up(session);
            }
            !ended
        });
    }

    /// Lets everything arrive that is due: first at Redis, whose answers set out, then at the hosts. What hosts in
    /// `asleep` would be told waits.
    pub(super) fn arrivals(&mut self, now: Now, asleep: impl Fn(usize) -> bool) -> Vec<(WireId, Tidings)> {
        self.redis.advance(now);
        if self.wires.is_empty() {
            return Vec::new();
        }
        self.connect(now);
        if self.health == Health::Up {
            self.reach_redis(now);
        }
        self.drop_ended();
        let mut arrived = Vec::new();
        for (id, wire) in &mut self.wires {
            let is_cut = self.ways.get(&id.host).is_some_and(|way| way.is_cut);
            if asleep(id.host) || (is_cut && !wire.is_given_up()) {
                continue;
            }
            while let Some((due_ms, _)) = wire.to_host.front()
                && *due_ms <= now.mono_ms
                && let Some((due_ms, tidings)) = wire.to_host.pop_front()
            {
                match tidings {
                    Tidings::Bytes(mut bytes) if self.split > 0 && bytes.len() > self.split => {
                        let rest = bytes.split_off(self.split);
                        wire.to_host.push_front((due_ms, Tidings::Bytes(rest)));
                        arrived.push((*id, Tidings::Bytes(bytes)));
                        // The core has a turn in between.
                        break;
                    }
                    Tidings::Bytes(bytes) => arrived.push((*id, Tidings::Bytes(bytes))),
                    Tidings::Up => {
                        wire.is_up = true;
                        arrived.push((*id, Tidings::Up));
                    }
                    Tidings::Down(why) => {
                        wire.is_closed = true;
                        arrived.push((*id, Tidings::Down(why)));
                    }
                }
            }
        }
        self.drop_ended();
        arrived
    }

    fn connect(&mut self, now: Now) {
        for (id, wire) in &mut self.wires {
            let Some((arrives_ms, until_ms)) = wire.connecting_ms else { continue };
            let is_cut = self.ways.get(&id.host).is_some_and(|way| way.is_cut);
            let tidings = match self.health {
                _ if now.mono_ms >= until_ms => Tidings::Down("no answer to the connect"),
                _ if is_cut || now.mono_ms < arrives_ms => continue,
                Health::Down => Tidings::Down("connection refused"),
                Health::Up | Health::Frozen => {
                    wire.session = Some(self.redis.accept(id.host));
                    Tidings::Up
                }
            };
            wire.connecting_ms = None;
            wire.to_host.push_back((now.mono_ms, tidings));
        }
    }

    fn reach_redis(&mut self, now: Now) {
        let mut sessions: BTreeMap<SessionId, WireId> = BTreeMap::new();
        for (id, wire) in &mut self.wires {
            if let Some(session) = wire.session {
                sessions.insert(session, *id);
            }
            if self.ways.get(&id.host).is_some_and(|way| way.is_cut) {
                continue;
            }
            while let (Some((due_ms, _)), Some(session)) = (wire.to_redis.front(), wire.session)
                && *due_ms <= now.mono_ms
                && let Some((_, bytes)) = wire.to_redis.pop_front()
            {
                let split = if self.split == 0 { bytes.len() } else { self.split };
                if bytes.chunks(split).any(|piece| self.redis.receive(session, piece).is_err()) {
                    wire.session = None;
                    self.redis.hang_up(session);
                    wire.to_host.push_back((now.mono_ms, Tidings::Down("the server closed the connection")));
                }
            }
        }
        for (session, bytes) in self.redis.outputs() {
            let Some((id, wire)) = sessions.get(&session).and_then(|id| Some((id, self.wires.get_mut(id)?))) else {
                continue;
            };
            if !wire.is_closed {
                let latency_ms = self.ways.get(&id.host).map_or(0, |way| way.latency_ms);
                let lag_ms = self.lags_ms.get(&(id.host, id.shard)).copied().unwrap_or_default();
                wire.to_host.push_back((now.mono_ms + latency_ms + lag_ms, Tidings::Bytes(bytes)));
            }
        }
    }

    /// When (`mono_ms`) something arrives next.
    pub(super) fn next_deadline(&self, asleep: impl Fn(usize) -> bool) -> Option<u64> {
        let deadlines = self.wires.iter().flat_map(|(id, wire)| {
            let is_cut = self.ways.get(&id.host).is_some_and(|way| way.is_cut);
            let connect = wire.connecting_ms.map(|(arrives_ms, until_ms)| if is_cut { until_ms } else { arrives_ms });
            let to_redis = wire.to_redis.front().filter(|_| !is_cut && self.health == Health::Up);
            let to_host = wire.to_host.front().filter(|_| !asleep(id.host) && (!is_cut || wire.is_given_up()));
            [connect, to_redis.map(|(due_ms, _)| *due_ms), to_host.map(|(due_ms, _)| *due_ms)]
        });
        deadlines.flatten().min()
    }
}

impl Wire {
    /// The shell itself has ended the attempt to connect, so a cut keeps it from nobody.
    fn is_given_up(&self) -> bool {
        !self.is_up && matches!(self.to_host.front(), Some((_, Tidings::Down("no answer to the connect"))))
    }
}
