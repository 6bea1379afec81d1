//! Records against messages recorded on the road, and the traps of the format.

use proptest::prelude::*;
use serde_json::Value;

use super::super::units::*;
use super::*;

/// The fields of a BSM's core data that a record carries, as they stand in UPER.
struct Core {
    msg_cnt: u8,
    sec_mark: u16,
    state: State,
}

/// Reads bit fields, most significant first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> i64 {
        let value = (self.at..self.at + count)
            .fold(0, |value, bit| value << 1 | (self.bytes[bit / 8] >> (7 - bit % 8) & 1) as i64);
        self.at += count;
        value
    }
}

/// The messages of the recorded log, decoded by the table of J2735's BSMcoreData (290 bits, no padding).
fn recorded() -> Vec<Core> {
    let mut log: &[u8] = include_bytes!("../../../tests/data/bsm/bsmTx.bin");
    let mut messages = Vec::new();
    while !log.is_empty() {
        let len = u16::from_le_bytes([log[24], log[25]]) as usize;
        let (message, rest) = log[26..].split_at(len);
        log = rest;
        let frame = message.windows(2).position(|id| id == [0x00, 0x14]).unwrap() + 2;
        let length_bytes = if message[frame] < 0x80 { 1 } else { 2 };
        let mut bits = Bits { bytes: &message[frame + length_bytes..], at: 3 };
        let msg_cnt = bits.take(7) as u8;
        bits.take(32);
        let sec_mark = bits.take(16) as u16;
        let mut state = State { msg_cnt, sec_mark, ..State::unavailable(7) };
        state.lat_e7 = (bits.take(31) - 900_000_000) as i32;
        state.lon_e7 = (bits.take(32) - 1_799_999_999) as i32;
        state.elevation = bits.take(16) as u16;
        state.accuracy = bits.take(8) as u8;
        bits.take(8 + 16);
        state.transmission = bits.take(3) as u8;
        state.speed = bits.take(13) as u16;
        state.heading = bits.take(15) as u16;
        bits.take(8);
        state.acceleration = (bits.take(12) - 2000) as i16;
        bits.take(12 + 8);
        state.yaw = (bits.take(16) - 32_767) as i16;
        messages.push(Core { msg_cnt, sec_mark, state });
    }
    messages
}

#[test]
fn recorded_messages_from_their_measurements() {
    let texts: Vec<Value> = include_str!("../../../tests/data/bsm/bsmTx.json")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["payload"]["data"]["coreData"].take())
        .collect();
    let messages = recorded();
    assert_eq!((messages.len(), texts.len()), (16, 16));
    for message in messages {
        let text = texts
            .iter()
            .find(|text| text["msgCnt"] == message.msg_cnt && text["secMark"] == message.sec_mark)
            .expect("each message is there as text");
        let number = |value: &Value| value.as_f64();
        let state = State {
            key: 7,
            lat_e7: lat_e7(number(&text["position"]["latitude"]).unwrap()),
            lon_e7: lon_e7(number(&text["position"]["longitude"]).unwrap()),
            elevation: elevation(number(&text["position"]["elevation"])),
            speed: speed(number(&text["speed"])),
            // The text says NEUTRAL in each of them; on the wire it is 7, unavailable.
            transmission: TRANSMISSION_UNAVAILABLE,
            heading: heading(number(&text["heading"])),
            yaw: yaw(number(&text["accelSet"]["accelYaw"])),
            acceleration: acceleration(number(&text["accelSet"]["accelLong"])),
            sec_mark: message.sec_mark,
            flags: 0,
            accuracy: accuracy(number(&text["accuracy"]["semiMajor"])),
            msg_cnt: message.msg_cnt,
        };
        assert_eq!(text["transmission"], "NEUTRAL");
        assert_eq!(state, message.state);
        assert_eq!(decode(&encode(&state)), state);
    }
}

#[test]
fn a_zero_filled_record_is_a_parked_car_at_null_island() {
    let state = decode(&[0; RECORD_BYTES]);
    assert_eq!(state.position_e7(), Some((0, 0)));
    assert_eq!(speed_mps(state.speed), Some(0.0));
    assert_eq!(state.transmission, 0);
    assert_eq!(heading_degrees(state.heading), Some(0.0));
    assert_eq!(elevation_m(state.elevation), None);
    assert_eq!(state.flags & (FLAG_GONE | FLAG_EMERGENCY), 0);
}

