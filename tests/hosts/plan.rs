//! Two hosts, one Redis, and an existing server beside them: what one says, all hear, once.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, expect_all};
use crate::host::Host;
use crate::redis::Redis;
use crate::until;

/// What an existing server, a Node process, puts on the channel.
fn envelope(event: &str, data: Value) -> String {
    json!({"origin": 4242, "obj": {"event": event, "data": data}}).to_string()
}

fn alert(id: &str) -> Value {
    json!({"id": id, "senderId": "bus-1", "vehicleInfo": {"model": "Citaro"}, "ts": 1_767_268_800_000_u64})
}

/// A vehicle and a viewer on each host, who have heard of both vehicles.
fn audience(hosts: &[Host; 2]) -> Vec<Client> {
    let mut viewers: Vec<Client> = hosts.iter().map(|host| Client::connect(host.addr)).collect();
    let mut all: Vec<Client> =
        hosts.iter().map(|host| Client::connect(host.addr).register(&format!("car-{}", host.node))).collect();
    for node in ["a", "b"] {
        let online = |data: &Value| data["vehicleId"] == format!("car-{node}") && data["status"] == "online";
        expect_all(&mut viewers, "presence_update", online);
    }
    all.append(&mut viewers);
    all
}

/// Everyone has heard a last word that came after all others, and nothing else but presence before it.
fn nothing_but_presence(redis: &Redis, audience: &mut [Client], last: &str) {
    redis.plain().publish("v2v:broadcast", envelope("emergency_alert", alert(last)));
    expect_all(audience.iter_mut(), "emergency_alert", |data| data["id"] == last);
    for client in audience {
        let backlog = &client.backlog;
        assert!(backlog.iter().all(|event| event.name == "presence_update"), "{}: {backlog:#?}", client.id);
    }
}

#[test]
fn each_host_knows_the_vehicles_of_both() {
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &[]);
    let mut all = audience(&hosts);
    // A host knows positions where it has vehicles of its own.
    for car in &mut all[..2] {
        car.locate(30.27, -97.74);
    }
    for host in &hosts {
        until("both are known", || host.vehicles() == 2 && host.listed() == ["car-a", "car-b"]);
        until("and where one is", || host.get("/vehicles/car-b").json()["location"]["lat"].is_number());
        let car = host.get("/vehicles/car-b").json();
        assert_eq!(car["driverName"], "driver of car-b");
        let presence = host.get("/presence").json();
        assert_eq!(presence["count"], 2, "{presence}");
    }
    // Who comes later to a host that was there before, and to one that was not.
    let third = Host::start(&redis.url(), "c", &[]);
    until("the third knows both", || third.listed() == ["car-a", "car-b"]);
    let _late = Client::connect(third.addr).register("car-c");
    for host in hosts.iter().chain([&third]) {
        until("all three are known", || host.vehicles() == 3);
    }
    drop(all);
    until("only the third's is left", || hosts.iter().all(|host| host.listed() == ["car-c"]));
}

#[test]
fn an_alert_is_shown_once_on_both_hosts_and_to_an_existing_server() {
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &[]);
    let mut bus = redis.plain().listen("v2v:broadcast");
    let mut all = audience(&hosts);
    for n in 0..20 {
        let sender = &mut all[n % 2];
        let (id, node) = (sender.id.clone(), hosts[n % 2].node);
        sender.send("emergency_alert", json!({"senderId": id, "vehicleInfo": {"n": n, "note": "\u{1F697}"}}));
        let seen = sender.expect_that("emergency_alert", |data| data["vehicleInfo"]["n"] == n);
        assert!(seen["senderId"] == id.as_str() && seen["ts"].is_u64(), "{seen}");
        expect_all(
            all.iter_mut().enumerate().filter(|(at, _)| *at != n % 2).map(|(_, client)| client),
            "emergency_alert",
            |data| *data == seen,
        );
        let envelope = bus.expect("envelope", |envelope| envelope["obj"]["data"]["id"] == seen["id"]);
        assert_eq!(envelope["origin"], node, "{envelope}");
        assert_eq!(envelope["obj"], json!({"event": "emergency_alert", "data": seen}));
    }
    // A second copy would have come before this.
    nothing_but_presence(&redis, &mut all, "last");
    for host in &hosts {
        // Alerts, and one coming at least.
        for counter in ["v2v_pubsub_messages_published", "v2v_pubsub_messages_consumed"] {
            assert!(host.metric(counter) > 10, "{}: {counter} {}", host.node, host.metric(counter));
        }
        host.until_hosts(2);
    }
    drop(all);
    for id in ["car-a", "car-b"] {
        bus.expect("farewell", |envelope| {
            let data = &envelope["obj"]["data"];
            envelope["obj"]["event"] == "presence_update" && data["vehicleId"] == id && data["status"] == "offline"
        });
        assert_eq!((bus.presence(id, "online"), bus.presence(id, "offline")), (1, 1));
    }
}

