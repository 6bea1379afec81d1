//! Byte streams stay whole, whatever runs out underneath them.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use ringroad::io::Options;

use crate::echo::Habits;
use crate::{Numbers, PATIENCE, Server, echoed, options};

/// `clients` connections at once, each with `len` bytes of its own.
fn all_come_back(server: &Server, clients: u64, len: usize) {
    thread::scope(|scope| {
        for client in 0..clients {
            scope.spawn(move || {
                let mut numbers = Numbers(client + 1);
                let bytes = numbers.bytes(len);
                let stream = server.connect();
                let back = echoed(&stream, &bytes, || 1 + numbers.below(2000));
                assert!(back == bytes, "client {client} got other bytes than it sent");
            });
        }
    });
}

#[test]
fn receive_buffers_may_run_out() {
    let server = Server::start(Options { buffers: 8, buffer_bytes: 64, ..options() }, Habits::default());
    all_come_back(&server, 32, 40_000);
    let seen = server.stop();
    assert!(seen.shell.buffers_exhausted > 0, "{:?}", seen.shell);
    assert_eq!(seen.shell.recv_bytes, 32 * 40_000);
    assert_eq!(seen.shell.sent_bytes, 32 * 40_000);
}

#[test]
fn one_receive_buffer_is_enough() {
    let server = Server::start(Options { buffers: 1, buffer_bytes: 1, ..options() }, Habits::default());
    all_come_back(&server, 4, 500);
    server.stop();
}

#[test]
fn the_completion_queue_may_overflow() {
    let tiny = Options { sq_entries: 8, cq_entries: 16, buffer_bytes: 64, ..options() };
    let server = Server::start(tiny, Habits::default());
    all_come_back(&server, 64, 20_000);
    let seen = server.stop();
    assert!(seen.shell.cq_overflows > 0, "{:?}", seen.shell);
    assert_eq!((seen.shell.accepts, seen.shell.closes), (64, 64));
}

#[test]
fn every_length_at_many_splits_comes_back_byte_for_byte() {
    let server = Server::start(options(), Habits::default());
    let stream = server.connect();
    let mut numbers = Numbers(7);
    let lengths = (1..=24).chain([63, 64, 65, 511, 512, 513, 1023, 1024, 1025, 4096, 16_384, 65_535, 65_537, 200_000]);
    for len in lengths {
        let bytes = numbers.bytes(len);
        for pieces in [len, 1 + len / 2, 512, 511, 513, 64, 7, 1] {
            // One byte at a time is for short ones; each piece is a packet.
            if pieces <= len && len / pieces <= 2_000 {
                assert!(echoed(&stream, &bytes, || pieces) == bytes, "{len} bytes in pieces of {pieces}");
            }
        }
        let mut split = Numbers(len as u64);
        assert!(echoed(&stream, &bytes, || 1 + split.below(1 + len / 3)) == bytes, "{len} bytes in random pieces");
    }
    server.stop();
}

/// Writes until the server takes no more, because we read nothing; then reads everything.
fn slow_reader(habits: Habits) {
    let times = habits.times;
    let server = Server::start(Options { send_buffer_bytes: 16 * 1024, ..options() }, habits);
    let bytes = Numbers(3).bytes(3_000_000);
    let stream = server.connect();
    thread::scope(|scope| {
        scope.spawn(|| (&stream).write_all(&bytes).unwrap());
        server.until("a send is blocked", |seen| seen.shell.sends_blocked > 0);
        // A neighbour does not notice.
        assert_eq!(echoed(&server.connect(), b"neighbour", || 9), b"neighbour".repeat(times.max(1))[..9]);
        server.until("everything was received", |seen| seen.shell.recv_bytes >= bytes.len() as u64);
        let mut back = vec![0; bytes.len()];
        (&stream).read_exact(&mut back).unwrap();
        assert!(back == bytes);
    });
    let seen = server.stop();
    assert!(seen.writables > 1, "{:?}", seen.shell);
}

#[test]
fn a_slow_reader_gets_the_exact_rest() {
    slow_reader(Habits::default());
}

#[test]
fn a_slow_reader_of_the_log_gets_the_exact_rest() {
    slow_reader(Habits { from_log: true, ..Habits::default() });
}

