//! Who is there, on every host.

use crate::script::{Play, check};

#[test]
fn a_vehicle_that_comes_and_goes_is_heard_of_on_every_host_once() {
    check(
        "shards 2
         hosts 3
         x@A connects; y@B1 connects; z@C connects
         a@A1 registers
         x y z< connected, online a
         presence< a on A
         all list a
         broadcast< A: online a
         a hangs up
         x y z< offline a
         presence< nothing
         all list nothing
         broadcast< A: offline a",
    );
}

#[test]
fn a_vehicle_that_falls_silent_times_out_everywhere() {
    check(
        "hosts 2
         y@B registers
         a@A registers
         forget
         +24s
         y heartbeats
         +24s
         y heartbeats
         +12s
         y< heartbeat_ack, heartbeat_ack, timeout a (-60000ms)
         presence< y on B
         all list y",
    );
}

#[test]
fn whatever_clients_may_hear_the_hosts_know() {
    for (scope, online, offline) in
        [("all", ", online a", "offline a"), ("nearby", "", "nothing"), ("none", "", "nothing")]
    {
        Play::default().run(&format!("set presence.scope = '{scope}'")).run(
            &"hosts 2
              y@B connects
              a@A registers
              y< connectedONLINE
              presence< a on A
              all list a
              a hangs up
              y< OFFLINE
              all list nothing"
                .replace("ONLINE", online)
                .replace("OFFLINE", offline),
        );
    }
}

#[test]
fn what_is_not_whitelisted_existing_servers_do_not_hear_but_gateways_do() {
    check(
        "set redis.publish_whitelist = ['emergency_alert']
         hosts 2
         y@B connects
         a@A registers
         y< connected, online a
         a hangs up
         y< offline a
         broadcast< nothing",
    );
}

#[test]
fn nearby_scope_tells_of_neighbours_on_another_host() {
    check(
        "set presence.scope = 'nearby'
         set vehicles.nearby_list_ms = 0
         hosts 2
         a@A registers; b@B registers; a at 48 11; b at 48 11
         +50ms
         a< connected, registered a, online b, enter b 0, peer b 48 11 (-50ms)
         b hangs up
         a< offline b (-50ms), exit b",
    );
}

#[test]
fn a_host_that_comes_later_learns_who_is_there() {
    check(
        "hosts 2
         B dies
         a@A registers
         forget
         B starts
         y@B connects
         +1s
         B lists a
         y< connected",
    );
}

#[test]
fn who_comes_and_goes_while_redis_is_away_is_told_when_it_is_back() {
    for (away, back) in [
        ("redis down", "redis up"),
        ("redis freezes", "redis thaws"),
        ("A is cut off", "A is back"),
        ("B is cut off", "B is back"),
    ] {
        Play::default().run(
            &"hosts 2
              x@A connects; y@B connects; a@A registers; b@B registers; c@A registers
              forget
              AWAY
              +20s
              a hangs up; d@A registers
              b2@B registers as b; b hangs up
              c hangs up; c2@B registers as c
              BACK
              +15s
              presence< b on B, c on B, d on A
              all list b, c, d"
                .replace("AWAY", away)
                .replace("BACK", back),
        );
    }
}

#[test]
fn clients_are_told_what_they_missed_while_redis_was_away() {
    check(
        "hosts 2
         x@A connects; y@B connects; a@A registers
         forget
         redis down
         +5s
         a hangs up; d@A registers
         x< offline a (-5000ms), online d
         y< nothing
         redis up
         +15s
         x< nothing
         y< online d, offline a (-9294ms)",
    );
}

#[test]
fn a_prefix_separates_what_shares_a_redis() {
    let mut play = Play::default();
    play.run("set redis.channel_prefix = 'test:'\n hosts 2\n a@A registers; y@B connects\n all list a");
    assert_eq!(play.world().redis().keys(), ["test:v2v:node:A", "test:v2v:node:B", "test:v2v:presence"]);
    assert_eq!(play.world().redis().listeners("test:v2v:broadcast"), 2);
    assert_eq!(play.world().redis().listeners("v2v:broadcast"), 0);
}

#[test]
fn nothing_is_said_that_a_server_would_not_take() {
    for split in ["0", "1", "13"] {
        let mut play = Play::default();
        play.run(&format!(
            "set rate_limits.emergency_alert = {{ burst = 5, per_ms = 1000 }}
             shards 2
             hosts 2
             link split {split}
             a@A registers; b@B1 registers; a at 48 11; b at 48 11
             a tells b hello; a alerts; b requests a; a approves b
             +40s
             a hangs up
             B dies
             +20s
             all list nothing
             A stops
             +5s"
        ));
        assert_eq!(play.world().redis().refused, [""; 0]);
        assert!(play.world().has_stopped(0));
    }
}
