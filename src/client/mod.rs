//! A client of the gateway without sockets: bytes in, bytes out.
//!
//! [`Client`] speaks both dialects of `docs/PROTOCOL.md`: events and positions as JSON, or `ringroad.v1` with its
//! positions as records ([`Dialect`]). Whoever has a socket hands it what came ([`Client::hear`]) and sends what waits
//! ([`Client::pending`]); it never asks what time it is. The fleet of `ringroad drive` is made of it.
//!
//! In reading order: this page (a connection's life), `say` (what is sent), [`heard`] (what comes), [`scan`] (as much
//! JSON as that takes).
//!
//! A viewer of a city, on a blocking socket:
//!
//! ```no_run
//! use std::io::{Read, Write};
//! use std::net::TcpStream;
//!
//! use ringroad::client::{Client, Dialect, Heard, Seen};
//! use ringroad::wire::json::{Edges, Terms};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut socket = TcpStream::connect("localhost:3002")?;
//! let mut client = Client::new(Dialect::Binary, "localhost:3002", "/v2v", 7);
//! let austin =
//!     Edges { south_e7: 301_000_000, west_e7: -979_000_000, north_e7: 304_000_000, east_e7: -976_000_000 };
//! client.view(Some(austin), &Terms { max_hz: Some(2.0), ..Terms::default() });
//! let mut buffer = [0; 16 * 1024];
//! loop {
//!     socket.write_all(client.pending())?;
//!     client.pending_mut().clear();
//!     let len = socket.read(&mut buffer)?;
//!     if len == 0 {
//!         return Ok(());
//!     }
//!     let mut at = 0;
//!     while let (used, Some(heard)) = client.hear(&mut buffer[at..len])? {
//!         at += used;
//!         match heard {
//!             Heard::Identity(who) => println!("{:016x} is {}", who.key, who.vehicle_id),
//!             Heard::States(states) => {
//!                 for seen in states.iter() {
//!                     match seen {
//!                         Seen::Here { state, unix_ms } => println!("{state:?} at {unix_ms:?}"),
//!                         Seen::Gone { key } => println!("{key:016x} has left the view"),
//!                     }
//!                 }
//!             }
//!             Heard::Event { name, text } => println!("{name}: {text}"),
//!             Heard::Closed { code, reason } => println!("closed: {code} {reason}"),
//!             Heard::Upgraded | Heard::Nonsense { .. } | Heard::Nothing => {}
//!         }
//!     }
//! }
//! # }
//! ```

use crate::dice::Dice;
use crate::wire::frame::{Opcode, ProtocolError, Role, encode_masked};
use crate::wire::message::{Decoder, Message};
use crate::wire::slim;
use crate::wire::state::FrameError;
use crate::wire::upgrade::{self, ReplyError};

pub mod heard;
mod say;
pub mod scan;

pub use heard::{Heard, Identity, Seen, States};
pub use say::Registration;

/// The list of a crowd's neighbours is the largest message of the protocol; this is room for 100,000 of them.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// While nothing is sent, pongs are queued up to here; after that a connection has other troubles than a missing pong.
const PENDING_BYTES_MAX: usize = 16 * 1024;

/// How a client speaks, settled at its upgrade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// V2V events as JSON text, positions among them.
    #[default]
    Json,
    /// `ringroad.v1`: events as JSON text, positions as binary records.
    Binary,
}

impl Dialect {
    /// What it offers in its handshake.
    pub fn subprotocol(self) -> Option<&'static str> {
        match self {
            Dialect::Json => None,
            Dialect::Binary => Some(slim::SUBPROTOCOL),
        }
    }
}

