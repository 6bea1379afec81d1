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
use super::{Ask, To, WORLD, presence};

/// The event that is repeated until every host has it.
const ALERT: &str = "emergency_alert";

/// What a vehicle's coming and going is called.
const PRESENCE: &str = "presence_update";

impl Shard {
    /// An event of this host for everyone, as JSON text.
    pub(in super::super) fn publish_to_hosts(&mut self, now: Now, world: WorldId, event: &str, text: &Arc<[u8]>) {
        if world != WORLD || self.bus.is_none() {
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
            if let Some(bus) = &mut self.bus
                && bus.alerts.push(now.unix_ms, text.clone()).dropped_unpublished
            {
                self.out.counters.backplane.dropped.increment(Dropped::AlertOverflow);
            }
            self.publish_alerts(now);
        } else {
            let _ = self.post(now, To::Broadcast, &Kind::Event, Some(text), Ask::Nothing);
        }
    }

    /// Publishes the alerts that have not been, oldest first.
    pub(super) fn publish_alerts(&mut self, now: Now) {
        while let Some(bus) = &mut self.bus
            && bus.ready
            && now.mono_ms >= bus.alerts_at_ms
            && let Some(alert) = bus.alerts.next_unpublished()
        {
            let kind = Kind::Alert { seq: alert.seq };
            if self.post(now, To::Broadcast, &kind, Some(&alert.text), Ask::Alert(alert.seq)).is_err() {
                if let Some(bus) = &mut self.bus {
                    bus.alerts.not_published(alert.seq);
                    bus.alerts_at_ms = now.mono_ms + limits::BEAT_MS;
                }
                return;
            }
        }
    }

    /// Publishes an envelope of this worker; what cannot be is counted.
    pub(super) fn post(
        &mut self,
        now: Now,
        to: To<'_>,
        kind: &Kind<'_>,
        obj: Option<&[u8]>,
        ask: Ask,
    ) -> Result<(), NotSent> {
        let Some(bus) = &mut self.bus else { return Err(NotSent::Down) };
        let node = &self.node;
        let source = Source { node: &node.id, epoch: node.epoch, worker: self.mesh.shard().0, at: now.unix_ms };
        bus.scratch.clear();
        envelope::write(&mut bus.scratch, &source, kind, obj);
        let other;
        let channel = match to {
            To::Broadcast => &*bus.names.broadcast,
            To::Gateways => &*bus.names.gateways,
            To::Node(id) => {
                other = format!("{}v2v:to:{id}", bus.names.prefix);
                &*other
            }
        };
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
        if let Some(square) = bus.square_of(channel) {
            self.frame_heard(now, square, payload);
            return;
        }
        // What is for one vehicle is as long as a client's message may be.
        let direct = channel == bus.names.to_me.as_bytes();
        let payload_bytes_max = self.config.redis.payload_bytes_max as usize;
        let message_bytes_max = self.config.limits.message_bytes_max as usize + limits::ENVELOPE_BYTES_MAX;
        let to_me_bytes_max = message_bytes_max.max(payload_bytes_max).max(limits::WHERE_BYTES_MAX);
        if payload.len() > if direct { to_me_bytes_max } else { payload_bytes_max } {
            self.out.counters.backplane.dropped.increment(Dropped::TooLarge);
            return;
        }
        let mut parser = self.bus_parser.take().unwrap_or_default();
        envelope::read(&mut parser, &mut payload, |read| match read {
            Ok(envelope) => self.envelope_heard(now, envelope),
            Err(Malformed::Kind) => self.out.counters.backplane.dropped.increment(Dropped::Version),
            Err(_) => self.out.counters.backplane.dropped.increment(Dropped::Malformed),
        });
        self.bus_parser = Some(parser);
    }

