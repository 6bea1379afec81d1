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
use ringroad::geo::{AreaIndex, Bounds, CellIndex, Place};
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

fn places() -> Vec<Place> {
    scattered(VEHICLES, SIDE_E7)
}

/// Places in a square over Austin, the same every time (Knuth's MMIX generator).
fn scattered(count: u32, side_e7: u64) -> Vec<Place> {
    let mut random = 42_u64;
    let mut coordinate = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((random >> 33) % side_e7) as i32
    };
    (0..count).map(|_| Place::from_e7(302_000_000 + coordinate(), -978_000_000 + coordinate())).collect()
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
    // What a screen shows of a city at walking scale, at driving scale, and all of it.
    for (view, half_m) in [("1 km", 500.0), ("5 km", 2_500.0), ("40 km", 20_000.0)] {
        let mut turn = places.iter().cycle().map(|place| Bounds::around(*place, half_m));
        group.bench_function(format!("inside {view} of 4,000"), |b| {
            b.iter(|| {
                let mut inside = 0;
                if let Some(bounds) = turn.next() {
                    index.inside(black_box(&bounds), |_, _| inside += 1);
                }
                inside
            });
        });
    }
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

/// What it costs to learn that nobody watches a vehicle, and who does.
fn areas(c: &mut Criterion) {
    let places = places();
    let mut group = c.benchmark_group("areas");
    for count in [0, 100, 10_000] {
        let mut areas = AreaIndex::default();
        let mut boxes: Vec<Bounds> = Vec::new();
        for (id, place) in (0..count).zip(places.iter().cycle()) {
            // Vehicles' surroundings, and every tenth a map of 2 to 64 km.
            let half_m = if id % 10 == 0 { 1_000.0 * f64::from(1 << (id / 10 % 6)) } else { 500.0 };
            boxes.push(Bounds::around(*place, half_m));
            areas.insert(id, &boxes[id as usize]);
        }
        for (whereabouts, lat) in [("in their midst", 0), ("elsewhere", 60_000_000)] {
            let (mut candidates, mut inside, mut lookups) = (0_u64, 0_u64, 0_u64);
            let mut turn = places.iter().cycle();
            group.bench_function(format!("candidates of {count}, {whereabouts}"), |b| {
                b.iter(|| {
                    let place = turn.next().copied().unwrap_or_default();
                    let place = black_box(Place { lat: place.lat + lat, ..place });
                    areas.candidates(place, |id| {
                        candidates += 1;
                        inside += u64::from(boxes[id as usize].contains(place));
                    });
                    lookups += 1;
                });
            });
            let per_place = |sum: u64| sum as f64 / lookups.max(1) as f64;
            println!("areas: {:.1} of {:.1} candidates are true", per_place(inside), per_place(candidates));
        }
        if count == 0 {
            continue;
        }
        let mut at = places.clone();
        let mut ids = (0..count).filter(|id| id % 10 != 0).cycle();
        group.bench_function(format!("relocate 500 m of {count} by 2 m"), |b| {
            b.iter(|| {
                let id = ids.next().unwrap_or_default() as usize;
                let slot = id % at.len();
                let (lat_e7, lon_e7) = at[slot].to_e7();
                at[slot] = Place::from_e7(lat_e7 + 180, lon_e7);
                let to = Bounds::around(at[slot], 500.0);
                areas.relocate(id as u32, &boxes[id], &to);
                boxes[id] = to;
            });
        });
    }
    group.finish();
}

/// A shard with a connection for each place, registered and placed, and what each says to move a little.
fn fleet(places: Vec<Place>) -> (Shard, Now, Vec<[Vec<u8>; 2]>) {
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
    for (index, place) in (0..).zip(places) {
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
    turns_at(&mut shard, now);
    (shard, now, moves)
}

/// Runs turns until there is nothing left to do at this time. How many bytes they sent.
fn turns_at(shard: &mut Shard, now: Now) -> usize {
    let mut bytes = 0;
    loop {
        while let Some(turn) = shard.poll_turn(now) {
            bytes += turn.sends.iter().map(|send| turn.bytes(send).len()).sum::<usize>();
        }
        if shard.next_deadline().is_none_or(|due_ms| due_ms > now.mono_ms) {
            return bytes;
        }
    }
}

/// A fleet of which some move in each turn, one after the other, there and back.
struct Traffic {
    shard: Shard,
    now: Now,
    moves: Vec<[Vec<u8>; 2]>,
    next: usize,
    round: usize,
}

impl Traffic {
    fn of(places: Vec<Place>) -> Traffic {
        let (shard, now, moves) = fleet(places);
        Traffic { shard, now, moves, next: 0, round: 0 }
    }

    fn advance(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.unix_ms += ms;
    }

    fn turn(&mut self, movers: usize) -> usize {
        for _ in 0..movers {
            let conn = ConnId { index: self.next as u32, generation: 1 };
            let bytes = &mut self.moves[self.next][self.round % 2].clone();
            self.shard.handle(self.now, Input::Bytes { conn, bytes });
            self.next = (self.next + 1) % self.moves.len();
            self.round += usize::from(self.next == 0);
        }
        turns_at(&mut self.shard, self.now)
    }
}

/// What the shard itself costs: a hundred vehicles move in one turn, and all their neighbours are sent it.
fn turns(c: &mut Criterion) {
    const MOVERS: usize = 100;
    let mut city = Traffic::of(places());
    let mut group = c.benchmark_group("shard");
    group.throughput(Throughput::Elements(MOVERS as u64));
    group.bench_function("turn of 100 updates among 4,000", |b| {
        b.iter(|| {
            city.advance(25);
            city.turn(MOVERS)
        });
    });
    group.finish();
    let counters = city.shard.counters();
    let updates = counters.location_updates_processed as f64;
    println!("shard: {:.1} deliveries per update", counters.peer_locations as f64 / updates);
}

/// Vehicles that are all within one radius, in a square of this side: 350 m.
const CROWD: usize = 2_000;
const CROWD_SIDE_E7: u64 = 31_500;

/// A depot in which everyone is near everyone: five updates per second of each, and once per second a choice.
fn crowds(c: &mut Criterion) {
    let places = || scattered(CROWD as u32, CROWD_SIDE_E7);
    let mut group = c.benchmark_group("crowd");
    group.sample_size(20);
    group.throughput(Throughput::Elements(CROWD as u64));
    group.bench_function("2,000 come at once", |b| b.iter_with_large_drop(|| fleet(places())));
    let mut crowd = Traffic::of(places());
    group.bench_function("2,000 of 2,000 move in one turn", |b| {
        b.iter(|| {
            crowd.advance(200);
            crowd.turn(CROWD)
        });
    });
    group.throughput(Throughput::Elements(100));
    group.bench_function("100 of 2,000 move in each turn", |b| {
        b.iter(|| {
            crowd.advance(10);
            crowd.turn(100)
        });
    });
    group.finish();
    let counters = crowd.shard.counters();
    println!(
        "crowd: {:.1} deliveries and {:.2} choices per update, {} turns cut",
        counters.peer_locations as f64 / counters.location_updates_processed as f64,
        counters.crowd_choices as f64 / counters.location_updates_processed as f64,
        counters.settles_cut,
    );
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

criterion_group!(benches, frames, messages, upgrades, states, geography, areas, turns, crowds, scrape);
criterion_main!(benches);
