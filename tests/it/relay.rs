//! From one vehicle to another, on one worker and across two, both ways.

use serde_json::json;

use crate::client::Client;
use crate::fleet::Fleet;
use crate::gateway::Gateway;
use crate::relayed::{relay, relayed};

#[test]
fn everything_is_relayed_both_ways_across_workers() {
    let gateway = Gateway::start(&[]);
    let mut fleet = Fleet::register(&gateway, 3);
    let [one, other] = fleet.across();
    relay(one, other);
    relay(other, one);
    let [one, other] = fleet.beside();
    relay(one, other);
    relay(other, one);
    for vehicle in &mut fleet.vehicles {
        let more = vehicle.sync();
        assert!(more.iter().all(|event| event.name == "presence_update"), "{more:?}");
    }
}

#[test]
fn what_one_vehicle_says_comes_in_its_order() {
    let gateway = Gateway::start(&[]);
    let mut fleet = Fleet::register(&gateway, 2);
    let [one, other] = fleet.across();
    for n in 0..500 {
        one.send("send_message", json!({"senderId": one.id, "recipientId": other.id, "content": n.to_string()}));
    }
    for n in 0..500 {
        assert_eq!(other.expect("receive_message")["content"], n.to_string());
    }
}

#[test]
fn who_is_not_there_is_named() {
    let gateway = Gateway::start(&[]);
    let mut fleet = Fleet::register(&gateway, 2);
    let visitor = Client::connect(gateway.addr).register("nobody");
    visitor.goodbye();
    for vehicle in &mut fleet.vehicles {
        let id = vehicle.id.clone();
        vehicle.expect_that("presence_update", |data| data["vehicleId"] == "nobody" && data["status"] == "offline");
        vehicle.send("send_message", json!({"senderId": id, "recipientId": "nobody", "content": "hello?"}));
        assert_eq!(vehicle.expect_error("target_offline")["details"]["vehicleId"], "nobody");
        for (event, data) in relayed(&id, "nobody") {
            vehicle.send(event, data);
            vehicle.expect_error("target_offline");
        }
    }
}