/// One connection.
///
/// What is said before the upgrade is through waits until it is, so a caller may say everything at once.
#[derive(Debug)]
pub struct Client {
    dialect: Dialect,
    stage: Stage,
    accept: [u8; 28],
    /// The reply to the upgrade, as far as it has come.
    reply: Vec<u8>,
    decoder: Decoder,
    masks: Dice,
    /// To be sent, in this order.
    pending: Vec<u8>,
    /// Said before it is a WebSocket.
    early: Vec<u8>,
    /// We have sent a close frame.
    said_goodbye: bool,
    /// What is being said.
    scratch: Vec<u8>,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Upgrading,
    Open,
    /// The gateway has said goodbye.
    Closed,
}

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The gateway did not answer the upgrade as it should.
    #[error("upgrade refused: {0}")]
    Reply(#[from] ReplyError),
    /// What came is not WebSocket.
    #[error("protocol error: {0}")]
    Protocol(#[from] ProtocolError),
    /// What came is not a state frame.
    #[error("bad state frame: {0}")]
    States(#[from] FrameError),
}

impl Client {
    /// A connection that was just made, with its request to send. `host` is what the `Host` header says, `path` may have
    /// a query. Key and masks come from `seed`: give each connection another.
    ///
    /// Masks protect what stands between against pages that choose a browser's bytes (RFC 6455, section 10.3). Nobody
    /// chooses this client's but its own program, so they need not be unpredictable.
    pub fn new(dialect: Dialect, host: &str, path: &str, seed: u64) -> Client {
        let mut masks = Dice::new(seed, 0);
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&masks.bits().to_le_bytes());
        nonce[8..].copy_from_slice(&masks.bits().to_le_bytes());
        let mut key = [0; 24];
        data_encoding::BASE64.encode_mut(&nonce, &mut key);
        let mut pending = Vec::new();
        upgrade::request(&mut pending, host, path, &key, dialect.subprotocol());
        let accept = upgrade::accept_key(str::from_utf8(&key).unwrap_or_default());
        Client {
            dialect,
            stage: Stage::Upgrading,
            accept,
            reply: Vec::new(),
            decoder: Decoder::default(),
            masks,
            pending,
            early: Vec::new(),
            said_goodbye: false,
            scratch: Vec::new(),
        }
    }

    /// How it speaks.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What is to be sent next.
    pub fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// The same, for whoever has sent a part of it or all. It grows with everything that is said until it is taken.
    pub fn pending_mut(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    /// Takes what came, at whatever split: how many bytes were used, and what they say. With `None`, everything was taken
    /// and more is needed; so call it with what is left until then, also when nothing is left. The bytes may be changed.
    ///
    /// Pings and the gateway's goodbye are answered: that waits in [`Client::pending`]. After an error the connection is
    /// lost.
    #[inline]
    pub fn hear<'a>(&'a mut self, bytes: &'a mut [u8]) -> Result<(usize, Option<Heard<'a>>), Broken> {
        match self.stage {
            Stage::Upgrading => return self.upgrade(bytes),
            Stage::Open => {}
            // RFC 6455, section 5.5.1: after a close frame nothing that comes has a meaning.
            Stage::Closed => return Ok((bytes.len(), None)),
        }
        let (used, message) = self.decoder.decode(Role::Client, MESSAGE_BYTES_MAX, bytes)?;
        let heard = match message {
            None => None,
            Some(Message::Text(text)) => Some(heard::text(text, self.dialect)),
            Some(Message::Binary(message)) if self.dialect == Dialect::Binary => {
                Some(States::read(message)?.map_or(Heard::Nothing, Heard::States))
            }
            Some(Message::Ping(payload)) => {
                if self.pending.len() < PENDING_BYTES_MAX {
                    encode_masked(&mut self.pending, Opcode::Pong, mask(&mut self.masks), payload);
                }
                Some(Heard::Nothing)
            }
            Some(Message::Close { code, reason }) => {
                self.stage = Stage::Closed;
                if !self.said_goodbye {
                    self.said_goodbye = true;
                    let code = code.unwrap_or(1000).to_be_bytes();
                    encode_masked(&mut self.pending, Opcode::Close, mask(&mut self.masks), &code);
                }
                Some(Heard::Closed { code: code.unwrap_or(heard::NO_CODE), reason })
            }
            Some(Message::Pong(_) | Message::Binary(_)) => Some(Heard::Nothing),
        };
        Ok((used, heard))
    }

    /// Takes bytes of the reply to the upgrade.
    fn upgrade(&mut self, bytes: &[u8]) -> Result<(usize, Option<Heard<'static>>), Broken> {
        let before = self.reply.len();
        self.reply.extend_from_slice(bytes);
        let Some(len) = upgrade::parse_reply(&self.reply, &self.accept, self.dialect.subprotocol())? else {
            return Ok((bytes.len(), None));
        };
        self.reply = Vec::new();
        self.stage = Stage::Open;
        self.pending.append(&mut self.early);
        self.early = Vec::new();
        // Without its last bytes the reply was not whole, so it does not end before them.
        Ok((len.saturating_sub(before), Some(Heard::Upgraded)))
    }

    /// Queues one frame, unless we have said goodbye.
    fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        if self.said_goodbye {
            return;
        }
        let out = if self.stage == Stage::Upgrading { &mut self.early } else { &mut self.pending };
        encode_masked(out, opcode, mask(&mut self.masks), payload);
    }
}

fn mask(masks: &mut Dice) -> [u8; 4] {
    (masks.bits() as u32).to_le_bytes()
}

#[cfg(test)]
mod tests;
