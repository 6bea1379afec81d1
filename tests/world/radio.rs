//! What goes over the radio bridge, and what comes in.

use crate::script::{Play, check};

const BRIDGE: &str = "set presence.scope = 'none'
    set radio.device = '/dev/ttyUSB0'
    set radio.short_ids = { 1 = 'veh-a', 2 = 'veh-b', 9 = 'veh-hiker' }
    shards 2
    ";

#[track_caller]
fn bridged(script: &str) {
    Play::default().run(BRIDGE).run(script);
}

#[test]
fn text_for_a_vehicle_that_is_connected_is_its_message() {
    bridged(
        "a@0 registers; b@1 registers
         forget
         radio hears text 9 1 hello a
         a< hiker: \"hello a\" via radio
         b< nothing
         radio hears text 77 2 hello b
         b< radio-77: \"hello b\" via radio
         a< nothing
         count ringroad_radio_frames_in_total = 2",
    );
}

#[test]
fn other_text_is_for_everyone_on_every_shard() {
    bridged(
        "a@0 registers; b@1 registers; x@1 connects
         forget
         radio hears text 9 255 anybody there
         a b x< radio hiker: \"anybody there\"
         radio hears text 9 42 who is 42
         a b x< radio hiker: \"who is 42\"
         b hangs up
         radio hears text 9 2 b is not here
         a x< radio hiker: \"b is not here\"",
    );
}

#[test]
fn an_emergency_comes_in_and_is_not_sent_out_again() {
    bridged(
        "a@0 registers; b@1 registers
         forget
         radio hears emergency 9 255 help
         a b< alert hiker via radio
         radio< nothing",
    );
}

#[test]
fn every_alert_of_a_client_goes_out() {
    bridged(
        "a@0 registers; b@1 registers; c@1 registers
         forget
         a alerts
         a b c< alert a
         radio< emergency 1 to 255: a
         b alerts
         radio< emergency 2 to 255: b
         c alerts
         radio< emergency 0 to 255: c
         count ringroad_radio_frames_out_total = 3",
    );
}

#[test]
fn a_message_to_a_vehicle_that_is_only_on_the_radio_goes_out() {
    bridged(
        "a@0 registers; b@1 registers; c@1 registers
         forget
         a tells hiker where are you
         radio< text 1 to 9: where are you
         b tells hiker me too
         radio< text 2 to 9: me too
         c tells hiker who am I
         radio< text 0 to 9: who am I
         a b c< nothing
         a tells nobody x
         a< error target_offline
         b tells a hi
         a< b: \"hi\"
         radio< nothing
         a hangs up
         b tells a still there
         radio< text 2 to 1: still there",
    );
}

#[test]
fn signals_do_not_go_over_the_radio() {
    bridged(
        "a@0 registers
         forget
         a requests hiker
         a< error target_offline
         radio< nothing",
    );
}

#[test]
fn control_frames_and_noise_are_for_nobody() {
    let mut play = Play::default();
    play.run(BRIDGE).run("a@0 registers\n forget\n radio hears control 9 255 x\n a< nothing");
    play.world().radio_receives(b"\x56\x32\x01\x01\x09\xff\x00\x01x\x00\x00 noise \x56");
    play.run(
        "a< nothing
         count ringroad_radio_frames_bad_total = 1
         radio hears text 9 255 after the noise
         a< radio hiker: \"after the noise\"",
    );
}

#[test]
fn without_a_modem_nothing_goes_out() {
    check(
        "set presence.scope = 'none'
         set radio.short_ids = { 9 = 'veh-hiker' }
         a registers
         forget
         a tells hiker hello
         a< error target_offline
         a alerts
         a< alert a
         radio< nothing",
    );
}
