//! From one vehicle to another, on one shard and across shards.

use crate::script::{Play, check};

const QUIET: &str = "set presence.scope = 'none'
    set vehicles.nearby_list_ms = 0
    set vehicles.coalesce_ms = 0
    set rate_limits.signaling = { burst = 0, per_ms = 1000 }
    set rate_limits.send_message = { burst = 0, per_ms = 1000 }
    ";

#[track_caller]
fn on_one_shard_and_on_two(script: &str) {
    Play::default().run(QUIET).run(&script.replace("@?", "@0"));
    Play::default().run(QUIET).run("shards 2").run(&script.replace("@?", "@1"));
}

#[test]
fn text_arrives_stripped_of_control_characters() {
    on_one_shard_and_on_two(
        r#"a@0 registers; b@? registers; c@0 registers
           forget
           a sends send_message {"senderId":$a,"recipientId":$b,"content":"1\u0000\t2\u001b\r\n\u009f3"}
           b< a: "1\t2\r\n3"
           a c< nothing
           a sends send_message {"senderId":$a,"recipientId":$b,"content":"\u0001\u0002"}
           a< error validation_error
           a sends send_message {"senderId":$a,"recipientId":$b,"content":"x","messageType":"image"}
           a< error validation_error
           b< nothing"#,
    );
}

#[test]
fn a_message_to_oneself_arrives() {
    on_one_shard_and_on_two(
        "a@0 registers; b@? registers
         forget
         a tells a reminder
         a< a: \"reminder\"",
    );
}

#[test]
fn a_request_is_answered_once() {
    on_one_shard_and_on_two(
        r#"a@0 registers; b@? registers
           forget
           a sends connect_request {"requesterId":$a,"targetId":$b,"purpose":"race","extra":[1]}
           b< connect_request {"extra":[1],"purpose":"race","requesterId":"a","targetId":"b","ts":now}
           b sends connect_response {"requesterId":$a,"targetId":$b,"approved":false,"reason":"busy"}
           a< connect_response {"approved":false,"reason":"busy","requesterId":"a","targetId":"b","ts":now}
           b< nothing
           b approves a
           b< error no_pending_request
           a< nothing"#,
    );
}

#[test]
fn an_answer_counts_only_for_the_request_that_was_made() {
    on_one_shard_and_on_two(
        r#"a@0 registers; b@? registers; c@0 registers
           forget
           a requests b
           b< connect_request {"requesterId":"a","targetId":"b","ts":now}
           c approves a
           c< error no_pending_request
           a approves b
           a< error no_pending_request
           b approves c
           b< error no_pending_request
           b sends connect_response {"requesterId":$a,"targetId":$c,"approved":true}
           b< error not_yours
           b approves a
           a< connect_response {"approved":true,"requesterId":"a","targetId":"b","ts":now}"#,
    );
}

#[test]
fn a_request_times_out_unless_it_is_renewed() {
    on_one_shard_and_on_two(
        r#"a@0 registers; b@? registers
           a requests b
           +29999ms
           forget
           b approves a
           a< connect_response {"approved":true,"requesterId":"a","targetId":"b","ts":now}
           a requests b
           +30s
           b approves a
           b< connect_request {"requesterId":"a","targetId":"b","ts":1767268829999}, error no_pending_request, ping"#,
    );
    on_one_shard_and_on_two(
        r#"a@0 registers; b@? registers
           a requests b
           +20s
           a requests b
           +20s
           forget
           b approves a
           a< connect_response {"approved":true,"requesterId":"a","targetId":"b","ts":now}"#,
    );
}

#[test]
fn requests_to_whoever_is_not_there_are_not_remembered() {
    on_one_shard_and_on_two(
        "a@0 registers
         forget
         a requests b
         a< error target_offline
         b@? registers
         forget
         b approves a
         b< error no_pending_request
         a< nothing",
    );
}

#[test]
fn an_answer_to_whoever_has_gone_meets_nobody() {
    on_one_shard_and_on_two(
        "a@0 registers; b@? registers
         a requests b
         a hangs up
         forget
         b approves a
         b< error target_offline",
    );
}

