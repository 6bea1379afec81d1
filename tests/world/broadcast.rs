//! What goes to everyone is stored once: seen from the shell's side of the contract.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ringroad::config::Config;
use ringroad::limits;
use ringroad::shard::Shard;
use ringroad::sim::HANDSHAKE;
use ringroad::turn::{ConnId, Core, Input, Now, Send, ShardId, Store};
use ringroad::wire::frame::{Opcode, encode_masked};

/// One shard and what its last turn asked for.
struct Bare {
    shard: Shard,
    now: Now,
    sends: Vec<(Send, Vec<u8>)>,
    /// Given up, since the beginning.
    released: Vec<ConnId>,
    log_bytes: usize,
    arena_bytes: usize,
}

impl Bare {
    fn new(config: Config) -> Bare {
        let now = Now { mono_ms: 1_000, unix_ms: 1_767_268_800_000 };
        let shard = Shard::new(Arc::new(config), ShardId(0), 1, 1);
        Bare { shard, now, sends: Vec::new(), released: Vec::new(), log_bytes: 0, arena_bytes: 0 }
    }

    fn open(&mut self, index: u32) -> ConnId {
        let conn = ConnId { index, generation: 1 };
        self.shard.handle(self.now, Input::Opened { conn, peer: IpAddr::V4(Ipv4Addr::LOCALHOST) });
        self.shard.handle(self.now, Input::Bytes { conn, bytes: &mut HANDSHAKE.as_bytes().to_vec() });
        self.turn(&[]);
        conn
    }

    fn say(&mut self, conn: ConnId, opcode: Opcode, text: &[u8]) {
        let mut bytes = Vec::new();
        encode_masked(&mut bytes, opcode, [1, 2, 3, 4], text);
        self.shard.handle(self.now, Input::Bytes { conn, bytes: &mut bytes });
    }

    /// One whole turn; connections in `stalled` take nothing.
    fn turn(&mut self, stalled: &[ConnId]) {
        self.turn_with(|conn, bytes| stalled.contains(&conn).then(|| bytes.to_vec()));
    }

    /// One whole turn; the shell gives back what it is told to, and says `Blocked` then.
    fn turn_with(&mut self, rest_of: impl Fn(ConnId, &[u8]) -> Option<Vec<u8>>) {
        self.sends.clear();
        (self.log_bytes, self.arena_bytes) = (0, 0);
        while let Some(turn) = self.shard.poll_turn(self.now) {
            self.log_bytes = self.log_bytes.max(turn.log.len());
            self.arena_bytes += turn.arena.len();
            self.released.extend(turn.released);
            let sends: Vec<(Send, Vec<u8>)> =
                turn.sends.iter().map(|send| (*send, turn.bytes(send).to_vec())).collect();
            for (send, bytes) in &sends {
                if let Some(rest) = rest_of(send.conn, bytes) {
                    self.shard.handle(self.now, Input::Blocked { conn: send.conn, rest: &rest });
                }
            }
            self.sends.extend(sends);
        }
    }
}

fn unlimited() -> Config {
    toml::from_str(
        "rate_limits.emergency_alert = { burst = 0, per_ms = 1 }\n\
         limits.broadcast_log_bytes = 65536\n\
         limits.outbox_bytes_max = 8192",
    )
    .expect("known keys")
}

const ALERT: &[u8] = br#"{"event":"emergency_alert","data":{"senderId":"veh-a"}}"#;
const REGISTER: &[u8] = br#"{"event":"register","data":{"vehicleId":"veh-a","driverName":"A"}}"#;

#[test]
fn a_broadcast_to_a_thousand_connections_is_one_copy() {
    let mut bare = Bare::new(unlimited());
    let conns: Vec<ConnId> = (0..1_000).map(|index| bare.open(index)).collect();
    bare.say(conns[0], Opcode::Text, REGISTER);
    bare.turn(&[]);
    bare.say(conns[0], Opcode::Text, ALERT);
    bare.turn(&[]);
    assert_eq!(bare.sends.len(), 1_000, "one send for each");
    let first = bare.sends[0].0;
    assert!(
        bare.sends.iter().all(|(send, _)| (send.store, send.start, send.len) == (Store::Log, first.start, first.len))
    );
    assert_eq!((bare.log_bytes, bare.arena_bytes), (first.len as usize, 0));
}

