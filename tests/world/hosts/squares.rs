//! Neighbours on different hosts.

use crate::proximity::PLAIN;
use crate::script::Play;

/// Nobody falls silent, and positions leave at once.
const LIVELY: &str = "set vehicles.heartbeat_timeout_ms = 3600000
    set vehicles.ping_ms = 3600000
    set redis.position_tick_ms = 0
    ";

#[track_caller]
fn plain(script: &str) {
    Play::default().run(PLAIN).run(LIVELY).run(script);
}

/// The same script with vehicles on the hosts' first shards and on their second.
#[track_caller]
fn on_any_shards(script: &str) {
    plain(&format!("hosts 2\n{}", script.replace("A?", "A").replace("B?", "B")));
    for (a, b) in [("A0", "B1"), ("A1", "B0"), ("A1", "B1")] {
        plain(&format!("shards 2\nhosts 2\n{}", script.replace("A?", a).replace("B?", b)));
    }
}

#[test]
fn two_hosts_vehicles_enter_move_and_exit() {
    on_any_shards(
        "a@A? registers; b@B? registers
         +1s
         forget
         a at 48.05 11.1
         a b< nothing
         +1s
         b at 48.051 11.1
         +50ms
         a< enter b 111, peer b 48.051 11.1 (-50ms)
         b< enter a 111, peer a 48.05 11.1 (-1050ms)
         a at 48.0505 11.1
         a< nothing
         b< peer a 48.0505 11.1
         b at 48.0509 11.1
         a< peer b 48.0509 11.1
         b< nothing
         b at 48.0553 11.1
         a b< nothing
         b at 48.056 11.1
         a< exit b
         b< exit a
         b at 48.07 11.1
         a b< nothing",
    );
}

#[test]
fn neighbours_meet_across_borders_of_squares() {
    // (a, b, their distance): over a row's border, a column's, a corner of four, ±180°, and beside a pole.
    for (a, b, metres) in [
        ("48.164 11.1", "48.165 11.1", 111),
        ("48.05 11.2495", "48.05 11.2505", 75),
        ("48.164 11.2495", "48.165 11.2505", 134),
        ("-17.05 179.9995", "-17.05 -179.9995", 106),
        ("-17.0505 179.9995", "-17.051 -179.9995", 120),
        ("89.999 10", "89.999 -170", 223),
    ] {
        on_any_shards(&format!(
            "a@A? registers; b@B? registers
             +1s
             forget
             a at {a}
             b at {b}
             +1s
             a< enter b {metres}, peer b {b} (-1000ms)
             b< enter a {metres}, peer a {a} (-1000ms)
             b hangs up
             a< exit b"
        ));
    }
}

#[test]
fn who_drives_from_square_to_square_is_never_lost() {
    // a drives east at 48.05° over the column border at 11.25°, and b beside it.
    let mut play = Play::default();
    play.run(PLAIN).run(LIVELY).run(
        "shards 2
         hosts 2
         a@A1 registers; b@B registers; a at 48.05 11.2 ; b at 48.05 11.2
         +1s
         forget",
    );
    for step in 1..100 {
        let lon = 11.2 + f64::from(step) * 0.001;
        let lon = (lon * 1e7).round() / 1e7;
        play.run(&format!(
            "a at 48.05 {lon}\n b< peer a 48.05 {lon}\n b at 48.05 {lon}\n a< peer b 48.05 {lon}\n +100ms"
        ));
    }
    play.run("count ringroad_backplane_gaps_total = 0");
}

#[test]
fn who_drives_to_where_the_other_host_does_not_listen_is_seen_to_leave() {
    on_any_shards(
        "a@A? registers; b@B? registers; a at 48.05 11.1; b at 48.05 11.1
         +1s
         forget
         a at 49.05 11.1
         a< exit b
         b< exit a
         +1s
         a at 48.05 11.1
         +100ms
         a< enter b 0
         b< enter a 0, peer a 48.05 11.1 (-100ms)",
    );
}

