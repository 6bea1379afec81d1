//! What the shards of one host tell each other: one-way batches, never a question that somebody waits for.
//!
//! A batch carries the newest state of each vehicle that moved in a turn and, before it, notes in order. When another
//! shard's inbox is full, its batch is kept and the next turns are merged into it: states conflate, notes queue up to
//! a bound.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::geo::{Square, Squares};
use crate::limits;
use crate::metrics::Counters;
use crate::turn::{ConnId, ShardId};
use crate::wire::event::{EventName, Identity, Status};
use crate::wire::json::EventKind;

use crate::wire::state::Sample;

use super::backplane::Remote;
use super::close::ShedReason;
use super::gather::{Listing, Part};
use super::radio::RadioFrame;
use super::vehicles::{Departed, Epoch, Position, Rates};
use super::world::WorldId;

/// A vehicle's state as it travels between shards.
#[derive(Clone, Debug)]
pub struct StateNote {
    pub world: WorldId,
    pub sample: Sample,
}

impl StateNote {
    /// Whose state: tenants may have vehicles of one name.
    fn of(&self) -> (WorldId, u64) {
        (self.world, self.sample.key())
    }
}

/// Something that happened on one shard and matters on another.
#[derive(Clone, Debug)]
pub struct Note {
    pub world: WorldId,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    /// A vehicle registered there. `position`: where it is, if it was taken over.
    Arrived { key: u64, identity: Arc<Identity>, epoch: Epoch, position: Option<Position> },
    /// It left.
    Gone { key: u64, departed: Departed, status: Status, last_seen: u64 },
    /// Its connection there was replaced by one here; so far had that one emptied its buckets.
    Spent { key: u64, rates: Rates },
    /// An event for everyone, as JSON text.
    Publish { name: EventName, text: Arc<[u8]> },
    /// An event for one vehicle.
    Deliver(Deliver),
    /// `recipient` was not there after all.
    Undeliverable { sender: Sender },
    /// A frame for the radio modem, which is attached to worker 0.
    Radio(RadioFrame),
    /// What do you have for this listing?
    Ask { listing: Listing, number: u64 },
    /// This.
    Answer { number: u64, part: Part },
    /// Positions of another host's vehicles, as they came, and on the channel of which square.
    BusFrame { square: Square, frame: Arc<[u8]> },
    /// Another host wants to know who is in a square.
    AskSquare(Square),
    /// This host has asked who is in a square.
    SquareCounted(Square),
    /// The sender does not listen to a square any more, for the whole host.
    Forgotten(Square),
    /// Connections of the sender watch other squares than before.
    Watched { from: Squares, to: Squares },
    /// Somebody should have been heard in a square that the receiver listens to.
    MissedIn(Square),
    /// Where a node has vehicles that connections of the receiver follow, by key.
    Whereabouts { node: u64, found: Arc<[(u64, Square)]> },
    /// How a node is called.
    NodeNamed(Arc<str>),
    /// A node has died.
    NodeDead { node: u64 },
    /// Another node has missed alerts of this worker.
    RepeatAlerts { node: Arc<str>, from: u64, since: u64 },
    /// What became of a message to a vehicle on another host.
    DirectAnswered { number: u64, delivered: bool },
    /// The other hosts believe something older of this worker's vehicle.
    AssertAgain { key: u64 },
    /// Entries of this host's vehicles are missing in the presence hash.
    RewriteEntries,
}

/// An event on its way to one vehicle.
#[derive(Clone, Debug)]
pub struct Deliver {
    pub recipient: u64,
    pub kind: Relayed,
    /// JSON text of the whole event.
    pub text: Arc<[u8]>,
    pub sender: Sender,
}

/// What travels to one vehicle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relayed {
    /// `receive_message`
    Message,
    /// A relayed event.
    Event(EventKind),
}

impl From<Relayed> for EventName {
    fn from(relayed: Relayed) -> EventName {
        match relayed {
            Relayed::Message => EventName::ReceiveMessage,
            Relayed::Event(kind) => kind.into(),
        }
    }
}

/// Who is told when it cannot be delivered.
#[derive(Clone, Debug)]
pub struct Sender {
    pub shard: ShardId,
    /// `None` for the radio, which nobody can tell.
    pub conn: Option<ConnId>,
    /// The sender's vehicle.
    pub key: u64,
    /// Who could not be reached then, if that is known.
    pub recipient: Option<Arc<Identity>>,
    /// The host that the sender is on, if it is another one.
    pub remote: Option<Arc<Remote>>,
}

/// Everything that one turn has for another shard.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// In order, before the states.
    pub(super) notes: Vec<Note>,
    /// The newest of each vehicle that moved.
    pub(super) states: Arc<Vec<StateNote>>,
}

/// What waits for one other shard.
struct Outgoing {
    to: ShardId,
    notes: Vec<Note>,
    /// Event text in the notes.
    bytes: usize,
    /// The newest states that it has not been sent. Not empty only while its inbox is full.
    kept: FxHashMap<(WorldId, u64), StateNote>,
    /// Its inbox was full, and the time to try again has not come.
    full: bool,
}

/// What waits for the other shards of this host.
pub struct Mesh {
    shard: ShardId,
    peers: Vec<Outgoing>,
    /// This turn's states, the same for every peer.
    states: Vec<StateNote>,
}

impl Mesh {
    pub fn new(shard: ShardId, shards: u16) -> Self {
        let peers = (0..shards).map(ShardId).filter(|to| *to != shard);
        Mesh {
            shard,
            peers: peers
                .map(|to| Outgoing { to, notes: Vec::new(), bytes: 0, kept: FxHashMap::default(), full: false })
                .collect(),
            states: Vec::new(),
        }
    }

