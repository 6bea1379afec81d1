//! Who is near whom: enter, exit, positions, lists.

use crate::script::{Play, check};

/// Neither presence nor lists, every update at once.
pub const PLAIN: &str = "set presence.scope = 'none'
    set vehicles.nearby_list_ms = 0
    set vehicles.coalesce_ms = 0
    set vehicles.flush_ms = 0
    set rate_limits.location_update = { burst = 0, per_ms = 1000 }
    ";

#[track_caller]
fn plain(script: &str) {
    Play::default().run(PLAIN).run(script);
}

/// The same script with both vehicles on one shard, and on two.
#[track_caller]
fn on_one_shard_and_on_two(script: &str) {
    plain(&script.replace("@?", "@0"));
    plain(&format!("shards 2\n{}", script.replace("@?", "@1")));
}

#[test]
fn both_sides_are_told_of_enter_and_exit() {
    on_one_shard_and_on_two(
        "a@0 registers; b@? registers
         forget
         a at 48 11
         a b< nothing
         b at 48.001 11
         a< enter b 111, peer b 48.001 11
         b< enter a 111
         a at 48.0005 11
         a< nothing
         b< peer a 48.0005 11
         b at 48.02 11
         a< exit b
         b< exit a
         b at 48.03 11
         a b< nothing",
    );
}

#[test]
fn a_pair_enters_at_the_radius_and_exits_beyond_a_tenth_more() {
    // 48° north: 0.001° of latitude is 111.19 m, so 500 m are 0.0044967° and 550 m 0.0049464°.
    on_one_shard_and_on_two(
        "a@0 registers; b@? registers; a at 48 11; b at 48.01 11
         forget
         b at 48.0045 11
         a b< nothing
         b at 48.00449 11
         a< enter b 499, peer b 48.00449 11
         b< enter a 499
         b at 48.0046 11
         a b< nothing
         b at 48.00494 11
         a b< nothing
         b at 48.0044 11
         a< peer b 48.0044 11
         b< nothing
         b at 48.00495 11
         a< exit b
         b< exit a
         b at 48.0046 11
         a b< nothing",
    );
}

#[test]
fn the_exit_radius_is_at_least_twenty_metres_farther() {
    // 100 m are 0.000899°, 110 m 0.000989°, 120 m 0.001079°.
    on_one_shard_and_on_two(
        "set vehicles.nearby_radius_m = 100.0
         a@0 registers; b@? registers; a at 48 11; b at 48 11
         forget
         b at 48.00105 11
         a b< nothing
         b at 48.0011 11
         a< exit b
         b< exit a",
    );
}

#[test]
fn between_the_radii_positions_are_not_told_although_the_pair_stands() {
    on_one_shard_and_on_two(
        "a@0 registers; b@? registers; a at 48 11; b at 48.004 11
         forget
         b at 48.0047 11
         a< nothing
         a at 47.9999 11
         b< nothing
         a at 48.0003 11
         b< peer a 48.0003 11
         a< nothing",
    );
}

#[test]
fn whoever_leaves_is_told_of_as_an_exit_without_distance() {
    on_one_shard_and_on_two(
        "a@0 registers; b@? registers; c@0 registers; a at 48 11; b at 48 11; c at 48.02 11
         forget
         b hangs up
         a< exit b
         c< nothing",
    );
}

#[test]
fn a_timeout_is_an_exit_too() {
    on_one_shard_and_on_two(
        "a@0 registers; b@? registers; a at 48 11; b at 48 11
         +40s
         a heartbeats
         forget
         +20s
         b< ping, closed 4002 timeout
         a< exit b",
    );
}

#[test]
fn a_move_of_both_in_one_turn_is_judged_once() {
    plain(
        "a registers; b registers; a at 48 11; b at 48.02 11
         forget
         at once: a at 48.02 11; b at 48 11
         a b< nothing
         at once: a at 48.01 11; b at 48.0101 11
         a< enter b 11, peer b 48.0101 11
         b< enter a 11, peer a 48.01 11",
    );
}

#[test]
fn of_several_moves_in_one_turn_the_last_counts() {
    plain(
        "a registers; b registers; a at 48 11; b at 48.02 11
         forget
         at once: b at 48 11; b at 48.03 11
         a b< nothing
         at once: b at 48.03 11; b at 48.001 11
         a< enter b 111, peer b 48.001 11
         b< enter a 111",
    );
}

#[test]
fn neighbours_meet_across_the_antimeridian_and_around_a_pole() {
    on_one_shard_and_on_two(
        "a@0 registers; b@? registers
         forget
         a at 0 179.999
         b at 0 -179.999
         a< enter b 223, peer b 0 -179.999
         b< enter a 223
         a at 0 180
         b< peer a 0 180
         b at 0 -180
         a< peer b 0 180
         a at 89.999 0
         a< exit b
         b< exit a
         b at 89.999 180
         a< enter b 223, peer b 89.999 180
         b< enter a 223",
    );
}

