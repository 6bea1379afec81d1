//! Both dialects over real sockets and two workers see the same world.

use ringroad::wire::slim;
use ringroad::wire::state::{self, Header, State, key};
use serde_json::json;
use tungstenite::Message;

use crate::client::Client;
use crate::gateway::Gateway;

fn reports(client: &mut Client, lat_e7: i32, lon_e7: i32) {
    let header = Header { kind: slim::STATES_KIND, record_size: 32, flags: 0, count: 1, epoch: 0, base_unix_ms: 0 };
    let state = State { lat_e7, lon_e7, ..State::unavailable(key(&client.id)) };
    let message = [&header.encode()[..], &state::encode(&state)].concat();
    client.socket.send(Message::binary(message)).expect("sent");
}

#[test]
fn json_and_state_records_are_two_forms_of_one_world() {
    let gateway = Gateway::start(&[]);
    let (mut j, mut s) = (Client::connect(gateway.addr).register("car-j"), Client::connect_slim(gateway.addr));
    s.ask_to_register("car-s");
    s.expect("registered");
    let (mut jv, mut sv) = (Client::connect(gateway.addr), Client::connect_slim(gateway.addr));
    for viewer in [&mut jv, &mut sv] {
        viewer.send("view", json!({"south": 47, "west": 10, "north": 49, "east": 12}));
        viewer.expect("watching");
    }
    j.locate(48.0, 11.0);
    reports(&mut s, 480_010_000, 110_000_000);
    let hex = |id: &str| format!("{:016x}", key(id));
    for viewer in [&mut s, &mut sv] {
        viewer.expect_that("vehicle_identity", |data| data["vehicleId"] == "car-j" && data["key"] == hex("car-j"));
        viewer.expect_that("state", |data| data["key"] == hex("car-j") && data["lat"] == 48.0);
    }
    for viewer in [&mut j, &mut jv] {
        viewer.expect_that("peer_location", |data| data["vehicleId"] == "car-s" && data["lat"] == 48.001);
    }
    s.goodbye();
    jv.expect_that("peer_gone", |data| data["vehicleId"] == "car-s");
    sv.expect_that("gone", |data| data["key"] == hex("car-s"));
}

#[test]
fn a_state_that_is_wrong_is_refused_at_its_place() {
    let gateway = Gateway::start(&[]);
    let mut client = Client::connect_slim(gateway.addr);
    client.ask_to_register("car-1");
    client.expect("registered");
    client.socket.send(Message::binary(vec![2; 48])).expect("sent");
    let error = client.expect("error");
    assert_eq!((&error["code"], &error["details"]), (&json!("invalid_state"), &json!({"offset": 0})));
    reports(&mut client, 900_000_002, 0);
    assert_eq!(client.expect("error")["details"], json!({"offset": 24}));
    client.send("heartbeat", json!({}));
    client.expect("heartbeat_ack");
}
