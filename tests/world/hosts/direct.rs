//! Messages to one vehicle on another host.

use crate::script::Play;

const QUIET: &str = "set presence.scope = 'none'
    set vehicles.nearby_list_ms = 0
    set vehicles.heartbeat_timeout_ms = 3600000
    set vehicles.ping_ms = 3600000
    set rate_limits.signaling = { burst = 0, per_ms = 1000 }
    set rate_limits.send_message = { burst = 0, per_ms = 1000 }
    ";

#[track_caller]
fn quiet(script: &str) {
    Play::default().run(QUIET).run(script);
}

/// The same script with the hosts' first shards, and across shards as well.
#[track_caller]
fn with_and_without_shards(script: &str) {
    quiet(&format!("hosts 2\n{}", script.replace("A?", "A").replace("B?", "B")));
    quiet(&format!("shards 2\nhosts 2\n{}", script.replace("A?", "A1").replace("B?", "B1")));
}

#[test]
fn text_arrives_once_and_is_kept() {
    with_and_without_shards(
        r#"a@A? registers; b@B? registers; c@B registers
           forget
           a tells b hello
           b< a: "hello"
           b tells a hello yourself
           a< b: "hello yourself"
           a tells nobody what
           a< error target_offline
           messages< a to b: "hello", b to a: "hello yourself", a to nobody: "what"
           +10s
           a b c< nothing"#,
    );
}

#[test]
fn the_list_of_messages_is_bounded_and_may_be_none() {
    for (most, kept) in [("2", r#"a to b: "2", a to b: "3""#), ("0", "nothing")] {
        quiet(&format!(
            "set redis.messages_max = {most}
             hosts 2
             a@A registers; b@B registers
             a tells b 1; a tells b 2; a tells b 3
             messages< {kept}"
        ));
    }
}

#[test]
fn a_request_is_answered_once_across_hosts() {
    with_and_without_shards(
        r#"a@A? registers; b@B? registers
           forget
           a sends connect_request {"requesterId":$a,"targetId":$b,"purpose":"race"}
           b< connect_request {"purpose":"race","requesterId":"a","targetId":"b","ts":now}
           b sends connect_response {"requesterId":$a,"targetId":$b,"approved":true}
           a< connect_response {"approved":true,"requesterId":"a","targetId":"b","ts":now}
           b approves a
           b< error no_pending_request
           a approves b
           a< error no_pending_request
           a requests b
           forget
           +30s
           b approves a
           b< error no_pending_request
           a< nothing"#,
    );
}

#[test]
fn calls_and_signals_go_across_hosts() {
    with_and_without_shards(
        r#"a@A? registers; b@B? registers
           forget
           a sends call_initiate {"callerId":$a,"calleeId":$b,"media":{"video":true}}
           b< call_initiate {"calleeId":"b","callerId":"a","media":{"video":true}}
           b sends webrtc_offer {"targetId":$a,"sdp":"v=0\r\n","callerId":$a,"calleeId":$b}
           a< webrtc_offer {"calleeId":"b","callerId":"a","sdp":"v=0\r\n","targetId":"a"}
           a sends ice_candidate {"targetId":$b,"candidate":{"n":1}}
           b< ice_candidate {"candidate":{"n":1},"targetId":"b"}
           a sends sync_end_call {"fromVehicleId":$a,"toVehicleId":$b,"reason":"tunnel","timestamp":5}
           b< sync_end_call {"fromVehicleId":"a","reason":"tunnel","timestamp":5,"toVehicleId":"b"}
           a b< nothing"#,
    );
}

#[test]
fn who_cannot_be_reached_is_offline_at_once_or_after_a_bounded_time() {
    // (what happens before, how long the sender waits)
    for (before, waits_ms) in [
        ("b hangs up", 0),
        ("redis down", 0),
        ("A is cut off\n+10s", 0),
        ("redis freezes", 800),
        ("A is cut off", 800),
        ("B is cut off", 800),
        ("B sleeps", 800),
        ("B dies", 800),
        // Of its departure nobody hears, but its host knows.
        ("redis loses every 1 to A\nb hangs up\nredis loses every 0 to A", 0),
        // Delivered, but nobody hears of that.
        ("redis loses every 1 to A", 800),
    ] {
        let mut play = Play::default();
        play.run(QUIET).run("shards 2\nhosts 2\n a@A1 registers; b@B1 registers\n forget").run(before);
        play.run("a tells b hello");
        if waits_ms > 0 {
            play.run(&format!("+{}ms", waits_ms - 1));
            assert_eq!(play.heard("a"), [""; 0], "{before:?}");
            play.run("+1ms");
        }
        assert_eq!(play.heard("a"), ["error target_offline"], "{before:?}");
        play.run("redis loses every 0 to A\n+10s\n a< nothing");
    }
}

#[test]
fn a_late_answer_changes_nothing() {
    for (away_ms, offline) in [(100, "nothing"), (390, "nothing"), (450, "error target_offline")] {
        quiet(&format!(
            "hosts 2
             B is {away_ms}ms away
             +2s
             a@A registers; b@B registers
             +2s
             forget
             a tells b hello
             +2s
             a< {offline}
             b< a: \"hello\""
        ));
    }
}

#[test]
fn the_sender_is_told_which_vehicle_was_not_there() {
    let mut play = Play::default();
    play.run(QUIET).run("hosts 2\n a@A registers; b@B registers\n forget\n B dies\n a tells b hello\n +1s");
    let client = play.client("a");
    let error: serde_json::Value = serde_json::from_str(&play.world().take(client)[0]).expect("JSON");
    assert_eq!(error["data"]["details"]["vehicleId"], "veh-b");
}

#[test]
fn who_has_moved_on_to_a_third_host_is_reached_there() {
    quiet(
        r#"hosts 3
           a@A registers; b@B registers
           b2@C registers as b
           forget
           a tells b hello
           b2< a: "hello"
           a< nothing"#,
    );
    quiet(
        r#"hosts 3
           a@A registers; b@B registers
           forget
           redis loses every 1 to A
           b2@C registers as b
           redis loses every 0 to A
           a tells b hello
           a< error target_offline
           b2< connected, registered b
           +31s
           a tells b hello
           a< nothing
           b2< a: "hello""#,
    );
}

#[test]
fn what_a_message_says_is_not_believed_beyond_its_kind() {
    // Somebody with access to Redis sends what no gateway would.
    let mut play = Play::default();
    play.run(QUIET).run("hosts 2\n a@A registers; b@B registers\n forget");
    let envelope = |event: &str| {
        format!(
            r#"{{"origin":"A","obj":{{"event":"{event}","data":{{"x":1}}}},"ringroad":{{"epoch":1,"worker":0,"at":1,"kind":"direct","number":1,"sender":"veh-a","recipient":"veh-b"}}}}"#
        )
    };
    for event in ["registered", "presence_update", "error", "nonsense"] {
        play.world().redis().publish("v2v:to:B", envelope(event).as_bytes());
    }
    play.world().redis().publish("v2v:to:B", envelope("webrtc_offer").as_bytes());
    play.run("+1ms\n b< webrtc_offer {\"x\":1}\n count ringroad_backplane_dropped_total{not_whitelisted} on B = 4");
}
