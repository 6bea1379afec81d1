//! To everyone on every host: `v2v:broadcast`, and what the gateways tell each other beside it.

use std::sync::Arc;

use crate::config::PresenceScope;
use crate::limits;
use crate::turn::Now;
use crate::wire::envelope::{self, Envelope, Kind, Malformed, Obj, Origin, Source};
use crate::wire::event::{EventName, Status};
use crate::wire::state;

use super::super::Shard;
use super::super::mail::{Note, What};
use super::super::vehicles::Epoch;
use super::super::world::WorldId;
use super::client::{NotSent, Spread};
use super::counters::Dropped;
use super::heard::Stream;
use super::realms::Channel;
use super::{Ask, To, presence};

/// The event that is repeated until every host has it.
const ALERT: &str = "emergency_alert";

/// What a vehicle's coming and going is called.
const PRESENCE: &str = "presence_update";

impl Shard {
    /// An event of this host for everyone, as JSON text.
    pub(in super::super) fn publish_to_hosts(&mut self, now: Now, world: WorldId, event: &str, text: &Arc<[u8]>) {
        if self.bus.as_ref().is_none_or(|bus| bus.realms.get(world).is_none()) {
            return;
        }
        if !self.is_whitelisted(event) {
            self.out.counters.backplane.dropped.increment(Dropped::NotWhitelisted);
            return;
        }
        if text.len() + limits::ENVELOPE_BYTES_MAX > self.config.redis.payload_bytes_max as usize {
            self.out.counters.backplane.dropped.increment(Dropped::TooLarge);
            return;
        }
        if event == ALERT {
            if let Some(realm) = self.bus.as_mut().and_then(|bus| bus.realms.get_mut(world))
                && realm.alerts.push(now.unix_ms, text.clone()).dropped_unpublished
            {
                self.out.counters.backplane.dropped.increment(Dropped::AlertOverflow);
            }
            self.publish_alerts(now);
        } else {
            let _ = self.post(now, world, To::Broadcast, &Kind::Event, Some(text), Ask::Nothing);
        }
    }

    /// Publishes the alerts that have not been, of each world the oldest first.
    pub(super) fn publish_alerts(&mut self, now: Now) {
        while let Some(bus) = &mut self.bus
            && bus.ready
            && let Some((world, alert)) = bus.realms.next_unpublished(now.mono_ms)
        {
            let kind = Kind::Alert { seq: alert.seq };
            let ask = Ask::Alert(world, alert.seq);
            if self.post(now, world, To::Broadcast, &kind, Some(&alert.text), ask).is_err()
                && let Some(realm) = self.bus.as_mut().and_then(|bus| bus.realms.get_mut(world))
            {
                realm.alerts_at_ms = now.mono_ms + limits::BEAT_MS;
                realm.alerts.not_published(alert.seq);
            }
        }
    }

    /// Publishes an envelope of this worker in a world; what cannot be is counted.
    pub(super) fn post(
        &mut self,
        now: Now,
        world: WorldId,
        to: To<'_>,
        kind: &Kind<'_>,
        obj: Option<&[u8]>,
        ask: Ask,
    ) -> Result<(), NotSent> {
        let Some(bus) = &mut self.bus else { return Err(NotSent::Down) };
        let node = &self.node;
        let realm = bus.realms.get(world);
        let tenant = realm.and_then(|realm| realm.tenant.as_deref());
        let source = Source { node: &node.id, epoch: node.epoch, worker: self.mesh.shard().0, at: now.unix_ms, tenant };
        bus.scratch.clear();
        envelope::write(&mut bus.scratch, &source, kind, obj);
        let other;
        let channel = match to {
            To::Broadcast => realm.map(|realm| &*realm.names.broadcast),
            To::Gateways => realm.map(|realm| &*realm.names.gateways),
            To::Hosts => Some(&*bus.realms.hosts),
            To::Node(id) => {
                other = bus.realms.to_node(id);
                Some(&*other)
            }
        };
        // Of a world without a realm there is nothing to say.
        let Some(channel) = channel else { return Err(NotSent::Down) };
        let posted = bus.client.publish(now, Spread::Everywhere, channel.as_bytes(), &bus.scratch, ask);
        self.count_sent(posted);
        posted
    }

    pub(super) fn count_sent(&mut self, sent: Result<(), NotSent>) {
        let counters = &mut self.out.counters.backplane;
        match sent {
            Ok(()) => counters.published += 1,
            Err(NotSent::Down) => counters.dropped.increment(Dropped::NotConnected),
            Err(NotSent::Full) => counters.dropped.increment(Dropped::Backlog),
        }
    }

