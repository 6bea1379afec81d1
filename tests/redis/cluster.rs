//! Three masters, and a replica of the first.

use std::collections::HashSet;

use ringroad::config::{Servers, Topology};
use ringroad::shard::backplane::client::{News, NotSent, Outcome, Script, Spread};
use ringroad::turn::Endpoint;
use ringroad::wire::resp::Reply;

use crate::driver::{Driver, text};
use crate::server::{Server, until};

const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10922), (10923, 16383)];

struct Cluster {
    masters: Vec<Server>,
    replica: Server,
}

fn node() -> Server {
    Server::start(&[
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        "BUS",
        "--cluster-node-timeout",
        "1000",
        "--cluster-replica-validity-factor",
        "0",
        "--repl-diskless-sync-delay",
        "0",
    ])
}

fn utf8(reply: Reply) -> String {
    match reply {
        Reply::Text(text) => String::from_utf8(text).expect("UTF-8"),
        other => panic!("{other:?}"),
    }
}

fn id(server: &Server) -> String {
    utf8(server.ask(&["CLUSTER", "MYID"]))
}

impl Cluster {
    fn start() -> Cluster {
        let cluster = Cluster { masters: (0..3).map(|_| node()).collect(), replica: node() };
        let first = &cluster.masters[0];
        for (epoch, server) in (1..).zip(cluster.all()) {
            let epoch: u16 = epoch;
            server.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch.to_string()]);
            server.ask(&["CLUSTER", "MEET", "127.0.0.1", &first.port.to_string(), &first.bus.to_string()]);
        }
        for (server, (from, to)) in cluster.masters.iter().zip(SLOTS) {
            server.ask(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]);
        }
        let nodes = |server: &Server| utf8(server.ask(&["CLUSTER", "NODES"]));
        until("acquaintance", || cluster.all().all(|server| nodes(server).matches("connected").count() == 4));
        cluster.replica.ask(&["CLUSTER", "REPLICATE", &id(first)]);
        let is_ok = |server| utf8(Server::ask(server, &["CLUSTER", "INFO"])).contains("cluster_state:ok");
        until("agreement", || {
            let replicas = first.ask(&["ROLE"]).as_list().expect("a list")[2].as_list().expect("a list").len();
            replicas == 1 && cluster.all().all(|server| is_ok(server) && nodes(server).contains("slave"))
        });
        cluster
    }

    fn all(&self) -> impl Iterator<Item = &Server> {
        self.masters.iter().chain([&self.replica])
    }

    fn servers(&self) -> Servers {
        servers(vec![self.masters[2].endpoint()])
    }
}

fn servers(seeds: Vec<Endpoint>) -> Servers {
    Servers { topology: Topology::Cluster { seeds }, tls: false, username: None, password: None, database: 0 }
}

/// Subscribes to sharded channels in all slots.
fn subscribe(driver: &mut Driver, channels: &[String]) {
    for channel in channels {
        driver.client.subscribe(driver.now(), Spread::Sharded, channel.as_bytes());
    }
}

/// Turns until each of the channels was confirmed.
fn confirmed(driver: &mut Driver, channels: &[String]) {
    let mut missing: HashSet<&[u8]> = channels.iter().map(String::as_bytes).collect();
    driver.until("confirmations", |driver| {
        for news in driver.news.drain(..) {
            if let News::Subscribed { channel } = news {
                missing.remove(&*channel);
            }
        }
        missing.is_empty().then_some(())
    });
}

/// Publishes on each channel and expects it to be heard once.
fn heard_once(publisher: &mut Driver, listener: &mut Driver, channels: &[String]) {
    for channel in channels {
        let now = publisher.now();
        publisher.client.publish(now, Spread::Sharded, channel.as_bytes(), b"x", 1).expect("ready");
        assert_eq!(publisher.outcome(1), Outcome::Reply(Reply::Integer(1)), "{channel}");
    }
    for channel in channels {
        let message = listener.news("a message", |news| matches!(news, News::Message { .. }));
        let News::Message { channel: name, .. } = message else { panic!("no message") };
        assert!(channels.iter().any(|channel| *channel.as_bytes() == *name), "{channel}");
    }
    assert!(!listener.news.iter().any(|news| matches!(news, News::Message { .. })));
}

