//! To the other hosts, through Redis. What travels: `docs/BACKPLANE.md`.
//!
//! In reading order: `client` and what it is made of (a Redis client without sockets), `realms` (what there is for each
//! world), `broadcast` (to everyone on every host), `alerts`, `heard` and `seen` (no alert is lost, none comes twice),
//! `presence` (who is where), `steward`, `restore` and `nodes` (what the presence hashes say, and who has died), `direct`
//! (to one vehicle on another host), `squares` with `interest`, `positions` and `streams` (positions), `watched` with
//! `follows` (what connections watch), `buckets` (rates that all hosts share).
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
mod realms;
mod restore;
pub mod scripts;
mod seen;
mod squares;
mod steward;
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
use client::{Client, News, Outcome, Spread};
use counters::Dropped;
use held::{HeldCommands, Pending};
use presence::Left;
use realms::{Channel, Realms};
use squares::Early;
use steward::Steward;

pub use direct::Remote;

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
    /// The alert of this world with this number was published.
    Alert(WorldId, u64),
    /// May a held command be carried out?
    Bucket(u64),
    /// A part of the presence hash that is being read.
    Scan,
    /// Is the lease of this node there?
    Lease(Arc<str>),
    /// May this host sweep this node's vehicles in this world?
    SweepLock(WorldId, Arc<str>),
    /// The vehicle of this world with this key was announced.
    Entered(WorldId, u64),
    /// A departure was announced.
    Left(Left),
    /// A vehicle's entry was to be deleted in the name of a node that cannot; if it was there, that is announced.
    Removed(Left),
}

/// Where an envelope goes.
#[derive(Clone, Copy, Debug)]
enum To<'a> {
    /// To everyone in its world, and to existing servers.
    Broadcast,
    /// To all nodes that have its world.
    Gateways,
    /// To all nodes.
    Hosts,
    Node(&'a str),
}

/// One worker's part in what the hosts do together.
pub struct Backplane {
    realms: Realms,
    client: Client<Ask>,
    workers: u16,
    ready: bool,
    /// The world whose positions are published first: there was no room for them the last time.
    positions_from: WorldId,
    /// Positions of vehicles of which nobody has told this shard yet: their registration comes over another link.
    early: FxHashMap<(WorldId, u64), Early>,
    held: HeldCommands,
    /// Messages to vehicles on other hosts that have not been answered.
    directs: Pending<Sender>,
    /// Vehicles that left while Redis was away.
    departures: VecDeque<Left>,
    /// Not before this (`mono_ms`) are they told again.
    departures_at_ms: u64,
    /// Something could not be said: the entries are written again with the next beat.
    rewrite_wanted: bool,
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
        let realms = Realms::new(config, &node.id, shard.0, workers);
        let mut client = Client::new(servers, &format!("ringroad:{}:{}", node.id, shard.0), seed);
        let steward = (shard == ShardId(0)).then(|| Box::new(Steward::new(node, realms.worlds())));
        if steward.is_some() {
            let of_worlds = realms.iter().flat_map(|realm| [&realm.names.broadcast, &realm.names.gateways]);
            // Without tenants the gateways of the world that there is are the hosts. What is listened to already stays so.
            for channel in of_worlds.chain([&realms.hosts, &realms.to_me]) {
                client.subscribe(Now::default(), Spread::Everywhere, channel.as_bytes());
            }
        }
        Backplane {
            realms,
            client,
            workers,
            ready: false,
            positions_from: WorldId::default(),
            early: FxHashMap::default(),
            held: HeldCommands::default(),
            directs: Pending::new(limits::DIRECTS_MAX, limits::DIRECT_MS_MAX),
            departures: VecDeque::new(),
            departures_at_ms: 0,
            rewrite_wanted: false,
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
        let may_publish = self.ready && self.client.in_flight_bytes() <= limits::STATES_IN_FLIGHT_BYTES_MAX;
        let can_ask_where = self.can_ask_where();
        let of_realms = self.realms.iter().flat_map(|realm| {
            let positions = if may_publish { realm.positions.next_deadline(position_tick_ms) } else { None };
            let follows = if can_ask_where { realm.follows.next_deadline() } else { None };
            // Of what is under way the answer is what counts.
            let alerts = (self.ready && realm.alerts.may_have_unpublished()).then_some(realm.alerts_at_ms);
            [realm.next_deadline(), positions, follows, alerts]
        });
        let steward = self.steward.as_ref().filter(|_| is_staying).and_then(|steward| steward.next_deadline());
        let waiting = [self.held.next_deadline(), self.directs.next_deadline()];
        let others = [self.client.next_deadline(), beat, steward, self.leaving_by];
        waiting.into_iter().chain(others).chain(of_realms).flatten().min()
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
        counters.up = bus.ready.into();
        let heard = bus.steward.as_ref().map_or(0, |steward| steward.heard.untracked() + steward.nodes.refused());
        counters.untracked = heard;
        (counters.kept_for_retry, counters.squares, counters.whereabouts_unknown) = (0, 0, 0);
        counters.states_conflated = 0;
        for realm in bus.realms.iter() {
            counters.kept_for_retry += realm.alerts.kept_for_retry() as u64;
            counters.squares += realm.interest.len() as u64;
            counters.whereabouts_unknown += realm.follows.asking() as u64;
            let positions = realm.positions.counts();
            counters.states_conflated += positions.conflated;
            counters.untracked += realm.streams.unfollowed() + positions.asks_refused;
        }
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
        bus.departures_at_ms = now.mono_ms;
        for realm in bus.realms.iter_mut() {
            (realm.rewriting, realm.alerts_at_ms) = (Some(0), now.mono_ms);
        }
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
        let mut states = 0;
        for realm in bus.realms.iter_mut() {
            realm.rewriting = None;
            realm.alerts.link_lost();
            states += realm.positions.drop_all();
            realm.walk.link_lost();
        }
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
        if let (Outcome::Unknown, Ask::Entered(world, key)) = (&outcome, &ask) {
            self.entered_untold(*world, *key);
        }
        if let (Outcome::Unknown, Ask::Left(left)) = (&outcome, &ask) {
            self.left_untold(left.clone());
        }
        let reply = match outcome {
            Outcome::Reply(reply) => Some(reply),
            Outcome::Refused(_) | Outcome::Unknown => None,
        };
        match ask {
            Ask::Nothing | Ask::Entered(..) | Ask::Left(_) => {}
            Ask::Alert(world, seq) => {
                let Some(bus) = &mut self.bus else { return };
                let Some(realm) = bus.realms.get_mut(world) else { return };
                match reply {
                    Some(_) => realm.alerts.published(seq),
                    None => {
                        realm.alerts.not_published(seq);
                        realm.alerts_at_ms = now.mono_ms + limits::BEAT_MS;
                    }
                }
            }
            Ask::Bucket(number) => self.bucket_answered(now, number, reply),
            Ask::Scan => self.scanned(now, reply),
            Ask::Lease(node) => self.lease_looked_at(now, node, reply),
            Ask::SweepLock(world, node) => self.sweep_lock_asked(now, world, node, reply),
            Ask::Removed(left) => self.entry_removed(now, left, reply),
        }
    }

