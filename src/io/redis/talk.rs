//! A blocking conversation with one server, for the probe.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, SockAddr, Socket, Type};

use super::probe::ProbeError;
use super::tls::Tls;
use super::words;
use crate::limits;
use crate::turn::Endpoint;
use crate::wire::resp::read::Reader;
use crate::wire::resp::{Frame, Reply, command};

/// What a server answers: a reply or an error.
pub(super) type Answer = Result<Reply, Box<str>>;

/// A connection on which questions are asked one by one.
pub(super) struct Talk<'a> {
    at: &'a Endpoint,
    tls: Option<&'a Tls>,
    wire: Wire,
    until: Instant,
    reader: Reader,
    /// Received, and not read yet.
    left: Vec<u8>,
    /// Something was answered already.
    answered: bool,
}

enum Wire {
    Clear(Socket),
    Encrypted(Box<StreamOwned<ClientConnection, Socket>>),
}

impl Wire {
    fn socket(&self) -> &Socket {
        match self {
            Wire::Clear(socket) => socket,
            Wire::Encrypted(stream) => &stream.sock,
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Clear(socket) => socket.read(into),
            Wire::Encrypted(stream) => stream.read(into),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Wire::Clear(socket) => socket.write_all(bytes),
            Wire::Encrypted(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }
}

impl<'a> Talk<'a> {
    /// Connects to the first address that answers. Until that time everything that is asked has to be answered.
    pub(super) fn begin(at: &'a Endpoint, tls: Option<&'a Tls>, until: Instant) -> Result<Talk<'a>, ProbeError> {
        let unreachable = |why: String| ProbeError::Unreachable(format!("{at}: {why}"));
        let (addresses, host) = match at {
            Endpoint::Unix { path } => (vec![SockAddr::unix(&**path)], None),
            Endpoint::Tcp { host, port } => {
                let found = addresses(host, *port, until).map_err(unreachable)?;
                (found.into_iter().map(|address| Ok(address.into())).collect(), Some(&**host))
            }
        };
        let mut failure = String::from("it has no address");
        for address in addresses {
            match address.and_then(|address| connect(&address, until)) {
                Ok(socket) => {
                    let wire = match (tls, host) {
                        (Some(tls), Some(host)) => {
                            let refused = |why| ProbeError::Refused(format!("{at}: {why}"));
                            let connection = tls.connect(host).map_err(refused)?;
                            Wire::Encrypted(Box::new(StreamOwned::new(connection, socket)))
                        }
                        _ => Wire::Clear(socket),
                    };
                    let reader = Reader::new(limits::REPLY_BYTES_MAX, limits::PUSH_BYTES_MAX);
                    return Ok(Talk { at, tls, wire, until, reader, left: Vec::new(), answered: false });
                }
                Err(error) => failure = failed(&error),
            }
        }
        Err(unreachable(failure))
    }

    /// Whom we are talking to.
    pub(super) fn at(&self) -> &'a Endpoint {
        self.at
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask(&mut self, args: &[&[u8]]) -> Result<Answer, ProbeError> {
        let mut question = Vec::new();
        command::write(&mut question, args);
        self.in_time().and_then(|()| self.wire.write_all(&question)).map_err(|error| self.explain(&error))?;
        let mut buffer = [0; 4096];
        loop {
            while let Some(frame) = self.next_frame()? {
                match frame {
                    Frame::Reply(reply) => return Ok(Ok(reply)),
                    Frame::Error(error) => return Ok(Err(error)),
                    Frame::Skipped { is_push: false } => return Err(self.refused("the answer is too long")),
                    Frame::Push(_) | Frame::Skipped { is_push: true } => {}
                }
            }
            let read = self.in_time().and_then(|()| self.wire.read(&mut buffer));
            match read {
                Ok(0) => {
                    return Err(self.unreachable(&format!("the server closed the connection{}", self.hint())));
                }
                Ok(len) => self.left.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.explain(&error)),
            }
        }
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, ProbeError> {
        let mut bytes = &self.left[..];
        let taken = self.reader.take(&mut bytes);
        let rest = bytes.len();
        self.left.drain(..self.left.len() - rest);
        let frame = taken.map_err(|_| self.refused(&format!("the answer is not Redis's protocol{}", self.hint())))?;
        self.answered |= frame.is_some();
        Ok(frame)
    }

    /// Sets the time that the next read or write may take.
    fn in_time(&self) -> io::Result<()> {
        let left = remaining(self.until)?;
        self.wire.socket().set_read_timeout(Some(left))?;
        self.wire.socket().set_write_timeout(Some(left))
    }

    /// What a server that did not understand us may have expected.
    fn hint(&self) -> &'static str {
        let is_plain = self.tls.is_none() && matches!(self.at, Endpoint::Tcp { .. });
        if is_plain && !self.answered { "; does it want TLS (rediss://)?" } else { "" }
    }

    fn refused(&self, why: &str) -> ProbeError {
        ProbeError::Refused(format!("{}: {why}", self.at))
    }

    fn unreachable(&self, why: &str) -> ProbeError {
        ProbeError::Unreachable(format!("{}: {why}", self.at))
    }

    fn explain(&self, error: &io::Error) -> ProbeError {
        let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (self.tls, of_tls, &self.wire) {
            (Some(tls), Some(error), _) => self.refused(&tls.explain(error)),
            // A server that takes it for the beginning of a long command waits for the rest.
            (_, _, Wire::Encrypted(stream)) if stream.conn.is_handshaking() && is_late(error) => {
                self.unreachable("connected, but no TLS handshake in time; perhaps the server does not speak TLS")
            }
            _ if error.kind() == ErrorKind::ConnectionReset => {
                self.unreachable(&format!("{}{}", words(error), self.hint()))
            }
            _ => self.unreachable(&failed(error)),
        }
    }
}

/// The time that is left.
fn remaining(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn connect(to: &SockAddr, until: Instant) -> io::Result<Socket> {
    let longest = Duration::from_millis(limits::LINK_CONNECT_MS_MAX);
    let socket = Socket::new(to.domain(), Type::STREAM.cloexec(), None)?;
    socket.connect_timeout(to, remaining(until)?.min(longest))?;
    if to.domain() != Domain::UNIX {
        socket.set_tcp_nodelay(true)?;
    }
    Ok(socket)
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

fn failed(error: &io::Error) -> String {
    match error.kind() {
        _ if is_late(error) => "no answer in time".to_owned(),
        ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
        _ => words(error),
    }
}

/// Resolves a name, but not for longer than there is time: the thread may stay behind, the caller does not.
fn addresses(host: &str, port: u16, until: Instant) -> Result<Vec<SocketAddr>, String> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let (answer, answers) = mpsc::channel();
    let name = host.to_owned();
    let ask = move || {
        let found = (name.as_str(), port).to_socket_addrs();
        // Nobody may wait for it any more.
        let _ = answer.send(found.map(|all| all.take(limits::LINK_ADDRESSES_MAX).collect()));
    };
    thread::Builder::new().name("ringroad-name".to_owned()).spawn(ask).map_err(|error| words(&error))?;
    match answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(found) => found.map_err(|error| format!("the name cannot be resolved: {}", words(&error))),
        Err(_) => Err("the name cannot be resolved: no answer in time".to_owned()),
    }
}
