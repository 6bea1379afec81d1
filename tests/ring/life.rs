//! Start and stop, and what can go wrong with either.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringroad::io::{Failed, Options, StartError, signals, start};

use crate::echo::{Echo, Habits, Seen};
use crate::fleet::{child_with_signals_blocked, line_with};
use crate::{PATIENCE, Server, echoed, options, until};

fn refused(options: Options) -> String {
    match start(options, |_| Echo::default()) {
        Ok(_) => panic!("it started"),
        Err(error) => {
            assert!(matches!(error, StartError::Listen { .. }), "{error}");
            error.to_string()
        }
    }
}

#[test]
fn a_port_in_use_is_an_error_that_says_so() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let error = refused(Options { listen: Some(addr), ..options() });
    assert!(error.contains("in use") && error.contains(&addr.to_string()), "{error}");
}

#[test]
fn a_second_gateway_on_the_port_is_an_error_unless_it_is_meant() {
    let server = Server::start(Options { workers: 2, ..options() }, Habits::default());
    let error = refused(Options { listen: Some(server.addr), ..options() });
    assert!(error.contains("in use"), "{error}");
    let sharing = Options { listen: Some(server.addr), share_port: true, ..options() };
    let second = start(sharing, |_| Echo::default()).unwrap();
    second.stop();
    second.join().unwrap();
    server.stop();
}

#[test]
fn an_address_of_nobody_is_an_error_that_says_so() {
    let error = refused(Options { listen: Some("192.0.2.1:9000".parse().unwrap()), ..options() });
    assert!(error.contains("no interface"), "{error}");
}

#[test]
fn a_port_can_be_used_again_at_once() {
    let server = Server::start(options(), Habits::default());
    let addr = server.addr;
    let stream = server.connect();
    assert_eq!(echoed(&stream, b"x", || 1), b"x");
    server.stop();
    let again = Server::start(Options { listen: Some(addr), ..options() }, Habits::default());
    assert_eq!(echoed(&again.connect(), b"y", || 1), b"y");
    again.stop();
}

#[test]
fn several_workers_share_one_port_and_one_clock() {
    let server = Server::start(Options { workers: 3, ..options() }, Habits::default());
    assert_eq!(server.running.as_ref().unwrap().workers(), 3);
    let streams: Vec<TcpStream> = (0..60).map(|_| server.connect()).collect();
    for (n, stream) in (0u8..).zip(&streams) {
        assert_eq!(echoed(stream, &[n], || 1), [n]);
    }
    server.stop();
}

#[test]
fn stop_closes_the_listener_and_every_connection() {
    let server = Server::start(options(), Habits::default());
    let addr = server.addr;
    let mut streams: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
    server.until("all are there", |seen| seen.open == 100);
    server.stop();
    for stream in &mut streams {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    assert_eq!(TcpStream::connect(addr).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_core_that_does_not_say_goodbye_is_ended_after_its_time() {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let view = seen.clone();
    let habits = Habits { stubborn: true, ..Habits::default() };
    let running = start(options(), move |_| Echo::new(habits.clone(), view.clone())).unwrap();
    let mut stream = TcpStream::connect(running.addr().unwrap()).unwrap();
    until("it is there", || seen.lock().unwrap().open == 1);
    let begun = Instant::now();
    running.stop();
    assert!(!running.wait(Duration::from_millis(500)));
    assert!(running.wait(PATIENCE));
    assert!(begun.elapsed() >= Duration::from_millis(1_900), "{:?}", begun.elapsed());
    running.join().unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
}

#[test]
fn a_panic_ends_all_workers_and_is_reported() {
    let habits = Habits { panic_at: Some(b'!'), ..Habits::default() };
    let seen = Arc::<Mutex<Seen>>::default();
    let running = start(Options { workers: 3, ..options() }, move |_| Echo::new(habits.clone(), seen.clone())).unwrap();
    let mut stream = TcpStream::connect(running.addr().unwrap()).unwrap();
    stream.write_all(b"!").unwrap();
    assert!(running.wait(PATIENCE));
    let failed = running.join().unwrap_err();
    assert!(matches!(&failed, Failed::Panicked { message, .. } if message == "asked to panic"), "{failed}");
}

#[test]
fn a_panic_while_a_core_is_made_is_a_start_error() {
    let made = start(Options { workers: 3, ..options() }, |shard| {
        assert_ne!(shard.0, 1, "no second worker");
        Echo::default()
    });
    let Err(StartError::Panicked { worker, message }) = made else { panic!("it started") };
    assert_eq!(worker.0, 1);
    assert!(message.contains("no second worker"));
}

#[test]
fn the_first_signal_is_told_and_the_second_ends_the_process() {
    let mut server = child_with_signals_blocked("life::server_with_signals");
    let pid = Pid::from_raw(server.id() as i32);
    let line = line_with(&mut server, "listens on ");
    let addr: SocketAddr = line.rsplit(' ').next().unwrap().parse().unwrap();
    drop(TcpStream::connect(addr).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    line_with(&mut server, "SIGTERM");
    kill(pid, Signal::SIGINT).unwrap();
    until("it has ended", || server.try_wait().unwrap().is_some());
    let status = server.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::SIGINT as i32));
}

#[test]
#[ignore = "the other process of the_first_signal_is_told_and_the_second_ends_the_process"]
fn server_with_signals() {
    signals::block().unwrap();
    let server = Server::start(options(), Habits { stubborn: true, ..Habits::default() });
    println!("listens on {}", server.addr);
    let ear = signals::Ear::listen().unwrap();
    println!("{:?}", ear.hear(server.running.as_ref().unwrap(), None).unwrap());
    let _ = std::io::stdin().read(&mut [0]);
}