#[test]
fn what_an_existing_server_says_reaches_everyone() {
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &[]);
    let mut all = audience(&hosts);
    let mut node = redis.plain();
    let said = [
        ("emergency_alert", alert("8c3f6f0e-0000-4000-8000-000000000001")),
        ("presence_update", json!({"vehicleId": "bus-1", "status": "online", "lastSeen": 1_767_268_800_000_u64})),
        ("radio_text", json!({"from": "radio-7", "content": "road closed \u{1F6A7}"})),
        ("presence_update", json!({"vehicleId": "bus-1", "status": "offline", "lastSeen": 1_767_268_800_001_u64})),
    ];
    for (event, data) in &said {
        assert_eq!(node.publish("v2v:broadcast", envelope(event, data.clone())), 2, "one listener per host");
        expect_all(all.iter_mut(), event, |seen| seen == data);
    }
    // An alert that is repeated is shown once.
    let skipped = hosts.each_ref().map(|host| host.metric("v2v_pubsub_replay_skipped"));
    node.publish("v2v:broadcast", envelope("emergency_alert", said[0].1.clone()));
    nothing_but_presence(&redis, &mut all, "last");
    for (host, before) in hosts.iter().zip(skipped) {
        until("it is counted", || host.metric("v2v_pubsub_replay_skipped") == before + 1);
    }

    // Who published a message drops it; the other host does not.
    node.publish(
        "v2v:broadcast",
        json!({"origin": "a", "obj": {"event": "radio_text", "data": {"from": "radio-7", "content": "by a"}}})
            .to_string(),
    );
    let [_, at_b, _, viewer_at_b] = &mut all[..] else { unreachable!() };
    expect_all([at_b, viewer_at_b], "radio_text", |data| data["content"] == "by a");
    nothing_but_presence(&redis, &mut all, "very last");
}

#[test]
fn what_no_existing_server_says_reaches_nobody() {
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &[]);
    let mut all = audience(&hosts);
    let before: Vec<u64> = hosts.iter().map(|host| host.metric_sum("ringroad_backplane_dropped_total")).collect();
    let long = json!({"id": "long", "senderId": "bus-1", "vehicleInfo": {"note": "x".repeat(4096)}, "ts": 1});
    let payloads: Vec<Vec<u8>> = [
        envelope("peer_location", json!({"vehicleId": "bus-1", "lat": 1.0, "lon": 1.0, "ts": 1, "coalesced": true})),
        envelope("receive_message", json!({"id": "x", "senderId": "bus-1", "recipientId": "car-a", "content": "x"})),
        envelope("error", json!({"code": "no_such", "message": "x", "ts": 1})),
        envelope("emergency_alert", long),
        envelope("emergency_alert", json!([1, 2, 3])),
        envelope("emergency_alert", json!(null)),
        json!({"origin": 4242, "obj": {"event": 17, "data": {}}}).to_string(),
        json!({"origin": 4242, "obj": {"event": "emergency_alert"}}).to_string(),
        json!({"origin": 4242, "obj": []}).to_string(),
        json!({"origin": 4242}).to_string(),
        json!([]).to_string(),
        String::new(),
        "null".to_owned(),
        "{\"origin\": 4242, \"obj\": {\"event\": \"emergency_alert\", \"data\": {\"id\"".to_owned(),
        "[".repeat(3_000),
        "{\"origin\":4242,\"obj\":{\"event\":\"radio_text\",\"data\":{\"from\":\"\\ud800\",\"content\":NaN}}}"
            .to_owned(),
    ]
    .into_iter()
    .map(String::into_bytes)
    .chain([
        vec![0xff; 64],
        b"{\"origin\":4242,\"obj\":{\"event\":\"radio_text\",\"data\":{\"from\":\"\xff\"}}}".to_vec(),
    ])
    .collect();
    for payload in &payloads {
        redis.plain().publish("v2v:broadcast", payload);
    }
    nothing_but_presence(&redis, &mut all, "last");
    for (host, before) in hosts.iter().zip(before) {
        let dropped = host.metric_sum("ringroad_backplane_dropped_total") - before;
        assert_eq!(dropped, payloads.len() as u64, "{}: {}", host.node, host.get("/metrics").body);
    }
}

