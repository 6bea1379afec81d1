//! A listener that is about to go ignores who is new, while handshakes that are under way end as usual.
//!
//! A connection that comes to a closing listener between its last accept and its close would be reset; one that is ignored
//! is asked for again by its client's kernel after a second, and then comes to whoever listens.

use std::io;
use std::os::fd::BorrowedFd;

use socket2::{Domain, SockFilter, SockRef};

use super::ring::set_option;

/// What only a neighbour that wants it so could send (RFC 5082); operating systems begin with 64 or 128.
const FROM_NOBODY: i32 = 255;

/// Lets a listener ignore everything that would begin a new connection. What it accepts from now on is mute until it
/// [`hears`].
pub(crate) fn ignore_new_connections(listener: BorrowedFd<'_>) -> io::Result<()> {
    match filter(listener) {
        // Some kernels give filters only to CAP_NET_ADMIN, and a service has no capability.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => keep_distance(listener, FROM_NOBODY),
        done => done,
    }
}

/// An accepted socket has what its listener had, also what keeps it from hearing anything.
pub(crate) fn hears(accepted: BorrowedFd<'_>) -> io::Result<()> {
    keep_distance(accepted, 0)
}

/// Classic BPF on the TCP header: of SYN and ACK only SYN (RFC 9293, section 3.1: flags are in its byte 13).
fn filter(listener: BorrowedFd<'_>) -> io::Result<()> {
    let op = |code: u32, jt, jf, k| SockFilter::new(code as u16, jt, jf, k);
    SockRef::from(&listener).attach_filter(&[
        op(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 13),
        op(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, 0x12),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, 0x02),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ])
}

/// A packet whose time to live is less is dropped (ip(7), ipv6(7)); the kernel asks that of a SYN, and not of the ACK that
/// ends a handshake.
fn keep_distance(socket: BorrowedFd<'_>, ttl_min: i32) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_IP, libc::IP_MINTTL, ttl_min)?;
    if SockRef::from(&socket).domain()? == Domain::IPV6 {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, ttl_min)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Duration;

    use socket2::{Protocol, Socket, Type};

    use super::*;

    /// Each way to be deaf.
    const WAYS: [fn(BorrowedFd<'_>) -> io::Result<()>; 3] =
        [filter, |listener| keep_distance(listener, FROM_NOBODY), ignore_new_connections];

    fn listener(addr: SocketAddr) -> Socket {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&addr.into()).unwrap();
        socket.listen(16).unwrap();
        socket
    }

    #[test]
    fn a_listener_that_goes_keeps_what_it_has_and_leaves_the_rest_to_another() {
        for (way, deafen) in WAYS.into_iter().enumerate() {
            let old = listener((Ipv4Addr::LOCALHOST, 0).into());
            let addr = old.local_addr().unwrap().as_socket().unwrap();
            let before = TcpStream::connect(addr).unwrap();
            match deafen(old.as_fd()) {
                Err(error) if way == 0 && error.kind() == io::ErrorKind::PermissionDenied => {
                    eprintln!("skipped: a filter needs a capability here");
                    continue;
                }
                done => done.unwrap(),
            }
            let ignored = TcpStream::connect_timeout(&addr, Duration::from_millis(200)).unwrap_err();
            assert_eq!(ignored.kind(), io::ErrorKind::TimedOut, "neither taken nor refused");
            let (accepted, _) = old.accept().unwrap();
            assert_eq!(accepted.peer_addr().unwrap().as_socket().unwrap(), before.local_addr().unwrap());
            // Eight that are ignored, or come to the new one at once, as the kernel chooses.
            let new = listener(addr);
            let visitors: Vec<_> = (0..8).map(|_| std::thread::spawn(move || TcpStream::connect(addr))).collect();
            std::thread::sleep(Duration::from_millis(50));
            old.set_nonblocking(true).unwrap();
            assert_eq!(old.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
            drop(old);
            for visitor in visitors {
                visitor.join().unwrap().expect("nobody is refused");
            }
            drop(new);
        }
    }

    #[test]
    fn a_handshake_that_is_under_way_ends_and_its_connection_hears() {
        for addr in [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), (Ipv6Addr::LOCALHOST, 0).into()] {
            let Ok(listener) = std::panic::catch_unwind(|| listener(addr)) else {
                eprintln!("skipped: no {addr} here");
                continue;
            };
            // Nobody is accepted before its first byte, for so many seconds: its handshake stays under way.
            set_option(listener.as_fd(), libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 30).unwrap();
            let addr = listener.local_addr().unwrap().as_socket().unwrap();
            let mut client = TcpStream::connect(addr).unwrap();
            keep_distance(listener.as_fd(), FROM_NOBODY).unwrap();
            client.write_all(b"one ").unwrap();
            let (mut accepted, _) = listener.accept().unwrap();
            hears(accepted.as_fd()).unwrap();
            client.write_all(b"two").unwrap();
            accepted.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut bytes = [0; 7];
            accepted.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"one two");
        }
    }
}
