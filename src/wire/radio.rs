//! Frames of the serial radio modem (LoRa), both directions.
//!
//! ```text
//! 56 32 | version 01 | type | sender | recipient | length u16 BE | payload, UTF-8 | checksum u16 BE
//! ```
//!
//! Type is 01 text, 02 emergency, 10 control; the checksum is the sum of all bytes from the version to the end of the
//! payload, modulo 65536.
//!
//! A serial line has no edges and the air adds noise. The [`Decoder`] takes bytes at any split and looks for the next
//! frame that is right in every respect. When one turns out wrong it gives up no more than its first magic byte: a good
//! frame that began inside of the bad one is still found.

use std::str;

use crate::limits::RADIO_PAYLOAD_BYTES_MAX;

/// First bytes of a frame: "V2".
const MAGIC: [u8; 2] = [0x56, 0x32];
const VERSION: u8 = 1;

/// Magic, version, type, two ids, length.
const HEAD_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 2;
const FRAME_BYTES_MAX: usize = HEAD_BYTES + RADIO_PAYLOAD_BYTES_MAX + CHECKSUM_BYTES;

const _: () = assert!(RADIO_PAYLOAD_BYTES_MAX <= u16::MAX as usize, "the length is two bytes");

/// As a recipient: everyone in reach. Vehicles have 1…254.
pub const EVERYONE: u8 = 0xFF;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message for a vehicle, or for all.
    Text = 0x01,
    /// An emergency alert.
    Emergency = 0x02,
    /// Between modems.
    Control = 0x10,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        [Kind::Text, Kind::Emergency, Kind::Control].into_iter().find(|&kind| kind as u8 == byte)
    }
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it carries.
    pub kind: Kind,
    /// Short id of who sent it.
    pub sender: u8,
    /// Short id of whom it is for, or [`EVERYONE`].
    pub recipient: u8,
    /// Any text, at most [`RADIO_PAYLOAD_BYTES_MAX`] bytes.
    pub payload: &'a str,
}

/// The payload is longer than a frame may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a radio frame carries at most {RADIO_PAYLOAD_BYTES_MAX} bytes")]
pub struct TooLong;

/// Appends a frame to `out`.
pub fn encode(out: &mut Vec<u8>, frame: &Frame<'_>) -> Result<(), TooLong> {
    if frame.payload.len() > RADIO_PAYLOAD_BYTES_MAX {
        return Err(TooLong);
    }
    out.extend_from_slice(&MAGIC);
    let summed = out.len();
    out.extend_from_slice(&[VERSION, frame.kind as u8, frame.sender, frame.recipient]);
    out.extend_from_slice(&(frame.payload.len() as u16).to_be_bytes());
    out.extend_from_slice(frame.payload.as_bytes());
    let checksum = checksum(&out[summed..]);
    out.extend_from_slice(&checksum.to_be_bytes());
    Ok(())
}

/// What the line brought that was not a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rejects {
    /// Bytes passed over in search of a frame, first bytes of bad frames included.
    pub bytes_skipped: u64,
    /// Frames of another version.
    pub version: u64,
    /// Frames that claim more than [`RADIO_PAYLOAD_BYTES_MAX`].
    pub length: u64,
    /// Frames whose checksum is wrong: noise, or two vehicles that spoke at once.
    pub checksum: u64,
    /// Whole frames of a type that is not known.
    pub kind: u64,
    /// Whole frames whose payload is not UTF-8.
    pub utf8: u64,
    /// Frames that were never completed.
    pub unfinished: u64,
}

impl Rejects {
    /// Frames of all kinds that were rejected.
    pub fn frames(&self) -> u64 {
        self.version + self.length + self.checksum + self.kind + self.utf8 + self.unfinished
    }
}

/// Finds frames in a stream of bytes.
#[derive(Debug, Default)]
pub struct Decoder {
    /// At most one frame, from its first magic byte on.
    buffer: Vec<u8>,
    /// Leading bytes that the caller has seen as a frame.
    spent: usize,
    rejects: Rejects,
}

