//! One server.

use nix::sys::signal::Signal;
use ringroad::config::{Servers, Topology};
use ringroad::limits;
use ringroad::shard::backplane::client::{News, NotSent, Outcome, Script, Spread};
use ringroad::wire::resp::Reply;

use crate::driver::{Driver, text};
use crate::server::Server;

fn servers(server: &Server) -> Servers {
    let topology = Topology::Single(server.endpoint());
    Servers { topology, tls: false, username: None, password: None, database: 0 }
}

fn start() -> (Server, Driver) {
    let server = Server::start(&[]);
    let mut driver = Driver::new(servers(&server));
    driver.ready();
    (server, driver)
}

#[test]
fn greets_with_a_name_and_selects_its_database() {
    let server = Server::start(&[]);
    let mut driver = Driver::new(Servers { database: 3, ..servers(&server) });
    assert_eq!(driver.client.send(driver.now(), None, &[b"PING"], 1), Err(NotSent::Down));
    driver.ready();
    assert!(driver.client.is_ready());
    assert_eq!(driver.ask(None, &[b"CLIENT", b"GETNAME"]), text("ringroad-test"));
    assert_eq!(driver.ask(Some(b"a"), &[b"SET", b"a", b"1"]), text("OK"));
    let Reply::Text(keyspace) = server.ask(&["INFO", "keyspace"]) else { panic!("no text") };
    assert!(String::from_utf8_lossy(&keyspace).contains("db3:keys=1"));
    assert_eq!(driver.client.in_flight_bytes(), 0);
}

#[test]
fn logs_in_as_a_user_or_with_the_password_alone() {
    let server = Server::start_locked("sesame", &[]);
    server.ask(&["ACL", "SETUSER", "ring", "on", ">road", "~*", "&*", "+@all"]);
    for (username, password, whoami) in [(None, "sesame", "default"), (Some("ring"), "road", "ring")] {
        let (username, password) = (username.map(String::from), Some(password.to_string()));
        let mut driver = Driver::new(Servers { username, password, ..servers(&server) });
        driver.ready();
        assert_eq!(driver.ask(None, &[b"ACL", b"WHOAMI"]), text(whoami));
    }
    for (password, reason) in [(None, "NOAUTH"), (Some("wrong"), "WRONGPASS")] {
        let mut driver = Driver::new(Servers { password: password.map(String::from), ..servers(&server) });
        let lost = driver.news("a reason", |news| matches!(news, News::Lost { .. }));
        let News::Lost { why } = lost else { panic!("{lost:?}") };
        assert!(why.contains(reason), "{why}");
        assert!(!driver.client.is_ready());
        // It goes on trying, and says the same thing only once.
        driver.until("further attempts", |driver| (driver.client.counts().reconnects >= 3).then_some(()));
        assert!(driver.news.is_empty(), "{:?}", driver.news);
    }
}

#[test]
fn ten_thousand_commands_leave_together_and_are_answered_in_order() {
    let (_server, mut driver) = start();
    for token in 0..10_000 {
        let value = token.to_string();
        let sent = driver.client.send(driver.now(), Some(b"list"), &[b"RPUSH", b"list", value.as_bytes()], token);
        assert_eq!(sent, Ok(()));
    }
    let bytes_out = driver.client.counts().bytes_out;
    let (work, _) = driver.client.work();
    assert_eq!(work.len(), 1, "one send");
    assert!(driver.client.counts().bytes_out > bytes_out + 300_000);
    for token in 0..10_000 {
        let News::Outcome { token: its, outcome } = driver.news("an outcome", |_| true) else { panic!("no outcome") };
        assert_eq!((its, outcome), (token, Outcome::Reply(Reply::Integer(token as i64 + 1))));
    }
    assert_eq!(driver.client.in_flight_bytes(), 0);
}

