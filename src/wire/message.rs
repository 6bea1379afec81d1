//! Frames to messages (RFC 6455, sections 5.4 to 5.6), at whatever split the bytes arrive.
//!
//! Most messages lie whole in what was received: those are unmasked where they lie and lent to the caller. Only a
//! message that does not is copied, piece by piece as it arrives, so an idle connection owns no buffer.

use super::frame::{HEADER_BYTES_MAX, Header, Opcode, Role, unmask};

pub use super::frame::ProtocolError;

/// One message, or one control frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Text: valid UTF-8, checked. Lent mutably because JSON is parsed in place.
    Text(&'a mut [u8]),
    /// Bytes.
    Binary(&'a mut [u8]),
    /// Wants a pong with this payload.
    Ping(&'a [u8]),
    /// Answers a ping, or nothing.
    Pong(&'a [u8]),
    /// The peer will send nothing more.
    Close {
        /// Why, unless the peer did not say. Only codes that may be sent come this far.
        code: Option<u16>,
        /// Why, in words.
        reason: &'a str,
    },
}

/// Turns one connection's bytes into messages. Holds memory only between the pieces of a message.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
}

/// What has arrived of a header, a frame or a message that is not whole.
#[derive(Debug, Default)]
struct Partial {
    /// Payload, unmasked: that of the open message, then that of a control frame which came in between.
    bytes: Vec<u8>,
    /// How many of `bytes` belong to the open message.
    message_len: usize,
    /// How many of them are known to be UTF-8, if it is text.
    utf8_len: usize,
    /// `Text` or `Binary` while a message is open.
    message: Option<Opcode>,
    /// The frame whose payload is arriving.
    frame: Option<Arriving>,
    header: [u8; HEADER_BYTES_MAX],
    /// How many of `header` have arrived; 0 outside of a header.
    header_len: usize,
}

#[derive(Debug)]
struct Arriving {
    header: Header,
    /// Payload bytes still to come.
    left: u64,
}

enum Progress {
    /// The frame goes on beyond the input.
    Starved,
    /// The frame has ended and its message has not.
    FrameEnded,
    /// A message or control frame of this opcode has ended.
    Ended(Opcode),
}

/// First step of the assembly buffer. Larger ones are earned by bytes that have arrived, not by announced lengths.
const ASSEMBLY_BYTES_MIN: usize = 512;

impl Decoder {
    /// Decodes at most one message from the front of `input`, as sent to `role`: how many bytes were used, and the
    /// message. With `None`, everything was taken and more is needed.
    ///
    /// Call it with what is left until it answers `None`, also when nothing is left: a message that had to be assembled
    /// keeps its memory until the next call. After an error the connection is lost, and the decoder must not be used.
    pub fn decode<'a>(
        &'a mut self,
        role: Role,
        message_bytes_max: usize,
        input: &'a mut [u8],
    ) -> Result<(usize, Option<Message<'a>>), ProtocolError> {
        self.release();
        let mut used = 0;
        let ended = loop {
            if !self.is_inside_payload() {
                let Some((header, header_len)) = self.header(role, &input[used..])? else {
                    return Ok((input.len(), None));
                };
                used += header_len;
                self.admit(&header, message_bytes_max)?;
                let is_alone = header.fin && header.opcode != Opcode::Continuation;
                if is_alone && header.payload_len <= (input.len() - used) as u64 {
                    let payload = &mut input[used..][..header.payload_len as usize];
                    used += payload.len();
                    unmask(payload, header.mask, 0);
                    if header.opcode == Opcode::Text && std::str::from_utf8(payload).is_err() {
                        return Err(ProtocolError::Utf8);
                    }
                    return Ok((used, Some(message(header.opcode, payload)?)));
                }
                self.partial.get_or_insert_default().begin(header);
            }
            let (taken, progress) = self.partial.get_or_insert_default().take(&mut input[used..])?;
            used += taken;
            match progress {
                Progress::Starved => return Ok((used, None)),
                Progress::FrameEnded => {}
                Progress::Ended(opcode) => break opcode,
            }
        };
        let partial = self.partial.get_or_insert_default();
        let start = if ended.is_control() { partial.message_len } else { 0 };
        Ok((used, Some(message(ended, &mut partial.bytes[start..])?)))
    }

    /// Drops what the last call lent out.
    fn release(&mut self) {
        let Some(partial) = &mut self.partial else { return };
        if partial.frame.is_some() {
            return;
        }
        if partial.message.is_none() && partial.header_len == 0 {
            self.partial = None;
        } else {
            partial.bytes.truncate(partial.message_len);
        }
    }

    fn is_inside_payload(&self) -> bool {
        self.partial.as_ref().is_some_and(|partial| partial.frame.is_some())
    }

    /// The next header and how many bytes of `input` it took; `None` if all of them were put by.
    fn header(&mut self, role: Role, input: &[u8]) -> Result<Option<(Header, usize)>, ProtocolError> {
        let put_by = self.partial.as_ref().map_or(0, |partial| partial.header_len);
        if put_by == 0 {
            let parsed = Header::parse(role, input)?;
            if parsed.is_some() || input.is_empty() {
                return Ok(parsed);
            }
        }
        let partial = self.partial.get_or_insert_default();
        let room = &mut partial.header[put_by..];
        let copied = room.len().min(input.len());
        room[..copied].copy_from_slice(&input[..copied]);
        partial.header_len += copied;
        let Some((header, len)) = Header::parse(role, &partial.header[..partial.header_len])? else {
            return Ok(None);
        };
        partial.header_len = 0;
        Ok(Some((header, len - put_by)))
    }

    /// The rules about a frame's place among others.
    fn admit(&self, header: &Header, message_bytes_max: usize) -> Result<(), ProtocolError> {
        let (open, open_len) =
            self.partial.as_ref().map_or((None, 0), |partial| (partial.message, partial.message_len));
        match (header.opcode, open) {
            // RFC 6455, section 5.4: "Control frames (see Section 5.5) MAY be injected in the middle of a fragmented
            // message."
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => return Ok(()),
            // RFC 6455, section 5.4: "A fragmented message consists of a single frame with the FIN bit clear and an
            // opcode other than 0, followed by zero or more frames with the FIN bit clear and the opcode set to 0".
            (Opcode::Continuation, None) => return Err(ProtocolError::UnexpectedContinuation),
            // RFC 6455, section 5.4: "The fragments of one message MUST NOT be interleaved between the fragments of
            // another message unless an extension has been negotiated that can interpret the interleaving."
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(ProtocolError::ExpectedContinuation),
            (Opcode::Continuation, Some(_)) | (Opcode::Text | Opcode::Binary, None) => {}
        }
        // RFC 6455, section 10.4: implementations that limit the "total message size after reassembly from multiple
        // frames MUST protect themselves against exceeding those limits."
        if header.payload_len > message_bytes_max.saturating_sub(open_len) as u64 {
            return Err(ProtocolError::TooBig);
        }
        Ok(())
    }
}

impl Partial {
    fn begin(&mut self, header: Header) {
        if matches!(header.opcode, Opcode::Text | Opcode::Binary) {
            self.message = Some(header.opcode);
        }
        self.frame = Some(Arriving { header, left: header.payload_len });
    }

    /// Takes what `input` has of the arriving frame's payload.
    fn take(&mut self, input: &mut [u8]) -> Result<(usize, Progress), ProtocolError> {
        let Some(Arriving { header, left }) = &mut self.frame else { return Ok((0, Progress::FrameEnded)) };
        let header = *header;
        let piece_len = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        let piece = &mut input[..piece_len];
        unmask(piece, header.mask, ((header.payload_len - *left) % 4) as usize);
        if self.bytes.capacity() - self.bytes.len() < piece_len {
            // Doubling keeps many small pieces linear; a last frame needs no more than it announced.
            let step = piece_len.max(self.bytes.len()).max(ASSEMBLY_BYTES_MIN);
            let step = if header.fin { step.min(usize::try_from(*left).unwrap_or(usize::MAX)) } else { step };
            self.bytes.reserve_exact(step);
        }
        self.bytes.extend_from_slice(piece);
        *left -= piece_len as u64;
        let frame_ended = *left == 0;

        let is_control = header.opcode.is_control();
        let message_ended = frame_ended && header.fin;
        if !is_control {
            self.message_len = self.bytes.len();
            if self.message == Some(Opcode::Text) {
                self.check_utf8(message_ended)?;
            }
        }
        if !frame_ended {
            return Ok((piece_len, Progress::Starved));
        }
        self.frame = None;
        let ended = match (message_ended, is_control) {
            (false, _) => None,
            (true, true) => Some(header.opcode),
            (true, false) => self.message.take(),
        };
        Ok((piece_len, ended.map_or(Progress::FrameEnded, Progress::Ended)))
    }

    /// RFC 6455, section 8.1: an endpoint that finds "that the byte stream is not, in fact, a valid UTF-8 stream" "MUST
    /// _Fail the WebSocket Connection_". A character may be cut by the end of a piece, not by the end of the message.
    fn check_utf8(&mut self, message_ended: bool) -> Result<(), ProtocolError> {
        match std::str::from_utf8(&self.bytes[self.utf8_len..]) {
            Ok(text) => self.utf8_len += text.len(),
            Err(error) if error.error_len().is_none() && !message_ended => self.utf8_len += error.valid_up_to(),
            Err(_) => return Err(ProtocolError::Utf8),
        }
        Ok(())
    }
}

/// A whole payload as a message; text is checked already.
fn message(opcode: Opcode, payload: &mut [u8]) -> Result<Message<'_>, ProtocolError> {
    Ok(match opcode {
        Opcode::Text => Message::Text(payload),
        // No message ends under the name of `Continuation`: it has that of its first frame.
        Opcode::Binary | Opcode::Continuation => Message::Binary(payload),
        Opcode::Ping => Message::Ping(payload),
        Opcode::Pong => Message::Pong(payload),
        Opcode::Close => close(payload)?,
    })
}

