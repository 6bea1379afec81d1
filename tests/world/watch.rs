//! What connections watch, and what they are sent of it: `docs/PROTOCOL.md`, sections 10 and 12.
//!
//! A degree of latitude is 111.2 km at 48°, so 0.0001° is 11 m.

mod answers;
mod crowds;
mod edges;
mod large;
mod pace;
mod who;

use crate::script::{Play, check};

/// Plays a script in a world without events that nobody asked for.
#[track_caller]
fn quiet(script: &str) -> Play {
    let mut play = Play::default();
    play.run("set presence.scope = 'none'\n set vehicles.nearby_list_ms = 0").run(script);
    play
}

#[test]
fn a_viewer_gets_a_snapshot_and_then_changes() {
    check(
        "set presence.scope = 'none'
         a registers; b registers; c registers
         a at 48 11; b at 48.001 11; c at 52 11
         v connects slim
         v< connected
         v views 47 10 49 12
         v< watching 2 of 1, named a, named b, state a 48 11, state b 48.001 11, complete 1
         +1s
         b at 48.002 11 speed=3
         c at 52.001 11
         v< state b 48.002 11 speed=3
         b at 49.1 11; +200ms
         v< gone b
         +1s
         b at 48.5 11
         v< state b 48.5 11
         +1s
         a hangs
         v< gone a
         +1s
         v views
         v< watching 0 of 2, gone b, complete 2",
    );
}

#[test]
fn in_json_a_viewer_sees_the_same() {
    check(
        "set presence.scope = 'none'
         a registers; b registers
         a at 48 11; b at 48.001 11
         v connects
         v< connected
         v views 47 10 49 12
         v< watching 2 of 1, peer a 48 11, peer b 48.001 11
         +1s
         b at 49.1 11
         v< peer_gone b",
    );
}

#[test]
fn a_vehicle_in_slim_is_sent_its_neighbours() {
    check(
        "set presence.scope = 'none'
         set vehicles.nearby_list_ms = 0
         a registers; a at 48 11
         s connects slim
         s registers
         s reports 48.001 11 speed=5
         s< connected, registered s, enter a 111, named a, state a 48 11
         a< connected, registered a, enter s 111, peer s 48.001 11 speed=5
         +1s
         a at 48.0001 11
         s< state a 48.0001 11
         +1s
         a at 48.02 11
         s< exit a, gone a
         +1s
         a at 48.0001 11
         s< enter a 100, state a 48.0001 11",
    );
}

#[test]
fn who_follows_whom_is_kept_while_lists_change_and_followers_leave() {
    check(
        "set presence.scope = 'none'
         set vehicles.nearby_radius_m = 20
         a registers; b registers; c registers
         u connects; v connects; w connects; x connects
         u follows a b c; v follows a b; w follows b c; x follows a b c
         at once: a at 48 11; b at 48.1 11; c at 48.2 11
         u< connected, watching 0 of 1, peer a 48 11, peer b 48.1 11, peer c 48.2 11
         v< connected, watching 0 of 1, peer a 48 11, peer b 48.1 11
         w< connected, watching 0 of 1, peer b 48.1 11, peer c 48.2 11
         x< connected, watching 0 of 1, peer a 48 11, peer b 48.1 11, peer c 48.2 11
         v hangs
         x follows c
         u follows b
         +1s
         x< watching 1 of 2, peer_gone a, peer_gone b
         u< watching 1 of 2, peer_gone a, peer_gone c
         at once: a at 48.01 11; b at 48.11 11; c at 48.21 11
         u< peer b 48.11 11
         w< peer b 48.11 11, peer c 48.21 11
         x< peer c 48.21 11
         x follows; w hangs
         +1s
         x< watching 0 of 3, peer_gone c
         at once: b at 48.12 11; c at 48.22 11
         u< peer b 48.12 11
         x< nothing",
    );
}

// ---- What adds up, and what takes the place of what.

#[test]
fn area_and_list_add_up() {
    quiet(
        "a registers; a at 48 11; b registers; b at 52 11; c registers; c at 48.1 11
         v connects slim; v views 47 10 49 12; +1s
         v< connected, watching 2 of 1, named a, named c, state a 48 11 (-1000ms), state c 48.1 11 (-1000ms), complete 1
         v follows a b
         v< watching 3 of 2, named b, state b 52 11 (-1000ms), complete 2
         +1s; a at 48.2 11
         v< state a 48.2 11
         +1s; a at 50 11
         v< state a 50 11
         +1s; c at 50 11
         v< gone c
         +1s; v views
         v< watching 2 of 3, complete 3
         +1s; v views 51 10 53 12
         v< watching 2 of 4, complete 4
         +1s; v follows
         v< watching 1 of 5, gone a, complete 5",
    );
}

