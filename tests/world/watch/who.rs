//! Who is watched, and who watches: vehicles that come, go, move, change hands or names.

use super::quiet;

#[test]
fn a_circle_goes_with_its_vehicle() {
    quiet(
        "set vehicles.nearby_radius_m = 20
         a registers; b registers; c registers
         a at 48 11; b at 48.02 11; c at 48.04 11
         v connects slim; v registers
         v nears 1500; +1s
         v< connected, registered v, watching 0 of 1, complete 1
         v reports 48.005 11
         v< named a, state a 48 11 (-1000ms)
         +1s; v reports 48.01 11
         v< named b, state b 48.02 11 (-2000ms)
         +1s; v reports 48.02 11
         v< enter b 0, gone a
         +1s; v reports 48.028 11
         v< exit b, named c, state c 48.04 11 (-4000ms)
         +1s; v reports 0 0
         v< gone b, gone c",
    );
}

#[test]
fn who_is_followed_is_seen_wherever_it_is() {
    quiet(
        "v connects slim; v follows a b; +1s
         v< connected, watching 0 of 1, complete 1
         a registers
         v< nothing
         a at 48 11
         v< named a, state a 48 11
         +1s; a at -33.9 151.2
         v< state a -33.9 151.2
         +1s; b registers; b at 0 0
         v< named b, state b 0 0
         +1s; a hangs
         v< gone a
         +1s; a registers; a at 10 10
         v< state a 10 10
         +1s; v follows b
         v< watching 1 of 2, gone a, complete 2
         +1s; a at 10 11; b at 0 1
         v< state b 0 1
         +1s; v follows
         v< watching 0 of 3, gone b, complete 3",
    );
}

#[test]
fn vehicles_of_another_shard_are_like_any_other() {
    let mut play = quiet(
        "shards 2
         v@0 connects slim; v views 47 10 49 12; +1s; v follows b; +1s
         w@1 connects; w views 47 10 49 12; +1s",
    );
    play.run(
        "forget
         a@1 registers; a at 48 11; b@1 registers; b at 52 11; +20ms
         v< named a, state a 48 11 (-20ms), named b, state b 52 11 (-20ms)
         w< peer a 48 11 (-20ms)
         +1s; a2@0 registers as a
         v w< nothing
         a2 at 48.1 11
         v< state a 48.1 11
         w< peer a 48.1 11
         +1s; a2 hangs; b hangs
         +20ms
         v< gone a, gone b
         w< peer_gone a",
    );
}

#[test]
fn a_vehicle_that_is_taken_over_is_still_there_and_a_new_name_is_told_once() {
    for shard in ["@0", "@1"] {
        quiet(&format!(
            "shards 2
             a@0 registers; a at 48 11
             v@0 connects slim; v views 47 10 49 12; +1s
             v< connected, watching 1 of 1, named a, state a 48 11 (-1000ms), complete 1
             a2{shard} registers as a; +200ms
             a< connected, registered a, closed 4001 replaced
             v< nothing
             a2 at 48.1 11; +1s
             v< state a 48.1 11 (-1000ms)
             a3{shard} registers as a called Ada; +200ms
             v< nothing
             a3 at 48.2 11; +1s; a3 at 48.3 11
             v< named a, state a 48.2 11 (-1000ms), state a 48.3 11
             +1s; a4@1 registers as a called Ben; a5@0 registers as a called Ada; +1s; a5 at 48.4 11
             v< state a 48.4 11"
        ));
    }
}

#[test]
fn a_viewer_that_becomes_a_vehicle_sees_itself_no_more() {
    quiet(
        "a registers; a at 48 11; b registers; b at 48.1 11
         v connects slim; v views 47 10 49 12; +1s
         v< connected, watching 2 of 1, named a, named b, state a 48 11 (-1000ms), state b 48.1 11 (-1000ms), complete 1
         v registers as a; +1s
         v< registered a, gone a
         v reports 48.05 11; b at 48.1 11
         v< state b 48.1 11
         +1s; v follows a b
         v< watching 1 of 2, complete 2
         +1s; v views; v follows; +1s; v reports 48.0999 11
         v< watching 1 of 3, complete 3, watching 0 of 4, gone b, complete 4"
            .replace(
                "complete 3, watching 0 of 4, gone b, complete 4",
                "complete 3, watching 0 of 4, gone b, complete 4, enter b 11, state b 48.1 11 (-3000ms)",
            )
            .as_str(),
    );
    quiet(
        "a registers; a at 48 11
         v connects; v views 47 10 49 12; +1s
         v< connected, watching 1 of 1, peer a 48 11 (-1000ms)
         v registers as a; +1s
         v< registered a, peer_gone a",
    );
}

#[test]
fn who_takes_over_is_told_nothing_of_what_its_predecessor_saw() {
    // Its predecessor knew b; it has a view elsewhere, or one with b in it.
    for (view, told) in [("10 10 11 11", "exit b"), ("47 10 51 12", "exit b, state b 50 11")] {
        quiet(&format!(
            "b registers; b at 48 11
             a connects slim; a registers; a reports 48.001 11; +100ms
             a< connected, registered a, enter b 111, named b, state b 48 11 (-100ms)
             v connects slim; v views {view}; v registers as a; +100ms
             forget
             b at 50 11
             v< {told}"
        ));
    }
}

#[test]
fn an_alert_shows_in_the_states_for_a_minute() {
    quiet(
        "set vehicles.heartbeat_timeout_ms = 3600000
         set vehicles.ping_ms = 3600000
         a registers; a at 48 11; v connects slim; v follows a; +1s
         forget
         a alerts
         v< alert a
         +1s; a at 48.1 11
         v< state a 48.1 11 emergency
         +58s; a2 registers as a
         a2 at 48.2 11
         v< state a 48.2 11 emergency
         +1s; a2 at 48.3 11
         v< state a 48.3 11",
    );
}

#[test]
fn who_goes_leaves_nothing_behind() {
    // The world looks at all lists after each of these.
    quiet(
        "a registers; a at 48 11; b registers; b at 48.0001 11
         v connects slim; v views 47 10 49 12; v follows a b c; w connects; w views 47 10 49 12
         a nears 1000; b follows a
         v hangs; a breaks; w leaves 1000; b hangs; +1s
         c registers; c at 48 11; d registers; d at 48 11.1; d nears 10; d hangs; +1s
         u connects; u views 47 10 49 12
         u< connected, watching 1 of 1, peer c 48 11 (-1000ms)",
    );
}

#[test]
fn identities_are_forgotten_once_hundreds_of_others_have_been_seen() {
    let mut play = quiet(
        "set vehicles.coalesce_ms = 0
         set rate_limits.location_update = { burst = 0, per_ms = 1 }
         a registers; a at 48 11; b registers; b at 50 11
         v connects slim; v views 47 10 49 12; +1s
         v< connected, watching 1 of 1, named a, state a 48 11 (-1000ms), complete 1
         a at 50 11
         v< gone a
         +1s; a at 48 11
         v< state a 48 11",
    );
    for number in 0..520 {
        play.run(&format!("b hangs; b registers as b{number}; b at 48.5 11; +20ms"));
    }
    play.run("forget\n b hangs; a at 48.1 11; +1s\n v< gone b519, state a 48.1 11 (-1000ms)");
    play.run("a at 50 11; +1s; a at 48 11; +1s\n v< gone a, named a, state a 48 11 (-1000ms)");
}
