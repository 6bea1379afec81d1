//! From one vehicle to another: text, requests and answers, calls, WebRTC signalling.

use std::sync::Arc;

use crate::limits;
use crate::turn::{ConnId, Now, ShardId};
use crate::wire::error::ErrorCode;
use crate::wire::event::Event;
use crate::wire::json::{EventKind, Relay};
use crate::wire::state;

use super::close::ShedReason;
use super::mail::{Deliver, Note, Relayed, Sender, What};
use super::world::WorldId;
use super::{Shard, Timer};

/// A `connect_request` that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    pub until_ms: u64,
}

impl Shard {
    /// Text to another vehicle. To one that is not connected it goes over the radio, if there is one.
    pub(super) fn message(
        &mut self,
        now: Now,
        world_id: WorldId,
        id: ConnId,
        sender: &str,
        recipient: &str,
        content: &str,
    ) {
        let message_id = self.ids.next_uuid();
        self.record_message(now, world_id, message_id, sender, recipient, content);
        let event =
            Event::ReceiveMessage { id: message_id, sender, recipient, content, ts: now.unix_ms, via_radio: false };
        let mut text = Vec::new();
        event.write(&mut text);
        if !self.deliver_to(now, id, recipient, Relayed::Message, text) && !self.radio_text(sender, recipient, content)
        {
            self.offline(now, id, recipient);
        }
    }

    /// An event whose data goes to another vehicle as it is.
    pub(super) fn relay(&mut self, now: Now, id: ConnId, key: u64, kind: EventKind, relay: Relay<'_>) {
        let Some(conn) = self.out.conns.find(id) else { return };
        let world_id = conn.world;
        let recipient = state::key(relay.recipient);
        match kind {
            // The answer comes from the target, so the request is remembered where the target is connected.
            EventKind::ConnectResponse => {
                let world = &mut self.worlds[world_id];
                let pending = world.pending.remove(&(recipient, key));
                if pending.is_none_or(|pending| pending.until_ms <= now.mono_ms) {
                    self.error(now, id, ErrorCode::NoPendingRequest, "no request of that vehicle is waiting");
                    return;
                }
            }
            EventKind::CallInitiate => self.out.counters.call_sessions += 1,
            _ => {}
        }
        let mut text = Vec::with_capacity(relay.data.len() + 64);
        Event::Relayed { kind, data: &relay.data }.write(&mut text);
        if !self.deliver_to(now, id, relay.recipient, Relayed::Event(kind), text) {
            self.offline(now, id, relay.recipient);
        }
    }

    /// Sends an event to a vehicle on this host. False if it is not connected.
    fn deliver_to(&mut self, now: Now, id: ConnId, recipient: &str, kind: Relayed, text: Vec<u8>) -> bool {
        let Some(conn) = self.out.conns.find(id) else { return false };
        let (world_id, slot) = (conn.world, conn.vehicle);
        let world = &mut self.worlds[world_id];
        let Some(sender_key) = slot.and_then(|slot| world.vehicles.find(slot)).map(|vehicle| vehicle.key) else {
            return false;
        };
        let Some(index) = world.vehicles.by_id(recipient) else { return false };
        self.out.counters.relays += 1;
        let recipient = Some(world.vehicles.at(index).identity.clone());
        let sender = Sender { shard: self.mesh.shard(), conn: Some(id), key: sender_key, recipient, remote: None };
        self.send_to(now, world_id, index, kind, text, sender);
        true
    }

    /// Sends an event to a vehicle, on whichever shard or host it is.
    pub(super) fn send_to(
        &mut self,
        now: Now,
        world_id: WorldId,
        index: u32,
        kind: Relayed,
        text: Vec<u8>,
        sender: Sender,
    ) {
        let vehicle = self.worlds[world_id].vehicles.at(index);
        let deliver = Deliver { recipient: vehicle.key, kind, text: Arc::from(text), sender };
        if vehicle.driving().is_some() {
            self.deliver(now, world_id, deliver);
        } else if vehicle.epoch.node != self.node.key {
            self.send_to_host(now, world_id, index, deliver);
        } else {
            let home = vehicle.epoch.shard;
            let note = Note { world: world_id, what: What::Deliver(deliver) };
            self.mesh.tell(home, note, &mut self.out.counters);
        }
    }

    /// Hands an event to a vehicle of this shard; if it has gone meanwhile, its sender is told.
    pub(super) fn deliver(&mut self, now: Now, world_id: WorldId, deliver: Deliver) {
        let world = &mut self.worlds[world_id];
        let driving = world.vehicles.by_key(deliver.recipient).and_then(|index| world.vehicles.at(index).driving());
        let Some(conn) = driving.map(|driving| driving.conn) else {
            self.undeliverable(now, deliver.sender);
            return;
        };
        if deliver.kind == Relayed::Event(EventKind::ConnectRequest) {
            self.remember_request(now, world_id, deliver.sender.key, deliver.recipient);
        }
        self.out.text_frame(now, conn, deliver.kind.into(), &deliver.text);
        if let Some(remote) = &deliver.sender.remote {
            self.answer_remote(now, remote, true);
        }
    }

    fn remember_request(&mut self, now: Now, world_id: WorldId, requester: u64, target: u64) {
        let pending = &mut self.worlds[world_id].pending;
        if pending.len() >= limits::PENDING_REQUESTS_MAX && !pending.contains_key(&(requester, target)) {
            // The request is delivered all the same; an answer to it will find nothing.
            self.out.counters.shed.increment(ShedReason::PendingRequest);
            return;
        }
        let until_ms = now.mono_ms + self.config.vehicles.request_timeout_ms;
        pending.insert((requester, target), Pending { until_ms });
        self.out.timers.set(until_ms, Timer::Request(Box::new((world_id, requester, target))));
    }

    /// A request has waited long enough, unless it was renewed.
    pub(super) fn forget_request(&mut self, now: Now, world_id: WorldId, requester: u64, target: u64) {
        let pending = &mut self.worlds[world_id].pending;
        if pending.get(&(requester, target)).is_some_and(|pending| pending.until_ms <= now.mono_ms) {
            pending.remove(&(requester, target));
        }
    }

    /// Tells a sender, wherever it is, that the recipient was not there.
    pub(super) fn undeliverable(&mut self, now: Now, sender: Sender) {
        if let Some(remote) = &sender.remote {
            self.answer_remote(now, remote, false);
        } else if sender.shard != self.mesh.shard() {
            let home = sender.shard;
            let note = Note { world: WorldId::default(), what: What::Undeliverable { sender } };
            self.mesh.tell(home, note, &mut self.out.counters);
        } else if let (Some(conn), Some(recipient)) = (sender.conn, &sender.recipient) {
            self.offline(now, conn, &recipient.vehicle_id);
        }
    }

    fn offline(&mut self, now: Now, id: ConnId, recipient: &str) {
        let mut details = b"{\"vehicleId\":".to_vec();
        crate::wire::text::write_string(&mut details, recipient);
        details.push(b'}');
        self.error_with(now, id, ErrorCode::TargetOffline, "the vehicle is not connected", Some(&details));
    }

    /// Whether `to` is this shard.
    pub(super) fn is_here(&self, to: ShardId) -> bool {
        to == self.mesh.shard()
    }
}