    fn backplane_subscribed(&mut self, now: Now, channel: &[u8]) {
        let Some(bus) = &mut self.bus else { return };
        match bus.realms.channel(channel) {
            // Who is there may now be missing something of what was said meanwhile: their beats tell.
            Some(Channel::Hosts) => bus.next_beat_ms = now.mono_ms,
            Some(Channel::Square(world, square)) => {
                // Who listened before hears this host's vehicles now; who listens later will ask. Only both together
                // leave no gap: a host that is not subscribed yet does not hear what it is asked.
                self.ask_square(now, world, square);
                self.everyone_asked(now, world, square);
            }
            Some(Channel::ToMe | Channel::World(_)) | None => {}
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
            for realm in bus.realms.iter_mut() {
                realm.rewriting.get_or_insert(0);
            }
        }
        bus.early.retain(|_, early| now.mono_ms < early.heard_ms + limits::EARLY_MS_MAX);
        self.beat(now, false);
    }

    fn beat(&mut self, now: Now, leaving: bool) {
        let Some(bus) = &mut self.bus else { return };
        let (mut head, mut tenants) = (0, Vec::new());
        for realm in bus.realms.iter() {
            match &realm.tenant {
                None => head = realm.alerts.head(),
                Some(tenant) if realm.alerts.head() > 0 => tenants.push((tenant.clone(), realm.alerts.head())),
                Some(_) => {}
            }
        }
        let heads = tenants.iter().map(|(tenant, head)| (&**tenant, *head)).collect();
        let kind = Kind::Beat { head, heads, workers: bus.workers, lease_ms: self.config.redis.lease_ms, leaving };
        // The next one says the same.
        let _ = self.post(now, WorldId::default(), To::Hosts, &kind, None, Ask::Nothing);
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
        let kept: usize = bus.realms.iter().map(|realm| realm.alerts.kept_for_retry()).sum();
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