    fn envelope_heard(&mut self, now: Now, envelope: Envelope<'_>) {
        let Envelope { origin, obj, ringroad } = envelope;
        let Some((epoch, worker, at, kind)) = ringroad else {
            if !matches!(origin, Origin::Text(id) if *id == *self.node.id) {
                self.foreign_event_heard(obj);
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
        let stream = Stream { node: state::key(id), epoch, worker };
        match (kind, obj) {
            (Kind::Event, Some(obj)) => {
                if self.may_be_told(&obj) {
                    self.publish_here(EventName::of(obj.event), &obj.text);
                }
            }
            (Kind::Alert { seq }, Some(obj)) => self.alert_heard(stream, seq, &obj),
            (Kind::Presence { connected_ms, identity }, Some(obj)) => {
                self.presence_heard(now, id, connected_ms, identity, &obj);
            }
            (Kind::Direct { number, sender, recipient }, Some(obj)) => {
                let remote = super::Remote { node: id.into(), worker, number };
                self.direct_heard(now, remote, sender, recipient, obj);
            }
            (Kind::Beat { head, workers: _, lease_ms, leaving }, _) => {
                self.beat_heard(now, id, stream, head, lease_ms, leaving);
            }
            (Kind::Again { of, from, since }, _) => self.repeat_wanted(now, id, of, from, since),
            (Kind::Resent { to }, _) => self.repeated(stream, to),
            (Kind::Doubt { vehicle_id, connected_ms }, _) => self.doubted(now, vehicle_id, connected_ms),
            (Kind::Where { vehicle_ids }, _) => self.where_asked(now, id, worker, &vehicle_ids),
            (Kind::There { to, squares }, _) => self.where_answered(now, id, to, &squares),
            (Kind::Delivered { to, number }, _) => self.direct_answered(now, to, number, true),
            (Kind::Offline { to, number }, _) => self.direct_answered(now, to, number, false),
            (Kind::Event | Kind::Alert { .. } | Kind::Presence { .. } | Kind::Direct { .. }, None) => {
                self.out.counters.backplane.dropped.increment(Dropped::Malformed);
            }
        }
    }

    /// An event of an existing server.
    fn foreign_event_heard(&mut self, obj: Option<Obj<'_>>) {
        let Some(obj) = obj else {
            self.out.counters.backplane.dropped.increment(Dropped::Malformed);
            return;
        };
        self.out.counters.backplane.consumed += 1;
        if obj.event == ALERT && !self.is_news(&obj) {
            return;
        }
        if self.may_be_told(&obj) {
            self.publish_here(EventName::of(obj.event), &obj.text);
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

    /// Whether an alert comes for the first time, by its id. One without an id is always new.
    fn is_news(&mut self, obj: &Obj<'_>) -> bool {
        let Some(steward) = self.bus.as_mut().and_then(|bus| bus.steward.as_mut()) else { return true };
        let news = obj.id.is_none_or(|id| steward.seen.insert(id));
        self.out.counters.backplane.replay_skipped += u64::from(!news);
        news
    }

    fn alert_heard(&mut self, stream: Stream, seq: u64, obj: &Obj<'_>) {
        let Some(steward) = self.bus.as_mut().and_then(|bus| bus.steward.as_mut()) else { return };
        steward.heard.alert(stream, seq);
        if self.is_news(obj) && self.may_be_told(obj) {
            self.publish_here(EventName::of(obj.event), &obj.text);
        }
    }

    /// Tells every connection of this host what came from elsewhere.
    fn publish_here(&mut self, name: EventName, text: &[u8]) {
        let world = WORLD;
        self.out.broadcast_text(&mut self.worlds[world], name, text);
        if self.mesh.peers() > 0 {
            let what = What::Publish { name, text: text.into() };
            self.mesh.tell_all(Note { world, what }, &mut self.out.counters);
        }
    }

    fn presence_heard(
        &mut self,
        now: Now,
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
                self.entered_elsewhere(now, node, identity, epoch);
            }
            (Status::Online, None) => self.out.counters.backplane.dropped.increment(Dropped::Malformed),
            (Status::Offline | Status::Timeout, _) => {
                let last_seen = obj.last_seen.unwrap_or(now.unix_ms);
                self.left_elsewhere(now, vehicle_id, connected_ms, (status, last_seen));
            }
        }
    }

    fn beat_heard(&mut self, now: Now, id: &str, stream: Stream, head: u64, lease_ms: u64, leaving: bool) {
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
        let missing = steward.heard.beat(stream, head);
        self.out.counters.backplane.alert_gaps = steward.heard.gaps();
        if let Some(again) = missing {
            let kind = Kind::Again { of: stream.worker, from: again.from, since: again.since };
            let _ = self.post(now, To::Node(id), &kind, None, Ask::Nothing);
        }
    }

    /// Another node has missed alerts of a worker of this one.
    fn repeat_wanted(&mut self, now: Now, node: &str, of: u16, from: u64, since: u64) {
        if of == self.mesh.shard().0 {
            self.repeat_alerts(now, node, from, since);
        } else {
            let what = What::RepeatAlerts { node: node.into(), from, since };
            let note = Note { world: WORLD, what };
            self.mesh.tell(crate::turn::ShardId(of), note, &mut self.out.counters);
        }
    }

    /// Sends a node the alerts of this worker that it has missed.
    pub(in super::super) fn repeat_alerts(&mut self, now: Now, node: &str, from: u64, since: u64) {
        let Some(bus) = &self.bus else { return };
        let again: Vec<_> = bus.alerts.since(from, since).cloned().collect();
        let to = bus.alerts.first_since(since);
        if self.post(now, To::Node(node), &Kind::Resent { to }, None, Ask::Nothing).is_err() {
            return;
        }
        for alert in again {
            if self.bus.as_ref().is_some_and(|bus| bus.client.in_flight_bytes() > limits::REWRITE_BYTES_MAX) {
                // Not all: it asks again.
                return;
            }
            let kind = Kind::Alert { seq: alert.seq };
            if self.post(now, To::Node(node), &kind, Some(&alert.text), Ask::Nothing).is_err() {
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
