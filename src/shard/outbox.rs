//! What waits for one connection, and was not yet taken by the kernel.
//!
//! Mostly an outbox is small, filled and emptied within a turn. A long one, a listing or a large flush for a reader that
//! takes it bit by bit, is sent in pieces and left where it is: its beginning only counts as gone. So a reader that takes
//! little at a time does not cost a copy of everything each time.

use std::ops::Range;

use crate::limits;

/// Whole frames in order, but for the beginning, which may be the rest of one. A part of them may be positions.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// The first so many are gone, unless the shell gives some of them back.
    gone: usize,
    /// Which of the others are positions.
    positions: Stretch,
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
        self.bytes.len() - self.gone
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the positions are in it.
    pub fn positions(&self) -> Stretch {
        self.positions
    }

    /// Room to append to; only for pushing. `spare` gives an emptied allocation.
    pub fn writer(&mut self, spare: impl FnOnce() -> Option<Vec<u8>>) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = spare().unwrap_or_default();
        }
        &mut self.bytes
    }

    /// Drops everything but the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.gone + len);
        self.positions = Stretch::default();
    }

    /// Takes everything; what was taken by pieces is not in it.
    pub fn take(&mut self) -> Vec<u8> {
        let Outbox { mut bytes, gone, .. } = std::mem::take(self);
        bytes.drain(..gone);
        bytes
    }

    /// Whether it is sent in pieces.
    pub fn is_long(&self) -> bool {
        self.len() > limits::OUTBOX_PIECE_BYTES
    }

    /// Takes the first piece of a long one. It stays in memory until the next.
    pub fn take_piece(&mut self) -> &[u8] {
        // At half, each byte is moved once.
        if self.gone > self.bytes.len() / 2 {
            self.bytes.drain(..self.gone);
            self.gone = 0;
        }
        let from = self.gone;
        self.gone += limits::OUTBOX_PIECE_BYTES.min(self.len());
        self.positions = self.positions.after(self.gone - from);
        &self.bytes[from..self.gone]
    }

    /// From the first byte of a piece that was just taken to the end.
    pub fn with_piece(&self, piece: usize) -> &[u8] {
        &self.bytes[self.gone - piece..]
    }

    /// The last `rest` bytes of the piece just taken are back. `positions` is where there are some now.
    pub fn give_back(&mut self, rest: usize, positions: Stretch) {
        self.gone -= rest;
        self.positions = positions;
    }

    /// Puts what was not taken of a whole outbox before what has come since.
    pub fn put_back(&mut self, rest: &[u8], positions: Stretch) {
        let since = self.take();
        self.bytes = [rest, &since].concat();
        self.positions = positions;
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
            sent.extend_from_slice(&outbox.take());
            assert!(sent == whole, "by {portions:?}");
            assert!(outbox.is_empty());
        }
    }

    #[test]
    fn positions_are_found_again_wherever_a_piece_was_cut() {
        let mut outbox = Outbox::default();
        outbox.writer(|| None).resize(3 * PIECE, b'x');
        outbox.positions = Stretch { start: 100, len: 2 * PIECE as u32 };
        let before = outbox.positions();
        outbox.take_piece();
        assert_eq!(outbox.positions(), before.after(PIECE));
        outbox.give_back(PIECE - 500, before.after(500));
        assert_eq!(outbox.positions(), Stretch { start: 0, len: 2 * PIECE as u32 - 400 });
    }
}