#[test]
fn a_leap_between_two_ticks_is_seen_by_those_who_are_left() {
    Play::default().run(PLAIN).run(
        "set redis.position_tick_ms = 100
         hosts 2
         a@A registers; b@B registers; a at 48.05 11.1; b at 48.05 11.1
         +2500ms
         forget
         a at 48.0501 11.1
         b< peer a 48.0501 11.1
         +10ms
         a at 60 11
         +10ms
         a at 49 11
         b< nothing
         +80ms
         b< exit a",
    );
}

#[test]
fn who_is_parked_is_found_by_those_who_come_later() {
    on_any_shards(
        "a@A? registers; a at 48.05 11.1
         +120s
         b@B? registers
         b at 48.05 11.1
         +100ms
         b< connected, registered b, enter a 0, peer a 48.05 11.1 (-120100ms)
         a< connected, registered a, enter b 0, peer b 48.05 11.1 (-100ms)",
    );
}

#[test]
fn a_square_is_listened_to_as_long_as_somebody_sees_into_it_and_a_while_longer() {
    let mut play = Play::default();
    play.run(PLAIN).run(LIVELY).run("hosts 2\n a@A registers; b@B registers\n a at 48.05 11.1\n +100ms");
    let listeners = |play: &mut Play| play.world().redis().listeners("v2v:cell:u0xc");
    assert_eq!(listeners(&mut play), 1);
    play.run("b at 48.05 11.1");
    assert_eq!(listeners(&mut play), 2);
    play.run("b at 55 11.1\n +9999ms");
    assert_eq!(listeners(&mut play), 2);
    play.run("+1ms");
    assert_eq!(listeners(&mut play), 1);
    play.run("b at 48.05 11.1\n a hangs up\n +5s\n a2@A registers as a\n a2 at 48.05 11.1\n +20s");
    assert_eq!(listeners(&mut play), 2);
    play.run("count ringroad_backplane_squares on A = 1\n a2 hangs up\n b hangs up\n +10s");
    assert_eq!(listeners(&mut play), 0);
    play.run("count ringroad_backplane_squares = 0");
}

#[test]
fn who_comes_back_into_a_forgotten_square_asks_again() {
    plain(
        "hosts 2
         a@A registers; b@B registers; a at 48.05 11.1; b at 48.05 11.1
         +1s
         b at 55 11.1
         +60s
         forget
         b at 48.05 11.1
         +100ms
         b< enter a 0, peer a 48.05 11.1 (-61100ms)
         a< enter b 0, peer b 48.05 11.1 (-100ms)",
    );
}

#[test]
fn positions_are_those_that_were_sent_whatever_they_are_rounded_to_on_the_way() {
    plain(
        "hosts 2
         a@A registers; b@B registers; a at 48.05 11.1; b at 48.05 11.1
         +1s
         forget
         a at 48.0512345 11.1012345 speed=13.88 heading=359.9 elevation=512.3 accuracy=30.25 ts=-234
         b< peer a 48.0512345 11.1012345 speed=13.88 heading=359.9 elevation=512.3 accuracy=30.25 (-234ms)",
    );
}

#[test]
fn after_an_outage_everyone_is_where_it_is() {
    for (away, back) in [
        ("redis down", "redis up"),
        ("redis freezes", "redis thaws"),
        ("A is cut off", "A is back"),
        ("B is cut off", "B is back"),
    ] {
        for pause in ["+10ms", "+2s", "+30s"] {
            let mut play = Play::default();
            play.run(PLAIN).run(LIVELY).run(
                "shards 2
                 hosts 2
                 a@A registers; b@B registers; c@A1 registers; d@B1 registers
                 a at 48.05 11.1; b at 48.05 11.1; c at 48.10 11.1; d at 48.20 11.1
                 +1s
                 forget",
            );
            // a leaves b, c meets d across a border, and b does not move.
            play.run(&format!(
                "{away}\n{pause}\n a at 49 11.1; c at 48.164 11.1; d at 48.165 11.1\n {pause}\n {back}\n +15s"
            ));
            for (name, told) in [("b", "exit a"), ("a", "exit b"), ("c", "enter d 111"), ("d", "enter c 111")] {
                let heard = play.heard(name);
                assert!(heard.iter().any(|event| event == told), "{away:?} {pause}: {name} heard {heard:?}");
                let events = heard.iter().filter(|event| !event.starts_with("peer"));
                assert_eq!(events.count(), 1, "{away:?} {pause}: {name} heard {heard:?}");
            }
        }
    }
}

