//! Redis dies and comes back under load, again and again.

use std::time::Duration;

use crate::heavy;
use crate::host::Host;
use crate::redis::Redis;
use crate::road::Road;
use crate::until;

/// Longest that a position may take to a neighbour on the same host: that of a busy machine, not of a server's absence.
const LOCAL: Duration = Duration::from_secs(5);

fn is_up(hosts: &[Host]) -> bool {
    hosts.iter().all(Host::is_up)
}

/// The vehicles of all hosts, as the hash has them.
fn entries(redis: &Redis) -> Vec<(String, String)> {
    let entries = redis.plain().hash("v2v:presence").into_iter();
    let mut entries: Vec<(String, String)> =
        entries.map(|(id, entry)| (id, entry["node"].as_str().unwrap_or_default().to_owned())).collect();
    entries.sort();
    entries
}

#[test]
fn twenty_deaths_of_redis_lose_no_alert_and_stop_nobody() {
    const ROUNDS: usize = 20;
    let _heavy = heavy();
    let mut redis = Redis::start();
    let hosts = Host::pair(&redis, &["vehicles.flush_ms=0"]);
    let mut road = Road::default();
    for host in &hosts {
        road.join(host, 4);
    }
    road.meet();
    until("all are in the hash", || entries(&redis).len() == 8);
    let entries_before = entries(&redis);
    let footprint = |host: &Host| (host.descriptors(), host.metric("ringroad_backplane_subscriptions"));
    let before = hosts.each_ref().map(footprint);
    // `v2v:broadcast`, `v2v:gateways`, its own channel, and the square.
    assert!(before.iter().all(|(_, subscriptions)| *subscriptions == 4), "{before:?}");
    let mut resident = Vec::new();
    for round in 0..ROUNDS {
        road.raise(["a", "b"][round % 2]);
        redis.crash();
        road.raise("a");
        road.raise("b");
        road.drive_for(Duration::from_millis(250));
        road.raise(["b", "a"][round % 2]);
        redis.run();
        road.raise("a");
        if round % 4 == 3 {
            // It dies again while they come back.
            road.drive_for(Duration::from_millis(150));
        } else {
            road.drive_until("both are back", |_| is_up(&hosts));
        }
        road.raise("b");
        resident.push(hosts.each_ref().map(|host| host.resident_kib()));
    }
    road.drive_until("both are back", |_| is_up(&hosts));
    eprintln!("all see all again after {:?}", road.meet());
    road.settle_alerts(Duration::from_secs(1));
    road.hold_local_to(LOCAL);
    road.hold_nobody_gone();
    until("the hash is as it was", || entries(&redis) == entries_before);

    until("descriptors and subscriptions are as they were", || hosts.each_ref().map(footprint) == before);
    for (host, at) in hosts.iter().zip(0..) {
        let (early, late) = (resident[ROUNDS / 4][at], host.resident_kib());
        eprintln!("{}: resident {early} KiB after {} rounds, {late} KiB at the end", host.node, ROUNDS / 4);
        assert!(late < early + 24 * 1024, "{}: {resident:?}", host.node);
        assert!(host.metric("ringroad_backplane_reconnects_total") > ROUNDS as u64 / 2);
        assert_eq!(host.metric("ringroad_backplane_kept_for_retry"), 0);
    }
    for driver in &road.drivers {
        assert!(driver.errors.is_empty(), "{}: {:?}", driver.client.id, driver.errors);
    }
}

#[test]
fn a_frozen_redis_is_noticed_and_stops_nobody() {
    const FROZEN: Duration = Duration::from_secs(10);
    let _heavy = heavy();
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &["vehicles.flush_ms=0"]);
    let mut road = Road::default();
    for host in &hosts {
        road.join(host, 3);
    }
    road.meet();
    redis.freeze();
    road.raise("a");
    road.raise("b");
    let noticed = road.drive_until("both are down", |_| hosts.iter().all(Host::is_down));
    eprintln!("noticed after {noticed:?}");
    assert!(noticed < Duration::from_secs(6), "{noticed:?}");
    for node in ["a", "b", "a", "b"] {
        road.raise(node);
        road.drive_for(FROZEN.saturating_sub(noticed) / 4);
    }
    redis.thaw();
    road.drive_until("both are back", |_| is_up(&hosts));
    eprintln!("all see all again after {:?}", road.meet());
    road.settle_alerts(Duration::from_secs(1));
    road.hold_local_to(LOCAL);
    road.hold_nobody_gone();
    until("all are in the hash", || entries(&redis).len() == 6);
}

#[test]
fn links_that_break_one_by_one_lose_no_alert() {
    let _heavy = heavy();
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &["vehicles.flush_ms=0"]);
    let mut road = Road::default();
    for host in &hosts {
        road.join(host, 3);
    }
    road.meet();
    let mut plain = redis.plain();
    let own = plain.ask(&["CLIENT", "ID"]).number();
    for round in 0..40 {
        let list = plain.ask(&["CLIENT", "LIST"]).text();
        let ids = list.lines().filter_map(|line| line.strip_prefix("id=")?.split(' ').next()?.parse::<i64>().ok());
        let links: Vec<i64> = ids.filter(|id| *id != own).collect();
        road.raise(["a", "b"][round % 2]);
        if let Some(link) = links.get(round % links.len().max(1)) {
            // It may have ended by itself.
            plain.try_ask(&["CLIENT", "KILL", "ID", &link.to_string()]).expect("an answer");
        }
        road.raise(["b", "a"][round % 2]);
        road.drive_for(Duration::from_millis(100));
    }
    road.drive_until("both are back", |_| hosts.iter().all(Host::is_up));
    eprintln!("all see all again after {:?}", road.meet());
    road.settle_alerts(Duration::from_secs(1));
    road.hold_local_to(LOCAL);
    road.hold_nobody_gone();
    let again = hosts.each_ref().map(|host| host.metric("ringroad_backplane_reconnects_total"));
    assert!(again.iter().sum::<u64>() >= 20, "{again:?}");
}
