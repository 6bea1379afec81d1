//! The radio bridge over a real pseudoterminal, with vehicles on both workers.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::unistd::ttyname;
use ringroad::wire::radio::{Decoder, EVERYONE, Frame, Kind, encode};
use serde_json::json;

use crate::client::expect_all;
use crate::fleet::Fleet;
use crate::gateway::Gateway;
use crate::{Numbers, PATIENCE};

/// The far end of the serial line.
struct Modem {
    line: File,
    decoder: Decoder,
    frames: Vec<(Kind, u8, u8, String)>,
}

impl Modem {
    /// A gateway with two workers and this modem. Short ids 10 to 19 are `car-0` to `car-9`, 200 is `far-away`.
    fn attach() -> (Gateway, Modem) {
        let pty = openpty(None, None).expect("a pseudoterminal");
        let device = format!("radio.device={}", ttyname(&pty.slave).expect("a name").display());
        let mut settings = vec![device, "radio.short_ids.200=far-away".to_owned()];
        settings.extend((0..10).map(|n| format!("radio.short_ids.{}=car-{n}", 10 + n)));
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let gateway = Gateway::start(&settings);
        let line = File::from(pty.master);
        (gateway, Modem { line, decoder: Decoder::default(), frames: Vec::new() })
    }

    fn say(&mut self, kind: Kind, sender: u8, recipient: u8, payload: &str) {
        self.write(&frame(kind, sender, recipient, payload));
    }

    fn write(&mut self, bytes: &[u8]) {
        self.line.write_all(bytes).expect("written");
    }

    /// Whether the gateway sends something within this time.
    fn has_bytes(&self, within: Duration) -> bool {
        let mut line = [PollFd::new(self.line.as_fd(), PollFlags::POLLIN)];
        poll(&mut line, PollTimeout::try_from(within).expect("short")).expect("a poll") > 0
    }

    /// The next frame that the gateway sends.
    fn hears(&mut self) -> (Kind, u8, u8, String) {
        while self.frames.is_empty() {
            assert!(self.has_bytes(PATIENCE), "the gateway is silent");
            let mut bytes = [0; 256];
            let len = self.line.read(&mut bytes).expect("bytes from the gateway");
            let mut at = 0;
            loop {
                let (used, frame) = self.decoder.decode(&bytes[at..len]);
                at += used;
                let Some(Frame { kind, sender, recipient, payload }) = frame else { break };
                self.frames.push((kind, sender, recipient, payload.to_owned()));
            }
        }
        assert_eq!(self.decoder.rejects(), Default::default(), "bytes that are no frame");
        self.frames.remove(0)
    }
}

fn frame(kind: Kind, sender: u8, recipient: u8, payload: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, &Frame { kind, sender, recipient, payload }).expect("short enough");
    bytes
}

#[test]
fn what_the_radio_says_reaches_whom_it_is_for() {
    let (gateway, mut modem) = Modem::attach();
    let mut fleet = Fleet::register(&gateway, 4);
    for n in 0..fleet.vehicles.len().min(10) {
        let content = format!("hello {n} \u{1F4FB}");
        modem.say(Kind::Text, 200, 10 + n as u8, &content);
        let got = fleet.vehicles[n].expect("receive_message");
        assert_eq!(got["content"], content);
        assert_eq!((&got["senderId"], &got["via"]), (&json!("far-away"), &json!("radio")));
        assert_eq!(got["recipientId"], format!("car-{n}"));
        assert!(got["id"].is_string() && got["ts"].is_u64(), "{got}");
    }
    // For all, for a vehicle that is not connected, for a short id that nobody has.
    for (n, recipient) in [EVERYONE, 200, 99].into_iter().enumerate() {
        let content = format!("to whom it may concern {n}");
        modem.say(Kind::Text, 77, recipient, &content);
        expect_all(&mut fleet.vehicles, "radio_text", |data| *data == json!({"from": "radio-77", "content": content}));
    }
    modem.say(Kind::Emergency, 200, EVERYONE, "help");
    expect_all(&mut fleet.vehicles, "emergency_alert", |data| {
        data["senderId"] == "far-away" && data["via"] == "radio" && data["id"].is_string()
    });
    modem.say(Kind::Control, 1, 2, "modem to modem");
    modem.say(Kind::Text, 1, EVERYONE, "last");
    expect_all(&mut fleet.vehicles, "radio_text", |data| data["content"] == "last");
    for vehicle in &mut fleet.vehicles {
        let more = vehicle.sync();
        assert!(more.iter().all(|event| event.name == "presence_update"), "{more:?}");
    }
    // What came over the radio does not go out over it again.
    assert_eq!(gateway.metric("ringroad_radio_frames_out_total"), 0);
}

