//! WebSocket frames, both directions (RFC 6455, section 5).
//!
//! Every rule that can be judged from one frame's header alone is judged here; what depends on the frames before it
//! belongs to [`super::message`].

use crate::limits::CONTROL_PAYLOAD_BYTES_MAX;

/// The longest header: two bytes, a 64-bit length, a mask.
pub const HEADER_BYTES_MAX: usize = 14;

/// What a frame carries (RFC 6455, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of the message that an earlier frame began.
    Continuation,
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
    /// The sender will send nothing after this.
    Close,
    /// Asks for a pong with the same payload.
    Ping,
    /// Answers a ping, or is sent unasked as a heartbeat.
    Pong,
}

impl Opcode {
    /// The four bits on the wire.
    pub const fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0x0,
            Opcode::Text => 0x1,
            Opcode::Binary => 0x2,
            Opcode::Close => 0x8,
            Opcode::Ping => 0x9,
            Opcode::Pong => 0xA,
        }
    }

    /// RFC 6455, section 5.5: "Control frames are identified by opcodes where the most significant bit of the opcode
    /// is 1."
    pub const fn is_control(self) -> bool {
        self.bits() & 0x8 != 0
    }

    const fn from_bits(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xA => Opcode::Pong,
            _ => return None,
        })
    }
}

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads masked frames only, writes unmasked ones.
    Server,
    /// Reads unmasked frames only, writes masked ones.
    Client,
}

/// How a peer broke the protocol. The connection is lost: its bytes have no meaning any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// An RSV bit is set, although no extension was agreed on.
    #[error("reserved bit set")]
    ReservedBits,
    /// An opcode that RFC 6455 leaves undefined.
    #[error("reserved opcode")]
    ReservedOpcode,
    /// A ping, pong or close without FIN.
    #[error("fragmented control frame")]
    ControlFragmented,
    /// A ping, pong or close of more than 125 bytes.
    #[error("control frame too long")]
    ControlTooLong,
    /// A client's frame came unmasked.
    #[error("unmasked frame")]
    Unmasked,
    /// A server's frame came masked.
    #[error("masked frame")]
    Masked,
    /// A length written in more bytes than it needs, or with its top bit set.
    #[error("bad frame length")]
    Length,
    /// A continuation where no message is open.
    #[error("continuation of nothing")]
    UnexpectedContinuation,
    /// A new message before the open one has ended.
    #[error("message inside a message")]
    ExpectedContinuation,
    /// A close payload of one byte, or a status code that must not be sent.
    #[error("bad close frame")]
    Close,
    /// Text, or the reason of a close, that is not UTF-8.
    #[error("invalid UTF-8")]
    Utf8,
    /// A message longer than the bound.
    #[error("message too big")]
    TooBig,
}

impl ProtocolError {
    /// The status code to close with (RFC 6455, section 7.4.1).
    pub const fn close_code(self) -> u16 {
        match self {
            ProtocolError::Utf8 => 1007,
            ProtocolError::TooBig => 1009,
            _ => 1002,
        }
    }
}

/// A frame's header, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether this frame ends its message.
    pub fin: bool,
    /// What the frame carries.
    pub opcode: Opcode,
    /// The masking key; zero, which changes nothing, if the frame is not masked.
    pub mask: [u8; 4],
    /// How many payload bytes follow. Announced by the peer, so not to be trusted with memory.
    pub payload_len: u64,
}

impl Header {
    /// Reads the header at the front of `bytes`, as sent to `role`: the header and its length, `None` if more bytes are
    /// needed. A broken rule is told as soon as the byte that breaks it is there.
    pub fn parse(role: Role, bytes: &[u8]) -> Result<Option<(Header, usize)>, ProtocolError> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        // RFC 6455, section 5.2: "If a nonzero value is received and none of the negotiated extensions defines the
        // meaning of such a nonzero value, the receiving endpoint MUST _Fail the WebSocket Connection_."
        if first & 0x70 != 0 {
            return Err(ProtocolError::ReservedBits);
        }
        // RFC 6455, section 5.2: "If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket
        // Connection_."
        let Some(opcode) = Opcode::from_bits(first & 0x0F) else { return Err(ProtocolError::ReservedOpcode) };
        let fin = first & 0x80 != 0;
        // RFC 6455, section 5.5: "All control frames MUST have a payload length of 125 bytes or less and MUST NOT be
        // fragmented."
        if opcode.is_control() && !fin {
            return Err(ProtocolError::ControlFragmented);
        }

        let Some(&second) = bytes.get(1) else { return Ok(None) };
        let masked = second & 0x80 != 0;
        match role {
            // RFC 6455, section 5.1: "The server MUST close the connection upon receiving a frame that is not masked."
            Role::Server if !masked => return Err(ProtocolError::Unmasked),
            // RFC 6455, section 5.1: "A client MUST close a connection if it detects a masked frame."
            Role::Client if masked => return Err(ProtocolError::Masked),
            _ => {}
        }
        let short_len = second & 0x7F;
        if opcode.is_control() && usize::from(short_len) > CONTROL_PAYLOAD_BYTES_MAX {
            return Err(ProtocolError::ControlTooLong);
        }

