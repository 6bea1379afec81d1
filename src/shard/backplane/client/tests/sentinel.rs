//! A master that Sentinels know. Theirs are the ports from 11 on.

use super::*;

const ROLE_MASTER: &str = "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n";
const ROLE_REPLICA: &str = "*1\r\n$5\r\nslave\r\n";

fn watched(ports: &[u16]) -> World {
    let sentinels = ports.iter().map(|port| tcp(*port)).collect();
    World::new(servers(Topology::Sentinel { sentinels, service: "ring".into() }))
}

/// What a Sentinel answers.
struct Says<'a> {
    master: Option<u16>,
    id: &'a str,
    /// Ports and ids.
    others: &'a [(u16, &'a str)],
}

/// Answers everything that a Sentinel was asked.
fn answer(world: &mut World, port: u16, says: &Says<'_>) {
    let link = world.link(port);
    for asked in world.asked(link) {
        let bytes = match asked.as_str() {
            "SENTINEL MYID" => format!("+{}\r\n", says.id),
            "SUBSCRIBE +switch-master" => confirmation("subscribe", "+switch-master"),
            "SENTINEL GET-MASTER-ADDR-BY-NAME ring" => match says.master {
                Some(master) => bulk(&["host", &master.to_string()]),
                None => "_\r\n".into(),
            },
            "SENTINEL SENTINELS ring" => {
                let map = |(port, id): &(u16, &str)| {
                    bulk(&["ip", "host", "port", &port.to_string(), "runid", id]).replacen("*6", "%3", 1)
                };
                format!("*{}\r\n{}", says.others.len(), says.others.iter().map(map).collect::<String>())
            }
            "PING" => "+PONG\r\n".into(),
            other => panic!("a Sentinel was asked {other}"),
        };
        world.answer(link, &bytes);
    }
}

fn says(master: u16) -> Says<'static> {
    Says { master: Some(master), id: "", others: &[] }
}

/// Three Sentinels that agree on a master at 1, which is ready.
fn settled() -> World {
    let mut world = watched(&[11, 12, 13]);
    for port in [11, 12, 13] {
        world.greet(world.link(port));
    }
    for (port, id) in [(11, "a"), (12, "b"), (13, "c")] {
        answer(&mut world, port, &Says { id, ..says(1) });
    }
    confirm_master(&mut world, 1);
    assert_eq!(world.news(), [News::Ready]);
    world
}

fn confirm_master(world: &mut World, port: u16) {
    let link = world.link(port);
    world.greet(link);
    assert_eq!(world.asked(link), ["ROLE"]);
    world.answer(link, ROLE_MASTER);
}

