//! The door: what proxies say about addresses, limits per address, the pace of handshakes, and those who say nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ringroad::sim::HANDSHAKE;
use serde_json::json;

use crate::client::{Client, dial};
use crate::gateway::Gateway;
use crate::until;

/// What the connection is answered, up to the end of the head, or of the connection.
fn answer(addr: SocketAddr, bytes: &[u8]) -> (TcpStream, String) {
    let mut stream = dial(addr);
    stream.write_all(bytes).expect("sent");
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("an answer or an end") == 1 {
        head.push(byte[0]);
    }
    (stream, String::from_utf8(head).expect("ASCII"))
}

/// Connects 40 times; those that were let in, and the answers to the others.
fn crowd(addr: SocketAddr, bytes: &[u8]) -> (Vec<TcpStream>, Vec<String>) {
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        match answer(addr, bytes) {
            (stream, head) if head.starts_with("HTTP/1.1 101 ") => taken.push(stream),
            (_, head) => refused.push(head),
        }
    }
    (taken, refused)
}

/// A PROXY header, version 2, and a handshake.
fn through_a_balancer(client: [u8; 4]) -> Vec<u8> {
    let ends = [&client[..], &[127, 0, 0, 1, 0xc3, 0x50, 0x0b, 0xba]].concat();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &ends[..], HANDSHAKE.as_bytes()].concat()
}

fn through_a_proxy(client: [u8; 4]) -> Vec<u8> {
    let client = client.map(|part| part.to_string()).join(".");
    let line = format!("Host: sim\r\nX-Forwarded-For: 198.51.100.1, {client}\r\n");
    HANDSHAKE.replace("Host: sim\r\n", &line).into_bytes()
}

/// Of one address each of the two workers takes one connection; it gets none of 40 with p < 10^-11.
#[test]
fn clients_behind_a_proxy_are_limited_each_by_itself() {
    type Through = fn([u8; 4]) -> Vec<u8>;
    for (key, through) in [
        ("admission.proxy_protocol=true", through_a_balancer as Through),
        ("admission.forwarded_for=true", through_a_proxy as Through),
    ] {
        let trusted = "admission.trusted_proxies=['127.0.0.0/8']";
        let gateway = Gateway::start(&["admission.conns_per_address_max=1", trusted, key]);
        let (mut ours, refused) = crowd(gateway.addr, &through([192, 0, 2, 1]));
        assert_eq!((ours.len(), refused.len()), (2, 38), "{key}");
        for head in &refused {
            assert!(head.starts_with("HTTP/1.1 429 ") && head.contains("\r\nRetry-After: 5\r\n"), "{key}: {head}");
        }
        let (theirs, _) = crowd(gateway.addr, &through([192, 0, 2, 2]));
        assert_eq!(theirs.len(), 2, "{key}");
        // Through the proxy they are vehicles like any.
        let mut client = Client::of_stream(ours.pop().expect("two")).register("fronted");
        client.send("heartbeat", json!({}));
        client.expect("heartbeat_ack");
        // Who leaves makes room.
        client.goodbye();
        until("there is room for one", || {
            answer(gateway.addr, &through([192, 0, 2, 1])).1.starts_with("HTTP/1.1 101 ")
        });
    }
}

#[test]
fn a_balancer_that_does_not_say_whose_it_is_gets_no_word() {
    let gateway = Gateway::start(&["admission.proxy_protocol=true", "admission.trusted_proxies=127.0.0.1"]);
    let (_, head) = answer(gateway.addr, HANDSHAKE.as_bytes());
    assert_eq!(head, "");
    let (_, head) = answer(gateway.addr, HANDSHAKE.as_bytes());
    assert_eq!(head, "");
    // Its health checks begin with LOCAL, and so does this look at the metrics.
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    let (mut stream, head) = answer(gateway.addr, local);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut body = String::new();
    stream.read_to_string(&mut body).expect("a body");
    assert!(body.contains("ringroad_refused_total{reason=\"proxy_header\"} 2\n"), "{body}");
    // Whoever runs it is told, and not once for each: at most by each worker.
    let log = gateway.stop();
    let told = log.matches("did not begin with a PROXY header").count();
    assert!((1..=2).contains(&told), "{log}");
}

