//! The connections of one shard.

use crate::limits;
use crate::metrics::labels;
use crate::turn::ConnId;
use crate::wire::message::Decoder;

use super::outbox::{Outbox, Stretch};
use super::table::Table;
use super::vehicles::Slot;
use super::world::WorldId;

labels! {
    /// How a connection speaks, settled at its upgrade. A dialect translates between its bytes and the same commands and
    /// events; nothing else in the shard knows which one it is.
    pub enum Dialect for "dialect" {
        /// V2V events as JSON text.
        V2vJson = "json",
        /// `ringroad.v1`: the same, and positions as state records.
        Slim = "slim",
    }
}

/// Where a connection is in its life.
#[derive(Debug, Default)]
pub enum Phase {
    /// Waiting for a complete request head; what came so far.
    #[default]
    Upgrading,
    /// Speaks WebSocket.
    Open,
    /// A listing was asked for and is being gathered.
    Gathering,
    /// The last bytes are out or on their way; what still comes is ignored.
    Closing,
}

/// One connection.
///
/// `outbox` holds whole frames but for its first `partial` bytes, which complete a frame that the kernel has taken in
/// part: they can never be dropped.
#[derive(Debug, Default)]
pub struct Conn {
    /// Significant part of its id.
    pub generation: u32,
    pub phase: Phase,
    pub decoder: Decoder,
    /// What it needs only while it comes or goes.
    pub passing: Option<Box<Passing>>,
    /// Events and control frames not yet handed to the kernel.
    pub outbox: Outbox,
    pub partial: u32,
    /// Bytes of the current send that are a piece of the outbox; 0: it is not sent in pieces.
    pub piece: u32,
    /// Where the positions are in the current send. What the kernel does not take of them stands in the outbox then, but
    /// it is one flush and no queue: it does not count as waiting.
    pub positions_sent: Stretch,
    /// Bytes of the current send before its first frame boundary.
    pub lead: u32,
    /// The vehicle that it drives, once registered.
    pub vehicle: Option<Slot>,
    /// What it watches: always in `ringroad.v1`, in JSON once it has asked.
    pub watcher: Option<u32>,
    /// Least time between two flushes that it has asked for.
    pub pace_ms: u32,
    /// Position in its world's broadcast log up to which it was sent.
    pub cursor: u64,
    /// When it last said something whole.
    pub heard_ms: u64,
    /// When positions were last sent to it.
    pub flushed_ms: u64,
    /// Its `Send` in the current turn.
    pub send_at: u32,
    pub world: WorldId,
    /// How much later than it was the last flush would have been, had each waited for the pace of a busy worker.
    pub ahead_ms: u16,
    pub dialect: Option<Dialect>,
    /// The first bytes are out, so broadcasts may precede the outbox.
    pub greeted: bool,
    /// The kernel takes no more for now.
    pub blocked: bool,
    /// Stands in the flush queue.
    pub queued: bool,
    /// What goes to everyone had to wait for a long outbox.
    pub news_waited: bool,
    /// Neighbours have moved since the last flush.
    pub state_due: bool,
    /// A timer will flush its positions.
    pub paced: bool,
    /// The last flush was full: the next one goes on at once.
    pub flushing: bool,
    /// Shut the sending side once the outbox is out.
    pub finishing: bool,
    /// The peer sends no more.
    pub ended: bool,
    /// It was not let in, and is read its answer.
    pub turned_away: bool,
    /// It came to the private address.
    pub private: bool,
}

/// A part of a connection that most have for a moment, or never.
#[derive(Debug, Default)]
pub struct Passing {
    /// Request head that has not ended.
    pub head: Vec<u8>,
    /// Bytes of the outbox when a closing connection's time was last counted from the start.
    pub last_bytes: usize,
}

// What an idle connection costs, beside its vehicle and its timers.
const _: () = assert!(size_of::<Option<Conn>>() <= 120);

impl Conn {
    /// Bytes of events that wait for the reader.
    pub fn waiting_bytes(&self) -> usize {
        self.outbox.len() - self.outbox.positions().len as usize
    }

    /// Bytes of the outbox when a closing connection's time was last counted from the start.
    pub fn last_bytes(&self) -> usize {
        self.passing.as_ref().map_or(0, |passing| passing.last_bytes)
    }
}

/// All connections, by the index that the shell chose.
#[derive(Default)]
pub struct Conns {
    slots: Table<Option<Conn>>,
    len: usize,
    turned_away: usize,
}

impl Conns {
    /// How many are open.
    pub fn len(&self) -> usize {
        self.len
    }

    /// How many of them have been let in.
    pub fn let_in(&self) -> usize {
        self.len - self.turned_away
    }

    /// A connection is not let in; false if too many others are being told so already.
    pub fn turn_away(&mut self, id: ConnId) -> bool {
        if self.turned_away >= limits::TURNED_AWAY_MAX {
            return false;
        }
        let Some(conn) = self.find(id) else { return false };
        let is_new = !std::mem::replace(&mut conn.turned_away, true);
        self.turned_away += usize::from(is_new);
        true
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn insert(&mut self, id: ConnId, conn: Conn) {
        while self.slots.len() <= id.index as usize {
            self.slots.push(None);
        }
        let Some(slot) = self.slots.get_mut(id.index) else { return };
        debug_assert!(slot.is_none(), "the shell reused an index before its release");
        self.len += usize::from(slot.is_none());
        *slot = Some(Conn { generation: id.generation, ..conn });
    }

    pub fn find(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.slots.get_mut(id.index)?.as_mut().filter(|conn| conn.generation == id.generation)
    }

    /// A connection, to look at.
    pub fn peek(&self, id: ConnId) -> Option<&Conn> {
        self.slots.get(id.index)?.as_ref().filter(|conn| conn.generation == id.generation)
    }

    /// Whether its request has not come, or not all of it.
    pub fn waits_for_request(&self, id: ConnId) -> bool {
        self.peek(id).is_some_and(|conn| matches!(conn.phase, Phase::Upgrading))
    }

    pub fn remove(&mut self, id: ConnId) -> Option<Conn> {
        let turned_away = self.find(id)?.turned_away;
        self.len -= 1;
        self.turned_away -= usize::from(turned_away);
        self.slots.get_mut(id.index)?.take()
    }

    /// Above the index of every connection.
    pub fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The connection at an index, if there is one.
    pub fn at(&self, index: u32) -> Option<&Conn> {
        self.slots.get(index)?.as_ref()
    }

    /// Every connection, in index order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ConnId, &mut Conn)> {
        self.slots.iter_mut().filter_map(|(index, slot)| {
            let conn = slot.as_mut()?;
            Some((ConnId { index, generation: conn.generation }, conn))
        })
    }

    /// Every id, in index order.
    pub fn ids(&self) -> impl Iterator<Item = ConnId> {
        self.slots.iter().filter_map(|(index, slot)| {
            let conn = slot.as_ref()?;
            Some(ConnId { index, generation: conn.generation })
        })
    }
}