#[test]
fn presence_has_an_entry_while_its_vehicle_is_there() {
    let redis = Redis::start();
    let mut plain = redis.plain();
    // Of an existing server, which says nothing of a node.
    let foreign = json!({"driverName": "Grace", "vehicleInfo": {}, "connectedAt": 1_767_268_800_000_u64});
    plain.ask(&["HSET", "v2v:presence", "bus-1", &foreign.to_string()]);
    let hosts = Host::pair(&redis, &[]);
    let mut car = Client::connect(hosts[1].addr);
    car.id = "car-b".to_owned();
    let info = json!({"licensePlate": "V2V 1", "model": "Citaro", "color": "white"});
    car.send("register", json!({"vehicleId": "car-b", "driverName": "Ada \u{1F697}", "vehicleInfo": info}));
    car.expect("registered");
    let mut entry = Value::Null;
    let mut find = |id: &str| {
        entry = plain
            .hash("v2v:presence")
            .into_iter()
            .find(|(field, _)| field == id)
            .map_or(Value::Null, |(_, entry)| entry);
        entry.clone()
    };
    until("the entry is there", || !find("car-b").is_null());
    let entry = find("car-b");
    assert_eq!(entry["driverName"], "Ada \u{1F697}", "{entry}");
    assert_eq!(entry["vehicleInfo"], info, "{entry}");
    assert!(entry["node"] == "b" && entry["status"] == "online", "{entry}");
    assert!(entry["connectedAt"].is_u64() && entry["lastSeen"].is_u64(), "{entry}");
    assert_eq!(entry.as_object().expect("an object").len(), 7, "{entry}");
    car.goodbye();
    until("the entry is gone", || find("car-b").is_null());
    assert_eq!(find("bus-1"), foreign);

    // At an orderly end nothing of a node is left.
    let mut stays = Client::connect(hosts[1].addr).register("stays");
    until("the entry is there", || !find("stays").is_null());
    let mut plain = redis.plain();
    assert_eq!(plain.ask(&["EXISTS", "v2v:node:b"]).number(), 1);
    let lease = plain.ask(&["PTTL", "v2v:node:b"]).number();
    assert!((1..=3_000).contains(&lease), "{lease}");
    let [a, b] = hosts;
    let mut viewer = Client::connect(a.addr);
    b.stop();
    assert_eq!(stays.closed(), (1012, "shutdown".to_owned()));
    viewer.expect_that("presence_update", |data| data["vehicleId"] == "stays" && data["status"] == "offline");
    until("nothing of it is left", || find("stays").is_null() && plain.ask(&["EXISTS", "v2v:node:b"]).number() == 0);
    assert_eq!(find("bus-1"), foreign);
}

