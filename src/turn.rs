//! The contract between a core and its shell.
//!
//! A *core* is synchronous and deterministic: time and bytes are handed to it, and what it wants done is read back from
//! it. A *shell* owns the sockets and the clock. The gateway's shard is one core, the vehicle fleet of `ringroad drive`
//! another, the echo example a third; the same shell runs all of them.
//!
//! One turn: the shell calls [`Core::handle`] for everything that is ready, then [`Core::poll_turn`] until it answers
//! `None`, carrying out each [`Turn`] in full before it asks for the next. When that takes too long, it hands over what
//! has come meanwhile and asks on, at another time; so a core that is flooded with work still hears of new connections.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::auth::Keys;
use crate::config::Config;
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

/// A connection to a Redis server. The core numbers them and uses no number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u32);

/// Where a link goes. Whether it is encrypted is the shell's setting: it is the same for all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// A name or an address, and a port.
    Tcp {
        /// As written; the shell resolves it.
        host: Box<str>,
        /// TCP port.
        port: u16,
    },
    /// A socket in the file system.
    Unix {
        /// Its path.
        path: Box<str>,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Endpoint::Tcp { host, port } => write!(f, "{host}:{port}"),
            Endpoint::Unix { path } => f.write_str(path),
        }
    }
}

/// What a core wants done with a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkWork {
    /// Connect, and then say [`Input::LinkUp`] or [`Input::LinkDown`].
    Open {
        /// A new number.
        link: LinkId,
        /// Where to.
        to: Endpoint,
    },
    /// Send a part of [`Turn::link_bytes`]. At most one per link and turn.
    Send {
        /// A link that is up.
        link: LinkId,
        /// Offset of the first byte.
        start: u32,
        /// How many, at least one.
        len: u32,
    },
    /// Give the link up at once, in whatever state it is. No input follows for it.
    Close {
        /// Which.
        link: LinkId,
    },
}

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
    /// A socket is there that came to the private address. Otherwise as [`Input::Opened`].
    OpenedPrivately {
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
    /// it sends `rest` before anything else. Of a connection that speaks TLS the shell keeps what it has encrypted already,
    /// and sends that itself before it says `Writable`.
    Blocked {
        /// Which connection.
        conn: ConnId,
        /// The bytes that are the core's again; none, if the shell keeps all that were not taken.
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
    /// A link is connected, and encrypted where links are.
    LinkUp {
        /// Which.
        link: LinkId,
    },
    /// Bytes arrived over a link.
    LinkBytes {
        /// Which.
        link: LinkId,
        /// What arrived, at least one byte.
        bytes: &'a [u8],
    },
    /// A link could not be made, or has ended. Its number is dead.
    LinkDown {
        /// Which.
        link: LinkId,
        /// What an operator should read.
        why: &'a str,
    },
    /// How busy the worker has been lately. Who is not told takes it for idle.
    Load {
        /// Share of its time that it did not sleep, 0 to 100.
        percent: u8,
    },
    /// The operator has other settings. Only keys that need no restart differ from those at the start.
    Configure {
        /// All of them.
        config: Arc<Config>,
    },
    /// The process will end: let go of every connection, spread over this time. Nothing is refused meanwhile.
    Drain {
        /// After so long nobody is left.
        over_ms: u64,
    },
    /// From now on tokens are checked with these keys. `None`: there should be others, and they could not be read; to be
    /// counted.
    Keys(Option<Arc<Keys>>),
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
    /// What is to be done with links, in order.
    pub links: &'a [LinkWork],
    /// The bytes that links are to send.
    pub link_bytes: &'a [u8],
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
