//! Bus frames: positions between hosts, and the question for them. `docs/BACKPLANE.md`, section 3.
//!
//! A header of 32 bytes says who published it. In states a state frame ([`super::state`]) follows whose records are 40
//! bytes: STATE32, and beside it what STATE32 rounds (i32 milliseconds from the base time, u32 accuracy). Its own kind
//! is 1, its flags and epoch are 0, and its base time is the time of publishing.

use crate::metrics::labels;

use super::state::{self, FrameError, RECORD_BYTES, Sample, State};
use super::units;

/// Bytes before the state frame.
pub const HEADER_BYTES: usize = 32;

/// Version of the bus frame.
pub const VERSION: u8 = 1;

/// Bytes of a record: STATE32 and two integers.
const BUS_RECORD_BYTES: usize = RECORD_BYTES + 8;

/// `kind` of the state frame within.
const STATES_KIND: u8 = 1;

/// Offset of a fix that is further from the base time than an i32 of milliseconds.
const OFFSET_UNAVAILABLE: i32 = i32::MIN;

/// Accuracy that was not given.
const ACCURACY_UNAVAILABLE: u32 = u32::MAX;

/// What a bus frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Vehicles are there.
    States = 1,
    /// Who is there?
    Ask = 2,
}

/// Who published a bus frame, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub kind: Kind,
    /// Which worker of the node.
    pub worker: u16,
    /// Counts the states of this node, epoch and worker in this square; 0 in an ask.
    pub sequence: u32,
    /// The node's key.
    pub node: u64,
    /// Which run of the node: its start, Unix ms.
    pub epoch: u64,
    /// Time of publishing, Unix ms.
    pub at: u64,
}

labels! {
    /// Why bytes are not a bus frame.
    pub enum BusError for "reason" {
        /// Shorter than its headers say.
        Short = "short",
        /// Longer than its headers say.
        Long = "long",
        /// A version that is not known, of the bus frame or of the state frame within.
        Version = "version",
        /// Neither states nor an ask.
        Kind = "kind",
        /// Records that are smaller than STATE32.
        RecordSize = "record_size",
    }
}

impl From<FrameError> for BusError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Short => BusError::Short,
            FrameError::Long => BusError::Long,
            FrameError::Version(_) => BusError::Version,
            FrameError::RecordSize(_) => BusError::RecordSize,
        }
    }
}

/// Writes a frame of states. A frame counts up to 65,535 records; what is beyond is left out.
pub fn encode_states<'a>(out: &mut Vec<u8>, header: &Header, states: impl ExactSizeIterator<Item = &'a Sample>) {
    debug_assert!(states.len() <= u16::MAX as usize, "{} records in one frame", states.len());
    let count = states.len().min(u16::MAX as usize) as u16;
    out.reserve(HEADER_BYTES + state::HEADER_BYTES + count as usize * BUS_RECORD_BYTES);
    encode_header(out, &Header { kind: Kind::States, ..*header });
    let frame = state::Header {
        kind: STATES_KIND,
        record_size: BUS_RECORD_BYTES as u8,
        flags: 0,
        count,
        epoch: 0,
        base_unix_ms: header.at,
    };
    out.extend_from_slice(&frame.encode());
    for state in states.take(count as usize) {
        let offset = i32::try_from(state.ts as i128 - header.at as i128).unwrap_or(OFFSET_UNAVAILABLE);
        // The sentinel is 42,949 km.
        let accuracy = state.accuracy.map_or(ACCURACY_UNAVAILABLE, |accuracy| accuracy.min(ACCURACY_UNAVAILABLE - 1));
        out.extend_from_slice(&state.record);
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&accuracy.to_le_bytes());
    }
}

/// Writes the question who is there.
pub fn encode_ask(out: &mut Vec<u8>, header: &Header) {
    encode_header(out, &Header { kind: Kind::Ask, sequence: 0, ..*header });
}

fn encode_header(out: &mut Vec<u8>, header: &Header) {
    out.extend_from_slice(&[VERSION, header.kind as u8]);
    out.extend_from_slice(&header.worker.to_le_bytes());
    out.extend_from_slice(&header.sequence.to_le_bytes());
    out.extend_from_slice(&header.node.to_le_bytes());
    out.extend_from_slice(&header.epoch.to_le_bytes());
    out.extend_from_slice(&header.at.to_le_bytes());
}

