//! Each tenant is one world across all hosts that have it, and tenants hear nothing of each other.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::client::{Client, expect_all};
use crate::cluster::Cluster;
use crate::gateway::Gateway;
use crate::heavy;
use crate::host::{Host, LEASE};
use crate::plain::Listener;
use crate::redis::Redis;
use crate::tokens::{SECRET, Signer, sign};
use crate::until;

/// A gateway with tenants. Operators look on its private address.
struct Site {
    gateway: Gateway,
    private: SocketAddr,
}

impl Site {
    fn start(redis: &Redis, node: &str, tenants: &[&str]) -> Site {
        let site = Site::joining(&redis.url(), node, tenants);
        let channel = format!("v2v:to:{node}");
        until(&format!("{node} is heard"), || redis.listeners(&channel) == 1);
        site
    }

    fn joining(url: &str, node: &str, tenants: &[&str]) -> Site {
        let settings = [
            format!("redis.url={url}"),
            format!("redis.node_id={node}"),
            format!("redis.lease_ms={}", LEASE.as_millis()),
            "auth.required=true".to_owned(),
            format!("auth.secret='{SECRET}'"),
            format!("auth.tenants={tenants:?}"),
            "server.private_listen='127.0.0.1:0'".to_owned(),
            "vehicles.nearby_list_ms=50".to_owned(),
            "rate_limits.emergency_alert.burst=10".to_owned(),
        ];
        let gateway = Gateway::start(&settings.each_ref().map(String::as_str));
        let private = gateway.private_addr();
        let site = Site { gateway, private };
        until(&format!("{node} is up"), || site.metric("ringroad_backplane_workers_up") == 2);
        site
    }

    fn metric(&self, series: &str) -> u64 {
        Gateway::metric_at(self.private, series)
    }

    /// What `/vehicles` lists of a tenant, or the status if it does not.
    fn listed(&self, tenant: &str) -> Result<Vec<String>, u16> {
        let reply = Gateway::get_at(self.private, &format!("/vehicles?tenant={tenant}"));
        if reply.status != 200 {
            return Err(reply.status);
        }
        let listing = reply.json();
        let ids = listing["vehicles"].as_array().expect("a list").iter();
        let mut ids: Vec<String> = ids.map(|vehicle| vehicle["vehicleId"].as_str().expect("an id").into()).collect();
        ids.sort();
        Ok(ids)
    }

    /// A client of a tenant; what it says carries the tenant's name.
    fn register(&self, tenant: &str, id: &str) -> Client {
        let mut client = Client::connect(self.gateway.addr);
        client.id = id.to_owned();
        client.send(
            "register",
            json!({"vehicleId": id, "driverName": format!("of {tenant}"), "authToken": token(tenant)}),
        );
        client.expect("registered");
        client
    }

    /// A client of a tenant that only looks.
    fn look(&self, tenant: &str, view: Value) -> Client {
        let mut client = Client::connect(self.gateway.addr);
        client.id = format!("viewer of {tenant}");
        let mut data = view;
        data["authToken"] = json!(token(tenant));
        client.send("view", data);
        client.expect("watching");
        client
    }
}

fn token(tenant: &str) -> String {
    sign(Signer::Secret, &json!({"tenant": tenant, "roles": ["vehicle", "viewer"]}))
}

fn raise(vehicle: &mut Client, tenant: &str) {
    vehicle.send("emergency_alert", json!({"senderId": vehicle.id, "vehicleInfo": {"model": format!("of {tenant}")}}));
}

fn tell(from: &mut Client, to: &str, content: &str) {
    from.send("send_message", json!({"senderId": from.id, "recipientId": to, "content": content}));
}

fn is_presence(data: &Value, id: &str, status: &str) -> bool {
    data["vehicleId"] == id && data["status"] == status
}

/// What a client has heard and nobody has expected: nothing but its own world's, and none of what everybody hears once.
fn nothing_more(client: &mut Client, tenant: &str, latitudes: (f64, f64)) {
    for event in client.sync() {
        let text = event.data.to_string();
        assert!(!text.contains("\"of ") || text.contains(&format!("\"of {tenant}")), "{tenant}: {event:?}");
        let is_once = ["emergency_alert", "receive_message", "error"].contains(&event.name.as_str());
        assert!(!is_once, "{tenant}: {event:?}");
        if let Some(lat) = event.data["lat"].as_f64() {
            assert!((latitudes.0..latitudes.1).contains(&lat), "{tenant}: {event:?}");
        }
    }
}

