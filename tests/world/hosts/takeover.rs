//! A vehicle that registers on another host.

use crate::proximity::PLAIN;
use crate::script::Play;

/// Nobody falls silent.
const LIVELY: &str = "set vehicles.heartbeat_timeout_ms = 3600000
    set vehicles.ping_ms = 3600000
    ";

#[test]
fn the_older_connection_is_closed_in_both_directions() {
    for (first, second) in [("A", "B"), ("B", "A"), ("A1", "B1"), ("B1", "A0")] {
        Play::default().run(LIVELY).run(&format!(
            "shards 2
             hosts 2
             a@{first} registers; x@A connects; y@B connects
             forget
             +10ms
             a2@{second} registers as a
             a2< connected, registered a, online a
             a< closed 4001 replaced
             x y< online a
             presence< a on {node}
             all list a
             a hangs up
             +60s
             x y< nothing
             a2 heartbeats
             a2< heartbeat_ack
             a2 hangs up
             x y< offline a
             presence< nothing
             all list nothing",
            node = &second[..1]
        ));
    }
}

#[test]
fn a_vehicle_may_go_to_and_fro() {
    let mut play = Play::default();
    play.run(PLAIN).run(LIVELY).run("hosts 3\n w@A registers; w at 48.05 11.1\n forget");
    for turn in 0..30 {
        let host = ["A", "B", "C"][turn % 3];
        play.run(&format!("a{turn}@{host} registers as a\n a{turn} at 48.05 11.1\n +30ms"));
        play.run(&format!("presence< a on {host}, w on A\n all list a, w"));
        if turn > 0 {
            assert_eq!(play.heard(&format!("a{}", turn - 1)).last().map(String::as_str), Some("closed 4001 replaced"));
        }
    }
    let heard = play.heard("w");
    let enters = heard.iter().filter(|event| event.starts_with("enter")).count();
    let exits = heard.iter().filter(|event| event.starts_with("exit")).count();
    assert_eq!((enters, exits), (1, 0), "whoever drives it, it is the same vehicle: {heard:?}");
}

#[test]
fn of_two_registrations_in_the_same_millisecond_one_stays_and_everyone_agrees_which() {
    for far in [0, 1, 7, 100] {
        for (first, second) in [("A", "B"), ("B", "A")] {
            let mut play = Play::default();
            play.run(LIVELY).run(&format!(
                "hosts 3
                 A is {far}ms away
                 B is {far}ms away
                 +2s
                 a@{first} connects; a2@{second} connects; y@C connects
                 forget
                 at once: a registers; a2 registers as a
                 +15s"
            ));
            let closed: Vec<bool> = ["a", "a2"]
                .iter()
                .map(|name| play.heard(name).iter().any(|event| event.starts_with("closed")))
                .collect();
            assert_eq!(closed.iter().filter(|closed| **closed).count(), 1, "{far} ms: {closed:?}");
            let winner = if closed[0] { second } else { first };
            play.run(&format!("presence< a on {winner}\n all list a"));
            let told = play.heard("y");
            assert!(told.iter().all(|event| event == "online a"), "{told:?}");
            play.run(if closed[0] { "a2 hangs up" } else { "a hangs up" });
            play.run(
                "+1s\n y< offline a (-15000ms)\n presence< nothing\n all list nothing"
                    .replace("-15000ms", "-16000ms")
                    .as_str(),
            );
        }
    }
}

#[test]
fn of_two_registrations_while_redis_is_away_the_later_one_stays() {
    for (away, back) in [("redis down", "redis up"), ("A is cut off", "A is back"), ("B is cut off", "B is back")] {
        for (first, second) in [("A", "B"), ("B", "A")] {
            Play::default().run(LIVELY).run(&format!(
                "hosts 3
                 y@C connects
                 {away}
                 +5s
                 a@{first} registers
                 +1s
                 a2@{second} registers as a
                 +1s
                 forget
                 {back}
                 +5s
                 a< closed 4001 replaced
                 presence< a on {second}
                 all list a
                 a2 heartbeats
                 +60s
                 presence< a on {second}
                 all list a"
            ));
        }
    }
}

#[test]
fn a_clock_that_is_behind_does_not_lose_a_takeover() {
    Play::default().run(LIVELY).run(
        "hosts 2
         B is -5000ms ahead
         a@A registers
         +100ms
         a2@B registers as a
         a< connected, registered a, online a, closed 4001 replaced
         presence< a on B
         a3@A registers as a
         a2< connected, registered a, online a, closed 4001 replaced
         presence< a on A
         +60s
         all list a
         a3 hangs up
         presence< nothing
         all list nothing",
    );
}

#[test]
fn the_new_connection_is_told_who_is_near_if_its_host_knows() {
    Play::default().run(PLAIN).run(LIVELY).run(
        "hosts 2
         a@A registers; b@B registers; c@A registers; a at 48.05 11.1; b at 48.05 11.1; c at 48.05 11.1
         +100ms
         forget
         a2@B registers as a
         +100ms
         a2< connected, registered a, enter b 0, enter c 0
         b c< nothing
         a2 at 48.0501 11.1
         b c< peer a 48.0501 11.1
         c at 48.0501 11.1
         a2 b< peer c 48.0501 11.1",
    );
}

#[test]
fn where_a_vehicle_was_when_it_was_here_before_is_not_where_it_is() {
    Play::default().run(PLAIN).run(
        "hosts 2
         A is cut off
         +5s
         v@A registers; v at 48.05 11.1
         +100ms
         w@B registers; w at 48.05 11.1; v2@B registers as v; v2 at 48.0501 11.1
         +1s
         A is back
         +3s
         v< connected, registered v, closed 4001 replaced
         forget
         v3@A connects
         at once: v3 registers as v; v3 at 49 11
         v2< closed 4001 replaced
         +11s
         w< exit v",
    );
}

#[test]
fn a_takeover_that_ended_unheard_leaves_the_vehicle_to_its_former_host() {
    Play::default().run(PLAIN).run(
        "set vehicles.heartbeat_timeout_ms = 3600000
         set vehicles.ping_ms = 3600000
         hosts 3
         C is cut off
         v@C registers; v at 48.05 11.1
         +1s
         v2@A registers as v; w@B registers; w at 48.05 11.1
         +1s
         B is cut off
         +15s
         v2 hangs up
         B is back
         C is back
         +1s
         forget
         +50s
         presence< v on C, w on B
         all list v, w
         w< enter v 0, peer v 48.05 11.1 (-68000ms)
         w tells v hello
         v< w: \"hello\"",
    );
}

#[test]
fn a_place_that_comes_before_the_news_of_a_second_registration_stays() {
    Play::default().run(PLAIN).run(
        "set vehicles.heartbeat_timeout_ms = 3600000
         set vehicles.ping_ms = 3600000
         hosts 2
         a@A registers; a at 48.05 11.1; v@B registers; v at 48.051 11.1; u@B registers; u at 48.051 11.1
         +2s
         u at 48.0512 11.1
         redis loses every 1 to A
         v2@B registers as v
         redis loses every 0 to A
         +100ms
         v2 at 48.0511 11.1
         +50ms
         forget
         +50s
         a< nothing
         A lists a, u, v
         v2 at 48.0513 11.1
         a< peer v 48.0513 11.1",
    );
}
