//! To the other hosts, through Redis. What travels: `docs/BACKPLANE.md`.
//!
//! In reading order: `client` and what it is made of (a Redis client without sockets), `broadcast` (to everyone on every
//! host), `alerts`, `heard` and `seen` (no alert is lost, none comes twice), `presence` (who is where), `restore` and
//! `nodes` (what the presence hash says, and who has died), `direct` (to one vehicle on another host), `squares` with
//! `interest`, `positions` and `streams` (positions), `watched` with `follows` (what connections watch), `buckets` (rates
//! that all hosts share).
//!
//! Nothing here is on the way of local traffic: what is local has happened before Redis hears of it.

mod alerts;
mod broadcast;
mod buckets;
pub mod client;
pub mod counters;
mod direct;
mod follows;
mod heard;
mod held;
mod interest;
mod nodes;
mod positions;
pub(super) mod presence;
mod restore;
pub mod scripts;
mod seen;
mod squares;
mod streams;
mod watched;

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::config::{Config, Servers};
use crate::limits;
use crate::turn::{LinkWork, Now, ShardId};
use crate::wire::envelope::Kind;
use crate::wire::state;

use super::Shard;
use super::mail::Sender;
use super::world::WorldId;
use alerts::AlertLog;
use client::{Client, News, Outcome, Spread};
use counters::Dropped;
use follows::Follows;
use held::{HeldCommands, Pending};
use interest::Interest;
use positions::Positions;
use presence::Left;
use restore::Steward;
use squares::{Early, Walk};
use streams::Streams;

pub use direct::Remote;

/// The world that Redis carries. Tenants will have names of their own.
const WORLD: WorldId = WorldId(0);

/// This process among those that share a Redis.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub id: Arc<str>,
    /// XXH3-64 of the name.
    pub key: u64,
    /// When it started, Unix ms: which run of this node.
    pub epoch: u64,
}

impl Node {
    /// A node by its name.
    pub fn new(id: &str, epoch: u64) -> Node {
        Node { id: id.into(), key: state::key(id), epoch }
    }
}

/// What a command was for, when its outcome comes.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// Nobody waits; a failure is counted.
    Nothing,
    /// The alert with this number was published.
    Alert(u64),
    /// May a held command be carried out?
    Bucket(u64),
    /// A part of the presence hash.
    Scan,
    /// Is the lease of this node there?
    Lease(Arc<str>),
    /// May this host sweep this node's vehicles?
    SweepLock(Arc<str>),
    /// The vehicle with this key was announced.
    Entered(u64),
    /// A departure was announced.
    Left(Left),
    /// A vehicle's entry was to be deleted in the name of a node that cannot; if it was there, that is announced.
    Removed(Left),
}

/// Names of channels and keys, with the prefix.
struct Names {
    prefix: Box<str>,
    broadcast: Box<str>,
    gateways: Box<str>,
    to_me: Box<str>,
    lease: Box<str>,
    presence: Box<str>,
    messages: Box<str>,
    sweep: Box<str>,
    /// What the name of a square comes after.
    cells: Box<str>,
}

impl Names {
    fn new(prefix: &str, node: &str) -> Names {
        let name = |rest: &str| format!("{prefix}{rest}").into_boxed_str();
        Names {
            prefix: prefix.into(),
            broadcast: name("v2v:broadcast"),
            gateways: name("v2v:gateways"),
            to_me: name(&format!("v2v:to:{node}")),
            lease: name(&format!("v2v:node:{node}")),
            presence: name("v2v:presence"),
            messages: name("v2v:messages"),
            sweep: name("v2v:maintenance:last_sweep"),
            cells: name("v2v:cell:"),
        }
    }
}

/// Where an envelope goes.
#[derive(Clone, Copy, Debug)]
enum To<'a> {
    Broadcast,
    Gateways,
    Node(&'a str),
}

