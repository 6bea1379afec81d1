//! The opening handshake, and WebSocket itself, through the shard.

use ringroad::wire::frame::{Opcode, encode_masked};

use crate::script::{Play, check};

fn frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_masked(&mut bytes, opcode, [0xA5, 0x5A, 0x0F, 0xF0], payload);
    if !fin {
        bytes[0] &= 0x7F;
    }
    bytes
}

#[track_caller]
fn after(bytes: &[u8], expected: &str) {
    let mut play = Play::default();
    play.run("set presence.scope = 'none'\n a registers; b registers\n forget");
    let client = play.client("a");
    play.world().send_bytes(client, bytes);
    assert_eq!(play.heard("a").join(", "), expected);
    play.run("b< nothing\n b heartbeats\n b< heartbeat_ack");
}

#[test]
fn refusals_at_the_door() {
    let good = ringroad::sim::HANDSHAKE;
    for (request, expected) in [
        (good.replace("Version: 13", "Version: 8"), "426"),
        (good.replace("Version: 13", "Version: 12"), "426"),
        (good.replace("Upgrade: websocket\r\n", "Upgrade: h2c\r\n"), "400"),
        (good.replace("Connection: Upgrade\r\n", "Connection: close\r\n"), "400"),
        (good.replace("GET", "POST"), "405"),
        (good.replace("/v2v", "/other"), "404"),
        (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), "400"),
        (good.replace("Host: sim\r\n", ""), "400"),
        (good.replace("HTTP/1.1", "HTTP/2.0"), "505"),
        ("GET /v2v HTTP/1.1\r\nHost: sim\r\n\r\n".into(), "426"),
        ("nonsense\r\n\r\n".into(), "400"),
        ("\x16\x03\x01\x02".into(), "400"),
        (format!("GET / HTTP/1.1\r\nHost: sim\r\nX: {}\r\n\r\n", "y".repeat(9000)), "431"),
        (format!("GET /{} HTTP/1.1\r\nHost: sim\r\n\r\n", "y".repeat(9000)), "414"),
    ] {
        for split in [0, 1] {
            let mut play = Play::default();
            play.run(&format!("a opens\n split {split}"));
            let client = play.client("a");
            play.world().send_bytes(client, request.as_bytes());
            let reply = play.world().reply(client);
            assert_eq!(reply.split(' ').nth(1), Some(expected), "{request:?} {reply:?}");
            assert!(play.world().closed(client).is_some());
            if expected == "426" && request.contains("Version") {
                assert!(reply.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{reply}");
            }
            if expected == "426" {
                assert!(reply.contains("\r\nUpgrade: websocket\r\n"), "{reply}");
            }
        }
    }
}