#[test]
fn view_and_near_take_each_others_place() {
    quiet(
        "v registers; v at 48 11
         a registers; a at 48.01 11
         b registers; b at 52 11
         v< connected, registered v
         v views 51 10 53 12
         v< watching 1 of 1, peer b 52 11
         +1s; v nears 2000
         v< watching 1 of 2, peer_gone b, peer a 48.01 11 (-1000ms)
         +1s; v views
         v< watching 0 of 3, peer_gone a
         +1s; v nears 2000; +1s
         v< watching 1 of 4, peer a 48.01 11 (-4000ms)
         v views 51 10 53 12
         v< watching 1 of 5, peer_gone a, peer b 52 11 (-4000ms)
         +1s; v nears
         v< watching 0 of 6, peer_gone b",
    );
}

#[test]
fn a_new_view_is_told_only_what_is_new_in_it() {
    quiet(
        "a registers; a at 48 11; b registers; b at 48 12; c registers; c at 48 13
         v connects slim; v views 47 10.5 49 12.5
         v< connected, watching 2 of 1, named a, named b, state a 48 11, state b 48 12, complete 1
         +1s; v views 47 11.5 49 13.5
         v< watching 2 of 2, named c, gone a, state c 48 13 (-1000ms), complete 2
         +1s; v views 47 10.5 49 13.5
         v< watching 3 of 3, state a 48 11 (-2000ms), complete 3
         +1s; v views 47 10.5 49 13.5
         v< watching 3 of 4, complete 4
         +1s; v connects; v views 47 10.5 49 12.5
         v< connected, watching 2 of 1, peer a 48 11 (-4000ms), peer b 48 12 (-4000ms)
         +1s; v views 47 11.5 49 13.5
         v< watching 2 of 2, peer_gone a, peer c 48 13 (-5000ms)",
    );
}

#[test]
fn a_vehicle_that_watches_is_not_sent_its_neighbours_and_hears_of_them_all_the_same() {
    quiet(
        "set vehicles.coalesce_ms = 0
         a registers; a at 48 11; b registers; b at 52 11
         s connects slim; s registers; s reports 48.001 11; +1s
         s< connected, registered s, enter a 111, named a, state a 48 11 (-1000ms)
         s views 51 10 53 12
         s< watching 1 of 1, named b, gone a, state b 52 11 (-1000ms), complete 1
         +1s; a at 48.0001 11
         s< nothing
         a at 48.0102 11; +200ms; a at 48.0001 11
         s< exit a, enter a 100
         +1s; s views
         s< watching 1 of 2, gone b, state a 48.0001 11 (-1000ms), complete 2
         +1s; a at 48.0002 11
         s< state a 48.0002 11
         +1s; s views 47 10 49 12; +20ms
         s< watching 1 of 3, state a 48.0002 11 (-1020ms), complete 3
         +1s; s views
         s< watching 1 of 4, state a 48.0002 11 (-2020ms), complete 4",
    );
    quiet(
        "a registers; a at 48 11; b registers; b at 52 11
         j registers; j at 48.001 11; +1s
         j< connected, registered j, enter a 111
         a at 48.0001 11
         j< peer a 48.0001 11
         +1s; j views 51 10 53 12
         j< watching 1 of 1, peer b 52 11 (-2000ms)
         +1s; a at 48 11
         j< nothing
         j views
         j< watching 1 of 2, peer_gone b
         +200ms; a at 48.0001 11
         j< peer a 48.0001 11",
    );
}

#[test]
fn a_view_that_is_replaced_before_it_was_told_leaves_no_trace() {
    quiet(
        "set vehicles.flush_ms = 20
         a registers; a at 48 11; b registers; b at 52 11
         v connects slim; v views 0 0 1 1 maxHz=1
         v< connected, watching 0 of 1, complete 1
         v views 47 10 49 12 maxHz=1; v views 51 10 53 12 maxHz=1; +1s
         v< watching 1 of 2, watching 1 of 3, named b, state b 52 11 (-1000ms), complete 3
         v views 47 10 53 12 maxHz=1; v follows a; v views 51 10 53 12; v follows; +1s
         v< watching 2 of 4, watching 2 of 5, watching 2 of 6, watching 1 of 7, complete 7",
    );
}
