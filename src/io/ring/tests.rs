//! What the shell relies on, seen on this kernel.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;

use nix::sys::eventfd::EventFd;
use socket2::SockRef;

use super::*;

fn ring(sq_entries: u32, cq_entries: u32) -> (DataRing, EventFd) {
    let wake = EventFd::new().unwrap();
    let sizes = Sizes { sq_entries, cq_entries, buffers: 8, buffer_bytes: 64 };
    (DataRing::new(sizes, wake.as_fd()).unwrap(), wake)
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, client)
}

fn send_all(ring: &mut DataRing, sends: &[(u32, &TcpStream, &[u8])]) -> Vec<(u32, i32)> {
    let mut unsent = Vec::new();
    let sends = sends.iter().map(|&(position, to, bytes)| (position, to.as_fd(), bytes));
    ring.send_all(sends, &mut unsent).unwrap();
    unsent
}

#[test]
fn a_tag_holds_operation_generation_and_index() {
    for (number, op) in (1..).map_while(|number| Some((number, Op::of(number << 56)?))) {
        assert_eq!(op.tag(NOBODY) >> 56, number);
        let conn = ConnId { index: u32::MAX - 1, generation: 0x00ab_cdef };
        let completion = Completion { user_data: op.tag(conn), result: 0, flags: 0 };
        assert_eq!((completion.op(), completion.conn()), (Some(op), conn));
    }
    assert_eq!(Op::of(Op::CancelOther.tag(NOBODY)), Some(Op::CancelOther));
    assert_eq!(Op::of(0), None);
}

#[test]
fn a_send_that_was_taken_whole_is_not_reported() {
    let (mut ring, _wake) = ring(8, 16);
    let (server, mut client) = pair();
    // The bytes are gone when `send_all` returns, so the kernel must have them.
    let bytes = b"hello".to_vec();
    assert!(send_all(&mut ring, &[(0, &server, &bytes)]).is_empty());
    drop(bytes);
    let mut seen = [0; 5];
    client.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"hello");
    assert!(ring.is_idle());
}

#[test]
fn a_short_send_is_reported_inside_its_submit_with_the_exact_count() {
    let (mut ring, _wake) = ring(8, 16);
    let (server, mut client) = pair();
    let bytes: Vec<u8> = (0..8 * 1024 * 1024).map(|i| (i % 251) as u8).collect();
    let unsent = send_all(&mut ring, &[(7, &server, &bytes)]);
    let [(7, taken)] = unsent[..] else { panic!("expected one short send, saw {unsent:?}") };
    assert!(taken > 0 && (taken as usize) < bytes.len(), "taken {taken}");
    // Nothing more was taken, and nothing more will be: the socket is full, which is the other report.
    assert_eq!(send_all(&mut ring, &[(3, &server, &bytes)]), [(3, -libc::EAGAIN)]);
    drop(server);
    let mut seen = Vec::new();
    client.read_to_end(&mut seen).unwrap();
    assert_eq!(seen, bytes[..taken as usize]);
}

#[test]
fn more_failures_than_the_completion_queue_holds_are_all_reported() {
    let (mut ring, _wake) = ring(8, 16);
    let (server, client) = pair();
    drop(client);
    let sends: Vec<_> = (0..100).map(|position| (position, &server, &b"x"[..])).collect();
    let unsent = send_all(&mut ring, &sends);
    // The first bytes to a closed peer are taken; its reset comes back at once over loopback.
    assert!(unsent.len() >= 98, "{} reports", unsent.len());
    assert!(unsent.iter().all(|(_, result)| matches!(-result, libc::EPIPE | libc::ECONNRESET)));
    assert!(unsent.is_sorted_by_key(|(position, _)| *position));
}

#[test]
fn without_buffers_a_receive_ends_and_a_returned_buffer_starts_it_again() {
    let (mut ring, _wake) = ring(8, 64);
    let (server, mut client) = UnixStream::pair().unwrap();
    let conn = ConnId { index: 5, generation: 9 };
    client.write_all(&[1; 8 * 64 + 1]).unwrap();
    ring.recv(server.as_fd(), conn).unwrap();
    ring.harvest(1000).unwrap();
    let mut taken = Vec::new();
    let last = loop {
        let mut completion = ring.next_completion().unwrap();
        assert_eq!((completion.op(), completion.conn()), (Some(Op::Recv), conn));
        match completion.take_buffer() {
            Some(picked) => taken.push(picked),
            None => break completion,
        }
        assert!(completion.take_buffer().is_none());
    };
    assert_eq!(taken.len(), 8);
    assert_eq!((last.result, last.more()), (-libc::ENOBUFS, false));
    let given = taken.remove(3);
    ring.buffers.give_back(given);
    ring.recv(server.as_fd(), conn).unwrap();
    ring.harvest(1000).unwrap();
    let mut completion = ring.next_completion().unwrap();
    let again = completion.take_buffer().unwrap();
    assert_eq!(ring.buffers.filled(&again), [1]);
}

