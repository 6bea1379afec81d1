//! Readers that stall: they pay, and nobody else notices.

use ringroad::wire::frame::{Opcode, encode_masked};

use crate::proximity::PLAIN;
use crate::script::Play;

/// Room for little, and no limits on talking.
const TIGHT: &str = "set limits.outbox_bytes_max = 4096
    set limits.broadcast_log_bytes = 65536
    set rate_limits.send_message = { burst = 0, per_ms = 1000 }
    set rate_limits.emergency_alert = { burst = 0, per_ms = 1000 }
    ";

fn tight() -> Play {
    let mut play = Play::default();
    play.run(PLAIN).run(TIGHT);
    play
}

/// What was heard, but for what `left_out` says.
fn only(heard: &[String], begins: &str) -> Vec<String> {
    heard.iter().filter(|event| event.starts_with(begins)).cloned().collect()
}

#[test]
fn a_stalled_reader_is_closed_at_the_bound_and_nobody_else_is_delayed() {
    for shard in ["@0", "@1"] {
        let mut play = tight();
        play.run(&"shards 2\n a@0 registers; b@? registers; c@0 registers\n forget\n a stalls".replace("@?", shard));
        let (mut sent, text) = (0, "x".repeat(400));
        while play.counted("ringroad_connections_closed_total{slow}") == 0 {
            play.run(&format!("b tells a {text}\n b tells c {text}"));
            assert_eq!(play.heard("c").len(), 1);
            sent += 1;
            assert!(sent < 12, "4096 bytes hold eight of them");
        }
        assert!(sent >= 7, "closed after {sent}");
        // The vehicle goes with its connection.
        play.run(
            "+1ms
             b heartbeats
             b< heartbeat_ack
             b tells a hello
             b< error target_offline
             c< nothing
             a resumes
             a< closed 4008 slow
             a heartbeats
             a< nothing",
        );
    }
}

#[test]
fn a_stalled_reader_that_never_comes_back_is_given_up() {
    let mut play = tight();
    play.run("a registers; b registers\n a stalls 10");
    while play.counted("ringroad_connections_closed_total{slow}") == 0 {
        play.run(&format!("b tells a {}", "x".repeat(400)));
    }
    play.run("+2001ms");
    let a = play.client("a");
    assert!(!play.world().is_held(a));
}

#[test]
fn the_vehicle_of_a_slow_reader_that_hangs_up_within_the_millisecond_leaves_too() {
    let mut play = tight();
    play.run("a registers; b registers\n forget\n a stalls");
    while play.counted("ringroad_connections_closed_total{slow}") == 0 {
        play.run(&format!("b tells a {}", "x".repeat(400)));
    }
    play.run("a hangs up; a resumes\n +1ms\n b tells a hello\n b< error target_offline");
}

#[test]
fn a_reader_that_was_cut_anywhere_hears_everything_in_order() {
    let script = "b tells a 1
        b alerts
        b tells a 2
        b at 48 11
        b alerts
        b tells a 3";
    let mut whole = tight();
    whole.run("a registers; b registers; a at 48 11\n forget").run(script);
    let expected = whole.heard("a");
    assert_eq!(expected.len(), 7);
    for trickle in [0, 1, 10, 200] {
        for window in (0..1_000).step_by(if trickle == 1 { 23 } else { 1 }) {
            let mut play = tight();
            play.run("a registers; b registers; a at 48 11\n forget");
            play.run(&format!("a stalls {window}")).run(script);
            let a = play.client("a");
            for _ in 0..1_000_usize.checked_div(trickle).unwrap_or(0) {
                play.world().trickle(a, trickle);
            }
            play.run("a resumes");
            let heard = play.heard("a");
            for kind in ["b: ", "alert", "peer", "enter"] {
                assert_eq!(only(&heard, kind), only(&expected, kind), "cut at {window}, then by {trickle}");
            }
            assert_eq!(heard.len(), expected.len());
        }
    }
}

#[test]
fn a_reader_that_is_closed_at_any_cut_is_sent_whole_frames_and_then_the_reason() {
    for window in 0..700 {
        let mut play = tight();
        play.run("a registers; b registers\n forget");
        play.run(&format!("a stalls {window}"));
        let text = "x".repeat(100);
        while play.counted("ringroad_connections_closed_total{slow}") == 0 {
            play.run(&format!("b tells a {text}"));
        }
        play.run("a resumes");
        let mut heard = play.heard("a");
        assert_eq!(heard.pop().as_deref(), Some("closed 4008 slow"), "cut at {window}");
        assert!(heard.len() <= 4 && heard.iter().all(|event| *event == format!("b: {text:?}")), "{heard:?}");
    }
}

