//! A reader that does not read pays for it; its neighbours do not notice.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use ringroad::wire::frame::{Opcode, encode_masked};
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::client::{Client, expect_all};
use crate::fleet::Fleet;
use crate::gateway::Gateway;
use crate::{PATIENCE, until};

/// A client for which the kernel keeps as little as it can.
fn narrow(addr: SocketAddr) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("settable");
    socket.connect(&addr.into()).expect("it listens");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    Client::over(stream)
}

/// Bytes between the gateway and a client that are in the kernel's hands: `tx_queue` of one end, written and not
/// acknowledged, and `rx_queue` of the other, arrived and not read.
fn in_the_kernel(client: &Client) -> usize {
    let stream = client.socket.get_ref();
    let ends = [stream.peer_addr(), stream.local_addr()].map(|end| match end.expect("connected") {
        SocketAddr::V4(end) => format!("{:08X}:{:04X}", u32::from(*end.ip()).swap_bytes(), end.port()),
        SocketAddr::V6(end) => panic!("{end} is in another table"),
    });
    let table = fs::read_to_string("/proc/net/tcp").expect("readable");
    let queues = |local: &str, remote: &str| {
        let sockets = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        let mut of_both = sockets.filter(|fields| fields[1] == local && fields[2] == remote);
        let (tx, rx) = of_both.next().expect("a connected socket")[4].split_once(':').expect("two queues");
        [tx, rx].map(|bytes| usize::from_str_radix(bytes, 16).expect("a number"))
    };
    let ([sent, _], [_, arrived]) = (queues(&ends[0], &ends[1]), queues(&ends[1], &ends[0]));
    sent + arrived
}

/// Whether the fleet has heard that this vehicle is gone.
fn is_gone(witness: &mut Client, id: &str) -> bool {
    witness.take_in();
    let gone = |event: &crate::client::Event| {
        event.name == "presence_update" && event.data["vehicleId"] == id && event.data["status"] == "offline"
    };
    witness.backlog.iter().any(gone)
}

/// Says something again and again until the slow one is closed; meanwhile the others are answered at once.
fn flood(fleet: &mut Fleet, slow: &mut Client, mut say: impl FnMut(&mut Client)) {
    let id = slow.id.clone();
    let deadline = Instant::now() + PATIENCE;
    let mut slowest = Duration::ZERO;
    while !is_gone(&mut fleet.vehicles[0], &id) {
        assert!(Instant::now() < deadline, "the slow reader is never closed");
        for vehicle in &mut fleet.vehicles {
            say(vehicle);
        }
        for vehicle in &mut fleet.vehicles {
            let begun = Instant::now();
            let said = vehicle.sync();
            slowest = slowest.max(begun.elapsed());
            // Nothing but the news of this kind is kept.
            vehicle.backlog.extend(said.into_iter().filter(|event| event.name == "presence_update"));
        }
    }
    assert!(slowest < Duration::from_secs(2), "a neighbour waited {slowest:?}");
    // What the kernel has taken is whole, and behind it comes the reason.
    assert_eq!(slow.closed(), (4008, "slow".to_owned()));
    expect_all(&mut fleet.vehicles, "presence_update", |data| {
        data["vehicleId"] == id.as_str() && data["status"] == "offline"
    });
}

#[test]
fn who_takes_no_messages_is_closed_with_4008() {
    let gateway = Gateway::start(&["limits.outbox_bytes_max=70000"]);
    let mut fleet = Fleet::register(&gateway, 3);
    for n in 0..3 {
        let mut slow = narrow(gateway.addr).register(&format!("slow-{n}"));
        let id = slow.id.clone();
        let filling = "x".repeat(30_000);
        flood(&mut fleet, &mut slow, |vehicle| {
            vehicle.send("call_initiate", json!({"callerId": vehicle.id, "calleeId": id, "filling": filling}));
        });
        let got = slow.backlog.iter().filter(|event| event.name == "call_initiate");
        assert!(got.clone().count() > 0);
        assert!(got.into_iter().all(|event| event.data["filling"] == filling.as_str()));
    }
    assert_eq!(gateway.metric("ringroad_connections_closed_total{reason=\"slow\"}"), 3);
    assert_eq!(gateway.metric("ringroad_slow_readers_total{queue=\"outbox\"}"), 3);
}

