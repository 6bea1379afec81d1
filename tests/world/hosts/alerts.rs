//! No alert is lost, and none comes twice.

use crate::script::Play;

/// Alerts as fast as one likes, and no presence.
const ALERTS: &str = "set presence.scope = 'none'
    set vehicles.heartbeat_timeout_ms = 3600000
    set vehicles.ping_ms = 3600000
    set rate_limits.emergency_alert = { burst = 0, per_ms = 1 }
    ";

#[track_caller]
fn alerts(script: &str) {
    Play::default().run(ALERTS).run(script);
}

#[test]
fn an_alert_reaches_every_client_of_every_host_once() {
    alerts(
        "shards 2
         hosts 3
         a@A registers; b@A1 connects; c@B connects; d@B1 connects; e@C connects; f@C1 registers
         forget
         a alerts
         a b c d e f< alert a
         f alerts
         a b c d e f< alert f
         broadcast< A: alert a, C: alert f
         +60s
         a b c d e f< nothing
         broadcast< nothing
         count v2v_pubsub_replay_skipped = 0",
    );
}

/// Who is away, and how it comes back.
const OUTAGES: [(&str, &str); 7] = [
    ("redis down", "redis up"),
    ("redis freezes", "redis thaws"),
    ("A is cut off", "A is back"),
    ("B is cut off", "B is back"),
    ("A is cut off\nB is cut off", "A is back\nB is back"),
    ("A is cut off\nB is cut off", "B is back\n+5s\nA is back"),
    ("A is cut off\nB is cut off", "A is back\n+5s\nB is back"),
];

#[test]
fn what_is_raised_while_redis_is_away_comes_once_and_in_order_when_it_is_back() {
    for (away, back) in OUTAGES {
        for (before, after) in [("+10ms", "+10ms"), ("+2s", "+10ms"), ("+10ms", "+20s"), ("+20s", "+20s")] {
            let mut play = Play::default();
            play.run(ALERTS).run(
                "shards 2
                 hosts 2
                 a@A1 registers; b@B registers; c@A registers; x@A connects; y@B1 connects
                 forget",
            );
            play.run(&format!("{away}\n{before}\n a alerts; b alerts; c alerts; a alerts\n {after}"));
            let mut heard = [play.heard("x"), play.heard("y")];
            play.run(&format!("{back}\n+5s"));
            for (heard, name) in heard.iter_mut().zip(["x", "y"]) {
                heard.extend(play.heard(name));
                let of = |sender: &str| heard.iter().filter(|event| **event == format!("alert {sender}")).count();
                assert_eq!([of("a"), of("b"), of("c")], [2, 1, 1], "{away:?} {before} {after} {back:?}: {heard:?}");
                assert_eq!(heard.len(), 4);
            }
            play.run("count ringroad_backplane_alerts_lost_total = 0");
        }
    }
}

#[test]
fn what_was_lost_on_its_way_is_repeated_with_the_next_beat() {
    alerts(
        "hosts 3
         a@A registers; b@B registers; c@C registers
         forget
         redis loses every 1 to B
         a alerts
         redis loses every 0 to B
         a c< alert a
         b< nothing
         +1s
         b< alert a
         +60s
         a b c< nothing
         count ringroad_backplane_alert_gaps_total on B = 1
         count ringroad_backplane_alert_gaps_total on C = 0
         count ringroad_backplane_alerts_repeated_total on A = 1
         count ringroad_backplane_alerts_lost_total = 0
         count v2v_pubsub_replay_skipped = 0",
    );
}

#[test]
fn a_gap_is_filled_whatever_of_the_repetition_is_lost_as_well() {
    for every in 2..5 {
        let mut play = Play::default();
        play.run(ALERTS).run("hosts 2\n a@A registers; b@B registers\n forget");
        play.run(&format!("redis loses every {every} to B"));
        for _ in 0..20 {
            play.run("a alerts\n+100ms");
        }
        play.run("+20s\n redis loses every 0 to B\n +60s");
        assert_eq!(play.heard("b"), ["alert a"; 20], "every {every}");
        play.run("count ringroad_backplane_alerts_lost_total = 0");
    }
}

#[test]
fn the_newest_are_kept_and_the_others_are_counted() {
    alerts(
        "set redis.retry_events_max = 3
         hosts 2
         a@A registers; b@B registers
         forget
         A is cut off
         +10s
         a alerts; a alerts; a alerts; a alerts; a alerts
         a< alert a, alert a, alert a, alert a, alert a
         count ringroad_backplane_kept_for_retry on A = 3
         count ringroad_backplane_dropped_total{alert_overflow} on A = 2
         A is back
         +3s
         b< alert a, alert a, alert a
         count ringroad_backplane_kept_for_retry on A = 0
         count ringroad_backplane_alerts_lost_total on B = 2",
    );
}

#[test]
fn a_host_hears_what_is_raised_from_its_start_on() {
    alerts(
        "hosts 2
         B dies
         a@A registers
         a alerts
         +1s
         B starts
         y@B connects
         +10s
         y< connected
         a alerts
         y< alert a",
    );
}

#[test]
fn what_is_raised_between_start_and_connection_is_made_good() {
    alerts(
        "hosts 2
         B dies
         a@A registers
         a alerts
         +1s
         B is cut off
         B starts
         y@B connects
         +2s
         a alerts
         +8s
         y< connected
         B is back
         +3s
         y< alert a",
    );
}

#[test]
fn another_run_of_a_node_begins_anew_with_its_numbers() {
    alerts(
        "hosts 2
         a@A registers; b@B registers
         a alerts; a alerts
         forget
         A dies
         A starts
         a2@A registers as a
         a2 alerts
         b< alert a
         +60s
         b< nothing
         count ringroad_backplane_node_restarts_total on B = 1
         count ringroad_backplane_alerts_lost_total on B = 0",
    );
}

#[test]
fn an_alert_outlives_its_host() {
    alerts(
        "hosts 2
         a@A registers; b@B registers
         forget
         a alerts
         A dies
         b< alert a",
    );
}

#[test]
fn a_host_that_stands_still_hears_it_when_it_goes_on() {
    alerts(
        "hosts 2
         a@A registers; b@B registers
         forget
         B sleeps
         a alerts
         +30s
         b< nothing
         B wakes
         +1s
         b< alert a",
    );
}

#[test]
fn what_is_too_long_or_not_whitelisted_stays_on_its_host() {
    let long = "x".repeat(900);
    Play::default().run(ALERTS).run(&format!(
        r#"set redis.payload_bytes_max = 1024
           hosts 2
           a@A registers; b@B registers
           forget
           a sends emergency_alert {{"senderId":$a,"vehicleInfo":{{"note":"{long}"}}}}
           b< nothing
           broadcast< nothing
           count ringroad_backplane_dropped_total{{too_large}} on A = 1
           forget
           a sends emergency_alert {{"senderId":$a,"vehicleInfo":{{"note":"short"}}}}
           a b< alert a {{"note":"short"}}"#
    ));
    alerts(
        "set redis.publish_whitelist = ['radio_text']
         hosts 2
         a@A registers; b@B registers
         forget
         a alerts
         a< alert a
         +5s
         b< nothing
         broadcast< nothing
         count ringroad_backplane_dropped_total{not_whitelisted} on A = 1",
    );
}
