//! Rates that all hosts share.

use crate::script::Play;

const QUIET: &str = "set presence.scope = 'none'
    set vehicles.nearby_list_ms = 0
    set vehicles.heartbeat_timeout_ms = 3600000
    set vehicles.ping_ms = 3600000
    ";

#[track_caller]
fn quiet(script: &str) {
    Play::default().run(QUIET).run(script);
}

#[test]
fn a_vehicle_that_changes_hosts_takes_its_empty_bucket_along() {
    quiet(
        "hosts 2
         a@A registers; x@A connects
         a alerts
         forget
         +4s
         a2@B registers as a
         forget
         a2 alerts
         a2< error rate_limited retry 6000
         x< nothing
         # And may try again when it was told to.
         +6s
         a2 alerts
         a2 x< alert a
         count ringroad_shared_limit_redis_total = 3
         count ringroad_shared_limit_local_total = 0",
    );
}

#[test]
fn what_is_not_shared_is_every_hosts_own() {
    quiet(
        "set redis.shared_limits = []
         hosts 2
         a@A registers; x@A connects
         a alerts
         a2@B registers as a
         forget
         a2 alerts
         a2 x< alert a
         count ringroad_shared_limit_redis_total = 0
         count ringroad_shared_limit_local_total = 0",
    );
    // Any of them may be shared.
    quiet(
        r#"set redis.shared_limits = ["send_message"]
           hosts 2
           a@A registers; b@B registers
           forget
           a tells b 1; a tells b 2; a tells b 3
           a2@B registers as a
           forget
           a2 tells b 4
           a2< error rate_limited retry 334
           b< nothing"#,
    );
}

#[test]
fn a_bucket_that_does_not_answer_is_not_waited_for_longer_than_50_ms() {
    quiet(
        "hosts 2
         a@A registers; b@A registers; y@B connects
         forget
         redis freezes
         a alerts
         +49ms
         a< nothing
         +1ms
         a b< alert a
         # Redis is late, so nobody asks.
         +1ms
         b alerts
         a b< alert b
         a alerts
         a< error rate_limited retry 9949
         count ringroad_shared_limit_local_total on A = 2
         redis thaws
         +1s
         y< alert a, alert b
         count ringroad_shared_limit_redis_total on A = 0",
    );
}

#[test]
fn a_command_that_waits_for_its_bucket_when_the_link_breaks_is_carried_out() {
    for (breaks, waits) in [("redis down", ""), ("A is cut off", "+50ms")] {
        quiet(&format!(
            "hosts 2
             A is 10ms away
             a@A registers; b@A registers
             +1s
             forget
             a alerts
             +1ms
             a< nothing
             {breaks}
             +10ms
             {waits}
             a b< alert a
             +5s
             a b< nothing"
        ));
    }
}

#[test]
fn a_command_whose_client_is_replaced_while_it_waits_happens_once() {
    quiet(
        "hosts 2
         A is 10ms away
         a@A registers; x@A connects
         +1s
         forget
         a alerts
         a2@A registers as a
         +1s
         x< alert a
         a< closed 4001 replaced
         a2< connected, registered a, alert a
         +10s
         x a2< nothing",
    );
}

#[test]
fn something_else_in_the_place_of_a_bucket_refuses_nobody() {
    let mut play = Play::default();
    play.run(QUIET).run("hosts 2\n a@A registers; b@B registers\n forget");
    play.world().redis().set_field("v2v:rl:veh-a:emergency_alert", "fullAt", Some("nonsense"));
    play.world().redis().set_text("v2v:rl:veh-b:emergency_alert", "not a hash");
    play.run(
        "a alerts; b alerts
         a b< alert a, alert b
         count ringroad_shared_limit_redis_total on A = 1
         count ringroad_shared_limit_local_total on B = 1",
    );
}