    pub(super) fn is_whitelisted(&self, event: &str) -> bool {
        self.config.redis.publish_whitelist.iter().any(|one| one == event)
    }

    /// A message on a channel that this worker listens to.
    pub(super) fn message_heard(&mut self, now: Now, channel: &[u8], mut payload: Vec<u8>) {
        let Some(bus) = &self.bus else { return };
        let payload_bytes_max = self.config.redis.payload_bytes_max as usize;
        let message_bytes_max = self.config.limits.message_bytes_max as usize + limits::ENVELOPE_BYTES_MAX;
        let (on, bytes_max) = match bus.realms.channel(channel) {
            // It is not listened to any more.
            None => return,
            Some(Channel::Square(world, square)) => return self.frame_heard(now, world, square, payload),
            // What is for one vehicle is as long as a client's message may be.
            Some(on @ Channel::ToMe) => (on, message_bytes_max.max(payload_bytes_max).max(limits::WHERE_BYTES_MAX)),
            Some(on @ Channel::Hosts) => (on, payload_bytes_max.max(limits::BEAT_BYTES_MAX)),
            Some(on @ Channel::World(_)) => (on, payload_bytes_max),
        };
        if payload.len() > bytes_max {
            self.out.counters.backplane.dropped.increment(Dropped::TooLarge);
            return;
        }
        let mut parser = self.bus_parser.take().unwrap_or_default();
        envelope::read(&mut parser, &mut payload, |read| match read {
            Ok(envelope) => self.envelope_heard(now, on, envelope),
            Err(Malformed::Kind) => self.out.counters.backplane.dropped.increment(Dropped::Version),
            Err(_) => self.out.counters.backplane.dropped.increment(Dropped::Malformed),
        });
        self.bus_parser = Some(parser);
    }

    fn envelope_heard(&mut self, now: Now, on: Channel, envelope: Envelope<'_>) {
        let Envelope { origin, obj, ringroad, tenant } = envelope;
        let named = self.bus.as_ref().and_then(|bus| bus.realms.named(tenant));
        let Some((epoch, worker, at, kind)) = ringroad else {
            // The channel says in which world; one that is for nodes only without tenants.
            let world = if let Channel::World(world) = on { Some(world) } else { named };
            if !matches!(origin, Origin::Text(id) if *id == *self.node.id) {
                self.foreign_event_heard(world, obj);
            }
            return;
        };
        let Origin::Text(id) = origin else {
            self.out.counters.backplane.dropped.increment(Dropped::Malformed);
            return;
        };
        if *id == *self.node.id {
            // What this node has published itself comes back to it.
            if epoch != self.node.epoch && matches!(kind, Kind::Beat { leaving: false, .. }) {
                self.warn_of_namesake(now);
            }
            return;
        }
        self.out.counters.backplane.consumed += 1;
        self.out.counters.backplane.lag_ms.observe(now.unix_ms.saturating_sub(at));
        let stream = Stream { world: WorldId::default(), node: state::key(id), epoch, worker };
        // What is of no world.
        match kind {
            Kind::Beat { head, heads, workers: _, lease_ms, leaving } => {
                return self.beat_heard(now, id, stream, (head, &heads), lease_ms, leaving);
            }
            Kind::Delivered { to, number } => return self.direct_answered(now, to, number, true),
            Kind::Offline { to, number } => return self.direct_answered(now, to, number, false),
            _ => {}
        }
        // A tenant that this host does not have, or a channel of another one.
        let is_there = |world: &WorldId| match on {
            Channel::World(there) => there == *world,
            Channel::Hosts => tenant.is_none(),
            Channel::ToMe | Channel::Square(..) => true,
        };
        let Some(world) = named.filter(is_there) else {
            // Among the hosts there is also the presence of the world without tenants; of that nobody is here.
            if on == Channel::Hosts && tenant.is_none() {
                return;
            }
            self.out.counters.backplane.dropped.increment(Dropped::Tenant);
            return;
        };
        let stream = Stream { world, ..stream };
        match (kind, obj) {
            (Kind::Event, Some(obj)) => {
                if self.may_be_told(&obj) {
                    self.publish_here(world, EventName::of(obj.event), &obj.text);
                }
            }
            (Kind::Alert { seq }, Some(obj)) => self.alert_heard(stream, seq, &obj),
            (Kind::Presence { connected_ms, identity }, Some(obj)) => {
                self.presence_heard(now, world, id, connected_ms, identity, &obj);
            }
            (Kind::Direct { number, sender, recipient }, Some(obj)) => {
                let remote = super::Remote { node: id.into(), worker, number };
                self.direct_heard(now, world, remote, (sender, recipient), obj);
            }
            (Kind::Again { of, from, since }, _) => self.repeat_wanted(now, world, id, of, (from, since)),
            (Kind::Resent { to }, _) => self.repeated(stream, to),
            (Kind::Doubt { vehicle_id, connected_ms }, _) => self.doubted(now, world, vehicle_id, connected_ms),
            (Kind::Where { vehicle_ids }, _) => self.where_asked(now, world, id, worker, &vehicle_ids),
            (Kind::There { to, squares }, _) => self.where_answered(now, world, id, to, &squares),
            (Kind::Event | Kind::Alert { .. } | Kind::Presence { .. } | Kind::Direct { .. }, None) => {
                self.out.counters.backplane.dropped.increment(Dropped::Malformed);
            }
            (Kind::Beat { .. } | Kind::Delivered { .. } | Kind::Offline { .. }, _) => {}
        }
    }

