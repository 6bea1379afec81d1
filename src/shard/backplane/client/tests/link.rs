//! The handshake, the order of replies, and silence.

use super::*;

fn single() -> Servers {
    servers(Topology::Single(tcp(1)))
}

#[test]
fn a_client_goes_to_its_workers_thread() {
    fn goes<T: Send + 'static>(_: T) {}
    goes(Client::<u32>::new(single(), "me", 1));
}

#[test]
fn the_greeting_is_one_send() {
    let (username, password) = (Some("ring".to_string()), Some("road".to_string()));
    for (username, expected) in
        [(username, "HELLO 3 AUTH ring road SETNAME me"), (None, "HELLO 3 AUTH default road SETNAME me")]
    {
        let mut world = World::new(Servers { username, password: password.clone(), database: 5, ..single() });
        let link = world.link(1);
        assert_eq!(world.asked(link), Vec::<String>::new(), "not before it is connected");
        world.up(link);
        assert_eq!(world.asked(link), [expected, "SELECT 5", "PING"]);
        assert!(!world.client.is_ready());
        world.answer(link, "%1\r\n+proto\r\n:3\r\n+OK\r\n");
        assert_eq!((world.news(), world.client.is_ready()), (vec![], false));
        world.answer(link, "+PONG\r\n");
        assert_eq!((world.news(), world.client.is_ready()), (vec![News::Ready], true));
    }
}

#[test]
fn a_refused_greeting_ends_the_attempt_and_says_why() {
    for (answer, why) in [
        ("-WRONGPASS invalid\r\n", "host:1: WRONGPASS invalid"),
        ("-NOAUTH HELLO must\r\n", "host:1: NOAUTH HELLO must"),
        ("-ERR unknown command `HELLO`\r\n", "host:1: the server is older than Redis 6, it does not know HELLO"),
        ("%0\r\n-ERR DB index is out of range\r\n", "host:1: ERR DB index is out of range"),
        ("%0\r\n+OK\r\n-LOADING dataset\r\n", "host:1: LOADING dataset"),
        ("HTTP/1.1 400\r\n", "host:1: no RESP3: unknown type of value"),
    ] {
        let mut world = World::new(Servers { database: 1, ..single() });
        let link = world.link(1);
        world.up(link);
        world.answer(link, answer);
        assert_eq!((world.news(), &world.closed), (vec![lost(why)], &vec![link]));
        world.pass(limits::LINK_RETRY_MS);
        assert_ne!(world.link(1), link);
        assert_eq!(world.client.counts().reconnects, 1);
    }
    // Who may not ask for a PING may still be served.
    let mut world = World::new(single());
    let link = world.link(1);
    world.up(link);
    world.answer(link, "%0\r\n-NOPERM no ping\r\n");
    assert_eq!(world.news(), [News::Ready]);
}

#[test]
fn a_reason_is_told_again_only_when_it_changes_and_not_too_often() {
    let mut world = World::new(single());
    let mut told = Vec::new();
    let end_ms = world.now.mono_ms + 3 * limits::WARN_MS;
    while world.now.mono_ms < end_ms {
        let why = if world.now.mono_ms < end_ms - 2 * limits::WARN_MS { "refused" } else { "timed out" };
        if world.has_link(1) {
            let link = world.link(1);
            world.peers.remove(&link);
            world.client.link_down(world.now, link, why);
        }
        world.pass(10);
        told.extend(world.news());
    }
    assert_eq!(told, [lost("host:1: refused"), lost("host:1: timed out")]);
    // About one attempt in half a second, once the waits have grown.
    assert!((30..150).contains(&world.client.counts().reconnects), "{:?}", world.client.counts());
}

#[test]
fn a_link_that_does_not_become_ready_is_given_up() {
    for up in [false, true] {
        let mut world = World::new(single());
        let link = world.link(1);
        if up {
            world.up(link);
        }
        world.pass(limits::LINK_READY_MS_MAX - 1);
        assert_eq!(world.closed, []);
        world.pass(1);
        assert_eq!((&world.closed, world.client.counts().silent), (&vec![link], 1));
    }
}

#[test]
fn replies_come_in_the_order_of_their_commands() {
    let (mut world, link) = World::ready();
    for token in 0..4 {
        assert_eq!(world.send("k", "GET k", token), Ok(()));
    }
    assert!(world.client.in_flight_bytes() > 0);
    assert_eq!(world.asked(link).len(), 4);
    world.answer(link, ":0\r\n-ERR no\r\n");
    world.answer(link, ":2\r\n:");
    let refused = outcome(1, Outcome::Refused("ERR no".into()));
    assert_eq!(world.news(), [reply(0, 0), refused, reply(2, 2)]);
    world.down(link);
    assert_eq!(world.news(), [outcome(3, Outcome::Unknown), lost("host:1: gone")]);
    assert_eq!((world.client.in_flight_bytes(), world.send("k", "GET k", 5)), (0, Err(NotSent::Down)));
}

