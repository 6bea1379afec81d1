//! Who is let in: limits per address, what proxies say, how fast, and how many wait.

use std::net::IpAddr;

use ringroad::config::Config;
use ringroad::limits::TURNED_AWAY_MAX;
use ringroad::shard::close::Refused;
use ringroad::sim::{ClientId, HANDSHAKE, World};
use ringroad::turn::Ended;

fn world(settings: &str) -> World {
    World::new(1, toml::from_str(settings).expect("settings"))
}

fn open(world: &mut World, from: &str) -> ClientId {
    let from: IpAddr = from.parse().unwrap();
    world.open_from(0, 0, from)
}

/// A client that connects from there, and what it is answered: a status, or 0 for nothing.
fn knock(world: &mut World, from: &str, bytes: &[u8]) -> (ClientId, u32) {
    let client = open(world, from);
    world.send_bytes(client, bytes);
    (client, status(world, client))
}

fn status(world: &World, client: ClientId) -> u32 {
    world.reply(client).split(' ').nth(1).map_or(0, |status| status.parse().unwrap())
}

fn retry_after(world: &World, client: ClientId) -> u64 {
    let reply = world.reply(client);
    let line = reply.lines().find_map(|line| line.strip_prefix("Retry-After: "));
    line.unwrap_or_else(|| panic!("{reply}")).parse().unwrap()
}

fn refused(world: &mut World, why: Refused) -> u64 {
    world.counters(0).refused.of(why)
}

const HELLO: &[u8] = HANDSHAKE.as_bytes();

#[test]
fn an_address_has_so_many_connections_and_no_more() {
    // A /64 counts as one, a mapped address as what it maps.
    for (same, other) in [
        (["192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"], "192.0.2.2"),
        (["2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:2::"], "2001:db8:1:3::1"),
    ] {
        let mut world = world("admission.conns_per_address_max = 2");
        let (first, status) = knock(&mut world, same[0], HELLO);
        assert_eq!(status, 101);
        let (_, status) = knock(&mut world, same[1], HELLO);
        assert_eq!(status, 101);
        let (third, status) = knock(&mut world, same[2], b"");
        assert_eq!((status, retry_after(&world, third)), (429, 5), "before it has said a word");
        assert!(world.closed(third).is_some());
        assert_eq!(refused(&mut world, Refused::Address), 1);
        assert_eq!(knock(&mut world, other, HELLO).1, 101);
        // Who was refused holds nothing, and whoever goes makes room for one.
        world.hang_up(third, Ended::Eof);
        world.hang_up(first, Ended::Reset);
        assert_eq!(knock(&mut world, same[0], HELLO).1, 101);
        assert_eq!(knock(&mut world, same[0], HELLO).1, 429);
    }
}

#[test]
fn a_connection_that_ends_in_whatever_way_makes_room() {
    let mut world = world("admission.conns_per_address_max = 1\nlimits.handshake_ms_max = 1000");
    type End = fn(&mut World, ClientId);
    let ways: [(&str, End); 4] = [
        ("it hangs up", |world, client| world.hang_up(client, Ended::Eof)),
        ("it says nothing", |world, _| world.advance(1_000)),
        ("it asks and is answered", |world, client| {
            world.send_bytes(client, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
        }),
        ("it talks nonsense", |world, client| world.send_bytes(client, b"nonsense\r\n\r\n")),
    ];
    for (how, end) in ways {
        let client = open(&mut world, "192.0.2.1");
        assert_eq!(knock(&mut world, "192.0.2.1", b"").1, 429, "{how}");
        end(&mut world, client);
        // A closing connection has some time for its last bytes.
        world.hang_up(client, Ended::Eof);
        world.advance(10_000);
        let (client, status) = knock(&mut world, "192.0.2.1", HELLO);
        assert_eq!(status, 101, "{how}");
        world.hang_up(client, Ended::Eof);
    }
}

/// A PROXY header, version 2, TCP over IPv4; command 0: LOCAL.
fn proxied(command: u8, client: [u8; 4], then: &[u8]) -> Vec<u8> {
    let ends = [&client[..], &[10, 0, 0, 1, 0xc3, 0x50, 0x0b, 0xba]].concat();
    [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, 0x11, 0, 12][..], &ends, then].concat()
}

