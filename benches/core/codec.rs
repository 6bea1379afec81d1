//! Bytes to values and back: frames, messages, upgrades, commands, state records, replies of Redis.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};

use ringroad::wire::frame::{Header, Opcode, Role, encode, encode_masked, unmask};
use ringroad::wire::json;
use ringroad::wire::message::Decoder;
use ringroad::wire::resp::read::Reader;
use ringroad::wire::tape::Parser;
use ringroad::wire::{slim, state, upgrade};

use super::fleet::MASK;

const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// As a browser writes it.
const LOCATION_UPDATE: &str = r#"{"event":"location_update","data":{"vehicleId":"BUS-2204","lat":30.2671530,"lon":-97.7430608,"speed":11.2,"heading":187.5,"ts":1481932800000}}"#;

/// What clients say, from `docs/PROTOCOL.md`: name, message.
const COMMANDS: [(&str, &str); 7] = [
    ("location_update", LOCATION_UPDATE),
    (
        "location_update, computed",
        r#"{"event":"location_update","data":{"vehicleId":"BUS-2204","lat":30.267153046875002,"lon":-97.74306081250001,"speed":11.200000000000001,"heading":187.5,"elevation":149.2,"accuracy":4.7,"ts":1481932800000}}"#,
    ),
    (
        "location_update, spaced",
        r#"{"event": "location_update", "data": {"vehicleId": "BUS-2204", "lat": 30.2671530, "lon": -97.7430608, "speed": 11.2}}"#,
    ),
    (
        "register",
        r#"{"event":"register","data":{"vehicleId":"bus-7","driverName":"Ada","vehicleInfo":{"model":"Citaro","color":"white"}}}"#,
    ),
    (
        "send_message",
        r#"{"event":"send_message","data":{"senderId":"bus-7","recipientId":"bus-9","content":"Stau auf der Brücke, fahre über die Nordbrücke"}}"#,
    ),
    (
        "ice_candidate",
        r#"{"event":"ice_candidate","data":{"targetId":"bus-9","candidate":{"candidate":"candidate:842163049 1 udp 1677729535 203.0.113.7 61665 typ srflx raddr 0.0.0.0 rport 0 generation 0 ufrag EsAw","sdpMid":"0","sdpMLineIndex":0}}}"#,
    ),
    ("view", r#"{"event":"view","data":{"south":30.1,"west":-97.9,"north":30.5,"east":-97.5,"maxHz":10}}"#),
];

pub fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    for len in [128, 64 * 1024] {
        let mut bytes = vec![7; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("unmask {len}"), |b| b.iter(|| unmask(black_box(&mut bytes), MASK, 0)));
    }
    group.throughput(Throughput::Elements(1));
    for (name, opcode, payload) in
        [("text", Opcode::Text, LOCATION_UPDATE.as_bytes()), ("64 KiB", Opcode::Binary, &[7; MESSAGE_BYTES_MAX])]
    {
        let mut frame = Vec::new();
        encode_masked(&mut frame, opcode, MASK, payload);
        group.bench_function(format!("parse the header of {name}"), |b| {
            b.iter(|| Header::parse(Role::Server, black_box(&frame)))
        });
    }
    let mut out = Vec::with_capacity(1024);
    group.bench_function("encode location_update", |b| {
        b.iter(|| {
            out.clear();
            encode(&mut out, Opcode::Text, black_box(LOCATION_UPDATE.as_bytes()));
        });
    });
    group.finish();
}

/// All messages in `bytes`, received in pieces of at most `piece`.
fn decode_all(decoder: &mut Decoder, bytes: &mut [u8], piece: usize) -> usize {
    let mut messages = 0;
    for mut received in bytes.chunks_mut(piece) {
        loop {
            let decoded = decoder.decode(Role::Server, MESSAGE_BYTES_MAX, received);
            let (used, message) = decoded.expect("the input is valid");
            if message.is_none() {
                break;
            }
            messages += 1;
            received = &mut received[used..];
        }
    }
    messages
}