/// Reads a bus frame: who published it, and its states; none in an ask.
pub fn decode(bytes: &[u8]) -> Result<(Header, States<'_>), BusError> {
    // What does not know the rest of its header is told by the version, so that comes first.
    match bytes.first() {
        None => return Err(BusError::Short),
        Some(&version) if version != VERSION => return Err(BusError::Version),
        Some(_) => {}
    }
    let (head, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(BusError::Short)?;
    let kind = match head[1] {
        1 => Kind::States,
        2 => Kind::Ask,
        _ => return Err(BusError::Kind),
    };
    let u64_at = |at: usize| (0..8).rev().fold(0, |value, i| value << 8 | head[at + i] as u64);
    let header = Header {
        kind,
        worker: u16::from_le_bytes([head[2], head[3]]),
        sequence: u32::from_le_bytes([head[4], head[5], head[6], head[7]]),
        node: u64_at(8),
        epoch: u64_at(16),
        at: u64_at(24),
    };
    if kind == Kind::Ask {
        return if rest.is_empty() { Ok((header, States::default())) } else { Err(BusError::Long) };
    }
    let (frame, _) = state::Header::decode(rest)?;
    if frame.kind != STATES_KIND {
        return Err(BusError::Kind);
    }
    let states = States {
        records: rest.get(state::HEADER_BYTES..).unwrap_or_default(),
        record_size: frame.record_size as usize,
        base_unix_ms: frame.base_unix_ms,
        at: header.at,
    };
    Ok((header, states))
}

/// The states in a bus frame.
#[derive(Clone, Debug, Default)]
pub struct States<'a> {
    /// Whole records of `record_size` bytes.
    records: &'a [u8],
    record_size: usize,
    base_unix_ms: u64,
    at: u64,
}

impl Iterator for States<'_> {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        // What follows the 40 bytes in a larger record is stepped over; smaller ones are STATE32 alone.
        let (record, rest) = self.records.split_at_checked(self.record_size)?;
        let (&record, beside) = record.split_first_chunk::<RECORD_BYTES>()?;
        self.records = rest;
        let state = state::decode(&record);
        let (offset, accuracy) = match beside {
            &[o0, o1, o2, o3, a0, a1, a2, a3, ..] => {
                let accuracy = u32::from_le_bytes([a0, a1, a2, a3]);
                (i32::from_le_bytes([o0, o1, o2, o3]), Some(accuracy).filter(|a| *a != ACCURACY_UNAVAILABLE))
            }
            _ => (OFFSET_UNAVAILABLE, rounded_accuracy(&state)),
        };
        let ts = match offset {
            OFFSET_UNAVAILABLE => None,
            offset => self.base_unix_ms.checked_add_signed(offset.into()),
        };
        let ts = ts.or_else(|| state.unix_ms(self.base_unix_ms)).unwrap_or(self.at);
        Some(Sample { record, ts, accuracy })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = self.records.len().checked_div(self.record_size).unwrap_or(0);
        (count, Some(count))
    }
}

impl ExactSizeIterator for States<'_> {}

