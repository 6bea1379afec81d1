//! A host that ends in order.

use crate::script::{Play, check};

#[test]
fn everything_is_said_before_it_goes() {
    let mut play = Play::default();
    play.run(
        "shards 2
         hosts 2
         a@A registers; c@A1 registers; b@B registers
         forget
         leases< A, B
         +200ms",
    );
    drop(play.world().redis().published("v2v:gateways"));
    play.run(
        "A stops
         a c< closed 1012 shutdown
         b< offline a (-200ms), offline c (-200ms)
         presence< b on B
         B lists b",
    );
    play.run("a hangs up; c hangs up\n +1ms");
    assert!(play.world().has_stopped(0));
    let beats = play.world().redis().published("v2v:gateways");
    let leaving = beats.iter().filter(|beat| String::from_utf8_lossy(beat).contains(r#""leaving":true"#)).count();
    assert_eq!(leaving, 2, "each worker says that it leaves");
    play.run(
        "leases< B
         A dies
         +60s
                  count ringroad_backplane_swept_total on B = 0
         count v2v_ws_process_count on B = 1",
    );
}

#[test]
fn a_server_that_does_not_answer_holds_it_up_for_a_bounded_time() {
    for away in ["redis down", "redis freezes", "A is cut off", "A is cut off\n+10s", "redis down\n+10s"] {
        let mut play = Play::default();
        play.run("set rate_limits.emergency_alert = { burst = 0, per_ms = 1 }");
        play.run("hosts 2\n a@A registers; b@B registers\n forget").run(away);
        play.run("a alerts\n a hangs up\n A stops\n +3s");
        assert!(play.world().has_stopped(0), "{away:?}");
    }
}

#[test]
fn what_waits_for_a_bucket_is_not_lost_when_it_stops() {
    check(
        "hosts 2
         A is 10ms away
         +1s
         a@A registers; b@B registers
         +1s
         forget
         a alerts
         A stops
         +1s
         b< offline a (-1000ms), alert a",
    );
}

#[test]
fn the_next_run_of_a_node_that_went_in_order_begins_clean() {
    check(
        "hosts 2
         a@A registers; b@B registers
         A stops
         +3s
         A dies
         A starts
         forget
         +1s
         all list b
         a2@A registers as a
         b< online a
         +30s
         all list a, b
         count ringroad_backplane_node_restarts_total on B = 1
         count ringroad_backplane_swept_total = 0",
    );
}
