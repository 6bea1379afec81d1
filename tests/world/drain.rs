//! Letting go of everybody over some time.

use std::ops::Range;

use ringroad::config::Config;
use ringroad::sim::{ClientId, World};
use serde_json::Value;

use crate::script::{Play, check};

/// What a client was told since it was last asked: when it has to go, and how many alerts.
#[derive(Default)]
struct Told {
    leave_in_ms: Option<u64>,
    alerts: usize,
}

fn told(world: &mut World, client: ClientId) -> Told {
    let mut told = Told::default();
    for text in world.take(client) {
        let event: Value = serde_json::from_str(&text).expect("events are JSON");
        match event["event"].as_str() {
            Some("server_shutdown") => {
                assert_eq!(told.leave_in_ms, None, "once");
                told.leave_in_ms = event["data"]["reconnectInMs"].as_u64();
                assert_eq!(event["data"]["ts"], world.now().unix_ms);
            }
            Some("emergency_alert") => told.alerts += 1,
            _ => {}
        }
    }
    told
}

fn register(world: &mut World, shard: usize, id: &str) -> ClientId {
    let client = world.connect(shard);
    world.send(client, &format!(r#"{{"event":"register","data":{{"vehicleId":"{id}","driverName":"D"}}}}"#));
    client
}

#[test]
fn each_is_told_when_it_goes_and_goes_then_and_all_are_served_meanwhile() {
    const OVER_MS: u64 = 4_000;
    let mut config = Config::default();
    config.rate_limits.emergency_alert.burst = 0;
    let mut world = World::new(2, config);
    let clients: Vec<_> = (0..80).map(|n| register(&mut world, n % 2, &format!("car-{n}"))).collect();
    clients.iter().for_each(|client| drop(world.take(*client)));
    world.drain_host(0, OVER_MS);
    let leaves: Vec<u64> =
        clients.iter().map(|client| told(&mut world, *client).leave_in_ms.expect("it is told")).collect();

    // Evenly spread: of each worker's 40, ten in each quarter, give or take who leaves with a step at its border.
    let leaving_within = |quarter: Range<u64>| leaves.iter().filter(|leaves| quarter.contains(leaves)).count();
    for quarter in 0..4 {
        let count = leaving_within(quarter * 1_000..(quarter + 1) * 1_000 + u64::from(quarter == 3));
        assert!((16..=24).contains(&count), "{count} of 80 in quarter {quarter}: {leaves:?}");
    }

    // An alert every 100 ms, from whoever goes last: each is heard by those, and only those, that are still there.
    let last = (0..80).max_by_key(|n| leaves[*n]).expect("80");
    let mut expected = vec![0; 80];
    let mut heard = vec![0; 80];
    for at_ms in (0..OVER_MS).step_by(100) {
        if at_ms < leaves[last] {
            let alert = format!(r#"{{"event":"emergency_alert","data":{{"senderId":"car-{last}"}}}}"#);
            world.send(clients[last], &alert);
            (0..80).filter(|n| leaves[*n] > at_ms).for_each(|n| expected[n] += 1);
        }
        for now_ms in (at_ms..at_ms + 100).step_by(50) {
            for (n, client) in clients.iter().enumerate() {
                heard[n] += told(&mut world, *client).alerts;
                let closed = world.closed(*client);
                assert_eq!(closed, (leaves[n] <= now_ms).then_some((Some(1012), "shutdown")), "{n} at {now_ms}");
            }
            world.advance(50);
        }
    }
    for (n, client) in clients.iter().enumerate() {
        heard[n] += told(&mut world, *client).alerts;
    }
    assert_eq!(heard, expected);
    assert!(!world.is_stopped(), "the clients have not closed their sides");
    world.advance(2_000);
    assert!(world.is_stopped());
}

#[test]
fn it_is_over_when_the_last_has_gone() {
    let mut play = Play::default();
    play.run("shards 2\n a@0 registers; b@1 registers\n drain 60000ms");
    play.run("a hangs up");
    assert!(!play.world().is_stopped(), "the other worker has one yet");
    play.run("b hangs up\n +1ms");
    assert!(play.world().is_stopped());
    let mut empty = World::new(2, Config::default());
    empty.drain_host(0, 60_000);
    assert!(empty.is_stopped());
}

#[test]
fn what_waits_is_delivered_before_the_goodbye() {
    // What goes to everyone has not left yet when the time of a comes, and a message to it has not either.
    let mut play = Play::default();
    play.run("set rate_limits.emergency_alert = { burst = 0, per_ms = 1 }");
    play.run("a registers; b registers\n forget\n drain 1ms\n a b< sent away");
    play.world().pass(5);
    play.run("at once: b alerts; b tells a hello; b alerts\n a< b: \"hello\", alert b, alert b, closed 1012 shutdown");
    // The same when everybody is closed at once.
    let mut play = Play::default();
    play.run("a registers; b registers\n forget");
    let (a, b) = (play.client("a"), play.client("b"));
    play.world().say(b, r#"{"event":"emergency_alert","data":{"senderId":"veh-b"}}"#);
    play.world().stop();
    play.run("a< alert b, closed 1012 shutdown");
    assert_eq!(play.world().closed(b), Some((Some(1012), "shutdown")));
    assert!(play.world().is_held(a));
}

#[test]
fn who_reads_slowly_gets_what_waits_too() {
    let mut play = Play::default();
    play.run(
        "a registers; b registers
         forget
         a stalls
         b tells a one
         b alerts
         drain 100ms
         +100ms
         a< nothing
         a resumes",
    );
    let heard = play.heard("a");
    assert_eq!(heard[0], "b: \"one\"", "{heard:?}");
    assert_eq!(heard.iter().filter(|event| *event == "alert b").count(), 1, "{heard:?}");
    assert_eq!(heard.last().map(String::as_str), Some("closed 1012 shutdown"), "{heard:?}");
}

#[test]
fn who_comes_during_a_drain_is_served_and_sent_away() {
    check(
        "set presence.scope = 'none'
         a registers
         h opens
         forget
         drain 2000ms
         b registers
         b< connected, sent away, registered b
         c connects slim
         c< connected, sent away
         b tells a hello
         +2000ms
         b c< closed 1012 shutdown",
    );
    let mut play = Play::default();
    play.run("a registers\n drain 2000ms\n h gets /health");
    let h = play.client("h");
    let reply = play.world().reply(h);
    assert!(reply.starts_with("HTTP/1.1 503") && reply.contains(r#""status":"draining""#), "{reply}");
    play.run("v gets /vehicles");
    let v = play.client("v");
    assert!(play.world().reply(v).starts_with("HTTP/1.1 200"), "{}", play.world().reply(v));
}

#[test]
fn a_second_drain_changes_nothing_and_a_stop_ends_it() {
    check(
        "set presence.scope = 'none'
         a registers; b registers
         forget
         drain 60000ms
         a b< sent away
         drain 100ms
         +200ms
         a b< nothing
         stop
         a b< closed 1012 shutdown",
    );
}

#[test]
fn a_host_that_drains_is_one_of_the_hosts_to_the_last() {
    let mut play = Play::default();
    play.run(
        "set rate_limits.emergency_alert = { burst = 0, per_ms = 1 }
         shards 2
         hosts 2
         a@A0 registers; c@A1 registers; b@B registers
         forget
         A drains over 4000ms
         a alerts
         b< alert a
         b alerts
         +20ms",
    );
    for vehicle in ["a", "c"] {
        let heard = play.heard(vehicle);
        assert_eq!(heard.iter().filter(|event| *event == "alert b").count(), 1, "{vehicle}: {heard:?}");
    }
    // Whoever goes moves to the other host, and is there at once.
    let goes_first = loop {
        play.run("+50ms");
        let (a, c) = (play.client("a"), play.client("c"));
        match (play.world().closed(a).is_some(), play.world().closed(c).is_some()) {
            (false, false) => {}
            (a_goes, _) => break if a_goes { "a" } else { "c" },
        }
    };
    let stays = if goes_first == "a" { "c" } else { "a" };
    play.run(&format!(
        "{goes_first} hangs up\n leases< A, B\n forget\n {goes_first}2@B registers as {goes_first}\n +50ms"
    ));
    let presence = if goes_first == "a" { "a on B, b on B, c on A" } else { "a on A, b on B, c on B" };
    play.run(&format!("{stays}< online {goes_first}\n presence< {presence}"));
    play.run(&format!("{stays} tells {goes_first} hello\n +20ms\n {goes_first}2< connected, registered {goes_first}, online {goes_first}, {stays}: \"hello\""));
    // The last one leaves, and the host with it.
    play.run("+4s");
    play.run(&format!("{stays} hangs up\n +1s"));
    assert!(play.world().has_stopped(0));
    play.run("leases< B\n count ringroad_backplane_swept_total on B = 0");
}
