//! `ringroad.v1`: positions as binary messages of STATE32 records. `docs/PROTOCOL.md`, section 12.
//!
//! Both ways a message is a state frame ([`super::state`]). What a vehicle sends is checked field by field, and so that
//! its author finds the mistake; what the gateway sends is written where it is sent from, at one copy per record.

use super::frame::{self, Opcode};
use super::state::{self, FrameError, HEADER_BYTES, Header, RECORD_BYTES, Sample, State, VERSION};
use super::units;

/// The subprotocol's name in a handshake.
pub const SUBPROTOCOL: &str = "ringroad.v1";

/// `kind` of a frame whose records are states.
pub const STATES_KIND: u8 = 1;

/// Frame flag: with this frame, everything in view has been sent.
pub const COMPLETE: u8 = 1;

/// Frame flag: vehicles far from the middle are sent less often.
pub const TIERED: u8 = 2;

/// Frame flag: there are more vehicles than are sent.
pub const CUT: u8 = 4;

/// Most records of one frame: what it carries then has a length of two bytes, so a reader may begin before all is there,
/// and what was written is hardly ever moved for its header.
pub const RECORDS_MAX: usize = (u16::MAX as usize - HEADER_BYTES) / RECORD_BYTES;

/// Bytes of what a vehicle sends: a header and a record.
const REPORT_BYTES: usize = HEADER_BYTES + RECORD_BYTES;

/// The record's flags that are the gateway's.
const GATEWAY_FLAGS: u16 = 0b111 << 13;

/// What a vehicle says of itself, in range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// As it came.
    pub state: State,
    /// When it was measured by the vehicle's clock, Unix ms; `None` if it did not say.
    pub ts: Option<u64>,
}

/// Why a vehicle's message is not a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Where in the message the first field lies that is wrong, or that is missing.
    pub offset: usize,
    /// What would be right.
    pub message: &'static str,
}

/// The fields of what a vehicle sends, in the order in which they lie: offset, bytes, what would be right.
const REPORT_FIELDS: [(usize, usize, &str); 19] = [
    (0, 1, "version must be 1"),
    (1, 1, "kind must be 1"),
    (2, 1, "record size must be 32"),
    (3, 1, "flags must be 0"),
    (4, 2, "count must be 1"),
    (6, 2, "epoch is missing"),
    (8, 8, "base time is missing"),
    (16, 8, "key is missing"),
    (24, 4, "latitude must be -900000000 to 900000000"),
    (28, 4, "longitude must be -1799999999 to 1800000000"),
    (32, 2, "elevation is missing"),
    (34, 2, "speed is missing"),
    (36, 2, "heading must be at most 28800"),
    (38, 2, "yaw rate is missing"),
    (40, 2, "acceleration must be -2000 to 2001"),
    (42, 2, "secMark must be at most 60999, or 65535"),
    (44, 2, "the upper three flags must be 0"),
    (46, 1, "accuracy is missing"),
    (47, 1, "msgCnt must be at most 127"),
];

/// Reads the binary message of a vehicle: one position. Whose key it is, is not looked at.
pub fn read(message: &[u8]) -> Result<Reported, Invalid> {
    // What is missing is read as zeros; a field that is not all there counts as missing, whatever its zeros mean.
    let mut padded = [0; REPORT_BYTES];
    let there = message.len().min(REPORT_BYTES);
    padded[..there].copy_from_slice(&message[..there]);
    let [h0, h1, h2, h3, h4, h5, _, _, ..] = padded;
    let mut base = [0; 8];
    base.copy_from_slice(&padded[8..HEADER_BYTES]);
    let mut record = [0; RECORD_BYTES];
    record.copy_from_slice(&padded[HEADER_BYTES..]);
    let state = state::decode(&record);
    let base_unix_ms = u64::from_le_bytes(base);

    // In the order of `REPORT_FIELDS`.
    let acceptable = [
        h0 == VERSION,
        h1 == STATES_KIND,
        usize::from(h2) == RECORD_BYTES,
        h3 == 0,
        [h4, h5] == [1, 0],
        true,
        true,
        true,
        units::is_lat_e7(state.lat_e7),
        units::is_lon_e7(state.lon_e7),
        true,
        true,
        state.heading <= units::HEADING_UNAVAILABLE,
        true,
        units::is_acceleration(state.acceleration),
        units::is_sec_mark(state.sec_mark),
        state.flags & GATEWAY_FLAGS == 0,
        true,
        state.msg_cnt < 128,
    ];
    if message.len() != REPORT_BYTES || acceptable.contains(&false) {
        return Err(mistake(message.len(), &acceptable));
    }
    let ts = if base_unix_ms == 0 { None } else { state.unix_ms(base_unix_ms) };
    Ok(Reported { state, ts })
}

