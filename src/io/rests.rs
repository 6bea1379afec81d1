//! What the kernel has not taken of a turn's sends, once the turn that lent the bytes is over.
//!
//! One copy of each store for all of them, from the first unsent byte to the last: thousands of connections may be
//! behind in the same log.

use crate::limits;
use crate::turn::{Send, Store};

/// The end of a send that was not taken: where its bytes lay.
#[derive(Clone, Copy, Debug)]
pub struct Unsent {
    store: Store,
    start: u32,
    end: u32,
}

impl Unsent {
    /// How many bytes.
    pub fn len(&self) -> u32 {
        self.end - self.start
    }

    /// Whether all was taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The unsent bytes of one turn.
#[derive(Debug, Default)]
pub struct Rests {
    arena: Rest,
    log: Rest,
}

#[derive(Debug, Default)]
struct Rest {
    /// From the first unsent byte of the store to behind the last.
    range: Option<(u32, u32)>,
    bytes: Vec<u8>,
}

impl Rest {
    fn clear(&mut self) {
        self.range = None;
        self.bytes.clear();
        self.bytes.shrink_to(limits::REST_BYTES_KEPT_MAX);
    }

    fn keep(&mut self, store: &[u8]) {
        if let Some((start, end)) = self.range {
            self.bytes.extend_from_slice(&store[start as usize..end as usize]);
        }
    }
}

impl Rests {
    /// A turn begins.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.log.clear();
    }

    /// Of a send the kernel has taken only so many bytes.
    pub fn note(&mut self, send: &Send, taken: u32) -> Unsent {
        let unsent = Unsent { store: send.store, start: send.start + taken, end: send.start + send.len };
        if unsent.is_empty() {
            return unsent;
        }
        let rest = if send.store == Store::Log { &mut self.log } else { &mut self.arena };
        let (first, last) = rest.range.unwrap_or((unsent.start, unsent.end));
        rest.range = Some((first.min(unsent.start), last.max(unsent.end)));
        unsent
    }

    /// Copies what was noted, while the turn lends it.
    pub fn keep(&mut self, arena: &[u8], log: &[u8]) {
        self.arena.keep(arena);
        self.log.keep(log);
    }

    /// The bytes of something that was noted and kept.
    pub fn of(&self, unsent: Unsent) -> &[u8] {
        if unsent.is_empty() {
            return &[];
        }
        let rest = if unsent.store == Store::Log { &self.log } else { &self.arena };
        let first = rest.range.map_or(0, |(first, _)| first);
        &rest.bytes[(unsent.start - first) as usize..(unsent.end - first) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::ConnId;

    #[test]
    fn each_rest_is_what_its_send_had_left() {
        let conn = ConnId { index: 0, generation: 1 };
        let (arena, log) = (b"abcdefgh".as_slice(), b"0123456789".as_slice());
        let mut rests = Rests::default();
        for _ in 0..2 {
            rests.clear();
            let noted =
                [(Store::Arena, 2, 4, 3), (Store::Log, 6, 4, 0), (Store::Log, 1, 3, 2), (Store::Arena, 7, 1, 1)]
                    .map(|(store, start, len, taken)| rests.note(&Send { conn, store, start, len }, taken));
            rests.keep(arena, log);
            assert_eq!(noted.map(|unsent| rests.of(unsent)), [&b"f"[..], b"6789", b"3", b""]);
            assert_eq!(noted.map(|unsent| unsent.len()), [1, 4, 1, 0]);
        }
    }
}
