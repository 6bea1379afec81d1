//! The broadcast log: bytes that many connections are to get, stored once.
//!
//! Server frames are not masked, so what goes to everyone is the same bytes for all. They are appended here and each
//! connection keeps a cursor. Whatever a turn appends stays until the turn has been sent; between turns only what
//! laggards still need is kept, and of that no more than the bound.

/// Bytes with absolute positions, the oldest of which are forgotten.
pub struct ByteLog {
    bytes: Vec<u8>,
    /// Position of `bytes[0]`.
    tail: u64,
    bytes_max: usize,
}

impl ByteLog {
    /// An empty log that keeps `bytes_max` for laggards.
    pub fn new(bytes_max: usize) -> Self {
        ByteLog { bytes: Vec::new(), tail: 0, bytes_max }
    }

    /// Where the next byte goes.
    pub fn head(&self) -> u64 {
        self.tail + self.bytes.len() as u64
    }

    /// The oldest position still there.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Everything that is there, from `tail` on.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Room to append to; only for pushing.
    pub fn writer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// From a position to the head; `None` once that position is forgotten.
    pub fn since(&self, position: u64) -> Option<&[u8]> {
        self.bytes.get(usize::try_from(position.checked_sub(self.tail)?).ok()?..)
    }

    /// A piece by position and length; `None` once it is forgotten.
    pub fn piece(&self, position: u64, len: usize) -> Option<&[u8]> {
        self.since(position)?.get(..len)
    }

    /// Ends a turn. With `laggards`, forgets what exceeds the bound; without, everything. Whether a laggard may have
    /// lost something.
    pub fn trim(&mut self, laggards: bool) -> bool {
        if !laggards {
            self.tail = self.head();
            self.bytes.clear();
            return false;
        }
        let full = self.bytes.len() >= 2 * self.bytes_max;
        if full {
            // Moving at twice the bound keeps the cost at one copy per byte.
            let forgotten = self.bytes.len() - self.bytes_max;
            self.bytes.drain(..forgotten);
            self.tail += forgotten as u64;
        }
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_on_until_it_is_forgotten() {
        let mut log = ByteLog::new(4);
        log.writer().extend_from_slice(b"abcdef");
        assert_eq!(log.since(2), Some(&b"cdef"[..]));
        log.trim(true);
        assert_eq!(log.since(2), Some(&b"cdef"[..]), "below twice the bound nothing moves");
        log.writer().extend_from_slice(b"gh");
        log.trim(true);
        assert_eq!((log.tail(), log.head()), (4, 8));
        assert_eq!(log.since(3), None);
        assert_eq!(log.since(4), Some(&b"efgh"[..]));
        assert_eq!(log.piece(5, 2), Some(&b"fg"[..]));
        assert_eq!(log.since(8), Some(&b""[..]));
        log.trim(false);
        assert_eq!((log.tail(), log.since(7), log.since(8)), (8, None, Some(&b""[..])));
    }
}