#[test]
fn the_layout_byte_by_byte() {
    let state = State {
        key: 0x0102_0304_0506_0708,
        lat_e7: 302_672_001,
        lon_e7: -977_431_002,
        elevation: elevation(Some(149.3)),
        speed: speed(Some(13.42)),
        transmission: 2,
        heading: heading(Some(91.5)),
        yaw: yaw(Some(-1.5)),
        acceleration: acceleration(Some(0.43)),
        sec_mark: 55_494,
        flags: FLAG_HARD_BRAKING | FLAG_EMERGENCY,
        accuracy: accuracy(Some(9.3)),
        msg_cnt: 119,
    };
    #[rustfmt::skip]
    assert_eq!(encode(&state), [
        0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01,
        0x81, 0x68, 0x0A, 0x12, // 302672001
        0x26, 0x96, 0xBD, 0xC5, // -977431002
        0xD5, 0x15,             // 1493 + 4096
        0x9F, 0x42,             // 671 | 2 << 13
        0x98, 0x1C,             // 7320
        0x6A, 0xFF,             // -150
        0x2B, 0x00,             // 43
        0xC6, 0xD8,             // 55494
        0x20, 0x40,
        186, 119,
    ]);
}

#[test]
fn keys_are_xxh3() {
    // The test vectors of xxHash for the empty input; clients find the same.
    assert_eq!(key(""), 0x2D06_8005_38D3_94C2);
    assert_ne!(key("bus-8948"), key("bus-8949"));
}

#[test]
fn the_keys_that_clients_are_tested_with_are_right() {
    let vectors = include_str!("../../../clients/js/test/keys.txt");
    let lines: Vec<&str> = vectors.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(lines.len() >= 38 * 3, "of every length");
    for line in lines {
        let (id, hex) = line.split_once(' ').expect("an id and its key");
        assert_eq!(format!("{:016x}", key(id)), hex, "{id}");
    }
}

#[test]
fn unavailable_is_unavailable_everywhere() {
    let state = decode(&encode(&State::unavailable(1)));
    assert_eq!(state, State::unavailable(1));
    assert_eq!(state.position_e7(), None);
    assert_eq!(state.unix_ms(1_760_000_000_000), None);
    assert_eq!(speed_mps(state.speed), None);
    assert_eq!(acceleration_mps2(state.acceleration), None);
}

fn frame(record_size: u8, count: u16, filler: usize) -> Vec<u8> {
    let header = Header { kind: 1, record_size, flags: 0, count, epoch: 9, base_unix_ms: 1_760_000_000_123 };
    let mut bytes = header.encode().to_vec();
    bytes.resize(HEADER_BYTES + filler, 0xEE);
    bytes
}

#[test]
fn a_reader_steps_over_what_it_does_not_know() {
    let mut bytes = frame(40, 2, 0);
    for key in [1, 2] {
        bytes.extend_from_slice(&encode(&State::unavailable(key)));
        bytes.extend_from_slice(&[0xEE; 8]);
    }
    let (header, records) = Header::decode(&bytes).unwrap();
    assert_eq!((header.count, header.epoch, header.base_unix_ms), (2, 9, 1_760_000_000_123));
    assert_eq!(records.map(|record| decode(record).key).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn frames_that_are_none() {
    let error = |bytes: &[u8]| Header::decode(bytes).err();
    assert_eq!(error(&[]), Some(FrameError::Short));
    assert_eq!(error(&[0; 48]), Some(FrameError::Version(0)));
    assert_eq!(error(&frame(31, 1, 31)), Some(FrameError::RecordSize(31)));
    assert_eq!(error(&frame(32, 2, 63)), Some(FrameError::Short));
    assert_eq!(error(&frame(32, 2, 65)), Some(FrameError::Long));
    assert_eq!(error(&frame(32, 0, 0)), None);
}

proptest! {
    #[test]
    fn every_32_bytes_come_back(record: [u8; RECORD_BYTES]) {
        prop_assert_eq!(encode(&decode(&record)), record);
    }

    #[test]
    fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), base: u64) {
        if let Ok((_, records)) = Header::decode(&bytes) {
            records.for_each(|record| { decode(record).unix_ms(base); });
        }
    }
}