        let after_len = &bytes[2..];
        let (payload_len, rest) = match short_len {
            126 => match after_len.split_first_chunk() {
                Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), rest),
                None => return Ok(None),
            },
            127 => match after_len.split_first_chunk() {
                Some((len, rest)) => (u64::from_be_bytes(*len), rest),
                None => return Ok(None),
            },
            _ => (u64::from(short_len), after_len),
        };
        // RFC 6455, section 5.2: "in all cases, the minimal number of bytes MUST be used to encode the length", and of
        // a 64-bit length "the most significant bit MUST be 0".
        let len_min = match short_len {
            126 => 126,
            127 => 1 << 16,
            _ => 0,
        };
        if payload_len < len_min || payload_len > i64::MAX as u64 {
            return Err(ProtocolError::Length);
        }

        let (mask, rest) = match (masked, rest.split_first_chunk()) {
            (false, _) => ([0; 4], rest),
            (true, Some((mask, rest))) => (*mask, rest),
            (true, None) => return Ok(None),
        };
        Ok(Some((Header { fin, opcode, mask, payload_len }, bytes.len() - rest.len())))
    }
}

/// Masks or unmasks `bytes`, the part of a payload that begins `offset` bytes into it (RFC 6455, section 5.3).
///
/// Eight bytes at a time, in a loop that LLVM vectorises.
pub fn unmask(bytes: &mut [u8], mask: [u8; 4], offset: usize) {
    if mask == [0; 4] {
        return;
    }
    let mut turned = mask;
    turned.rotate_left(offset % 4);
    let word = u64::from(u32::from_ne_bytes(turned));
    let word = word << 32 | word;
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(word.to_ne_bytes()) {
        *byte ^= key;
    }
}

/// The header of an unmasked, unfragmented frame: its bytes and how many of them count.
pub fn header(opcode: Opcode, len: usize) -> ([u8; 10], usize) {
    debug_assert!(!opcode.is_control() || len <= CONTROL_PAYLOAD_BYTES_MAX);
    let mut bytes = [0; 10];
    bytes[0] = 0x80 | opcode.bits();
    let used = if len < 126 {
        bytes[1] = len as u8;
        2
    } else if let Ok(len) = u16::try_from(len) {
        bytes[1] = 126;
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        4
    } else {
        bytes[1] = 127;
        bytes[2..].copy_from_slice(&(len as u64).to_be_bytes());
        10
    };
    (bytes, used)
}

/// Appends a server's frame: unfragmented, unmasked.
pub fn encode(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let (header, header_len) = header(opcode, payload.len());
    out.reserve(header_len + payload.len());
    out.extend_from_slice(&header[..header_len]);
    out.extend_from_slice(payload);
}

/// Appends a server's frame whose payload is written in place: nothing is composed elsewhere and copied.
pub fn encode_with(out: &mut Vec<u8>, opcode: Opcode, write: impl FnOnce(&mut Vec<u8>)) {
    let frame = Open::begin(out);
    write(out);
    frame.finish(out, opcode);
}

/// A server's frame at the end of some bytes, whose payload is being appended to them.
#[derive(Debug)]
pub struct Open {
    start: usize,
}

impl Open {
    /// Most payloads have a header of four bytes; the room for it is corrected for the others.
    const ROOM: usize = 4;

    /// Leaves room for a header.
    pub fn begin(out: &mut Vec<u8>) -> Open {
        let start = out.len();
        out.extend_from_slice(&[0; Open::ROOM]);
        Open { start }
    }

    /// The payload so far.
    pub fn payload<'a>(&self, out: &'a mut [u8]) -> &'a mut [u8] {
        &mut out[self.start + Open::ROOM..]
    }

    /// Writes the header, now that the payload is whole.
    pub fn finish(&self, out: &mut Vec<u8>, opcode: Opcode) {
        let (header, header_len) = header(opcode, out.len() - self.start - Open::ROOM);
        let room = self.start..self.start + Open::ROOM;
        if header_len != Open::ROOM {
            out.splice(room, header[..header_len].iter().copied());
        } else {
            out[room].copy_from_slice(&header[..Open::ROOM]);
        }
    }

    /// Takes it back, with what was written of its payload.
    pub fn abandon(&self, out: &mut Vec<u8>) {
        out.truncate(self.start);
    }
}

/// Appends a client's frame: unfragmented, masked. RFC 6455 wants a fresh, unpredictable mask for each.
pub fn encode_masked(out: &mut Vec<u8>, opcode: Opcode, mask: [u8; 4], payload: &[u8]) {
    let (mut header, header_len) = header(opcode, payload.len());
    header[1] |= 0x80;
    out.reserve(header_len + mask.len() + payload.len());
    out.extend_from_slice(&header[..header_len]);
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    unmask(&mut out[start..], mask, 0);
}

