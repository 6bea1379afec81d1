//! A Cluster. Key `a` has slot 15495, `b` 3300, `c` 7365.

use super::*;

/// Slots, the master's port, its replicas' ports.
type Shards<'a> = &'a [(u16, u16, u16, &'a [u16])];

const THREE: Shards<'static> = &[(0, 5460, 1, &[4]), (5461, 10922, 2, &[]), (10923, 16383, 3, &[])];

fn slots(shards: Shards<'_>) -> String {
    let node = |port: &u16| format!("*4\r\n$4\r\nhost\r\n:{port}\r\n$2\r\nid\r\n*0\r\n");
    let shard = |(first, last, master, replicas): &(u16, u16, u16, &[u16])| {
        let replicas_text: String = replicas.iter().map(node).collect();
        format!("*{}\r\n:{first}\r\n:{last}\r\n{}{replicas_text}", replicas.len() + 3, node(master))
    };
    format!("*{}\r\n{}", shards.len(), shards.iter().map(shard).collect::<String>())
}

/// A Cluster with one seed, a replica; its slots are told, nobody else is connected.
fn found() -> World {
    let mut world = World::new(servers(Topology::Cluster { seeds: vec![tcp(4)] }));
    let seed = world.link(4);
    world.greet(seed);
    assert_eq!(world.asked(seed), ["CLUSTER SLOTS"]);
    assert_eq!(world.send("a", "GET a", 1), Err(NotSent::Down));
    world.answer(seed, &slots(THREE));
    assert_eq!((world.news(), &world.closed), (vec![], &vec![seed]));
    world
}

fn settled() -> World {
    let mut world = found();
    for port in [1, 2, 3] {
        world.greet(world.link(port));
    }
    assert_eq!(world.news(), [News::Ready]);
    // Now that all are there, it asks once more.
    world.pass(2 * limits::SLOTS_MS_MIN);
    assert_eq!(answer(&mut world, THREE), 1);
    world
}

/// The port of the node that everything without a slot goes to.
fn home(world: &mut World) -> u16 {
    world.send("", "TIME", 0).expect("ready");
    let found = [1, 2, 3].into_iter().find(|port| {
        let link = world.link(*port);
        let is_home = world.asked(link).contains(&"TIME".to_string());
        if is_home {
            world.answer(link, ":0\r\n");
        }
        is_home
    });
    assert_eq!(world.news(), [reply(0, 0)]);
    found.expect("a home")
}

/// Answers pings, and questions where the slots are, on all links but those where something else comes first. Says how
/// many questions there were.
fn answer(world: &mut World, shards: Shards<'_>) -> u32 {
    let mut questions = 0;
    for link in world.peers.keys().copied().collect::<Vec<_>>() {
        while let Some(peer) = world.peers.get_mut(&link)
            && let Some(asked) = peer.asked.front()
        {
            let bytes = match asked.as_str() {
                "PING" => "+PONG\r\n".into(),
                "CLUSTER SLOTS" => slots(shards),
                "CLIENT INFO" => "-NOPERM\r\n".into(),
                _ => break,
            };
            questions += u32::from(asked == "CLUSTER SLOTS");
            peer.asked.pop_front();
            world.answer(link, &bytes);
        }
    }
    questions
}

#[test]
fn commands_go_to_the_master_of_their_slot() {
    let mut world = settled();
    for (token, (key, port)) in (0..).zip([("a", 3), ("b", 1), ("c", 2), ("{a}c", 3)]) {
        world.send(key, &format!("GET {key}"), token).expect("ready");
        let link = world.link(port);
        assert_eq!(world.asked(link), [format!("GET {key}")]);
        world.answer(link, ":5\r\n");
        assert_eq!(world.news(), [reply(token, 5)]);
    }
    world.client.publish(world.now, Spread::Sharded, b"c", b"x", 9).expect("ready");
    assert_eq!(world.asked(world.link(2)), ["SPUBLISH c x"]);
    world.client.publish(world.now, Spread::Everywhere, b"c", b"x", 9).expect("ready");
    let published = [1, 2, 3].into_iter().flat_map(|port| world.asked(world.link(port))).collect::<Vec<_>>();
    assert_eq!(published, ["PUBLISH c x"]);
}

#[test]
fn it_is_ready_with_some_masters_and_not_with_the_one_that_answered_first() {
    let mut world = found();
    world.client.subscribe(world.now, Spread::Everywhere, b"all");
    world.greet(world.link(1));
    assert_eq!(world.news(), [], "the others may come, and one of them be chosen");
    world.pass(limits::HOME_MS_MAX);
    assert_eq!(world.news(), [News::Ready]);
    assert!(world.asked(world.link(1)).contains(&"SUBSCRIBE all".to_string()));
    assert_eq!(world.send("a", "GET a", 1), Err(NotSent::Down));
    assert_eq!(world.send("b", "GET b", 2), Ok(()));
}

#[test]
fn a_moved_slot_is_followed_and_asked_about_once() {
    let mut world = settled();
    for token in 0..50 {
        world.send("a", "INCR a", token).expect("ready");
    }
    world.carry_out();
    world.pass(limits::SLOTS_MS_MIN);
    assert_eq!(answer_all(&mut world, 3, "INCR a", "-MOVED 15495 host:2\r\n"), 50);
    assert_eq!(answer_all(&mut world, 2, "INCR a", ":1\r\n"), 50);
    assert_eq!(world.news(), (0..50).map(|token| reply(token, 1)).collect::<Vec<_>>());
    assert_eq!((world.client.counts().redirects, world.client.in_flight_bytes()), (50, 0));
    // What comes next goes there at once.
    world.send("a", "GET a", 60).expect("ready");
    assert_eq!(world.asked(world.link(2)), ["GET a"]);
    world.answer(world.link(2), ":1\r\n");
    let moved: Shards<'_> = &[
        (0, 5460, 1, &[]),
        (5461, 10922, 2, &[]),
        (15495, 15495, 2, &[]),
        (10923, 15494, 3, &[]),
        (15496, 16383, 3, &[]),
    ];
    let mut questions = 0;
    for _ in 0..20 {
        world.pass(50);
        questions += answer(&mut world, moved);
    }
    assert_eq!(questions, 1);
}

/// Answers every command of that text, and says how many there were.
fn answer_all(world: &mut World, port: u16, command: &str, bytes: &str) -> usize {
    let link = world.link(port);
    let asked = world.asked(link);
    let count = asked.iter().filter(|asked| *asked == command).count();
    world.answer(link, &bytes.repeat(count));
    count
}

#[test]
fn a_slot_on_its_way_is_asked_for_with_asking() {
    let mut world = settled();
    const SCRIPT: Script = Script("return 1");
    world.client.run(world.now, &SCRIPT, b"a", &[], 1).expect("ready");
    let evalsha = world.asked(world.link(3)).remove(0);
    // To a node that nobody has heard of: the command waits for its handshake.
    world.answer(world.link(3), "-ASK 15495 host:9\r\n");
    world.greet(world.link(9));
    assert_eq!(world.asked(world.link(9)), ["ASKING", &evalsha]);
    world.answer(world.link(9), "+OK\r\n-NOSCRIPT no\r\n");
    assert_eq!(world.asked(world.link(9)), ["ASKING", "EVAL return 1 1 a"]);
    world.answer(world.link(9), "+OK\r\n:1\r\n");
    assert_eq!(world.news(), [reply(1, 1)]);
    // The slot is still where it was.
    world.send("a", "GET a", 2).expect("ready");
    assert_eq!(world.asked(world.link(3)), ["GET a"]);
}

#[test]
fn pointers_in_a_circle_are_not_followed_forever() {
    let mut world = settled();
    world.send("a", "GET a", 1).expect("ready");
    let mut hops = 0;
    loop {
        let [from, to] = if hops % 2 == 0 { [3, 2] } else { [2, 3] };
        if answer_all(&mut world, from, "GET a", &format!("-MOVED 15495 host:{to}\r\n")) == 0 {
            break;
        }
        hops += 1;
    }
    assert_eq!(hops, limits::REDIRECTS_MAX + 1);
    assert_eq!(world.news(), [outcome(1, Outcome::Refused("MOVED 15495 host:3".into()))]);
    assert_eq!(world.client.in_flight_bytes(), 0);
}

#[test]
fn a_cluster_that_is_down_refuses_and_is_asked_again() {
    let mut world = settled();
    world.pass(limits::SLOTS_MS_MIN);
    answer(&mut world, THREE);
    for (token, error) in (0..).zip(["CLUSTERDOWN down", "TRYAGAIN later", "LOADING data"]) {
        world.send("a", "GET a", token).expect("ready");
        world.carry_out();
        assert_eq!(answer_all(&mut world, 3, "GET a", &format!("-{error}\r\n")), 1);
        assert_eq!(world.news(), [outcome(token, Outcome::Refused(error.into()))]);
        world.pass(limits::SLOTS_MS_MIN);
        assert_eq!(answer(&mut world, THREE), 1, "{error}");
    }
}

#[test]
fn sharded_channels_of_one_slot_share_a_command_and_others_do_not() {
    let mut world = settled();
    for channel in ["c", "{a}1", "{a}2", "{b}1"] {
        world.client.subscribe(world.now, Spread::Sharded, channel.as_bytes());
    }
    world.client.subscribe(world.now, Spread::Sharded, b"{b}2");
    let asked = [1, 2, 3].map(|port| world.asked(world.link(port)));
    assert_eq!(asked, [vec!["SSUBSCRIBE {b}1 {b}2"], vec!["SSUBSCRIBE c"], vec!["SSUBSCRIBE {a}1 {a}2"]]);
    world.answer(world.link(2), &(confirmation("ssubscribe", "c") + &push(&["smessage", "c", "x"])));
    let message = News::Message { channel: b"c"[..].into(), payload: b"x".to_vec() };
    assert_eq!(world.news(), [subscribed("c"), message]);
    world.client.unsubscribe(world.now, Spread::Sharded, b"c");
    assert_eq!(world.asked(world.link(2)), ["SUNSUBSCRIBE c"]);
}

#[test]
fn a_channel_follows_its_slot() {
    let mut world = settled();
    world.client.subscribe(world.now, Spread::Sharded, b"a");
    assert_eq!(world.asked(world.link(3)), ["SSUBSCRIBE a"]);
    world.answer(world.link(3), &confirmation("ssubscribe", "a"));
    world.answer(world.link(3), &confirmation("sunsubscribe", "a"));
    assert_eq!(world.asked(world.link(3)), ["SSUBSCRIBE a"]);
    world.answer(world.link(3), "-MOVED 15495 host:2\r\n");
    assert_eq!(world.asked(world.link(2)), ["SSUBSCRIBE a"]);
    world.answer(world.link(2), &confirmation("ssubscribe", "a"));
    assert_eq!(world.news(), [subscribed("a"), subscribed("a")]);

    // A server may keep silent about it.
    world.pass(limits::SLOTS_MS_MIN);
    let moved: Shards<'_> = &[(0, 10922, 1, &[]), (10923, 16383, 3, &[])];
    world.pass(1);
    assert_eq!(answer(&mut world, moved), 1);
    assert_eq!(world.asked(world.link(3)), ["SSUBSCRIBE a"]);
}

#[test]
fn nodes_that_point_to_each_other_are_not_asked_without_end() {
    let mut world = settled();
    world.client.subscribe(world.now, Spread::Sharded, b"a");
    let mut asked = 0;
    for _ in 0..100 {
        for (port, other) in [(3, 2), (2, 3)] {
            let link = world.link(port);
            for command in world.asked(link) {
                match command.as_str() {
                    "SSUBSCRIBE a" => {
                        asked += 1;
                        world.answer(link, &format!("-MOVED 15495 host:{other}\r\n"));
                    }
                    "PING" => world.answer(link, "+PONG\r\n"),
                    "CLUSTER SLOTS" => world.answer(link, &slots(THREE)),
                    other => panic!("asked {other}"),
                }
            }
        }
        for command in world.asked(world.link(1)) {
            let bytes = if command == "PING" { "+PONG\r\n".into() } else { slots(THREE) };
            world.answer(world.link(1), &bytes);
        }
        world.pass(10);
    }
    assert!((5..100).contains(&asked), "{asked} in one second");
}

#[test]
fn another_master_becomes_home_when_it_is_lost() {
    let mut world = settled();
    world.client.subscribe(world.now, Spread::Everywhere, b"all");
    let first = home(&mut world);
    world.send("", "TIME", 5).expect("ready");
    world.carry_out();
    world.down(world.link(first));
    assert_eq!(world.news(), [outcome(5, Outcome::Unknown)]);
    let asked: Vec<_> =
        [1, 2, 3].into_iter().filter(|port| *port != first).flat_map(|port| world.asked(world.link(port))).collect();
    assert!(asked.contains(&"SUBSCRIBE all".to_string()), "{asked:?}");
    for port in [1, 2, 3] {
        if world.has_link(port) {
            world.down(world.link(port));
        }
    }
    assert!(matches!(&world.news()[..], [News::Lost { .. }]));
}

#[test]
fn a_node_that_has_left_is_closed_once_it_has_answered() {
    let mut world = settled();
    world.send("b", "GET b", 1).expect("ready");
    let old = world.link(1);
    world.send("a", "GET a", 2).expect("ready");
    world.carry_out();
    answer_all(&mut world, 3, "GET a", "-CLUSTERDOWN\r\n");
    let after: Shards<'_> = &[(0, 5460, 4, &[]), (5461, 10922, 2, &[]), (10923, 16383, 3, &[])];
    // It may have been asked itself; then another one is, in time.
    let mut questions = 0;
    while questions == 0 {
        world.pass(limits::SLOTS_MS_MIN);
        questions = answer(&mut world, after);
    }
    assert!(world.has_link(1) && world.has_link(4));
    assert_eq!(world.send("b", "GET b", 3), Err(NotSent::Down), "its successor is not connected yet");
    world.news();
    assert_eq!(world.peers.get_mut(&old).and_then(|peer| peer.asked.pop_front()), Some("GET b".into()));
    world.answer(old, ":7\r\n");
    assert_eq!(world.news(), [reply(1, 7)]);
    answer(&mut world, after);
    world.pass(1_000);
    assert!(world.closed.contains(&old));
    assert!(!world.has_link(1));
}

#[test]
fn a_node_that_does_not_say_where_the_slots_are_is_not_waited_for() {
    let mut world = settled();
    let asked_since = |world: &mut World| {
        [1, 2, 3].into_iter().find(|port| world.asked(world.link(*port)).contains(&"CLUSTER SLOTS".to_string()))
    };
    let mut asked = Vec::new();
    for _ in 0..limits::SLOTS_MS / 100 + 30 {
        world.pass(100);
        asked.extend(asked_since(&mut world));
        for port in [1, 2, 3] {
            // A sign of life, and nothing else.
            let link = world.link(port);
            world.client.link_bytes(world.now, link, b">0\r\n");
        }
    }
    asked.dedup();
    assert!(asked.len() >= 2, "{asked:?}");
}

#[test]
fn seeds_are_asked_again_when_every_node_was_replaced() {
    let mut world = settled();
    for port in [1, 2, 3] {
        world.down(world.link(port));
    }
    let began_ms = world.now.mono_ms;
    let mut attempts = 0;
    // The new nodes are behind the name of the seed.
    while !world.has_link(7) {
        for link in world.peers.keys().copied().collect::<Vec<_>>() {
            let Some(peer) = world.peers.get(&link) else { continue };
            attempts += 1;
            if peer.to == tcp(4) && world.now.mono_ms > began_ms + 20_000 {
                world.greet(link);
                world.asked(link);
                world.answer(link, &slots(&[(0, 16383, 7, &[])]));
            } else {
                world.down(link);
            }
        }
        world.pass(50);
        assert!(world.now.mono_ms < began_ms + 30_000, "it has never come back");
    }
    assert!(attempts < 300, "{attempts} attempts in 20 s");
    world.greet(world.link(7));
    assert_eq!(world.news().last(), Some(&News::Ready));
    assert_eq!(world.peers.len(), 1);
}

#[test]
fn a_server_that_is_no_cluster_is_named() {
    let mut world = World::new(servers(Topology::Cluster { seeds: vec![tcp(4)] }));
    world.greet(world.link(4));
    world.asked(world.link(4));
    world.answer(world.link(4), "-ERR This instance has cluster support disabled\r\n");
    assert_eq!(world.news(), [lost("host:4: ERR This instance has cluster support disabled")]);
}
