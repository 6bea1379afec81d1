//! A second registration of a vehicle.

use crate::proximity::PLAIN;
use crate::script::{Play, check};

#[test]
fn the_older_connection_is_closed_and_nobody_hears_of_an_offline() {
    for shard in ["@0", "@1"] {
        check(
            &"shards 2
              a@0 registers; x@0 connects; y@1 connects
              forget
              a2@? registers as a
              a2< connected, registered a, online a
              a< closed 4001 replaced
              x y< online a
              a hangs up
              x y a2< nothing
              a2 heartbeats
              a2< heartbeat_ack
              z gets /presence
              count ringroad_connections_closed_total{replaced} = 1"
                .replace("@?", shard),
        );
    }
}

#[test]
fn the_replaced_connection_commands_nothing_more() {
    let mut play = Play::default();
    play.run(PLAIN).run(
        "shards 2
         a@0 registers; b@0 registers; b at 48 11; a at 48 11
         a2@1 registers as a
         forget
         a at 48.0001 11
         b< nothing
         a2 at 48.0002 11
         b< peer a 48.0002 11",
    );
}

#[test]
fn the_new_connection_is_told_who_is_near() {
    for (shard, entered) in [("@0", "enter b 111, enter c 222"), ("@1", "enter c 222, enter b 111")] {
        Play::default().run(PLAIN).run(
            &"shards 2
              a@0 registers; b@0 registers; c@1 registers; a at 48 11; b at 48.001 11; c at 48.002 11
              forget
              a2@? registers as a
              a2< connected, registered a, ENTERED
              b c< nothing
              b breaks
              a2 c< exit b"
                .replace("@?", shard)
                .replace("ENTERED", entered),
        );
    }
}

#[test]
fn neighbours_keep_hearing_of_the_vehicle_whoever_drives_it() {
    for shard in ["@0", "@1", "@2"] {
        Play::default().run(PLAIN).run(
            &"shards 3
              a@0 registers; b@0 registers; c@1 registers; a at 48 11; b at 48 11; c at 48 11
              a2@? registers as a
              forget
              a2 at 48.0001 11
              b c< peer a 48.0001 11
              b at 48.0001 11
              a2 c< peer b 48.0001 11
              c at 48.0001 11
              a2 b< peer c 48.0001 11
              a2 at 48.5 11
              b c< exit a
              b at 48.5 11
              c< exit b
              b< exit c, enter a 0
              a2 hangs up
              b< exit a
              c< nothing"
                .replace("@?", shard),
        );
    }
}

#[test]
fn a_vehicle_may_go_back_and_forth_between_shards() {
    let mut play = Play::default();
    play.run(PLAIN)
        .run("shards 2\n b@0 registers; c@1 registers; b at 48 11; c at 48.001 11\n a0 registers as a\n a0 at 48 11");
    for turn in 1..20 {
        play.run(&format!("a{turn}@{} registers as a\n a{} breaks", turn % 2, turn - 1));
    }
    play.run(
        "forget
         a19 at 48.001 11
         b c< peer a 48.001 11
         b at 48.0001 11
         a19 c< peer b 48.0001 11
         a19 hangs up
         b c< exit a",
    );
}

#[test]
fn the_replaced_connections_late_farewell_takes_nothing_with_it() {
    let mut play = Play::default();
    play.run(PLAIN)
        .run("shards 2\n a@0 registers; b@1 registers; a at 48 11; b at 48 11\n a2@1 registers as a\n forget");
    play.run(
        "a hangs up
         b a2< nothing
         b at 48.0001 11
         a2< peer b 48.0001 11",
    );
}

