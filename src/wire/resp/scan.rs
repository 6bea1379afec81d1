//! Where a frame ends, found without looking at any byte twice.

use super::Malformed;
use crate::limits::RESP_DEPTH_MAX;

/// Digits of a length: more than any server sends, and twice the number still fits 64 bits.
const LENGTH_DIGITS_MAX: u8 = 18;

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// The byte that says what follows.
    Type,
    /// The length that `kind` begins with.
    Length { kind: u8, value: u64, digits: u8, is_negative: bool },
    /// The line feed behind a length.
    LengthEnd { kind: u8, value: u64, is_negative: bool },
    /// A value that ends with its line.
    Line { after_return: bool },
    /// A string and the two bytes that end it, this many in all.
    Text { left: u64 },
}

/// One frame, as far as it has arrived.
#[derive(Debug)]
pub(super) struct Scan {
    /// Values that are still to come in each open aggregate.
    open: [u64; RESP_DEPTH_MAX],
    depth: usize,
    part: Part,
    /// Bytes of the frame so far.
    pub(super) bytes: u64,
    pub(super) is_push: bool,
}

impl Scan {
    pub(super) fn new() -> Scan {
        Scan { open: [0; RESP_DEPTH_MAX], depth: 0, part: Part::Type, bytes: 0, is_push: false }
    }

    /// Goes on with what arrived next. `Some`: the frame ends behind that many of these bytes.
    pub(super) fn run(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let mut at = 0;
        let mut ended = false;
        while !ended && at < bytes.len() {
            let rest = &bytes[at..];
            let taken;
            (taken, ended) = match self.part {
                Part::Line { after_return } => self.line(rest, after_return),
                Part::Text { left } => self.text(rest, left)?,
                Part::Type => (1, self.begin(rest[0])?),
                Part::Length { .. } | Part::LengthEnd { .. } => (1, self.length(rest[0])?),
            };
            at += taken;
        }
        self.bytes += at as u64;
        Ok(ended.then_some(at))
    }

    fn begin(&mut self, kind: u8) -> Result<bool, Malformed> {
        self.part = match kind {
            b'+' | b'-' | b':' | b',' | b'#' | b'_' | b'(' => Part::Line { after_return: false },
            b'>' if self.depth > 0 => return Err(Malformed::Type),
            b'$' | b'!' | b'=' | b'*' | b'~' | b'%' | b'|' | b'>' => {
                self.is_push |= kind == b'>';
                Part::Length { kind, value: 0, digits: 0, is_negative: false }
            }
            _ => return Err(Malformed::Type),
        };
        Ok(false)
    }

    fn length(&mut self, byte: u8) -> Result<bool, Malformed> {
        self.part = match (self.part, byte) {
            (Part::Length { kind, value, digits, is_negative }, b'0'..=b'9') if digits < LENGTH_DIGITS_MAX => {
                let value = value * 10 + u64::from(byte - b'0');
                Part::Length { kind, value, digits: digits + 1, is_negative }
            }
            (Part::Length { kind, value, digits: 0, is_negative: false }, b'-') => {
                Part::Length { kind, value, digits: 0, is_negative: true }
            }
            (Part::Length { kind, value, digits: 1.., is_negative }, b'\r') => {
                Part::LengthEnd { kind, value, is_negative }
            }
            (Part::LengthEnd { kind, value, is_negative }, b'\n') => return self.counted(kind, value, is_negative),
            _ => return Err(Malformed::Length),
        };
        Ok(false)
    }

    /// A length is complete.
    fn counted(&mut self, kind: u8, value: u64, is_negative: bool) -> Result<bool, Malformed> {
        let values = match kind {
            // Null, as RESP2 has it.
            b'$' | b'*' if is_negative && value == 1 => return Ok(self.complete()),
            _ if is_negative => return Err(Malformed::Length),
            b'$' | b'!' | b'=' => {
                self.part = Part::Text { left: value + 2 };
                return Ok(false);
            }
            b'%' => value * 2,
            // Attributes and the value that they are about are one value.
            b'|' => value * 2 + 1,
            _ => value,
        };
        if values == 0 {
            return Ok(self.complete());
        }
        *self.open.get_mut(self.depth).ok_or(Malformed::Depth)? = values;
        self.depth += 1;
        self.part = Part::Type;
        Ok(false)
    }

    fn line(&mut self, bytes: &[u8], mut after_return: bool) -> (usize, bool) {
        for (at, &byte) in bytes.iter().enumerate() {
            if after_return && byte == b'\n' {
                return (at + 1, self.complete());
            }
            after_return = byte == b'\r';
        }
        self.part = Part::Line { after_return };
        (bytes.len(), false)
    }

    fn text(&mut self, bytes: &[u8], left: u64) -> Result<(usize, bool), Malformed> {
        match (left, bytes[0]) {
            (1, b'\n') => Ok((1, self.complete())),
            (2, b'\r') => {
                self.part = Part::Text { left: 1 };
                Ok((1, false))
            }
            (..=2, _) => Err(Malformed::End),
            _ => {
                let taken = (left - 2).min(bytes.len() as u64);
                self.part = Part::Text { left: left - taken };
                Ok((taken as usize, false))
            }
        }
    }

    /// A value is complete, and with it those that it was the last part of. Whether the frame is.
    fn complete(&mut self) -> bool {
        self.part = Part::Type;
        while self.depth > 0 {
            let left = &mut self.open[self.depth - 1];
            *left -= 1;
            if *left > 0 {
                return false;
            }
            self.depth -= 1;
        }
        true
    }
}
