//! Bounds on what a client may send, and how long it may take.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ringroad::wire::frame::{Opcode, encode_masked};
use serde_json::json;

use crate::client::{Client, dial};
use crate::gateway::{Gateway, Reply};
use crate::{PATIENCE, until};

/// A masked frame with any first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_masked(&mut bytes, Opcode::Text, [7, 11, 13, 17], payload);
    bytes[0] = first;
    bytes
}

#[test]
fn a_message_beyond_the_limit_is_refused_with_1009() {
    let gateway = Gateway::start(&["limits.message_bytes_max=4096"]);
    let mut witness = Client::connect(gateway.addr).register("witness");
    let padded = |bytes: usize| format!("{:bytes$}", r#"{"event":"heartbeat"}"#);
    let mut client = Client::connect(gateway.addr).register("big-0");
    client.text(padded(4096));
    client.expect("heartbeat_ack");
    client.text(padded(4097));
    refused(&mut client, &mut witness);

    // In fragments, each within the limit.
    let mut client = Client::connect(gateway.addr).register("big-1");
    client.raw(&frame(0x01, &[b' '; 4000]));
    client.raw(&frame(0x80, &[b' '; 97]));
    refused(&mut client, &mut witness);

    // Announced only.
    let mut client = Client::connect(gateway.addr).register("big-2");
    client.raw(&[0x81, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
    refused(&mut client, &mut witness);
}

fn refused(client: &mut Client, witness: &mut Client) {
    client.expect_error("too_large");
    assert_eq!(client.closed(), (1009, "too_big".to_owned()));
    witness
        .expect_that("presence_update", |data| data["vehicleId"] == client.id.as_str() && data["status"] == "offline");
}

#[test]
fn what_breaks_the_websocket_protocol_is_closed_with_its_code() {
    let gateway = Gateway::start(&[]);
    let mut witness = Client::connect(gateway.addr).register("witness");
    let unmasked = b"\x81\x15{\"event\":\"heartbeat\"}".to_vec();
    let cases: &[(&str, Vec<u8>, u16)] = &[
        ("not masked", unmasked, 1002),
        ("a reserved bit", frame(0xc1, b"{}"), 1002),
        ("a reserved opcode", frame(0x83, b"{}"), 1002),
        ("a reserved control opcode", frame(0x8b, b""), 1002),
        ("a ping in fragments", frame(0x09, b""), 1002),
        ("a ping of 126 bytes", frame(0x89, &[b'x'; 126]), 1002),
        ("a continuation of nothing", frame(0x80, b"{}"), 1002),
        ("a text within a text", [frame(0x01, b"{"), frame(0x81, b"}")].concat(), 1002),
        ("a close of one byte", frame(0x88, b"x"), 1002),
        ("a close with a code that nobody may send", frame(0x88, &1005u16.to_be_bytes()), 1002),
        ("a text that is not UTF-8", frame(0x81, b"\xc3\x28"), 1007),
        ("a text that ends within a character", frame(0x81, b"\xe2\x82"), 1007),
        ("a close reason that is not UTF-8", frame(0x88, b"\x03\xe8\xff"), 1007),
    ];
    for (n, (what, bytes, code)) in cases.iter().enumerate() {
        let mut client = Client::connect(gateway.addr).register(&format!("odd-{n}"));
        client.raw(bytes);
        assert_eq!(client.closed().0, *code, "{what}");
        witness.expect_that("presence_update", |data| {
            data["vehicleId"] == client.id.as_str() && data["status"] == "offline"
        });
    }
    witness.sync();
}

#[test]
fn a_handshake_that_takes_too_long_is_given_up() {
    let gateway = Gateway::start(&["limits.handshake_ms_max=300"]);
    let mut silent = dial(gateway.addr);
    let mut slow = dial(gateway.addr);
    let begun = Instant::now();
    // A byte at a time is no progress.
    slow.set_read_timeout(Some(Duration::from_millis(5))).expect("a timeout");
    let mut head = b"GET /v2v HTTP/1.1\r\nHost: ".iter().copied().chain(std::iter::repeat(b'x'));
    let mut reply = Vec::new();
    while begun.elapsed() < PATIENCE && !reply.ends_with(b"in time\n") {
        // It may have been closed meanwhile.
        let _ = slow.write_all(&[head.next().expect("endless")]);
        let mut bytes = [0; 1024];
        match slow.read(&mut bytes) {
            Ok(0) => break,
            Ok(len) => reply.extend_from_slice(&bytes[..len]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&reply)),
        }
    }
    assert!(reply.starts_with(b"HTTP/1.1 408 "), "{:?}", String::from_utf8_lossy(&reply));
    assert!(begun.elapsed() >= Duration::from_millis(290), "{:?}", begun.elapsed());
    assert_eq!(Reply::read(&mut silent).status, 408);
    // A WebSocket that has been opened in time stays.
    let mut client = Client::connect(gateway.addr);
    until("the time for a handshake is over", || {
        client.sync();
        gateway.metric("ringroad_connections_closed_total{reason=\"handshake_timeout\"}") == 2
            && begun.elapsed() > Duration::from_millis(700)
    });
}

#[test]
fn many_slow_handshakes_keep_nobody_waiting() {
    let gateway = Gateway::start(&[]);
    let mut slow: Vec<TcpStream> = (0..300).map(|_| dial(gateway.addr)).collect();
    for byte in b"GET /v2v HTTP/1.1\r\n" {
        for stream in &mut slow {
            stream.write_all(&[*byte]).expect("sent");
        }
        let begun = Instant::now();
        Client::connect(gateway.addr).register("quick").goodbye();
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    // Theirs are good as well, once they are whole.
    for mut stream in slow.drain(..).take(20) {
        stream.write_all(ringroad::sim::HANDSHAKE.split_once("\r\n").expect("a head").1.as_bytes()).expect("sent");
        let mut reply = [0; 12];
        stream.read_exact(&mut reply).expect("a reply");
        assert_eq!(&reply, b"HTTP/1.1 101");
    }
}

#[test]
fn a_full_worker_refuses_with_503_and_takes_more_when_some_have_left() {
    const PER_WORKER: usize = 4;
    let gateway = Gateway::start(&[&format!("limits.conns_per_worker_max={PER_WORKER}")]);
    // One worker gets fewer than four of 64 with p < 10^-14.
    let (mut taken, mut refused) = (Vec::new(), 0);
    for _ in 0..64 {
        let mut stream = dial(gateway.addr);
        stream.write_all(ringroad::sim::HANDSHAKE.as_bytes()).expect("sent");
        let mut reply = [0; 12];
        stream.read_exact(&mut reply).expect("a reply");
        match &reply {
            b"HTTP/1.1 101" => taken.push(stream),
            b"HTTP/1.1 503" => refused += 1,
            other => panic!("{:?}", String::from_utf8_lossy(other)),
        }
    }
    assert_eq!((taken.len(), refused), (2 * PER_WORKER, 64 - 2 * PER_WORKER));
    drop(taken);
    until("there is room again", || gateway.get("/health").status == 200);
    let mut client = None;
    until("a vehicle registers", || {
        let mut stream = dial(gateway.addr);
        stream.write_all(ringroad::sim::HANDSHAKE.as_bytes()).expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a reply");
            head.push(byte[0]);
        }
        let accepted = head.starts_with(b"HTTP/1.1 101");
        client = accepted.then(|| Client::of_stream(stream));
        accepted
    });
    let mut client = client.expect("just waited for").register("late");
    client.send("heartbeat", json!({}));
    client.expect("heartbeat_ack");
}
