//! STATE32: a vehicle's latest state in 32 bytes, and the frame that carries many of them. Little-endian.
//!
//! | offset | type | field | unit and sentinel |
//! |---|---|---|---|
//! | 0 | u64 | key | XXH3-64 of the vehicle id, seed 0 |
//! | 8 | i32 | latitude | 1e-7 degree; 900000001 unavailable |
//! | 12 | i32 | longitude | 1e-7 degree, −1799999999…1800000000; 1800000001 unavailable |
//! | 16 | u16 | elevation | 0.1 m, stored +4096; 0 unavailable |
//! | 18 | u16 | speed (13 bits), transmission (3 bits, high) | 0.02 m/s, 8191 unavailable; 7 unavailable |
//! | 20 | u16 | heading | 0.0125° clockwise from north; 28800 unavailable |
//! | 22 | i16 | yaw rate | 0.01°/s; −32768 unavailable |
//! | 24 | i16 | longitudinal acceleration | 0.01 m/s²; 2001 unavailable |
//! | 26 | u16 | secMark | ms within the UTC minute; 65535 unavailable |
//! | 28 | u16 | VehicleEventFlags (13 bits), gateway bits (3, high) | SAE J2735 |
//! | 30 | u8 | accuracy, semi-major axis | 0.05 m; 254 means 12.7 m and more; 255 unavailable |
//! | 31 | u8 | msgCnt | 0…127, wraps |
//!
//! A frame is a header of 16 bytes (version, kind, record size, flags: u8; count, epoch: u16; base time in Unix ms:
//! u64) and `count` records. A reader steps by the header's record size, so that records may grow at their end.
//!
//! [`State`] keeps the wire's integers, so nothing is lost between bytes and bytes; [`super::units`] turns them into
//! what people measure. Every 32 bytes are a state: what is out of range reads as unavailable.

use xxhash_rust::xxh3::xxh3_64;

use super::units;

/// Bytes of a record of this version.
pub const RECORD_BYTES: usize = 32;

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 16;

/// Version of the frame.
pub const VERSION: u8 = 1;

/// Transmission, unavailable. DE_TransmissionState: 0 neutral, 1 park, 2 forward, 3 reverse.
pub const TRANSMISSION_UNAVAILABLE: u8 = 7;

/// Gateway bit: the vehicle left the view.
pub const FLAG_GONE: u16 = 1 << 15;

/// Gateway bit: the vehicle has raised an emergency alert.
pub const FLAG_EMERGENCY: u16 = 1 << 14;

/// DE_VehicleEventFlags, bit 7 of the ASN.1 string, counted from its left: hard braking.
pub const FLAG_HARD_BRAKING: u16 = 1 << (12 - 7);

/// The key of a vehicle: the same on every host, and a client can compute it.
pub fn key(vehicle_id: &str) -> u64 {
    xxh3_64(vehicle_id.as_bytes())
}

/// One vehicle's state in wire units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Of which vehicle: [`key`].
    pub key: u64,
    /// 1e-7 degree.
    pub lat_e7: i32,
    /// 1e-7 degree.
    pub lon_e7: i32,
    /// [`units::elevation`]
    pub elevation: u16,
    /// [`units::speed`], 13 bits.
    pub speed: u16,
    /// DE_TransmissionState, 3 bits.
    pub transmission: u8,
    /// [`units::heading`]
    pub heading: u16,
    /// [`units::yaw`]
    pub yaw: i16,
    /// [`units::acceleration`], along the vehicle.
    pub acceleration: i16,
    /// Milliseconds within the UTC minute.
    pub sec_mark: u16,
    /// DE_VehicleEventFlags, 13 bits, and the gateway's `FLAG_` bits above them.
    pub flags: u16,
    /// [`units::accuracy`]
    pub accuracy: u8,
    /// Counts a vehicle's messages, 0…127.
    pub msg_cnt: u8,
}

impl State {
    /// A vehicle of which nothing is known.
    pub fn unavailable(key: u64) -> State {
        State {
            key,
            lat_e7: units::LAT_UNAVAILABLE,
            lon_e7: units::LON_UNAVAILABLE,
            elevation: units::ELEVATION_UNAVAILABLE,
            speed: units::SPEED_UNAVAILABLE,
            transmission: TRANSMISSION_UNAVAILABLE,
            heading: units::HEADING_UNAVAILABLE,
            yaw: units::YAW_UNAVAILABLE,
            acceleration: units::ACCELERATION_UNAVAILABLE,
            sec_mark: units::SEC_MARK_UNAVAILABLE,
            flags: 0,
            accuracy: units::ACCURACY_UNAVAILABLE,
            msg_cnt: 0,
        }
    }

    /// `(lat_e7, lon_e7)`, if both are there and on Earth.
    pub fn position_e7(&self) -> Option<(i32, i32)> {
        (units::is_lat_e7(self.lat_e7) && units::is_lon_e7(self.lon_e7)).then_some((self.lat_e7, self.lon_e7))
    }

    /// When the state was measured, in Unix ms, by the base time of its frame.
    pub fn unix_ms(&self, base_unix_ms: u64) -> Option<u64> {
        units::resolve_sec_mark(self.sec_mark, base_unix_ms)
    }
}

/// A state record, and beside it what a record rounds: as it lies in a vehicle's slot and travels between shards and hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// STATE32.
    pub record: [u8; RECORD_BYTES],
    /// When it was measured, ms since the Unix epoch: a record alone has only its minute.
    pub ts: u64,
    /// 0.01 m: a record ends at 12.7 m, phones do not.
    pub accuracy: Option<u32>,
}

