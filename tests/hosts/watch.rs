//! What connections watch is on whichever host it is, in both dialects.

use std::time::Instant;

use ringroad::wire::state;
use serde_json::{Value, json};

use crate::client::Client;
use crate::host::{GONE, Host};
use crate::redis::Redis;
use crate::until;

type Place = (f64, f64);

/// A connection that watches.
struct Viewer {
    client: Client,
    is_slim: bool,
}

impl Viewer {
    fn connect(host: &Host, is_slim: bool) -> Viewer {
        let client = if is_slim { Client::connect_slim(host.addr) } else { Client::connect(host.addr) };
        Viewer { client, is_slim }
    }

    fn asks(&mut self, event: &str, data: Value) -> Value {
        self.client.send(event, data);
        self.client.expect("watching")
    }

    fn name(&self, vehicle: &str) -> (&'static str, String) {
        if self.is_slim { ("key", format!("{:016x}", state::key(vehicle))) } else { ("vehicleId", vehicle.to_owned()) }
    }

    /// Waits until it is told that a vehicle is there.
    fn sees(&mut self, vehicle: &str, (lat, lon): Place) {
        let (field, name) = self.name(vehicle);
        let event = if self.is_slim { "state" } else { "peer_location" };
        let near = |value: &Value, wanted: f64| value.as_f64().is_some_and(|value| (value - wanted).abs() < 1.1e-7);
        self.client.expect_that(event, |data| {
            data[field] == name.as_str() && near(&data["lat"], lat) && near(&data["lon"], lon)
        });
    }

    /// Waits until it is told that a vehicle has left its view.
    fn loses(&mut self, vehicle: &str) {
        let (field, name) = self.name(vehicle);
        let event = if self.is_slim { "gone" } else { "peer_gone" };
        self.client.expect_that(event, |data| data[field] == name.as_str());
    }
}

fn drive(host: &Host, id: &str, (lat, lon): Place) -> Client {
    let mut client = Client::connect(host.addr).register(id);
    client.locate(lat, lon);
    client
}

fn view((south, west): Place, (north, east): Place) -> Value {
    json!({"south": south, "west": west, "north": north, "east": east})
}

#[test]
fn a_view_on_one_host_holds_the_vehicles_of_the_other() {
    let redis = Redis::start();
    let [a, b] = Host::pair(&redis, &[]);
    for is_slim in [false, true] {
        // In three squares, one of them on the other side of a border.
        let mut parked = drive(&b, "parked", (52.0, 13.2));
        let mut other = drive(&b, "other", (52.05, 13.7));
        let own = drive(&a, "own", (51.8, 13.1));
        until("all are known", || a.vehicles() == 3);
        let mut viewer = Viewer::connect(&a, is_slim);
        viewer.asks("view", view((51.5, 12.5), (52.5, 14.0)));
        viewer.sees("own", (51.8, 13.1));
        viewer.sees("parked", (52.0, 13.2));
        viewer.sees("other", (52.05, 13.7));
        parked.locate(52.01, 13.2);
        viewer.sees("parked", (52.01, 13.2));
        parked.locate(53.0, 13.2);
        viewer.loses("parked");
        parked.locate(52.0, 13.2);
        viewer.sees("parked", (52.0, 13.2));
        viewer.asks("view", view((52.02, 13.5), (52.1, 14.0)));
        viewer.loses("parked");
        viewer.loses("own");
        other.goodbye();
        viewer.loses("other");
        // Somebody who comes into a view that nothing was in.
        viewer.asks("view", view((-17.1, 179.9), (-17.0, -179.9)));
        other = drive(&b, "other", (-17.05, -179.95));
        viewer.sees("other", (-17.05, -179.95));
        for client in [parked, other, own, viewer.client] {
            client.goodbye();
        }
        until("nobody is left", || a.vehicles() == 0 && b.vehicles() == 0);
    }
}

#[test]
fn whoever_is_followed_is_found_on_any_host() {
    let redis = Redis::start();
    let [a, b] = Host::pair(&redis, &[]);
    for is_slim in [false, true] {
        let mut far = drive(&b, "far", (-33.9, 151.2));
        until("it is known", || a.vehicles() == 1);
        let mut viewer = Viewer::connect(&a, is_slim);
        let watching = viewer.asks("follow", json!({"vehicleIds": ["far", "later"]}));
        assert_eq!(watching["follow"], 2, "{watching}");
        viewer.sees("far", (-33.9, 151.2));
        for step in 0..20 {
            let place = (-33.9, 151.2 + f64::from(step) * 0.1);
            far.locate(place.0, place.1);
            viewer.sees("far", place);
        }
        far.locate(64.1, -21.9);
        viewer.sees("far", (64.1, -21.9));
        let later = drive(&b, "later", (1.0, 1.0));
        viewer.sees("later", (1.0, 1.0));
        // It comes to the viewer's own host, and goes away again.
        let here = drive(&a, "far", (2.0, 2.0));
        viewer.sees("far", (2.0, 2.0));
        assert_eq!(far.closed().0, 4001);
        let there = drive(&b, "far", (3.0, 3.0));
        viewer.sees("far", (3.0, 3.0));
        for client in [later, there, viewer.client] {
            client.goodbye();
        }
        drop(here);
        until("nobody is left", || a.vehicles() == 0 && b.vehicles() == 0);
    }
}

#[test]
fn near_reaches_as_far_as_it_says() {
    let redis = Redis::start();
    let [a, b] = Host::pair(&redis, &[]);
    let mut own = Viewer { client: drive(&a, "own", (52.0, 13.2)), is_slim: false };
    let mut other = drive(&b, "other", (52.04, 13.2));
    own.asks("near", json!({"radiusM": 5_000}));
    own.sees("other", (52.04, 13.2));
    other.locate(52.0401, 13.2);
    own.sees("other", (52.0401, 13.2));
    own.client.locate(51.9, 13.2);
    own.loses("other");
    own.client.locate(52.08, 13.2);
    own.sees("other", (52.0401, 13.2));
}

#[test]
fn a_killed_host_takes_its_vehicles_from_the_views_of_others() {
    let redis = Redis::start();
    let [a, b] = Host::pair(&redis, &[]);
    let mut viewers = [false, true].map(|is_slim| Viewer::connect(&a, is_slim));
    viewers[0].asks("view", view((51.5, 12.5), (52.5, 14.0)));
    viewers[1].asks("follow", json!({"vehicleIds": ["there"]}));
    let _there = drive(&b, "there", (52.0, 13.2));
    viewers.iter_mut().for_each(|viewer| viewer.sees("there", (52.0, 13.2)));
    let killed = Instant::now();
    b.crash();
    viewers.iter_mut().for_each(|viewer| viewer.loses("there"));
    assert!(killed.elapsed() < GONE, "{:?}", killed.elapsed());
}