#[test]
fn a_vehicle_without_a_position_is_near_nobody() {
    on_one_shard_and_on_two(
        "a@0 registers; b@? registers
         forget
         a at 0 0
         +31s
         a b< ping
         b at 0 0
         a< enter b 0, peer b 0 0
         b< enter a 0",
    );
}

#[test]
fn updates_closer_than_150_ms_are_coalesced_and_the_newest_wins() {
    check(
        "set presence.scope = 'none'
         set vehicles.nearby_list_ms = 0
         a registers; b registers; b at 48 11
         a at 48 11
         forget
         +10ms
         a at 48.0001 11
         +10ms
         a at 48.0002 11
         +10ms
         a at 48.0003 11
         +119ms
         b< nothing
         +1ms
         b< peer a 48.0003 11 (-120ms)
         count v2v_location_updates_received = 5
         count v2v_location_updates_processed = 3
         count v2v_location_updates_coalesced = 2
         +149ms
         a at 48.0004 11
         b< nothing
         +1ms
         b< peer a 48.0004 11 (-1ms)
         +150ms
         a at 48.0005 11
         b< peer a 48.0005 11",
    );
}

#[test]
fn a_gateway_whose_clock_is_set_back_takes_fixes_all_the_same() {
    // Without a time of the sender's, and with one that is now an hour in the future.
    for ts in ["", " ts=3600000"] {
        plain(
            &"a registers; b registers; b at 48 11; a at 48 11
              forget
              clock -3600000
              a at 48.0001 11TS
              b< peer a 48.0001 11
              count ringroad_location_updates_late_total = 0"
                .replace("TS", ts),
        );
    }
}

#[test]
fn a_late_fix_moves_nothing() {
    on_one_shard_and_on_two(
        "a@0 registers; b@? registers; b at 48 11; a at 48 11 ts=-1000
         forget
         a at 48.5 11 ts=-1001
         a b< nothing
         count ringroad_location_updates_late_total = 1
         a at 48.0001 11 ts=-1000
         b< peer a 48.0001 11 (-1000ms)",
    );
}

#[test]
fn a_clock_that_was_set_back_is_believed_after_ten_seconds() {
    plain(
        "a registers; b registers; b at 48 11; a at 48 11
         forget
         +9999ms
         a at 48.0001 11 ts=-3600000
         b< nothing
         +1ms
         a at 48.0002 11 ts=-3600000
         b< peer a 48.0002 11 (-3600000ms)
         a at 48.0003 11 ts=-3600001
         b< nothing",
    );
}

#[test]
fn a_clock_far_ahead_is_replaced_by_the_gateways() {
    plain(
        "a registers; b registers; b at 48 11; a at 48 11
         forget
         a at 48.0001 11 ts=60001
         b< peer a 48.0001 11
         a at 48.0002 11 ts=60000
         b< peer a 48.0002 11 (+60000ms)",
    );
}

#[test]
fn positions_to_one_connection_are_at_least_flush_ms_apart_and_the_newest_of_each() {
    check(
        "set presence.scope = 'none'
         set vehicles.nearby_list_ms = 0
         set vehicles.coalesce_ms = 0
         set vehicles.flush_ms = 20
         a registers; b registers; c registers; a at 48 11; b at 48 11; c at 48 11
         +1s
         forget
         b at 48.0001 11
         a< peer b 48.0001 11
         +5ms
         b at 48.0002 11
         c at 48.0001 11
         +5ms
         b at 48.0003 11
         a< nothing
         +10ms
         a< peer b 48.0003 11 (-10ms), peer c 48.0001 11 (-15ms)
         +19ms
         b at 48.0004 11
         a< nothing
         +1ms
         a< peer b 48.0004 11 (-1ms)",
    );
}

#[test]
fn the_busier_a_worker_is_the_longer_positions_wait_for_each_other() {
    check(
        "set presence.scope = 'none'
         set vehicles = { nearby_list_ms = 0, coalesce_ms = 0, flush_ms = 0, flush_busy_ms = 50 }
         a registers; b registers; c registers; d registers; e registers; f registers; g registers; h registers
         a at 48 11; b at 48 11; c at 48 11; d at 48 11; e at 48 11; f at 48 11; g at 48 11; h at 48 11
         +1s
         forget
         b at 48.0001 11
         a< peer b 48.0001 11
         +1ms
         c at 48.0002 11
         a< peer c 48.0002 11
         busy 100; +1s
         b at 48.0003 11; c at 48.0003 11; d at 48.0003 11; e at 48.0003 11; f at 48.0003 11
         a< peer b 48.0003 11, peer c 48.0003 11, peer d 48.0003 11, peer e 48.0003 11, peer f 48.0003 11
         +1ms
         g at 48.0004 11
         +48ms
         a< nothing
         h at 48.0005 11
         +1ms
         a< peer g 48.0004 11 (-49ms), peer h 48.0005 11 (-1ms)
         busy 0; +1ms
         b at 48.0006 11
         a< peer b 48.0006 11",
    );
}