#[test]
fn what_somebody_deletes_from_the_hash_is_written_again() {
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &[]);
    let mut all = audience(&hosts);
    let mut plain = redis.plain();
    until("both are in the hash", || plain.hash("v2v:presence").len() == 2);
    plain.ask(&["DEL", "v2v:presence"]);
    // The hash is read every 30 s.
    let deadline = Instant::now() + Duration::from_secs(45);
    while plain.hash("v2v:presence").len() < 2 {
        assert!(Instant::now() < deadline, "{:?}", plain.hash("v2v:presence"));
        thread::sleep(Duration::from_millis(50));
    }
    // Their nodes were there all the time, and so were they.
    nothing_but_presence(&redis, &mut all, "last");
    for client in &all {
        let gone = client.backlog.iter().filter(|event| event.data["status"] == "offline");
        assert_eq!(gone.count(), 0, "{}: {:#?}", client.id, client.backlog);
    }
    assert!(hosts.iter().all(|host| host.vehicles() == 2));
}

#[test]
fn messages_are_listed_and_the_list_is_trimmed() {
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &["redis.messages_max=5"]);
    let [mut one, mut other] =
        [("car-a", &hosts[0]), ("car-b", &hosts[1])].map(|(id, host)| Client::connect(host.addr).register(id));
    until("a knows car-b", || hosts[0].listed().len() == 2);
    let mut plain = redis.plain();
    for n in 0..12 {
        let content = format!("message {n} \u{1F697}");
        one.send("send_message", json!({"senderId": "car-a", "recipientId": "car-b", "content": content}));
        let got = other.expect("receive_message");
        assert_eq!(got["content"], content.as_str());
        let mut newest = Value::Null;
        until("it is listed last", || {
            let list = plain.ask(&["LRANGE", "v2v:messages", "-1", "-1"]);
            newest = list.list().first().map_or(Value::Null, |record| record.json());
            newest["content"] == content.as_str()
        });
        assert_eq!(
            newest,
            json!({
                "id": got["id"], "senderId": "car-a", "recipientId": "car-b", "content": content,
                "messageType": "text", "ts": got["ts"],
            })
        );
    }
    until("the list is trimmed", || plain.ask(&["LLEN", "v2v:messages"]).number() == 5);
}

#[test]
fn presence_that_is_not_whitelisted_stays_between_gateways() {
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &["redis.publish_whitelist=emergency_alert"]);
    let mut bus = redis.plain().listen("v2v:broadcast");
    let mut all = audience(&hosts);
    let text = envelope("radio_text", json!({"from": "radio-7", "content": "x"}));
    redis.plain().publish("v2v:broadcast", text);
    nothing_but_presence(&redis, &mut all, "last");
    all[0].send("emergency_alert", json!({"senderId": "car-a"}));
    let is = |envelope: &Value| envelope["obj"]["data"]["senderId"] == "car-a";
    bus.expect("alert", is);
    let own: Vec<&Value> = bus.heard.iter().filter(|envelope| envelope["origin"] != 4242).collect();
    assert!(own.iter().all(|envelope| envelope["obj"]["event"] == "emergency_alert"), "{own:#?}");
}

#[test]
fn what_is_too_long_for_the_bus_stays_on_its_host_and_is_counted() {
    let redis = Redis::start();
    let hosts = Host::pair(&redis, &["redis.payload_bytes_max=1024"]);
    let mut all = audience(&hosts);
    let say = |all: &mut Vec<Client>, note: &str| {
        all[0].send("emergency_alert", json!({"senderId": "car-a", "vehicleInfo": {"note": note}}));
        all[0].expect_that("emergency_alert", |data| data["vehicleInfo"]["note"] == note);
    };
    let dropped = || hosts[0].metric_sum("ringroad_backplane_dropped_total");
    let before = dropped();
    say(&mut all, &"x".repeat(1_500));
    until("it is counted", || dropped() == before + 1);
    say(&mut all, "short");
    let is_first = |data: &Value| data["vehicleInfo"]["note"] == "short";
    expect_all(all[1..].iter_mut(), "emergency_alert", is_first);
}
