//! One vehicle's connection: the handshake, frames in both directions, and what waits to be sent.

use super::dice::Dice;
use crate::turn::ConnId;
use crate::wire::frame::Role;
use crate::wire::frame::{Opcode, ProtocolError, encode_masked};
use crate::wire::message::{Decoder, Message};
use crate::wire::upgrade::{self, ReplyError};

/// The list of a crowd's neighbours is the largest message of the protocol; this is room for 100,000 of them.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// While a connection takes nothing, pongs are queued up to here; after that it has other troubles than a missing pong.
const PENDING_BYTES_MAX: usize = 16 * 1024;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The request is out.
    Upgrading,
    /// It is a WebSocket, and the vehicle has said who it is.
    Registering,
    /// The vehicle may drive.
    Registered,
    /// We said goodbye.
    Closing,
    /// The gateway said goodbye too, or first.
    Closed,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    /// The shell's name for it.
    pub conn: ConnId,
    /// Which vehicle it is.
    pub vehicle: u32,
    /// How far it has come.
    pub stage: Stage,
    /// The kernel took only a part of the last send; until it takes more, nothing is sent.
    pub blocked: bool,
    /// In the fleet's list of those that have something to send.
    pub queued: bool,
    /// To be sent, in this order.
    pub pending: Vec<u8>,
    accept: [u8; 28],
    /// The reply to the upgrade, as far as it has come.
    reply: Vec<u8>,
    decoder: Decoder,
    masks: Dice,
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
}

impl Client {
    /// A connection that was just made, with its request to send.
    pub fn new(conn: ConnId, vehicle: u32, host: &str, path: &str, mut masks: Dice) -> Client {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&masks.bits().to_le_bytes());
        nonce[8..].copy_from_slice(&masks.bits().to_le_bytes());
        let mut key = [0; 24];
        data_encoding::BASE64.encode_mut(&nonce, &mut key);
        let mut pending = Vec::new();
        upgrade::request(&mut pending, host, path, &key, None);
        let accept = upgrade::accept_key(str::from_utf8(&key).unwrap_or_default());
        Client {
            conn,
            vehicle,
            stage: Stage::Upgrading,
            blocked: false,
            queued: false,
            pending,
            accept,
            reply: Vec::new(),
            decoder: Decoder::default(),
            masks,
        }
    }

    /// Queues a text message.
    pub fn say(&mut self, text: &[u8]) {
        let mask = self.mask();
        encode_masked(&mut self.pending, Opcode::Text, mask, text);
    }

    /// Queues a close frame: our goodbye, or the answer to the gateway's.
    pub fn say_goodbye(&mut self, code: u16) {
        let mask = self.mask();
        encode_masked(&mut self.pending, Opcode::Close, mask, &code.to_be_bytes());
    }

    /// The kernel took only a part of what was sent: the rest goes first.
    pub fn block(&mut self, rest: &[u8]) {
        self.blocked = true;
        self.pending.splice(0..0, rest.iter().copied());
    }

    /// Takes bytes of the reply to the upgrade. When it is whole and right, answers the bytes that came after it.
    pub fn upgrade(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
        self.reply.extend_from_slice(bytes);
        let Some(used) = upgrade::parse_reply(&self.reply, &self.accept)? else { return Ok(None) };
        let frames = self.reply.split_off(used);
        self.reply = Vec::new();
        self.stage = Stage::Registering;
        Ok(Some(frames))
    }

    /// Decodes frames: `text` is called with each text message, pings are answered. Answers the gateway's goodbye, if
    /// it came; nothing after it counts.
    #[inline]
    pub fn hear(
        &mut self,
        bytes: &mut [u8],
        mut text: impl FnMut(&mut Stage, &mut [u8]),
    ) -> Result<Option<(u16, String)>, Broken> {
        let mut at = 0;
        loop {
            let (used, message) = self.decoder.decode(Role::Client, MESSAGE_BYTES_MAX, &mut bytes[at..])?;
            at += used;
            match message {
                None => return Ok(None),
                Some(Message::Text(message)) => text(&mut self.stage, message),
                Some(Message::Ping(payload)) if self.pending.len() < PENDING_BYTES_MAX => {
                    let mask = (self.masks.bits() as u32).to_le_bytes();
                    encode_masked(&mut self.pending, Opcode::Pong, mask, payload);
                }
                // 1005 is what RFC 6455, section 7.1.5 calls a close frame without a code.
                Some(Message::Close { code, reason }) => return Ok(Some((code.unwrap_or(1005), reason.to_string()))),
                Some(_) => {}
            }
        }
    }

    fn mask(&mut self) -> [u8; 4] {
        (self.masks.bits() as u32).to_le_bytes()
    }
}
