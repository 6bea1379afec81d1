//! A gateway dies without a word.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::client::Client;
use crate::heavy;
use crate::host::{GONE, Host, LEASE};
use crate::plain::Listener;
use crate::redis::Redis;
use crate::road::Road;
use crate::until;

fn ids(node: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{node}-car-{n}")).collect()
}

/// Which node the hash names for each vehicle.
fn entries(redis: &Redis) -> BTreeMap<String, Value> {
    redis.plain().hash("v2v:presence").into_iter().map(|(id, entry)| (id, entry["node"].clone())).collect()
}

/// Everyone who is left has been told that often of each, and so has who listens on the bus.
fn told_once(road: &Road, bus: &mut Listener, gone: &[String]) {
    bus.hear(Duration::from_millis(50));
    for id in gone {
        for driver in &road.drivers {
            assert_eq!(driver.told(id, "offline"), 1, "{} of {id}", driver.client.id);
        }
        assert_eq!(bus.presence(id, "offline"), 1, "{id} on the bus: {:#?}", bus.heard);
    }
}

fn all_told(road: &Road, gone: &[String]) -> bool {
    road.drivers.iter().all(|driver| gone.iter().all(|id| driver.told(id, "offline") > 0))
}

#[test]
fn its_vehicles_are_announced_once_by_whoever_survives() {
    const CARS: usize = 5;
    let _heavy = heavy();
    let redis = Redis::start();
    let [a, b] = Host::pair(&redis, &[]);
    let c = Host::start(&redis.url(), "c", &[]);
    let mut bus = redis.plain().listen("v2v:broadcast");
    let mut road = Road::default();
    for host in [&a, &b] {
        road.join(host, 2);
    }
    road.join(&c, CARS);
    road.meet();
    until("all are in the hash", || entries(&redis).len() == 4 + CARS);
    let gone = ids("c", CARS);
    c.crash();
    road.leave("c");
    let took = road.drive_until("all are announced", |road| all_told(road, &gone));
    eprintln!("announced after {took:?}");
    assert!(took < GONE, "{took:?}");
    until("the hash has no ghost", || !entries(&redis).values().any(|node| node == "c"));
    assert_eq!(redis.plain().ask(&["EXISTS", "v2v:node:c"]).number(), 0);
    for host in [&a, &b] {
        until("nobody lists them", || host.vehicles() == 4 && host.listed().len() == 4);
    }
    // Another announcement would come from the other survivor's sweep.
    road.drive_for(LEASE);
    told_once(&road, &mut bus, &gone);
    for id in ids("a", 2).iter().chain(&ids("b", 2)) {
        assert_eq!(bus.presence(id, "offline"), 0, "{id}");
    }
}

#[test]
fn a_node_that_is_back_before_its_lease_ends_leaves_no_ghosts() {
    let _heavy = heavy();
    let redis = Redis::start();
    let [a, b] = Host::pair(&redis, &[]);
    let c = Host::start(&redis.url(), "c", &[]);
    let mut bus = redis.plain().listen("v2v:broadcast");
    let mut road = Road::default();
    for host in [&a, &b] {
        road.join(host, 2);
    }
    road.join(&c, 4);
    road.meet();
    until("all are in the hash", || entries(&redis).len() == 8);
    c.crash();
    road.leave("c");
    let killed = Instant::now();
    let c = Host::start(&redis.url(), "c", &[]);
    // One comes back where it was, one goes to another host, two are gone.
    let back = Client::connect(c.addr).register("c-car-0");
    let moved = Client::connect(a.addr).register("c-car-1");
    assert!(killed.elapsed() < LEASE, "the machine is too slow for this test: {:?}", killed.elapsed());
    let gone = ["c-car-2", "c-car-3"].map(str::to_owned);
    road.drive_until("the two are announced", |road| all_told(road, &gone));
    let wanted = || {
        let nodes = entries(&redis);
        nodes.len() == 6 && nodes.get("c-car-0") == Some(&"c".into()) && nodes.get("c-car-1") == Some(&"a".into())
    };
    until("the hash has no ghost", wanted);
    road.drive_for(LEASE + Duration::from_secs(2));
    assert!(wanted(), "{:?}", entries(&redis));
    told_once(&road, &mut bus, &gone);
    for driver in &road.drivers {
        // Whether it was said to have gone and come or only to be there: the last word counts.
        for id in ["c-car-0", "c-car-1"] {
            assert_eq!(driver.last_told(id), Some("online"), "{} of {id}", driver.client.id);
        }
    }
    for host in [&a, &b, &c] {
        until("all six are listed", || host.listed().len() == 6);
    }
    drop((back, moved));
}

