//! Every event of both directions, field by field.

use serde_json::{Value, json};

use crate::script::{Play, check};

/// What a client has received, as JSON, with `"UUID"` for every UUID.
fn raw(play: &mut Play, name: &str) -> Vec<Value> {
    let client = play.client(name);
    let uuid = |value: &mut Value| {
        if value.as_str().is_some_and(|text| text.len() == 36 && uuid::Uuid::parse_str(text).is_ok()) {
            *value = json!("UUID");
        }
    };
    let mut events: Vec<Value> =
        play.world().take(client).iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
    for event in &mut events {
        ["id", "sessionId"].iter().for_each(|field| event["data"].get_mut(*field).into_iter().for_each(uuid));
    }
    events
}

#[track_caller]
fn expect(play: &mut Play, name: &str, expected: Value) {
    assert_eq!(json!(raw(play, name)), expected);
}

#[test]
fn server_events_have_exactly_the_documented_fields() {
    let mut play = Play::default();
    play.run("shards 2\n a@0 connects");
    let t = play.world().now().unix_ms;
    expect(&mut play, "a", json!([{"event": "connected", "data": {"ts": t, "sessionId": "UUID"}}]));

    play.run(r#"a sends register {"vehicleId":$a,"driverName":"Ann","vehicleInfo":{"licensePlate":"M-X 1","model":"ID.3","color":"red"}}"#);
    let online = json!({"event": "presence_update", "data": {"vehicleId": "veh-a", "status": "online", "lastSeen": t}});
    expect(&mut play, "a", json!([{"event": "registered", "data": {"vehicleId": "veh-a"}}, online]));

    play.run("a heartbeats");
    expect(&mut play, "a", json!([{"event": "heartbeat_ack", "data": {"ts": t}}]));

    play.run("b@1 registers\n a at 48 11\n b at 48.001 11 speed=13.89 heading=270.5 elevation=519.25 accuracy=4.5");
    raw(&mut play, "b");
    let heard = raw(&mut play, "a");
    assert_eq!(
        heard[1..],
        [
            json!({"event": "proximity_event", "data": {
                "id": "UUID", "vehicleId": "veh-a", "peerVehicleId": "veh-b", "eventType": "enter", "distanceM": 111, "ts": t,
            }}),
            json!({"event": "peer_location", "data": {
                "vehicleId": "veh-b", "lat": 48.001, "lon": 11, "ts": t, "coalesced": true,
                "speed": 13.9, "heading": 270.5, "elevation": 519.3, "accuracy": 4.5,
            }}),
        ]
    );
    play.run("+1ms");
    let listed = |id: &str, name: &str, model: Value, color: Value| {
        json!([{"event": "nearby_vehicles", "data": {
            "vehicles": [{"vehicleId": id, "driverName": name, "distance": 111, "model": model, "color": color}],
            "radius": 500,
        }}])
    };
    expect(&mut play, "a", listed("veh-b", "Driver b", Value::Null, Value::Null));
    expect(&mut play, "b", listed("veh-a", "Ann", json!("ID.3"), json!("red")));
    let t = t + 1;

    play.run(
        r#"a sends send_message {"senderId":$a,"recipientId":$b,"content":"hi \"b\"","messageType":"text","sentTs":5}"#,
    );
    let message = json!({"id": "UUID", "senderId": "veh-a", "recipientId": "veh-b", "content": "hi \"b\"", "ts": t});
    expect(&mut play, "b", json!([{"event": "receive_message", "data": message}]));

    play.run(r#"a sends emergency_alert {"senderId":$a,"vehicleInfo":{"model":"ID.3","n":[1,2.5,null]}}"#);
    let info = json!({"model": "ID.3", "n": [1, 2.5, null]});
    let alert = json!([{"event": "emergency_alert", "data": {"id": "UUID", "senderId": "veh-a", "vehicleInfo": info, "ts": t}}]);
    expect(&mut play, "a", alert.clone());
    expect(&mut play, "b", alert);

    play.run("a tells nobody hello");
    expect(
        &mut play,
        "a",
        json!([{"event": "error", "data": {
            "code": "target_offline", "message": "the vehicle is not connected", "ts": t, "details": {"vehicleId": "veh-nobody"},
        }}]),
    );
    play.run("b hangs up");
    let heard = raw(&mut play, "a");
    assert_eq!(
        heard,
        [
            json!({"event": "proximity_event", "data": {
                "id": "UUID", "vehicleId": "veh-a", "peerVehicleId": "veh-b", "eventType": "exit", "distanceM": null, "ts": t,
            }}),
            json!({"event": "presence_update", "data": {"vehicleId": "veh-b", "status": "offline", "lastSeen": t - 1}}),
        ]
    );
}

#[test]
fn motion_that_was_not_given_is_not_told_and_null_counts_as_not_given() {
    check(
        "set presence.scope = 'none'
         set vehicles.nearby_list_ms = 0
         set vehicles.coalesce_ms = 0
         set vehicles.flush_ms = 0
         a registers; b registers; a at 48 11; b at 48 11
         forget
         a at 48 11 speed=0
         b< peer a 48 11 speed=0
         a at 48 11 heading=-90
         b< peer a 48 11 heading=270
         a at 48 11 elevation=-5.05 accuracy=100
         b< peer a 48 11 elevation=-5.1 accuracy=100
         a at 48 11 speed=null heading=null elevation=null accuracy=null ts=0
         b< peer a 48 11",
    );
}

#[test]
fn positions_are_told_to_seven_decimals() {
    check(
        "set presence.scope = 'none'
         set vehicles.nearby_list_ms = 0
         a registers; b registers; b at -33.8567844 151.2152967
         a at -33.8567843 151.21529665
         b< connected, registered b, enter a 0, peer a -33.8567843 151.2152967",
    );
}

#[test]
fn the_senders_own_timestamp_comes_through() {
    check(
        "set presence.scope = 'none'
         set vehicles.nearby_list_ms = 0
         a registers; b registers; a at 0 0; b at 0 0
         +200ms
         forget
         a at 0 0 ts=-150
         b< peer a 0 0 (-150ms)",
    );
}

#[test]
fn every_error_code_is_reached_and_the_connection_lives_on() {
    let script = r#"
        set vehicles.coalesce_ms = 0
        set presence.scope = 'none'
        a connects
        a< connected
        a says not JSON
        a< error invalid_json
        a says {"event":5}
        a< error invalid_json
        a says []
        a< error invalid_json
        a sends no_such_event {}
        a< error unknown_event
        a sends register {"vehicleId":"x","driverName":"Ann"}
        a< error invalid_register
        a sends register {"vehicleId":$a}
        a< error invalid_register
        a sends register {"vehicleId":$a,"driverName":""}
        a< error invalid_register
        a sends register {"vehicleId":$a,"driverName":"Ann","vehicleInfo":7}
        a< error invalid_register
        a says {"event":"register"}
        a< error invalid_register
        a sends location_update {"vehicleId":$a,"lat":0,"lon":0}
        a< error not_registered
        a sends emergency_alert {"senderId":$a}
        a< error not_registered
        a sends ice_candidate {"targetId":$b}
        a< error not_registered
        a registers
        a< registered a
        a sends location_update {"vehicleId":$a,"lat":91,"lon":0}
        a< error invalid_location
        a sends send_message {"senderId":$a,"recipientId":$b,"content":""}
        a< error validation_error
        a sends location_update {"vehicleId":$b,"lat":0,"lon":0}
        a< error not_yours
        a tells b hello
        a< error target_offline
        a approves b
        a< error no_pending_request
        a alerts
        a< alert a
        a alerts
        a< error rate_limited retry 10000
        a heartbeats
        a< heartbeat_ack"#;
    check(script);
}

#[test]
fn an_unknown_event_is_answered_with_the_known_ones() {
    let mut play = Play::default();
    play.run("a connects\n forget\n a sends bogus {}");
    let t = play.world().now().unix_ms;
    let known = json!([
        "register",
        "heartbeat",
        "location_update",
        "send_message",
        "emergency_alert",
        "connect_request",
        "connect_response",
        "call_initiate",
        "webrtc_offer",
        "webrtc_answer",
        "ice_candidate",
        "sync_disconnect",
        "sync_end_call",
        "view",
        "near",
        "follow",
    ]);
    let details = json!({"known": known});
    expect(
        &mut play,
        "a",
        json!([{"event": "error", "data": {"code": "unknown_event", "message": "no such event", "ts": t, "details": details}}]),
    );
}

#[test]
fn a_token_that_is_wanted_and_wrong_ends_the_connection() {
    check(
        r#"set auth.required = true
           set auth.secret = "s3cret"
           a registers
           a< connected, error auth_failed, closed 1008 auth_failed
           b connects
           b sends register {"vehicleId":$b,"driverName":"B","authToken":"a.b.c"}
           b< connected, error auth_failed, closed 1008 auth_failed"#,
    );
}

#[test]
fn json_may_come_in_binary_messages() {
    let mut play = Play::default();
    play.run("a connects\n forget");
    let client = play.client("a");
    let mut bytes = Vec::new();
    ringroad::wire::frame::encode_masked(
        &mut bytes,
        ringroad::wire::frame::Opcode::Binary,
        [5, 6, 7, 8],
        br#"{"event":"heartbeat"}"#,
    );
    play.world().send_bytes(client, &bytes);
    play.run("a< heartbeat_ack");
}