#[test]
fn who_answers_before_everyone_has_been_looked_at_is_there() {
    plain(
        "hosts 3
         a@A registers; a at 48.05 11.1; p@C registers; p at 49.05 11.1
         +1s
         b@B registers; b at 48.05 11.1
         +10ms
         c@B registers; c at 49.05 11.1
         +30ms
         c< connected, registered c, enter p 0, peer p 49.05 11.1 (-1040ms)
         +15s
         c< nothing",
    );
}

#[test]
fn a_lost_frame_is_noticed_with_the_next_and_made_good() {
    plain(
        "hosts 2
         a@A registers; b@B registers; c@A registers; a at 48.05 11.1; b at 48.05 11.1; c at 48.08 11.1
         +5s
         forget
         redis loses every 1 to B
         a at 48.09 11.1
         redis loses every 0 to B
         a< exit b
         b< nothing
         +5s
         c at 48.0801 11.1
         +1s
         b< exit a
         count ringroad_backplane_gaps_total on B = 1",
    );
}

#[test]
fn who_comes_back_is_there_although_its_position_is_heard_before_its_departure() {
    on_any_shards(
        "b@B? registers; b at 49.05 11.1; a@A? registers; a at 48.05 11.1
         +1s
         forget
         A sleeps
         b hangs up
         b2@B? registers as b; b2 at 48.051 11.1
         +5s
         A wakes
         +1s
         a< enter b 111, peer b 48.051 11.1 (-6000ms)
         +20s
         a< nothing",
    );
}

#[test]
fn a_busy_vehicle_is_published_with_every_tick_and_no_more_often() {
    let mut play = Play::default();
    play.run(PLAIN).run("set redis.position_tick_ms = 100\n hosts 2\n a@A registers; b@B registers\n a at 48.05 11.1; b at 48.05 11.1\n +1s\n forget");
    drop(play.world().redis().published("v2v:cell:u0xc"));
    for step in 0..100 {
        play.run(&format!("a at 48.05{step:03} 11.1\n +10ms"));
    }
    assert_eq!(play.world().redis().published("v2v:cell:u0xc").len(), 10);
    assert_eq!(play.heard("b").len(), 10);
    play.run("count ringroad_backplane_states_conflated_total on A = 90");
}

#[test]
fn who_comes_back_to_a_crowd_is_seen_again_at_once() {
    // x has two around it, and may have one; they have but x.
    plain(
        "set vehicles.neighbours_max = 1
         hosts 2
         a@A registers; c@A registers; x@B registers
         a at 48.05 11.1; c at 48.058 11.1
         +1s
         x at 48.054 11.1
         +2s
         forget
         x at 48.0541 11.1
         +100ms
         x at 48.0542 11.1
         +100ms
         x at 49.05 11.1
         +3s
         a< peer x 48.0541 11.1 (-3200ms), peer x 48.0542 11.1 (-3100ms), exit x
         c< peer x 48.0541 11.1 (-3200ms), peer x 48.0542 11.1 (-3100ms), exit x
         x at 48.054 11.1
         +50ms
         a< enter x 445, peer x 48.054 11.1 (-50ms)
         c< enter x 445, peer x 48.054 11.1 (-50ms)",
    );
}