#[test]
fn each_tenant_is_one_world_and_hears_of_no_other() {
    let redis = Redis::start();
    let a = Site::start(&redis, "a", &["north", "south"]);
    let b = Site::start(&redis, "b", &["south", "north"]);
    let c = Site::start(&redis, "c", &["south"]);
    let d = Host::start(&redis.url(), "d", &[]);
    for (name, site) in [("a", &a), ("b", &b), ("c", &c)] {
        until(&format!("{name} knows the others"), || site.metric("v2v_ws_process_count") == 4);
    }
    d.until_hosts(4);

    // The same names at nearly the same place, each world in a strip of its own.
    let (north_strip, south_strip, own_strip) = ((52.000, 52.001), (52.001, 52.002), (52.002, 52.003));
    let mut north = [a.register("north", "bus-7"), b.register("north", "taxi")];
    let mut south = [b.register("south", "bus-7"), c.register("south", "taxi")];
    let mut own = Client::connect(d.addr).register("bus-7");
    let mut watches = [
        a.look("north", json!({"south": 51.9, "west": 13.1, "north": 52.1, "east": 13.3})),
        a.look("south", json!({"south": 51.9, "west": 13.1, "north": 52.1, "east": 13.3})),
    ];
    own.locate(52.0025, 13.2);
    for ([bus, taxi], strip) in [(&mut north, north_strip), (&mut south, south_strip)] {
        bus.locate(strip.0 + 0.0004, 13.2);
        taxi.locate(strip.0 + 0.0006, 13.2);
    }

    // Neighbours, across hosts, with the right names.
    for ([bus, taxi], tenant) in [(&mut north, "north"), (&mut south, "south")] {
        for (vehicle, peer) in [(bus, "taxi"), (taxi, "bus-7")] {
            vehicle.expect_that("proximity_event", |data| {
                data["peerVehicleId"] == peer && data["eventType"] == "enter" && data["vehicleId"] != peer
            });
            let list = vehicle.expect_that("nearby_vehicles", |data| data["vehicles"][0]["vehicleId"] == peer);
            assert_eq!(list["vehicles"].as_array().map(Vec::len), Some(1), "{tenant}: {list}");
            assert_eq!(list["vehicles"][0]["driverName"], format!("of {tenant}"), "{list}");
        }
    }
    for (viewer, strip) in watches.iter_mut().zip([north_strip, south_strip]) {
        for (id, north) in [("bus-7", 0.0004), ("taxi", 0.0006)] {
            viewer.expect_that("peer_location", |data| {
                data["vehicleId"] == id && data["lat"].as_f64().is_some_and(|lat| (lat - strip.0 - north).abs() < 2e-7)
            });
        }
    }

    // Listings.
    let both = Ok(vec!["bus-7".to_owned(), "taxi".to_owned()]);
    for (site, tenant) in [(&a, "north"), (&a, "south"), (&b, "north"), (&b, "south"), (&c, "south")] {
        until(&format!("{tenant} is listed"), || site.listed(tenant) == both);
    }
    assert_eq!(c.listed("north"), Err(400));
    assert_eq!(d.listed(), ["bus-7"]);

    // Alerts and messages, each exactly once; whatever comes for the second time is found at the end.
    for (world, tenant) in [(&mut north, "north"), (&mut south, "south")] {
        raise(&mut world[0], tenant);
        expect_all(world.iter_mut(), "emergency_alert", |data| data["vehicleInfo"]["model"] == format!("of {tenant}"));
        for (from, to, id) in [(0, 1, "taxi"), (1, 0, "bus-7")] {
            let content = format!("of {tenant}, from {from}");
            tell(&mut world[from], id, &content);
            world[to].expect_that("receive_message", |data| data["content"] == content.as_str());
        }
        tell(&mut world[0], "tram", "is anybody there?");
        world[0].expect_error("target_offline");
    }
    for (viewer, tenant) in watches.iter_mut().zip(["north", "south"]) {
        viewer.expect_that("emergency_alert", |data| data["vehicleInfo"]["model"] == format!("of {tenant}"));
    }
    raise(&mut own, "nobody");
    own.expect("emergency_alert");

    // A takeover in one world leaves the namesakes of the others where they are.
    let mut taken = std::mem::replace(&mut north[0], b.register("north", "bus-7"));
    assert_eq!(taken.closed(), (4001, "replaced".to_owned()));
    let mut plain = redis.plain();
    let mut node_of = |key: &str, id: &str| {
        plain.hash(key).into_iter().find(|(field, _)| field == id).map(|(_, entry)| entry["node"].clone())
    };
    until("the entry names the new node", || node_of("v2v:tenant:north:presence", "bus-7") == Some(json!("b")));
    assert_eq!(node_of("v2v:tenant:south:presence", "bus-7"), Some(json!("b")));
    assert_eq!(node_of("v2v:presence", "bus-7"), Some(json!("d")));
    nothing_more(&mut south[0], "south", south_strip);
    nothing_more(&mut own, "nobody", own_strip);

    // A killed host's vehicles are gone in their own world only.
    c.gateway.crash();
    south[0].expect_that("proximity_event", |data| data["peerVehicleId"] == "taxi" && data["eventType"] == "exit");
    expect_all([&mut south[0], &mut watches[1]], "presence_update", |data| is_presence(data, "taxi", "offline"));
    let still = watches[0].sync().into_iter().chain(north[0].sync());
    let stray = still.filter(|event| event.name == "presence_update" && event.data["status"] == "offline").count();
    assert_eq!(stray, 0, "nobody has left the north");
    until("the south lists who is left", || a.listed("south") == Ok(vec!["bus-7".to_owned()]));
    assert_eq!(a.listed("north"), both);
    for (world, tenant, strip) in [(&mut north, "north", north_strip), (&mut south, "south", south_strip)] {
        nothing_more(&mut world[0], tenant, strip);
    }
    nothing_more(&mut north[1], "north", north_strip);
    b.gateway.crash();
    for (viewer, ids) in watches.iter_mut().zip([&["bus-7", "taxi"][..], &["bus-7"]]) {
        for id in ids {
            viewer.expect_that("presence_update", |data| is_presence(data, id, "offline"));
        }
    }
    let [of_north, of_south] = &mut watches;
    for (viewer, tenant, strip) in [(of_north, "north", north_strip), (of_south, "south", south_strip)] {
        let again = viewer.sync();
        assert!(again.iter().all(|event| event.data["status"] != "offline"), "{tenant}: {again:#?}");
        nothing_more(viewer, tenant, strip);
        until("nobody is left", || a.listed(tenant) == Ok(Vec::new()));
        let key = format!("v2v:tenant:{tenant}:presence");
        until("nor an entry", || redis.plain().hash(&key).is_empty());
    }
    assert_eq!(d.listed(), ["bus-7"]);
    nothing_more(&mut own, "nobody", own_strip);
}

