//! The radio bridge: short ids to vehicles and back, and what goes which way.
//!
//! The modem is attached to worker 0. Every shard knows the short ids, so it knows at once whether the radio can help.

use rustc_hash::FxHashMap;

use crate::config;
use crate::limits;
use crate::turn::{Now, ShardId};
use crate::wire::event::Event;
use crate::wire::radio::{self, Decoder, Frame, Kind};

use super::mail::{Note, Relayed, Sender, What};
use super::world::WorldId;
use super::{Shard, Timer};

/// A frame on its way to the modem.
#[derive(Clone, Debug)]
pub struct RadioFrame {
    pub kind: Kind,
    pub sender: u8,
    pub recipient: u8,
    pub payload: String,
}

/// The bridge as one shard sees it.
pub struct Radio {
    attached: bool,
    vehicles: FxHashMap<u8, String>,
    short_ids: FxHashMap<String, u8>,
    decoder: Decoder,
    /// How many of the decoder's bad frames have been counted.
    bad_counted: u64,
    /// When (`mono_ms`) bytes last came.
    heard_ms: u64,
    /// A timer looks whether the line has become quiet amid a frame.
    awaited: bool,
    /// Bytes for the modem.
    pub line: Vec<u8>,
    /// Those of the turn that is being carried out.
    pub sending: Vec<u8>,
}

/// The radio serves the default world.
const WORLD: WorldId = WorldId(0);

/// The shard that the modem is attached to.
const HOME: ShardId = ShardId(0);

/// Sender id of a vehicle that has none.
const NOBODY: u8 = 0;

impl Radio {
    pub fn new(config: &config::Radio) -> Self {
        let vehicles: FxHashMap<u8, String> = config
            .short_ids
            .iter()
            .filter_map(|(short, vehicle_id)| Some((short.parse().ok()?, vehicle_id.clone())))
            .collect();
        let short_ids = vehicles.iter().map(|(short, vehicle_id)| (vehicle_id.clone(), *short)).collect();
        Radio {
            attached: !config.device.is_empty(),
            vehicles,
            short_ids,
            decoder: Decoder::default(),
            bad_counted: 0,
            heard_ms: 0,
            awaited: false,
            line: Vec::new(),
            sending: Vec::new(),
        }
    }

    /// What JSON clients see for a short id: its vehicle, or its number.
    fn name(&self, short: u8) -> String {
        self.vehicles.get(&short).cloned().unwrap_or_else(|| format!("radio-{short}"))
    }
}

impl Shard {
    /// Sends text to a vehicle over the radio. False if there is no radio or the vehicle has no short id.
    pub(super) fn radio_text(&mut self, sender: &str, recipient: &str, content: &str) -> bool {
        let Some(&recipient) = self.radio.short_ids.get(recipient) else { return false };
        if !self.radio.attached {
            return false;
        }
        let sender = self.radio.short_ids.get(sender).copied().unwrap_or(NOBODY);
        self.radio_send(RadioFrame { kind: Kind::Text, sender, recipient, payload: content.to_owned() });
        true
    }

    /// Every alert of a client goes out over the radio as well; its payload is the sender's vehicle id.
    pub(super) fn radio_emergency(&mut self, sender: &str) {
        if self.radio.attached {
            let short = self.radio.short_ids.get(sender).copied().unwrap_or(NOBODY);
            let payload = sender.to_owned();
            self.radio_send(RadioFrame { kind: Kind::Emergency, sender: short, recipient: radio::EVERYONE, payload });
        }
    }

    /// Hands a frame to the modem, on whichever shard it is.
    pub(super) fn radio_send(&mut self, frame: RadioFrame) {
        if !self.is_here(HOME) {
            let note = Note { world: WORLD, what: What::Radio(frame) };
            self.mesh.tell(HOME, note, &mut self.out.counters);
            return;
        }
        let RadioFrame { kind, sender, recipient, payload } = frame;
        match radio::encode(&mut self.radio.line, &Frame { kind, sender, recipient, payload: &payload }) {
            Ok(()) => self.out.counters.radio_frames_out += 1,
            Err(radio::TooLong) => self.out.counters.radio_frames_bad += 1,
        }
    }

    /// Bytes came from the modem.
    pub(super) fn radio_received(&mut self, now: Now, bytes: &[u8]) {
        self.radio_bytes(now, bytes);
        self.radio.heard_ms = now.mono_ms;
        self.await_radio(now);
    }

    /// Has the line been quiet amid a frame? Then frames that the cut one has swallowed come out.
    pub(super) fn check_radio(&mut self, now: Now) {
        self.radio.awaited = false;
        if now.mono_ms >= self.radio.heard_ms + limits::RADIO_QUIET_MS {
            while self.radio.decoder.is_amid_frame() {
                self.radio.decoder.line_is_quiet();
                self.radio_bytes(now, &[]);
            }
        }
        self.await_radio(now);
    }

    fn await_radio(&mut self, now: Now) {
        if self.radio.decoder.is_amid_frame() && !self.radio.awaited {
            self.radio.awaited = true;
            let quiet_at = self.radio.heard_ms + limits::RADIO_QUIET_MS;
            self.out.timers.set(quiet_at.max(now.mono_ms + 1), Timer::Radio);
        }
    }

    fn radio_bytes(&mut self, now: Now, bytes: &[u8]) {
        let mut decoder = std::mem::take(&mut self.radio.decoder);
        let mut at = 0;
        loop {
            let (used, frame) = decoder.decode(&bytes[at..]);
            at += used;
            let Some(frame) = frame else { break };
            self.out.counters.radio_frames_in += 1;
            self.radio_frame(now, frame);
        }
        let bad = decoder.rejects().frames();
        self.out.counters.radio_frames_bad += bad - std::mem::replace(&mut self.radio.bad_counted, bad);
        self.radio.decoder = decoder;
    }

    fn radio_frame(&mut self, now: Now, frame: Frame<'_>) {
        let from = self.radio.name(frame.sender);
        match frame.kind {
            Kind::Text => {
                let recipient = self.radio.vehicles.get(&frame.recipient).cloned();
                let delivered = recipient.is_some_and(|recipient| {
                    let event = Event::ReceiveMessage {
                        id: self.ids.next_uuid(),
                        sender: &from,
                        recipient: &recipient,
                        content: frame.payload,
                        ts: now.unix_ms,
                        via_radio: true,
                    };
                    self.deliver_from_radio(now, &recipient, &event)
                });
                if !delivered {
                    let event = Event::RadioText { from: &from, content: frame.payload };
                    self.publish(now, WORLD, "radio_text", &event);
                }
            }
            Kind::Emergency => self.emergency(now, WORLD, &from, None, true),
            // Modem to modem; nothing that a client has asked for.
            Kind::Control => {}
        }
    }

    fn deliver_from_radio(&mut self, now: Now, recipient: &str, event: &Event<'_>) -> bool {
        let Some(index) = self.worlds[WORLD].vehicles.by_id(recipient) else { return false };
        let mut text = Vec::new();
        event.write(&mut text);
        let sender = Sender { shard: HOME, conn: None, key: 0, recipient: None, remote: None };
        self.send_to(now, WORLD, index, Relayed::Message, text, sender);
        true
    }
}
