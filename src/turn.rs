//! The contract between a core and its shell.
//!
//! A *core* is synchronous and deterministic: time and bytes are handed to it, and what it wants done is read back from
//! it. A *shell* owns the sockets and the clock. The gateway's shard is one core, the vehicle fleet of `ringroad drive`
//! another, the echo example a third; the same shell runs all of them.
//!
//! One turn: the shell calls [`Core::handle`] for everything that is ready, then [`Core::poll_turn`] until it answers
//! `None`, carrying out each [`Turn`] in full before it asks for the next.

use std::net::IpAddr;

use crate::metrics::Counters;

/// Time as a core sees it. Both move only when the shell says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the shell started, on a monotonic clock. Deadlines are in this.
    pub mono_ms: u64,
    /// Milliseconds since the Unix epoch. What clients read.
    pub unix_ms: u64,
}

/// A connection of one worker. Means nothing on another.
///
/// The shell gives an index out again only after the core released it, and then with another generation, so a stale
/// id never resolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// Position in the worker's tables; small, reused.
    pub index: u32,
    /// Counts the uses of this index; 24 bits are significant.
    pub generation: u32,
}

/// A worker of this process, `0..workers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// Why no more bytes will come from a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The peer closed its sending side.
    Eof,
    /// The connection broke: reset, timed out, or a send failed.
    Reset,
    /// A connection that the core asked for could not be made.
    ConnectFailed,
}

/// What the shell tells a core.
#[derive(Debug)]
pub enum Input<'a, Mail> {
    /// A socket is there: accepted by the listener, or connected because [`Turn::connects`] asked for it.
    Opened {
        /// Its id until the core releases it.
        conn: ConnId,
        /// The other end.
        peer: IpAddr,
    },
    /// Bytes arrived. The core may change them in place; they are gone when `handle` returns.
    Bytes {
        /// From whom.
        conn: ConnId,
        /// What arrived, at least one byte.
        bytes: &'a mut [u8],
    },
    /// No more bytes will come. The core still has to release the connection.
    Ended {
        /// Which connection.
        conn: ConnId,
        /// Why.
        how: Ended,
    },
    /// The kernel took only a part of the last send. Until `Writable`, the core sends nothing to this connection; then
    /// it sends `rest` before anything else.
    Blocked {
        /// Which connection.
        conn: ConnId,
        /// The bytes that were not taken, at least one.
        rest: &'a [u8],
    },
    /// A blocked connection takes bytes again.
    Writable {
        /// Which connection.
        conn: ConnId,
    },
    /// A batch from another worker's core.
    Mail {
        /// The sender.
        from: ShardId,
        /// What it sent.
        mail: Mail,
    },
    /// The inbox of `to` was full. The core gets its batch back and decides.
    MailRefused {
        /// Whose inbox.
        to: ShardId,
        /// The batch that was to go there.
        mail: Mail,
    },
    /// Bytes from the radio modem (worker 0 only).
    Radio {
        /// As read from the serial line, at any split.
        bytes: &'a [u8],
    },
    /// The process was asked to stop: say goodbye to everyone and release every connection.
    Stop,
}

/// One send: at most one per connection and turn, so that a short one cannot be overtaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send {
    /// To whom.
    pub conn: ConnId,
    /// Which of the turn's two byte stores holds the bytes.
    pub store: Store,
    /// Offset of the first byte in that store.
    pub start: u32,
    /// How many bytes, at least one.
    pub len: u32,
}

/// Where a [`Send`]'s bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// [`Turn::arena`]: composed for this turn.
    Arena,
    /// [`Turn::log`]: shared by many connections.
    Log,
}

/// What a core wants done. Carry out in field order.
#[derive(Debug)]
pub struct Turn<'a, Mail> {
    /// Bytes composed for this turn.
    pub arena: &'a [u8],
    /// Bytes that many connections share.
    pub log: &'a [u8],
    /// At most one per connection.
    pub sends: &'a [Send],
    /// Connections whose sending side is to be shut once the sends are out (`SHUT_WR`). Bytes still arrive.
    pub finished: &'a [ConnId],
    /// Connections to give up at once: cancel, wait for the last completion, close. No input follows for these ids.
    /// Every opened connection is released exactly once.
    pub released: &'a [ConnId],
    /// Batches for other workers. The shell empties it.
    pub mail: &'a mut Vec<(ShardId, Mail)>,
    /// Bytes for the radio modem (worker 0 only).
    pub radio: &'a [u8],
    /// How many connections to open to the shell's target.
    pub connects: u32,
}

impl<'a, Mail> Turn<'a, Mail> {
    /// The bytes of one of this turn's sends.
    pub fn bytes(&self, send: &Send) -> &'a [u8] {
        let store = match send.store {
            Store::Arena => self.arena,
            Store::Log => self.log,
        };
        &store[send.start as usize..][..send.len as usize]
    }
}

/// A synchronous, deterministic heart that a shell can run.
pub trait Core {
    /// What cores of one process send each other.
    type Mail: std::marker::Send + 'static;

    /// Something happened. Never fails: offending bytes become a close or an error to their sender.
    fn handle(&mut self, now: Now, input: Input<'_, Self::Mail>);

    /// The next piece of work for the shell; `None` when there is nothing left to do at this time.
    fn poll_turn(&mut self, now: Now) -> Option<Turn<'_, Self::Mail>>;

    /// When (`mono_ms`) `poll_turn` must be called again although nothing happens.
    fn next_deadline(&self) -> Option<u64>;

    /// Where the shell counts what only it can see.
    fn counters(&mut self) -> &mut Counters;

    /// True once a core that was told to stop has nothing left to do.
    fn is_stopped(&self) -> bool;
}
