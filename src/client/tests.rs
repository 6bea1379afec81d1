//! The client against the gateway's own codec, at any split; `tests/drive.rs` has a stranger's.

use super::*;
use crate::wire::event::{self, Event};
use crate::wire::frame;
use crate::wire::json::{self, Command, Edges, EventKind, Terms};
use crate::wire::slim::StateFrames;
use crate::wire::state::{self, State};
use crate::wire::tape::Parser;
use crate::wire::units;
use crate::wire::upgrade::Request;

const NOW_MS: u64 = 1_760_000_000_123;

/// The reply to a client's request, and what the client says after it, decoded.
fn answer(client: &mut Client) -> Vec<u8> {
    let request = std::mem::take(client.pending_mut());
    let len = request.len();
    let Ok(Some((Request::Upgrade(request), used))) = upgrade::parse(&request) else { panic!("{request:?}") };
    assert_eq!((request.path, request.query, used), ("/v2v", "a=b", len));
    let mut reply = Vec::new();
    upgrade::accept(&mut reply, &request, Some(slim::SUBPROTOCOL));
    reply
}

fn open(dialect: Dialect) -> Client {
    let mut client = Client::new(dialect, "localhost:3002", "/v2v?a=b", 7);
    let mut reply = answer(&mut client);
    let len = reply.len();
    assert_eq!(client.hear(&mut reply), Ok((len, Some(Heard::Upgraded))));
    client
}

/// What the gateway finds in a client's bytes: text, and binary messages as `None`.
fn said(client: &mut Client) -> Vec<(Opcode, Vec<u8>)> {
    let mut bytes = std::mem::take(client.pending_mut());
    let (mut decoder, mut at, mut messages) = (Decoder::default(), 0, Vec::new());
    loop {
        let (used, message) = decoder.decode(Role::Server, 65_536, &mut bytes[at..]).unwrap();
        at += used;
        messages.push(match message {
            None => return messages,
            Some(Message::Text(text)) => (Opcode::Text, text.to_vec()),
            Some(Message::Binary(bytes)) => (Opcode::Binary, bytes.to_vec()),
            Some(Message::Pong(payload)) => (Opcode::Pong, payload.to_vec()),
            Some(Message::Close { code, .. }) => (Opcode::Close, code.unwrap().to_be_bytes().to_vec()),
            Some(Message::Ping(_)) => panic!("a client has no need to ping"),
        });
    }
}

