//! From a vehicle on one host to a vehicle on another.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::Client;
use crate::host::Host;
use crate::redis::Redis;
use crate::relayed::{relay, relayed};
use crate::until;

/// One vehicle on each host; each host knows both.
fn two(hosts: &[Host; 2]) -> [Client; 2] {
    let cars = hosts.each_ref().map(|host| Client::connect(host.addr).register(&format!("car-{}", host.node)));
    for host in hosts {
        until("both are known", || host.listed() == ["car-a", "car-b"]);
    }
    cars
}

/// A sender is told within a second, at least once in three times: a busy machine may stand still for longer.
fn is_told_in_time(sender: &mut Client, to: &str) {
    let mut took = Vec::new();
    for _ in 0..3 {
        let begun = Instant::now();
        sender.send("send_message", json!({"senderId": sender.id, "recipientId": to, "content": "hello?"}));
        assert_eq!(sender.expect_error("target_offline")["details"]["vehicleId"], to);
        took.push(begun.elapsed());
        if begun.elapsed() < Duration::from_secs(1) {
            return;
        }
    }
    panic!("{took:?}");
}

#[test]
fn everything_is_relayed_both_ways_across_hosts() {
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &[]);
    let mut cars = two(&hosts);
    for _ in 0..3 {
        let [one, other] = &mut cars;
        relay(one, other);
        relay(other, one);
    }
    for car in &mut cars {
        let more = car.sync();
        assert!(more.iter().all(|event| event.name == "presence_update"), "{more:#?}");
    }
}

#[test]
fn what_one_vehicle_says_comes_in_its_order() {
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &[]);
    let [mut one, mut other] = two(&hosts);
    for n in 0..500 {
        one.send("send_message", json!({"senderId": "car-a", "recipientId": "car-b", "content": n.to_string()}));
    }
    for n in 0..500 {
        assert_eq!(other.expect("receive_message")["content"], n.to_string());
    }
    assert!(one.sync().iter().all(|event| event.name == "presence_update"));
}

#[test]
fn a_large_offer_comes_whole() {
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &["redis.payload_bytes_max=65536"]);
    let [mut one, mut other] = two(&hosts);
    let offer = json!({"targetId": "car-b", "callerId": "car-a", "sdp": "\u{1F697}".repeat(7_000)});
    one.send("webrtc_offer", offer.clone());
    assert_eq!(other.expect("webrtc_offer"), offer);
}

#[test]
fn who_is_nowhere_is_named_in_time() {
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &[]);
    let [mut one, mut other] = two(&hosts);
    is_told_in_time(&mut one, "nobody");
    for (event, data) in relayed("car-a", "nobody") {
        one.send(event, data);
        one.expect_error("target_offline");
    }
    // A vehicle that was on the other host.
    other.socket.close(None).expect("sent");
    one.expect_that("presence_update", |data| data["vehicleId"] == "car-b" && data["status"] == "offline");
    is_told_in_time(&mut one, "car-b");
}

#[test]
fn who_was_on_a_killed_host_is_named_in_time() {
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &[]);
    let [mut one, _other] = two(&hosts);
    let [a, b] = hosts;
    b.crash();
    // Nobody knows yet that it is gone.
    is_told_in_time(&mut one, "car-b");
    one.expect_that("presence_update", |data| data["vehicleId"] == "car-b" && data["status"] == "offline");
    is_told_in_time(&mut one, "car-b");
    assert_eq!(a.listed(), ["car-a"]);
}

#[test]
fn without_redis_the_sender_is_told_in_time() {
    let mut redis = Redis::start();
    let hosts = Host::pair(&redis, &[]);
    let [mut one, mut other] = two(&hosts);
    redis.freeze();
    is_told_in_time(&mut one, "car-b");
    redis.thaw();
    redis.crash();
    is_told_in_time(&mut one, "car-b");
    hosts[0].until_down();
    is_told_in_time(&mut one, "car-b");
    // Who is on the same host needs no server.
    let mut beside = Client::connect(hosts[0].addr).register("beside");
    one.expect_that("presence_update", |data| data["vehicleId"] == "beside");
    relay(&mut one, &mut beside);
    redis.run();
    for host in &hosts {
        host.until_up();
        host.until_heard(&redis);
    }
    until("a knows car-b again", || hosts[0].listed() == ["beside", "car-a", "car-b"]);
    // What the frozen server had taken may have come in the end.
    other.sync();
    relay(&mut one, &mut other);
}