#[test]
fn who_takes_no_alerts_is_closed_with_4008() {
    let gateway = Gateway::start(&["limits.broadcast_log_bytes=65536"]);
    let mut fleet = Fleet::register(&gateway, 3);
    for n in 0..2 {
        let mut slow = narrow(gateway.addr).register(&format!("slow-{n}"));
        let filling = "x".repeat(2_000);
        let mut count = 0;
        flood(&mut fleet, &mut slow, |vehicle| {
            // All of one round, 24 KB, is less than a reader may be behind: the others read after it.
            for _ in 0..4 {
                count += 1;
                vehicle.send(
                    "emergency_alert",
                    json!({"senderId": vehicle.id, "vehicleInfo": {"n": count, "filling": filling}}),
                );
            }
        });
        let got = slow.backlog.iter().filter(|event| event.name == "emergency_alert").count();
        assert!(got > 0 && got < count, "{got} of {count}");
    }
    assert_eq!(gateway.metric("ringroad_connections_closed_total{reason=\"slow\"}"), 2);
    assert_eq!(gateway.metric("ringroad_slow_readers_total{queue=\"log\"}"), 2);
}

#[test]
fn who_falls_behind_within_the_bounds_misses_nothing_but_old_positions() {
    let gateway = Gateway::start(&["vehicles.flush_ms=0"]);
    let mut fleet = Fleet::register(&gateway, 2);
    let mut slow = narrow(gateway.addr).register("slow");
    slow.locate(50.0, 8.0);
    for vehicle in &mut fleet.vehicles {
        vehicle.locate(50.0, 8.0);
    }
    for vehicle in &fleet.vehicles {
        slow.expect_that("proximity_event", |data| data["peerVehicleId"] == vehicle.id.as_str());
    }
    // Until the kernel takes no more; what waits then is far below the bound.
    let sender = &mut fleet.vehicles[0];
    let filling = "x".repeat(30_000);
    let mut calls = 0;
    while gateway.metric("ringroad_sends_blocked_total") == 0 {
        calls += 1;
        assert!(calls < 1_000, "the kernel takes no end of bytes");
        sender.send("call_initiate", json!({"callerId": sender.id, "calleeId": "slow", "filling": filling}));
        sender.sync();
    }
    // What goes to everyone must not come between the two parts of a frame that the kernel has cut.
    const ALERTS: usize = 10;
    for _ in 0..ALERTS {
        sender.send("emergency_alert", json!({"senderId": sender.id}));
        sender.sync();
    }
    const STEPS: usize = 500;
    let lat = |step: usize| 50.0 + step as f64 * 1e-7;
    for step in 1..=STEPS {
        for vehicle in &mut fleet.vehicles {
            vehicle.locate(lat(step), 8.0);
        }
    }
    for vehicle in &mut fleet.vehicles {
        vehicle.sync();
    }
    for vehicle in &fleet.vehicles {
        slow.expect_that("peer_location", |data| {
            data["vehicleId"] == vehicle.id.as_str()
                && (data["lat"].as_f64().expect("a number") - lat(STEPS)).abs() < 5e-8
        });
    }
    let got = slow.sync();
    let count = |name: &str| got.iter().filter(|event| event.name == name).count();
    assert_eq!((count("call_initiate"), count("emergency_alert")), (calls, ALERTS));
    assert!(count("peer_location") < STEPS / 10, "{} positions were queued", count("peer_location"));
    assert_eq!(gateway.metric("ringroad_connections_closed_total{reason=\"slow\"}"), 0);
}

#[test]
fn who_pings_and_takes_no_pongs_is_closed() {
    let gateway = Gateway::start(&["limits.outbox_bytes_max=70000"]);
    let mut fleet = Fleet::register(&gateway, 2);
    let slow = narrow(gateway.addr).register("slow");
    let mut ping = Vec::new();
    encode_masked(&mut ping, Opcode::Ping, [1, 2, 3, 4], &[b'x'; 125]);
    let pings = ping.repeat(500);
    // A gateway that closes for real resets what is still being sent.
    let flooding = slow.socket.get_ref().try_clone().expect("a second descriptor");
    let flooder = thread::spawn(move || while (&flooding).write_all(&pings).is_ok() {});
    expect_all(&mut fleet.vehicles, "presence_update", |data| {
        data["vehicleId"] == "slow" && data["status"] == "offline"
    });
    until("it is closed", || gateway.metric("ringroad_connections_closed_total{reason=\"slow\"}") == 1);
    assert_eq!(gateway.metric_sum("ringroad_slow_readers_total"), 1);
    for vehicle in &mut fleet.vehicles {
        vehicle.sync();
    }
    flooder.join().expect("no panic");
}

