//! The servers that these tests run on do what the tests take for granted.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::cluster::Cluster;
use crate::namespace::{Cable, beyond, enter};
use crate::plain::{Plain, Reply};
use crate::redis::Redis;
use crate::sentinels::Sentinels;
use crate::{PATIENCE, until};

#[test]
fn a_server_comes_back_on_its_port() {
    let mut redis = Redis::start();
    let addr = redis.addr;
    for _ in 0..3 {
        let mut plain = redis.plain();
        plain.ask(&["HSET", "key", "field", r#"{"n": 1}"#]);
        assert_eq!(plain.hash("key"), [("field".to_owned(), json!({"n": 1}))]);
        redis.crash();
        assert!(plain.try_ask(&["PING"]).is_err() && Plain::try_connect(addr).is_err());
        redis.run();
        assert_eq!(redis.addr, addr);
        assert_eq!(redis.plain().hash("key"), []);
    }
}

#[test]
fn a_listener_hears_what_is_published_and_nothing_of_a_frozen_server() {
    let redis = Redis::start();
    let mut listener = redis.plain().listen("news");
    assert_eq!(redis.listeners("news"), 1);
    assert_eq!(redis.plain().publish("news", r#"{"n": 1}"#), 1);
    assert_eq!(listener.expect("it", |message| message["n"] == 1), json!({"n": 1}));
    let mut plain = redis.plain();
    redis.freeze();
    plain.say(&["PUBLISH", "news", r#"{"n": 2}"#]).expect("the kernel takes it");
    listener.hear(Duration::from_millis(50));
    assert_eq!(listener.heard.len(), 1);
    redis.thaw();
    listener.expect("it", |message| message["n"] == 2);
    assert_eq!(plain.read().expect("an answer"), Reply::Number(1));
}

#[test]
fn sentinels_promote_the_replica() {
    let mut sentinels = Sentinels::start();
    let first = sentinels.master();
    sentinels.server(first).crash();
    until("the other one leads", || sentinels.leads(1 - first));
}

#[test]
fn a_cluster_moves_a_slot_and_survives_a_master() {
    let mut cluster = Cluster::start();
    let slot = cluster.slot("key");
    let first = cluster.owner(slot, 0);
    cluster.nodes[first].plain().ask(&["SET", "key", "value"]);
    let second = (first + 1) % 3;
    cluster.migrate(slot, second);
    assert_eq!(cluster.nodes[second].plain().ask(&["GET", "key"]).text(), "value");
    cluster.nodes[second].crash();
    until("its replica has the slot", || cluster.find_owner(slot, first) == Some(second + 3) && cluster.is_well(first));
    assert_eq!(cluster.nodes[second + 3].plain().ask(&["GET", "key"]).text(), "value");
}

#[test]
fn a_pulled_cable_carries_nothing_and_tells_nobody() {
    static CABLE: Cable = Cable { name: "cable", net: 0 };
    let echo = || {
        let listener = TcpListener::bind("198.18.0.2:0").expect("bound");
        let addr = listener.local_addr().expect("an address");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut byte = [0];
            while stream.read_exact(&mut byte).is_ok() {
                stream.write_all(&byte).expect("echoed");
            }
        });
        addr
    };
    let test = thread::spawn(move || {
        let addr = match enter().and_then(|()| beyond(&[&CABLE], echo)) {
            Ok(addr) => addr,
            Err(why) => return eprintln!("skipped: no network namespaces here: {why}"),
        };
        let mut stream = TcpStream::connect(addr).expect("there is a way");
        let mut byte = [0];
        for pulled in [false, true] {
            if pulled {
                CABLE.pull();
            }
            stream.write_all(b"x").expect("the kernel takes it");
            stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
            if pulled {
                let error = stream.read(&mut byte).expect_err("nothing comes");
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                CABLE.put_back();
            }
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            stream.read_exact(&mut byte).expect("the kernel says it again");
        }
    });
    test.join().expect("it carries");
}
