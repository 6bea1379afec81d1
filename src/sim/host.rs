//! One host: its shards, the inboxes between them, and who is connected.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use super::Faults;
use super::client::{Client, ClientId};
use super::network::{Network, Tidings, WireId};
use crate::config::Config;
use crate::limits;
use crate::shard::backplane::Node;
use crate::shard::{Batch, Shard};
use crate::turn::{ConnId, Core, Ended, Input, LinkId, Now, ShardId};

/// What the clients of a host do.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    Opened(IpAddr),
    OpenedPrivately(IpAddr),
    Bytes(Vec<u8>),
    Ended(Ended),
    Writable,
}

/// What is around a host while it has its turn.
pub(super) struct Surroundings<'a> {
    pub(super) clients: &'a mut [Client],
    pub(super) network: &'a mut Network,
    pub(super) faults: Faults,
    pub(super) radio: &'a mut Vec<u8>,
    pub(super) sends: &'a mut usize,
}

/// A host. Without shards it is dead.
#[derive(Default)]
pub(super) struct Host {
    at: usize,
    pub(super) shards: Vec<Shard>,
    inboxes: Vec<VecDeque<(ShardId, Batch)>>,
    /// Per shard: which client has an index, and how often the index was used.
    indexes: Vec<Vec<(Option<ClientId>, u32)>>,
    /// How often it was started.
    run: u32,
    epoch: u64,
    /// Its clock is ahead of the world's by so much.
    pub(super) clock_ahead_ms: i64,
    pub(super) is_asleep: bool,
    /// It drains, and stops at this time (`mono_ms`) whoever is still there.
    drains_until: Option<u64>,
    /// What its clients have done while it was asleep.
    backlog: VecDeque<(usize, ConnId, Deed)>,
}

impl Host {
    pub(super) fn new(at: usize) -> Host {
        Host { at, ..Host::default() }
    }

    /// The time as this host has it.
    pub(super) fn time(&self, now: Now) -> Now {
        Now { unix_ms: now.unix_ms.saturating_add_signed(self.clock_ahead_ms), ..now }
    }

    /// Starts its process. The seeds differ between hosts and runs, as ids must.
    pub(super) fn start(&mut self, now: Now, config: &Arc<Config>, node: &str, shards: u16) {
        // No process starts twice in a millisecond.
        self.epoch = self.time(now).unix_ms.max(self.epoch + 1);
        self.run += 1;
        let servers = config.redis.servers().expect("the world's settings are checked");
        let first_seed = (self.at as u64) << 32 | u64::from(self.run - 1) << 16;
        let shard = |shard| {
            let (node, seed) = (Node::new(node, self.epoch), first_seed + u64::from(shard) + 1);
            Shard::of_node(config.clone(), node, servers.clone(), ShardId(shard), shards, seed)
        };
        self.shards = (0..shards).map(shard).collect();
        self.inboxes = (0..shards).map(|_| VecDeque::new()).collect();
        self.indexes = (0..shards).map(|_| Vec::new()).collect();
        self.is_asleep = false;
        self.drains_until = None;
    }

    /// Asks its shards to let go of everybody within this time.
    pub(super) fn drain(&mut self, now: Now, over_ms: u64) {
        self.drains_until = Some(now.mono_ms + over_ms + limits::CLOSE_MS_MAX);
        let now = self.time(now);
        self.shards.iter_mut().for_each(|shard| shard.handle(now, Input::Drain { over_ms }));
    }

    /// Stops its shards once a drain is over. Whether it was.
    fn stop_if_drained(&mut self, now: Now) -> bool {
        let is_empty = self.indexes.iter().flatten().all(|(client, _)| client.is_none());
        if self.drains_until.is_none_or(|until| now.mono_ms < until && !is_empty) {
            return false;
        }
        self.drains_until = None;
        self.shards.iter_mut().for_each(|shard| shard.handle(now, Input::Stop));
        true
    }

    /// Its process is gone, and nobody has said goodbye.
    pub(super) fn die(&mut self, clients: &mut [Client]) {
        self.shards.clear();
        self.inboxes.clear();
        self.backlog.clear();
        for (client, _) in self.indexes.drain(..).flatten() {
            if let Some(client) = client {
                clients[client.0].conn = None;
                clients[client.0].ended();
            }
        }
    }

    /// Whether it can do anything now.
    pub(super) fn is_awake(&self) -> bool {
        !self.shards.is_empty() && !self.is_asleep
    }

    /// An index for the connection of a new client.
    pub(super) fn seat(&mut self, shard: usize, client: ClientId) -> ConnId {
        let indexes = &mut self.indexes[shard];
        let index = indexes.iter().position(|(user, _)| user.is_none()).unwrap_or_else(|| {
            indexes.push((None, 0));
            indexes.len() - 1
        });
        indexes[index].0 = Some(client);
        indexes[index].1 += 1;
        ConnId { index: index as u32, generation: indexes[index].1 }
    }

