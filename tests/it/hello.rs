//! A connection's first words, and what becomes of words that make no sense.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tungstenite::Message;

use crate::client::Client;
use crate::gateway::Gateway;

#[test]
fn a_vehicle_is_greeted_registered_and_answered() {
    let gateway = Gateway::start(&[]);
    let mut client = Client::connect(gateway.addr).register("car-1");
    client.send("heartbeat", json!({}));
    let ack = client.expect("heartbeat_ack");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let ts = Duration::from_millis(ack["ts"].as_u64().expect("a number"));
    assert!(now.abs_diff(ts) < Duration::from_secs(20), "{ack}");
    // Saying it again changes nothing.
    client.ask_to_register("car-1");
    assert_eq!(client.expect("registered"), json!({"vehicleId": "car-1"}));
    client.goodbye();
}

#[test]
fn events_may_come_in_binary_messages_and_in_fragments() {
    let gateway = Gateway::start(&[]);
    let mut client = Client::connect(gateway.addr);
    client.socket.send(Message::binary(br#"{"event":"heartbeat"}"#.to_vec())).expect("sent");
    client.expect("heartbeat_ack");
    // A ping between two fragments, masked with zeros.
    client.raw(b"\x01\x8a\0\0\0\0{\"event\":\"\x89\x80\0\0\0\0\x80\x8b\0\0\0\0heartbeat\"}");
    client.expect("heartbeat_ack");
    assert_eq!(client.pongs, 1);
}

#[test]
fn nonsense_is_named_and_the_connection_lives_on() {
    let gateway = Gateway::start(&[]);
    let mut client = Client::connect(gateway.addr);
    client.send("location_update", json!({"vehicleId": "car-1", "lat": 1.0, "lon": 1.0}));
    client.expect_error("not_registered");
    let mut client = client.register("car-1");
    let told = [
        ("{", "invalid_json"),
        ("[]", "invalid_json"),
        (r#"{"event":"fly","data":{}}"#, "unknown_event"),
        (r#"{"event":"register","data":{"vehicleId":"x","driverName":"d"}}"#, "invalid_register"),
        (r#"{"event":"location_update","data":{"vehicleId":"car-1","lat":90.0000001,"lon":0}}"#, "invalid_location"),
        (r#"{"event":"location_update","data":{"vehicleId":"car-1","lat":1e400,"lon":0}}"#, "invalid_json"),
        (r#"{"event":"location_update","data":{"vehicleId":"car-2","lat":1,"lon":0}}"#, "not_yours"),
        (r#"{"event":"send_message","data":{"senderId":"car-1","recipientId":"car-2"}}"#, "validation_error"),
        (r#"{"event":"emergency_alert","data":{"senderId":"car-2"}}"#, "not_yours"),
    ];
    for (text, code) in told {
        client.text(text);
        let error = client.expect("error");
        assert_eq!(error["code"], code, "{text}: {error}");
    }
    client.text("[".repeat(10_000));
    client.expect_error("invalid_json");
    assert!(client.sync().iter().all(|event| event.name == "presence_update"));
    assert_eq!(gateway.metric("ringroad_errors_total{code=\"not_yours\"}"), 2);
}

#[test]
fn rates_are_limited_per_vehicle() {
    let gateway = Gateway::start(&["rate_limits.emergency_alert={burst=1, per_ms=60000}"]);
    let mut client = Client::connect(gateway.addr).register("car-1");
    for _ in 0..2 {
        client.send("emergency_alert", json!({"senderId": "car-1"}));
    }
    client.expect("emergency_alert");
    let error = client.expect_error("rate_limited");
    assert!((1..=60_000).contains(&error["details"]["retryAfterMs"].as_u64().expect("a number")), "{error}");
    assert!(client.sync().iter().all(|event| event.name == "presence_update"));
}
