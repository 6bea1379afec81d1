//! RESP3: commands to bytes, bytes to replies and pushes.
//!
//! - [`command`]: what is sent.
//! - [`read`]: what arrives, at whatever split; `scan` finds where a frame ends, `value` reads a whole one.

pub mod command;
pub mod read;
mod scan;
mod value;

/// A value that a server sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Null, in any of its forms.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Integer(i64),
    /// A double.
    Double(f64),
    /// A simple, bulk or verbatim string, or a big number's digits.
    Text(Vec<u8>),
    /// An error within an array; whole replies that are errors come as [`Frame::Error`].
    Error(Box<str>),
    /// An array or a set.
    List(Vec<Reply>),
    /// A map, in the order of the wire.
    Map(Vec<(Reply, Reply)>),
}

/// One whole thing that a server sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// The reply to a command.
    Reply(Reply),
    /// An error in the place of a reply.
    Error(Box<str>),
    /// Out of band: messages, confirmations of subscriptions.
    Push(Vec<Reply>),
    /// A frame that was longer than the reader's bound. Its place in the order is all that is left of it.
    Skipped {
        /// Whether it was a push.
        is_push: bool,
    },
}

/// Bytes that are not RESP3. The connection is lost: what follows has no meaning any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A byte that begins no type, or one that a server never sends.
    #[error("unknown type of value")]
    Type,
    /// A length that is not a number, or is out of range.
    #[error("bad length")]
    Length,
    /// A string that does not end where its length says.
    #[error("bad end of a string")]
    End,
    /// Aggregates within aggregates, more than [`RESP_DEPTH_MAX`](crate::limits::RESP_DEPTH_MAX).
    #[error("nested too deeply")]
    Depth,
    /// A number, boolean or verbatim string that cannot be read as one.
    #[error("bad value")]
    Value,
}

impl Reply {
    /// The bytes of a text.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Reply::Text(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// An integer, or a text of digits.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Reply::Integer(value) => Some(*value),
            Reply::Text(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// The members of a list.
    pub fn as_list(&self) -> Option<&[Reply]> {
        match self {
            Reply::List(members) => Some(members),
            _ => None,
        }
    }
}
