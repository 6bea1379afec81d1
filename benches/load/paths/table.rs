//! Who is connected: descriptor, generation and what is under way, eight bytes per connection as in the gateway's shell.

use std::net::TcpStream;

use ringroad::turn::ConnId;

/// The core was told `Blocked` and not yet `Writable`.
pub const BLOCKED: u8 = 1;
/// The core was told that no more bytes will come, so none may.
pub const ENDED: u8 = 1 << 1;
/// The sending side is to be shut as soon as the blocked bytes are out.
pub const FINISHING: u8 = 1 << 2;

const GENERATION_MASK: u32 = 0x00ff_ffff;

/// One entry of the table, in use or waiting to be used again.
pub struct Socket {
    stream: Option<TcpStream>,
    /// Generation in the low 24 bits, flags in the high 8.
    word: u32,
}

impl Socket {
    pub fn has(&self, flags: u8) -> bool {
        (self.word >> 24) as u8 & flags != 0
    }

    pub fn set(&mut self, flags: u8) {
        self.word |= u32::from(flags) << 24;
    }

    pub fn clear(&mut self, flags: u8) {
        self.word &= !(u32::from(flags) << 24);
    }
}

/// All connections. Grows on demand, never shrinks.
#[derive(Default)]
pub struct Table {
    sockets: Vec<Socket>,
    free: Vec<u32>,
}

impl Table {
    pub fn insert(&mut self, stream: TcpStream) -> ConnId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.sockets.push(Socket { stream: None, word: 1 });
            (self.sockets.len() - 1) as u32
        });
        let socket = &mut self.sockets[index as usize];
        socket.stream = Some(stream);
        ConnId { index, generation: socket.word & GENERATION_MASK }
    }

    /// The connection and its socket, unless the id is stale.
    pub fn find(&mut self, conn: ConnId) -> Option<&mut Socket> {
        let socket = self.sockets.get_mut(conn.index as usize)?;
        (socket.word & GENERATION_MASK == conn.generation && socket.stream.is_some()).then_some(socket)
    }

    /// Its socket, unless the id is stale or one of these flags is set.
    pub fn stream_without(&self, conn: ConnId, flags: u8) -> Option<&TcpStream> {
        let socket = self.sockets.get(conn.index as usize)?;
        socket.stream.as_ref().filter(|_| socket.word & GENERATION_MASK == conn.generation && !socket.has(flags))
    }

    /// Forgets a connection and hands out its socket, to be closed. Its id is stale from here on.
    pub fn remove(&mut self, conn: ConnId) -> Option<TcpStream> {
        let socket = self.find(conn)?;
        let stream = socket.stream.take();
        socket.word = conn.generation.wrapping_add(1) & GENERATION_MASK;
        self.free.push(conn.index);
        stream
    }

    pub fn is_empty(&self) -> bool {
        self.sockets.len() == self.free.len()
    }
}