#[test]
fn tenants_share_a_cluster() {
    let _heavy = heavy();
    let cluster = Cluster::start();
    let a = Site::joining(&cluster.url(), "a", &["north", "south"]);
    let b = Site::joining(&cluster.url(), "b", &["south", "north"]);
    for site in [&a, &b] {
        until("both know each other", || site.metric("v2v_ws_process_count") == 2);
    }
    let mut worlds =
        ["north", "south"].map(|tenant| (tenant, [a.register(tenant, "bus-7"), b.register(tenant, "taxi")]));
    for (tenant, vehicles) in &mut worlds {
        for (vehicle, lon) in vehicles.iter_mut().zip([13.2, 13.201]) {
            vehicle.locate(52.0, lon);
        }
        for (vehicle, peer) in vehicles.iter_mut().zip(["taxi", "bus-7"]) {
            vehicle
                .expect_that("proximity_event", |data| data["peerVehicleId"] == peer && data["eventType"] == "enter");
        }
        raise(&mut vehicles[0], tenant);
        expect_all(vehicles.iter_mut(), "emergency_alert", |data| {
            data["vehicleInfo"]["model"] == format!("of {tenant}")
        });
        tell(&mut vehicles[0], "taxi", &format!("of {tenant}"));
        vehicles[1].expect_that("receive_message", |data| data["content"] == format!("of {tenant}"));
        until("it is listed", || b.listed(tenant).is_ok_and(|listed| listed == ["bus-7", "taxi"]));
    }
    for (tenant, vehicles) in worlds {
        for mut vehicle in vehicles {
            nothing_more(&mut vehicle, tenant, (51.9, 52.1));
            vehicle.goodbye();
        }
        until("nobody is left", || a.listed(tenant) == Ok(Vec::new()));
    }
}

/// The channels that somebody listens to, in order.
fn channels(redis: &Redis) -> Vec<String> {
    let mut channels: Vec<String> =
        redis.plain().ask(&["PUBSUB", "CHANNELS", "*"]).list().iter().map(|name| name.text()).collect();
    channels.sort();
    channels
}

fn ringroad(listener: &mut Listener, kind: &str, is: impl Fn(&Value) -> bool) -> Value {
    listener.expect(kind, |message| message["ringroad"]["kind"] == kind && is(message))["ringroad"].clone()
}

