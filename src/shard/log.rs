//! The broadcast log: bytes that many connections are to get, stored once.
//!
//! Server frames are not masked, so what goes to everyone is the same bytes for all. They are appended here and each
//! connection keeps a cursor. Whatever a turn appends stays until the turn has been sent; between turns only what
//! laggards still need is kept, and of that no more than the bound. A turn that does not end, because inputs come faster
//! than they can be fanned out, forgets what everybody has.

use crate::limits;

/// Bytes with absolute positions, the oldest of which are forgotten.
pub struct ByteLog {
    bytes: Vec<u8>,
    /// Position of `bytes[0]`.
    tail: u64,
    bytes_max: usize,
    /// From this length on it is worth finding out what is still needed.
    long: usize,
}

impl ByteLog {
    /// An empty log that keeps `bytes_max` for laggards.
    pub fn new(bytes_max: usize) -> Self {
        ByteLog { bytes: Vec::new(), tail: 0, bytes_max, long: 2 * bytes_max }
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
        self.long = 2 * self.bytes_max;
        if !laggards {
            self.tail = self.head();
            self.bytes.clear();
            return false;
        }
        let full = self.bytes.len() >= 2 * self.bytes_max;
        if full {
            // Moving at twice the bound keeps the cost at one copy per byte.
            self.forget(self.head() - self.bytes_max as u64);
        }
        full
    }

    /// Whether it should be shortened although the turn has not ended.
    pub fn is_long(&self) -> bool {
        self.bytes.len() >= self.long
    }

    /// Within a turn, forgets what neither `readers` nor `laggards` need: the oldest positions that they have not been
    /// sent. The bound holds for laggards; for all others many times the bound.
    pub fn shorten(&mut self, readers: u64, laggards: u64) {
        let back = |bytes: usize| self.head().saturating_sub(bytes as u64);
        let needed = readers.min(laggards.max(back(self.bytes_max)));
        self.forget(needed.max(back(limits::LOG_WITHIN_A_TURN_FACTOR * self.bytes_max)));
        // Twice what is left, for the same reason as above.
        let most = limits::LOG_WITHIN_A_TURN_FACTOR * self.bytes_max;
        self.long = (2 * self.bytes.len()).clamp(2 * self.bytes_max, most);
    }

    fn forget(&mut self, before: u64) {
        let forgotten = before.saturating_sub(self.tail).min(self.bytes.len() as u64);
        self.bytes.drain(..forgotten as usize);
        self.tail += forgotten;
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

    #[test]
    fn within_a_turn_what_somebody_needs_stays_and_laggards_have_their_bound() {
        // Who has been sent up to where, and where the log then begins.
        let cases = [
            ("readers need most", 3, 20, 3),
            ("laggards need the newest", 20, 18, 18),
            ("laggards beyond the bound", 20, 1, 16),
            ("laggards do not keep what readers do not need", 10, 1, 10),
            ("nobody needs any", 20, 20, 20),
        ];
        for (what, readers, laggards, tail) in cases {
            let mut log = ByteLog::new(4);
            log.writer().extend_from_slice(&[b'x'; 20]);
            assert!(log.is_long());
            log.shorten(readers, laggards);
            assert_eq!((log.tail(), log.head()), (tail, 20), "{what}");
            assert!(!log.is_long(), "{what}: shortened again only when it has doubled");
        }
        let mut log = ByteLog::new(4);
        log.writer().extend_from_slice(&[b'x'; 100]);
        log.shorten(0, 100);
        assert_eq!(log.tail(), 100 - 4 * limits::LOG_WITHIN_A_TURN_FACTOR as u64, "there is an end to it");
    }
}