pub fn messages(c: &mut Criterion) {
    let mut one = Vec::new();
    encode_masked(&mut one, Opcode::Text, MASK, LOCATION_UPDATE.as_bytes());
    let mut large = Vec::new();
    encode_masked(&mut large, Opcode::Binary, MASK, &vec![1; MESSAGE_BYTES_MAX]);

    // Decoding unmasks in place, so each round needs fresh bytes.
    let mut group = c.benchmark_group("message");
    let cases = [("whole", &one, 1, 512), ("in two pieces", &one, 1, 100), ("64 KiB in 512 B", &large, 1, 512)];
    for (name, input, expected, piece) in cases {
        group.throughput(Throughput::Bytes(input.len() as u64));
        group.bench_function(name, |b| {
            let mut decoder = Decoder::default();
            b.iter_batched_ref(
                || input.clone(),
                |bytes| assert_eq!(decode_all(&mut decoder, bytes, piece), expected),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

pub fn upgrades(c: &mut Criterion) {
    let request = b"GET /v2v HTTP/1.1\r\nHost: localhost:3002\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
        Origin: https://fleet.example\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    c.bench_function("upgrade/parse and accept", |b| {
        let mut out = Vec::with_capacity(512);
        b.iter(|| {
            out.clear();
            match upgrade::parse(black_box(request)) {
                Ok(Some((upgrade::Request::Upgrade(asked), _))) => upgrade::accept(&mut out, &asked, None),
                other => panic!("{other:?}"),
            }
        });
    });
}

/// JSON to commands, on bytes that are new each time: parsing uses them up.
pub fn commands(c: &mut Criterion) {
    let mut group = c.benchmark_group("json");
    for (name, text) in COMMANDS {
        group.throughput(Throughput::Bytes(text.len() as u64));
        let mut parser = Parser::default();
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || text.as_bytes().to_vec(),
                |bytes| {
                    json::decode(&mut parser, black_box(bytes), 7, |decoded| {
                        assert!(black_box(decoded).is_ok_and(|decoded| decoded.command.is_ok()));
                    })
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

pub fn states(c: &mut Criterion) {
    let state = state::State { lat_e7: 302_671_530, lon_e7: -977_430_608, ..state::State::unavailable(7) };
    let record = state::encode(&state);
    let header = state::Header { kind: 1, record_size: 32, flags: 0, count: 1, epoch: 0, base_unix_ms: 0 };
    let report = [&header.encode()[..], &record].concat();
    let mut group = c.benchmark_group("state");
    group.throughput(Throughput::Elements(1));
    group.bench_function("encode", |b| b.iter(|| state::encode(black_box(&state))));
    group.bench_function("decode", |b| b.iter(|| state::decode(black_box(&record))));
    group.bench_function("read a vehicle's message", |b| b.iter(|| slim::read(black_box(&report)).is_ok()));
    group.bench_function("key", |b| b.iter(|| state::key(black_box("BUS-2204"))));
    group.finish();
}

/// What Redis sends a host with neighbours: a bus frame of 50 positions as a push, and replies between them.
pub fn replies(c: &mut Criterion) {
    let positions = [7; 32 + 50 * 40];
    let mut push = b">3\r\n$7\r\nmessage\r\n$15\r\nv2v:cell:9v6k:0\r\n".to_vec();
    push.extend_from_slice(format!("${}\r\n", positions.len()).as_bytes());
    push.extend_from_slice(&positions);
    push.extend_from_slice(b"\r\n:2\r\n+OK\r\n");
    let mut group = c.benchmark_group("resp");
    group.throughput(Throughput::Bytes(push.len() as u64));
    for (name, piece) in [("a push and two replies", push.len()), ("the same in pieces of 512 B", 512)] {
        let mut reader = Reader::new(MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX);
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut frames = 0;
                for mut bytes in black_box(&push).chunks(piece) {
                    while reader.take(&mut bytes).expect("what a server sends").is_some() {
                        frames += 1;
                    }
                }
                assert_eq!(frames, 3);
            });
        });
    }
    group.finish();
}