#[test]
fn a_node_that_nobody_ever_heard_is_swept_too() {
    let _heavy = heavy();
    let redis = Redis::start();
    let a = Host::start(&redis.url(), "a", &[]);
    let _ghost = Client::connect(a.addr).register("a-car-0");
    until("it is in the hash", || entries(&redis).len() == 1);
    // The other host comes just before the end, and knows the vehicle from the hash alone.
    let b = Host::start(&redis.url(), "b", &[]);
    until("it knows the vehicle", || b.vehicles() == 1);
    let mut viewer = Client::connect(b.addr);
    let killed = Instant::now();
    a.crash();
    viewer.expect_that("presence_update", |data| data["vehicleId"] == "a-car-0" && data["status"] == "offline");
    assert!(killed.elapsed() < GONE, "{:?}", killed.elapsed());
    until("the hash has no ghost", || entries(&redis).is_empty());
    assert_eq!(b.vehicles(), 0);
}

#[test]
fn a_node_that_comes_after_all_have_died_finds_no_ghosts() {
    let _heavy = heavy();
    let redis = Redis::start();
    let a = Host::start(&redis.url(), "a", &[]);
    let _ghost = Client::connect(a.addr).register("a-car-0");
    until("it is in the hash", || entries(&redis).len() == 1);
    a.crash();
    until("its lease has ended", || redis.plain().ask(&["EXISTS", "v2v:node:a"]).number() == 0);
    let b = Host::start(&redis.url(), "b", &[]);
    until("the hash has no ghost", || entries(&redis).is_empty());
    until("nobody lists it", || b.vehicles() == 0);
}

#[test]
fn a_vehicle_that_moved_to_another_host_survives_the_sweep() {
    let _heavy = heavy();
    let redis = Redis::start();
    let [a, b] = Host::pair(&redis, &[]);
    let mut road = Road::default();
    road.join(&a, 2);
    road.join(&b, 2);
    road.meet();
    let bus = redis.plain().listen("v2v:broadcast");
    b.crash();
    road.leave("b");
    let _moved = Client::connect(a.addr).register("b-car-0");
    road.drive_until("the other one is announced", |road| all_told(road, &["b-car-1".to_owned()]));
    road.drive_for(LEASE);
    let nodes = entries(&redis);
    assert_eq!(nodes.get("b-car-0"), Some(&"a".into()), "{nodes:?}");
    assert_eq!(nodes.len(), 3, "{nodes:?}");
    for driver in &road.drivers {
        assert_eq!(driver.last_told("b-car-0"), Some("online"));
    }
    let mut bus = bus;
    told_once(&road, &mut bus, &["b-car-1".to_owned()]);
}

#[test]
fn a_host_that_stood_still_catches_up() {
    let _heavy = heavy();
    // Who does not read is soon given up.
    let redis = Redis::with(&["client-output-buffer-limit pubsub 64kb 32kb 1"]);
    let [a, b] = Host::pair(&redis, &[]);
    let mut road = Road::default();
    road.join(&a, 3);
    road.join(&b, 3);
    road.meet();
    b.signal(Signal::SIGSTOP);
    road.raise("a");
    let gone = ids("b", 3);
    let is_gone = |road: &Road| {
        let mut of_a = road.drivers.iter().filter(|driver| driver.node == "a");
        of_a.all(|driver| gone.iter().all(|id| driver.last_told(id) == Some("offline")))
    };
    let took = road.drive_until("its vehicles are announced", is_gone);
    assert!(took < GONE, "{took:?}");
    let mut plain = redis.plain();
    for _ in 0..10_000 {
        plain.say(&["PUBLISH", "v2v:broadcast", &"x".repeat(1_000)]).expect("taken");
    }
    for _ in 0..10_000 {
        plain.read().expect("an answer");
    }
    road.raise("a");
    road.drive_for(Duration::from_secs(1));
    b.signal(Signal::SIGCONT);
    road.raise("b");
    road.drive_until("it is back", |_| b.is_up());
    eprintln!("all see all again after {:?}", road.meet());
    road.settle_alerts(Duration::from_secs(1));
    for driver in road.drivers.iter().filter(|driver| driver.node == "a") {
        for id in &gone {
            assert_eq!((driver.told(id, "offline"), driver.last_told(id)), (1, Some("online")), "{id}");
        }
    }
    for host in [&a, &b] {
        until("all six are listed", || host.listed().len() == 6);
    }
    until("all are in the hash", || entries(&redis).len() == 6);
}
