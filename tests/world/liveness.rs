//! Who is still there. A ping may be a 64th of its interval late, so that many go out at once; an end may not.

use crate::script::check;

#[test]
fn a_silent_vehicle_is_pinged_then_closed_and_announced_as_timed_out() {
    for shard in ["@0", "@1"] {
        check(
            &"shards 2
              a@0 registers; x@? registers
              forget
              +24999ms
              a< nothing
              +391ms
              a< ping
              +20s
              x heartbeats
              +14609ms
              a< ping
              x< heartbeat_ack, ping
              +1ms
              x< timeout a (-60000ms)
              a< closed 4002 timeout
              count ringroad_connections_closed_total{timeout} = 1"
                .replace("@?", shard),
        );
    }
}

#[test]
fn a_pong_a_ping_and_any_message_keep_alive() {
    check(
        "set presence.scope = 'none'
         a registers; b registers; c registers
         +40s
         a pongs
         b pings hello
         c says nonsense
         +40s
         a pongs
         b pings again
         c says nonsense
         +59999ms
         forget
         a heartbeats
         b heartbeats
         c heartbeats
         a b c< heartbeat_ack",
    );
}

#[test]
fn a_pong_in_answer_to_a_ping_resets_the_clock() {
    check(
        "set presence.scope = 'none'
         a connects
         +25390ms
         a< connected, ping
         a pongs
         +24999ms
         a< nothing
         +391ms
         a< ping
         +34609ms
         a< ping
         +1ms
         a< closed 4002 timeout",
    );
}

#[test]
fn half_a_message_is_not_a_sign_of_life() {
    let mut play = crate::script::Play::default();
    play.run("set presence.scope = 'none'\n a registers\n +30s\n forget");
    let client = play.client("a");
    play.world().send_bytes(client, &[0x81, 0x90, 1, 2, 3, 4, 7, 7]);
    play.run("+30s\n a< ping, closed 4002 timeout");
}

#[test]
fn stop_says_goodbye_to_everyone() {
    let mut play = crate::script::Play::default();
    play.run(
        "shards 2
         a@0 registers; b@1 registers; c@1 connects; d@0 opens
         forget
         stop
         a b c< closed 1012 shutdown
         d< closed",
    );
    assert!(!play.world().is_stopped(), "the connections are still there");
    play.run("a hangs up; b hangs up\n +2s");
    assert!(play.world().is_stopped());
    play.run("e@0 opens\n e< 503 {\"error\":\"full\"}, closed");
}

#[test]
fn whoever_does_not_close_its_side_is_given_up_after_two_seconds() {
    let mut play = crate::script::Play::default();
    play.run("a registers; b connects\n a leaves 1000\n b breaks");
    let (a, b) = (play.client("a"), play.client("b"));
    assert!(play.world().is_held(a) && !play.world().is_held(b));
    play.run("+1999ms");
    assert!(play.world().is_held(a));
    play.run("+1ms");
    assert!(!play.world().is_held(a));
    play.run("count ringroad_connections_opened_total = 2\n count ringroad_connections_closed_total = 2");
}