/// What a record alone says of its accuracy, 0.01 m.
fn rounded_accuracy(state: &State) -> Option<u32> {
    Some(state.accuracy).filter(|accuracy| *accuracy != units::ACCURACY_UNAVAILABLE).map(|accuracy| accuracy as u32 * 5)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// In the middle of a minute.
    const AT: u64 = 29_333_333 * 60_000 + 30_000;

    fn header(kind: Kind) -> Header {
        Header {
            kind,
            worker: 0x0201,
            sequence: 0x0605_0403,
            node: 0x0E0D_0C0B_0A09_0807,
            epoch: 1_759_000_000_000,
            at: AT,
        }
    }

    fn state_at(ts: u64) -> Sample {
        let state = State { sec_mark: units::sec_mark(ts), ..State::unavailable(7) };
        Sample { record: state::encode(&state), ts, accuracy: None }
    }

    fn encoded(header: &Header, states: &[Sample]) -> Vec<u8> {
        let mut out = vec![];
        encode_states(&mut out, header, states.iter());
        out
    }

    fn decoded(bytes: &[u8]) -> Result<(Header, Vec<Sample>), BusError> {
        decode(bytes).map(|(header, states)| (header, states.collect()))
    }

    #[test]
    fn the_layout_byte_by_byte() {
        let state = Sample { accuracy: Some(3_000), ..state_at(AT - 2) };
        let bytes = encoded(&header(Kind::States), &[state]);
        let epoch = 1_759_000_000_000u64.to_le_bytes();
        #[rustfmt::skip]
        let expected = [
            &[1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14][..],
            &epoch, &AT.to_le_bytes(),
            &[1, 1, 40, 0, 1, 0, 0, 0], &AT.to_le_bytes(),
            &state.record,
            &[0xFE, 0xFF, 0xFF, 0xFF], &[0xB8, 0x0B, 0, 0],
        ].concat();
        assert_eq!(bytes, expected);

        let mut ask = vec![];
        encode_ask(&mut ask, &header(Kind::States));
        assert_eq!(ask[..8], [1, 2, 1, 2, 0, 0, 0, 0]);
        assert_eq!(ask[8..], expected[8..32]);
        assert_eq!(decoded(&ask), Ok((Header { sequence: 0, ..header(Kind::Ask) }, vec![])));
    }

    #[test]
    fn a_time_that_does_not_fit_is_that_of_the_minute_and_else_of_publishing() {
        let day = 86_400_000;
        let minute = AT - 30_000;
        for (ts, expected) in [
            (AT - i32::MAX as u64, AT - i32::MAX as u64),
            (AT + i32::MAX as u64, AT + i32::MAX as u64),
            // The sentinel itself is one step further than what fits.
            (AT - (1 << 31), minute - (1 << 31) % 60_000 + 30_000),
            (minute + 5_000 - 30 * day, minute + 5_000),
            (minute + 5_000 + 30 * day, minute + 5_000),
            (0, minute),
        ] {
            let (_, states) = decoded(&encoded(&header(Kind::States), &[state_at(ts)])).unwrap();
            assert_eq!(states[0].ts, expected, "{ts}");
        }
        let without_mark = Sample { record: state::encode(&State::unavailable(7)), ..state_at(AT - 30 * day) };
        let (_, states) = decoded(&encoded(&header(Kind::States), &[without_mark])).unwrap();
        assert_eq!(states[0].ts, AT);
    }

    /// A frame of states with another record size: what is there of each record, and filler.
    fn resized(states: &[Sample], record_size: u8) -> Vec<u8> {
        let bytes = encoded(&header(Kind::States), states);
        let (head, records) = bytes.split_at(HEADER_BYTES + state::HEADER_BYTES);
        let mut out = head.to_vec();
        out[HEADER_BYTES + 2] = record_size;
        for record in records.chunks(BUS_RECORD_BYTES) {
            let mut record = record.to_vec();
            record.resize(record_size as usize, 0xEE);
            out.extend(record);
        }
        out
    }

    #[test]
    fn larger_records_are_stepped_over_and_plain_ones_are_enough() {
        let mut states = [state_at(AT - 12_345), state_at(AT - 1)];
        states[0].record[30] = 100;
        states[0].accuracy = Some(501);
        for record_size in [40, 41, 64, 255] {
            assert_eq!(decoded(&resized(&states, record_size)).unwrap().1, states, "{record_size}");
        }
        // 5 m, as STATE32 has it.
        states[0].accuracy = Some(500);
        assert_eq!(decoded(&resized(&states, 32)).unwrap().1, states);
    }

    #[test]
    fn frames_that_are_none() {
        let good = encoded(&header(Kind::States), &[state_at(AT), state_at(AT)]);
        let error = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            decoded(&bytes).err()
        };
        assert_eq!(error(0, 2), Some(BusError::Version));
        assert_eq!(error(1, 0), Some(BusError::Kind));
        assert_eq!(error(1, 3), Some(BusError::Kind));
        assert_eq!(error(1, 2), Some(BusError::Long), "an ask with states");
        assert_eq!(error(32, 0), Some(BusError::Version));
        assert_eq!(error(33, 9), Some(BusError::Kind));
        assert_eq!(error(34, 31), Some(BusError::RecordSize));
        assert_eq!(error(34, 39), Some(BusError::Long));
        assert_eq!(error(34, 41), Some(BusError::Short));
        assert_eq!(error(36, 1), Some(BusError::Long));
        assert_eq!(error(36, 3), Some(BusError::Short));
        assert_eq!(error(37, 1), Some(BusError::Short));
        for len in 0..good.len() {
            assert_eq!(decoded(&good[..len]).err(), Some(BusError::Short), "{len}");
        }
        assert_eq!(decoded(&[9]), Err(BusError::Version));
    }

    fn any_state() -> impl Strategy<Value = Sample> {
        let ts = prop_oneof![AT - 100_000..AT + 100_000, AT - i32::MAX as u64..=AT + i32::MAX as u64];
        let accuracy = prop_oneof![Just(None), (0..u32::MAX).prop_map(Some)];
        (any::<[u8; 32]>(), ts, accuracy).prop_map(|(record, ts, accuracy)| Sample { record, ts, accuracy })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            states in vec(any_state(), 0..20), worker: u16, sequence: u32, node: u64, epoch: u64,
        ) {
            let header = Header { kind: Kind::States, worker, sequence, node, epoch, at: AT };
            let bytes = encoded(&header, &states);
            let (read, iter) = decode(&bytes).unwrap();
            prop_assert_eq!(iter.len(), states.len());
            prop_assert_eq!((read, iter.collect()), (header, states));
        }

        #[test]
        fn extreme_times_do_not_panic(state in any_state(), ts: u64, at: u64) {
            let header = Header { at, ..header(Kind::States) };
            let bytes = encoded(&header, &[Sample { ts, ..state }]);
            prop_assert_eq!(decoded(&bytes).unwrap().1[0].record, state.record);
        }

        #[test]
        fn no_bytes_are_a_panic(
            states in vec(any_state(), 0..4), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), cut: usize,
            tail in vec(any::<u8>(), 0..60),
        ) {
            let mut bytes = encoded(&header(Kind::States), &states);
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(cut % (bytes.len() + 1));
            bytes.extend(tail);
            if let Ok((_, states)) = decode(&bytes) {
                let promised = states.len();
                prop_assert_eq!(states.count(), promised);
            }
        }
    }
}
