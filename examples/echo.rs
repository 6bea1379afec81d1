//! A WebSocket echo server: Ringroad's codec on Ringroad's shell, and nothing else.
//!
//! `cargo run --release --example echo [ADDR:PORT]` prints where it listens and runs until SIGINT or SIGTERM. The
//! conformance suite (`tests/autobahn/run`) talks to it, and it is the smallest [`Core`] to learn from.

use std::collections::HashMap;
use std::net::SocketAddr;

use ringroad::io::{Options, signals, start};
use ringroad::metrics::Counters;
use ringroad::turn::{ConnId, Core, Input, Now, Send, Store, Turn};
use ringroad::wire::frame::{self, Opcode, Role};
use ringroad::wire::message::{Decoder, Message};
use ringroad::wire::upgrade::{self, Request};

/// The suite sends messages of up to 16 MiB.
const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;

#[derive(Default)]
struct Conn {
    head: Vec<u8>,
    upgraded: bool,
    decoder: Decoder,
    outbox: Vec<u8>,
    blocked: bool,
    /// Said goodbye: shut the sending side once the outbox is out.
    closing: bool,
}

#[derive(Default)]
struct Echo {
    conns: HashMap<ConnId, Conn>,
    /// Connections with something to send or to finish.
    ready: Vec<ConnId>,
    arena: Vec<u8>,
    sends: Vec<Send>,
    /// Closing connections whose last bytes went out in the previous turn.
    out: Vec<ConnId>,
    finished: Vec<ConnId>,
    released: Vec<ConnId>,
    releasing: Vec<ConnId>,
    mail: Vec<(ringroad::turn::ShardId, ())>,
    counters: Counters,
    stopping: bool,
}

impl Conn {
    fn take(&mut self, bytes: &mut [u8]) {
        if self.closing {
            return;
        }
        if self.upgraded {
            return self.echo(bytes);
        }
        self.head.extend_from_slice(bytes);
        let mut head = std::mem::take(&mut self.head);
        match upgrade::parse(&head) {
            Ok(None) => self.head = head,
            Ok(Some((Request::Upgrade(request), used))) => {
                upgrade::accept(&mut self.outbox, &request, None);
                self.upgraded = true;
                self.echo(&mut head[used..]);
            }
            Ok(Some((Request::Plain(_), _))) => {
                upgrade::reply(&mut self.outbox, 426, "text/plain", &[("Upgrade", "websocket")], false, b"");
                self.closing = true;
            }
            Err(refusal) => {
                upgrade::refuse(&mut self.outbox, refusal);
                self.closing = true;
            }
        }
    }

    fn echo(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while !self.closing {
            let (used, message) = match self.decoder.decode(Role::Server, MESSAGE_BYTES_MAX, &mut bytes[at..]) {
                Ok(decoded) => decoded,
                Err(error) => {
                    frame::encode_close(&mut self.outbox, error.close_code(), &error.to_string());
                    self.closing = true;
                    return;
                }
            };
            at += used;
            match message {
                None => return,
                Some(Message::Text(text)) => frame::encode(&mut self.outbox, Opcode::Text, text),
                Some(Message::Binary(bytes)) => frame::encode(&mut self.outbox, Opcode::Binary, bytes),
                Some(Message::Ping(payload)) => frame::encode(&mut self.outbox, Opcode::Pong, payload),
                Some(Message::Pong(_)) => {}
                Some(Message::Close { code, .. }) => {
                    let code = code.map(u16::to_be_bytes);
                    frame::encode(&mut self.outbox, Opcode::Close, code.as_ref().map_or(&[], |code| &code[..]));
                    self.closing = true;
                }
            }
        }
    }
}

impl Core for Echo {
    type Mail = ();

    fn handle(&mut self, _now: Now, input: Input<'_, ()>) {
        let id = match input {
            Input::Opened { conn, .. } => {
                self.conns.insert(conn, Conn::default());
                conn
            }
            Input::Bytes { conn, bytes } => {
                self.conns.entry(conn).or_default().take(bytes);
                conn
            }
            Input::Ended { conn, .. } => {
                self.conns.remove(&conn);
                self.releasing.push(conn);
                conn
            }
            Input::Blocked { conn: id, rest } => {
                let conn = self.conns.entry(id).or_default();
                conn.outbox.splice(..0, rest.iter().copied());
                conn.blocked = true;
                id
            }
            Input::Writable { conn } => {
                self.conns.entry(conn).or_default().blocked = false;
                conn
            }
            Input::Stop => {
                self.stopping = true;
                self.releasing.extend(self.conns.drain().map(|(id, _)| id));
                return;
            }
            Input::Load { .. } | Input::Keys(_) | Input::OpenedPrivately { .. } => return,
            Input::Mail { .. } | Input::MailRefused { .. } | Input::Radio { .. } => return,
            Input::LinkUp { .. } | Input::LinkBytes { .. } | Input::LinkDown { .. } => return,
            // It has no settings, and lets everybody go at once.
            Input::Configure { .. } | Input::Drain { .. } => return,
        };
        self.ready.push(id);
    }

    fn poll_turn(&mut self, _now: Now) -> Option<Turn<'_, ()>> {
        self.arena.clear();
        self.sends.clear();
        self.finished.clear();
        self.released.clear();
        self.released.append(&mut self.releasing);
        for id in self.out.drain(..) {
            if self.conns.get(&id).is_some_and(|conn| conn.outbox.is_empty()) {
                self.finished.push(id);
            }
        }
        for id in self.ready.drain(..) {
            let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.blocked) else { continue };
            if !conn.outbox.is_empty() {
                let (start, len) = (self.arena.len() as u32, conn.outbox.len() as u32);
                self.sends.push(Send { conn: id, store: Store::Arena, start, len });
                self.arena.append(&mut conn.outbox);
                if conn.closing {
                    self.out.push(id);
                }
            }
        }
        let idle = self.sends.is_empty() && self.finished.is_empty() && self.released.is_empty() && self.out.is_empty();
        (!idle).then_some(Turn {
            arena: &self.arena,
            log: &[],
            sends: &self.sends,
            finished: &self.finished,
            released: &self.released,
            mail: &mut self.mail,
            radio: &[],
            connects: 0,
            links: &[],
            link_bytes: &[],
        })
    }

    fn next_deadline(&self) -> Option<u64> {
        None
    }

    fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    fn is_stopped(&self) -> bool {
        self.stopping && self.conns.is_empty()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen: SocketAddr = std::env::args().nth(1).unwrap_or("127.0.0.1:0".to_owned()).parse()?;
    signals::block()?;
    let running = start(Options { listen: Some(listen), workers: 1, ..Options::default() }, |_| Echo::default())?;
    println!("listening on {}", running.addr().ok_or("no listener")?);
    signals::Ear::listen()?.hear(&running, None)?;
    running.stop();
    running.join()?;
    Ok(())
}