#[test]
fn a_reply_to_nothing_ends_the_link() {
    let (mut world, link) = World::ready();
    world.answer(link, ":1\r\n");
    assert_eq!((world.news(), &world.closed), (vec![lost("host:1: a reply to nothing")], &vec![link]));
}

#[test]
fn work_stays_the_same_until_it_is_done() {
    let (mut world, link) = World::ready();
    world.send("k", "GET k", 1).expect("ready");
    let (work, bytes) = world.client.work();
    let first = (work.to_vec(), bytes.to_vec());
    assert_eq!(first.0, [LinkWork::Send { link, start: 0, len: 20 }]);
    let (work, bytes) = world.client.work();
    assert_eq!(first, (work.to_vec(), bytes.to_vec()));
    world.client.sent();
    assert_eq!(world.client.work(), (&[][..], &[][..]));
}

#[test]
fn a_script_is_sent_whole_once_it_was_not_known() {
    const SCRIPT: Script = Script("return 1");
    const HASH: &str = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
    let (mut world, link) = World::ready();
    world.client.run(world.now, &SCRIPT, b"k", &[b"a", b"b"], 1).expect("ready");
    world.send("k", "GET k", 2).expect("ready");
    assert_eq!(world.asked(link), [format!("EVALSHA {HASH} 1 k a b"), "GET k".into()]);
    world.answer(link, "-NOSCRIPT No matching script\r\n:2\r\n");
    assert_eq!(world.news(), [reply(2, 2)]);
    assert_eq!(world.asked(link), ["EVAL return 1 1 k a b"]);
    world.answer(link, "-NOSCRIPT it says so itself\r\n");
    assert_eq!(world.news(), [outcome(1, Outcome::Refused("NOSCRIPT it says so itself".into()))]);
    assert_eq!(world.client.in_flight_bytes(), 0);
}

#[test]
fn silence_is_asked_about_and_then_ends_the_link() {
    let (mut world, link) = World::ready();
    for _ in 0..5 {
        world.pass(limits::LINK_PING_MS);
        assert_eq!(world.asked(link), ["PING"]);
        assert!(world.client.is_late(Now { mono_ms: world.now.mono_ms + 6, ..world.now }, 5));
        world.answer(link, "+PONG\r\n");
        assert!(!world.client.is_late(Now { mono_ms: world.now.mono_ms + 6, ..world.now }, 5));
    }
    assert_eq!(world.news(), []);
    world.pass(limits::LINK_SILENT_MS_MAX - 1);
    assert_eq!((world.asked(link), world.news()), (vec!["PING".to_string()], vec![]));
    // A single byte is a sign of life.
    world.answer(link, "+");
    world.pass(limits::LINK_SILENT_MS_MAX - 1);
    assert_eq!(world.news(), []);
    world.send("k", "GET k", 9).expect("ready");
    world.pass(1);
    assert_eq!(world.news(), [outcome(9, Outcome::Unknown), lost("host:1: nothing was heard from it")]);
    assert_eq!((&world.closed, world.client.counts().silent), (&vec![link], 1));
}

#[test]
fn a_worker_that_stood_still_does_not_blame_its_servers() {
    let (mut world, link) = World::ready();
    world.send("k", "GET k", 1).expect("ready");
    world.carry_out();
    world.now.mono_ms += 60_000;
    world.client.advance(world.now);
    assert_eq!(world.news(), []);
    world.answer(link, ":1\r\n");
    assert_eq!(world.news(), [reply(1, 1)]);
    assert_eq!(world.client.counts().silent, 0);
}

#[test]
fn closing_is_for_good_and_sends_what_was_queued() {
    let (mut world, link) = World::ready();
    world.send("k", "DEL k", 1).expect("ready");
    world.client.close();
    let (work, _) = world.client.work();
    assert_eq!(work, [LinkWork::Send { link, start: 0, len: 20 }, LinkWork::Close { link }]);
    world.client.sent();
    assert_eq!(world.news(), [outcome(1, Outcome::Unknown)]);
    assert_eq!((world.client.next_deadline(), world.client.is_ready()), (None, false));
    assert_eq!(world.send("k", "GET k", 2), Err(NotSent::Down));
    world.client.advance(Now { mono_ms: 1_000_000, ..world.now });
    assert!(world.client.work().0.is_empty());
}
