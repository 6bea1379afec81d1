//! Frames out of a stream of bytes.

use super::scan::Scan;
use super::{Frame, Malformed, value};

/// What one connection has received of a frame that is not complete yet.
///
/// No byte is looked for the end of a frame twice, and one that is longer than the bound is passed over without being
/// kept.
#[derive(Debug)]
pub struct Reader {
    scan: Scan,
    kept: Vec<u8>,
    reply_bytes_max: usize,
    push_bytes_max: usize,
}

/// Memory that is kept for the next frame that comes in pieces.
const KEPT_BYTES_MAX: usize = 64 * 1024;

impl Reader {
    /// A reader at the start of a connection, and the longest frames that it returns.
    pub fn new(reply_bytes_max: usize, push_bytes_max: usize) -> Reader {
        Reader { scan: Scan::new(), kept: Vec::new(), reply_bytes_max, push_bytes_max }
    }

    /// The next frame. What belongs to it is taken from the front of `bytes`; `None`: they are used up.
    pub fn take(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame>, Malformed> {
        let end = self.scan.run(bytes)?;
        let (taken, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        *bytes = rest;
        let bytes_max = if self.scan.is_push { self.push_bytes_max } else { self.reply_bytes_max };
        let fits = self.scan.bytes <= bytes_max as u64;
        if end.is_none() {
            if fits {
                self.kept.extend_from_slice(taken);
            } else {
                self.kept = Vec::new();
            }
            return Ok(None);
        }
        let frame = if !fits {
            Frame::Skipped { is_push: self.scan.is_push }
        } else if self.kept.is_empty() {
            value::frame(taken)?
        } else {
            self.kept.extend_from_slice(taken);
            value::frame(&self.kept)?
        };
        self.kept.clear();
        self.kept.shrink_to(KEPT_BYTES_MAX);
        self.scan = Scan::new();
        Ok(Some(frame))
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