/// One worker's part in what the hosts do together.
pub struct Backplane {
    names: Names,
    client: Client<Ask>,
    workers: u16,
    ready: bool,
    alerts: AlertLog,
    /// Not before this (`mono_ms`) is an alert that Redis has refused published again.
    alerts_at_ms: u64,
    interest: Interest,
    follows: Follows,
    positions: Positions,
    streams: Streams,
    walk: Walk,
    /// Positions of vehicles of which nobody has told this shard yet: their registration comes over another link.
    early: FxHashMap<u64, Early>,
    held: HeldCommands,
    /// Messages to vehicles on other hosts that have not been answered.
    directs: Pending<Sender>,
    /// Vehicles that left while Redis was away.
    departures: VecDeque<Left>,
    /// Not before this (`mono_ms`) are they told again.
    departures_at_ms: u64,
    /// Something could not be said: the entries are written again with the next beat.
    rewrite_wanted: bool,
    /// Up to which vehicle the entries have been written again since the client became ready.
    rewriting: Option<u32>,
    /// Nodes that have vehicles, by their keys.
    node_names: FxHashMap<u64, Arc<str>>,
    /// Worker 0 alone.
    steward: Option<Box<Steward>>,
    next_beat_ms: u64,
    /// The message that is being read, as it came: a command that has to wait is read again.
    text: Vec<u8>,
    scratch: Vec<u8>,
    /// The last turn lent the client's work.
    lent: bool,
    /// By when (`mono_ms`) the last words must be out; set when the process ends.
    leaving_by: Option<u64>,
    closed: bool,
    /// Not before this (`mono_ms`) is the next refusal logged.
    warn_at_ms: u64,
}

impl Backplane {
    /// The backplane of worker `shard` out of `workers`.
    pub fn new(config: &Config, servers: Servers, node: &Node, shard: ShardId, workers: u16, seed: u64) -> Backplane {
        let names = Names::new(&config.redis.channel_prefix, &node.id);
        let mut client = Client::new(servers, &format!("ringroad:{}:{}", node.id, shard.0), seed);
        let steward = (shard == ShardId(0)).then(|| Box::new(Steward::new(node)));
        if steward.is_some() {
            for channel in [&names.broadcast, &names.gateways, &names.to_me] {
                client.subscribe(Now::default(), Spread::Everywhere, channel.as_bytes());
            }
        }
        Backplane {
            names,
            client,
            workers,
            ready: false,
            alerts: AlertLog::new(config.redis.retry_events_max as usize),
            alerts_at_ms: 0,
            interest: Interest::new(shard.0, workers),
            follows: Follows::default(),
            positions: Positions::default(),
            streams: Streams::default(),
            walk: Walk::default(),
            early: FxHashMap::default(),
            held: HeldCommands::default(),
            directs: Pending::new(limits::DIRECTS_MAX, limits::DIRECT_MS_MAX),
            departures: VecDeque::new(),
            departures_at_ms: 0,
            rewrite_wanted: false,
            rewriting: None,
            node_names: FxHashMap::default(),
            steward,
            next_beat_ms: 0,
            text: Vec::new(),
            scratch: Vec::new(),
            lent: false,
            leaving_by: None,
            closed: false,
            warn_at_ms: 0,
        }
    }

    /// Whether commands reach Redis now.
    pub fn is_up(&self) -> bool {
        self.ready
    }

    /// How many channels this worker listens to.
    pub fn subscriptions(&self) -> usize {
        self.client.subscribed()
    }

    /// Whether everything has been said, or the time for it is over.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether other nodes can be asked where their vehicles are.
    fn can_ask_where(&self) -> bool {
        self.ready && self.leaving_by.is_none() && self.client.in_flight_bytes() <= limits::REWRITE_BYTES_MAX
    }

    /// The shell has come back: what the last turn lent has been carried out.
    pub fn turn_done(&mut self) {
        if std::mem::take(&mut self.lent) {
            self.client.sent();
        }
    }

    /// Whether links have anything to do.
    pub fn has_work(&mut self) -> bool {
        !self.client.work().0.is_empty()
    }

    /// What links are to do, with their bytes.
    pub fn work(&mut self) -> (&[LinkWork], &[u8]) {
        self.lent = true;
        self.client.work()
    }

    /// When (`mono_ms`) a turn is due although nothing happens.
    pub fn next_deadline(&self, position_tick_ms: u64) -> Option<u64> {
        if self.closed {
            return None;
        }
        // Who has said goodbye beats no more, and looks after nobody.
        let is_staying = self.ready && self.leaving_by.is_none();
        let beat = is_staying.then_some(self.next_beat_ms);
        // While Redis is behind, its next answer is what wakes the positions.
        let positions = if self.ready && self.client.in_flight_bytes() <= limits::STATES_IN_FLIGHT_BYTES_MAX {
            self.positions.next_deadline(position_tick_ms)
        } else {
            None
        };
        // Of what is under way the answer is what counts.
        let alerts = (self.ready && self.alerts.may_have_unpublished()).then_some(self.alerts_at_ms);
        let steward = self.steward.as_ref().filter(|_| is_staying).and_then(|steward| steward.next_deadline());
        let waiting = [
            self.walk.next_deadline(),
            self.held.next_deadline(),
            self.directs.next_deadline(),
            self.interest.next_deadline(),
            self.follows.next_deadline().filter(|_| self.can_ask_where()),
        ];
        let others = [self.client.next_deadline(), beat, positions, alerts, steward, self.leaving_by];
        waiting.into_iter().chain(others).flatten().min()
    }
}

