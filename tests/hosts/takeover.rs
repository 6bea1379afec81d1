//! A vehicle is on one host at a time, and what it may do goes with it.

use serde_json::{Value, json};

use crate::client::{Client, expect_all};
use crate::host::Host;
use crate::redis::Redis;
use crate::until;

/// The node that a vehicle's entry names.
fn node_of(redis: &Redis, id: &str) -> Value {
    let entries = redis.plain().hash("v2v:presence");
    entries.into_iter().find(|(field, _)| field == id).map_or(Value::Null, |(_, entry)| entry["node"].clone())
}

fn replaced(mut client: Client) {
    assert_eq!(client.closed(), (4001, "replaced".to_owned()));
}

#[test]
fn the_later_registration_wins_on_whichever_host() {
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &[]);
    let mut watchers: Vec<Client> =
        hosts.iter().map(|host| Client::connect(host.addr).register(&format!("watcher-{}", host.node))).collect();
    let mut current = Client::connect(hosts[0].addr).register("taxi");
    let is = |data: &Value, status: &str| data["vehicleId"] == "taxi" && data["status"] == status;
    expect_all(&mut watchers, "presence_update", |data| is(data, "online"));
    for round in 1..=10 {
        let host = &hosts[round % 2];
        let next = Client::connect(host.addr).register("taxi");
        replaced(std::mem::replace(&mut current, next));
        // All three agree on where it is.
        until("the entry names the new node", || node_of(&redis, "taxi") == host.node);
        for host in &hosts {
            until("it is listed once", || host.listed() == ["taxi", "watcher-a", "watcher-b"]);
        }
        // From both hosts a message finds it.
        for watcher in &mut watchers {
            let content = format!("round {round}");
            watcher.send("send_message", json!({"senderId": watcher.id, "recipientId": "taxi", "content": content}));
            current.expect_that("receive_message", |data| {
                data["senderId"] == watcher.id.as_str() && data["content"] == content.as_str()
            });
        }
    }
    current.goodbye();
    expect_all(&mut watchers, "presence_update", |data| is(data, "offline"));
    for watcher in &mut watchers {
        let more = watcher.sync();
        assert!(more.iter().all(|event| !is(&event.data, "offline")), "{more:#?}");
    }
    until("the entry is gone", || node_of(&redis, "taxi").is_null());
}

#[test]
fn of_two_at_once_on_two_hosts_one_survives() {
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &[]);
    for round in 0..10 {
        let id = format!("taxi-{round}");
        let mut rivals = hosts.each_ref().map(|host| Client::connect(host.addr));
        for rival in &mut rivals {
            rival.ask_to_register(&id);
        }
        let open = |rivals: &mut [Client; 2]| rivals.each_mut().map(|rival| !rival.is_closed());
        until("one is closed", || open(&mut rivals) != [true, true]);
        for host in &hosts {
            until("it is listed once", || host.listed() == [id.as_str()]);
        }
        let open = open(&mut rivals);
        assert_ne!(open, [false, false], "round {round}: both were closed");
        let winner = usize::from(open[1]);
        let mut rivals = rivals.into_iter();
        let [first, second] = [rivals.next(), rivals.next()].map(|rival| rival.expect("two"));
        let (survivor, loser) = if winner == 0 { (first, second) } else { (second, first) };
        replaced(loser);
        until(&format!("round {round}: the entry names {}", hosts[winner].node), || {
            node_of(&redis, &id) == hosts[winner].node
        });
        survivor.goodbye();
        until("it is gone", || node_of(&redis, &id).is_null() && hosts.iter().all(|host| host.vehicles() == 0));
    }
}

fn raise(vehicle: &mut Client) {
    vehicle.send("emergency_alert", json!({"senderId": vehicle.id}));
}

#[test]
fn a_second_alert_is_refused_on_the_other_host_too() {
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &["rate_limits.emergency_alert.burst=1"]);
    let mut witness = Client::connect(hosts[1].addr).register("witness");
    let mut taxi = Client::connect(hosts[0].addr).register("taxi");
    raise(&mut taxi);
    witness.expect_that("emergency_alert", |data| data["senderId"] == "taxi");
    let mut next = Client::connect(hosts[1].addr).register("taxi");
    replaced(taxi);
    raise(&mut next);
    let error = next.expect_error("rate_limited");
    assert_eq!(error["details"]["event"], "emergency_alert", "{error}");
    let wait = error["details"]["retryAfterMs"].as_u64().expect("a number");
    assert!((1..=10_000).contains(&wait), "{error}");
    // The bucket is one vehicle's, and it is in Redis only for its time.
    raise(&mut witness);
    witness.expect_that("emergency_alert", |data| data["senderId"] == "witness");
    let mut plain = redis.plain();
    for id in ["taxi", "witness"] {
        let key = format!("v2v:rl:{id}:emergency_alert");
        until("there is a bucket that expires", || (1..=60_000).contains(&plain.ask(&["PTTL", &key]).number()));
    }
    assert!(witness.sync().iter().all(|event| event.name != "emergency_alert"));
}

#[test]
fn without_redis_each_host_counts_for_itself() {
    let mut redis = Redis::start();
    let hosts = Host::pair(&redis, &["rate_limits.emergency_alert.burst=1"]);
    let mut taxis = hosts.each_ref().map(|host| Client::connect(host.addr).register(&format!("taxi-{}", host.node)));
    redis.crash();
    for host in &hosts {
        host.until_down();
    }
    for taxi in &mut taxis {
        raise(taxi);
        let id = taxi.id.clone();
        taxi.expect_that("emergency_alert", |data| data["senderId"] == id.as_str());
        raise(taxi);
        taxi.expect_error("rate_limited");
    }
    // What was raised meanwhile comes to the other host with the server.
    redis.run();
    let [at_a, at_b] = &mut taxis;
    at_a.expect_that("emergency_alert", |data| data["senderId"] == "taxi-b");
    at_b.expect_that("emergency_alert", |data| data["senderId"] == "taxi-a");
}