/// Lets ten seconds pass with Sentinels that say this and a master that answers.
fn pass(world: &mut World, says: &[(u16, Says<'_>)], master: u16) {
    for _ in 0..44 {
        world.pass(250);
        for (port, says) in says {
            answer(world, *port, says);
        }
        let link = world.link(master);
        for asked in world.asked(link) {
            let bytes = if asked == "PING" { "+PONG\r\n" } else { ROLE_MASTER };
            world.answer(link, bytes);
        }
    }
}

#[test]
fn what_most_of_them_say_is_followed() {
    let mut world = watched(&[11, 12, 13]);
    for port in [11, 12, 13] {
        world.greet(world.link(port));
    }
    answer(&mut world, 11, &says(1));
    assert!(!world.has_link(1), "the others are waited for");
    answer(&mut world, 12, &says(2));
    answer(&mut world, 13, &says(2));
    assert!(!world.has_link(1));
    confirm_master(&mut world, 2);
    assert_eq!(world.news(), [News::Ready]);
}

#[test]
fn a_sentinel_that_does_not_answer_is_waited_for_no_longer_than_needed() {
    let mut world = watched(&[11, 12]);
    world.greet(world.link(11));
    answer(&mut world, 11, &says(1));
    assert!(!world.has_link(1));
    world.pass(limits::SENTINEL_ANSWER_MS_MAX);
    assert!(world.has_link(1));

    // One that cannot be reached is not waited for at all.
    let mut world = watched(&[11, 12]);
    world.down(world.link(12));
    world.greet(world.link(11));
    answer(&mut world, 11, &says(1));
    assert!(world.has_link(1));
}

#[test]
fn an_answer_that_comes_late_is_better_than_none() {
    let mut world = watched(&[11]);
    world.greet(world.link(11));
    let link = world.link(11);
    world.asked(link);
    world.pass(limits::SENTINEL_ANSWER_MS_MAX);
    assert!(!world.has_link(1));
    let reply = [confirmation("subscribe", "+switch-master"), "+id\r\n".into(), bulk(&["host", "1"])];
    world.answer(link, &reply.concat());
    assert!(world.has_link(1));
}

#[test]
fn two_addresses_of_one_sentinel_are_one_vote() {
    let mut world = watched(&[11, 12, 13]);
    for port in [11, 12, 13] {
        world.greet(world.link(port));
    }
    answer(&mut world, 11, &Says { id: "same", ..says(1) });
    answer(&mut world, 12, &Says { id: "same", ..says(1) });
    answer(&mut world, 13, &Says { id: "other", ..says(2) });
    assert!(world.has_link(2), "one vote each: the last one counts");
}

#[test]
fn a_replica_is_not_followed() {
    let mut world = watched(&[11]);
    world.greet(world.link(11));
    answer(&mut world, 11, &says(1));
    let link = world.link(1);
    world.greet(link);
    assert_eq!(world.asked(link), ["ROLE"]);
    assert_eq!(world.send("k", "GET k", 1), Err(NotSent::Down));
    world.answer(link, ROLE_REPLICA);
    assert_eq!((world.news(), &world.closed), (vec![lost("host:1: not a master: slave")], &vec![link]));
    world.pass(2 * limits::LINK_RETRY_MS);
    answer(&mut world, 11, &says(1));
    confirm_master(&mut world, 1);
    assert_eq!(world.news(), [News::Ready]);
}

#[test]
fn an_announced_master_is_followed_at_once() {
    let mut world = settled();
    let old = world.link(1);
    world.client.subscribe(world.now, Spread::Sharded, b"c");
    world.send("k", "GET k", 7).expect("ready");
    assert_eq!(world.asked(old), ["GET k", "SUBSCRIBE c"]);
    let sentinel = world.link(12);
    for other in ["other host 1 host 2", "ring host 1 host 1", "ring host 1", "ring", ""] {
        world.answer(sentinel, &push(&["message", "+switch-master", other]));
        assert_eq!(world.news(), [], "{other}");
    }
    world.answer(sentinel, &push(&["message", "+switch-master", "ring host 1 host 2"]));
    let why = "host:1: the Sentinels have switched to another master";
    assert_eq!(world.news(), [outcome(7, Outcome::Unknown), lost(why)]);
    assert_eq!(world.closed, [old]);
    confirm_master(&mut world, 2);
    assert_eq!(world.news(), [News::Ready]);
    let link = world.link(2);
    assert_eq!(world.asked(link), ["SUBSCRIBE c"]);
    // The others announce the same.
    world.answer(world.link(13), &push(&["message", "+switch-master", "ring host 1 host 2"]));
    assert_eq!((world.news(), world.link(2)), (vec![], link));
}

#[test]
fn a_master_that_works_is_left_only_if_most_sentinels_say_so() {
    let mut world = settled();
    let say = |masters: [u16; 3]| [(11, "a", masters[0]), (12, "b", masters[1]), (13, "c", masters[2])];
    let stale = say([2, 1, 1]).map(|(port, id, master)| (port, Says { id, ..says(master) }));
    pass(&mut world, &stale, 1);
    assert!(world.client.is_ready() && !world.has_link(2));
    // Two are away, and the third is not most of them.
    world.down(world.link(12));
    world.down(world.link(13));
    pass(&mut world, &stale[..1], 1);
    assert!(world.client.is_ready() && !world.has_link(2));
    for port in [12, 13] {
        world.greet(world.link(port));
    }
    let moved = say([2, 2, 2]).map(|(port, id, master)| (port, Says { id, ..says(master) }));
    for _ in 0..44 {
        world.pass(250);
        if world.has_link(2) {
            break;
        }
        let link = world.link(1);
        for asked in world.asked(link) {
            assert_eq!(asked, "PING");
            world.answer(link, "+PONG\r\n");
        }
        for (port, says) in &moved {
            answer(&mut world, *port, says);
        }
    }
    confirm_master(&mut world, 2);
    assert_eq!(world.news(), [lost("host:1: another server is the master"), News::Ready]);
}

#[test]
fn sentinels_are_learnt_and_forgotten() {
    let mut world = watched(&[11]);
    world.greet(world.link(11));
    let others = [(12, "b"), (12, "b"), (13, "b"), (14, ""), (15, "c")];
    answer(&mut world, 11, &Says { id: "a", others: &others, ..says(1) });
    world.pass(1);
    assert!(world.has_link(12) && world.has_link(15));
    assert!(!world.has_link(13) && !world.has_link(14), "known, and without a name");
    for _ in 0..200 {
        for port in [12, 15] {
            if world.has_link(port) {
                world.down(world.link(port));
            }
        }
        world.pass(50);
    }
    let reconnects = world.client.counts().reconnects;
    assert!((1..60).contains(&reconnects), "{reconnects}");
}

#[test]
fn a_password_is_given_to_sentinels_that_want_one() {
    let topology = Topology::Sentinel { sentinels: vec![tcp(11)], service: "ring".into() };
    let mut world = World::new(Servers { password: Some("road".into()), database: 2, ..servers(topology) });
    let link = world.link(11);
    world.up(link);
    assert_eq!(world.asked(link), ["HELLO 3 SETNAME me", "PING"]);
    world.answer(link, "-NOAUTH HELLO must\r\n");
    assert_eq!(world.news(), []);
    world.pass(1);
    let link = world.link(11);
    world.up(link);
    assert_eq!(world.asked(link), ["HELLO 3 AUTH default road SETNAME me", "PING"]);
    world.answer(link, "-WRONGPASS no\r\n");
    assert_eq!(world.news(), [lost("Sentinel host:11: WRONGPASS no")]);
}

#[test]
fn a_service_that_nobody_knows_is_named() {
    let mut world = watched(&[11]);
    world.greet(world.link(11));
    answer(&mut world, 11, &Says { master: None, ..says(1) });
    assert_eq!(world.news(), [lost("no Sentinel knows a master of ring")]);
    world.pass(2 * limits::LINK_RETRY_MS);
    answer(&mut world, 11, &says(1));
    confirm_master(&mut world, 1);
    assert_eq!(world.news(), [News::Ready]);
}