#[test]
fn what_is_accepted_does_not_delay_and_does_not_leak_into_children() {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    let (mut ring, _wake) = ring(8, 16);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    SockRef::from(&listener).set_tcp_nodelay(true).unwrap();
    ring.accept(listener.as_fd()).unwrap();
    let _clients = [(); 3].map(|()| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    ring.harvest(1000).unwrap();
    for _ in 0..3 {
        let completion = ring.next_completion().unwrap();
        assert!(completion.more());
        let fd = completion.into_accepted().unwrap();
        assert!(SockRef::from(&fd).tcp_nodelay().unwrap());
        assert_eq!(fcntl(&fd, FcntlArg::F_GETFD), Ok(FdFlag::FD_CLOEXEC.bits()));
    }
}

#[test]
fn a_cancelled_receive_says_so_and_a_cancel_of_nothing_too() {
    let (mut ring, _wake) = ring(8, 16);
    let (server, _client) = pair();
    let conn = ConnId { index: 0, generation: 3 };
    ring.recv(server.as_fd(), conn).unwrap();
    ring.cancel(Op::Recv, ConnId { index: 0, generation: 2 }).unwrap();
    ring.harvest(1000).unwrap();
    let missed = ring.next_completion().unwrap();
    assert_eq!((missed.op(), missed.result), (Some(Op::CancelRecv), -libc::ENOENT));
    ring.cancel(Op::Recv, conn).unwrap();
    ring.harvest(1000).unwrap();
    let last = ring.next_completion().unwrap();
    assert_eq!((last.op(), last.result, last.more()), (Some(Op::Recv), -libc::ECANCELED, false));
    assert!(ring.next_completion().is_none());
}

#[test]
fn a_quiet_ring_does_not_write_its_eventfd_and_still_knows_that_it_has_work() {
    use nix::sys::eventfd::EfdFlags;
    let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap();
    let sizes = Sizes { sq_entries: 8, cq_entries: 16, buffers: 8, buffer_bytes: 64 };
    let mut ring = DataRing::new(sizes, wake.as_fd()).unwrap();
    let (server, mut client) = pair();
    ring.recv(server.as_fd(), NOBODY).unwrap();
    ring.harvest(1000).unwrap();
    let _ = wake.read();
    ring.keep_quiet();
    client.write_all(b"x").unwrap();
    assert!(wake.read().is_err());
    ring.ring_again();
    ring.settle().unwrap();
    assert!(!ring.is_idle());
    assert_eq!(ring.next_completion().unwrap().result, 1);
    client.write_all(b"x").unwrap();
    assert!(wake.read().is_ok());
}

#[test]
fn who_sleeps_in_the_ring_is_woken_by_what_comes_by_the_eventfd_and_by_time() {
    let (mut ring, wake) = ring(8, 16);
    let (server, mut client) = pair();
    ring.sleep(wake.as_fd(), Some(1)).unwrap();
    assert!(ring.is_idle() && !ring.was_woken(), "the time was over");
    ring.recv(server.as_fd(), NOBODY).unwrap();
    // Without a time: what comes is what ends it. It comes before, or while the thread sleeps.
    thread::scope(|scope| {
        scope.spawn(|| client.write_all(b"x").unwrap());
        ring.sleep(wake.as_fd(), None).unwrap();
    });
    assert_eq!(ring.next_completion().unwrap().result, 1);
    assert!(ring.is_idle() && !ring.was_woken());
    thread::scope(|scope| {
        scope.spawn(|| wake.write(1).unwrap());
        ring.sleep(wake.as_fd(), None).unwrap();
    });
    assert!(!ring.is_idle(), "somebody has to look why");
    assert!(ring.was_woken() && !ring.was_woken());
    assert_eq!(wake.read().unwrap(), 1, "the ring itself has not written it");
    assert!(ring.is_idle());
    wake.write(1).unwrap();
    ring.sleep(wake.as_fd(), None).unwrap();
    assert!(ring.was_woken(), "a wake before the sleep counts, too");
}