#[test]
fn the_accept_key_is_that_of_the_rfc_and_nothing_is_negotiated() {
    let mut play = Play::default();
    play.run("a opens");
    let client = play.client("a");
    let request = ringroad::sim::HANDSHAKE.replace(
        "\r\n\r\n",
        "\r\nSec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: chat, ringroad.v9\r\n\r\n",
    );
    play.world().send_bytes(client, request.as_bytes());
    let reply = play.world().reply(client);
    assert!(reply.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{reply}");
    assert!(!reply.contains("Extensions") && !reply.contains("Protocol:"), "{reply}");
    play.run("a< connected");
}

#[test]
fn messages_may_follow_the_handshake_in_the_same_bytes() {
    let mut play = Play::default();
    play.run("a opens");
    let client = play.client("a");
    let hello = frame(true, Opcode::Text, br#"{"event":"heartbeat"}"#);
    play.world().send_bytes(client, &[ringroad::sim::HANDSHAKE.as_bytes(), &hello, &hello].concat());
    play.run("a< connected, heartbeat_ack, heartbeat_ack");
}

#[test]
fn nothing_precedes_the_handshakes_reply_not_even_a_broadcast_of_the_same_turn() {
    let mut play = Play::default();
    play.run("a opens");
    let client = play.client("a");
    let register = frame(true, Opcode::Text, br#"{"event":"register","data":{"vehicleId":"veh-a","driverName":"A"}}"#);
    play.world().send_bytes(client, &[ringroad::sim::HANDSHAKE.as_bytes(), &register].concat());
    assert!(play.world().reply(client).starts_with("HTTP/1.1 101 "));
    play.run("a< connected, registered a, online a");
}

#[test]
fn the_close_code_is_echoed() {
    for code in [1000u16, 1001, 1008, 3000, 4999] {
        after(&frame(true, Opcode::Close, &code.to_be_bytes()), &format!("closed {code}"));
    }
    after(&frame(true, Opcode::Close, b""), "closed");
    let bye = frame(true, Opcode::Close, b"\x03\xe8bye");
    after(&[bye, frame(true, Opcode::Text, br#"{"event":"heartbeat"}"#)].concat(), "closed 1000");
}

#[test]
fn what_is_not_rfc_6455_is_closed_with_1002() {
    let heartbeat = frame(true, Opcode::Text, br#"{"event":"heartbeat"}"#);
    after(&[0xC1, 0x80, 0, 0, 0, 0], "closed 1002 protocol");
    after(&[0x83, 0x80, 0, 0, 0, 0], "closed 1002 protocol");
    after(&[0x81, 0x01, b'x'], "closed 1002 protocol");
    after(&frame(false, Opcode::Ping, b""), "closed 1002 protocol");
    after(&[0x89, 0xFE, 0, 126, 1, 2, 3, 4], "closed 1002 protocol");
    after(&frame(true, Opcode::Continuation, b"x"), "closed 1002 protocol");
    after(&[frame(false, Opcode::Text, b"{"), heartbeat.clone()].concat(), "closed 1002 protocol");
    after(&frame(true, Opcode::Close, &1005u16.to_be_bytes()), "closed 1002 protocol");
    after(&frame(true, Opcode::Close, b"\x03"), "closed 1002 protocol");
    after(&[heartbeat, vec![0xFF]].concat(), "heartbeat_ack, closed 1002 protocol");
    after(&[0xFF, 0xFF, 0, 0], "closed 1002 protocol");
}

#[test]
fn text_that_is_not_utf_8_is_closed_with_1007() {
    after(&frame(true, Opcode::Text, b"{\"event\":\"\xFF\"}"), "closed 1007 invalid_utf8");
    after(&frame(true, Opcode::Close, b"\x03\xe8\xFF"), "closed 1007 invalid_utf8");
    // Binary messages promise nothing, so this one is only bad JSON.
    after(&frame(true, Opcode::Binary, b"{\"event\":\"\xFF\"}"), "error invalid_json");
}

#[test]
fn a_message_that_is_announced_too_large_is_closed_with_1009_after_the_error() {
    let mut header = vec![0x81, 0xFF];
    header.extend_from_slice(&(1u64 << 40).to_be_bytes());
    header.extend_from_slice(&[1, 2, 3, 4]);
    after(&header, "error too_large, closed 1009 too_big");
    let parts =
        [frame(false, Opcode::Text, &[b' '; 40_000]), frame(true, Opcode::Continuation, &[b' '; 40_000])].concat();
    after(&parts, "error too_large, closed 1009 too_big");
}

#[test]
fn a_vehicle_whose_connection_broke_the_protocol_is_announced() {
    let mut play = Play::default();
    play.run("a registers; b registers\n forget");
    let client = play.client("a");
    play.world().send_bytes(client, &[0x81, 0x01, b'x']);
    play.run("b< offline a\n a< closed 1002 protocol");
}

#[test]
fn fragments_are_put_together_and_control_frames_come_between() {
    let message = br#"{"event":"heartbeat","data":{}}"#;
    let mut bytes = frame(false, Opcode::Text, &message[..1]);
    for byte in &message[1..message.len() - 1] {
        bytes.extend(frame(false, Opcode::Continuation, &[*byte]));
        bytes.extend(frame(true, Opcode::Ping, b"x"));
    }
    bytes.extend(frame(true, Opcode::Continuation, &message[message.len() - 1..]));
    let pongs = vec!["pong"; message.len() - 2].join(", ");
    after(&bytes, &format!("heartbeat_ack, {pongs}"));
}

#[test]
fn everything_may_arrive_byte_by_byte() {
    check(
        r#"shards 2
           split 1
           a@0 registers; b@1 registers
           a< connected, registered a, online a, online b
           b< connected, registered b, online b
           a at 48 11; b at 48 11.001
           a< enter b 75, peer b 48 11.001
           b< enter a 75
           a tells b hello
           b< a: "hello"
           a requests b
           b< connect_request {"requesterId":"a","targetId":"b","ts":now}
           b approves a
           a< connect_response {"approved":true,"requesterId":"a","targetId":"b","ts":now}
           a pings x
           a< pong
           a leaves 1000 bye
           a< closed 1000
           b< exit a, offline a
           c@1 gets /vehicles/veh-a
           c< 404 {"error":"not_found"}, closed"#,
    );
}

#[test]
fn a_whole_session_means_the_same_at_every_split() {
    let mut session = ringroad::sim::HANDSHAKE.as_bytes().to_vec();
    for text in [
        r#"{"event":"register","data":{"vehicleId":"veh-a","driverName":"Ann ✓"}}"#,
        r#"{"event":"location_update","data":{"vehicleId":"veh-a","lat":48,"lon":11}}"#,
        r#"{"event":"send_message","data":{"senderId":"veh-a","recipientId":"veh-a","content":"grüß"}}"#,
    ] {
        session.extend(frame(true, Opcode::Text, text.as_bytes()));
    }
    session.extend(frame(true, Opcode::Ping, b"?"));
    session.extend(frame(true, Opcode::Close, &1000u16.to_be_bytes()));
    for cut in 0..session.len() {
        let mut play = Play::default();
        play.run("set presence.scope = 'none'\n a opens");
        let client = play.client("a");
        play.world().send_bytes(client, &session[..cut]);
        play.world().send_bytes(client, &session[cut..]);
        assert_eq!(
            play.heard("a").join(", "),
            r#"connected, registered a, a: "grüß", pong, closed 1000"#,
            "cut at {cut}"
        );
    }
}