/// What the buffer holds.
enum Found {
    /// Not yet as many bytes as it takes to tell.
    Needs(usize),
    /// A frame of this length.
    Frame(usize),
    /// A whole frame of this length that is of no use.
    Useless(usize),
    /// Nothing that begins at the first byte.
    Noise,
}

impl Decoder {
    /// Takes bytes from `input` until a frame is complete. Answers how many it took, and the frame. Call in a loop
    /// until there is none: then all of `input` was taken.
    pub fn decode<'a>(&'a mut self, input: &[u8]) -> (usize, Option<Frame<'a>>) {
        self.buffer.drain(..std::mem::take(&mut self.spent));
        let mut taken = 0;
        let frame_bytes = loop {
            match self.examine() {
                Found::Frame(bytes) => break bytes,
                Found::Useless(bytes) => drop(self.buffer.drain(..bytes)),
                Found::Noise => self.skip_to_magic(),
                Found::Needs(_) if taken == input.len() => return (taken, None),
                Found::Needs(bytes) => {
                    let more = (bytes - self.buffer.len()).min(input.len() - taken);
                    self.buffer.extend_from_slice(&input[taken..taken + more]);
                    debug_assert!(self.buffer.len() <= FRAME_BYTES_MAX);
                    taken += more;
                }
            }
        };
        self.spent = frame_bytes;
        (taken, parse(&self.buffer[..frame_bytes]))
    }

    /// Whether a frame has begun and not ended.
    pub fn is_amid_frame(&self) -> bool {
        self.buffer.len() > self.spent
    }

    /// The line has been quiet for longer than a pause within a frame: what has begun will not be finished. Whatever
    /// frames it swallowed come out of [`Decoder::decode`] with no input.
    pub fn line_is_quiet(&mut self) {
        if self.is_amid_frame() {
            self.buffer.drain(..std::mem::take(&mut self.spent));
            self.rejects.unfinished += 1;
            self.skip_to_magic();
        }
    }

    /// What was not a frame, so far.
    pub fn rejects(&self) -> Rejects {
        self.rejects
    }

    fn examine(&mut self) -> Found {
        let held = self.buffer.as_slice();
        if held.len() < HEAD_BYTES {
            let noise = held.iter().zip(MAGIC).any(|(&byte, magic)| byte != magic);
            return if noise { Found::Noise } else { Found::Needs(HEAD_BYTES) };
        }
        if held[..2] != MAGIC {
            return Found::Noise;
        }
        if held[2] != VERSION {
            self.rejects.version += 1;
            return Found::Noise;
        }
        let payload_bytes = u16::from_be_bytes([held[6], held[7]]) as usize;
        if payload_bytes > RADIO_PAYLOAD_BYTES_MAX {
            self.rejects.length += 1;
            return Found::Noise;
        }
        let payload_end = HEAD_BYTES + payload_bytes;
        let frame_bytes = payload_end + CHECKSUM_BYTES;
        if held.len() < frame_bytes {
            return Found::Needs(frame_bytes);
        }
        let sent = u16::from_be_bytes([held[payload_end], held[payload_end + 1]]);
        if checksum(&held[MAGIC.len()..payload_end]) != sent {
            self.rejects.checksum += 1;
            return Found::Noise;
        }
        if Kind::of(held[3]).is_none() {
            self.rejects.kind += 1;
            return Found::Useless(frame_bytes);
        }
        if str::from_utf8(&held[HEAD_BYTES..payload_end]).is_err() {
            self.rejects.utf8 += 1;
            return Found::Useless(frame_bytes);
        }
        Found::Frame(frame_bytes)
    }

    /// Drops the first byte, and all that follow until one that may begin a frame.
    fn skip_to_magic(&mut self) {
        let next = self.buffer.iter().skip(1).position(|&byte| byte == MAGIC[0]).map_or(self.buffer.len(), |at| at + 1);
        self.buffer.drain(..next);
        self.rejects.bytes_skipped += next as u64;
    }
}

