//! Bytes that mean nothing, before the upgrade and after it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ringroad::wire::frame::{Opcode, encode_masked};
use serde_json::json;

use crate::Numbers;
use crate::client::{Client, dial};
use crate::fleet::Fleet;
use crate::gateway::Gateway;

const HEARTBEAT_MAX: Duration = Duration::from_secs(2);

/// Sends, and goes in one of several ways. The gateway may be faster and close first.
fn throw(mut stream: TcpStream, bytes: &[u8], numbers: &mut Numbers) {
    stream.set_read_timeout(Some(Duration::from_millis(1))).expect("a timeout");
    for piece in bytes.chunks(1 + numbers.below(700)) {
        if stream.write_all(piece).is_err() {
            return;
        }
    }
    if numbers.below(2) == 0 {
        let _ = stream.read(&mut [0; 1024]);
    }
}

/// The gateway lives, and whoever behaves is answered at once.
fn neighbours_notice_nothing(fleet: &mut Fleet) {
    for vehicle in &mut fleet.vehicles {
        let begun = Instant::now();
        vehicle.sync();
        assert!(begun.elapsed() < HEARTBEAT_MAX, "{} waited {:?}", vehicle.id, begun.elapsed());
    }
}

#[test]
fn garbage_instead_of_a_handshake_harms_nobody() {
    let gateway = Gateway::start(&[]);
    let mut fleet = Fleet::register(&gateway, 4);
    let mut numbers = Numbers(1);
    for n in 0..200 {
        let mut bytes = match n % 4 {
            0 => Vec::new(),
            1 => b"GET /v2v HTTP/1.1\r\nHost: x\r\n".to_vec(),
            // A TLS client hello begins like this.
            2 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            // A handshake with some bytes changed.
            _ => {
                let mut head = ringroad::sim::HANDSHAKE.as_bytes().to_vec();
                for _ in 0..1 + numbers.below(3) {
                    let at = numbers.below(head.len());
                    head[at] = numbers.next() as u8;
                }
                head
            }
        };
        let len = numbers.below(if n % 10 == 0 { 20_000 } else { 500 });
        bytes.extend(numbers.bytes(len));
        throw(dial(gateway.addr), &bytes, &mut numbers);
        if n % 10 == 0 {
            neighbours_notice_nothing(&mut fleet);
        }
    }
    neighbours_notice_nothing(&mut fleet);
    assert_eq!(gateway.vehicles(), fleet.vehicles.len() as u64);
}

#[test]
fn garbage_after_a_handshake_harms_nobody() {
    let gateway = Gateway::start(&[]);
    let mut fleet = Fleet::register(&gateway, 4);
    let mut numbers = Numbers(2);
    let victim = fleet.vehicles[0].id.clone();
    let valid = [
        json!({"event": "register", "data": {"vehicleId": "odd-1", "driverName": "x"}}),
        json!({"event": "location_update", "data": {"vehicleId": victim, "lat": 1.5, "lon": -2.25, "ts": 17}}),
        json!({"event": "send_message", "data": {"senderId": victim, "recipientId": victim, "content": "\u{1F697}"}}),
        json!({"event": "webrtc_offer", "data": {"targetId": victim, "sdp": {"a": [1, 2, {"b": null}]}}}),
    ];
    for n in 0..300 {
        let mut bytes = ringroad::sim::HANDSHAKE.as_bytes().to_vec();
        if n % 3 == 0 {
            // No frames at all.
            let len = numbers.below(2_000);
            bytes.extend(numbers.bytes(len));
        } else {
            // Frames, most of them whole, of which some bytes are wrong.
            for _ in 0..1 + numbers.below(12) {
                let mut text = valid[numbers.below(valid.len())].to_string().into_bytes();
                for _ in 0..numbers.below(3) {
                    let at = numbers.below(text.len());
                    text[at] = numbers.next() as u8;
                }
                let opcode = [Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Close][numbers.below(4).min(n % 5)];
                let begin = bytes.len();
                encode_masked(&mut bytes, opcode, [n as u8, 2, 3, 4], &text[..text.len().min(120)]);
                if numbers.below(8) == 0 {
                    let at = begin + numbers.below(bytes.len() - begin);
                    bytes[at] = numbers.next() as u8;
                }
            }
        }
        throw(dial(gateway.addr), &bytes, &mut numbers);
        if n % 10 == 0 {
            neighbours_notice_nothing(&mut fleet);
        }
    }
    neighbours_notice_nothing(&mut fleet);
    // Nobody has moved anybody.
    assert!(gateway.get(&format!("/vehicles/{victim}")).json()["location"].is_null());
    Client::connect(gateway.addr).register("late").goodbye();
}