impl Sample {
    /// Of which vehicle.
    pub fn key(&self) -> u64 {
        let mut key = [0; 8];
        key.copy_from_slice(&self.record[..8]);
        u64::from_le_bytes(key)
    }

    /// The state in the record.
    pub fn state(&self) -> State {
        decode(&self.record)
    }
}

/// The bytes of a state.
pub fn encode(state: &State) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[0..8].copy_from_slice(&state.key.to_le_bytes());
    record[8..12].copy_from_slice(&state.lat_e7.to_le_bytes());
    record[12..16].copy_from_slice(&state.lon_e7.to_le_bytes());
    record[16..18].copy_from_slice(&state.elevation.to_le_bytes());
    let speed_transmission = state.speed & 0x1FFF | (state.transmission as u16) << 13;
    record[18..20].copy_from_slice(&speed_transmission.to_le_bytes());
    record[20..22].copy_from_slice(&state.heading.to_le_bytes());
    record[22..24].copy_from_slice(&state.yaw.to_le_bytes());
    record[24..26].copy_from_slice(&state.acceleration.to_le_bytes());
    record[26..28].copy_from_slice(&state.sec_mark.to_le_bytes());
    record[28..30].copy_from_slice(&state.flags.to_le_bytes());
    record[30] = state.accuracy;
    record[31] = state.msg_cnt;
    record
}

/// The state of some bytes.
pub fn decode(record: &[u8; RECORD_BYTES]) -> State {
    let u16_at = |at: usize| u16::from_le_bytes([record[at], record[at + 1]]);
    let i32_at = |at: usize| i32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
    State {
        key: i32_at(0) as u32 as u64 | (i32_at(4) as u32 as u64) << 32,
        lat_e7: i32_at(8),
        lon_e7: i32_at(12),
        elevation: u16_at(16),
        speed: u16_at(18) & 0x1FFF,
        transmission: (u16_at(18) >> 13) as u8,
        heading: u16_at(20),
        yaw: u16_at(22) as i16,
        acceleration: u16_at(24) as i16,
        sec_mark: u16_at(26),
        flags: u16_at(28),
        accuracy: record[30],
        msg_cnt: record[31],
    }
}

/// Replaces the secMark of a record.
pub fn set_sec_mark(record: &mut [u8; RECORD_BYTES], sec_mark: u16) {
    record[26..28].copy_from_slice(&sec_mark.to_le_bytes());
}

/// Raises a flag in a record.
pub fn raise_flag(record: &mut [u8; RECORD_BYTES], flag: u16) {
    let flags = u16::from_le_bytes([record[28], record[29]]) | flag;
    record[28..30].copy_from_slice(&flags.to_le_bytes());
}

/// What stands before the records of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the records are; receivers skip kinds that they do not know.
    pub kind: u8,
    /// Bytes from one record to the next, at least [`RECORD_BYTES`].
    pub record_size: u8,
    /// By kind.
    pub flags: u8,
    /// Records in the frame.
    pub count: u16,
    /// By kind: which of its sender's runs, or of its receiver's views, the frame belongs to.
    pub epoch: u16,
    /// About now at the sender, in Unix ms; resolves the records' secMark.
    pub base_unix_ms: u64,
}

/// Why bytes are not a frame of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than its header, or than its header says.
    #[error("the frame is shorter than it says")]
    Short,
    /// Longer than its header says.
    #[error("the frame is longer than it says")]
    Long,
    /// Not version 1.
    #[error("version {0} is not known")]
    Version(u8),
    /// A record smaller than [`RECORD_BYTES`].
    #[error("records of {0} bytes are too small")]
    RecordSize(u8),
}

impl Header {
    /// The bytes of the header.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&[VERSION, self.kind, self.record_size, self.flags]);
        header[4..6].copy_from_slice(&self.count.to_le_bytes());
        header[6..8].copy_from_slice(&self.epoch.to_le_bytes());
        header[8..].copy_from_slice(&self.base_unix_ms.to_le_bytes());
        header
    }

    /// Reads a frame: its header, and its records, whatever follows in each of them skipped.
    pub fn decode(frame: &[u8]) -> Result<(Header, impl Iterator<Item = &[u8; RECORD_BYTES]>), FrameError> {
        let (header, records) = frame.split_first_chunk::<HEADER_BYTES>().ok_or(FrameError::Short)?;
        let &[version, kind, record_size, flags, c0, c1, e0, e1, ref base @ ..] = header;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        if (record_size as usize) < RECORD_BYTES {
            return Err(FrameError::RecordSize(record_size));
        }
        let count = u16::from_le_bytes([c0, c1]);
        match records.len().cmp(&(count as usize * record_size as usize)) {
            std::cmp::Ordering::Less => return Err(FrameError::Short),
            std::cmp::Ordering::Greater => return Err(FrameError::Long),
            std::cmp::Ordering::Equal => {}
        }
        let base_unix_ms = u64::from_le_bytes(*base);
        let epoch = u16::from_le_bytes([e0, e1]);
        let header = Header { kind, record_size, flags, count, epoch, base_unix_ms };
        Ok((header, records.chunks_exact(record_size as usize).filter_map(|record| record.first_chunk())))
    }
}

#[cfg(test)]
mod tests;
