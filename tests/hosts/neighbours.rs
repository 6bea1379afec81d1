//! Vehicles on two hosts are near each other as if they were on one.

use std::time::Instant;

use serde_json::{Value, json};

use crate::client::{Client, expect_all};
use crate::host::{GONE, Host};
use crate::redis::Redis;
use crate::until;

type Place = (f64, f64);

/// Where two meet and where one of them goes then.
struct Case {
    name: &'static str,
    one: Place,
    other: Place,
    away: Place,
}

const CASES: [Case; 6] = [
    Case { name: "square", one: (52.0, 13.2), other: (52.001, 13.2), away: (52.01, 13.2) },
    // 3.515625 is the eastern border of one column of squares.
    Case { name: "border", one: (48.0, 3.5150), other: (48.0, 3.5170), away: (48.0, 3.40) },
    // So is 0.3515625 × 15, and 0.17578125 × 200 of a row.
    Case { name: "corner", one: (35.1560, 5.2729), other: (35.1566, 5.2740), away: (35.5, 6.2) },
    Case { name: "date-line", one: (-17.0, 179.9995), other: (-17.0, -179.9995), away: (-17.0, 179.9) },
    Case { name: "equator", one: (0.0005, -0.0005), other: (-0.0005, 0.0005), away: (10.0, 10.0) },
    Case { name: "pole", one: (89.9995, 10.0), other: (89.9995, -160.0), away: (89.98, 10.0) },
];

fn is_change(data: &Value, peer: &str, change: &str) -> bool {
    data["peerVehicleId"] == peer && data["eventType"] == change
}

fn register(host: &Host, id: &str) -> Client {
    let mut client = Client::connect(host.addr);
    client.id = id.to_owned();
    let info = json!({"model": "Citaro", "color": "white"});
    client.send("register", json!({"vehicleId": id, "driverName": format!("driver of {id}"), "vehicleInfo": info}));
    client.expect("registered");
    client
}

fn enter(one: &mut Client, other: &mut Client) {
    let peers = [other.id.clone(), one.id.clone()];
    for (vehicle, peer) in [one, other].into_iter().zip(peers) {
        let data = vehicle.expect_that("proximity_event", |data| is_change(data, &peer, "enter"));
        assert!(
            data["vehicleId"] == vehicle.id.as_str() && data["distanceM"].as_u64().is_some_and(|metres| metres < 500),
            "{data}"
        );
        let list = vehicle.expect_that("nearby_vehicles", |data| data["vehicles"][0]["vehicleId"] == peer.as_str());
        let line = &list["vehicles"][0];
        assert_eq!(line["driverName"], format!("driver of {peer}"), "{list}");
        assert!(line["model"] == "Citaro" && line["color"] == "white", "{list}");
    }
}

fn exit(one: &mut Client, other: &mut Client) {
    let peers = [other.id.clone(), one.id.clone()];
    for (vehicle, peer) in [one, other].into_iter().zip(peers) {
        let data = vehicle.expect_that("proximity_event", |data| is_change(data, &peer, "exit"));
        assert!(data["distanceM"].is_null(), "{data}");
    }
}

/// It moves a little, and the other one is told where to.
fn is_seen(vehicle: &mut Client, (lat, lon): Place, by: &mut Client) {
    let id = vehicle.id.clone();
    vehicle.send(
        "location_update",
        json!({"vehicleId": id, "lat": lat, "lon": lon, "speed": 8.2, "heading": 91.5, "accuracy": 30.25, "elevation": 12.5}),
    );
    let near = |value: &Value, wanted: f64| value.as_f64().is_some_and(|value| (value - wanted).abs() < 1.1e-7);
    let seen = by.expect_that("peer_location", |data| {
        data["vehicleId"] == id.as_str() && near(&data["lat"], lat) && near(&data["lon"], lon)
    });
    assert!(seen["speed"] == 8.2 && seen["heading"] == 91.5 && seen["elevation"] == 12.5, "{seen}");
    assert!(seen["accuracy"] == 30.25 && seen["coalesced"] == true && seen["ts"].is_u64(), "{seen}");
}

