//! Full inboxes between shards: nothing is lost, positions conflate, and it recovers.

use crate::proximity::PLAIN;
use crate::script::Play;

fn unlimited(shards: u16) -> Play {
    let mut play = Play::default();
    play.run(PLAIN).run(&format!(
        "set rate_limits.send_message = {{ burst = 0, per_ms = 1 }}
         set rate_limits.emergency_alert = {{ burst = 0, per_ms = 1 }}
         shards {shards}"
    ));
    play
}

#[test]
fn notes_of_a_turn_that_two_shards_send_to_a_full_inbox_all_arrive_in_order() {
    let mut play = unlimited(4);
    play.run("a@0 registers; b@1 registers; c@2 registers; d@3 registers\n inbox 1\n forget");
    for i in 0..50 {
        play.run(&format!("at once: b tells a {i}; c tells a {i}; d tells a {i}"));
    }
    assert_eq!(play.world().counters(1).shed.total(), 0);
    play.run("+10ms");
    let heard = play.heard("a");
    for sender in ["b", "c", "d"] {
        let told: Vec<String> = heard.iter().filter(|event| event.starts_with(sender)).cloned().collect();
        let expected: Vec<String> = (0..50).map(|i| format!("{sender}: \"{i}\"")).collect();
        assert_eq!(told, expected);
    }
    assert!(play.counted("ringroad_mesh_refused_total") > 0);
}

#[test]
fn positions_behind_a_full_inbox_are_the_newest_and_only_those() {
    let mut play = unlimited(4);
    play.run(
        "a@0 registers; b@1 registers; c@2 registers; d@3 registers
         a at 48 11; b at 48 11; c at 48 11; d at 48 11
         inbox 1
         forget",
    );
    for i in 1..=100 {
        play.run(&format!("at once: b at 48.00{i:03} 11; c at 48.00{i:03} 11; d at 48.00{i:03} 11"));
    }
    play.run("+5ms");
    let heard = play.heard("a");
    for name in ["b", "c", "d"] {
        let told: Vec<&String> = heard.iter().filter(|event| event.starts_with(&format!("peer {name}"))).collect();
        assert!(told.last().is_some_and(|last| last.starts_with(&format!("peer {name} 48.001 11"))), "{told:?}");
        let mut sorted = told.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), told.len(), "never back, never twice: {told:?}");
    }
    play.run("inbox 0\n b at 48.0011 11\n a< peer b 48.0011 11");
}

#[test]
fn registrations_and_farewells_keep_their_order_behind_a_full_inbox() {
    let mut play = unlimited(3);
    play.run("x@0 registers; x at 48 11\n inbox 1\n forget");
    for i in 0..20 {
        play.run(&format!("b{i}@1 registers as b; c{i}@2 registers as c"));
        play.run(&format!("at once: b{i} at 48 11; c{i} at 48 11"));
        play.run(&format!("b{i} hangs up; c{i} hangs up"));
    }
    play.run("+10ms");
    let heard = play.heard("x");
    for name in ["b", "c"] {
        let enters = heard.iter().filter(|event| event.starts_with(&format!("enter {name}"))).count();
        let exits = heard.iter().filter(|event| *event == &format!("exit {name}")).count();
        assert_eq!(enters, exits, "{heard:?}");
    }
    play.run("h@0 gets /health");
    assert!(play.heard("h")[0].contains(r#""vehicles":1,"#));
}

#[test]
fn a_listing_behind_full_inboxes_is_complete() {
    let mut play = unlimited(4);
    play.run("a@0 registers; b@1 registers; c@2 registers; d@3 registers\n inbox 1");
    for shard in 0..4 {
        play.run(&format!("h@{shard} gets /presence\n +5ms"));
        assert!(play.heard("h")[0].starts_with(r#"200 {"count":4"#));
    }
}

#[test]
fn emergencies_behind_full_inboxes_reach_everyone_once() {
    let mut play = unlimited(4);
    play.run("a@0 registers; b@1 registers; c@2 registers; d@3 registers; x@3 connects\n inbox 1\n forget");
    for _ in 0..25 {
        play.run("at once: a alerts; b alerts; c alerts; d alerts");
    }
    play.run("+10ms");
    for name in ["a", "b", "c", "d", "x"] {
        let mut heard = play.heard(name);
        heard.sort();
        let expected: Vec<String> =
            ["a", "b", "c", "d"].iter().flat_map(|sender| vec![format!("alert {sender}"); 25]).collect();
        assert_eq!(heard, expected);
    }
}

#[test]
fn a_position_behind_a_full_inbox_is_not_taken_for_that_of_the_next_registration() {
    let mut play = unlimited(3);
    play.run(
        "x@0 registers; n@1 registers; b@2 registers; x at 48 11; b at 48.5 11
         inbox 1
         forget
         at once: n at 48.5 11; b at 48 11
         b hangs up
         b2@2 registers as b
         +5ms
         x< nothing
         b2 at 48 11
         x< enter b 0, peer b 48 11",
    );
}