#[test]
fn calls_and_signalling_are_passed_on_whole() {
    on_one_shard_and_on_two(
        r#"a@0 registers; b@? registers
           forget
           a sends call_initiate {"callerId":$a,"calleeId":$b,"media":{"video":true},"x":1.5}
           b< call_initiate {"calleeId":"b","callerId":"a","media":{"video":true},"x":1.5}
           count v2v_call_sessions_total = 1
           b sends webrtc_offer {"targetId":$a,"sdp":"v=0\r\n","callerId":$a,"calleeId":$b}
           a< webrtc_offer {"calleeId":"b","callerId":"a","sdp":"v=0\r\n","targetId":"a"}
           a sends webrtc_answer {"targetId":$b,"sdp":"v=1"}
           b< webrtc_answer {"sdp":"v=1","targetId":"b"}
           a sends ice_candidate {"targetId":$b,"candidate":{"candidate":"candidate:1 1 UDP","sdpMLineIndex":0}}
           b< ice_candidate {"candidate":{"candidate":"candidate:1 1 UDP","sdpMLineIndex":0},"targetId":"b"}
           a sends sync_disconnect {"fromVehicleId":$a,"toVehicleId":$b}
           b< sync_disconnect {"fromVehicleId":"a","reason":"peer_disconnect","timestamp":now,"toVehicleId":"b"}
           a sends sync_end_call {"fromVehicleId":$a,"toVehicleId":$b,"reason":"tunnel","timestamp":5}
           b< sync_end_call {"fromVehicleId":"a","reason":"tunnel","timestamp":5,"toVehicleId":"b"}
           a sends sync_end_call {"fromVehicleId":$a,"toVehicleId":$b}
           b< sync_end_call {"fromVehicleId":"a","reason":"peer_ended","timestamp":now,"toVehicleId":"b"}
           a< nothing"#,
    );
}

#[test]
fn an_id_that_names_the_sender_must_be_the_senders() {
    let script = r#"a@0 registers; b@? registers
        forget
        a sends location_update {"vehicleId":$b,"lat":1,"lon":2}
        a< error not_yours
        a sends send_message {"senderId":$b,"recipientId":$b,"content":"x"}
        a< error not_yours
        a sends emergency_alert {"senderId":$b}
        a< error not_yours
        a sends connect_request {"requesterId":$b,"targetId":$a}
        a< error not_yours
        a sends connect_response {"requesterId":$a,"targetId":$b,"approved":true}
        a< error not_yours
        a sends call_initiate {"callerId":$b,"calleeId":$a}
        a< error not_yours
        a sends sync_disconnect {"fromVehicleId":$b,"toVehicleId":$a}
        a< error not_yours
        a sends sync_end_call {"fromVehicleId":$b,"toVehicleId":$a}
        a< error not_yours
        a b< nothing
        count v2v_location_updates_received = 0
        count v2v_emergencies_total = 0"#;
    on_one_shard_and_on_two(script);
}

#[test]
fn a_target_that_is_not_there_is_named_to_the_sender() {
    on_one_shard_and_on_two(
        r#"a@0 registers; b@? registers; b hangs up
           forget
           a tells b hello
           a< error target_offline
           a sends ice_candidate {"targetId":$b}
           a< error target_offline
           a sends call_initiate {"callerId":$a,"calleeId":$nobody}
           a< error target_offline
           a sends sync_disconnect {"fromVehicleId":$a,"toVehicleId":$nobody}
           a< error target_offline"#,
    );
}

#[test]
fn a_target_that_leaves_while_the_message_crosses_is_offline_too() {
    // Shard 0 speaks before it hears that b, on shard 1, has gone: both happen in the same turn.
    let mut play = Play::default();
    play.run(QUIET).run("shards 2\n a@0 registers; b@1 registers\n forget");
    let (a, b) = (play.client("a"), play.client("b"));
    let text = r#"{"event":"send_message","data":{"senderId":"veh-a","recipientId":"veh-b","content":"x"}}"#;
    play.world().say(a, text);
    play.world().hang_up(b, ringroad::turn::Ended::Eof);
    play.run("a< error target_offline");
}

#[test]
fn emergencies_reach_everyone_once() {
    check(
        "set presence.scope = 'none'
         shards 3
         a@0 registers; b@0 registers; c@1 registers; x@2 connects
         forget
         a alerts
         a b c x< alert a
         count v2v_emergencies_total = 1
         c alerts
         a b c x< alert c",
    );
}
