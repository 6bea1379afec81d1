//! How a server of this benchmark begins and ends: its listener, the line that says where it is, and the signal that
//! stops it.

use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ringroad::limits;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that one look at the listener accepts; then it is others' turn.
const ACCEPTS_MAX: usize = 256;

/// A listener whose `accept` does not wait.
pub struct Door {
    pub listener: TcpListener,
    pub addr: SocketAddr,
}

impl Door {
    /// Listens as the gateway does: what is accepted inherits `TCP_NODELAY`, and `TCP_NOTSENT_LOWAT` unless that is 0.
    pub fn open(addr: SocketAddr, unsent_bytes_max: u32) -> io::Result<Door> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
        if unsent_bytes_max > 0 {
            socket.set_tcp_notsent_lowat(unsent_bytes_max)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(limits::BACKLOG_CONNS)?;
        let listener = TcpListener::from(socket);
        let addr = listener.local_addr()?;
        Ok(Door { listener, addr })
    }

    /// Says where, for whoever has started this process.
    pub fn announce(&self, name: &str) -> io::Result<()> {
        let mut stdout = io::stdout();
        writeln!(stdout, "{name} listening on {}", self.addr)?;
        stdout.flush()
    }

    /// Accepts who waits, up to a bound. An error is one of this process, as when no descriptor is left; a connection
    /// that has gone again is none.
    pub fn accept(&self, mut enters: impl FnMut(TcpStream, IpAddr) -> io::Result<()>) -> io::Result<()> {
        for _ in 0..ACCEPTS_MAX {
            match self.listener.accept() {
                Ok((stream, peer)) => enters(stream, peer.ip().to_canonical())?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Readable once this process is asked to end. To be called before it has other threads.
pub fn goodbye() -> io::Result<SignalFd> {
    let ends = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    ends.thread_block()?;
    Ok(SignalFd::with_flags(&ends, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Takes all the descriptors that the hard limit grants, as the gateway does.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}