#[test]
fn a_trusted_proxy_says_whose_connection_it_is() {
    const BEHIND: &str = "admission.conns_per_address_max = 1\nadmission.proxy_protocol = true\n\
        admission.trusted_proxies = ['10.0.0.0/8', '2001:db8:f::/48']";
    for split in [0, 1, 7] {
        let mut world = world(BEHIND);
        world.faults.split = split;
        let client = |last: u8| proxied(1, [192, 0, 2, last], HELLO);
        assert_eq!(knock(&mut world, "10.1.2.3", &client(1)).1, 101);
        assert_eq!(knock(&mut world, "10.9.9.9", &client(2)).1, 101);
        assert_eq!(knock(&mut world, "2001:db8:f::1", &client(3)).1, 101);
        // The same client through whichever proxy, or directly.
        assert_eq!(knock(&mut world, "10.9.9.9", &client(1)).1, 429);
        assert_eq!(knock(&mut world, "192.0.2.2", HELLO).1, 429);
        // Health checks speak for the proxy, as often as they like.
        for _ in 0..3 {
            assert_eq!(knock(&mut world, "10.1.2.3", &proxied(0, [192, 0, 2, 1], HELLO)).1, 101);
        }
        // What anybody else says is no header.
        assert_eq!(knock(&mut world, "192.0.2.77", &client(9)).1, 400);
        // Who does not begin with one is not talked to.
        let (client, status) = knock(&mut world, "10.1.2.3", HELLO);
        assert_eq!((status, world.closed(client).is_some()), (0, true));
        assert_eq!((refused(&mut world, Refused::ProxyHeader), refused(&mut world, Refused::Address)), (1, 2));
    }
}

#[test]
fn a_header_that_does_not_end_is_not_waited_for() {
    let mut world = world(
        "admission.proxy_protocol = true\nadmission.trusted_proxies = ['10.0.0.1']\nlimits.handshake_ms_max = 1000",
    );
    let (client, _) = knock(&mut world, "10.0.0.1", &proxied(1, [192, 0, 2, 1], b"")[..20]);
    world.advance(999);
    assert!(world.closed(client).is_none());
    world.advance(1);
    assert!(world.closed(client).is_some());
}

fn forwarded(lines: &[&str]) -> Vec<u8> {
    let lines: String = lines.iter().map(|line| format!("X-Forwarded-For: {line}\r\n")).collect();
    HANDSHAKE.replace("Host: sim\r\n", &format!("Host: sim\r\n{lines}")).into_bytes()
}

#[test]
fn a_trusted_proxy_names_the_client_in_the_request() {
    const BEHIND: &str = "admission.conns_per_address_max = 1\nadmission.forwarded_for = true\n\
        admission.trusted_proxies = ['10.0.0.0/8']";
    for split in [0, 1] {
        let mut world = world(BEHIND);
        world.faults.split = split;
        assert_eq!(knock(&mut world, "10.0.0.1", &forwarded(&["192.0.2.1"])).1, 101);
        assert_eq!(knock(&mut world, "10.0.0.1", &forwarded(&["192.0.2.2, 10.0.0.9"])).1, 101);
        // A client may write what it likes to the left of what the proxy appends.
        assert_eq!(knock(&mut world, "10.0.0.1", &forwarded(&["8.8.8.8", "192.0.2.1"])).1, 429);
        assert_eq!(knock(&mut world, "192.0.2.2", &forwarded(&["8.8.8.8"])).1, 429);
        assert_eq!(knock(&mut world, "192.0.2.3", &forwarded(&["192.0.2.1"])).1, 101);
        // Nobody named: the proxy's own.
        assert_eq!(knock(&mut world, "10.0.0.1", HELLO).1, 101);
        assert_eq!(knock(&mut world, "10.0.0.1", HELLO).1, 101);
        assert_eq!(refused(&mut world, Refused::Address), 2);
    }
    // Without the setting all that a proxy forwards is its own.
    let mut world = world("admission.conns_per_address_max = 1\nadmission.trusted_proxies = ['10.0.0.0/8']");
    assert_eq!(knock(&mut world, "10.0.0.1", &forwarded(&["192.0.2.1"])).1, 101);
    assert_eq!(knock(&mut world, "10.0.0.1", &forwarded(&["192.0.2.2"])).1, 429);
}

#[test]
fn a_proxy_behind_a_load_balancer_names_the_client() {
    let mut world = world(
        "admission.conns_per_address_max = 1\nadmission.forwarded_for = true\nadmission.proxy_protocol = true\n\
         admission.trusted_proxies = ['10.0.0.0/8']",
    );
    let through = |client: &str| proxied(1, [10, 0, 0, 7], &forwarded(&[client]));
    assert_eq!(knock(&mut world, "10.0.0.1", &through("192.0.2.1")).1, 101);
    assert_eq!(knock(&mut world, "10.0.0.1", &through("192.0.2.1")).1, 429);
    assert_eq!(knock(&mut world, "10.0.0.1", &through("192.0.2.2")).1, 101);
    // The load balancer has heard it from the client itself, which may claim what it likes.
    let direct = |claimed: &str| proxied(1, [192, 0, 2, 5], &forwarded(&[claimed]));
    assert_eq!(knock(&mut world, "10.0.0.1", &direct("8.8.8.8")).1, 101);
    assert_eq!(knock(&mut world, "10.0.0.1", &direct("9.9.9.9")).1, 429);
}

