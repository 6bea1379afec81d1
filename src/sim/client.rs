//! A client of a simulated gateway: what it has received, and how much more it will take.

use crate::turn::ConnId;
use crate::wire::frame::Role;
use crate::wire::message::{Decoder, Message};

/// A client of the world, in the order of their connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub usize);

/// The opening handshake that every simulated client sends.
pub const HANDSHAKE: &str = "GET /v2v HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// The handshake of a client that offers a subprotocol.
pub fn handshake_with(protocol: &str) -> String {
    let (lines, _) = HANDSHAKE.split_at(HANDSHAKE.len() - 2);
    format!("{lines}Sec-WebSocket-Protocol: {protocol}\r\n\r\n")
}

/// A message that a client has received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An event.
    Text(String),
    /// A state frame.
    Binary(Vec<u8>),
}

/// What a client has seen.
#[derive(Default)]
pub(super) struct Client {
    pub(super) host: usize,
    pub(super) shard: usize,
    pub(super) conn: Option<ConnId>,
    /// Bytes of a reply head that has not ended.
    pub(super) head: Vec<u8>,
    upgraded: bool,
    decoder: Decoder,
    pub(super) heard: Vec<Heard>,
    pub(super) closed: Option<(Option<u16>, String)>,
    /// How many more bytes it will take; `None`: any number.
    pub(super) window: Option<usize>,
    pub(super) pongs: usize,
    pub(super) pings: usize,
}

impl Client {
    pub(super) fn new(host: usize, shard: usize, conn: ConnId) -> Client {
        Client { host, shard, conn: Some(conn), ..Client::default() }
    }

    /// Takes what its window allows. How much that is.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let taken = self.window.map_or(bytes.len(), |window| window.min(bytes.len()));
        if let Some(window) = &mut self.window {
            *window -= taken;
        }
        self.receive(&bytes[..taken]);
        taken
    }

    /// Its connection has ended, if it did not know yet.
    pub(super) fn ended(&mut self) {
        self.closed.get_or_insert((None, String::new()));
    }

    fn receive(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        if !self.upgraded {
            self.head.append(&mut bytes);
            let end = self.head.windows(4).position(|window| window == b"\r\n\r\n");
            let Some(end) = end.filter(|_| self.head.starts_with(b"HTTP/1.1 101")) else { return };
            bytes = self.head.split_off(end + 4);
            self.upgraded = true;
        }
        let mut decoder = std::mem::take(&mut self.decoder);
        let mut at = 0;
        loop {
            let (used, message) =
                decoder.decode(Role::Client, usize::MAX, &mut bytes[at..]).expect("the gateway's own frames are valid");
            at += used;
            match message {
                None => break,
                Some(Message::Text(text)) => {
                    self.heard.push(Heard::Text(String::from_utf8(text.to_vec()).expect("events are UTF-8")));
                }
                Some(Message::Binary(bytes)) => self.heard.push(Heard::Binary(bytes.to_vec())),
                Some(Message::Ping(_)) => self.pings += 1,
                Some(Message::Pong(_)) => self.pongs += 1,
                Some(Message::Close { code, reason }) => self.closed = Some((code, reason.to_owned())),
            }
        }
        self.decoder = decoder;
    }
}