#[test]
fn simultaneous_registrations_on_two_shards_end_with_exactly_one() {
    for first in [0, 1] {
        let mut play = Play::default();
        play.run("shards 3\n a@0 connects; a2@1 connects; x@2 connects\n forget");
        let clients = [play.client("a"), play.client("a2")];
        let text = r#"{"event":"register","data":{"vehicleId":"veh-a","driverName":"A"}}"#;
        play.world().say(clients[first], text);
        play.world().say(clients[1 - first], text);
        play.world().settle();
        let closed: Vec<bool> = clients.iter().map(|client| play.world().closed(*client).is_some()).collect();
        assert_eq!(closed.iter().filter(|closed| **closed).count(), 1, "{closed:?}");
        let winner = clients[closed.iter().position(|closed| !closed).expect("one lives")];
        for heard in ["a", "a2", "x"].map(|name| play.heard(name)) {
            assert!(heard.iter().all(|event| !event.starts_with("offline")), "{heard:?}");
        }
        for shard in ["g@0", "h@1", "i@2"] {
            play.run(&format!("{shard} gets /health"));
            let health = play.heard(&shard[..1]).join("");
            assert!(health.contains(r#""vehicles":1,"#), "{health}");
        }
        play.world().send(winner, r#"{"event":"location_update","data":{"vehicleId":"veh-a","lat":1,"lon":2}}"#);
        play.run("g@0 gets /vehicles");
        assert_eq!(play.heard("g")[0].matches("vehicleId").count(), 1);
        play.world().hang_up(winner, ringroad::turn::Ended::Eof);
        play.run("x< offline a\n g@2 gets /vehicles\n g< 200 {\"vehicles\":[]}, closed");
    }
}

#[test]
fn a_takeover_does_not_fill_the_buckets_and_has_its_own_clock() {
    let mut play = Play::default();
    play.run(
        "set presence.scope = 'none'
         a registers; x registers
         a at 48 11 ts=50000
         a alerts
         a2 registers as a
         forget
         a2 alerts
         a2< error rate_limited retry 10000
         x< nothing
         x at 48 11
         forget
         a2 at 48 11
         x< peer a 48 11",
    );
}

#[test]
fn a_chain_of_takeovers_over_all_shards_leaves_one() {
    let mut play = Play::default();
    play.run("set presence.scope = 'none'\n shards 3\n x@0 registers");
    for i in 0..30 {
        play.run(&format!("a{i}@{} registers as a\n a{i} at 48 11", i % 3));
    }
    for i in 0..29 {
        assert_eq!(play.heard(&format!("a{i}")).last().map(String::as_str), Some("closed 4001 replaced"), "a{i}");
    }
    play.run(
        "forget
         a29 heartbeats
         a29< heartbeat_ack
         h@1 gets /health
         count ringroad_registrations_total = 31",
    );
    assert!(play.heard("h")[0].contains(r#""vehicles":2,"#));
}

#[test]
fn timers_of_the_replaced_connection_hurry_nothing() {
    check(
        "set presence.scope = 'none'
         set vehicles.nearby_list_ms = 0
         a registers; x registers; x at 48 11; a at 48 11
         +10ms
         a at 48.0001 11
         a2 registers as a
         +10ms
         a2 at 48.0002 11
         +20ms
         a2 at 48.0003 11
         forget
         +120ms
         x< nothing
         +10ms
         x< peer a 48.0003 11 (-130ms)",
    );
    check(
        "set presence.scope = 'none'
         a registers; x registers; y registers; a at 48 11; x at 48 11
         +2s
         a2 registers as a
         +1ms
         a2< connected, registered a, enter x 0, list(x 0)
         +500ms
         y at 48 11
         +498ms
         a2< enter y 0, peer y 48 11 (-498ms)
         +1ms
         a2< nothing
         +1ms
         a2< list(x 0, y 0)
         +29999ms
         a2< ping
         +469ms
         a2< list(x 0, y 0)",
    );
}

#[test]
fn a_winner_that_leaves_at_once_leaves_no_ghost_behind() {
    for (first, second) in [(0, 1), (1, 0), (1, 2), (2, 0)] {
        let mut play = Play::default();
        play.run(PLAIN)
            .run(&format!("shards 3\n a@{first} connects; a2@{second} connects; x@0 registers; x at 48 11\n forget"));
        let clients = [play.client("a"), play.client("a2")];
        let text = r#"{"event":"register","data":{"vehicleId":"veh-a","driverName":"A"}}"#;
        clients.iter().for_each(|client| play.world().say(*client, text));
        let place = r#"{"event":"location_update","data":{"vehicleId":"veh-a","lat":48,"lon":11}}"#;
        clients.iter().for_each(|client| play.world().say(*client, place));
        // Both go before either shard has heard of the other's registration.
        play.world().hang_up(clients[1], ringroad::turn::Ended::Eof);
        play.world().hang_up(clients[0], ringroad::turn::Ended::Eof);
        play.run("+10s");
        for (shard, name) in [(0, "g"), (1, "h"), (2, "i")] {
            play.run(&format!("{name}@{shard} gets /health"));
            let health = play.heard(name).join("");
            assert!(health.contains(r#""vehicles":1,"#), "shards {first} and {second}, on {shard}: {health}");
        }
        let heard = play.heard("x");
        let enters = heard.iter().filter(|event| event.starts_with("enter")).count();
        let exits = heard.iter().filter(|event| event.starts_with("exit")).count();
        assert_eq!(enters, exits, "{heard:?}");
    }
}

#[test]
fn what_the_former_owner_still_says_moves_nothing() {
    // In one turn the vehicle moves on shard 2 and is taken over on shard 0, whose news reach shard 1 first.
    Play::default().run(PLAIN).run(
        "shards 3
         c@1 registers; a@2 registers; c at 49 11; a at 49 11
         a2@0 connects
         forget
         at once: a at 48 11; a2 registers as a; a2 at 49 11
         c< peer a 49 11
         a< closed 4001 replaced
         c at 49 11
         a2< registered a, enter c 0, peer c 49 11",
    );
}