#[test]
fn whom_no_connection_reaches_the_radio_does() {
    let (gateway, mut modem) = Modem::attach();
    let mut fleet = Fleet::register(&gateway, 4);
    for n in 0..4 {
        let id = fleet.vehicles[n].id.clone();
        let content = format!("{} {n}", "are you there? \u{e9}".repeat(20));
        fleet.vehicles[n].send("send_message", json!({"senderId": id, "recipientId": "far-away", "content": content}));
        assert_eq!(modem.hears(), (Kind::Text, 10 + n as u8, 200, content));
        fleet.vehicles[n].send("emergency_alert", json!({"senderId": id}));
        assert_eq!(modem.hears(), (Kind::Emergency, 10 + n as u8, EVERYONE, id.clone()));
        // Nobody has a short id for this one.
        fleet.vehicles[n].send("send_message", json!({"senderId": id, "recipientId": "nobody", "content": "?"}));
        fleet.vehicles[n].expect_error("target_offline");
        // This one is connected, so the radio is not needed.
        let other = format!("car-{}", (n + 1) % 4);
        fleet.vehicles[n].send("send_message", json!({"senderId": id, "recipientId": other, "content": "hi"}));
        fleet.vehicles[(n + 1) % 4].expect("receive_message");
    }
    expect_all(&mut fleet.vehicles, "emergency_alert", |data| data.get("via").is_none());
    assert_eq!(gateway.metric("ringroad_radio_frames_out_total"), 8);
    assert!(!modem.has_bytes(Duration::ZERO), "more than was to be said");
}

#[test]
fn noise_and_splits_cost_no_frame() {
    let (gateway, mut modem) = Modem::attach();
    let mut fleet = Fleet::register(&gateway, 2);
    let mut numbers = Numbers(3);
    let mut line = Vec::new();
    for n in 0..60 {
        let len = numbers.below(40);
        // Noise without a first magic byte swallows nothing.
        line.extend(numbers.bytes(len).into_iter().filter(|byte| *byte != 0x56));
        if n % 3 == 0 {
            let mut bad = frame(Kind::Text, 1, EVERYONE, "bad");
            *bad.last_mut().expect("a checksum") ^= 1;
            line.extend(bad);
        }
        line.extend(frame(Kind::Text, 1, EVERYONE, &format!("frame {n}")));
    }
    let mut rest = &line[..];
    while !rest.is_empty() {
        let (now, later) = rest.split_at((1 + numbers.below(30)).min(rest.len()));
        modem.write(now);
        rest = later;
    }
    for n in 0..60 {
        expect_all(&mut fleet.vehicles, "radio_text", |data| data["content"] == format!("frame {n}"));
    }
    assert_eq!(gateway.metric("ringroad_radio_frames_in_total"), 60);
    assert_eq!(gateway.metric("ringroad_radio_frames_bad_total"), 20);
}

#[test]
fn a_frame_that_was_cut_off_does_not_hold_up_the_next() {
    let (gateway, mut modem) = Modem::attach();
    let mut fleet = Fleet::register(&gateway, 2);
    let long = frame(Kind::Text, 1, EVERYONE, &"x".repeat(1_000));
    modem.write(&long[..100]);
    modem.say(Kind::Emergency, 200, EVERYONE, "help");
    // The line is quiet from here on.
    expect_all(&mut fleet.vehicles, "emergency_alert", |data| data["senderId"] == "far-away");
}

#[test]
fn the_gateway_survives_the_loss_of_its_radio() {
    let (gateway, modem) = Modem::attach();
    let mut fleet = Fleet::register(&gateway, 3);
    drop(modem);
    for vehicle in &mut fleet.vehicles {
        vehicle.send("emergency_alert", json!({"senderId": vehicle.id}));
        vehicle.expect("emergency_alert");
        vehicle.sync();
    }
}