#[test]
fn commands_beyond_the_bound_are_not_taken() {
    let (server, mut driver) = start();
    server.signal(Signal::SIGSTOP);
    let value = vec![b'x'; 1 << 20];
    let mut taken = 0;
    while driver.client.send(driver.now(), Some(b"a"), &[b"SET", b"a", &value], taken) == Ok(()) {
        taken += 1;
    }
    assert_eq!(taken as usize, limits::BACKPLANE_BYTES_MAX / value.len() - 1);
    assert_eq!(driver.client.send(driver.now(), Some(b"a"), &[b"SET", b"a", &value], 99), Err(NotSent::Full));
    let late = driver.now().mono_ms + 100;
    driver.until("late", |driver| (driver.now().mono_ms > late).then_some(()));
    assert!(driver.client.is_late(driver.now(), 50) && !driver.client.is_late(driver.now(), 10_000));
    server.signal(Signal::SIGCONT);
    assert_eq!(driver.outcome(taken - 1), text("OK"));
    assert_eq!(driver.ask(Some(b"a"), &[b"STRLEN", b"a"]), Outcome::Reply(Reply::Integer(1 << 20)));
}

#[test]
fn a_script_is_sent_whole_where_it_is_not_known() {
    const ADD: Script = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    let (server, mut driver) = start();
    for (round, sum) in [3, 6, 9].into_iter().enumerate() {
        if round == 2 {
            server.ask(&["SCRIPT", "FLUSH"]);
        }
        driver.client.run(driver.now(), &ADD, b"sum", &[b"3"], 7).expect("ready");
        assert_eq!(driver.outcome(7), Outcome::Reply(Reply::Integer(sum)));
    }
    driver.client.run(driver.now(), &Script("return redis.error_reply('NO way')"), b"k", &[], 8).expect("ready");
    assert_eq!(driver.outcome(8), Outcome::Refused("NO way".into()));
    assert_eq!(driver.client.in_flight_bytes(), 0);
}

#[test]
fn what_was_listened_to_is_listened_to_again_after_a_loss() {
    let (mut server, mut driver) = start();
    for number in 0..1_500 {
        driver.client.subscribe(driver.now(), Spread::Everywhere, format!("channel {number}").as_bytes());
    }
    driver.client.subscribe(driver.now(), Spread::Sharded, b"square");
    driver.client.unsubscribe(driver.now(), Spread::Everywhere, b"channel 7");
    let mut left = 1_500;
    while left > 0 {
        driver.news("all are confirmed", |news| matches!(news, News::Subscribed { .. }));
        left -= 1;
    }
    driver.client.unsubscribe(driver.now(), Spread::Everywhere, b"channel 8");
    assert_eq!(driver.ask(None, &[b"PING"]), text("PONG"));

    server.signal(Signal::SIGSTOP);
    driver.client.send(driver.now(), Some(b"a"), &[b"INCR", b"a"], 5).expect("ready");
    driver.turn();
    server.kill();
    // While it is down only the wish changes.
    assert_eq!(driver.outcome(5), Outcome::Unknown);
    driver.news("lost", |news| matches!(news, News::Lost { .. }));
    assert_eq!(driver.client.send(driver.now(), None, &[b"PING"], 6), Err(NotSent::Down));
    driver.client.unsubscribe(driver.now(), Spread::Everywhere, b"channel 9");
    driver.client.subscribe(driver.now(), Spread::Everywhere, b"another");
    server.restart();
    driver.ready();
    for _ in 0..1_499 {
        driver.news("all are confirmed again", |news| matches!(news, News::Subscribed { .. }));
    }
    for (channel, listeners) in [("channel 7", 0), ("channel 8", 0), ("channel 9", 0), ("another", 1), ("square", 1)] {
        assert_eq!(server.ask(&["PUBLISH", channel, "hello"]), Reply::Integer(listeners), "{channel}");
    }
    for expected in ["another", "square"] {
        let News::Message { channel, payload } = driver.news("a message", |news| matches!(news, News::Message { .. }))
        else {
            panic!("no message")
        };
        assert_eq!((&*channel, &payload[..]), (expected.as_bytes(), &b"hello"[..]));
    }
    assert!(driver.client.counts().reconnects > 0);
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let (server, mut driver) = start();
    driver.client.subscribe(driver.now(), Spread::Everywhere, b"c");
    driver.subscribed(b"c");
    server.signal(Signal::SIGSTOP);
    let began = driver.now().mono_ms;
    let News::Lost { why } = driver.news("lost", |news| matches!(news, News::Lost { .. })) else { panic!() };
    assert!(why.contains("nothing was heard"), "{why}");
    let took = driver.now().mono_ms - began;
    assert!(took >= limits::LINK_SILENT_MS_MAX - limits::LINK_PING_MS, "{took} ms");
    assert_eq!(driver.client.counts().silent, 1);
    // It still accepts connections, so the next attempt falls silent too.
    driver.until("the next attempt", |driver| (driver.client.counts().silent == 2).then_some(()));
    server.signal(Signal::SIGCONT);
    driver.ready();
    driver.subscribed(b"c");
}

