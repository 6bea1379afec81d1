//! The network between a gateway and Redis is gone for a while: packets vanish, and nobody is told.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use crate::heavy;
use crate::host::{Host, LEASE};
use crate::namespace::{Cable, beyond, enter};
use crate::redis::Redis;
use crate::road::Road;
use crate::until;

/// Leads to Redis; the one to be pulled.
static BUS: Cable = Cable { name: "bus", net: 0 };
/// Leads to the vehicles.
static CARS: Cable = Cable { name: "cars", net: 1 };

#[test]
fn a_host_that_was_cut_off_catches_up() {
    let _heavy = heavy();
    // The thread, its servers and its vehicles are one machine; the host that is cut off is another.
    let test = thread::spawn(|| match enter() {
        Ok(()) => cut_off(),
        Err(why) => eprintln!("skipped: no network namespaces here: {why}"),
    });
    if let Err(panic) = test.join() {
        std::panic::resume_unwind(panic);
    }
}

fn cut_off() {
    const CUT: Duration = Duration::from_secs(10);
    let redis = Redis::at(Ipv4Addr::UNSPECIFIED.into(), &[]);
    let port = redis.addr.port();
    let settings = ["vehicles.flush_ms=0"];
    let a = beyond(&[&BUS, &CARS], move || {
        Host::listen("198.18.1.2:0", &format!("redis://198.18.0.1:{port}"), "a", &settings)
    });
    let a = match a {
        Ok(host) => host,
        Err(why) => return eprintln!("skipped: no cables between network namespaces here: {why}"),
    };
    a.until_up();
    let b = Host::start(&format!("redis://127.0.0.1:{port}"), "b", &settings);
    let mut road = Road::default();
    for host in [&a, &b] {
        host.until_hosts(2);
        road.join(host, 3);
    }
    road.meet();
    let cars_of_a = ["a-car-0", "a-car-1", "a-car-2"];
    BUS.pull();
    road.raise("a");
    road.raise("b");
    let noticed = road.drive_until("a is down", |_| a.is_down());
    let gone = road.drive_until("b has announced the vehicles of a", |road| {
        let mut of_b = road.drivers.iter().filter(|driver| driver.node == "b");
        of_b.all(|driver| cars_of_a.iter().all(|id| driver.told(id, "offline") > 0))
    });
    eprintln!("noticed after {noticed:?}, announced after {:?}", noticed + gone);
    assert!(noticed < Duration::from_secs(6) && noticed + gone < LEASE + Duration::from_secs(6));
    assert!(b.is_up());
    until("b forgets them", || b.listed().len() == 3);
    for node in ["a", "b", "a", "b"] {
        road.raise(node);
        road.drive_for(CUT.saturating_sub(noticed + gone) / 4);
    }
    BUS.put_back();
    let back = road.drive_until("a is back", |_| a.is_up());
    let met = road.meet();
    eprintln!("back after {back:?}, all see all {met:?} later");
    assert!(met < Duration::from_secs(2), "{met:?}");
    road.settle_alerts(Duration::from_secs(1));
    road.hold_local_to(Duration::from_secs(3));
    let wanted = |road: &Road| {
        let mut of_b = road.drivers.iter().filter(|driver| driver.node == "b");
        of_b.all(|driver| cars_of_a.iter().all(|id| driver.last_told(id) == Some("online")))
    };
    road.drive_until("b has heard that they are there", wanted);
    for host in [&a, &b] {
        until("all six are listed", || host.listed().len() == 6);
    }
    until("all are in the hash", || redis.plain().hash("v2v:presence").len() == 6);
    road.drive_for(LEASE);
    assert!(wanted(&road), "they were announced as gone once more");
}
