//! Who is on the data ring: descriptor, generation and what is under way, eight bytes per connection.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::turn::ConnId;

/// A multishot receive is running, or its last completion has not been looked at.
pub(crate) const RECV: u8 = 1;
/// The core was told `Blocked` and not yet `Writable`; a poll for room is running.
pub(crate) const BLOCKED: u8 = 1 << 1;
/// The receive ended for want of buffers and waits in the queue of those to start again.
pub(crate) const STARVED: u8 = 1 << 2;
/// The core was told that no more bytes will come, so none may.
pub(crate) const ENDED: u8 = 1 << 3;
/// The sending side is to be shut as soon as the blocked bytes are out.
pub(crate) const FINISHING: u8 = 1 << 4;
/// The core gave the connection up. It hears nothing more of it.
pub(crate) const RELEASED: u8 = 1 << 5;
/// The connection is being made. The core does not know its id yet.
pub(crate) const CONNECTING: u8 = 1 << 6;
/// It speaks TLS, or may: there is a session for it (`tls::desk`).
pub(crate) const SESSION: u8 = 1 << 7;

/// Everything that ends with a completion still to come. A descriptor closed earlier could be given to a new client
/// while an old request still reads from it.
pub(crate) const RUNNING: u8 = RECV | BLOCKED | CONNECTING;

const GENERATION_MASK: u32 = 0x00ff_ffff;

/// One entry of the table, in use or waiting to be used again.
pub(crate) struct Socket {
    fd: Option<OwnedFd>,
    /// Generation in the low 24 bits, flags in the high 8.
    word: u32,
}

impl Socket {
    pub(crate) fn has(&self, flags: u8) -> bool {
        (self.word >> 24) as u8 & flags != 0
    }

    pub(crate) fn set(&mut self, flags: u8) {
        self.word |= u32::from(flags) << 24;
    }

    pub(crate) fn clear(&mut self, flags: u8) {
        self.word &= !(u32::from(flags) << 24);
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }
}

/// All connections of one worker. Grows on demand, never shrinks.
#[derive(Default)]
pub(crate) struct Sockets {
    table: Vec<Socket>,
    free: Vec<u32>,
}

impl Sockets {
    /// Gives a connection its id. `None`: one whose descriptor could not be had.
    pub(crate) fn insert(&mut self, fd: Option<OwnedFd>) -> ConnId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.table.push(Socket { fd: None, word: 1 });
            (self.table.len() - 1) as u32
        });
        let socket = &mut self.table[index as usize];
        socket.fd = fd;
        ConnId { index, generation: socket.word & GENERATION_MASK }
    }

    /// The connection, unless the id is stale.
    pub(crate) fn peek(&self, conn: ConnId) -> Option<&Socket> {
        let socket = self.table.get(conn.index as usize)?;
        (socket.word & GENERATION_MASK == conn.generation & GENERATION_MASK).then_some(socket)
    }

    /// The connection, to be changed, unless the id is stale.
    pub(crate) fn find(&mut self, conn: ConnId) -> Option<&mut Socket> {
        self.table
            .get_mut(conn.index as usize)
            .filter(|socket| socket.word & GENERATION_MASK == conn.generation & GENERATION_MASK)
    }

    /// Forgets a connection and hands out its descriptor, to be closed. Its id is stale from here on.
    pub(crate) fn remove(&mut self, conn: ConnId) -> Option<OwnedFd> {
        let socket = self.find(conn)?;
        debug_assert!(!socket.has(RUNNING), "a request still refers to this connection");
        let fd = socket.fd.take();
        socket.word = conn.generation.wrapping_add(1) & GENERATION_MASK;
        self.free.push(conn.index);
        fd
    }

    /// Connections in use.
    pub(crate) fn live(&self) -> usize {
        self.table.len() - self.free.len()
    }

    /// Ids of all connections that hold a descriptor.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ConnId> {
        (0..)
            .zip(&self.table)
            .filter(|(_, socket)| socket.fd.is_some())
            .map(|(index, socket)| ConnId { index, generation: socket.word & GENERATION_MASK })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_costs_eight_bytes() {
        assert_eq!(size_of::<Socket>(), 8);
    }

    #[test]
    fn an_index_comes_back_under_another_generation() {
        let mut sockets = Sockets::default();
        let first = sockets.insert(None);
        sockets.find(first).unwrap().set(RELEASED | ENDED);
        sockets.remove(first);
        let second = sockets.insert(None);
        assert_eq!(first.index, second.index);
        assert_ne!(first.generation, second.generation);
        assert!(sockets.find(first).is_none());
        assert!(!sockets.find(second).unwrap().has(u8::MAX));
    }

    #[test]
    fn generations_wrap_within_24_bits() {
        let mut sockets = Sockets::default();
        let mut conn = sockets.insert(None);
        sockets.find(conn).unwrap().word = GENERATION_MASK;
        conn.generation = GENERATION_MASK;
        sockets.remove(conn);
        assert_eq!(sockets.insert(None).generation, 0);
    }
}
