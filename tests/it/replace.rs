//! `--replace`: a new process comes beside the old one, and nobody is refused.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use ringroad::drive::{self, DriveOptions, Report};

use crate::client::{Client, dial};
use crate::gateway::{Gateway, ringroad};
use crate::{PATIENCE, until};

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

/// The fleet that is also the judge: what is owed to each vehicle, and by whom, is known to the position.
#[test]
fn a_driving_fleet_is_refused_nothing_and_misses_nothing_but_its_own_move() {
    const VEHICLES: u32 = 60;
    const VIEWERS: u32 = 3;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let pid_file = directory.path().join("ringroad.pid").display().to_string();
    let mut serving = start("127.0.0.1:0", &pid_file);
    let addr = serving.addr;
    let (progress, inbox) = std::sync::mpsc::channel();
    let over = Arc::new(AtomicBool::new(false));
    let is_over = over.clone();
    let driving = thread::spawn(move || {
        let options = DriveOptions {
            url: format!("ws://{addr}/v2v"),
            vehicles: Some(VEHICLES),
            viewers: VIEWERS,
            hz: 5.0,
            seconds: Some(600.0),
            side_m: 800.0,
            ..DriveOptions::default()
        };
        drive::run(options, |report| {
            let _ = progress.send(report.clone());
            if is_over.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    });
    let until_report = |what: &str, is: &dyn Fn(&Report) -> bool| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let report = inbox.recv_timeout(left).unwrap_or_else(|_| panic!("waited in vain: {what}"));
            if is(&report) {
                return report;
            }
        }
    };
    let watched = |report: &Report| report.watched.iter().map(|watched| watched.owed).min().unwrap_or(0);
    let is_under_way = |report: &Report| report.tally.owed > 10_000 && watched(report) > 500;
    let begun = until_report("all drive and watch", &is_under_way);
    let (mut owed, mut seen) = (begun.tally.owed, watched(&begun));
    let (mut returned, mut viewers_returned) = (0, 0);
    for _ in 0..2 {
        let mut before = std::mem::replace(&mut serving, start(&addr.to_string(), &pid_file));
        until("the old one ends", || before.has_ended());
        assert_eq!(before.wait().code(), Some(0));
        let report = until_report("all are back", &|report| {
            report.returned >= returned + u64::from(VEHICLES)
                && report.viewers_returned >= viewers_returned + u64::from(VIEWERS)
        });
        (returned, viewers_returned) = (report.returned, report.viewers_returned);
        // And owed as much as before, once they are all on one gateway again.
        let on = until_report("they drive and watch on", &|report| {
            report.tally.owed > owed + 10_000 && watched(report) > seen + 500
        });
        (owed, seen) = (on.tally.owed, watched(&on));
    }
    until("all are there", || serving.vehicles() == u64::from(VEHICLES));
    over.store(true, Ordering::Relaxed);
    let report = driving.join().expect("no panic").expect("a drive");
    assert_eq!(report.registered, VEHICLES, "{report}");
    // Every connection that ended was closed in order and came back; none was refused, reset or left without a goodbye.
    assert_eq!(report.closes.keys().collect::<Vec<_>>(), ["1012 shutdown"], "{report}");
    assert_eq!(report.closes["1012 shutdown"], report.returned + report.viewers_returned, "{report}");
    assert!(report.errors.is_empty() && report.tally.wrong == 0, "{report}");
    for watched in &report.watched {
        assert_eq!(
            (watched.wrong, watched.duplicate, watched.backwards, watched.gone_unseen),
            (0, 0, 0, 0),
            "{report}"
        );
    }
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
