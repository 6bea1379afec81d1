//! What waits for one connection, and was not yet taken by the kernel.
//!
//! Mostly an outbox is small, filled and emptied within a turn. A long one, a listing or a large flush for a reader that
//! takes it bit by bit, is sent in pieces and left where it is: its beginning only counts as gone. So a reader that takes
//! little at a time does not cost a copy of everything each time.

use std::ops::Range;

use crate::limits;

/// Whole frames in order, but for the beginning, which may be the rest of one. A part of them may be positions.
///
/// One word while nothing waits, which is nearly always.
#[derive(Debug, Default)]
pub struct Outbox(Option<Box<Waiting>>);

/// What waits. Emptied, it is kept for its allocations.
#[derive(Debug, Default)]
pub struct Waiting {
    bytes: Vec<u8>,
    /// The first so many are gone, unless the shell gives some of them back.
    gone: usize,
    /// Which of the others are positions.
    positions: Stretch,
}

impl Waiting {
    /// What waits.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.gone..]
    }

    /// Empties it, to be used again; `None` if it is too large to be kept.
    pub fn emptied(mut self: Box<Self>, bytes_max: usize) -> Option<Box<Self>> {
        self.bytes.clear();
        (self.gone, self.positions) = (0, Stretch::default());
        (self.bytes.capacity() <= bytes_max).then_some(self)
    }
}

/// Some bytes in a row: where they begin, and how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    pub start: u32,
    pub len: u32,
}

impl Stretch {
    pub fn of(range: Range<usize>) -> Self {
        Stretch { start: range.start as u32, len: range.len() as u32 }
    }

    /// What is left of it, and where, once the first `taken` bytes have gone.
    pub fn after(self, taken: usize) -> Self {
        let (taken, end) = (taken as u32, self.start + self.len);
        let start = self.start.max(taken);
        Stretch { start: start - taken, len: end.saturating_sub(start) }
    }
}

impl Outbox {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.bytes.len() - waiting.gone)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the positions are in it.
    pub fn positions(&self) -> Stretch {
        self.0.as_ref().map_or(Stretch::default(), |waiting| waiting.positions)
    }

    /// Room to append to; only for pushing. `spare` gives an emptied one.
    pub fn writer(&mut self, spare: impl FnOnce() -> Option<Box<Waiting>>) -> &mut Vec<u8> {
        &mut self.0.get_or_insert_with(|| spare().unwrap_or_default()).bytes
    }

    /// Drops everything but the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        if let Some(waiting) = &mut self.0 {
            waiting.bytes.truncate(waiting.gone + len);
            waiting.positions = Stretch::default();
        }
    }

    /// Takes everything; what was taken by pieces is not in its bytes.
    pub fn take(&mut self) -> Option<Box<Waiting>> {
        self.0.take()
    }

    /// Whether it is sent in pieces.
    pub fn is_long(&self) -> bool {
        self.len() > limits::OUTBOX_PIECE_BYTES
    }

    /// Takes the first piece of a long one. It stays in memory until the next.
    pub fn take_piece(&mut self) -> &[u8] {
        let Some(waiting) = &mut self.0 else { return &[] };
        // At half, each byte is moved once.
        if waiting.gone > waiting.bytes.len() / 2 {
            waiting.bytes.drain(..waiting.gone);
            waiting.gone = 0;
        }
        let from = waiting.gone;
        waiting.gone += limits::OUTBOX_PIECE_BYTES.min(waiting.bytes.len() - from);
        waiting.positions = waiting.positions.after(waiting.gone - from);
        &waiting.bytes[from..waiting.gone]
    }

    /// From the first byte of a piece that was just taken to the end.
    pub fn with_piece(&self, piece: usize) -> &[u8] {
        self.0.as_ref().map_or(&[], |waiting| &waiting.bytes[waiting.gone - piece..])
    }

    /// The last `rest` bytes of the piece just taken are back. `positions` is where there are some now.
    pub fn give_back(&mut self, rest: usize, positions: Stretch) {
        if let Some(waiting) = &mut self.0 {
            waiting.gone -= rest;
            waiting.positions = positions;
        }
    }

    /// Puts what was not taken of a whole outbox before what has come since.
    pub fn put_back(&mut self, rest: &[u8], positions: Stretch) {
        let since = self.take();
        let since = since.as_ref().map_or(&[][..], |waiting| waiting.bytes());
        self.0 = Some(Box::new(Waiting { bytes: [rest, since].concat(), gone: 0, positions }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = limits::OUTBOX_PIECE_BYTES;

    #[test]
    fn a_stretch_shrinks_once_its_own_bytes_go() {
        let stretch = |start, len| Stretch { start, len };
        let cases = [(0, (10, 5)), (10, (0, 5)), (12, (0, 3)), (15, (0, 0)), (100, (0, 0))];
        for (taken, (start, len)) in cases {
            assert_eq!(stretch(10, 5).after(taken), stretch(start, len), "after {taken}");
        }
    }

    #[test]
    fn pieces_in_any_portions_are_the_whole() {
        let whole: Vec<u8> = (0..5 * PIECE + 77).map(|n| (n % 251) as u8).collect();
        // How much of each piece is taken: nothing, little, all but little, all.
        for portions in [&[PIECE][..], &[1_000, 0, PIECE], &[PIECE - 1, 7], &[0, 30_000]] {
            let mut outbox = Outbox::default();
            outbox.writer(|| None).extend_from_slice(&whole);
            let mut sent = Vec::new();
            for portion in portions.iter().cycle() {
                if !outbox.is_long() {
                    break;
                }
                let piece = outbox.take_piece().to_vec();
                assert_eq!(outbox.with_piece(piece.len())[..piece.len()], piece);
                let taken = *portion.min(&piece.len());
                sent.extend_from_slice(&piece[..taken]);
                outbox.give_back(piece.len() - taken, Stretch::default());
                assert_eq!(outbox.len(), whole.len() - sent.len());
            }
            outbox.put_back(b"", Stretch::default());
            sent.extend_from_slice(outbox.take().expect("the rest of it").bytes());
            assert!(sent == whole, "by {portions:?}");
            assert!(outbox.is_empty());
        }
    }

    #[test]
    fn positions_are_found_again_wherever_a_piece_was_cut() {
        let mut outbox = Outbox::default();
        outbox.writer(|| None).resize(3 * PIECE, b'x');
        outbox.give_back(0, Stretch { start: 100, len: 2 * PIECE as u32 });
        let before = outbox.positions();
        outbox.take_piece();
        assert_eq!(outbox.positions(), before.after(PIECE));
        outbox.give_back(PIECE - 500, before.after(500));
        assert_eq!(outbox.positions(), Stretch { start: 0, len: 2 * PIECE as u32 - 400 });
    }
}