#[test]
fn positions_that_nobody_takes_are_kept_neither_by_the_gateway_nor_by_the_kernel() {
    const UNSENT: usize = 16 * 1024;
    // What the kernel takes beyond: it fills a segment that was begun, and a reader this narrow is offered only short
    // ones; and what has arrived.
    const BEYOND: usize = 16 * 1024;
    // One is at least as long.
    const POSITION: usize = 100;
    let gateway = Gateway::start(&["vehicles.flush_ms=0", &format!("limits.unsent_bytes_max={UNSENT}")]);
    let mut fleet = Fleet::register(&gateway, 10);
    let mut slow = narrow(gateway.addr).register("slow");
    slow.locate(50.0, 8.0);
    for vehicle in &mut fleet.vehicles {
        vehicle.locate(50.0, 8.0);
    }
    for vehicle in &fleet.vehicles {
        slow.expect_that("proximity_event", |data| data["peerVehicleId"] == vehicle.id.as_str());
    }
    slow.take_in();
    slow.backlog.clear();
    const STEPS: usize = 300;
    let lat = |step: usize| 50.0 + step as f64 * 1e-7;
    let is_at = |data: &serde_json::Value, step| (data["lat"].as_f64().expect("a number") - lat(step)).abs() < 5e-8;
    for step in 1..=STEPS {
        for vehicle in &mut fleet.vehicles {
            vehicle.locate(lat(step), 8.0);
        }
        // A neighbour that reads has each step before the next.
        let (first, others) = fleet.vehicles.split_at_mut(1);
        for other in others {
            first[0].expect_that("peer_location", |data| data["vehicleId"] == other.id.as_str() && is_at(data, step));
        }
        for vehicle in &mut fleet.vehicles {
            vehicle.take_in();
            vehicle.backlog.clear();
        }
    }
    assert_eq!(gateway.metric("ringroad_connections_blocked"), 1);
    let kept = in_the_kernel(&slow);
    let sent = STEPS * fleet.vehicles.len() * POSITION;
    assert!((UNSENT / 2..=UNSENT + BEYOND).contains(&kept), "{kept} bytes are kept of {sent}");
    const { assert!(STEPS * 10 * POSITION > 4 * (UNSENT + BEYOND)) };

    // It reads again: what the kernel had, then the flush that was cut, and one with the newest of all.
    let mut newest = 0;
    let mut positions = 0;
    while newest < fleet.vehicles.len() {
        let position = slow.expect("peer_location");
        positions += 1;
        newest += usize::from(is_at(&position, STEPS));
    }
    let most = kept / POSITION + 2 * fleet.vehicles.len();
    assert!(positions <= most, "{positions} positions out of {kept} bytes and two flushes");
    assert!(slow.sync().iter().all(|event| event.name != "peer_location"));
    assert_eq!(gateway.metric("ringroad_connections_blocked"), 0);
    assert_eq!(gateway.metric_sum("ringroad_slow_readers_total"), 0);
}

#[test]
fn who_takes_nothing_but_pings_is_answered_when_it_reads() {
    let gateway = Gateway::start(&["limits.outbox_bytes_max=140000"]);
    let mut fleet = Fleet::register(&gateway, 1);
    let mut slow = narrow(gateway.addr).register("slow");
    let sender = &mut fleet.vehicles[0];
    let filling = "x".repeat(30_000);
    let mut calls = 0;
    // The outbox holds the rest of the last one, and up to three more: the metric comes late.
    while gateway.metric("ringroad_connections_blocked") == 0 {
        calls += 1;
        assert!(calls < 1_000, "the kernel takes no end of bytes");
        sender.send("call_initiate", json!({"callerId": sender.id, "calleeId": "slow", "filling": filling}));
        sender.sync();
    }
    calls += 1;
    sender.send("call_initiate", json!({"callerId": sender.id, "calleeId": "slow", "filling": filling}));
    sender.sync();
    const PINGS: usize = 30;
    let mut ping = Vec::new();
    encode_masked(&mut ping, Opcode::Ping, [1, 2, 3, 4], &[b'x'; 125]);
    let before = gateway.metric("ringroad_received_bytes_total");
    slow.raw(&ping.repeat(PINGS));
    until("the pings are heard", || {
        gateway.metric("ringroad_received_bytes_total") >= before + (ping.len() * PINGS) as u64
    });
    assert_eq!(slow.pongs, 0, "it has not read");
    let got = slow.sync();
    assert_eq!(got.iter().filter(|event| event.name == "call_initiate").count(), calls);
    assert_eq!(slow.pongs, PINGS);
    assert_eq!(gateway.metric("ringroad_connections_closed_total{reason=\"slow\"}"), 0);
}