#[test]
fn many_slow_readers_in_one_turn_get_each_its_own_rest() {
    let small = Options { send_buffer_bytes: 8 * 1024, sq_entries: 8, cq_entries: 16, ..options() };
    let server = Server::start(small, Habits { times: 64, ..Habits::default() });
    let streams: Vec<_> = (0..40).map(|_| server.connect()).collect();
    let sent: Vec<_> = (0..40).map(|n| Numbers(n + 1).bytes(10_000)).collect();
    for (stream, bytes) in streams.iter().zip(&sent) {
        (&*stream).write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    }
    server.until("all are blocked", |seen| seen.shell.sends_blocked >= 40);
    thread::scope(|scope| {
        for (stream, bytes) in streams.iter().zip(&sent) {
            scope.spawn(move || {
                let mut back = Vec::new();
                (&*stream).read_to_end(&mut back).unwrap();
                // Each chunk of bytes came back 64 times; how they were cut is the server's affair.
                assert_eq!(back.len(), bytes.len() * 64);
                let mut rest = &back[..];
                let mut left = &bytes[..];
                while !left.is_empty() {
                    let period = (1..=left.len())
                        .find(|len| rest[..len * 64].chunks(*len).all(|chunk| chunk == &left[..*len]))
                        .expect("some chunk comes back 64 times");
                    rest = &rest[period * 64..];
                    left = &left[period..];
                }
            });
        }
    });
    server.stop();
}

/// The peer's end of stream comes after everything it sent, and ours after everything we send.
#[test]
fn a_half_closed_connection_still_gets_its_answer() {
    let server = Server::start(Options { send_buffer_bytes: 16 * 1024, ..options() }, Habits::default());
    let bytes = Numbers(5).bytes(1_000_000);
    let stream = server.connect();
    thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        (&stream).read_to_end(&mut back).unwrap();
        assert!(back == bytes);
    });
    server.stop();
}

/// What does not happen takes time to see: this is the one test that just waits.
#[test]
fn a_worker_with_nothing_to_do_sleeps() {
    let server = Server::start(Options { buffers: 8, buffer_bytes: 64, ..options() }, Habits::default());
    all_come_back(&server, 32, 10_000);
    let streams: Vec<_> = (0..100).map(|_| server.connect()).collect();
    server.until("all are there", |seen| seen.open == 100);
    thread::sleep(Duration::from_millis(100));
    let pumps = || server.seen.lock().unwrap().shell.pumps;
    let before = pumps();
    thread::sleep(Duration::from_millis(300));
    assert!(pumps() - before <= 2, "{} runs of the pump for nothing", pumps() - before);
    drop(streams);
    server.stop();
}

/// A byte that finds the worker on its way to sleep still wakes it.
#[test]
fn no_wake_up_is_lost() {
    let server = Server::start(options(), Habits::default());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut stream = server.connect();
                for n in 0..30_000u32 {
                    stream.write_all(&[n as u8]).unwrap();
                    let mut back = [0];
                    stream.read_exact(&mut back).expect("no answer: the worker sleeps");
                    assert_eq!(back, [n as u8]);
                }
            });
        }
    });
    server.stop();
}

/// One worker that always has something to do, with connections that never pause.
#[test]
fn a_worker_under_full_load_still_accepts() {
    let server = Server::start(options(), Habits { restless: true, ..Habits::default() });
    let over = std::sync::atomic::AtomicBool::new(false);
    let accepted_turns = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let stream = server.connect();
                let (mut noise, mut back) = ([7; 4096], [0; 65_536]);
                stream.set_nonblocking(true).unwrap();
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    for result in [(&stream).write(&noise), (&stream).read(&mut back)] {
                        match result {
                            Ok(_) => noise[0] = noise[0].wrapping_add(1),
                            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                        }
                    }
                }
            });
        }
        server.until("the load is on", |seen| seen.shell.recv_bytes > 1_000_000);
        let pumps = || server.seen.lock().unwrap().shell.pumps;
        let mut most = 0;
        for n in 0..200u32 {
            let (before, begun) = (pumps(), Instant::now());
            let stream = server.connect();
            assert_eq!(echoed(&stream, &n.to_le_bytes(), || 4), n.to_le_bytes());
            assert!(begun.elapsed() < PATIENCE / 6, "an accept took {:?}", begun.elapsed());
            most = most.max(pumps() - before);
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        most
    });
    println!("connect, accept, echo within at most {accepted_turns} runs of the pump");
    let seen = server.stop();
    assert!(seen.shell.budgets_spent > 0);
}

/// The timers of monoio, and with them deadlines and Redis, get their turn under load too.
#[test]
fn a_restless_core_does_not_stop_the_clock() {
    let server = Server::start(options(), Habits { restless: true, ..Habits::default() });
    let before = server.seen.lock().unwrap().shell.pumps;
    server.until("it runs", |seen| seen.shell.pumps > before + 100);
    let begun = Instant::now();
    server.stop();
    assert!(begun.elapsed() < Duration::from_secs(1));
}
