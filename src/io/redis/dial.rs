//! How a link comes to be: addresses, connect, options, handshake.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use monoio::net::UnixStream;
use monoio::time::{sleep, timeout};
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use super::desk::Desk;
use super::resolve::resolve;
use super::stream::Stream;
use super::tls::Tls;
use super::words;
use crate::limits;
use crate::turn::Endpoint;

/// Tells when a socket is ready. monoio has it under a descriptor of its own, as a type that it has; to a poll all
/// sockets are alike.
pub(super) struct Readiness(UnixStream);

impl Readiness {
    fn of(socket: &impl AsFd) -> io::Result<Readiness> {
        let own: OwnedFd = socket.as_fd().try_clone_to_owned()?;
        Ok(Readiness(UnixStream::from_std(own.into())?))
    }

    /// Waits for bytes, or the end.
    pub(super) fn readable(&self) -> impl Future<Output = io::Result<()>> {
        self.0.readable(false)
    }

    /// Waits for room, or the end.
    pub(super) fn writable(&self) -> impl Future<Output = io::Result<()>> {
        self.0.writable(false)
    }
}

/// What to say when a wait itself has failed.
pub(super) fn wait_failed(error: &io::Error) -> String {
    format!("the wait for the socket failed: {}", words(error))
}

/// A link that has just come to be.
pub(super) struct Dialled {
    pub(super) stream: Stream,
    pub(super) readiness: Readiness,
    /// What the server sent along with the end of its handshake.
    pub(super) early: Vec<u8>,
}

/// Connects to an endpoint: to the first of its addresses that answers as it should.
pub(super) async fn dial(to: &Endpoint, desk: &Desk) -> Result<Dialled, String> {
    let (host, port) = match to {
        Endpoint::Unix { path } => {
            let address =
                SockAddr::unix(&**path).map_err(|error| format!("bad path of a socket: {}", words(&error)))?;
            // It does not leave this host.
            return attempt(&address, None).await;
        }
        Endpoint::Tcp { host, port } => (&**host, *port),
    };
    let tls = desk.tls.as_ref().map(|tls| (tls, host));
    if let Ok(ip) = host.parse() {
        return attempt(&SocketAddr::new(ip, port).into(), tls).await;
    }
    let mut failures = Vec::new();
    for address in addresses(host, port, desk).await? {
        match attempt(&address.into(), tls).await {
            Ok(dialled) => return Ok(dialled),
            Err(why) => failures.push(format!("{address}: {why}")),
        }
    }
    Err(failures.join("; "))
}

async fn addresses(host: &str, port: u16, desk: &Desk) -> Result<Vec<SocketAddr>, String> {
    let patience = Duration::from_millis(limits::LINK_RESOLVE_MS_MAX);
    timeout(patience, resolve(host, port, &desk.resolvers))
        .await
        .unwrap_or_else(|_| Err(format!("cannot resolve {host}: no answer within {} s", patience.as_secs())))
}

/// Tries one address; with encryption, as the host that has to prove its name.
async fn attempt(to: &SockAddr, tls: Option<(&Tls, &str)>) -> Result<Dialled, String> {
    let patience = Duration::from_millis(limits::LINK_CONNECT_MS_MAX);
    let connected = timeout(patience, connect(to)).await;
    let (socket, readiness) = match connected {
        Ok(connected) => connected.map_err(|error| words(&error))?,
        Err(_) => return Err(format!("no answer within {} s", patience.as_secs())),
    };
    let Some((tls, host)) = tls else {
        return Ok(Dialled { stream: Stream::clear(socket), readiness, early: Vec::new() });
    };
    let mut stream = Stream::encrypted(socket, tls, host)?;
    match timeout(patience, shake_hands(&mut stream, &readiness)).await {
        Ok(early) => Ok(Dialled { early: early?, stream, readiness }),
        Err(_) => {
            let patience = patience.as_secs();
            Err(format!("connected, but no TLS handshake within {patience} s; perhaps the server does not speak TLS"))
        }
    }
}

/// Until both sides agree. Answers what has come over the encrypted stream by then.
async fn shake_hands(stream: &mut Stream, readiness: &Readiness) -> Result<Vec<u8>, String> {
    let mut scratch = vec![0; 16 * 1024];
    let mut early = Vec::new();
    while stream.is_handshaking() || stream.has_unsent() {
        if stream.has_unsent() {
            readiness.writable().await.map_err(|error| wait_failed(&error))?;
            stream.flush()?;
        } else {
            readiness.readable().await.map_err(|error| wait_failed(&error))?;
            stream.receive(&mut scratch, &mut early)?;
        }
    }
    Ok(early)
}

async fn connect(to: &SockAddr) -> io::Result<(Socket, Readiness)> {
    let protocol = (to.domain() != Domain::UNIX).then_some(Protocol::TCP);
    let socket = Socket::new(to.domain(), Type::STREAM.cloexec().nonblocking(), protocol)?;
    if protocol.is_some() {
        let silence = Duration::from_millis(limits::LINK_SILENCE_MS_MAX);
        let probes = TcpKeepalive::new().with_time(silence / 2).with_interval(silence / 6).with_retries(3);
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&probes)?;
        socket.set_tcp_user_timeout(Some(silence))?;
    }
    let readiness = Readiness::of(&socket)?;
    loop {
        match socket.connect(to).map_err(|error| (error.raw_os_error(), error)) {
            Ok(()) => break,
            Err((Some(libc::EINPROGRESS), _)) => {
                readiness.writable().await?;
                socket.take_error()?.map_or(Ok(()), Err)?;
                break;
            }
            // The queue of a socket in the file system is full, and nothing tells when it is not.
            Err((Some(libc::EAGAIN), _)) => sleep(Duration::from_millis(limits::LINK_CONNECT_RETRY_MS)).await,
            Err((Some(libc::EINTR), _)) => {}
            Err((_, error)) => return Err(error),
        }
    }
    Ok((socket, readiness))
}