/// The frame in bytes that were examined.
fn parse(bytes: &[u8]) -> Option<Frame<'_>> {
    let payload = bytes.get(HEAD_BYTES..bytes.len() - CHECKSUM_BYTES)?;
    Some(Frame {
        kind: Kind::of(bytes[3])?,
        sender: bytes[4],
        recipient: bytes[5],
        payload: str::from_utf8(payload).ok()?,
    })
}

fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum: u16, &byte| sum.wrapping_add(byte as u16))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By hand: 01+01+11+FF+00+02 = 0114, 'H' 48 + 'i' 69 = B1, together 01C5.
    const HI: [u8; 12] = [0x56, 0x32, 0x01, 0x01, 0x11, 0xFF, 0x00, 0x02, b'H', b'i', 0x01, 0xC5];

    fn text(payload: &str) -> Frame<'_> {
        Frame { kind: Kind::Text, sender: 17, recipient: EVERYONE, payload }
    }

    fn bytes(frame: &Frame<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, frame).unwrap();
        out
    }

    /// Feeds chunks, answers the payloads of the frames.
    fn feed<'a>(decoder: &mut Decoder, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut found = Vec::new();
        for chunk in chunks {
            let mut at = 0;
            loop {
                let (taken, frame) = decoder.decode(&chunk[at..]);
                at += taken;
                match frame {
                    Some(frame) => found.push(frame.payload.to_string()),
                    None => break,
                }
                assert!(decoder.buffer.len() <= FRAME_BYTES_MAX);
            }
            assert_eq!(at, chunk.len());
        }
        found
    }

    #[test]
    fn a_frame_computed_by_hand() {
        assert_eq!(bytes(&text("Hi")), HI);
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(&HI), (12, Some(text("Hi"))));
        assert_eq!(decoder.rejects(), Rejects::default());
    }

    #[test]
    fn a_bad_frame_costs_no_good_one() {
        let mut wrong_sum = HI;
        wrong_sum[11] ^= 1;
        let mut too_long = HI;
        too_long[6] = 0xFF;
        let mut other_version = HI;
        other_version[2] = 2;
        let expected = [
            (&wrong_sum, Rejects { checksum: 1, bytes_skipped: 12, ..Rejects::default() }),
            (&too_long, Rejects { length: 1, bytes_skipped: 12, ..Rejects::default() }),
            (&other_version, Rejects { version: 1, bytes_skipped: 12, ..Rejects::default() }),
        ];
        for (bad, rejects) in expected {
            let mut decoder = Decoder::default();
            assert_eq!(feed(&mut decoder, [&bad[..], &HI]), ["Hi"]);
            assert_eq!(decoder.rejects(), rejects);
        }
    }

    #[test]
    fn a_frame_that_began_inside_of_a_broken_one_is_found() {
        // The head of a frame of 16 bytes, cut off by another vehicle's frame.
        let cut = [0x56, 0x32, 0x01, 0x01, 0x11, 0xFF, 0x00, 0x10, b'H'];
        let mut decoder = Decoder::default();
        assert_eq!(feed(&mut decoder, [&cut[..], &HI, &HI]), ["Hi", "Hi"]);
        assert_eq!(decoder.rejects().checksum, 1);
    }

    #[test]
    fn silence_frees_what_an_unfinished_frame_holds_back() {
        let cut = [0x56, 0x32, 0x01, 0x01, 0x11, 0xFF, 0x08, 0x00];
        let mut decoder = Decoder::default();
        assert!(feed(&mut decoder, [&cut[..], &HI]).is_empty());
        decoder.line_is_quiet();
        assert_eq!(feed(&mut decoder, [&[][..]]), ["Hi"]);
        assert_eq!(decoder.rejects().unfinished, 1);
        decoder.line_is_quiet();
        assert_eq!(decoder.rejects().unfinished, 1);
    }

    #[test]
    fn whole_frames_of_no_use_are_passed_over() {
        let mut unknown = HI;
        unknown[3] = 0x20;
        unknown[11] = 0xE4;
        let not_utf8 = [0x56, 0x32, 0x01, 0x01, 0x11, 0xFF, 0x00, 0x01, 0xFF, 0x02, 0x12];
        let mut decoder = Decoder::default();
        assert_eq!(feed(&mut decoder, [&unknown[..], &not_utf8, &HI]), ["Hi"]);
        assert_eq!(decoder.rejects(), Rejects { kind: 1, utf8: 1, ..Rejects::default() });
    }

    #[test]
    fn more_than_a_frame_carries_is_refused() {
        let mut out = Vec::new();
        let full = "x".repeat(RADIO_PAYLOAD_BYTES_MAX);
        assert_eq!(encode(&mut out, &text(&full)), Ok(()));
        assert_eq!(feed(&mut Decoder::default(), [&out[..]]), [full.as_str()]);
        assert_eq!(encode(&mut out, &text(&format!("{full}x"))), Err(TooLong));
        assert_eq!(out.len(), FRAME_BYTES_MAX);
    }

    /// A stretch of the line: a frame, or bytes that hold no magic and so swallow nothing.
    #[derive(Clone, Debug)]
    enum Stretch {
        Frame(u8, u8, u8, String),
        Noise(Vec<u8>),
    }

    fn stretch() -> impl Strategy<Value = Stretch> {
        let noise = any::<u8>().prop_filter("no magic", |&byte| byte != MAGIC[0]);
        prop_oneof![
            (0..3u8, any::<u8>(), any::<u8>(), ".{0,60}").prop_map(|(k, s, r, p)| Stretch::Frame(k, s, r, p)),
            prop::collection::vec(noise, 0..30).prop_map(Stretch::Noise),
        ]
    }

    proptest! {
        #[test]
        fn every_frame_comes_out_at_any_split(
            stretches in prop::collection::vec(stretch(), 0..20), cuts in prop::collection::vec(1..50usize, 1..8),
        ) {
            let (mut line, mut expected, mut noise) = (Vec::new(), Vec::new(), 0);
            for stretch in &stretches {
                match stretch {
                    Stretch::Frame(kind, sender, recipient, payload) => {
                        let kind = [Kind::Text, Kind::Emergency, Kind::Control][*kind as usize];
                        encode(&mut line, &Frame { kind, sender: *sender, recipient: *recipient, payload }).unwrap();
                        expected.push(payload.clone());
                    }
                    Stretch::Noise(bytes) => {
                        noise += bytes.len() as u64;
                        line.extend_from_slice(bytes);
                    }
                }
            }
            let (mut decoder, mut found, mut rest, mut cuts) =
                (Decoder::default(), Vec::new(), &line[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                found.extend(feed(&mut decoder, [chunk]));
                rest = after;
            }
            prop_assert_eq!(found, expected);
            prop_assert_eq!(decoder.rejects(), Rejects { bytes_skipped: noise, ..Rejects::default() });
        }

        #[test]
        fn one_flipped_byte_costs_at_most_its_own_frame(at in 0..36usize, flip in 1..=255u8) {
            let mut line = [HI, HI, HI].concat();
            line[at] ^= flip;
            let mut decoder = Decoder::default();
            let mut found = feed(&mut decoder, [&line[..]]).len();
            // A longer length waits for bytes that do not come, until the line is quiet.
            for _ in 0..40 {
                decoder.line_is_quiet();
                found += feed(&mut decoder, [&[][..]]).len();
            }
            prop_assert!(found >= 2, "{} frames", found);
        }

        #[test]
        fn no_bytes_are_a_panic(line in prop::collection::vec(prop_oneof![Just(0x56), Just(0x32), 0..4u8], 0..300)) {
            let mut decoder = Decoder::default();
            feed(&mut decoder, [&line[..]]);
            decoder.line_is_quiet();
            feed(&mut decoder, [&[][..]]);
        }
    }
}