#[test]
fn a_burst_of_messages_arrives_whole_and_in_order() {
    const MESSAGES: u64 = 100_000;
    let (server, mut driver) = start();
    driver.client.subscribe(driver.now(), Spread::Everywhere, b"burst");
    driver.subscribed(b"burst");
    let mut publisher = Driver::new(servers(&server));
    publisher.ready();
    let (mut next, mut published) = (0, 0);
    driver.until("all messages", |driver| {
        for number in published..(published + 1_000).min(MESSAGES) {
            let payload = number.to_le_bytes();
            publisher.client.publish(publisher.now(), Spread::Everywhere, b"burst", &payload, number).expect("room");
        }
        published = (published + 1_000).min(MESSAGES);
        publisher.turn();
        publisher.news.clear();
        for news in driver.news.drain(..) {
            if let News::Message { payload, .. } = news {
                assert_eq!(payload, u64::to_le_bytes(next));
                next += 1;
            }
        }
        (next == MESSAGES).then_some(())
    });
    assert_eq!(driver.client.counts().oversized, 0);
}

#[test]
fn what_is_too_long_is_skipped_and_nothing_else_is() {
    let (server, mut driver) = start();
    driver.client.subscribe(driver.now(), Spread::Everywhere, b"c");
    driver.subscribed(b"c");
    let mut publisher = Driver::new(servers(&server));
    publisher.ready();
    let long = vec![b'x'; limits::PUSH_BYTES_MAX + 1];
    for payload in [&b"before"[..], &long, b"behind"] {
        publisher.client.publish(publisher.now(), Spread::Everywhere, b"c", payload, 1).expect("room");
        assert_eq!(publisher.outcome(1), Outcome::Reply(Reply::Integer(1)));
    }
    for expected in [&b"before"[..], b"behind"] {
        let News::Message { payload, .. } = driver.news("a message", |news| matches!(news, News::Message { .. }))
        else {
            panic!("no message")
        };
        assert_eq!(payload, expected);
    }
    assert_eq!(driver.client.counts().oversized, 1);
}

#[test]
fn an_idle_client_is_idle_and_finds_nothing_missing() {
    let (server, mut driver) = start();
    for channel in [&b"a"[..], b"b", b"c"] {
        driver.client.subscribe(driver.now(), Spread::Everywhere, channel);
    }
    driver.subscribed(b"c");
    let Reply::Text(clients) = server.ask(&["CLIENT", "LIST"]) else { panic!("no text") };
    assert!(String::from_utf8_lossy(&clients).contains(" sub=3 "), "what the comparison reads");
    let (advances, until) = (driver.advances, driver.now().mono_ms + limits::RECONCILE_MS + 500);
    driver.until("time", |driver| (driver.now().mono_ms > until).then_some(()));
    assert!(driver.advances - advances <= 15, "{} advances in 10.5 s", driver.advances - advances);
    assert!(driver.client.is_ready() && driver.client.counts().resubscribed == 0);
}
