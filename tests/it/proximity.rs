//! Who is near whom, over both workers.

use serde_json::Value;

use crate::client::{Client, expect_all};
use crate::fleet::Fleet;
use crate::gateway::Gateway;

const LAT: f64 = 30.27;
const LON: f64 = -97.74;

fn is_change(data: &Value, peer: &str, change: &str) -> bool {
    data["peerVehicleId"] == peer && data["eventType"] == change
}

#[test]
fn each_of_many_learns_of_all_the_others() {
    let gateway = Gateway::start(&["vehicles.flush_ms=0"]);
    let Fleet { mut vehicles, .. } = Fleet::register(&gateway, 16);
    let ids: Vec<String> = vehicles.iter().map(|vehicle| vehicle.id.clone()).collect();
    // Ten metres apart.
    for (n, vehicle) in vehicles.iter_mut().enumerate() {
        vehicle.locate(LAT + n as f64 * 9e-5, LON);
    }
    for (n, id) in ids.iter().enumerate() {
        expect_all(others(&mut vehicles, n), "proximity_event", |data| {
            is_change(data, id, "enter") && data["distanceM"].as_u64().is_some_and(|metres| metres <= 200)
        });
    }
    // Every move from now on is told to every neighbour.
    for n in 0..ids.len() {
        let lon = LON + 1e-4 + n as f64 * 1e-6;
        vehicles[n].locate(LAT + n as f64 * 9e-5, lon);
        expect_all(others(&mut vehicles, n), "peer_location", |data| {
            data["vehicleId"] == ids[n].as_str() && (data["lon"].as_f64().expect("a number") - lon).abs() < 1.1e-7
        });
    }
    // One drives away: it leaves all the others and they leave it.
    vehicles[0].locate(LAT + 1.0, LON);
    expect_all(others(&mut vehicles, 0), "proximity_event", |data| {
        is_change(data, &ids[0], "exit") && data["distanceM"].is_null()
    });
    for id in &ids[1..] {
        vehicles[0].expect_that("proximity_event", |data| is_change(data, id, "exit"));
    }
    // One disconnects: those who had it near are told, the one far away is not.
    drop(vehicles.pop());
    let gone = ids.last().expect("sixteen");
    expect_all(others(&mut vehicles, 0), "proximity_event", |data| {
        is_change(data, gone, "exit") && data["distanceM"].is_null()
    });
    vehicles[0]
        .expect_that("presence_update", |data| data["vehicleId"] == gone.as_str() && data["status"] == "offline");
    for vehicle in &mut vehicles {
        let more = vehicle.sync();
        assert!(more.iter().all(|event| event.name != "proximity_event"), "{}: {more:?}", vehicle.id);
    }
}

#[test]
fn the_list_of_neighbours_is_nearest_first_and_spans_workers() {
    let gateway = Gateway::start(&["vehicles.nearby_list_ms=50"]);
    let Fleet { mut vehicles, .. } = Fleet::register(&gateway, 6);
    for (n, vehicle) in vehicles.iter_mut().enumerate() {
        vehicle.locate(LAT + n as f64 * 9e-5, LON);
    }
    let expected: Vec<String> = (1..vehicles.len()).map(|n| format!("car-{n}")).collect();
    let list = vehicles[0].expect_that("nearby_vehicles", |data| {
        data["vehicles"].as_array().is_some_and(|list| list.len() == expected.len())
    });
    let lines = list["vehicles"].as_array().expect("a list");
    let ids: Vec<&str> = lines.iter().map(|line| line["vehicleId"].as_str().expect("an id")).collect();
    assert_eq!(ids, expected, "{list}");
    assert_eq!(lines[0]["driverName"], "driver of car-1");
    assert_eq!(lines[0]["distance"], 10);
    assert_eq!(list["radius"], 500);
}

fn others(vehicles: &mut [Client], but: usize) -> impl Iterator<Item = &mut Client> {
    vehicles.iter_mut().enumerate().filter(move |(n, _)| *n != but).map(|(_, vehicle)| vehicle)
}