/// Calls `check` with the one command that was said.
fn commanded(client: &mut Client, check: impl FnOnce(Command<'_>)) {
    let [(Opcode::Text, mut text)] = <[_; 1]>::try_from(said(client)).unwrap() else { panic!("one text") };
    json::decode(&mut Parser::default(), &mut text, NOW_MS, |decoded| check(decoded.unwrap().command.unwrap()));
}

fn moving() -> State {
    State {
        lat_e7: -302_672_001,
        lon_e7: 1_800_000_000,
        speed: units::speed(Some(13.42)),
        heading: units::heading(Some(91.5)),
        elevation: units::elevation(Some(-12.5)),
        accuracy: units::accuracy(Some(4.35)),
        ..State::unavailable(state::key("bus-7"))
    }
}

fn austin() -> Edges {
    Edges { south_e7: 301_000_000, west_e7: -979_000_000, north_e7: 304_000_000, east_e7: -976_000_000 }
}

#[test]
fn what_is_said_early_waits_for_the_upgrade() {
    for dialect in [Dialect::Json, Dialect::Binary] {
        let mut client = Client::new(dialect, "localhost:3002", "/v2v?a=b", 7);
        client.heartbeat();
        let mut stream = answer(&mut client);
        let reply_len = stream.len();
        frame::encode(&mut stream, Opcode::Ping, b"alive?");
        assert!(client.pending().is_empty());
        // At any split.
        for cut in 0..reply_len {
            let mut client = Client::new(dialect, "localhost:3002", "/v2v?a=b", 7);
            answer(&mut client);
            client.heartbeat();
            let mut stream = stream.clone();
            let (head, tail) = stream.split_at_mut(cut);
            assert_eq!(client.hear(head), Ok((cut, None)));
            assert_eq!(client.hear(tail), Ok((reply_len - cut, Some(Heard::Upgraded))), "cut at {cut}");
            let rest = &mut tail[reply_len - cut..];
            assert_eq!(client.hear(rest), Ok((8, Some(Heard::Nothing))));
            let said = said(&mut client);
            assert_eq!(said[0].1, br#"{"event":"heartbeat","data":{}}"#);
            assert_eq!(said[1..], [(Opcode::Pong, b"alive?".to_vec())]);
        }
    }
}

#[test]
fn a_gateway_that_does_not_know_the_subprotocol_is_refused() {
    let mut client = Client::new(Dialect::Binary, "localhost", "/v2v", 7);
    let request = client.pending().to_vec();
    let Ok(Some((Request::Upgrade(request), _))) = upgrade::parse(&request) else { panic!("{request:?}") };
    assert!(request.offers("ringroad.v1"));
    let mut reply = Vec::new();
    upgrade::accept(&mut reply, &request, None);
    assert_eq!(client.hear(&mut reply), Err(Broken::Reply(ReplyError::Protocol)));
}

#[test]
fn commands_are_what_the_gateway_reads() {
    let mut client = open(Dialect::Json);
    let who =
        Registration { vehicle_id: "bus-7", driver_name: "Ada \"A\"", color: Some("white"), ..Default::default() };
    client.register(&who);
    commanded(&mut client, |command| {
        let Command::Register { vehicle_id, driver_name, info, auth_token } = command else { panic!("{command:?}") };
        assert_eq!((vehicle_id, driver_name, auth_token), ("bus-7", "Ada \"A\"", None));
        assert_eq!((info.license_plate, info.model, info.color), (None, None, Some("white")));
    });
    client.register(&Registration { auth_token: Some("x.y.z"), color: None, ..who });
    commanded(&mut client, |command| {
        assert!(matches!(command, Command::Register { auth_token: Some("x.y.z"), .. }), "{command:?}");
    });
    client.report("bus-7", &moving(), NOW_MS);
    commanded(&mut client, |command| {
        let Command::Location { vehicle_id: "bus-7", fix } = command else { panic!("{command:?}") };
        assert_eq!((fix.lat, fix.lon, fix.ts), (-30.2672001, 180.0, Some(NOW_MS)));
        assert_eq!((fix.speed, fix.heading), (Some(13.42), Some(91.5)));
        assert_eq!((fix.elevation, fix.accuracy), (Some(-12.5), Some(4.35)));
    });
    client.report("bus-7", &State { lat_e7: 1, lon_e7: -1, ..State::unavailable(0) }, 0);
    let at_rest =
        json::Fix { lat: 1e-7, lon: -1e-7, speed: None, heading: None, elevation: None, accuracy: None, ts: Some(0) };
    commanded(&mut client, |command| assert_eq!(command, Command::Location { vehicle_id: "bus-7", fix: at_rest }));
    client.view(Some(austin()), &Terms { max_hz: Some(2.5), auth_token: Some("t") });
    commanded(&mut client, |command| {
        let terms = Terms { max_hz: Some(2.5), auth_token: Some("t") };
        assert_eq!(command, Command::View { edges: Some(austin()), terms });
    });
    client.view(None, &Terms::default());
    commanded(&mut client, |command| {
        assert_eq!(command, Command::View { edges: None, terms: Terms::default() });
    });
    client.near(Some(750.5), &Terms::default());
    commanded(&mut client, |command| {
        assert_eq!(command, Command::Near { radius_m: Some(750.5), terms: Terms::default() });
    });
    client.follow(["bus-7", "bus-9"], &Terms::default());
    commanded(&mut client, |command| {
        assert_eq!(command, Command::Follow { vehicle_ids: vec!["bus-7", "bus-9"], terms: Terms::default() });
    });
    client.follow([], &Terms::default());
    commanded(&mut client, |command| {
        assert_eq!(command, Command::Follow { vehicle_ids: vec![], terms: Terms::default() });
    });
    client.heartbeat();
    commanded(&mut client, |command| assert_eq!(command, Command::Heartbeat));
    assert_eq!(EventKind::ALL.len(), 16, "a new event may be something to say");
}

#[test]
fn a_binary_position_is_what_the_gateway_reads() {
    let mut client = open(Dialect::Binary);
    client.report("not said", &moving(), NOW_MS);
    let [(Opcode::Binary, message)] = <[_; 1]>::try_from(said(&mut client)).unwrap() else { panic!("one message") };
    let reported = slim::read(&message).unwrap();
    assert_eq!(reported.ts, Some(NOW_MS));
    assert_eq!(reported.state, State { sec_mark: (NOW_MS % 60_000) as u16, ..moving() });
}

#[test]
fn positions_and_identities_come_as_what_they_are() {
    let identity = event::Identity {
        vehicle_id: "bus-9".into(),
        driver_name: "Grace".into(),
        license_plate: None,
        model: Some("eCitaro".into()),
        color: None,
        connected_ms: NOW_MS,
    };
    let state = State { sec_mark: 100, key: identity.key(), ..moving() };
    let mut stream = Vec::new();
    let event = Event::VehicleIdentity { key: identity.key(), identity: &identity };
    frame::encode_with(&mut stream, Opcode::Text, |out| event.write(out));
    let mut frames = StateFrames::begin(&mut stream, slim::CUT, 9, NOW_MS);
    frames.push(&mut stream, &state::encode(&state));
    frames.push(&mut stream, &slim::gone(77));
    frames.finish(&mut stream, true);
    // Of a kind that nobody knows yet.
    frame::encode(&mut stream, Opcode::Binary, &[1, 99, 1, 2, 3]);
    frame::encode(&mut stream, Opcode::Text, br#"{"data":{},"event":"registered"}"#);
    for piece in [stream.len(), 1, 7, 60] {
        let mut client = open(Dialect::Binary);
        let mut heard = Vec::new();
        for piece in stream.clone().chunks_mut(piece) {
            let mut at = 0;
            while let (used, Some(message)) = client.hear(&mut piece[at..]).unwrap() {
                at += used;
                heard.push(match message {
                    Heard::Identity(who) => {
                        assert_eq!((who.key, &who.vehicle_id[..]), (identity.key(), "bus-9"));
                        assert_eq!((who.model.as_deref(), who.color, who.license_plate), (Some("eCitaro"), None, None));
                        who.driver_name
                    }
                    Heard::States(states) => {
                        assert!(states.is_complete() && states.is_cut());
                        assert_eq!((states.header.epoch, states.header.count), (9, 2));
                        let minute_ms = NOW_MS - NOW_MS % 60_000;
                        let expected = [Seen::Here { state, unix_ms: Some(minute_ms + 100) }, Seen::Gone { key: 77 }];
                        assert_eq!(states.iter().collect::<Vec<_>>(), expected);
                        "states".to_owned()
                    }
                    Heard::Event { name, .. } => name.into_owned(),
                    Heard::Nothing => "nothing".to_owned(),
                    other => panic!("{other:?}"),
                });
            }
        }
        assert_eq!(heard, ["Grace", "states", "nothing", "registered"], "pieces of {piece}");
    }
}

#[test]
fn a_bad_state_frame_breaks_the_connection() {
    let mut client = open(Dialect::Binary);
    let mut stream = Vec::new();
    frame::encode(&mut stream, Opcode::Binary, &[1, 1, 32, 0, 9, 0]);
    assert_eq!(client.hear(&mut stream), Err(Broken::States(FrameError::Short)));
    // In JSON, nobody asked for it.
    let mut stream = Vec::new();
    frame::encode(&mut stream, Opcode::Binary, &[1, 1, 32, 0, 9, 0]);
    assert_eq!(open(Dialect::Json).hear(&mut stream), Ok((8, Some(Heard::Nothing))));
}

#[test]
fn names_of_events() {
    let name = |text: &str| {
        let mut stream = Vec::new();
        frame::encode(&mut stream, Opcode::Text, text.as_bytes());
        match open(Dialect::Json).hear(&mut stream).unwrap().1.unwrap() {
            Heard::Event { name, text: heard } => {
                assert_eq!(heard, text);
                Some(name.into_owned())
            }
            Heard::Nonsense { text: heard } => {
                assert_eq!(heard, text);
                None
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(name(r#"{"event":"presence_update","data":{}}"#).as_deref(), Some("presence_update"));
    assert_eq!(name(r#"{ "data" : {"a":["}"]} , "event" : "x" }"#).as_deref(), Some("x"));
    assert_eq!(name(r#"{"event":"peer\u005flocation"}"#).as_deref(), Some("peer_location"));
    // In JSON it is an event like any other.
    assert_eq!(name(r#"{"event":"vehicle_identity"}"#).as_deref(), Some("vehicle_identity"));
    for text in ["", "{}", "[]", "7", r#"{"event":7}"#, r#"{"event":"x""#, r#"{"event":"#, "x"] {
        // Half an object is nonsense only if its name is not there yet.
        assert_eq!(name(text).is_some(), text == r#"{"event":"x""#, "{text}");
    }
}

#[test]
fn goodbyes_are_answered_once() {
    let mut client = open(Dialect::Json);
    let mut stream = Vec::new();
    frame::encode_close(&mut stream, 4008, "slow");
    frame::encode(&mut stream, Opcode::Ping, b"");
    let (used, heard) = client.hear(&mut stream).unwrap();
    assert_eq!(heard, Some(Heard::Closed { code: 4008, reason: "slow" }));
    assert_eq!(client.hear(&mut stream[used..]), Ok((2, None)));
    client.heartbeat();
    assert_eq!(said(&mut client), [(Opcode::Close, 4008u16.to_be_bytes().to_vec())]);

    let mut client = open(Dialect::Json);
    client.goodbye(1000);
    client.goodbye(1000);
    client.heartbeat();
    let mut stream = Vec::new();
    frame::encode_close(&mut stream, 1000, "");
    assert_eq!(client.hear(&mut stream).unwrap().1, Some(Heard::Closed { code: 1000, reason: "" }));
    assert_eq!(said(&mut client), [(Opcode::Close, 1000u16.to_be_bytes().to_vec())]);

    let mut client = open(Dialect::Json);
    let mut stream = Vec::new();
    frame::encode(&mut stream, Opcode::Close, b"");
    assert_eq!(client.hear(&mut stream).unwrap().1, Some(Heard::Closed { code: heard::NO_CODE, reason: "" }));
    assert_eq!(said(&mut client), [(Opcode::Close, 1000u16.to_be_bytes().to_vec())]);
}

#[test]
fn pongs_wait_up_to_a_bound() {
    let mut client = open(Dialect::Json);
    for _ in 0..1_000 {
        let mut stream = Vec::new();
        frame::encode(&mut stream, Opcode::Ping, &[b'x'; 125]);
        client.hear(&mut stream).unwrap();
    }
    assert!((PENDING_BYTES_MAX..PENDING_BYTES_MAX + 140).contains(&client.pending().len()));
}