#[test]
fn keys_and_channels_go_to_where_their_slots_are() {
    let cluster = Cluster::start();
    let mut dead = node();
    dead.kill();
    let mut driver = Driver::new(servers(vec![dead.endpoint(), cluster.replica.endpoint()]));
    driver.ready();
    let channels: Vec<String> = (0..200).map(|number| format!("square {number}")).collect();
    let together: Vec<String> = (0..600).map(|number| format!("{{one slot}} {number}")).collect();
    subscribe(&mut driver, &channels);
    subscribe(&mut driver, &together);
    confirmed(&mut driver, &channels);
    driver.client.subscribe(driver.now(), Spread::Everywhere, b"all");
    driver.subscribed(b"all");

    let mut publisher = Driver::with_seed(cluster.servers(), 2);
    publisher.ready();
    let all_connected = |driver: &mut Driver| {
        driver.until("all masters", |driver| {
            let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
            let sent =
                keys.map(|key| driver.client.send(driver.now(), Some(key.as_bytes()), &[b"GET", key.as_bytes()], 0));
            sent.iter().all(Result::is_ok).then_some(())
        });
    };
    all_connected(&mut publisher);
    all_connected(&mut driver);
    heard_once(&mut publisher, &mut driver, &channels);
    for (number, server) in cluster.masters.iter().enumerate() {
        let now = publisher.now();
        let payload = number.to_string();
        assert_eq!(publisher.client.publish(now, Spread::Everywhere, b"all", payload.as_bytes(), 1), Ok(()));
        assert!(matches!(publisher.outcome(1), Outcome::Reply(_)));
        server.ask(&["PUBLISH", "all", &payload]);
    }
    for _ in 0..6 {
        driver.news("a message", |news| matches!(news, News::Message { .. }));
    }

    const PUT: Script = Script("return redis.call('SET', KEYS[1], ARGV[1])");
    for number in 0..300 {
        let key = format!("key {number}");
        driver.client.run(driver.now(), &PUT, key.as_bytes(), &[b"v"], 1).expect("ready");
        assert_eq!(driver.outcome(1), text("OK"));
        assert_eq!(driver.ask(Some(key.as_bytes()), &[b"GET", key.as_bytes()]), text("v"));
    }
    for server in &cluster.masters {
        assert!(matches!(server.ask(&["DBSIZE"]), Reply::Integer(50..)));
    }
    assert_eq!(driver.client.counts().redirects, 0);
    assert_eq!(driver.ask(None, &[b"PING"]), text("PONG"));
}

#[test]
fn a_slot_may_move_with_its_keys_and_channels() {
    let cluster = Cluster::start();
    let mut driver = Driver::new(cluster.servers());
    driver.ready();
    let channels: Vec<String> = (0..20).map(|number| format!("{{m}} channel {number}")).collect();
    subscribe(&mut driver, &channels);
    confirmed(&mut driver, &channels);
    let Reply::Integer(slot) = cluster.masters[0].ask(&["CLUSTER", "KEYSLOT", "m"]) else { panic!("no slot") };
    let from = SLOTS.iter().position(|(from, to)| (*from..=*to).contains(&(slot as u16))).expect("an owner");
    let (source, target) = (&cluster.masters[from], &cluster.masters[(from + 1) % 3]);
    let slot = slot.to_string();
    let port = target.port.to_string();
    let key = |number: u32| format!("{{m}} key {number}");
    for number in 0..20 {
        assert_eq!(driver.ask(Some(b"{m}"), &[b"SET", key(number).as_bytes(), b"1"]), text("OK"));
    }
    assert_eq!(driver.client.counts().redirects, 0);

    target.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(source)]);
    source.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(target)]);
    for number in 0..20 {
        if number % 2 == 0 {
            source.ask(&["MIGRATE", "127.0.0.1", &port, &key(number), "0", "5000"]);
        }
        // Half of them are here, half of them there; a script that the other one does not know is asked for twice.
        assert_eq!(driver.ask(Some(b"{m}"), &[b"INCR", key(number).as_bytes()]), Outcome::Reply(Reply::Integer(2)));
        let increment = Script("return redis.call('INCR', KEYS[1])");
        driver.client.run(driver.now(), &increment, key(number).as_bytes(), &[], 1).expect("ready");
        assert_eq!(driver.outcome(1), Outcome::Reply(Reply::Integer(3)));
    }
    assert!(driver.client.counts().redirects >= 20);
    for number in (1..20).step_by(2) {
        source.ask(&["MIGRATE", "127.0.0.1", &port, &key(number), "0", "5000"]);
    }
    driver.news.clear();
    for server in [target, source] {
        server.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(target)]);
    }
    confirmed(&mut driver, &channels);
    for number in 0..20 {
        let key = key(number);
        assert_eq!(driver.ask(Some(b"{m}"), &[b"INCR", key.as_bytes()]), Outcome::Reply(Reply::Integer(4)));
    }
    let redirects = driver.client.counts().redirects;
    let mut publisher = Driver::with_seed(cluster.servers(), 2);
    publisher.ready();
    publisher.until("the masters", |driver| {
        driver.client.send(driver.now(), Some(b"{m}"), &[b"PING"], 0).is_ok().then_some(())
    });
    heard_once(&mut publisher, &mut driver, &channels);
    assert_eq!(driver.ask(Some(b"{m}"), &[b"INCR", b"{m}"]), Outcome::Reply(Reply::Integer(1)));
    assert_eq!(driver.client.counts().redirects, redirects, "it has learnt where the slot is");
}

