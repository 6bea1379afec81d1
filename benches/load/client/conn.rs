//! One connection: a socket that does not block, and frames walked by their headers.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

use ringroad::wire::frame::{Opcode, encode_masked};
use socket2::{Domain, Protocol, Socket, Type};

/// Any mask but zeros makes a server do the work that it does for a browser.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Upgrading,
    /// It is a WebSocket, and has not been told `registered`.
    Greeting,
    Ready,
    Closed,
}

pub struct Conn {
    pub stage: Stage,
    stream: TcpStream,
    /// A frame that has not come whole.
    rest: Vec<u8>,
    /// What the kernel has not taken.
    unsent: Vec<u8>,
}

impl Conn {
    /// A connection that is being made.
    pub fn dial(addr: SocketAddr) -> io::Result<Conn> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&addr.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        Ok(Conn { stage: Stage::Upgrading, stream: socket.into(), rest: Vec::new(), unsent: Vec::new() })
    }

    /// Sends bytes; what the kernel does not take waits. Whether something waits that did not before.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return Ok(false);
        }
        let taken = match self.stream.write(bytes) {
            Ok(taken) => taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        self.unsent.extend_from_slice(&bytes[taken..]);
        Ok(!self.unsent.is_empty())
    }

    /// Sends what waits; whether all of it was taken.
    pub fn flush(&mut self) -> io::Result<bool> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(taken) => drop(self.unsent.drain(..taken)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.unsent = Vec::new();
        Ok(true)
    }

    /// Whether the server has not taken what it was sent.
    pub fn is_held_up(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Reads what has come, behind what was left: how many bytes of the buffer there are, `None` without news. The end
    /// of the stream is an error.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let kept = self.rest.len();
        if kept >= buffer.len() {
            return Err(io::Error::new(ErrorKind::InvalidData, "a frame longer than anything that is expected"));
        }
        buffer[..kept].copy_from_slice(&self.rest);
        match self.stream.read(&mut buffer[kept..]) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(len) => {
                self.rest.clear();
                Ok(Some(kept + len))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps the bytes of a frame that is not whole.
    pub fn keep(&mut self, rest: &[u8]) {
        if rest.is_empty() && self.rest.capacity() > 0 {
            self.rest = Vec::new();
        }
        self.rest.extend_from_slice(rest);
    }
}

impl AsFd for Conn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// A client's frame.
pub fn masked(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    encode_masked(out, opcode, MASK, payload);
}

/// The first frame of a server's bytes: its opcode and where its payload lies, `None` if it is not whole. A server that
/// sends fragments or extensions is not understood.
#[inline]
pub fn frame(bytes: &[u8]) -> io::Result<Option<(u8, Range<usize>)>> {
    let &[first, second, ..] = bytes else { return Ok(None) };
    if first & 0xf0 != 0x80 || second & 0x80 != 0 {
        return Err(io::Error::new(ErrorKind::InvalidData, "a frame that is a fragment, extended or masked"));
    }
    let (at, len) = match (second, bytes) {
        (126, &[_, _, a, b, ..]) => (4, usize::from(u16::from_be_bytes([a, b]))),
        (127, &[_, _, _, _, _, _, a, b, c, d, ..]) => (10, u32::from_be_bytes([a, b, c, d]) as usize),
        (126 | 127, _) => return Ok(None),
        (len, _) => (2, usize::from(len)),
    };
    Ok((bytes.len() >= at + len).then_some((first & 0x0f, at..at + len)))
}