#[test]
fn many_broadcasts_of_a_turn_are_still_one_send_for_each() {
    let mut bare = Bare::new(unlimited());
    let conns: Vec<ConnId> = (0..100).map(|index| bare.open(index)).collect();
    bare.say(conns[0], Opcode::Text, REGISTER);
    bare.turn(&[]);
    (0..50).for_each(|_| bare.say(conns[0], Opcode::Text, ALERT));
    bare.turn(&[]);
    assert_eq!((bare.sends.len(), bare.arena_bytes), (100, 0));
}

#[test]
fn connections_with_news_of_their_own_do_not_copy_a_flood() {
    let mut bare = Bare::new(unlimited());
    let conns: Vec<ConnId> = (0..100).map(|index| bare.open(index)).collect();
    bare.say(conns[0], Opcode::Text, REGISTER);
    bare.turn(&[]);
    for conn in &conns {
        bare.say(*conn, Opcode::Text, br#"{"event":"heartbeat"}"#);
    }
    (0..400).for_each(|_| bare.say(conns[0], Opcode::Text, ALERT));
    bare.turn(&[]);
    assert!(bare.log_bytes > 50_000, "{}", bare.log_bytes);
    assert!(bare.arena_bytes < 100 * 100, "only the acknowledgements: {}", bare.arena_bytes);
    assert_eq!(bare.sends.len(), 200);
}

#[test]
fn nothing_is_kept_when_nobody_lags_and_no_more_than_twice_the_bound_when_somebody_does() {
    let mut bare = Bare::new(unlimited());
    let (a, lame) = (bare.open(0), bare.open(1));
    bare.say(a, Opcode::Text, REGISTER);
    bare.turn(&[]);
    let mut most = 0;
    for _ in 0..2_000 {
        bare.say(a, Opcode::Text, ALERT);
        bare.turn(&[]);
        most = most.max(bare.log_bytes);
    }
    assert!(most < 300, "{most}");
    for _ in 0..2_000 {
        bare.say(a, Opcode::Text, ALERT);
        bare.turn(&[lame]);
        most = most.max(bare.log_bytes);
    }
    assert!((65_536..2 * 65_536 + 300).contains(&most), "{most}");
}

/// A shell that encrypts keeps what it has encrypted, or a part of it; the core has the rest again, or nothing.
#[test]
fn what_the_shell_keeps_is_not_sent_again() {
    const CALLS: usize = 100;
    let mut config = unlimited();
    config.limits.outbox_bytes_max = 16 << 20;
    config.rate_limits.signaling.burst = 0;
    // How much of a send the shell keeps: all, or some of it, which may end in the middle of a frame.
    for kept in [usize::MAX, 40_000, 1_000, 333] {
        let mut bare = Bare::new(config.clone());
        let (a, b) = (bare.open(0), bare.open(1));
        bare.say(a, Opcode::Text, REGISTER);
        bare.say(b, Opcode::Text, br#"{"event":"register","data":{"vehicleId":"veh-b","driverName":"B"}}"#);
        bare.turn(&[]);
        let mut got: Vec<u8> = Vec::new();
        let mut step = |bare: &mut Bare| {
            bare.turn_with(|conn, bytes| (conn == b).then(|| bytes[kept.min(bytes.len())..].to_vec()));
            let of_b: Vec<_> = bare.sends.iter().filter(|(send, _)| send.conn == b).collect();
            assert!(of_b.len() <= 1, "it is blocked by then");
            got.extend(of_b.iter().flat_map(|(_, bytes)| &bytes[..kept.min(bytes.len())]));
            !of_b.is_empty()
        };
        for call in 0..CALLS {
            let filling = "x".repeat(call * 997 % 20_000);
            let text = format!(
                r#"{{"event":"call_initiate","data":{{"callerId":"veh-a","calleeId":"veh-b","call":"<{call}>","filling":"{filling}"}}}}"#
            );
            bare.say(a, Opcode::Text, text.as_bytes());
            bare.say(a, Opcode::Text, ALERT);
            assert_eq!(step(&mut bare), call == 0, "nothing is sent before there is room");
        }
        loop {
            bare.shard.handle(bare.now, Input::Writable { conn: b });
            if !step(&mut bare) {
                break;
            }
        }
        // Whole frames, and each event once, in order.
        let (mut at, mut calls, mut alerts) = (0, Vec::new(), 0);
        while at < got.len() {
            let (head, len) = match got[at + 1] {
                126 => (4, usize::from(u16::from_be_bytes([got[at + 2], got[at + 3]]))),
                short => (2, usize::from(short)),
            };
            let text = std::str::from_utf8(&got[at + head..at + head + len]).expect("a whole frame");
            alerts += usize::from(text.contains("emergency_alert"));
            calls.extend(text.split_once("\"<").map(|(_, rest)| rest.split('>').next().expect("a number").to_owned()));
            at += head + len;
        }
        assert_eq!((calls, alerts), ((0..CALLS).map(|call| call.to_string()).collect(), CALLS), "{kept} kept");
    }
}

/// A listing's last piece is with the shell, encrypted: the core has nothing left, and the client has not got it yet.
#[test]
fn a_listing_is_not_given_up_while_the_shell_has_its_end() {
    for takes_the_end in [true, false] {
        let mut bare = Bare::new(Config::default());
        for n in 0..1_000 {
            let car = bare.open(n);
            let register = format!(r#"{{"event":"register","data":{{"vehicleId":"car-{n}","driverName":"D"}}}}"#);
            bare.say(car, Opcode::Text, register.as_bytes());
        }
        bare.turn(&[]);
        let reader = ConnId { index: 1_000, generation: 1 };
        let mut request = b"GET /vehicles HTTP/1.1\r\nHost: sim\r\n\r\n".to_vec();
        bare.shard.handle(bare.now, Input::Opened { conn: reader, peer: IpAddr::V4(Ipv4Addr::LOCALHOST) });
        bare.shard.handle(bare.now, Input::Bytes { conn: reader, bytes: &mut request });
        let mut pieces = 0;
        loop {
            bare.turn_with(|conn, _| (conn == reader).then(Vec::new));
            if !bare.sends.iter().any(|(send, _)| send.conn == reader) {
                break;
            }
            pieces += 1;
            if bare.sends.iter().any(|(_, bytes)| bytes.ends_with(b"]}")) {
                break;
            }
            bare.shard.handle(bare.now, Input::Writable { conn: reader });
        }
        assert!(pieces >= 2, "{pieces}");
        bare.now.mono_ms += limits::CLOSE_MS_MAX;
        bare.turn(&[]);
        assert_eq!(bare.released, [], "it may still read");
        if takes_the_end {
            bare.shard.handle(bare.now, Input::Writable { conn: reader });
        }
        bare.now.mono_ms += limits::CLOSE_MS_MAX;
        bare.turn(&[]);
        assert_eq!(bare.released, [reader], "but not for ever");
    }
}

#[test]
fn a_pong_carries_what_the_ping_did() {
    let mut bare = Bare::new(Config::default());
    let a = bare.open(0);
    for payload in [&b""[..], b"x", &[0xFF; 125]] {
        bare.say(a, Opcode::Ping, payload);
        bare.turn(&[]);
        assert_eq!(bare.sends[0].1, [&[0x8A, payload.len() as u8][..], payload].concat());
    }
}

#[test]
fn a_connection_is_released_exactly_once_and_a_stale_id_does_nothing() {
    let mut bare = Bare::new(Config::default());
    let a = bare.open(0);
    bare.say(a, Opcode::Close, b"");
    bare.turn(&[]);
    bare.shard.handle(bare.now, Input::Ended { conn: a, how: ringroad::turn::Ended::Eof });
    let mut released = Vec::new();
    while let Some(turn) = bare.shard.poll_turn(bare.now) {
        released.extend_from_slice(turn.released);
    }
    assert_eq!(released, [a]);
    let again = ConnId { index: 0, generation: 2 };
    bare.shard.handle(bare.now, Input::Opened { conn: again, peer: IpAddr::V4(Ipv4Addr::LOCALHOST) });
    for stale in [a, ConnId { index: 77, generation: 1 }] {
        bare.say(stale, Opcode::Text, REGISTER);
        bare.shard.handle(bare.now, Input::Writable { conn: stale });
        bare.shard.handle(bare.now, Input::Ended { conn: stale, how: ringroad::turn::Ended::Reset });
    }
    bare.now.mono_ms += 5_000;
    bare.turn(&[]);
    assert!(bare.sends.is_empty());
    assert_eq!(bare.shard.counters().registrations, 0);
}
