//! Hosts that die, and those that were only taken for dead.

use crate::proximity::PLAIN;
use crate::script::Play;

/// Nobody falls silent.
const LIVELY: &str = "set vehicles.heartbeat_timeout_ms = 3600000
    set vehicles.ping_ms = 3600000
    set vehicles.nearby_list_ms = 0
    ";

#[track_caller]
fn lively(script: &str) {
    Play::default().run(LIVELY).run(script);
}

#[test]
fn the_vehicles_of_a_dead_host_are_announced_once_by_one_of_the_others() {
    for shards in [1, 2] {
        lively(&format!(
            "shards {shards}
             hosts 3
             a@A registers; a2@A registers; b@B registers; c@C registers; x@B connects; y@C connects
             +1s
             forget
             A dies
             +8s
             b c x y< nothing
             presence< a on A, a2 on A, b on B, c on C
             +3s
             b c x y< offline a2 (-11000ms), offline a (-11000ms)
             presence< b on B, c on C
             all list b, c
             leases< B, C
             count ringroad_backplane_swept_total = 2
             +60s
             b c x y< nothing
             all list b, c
             count ringroad_backplane_swept_total = 2
             count v2v_ws_process_count on B = 2"
        ));
    }
}

#[test]
fn several_hosts_that_die_together_are_swept_together() {
    lively(
        "hosts 4
         a@A registers; b@B registers; c@C registers; d@D registers
         +1s
         forget
         A dies; B dies; C dies
         +13s
         presence< d on D
         D lists d
         leases< D
         count ringroad_backplane_swept_total = 3",
    );
}

#[test]
fn who_has_moved_to_another_host_is_not_swept_with_its_former_one() {
    lively(
        "hosts 2
         a@A registers; b@A registers
         A dies
         a2@B registers as a
         x@B connects
         forget
         +15s
         x a2< offline b (-15000ms)
         presence< a on B
         B lists a
         a2 heartbeats
         a2< heartbeat_ack",
    );
}

#[test]
fn a_node_that_starts_again_at_once_leaves_no_ghosts() {
    lively(
        "shards 2
         hosts 2
         a@A registers; b@B registers; c@A1 registers; y@B connects
         +1s
         forget
         A dies
         A starts
         x@A connects
         c2@A registers as c
         +1s
         y< offline c (-1000ms), offline a (-1000ms), online c
         x< connected, online c
         presence< b on B, c on A
         all list b, c
         forget
         +60s
         x y b c2< nothing
         count ringroad_backplane_node_restarts_total on B = 1",
    );
}

#[test]
fn a_node_that_starts_under_another_name_leaves_no_ghosts_either() {
    lively(
        "hosts 2
         a@A registers; b@B registers; y@B connects
         +1s
         forget
         A dies
         A starts as A2
         a2@A registers as a
         y< online a
         +15s
         y< nothing
         presence< a on A2, b on B
         all list a, b
         leases< A2, B",
    );
}

#[test]
fn a_host_that_stood_still_for_longer_than_its_lease_says_at_once_that_it_is_there() {
    Play::default().run(PLAIN).run(LIVELY.trim_end_matches("set vehicles.nearby_list_ms = 0\n    ")).run(
        "shards 2
         hosts 3
         c@B0 registers; c at 48.1696235 11.2401803
         +17s
         a@A1 registers; a at 48.1679475 11.2345837
         forget
         A sleeps
         +15s
         c< exit a
         presence< c on B
         B lists c
         A wakes
         +20ms
         c< enter a 456, peer a 48.1679475 11.2345837 (-15020ms)
         presence< a on A, c on B
         all list a, c
         count ringroad_backplane_swept_total = 1",
    );
}

#[test]
fn a_host_that_only_lost_redis_comes_back_with_everything() {
    lively(
        "shards 2
         hosts 2
         a@A registers; c@A1 registers; b@B registers; x@A connects; y@B connects
         +1s
         forget
         A is cut off
         +20s
         x< nothing
         y< offline c (-20000ms), offline a (-20000ms)
         A lists a, b, c
         B lists b
         a at 48 11; b at 48 11
         A is back
         +2s
         x< nothing
         y< online c, online a
         presence< a on A, b on B, c on A
         all list a, b, c",
    );
}

#[test]
fn nobody_is_announced_as_gone_because_redis_has_lost_its_memory() {
    lively(
        "shards 2
         hosts 3
         a@A registers; b@B1 registers; c@C registers; x@A connects; y@B connects; z@C connects
         +7s
         forget
         redis empties
         +60s
         x y z< nothing
         presence< a on A, b on B, c on C
         all list a, b, c
         leases< A, B, C
         a tells b hello
         b< a: \"hello\"
         count ringroad_backplane_swept_total = 0",
    );
}

#[test]
fn nobody_is_announced_as_gone_because_redis_was_away() {
    for (away, back) in [("redis down", "redis up"), ("redis freezes", "redis thaws")] {
        for pause in ["+5s", "+11s", "+60s"] {
            lively(&format!(
                "hosts 3
                 a@A registers; b@B registers; c@C registers; y@B connects
                 +1s
                 forget
                 {away}
                 {pause}
                 {back}
                 +30s
                 y< nothing
                 presence< a on A, b on B, c on C
                 all list a, b, c
                 count ringroad_backplane_swept_total = 0"
            ));
        }
    }
}

#[test]
fn who_dies_while_redis_is_away_is_swept_a_lease_after_it_is_back() {
    lively(
        "hosts 2
         a@A registers; b@B registers; y@B connects
         +1s
         forget
         redis down
         +1s
         A dies
         +30s
         y< nothing
         redis up
         +9s
         y< nothing
         +4s
         y< offline a (-12768ms)
         presence< b on B
         B lists b",
    );
}

#[test]
fn entries_of_a_node_that_nobody_has_ever_heard_are_swept_too() {
    lively(
        r#"hosts 2
           redis writes z {"driverName":"Zoe","connectedAt":5,"node":"Z","status":"online","lastSeen":5}
           b@B registers; y@B connects
           forget
           +1s
           all list b, z
           +45s
           presence< b on B
           all list b"#,
    );
}

#[test]
fn two_nodes_of_one_name_do_not_sweep_each_other_to_and_fro() {
    // A mistake of the operator, which the log shows.
    let mut play = Play::default();
    play.run(LIVELY).run(
        "hosts 3
         B dies
         +1s
         B starts as A
         a@A registers; b@B registers; y@C connects
         +1s
         forget",
    );
    play.run("+60s");
    let told = play.heard("y");
    assert!(told.len() < 60, "{told:?}");
}
