//! Everyone hears of everyone's coming and going, whoever is on which worker.

use serde_json::json;

use crate::client::{Client, expect_all};
use crate::fleet::Fleet;
use crate::gateway::Gateway;

#[test]
fn everyone_on_both_workers_hears_a_vehicle_come_and_go() {
    let gateway = Gateway::start(&[]);
    let mut fleet = Fleet::register(&gateway, 8);
    // Who has not registered is told as well.
    let mut watchers: Vec<Client> = (0..8).map(|_| Client::connect(gateway.addr)).collect();
    for round in 0..6 {
        let id = format!("visitor-{round}");
        let visitor = Client::connect(gateway.addr).register(&id);
        let is = |data: &serde_json::Value, status| {
            data["vehicleId"] == id.as_str() && data["status"] == status && data["lastSeen"].is_u64()
        };
        expect_all(fleet.vehicles.iter_mut().chain(&mut watchers), "presence_update", |data| is(data, "online"));
        // With a close frame, and without.
        if round % 2 == 0 {
            visitor.goodbye()
        } else {
            drop(visitor)
        }
        expect_all(fleet.vehicles.iter_mut().chain(&mut watchers), "presence_update", |data| is(data, "offline"));
    }
    assert_eq!(gateway.vehicles(), fleet.vehicles.len() as u64);
}

#[test]
fn with_scope_none_nobody_hears_of_it() {
    let gateway = Gateway::start(&["presence.scope=none"]);
    let mut fleet = Fleet::register(&gateway, 4);
    let mut visitor = Client::connect(gateway.addr).register("visitor");
    // What is told to all comes in order, so presence would come before this.
    visitor.send("emergency_alert", json!({"senderId": "visitor"}));
    expect_all(&mut fleet.vehicles, "emergency_alert", |_| true);
    for vehicle in &fleet.vehicles {
        assert!(vehicle.backlog.iter().all(|event| event.name != "presence_update"), "{:?}", vehicle.backlog);
    }
}
