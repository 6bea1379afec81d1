//! Vehicles for benchmarks: where they are, and a shard that serves them.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ringroad::config::{Config, PresenceScope};
use ringroad::geo::Place;
use ringroad::shard::Shard;
use ringroad::sim::{HANDSHAKE, handshake_with};
use ringroad::turn::{ConnId, Core, Input, Now, ShardId};
use ringroad::wire::frame::{Opcode, encode_masked};
use ringroad::wire::slim;
use ringroad::wire::state::{self, Header, State};

pub const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// When it all begins.
const UNIX_MS: u64 = 1_767_268_800_000;

/// Vehicles in a square of this side: some 36 of them within 500 m of any, as a dense city has it.
pub const VEHICLES: u32 = 4_000;
const SIDE_E7: u64 = 900_000;

pub fn places() -> Vec<Place> {
    scattered(VEHICLES, SIDE_E7)
}

/// Places in a square over Austin, the same every time (Knuth's MMIX generator).
pub fn scattered(count: u32, side_e7: u64) -> Vec<Place> {
    let mut random = 42_u64;
    let mut coordinate = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((random >> 33) % side_e7) as i32
    };
    (0..count).map(|_| Place::from_e7(302_000_000 + coordinate(), -978_000_000 + coordinate())).collect()
}

/// Places 1 km apart: nobody is near anybody.
pub fn spread(count: u32) -> Vec<Place> {
    (0..count).map(|i| Place::from_e7(300_000_000 + (i / 100 * 90_000) as i32, (i % 100 * 104_000) as i32)).collect()
}

/// How the fleet's vehicles tell where they are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Json,
    Binary,
}

/// What a vehicle's connection says to be at a place.
fn update(dialect: Dialect, index: u32, lat_e7: i32, lon_e7: i32) -> Vec<u8> {
    let mut frame = Vec::new();
    match dialect {
        Dialect::Json => {
            let (lat, lon) = (f64::from(lat_e7) / 1e7, f64::from(lon_e7) / 1e7);
            let text = format!(
                r#"{{"event":"location_update","data":{{"vehicleId":"BUS-{index}","lat":{lat:.7},"lon":{lon:.7},"speed":8.2,"heading":91.5,"ts":{UNIX_MS}}}}}"#
            );
            encode_masked(&mut frame, Opcode::Text, MASK, text.as_bytes());
        }
        Dialect::Binary => {
            let key = state::key(&format!("BUS-{index}"));
            let record =
                state::encode(&State { lat_e7, lon_e7, speed: 410, heading: 7_320, ..State::unavailable(key) });
            let header = Header { kind: 1, record_size: 32, flags: 0, count: 1, epoch: 0, base_unix_ms: 0 };
            encode_masked(&mut frame, Opcode::Binary, MASK, &[&header.encode()[..], &record].concat());
        }
    }
    frame
}

/// A shard with a connection for each place, registered and placed, and what each says to move by two metres and back.
pub fn fleet(config: Config, dialect: Dialect, places: Vec<Place>) -> (Shard, Now, Vec<[Vec<u8>; 2]>) {
    let mut shard = Shard::new(Arc::new(config), ShardId(0), 1, 1);
    let now = Now { mono_ms: 1_000, unix_ms: UNIX_MS };
    let handshake = match dialect {
        Dialect::Json => HANDSHAKE.to_owned(),
        Dialect::Binary => handshake_with(slim::SUBPROTOCOL),
    };
    let mut moves = Vec::new();
    for (index, place) in (0..).zip(places) {
        let conn = ConnId { index, generation: 1 };
        let (lat_e7, lon_e7) = place.to_e7();
        let register = format!(r#"{{"event":"register","data":{{"vehicleId":"BUS-{index}","driverName":"Ada"}}}}"#);
        let mut registration = Vec::new();
        encode_masked(&mut registration, Opcode::Text, MASK, register.as_bytes());
        let there_and_back = [200, 0].map(|north| update(dialect, index, lat_e7 + north, lon_e7));
        shard.handle(now, Input::Opened { conn, peer: Ipv4Addr::LOCALHOST.into() });
        for mut bytes in [handshake.clone().into_bytes(), registration, there_and_back[1].clone()] {
            shard.handle(now, Input::Bytes { conn, bytes: &mut bytes });
        }
        moves.push(there_and_back);
    }
    turns_at(&mut shard, now);
    (shard, now, moves)
}

/// No limits of rate, no lists: moves and nothing else.
pub fn unhindered() -> Config {
    let mut config = Config::default();
    config.vehicles.coalesce_ms = 0;
    config.vehicles.nearby_list_ms = 0;
    config.rate_limits.location_update.burst = 0;
    config.rate_limits.emergency_alert.burst = 0;
    config.presence.scope = PresenceScope::None;
    config
}

/// Runs turns until there is nothing left to do at this time. How many bytes they sent.
pub fn turns_at(shard: &mut Shard, now: Now) -> usize {
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
pub struct Traffic {
    pub shard: Shard,
    now: Now,
    moves: Vec<[Vec<u8>; 2]>,
    next: usize,
    round: usize,
    /// Bytes as they come from the kernel: the shard uses them up.
    received: Vec<u8>,
}

impl Traffic {
    pub fn of(places: Vec<Place>) -> Traffic {
        Traffic::with(unhindered(), Dialect::Json, places)
    }

    pub fn with(config: Config, dialect: Dialect, places: Vec<Place>) -> Traffic {
        let (shard, now, moves) = fleet(config, dialect, places);
        Traffic { shard, now, moves, next: 0, round: 0, received: Vec::new() }
    }

    pub fn advance(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.unix_ms += ms;
    }

    /// The next vehicles move, and all that follows is sent. How many bytes that were.
    pub fn turn(&mut self, movers: usize) -> usize {
        for _ in 0..movers {
            let conn = ConnId { index: self.next as u32, generation: 1 };
            self.received.clear();
            self.received.extend_from_slice(&self.moves[self.next][self.round % 2]);
            self.shard.handle(self.now, Input::Bytes { conn, bytes: &mut self.received });
            self.next = (self.next + 1) % self.moves.len();
            self.round += usize::from(self.next == 0);
        }
        turns_at(&mut self.shard, self.now)
    }

    /// The first vehicle raises an alert. How many bytes everyone was sent.
    pub fn alert(&mut self) -> usize {
        let conn = ConnId { index: 0, generation: 1 };
        self.received.clear();
        let alert = br#"{"event":"emergency_alert","data":{"senderId":"BUS-0"}}"#;
        encode_masked(&mut self.received, Opcode::Text, MASK, alert);
        self.shard.handle(self.now, Input::Bytes { conn, bytes: &mut self.received });
        turns_at(&mut self.shard, self.now)
    }
}