#[test]
fn they_meet_and_part_wherever_they_are() {
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &["vehicles.nearby_list_ms=50"]);
    for case in &CASES {
        eprintln!("{}", case.name);
        let mut one = register(&hosts[0], &format!("{}-one", case.name));
        let mut other = register(&hosts[1], &format!("{}-other", case.name));
        // One position each: who comes second asks where the others are.
        one.locate(case.one.0, case.one.1);
        other.locate(case.other.0, case.other.1);
        enter(&mut one, &mut other);
        is_seen(&mut one, (case.one.0, case.one.1 + 1e-6), &mut other);
        is_seen(&mut other, (case.other.0, case.other.1 + 1e-6), &mut one);
        one.locate(case.away.0, case.away.1);
        exit(&mut one, &mut other);
        one.locate(case.one.0, case.one.1);
        enter(&mut one, &mut other);
        // Nothing was told twice.
        for vehicle in [&mut one, &mut other] {
            let more = vehicle.sync();
            assert!(more.iter().all(|event| event.name != "proximity_event"), "{}: {more:#?}", vehicle.id);
        }
        let id = one.id.clone();
        one.goodbye();
        other.expect_that("proximity_event", |data| is_change(data, &id, "exit"));
        other.expect_that("presence_update", |data| data["vehicleId"] == id.as_str() && data["status"] == "offline");
    }
}

#[test]
fn a_killed_host_takes_its_vehicles_from_their_neighbours() {
    let redis = Redis::start();
    let [a, b] = Host::pair(&redis, &[]);
    let mut here: Vec<Client> = (0..4).map(|n| register(&a, &format!("here-{n}"))).collect();
    let mut there = register(&b, "there");
    for vehicle in &mut here {
        vehicle.locate(52.0, 13.2);
    }
    there.locate(52.001, 13.2);
    expect_all(here.iter_mut(), "proximity_event", |data| is_change(data, "there", "enter"));
    let killed = Instant::now();
    b.crash();
    expect_all(here.iter_mut(), "proximity_event", |data| is_change(data, "there", "exit"));
    expect_all(here.iter_mut(), "presence_update", |data| data["vehicleId"] == "there" && data["status"] == "offline");
    assert!(killed.elapsed() < GONE, "{:?}", killed.elapsed());
}

#[test]
fn of_two_that_come_at_once_each_sees_the_other() {
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &[]);
    let mut cars = hosts.each_ref().map(|host| register(host, &format!("car-{}", host.node)));
    for host in &hosts {
        until("both are known", || host.vehicles() == 2);
    }
    // Each time in a square that nobody listened to before.
    for round in 0..30 {
        let lat = f64::from(round) * 2.0;
        for car in &mut cars {
            car.locate(lat, 13.2);
        }
        for (at, peer) in [(0, "car-b"), (1, "car-a")] {
            cars[at].expect_that("proximity_event", |data| is_change(data, peer, "enter"));
        }
        // They leave each other before they meet elsewhere.
        cars[0].locate(lat + 1.0, 13.2);
        for (at, peer) in [(0, "car-b"), (1, "car-a")] {
            cars[at].expect_that("proximity_event", |data| is_change(data, peer, "exit"));
        }
    }
}

#[test]
fn of_two_that_come_with_their_hosts_each_sees_the_other() {
    let redis = Redis::start();
    for _ in 0..20 {
        let hosts = ["a", "b"].map(|node| Host::start(&redis.url(), node, &[]));
        let mut cars = hosts.each_ref().map(|host| register(host, &format!("car-{}", host.node)));
        for host in &hosts {
            until("both are known", || host.vehicles() == 2);
        }
        // Each says once where it is. Whoever listens first has not heard the other, and who asks first nobody hears.
        for car in &mut cars {
            car.locate(52.0, 13.2);
        }
        for (at, peer) in [(0, "car-b"), (1, "car-a")] {
            cars[at].expect_that("proximity_event", |data| is_change(data, peer, "enter"));
        }
    }
}
