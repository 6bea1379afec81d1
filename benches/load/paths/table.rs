//! Who is connected: socket, generation and what is under way, in eight bytes per connection as in the gateway's shell if
//! the socket is a descriptor.

use std::io;
use std::net::{Shutdown, TcpStream};

use ringroad::turn::ConnId;
use socket2::SockRef;

/// The core was told `Blocked` and not yet `Writable`.
pub const BLOCKED: u8 = 1;
/// The core was told that no more bytes will come, so none may.
pub const ENDED: u8 = 1 << 1;
/// The sending side is to be shut as soon as the blocked bytes are out.
pub const FINISHING: u8 = 1 << 2;

/// A socket, as far as its path does not matter.
pub trait Line {
    /// One send(2), which does not wait.
    fn send(&self, bytes: &[u8]) -> io::Result<usize>;

    /// One shutdown(2). A peer that has gone already has nothing to be told.
    fn shut(&self, how: Shutdown);
}

impl Line for TcpStream {
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        SockRef::from(self).send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    }

    fn shut(&self, how: Shutdown) {
        let _ = self.shutdown(how);
    }
}

const GENERATION_MASK: u32 = 0x00ff_ffff;

/// One entry of the table, in use or waiting to be used again.
pub struct Socket<L> {
    line: Option<L>,
    /// Generation in the low 24 bits, flags in the high 8.
    word: u32,
}

impl<L> Socket<L> {
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
pub struct Table<L> {
    sockets: Vec<Socket<L>>,
    free: Vec<u32>,
}

impl<L> Default for Table<L> {
    fn default() -> Table<L> {
        Table { sockets: Vec::new(), free: Vec::new() }
    }
}

impl<L> Table<L> {
    pub fn insert(&mut self, line: L) -> ConnId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.sockets.push(Socket { line: None, word: 1 });
            (self.sockets.len() - 1) as u32
        });
        let socket = &mut self.sockets[index as usize];
        socket.line = Some(line);
        ConnId { index, generation: socket.word & GENERATION_MASK }
    }

    /// The connection and its socket, unless the id is stale.
    pub fn find(&mut self, conn: ConnId) -> Option<&mut Socket<L>> {
        let socket = self.sockets.get_mut(conn.index as usize)?;
        (socket.word & GENERATION_MASK == conn.generation && socket.line.is_some()).then_some(socket)
    }

    /// Its socket, unless the id is stale or one of these flags is set.
    pub fn line_without(&self, conn: ConnId, flags: u8) -> Option<&L> {
        let socket = self.sockets.get(conn.index as usize)?;
        socket.line.as_ref().filter(|_| socket.word & GENERATION_MASK == conn.generation && !socket.has(flags))
    }

    /// Forgets a connection and hands out its socket, to be closed. Its id is stale from here on.
    pub fn remove(&mut self, conn: ConnId) -> Option<L> {
        let socket = self.find(conn)?;
        let line = socket.line.take();
        socket.word = conn.generation.wrapping_add(1) & GENERATION_MASK;
        self.free.push(conn.index);
        line
    }

    pub fn is_empty(&self) -> bool {
        self.sockets.len() == self.free.len()
    }
}