    /// A client does something. While the host is asleep it waits.
    pub(super) fn notice(&mut self, now: Now, shard: usize, conn: ConnId, deed: Deed) {
        if self.is_asleep {
            self.backlog.push_back((shard, conn, deed));
            return;
        }
        let now = self.time(now);
        let shard = &mut self.shards[shard];
        match deed {
            Deed::Opened(peer) => shard.handle(now, Input::Opened { conn, peer }),
            Deed::OpenedPrivately(peer) => shard.handle(now, Input::OpenedPrivately { conn, peer }),
            Deed::Bytes(mut bytes) => shard.handle(now, Input::Bytes { conn, bytes: &mut bytes }),
            Deed::Ended(how) => shard.handle(now, Input::Ended { conn, how }),
            Deed::Writable => shard.handle(now, Input::Writable { conn }),
        }
    }

    /// It goes on after it was asleep.
    pub(super) fn wake(&mut self, now: Now) {
        self.is_asleep = false;
        for (shard, conn, deed) in std::mem::take(&mut self.backlog) {
            self.notice(now, shard, conn, deed);
        }
    }

    /// A link of this run of the host brings something.
    pub(super) fn link_brings(&mut self, now: Now, from: WireId, tidings: Tidings) {
        let now = self.time(now);
        let WireId { run, shard, link, .. } = from;
        if run != self.run {
            return;
        }
        let shard = &mut self.shards[shard];
        match tidings {
            Tidings::Up => shard.handle(now, Input::LinkUp { link }),
            Tidings::Bytes(bytes) => shard.handle(now, Input::LinkBytes { link, bytes: &bytes }),
            Tidings::Down(why) => shard.handle(now, Input::LinkDown { link, why }),
        }
    }

    /// Gives each shard its mail and a turn. Whether there is more to do at this time.
    pub(super) fn take_turns(&mut self, now: Now, around: &mut Surroundings<'_>) -> bool {
        let now = self.time(now);
        let mut more = self.stop_if_drained(now);
        for at in 0..self.shards.len() {
            while let Some((from, mail)) = self.inboxes[at].pop_front() {
                self.shards[at].handle(now, Input::Mail { from, mail });
            }
            more |= self.take_turn(now, at, around);
        }
        // A shard that had too much for one turn is due at once.
        more |= self.next_deadline() == Some(0);
        more || !self.inboxes.iter().all(VecDeque::is_empty)
    }

    /// Runs one shard's turn, to its end if it has one soon enough. Whether there is more to do: it sent mail, or has not
    /// come to its end.
    fn take_turn(&mut self, now: Now, at: usize, around: &mut Surroundings<'_>) -> bool {
        let wire = WireId { host: self.at, run: self.run, shard: at, link: LinkId(0) };
        let mut mailed = false;
        let turns_max = if around.faults.round_turns_max == 0 { usize::MAX } else { around.faults.round_turns_max };
        for _ in 0..turns_max {
            let Some(turn) = self.shards[at].poll_turn(now) else { return mailed };
            let client_of = |conn: ConnId| self.indexes[at][conn.index as usize].0;
            let mut blocked = Vec::new();
            for send in turn.sends {
                *around.sends += 1;
                let client = client_of(send.conn).expect("sends go to open connections");
                let bytes = turn.bytes(send);
                assert!(!bytes.is_empty(), "an empty send");
                assert!(!blocked.iter().any(|(conn, _)| *conn == send.conn), "two sends to one connection in a turn");
                let taken = around.clients[client.0].take(bytes);
                if taken < bytes.len() {
                    blocked.push((send.conn, bytes[taken..].to_vec()));
                }
            }
            for conn in turn.finished {
                around.clients[client_of(*conn).expect("open").0].ended();
            }
            for conn in turn.released {
                let client = self.indexes[at][conn.index as usize].0.take().expect("released once");
                around.clients[client.0].conn = None;
                around.clients[client.0].ended();
            }
            around.radio.extend_from_slice(turn.radio);
            let mut refused = Vec::new();
            for (to, mail) in turn.mail.drain(..) {
                let inbox = &mut self.inboxes[usize::from(to.0)];
                if around.faults.inbox_max > 0 && inbox.len() >= around.faults.inbox_max {
                    refused.push((to, mail));
                } else {
                    inbox.push_back((ShardId(at as u16), mail));
                    mailed = true;
                }
            }
            around.network.carry_out(now, wire, turn.links, turn.link_bytes);
            for (conn, rest) in blocked {
                self.shards[at].handle(now, Input::Blocked { conn, rest: &rest });
            }
            for (to, mail) in refused {
                self.shards[at].counters().shell.mail_refused += 1;
                self.shards[at].handle(now, Input::MailRefused { to, mail });
            }
        }
        true
    }

    /// Checks what must hold between its shards, unless something is still on its way from one to another.
    pub(super) fn check_agreement(&self) {
        if self.shards.iter().all(Shard::is_at_rest) && self.inboxes.iter().all(VecDeque::is_empty) {
            Shard::check_agreement(&self.shards);
        }
    }

    /// When (`mono_ms`) it has something to do although nothing happens.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        if self.is_asleep {
            return None;
        }
        self.shards.iter().filter_map(|shard| shard.next_deadline()).chain(self.drains_until).min()
    }
}