impl Shard {
    /// Something came from a link.
    pub(super) fn link_input(&mut self, now: Now, tell: impl FnOnce(&mut Client<Ask>)) {
        if let Some(bus) = &mut self.bus {
            tell(&mut bus.client);
            self.hear_client(now);
        }
    }

    /// Everything that is due: connects, beats, waiting commands, positions.
    pub(super) fn settle_backplane(&mut self, now: Now) {
        let Some(bus) = &mut self.bus else { return };
        if bus.closed {
            return;
        }
        bus.client.advance(now);
        self.hear_client(now);
        self.answer_late(now);
        self.settle_squares(now);
        if self.bus.as_ref().is_some_and(|bus| bus.ready) {
            // First, or the beat would name alerts that nobody can have.
            self.publish_alerts(now);
            self.beat_if_due(now);
            self.tell_departures(now);
            self.rewrite_entries(now);
            self.steward_turn(now);
            self.publish_positions(now);
        }
        self.leave_if_done(now);
        let Some(bus) = &mut self.bus else { return };
        let counters = &mut self.out.counters.backplane;
        let counts = bus.client.counts();
        if counts.unsubscribed > counters.unsubscribed
            && now.mono_ms >= bus.warn_at_ms
            && let Some(why) = bus.client.refusal()
        {
            bus.warn_at_ms = now.mono_ms + limits::WARN_MS;
            tracing::warn!(worker = self.mesh.shard().0, why, "Redis has refused a subscription");
        }
        counters.show(&counts);
        counters.kept_for_retry = bus.alerts.kept_for_retry() as u64;
        counters.up = bus.ready.into();
        counters.squares = bus.interest.len() as u64;
        counters.whereabouts_unknown = bus.follows.asking() as u64;
        let heard = bus.steward.as_ref().map_or(0, |steward| steward.heard.untracked() + steward.nodes.refused());
        counters.untracked = heard + bus.streams.unfollowed() + bus.positions.counts().asks_refused;
    }

    fn hear_client(&mut self, now: Now) {
        while let Some(news) = self.bus.as_mut().and_then(|bus| bus.client.next_news()) {
            match news {
                News::Ready => self.backplane_ready(now),
                News::Lost { why } => self.backplane_lost(now, &why),
                News::Outcome { token, outcome } => self.backplane_outcome(now, token, outcome),
                News::Subscribed { channel } => self.backplane_subscribed(now, &channel),
                News::Message { channel, payload } => self.message_heard(now, &channel, payload),
            }
        }
    }

    fn backplane_ready(&mut self, now: Now) {
        let Some(bus) = &mut self.bus else { return };
        tracing::info!(worker = self.mesh.shard().0, "Redis is connected");
        bus.ready = true;
        bus.next_beat_ms = now.mono_ms;
        bus.alerts_at_ms = now.mono_ms;
        bus.departures_at_ms = now.mono_ms;
        bus.rewriting = Some(0);
        if let Some(steward) = &mut bus.steward {
            steward.link_ready(now);
        }
    }

    fn backplane_lost(&mut self, now: Now, why: &str) {
        let Some(bus) = &mut self.bus else { return };
        if bus.ready {
            tracing::warn!(worker = self.mesh.shard().0, why, "Redis is away; local traffic goes on");
        } else if now.mono_ms >= bus.warn_at_ms {
            bus.warn_at_ms = now.mono_ms + limits::WARN_MS;
            tracing::warn!(worker = self.mesh.shard().0, why, "Redis cannot be reached");
        }
        bus.ready = false;
        bus.rewriting = None;
        bus.alerts.link_lost();
        let states = bus.positions.drop_all();
        bus.walk.link_lost();
        if let Some(steward) = &mut bus.steward {
            steward.link_lost();
        }
        self.out.counters.backplane.dropped.add(Dropped::NotConnected, states as u64);
        self.let_all_held_go(now);
        self.directs_are_offline(now, true);
    }