/// What is wrong with a message of so many bytes whose fields are acceptable or not.
#[cold]
fn mistake(len: usize, acceptable: &[bool; REPORT_FIELDS.len()]) -> Invalid {
    let first = REPORT_FIELDS.iter().zip(acceptable).find(|((offset, bytes, _), is)| offset + bytes > len || !**is);
    match first {
        Some((&(offset, _, message), _)) => Invalid { offset, message },
        None => Invalid { offset: REPORT_BYTES, message: "nothing may follow the record" },
    }
}

/// A sample's record as it may be sent now, in a frame whose base time is now: without its secMark, if that would be
/// resolved to another time than the sample's.
pub fn record_at(sample: &Sample, now_unix_ms: u64) -> [u8; RECORD_BYTES] {
    let mut record = sample.record;
    if !units::is_resolved_from(sample.ts, now_unix_ms) {
        state::set_sec_mark(&mut record, units::SEC_MARK_UNAVAILABLE);
    }
    record
}

/// The record of a vehicle that has left the view.
pub fn gone(key: u64) -> [u8; RECORD_BYTES] {
    state::encode(&State { flags: state::FLAG_GONE, ..State::unavailable(key) })
}

/// Writes records as WebSocket messages: one, or several once one is full.
#[derive(Debug)]
pub struct StateFrames {
    frame: frame::Open,
    count: u16,
    header: Header,
}

impl StateFrames {
    /// Begins at the end of `out`; nothing else may be written there until it is finished. `flags` are those of every
    /// frame, without [`COMPLETE`].
    pub fn begin(out: &mut Vec<u8>, flags: u8, epoch: u16, base_unix_ms: u64) -> StateFrames {
        let record_size = RECORD_BYTES as u8;
        let header = Header { kind: STATES_KIND, record_size, flags: flags & !COMPLETE, count: 0, epoch, base_unix_ms };
        StateFrames { frame: begin_frame(out), count: 0, header }
    }

    /// Adds a record.
    #[inline]
    pub fn push(&mut self, out: &mut Vec<u8>, record: &[u8; RECORD_BYTES]) {
        if usize::from(self.count) == RECORDS_MAX {
            self.seal(out, 0);
            (self.frame, self.count) = (begin_frame(out), 0);
        }
        out.extend_from_slice(record);
        self.count += 1;
    }

    /// Ends the last frame. Without a record it is only written if it says [`COMPLETE`].
    pub fn finish(self, out: &mut Vec<u8>, is_complete: bool) {
        if self.count == 0 && !is_complete {
            self.frame.abandon(out);
        } else {
            self.seal(out, if is_complete { COMPLETE } else { 0 });
        }
    }

    fn seal(&self, out: &mut Vec<u8>, flags: u8) {
        let header = Header { count: self.count, flags: self.header.flags | flags, ..self.header };
        let payload = self.frame.payload(out);
        payload[..HEADER_BYTES].copy_from_slice(&header.encode());
        self.frame.finish(out, Opcode::Binary);
    }
}

fn begin_frame(out: &mut Vec<u8>) -> frame::Open {
    let frame = frame::Open::begin(out);
    out.extend_from_slice(&[0; HEADER_BYTES]);
    frame
}

/// Reads a gateway's binary message: its header and states; `None` if it is of another kind, and to be skipped.
pub fn states(message: &[u8]) -> Result<Option<(Header, impl Iterator<Item = State>)>, FrameError> {
    // How the rest of a kind that is not known is laid out, is not known either.
    if let [VERSION, kind, ..] = message
        && *kind != STATES_KIND
    {
        return Ok(None);
    }
    let (header, records) = Header::decode(message)?;
    Ok(Some((header, records.map(state::decode))))
}

#[cfg(test)]
mod tests;
