//! Whatever somebody publishes on the channels, the hosts drop it, count it, and go on.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::heavy;
use crate::host::Host;
use crate::plain::Plain;
use crate::redis::Redis;
use crate::road::Road;
use crate::until;

const BROADCAST: &str = "v2v:broadcast";
const BURST: usize = 100_000;

/// What each host has dropped, by reason.
fn dropped(host: &Host) -> BTreeMap<String, u64> {
    let text = host.get("/metrics").body;
    let cells = text.lines().filter_map(|line| line.strip_prefix("ringroad_backplane_dropped_total{reason=\""));
    cells
        .filter_map(|cell| cell.split_once("\"} "))
        .map(|(reason, count)| (reason.to_owned(), count.parse().expect("a count")))
        .collect()
}

fn growth(host: &Host, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let grown = |(reason, count): (String, u64)| {
        let growth = count - before.get(&reason).copied().unwrap_or(0);
        (growth > 0).then_some((reason, growth))
    };
    dropped(host).into_iter().filter_map(grown).collect()
}

/// What an existing server puts on `v2v:broadcast`.
fn envelope(event: &str, data: Value) -> Vec<u8> {
    json!({"origin": 4242, "obj": {"event": event, "data": data}}).to_string().into_bytes()
}

/// A bus frame as somebody else might write it.
fn bus_frame(version: u8, kind: u8, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![version, kind, 0, 0];
    frame.extend_from_slice(&sequence.to_le_bytes());
    frame.extend_from_slice(&0x1234_5678_u64.to_le_bytes());
    frame.extend_from_slice(&1_767_268_800_000_u64.to_le_bytes());
    frame.extend_from_slice(&1_767_268_800_000_u64.to_le_bytes());
    frame.extend_from_slice(body);
    frame
}

/// The state frame within.
fn states(record_bytes: u8, count: u16, records: &[u8]) -> Vec<u8> {
    let mut frame = vec![1, 1, record_bytes, 0];
    frame.extend_from_slice(&count.to_le_bytes());
    frame.extend_from_slice(&0_u16.to_le_bytes());
    frame.extend_from_slice(&1_767_268_800_000_u64.to_le_bytes());
    frame.extend_from_slice(records);
    frame
}

/// Many at once: the answers are read when all has been said.
fn burst(mut plain: Plain, channel: &str, payloads: impl Iterator<Item = Vec<u8>>) {
    let mut said = 0;
    for payload in payloads {
        plain.say(&[b"PUBLISH", channel.as_bytes(), &payload]).expect("taken");
        said += 1;
    }
    for _ in 0..said {
        assert!(plain.read().expect("an answer").number() >= 0);
    }
}

#[test]
fn what_cannot_be_read_is_dropped_and_counted() {
    let _heavy = heavy();
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &["vehicles.flush_ms=0"]);
    let mut road = Road::default();
    for host in &hosts {
        road.join(host, 3);
    }
    road.meet();
    let cells = redis.plain().ask(&["PUBSUB", "CHANNELS", "v2v:cell:*"]);
    let cells: Vec<String> = cells.list().iter().map(|cell| cell.text()).collect();
    assert_eq!(cells.len(), 1, "they drive in the middle of a square: {cells:?}");
    let cell = cells[0].as_str();
    let subscriptions = hosts.each_ref().map(|host| host.metric("ringroad_backplane_subscriptions"));

    let one = |channel: &str, payload: &[u8], reason: &str| {
        let before = hosts.each_ref().map(dropped);
        redis.plain().publish(channel, payload);
        for (host, before) in hosts.iter().zip(&before) {
            let wanted = BTreeMap::from([(reason.to_owned(), 1)]);
            let mut grown = BTreeMap::new();
            let what =
                format!("{channel}: {reason} of {} bytes: {:02x?}", payload.len(), &payload[..payload.len().min(40)]);
            until(&what, || {
                grown = growth(host, before);
                !grown.is_empty()
            });
            assert_eq!(grown, wanted, "{what}");
        }
    };
    one(BROADCAST, b"", "malformed");
    one(BROADCAST, b"{", "malformed");
    one(BROADCAST, &[0xff; 40], "malformed");
    one(BROADCAST, &envelope("peer_location", json!({"vehicleId": "x"})), "not_whitelisted");
    one(BROADCAST, &envelope("radio_text", json!({"from": "x", "content": "x".repeat(5_000)})), "too_large");
    one(BROADCAST, &vec![b'['; 4_000], "malformed");
    one(BROADCAST, &vec![b'x'; 1_000_000], "too_large");
    let record = [0x55; 40];
    one(cell, b"", "records");
    one(cell, b"\x01", "records");
    one(cell, &bus_frame(1, 1, 1, b""), "records");
    one(cell, &bus_frame(1, 77, 1, &states(40, 1, &record)), "malformed");
    one(cell, &bus_frame(9, 1, 1, &states(40, 1, &record)), "version");
    one(cell, &bus_frame(1, 1, 1, &states(7, 1, &record)), "records");
    one(cell, &bus_frame(1, 1, 1, &states(40, 2, &record)), "records");
    one(cell, &bus_frame(1, 1, 1, &states(40, u16::MAX, &record)), "records");
    one(cell, &bus_frame(1, 1, 1, &states(40, 1, &record)), "unknown_vehicle");
    one(cell, &vec![0xff; 100_000], "version");

    // Longer than a client reads: the link may be given up for it, and comes back.
    redis.plain().publish(cell, vec![1; 20_000_000]);
    redis.plain().publish(BROADCAST, vec![b'{'; 20_000_000]);
    road.raise("a");
    road.raise("b");
    road.meet();
    road.settle_alerts(Duration::from_secs(1));
    let now = hosts.each_ref().map(|host| host.metric("ringroad_backplane_subscriptions"));
    assert_eq!(now, subscriptions);
    for host in &hosts {
        assert!(host.is_up() && host.vehicles() == 6);
    }
}