    fn backplane_outcome(&mut self, now: Now, ask: Ask, outcome: Outcome) {
        if let Outcome::Refused(why) = &outcome {
            self.out.counters.backplane.dropped.increment(Dropped::Refused);
            let Some(bus) = &mut self.bus else { return };
            if now.mono_ms >= bus.warn_at_ms {
                bus.warn_at_ms = now.mono_ms + limits::WARN_MS;
                tracing::warn!(worker = self.mesh.shard().0, %why, "Redis has refused a command");
            }
        }
        if let (Outcome::Unknown, Ask::Entered(key)) = (&outcome, &ask) {
            self.entered_untold(*key);
        }
        if let (Outcome::Unknown, Ask::Left(left)) = (&outcome, &ask) {
            self.left_untold(left.clone());
        }
        let reply = match outcome {
            Outcome::Reply(reply) => Some(reply),
            Outcome::Refused(_) | Outcome::Unknown => None,
        };
        match ask {
            Ask::Nothing | Ask::Entered(_) | Ask::Left(_) => {}
            Ask::Alert(seq) => {
                let Some(bus) = &mut self.bus else { return };
                match reply {
                    Some(_) => bus.alerts.published(seq),
                    None => {
                        bus.alerts.not_published(seq);
                        bus.alerts_at_ms = now.mono_ms + limits::BEAT_MS;
                    }
                }
            }
            Ask::Bucket(number) => self.bucket_answered(now, number, reply),
            Ask::Scan => self.scanned(now, reply),
            Ask::Lease(node) => self.lease_looked_at(now, node, reply),
            Ask::SweepLock(node) => self.sweep_lock_asked(now, node, reply),
            Ask::Removed(left) => self.entry_removed(now, left, reply),
        }
    }

    fn backplane_subscribed(&mut self, now: Now, channel: &[u8]) {
        let Some(bus) = &mut self.bus else { return };
        if channel == bus.names.gateways.as_bytes() {
            // Who is there may now be missing something of what was said meanwhile: their beats tell.
            bus.next_beat_ms = now.mono_ms;
        } else if let Some(square) = bus.square_of(channel) {
            // Who listened before hears this host's vehicles now; who listens later will ask. Only both together leave
            // no gap: a host that is not subscribed yet does not hear what it is asked.
            self.ask_square(now, square);
            self.everyone_asked(now, square);
        }
    }

    /// Says that this worker is there, and how many alerts it has raised.
    fn beat_if_due(&mut self, now: Now) {
        let Some(bus) = &mut self.bus else { return };
        if now.mono_ms < bus.next_beat_ms || bus.leaving_by.is_some() {
            return;
        }
        bus.next_beat_ms = now.mono_ms + limits::BEAT_MS;
        if std::mem::take(&mut bus.rewrite_wanted) {
            bus.rewriting.get_or_insert(0);
        }
        bus.early.retain(|_, early| now.mono_ms < early.heard_ms + limits::EARLY_MS_MAX);
        self.beat(now, false);
    }

    fn beat(&mut self, now: Now, leaving: bool) {
        let Some(bus) = &self.bus else { return };
        let (head, workers) = (bus.alerts.head(), bus.workers);
        let kind = Kind::Beat { head, workers, lease_ms: self.config.redis.lease_ms, leaving };
        // The next one says the same.
        let _ = self.post(now, To::Gateways, &kind, None, Ask::Nothing);
    }

    /// Once everyone has been let go of: the last words, and then the end of the links.
    fn leave_if_done(&mut self, now: Now) {
        // All vehicles have departed by then, though their connections may linger.
        if !self.stopping || self.bus.as_ref().is_none_or(|bus| bus.held.next_deadline().is_some()) {
            return;
        }
        if self.bus.as_ref().is_some_and(|bus| bus.leaving_by.is_none()) {
            self.beat(now, true);
            self.give_up_lease(now);
        }
        let Some(bus) = &mut self.bus else { return };
        let by = *bus.leaving_by.get_or_insert(now.mono_ms + limits::LEAVING_MS_MAX);
        let kept = bus.alerts.kept_for_retry();
        let said = bus.client.in_flight_bytes() == 0 && bus.departures.is_empty() && kept == 0;
        if !bus.ready || said || now.mono_ms >= by {
            if kept > 0 {
                tracing::warn!(
                    worker = self.mesh.shard().0,
                    kept,
                    "alerts that no other host has heard end with this one"
                );
            }
            bus.client.close();
            bus.closed = true;
        }
    }
}
