//! The door: what proxies say about addresses, limits per address, the pace of handshakes, and those who say nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ringroad::drive::{self, DriveOptions};
use ringroad::sim::HANDSHAKE;
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::client::{Client, dial};
use crate::gateway::Gateway;
use crate::{PATIENCE, until};

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

/// A connection from another address of this machine.
fn dial_from(own: [u8; 4], addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((own, 0)).into()).expect("all of 127/8 is ours");
    socket.connect(&addr.into()).expect("it listens");
    socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    socket.into()
}

/// Slowloris: five thousand requests from several addresses that come a byte at a time. Each ends when its time is over, or
/// sooner where there are bounds; every one is counted once, and the vehicles miss nothing.
#[test]
fn requests_that_never_end_cost_nobody_anything() {
    const ADDRESSES: [[u8; 4]; 5] = [[127, 0, 0, 2], [127, 0, 0, 3], [127, 1, 0, 2], [127, 1, 0, 3], [127, 2, 2, 2]];
    const EACH: usize = 1_000;
    const SLOW: u64 = (ADDRESSES.len() * EACH) as u64;
    const VEHICLES: u32 = 200;
    // Before a gateway starts: it inherits the limit.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raised");
    // Of 1,000 from one address one worker has at least 500, and of 5,000 at least 2,500.
    let bounds = ["admission.conns_per_address_max=400", "admission.half_open_max=600"];
    for bounds in [&bounds[..0], &bounds] {
        let gateway = Gateway::start(&[bounds, &["limits.handshake_ms_max=4000", "presence.scope=none"]].concat());
        let addr = gateway.addr;
        let over = Arc::new(AtomicBool::new(false));
        let is_over = over.clone();
        let (tell, told) = mpsc::channel();
        let driving = thread::spawn(move || {
            let url = format!("ws://{addr}/v2v");
            let options =
                DriveOptions { url, vehicles: Some(VEHICLES), seconds: Some(600.0), ..DriveOptions::default() };
            drive::run(options, |report| {
                let _ = tell.send(report.tally.owed);
                if is_over.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
        });
        while told.recv_timeout(PATIENCE).expect("they drive") < 1_000 {}
        let mut slow: Vec<TcpStream> = Vec::new();
        for own in ADDRESSES {
            slow.extend((0..EACH).map(|_| dial_from(own, addr)));
        }
        let timed_out = || gateway.metric("ringroad_connections_closed_total{reason=\"handshake_timeout\"}");
        let refused = |reason: &str| gateway.metric(&format!("ringroad_refused_total{{reason=\"{reason}\"}}"));
        let mut head = b"GET /v2v HTTP/1.1\r\nX: ".iter().copied().chain(std::iter::repeat(b'x'));
        until("all have been refused or have run out of time", || {
            let byte = [head.next().expect("endless")];
            for stream in &mut slow {
                // Some have been closed by now.
                let _ = stream.write(&byte);
            }
            timed_out() + refused("address") + refused("half_open") >= SLOW
        });
        // Each once, and none for another reason.
        let [by_address, by_age] = ["address", "half_open"].map(refused);
        assert_eq!(
            (timed_out() + by_address + by_age, gateway.metric_sum("ringroad_refused_total")),
            (SLOW, by_address + by_age)
        );
        if bounds.is_empty() {
            assert_eq!(timed_out(), SLOW);
        } else {
            assert!(by_address > 0 && by_age > 0, "{by_address} and {by_age}");
        }
        // What they did beside that is what any vehicle would notice.
        let all_open = u64::from(VEHICLES) + 1;
        until("nothing is left of them", || gateway.metric("ringroad_connections_open") == all_open);
        let closed =
            |reason: &str| gateway.metric(&format!("ringroad_connections_closed_total{{reason=\"{reason}\"}}"));
        assert_eq!((closed("refused"), closed("handshake_timeout")), (by_address + by_age, timed_out()));
        assert_eq!(gateway.vehicles(), u64::from(VEHICLES));
        over.store(true, Ordering::Relaxed);
        let report = driving.join().expect("no panic").expect("a drive");
        assert_eq!((report.registered, report.tally.missing(), report.tally.wrong), (VEHICLES, 0, 0), "{report}");
        assert!(report.closes.is_empty() && report.errors.is_empty() && report.withheld == 0, "{report}");
        drop(slow);
    }
}