    /// How many other shards there are.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// A vehicle of this shard moved.
    pub fn state(&mut self, note: StateNote) {
        if !self.peers.is_empty() {
            self.states.push(note);
        }
    }

    /// A vehicle of this shard has left: what waits of its positions would be taken for those of its next registration.
    pub fn forget(&mut self, world: WorldId, key: u64, moved: bool) {
        if moved {
            self.states.retain(|note| note.of() != (world, key));
        }
        for peer in &mut self.peers {
            peer.kept.remove(&(world, key));
        }
    }

    /// Tells one shard.
    pub fn tell(&mut self, to: ShardId, note: Note, counters: &mut Counters) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.to == to) {
            peer.push(note, counters);
        }
    }

    /// Tells every other shard.
    pub fn tell_all(&mut self, note: Note, counters: &mut Counters) {
        for peer in &mut self.peers {
            peer.push(note.clone(), counters);
        }
    }

    /// The inbox of `to` was full: keep what did not fit.
    pub fn refused(&mut self, to: ShardId, batch: Batch, counters: &mut Counters) {
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.to == to) else { return };
        peer.full = true;
        peer.bytes = batch.notes.iter().map(Note::text_bytes).sum();
        let newer = std::mem::replace(&mut peer.notes, batch.notes);
        for note in newer {
            peer.push(note, counters);
        }
        for note in batch.states.iter() {
            // Nothing newer is kept: that ended when this batch was made, and the shell hands it back at once.
            peer.kept.insert(note.of(), note.clone());
        }
    }

    /// Lets the next turn try the full inboxes again.
    pub fn retry(&mut self) {
        self.peers.iter_mut().for_each(|peer| peer.full = false);
    }

    /// One batch for each shard that there is something for.
    pub fn send(&mut self, mail: &mut Vec<(ShardId, Batch)>, counters: &mut Counters) {
        let states = Arc::new(std::mem::take(&mut self.states));
        for peer in &mut self.peers {
            let states = if peer.full || !peer.kept.is_empty() {
                for note in states.iter() {
                    peer.kept.insert(note.of(), note.clone());
                }
                if peer.full {
                    continue;
                }
                Arc::new(peer.kept.drain().map(|(_, note)| note).collect())
            } else {
                states.clone()
            };
            if !peer.notes.is_empty() || !states.is_empty() {
                counters.mesh_batches += 1;
                peer.bytes = 0;
                mail.push((peer.to, Batch { notes: std::mem::take(&mut peer.notes), states }));
            }
        }
    }

    /// Whether everything has been sent.
    pub fn is_at_rest(&self) -> bool {
        self.states.is_empty() && self.peers.iter().all(|peer| peer.notes.is_empty() && peer.kept.is_empty())
    }

    /// How many notes and positions wait for other shards.
    pub fn waiting(&self) -> usize {
        self.peers.iter().map(|peer| peer.notes.len() + peer.kept.len()).sum()
    }

    /// This shard's own number.
    pub fn shard(&self) -> ShardId {
        self.shard
    }
}

impl Note {
    fn text_bytes(&self) -> usize {
        match &self.what {
            What::Publish { text, .. } => text.len(),
            What::Deliver(deliver) => deliver.text.len(),
            What::BusFrame { frame, .. } => frame.len(),
            _ => 0,
        }
    }
}

impl Outgoing {
    fn push(&mut self, note: Note, counters: &mut Counters) {
        // Who is where must not be lost, nor who looks where: nothing would ever set it right. These are as many as
        // connections come and go, or look elsewhere.
        let is_lasting = matches!(
            note.what,
            What::Arrived { .. } | What::Gone { .. } | What::NodeNamed(_) | What::Watched { .. } | What::Forgotten(_)
        );
        let bytes = self.bytes + note.text_bytes();
        if is_lasting || (self.notes.len() < limits::MESH_NOTES_MAX && bytes <= limits::MESH_NOTES_BYTES_MAX) {
            self.bytes = bytes;
            self.notes.push(note);
        } else {
            counters.shed.increment(ShedReason::MeshBacklog);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::vehicles::Rates;

    #[test]
    fn a_shard_that_does_not_listen_misses_events_but_no_coming_or_going() {
        let (mut mesh, mut counters) = (Mesh::new(ShardId(0), 2), Counters::default());
        let world = WorldId(0);
        mesh.refused(ShardId(1), Batch::default(), &mut counters);
        for _ in 0..limits::MESH_NOTES_MAX + 2 {
            mesh.tell_all(
                Note { world, what: What::Publish { name: EventName::Other, text: Arc::from(*b"{}") } },
                &mut counters,
            );
        }
        let epoch = Epoch { connected_ms: 1, node: 0, shard: ShardId(0), count: 1 };
        let departed = Departed { epoch, rates: Rates::default() };
        let gone = What::Gone { key: 7, departed, status: Status::Offline, last_seen: 1 };
        mesh.tell_all(Note { world, what: gone }, &mut counters);
        assert_eq!(counters.shed.of(ShedReason::MeshBacklog), 2);
        mesh.retry();
        let mut mail = Vec::new();
        mesh.send(&mut mail, &mut counters);
        let [(ShardId(1), batch)] = &mail[..] else { panic!("one batch") };
        assert!(matches!(batch.notes.last(), Some(Note { what: What::Gone { key: 7, .. }, .. })));
    }
}
