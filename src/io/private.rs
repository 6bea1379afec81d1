//! The private address: a second listener, for few and patient connections. A thread of its own accepts them and gives
//! them to the workers in turn, so the workers have one listener each as before.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::Socket;

use super::mesh::{Given, Hatch, Switch};
use crate::limits;

/// A listener before its thread runs.
pub(super) struct Door {
    listener: TcpListener,
    addr: SocketAddr,
}

impl Door {
    /// Listens on a socket that is not bound yet; port 0 lets the kernel choose.
    pub(super) fn open(socket: Socket, addr: SocketAddr) -> io::Result<Door> {
        socket.bind(&addr.into())?;
        socket.listen(limits::BACKLOG_CONNS)?;
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from(socket);
        Ok(Door { addr: listener.local_addr()?, listener })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Accepts until the workers have ended.
    pub(super) fn attend(self, hatches: Arc<[Arc<Hatch>]>, switch: Arc<Switch>) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name("ringroad-private".to_owned()).spawn(move || {
            if let Err(error) = self.accept(&hatches, &switch) {
                tracing::error!(%error, addr = %self.addr, "the private address has failed");
            }
        })
    }

    fn accept(&self, hatches: &[Arc<Hatch>], switch: &Switch) -> io::Result<()> {
        let mut turn = hatches.iter().cycle();
        loop {
            let mut either = [self.listener.as_fd(), switch.all_ended()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut either, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            if either[1].any() == Some(true) {
                return Ok(());
            }
            match self.listener.accept() {
                Ok((stream, _)) => {
                    // Without it an answer comes a little later.
                    let _ = stream.set_nodelay(true);
                    if let Some(hatch) = turn.next() {
                        hatch.give(Given::Private(OwnedFd::from(stream)));
                    }
                }
                // accept(2): the error may be that of the connection, which has gone again.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => {
                    tracing::warn!(%error, "connections to the private address have to wait");
                    if switch.wait(std::time::Duration::from_millis(limits::ACCEPT_RETRY_MS)) {
                        return Ok(());
                    }
                }
                Err(_) => {}
            }
        }
    }
}
