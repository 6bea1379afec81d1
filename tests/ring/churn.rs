//! Connections that come and go while others move into their places.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringroad::io::Options;
use socket2::SockRef;

use crate::echo::Habits;
use crate::{Numbers, PATIENCE, Server, connect_from, options};

/// Resets, so that neither side remembers the ports.
fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn no_bytes_of_one_connection_ever_reach_another() {
    // Enough for every descriptor to have had thousands of owners.
    let count = 500_000;
    let few = Options { buffers: 64, buffer_bytes: 128, ..options() };
    let server = Server::start(few, Habits::default());
    let next = AtomicU32::new(0);
    let begun = Instant::now();
    thread::scope(|scope| {
        for thread in 0..4 {
            let (server, next) = (&server, &next);
            scope.spawn(move || {
                let mut numbers = Numbers(thread + 1);
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return;
                    }
                    let mut stream = connect_from(n, server.addr).unwrap();
                    // A token that is this connection's alone, in every eight bytes.
                    let token = (u64::from(n) << 8 | 0x5a).to_le_bytes().repeat(1 + numbers.below(60));
                    stream.write_all(&token).unwrap();
                    // A third leaves at once, so that its bytes are under way while its place is taken; a third
                    // reads a part; a third reads all.
                    let len = [0, token.len() / 2, token.len()][numbers.below(3)];
                    let mut back = vec![0; len];
                    stream.read_exact(&mut back).unwrap();
                    assert_eq!(back, token[..len], "connection {n}");
                    reset(stream);
                }
            });
        }
    });
    println!("{count} connections in {:?}", begun.elapsed());
    // Some were gone before they could be accepted.
    server.until("all are closed", |seen| {
        seen.open == 0 && seen.shell.accepts + seen.shell.accept_errors == u64::from(count)
    });
    let seen = server.stop();
    assert_eq!(seen.shell.accepts, seen.shell.closes);
    assert!(seen.open_max < 1_000, "places were reused: {}", seen.open_max);
}

/// The server gives connections up while bytes arrive, sends are blocked, and receives starve.
fn given_up_in_the_middle(options: Options, habits: Habits) {
    let enough = 2 * habits.release_after_bytes;
    let server = Server::start(options, habits);
    let received = AtomicU64::new(0);
    thread::scope(|scope| {
        for client in 0..24 {
            let (server, received) = (&server, &received);
            scope.spawn(move || {
                for round in 0..40 {
                    let byte = (client * 40 + round) as u8;
                    let stream = server.connect();
                    stream.set_nonblocking(true).unwrap();
                    let (noise, mut back) = ([byte; 3000], [0; 3000]);
                    let (mut sent, mut total, mut turn) = (0, 0, 0);
                    let begun = Instant::now();
                    // Reads little, so that sends are blocked when the end comes; says nothing after it, so that only
                    // a close can tell.
                    loop {
                        assert!(begun.elapsed() < PATIENCE, "given up, but never closed");
                        let mut stuck = true;
                        if sent < enough {
                            match (&stream).write(&noise) {
                                Ok(len) => (sent, stuck) = (sent + len, false),
                                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                                Err(_) => break,
                            }
                        }
                        turn += 1;
                        if turn % 3 == 0 || stuck {
                            match (&stream).read(&mut back) {
                                Ok(0) => break,
                                Ok(len) => {
                                    assert!(back[..len].iter().all(|seen| *seen == byte), "bytes of someone else");
                                    total += len;
                                }
                                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
                                Err(_) => break,
                            }
                        }
                    }
                    received.fetch_add(total as u64, Ordering::Relaxed);
                }
            });
        }
    });
    server.until("all are closed", |seen| seen.open == 0 && seen.shell.closes == 24 * 40);
    let seen = server.stop();
    println!("{} bytes came back; {:?}", received.into_inner(), seen.shell);
    assert_eq!((seen.shell.accepts, seen.shell.closes), (24 * 40, 24 * 40));
}

#[test]
fn a_connection_may_be_given_up_while_bytes_arrive() {
    given_up_in_the_middle(options(), Habits { release_after_bytes: 50_000, ..Habits::default() });
}

#[test]
fn a_connection_may_be_given_up_while_its_sends_are_blocked() {
    let options = Options { send_buffer_bytes: 4096, ..options() };
    given_up_in_the_middle(options, Habits { release_after_bytes: 200_000, times: 3, ..Habits::default() });
}

#[test]
fn a_connection_may_be_given_up_while_it_starves_in_a_tiny_ring() {
    let tiny = Options { sq_entries: 8, cq_entries: 16, buffers: 4, buffer_bytes: 256, ..options() };
    given_up_in_the_middle(tiny, Habits { release_after_bytes: 50_000, ..Habits::default() });
}