    /// An event of an existing server.
    fn foreign_event_heard(&mut self, world: Option<WorldId>, obj: Option<Obj<'_>>) {
        let (Some(world), Some(obj)) = (world, obj) else {
            self.out.counters.backplane.dropped.increment(Dropped::Malformed);
            return;
        };
        self.out.counters.backplane.consumed += 1;
        if obj.event == ALERT && !self.is_news(world, &obj) {
            return;
        }
        if self.may_be_told(&obj) {
            self.publish_here(world, EventName::of(obj.event), &obj.text);
        }
    }

    fn may_be_told(&mut self, obj: &Obj<'_>) -> bool {
        if !self.is_whitelisted(obj.event) {
            self.out.counters.backplane.dropped.increment(Dropped::NotWhitelisted);
            return false;
        }
        // Where clients do not hear of everyone's presence, they do not hear of an existing server's vehicles either.
        obj.event != PRESENCE || self.config.presence.scope == PresenceScope::All
    }

    /// Whether an alert comes for the first time in its world, by its id. One without an id is always new.
    fn is_news(&mut self, world: WorldId, obj: &Obj<'_>) -> bool {
        let Some(steward) = self.bus.as_mut().and_then(|bus| bus.steward.as_mut()) else { return true };
        let news = obj.id.is_none_or(|id| steward.seen.insert(world, id));
        self.out.counters.backplane.replay_skipped += u64::from(!news);
        news
    }

    fn alert_heard(&mut self, stream: Stream, seq: u64, obj: &Obj<'_>) {
        let Some(steward) = self.bus.as_mut().and_then(|bus| bus.steward.as_mut()) else { return };
        steward.heard.alert(stream, seq);
        if self.is_news(stream.world, obj) && self.may_be_told(obj) {
            self.publish_here(stream.world, EventName::of(obj.event), &obj.text);
        }
    }

    /// Tells every connection of a world of this host what came from elsewhere.
    fn publish_here(&mut self, world: WorldId, name: EventName, text: &[u8]) {
        self.out.broadcast_text(&mut self.worlds[world], name, text);
        if self.mesh.peers() > 0 {
            let what = What::Publish { name, text: text.into() };
            self.mesh.tell_all(Note { world, what }, &mut self.out.counters);
        }
    }

    fn presence_heard(
        &mut self,
        now: Now,
        world: WorldId,
        node: &str,
        connected_ms: u64,
        identity: Option<envelope::Who<'_>>,
        obj: &Obj<'_>,
    ) {
        let (Some(vehicle_id), Some(status)) = (obj.vehicle_id, obj.status.and_then(Status::from_name)) else {
            self.out.counters.backplane.dropped.increment(Dropped::Malformed);
            return;
        };
        match (status, identity) {
            (Status::Online, Some(who)) => {
                if let Some(steward) = self.bus.as_mut().and_then(|bus| bus.steward.as_mut()) {
                    steward.nodes.mentioned(state::key(node), node, now.mono_ms);
                }
                let identity = presence::identity(vehicle_id, &who, connected_ms);
                let epoch = Epoch::elsewhere(connected_ms, state::key(node));
                self.entered_elsewhere(now, world, node, identity, epoch);
            }
            (Status::Online, None) => self.out.counters.backplane.dropped.increment(Dropped::Malformed),
            (Status::Offline | Status::Timeout, _) => {
                let last_seen = obj.last_seen.unwrap_or(now.unix_ms);
                self.left_elsewhere(now, world, vehicle_id, connected_ms, (status, last_seen));
            }
        }
    }

