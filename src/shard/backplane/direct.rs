//! To one vehicle on another host: to the node that has it, and back what became of it. And the list of messages.

use std::sync::Arc;

use uuid::Uuid;

use crate::turn::{Now, ShardId};
use crate::wire::envelope::{self, Kind, Obj};
use crate::wire::json::EventKind;
use crate::wire::state;

use super::super::Shard;
use super::super::mail::{Deliver, Note, Relayed, Sender, What};
use super::super::world::WorldId;
use super::counters::Dropped;
use super::{Ask, To};

/// Who waits on another host for what becomes of a message.
#[derive(Debug)]
pub struct Remote {
    /// The node's name.
    pub node: Arc<str>,
    /// Which of its workers.
    pub worker: u16,
    /// Its number there.
    pub number: u64,
}

impl Shard {
    /// Sends an event to a vehicle on another host. What is not answered comes back as undeliverable.
    pub(in super::super) fn send_to_host(&mut self, now: Now, world: WorldId, index: u32, deliver: Deliver) {
        let vehicles = &self.worlds[world].vehicles;
        let vehicle = vehicles.at(index);
        let (recipient, node) = (vehicle.identity.clone(), vehicle.epoch.node);
        let sender = vehicles.by_key(deliver.sender.key).map(|index| vehicles.at(index).identity.clone());
        let id = self.bus.as_ref().and_then(|bus| bus.node_names.get(&node).cloned());
        let waits = deliver.sender.clone();
        let sent = match (id, &mut self.bus) {
            (Some(id), Some(bus)) if bus.ready => match bus.directs.hold(now.mono_ms, deliver.sender) {
                Ok(number) => {
                    let sender = sender.as_ref().map(|identity| &*identity.vehicle_id);
                    let kind = Kind::Direct { number, sender, recipient: &recipient.vehicle_id };
                    let posted = self.post(now, world, To::Node(&id), &kind, Some(&deliver.text), Ask::Nothing);
                    if posted.is_err()
                        && let Some(bus) = &mut self.bus
                    {
                        bus.directs.answer(number);
                    }
                    posted.is_ok()
                }
                Err(_) => {
                    self.out.counters.backplane.dropped.increment(Dropped::Backlog);
                    false
                }
            },
            _ => false,
        };
        if !sent {
            self.undeliverable(now, waits);
        }
    }

    /// A message from another host for a vehicle of this one.
    pub(super) fn direct_heard(
        &mut self,
        now: Now,
        world: WorldId,
        remote: Remote,
        (sender, recipient): (Option<&str>, &str),
        obj: Obj<'_>,
    ) {
        let kind = match obj.event {
            "receive_message" => Some(Relayed::Message),
            name => EventKind::relayed(name).map(Relayed::Event),
        };
        let Some(kind) = kind else {
            self.out.counters.backplane.dropped.increment(Dropped::NotWhitelisted);
            return;
        };
        let sender = Sender {
            shard: self.mesh.shard(),
            conn: None,
            key: sender.map_or(0, state::key),
            recipient: None,
            remote: Some(Arc::new(remote)),
        };
        let vehicles = &self.worlds[world].vehicles;
        match vehicles.by_id(recipient).filter(|index| vehicles.at(*index).epoch.node == self.node.key) {
            Some(index) => self.send_to(now, world, index, kind, obj.text, sender),
            None => self.undeliverable(now, sender),
        }
    }

    /// Tells the host that waits what became of its message.
    pub(in super::super) fn answer_remote(&mut self, now: Now, remote: &Remote, delivered: bool) {
        let (to, number) = (remote.worker, remote.number);
        let kind = if delivered { Kind::Delivered { to, number } } else { Kind::Offline { to, number } };
        // It goes by its number, whichever world it is of. Without an answer the message counts as not delivered there.
        let _ = self.post(now, WorldId::default(), To::Node(&remote.node), &kind, None, Ask::Nothing);
    }

    /// An answer from another host, for the worker that waits.
    pub(super) fn direct_answered(&mut self, now: Now, worker: u16, number: u64, delivered: bool) {
        if self.is_here(ShardId(worker)) {
            self.direct_settled(now, number, delivered);
        } else {
            let note = Note { world: WorldId::default(), what: What::DirectAnswered { number, delivered } };
            self.mesh.tell(ShardId(worker), note, &mut self.out.counters);
        }
    }

    /// What became of a message of this worker.
    pub(in super::super) fn direct_settled(&mut self, now: Now, number: u64, delivered: bool) {
        if let Some(sender) = self.bus.as_mut().and_then(|bus| bus.directs.answer(number))
            && !delivered
        {
            self.undeliverable(now, sender);
        }
    }

    /// Messages that have waited too long, or all of them, count as not delivered.
    pub(super) fn directs_are_offline(&mut self, now: Now, all: bool) {
        let Some(bus) = &mut self.bus else { return };
        let given_up = if all { bus.directs.give_up() } else { bus.directs.late(now.mono_ms) };
        for sender in given_up {
            self.undeliverable(now, sender);
        }
    }

    /// Keeps a message in the list that all hosts share.
    pub(in super::super) fn record_message(
        &mut self,
        now: Now,
        world: WorldId,
        id: Uuid,
        sender: &str,
        recipient: &str,
        content: &str,
    ) {
        let most = self.config.redis.messages_max;
        let Some(bus) = &mut self.bus else { return };
        let Some(realm) = bus.realms.get(world).filter(|_| most > 0) else { return };
        bus.scratch.clear();
        envelope::write_message_record(&mut bus.scratch, id, sender, recipient, content, now.unix_ms);
        let (key, first) = (realm.names.messages.as_bytes(), format!("-{most}"));
        let sent = bus.client.send(now, Some(key), &[b"RPUSH", key, &bus.scratch], Ask::Nothing);
        // Any later one trims what this one does not.
        let _ = bus.client.send(now, Some(key), &[b"LTRIM", key, first.as_bytes(), b"-1"], Ask::Nothing);
        self.count_command(sent);
    }
}