/// A busy worker, and two vehicles of which `a` connects so and has used up what a connection has to spare.
fn busy(a_connects: &str, script: &str) {
    check(&format!(
        "set presence.scope = 'none'
         set vehicles = {{ nearby_list_ms = 0, coalesce_ms = 0, flush_ms = 0, flush_busy_ms = 50 }}
         set rate_limits.location_update = {{ burst = 0, per_ms = 1 }}
         a {a_connects}; a registers; b registers; a at 48 11; b at 48 11
         +1s
         busy 100; +1s
         b at 48 11; b at 48 11; b at 48 11; b at 48 11; b at 48 11
         forget
         {script}"
    ));
}

#[test]
fn what_was_replaced_while_a_busy_worker_let_it_wait_comes_with_the_newest() {
    for (a_connects, what) in [("connects", "peer"), ("connects slim", "state")] {
        busy(
            a_connects,
            &format!(
                "b at 48.0001 11; +10ms; b at 48.0002 11; +10ms; b at 48.0003 11; +10ms; b at 48.0004 11
                 a< nothing
                 +20ms
                 a< {what} b 48.0001 11 (-50ms), {what} b 48.0002 11 (-40ms), \
                    {what} b 48.0003 11 (-30ms), {what} b 48.0004 11 (-20ms)
                 count ringroad_state_conflated_total = 0"
            ),
        );
    }
}

#[test]
fn who_is_behind_by_many_moves_is_sent_the_newest_alone() {
    busy(
        "connects",
        "b at 48.0001 11; +5ms; b at 48.0002 11; +5ms; b at 48.0003 11; +5ms; b at 48.0004 11
         +5ms; b at 48.0005 11; +5ms; b at 48.0006 11; +5ms; b at 48.0007 11; +5ms; b at 48.0008 11
         a< nothing
         +15ms
         a< peer b 48.0008 11 (-15ms)
         count ringroad_state_conflated_total = 7",
    );
}

#[test]
fn of_what_was_replaced_nobody_is_sent_what_is_old() {
    busy(
        "connects",
        "a stalls 0
         b at 48.0001 11; +60ms; b at 48.0002 11; +151ms; b at 48.0003 11; +100ms; b at 48.0004 11
         a resumes
         a< peer b 48.0001 11 (-311ms), peer b 48.0003 11 (-100ms), peer b 48.0004 11",
    );
}

#[test]
fn an_update_that_overtakes_a_waiting_one_leaves_none_behind() {
    check(
        "hosts 1
         set presence.scope = 'none'
         set vehicles = { nearby_list_ms = 0, coalesce_ms = 100, flush_ms = 0 }
         a@A registers; b@A registers; a at 48 11; b at 48 11
         +1s
         forget
         a at 48.0001 11; +50ms; a at 48.0002 11
         b< peer a 48.0001 11 (-50ms)
         A sleeps
         a at 48.0003 11; +60ms
         A wakes
         b< peer a 48.0003 11
         +10ms; a at 48.0004 11; +1s
         b< peer a 48.0004 11 (-1000ms)",
    );
}

#[test]
fn the_list_comes_with_a_change_at_most_once_a_second_and_is_sorted_by_distance() {
    check(
        "set presence.scope = 'none'
         a registers; b registers; c registers; d registers
         a at 48 11
         +2s
         forget
         b at 48.002 11
         +1ms
         a< enter b 222, peer b 48.002 11 (-1ms), list(b 222)
         c at 48.001 11
         +998ms
         a< enter c 111, peer c 48.001 11 (-998ms)
         d at 48.0000044 11
         +1ms
         a< enter d 0, peer d 48.0000044 11 (-1ms)
         +1ms
         a< list(d 0, c 111, b 222)
         +5s
         a< nothing
         c hangs up
         +1ms
         a< exit c, list(d 0, b 222)",
    );
}

#[test]
fn the_list_comes_every_thirty_seconds_whatever_happens() {
    check(
        "set presence.scope = 'none'
         set vehicles.ping_ms = 1000000
         set vehicles.heartbeat_timeout_ms = 2000000
         a registers
         a at 48 11
         forget
         +29999ms
         a< nothing
         +469ms
         a< list()
         +10s
         b registers
         b at 48.001 11
         a< enter b 111, peer b 48.001 11
         +1ms
         a< list(b 111)
         +29999ms
         a< nothing
         +469ms
         a< list(b 111)
         +92s
         a< list(b 111), list(b 111), list(b 111)",
    );
}

#[test]
fn lists_can_be_turned_off() {
    check(
        "set presence.scope = 'none'
         set vehicles.nearby_list_ms = 0
         a registers; b registers; a at 48 11; b at 48 11
         a< connected, registered a, enter b 0, peer b 48 11
         +40s
         a< ping",
    );
}

#[test]
fn distances_in_lists_and_events_are_whole_metres_rounded_half_up() {
    // 0.0000135° of latitude are 1.501 m, 0.0000134° 1.490 m.
    plain(
        "a registers; b registers; c registers; a at 48 11
         forget
         b at 48.0000135 11
         c at 48.0000134 11
         a< enter b 2, peer b 48.0000135 11, enter c 1, peer c 48.0000134 11",
    );
}