#[test]
fn a_burst_of_rubbish_stops_nobody() {
    let _heavy = heavy();
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &["vehicles.flush_ms=0"]);
    let mut road = Road::default();
    for host in &hosts {
        road.join(host, 3);
    }
    road.meet();
    let cells = redis.plain().ask(&["PUBSUB", "CHANNELS", "v2v:cell:*"]);
    let cell = cells.list()[0].text();
    let words = |n: usize| match n % 4 {
        0 => b"{\"origin\": 4242, \"obj\": {\"event\": \"emergency_alert\", \"data\": {".to_vec(),
        1 => envelope("peer_location", json!({"vehicleId": "x", "lat": 1})),
        2 => vec![0xff; 300],
        _ => b"[1,2,3]".to_vec(),
    };
    let frames = |n: usize| {
        let record: Vec<u8> = (0..40).collect();
        let sequence = n as u32 / 4 + 1;
        match n % 4 {
            0 => bus_frame(1, 1, sequence, &states(40, 1, &record)),
            1 => bus_frame(3, 1, sequence, &states(40, 1, &record)),
            2 => bus_frame(1, 1, sequence, &states(9, 3, &record)),
            _ => bus_frame(1, 2, sequence, b"")[..20].to_vec(),
        }
    };
    let before = hosts.each_ref().map(dropped);
    let (to_broadcast, to_cell) = (redis.plain(), redis.plain());
    let floods = [
        thread::spawn(move || burst(to_broadcast, BROADCAST, (0..BURST).map(words))),
        thread::spawn(move || burst(to_cell, &cell, (0..BURST).map(frames))),
    ];
    road.raise("a");
    road.drive_until("all has been said", |_| floods.iter().all(|flood| flood.is_finished()));
    for flood in floods {
        flood.join().expect("Redis took all");
    }
    road.raise("b");
    // Unless Redis gave a host up for reading too slowly, each message is counted.
    for (host, before) in hosts.iter().zip(&before) {
        road.drive_until("all is counted", |_| {
            let sum: u64 = growth(host, before).values().sum();
            sum >= 2 * BURST as u64 || host.metric("ringroad_backplane_reconnects_total") > 0
        });
        eprintln!(
            "{}: {:?}, {} reconnects",
            host.node,
            growth(host, before),
            host.metric("ringroad_backplane_reconnects_total")
        );
    }
    road.meet();
    road.settle_alerts(Duration::from_secs(1));
    for node in ["a", "b"] {
        let arrivals = road.arrivals(node, node);
        eprintln!("{node}: {} steps, {arrivals:?}", road.steps());
        assert!(arrivals.received > 0 && arrivals.backwards == 0, "{arrivals:?}");
    }
    for host in &hosts {
        assert!(host.is_up() && host.vehicles() == 6);
    }
}

#[test]
fn many_words_of_an_existing_server_all_arrive() {
    const WORDS: usize = 2_000;
    let _heavy = heavy();
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &["vehicles.flush_ms=0"]);
    let mut road = Road::default();
    for host in &hosts {
        road.join(host, 2);
    }
    road.meet();
    let words = (0..WORDS).map(|n| envelope("radio_text", json!({"from": "radio-7", "content": n.to_string()})));
    burst(redis.plain(), BROADCAST, words);
    road.drive_until("all have heard all", |road| road.drivers.iter().all(|driver| driver.words.len() >= WORDS));
    let wanted: Vec<String> = (0..WORDS).map(|n| n.to_string()).collect();
    for driver in &road.drivers {
        assert_eq!(driver.words, wanted, "{}", driver.client.id);
    }
}