#[test]
fn positions_do_not_wait_the_newest_replaces_the_older_ones() {
    for window in [0, 1, 60, 100, 150] {
        let mut play = Play::default();
        play.run(PLAIN)
            .run(TIGHT)
            .run("a registers; b registers; c registers; a at 48 11; b at 48 11; c at 48 11\n forget");
        play.run(&format!("a stalls {window}"));
        for i in 1..=200 {
            play.run(&format!("b at 48.00{i:03} 11\n c at 48.00{i:03} 11"));
        }
        assert_eq!(play.heard("b").len(), 200, "b is not delayed");
        assert_eq!(play.counted("ringroad_connections_closed_total{slow}"), 0, "and a is not closed");
        play.run("a resumes");
        let heard = play.heard("a");
        // One or two may have been on their way when it stalled.
        assert!((2..=5).contains(&heard.len()), "{heard:?}");
        assert_eq!(only(&heard, "peer b").last().map(String::as_str), Some("peer b 48.002 11"));
        assert_eq!(only(&heard, "peer c").last().map(String::as_str), Some("peer c 48.002 11"));
        assert!(play.counted("ringroad_state_conflated_total") >= 390);
        play.run("b at 48.00201 11\n a< peer b 48.00201 11");
    }
}

#[test]
fn a_peer_that_left_while_the_reader_stalled_is_not_told_of() {
    let mut play = tight();
    play.run("a registers; b registers; c registers; a at 48 11; b at 48 11; c at 48 11\n forget\n a stalls");
    play.run("c at 48.0001 11; b at 48.0001 11; b at 48.0002 11; b hangs up\n a resumes");
    play.run("a< peer c 48.0001 11, exit b");
}