    /// `stream` is that of the world that there is without tenants, and `head` its newest number; `heads` those of tenants.
    fn beat_heard(
        &mut self,
        now: Now,
        id: &str,
        stream: Stream,
        (head, heads): (u64, &[(&str, u64)]),
        lease_ms: u64,
        leaving: bool,
    ) {
        let Some(bus) = &mut self.bus else { return };
        let Some(steward) = &mut bus.steward else { return };
        if leaving {
            // Each of its workers says so; the first one speaks for the node.
            steward.nodes.leaving(stream.node);
        } else {
            match steward.nodes.beat(stream.node, id, stream.epoch, lease_ms, now.mono_ms) {
                super::nodes::Beat::First => steward.read_soon(now),
                super::nodes::Beat::Restarted => {
                    self.out.counters.backplane.restarts += 1;
                    steward.read_soon(now);
                }
                super::nodes::Beat::Again => {}
                super::nodes::Beat::Refused => self.out.counters.backplane.dropped.increment(Dropped::Nodes),
            }
        }
        steward.is_alive(stream.node, leaving);
        // The first beat of a steward: it has begun to listen, and does not know this node yet.
        if stream.worker == 0 && steward.greet(stream.node, stream.epoch) {
            bus.next_beat_ms = now.mono_ms;
        }
        // The tenants first: one that a former beat did not name had raised nothing by then.
        let known = heads.iter().filter_map(|(tenant, head)| Some((bus.realms.named(Some(tenant))?, *head)));
        let mut missing: Vec<_> = known
            .filter_map(|(world, head)| Some((world, steward.heard.beat(Stream { world, ..stream }, head)?)))
            .collect();
        // Where there are tenants, nobody here is in that world.
        let head = if bus.realms.named(None).is_some() { head } else { 0 };
        missing.extend(steward.heard.beat(stream, head).map(|again| (stream.world, again)));
        self.out.counters.backplane.alert_gaps = steward.heard.gaps();
        for (world, again) in missing {
            let kind = Kind::Again { of: stream.worker, from: again.from, since: again.since };
            let _ = self.post(now, world, To::Node(id), &kind, None, Ask::Nothing);
        }
    }

    /// Another node has missed alerts of a worker of this one.
    fn repeat_wanted(&mut self, now: Now, world: WorldId, node: &str, of: u16, (from, since): (u64, u64)) {
        if of == self.mesh.shard().0 {
            self.repeat_alerts(now, world, node, from, since);
        } else {
            let what = What::RepeatAlerts { node: node.into(), from, since };
            let note = Note { world, what };
            self.mesh.tell(crate::turn::ShardId(of), note, &mut self.out.counters);
        }
    }

    /// Sends a node the alerts of this worker that it has missed.
    pub(in super::super) fn repeat_alerts(&mut self, now: Now, world: WorldId, node: &str, from: u64, since: u64) {
        let Some(realm) = self.bus.as_ref().and_then(|bus| bus.realms.get(world)) else { return };
        let again: Vec<_> = realm.alerts.since(from, since).cloned().collect();
        let to = realm.alerts.first_since(since);
        if self.post(now, world, To::Node(node), &Kind::Resent { to }, None, Ask::Nothing).is_err() {
            return;
        }
        for alert in again {
            if self.bus.as_ref().is_some_and(|bus| bus.client.in_flight_bytes() > limits::REWRITE_BYTES_MAX) {
                // Not all: it asks again.
                return;
            }
            let kind = Kind::Alert { seq: alert.seq };
            if self.post(now, world, To::Node(node), &kind, Some(&alert.text), Ask::Nothing).is_err() {
                return;
            }
            self.out.counters.backplane.alerts_repeated += 1;
        }
    }

    fn repeated(&mut self, stream: Stream, to: u64) {
        let Some(steward) = self.bus.as_mut().and_then(|bus| bus.steward.as_mut()) else { return };
        self.out.counters.backplane.alerts_lost += steward.heard.resent(stream, to);
    }

    fn warn_of_namesake(&mut self, now: Now) {
        let Some(bus) = &mut self.bus else { return };
        if now.mono_ms >= bus.warn_at_ms {
            bus.warn_at_ms = now.mono_ms + limits::WARN_MS;
            tracing::error!(node = &*self.node.id, "another gateway has the same redis.node_id");
        }
    }
}
