//! The tables and examples of `docs/PROTOCOL.md`, section 12, are what the gateway reads and writes.

use std::collections::BTreeMap;

use ringroad::wire::slim::{self, StateFrames};
use ringroad::wire::state::{self, HEADER_BYTES, Header, RECORD_BYTES, State};
use ringroad::wire::units;

const PROTOCOL: &str = include_str!("../../docs/PROTOCOL.md");

/// Noon of 2026-01-01, when the example of section 1 takes place.
const NOON: u64 = 1_767_268_800_000;

fn section() -> &'static str {
    PROTOCOL.split("\n## 12.").nth(1).expect("section 12 is the last one")
}

/// A row of a table: a field of a header or record.
struct Row {
    offset: usize,
    kind: &'static str,
    name: &'static str,
    meaning: &'static str,
}

impl Row {
    /// The field in some bytes.
    fn read(&self, bytes: &[u8]) -> i128 {
        let (signed, bits) = self.kind.split_at(1);
        let field = &bytes[self.offset..][..bits.parse::<usize>().expect("bits") / 8];
        let value = field.iter().rev().fold(0, |value, byte| value << 8 | i128::from(*byte));
        let limit = 1 << (8 * field.len());
        if signed == "i" && value >= limit / 2 { value - limit } else { value }
    }

    fn bytes(&self) -> usize {
        self.kind[1..].parse::<usize>().expect("bits") / 8
    }

    /// The numbers that the page gives a name, such as `(28800, "unavailable")`.
    fn named(&self) -> Vec<(i128, &'static str)> {
        let parts = self.meaning.split(['·', ';', ',', ':', '.']).map(str::trim);
        let named = parts.filter_map(|part| {
            let (number, name) = part.strip_prefix("bit ").unwrap_or(part).split_once(' ')?;
            Some((number.replace('−', "-").parse().ok()?, name.trim_matches('`')))
        });
        named.collect()
    }
}

/// The rows of the table whose third column is called so.
fn table(called: &str) -> Vec<Row> {
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    let lines = section().lines().skip_while(|line| !line.starts_with(&format!("| offset | type | {called} |")));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|')).map(|line| match cells(line)[..] {
        [offset, kind, name, meaning] => Row { offset: offset.parse().expect("an offset"), kind, name, meaning },
        _ => panic!("not four cells: {line}"),
    });
    rows.collect()
}

/// Each row begins where the one before ends, from 0 to `bytes`.
fn without_gaps(rows: &[Row], bytes: usize) {
    let end = rows.iter().fold(0, |end, row| {
        assert_eq!(row.offset, end, "{}", row.name);
        end + row.bytes()
    });
    assert_eq!(end, bytes);
}

#[test]
fn the_header_lies_as_its_table_says() {
    let header = Header { kind: 1, record_size: 32, flags: 6, count: 515, epoch: 1029, base_unix_ms: NOON };
    let values = BTreeMap::from([
        ("version", 1),
        ("kind", 1),
        ("record size", 32),
        ("flags", 6),
        ("count", 515),
        ("epoch", 1029),
        ("base time", i128::from(NOON)),
    ]);
    let rows = table("header");
    without_gaps(&rows, HEADER_BYTES);
    for row in &rows {
        assert_eq!(row.read(&header.encode()), values[row.name], "{}", row.name);
        let named = row.named();
        match row.name {
            "flags" => {
                let flags = [("complete", slim::COMPLETE), ("tiered", slim::TIERED), ("cut", slim::CUT)];
                assert_eq!(named, flags.map(|(name, flag)| (flag.into(), name)));
            }
            "kind" => assert_eq!(row.meaning.split(':').next(), Some(&*slim::STATES_KIND.to_string())),
            "version" => assert_eq!(row.meaning, state::VERSION.to_string()),
            "record size" => assert_eq!(row.meaning.split('.').next(), Some(&*RECORD_BYTES.to_string())),
            _ => {}
        }
    }
}

