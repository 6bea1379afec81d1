//! What the gateway says it has told its clients is what they have heard, message by message and byte by byte.

use std::collections::BTreeMap;

use ringroad::metrics::Label;
use ringroad::sim::Heard;
use ringroad::wire::event::EventName;
use ringroad::wire::json::EventKind;
use serde_json::Value;

use crate::script::Play;

/// Messages and bytes, by event.
type Tally = BTreeMap<String, (u64, u64)>;

/// RFC 6455, section 5.2: two bytes before up to 125, four before what has a length of 16 bits.
fn framed(bytes: usize) -> u64 {
    let header = match bytes {
        0..=125 => 2,
        126..=65_535 => 4,
        _ => 10,
    };
    (header + bytes) as u64
}

fn heard(play: &mut Play, clients: &[&str]) -> Tally {
    let mut tally = Tally::new();
    for name in clients {
        let client = play.client(name);
        for heard in play.world().take_heard(client) {
            let (name, bytes) = match heard {
                Heard::Binary(bytes) => ("state".to_owned(), bytes.len()),
                Heard::Text(text) => {
                    let event: Value = serde_json::from_str(&text).expect("events are JSON");
                    (event["event"].as_str().expect("a name").to_owned(), text.len())
                }
            };
            let entry = tally.entry(name).or_default();
            *entry = (entry.0 + 1, entry.1 + framed(bytes));
        }
    }
    tally
}

fn told(play: &mut Play) -> Tally {
    let mut tally = Tally::new();
    for shard in 0..play.shards() {
        let counters = play.world().counters(shard);
        for &name in EventName::ALL {
            let (messages, bytes) = (counters.messages_out.of(name), counters.messages_out_bytes.of(name));
            let entry = tally.entry(name.as_str().to_owned()).or_default();
            *entry = (entry.0 + messages, entry.1 + bytes);
        }
    }
    tally.retain(|_, counts| *counts != (0, 0));
    tally
}

#[test]
fn every_message_to_a_client_is_counted_by_its_event() {
    const CLIENTS: [&str; 6] = ["a", "b", "s", "v", "w", "late"];
    let mut play = Play::default();
    play.run(
        "set vehicles.flush_ms = 0
         shards 2
         a@0 registers; b@1 registers
         s@0 connects slim
         s registers
         v@1 connects; w@0 connects slim
         v views 47 10 49 12; w views 47 10 49 12
         a at 48 11; b at 48.0001 11; s at 48 11.0001
         +200ms
         a at 48.001 11; s at 48.0012 11; b at 48.0002 11
         +200ms
         a heartbeats
         a at 100 0
         +200ms",
    );
    // A reader that takes little at a time hears all of it in the end.
    let b = play.client("b");
    play.world().stall(b, 40);
    play.run(
        "a sends connect_request {\"requesterId\":$a,\"targetId\":$b}
         a sends send_message {\"senderId\":$a,\"recipientId\":$b,\"content\":\"hello\"}
         a at 48.0015 11; s at 48.0011 11
         +200ms
         at once: a sends emergency_alert {\"senderId\":$a}; late@0 registers; s sends emergency_alert {\"senderId\":$s}
         +1s",
    );
    play.world().resume(b);
    play.run(
        "a at 60 11
         +1s
         late hangs
         +1s
         drain 100ms
         +1s",
    );
    let (heard, told) = (heard(&mut play, &CLIENTS), told(&mut play));
    assert_eq!(told, heard);
    for name in [
        "connected",
        "registered",
        "heartbeat_ack",
        "presence_update",
        "nearby_vehicles",
        "proximity_event",
        "peer_location",
        "state",
        "vehicle_identity",
        "peer_gone",
        "watching",
        "receive_message",
        "emergency_alert",
        "connect_request",
        "error",
        "server_shutdown",
    ] {
        assert!(told.contains_key(name), "the script has no {name}: {told:?}");
    }
}

#[test]
fn what_comes_in_is_counted_in_bytes_too() {
    let mut play = Play::default();
    play.run("a registers");
    let a = play.client("a");
    let beat = r#"{"event":"heartbeat","data":{}}"#;
    let before = play.world().counters(0).clone();
    for text in [beat, beat, "nonsense"] {
        play.world().send(a, text);
    }
    // A ping, and what answers one: masked, empty.
    for opcode in [0x89, 0x8a] {
        play.world().send_bytes(a, &[opcode, 0x80, 0, 0, 0, 0]);
    }
    let counters = play.world().counters(0);
    let beats = counters.command_bytes.of(EventKind::Heartbeat);
    assert_eq!(beats, 2 * beat.len() as u64);
    assert_eq!(counters.messages_in - before.messages_in, 3);
    assert_eq!(counters.messages_in_bytes - before.messages_in_bytes, beats + 8);
    assert_eq!(counters.control_in.iter().collect::<Vec<_>>(), [("ping", 1), ("pong", 1), ("close", 0)]);
}
