//! How often, and readers that take nothing for a while.

use super::quiet;

#[test]
fn positions_come_at_most_as_often_as_asked_for() {
    quiet(
        "set vehicles.flush_ms = 20
         set vehicles.coalesce_ms = 0
         set rate_limits.location_update = { burst = 0, per_ms = 1 }
         a registers; a at 48 11; b registers; b at 48 11.1
         v connects slim; v views 47 10 49 12 maxHz=2; w connects; w views 47 10 49 12
         v< connected, watching 2 of 1, named a, named b, state a 48 11, state b 48 11.1, complete 1
         w< connected, watching 2 of 1, peer a 48 11, peer b 48 11.1
         +100ms; a at 48.1 11
         +100ms; a at 48.2 11
         +100ms; b at 48.1 11.1
         w< peer a 48.1 11 (-200ms), peer a 48.2 11 (-100ms), peer b 48.1 11.1
         +199ms
         v< nothing
         +1ms
         v< state a 48.2 11 (-300ms), state b 48.1 11.1 (-200ms)
         +1s; a at 48.3 11
         v< state a 48.3 11
         +1ms; v follows b
         v< watching 2 of 2
         +1ms; a at 48.4 11; +17ms
         v< nothing
         +1ms
         v< state a 48.4 11 (-18ms), complete 2",
    );
}

#[test]
fn a_busy_workers_viewer_is_sent_what_has_moved_meanwhile_at_once() {
    quiet(
        "set vehicles.coalesce_ms = 0
         set vehicles.flush_busy_ms = 50
         set rate_limits.location_update = { burst = 0, per_ms = 1 }
         a registers; a at 48 11
         v connects; v views 47 10 49 12
         v< connected, watching 1 of 1, peer a 48 11
         busy 100; +1s
         a at 48.1 11; a at 48.2 11; a at 48.3 11; a at 48.4 11; a at 48.5 11
         v< peer a 48.1 11, peer a 48.2 11, peer a 48.3 11, peer a 48.4 11, peer a 48.5 11
         +1ms; a at 48.6 11; +48ms; a at 48.7 11
         v< nothing
         +1ms
         v< peer a 48.7 11 (-1ms)",
    );
}

#[test]
fn a_quicker_pace_is_kept_from_its_first_moment() {
    quiet(
        "a registers; a at 48 11; b registers
         v connects slim; v views 47 10 49 12 maxHz=0.1; +5ms
         v< connected, watching 1 of 1, named a, state a 48 11 (-5ms), complete 1
         b at 48.1 11; +5ms
         v views 47 10 49 12 maxHz=50; +10ms
         v< watching 2 of 2, named b, state b 48.1 11 (-15ms), complete 2",
    );
}

#[test]
fn a_stalled_viewer_gets_the_newest_and_nothing_twice() {
    // However much the reader takes before it stalls.
    for window in [0, 1, 10, 60, 100, 200, 300] {
        for slim in ["", " slim"] {
            let mut play = quiet(&format!(
                "set vehicles.coalesce_ms = 0
                 set rate_limits.location_update = {{ burst = 0, per_ms = 1 }}
                 a registers; a at 48 11; b registers; b at 48 11.1; c registers; c at 50 11
                 v connects{slim}; v views 47 10 49 12; +1s
                 forget
                 v stalls {window}"
            ));
            for step in 1..9 {
                play.run(&format!("a at 48.{step} 11; b at 48.{step} 11.1; +100ms"));
            }
            play.run("c at 48.9 11; b at 50 11; +100ms; a at 48.9 11; +1s\n v resumes");
            let mut heard = play.heard("v").join(", ");
            // What was on its way when it stalled may be old.
            play.run("+20ms");
            heard += &play.heard("v").join(", ");
            let newest = if slim.is_empty() {
                ["peer_gone b", "peer a 48.9 11", "peer c 48.9 11"]
            } else {
                ["gone b", "state a 48.9 11", "state c 48.9 11"]
            };
            for word in newest {
                assert_eq!(heard.matches(word).count(), 1, "{word} after {window} bytes: {heard}");
            }
            // Two for each flush of which it took some bytes, and the newest.
            let (states, flush_bytes) = (heard.matches("48.").count(), if slim.is_empty() { 250 } else { 82 });
            assert!(states <= 2 * (window / flush_bytes + 1) + 2, "{states} states after {window} bytes: {heard}");
            play.run("a at 48 11\n v resumes");
            assert_eq!(play.heard("v").len(), 1);
        }
    }
}

#[test]
fn a_viewer_that_does_not_read_its_events_is_closed_and_watches_no_more() {
    let mut play = quiet(
        "set limits.outbox_bytes_max = 4096
         set rate_limits.send_message = { burst = 0, per_ms = 1000 }
         a registers; a at 48 11; b registers; b at 48.0001 11
         v connects slim; v views 47 10 49 12; v registers; v reports 48 11
         a views 47 10 49 12; +1s
         forget
         v stalls",
    );
    let text = "x".repeat(400);
    while play.counted("ringroad_connections_closed_total{slow}") == 0 {
        play.run(&format!("b tells v {text}"));
    }
    play.run("+1ms\n a< exit v, peer_gone v\n b at 48.001 11; +1s; v resumes");
    assert_eq!(play.heard("v").last().map(String::as_str), Some("closed 4008 slow"));
}

#[test]
fn a_viewer_that_only_watches_may_stall_for_ever() {
    let mut play = quiet(
        "set limits.outbox_bytes_max = 4096
         set vehicles.coalesce_ms = 0
         set rate_limits.location_update = { burst = 0, per_ms = 1 }
         a registers; a at 48 11
         v connects slim; v views 47 10 49 12; +1s
         forget
         v stalls",
    );
    for step in 0..500 {
        play.run(&format!("a at 48.{step:03} 11; +20ms"));
    }
    play.run("a at 48 11; v resumes");
    let heard = play.heard("v");
    assert!(heard.len() <= 2 && heard.last().is_some_and(|last| last == "state a 48 11"), "{heard:?}");
}