/// Appends a server's close frame. A reason of more than 123 bytes is cut at a character's edge: the code takes two of
/// a control frame's 125.
pub fn encode_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let reason = &reason[..reason.floor_char_boundary(CONTROL_PAYLOAD_BYTES_MAX - 2)];
    let (header, header_len) = header(Opcode::Close, 2 + reason.len());
    out.extend_from_slice(&header[..header_len]);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn refused(role: Role, bytes: &[u8], error: ProtocolError) {
        assert_eq!(Header::parse(role, bytes), Err(error));
        // The error does not depend on how much of the header is there, once the byte at fault is.
        for cut in 0..bytes.len() {
            match Header::parse(role, &bytes[..cut]) {
                Ok(parsed) => assert_eq!(parsed, None, "cut at {cut}"),
                Err(early) => assert_eq!(early, error, "cut at {cut}"),
            }
        }
    }

    #[test]
    fn headers_that_break_a_rule() {
        use ProtocolError::*;
        for rsv in [0x10, 0x20, 0x40, 0x70] {
            refused(Role::Server, &[0x81 | rsv], ReservedBits);
        }
        for opcode in [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF] {
            refused(Role::Server, &[0x80 | opcode], ReservedOpcode);
        }
        for opcode in [0x8, 0x9, 0xA] {
            refused(Role::Server, &[opcode], ControlFragmented);
            refused(Role::Server, &[0x80 | opcode, 0x80 | 126], ControlTooLong);
            refused(Role::Server, &[0x80 | opcode, 0x80 | 127], ControlTooLong);
        }
        refused(Role::Server, &[0x81, 0x05], Unmasked);
        refused(Role::Client, &[0x81, 0x85], Masked);
        refused(Role::Client, &[0x82, 126, 0, 125], Length);
        refused(Role::Client, &[0x82, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], Length);
        refused(Role::Server, &[0x82, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0], Length);
    }

    #[test]
    fn headers_at_every_length_and_cut() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 200_000] {
            let (bytes, used) = header(Opcode::Binary, len);
            let parsed = Header { fin: true, opcode: Opcode::Binary, mask: [0; 4], payload_len: len as u64 };
            assert_eq!(Header::parse(Role::Client, &bytes[..used]), Ok(Some((parsed, used))));
            for cut in 0..used {
                assert_eq!(Header::parse(Role::Client, &bytes[..cut]), Ok(None));
            }
        }
        let mut bytes = vec![];
        encode_masked(&mut bytes, Opcode::Text, [1, 2, 3, 4], &[b'x'; 300]);
        let parsed = Header { fin: true, opcode: Opcode::Text, mask: [1, 2, 3, 4], payload_len: 300 };
        assert_eq!(Header::parse(Role::Server, &bytes), Ok(Some((parsed, 8))));
        for cut in 0..8 {
            assert_eq!(Header::parse(Role::Server, &bytes[..cut]), Ok(None));
        }
    }

    #[test]
    fn the_examples_of_rfc_6455_section_5_7() {
        let mut out = vec![];
        encode(&mut out, Opcode::Text, b"Hello");
        assert_eq!(out, b"\x81\x05Hello");
        out.clear();
        encode_masked(&mut out, Opcode::Text, [0x37, 0xfa, 0x21, 0x3d], b"Hello");
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        assert_eq!(header(Opcode::Binary, 256).0[..4], [0x82, 0x7E, 0x01, 0x00]);
        assert_eq!(header(Opcode::Binary, 65_536).0, [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn close_reasons_are_cut_between_characters() {
        let mut out = vec![];
        encode_close(&mut out, 1001, "");
        assert_eq!(out, [0x88, 2, 0x03, 0xE9]);
        out.clear();
        // 122 bytes, then a character of two bytes that would end at 124.
        encode_close(&mut out, 4008, &("x".repeat(122) + "é"));
        assert_eq!(out[1], 124);
        assert_eq!(out.len(), 126);
        out.clear();
        encode_close(&mut out, 4008, &"x".repeat(500));
        assert_eq!(out[1], 125);
    }

    fn unmask_byte_wise(bytes: &mut [u8], mask: [u8; 4], offset: usize) {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte ^= mask[(offset + i) % 4];
        }
    }

    #[test]
    fn unmask_equals_its_byte_wise_twin() {
        let plain: Vec<u8> = (0..160u32).map(|i| (i * 37 + 11) as u8).collect();
        let mask = [0x9d, 0x01, 0xfe, 0x5a];
        for start in 0..16 {
            for len in 0..=128 {
                for offset in [0, 1, 2, 3, 4, 7, usize::MAX] {
                    let (mut fast, mut slow) = (plain.clone(), plain.clone());
                    unmask(&mut fast[start..start + len], mask, offset);
                    unmask_byte_wise(&mut slow[start..start + len], mask, offset % 4);
                    assert_eq!(fast, slow, "start {start}, len {len}, offset {offset}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            for role in [Role::Server, Role::Client] {
                if let Ok(Some((_, used))) = Header::parse(role, &bytes) {
                    prop_assert!(used <= bytes.len().min(HEADER_BYTES_MAX));
                }
            }
        }
    }
}