#[test]
fn handshakes_beyond_the_rate_are_told_when_to_come_again() {
    let gateway = Gateway::start(&["admission.accept_rate={burst=3, per_ms=600000}"]);
    let (taken, refused) = crowd(gateway.addr, HANDSHAKE.as_bytes());
    assert_eq!((taken.len(), refused.len()), (6, 34));
    for head in &refused {
        assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nRetry-After: 60\r\n"), "{head}");
    }
    assert_eq!(gateway.get("/health").status, 200);
    assert_eq!(gateway.metric("ringroad_refused_total{reason=\"rate\"}"), 34);
    // Those that are in stay.
    for (n, stream) in taken.into_iter().enumerate() {
        Client::of_stream(stream).register(&format!("in-{n}")).goodbye();
    }
}

#[test]
fn connections_that_say_nothing_cannot_fill_the_gateway() {
    const EACH: u64 = 50;
    const SILENT: u64 = 400;
    let max = format!("admission.half_open_max={EACH}");
    let gateway = Gateway::start(&[&max, "limits.conns_per_worker_max=100", "limits.handshake_ms_max=600000"]);
    let refused = || gateway.metric("ringroad_refused_total{reason=\"half_open\"}");
    let mut silent: Vec<TcpStream> = Vec::new();
    for _ in 0..SILENT {
        let mut stream = dial(gateway.addr);
        stream.write_all(b"GET /v2v HTTP/1.1\r\nX: ").expect("sent");
        silent.push(stream);
    }
    // Without that limit, both workers would be full long since.
    let mut vehicles: Vec<Client> =
        (0..8).map(|n| Client::connect(gateway.addr).register(&format!("prompt-{n}"))).collect();
    until("the oldest had to go", || refused() >= SILENT - 2 * EACH);
    let first = silent.first_mut().expect("many");
    let mut reply = String::new();
    first.read_to_string(&mut reply).expect("a reply and an end");
    assert!(reply.starts_with("HTTP/1.1 503 ") && reply.contains("\r\nRetry-After: 5\r\n"), "{reply}");
    for vehicle in &mut vehicles {
        vehicle.sync();
    }
}

/// Slowloris: five thousand requests that come a byte at a time. Every one ends when its time is over, and the vehicles notice
/// nothing.
#[test]
fn requests_that_never_end_cost_nobody_anything() {
    const SLOW: u64 = 5_000;
    const VEHICLES: u64 = 40;
    // Before the gateway starts: it inherits the limit.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raised");
    let gateway = Gateway::start(&["limits.handshake_ms_max=2000", "presence.scope=none"]);
    let timed_out = || gateway.metric("ringroad_connections_closed_total{reason=\"handshake_timeout\"}");
    let mut slow: Vec<TcpStream> = (0..SLOW).map(|_| dial(gateway.addr)).collect();
    let mut vehicles: Vec<Client> =
        (0..VEHICLES).map(|n| Client::connect(gateway.addr).register(&format!("steady-{n}"))).collect();
    let mut head = b"GET /v2v HTTP/1.1\r\nX: ".iter().copied().chain(std::iter::repeat(b'x'));
    until("all have run out of time", || {
        let byte = [head.next().expect("endless")];
        for stream in &mut slow {
            // Some have been closed by now.
            let _ = stream.write(&byte);
        }
        for vehicle in &mut vehicles {
            vehicle.sync();
        }
        timed_out() == SLOW
    });
    assert_eq!(gateway.vehicles(), VEHICLES);
    assert_eq!(gateway.metric("ringroad_connections_closed_total{reason=\"reset\"}"), 0);
    assert_eq!(gateway.metric_sum("ringroad_refused_total"), 0);
    drop(slow);
    until("nothing is left of them", || gateway.metric("ringroad_connections_open") == VEHICLES + 1);
}
