//! Rate limits and bounds.

use ringroad::config::Config;

use crate::script::{Play, check};

#[test]
fn five_positions_a_second() {
    check(
        "set presence.scope = 'none'
         a registers
         forget
         a at 1 1; a at 1 1; a at 1 1; a at 1 1; a at 1 1
         a< nothing
         a at 1 1
         a< error rate_limited retry 200
         +50ms
         a at 1 1
         a< error rate_limited retry 150
         +150ms
         a at 1 1
         a< nothing
         a at 1 1
         a< error rate_limited retry 200
         +5s
         a at 1 1; a at 1 1; a at 1 1; a at 1 1; a at 1 1
         a< nothing
         a at 1 1
         a< error rate_limited retry 200",
    );
}

#[test]
fn three_messages_a_second() {
    check(
        "set presence.scope = 'none'
         a registers; b registers
         forget
         a tells b 1; a tells b 2; a tells b 3; a tells b 4
         a< error rate_limited retry 334
         +334ms
         a tells b 5; a tells b 6
         a< error rate_limited retry 333
         b tells a 1
         a< b: \"1\"",
    );
}

#[test]
fn one_alert_in_ten_seconds() {
    check(
        "set presence.scope = 'none'
         a registers
         forget
         a alerts; a alerts
         a< alert a, error rate_limited retry 10000
         +9999ms
         a alerts
         a< error rate_limited retry 1
         +1ms
         a alerts
         a< alert a",
    );
}

#[test]
fn two_signals_a_second_from_one_bucket_and_candidates_from_another() {
    check(
        r#"set presence.scope = 'none'
           a registers; b registers
           forget
           a requests b
           a sends webrtc_offer {"targetId":$b}
           a sends webrtc_answer {"targetId":$b}
           a< error rate_limited retry 500
           a sends call_initiate {"callerId":$a,"calleeId":$b}
           a sends sync_disconnect {"fromVehicleId":$a,"toVehicleId":$b}
           a sends sync_end_call {"fromVehicleId":$a,"toVehicleId":$b}
           a sends connect_response {"requesterId":$b,"targetId":$a,"approved":true}
           a< error rate_limited retry 500, error rate_limited retry 500, error rate_limited retry 500, error rate_limited retry 500
           a sends ice_candidate {"targetId":$b}
           a< nothing"#,
    );
    let mut play = Play::default();
    play.run("set presence.scope = 'none'\n a registers; b registers\n forget");
    for _ in 0..50 {
        play.run(r#"a sends ice_candidate {"targetId":$b}"#);
    }
    play.run(
        r#"a< nothing
           a sends ice_candidate {"targetId":$b}
           a< error rate_limited retry 20"#,
    );
}

#[test]
fn a_new_connection_of_a_vehicle_has_the_buckets_that_the_former_one_emptied() {
    for shard in ["@0", "@1", "@2"] {
        for farewell in ["a hangs up", "a leaves 1000", ""] {
            let script = "set presence.scope = 'none'
                 shards 3
                 a@0 registers
                 a alerts
                 +1s
                 FAREWELL
                 a2@? registers as a
                 a2< connected, registered a
                 a2 alerts
                 a2< error rate_limited retry 9000
                 a3@1 registers as a
                 +8999ms
                 a3 alerts
                 a3< connected, registered a, error rate_limited retry 1
                 +1ms
                 a3 alerts
                 a3< alert a";
            check(&script.replace("@?", shard).replace("FAREWELL", farewell));
        }
    }
}

#[test]
fn the_event_that_was_refused_is_named() {
    let mut play = Play::default();
    play.run("set presence.scope = 'none'\n a registers\n a alerts\n forget\n a alerts");
    let client = play.client("a");
    let text = play.world().take(client).concat();
    let event: serde_json::Value = serde_json::from_str(&text).expect("one event");
    assert_eq!(event["data"]["details"], serde_json::json!({"event": "emergency_alert", "retryAfterMs": 10_000}));
}

#[test]
fn burst_zero_is_unlimited() {
    let mut play = Play::default();
    play.run(
        "set presence.scope = 'none'
         set rate_limits.location_update = { burst = 0, per_ms = 1000 }
         set rate_limits.emergency_alert = { burst = 0, per_ms = 1000 }
         set vehicles.coalesce_ms = 0
         a registers
         forget",
    );
    for _ in 0..200 {
        play.run("a at 1 1; a alerts");
    }
    assert_eq!(play.heard("a"), vec!["alert a"; 200]);
    play.run("count v2v_location_updates_processed = 200");
}

#[test]
fn what_is_wrong_costs_a_token_too() {
    check(
        r#"set presence.scope = 'none'
           a registers
           forget
           a sends emergency_alert {"senderId":7}
           a< error validation_error
           a alerts
           a< error rate_limited retry 10000"#,
    );
}

#[test]
fn connections_beyond_the_bound_are_refused_and_a_place_that_is_free_again_is_given() {
    check(
        "set limits.conns_per_worker_max = 2
         shards 2
         a@0 registers; b@0 registers
         c@0 opens
         c< 503 {\"error\":\"full\"}, closed
         d@1 connects
         d< connected
         b hangs up; c hangs up
         e@0 connects
         e< connected
         count ringroad_connections_closed_total{refused} = 1",
    );
}

#[test]
fn a_request_head_that_does_not_come_is_not_waited_for() {
    let mut play = Play::default();
    play.run("a opens; b opens; c connects\n c< connected\n +9999ms");
    let b = play.client("b");
    play.world().send_bytes(b, b"GET /v2v HTTP/1.1\r\nHost: s");
    play.run(
        "a b< nothing
         +1ms
         a b< 408 no complete request in time, closed
         c< nothing
         +2s
         count ringroad_connections_closed_total{handshake_timeout} = 2",
    );
    let (a, b) = (play.client("a"), play.client("b"));
    assert!(!play.world().is_held(a) && !play.world().is_held(b));
}

#[test]
fn a_message_of_the_greatest_size_is_read_and_one_byte_more_is_not() {
    for (extra, expected) in [(0, "heartbeat_ack"), (1, "error too_large, closed 1009 too_big")] {
        let mut play = Play::default();
        play.run("set presence.scope = 'none'\n a registers\n forget");
        let text = r#"{"event":"heartbeat","data":{"x":""}}"#;
        let padded = text.replace(r#""x":"""#, &format!(r#""x":"{}""#, "y".repeat(64 * 1024 - text.len() + extra)));
        let client = play.client("a");
        play.world().send(client, &padded);
        assert_eq!(play.heard("a").join(", "), expected);
    }
}

#[test]
fn other_limits_hold_from_the_next_message_on() {
    let mut play = Play::default();
    play.run("shards 2\n a@0 registers; b@1 registers\n forget");
    let mut config = Config::default();
    config.rate_limits.send_message.burst = 1;
    config.limits.message_bytes_max = 1_024;
    config.limits.conns_per_worker_max = 1;
    play.world().configure(config);
    play.run(
        "a tells b one
         a tells b two
         a< error rate_limited retry 1000
         b< a: \"one\"
         c@0 opens
         c< 503 {\"error\":\"full\"}, closed",
    );
    play.run(&format!("b says {{\"event\":\"heartbeat\",\"data\":\"{}\"}}", "x".repeat(1_024)));
    play.run("b< error too_large, closed 1009 too_big\n b hangs up\n forget\n +1s");
}
