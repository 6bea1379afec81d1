//! A whole frame to its value.
//!
//! The crate reads single values; aggregates are put together here, because its maps lose the order of the wire and its
//! sets refuse what cannot be hashed.

use redis_protocol::resp3::decode::complete::decode_range;
use redis_protocol::resp3::types::RangeFrame;

use super::{Frame, Malformed, Reply};

/// Reads a frame whose end has been found: its nesting is bounded, and it is as long as `bytes`.
pub(super) fn frame(bytes: &[u8]) -> Result<Frame, Malformed> {
    let mut rest = Rest { bytes };
    rest.skip_attributes()?;
    match bytes.first() {
        Some(b'>') => {
            let values = rest.length()?.ok_or(Malformed::Length)?;
            Ok(Frame::Push(rest.list(values)?))
        }
        _ => Ok(match rest.value()? {
            Reply::Error(error) => Frame::Error(error),
            value => Frame::Reply(value),
        }),
    }
}

/// What has not been read yet.
struct Rest<'a> {
    bytes: &'a [u8],
}

impl Rest<'_> {
    fn value(&mut self) -> Result<Reply, Malformed> {
        self.skip_attributes()?;
        match self.bytes.first() {
            Some(b'*' | b'~') => match self.length()? {
                Some(values) => Ok(Reply::List(self.list(values)?)),
                None => Ok(Reply::Null),
            },
            Some(b'%') => {
                let pairs = self.length()?.ok_or(Malformed::Length)?;
                let mut map = Vec::with_capacity(pairs.min(self.bytes.len()));
                for _ in 0..pairs {
                    map.push((self.value()?, self.value()?));
                }
                Ok(Reply::Map(map))
            }
            Some(b'$') if self.bytes.starts_with(b"$-") => self.length().map(|_| Reply::Null),
            _ => self.single(),
        }
    }

    fn list(&mut self, values: usize) -> Result<Vec<Reply>, Malformed> {
        // Each of them takes at least three bytes, so this is bounded by the frame.
        let mut list = Vec::with_capacity(values.min(self.bytes.len()));
        for _ in 0..values {
            list.push(self.value()?);
        }
        Ok(list)
    }

    /// What servers say about a value beside it is of no use here.
    fn skip_attributes(&mut self) -> Result<(), Malformed> {
        while self.bytes.first() == Some(&b'|') {
            let pairs = self.length()?.ok_or(Malformed::Length)?;
            for _ in 0..pairs {
                self.value()?;
                self.value()?;
            }
        }
        Ok(())
    }

    /// The length behind a type; none: null.
    fn length(&mut self) -> Result<Option<usize>, Malformed> {
        let end = self.bytes.iter().position(|&byte| byte == b'\r').ok_or(Malformed::Length)?;
        let digits = self.bytes.get(1..end).ok_or(Malformed::Length)?;
        self.bytes = self.bytes.get(end + 2..).ok_or(Malformed::End)?;
        if digits == b"-1" {
            return Ok(None);
        }
        std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).map(Some).ok_or(Malformed::Length)
    }

    fn single(&mut self) -> Result<Reply, Malformed> {
        let (frame, taken) = decode_range(self.bytes).ok().flatten().ok_or(Malformed::Value)?;
        let text = |(start, end): (usize, usize)| self.bytes.get(start..end).ok_or(Malformed::Value);
        let error = |range| Ok(Reply::Error(String::from_utf8_lossy(text(range)?).into()));
        let value = match frame {
            RangeFrame::SimpleString { data, .. }
            | RangeFrame::BlobString { data, .. }
            | RangeFrame::VerbatimString { data, .. }
            | RangeFrame::BigNumber { data, .. } => Reply::Text(text(data)?.to_vec()),
            RangeFrame::SimpleError { data, .. } | RangeFrame::BlobError { data, .. } => error(data)?,
            RangeFrame::Number { data, .. } => Reply::Integer(data),
            RangeFrame::Double { data, .. } => Reply::Double(data),
            RangeFrame::Boolean { data, .. } => Reply::Bool(data),
            RangeFrame::Null => Reply::Null,
            _ => return Err(Malformed::Type),
        };
        self.bytes = self.bytes.get(taken..).ok_or(Malformed::End)?;
        Ok(value)
    }
}
