//! A master, its replica, and the Sentinels that watch them.

use nix::sys::signal::Signal;
use ringroad::config::{Servers, Topology};
use ringroad::shard::backplane::client::{News, Outcome, Spread};
use ringroad::turn::Endpoint;
use ringroad::wire::resp::{Frame, Reply};

use crate::driver::{Driver, text};
use crate::server::{Server, until};

struct Watched {
    master: Server,
    replica: Server,
    sentinels: Vec<Server>,
}

fn servers(sentinels: Vec<Endpoint>, password: Option<&str>) -> Servers {
    let topology = Topology::Sentinel { sentinels, service: "ring".into() };
    Servers { topology, tls: false, username: None, password: password.map(String::from), database: 0 }
}

fn members(reply: Reply) -> usize {
    reply.as_list().expect("a list").len()
}

/// All of them, once they know each other. Who does not know the others yet cannot agree on anything.
fn start() -> Watched {
    let master = Server::start(&[]);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    until("replication", || members(master.ask(&["ROLE"]).as_list().expect("a list")[2].clone()) == 1);
    let sentinels: Vec<_> = (0..3).map(|_| Server::sentinel(master.port, 2, None)).collect();
    until("acquaintance", || {
        sentinels.iter().all(|sentinel| {
            members(sentinel.ask(&["SENTINEL", "SENTINELS", "ring"])) == 2
                && members(sentinel.ask(&["SENTINEL", "REPLICAS", "ring"])) == 1
        })
    });
    Watched { master, replica, sentinels }
}

#[test]
fn follows_the_replica_when_the_master_is_killed() {
    let Watched { mut master, replica, sentinels } = start();
    let mut driver = Driver::new(servers(vec![sentinels[0].endpoint()], None));
    driver.client.subscribe(driver.now(), Spread::Everywhere, b"c");
    driver.ready();
    driver.subscribed(b"c");
    assert_eq!(driver.ask(Some(b"k"), &[b"SET", b"k", b"1"]), text("OK"));
    until("replication", || replica.ask(&["GET", "k"]) == Reply::Text(b"1".to_vec()));

    master.signal(Signal::SIGSTOP);
    driver.client.send(driver.now(), Some(b"k"), &[b"INCR", b"k"], 5).expect("ready");
    driver.turn();
    master.kill();
    assert_eq!(driver.outcome(5), Outcome::Unknown);
    driver.news("lost", |news| matches!(news, News::Lost { .. }));
    driver.ready();
    driver.subscribed(b"c");
    assert_eq!(driver.ask(Some(b"k"), &[b"INCR", b"k"]), Outcome::Reply(Reply::Integer(2)));
    assert_eq!(replica.ask(&["GET", "k"]), Reply::Text(b"2".to_vec()));
    assert_eq!(replica.ask(&["PUBLISH", "c", "hello"]), Reply::Integer(1));
    driver.news("a message", |news| matches!(news, News::Message { .. }));
}

#[test]
fn follows_an_announcement_although_the_old_master_lives() {
    let Watched { master, replica, mut sentinels } = start();
    let mut driver = Driver::new(servers(vec![sentinels[0].endpoint()], None));
    driver.ready();
    // The one that it was told of; by then it must know the others.
    driver.until("acquaintance", |_| {
        let Reply::Text(clients) = sentinels[1].ask(&["CLIENT", "LIST"]) else { panic!("no text") };
        String::from_utf8_lossy(&clients).contains("ringroad-test").then_some(())
    });
    sentinels[0].kill();
    assert_eq!(sentinels[1].ask(&["SENTINEL", "FAILOVER", "ring"]), Reply::Text(b"OK".to_vec()));
    driver.news("lost", |news| matches!(news, News::Lost { .. }));
    driver.ready();
    assert_eq!(driver.ask(Some(b"k"), &[b"SET", b"k", b"1"]), text("OK"));
    assert_eq!(replica.ask(&["GET", "k"]), Reply::Text(b"1".to_vec()));
    until("the old master is a replica", || match master.try_ask(&["ROLE"]) {
        Some(Frame::Reply(role)) => role.as_list().expect("a list")[0] == Reply::Text(b"slave".to_vec()),
        _ => false,
    });
}

#[test]
fn leaves_a_master_that_has_become_a_replica() {
    let master = Server::start(&[]);
    let other = Server::start(&[]);
    // A quorum that one Sentinel never reaches: it goes on naming the same master.
    let sentinel = Server::sentinel(master.port, 3, None);
    let mut driver = Driver::new(servers(vec![sentinel.endpoint()], None));
    driver.ready();
    master.ask(&["REPLICAOF", "127.0.0.1", &other.port.to_string()]);
    let Outcome::Refused(error) = driver.ask(Some(b"k"), &[b"SET", b"k", b"1"]) else { panic!("it was executed") };
    assert!(error.starts_with("READONLY"), "{error}");
    driver.news("lost", |news| matches!(news, News::Lost { .. }));
    driver.until("further attempts", |driver| (driver.client.counts().reconnects >= 3).then_some(()));
    assert!(!driver.client.is_ready());
    master.ask(&["REPLICAOF", "NO", "ONE"]);
    driver.ready();
    assert_eq!(driver.ask(Some(b"k"), &[b"SET", b"k", b"1"]), text("OK"));
}

#[test]
fn gives_a_sentinel_the_password_only_if_it_wants_one() {
    let master = Server::start_locked("sesame", &[]);
    for password in [None, Some("sesame")] {
        let sentinel = Server::sentinel(master.port, 1, password);
        let mut driver = Driver::new(servers(vec![sentinel.endpoint()], Some("sesame")));
        driver.ready();
        assert_eq!(driver.ask(Some(b"k"), &[b"SET", b"k", b"1"]), text("OK"));
        assert_eq!(driver.news.len(), 0, "no loss on the way: {:?}", driver.news);
    }
    let sentinel = Server::sentinel(master.port, 1, None);
    let mut driver = Driver::new(Servers {
        topology: Topology::Sentinel { sentinels: vec![sentinel.endpoint()], service: "unknown".into() },
        ..servers(vec![], Some("sesame"))
    });
    let lost = driver.news("a reason", |news| matches!(news, News::Lost { .. }));
    assert_eq!(lost, News::Lost { why: "no Sentinel knows a master of unknown".into() });
}
