//! What was written is what is read, and what is wrong is found where it lies.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::wire::frame::Role;
use crate::wire::message::{Decoder, Message};

/// In the middle of a minute.
const NOW: u64 = 29_333_333 * 60_000 + 30_000;

/// Where the fields of a vehicle's message begin, as `docs/PROTOCOL.md` lists them, and where the message ends.
const FIELDS: [usize; 20] = [0, 1, 2, 3, 4, 6, 8, 16, 24, 28, 32, 34, 36, 38, 40, 42, 44, 46, 47, 48];

prop_compose! {
    /// Every state that a vehicle may send.
    fn valid_state()(
        key: u64,
        lat_e7 in -900_000_000..=900_000_000,
        lon_e7 in -1_799_999_999..=1_800_000_000,
        elevation: u16,
        (speed, transmission) in (0..=8191u16, 0..=7u8),
        heading in 0..=28_800u16,
        yaw: i16,
        acceleration in -2000..=2001i16,
        sec_mark in prop_oneof![0..=60_999u16, Just(65_535)],
        flags in 0..1u16 << 13,
        accuracy: u8,
        msg_cnt in 0..=127u8,
    ) -> State {
        State {
            key,
            lat_e7,
            lon_e7,
            elevation,
            speed,
            transmission,
            heading,
            yaw,
            acceleration,
            sec_mark,
            flags,
            accuracy,
            msg_cnt,
        }
    }
}

fn report(state: &State, base_unix_ms: u64) -> Vec<u8> {
    let header = Header { kind: STATES_KIND, record_size: 32, flags: 0, count: 1, epoch: 0xABCD, base_unix_ms };
    [&header.encode()[..], &state::encode(state)].concat()
}

/// A message that is acceptable.
fn right() -> Vec<u8> {
    let state = State { lat_e7: 1, lon_e7: 2, sec_mark: 29_990, ..State::unavailable(7) };
    report(&state, NOW)
}

fn place_of_error(message: &[u8]) -> Option<usize> {
    read(message).err().map(|invalid| invalid.offset)
}

#[test]
fn every_field_is_checked_where_it_lies() {
    let with = |offset: usize, bytes: &[u8]| {
        let mut message = right();
        message[offset..offset + bytes.len()].copy_from_slice(bytes);
        place_of_error(&message)
    };
    for (offset, right, wrong) in [
        (0, &[1][..], &[0, 2][..]),
        (1, &[1], &[0, 2]),
        (2, &[32], &[31, 33]),
        (3, &[0], &[1, 128]),
        (31, &[], &[0x80]),
        (46, &[0, 255], &[]),
        (47, &[0, 127], &[128, 255]),
    ] {
        // A longitude's last byte is not where the longitude lies.
        let field = if offset == 31 { 28 } else { offset };
        right.iter().for_each(|byte| assert_eq!(with(offset, &[*byte]), None, "{byte} at {offset}"));
        wrong.iter().for_each(|byte| assert_eq!(with(offset, &[*byte]), Some(field), "{byte} at {offset}"));
    }
    let negative = |value: i16| value as u16;
    for (offset, right, wrong) in [
        (4, &[1][..], &[0, 2, 256, 257][..]),
        (6, &[0, 65_535], &[]),
        (32, &[0, 65_535], &[]),
        (34, &[0, 65_535], &[]),
        (36, &[0, 28_800], &[28_801, 65_535]),
        (38, &[0, 65_535], &[]),
        (40, &[2001, negative(-2000)], &[2002, negative(-2001), negative(i16::MIN)]),
        (42, &[0, 60_999, 65_535], &[61_000, 65_534]),
        (44, &[0, 8191], &[1 << 13, 1 << 14, 1 << 15]),
    ] {
        let with = |value: u16| with(offset, &value.to_le_bytes());
        right.iter().for_each(|value| assert_eq!(with(*value), None, "{value} at {offset}"));
        wrong.iter().for_each(|value| assert_eq!(with(*value), Some(offset), "{value} at {offset}"));
    }
    for (offset, right, wrong) in [
        (24, [-900_000_000, 900_000_000], [-900_000_001, 900_000_001]),
        (28, [-1_799_999_999, 1_800_000_000], [-1_800_000_000, 1_800_000_001]),
    ] {
        let with = |value: i32| with(offset, &value.to_le_bytes());
        right.iter().for_each(|value| assert_eq!(with(*value), None, "{value} at {offset}"));
        wrong.iter().for_each(|value| assert_eq!(with(*value), Some(offset), "{value} at {offset}"));
    }
    // Zeros are a car at (0, 0) as a record, and nothing as a message.
    assert_eq!(place_of_error(&[0; 48]), Some(0));
}

