//! One end of a link: bytes in and out, in the clear or not, never waiting.

use std::collections::VecDeque;
use std::io::{self, BufRead, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;

use rustls::ClientConnection;
use socket2::Socket;

use super::tls::Tls;
use super::words;
use crate::limits;

/// What to say about a server that went in good order.
const CLOSED: &str = "the server closed the connection";

/// A connected socket, and what it has not taken yet.
pub(super) struct Stream {
    socket: Socket,
    secret: Option<Secret>,
    /// As it goes over the line.
    unsent: VecDeque<u8>,
}

/// What an encrypted stream has besides.
struct Secret {
    connection: Box<ClientConnection>,
    tls: Tls,
}

impl Stream {
    /// Of a socket that does not block.
    pub(super) fn clear(socket: Socket) -> Stream {
        Stream { socket, secret: None, unsent: VecDeque::new() }
    }

    /// The same, encrypted. It has to send its first message, and is handshaking then.
    pub(super) fn encrypted(socket: Socket, tls: &Tls, host: &str) -> Result<Stream, String> {
        let mut stream = Stream::clear(socket);
        stream.secret = Some(Secret { connection: Box::new(tls.connect(host)?), tls: tls.clone() });
        stream.send_secret_bytes()?;
        Ok(stream)
    }

    /// Whether the two ends have not agreed on their keys yet. Nothing can be sent so far.
    pub(super) fn is_handshaking(&self) -> bool {
        self.secret.as_ref().is_some_and(|secret| secret.connection.is_handshaking())
    }

    /// Whether the kernel has not taken everything.
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends, and keeps what the kernel does not take. An error is why the stream is of no use any more.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        if let Some(secret) = &mut self.secret {
            secret.connection.writer().write_all(bytes).map_err(|error| broken(&error))?;
            self.send_secret_bytes()?;
        } else {
            let taken = if self.has_unsent() { 0 } else { self.offer(&[IoSlice::new(bytes)])? };
            self.unsent.extend(&bytes[taken..]);
        }
        if self.unsent.len() > limits::LINK_UNSENT_BYTES_MAX {
            let max = limits::LINK_UNSENT_BYTES_MAX >> 20;
            return Err(format!("the server does not read: more than {max} MiB wait for it"));
        }
        Ok(())
    }

    /// Sends what the encryption wants sent.
    fn send_secret_bytes(&mut self) -> Result<(), String> {
        let was_blocked = self.has_unsent();
        if let Some(secret) = &mut self.secret {
            while secret.connection.wants_write() {
                secret.connection.write_tls(&mut self.unsent).map_err(|error| broken(&error))?;
            }
        }
        if was_blocked { Ok(()) } else { self.flush() }
    }

    /// Sends of what was kept as much as the kernel takes.
    pub(super) fn flush(&mut self) -> Result<(), String> {
        while self.has_unsent() {
            let (first, second) = self.unsent.as_slices();
            let taken = self.offer(&[IoSlice::new(first), IoSlice::new(second)])?;
            if taken == 0 {
                return Ok(());
            }
            self.unsent.drain(..taken);
        }
        self.unsent.shrink_to(limits::LINK_BYTES_KEPT_MAX);
        Ok(())
    }

    fn offer(&self, bytes: &[IoSlice<'_>]) -> Result<usize, String> {
        loop {
            match self.socket.send_vectored_with_flags(bytes, libc::MSG_NOSIGNAL) {
                Ok(taken) => return Ok(taken),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                Err(error) => return Err(broken(&error)),
            }
        }
    }

    /// Appends what has arrived, at most a `scratch` full and what the encryption had kept of a record. False: nothing
    /// has. An error is why nothing more will come; what came before it has been appended.
    pub(super) fn receive(&mut self, scratch: &mut [u8], into: &mut Vec<u8>) -> Result<bool, String> {
        let arrived = loop {
            match (&self.socket).read(scratch) {
                Ok(0) => return Err(CLOSED.to_owned()),
                Ok(len) => break &scratch[..len],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(broken(&error)),
            }
        };
        match &mut self.secret {
            None => into.extend_from_slice(arrived),
            Some(secret) => {
                let deciphered = secret.decipher(arrived, into);
                // An answer, perhaps an alert that says what was wrong.
                let answered = self.send_secret_bytes();
                deciphered.and(answered)?;
            }
        }
        Ok(true)
    }
}

impl Secret {
    fn decipher(&mut self, mut arrived: &[u8], into: &mut Vec<u8>) -> Result<(), String> {
        let connection = &mut self.connection;
        while !arrived.is_empty() {
            // It takes a part at a time.
            connection.read_tls(&mut arrived).map_err(|error| broken(&error))?;
            let processed = connection.process_new_packets();
            let mut reader = connection.reader();
            // Until there is nothing more: at the moment, or for good.
            while let Ok(plain @ [_, ..]) = reader.fill_buf() {
                let len = plain.len();
                into.extend_from_slice(plain);
                reader.consume(len);
            }
            let state = processed.map_err(|error| self.tls.explain(&error))?;
            if state.peer_has_closed() {
                return Err(CLOSED.to_owned());
            }
        }
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A server that has gone, or does not read, needs no goodbye.
        if !self.has_unsent()
            && let Some(secret) = &mut self.secret
        {
            secret.connection.send_close_notify();
            let _ = self.send_secret_bytes();
        }
        // monoio has a descriptor of this socket too, and closes it later.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

fn broken(error: &io::Error) -> String {
    format!("the connection broke: {}", words(error))
}
