//! `--replace`: a new process comes beside the old one, and nobody is refused.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::client::{Client, dial};
use crate::gateway::{Gateway, ringroad};
use crate::until;

/// Asks for `/health` and reads whatever is answered, to its end.
fn status(addr: SocketAddr) -> String {
    let mut stream = dial(addr);
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a whole reply");
    reply.split(' ').nth(1).unwrap_or_default().to_owned()
}

fn start(addr: &str, pid_file: &str) -> Gateway {
    Gateway::start_with(&["--listen", addr, "--replace", pid_file], &["server.drain_ms=1500"], &[])
}

#[test]
fn a_rolling_restart_refuses_nobody_and_every_vehicle_is_back_in_time() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let pid_path = directory.path().join("ringroad.pid");
    let pid_file = pid_path.display().to_string();
    let mut serving = start("127.0.0.1:0", &pid_file);
    let addr = serving.addr;
    let mut vehicles: Vec<Client> = (0..40).map(|n| Client::connect(addr).register(&format!("car-{n}"))).collect();
    let over = Arc::new(AtomicBool::new(false));
    let visitors: Vec<_> = (0..2)
        .map(|_| {
            let over = over.clone();
            thread::spawn(move || {
                let mut answers = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    answers.push(status(addr));
                }
                answers
            })
        })
        .collect();
    for _ in 0..3 {
        let mut before = std::mem::replace(&mut serving, start(&addr.to_string(), &pid_file));
        assert_eq!(fs::read_to_string(&pid_path).expect("a file"), format!("{}\n", serving.pid()));
        // Each waits for its time, is closed, and comes back at once.
        let mut moved = vec![0; vehicles.len()];
        while moved.contains(&0) || !before.has_ended() {
            for (vehicle, moved) in vehicles.iter_mut().zip(&mut moved) {
                if vehicle.is_closed() {
                    assert_eq!(vehicle.closed(), (1012, "shutdown".to_owned()));
                    vehicle.expect("server_shutdown");
                    *vehicle = Client::connect(addr).register(&vehicle.id.clone());
                    *moved += 1;
                }
            }
            thread::yield_now();
        }
        assert_eq!(before.wait().code(), Some(0));
        // Who was back before the old listener was gone may have met it again, and then moved twice.
        assert!(moved.iter().all(|times| (1..=3).contains(times)), "{moved:?}");
        until("all are back", || serving.vehicles() == vehicles.len() as u64);
    }
    over.store(true, Ordering::Relaxed);
    let answers: Vec<String> = visitors.into_iter().flat_map(|visitor| visitor.join().expect("answered")).collect();
    assert!(answers.len() > 20 && answers.iter().all(|status| status == "200" || status == "503"), "{answers:?}");
    assert!(answers.last().is_some_and(|status| status == "200"));
    drop(vehicles);
    drop(serving);
    assert!(!pid_path.exists(), "the last one takes its file away");
}

#[test]
fn what_a_crash_has_left_stops_nobody_and_signals_nobody() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let pid_path = directory.path().join("ringroad.pid");
    let pid_file = pid_path.display().to_string();
    let crashed = start("127.0.0.1:0", &pid_file);
    crashed.crash();
    // Its id now belongs to somebody else, here to this test: which a signal would end.
    fs::write(&pid_path, format!("{}\n", std::process::id())).expect("written");
    let next = start("127.0.0.1:0", &pid_file);
    Client::connect(next.addr).register("car-1").goodbye();
    let log = next.stop();
    assert!(!log.contains("predecessor"), "{log}");
}

#[test]
fn another_port_owner_or_an_unusable_file_is_an_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let fails = |addr: &str, pid_file: &str, word: &str| {
        let output = ringroad(&["serve", "--workers", "1", "--listen", addr, "--replace", pid_file]).output();
        let output = output.expect("the binary runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(word), "{text}");
    };
    let other = Gateway::start(&[]);
    let unused = directory.path().join("unused.pid").display().to_string();
    fails(&other.addr.to_string(), &unused, "in use by another process");
    assert!(!std::path::Path::new(&unused).exists());
    fails("127.0.0.1:0", "/nonexistent/ringroad.pid", "/nonexistent/ringroad.pid");
}