#[test]
fn what_is_missing_or_too_much_is_found_at_every_length() {
    let message = right();
    for len in 0..message.len() {
        let missing = FIELDS.windows(2).find(|field| len < field[1]).unwrap()[0];
        assert_eq!(place_of_error(&message[..len]), Some(missing), "{len} bytes");
    }
    assert_eq!(place_of_error(&message), None);
    for more in [1, 32, 1000] {
        assert_eq!(place_of_error(&[&message[..], &vec![0; more]].concat()), Some(48));
    }
    // What comes first is told first.
    let mut short = message[..20].to_vec();
    short[2] = 40;
    assert_eq!(place_of_error(&short), Some(2));
}

#[test]
fn a_time_needs_both_its_halves() {
    let ts = |base_unix_ms, sec_mark| {
        let state = State { lat_e7: 0, lon_e7: 0, sec_mark, ..State::unavailable(7) };
        read(&report(&state, base_unix_ms)).unwrap().ts
    };
    assert_eq!(ts(NOW, 29_990), Some(NOW - 10));
    assert_eq!(ts(NOW, 40_000), Some(NOW + 10_000));
    assert_eq!(ts(NOW, 40_001), Some(NOW - 49_999));
    assert_eq!(ts(NOW, 65_535), None);
    assert_eq!(ts(0, 5_000), None);
    assert_eq!(ts(1, 5_000), Some(5_000));
    // Bases from which no instant can be named.
    assert_eq!(ts(1, 29_990), None);
    assert_eq!(ts(u64::MAX, 29_990), None);
}

#[test]
fn a_record_says_its_time_as_long_as_it_can() {
    for (ts, is_known) in [
        (NOW, true),
        (NOW - 49_999, true),
        (NOW - 50_000, false),
        (NOW - 60_000, false),
        (NOW + 10_000, true),
        (NOW + 10_001, false),
        (0, false),
        (u64::MAX, false),
    ] {
        let state = State { sec_mark: units::sec_mark(ts), ..State::unavailable(7) };
        let sample = Sample { record: state::encode(&state), ts, accuracy: None };
        let sent = state::decode(&record_at(&sample, NOW));
        assert_eq!(sent.unix_ms(NOW), is_known.then_some(ts), "{ts}");
        assert_eq!(State { sec_mark: state.sec_mark, ..sent }, state);
    }
}

#[test]
fn who_is_gone_is_nothing_else() {
    let gone = state::decode(&gone(7));
    assert_eq!((gone.key, gone.flags, gone.position_e7()), (7, state::FLAG_GONE, None));
}

#[test]
fn kinds_that_are_not_known_are_skipped_and_versions_are_not() {
    let mut message = right();
    message[1] = 9;
    assert!(states(&message).unwrap().is_none());
    assert!(states(&message[..2]).unwrap().is_none());
    message[0] = 2;
    assert_eq!(states(&message).err(), Some(FrameError::Version(2)));
    assert_eq!(states(&[1]).err(), Some(FrameError::Short));
}

/// What is written of some states, behind what is there already.
fn written(before: &[u8], flags: u8, states: &[State], is_complete: bool) -> Vec<u8> {
    let mut out = before.to_vec();
    let mut frames = StateFrames::begin(&mut out, flags, 0xFFFE, NOW);
    states.iter().for_each(|state| frames.push(&mut out, &state::encode(state)));
    frames.finish(&mut out, is_complete);
    out
}

/// Hands binary messages to `take`, as one end hears them when their bytes arrive in pieces that end there.
fn hear(role: Role, bytes: &[u8], cuts: &[usize], mut take: impl FnMut(&[u8])) {
    let cuts = cuts.iter().map(|cut| cut % (bytes.len() + 1));
    let mut cuts: Vec<usize> = cuts.chain([0, bytes.len()]).collect();
    cuts.sort();
    let mut decoder = Decoder::default();
    for piece in cuts.windows(2) {
        let (mut piece, mut at) = (bytes[piece[0]..piece[1]].to_vec(), 0);
        while let (used, Some(message)) = decoder.decode(role, usize::MAX, &mut piece[at..]).unwrap() {
            let Message::Binary(message) = message else { panic!("{message:?}") };
            take(message);
            at += used;
        }
    }
}

fn heard(bytes: &[u8], cuts: &[usize]) -> Vec<(Header, Vec<State>)> {
    let mut heard = Vec::new();
    hear(Role::Client, bytes, cuts, |message| {
        let (header, states) = states(message).unwrap().expect("states");
        heard.push((header, states.collect()));
    });
    heard
}

