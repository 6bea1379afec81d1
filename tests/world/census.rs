//! What a scrape counts is counted bit by bit where there are many connections: seen from the shell's side.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ringroad::config::Config;
use ringroad::limits::CENSUS_CONNS_MAX;
use ringroad::shard::Shard;
use ringroad::turn::{ConnId, Core, Ended, Input, Now, ShardId};

/// Turns until there is nothing more to do at this time; what was sent, by connection.
fn turns(shard: &mut Shard, now: Now) -> Vec<(ConnId, Vec<u8>)> {
    let mut sent = Vec::new();
    while let Some(turn) = shard.poll_turn(now) {
        sent.extend(turn.sends.iter().map(|send| (send.conn, turn.bytes(send).to_vec())));
    }
    sent
}

fn open(shard: &mut Shard, now: Now, index: u32) -> ConnId {
    let conn = ConnId { index, generation: 1 };
    shard.handle(now, Input::Opened { conn, peer: Ipv4Addr::LOCALHOST.into() });
    conn
}

#[test]
fn a_scrape_among_many_connections_takes_several_turns_and_counts_all_of_them() {
    const CONNS: u32 = 2 * CENSUS_CONNS_MAX + 7;
    let mut shard = Shard::new(Arc::new(Config::default()), ShardId(0), 1, 1);
    let mut now = Now { mono_ms: 1_000, unix_ms: 1_767_268_800_000 };
    for index in 0..CONNS {
        open(&mut shard, now, index);
    }
    turns(&mut shard, now);
    let scrape = |shard: &mut Shard, now, index| {
        let conn = open(shard, now, index);
        let mut request = b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n".to_vec();
        shard.handle(now, Input::Bytes { conn, bytes: &mut request });
        conn
    };
    let first = scrape(&mut shard, now, CONNS);
    // Somebody else asks while it is under way, and somebody who was counted goes.
    let second = scrape(&mut shard, now, CONNS + 1);
    shard.handle(now, Input::Ended { conn: ConnId { index: 0, generation: 1 }, how: Ended::Reset });
    let mut steps = 0;
    let replies = loop {
        let sent = turns(&mut shard, now);
        if !sent.is_empty() {
            break sent;
        }
        steps += 1;
        now.mono_ms += 1;
        assert!(shard.next_deadline().is_some_and(|due_ms| due_ms <= now.mono_ms), "it goes on by itself");
    };
    assert_eq!(steps, 2, "each turn looks at so many and no more");
    for conn in [first, second] {
        let text: Vec<u8> = replies.iter().filter(|(to, _)| *to == conn).flat_map(|(_, bytes)| bytes.clone()).collect();
        let text = String::from_utf8(text).expect("UTF-8");
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        let has = |line: &str| assert!(text.contains(&format!("\n{line}\n")), "no {line} in\n{text}");
        has(&format!("ringroad_connections{{state=\"handshake\"}} {CONNS}"));
        has("ringroad_connections{state=\"listing\"} 2");
    }
}