#[test]
fn names_travel_and_numbers_do_not() {
    let redis = Redis::start();
    let a = Site::start(&redis, "a", &["south", "north"]);
    let b = Site::start(&redis, "b", &["north"]);
    for site in [&a, &b] {
        until("both know each other", || site.metric("v2v_ws_process_count") == 2);
    }

    // What a host listens to before anybody has come; nothing of the world without tenants.
    let mut expected: Vec<&str> = vec![
        "v2v:gateways",
        "v2v:tenant:north:broadcast",
        "v2v:tenant:north:gateways",
        "v2v:tenant:south:broadcast",
        "v2v:tenant:south:gateways",
        "v2v:to:a",
        "v2v:to:b",
    ];
    assert_eq!(channels(&redis), expected);
    assert_eq!(redis.listeners("v2v:tenant:south:broadcast"), 1, "b does not have it");

    // And where one vehicle is.
    let mut bus = a.register("north", "bus-7");
    bus.locate(52.0, 13.2);
    expected.push("v2v:tenant:north:cell:u31r");
    expected.sort();
    until("only its own tenant's square is listened to", || channels(&redis) == expected);

    let listen = |channel: &str| redis.plain().listen(channel);
    let mut hosts = listen("v2v:gateways");
    let (mut north, mut south) = (listen("v2v:tenant:north:broadcast"), listen("v2v:tenant:south:broadcast"));
    let mut to_b = listen("v2v:to:b");
    let mut plain = redis.plain();

    // Alerts are numbered for each tenant, and beats name the tenants that have raised some.
    let mut tram = a.register("south", "tram");
    let mut taxi = b.register("north", "taxi");
    assert_eq!(ringroad(&mut north, "presence", |message| message["origin"] == "b")["tenant"], "north");
    assert_eq!(ringroad(&mut south, "presence", |_| true)["tenant"], "south");
    raise(&mut bus, "north");
    let alert = ringroad(&mut north, "alert", |_| true);
    assert_eq!((&alert["tenant"], &alert["seq"]), (&json!("north"), &json!(1)));
    taxi.expect("emergency_alert");
    raise(&mut tram, "south");
    let alert = ringroad(&mut south, "alert", |_| true);
    assert_eq!((&alert["tenant"], &alert["seq"]), (&json!("south"), &json!(1)));
    // Two workers: each tells of its own.
    for tenant in ["north", "south"] {
        let beat = ringroad(&mut hosts, "beat", |message| message["ringroad"]["heads"][tenant] == 1);
        assert_eq!(beat["head"], 0, "{beat}");
    }
    assert!(hosts.heard.iter().all(|message| message["ringroad"]["kind"] == "beat"), "{:#?}", hosts.heard);

    // To one vehicle: by the node, in a tenant's name.
    until("both know the taxi", || a.listed("north") == Ok(vec!["bus-7".to_owned(), "taxi".to_owned()]));
    tell(&mut bus, "taxi", "hello");
    taxi.expect_that("receive_message", |data| data["content"] == "hello");
    assert_eq!(ringroad(&mut to_b, "direct", |_| true)["tenant"], "north");

    // Keys.
    let mut keys: Vec<String> = plain.ask(&["KEYS", "*"]).list().iter().map(|key| key.text()).collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "v2v:node:a",
            "v2v:node:b",
            "v2v:tenant:north:messages",
            "v2v:tenant:north:presence",
            "v2v:tenant:north:rl:bus-7:emergency_alert",
            "v2v:tenant:south:presence",
            "v2v:tenant:south:rl:tram:emergency_alert",
        ]
    );

    // What other programs publish on a tenant's channel is that tenant's; on that of the world without, nobody's.
    let foreign = |id: &str| {
        let data = json!({"id": id, "senderId": "x", "vehicleInfo": {"model": "of north"}, "ts": 1});
        json!({"origin": 4711, "obj": {"event": "emergency_alert", "data": data}})
    };
    assert_eq!(plain.publish("v2v:broadcast", foreign("nobody's").to_string()), 0);
    plain.publish("v2v:tenant:north:broadcast", foreign("one").to_string());
    for client in [&mut bus, &mut taxi] {
        client.expect_that("emergency_alert", |data| data["id"] == "one");
    }
    // A gateway that says another tenant than the channel, or one that nobody has, is not believed.
    let dropped = "ringroad_backplane_dropped_total{reason=\"tenant\"}";
    let before = b.metric(dropped);
    // Nor on the channel of all hosts, on which every host may publish.
    for (channel, tenant) in [
        ("v2v:tenant:north:broadcast", "south"),
        ("v2v:to:b", "south"),
        ("v2v:to:b", "west"),
        ("v2v:gateways", "north"),
    ] {
        let mut forged = foreign(tenant);
        forged["origin"] = json!("z");
        forged["ringroad"] = json!({"epoch": 1, "worker": 0, "at": 1, "kind": "alert", "seq": 1, "tenant": tenant});
        plain.publish(channel, forged.to_string());
    }
    until("they are counted", || b.metric(dropped) == before + 4);
    plain.publish("v2v:tenant:north:broadcast", foreign("two").to_string());
    taxi.expect_that("emergency_alert", |data| data["id"] == "two");
    assert!(taxi.sync().iter().all(|event| event.name != "emergency_alert"));
    assert!(!tram.sync().iter().any(|event| event.data.to_string().contains("of north")));
    assert!(to_b.heard.iter().all(|message| message["ringroad"]["kind"] != "again"), "nobody has missed anything");
}