#[test]
fn frames_at_every_length_of_a_header() {
    for (count, frames) in [(0, 1), (1, 1), (3, 1), (4, 1), (2047, 1), (2048, 2), (4094, 2), (4095, 3)] {
        let states: Vec<State> = (0..count).map(State::unavailable).collect();
        let heard = heard(&written(b"", TIERED | COMPLETE, &states, true), &[]);
        assert_eq!(heard.len(), frames, "{count}");
        for (at, (header, states)) in heard.iter().enumerate() {
            let flags = if at + 1 == frames { TIERED | COMPLETE } else { TIERED };
            assert_eq!((header.flags, usize::from(header.count)), (flags, states.len()), "{count}");
        }
        assert_eq!(heard.into_iter().flat_map(|(_, states)| states).collect::<Vec<_>>(), states);
    }
    assert_eq!(written(b"abc", CUT, &[], false), b"abc", "nothing to say is not said");
}

proptest! {
    #[test]
    fn every_valid_state_is_read_as_it_is(state in valid_state(), base_unix_ms: u64) {
        let ts = state.unix_ms(base_unix_ms).filter(|_| base_unix_ms != 0);
        prop_assert_eq!(read(&report(&state, base_unix_ms)), Ok(Reported { state, ts }));
    }

    #[test]
    fn no_bytes_are_a_panic_and_what_is_wrong_lies_in_them(
        state in valid_state(),
        changes in vec((0..48usize, any::<u8>()), 0..6),
        len in prop_oneof![0..=48usize, Just(48), Just(48), 48..100usize],
        noise in vec(any::<u8>(), 0..100),
    ) {
        let mut damaged = report(&state, NOW);
        changes.iter().for_each(|(at, byte)| damaged[*at] = *byte);
        damaged.resize(len, 0);
        for message in [&damaged, &noise] {
            match read(message) {
                // What is accepted is what was said, and nothing is made of it.
                Ok(reported) => {
                    let mut again = message[..HEADER_BYTES].to_vec();
                    again.extend_from_slice(&state::encode(&reported.state));
                    prop_assert_eq!(&again, message);
                    prop_assert!(reported.state.position_e7().is_some() && reported.state.flags < 1 << 13);
                }
                Err(invalid) => {
                    prop_assert!(invalid.offset <= message.len() && FIELDS.contains(&invalid.offset), "{:?}", invalid);
                    // It is the first one: with everything before it right, it is found again.
                    let mut mended = right();
                    mended.truncate(invalid.offset);
                    mended.extend_from_slice(&message[invalid.offset..]);
                    prop_assert_eq!(read(&mended), Err(invalid));
                    // And what lies behind it does not matter.
                    if let Some(end) = FIELDS.into_iter().find(|end| *end > invalid.offset && *end <= message.len()) {
                        let mut mended = message.clone();
                        mended.truncate(end);
                        mended.extend_from_slice(&right()[end..]);
                        prop_assert_eq!(read(&mended), Err(invalid));
                    }
                }
            }
            if let Ok(Some((header, states))) = states(message) {
                prop_assert_eq!(states.count(), usize::from(header.count));
            }
        }
    }

    #[test]
    fn what_is_written_is_heard_at_any_split(
        states in prop_oneof![vec(valid_state(), 0..40), vec(valid_state(), 2040..2060)],
        flags in 0..8u8,
        is_complete: bool,
        cuts in vec(any::<usize>(), 0..20),
    ) {
        let out = written(b"what was there", flags, &states, is_complete);
        let frames = out.strip_prefix(b"what was there").expect("it is left alone");
        let heard = heard(frames, &cuts);
        for (at, (header, _)) in heard.iter().enumerate() {
            let complete = if is_complete && at + 1 == heard.len() { COMPLETE } else { 0 };
            prop_assert_eq!(header.flags, flags & !COMPLETE | complete);
            prop_assert_eq!((header.epoch, header.base_unix_ms), (0xFFFE, NOW));
        }
        prop_assert_eq!(heard.is_empty(), states.is_empty() && !is_complete);
        prop_assert_eq!(heard.into_iter().flat_map(|(_, states)| states).collect::<Vec<_>>(), states);
    }

    #[test]
    fn a_vehicles_message_is_the_same_at_any_split(state in valid_state(), cuts in vec(any::<usize>(), 0..8)) {
        let mut bytes = Vec::new();
        frame::encode_masked(&mut bytes, Opcode::Binary, [9, 8, 7, 6], &report(&state, NOW));
        let mut reported = Vec::new();
        hear(Role::Server, &bytes, &cuts, |message| reported.push(read(message).map(|reported| reported.state)));
        prop_assert_eq!(reported, [Ok(state)]);
    }
}