#[test]
fn a_laggard_catches_up_with_the_broadcasts_however_slowly_it_reads() {
    // Far more than its outbox holds, less than the log does.
    for trickle in [500, 3_000, 20_000] {
        let mut play = tight();
        play.run("a connects; b registers; x connects\n forget\n a stalls 100");
        let info = "y".repeat(1_000);
        for i in 0..50 {
            play.run(&format!(r#"b sends emergency_alert {{"senderId":$b,"vehicleInfo":{{"n":{i},"y":"{info}"}}}}"#));
        }
        let expected = play.heard("x");
        assert_eq!(expected.len(), 50);
        let a = play.client("a");
        let mut heard = Vec::new();
        for _ in 0..200 {
            play.world().trickle(a, trickle);
            heard.extend(play.heard("a"));
        }
        assert!(heard == expected, "by {trickle}: {} of them, the last {:?}", heard.len(), heard.last());
        play.run("a resumes\n b alerts\n a< alert b");
    }
}

#[test]
fn a_laggard_catches_up_although_it_is_also_spoken_to() {
    let mut play = tight();
    play.run("a registers; b registers; x connects\n forget\n a stalls 100");
    let info = "y".repeat(1_000);
    for i in 0..40 {
        play.run(&format!(r#"b sends emergency_alert {{"senderId":$b,"vehicleInfo":{{"n":{i},"y":"{info}"}}}}"#));
        if i % 4 == 0 {
            play.run(&format!("b tells a {i}"));
        }
    }
    let alerts = play.heard("x");
    let a = play.client("a");
    let mut heard = Vec::new();
    for _ in 0..400 {
        play.world().trickle(a, 150);
        heard.extend(play.heard("a"));
    }
    assert!(only(&heard, "alert") == alerts);
    let told: Vec<String> = (0..40).step_by(4).map(|i| format!("b: \"{i}\"")).collect();
    assert_eq!(only(&heard, "b: "), told);
    assert_eq!(heard.len(), 50);
}

#[test]
fn a_laggard_that_falls_off_the_log_is_closed() {
    let mut play = tight();
    play.run("a registers; b registers; x connects\n forget\n a stalls 100");
    let info = "y".repeat(1_000);
    let mut sent = 0;
    while play.counted("ringroad_connections_closed_total{slow}") == 0 {
        play.run(&format!(r#"b sends emergency_alert {{"senderId":$b,"vehicleInfo":{{"y":"{info}"}}}}"#));
        assert_eq!(play.heard("x").len(), 1);
        sent += 1;
        assert!(sent < 140, "the log holds at most twice its bound");
    }
    assert!(sent > 60, "closed after {sent}");
    play.run("+1ms\n a resumes");
    let heard = play.heard("a");
    assert_eq!(heard.last().map(String::as_str), Some("closed 4008 slow"));
    assert!(heard.len() <= 2, "the alert that was cut, and the close: {heard:?}");
    play.run("b tells a hello");
    assert_eq!(play.heard("b").last().map(String::as_str), Some("error target_offline"));
}

#[test]
fn whoever_pings_and_never_reads_is_slow_too() {
    let mut play = tight();
    play.run("a registers; b registers\n forget\n a stalls");
    let a = play.client("a");
    let mut ping = Vec::new();
    encode_masked(&mut ping, Opcode::Ping, [1, 2, 3, 4], &[b'p'; 125]);
    let mut pings = 0;
    while play.counted("ringroad_connections_closed_total{slow}") == 0 {
        play.world().send_bytes(a, &ping);
        pings += 1;
        assert!(pings < 80, "the outbox and its reserve hold 64 pongs");
    }
    play.run("a resumes\n a< closed 4008 slow");
}

#[test]
fn control_frames_have_room_where_events_have_none() {
    let mut play = tight();
    play.run("a registers; b registers\n forget\n a stalls");
    for _ in 0..7 {
        play.run(&format!("b tells a {}", "x".repeat(400)));
    }
    for _ in 0..10 {
        play.run("a pings are you there, and are you there, and are you there, and are you there?");
    }
    play.run("a resumes");
    let heard = play.heard("a");
    assert_eq!((only(&heard, "b: ").len(), only(&heard, "pong").len()), (7, 10));
}

#[test]
fn a_stalled_reader_that_says_goodbye_gets_its_answer_when_it_reads() {
    let mut play = tight();
    play.run(
        "a registers; b registers
         forget
         a stalls 3
         b tells a 1
         a leaves 1000
         b tells a 2
         b< error target_offline
         a resumes
         a< b: \"1\", closed 1000",
    );
}

#[test]
fn a_stalled_handshake_is_completed_before_anything_else() {
    for window in 0..250 {
        let mut play = tight();
        play.run("b registers\n a opens\n forget");
        play.run(&format!("a stalls {window}"));
        let a = play.client("a");
        play.world().send_bytes(a, ringroad::sim::HANDSHAKE.as_bytes());
        play.run("b alerts\n a resumes\n a< connected, alert b");
    }
}

#[test]
fn a_flush_of_positions_larger_than_the_bound_on_events_closes_nobody() {
    let mut play = tight();
    let names: Vec<String> = (0..60).map(|n| format!("n{n}")).collect();
    for name in ["a"].iter().copied().chain(names.iter().map(String::as_str)) {
        play.run(&format!("{name} registers\n {name} at 48 11"));
    }
    let moves: Vec<String> = names.iter().map(|name| format!("{name} at 48.0001 11")).collect();
    play.run(&format!("+200ms\n forget\n a stalls 1000\n at once: {}", moves.join("; ")));
    assert_eq!(play.counted("ringroad_connections_closed_total{slow}"), 0, "six thousand bytes of positions wait");
    play.run("n0 tells a hello\n a resumes");
    let heard = play.heard("a");
    assert_eq!(only(&heard, "peer").len(), 60);
    assert_eq!(only(&heard, "n0: "), ["n0: \"hello\""]);
}

#[test]
fn a_flush_of_positions_that_is_taken_in_pieces_closes_nobody_either() {
    for trickle in [100, 333, 1_000, 2_500] {
        let mut play = tight();
        let names: Vec<String> = (0..60).map(|n| format!("n{n}")).collect();
        for name in ["a"].iter().copied().chain(names.iter().map(String::as_str)) {
            play.run(&format!("{name} registers\n {name} at 48 11"));
        }
        play.run("+200ms\n forget\n a stalls 100");
        let a = play.client("a");
        let mut heard = Vec::new();
        for step in 0..10 {
            // Each flush is six thousand bytes, and the bound on events four.
            let moves: Vec<String> = names.iter().map(|name| format!("{name} at 48.000{step} 11")).collect();
            play.run(&format!("at once: {}\n n0 tells a {step}", moves.join("; ")));
            for _ in 0..4 {
                play.world().trickle(a, trickle);
            }
            heard.extend(play.heard("a"));
        }
        assert_eq!(play.counted("ringroad_connections_closed_total{slow}"), 0, "by {trickle}");
        play.run("a resumes");
        heard.extend(play.heard("a"));
        let told: Vec<String> = (0..10).map(|step| format!("n0: \"{step}\"")).collect();
        assert_eq!(only(&heard, "n0: "), told, "by {trickle}");
        for name in &names {
            let last = only(&heard, &format!("peer {name} ")).pop();
            assert_eq!(last, Some(format!("peer {name} 48.0009 11")), "by {trickle}");
        }
    }
}

#[test]
fn lists_of_neighbours_do_not_wait_the_newest_comes_when_there_is_room() {
    let mut play = Play::default();
    play.run(
        "set presence.scope = 'none'
         set vehicles.coalesce_ms = 0
         set vehicles.flush_ms = 0
         set vehicles.nearby_interval_ms = 2000
         a registers; b registers; c registers
         a at 48 11
         +1000ms
         forget
         a stalls
         b at 48.001 11
         +1000ms
         b at 48.002 11; c at 48.001 11
         +5000ms
         a resumes
         +1000ms",
    );
    let heard = play.heard("a");
    assert_eq!(only(&heard, "list"), ["list(c 111, b 222)"], "{heard:?}");
}