fn close(payload: &[u8]) -> Result<Message<'_>, ProtocolError> {
    // RFC 6455, section 5.5.1: "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer
    // (in network byte order) representing a status code".
    let Some((code, reason)) = payload.split_first_chunk() else {
        let empty = Message::Close { code: None, reason: "" };
        return if payload.is_empty() { Ok(empty) } else { Err(ProtocolError::Close) };
    };
    let code = u16::from_be_bytes(*code);
    // RFC 6455, section 7.4.1, on 1005, 1006 and 1015: "MUST NOT be set as a status code in a Close control frame by an
    // endpoint". Section 7.4.2: "Status codes in the range 0-999 are not used." 1012 to 1014 were registered later.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(ProtocolError::Close);
    }
    // RFC 6455, section 5.5.1: "Following the 2-byte integer, the body MAY contain UTF-8-encoded data".
    let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::Utf8)?;
    Ok(Message::Close { code: Some(code), reason })
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};

    use proptest::collection::vec;
    use proptest::prelude::*;
    use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
    use tungstenite::protocol::frame::{CloseFrame, Frame};
    use tungstenite::protocol::{Role as TheirRole, WebSocketConfig};
    use tungstenite::{Message as Theirs, WebSocket};

    use super::*;
    use crate::wire::frame;

    const MAX: usize = 64 * 1024;

    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Owned {
        Text(String),
        Binary(Vec<u8>),
        Ping(Vec<u8>),
        Pong(Vec<u8>),
        Close(Option<u16>, String),
    }

    impl From<Message<'_>> for Owned {
        fn from(message: Message<'_>) -> Owned {
            match message {
                Message::Text(text) => Owned::Text(String::from_utf8(text.to_vec()).unwrap()),
                Message::Binary(bytes) => Owned::Binary(bytes.to_vec()),
                Message::Ping(bytes) => Owned::Ping(bytes.to_vec()),
                Message::Pong(bytes) => Owned::Pong(bytes.to_vec()),
                Message::Close { code, reason } => Owned::Close(code, reason.to_owned()),
            }
        }
    }

    type Decoded = (Vec<Owned>, Option<ProtocolError>);

    /// Feeds `stream` in pieces of the given lengths, then the rest, each piece until nothing more comes of it.
    fn feed(role: Role, max: usize, stream: &[u8], pieces: impl IntoIterator<Item = usize>) -> Decoded {
        let mut decoder = Decoder::default();
        let mut messages = vec![];
        let mut rest = stream;
        let mut pieces = pieces.into_iter();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(pieces.next().unwrap_or(usize::MAX).clamp(1, rest.len()));
            rest = after;
            let mut piece = piece.to_vec();
            let mut input = &mut piece[..];
            loop {
                match decoder.decode(role, max, input) {
                    Err(error) => return (messages, Some(error)),
                    Ok((used, Some(message))) => {
                        messages.push(message.into());
                        input = &mut input[used..];
                    }
                    Ok((used, None)) => {
                        assert_eq!(used, input.len());
                        break;
                    }
                }
            }
        }
        (messages, None)
    }

    /// The same at every single split, byte by byte, and in one piece.
    #[track_caller]
    fn check(stream: &[u8], messages: &[Owned], error: Option<ProtocolError>) {
        let expected = (messages.to_vec(), error);
        assert_eq!(feed(Role::Server, MAX, stream, []), expected);
        assert_eq!(feed(Role::Server, MAX, stream, std::iter::repeat(1)), expected);
        for cut in 1..stream.len() {
            assert_eq!(feed(Role::Server, MAX, stream, [cut]), expected, "cut at {cut}");
        }
    }

    /// A client's frame.
    fn masked(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![];
        frame::encode_masked(&mut out, opcode, [0xA1, 0x02, 0xC3, 0x44], payload);
        if !fin {
            out[0] &= 0x7F;
        }
        out
    }

    fn text(text: &str) -> Owned {
        Owned::Text(text.into())
    }

    #[test]
    fn an_idle_decoder_is_one_pointer_and_owns_nothing() {
        assert!(size_of::<Decoder>() <= 16);
        let mut decoder = Decoder::default();
        let mut stream = masked(true, Opcode::Text, &[b'x'; 1000]);
        let (head, tail) = stream.split_at_mut(500);
        assert_eq!(decoder.decode(Role::Server, MAX, head), Ok((500, None)));
        assert!(decoder.partial.is_some());
        assert!(matches!(decoder.decode(Role::Server, MAX, tail), Ok((508, Some(Message::Text(_))))));
        assert_eq!(decoder.decode(Role::Server, MAX, &mut []), Ok((0, None)));
        assert!(decoder.partial.is_none());
    }

    #[test]
    fn whole_messages_are_lent_from_the_input() {
        let mut stream = masked(true, Opcode::Text, b"one");
        stream.extend(masked(true, Opcode::Binary, b"two"));
        let range = stream.as_ptr_range();
        let mut decoder = Decoder::default();
        let mut input = &mut stream[..];
        for _ in 0..2 {
            let (used, message) = decoder.decode(Role::Server, MAX, input).unwrap();
            let Some(Message::Text(payload) | Message::Binary(payload)) = message else { panic!("{message:?}") };
            assert!(range.contains(&payload.as_ptr()));
            assert!(decoder.partial.is_none());
            input = &mut input[used..];
        }
        assert!(input.is_empty());
    }

    #[test]
    fn fragments_with_control_frames_between_them() {
        let mut stream = masked(false, Opcode::Text, "grü".as_bytes());
        stream.extend(masked(true, Opcode::Ping, b"are you there?"));
        stream.extend(masked(false, Opcode::Continuation, b""));
        stream.extend(masked(true, Opcode::Pong, b""));
        stream.extend(masked(true, Opcode::Continuation, b"n"));
        stream.extend(masked(false, Opcode::Binary, b""));
        stream.extend(masked(true, Opcode::Continuation, b""));
        stream.extend(masked(true, Opcode::Text, b""));
        stream.extend(masked(true, Opcode::Close, b""));
        let ping = Owned::Ping(b"are you there?".to_vec());
        let close = Owned::Close(None, String::new());
        check(&stream, &[ping, Owned::Pong(vec![]), text("grün"), Owned::Binary(vec![]), text(""), close], None);
    }

    #[test]
    fn frames_out_of_place() {
        use ProtocolError::*;
        check(&masked(true, Opcode::Continuation, b"x"), &[], Some(UnexpectedContinuation));
        let after_whole = [masked(true, Opcode::Text, b"a"), masked(false, Opcode::Continuation, b"x")].concat();
        check(&after_whole, &[text("a")], Some(UnexpectedContinuation));
        for opcode in [Opcode::Text, Opcode::Binary] {
            let inside = [masked(false, Opcode::Text, b"a"), masked(true, opcode, b"x")].concat();
            check(&inside, &[], Some(ExpectedContinuation));
        }
        check(b"\x81\x01x", &[], Some(Unmasked));
    }

    #[test]
    fn close_codes_and_reasons() {
        let close = |code: u16, reason: &[u8]| masked(true, Opcode::Close, &[&code.to_be_bytes(), reason].concat());
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1014, 3000, 3999, 4000, 4999] {
            check(&close(code, "läuft".as_bytes()), &[Owned::Close(Some(code), "läuft".into())], None);
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
            check(&close(code, b""), &[], Some(ProtocolError::Close));
        }
        check(&masked(true, Opcode::Close, b"\x03"), &[], Some(ProtocolError::Close));
        check(&close(1000, b"\xFF"), &[], Some(ProtocolError::Utf8));
        assert_eq!(ProtocolError::Close.close_code(), 1002);
        assert_eq!(ProtocolError::Utf8.close_code(), 1007);
        assert_eq!(ProtocolError::TooBig.close_code(), 1009);
    }

    #[test]
    fn text_that_is_not_utf_8_fails_at_the_first_byte_that_shows_it() {
        for bad in [&b"ok\xFF"[..], b"\xC0\xAF", b"\xED\xA0\x80", b"\xF4\x90\x80\x80", b"\xF5", b"\x80"] {
            check(&masked(true, Opcode::Text, bad), &[], Some(ProtocolError::Utf8));
            check(&masked(false, Opcode::Text, bad), &[], Some(ProtocolError::Utf8));
        }
        // A character may be cut by fragments, but not by the end of the message.
        let cut = "€uro".as_bytes();
        let good = [masked(false, Opcode::Text, &cut[..1]), masked(true, Opcode::Continuation, &cut[1..])].concat();
        check(&good, &[text("€uro")], None);
        check(&masked(true, Opcode::Text, &cut[..2]), &[], Some(ProtocolError::Utf8));
        let open = [masked(false, Opcode::Text, &cut[..2]), masked(true, Opcode::Continuation, b"")].concat();
        check(&open, &[], Some(ProtocolError::Utf8));
        // Six bytes of header, then F4 90: the second one cannot follow the first, whatever comes after.
        let early = masked(true, Opcode::Text, b"\xF4\x90\x80\x80 and more");
        assert_eq!(feed(Role::Server, MAX, &early[..7], []).1, None);
        assert_eq!(feed(Role::Server, MAX, &early[..8], []).1, Some(ProtocolError::Utf8));
    }

    #[test]
    fn the_bound_is_on_the_whole_message_and_judged_by_its_headers() {
        let exact = masked(true, Opcode::Binary, &[7; 100]);
        assert_eq!(feed(Role::Server, 100, &exact, []), (vec![Owned::Binary(vec![7; 100])], None));
        assert_eq!(feed(Role::Server, 99, &exact[..6], []).1, Some(ProtocolError::TooBig));
        let parts =
            [masked(false, Opcode::Text, &[b'a'; 60]), masked(true, Opcode::Continuation, &[b'b'; 40])].concat();
        assert_eq!(feed(Role::Server, 100, &parts, []).1, None);
        assert_eq!(feed(Role::Server, 99, &parts[..66 + 6], []).1, Some(ProtocolError::TooBig));
        // A ping is not part of the message that it interrupts.
        let pinged = [masked(false, Opcode::Text, &[b'a'; 60]), masked(true, Opcode::Ping, &[b'p'; 125])].concat();
        assert_eq!(feed(Role::Server, 60, &pinged, []), (vec![Owned::Ping(vec![b'p'; 125])], None));
    }

    #[test]
    fn announced_lengths_allocate_nothing() {
        let mut decoder = Decoder::default();
        let mut stream = [&[0x82, 0xFF][..], &(1u64 << 40).to_be_bytes(), &[1, 2, 3, 4], &[0; 10]].concat();
        assert_eq!(decoder.decode(Role::Server, usize::MAX, &mut stream), Ok((24, None)));
        assert!(decoder.partial.unwrap().bytes.capacity() <= ASSEMBLY_BYTES_MIN);
    }

    #[test]
    fn messages_of_any_size_at_every_interesting_split() {
        for size in [1, 2, 124, 125, 126, 127, 505, 506, 512, 4096, 65_535, 65_536, 65_537, 200_000] {
            let payload: Vec<u8> = (0..size).map(|i| (i * 7 + i / 251) as u8).collect();
            let mut stream = masked(true, Opcode::Binary, &payload);
            let first = stream.len();
            stream.extend(masked(true, Opcode::Text, b"next"));
            let expected = (vec![Owned::Binary(payload), text("next")], None);
            let edges = [1, 2, 3, 4, 6, 8, 13, 14, 15, 17, 511, 512, 513, first / 2];
            let around = (first.saturating_sub(9)..first + 9).filter(|cut| *cut > 0 && *cut < stream.len());
            for cut in edges.into_iter().chain(around) {
                assert_eq!(feed(Role::Server, 200_000, &stream, [cut]), expected, "size {size}, cut at {cut}");
            }
            for piece in [1, 7, 512, 4096] {
                let pieces = std::iter::repeat(piece);
                assert_eq!(feed(Role::Server, 200_000, &stream, pieces), expected, "size {size}, pieces of {piece}");
            }
        }
    }

    fn any_message() -> impl Strategy<Value = Owned> {
        prop_oneof![
            4 => "\\PC{0,200}".prop_map(Owned::Text),
            4 => vec(any::<u8>(), 0..700).prop_map(Owned::Binary),
            1 => vec(any::<u8>(), 60_000..70_000).prop_map(Owned::Binary),
            1 => vec(any::<u8>(), 0..=125).prop_map(Owned::Ping),
            1 => vec(any::<u8>(), 0..=125).prop_map(Owned::Pong),
        ]
    }

    /// The message's frames: data cut at the given places, with a ping after each cut.
    fn frames(message: &Owned, mask: [u8; 4], cuts: &[usize]) -> (Vec<u8>, usize) {
        let (opcode, payload) = match message {
            Owned::Text(text) => (Opcode::Text, text.as_bytes()),
            Owned::Binary(bytes) => (Opcode::Binary, &bytes[..]),
            Owned::Ping(bytes) => (Opcode::Ping, &bytes[..]),
            Owned::Pong(bytes) => (Opcode::Pong, &bytes[..]),
            Owned::Close(..) => unreachable!(),
        };
        let mut out = vec![];
        if opcode.is_control() {
            frame::encode_masked(&mut out, opcode, mask, payload);
            return (out, 0);
        }
        let (mut opcode, mut rest) = (opcode, payload);
        for cut in cuts {
            let (part, after) = rest.split_at(cut % (rest.len() + 1));
            let start = out.len();
            frame::encode_masked(&mut out, opcode, mask, part);
            out[start] &= 0x7F;
            frame::encode_masked(&mut out, Opcode::Ping, mask, b"between");
            (opcode, rest) = (Opcode::Continuation, after);
        }
        frame::encode_masked(&mut out, opcode, mask, rest);
        (out, cuts.len())
    }

    /// An in-memory socket: reads what was put in, keeps what was written.
    #[derive(Default)]
    struct Wire {
        incoming: io::Cursor<Vec<u8>>,
        written: Vec<u8>,
    }

    impl Read for Wire {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            self.incoming.read(bytes)
        }
    }

    impl Write for Wire {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn their_socket(role: TheirRole, incoming: Vec<u8>) -> WebSocket<Wire> {
        let wire = Wire { incoming: io::Cursor::new(incoming), written: vec![] };
        WebSocket::from_raw_socket(wire, role, Some(WebSocketConfig::default()))
    }

    fn to_theirs(message: &Owned) -> Theirs {
        match message.clone() {
            Owned::Text(text) => Theirs::text(text),
            Owned::Binary(bytes) => Theirs::binary(bytes),
            Owned::Ping(bytes) => Theirs::Ping(bytes.into()),
            Owned::Pong(bytes) => Theirs::Pong(bytes.into()),
            Owned::Close(..) => unreachable!(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_cut_decodes_to_the_same_messages(
            script in vec((any_message(), any::<[u8; 4]>(), vec(any::<usize>(), 0..4)), 1..6),
            pieces in vec(1usize..900, 1..50),
        ) {
            let (mut stream, mut expected) = (vec![], vec![]);
            for (message, mask, cuts) in &script {
                let (bytes, pings) = frames(message, *mask, cuts);
                stream.extend(bytes);
                expected.extend(std::iter::repeat_n(Owned::Ping(b"between".to_vec()), pings));
                expected.push(message.clone());
            }
            let expected = (expected, None);
            prop_assert_eq!(&feed(Role::Server, 70_000, &stream, []), &expected);
            prop_assert_eq!(&feed(Role::Server, 70_000, &stream, pieces.iter().copied().cycle()), &expected);
            prop_assert_eq!(&feed(Role::Server, 70_000, &stream, std::iter::repeat(1)), &expected);
        }

        #[test]
        fn tungstenite_reads_what_we_write_and_we_read_what_it_writes(
            script in vec(any_message(), 1..6),
            split in any::<usize>(),
            piece in 1usize..2000,
        ) {
            let mut ours = vec![];
            let mut client = their_socket(TheirRole::Client, vec![]);
            let mut server = their_socket(TheirRole::Server, vec![]);
            let mut expected = script.clone();
            for message in &script {
                let (opcode, payload) = match message {
                    Owned::Text(text) => (Opcode::Text, text.as_bytes()),
                    Owned::Binary(bytes) => (Opcode::Binary, &bytes[..]),
                    Owned::Ping(bytes) => (Opcode::Ping, &bytes[..]),
                    Owned::Pong(bytes) => (Opcode::Pong, &bytes[..]),
                    Owned::Close(..) => unreachable!(),
                };
                frame::encode(&mut ours, opcode, payload);
                client.send(to_theirs(message)).unwrap();
                server.send(to_theirs(message)).unwrap();
            }
            // One fragmented message, so that their continuations are read as well.
            let fragmented = "fragmented by tungstenite";
            let (head, tail) = fragmented.split_at(split % (fragmented.len() + 1));
            for (part, data, fin) in [(head, Data::Text, false), (tail, Data::Continue, true)] {
                let frame = Frame::message(part.to_owned(), OpCode::Data(data), fin);
                client.send(Theirs::Frame(frame)).unwrap();
            }
            let close = Owned::Close(Some(4008), "slow".into());
            frame::encode_close(&mut ours, 4008, "slow");
            let their_close = CloseFrame { code: CloseCode::from(4008), reason: "slow".into() };
            client.close(Some(their_close.clone())).unwrap();
            server.close(Some(their_close.clone())).unwrap();

            let mut reader = their_socket(TheirRole::Client, ours);
            for message in &script {
                prop_assert_eq!(reader.read().unwrap(), to_theirs(message));
            }
            prop_assert_eq!(reader.read().unwrap(), Theirs::Close(Some(their_close)));

            let pieces = std::iter::repeat(piece);
            expected.push(close.clone());
            prop_assert_eq!(
                feed(Role::Client, 70_000, &server.get_ref().written, pieces.clone()),
                (expected.clone(), None)
            );
            expected.insert(script.len(), text(fragmented));
            prop_assert_eq!(feed(Role::Server, 70_000, &client.get_ref().written, pieces), (expected, None));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_bytes_decode_without_panic_and_alike_at_any_cut(
            // Headers that are nearly right, so that the deeper rules are reached as well.
            stream in vec(
                prop_oneof![
                    vec(any::<u8>(), 0..12),
                    (prop_oneof![0x00u8..0x03, 0x80u8..0x83, 0x88u8..0x8B], 0u8..6).prop_map(|(first, len)| {
                        let payload = &b"\xE2\x82\xACx\xC3"[..len.min(5) as usize];
                        [&[first, 0x80 | len, 0, 0, 0, 0][..], payload].concat()
                    }),
                ],
                0..8,
            ).prop_map(|parts| parts.concat()),
            pieces in vec(1usize..9, 1..20),
        ) {
            for role in [Role::Server, Role::Client] {
                let whole = feed(role, 16, &stream, []);
                prop_assert_eq!(&feed(role, 16, &stream, pieces.iter().copied().cycle()), &whole);
                prop_assert_eq!(&feed(role, 16, &stream, std::iter::repeat(1)), &whole);
            }
        }
    }
}
