//! Whatever a client sends: a named error, and the connection lives on, unless it broke RFC 6455. Neighbours notice
//! nothing, and nobody else's vehicle moves.

use ringroad::wire::frame::{Opcode, encode_masked};
use serde_json::{Value, json};

use crate::proximity::PLAIN;
use crate::script::Play;

/// A vehicle "a" among two that watch, one of them on another shard.
fn watched() -> Play {
    let mut play = Play::default();
    play.run(PLAIN).run(
        "set rate_limits.emergency_alert = { burst = 0, per_ms = 1 }
         set rate_limits.send_message = { burst = 0, per_ms = 1 }
         set rate_limits.signaling = { burst = 0, per_ms = 1 }
         shards 2
         a@0 registers; w@0 registers; v@1 registers
         w at 48 11; v at 48 11; a at 48 11
         forget",
    );
    play
}

#[track_caller]
fn answers(text: &str, expected: &str) {
    let mut play = watched();
    let a = play.client("a");
    play.world().send(a, text);
    assert_eq!(play.heard("a").join(", "), expected, "{}", &text[..text.len().min(200)]);
    play.run("w v< nothing\n a heartbeats\n a< heartbeat_ack");
}

fn location(fields: &str) -> String {
    format!(r#"{{"event":"location_update","data":{{"vehicleId":"veh-a",{fields}}}}}"#)
}

#[test]
fn numbers_that_are_none() {
    for field in [
        r#""lat":NaN,"lon":0"#,
        r#""lat":Infinity,"lon":0"#,
        r#""lat":1e400,"lon":0"#,
        r#""lat":-1e400,"lon":0"#,
        r#""lat":0x10,"lon":0"#,
        r#""lat":.5,"lon":0"#,
        r#""lat":1.,"lon":0"#,
        r#""lat":+1,"lon":0"#,
        r#""lat":01,"lon":0"#,
        r#""lat":1,"lon":"#,
        r#""lat":1,"lon":0,"#,
    ] {
        answers(&location(field), "error invalid_json");
    }
}

#[test]
fn places_that_are_not_on_earth() {
    for field in [
        r#""lat":90.0000001,"lon":0"#,
        r#""lat":-90.0000001,"lon":0"#,
        r#""lat":0,"lon":180.0000001"#,
        r#""lat":0,"lon":-180.0000001"#,
        r#""lat":1e308,"lon":0"#,
        r#""lat":"48","lon":0"#,
        r#""lat":null,"lon":0"#,
        r#""lat":[48],"lon":0"#,
        r#""lat":true,"lon":0"#,
        r#""lat":48"#,
        r#""lon":11"#,
        r#""lat":9007199254740993,"lon":0"#,
        r#""lat":48,"lon":0,"speed":-0.1"#,
        r#""lat":48,"lon":0,"speed":"fast""#,
        r#""lat":48,"lon":0,"ts":"now""#,
        r#""lat":48,"lon":0,"ts":-1"#,
        r#""lat":48,"lon":0,"ts":1e17"#,
    ] {
        answers(&location(field), "error invalid_location");
    }
}

#[test]
fn nesting_without_end() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        for depth in [65usize, 1_000, 10_000] {
            let inner = if open == "[" { "" } else { "1" };
            let deep = format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
            answers(&format!(r#"{{"event":"heartbeat","data":{deep}}}"#), "error invalid_json");
            answers(&deep, "error invalid_json");
            answers(&open.repeat(depth), "error invalid_json");
        }
    }
    let deep = format!("{}{}", "[".repeat(60), "]".repeat(60));
    answers(&format!(r#"{{"event":"heartbeat","data":{deep}}}"#), "heartbeat_ack");
}

#[test]
fn of_duplicate_keys_the_last_counts() {
    let mut play = watched();
    let a = play.client("a");
    play.world().send(a, &location(r#""lat":99,"lon":11,"lat":48.0001"#));
    play.run("a< nothing\n w v< peer a 48.0001 11");
    play.world().send(a, &location(r#""lat":48.0002,"lon":11,"vehicleId":"veh-w""#));
    play.run("a< error not_yours\n w v< nothing");
    play.world().send(a, r#"{"event":"bogus","data":1,"event":"heartbeat"}"#);
    play.run("a< heartbeat_ack");
}

#[test]
fn integers_beyond_two_to_the_53_are_read_as_the_nearest_double_and_far_futures_are_not_believed() {
    let mut play = watched();
    let a = play.client("a");
    play.world().send(a, &location(r#""lat":48.0001,"lon":11,"ts":9007199254740993"#));
    play.run("a< nothing\n w v< peer a 48.0001 11");
    play.world().send(a, &location(r#""lat":48.0002,"lon":11,"ts":18446744073709551616"#));
    // Beyond 64 bits an integer is a double, and this one is no time.
    play.run("a< error invalid_location\n w v< nothing");
    play.run(r#"a sends call_initiate {"callerId":$a,"calleeId":$w,"n":9007199254740993,"m":-9223372036854775808}"#);
    play.run(r#"w< call_initiate {"calleeId":"w","callerId":"a","m":-9223372036854775808,"n":9007199254740993}"#);
}

#[test]
fn lone_surrogates() {
    for bad in [r"\ud800", r"\udc00", r"\ud800x", r"\ud800\u0041", r"\udc00\ud800"] {
        let text = format!(
            r#"{{"event":"send_message","data":{{"senderId":"veh-a","recipientId":"veh-w","content":"{bad}"}}}}"#
        );
        answers(&text, "error invalid_json");
    }
    let mut play = watched();
    play.run("a sends send_message {\"senderId\":$a,\"recipientId\":$w,\"content\":\"\\ud83d\\ude97\"}\n w< a: \"🚗\"");
}

#[test]
fn ids_that_are_none() {
    let long = "x".repeat(41);
    for id in ["", "ab", &long, "a b", "veh/a", "vehä", "veh\\u0000", "veh-a\\n"] {
        let data = format!(r#"{{"vehicleId":"{id}","lat":48,"lon":11}}"#);
        answers(&format!(r#"{{"event":"location_update","data":{data}}}"#), "error invalid_location");
        for (event, field, other) in [
            ("send_message", "senderId", r#""recipientId":"veh-w","content":"x""#),
            ("send_message", "recipientId", r#""senderId":"veh-a","content":"x""#),
            ("emergency_alert", "senderId", r#""x":0"#),
            ("connect_request", "requesterId", r#""targetId":"veh-w""#),
            ("connect_request", "targetId", r#""requesterId":"veh-a""#),
            ("connect_response", "targetId", r#""requesterId":"veh-a","approved":true"#),
            ("connect_response", "requesterId", r#""targetId":"veh-a","approved":true"#),
            ("call_initiate", "callerId", r#""calleeId":"veh-w""#),
            ("call_initiate", "calleeId", r#""callerId":"veh-a""#),
            ("webrtc_offer", "targetId", r#""x":0"#),
            ("webrtc_answer", "targetId", r#""x":0"#),
            ("ice_candidate", "targetId", r#""x":0"#),
            ("sync_disconnect", "fromVehicleId", r#""toVehicleId":"veh-w""#),
            ("sync_end_call", "toVehicleId", r#""fromVehicleId":"veh-a""#),
        ] {
            let text = format!(r#"{{"event":"{event}","data":{{"{field}":"{id}",{other}}}}}"#);
            answers(&text, "error validation_error");
        }
        let mut play = Play::default();
        play.run("a connects\n forget");
        let a = play.client("a");
        let text = format!(r#"{{"event":"register","data":{{"vehicleId":"{id}","driverName":"x"}}}}"#);
        play.world().send(a, &text);
        play.run("a< error invalid_register\n a registers\n a< registered a, online a");
    }
    let mut play = Play::default();
    play.run("set presence.scope = 'none'\n a connects\n forget");
    let (a, id) = (play.client("a"), "Z".repeat(40));
    play.world().send(a, &format!(r#"{{"event":"register","data":{{"vehicleId":"{id}","driverName":"x"}}}}"#));
    play.run(&format!("a< registered {id}"));
}

#[test]
fn texts_that_are_too_long() {
    let long = |n: usize| "ü".repeat(n);
    for (event, data) in [
        ("send_message", format!(r#"{{"senderId":"veh-a","recipientId":"veh-w","content":"{}"}}"#, long(513))),
        ("connect_request", format!(r#"{{"requesterId":"veh-a","targetId":"veh-w","purpose":"{}"}}"#, long(129))),
        (
            "connect_response",
            format!(r#"{{"requesterId":"veh-w","targetId":"veh-a","approved":true,"reason":"{}"}}"#, long(129)),
        ),
        ("connect_response", r#"{"requesterId":"veh-w","targetId":"veh-a","approved":"yes"}"#.into()),
        ("emergency_alert", format!(r#"{{"senderId":"veh-a","vehicleInfo":{{"x":"{}"}}}}"#, long(1100))),
        ("emergency_alert", r#"{"senderId":"veh-a","vehicleInfo":"red"}"#.into()),
    ] {
        answers(&format!(r#"{{"event":"{event}","data":{data}}}"#), "error validation_error");
    }
    let name = |n| format!(r#"{{"event":"register","data":{{"vehicleId":"veh-b","driverName":"{}"}}}}"#, long(n));
    let mut play = Play::default();
    play.run("set presence.scope = 'none'\n b connects\n forget");
    let b = play.client("b");
    play.world().send(b, &name(65));
    play.run("b< error invalid_register");
    play.world().send(b, &name(64));
    play.run("b< registered b");
}

#[test]
fn east_and_west_180_are_one_place_and_zero_zero_is_a_place() {
    for shard in ["@0", "@1"] {
        Play::default().run(PLAIN).run(
            &"shards 2
              a@0 registers; b@? registers; z@0 registers; y@? registers
              forget
              a at 10 180; b at 10 -180
              a< enter b 0, peer b 10 180
              b< enter a 0
              z at 0 0; y at -0.0 -0.0
              z< enter y 0, peer y 0 0
              y< enter z 0
              a b< nothing"
                .replace("@?", shard),
        );
    }
}

#[test]
fn fields_of_the_wrong_kind() {
    for text in [
        r#"{}"#,
        r#"null"#,
        r#"7"#,
        r#""heartbeat""#,
        r#"{"event":null}"#,
        r#"{"event":["heartbeat"]}"#,
        r#"{"Event":"heartbeat"}"#,
        "",
        " ",
        "\u{feff}{\"event\":\"heartbeat\"}",
        "{\"event\":\"heartbeat\"}{\"event\":\"heartbeat\"}",
        "{'event':'heartbeat'}",
        "{\"event\":\"heartbeat\u{0}\"}",
        "{\"event\":\"heart\nbeat\"}",
    ] {
        answers(text, "error invalid_json");
    }
    for data in ["null", "7", "[]", "\"x\"", "{}"] {
        answers(&format!(r#"{{"event":"location_update","data":{data}}}"#), "error invalid_location");
        answers(&format!(r#"{{"event":"send_message","data":{data}}}"#), "error validation_error");
        answers(&format!(r#"{{"event":"ice_candidate","data":{data}}}"#), "error validation_error");
        answers(&format!(r#"{{"event":"heartbeat","data":{data}}}"#), "heartbeat_ack");
        answers(&format!(r#"{{"event":"register","data":{data}}}"#), "error invalid_register");
    }
    answers(r#"{"event":"HEARTBEAT"}"#, "error unknown_event");
    answers(r#"{"event":""}"#, "error unknown_event");
    answers("\t{ \"event\"\n:\r\"heartbeat\" } ", "heartbeat_ack");
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    /// From 0 to 1.
    pub fn unit(&mut self) -> f64 {
        self.below(1 << 30) as f64 / (1u64 << 30) as f64
    }
}

/// One valid message of each kind, from veh-a.
const VALID: [&str; 14] = [
    r#"{"event":"register","data":{"vehicleId":"veh-a","driverName":"Ann","vehicleInfo":{"model":"ID.3"}}}"#,
    r#"{"event":"heartbeat"}"#,
    r#"{"event":"location_update","data":{"vehicleId":"veh-a","lat":48.0001,"lon":11.25,"speed":13.9,"heading":270}}"#,
    r#"{"event":"location_update","data":{"vehicleId":"veh-a","lat":-89.9,"lon":-179.99,"ts":1767268800000}}"#,
    r#"{"event":"send_message","data":{"senderId":"veh-a","recipientId":"veh-w","content":"h\u00e4llo","sentTs":7}}"#,
    r#"{"event":"emergency_alert","data":{"senderId":"veh-a","vehicleInfo":{"model":"ID.3"}}}"#,
    r#"{"event":"connect_request","data":{"requesterId":"veh-a","targetId":"veh-v","purpose":"race"}}"#,
    r#"{"event":"connect_response","data":{"requesterId":"veh-w","targetId":"veh-a","approved":true}}"#,
    r#"{"event":"call_initiate","data":{"callerId":"veh-a","calleeId":"veh-v","video":[1,2,{"x":null}]}}"#,
    r#"{"event":"webrtc_offer","data":{"targetId":"veh-w","sdp":"v=0"}}"#,
    r#"{"event":"webrtc_answer","data":{"targetId":"veh-v","sdp":"v=0"}}"#,
    r#"{"event":"ice_candidate","data":{"targetId":"veh-w","candidate":{"candidate":"x"}}}"#,
    r#"{"event":"sync_disconnect","data":{"fromVehicleId":"veh-a","toVehicleId":"veh-w"}}"#,
    r#"{"event":"sync_end_call","data":{"fromVehicleId":"veh-a","toVehicleId":"veh-v","timestamp":5}}"#,
];

/// Things that parsers trip over.
const TRAPS: [&str; 24] = [
    "NaN",
    "1e400",
    "-0",
    "9007199254740993",
    "\"",
    "\\",
    "\\ud800",
    "\\u0000",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "1e-400",
    "\"veh-w\"",
    "\"veh-v\"",
    "\u{7f}",
    "\u{2028}",
    "🚗",
    "\"lat\":",
    "\"vehicleId\":\"veh-w\",",
];

fn mutate(random: &mut Random) -> Vec<u8> {
    let mut text = VALID[random.below(VALID.len())].as_bytes().to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(text.len() + 1);
        match random.below(6) {
            0 => text.truncate(at),
            1 => drop(text.drain(at..(at + 1 + random.below(8)).min(text.len()).max(at))),
            2 => drop(text.splice(at..at, TRAPS[random.below(TRAPS.len())].bytes())),
            3 if at < text.len() => text[at] = b' ' + random.below(95) as u8,
            4 => {
                let other = VALID[random.below(VALID.len())].as_bytes();
                let cut = random.below(other.len());
                text.splice(at..at, other[cut..(cut + random.below(40)).min(other.len())].iter().copied());
            }
            _ if at < text.len() => {
                // Another id of the same length is the likeliest attack.
                let shown = String::from_utf8_lossy(&text).replacen("veh-a", ["veh-w", "veh-v", "veh-x"][at % 3], 1);
                text = shown.into_bytes();
            }
            _ => {}
        }
        if text.is_empty() {
            text.push(b'{');
        }
    }
    text
}

fn whereabouts(play: &mut Play, name: &str) -> Value {
    let client = play.world().open(0);
    play.world().send_bytes(client, format!("GET /vehicles/veh-{name} HTTP/1.1\r\nHost: sim\r\n\r\n").as_bytes());
    let reply = play.world().reply(client);
    play.world().hang_up(client, ringroad::turn::Ended::Eof);
    serde_json::from_str(reply.split("\r\n\r\n").nth(1).unwrap_or_default()).expect("JSON")
}

#[test]
fn five_thousand_mutations_harm_nobody() {
    for seed in 1..=5 {
        let mut random = Random(seed);
        let mut play = watched();
        let (a, w, v) = (play.client("a"), play.client("w"), play.client("v"));
        let before = [whereabouts(&mut play, "w"), whereabouts(&mut play, "v")];
        for round in 0..1_000 {
            let mut bytes = mutate(&mut random);
            // As text it would have to be UTF-8, which is RFC 6455's affair.
            let opcode = if std::str::from_utf8(&bytes).is_ok() { Opcode::Text } else { Opcode::Binary };
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            let mut frame = Vec::new();
            encode_masked(&mut frame, opcode, [7, 5, 3, 1], &bytes);
            play.world().send_bytes(a, &frame);
            bytes.clear();
            assert!(play.world().closed(a).is_none(), "seed {seed}, round {round}: {shown}");
            for told in play.world().take(a) {
                serde_json::from_str::<Value>(&told).expect("what is told is JSON");
            }
            for (watcher, name) in [(w, "w"), (v, "v")] {
                for told in play.world().take(watcher) {
                    let event: Value = serde_json::from_str(&told).expect("what is passed on is JSON");
                    // Whatever the watchers hear of comes from veh-a, and says so where the event names its sender.
                    let data = &event["data"];
                    let senders = match event["event"].as_str().unwrap_or("?") {
                        "peer_location" => vec![&data["vehicleId"]],
                        "proximity_event" => vec![&data["peerVehicleId"]],
                        "receive_message" | "emergency_alert" => vec![&data["senderId"]],
                        "connect_request" => vec![&data["requesterId"]],
                        "connect_response" => vec![&data["targetId"]],
                        "call_initiate" => vec![&data["callerId"]],
                        "sync_disconnect" | "sync_end_call" => vec![&data["fromVehicleId"]],
                        "webrtc_offer" | "webrtc_answer" | "ice_candidate" => vec![],
                        other => panic!("{name} was told {other}: {told}"),
                    };
                    assert!(senders.iter().all(|sender| **sender == json!("veh-a")), "{shown} made {name} hear {told}");
                }
            }
        }
        play.run("+10s");
        play.run("forget\n a heartbeats; w heartbeats; v heartbeats\n a w v< heartbeat_ack");
        assert_eq!([whereabouts(&mut play, "w"), whereabouts(&mut play, "v")], before);
    }
}

#[test]
fn random_bytes_end_a_connection_at_worst_their_own() {
    let mut random = Random(99);
    let mut play = watched();
    for round in 0..2_000 {
        let client = if round % 2 == 0 { play.world().open(0) } else { play.world().connect(1) };
        let mut bytes: Vec<u8> = (0..random.below(60)).map(|_| random.below(256) as u8).collect();
        if round % 3 == 0 {
            bytes.splice(0..0, [0x81, 0x80 | random.below(126) as u8]);
        }
        play.world().send_bytes(client, &bytes);
        play.world().hang_up(client, ringroad::turn::Ended::Reset);
    }
    play.run("a heartbeats; w heartbeats; v heartbeats\n a w v< heartbeat_ack");
}