#[test]
fn handshakes_that_come_too_fast_are_told_when_there_will_be_room() {
    let mut world = world("admission.accept_rate = { burst = 2, per_ms = 1000 }");
    let mut waiting = Vec::new();
    for n in 0..12 {
        let (client, status) = knock(&mut world, "192.0.2.1", HELLO);
        assert_eq!(status, if n < 2 { 101 } else { 503 }, "{n}");
        if n >= 2 {
            waiting.push(retry_after(&world, client));
        }
    }
    // Each has a place of its own at two per second.
    assert_eq!(waiting, [1, 2, 2, 3, 3, 4, 4, 5, 5, 6]);
    assert_eq!(refused(&mut world, Refused::Rate), 10);
    // What is no handshake is answered: a load balancer must not take a storm for an illness.
    assert_eq!(knock(&mut world, "192.0.2.1", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").1, 200);
    assert_eq!(knock(&mut world, "192.0.2.1", b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n").1, 404);
    // All come back when they were told to, and all are let in.
    for second in 1..=6 {
        world.advance(1_000);
        for _ in waiting.iter().filter(|told| **told == second) {
            assert_eq!(knock(&mut world, "192.0.2.1", HELLO).1, 101, "after {second} s");
        }
    }
    // However many are refused, nobody is sent away for longer than a minute.
    for _ in 0..1_000 {
        let (client, _) = knock(&mut world, "192.0.2.1", HELLO);
        if status(&world, client) == 503 {
            assert!((1..=60).contains(&retry_after(&world, client)));
        }
    }
}

#[test]
fn of_those_who_say_nothing_the_oldest_has_to_go() {
    let mut world = world("admission.half_open_max = 3");
    let (speaks, _) = knock(&mut world, "192.0.2.1", HELLO);
    let silent: Vec<_> = (0..3).map(|_| knock(&mut world, "192.0.2.1", b"GET /v2v HT").0).collect();
    assert_eq!(refused(&mut world, Refused::HalfOpen), 0);
    let (late, _) = knock(&mut world, "192.0.2.2", b"");
    let closed = |world: &World, clients: &[ClientId]| -> Vec<bool> {
        clients.iter().map(|client| world.closed(*client).is_some()).collect()
    };
    assert_eq!(closed(&world, &silent), [true, false, false]);
    assert_eq!((status(&world, silent[0]), retry_after(&world, silent[0])), (503, 5));
    // Who completes its request in time stays, whatever comes after it.
    world.send_bytes(late, HELLO);
    world.send_bytes(silent[1], &HELLO[b"GET /v2v HT".len()..]);
    for _ in 0..10 {
        open(&mut world, "192.0.2.3");
    }
    assert_eq!(closed(&world, &[speaks, late, silent[1], silent[2]]), [false, false, false, true]);
    assert_eq!((status(&world, late), status(&world, silent[1])), (101, 101));
    // Ten came, three may wait, and one waited before.
    assert_eq!(refused(&mut world, Refused::HalfOpen), 9);
}

#[test]
fn a_full_worker_says_when_to_come_again() {
    let mut world = world("limits.conns_per_worker_max = 1");
    assert_eq!(knock(&mut world, "192.0.2.1", HELLO).1, 101);
    let (client, status) = knock(&mut world, "192.0.2.2", HELLO);
    assert_eq!((status, retry_after(&world, client)), (503, 5));
    assert_eq!(refused(&mut world, Refused::Full), 1);
}

/// Who is refused reads its answer, and takes nobody's place while it does.
#[test]
fn those_who_are_turned_away_do_not_fill_a_worker() {
    let mut world = world("limits.conns_per_worker_max = 3\nadmission.conns_per_address_max = 1");
    assert_eq!(knock(&mut world, "192.0.2.1", HELLO).1, 101);
    let mut told = 0;
    for _ in 0..TURNED_AWAY_MAX + 50 {
        // They do not read, so they stay until the time for closing is over.
        let (client, status) = knock(&mut world, "192.0.2.1", b"");
        assert!(world.closed(client).is_some());
        told += usize::from(status == 429);
    }
    assert_eq!(told, TURNED_AWAY_MAX);
    assert_eq!(knock(&mut world, "192.0.2.2", HELLO).1, 101);
    assert_eq!(refused(&mut world, Refused::Address), (TURNED_AWAY_MAX + 50) as u64);
    // After that time they are forgotten, and others are told again.
    world.advance(10_000);
    assert_eq!(knock(&mut world, "192.0.2.1", b"").1, 429);
    assert_eq!(knock(&mut world, "192.0.2.3", HELLO).1, 101);
    assert_eq!(knock(&mut world, "192.0.2.4", HELLO).1, 503);
}

#[test]
fn without_rules_everybody_comes_in() {
    let mut world = World::new(1, Config::default());
    for n in 0..300 {
        assert_eq!(knock(&mut world, "192.0.2.1", HELLO).1, 101, "{n}");
    }
}

#[test]
fn how_fast_handshakes_are_let_in_may_change() {
    let mut world = world("admission.accept_rate = { burst = 1, per_ms = 60_000 }");
    assert_eq!([(); 2].map(|()| knock(&mut world, "192.0.2.1", HELLO).1), [101, 503]);
    world.configure(Config::default());
    assert_eq!([(); 3].map(|()| knock(&mut world, "192.0.2.1", HELLO).1), [101; 3]);
}
