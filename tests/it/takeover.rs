//! A vehicle id belongs to the connection that registered it last, wherever that is.

use serde_json::{Value, json};

use crate::client::{Client, expect_all};
use crate::fleet::Fleet;
use crate::gateway::Gateway;
use crate::until;

const REPLACED: (u16, &str) = (4001, "replaced");

/// The only vehicle of this id that any worker lists.
fn the_only(gateway: &Gateway, id: &str) -> Value {
    let mut found = Value::Null;
    for _ in 0..8 {
        let mut listing = gateway.get("/vehicles").json();
        let vehicles = listing["vehicles"].as_array_mut().expect("a list");
        vehicles.retain(|vehicle| vehicle["vehicleId"] == id);
        assert_eq!(vehicles.len(), 1, "{vehicles:?}");
        found = vehicles[0].take();
        assert_eq!(gateway.get(&format!("/vehicles/{id}")).json()["vehicleId"], id);
    }
    found
}

#[test]
fn the_later_registration_wins_and_the_earlier_is_told() {
    // Enough rounds for both kinds of takeover: within a worker and across. All of one kind has p = 2^-23.
    const ROUNDS: usize = 24;
    let gateway = Gateway::start(&["vehicles.flush_ms=0"]);
    let mut fleet = Fleet::register(&gateway, 4);
    for vehicle in &mut fleet.vehicles {
        vehicle.locate(10.0, 10.0);
    }
    let mut current = Client::connect(gateway.addr).register("taxi");
    for round in 0..ROUNDS {
        let lat = 10.0 + round as f64 * 1e-6;
        current.locate(lat, 10.0);
        expect_all(&mut fleet.vehicles, "peer_location", |data| {
            data["vehicleId"] == "taxi" && (data["lat"].as_f64().expect("a number") - lat).abs() < 1.1e-7
        });
        let next = Client::connect(gateway.addr).register("taxi");
        let (code, reason) = current.closed();
        assert_eq!((code, reason.as_str()), REPLACED);
        current = next;
    }
    the_only(&gateway, "taxi");
    // Nobody was told that it left, or that it came near again.
    for vehicle in &mut fleet.vehicles {
        let seen = vehicle.sync();
        let count = |name: &str, field: &str, value: &str| {
            let of_taxi = |data: &Value| data["vehicleId"] == "taxi" || data["peerVehicleId"] == "taxi";
            seen.iter().filter(|event| event.name == name && event.data[field] == value && of_taxi(&event.data)).count()
        };
        assert_eq!(count("presence_update", "status", "offline"), 0, "{seen:?}");
        assert_eq!(count("presence_update", "status", "online"), ROUNDS + 1, "{seen:?}");
        assert_eq!(count("proximity_event", "eventType", "enter"), 1, "{seen:?}");
        assert_eq!(count("proximity_event", "eventType", "exit"), 0, "{seen:?}");
    }
    current.goodbye();
    expect_all(&mut fleet.vehicles, "presence_update", |data| {
        data["vehicleId"] == "taxi" && data["status"] == "offline"
    });
    assert_eq!(gateway.metric("ringroad_connections_closed_total{reason=\"replaced\"}"), ROUNDS as u64);
}

#[test]
fn of_many_at_once_exactly_one_survives() {
    let gateway = Gateway::start(&[]);
    let mut fleet = Fleet::register(&gateway, 2);
    for round in 0..8 {
        let id = format!("taxi-{round}");
        let mut rivals: Vec<Client> = (0..8).map(|_| Client::connect(gateway.addr)).collect();
        for rival in &mut rivals {
            rival.ask_to_register(&id);
        }
        until("all but one are closed", || {
            rivals.iter_mut().filter_map(|rival| (!rival.is_closed()).then_some(())).count() == 1
        });
        for rival in &mut rivals {
            if rival.is_closed() {
                let (code, reason) = rival.closed();
                assert_eq!((code, reason.as_str()), REPLACED);
            }
        }
        the_only(&gateway, &id);
        let survivor = rivals.iter_mut().find_map(|rival| (!rival.is_closed()).then_some(rival)).expect("one");
        survivor.sync();
        for vehicle in &mut fleet.vehicles {
            vehicle.send("send_message", json!({"senderId": vehicle.id, "recipientId": id, "content": "you?"}));
            survivor.expect_that("receive_message", |data| data["senderId"] == vehicle.id.as_str());
        }
    }
}

#[test]
fn a_new_connection_learns_who_is_near_at_once() {
    let gateway = Gateway::start(&[]);
    let mut fleet = Fleet::register(&gateway, 4);
    let ids: Vec<String> = fleet.vehicles.iter().map(|vehicle| vehicle.id.clone()).collect();
    for vehicle in &mut fleet.vehicles {
        vehicle.locate(10.0, 10.0);
    }
    let mut current = Client::connect(gateway.addr).register("taxi");
    current.locate(10.0, 10.0);
    for _ in 0..12 {
        for id in &ids {
            current.expect_that("proximity_event", |data| {
                data["peerVehicleId"] == id.as_str() && data["eventType"] == "enter"
            });
        }
        // Nobody moves meanwhile.
        current = Client::connect(gateway.addr).register("taxi");
    }
}

#[test]
fn a_vehicle_whose_old_connection_breaks_meanwhile_stays() {
    let gateway = Gateway::start(&[]);
    let mut fleet = Fleet::register(&gateway, 2);
    let online = |data: &Value| data["vehicleId"] == "taxi" && data["status"] == "online";
    let mut current = Client::connect(gateway.addr).register("taxi");
    expect_all(&mut fleet.vehicles, "presence_update", online);
    for round in 0..40 {
        let mut next = Client::connect(gateway.addr);
        next.ask_to_register("taxi");
        drop(std::mem::replace(&mut current, next));
        current.expect("registered");
        // Whichever of the two a worker heard of first.
        expect_all(&mut fleet.vehicles, "presence_update", online);
        for vehicle in &mut fleet.vehicles {
            let content = format!("round {round}");
            vehicle.send("send_message", json!({"senderId": vehicle.id, "recipientId": "taxi", "content": content}));
            current.expect_that("receive_message", |data| data["senderId"] == vehicle.id.as_str());
        }
        assert_eq!(gateway.vehicles(), fleet.vehicles.len() as u64 + 1);
    }
    the_only(&gateway, "taxi");
}
