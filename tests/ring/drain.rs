//! Workers that are to let go of everybody, beside others that go on; and workers that are stuck.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ringroad::io::Options;

use crate::echo::Habits;
use crate::{PATIENCE, Server, connect_from, echoed, options, until};

/// Says one byte and hears it.
fn visit(n: u32, to: SocketAddr) -> std::io::Result<()> {
    let mut stream = connect_from(n, to)?;
    stream.write_all(b"x")?;
    let mut back = [0];
    stream.read_exact(&mut back)
}

#[test]
fn nobody_is_refused_while_a_listener_goes_and_another_one_comes() {
    let options = |listen| Options { listen: Some(listen), workers: 2, share_port: true, ..options() };
    let mut serving = Server::start(options(crate::loopback()), Habits::default());
    let addr = serving.addr;
    let over = Arc::new(AtomicBool::new(false));
    let visits = Arc::new(AtomicU32::new(0));
    let visitors: Vec<_> = (0..4)
        .map(|visitor| {
            let (over, visits) = (over.clone(), visits.clone());
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let number = visits.fetch_add(1, Ordering::Relaxed);
                    visit(visitor + 4 * number, addr).unwrap_or_else(|error| panic!("visit {number}: {error}"));
                }
            })
        })
        .collect();
    for round in 1..=5 {
        until("there is traffic", || visits.load(Ordering::Relaxed) > 20 * round);
        let next = Server::start(options(addr), Habits::default());
        let before = std::mem::replace(&mut serving, next);
        let running = before.running.as_ref().expect("it runs");
        running.drain(Duration::from_secs(60));
        assert!(running.wait(PATIENCE), "it ends when its last visitor has gone");
        assert_eq!(before.seen.lock().unwrap().drains, [60_000, 60_000]);
    }
    over.store(true, Ordering::Relaxed);
    visitors.into_iter().for_each(|visitor| visitor.join().expect("no visit failed"));
    serving.stop();
}

#[test]
fn workers_end_together_once_the_last_connection_has_gone() {
    let server = Server::start(Options { workers: 2, ..options() }, Habits::default());
    let stream = server.connect();
    let running = server.running.as_ref().expect("it runs");
    running.drain(Duration::from_secs(60));
    server.until("both are told", |seen| seen.drains.len() == 2);
    until("nobody listens", || TcpStream::connect(server.addr).is_err());
    assert_eq!(echoed(&stream, b"still here", || 3), b"still here");
    assert!(!running.wait(Duration::from_millis(100)));
    drop(stream);
    assert!(running.wait(PATIENCE));
}

#[test]
fn who_stays_beyond_the_time_is_stopped() {
    let server = Server::start(options(), Habits::default());
    let mut stream = server.connect();
    server.until("it is there", |seen| seen.open == 1);
    let running = server.running.as_ref().expect("it runs");
    running.drain(Duration::from_millis(1));
    assert!(running.wait(PATIENCE));
    assert_eq!(stream.read(&mut [0]).expect("its end"), 0);
}

#[test]
fn one_stuck_worker_of_several_is_found_and_the_others_answer() {
    let gate = Arc::new(Mutex::new(()));
    let habits = Habits { stuck_at: Some((b'#', gate.clone())), ..Habits::default() };
    let server = Server::start(Options { workers: 3, ..options() }, habits);
    let running = server.running.as_ref().expect("it runs");
    running.call();
    until("all answer although nothing happens", || running.silent().is_empty());
    let closed = gate.lock().expect("a gate");
    let stuck = server.connect();
    (&stuck).write_all(b"#").expect("sent");
    // Whichever has it: from now on it is silent, and alone.
    until("one is silent", || {
        running.call();
        let deadline = std::time::Instant::now() + Duration::from_secs(1);
        while running.silent().len() > 1 && std::time::Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        running.silent().len() == 1
    });
    drop(closed);
    until("all answer again", || {
        running.call();
        thread::sleep(Duration::from_millis(1));
        running.silent().is_empty()
    });
    drop(stuck);
    server.stop();
}