#[test]
fn a_replica_takes_over_from_a_master_that_was_killed() {
    let mut cluster = Cluster::start();
    // One that has made its home at the first master.
    let mut driver = (1..)
        .map(|seed| {
            let mut driver = Driver::with_seed(cluster.servers(), seed);
            driver.client.subscribe(driver.now(), Spread::Everywhere, b"all");
            driver.ready();
            driver.subscribed(b"all");
            driver
        })
        .take(40)
        .find(|_| !cluster.masters[0].ask(&["PUBSUB", "CHANNELS"]).as_list().expect("a list").is_empty())
        .expect("each master is somebody's home");
    let channels: Vec<String> = (0..100).map(|number| format!("square {number}")).collect();
    subscribe(&mut driver, &channels);
    confirmed(&mut driver, &channels);
    let key = (0..).map(|number| format!("key {number}")).find(|key| {
        let Reply::Integer(slot) = cluster.masters[0].ask(&["CLUSTER", "KEYSLOT", key]) else { panic!("no slot") };
        slot <= i64::from(SLOTS[0].1)
    });
    let key = key.expect("a key of the first master");
    assert_eq!(driver.ask(Some(key.as_bytes()), &[b"SET", key.as_bytes(), b"1"]), text("OK"));
    until("replication", || cluster.replica.ask(&["DBSIZE"]) == Reply::Integer(1));

    let lost: Vec<String> = channels
        .iter()
        .filter(|channel| {
            let numsub = cluster.masters[0].ask(&["PUBSUB", "SHARDNUMSUB", channel]);
            numsub.as_list().expect("a list")[1] == Reply::Integer(1)
        })
        .cloned()
        .collect();
    assert!(lost.len() > 10);
    driver.news.clear();
    cluster.masters[0].kill();
    driver.client.send(driver.now(), Some(key.as_bytes()), &[b"INCR", key.as_bytes()], 5).expect("it is not known yet");
    assert_eq!(driver.outcome(5), Outcome::Unknown);
    assert!(driver.client.is_ready(), "the others are there");
    let sent = driver.client.send(driver.now(), Some(key.as_bytes()), &[b"INCR", key.as_bytes()], 6);
    assert_eq!(sent, Err(NotSent::Down));
    driver.subscribed(b"all");
    confirmed(&mut driver, &lost);
    assert_eq!(driver.ask(Some(key.as_bytes()), &[b"INCR", key.as_bytes()]), Outcome::Reply(Reply::Integer(2)));

    let mut publisher = Driver::new(servers(vec![cluster.replica.endpoint()]));
    publisher.ready();
    publisher.until("the masters", |driver| {
        let sent =
            channels.iter().map(|channel| driver.client.send(driver.now(), Some(channel.as_bytes()), &[b"PING"], 0));
        sent.map(|sent| sent.is_ok()).fold(true, |all, one| all & one).then_some(())
    });
    heard_once(&mut publisher, &mut driver, &channels);
    assert_eq!(cluster.masters[1].ask(&["PUBLISH", "all", "x"]), Reply::Integer(0));
    driver.news("a message", |news| matches!(news, News::Message { .. }));

    // All of them away: nothing is taken until one is back.
    for server in &mut cluster.masters {
        server.kill();
    }
    cluster.replica.kill();
    driver.news("lost", |news| matches!(news, News::Lost { .. }));
    assert_eq!(driver.client.send(driver.now(), None, &[b"PING"], 7), Err(NotSent::Down));
}
