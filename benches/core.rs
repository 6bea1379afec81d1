//! What the pure parts cost by themselves, one group per room.
//!
//! `cargo bench --bench core` measures, `cargo bench --bench core -- --test` only runs each once. Inputs are fixed, so
//! two runs measure the same work. What these numbers do not say: anything about sockets, the kernel or a whole turn.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use ringroad::config::{Config, PresenceScope};
use ringroad::geo::distance::metres;
use ringroad::geo::{CellIndex, Place};
use ringroad::metrics::{Counters, Gauge, render};
use ringroad::shard::Shard;
use ringroad::turn::{ConnId, Core, Input, Now, ShardId};
use ringroad::wire::frame::{Opcode, Role, encode, encode_masked, unmask};
use ringroad::wire::message::Decoder;
use ringroad::wire::{state, upgrade};

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
const LOCATION_UPDATE: &[u8] = br#"{"event":"location_update","data":{"vehicleId":"BUS-2204","lat":30.2671530,"lon":-97.7430608,"speed":11.2,"heading":187.5,"ts":1481932800000}}"#;

/// Vehicles in a square of this side: some 36 of them within 500 m of any, as a dense city has it.
const VEHICLES: u32 = 4_000;
const SIDE_E7: u64 = 900_000;

fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    for len in [128, 64 * 1024] {
        let mut bytes = vec![7; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("unmask {len}"), |b| b.iter(|| unmask(black_box(&mut bytes), MASK, 0)));
    }
    group.throughput(Throughput::Elements(1));
    let mut out = Vec::with_capacity(1024);
    group.bench_function("encode location_update", |b| {
        b.iter(|| {
            out.clear();
            encode(&mut out, Opcode::Text, black_box(LOCATION_UPDATE));
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

fn messages(c: &mut Criterion) {
    let mut one = Vec::new();
    encode_masked(&mut one, Opcode::Text, MASK, LOCATION_UPDATE);
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

fn upgrades(c: &mut Criterion) {
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

fn states(c: &mut Criterion) {
    let state = state::State { lat_e7: 302_671_530, lon_e7: -977_430_608, ..state::State::unavailable(7) };
    let record = state::encode(&state);
    let mut group = c.benchmark_group("state");
    group.bench_function("encode", |b| b.iter(|| state::encode(black_box(&state))));
    group.bench_function("decode", |b| b.iter(|| state::decode(black_box(&record))));
    group.bench_function("key", |b| b.iter(|| state::key(black_box("BUS-2204"))));
    group.finish();
}

/// Places in a square over Austin, the same every time (Knuth's MMIX generator).
fn places() -> Vec<Place> {
    let mut random = 42_u64;
    let mut coordinate = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((random >> 33) % SIDE_E7) as i32
    };
    (0..VEHICLES).map(|_| Place::from_e7(302_000_000 + coordinate(), -978_000_000 + coordinate())).collect()
}

fn geography(c: &mut Criterion) {
    let places = places();
    let mut index = CellIndex::new(500.0);
    for (slot, place) in (0..).zip(&places) {
        index.insert(slot, *place);
    }

    let mut group = c.benchmark_group("geo");
    group.bench_function("metres", |b| b.iter(|| metres(black_box(places[0]), black_box(places[1]))));
    let mut turn = places.iter().cycle();
    group.bench_function("within 500 m of 4,000", |b| {
        b.iter(|| {
            let mut neighbours = 0;
            let place = turn.next().copied().unwrap_or_default();
            index.within(place, 500.0, |_, _| neighbours += 1);
            neighbours
        });
    });
    // Two metres: what a vehicle moves between two reports. Nearly always within its cell.
    let mut at = places.clone();
    let mut slots = (0..VEHICLES).cycle();
    group.bench_function("relocate by 2 m", |b| {
        b.iter(|| {
            let slot = slots.next().unwrap_or_default();
            let from = at[slot as usize];
            let (lat_e7, lon_e7) = from.to_e7();
            let to = Place::from_e7(lat_e7 + 180, lon_e7);
            index.relocate(slot, from, to);
            at[slot as usize] = to;
        });
    });
    group.finish();
}

/// A shard with a connection for each place, registered and placed, and what each says to move a little.
fn city() -> (Shard, Now, Vec<[Vec<u8>; 2]>) {
    let mut config = Config::default();
    config.vehicles.coalesce_ms = 0;
    config.vehicles.nearby_list_ms = 0;
    config.rate_limits.location_update.burst = 0;
    config.presence.scope = PresenceScope::None;
    let mut shard = Shard::new(Arc::new(config), ShardId(0), 1, 1);
    let now = Now { mono_ms: 1_000, unix_ms: 1_767_268_800_000 };
    let frame = |text: String| {
        let mut bytes = Vec::new();
        encode_masked(&mut bytes, Opcode::Text, MASK, text.as_bytes());
        bytes
    };
    let mut moves = Vec::new();
    for (index, place) in (0..).zip(places()) {
        let conn = ConnId { index, generation: 1 };
        let (lat, lon) = place.to_degrees();
        let update = |lat: f64| {
            frame(format!(
                r#"{{"event":"location_update","data":{{"vehicleId":"BUS-{index}","lat":{lat:.7},"lon":{lon:.7},"speed":8.2,"heading":91.5}}}}"#
            ))
        };
        let register = format!(r#"{{"event":"register","data":{{"vehicleId":"BUS-{index}","driverName":"Ada"}}}}"#);
        let there_and_back = [update(lat + 0.000_02), update(lat)];
        shard.handle(now, Input::Opened { conn, peer: Ipv4Addr::LOCALHOST.into() });
        for mut bytes in [ringroad::sim::HANDSHAKE.as_bytes().to_vec(), frame(register), there_and_back[1].clone()] {
            shard.handle(now, Input::Bytes { conn, bytes: &mut bytes });
        }
        moves.push(there_and_back);
    }
    while shard.poll_turn(now).is_some() {}
    (shard, now, moves)
}

/// What the shard itself costs: a hundred vehicles move in one turn, and all their neighbours are sent it.
fn turns(c: &mut Criterion) {
    const MOVERS: usize = 100;
    let (mut shard, mut now, moves) = city();
    let (mut next, mut round) = (0, 0);
    let mut group = c.benchmark_group("shard");
    group.throughput(Throughput::Elements(MOVERS as u64));
    group.bench_function("turn of 100 updates among 4,000", |b| {
        b.iter(|| {
            now.mono_ms += 25;
            now.unix_ms += 25;
            for _ in 0..MOVERS {
                let conn = ConnId { index: next as u32, generation: 1 };
                shard.handle(now, Input::Bytes { conn, bytes: &mut moves[next][round % 2].clone() });
                next = (next + 1) % moves.len();
                round += usize::from(next == 0);
            }
            let mut bytes = 0;
            while let Some(turn) = shard.poll_turn(now) {
                bytes += turn.sends.iter().map(|send| turn.bytes(send).len()).sum::<usize>();
            }
            bytes
        });
    });
    group.finish();
    let counters = shard.counters();
    let updates = counters.location_updates_processed as f64;
    println!("shard: {:.1} deliveries per update", counters.peer_locations as f64 / updates);
}

fn scrape(c: &mut Criterion) {
    let total = Counters::default();
    c.bench_function("metrics/render", |b| {
        let mut out = String::with_capacity(16 * 1024);
        b.iter(|| {
            out.clear();
            render(&mut out, black_box(&total), &[Gauge::uptime_seconds(1.0), Gauge::workers(2)]);
        });
    });
}

criterion_group!(benches, frames, messages, upgrades, states, geography, turns, scrape);
criterion_main!(benches);