#[test]
fn a_record_lies_as_its_table_says() {
    let known = State {
        key: 0x8123_4567_89AB_CDEF,
        lat_e7: -302_672_001,
        lon_e7: -977_431_002,
        elevation: 40_001,
        speed: 5_002,
        transmission: 5,
        heading: 28_001,
        yaw: -150,
        acceleration: -1_999,
        sec_mark: 55_494,
        flags: 0xA123,
        accuracy: 186,
        msg_cnt: 119,
    };
    let fields = |state: &State| {
        let packed = i128::from(state.speed) + (i128::from(state.transmission) << 13);
        BTreeMap::from([
            ("key", i128::from(state.key)),
            ("latitude", state.lat_e7.into()),
            ("longitude", state.lon_e7.into()),
            ("elevation", state.elevation.into()),
            ("speed (13 bits), transmission (3 bits, high)", packed),
            ("heading", state.heading.into()),
            ("yaw rate", state.yaw.into()),
            ("longitudinal acceleration", state.acceleration.into()),
            ("secMark", state.sec_mark.into()),
            ("flags", state.flags.into()),
            ("accuracy, semi-major axis", state.accuracy.into()),
            ("msgCnt", state.msg_cnt.into()),
        ])
    };
    let rows = table("record");
    without_gaps(&rows, RECORD_BYTES);
    let nothing = State::unavailable(7);
    for state in [&known, &nothing] {
        let (record, fields) = (state::encode(state), fields(state));
        assert_eq!(rows.len(), fields.len());
        rows.iter().for_each(|row| assert_eq!(row.read(&record), fields[row.name], "{}", row.name));
    }
    // What is called unavailable is what a vehicle has of which nothing is known.
    for row in &rows {
        let sentinels: Vec<i128> =
            row.named().iter().filter(|(_, name)| *name == "unavailable").map(|(number, _)| *number).collect();
        match row.name {
            "key" | "flags" | "msgCnt" => assert!(sentinels.is_empty(), "{}", row.name),
            name if name.starts_with("speed") => {
                assert_eq!(sentinels, [nothing.speed.into(), nothing.transmission.into()]);
            }
            name => assert_eq!(sentinels, [fields(&nothing)[name]], "{name}"),
        }
    }
    let flags = rows.iter().find(|row| row.name == "flags").expect("a row").named();
    let bit = |flag: u16| i128::from(flag.trailing_zeros());
    let gateway = [(13, "reserved"), (bit(state::FLAG_EMERGENCY), "emergency"), (bit(state::FLAG_GONE), "gone")];
    assert_eq!(flags, gateway);
}

/// The bytes of an example. What follows a line's bytes is looked at too: `name number` are the number in these bytes.
fn example(number: usize) -> Vec<u8> {
    let block = section().split("```\n").nth(2 * number + 1).expect("an example");
    let mut bytes = Vec::new();
    for line in block.lines() {
        let is_byte = |word: &&str| word.len() == 2 && u8::from_str_radix(word, 16).is_ok();
        let words: Vec<&str> = line.split_whitespace().collect();
        let (field, said) = words.split_at(words.iter().take_while(|word| is_byte(word)).count());
        let field: Vec<u8> = field.iter().map(|byte| u8::from_str_radix(byte, 16).expect("checked")).collect();
        if let [.., value] = said
            && !line.contains(',')
            && let Ok(value) = value.replace('−', "-").parse::<i64>()
        {
            assert_eq!(value.to_le_bytes()[..field.len()], field, "{line}");
        }
        bytes.extend(field);
    }
    bytes
}

#[test]
fn the_vehicles_example_is_what_it_says_in_section_1() {
    let message = example(0);
    let state = State {
        lat_e7: units::lat_e7(30.2672),
        lon_e7: units::lon_e7(-97.7431),
        speed: units::speed(Some(8.2)),
        transmission: 2,
        heading: units::heading(Some(91.5)),
        sec_mark: 120,
        ..State::unavailable(state::key("bus-7"))
    };
    assert_eq!(slim::read(&message), Ok(slim::Reported { state, ts: Some(NOON + 120) }));
    let in_json = r#""vehicleId":"bus-7","lat":30.2672,"lon":-97.7431,"speed":8.2,"heading":91.5,"ts":1767268800120"#;
    assert!(PROTOCOL.contains(in_json), "section 1 says something else");
    assert!(PROTOCOL.contains(&format!("key {:016x}\n", state.key)));
}

#[test]
fn the_gateways_examples_are_what_it_writes() {
    let written = |epoch, records: &[[u8; RECORD_BYTES]], is_complete| {
        let mut out = Vec::new();
        let mut frames = StateFrames::begin(&mut out, 0, epoch, NOON + 318);
        records.iter().for_each(|record| frames.push(&mut out, record));
        frames.finish(&mut out, is_complete);
        // Two bytes of a short WebSocket header.
        out.split_off(2)
    };
    let bus_9 = State {
        lat_e7: units::lat_e7(30.2689),
        lon_e7: units::lon_e7(-97.7425),
        speed: units::speed(Some(6.7)),
        sec_mark: 318,
        ..State::unavailable(state::key("bus-9"))
    };
    assert_eq!(example(1), written(1, &[state::encode(&bus_9), slim::gone(state::key("bus-8"))], false));
    assert_eq!(example(2), written(2, &[], true));

    let message = example(1);
    let (header, states) = slim::states(&message).expect("a frame").expect("states");
    assert_eq!((header.count, header.flags), (2, 0));
    let states: Vec<State> = states.collect();
    assert_eq!(states[0].unix_ms(header.base_unix_ms), Some(NOON + 318));
    assert_eq!(states.iter().map(|state| state.flags).collect::<Vec<_>>(), [0, state::FLAG_GONE]);
}
