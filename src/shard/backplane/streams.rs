//! What was heard of each stream of bus frames: one for each square, node and worker, numbered by its sender.
//!
//! Redis keeps the order of what one client publishes, and loses silently what a broken link could not carry. So a
//! number that is too high is a loss, and one that is too low is late or a duplicate (a Cluster that moves a slot may
//! deliver so).

use rustc_hash::FxHashMap;

use crate::geo::Square;
use crate::limits;
use crate::wire::bus::{Header, Kind};

/// What a frame's number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The first of its stream. What came before is not known; the host asked when it began to listen.
    First,
    /// The one after the last.
    InOrder,
    /// So many before it have not come.
    Gap(u32),
    /// Its sender has started anew: what it said before counts no more.
    Restarted,
    /// Late or a duplicate: newer ones have been heard.
    Old,
}

/// Numbers from here on, counted from the newest, lie behind it.
const BEHIND: u32 = 1 << 31;

/// Every stream that a worker follows, up to [`limits::STREAMS_MAX`].
#[derive(Debug, Default)]
pub struct Streams {
    /// By node key and worker. Invariant: no map is empty.
    squares: FxHashMap<Square, FxHashMap<(u64, u16), Stream>>,
    /// Streams in all of them.
    len: usize,
    /// When room was last looked for.
    swept_ms: Option<u64>,
    unfollowed: u64,
}

/// The newest frame of a stream.
#[derive(Clone, Copy, Debug)]
struct Stream {
    epoch: u64,
    sequence: u32,
    heard_ms: u64,
}

impl Streams {
    /// A frame came. An ask has no number and is always in order.
    pub fn heard(&mut self, square: Square, header: &Header, now_ms: u64) -> Heard {
        if header.kind == Kind::Ask {
            return Heard::InOrder;
        }
        let newest = Stream { epoch: header.epoch, sequence: header.sequence, heard_ms: now_ms };
        let id = (header.node, header.worker);
        let Some(stream) = self.squares.get_mut(&square).and_then(|streams| streams.get_mut(&id)) else {
            if self.has_room(now_ms) {
                self.squares.entry(square).or_default().insert(id, newest);
                self.len += 1;
            } else {
                self.unfollowed += 1;
            }
            return Heard::First;
        };
        let heard = stream.compare(&newest);
        if heard != Heard::Old {
            *stream = newest;
        }
        heard
    }

    /// Whether one more stream can be followed. If need be, those that have fallen silent make room; looking for them
    /// takes a while, so it is not done for every frame.
    fn has_room(&mut self, now_ms: u64) -> bool {
        let may_sweep = self.swept_ms.is_none_or(|swept_ms| now_ms >= swept_ms + limits::STREAM_LATE_MS);
        if self.len >= limits::STREAMS_MAX && may_sweep {
            self.swept_ms = Some(now_ms);
            self.retain(|_, stream| now_ms < stream.heard_ms + limits::STREAM_LATE_MS);
        }
        self.len < limits::STREAMS_MAX
    }

    fn retain(&mut self, keep: impl Fn(u64, &Stream) -> bool) {
        self.squares.retain(|_, streams| {
            streams.retain(|(node, _), stream| keep(*node, stream));
            !streams.is_empty()
        });
        self.len = self.squares.values().map(FxHashMap::len).sum();
    }

    /// Nobody listens to a square any more.
    pub fn forget(&mut self, square: Square) {
        self.len -= self.squares.remove(&square).map_or(0, |streams| streams.len());
    }

    /// A node has gone, by its key.
    pub fn forget_node(&mut self, node: u64) {
        self.retain(|of, _| of != node);
    }

    /// How many streams are followed.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Frames that were taken for the first of their stream because it could not be followed. Only grows.
    pub fn unfollowed(&self) -> u64 {
        self.unfollowed
    }
}

impl Stream {
    fn compare(&self, newest: &Stream) -> Heard {
        // A clock that was set back must not silence its node for good.
        let is_stale = newest.heard_ms >= self.heard_ms + limits::STREAM_LATE_MS;
        let behind = if is_stale { Heard::Restarted } else { Heard::Old };
        match newest.epoch.cmp(&self.epoch) {
            std::cmp::Ordering::Greater => Heard::Restarted,
            std::cmp::Ordering::Less => behind,
            std::cmp::Ordering::Equal => match newest.sequence.wrapping_sub(self.sequence) {
                0 | BEHIND.. => behind,
                1 => Heard::InOrder,
                steps => Heard::Gap(steps - 1),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::geo::Place;

    const LATE_MS: u64 = limits::STREAM_LATE_MS;

    fn square(degrees_east: i32) -> Square {
        Square::of(Place::from_e7(0, degrees_east * 10_000_000))
    }

    fn frame(node: u64, worker: u16, epoch: u64, sequence: u32) -> Header {
        Header { kind: Kind::States, worker, sequence, node, epoch, at: 0 }
    }

    #[test]
    fn in_order_with_gaps_and_late_ones() {
        let mut streams = Streams::default();
        for (sequence, expected) in [
            (7, Heard::First),
            (8, Heard::InOrder),
            (8, Heard::Old),
            (10, Heard::Gap(1)),
            (9, Heard::Old),
            (11, Heard::InOrder),
            (1_000, Heard::Gap(988)),
        ] {
            assert_eq!(streams.heard(square(1), &frame(1, 0, 5, sequence), 100), expected, "{sequence}");
        }
        let ask = Header { kind: Kind::Ask, ..frame(1, 0, 5, 0) };
        assert_eq!(streams.heard(square(1), &ask, 100), Heard::InOrder);
        assert_eq!(streams.heard(square(1), &frame(1, 0, 5, 1_001), 100), Heard::InOrder);
    }

    #[test]
    fn numbers_wrap() {
        for (from, to, expected) in [
            (u32::MAX, 0, Heard::InOrder),
            (u32::MAX, 2, Heard::Gap(2)),
            (1, u32::MAX, Heard::Old),
            (5, 5 + (BEHIND - 1), Heard::Gap(BEHIND - 2)),
            (5, 5 + BEHIND, Heard::Old),
        ] {
            let mut streams = Streams::default();
            streams.heard(square(1), &frame(1, 0, 5, from), 0);
            assert_eq!(streams.heard(square(1), &frame(1, 0, 5, to), 0), expected, "{from} to {to}");
        }
    }

    #[test]
    fn a_restart_counts_anew_and_its_past_is_old() {
        let mut streams = Streams::default();
        streams.heard(square(1), &frame(1, 0, 5, 900), 0);
        assert_eq!(streams.heard(square(1), &frame(1, 0, 6, 1), 1), Heard::Restarted);
        assert_eq!(streams.heard(square(1), &frame(1, 0, 5, 901), 2), Heard::Old);
        assert_eq!(streams.heard(square(1), &frame(1, 0, 6, 2), 3), Heard::InOrder);
        // Its clock was set back: once the later run has been silent for long enough, this one is believed.
        assert_eq!(streams.heard(square(1), &frame(1, 0, 4, 1), 2 + LATE_MS), Heard::Old);
        assert_eq!(streams.heard(square(1), &frame(1, 0, 4, 2), 3 + LATE_MS), Heard::Restarted);
        assert_eq!(streams.heard(square(1), &frame(1, 0, 4, 3), 4 + LATE_MS), Heard::InOrder);
    }

    #[test]
    fn what_is_forgotten_begins_again() {
        let mut streams = Streams::default();
        let all = [(1, 1, 0), (1, 1, 1), (1, 2, 0), (2, 1, 0)];
        let hear = |streams: &mut Streams, sequence| {
            all.map(|(east, node, worker)| streams.heard(square(east), &frame(node, worker, 5, sequence), 0))
        };
        assert_eq!(hear(&mut streams, 1), [Heard::First; 4]);
        assert_eq!(hear(&mut streams, 2), [Heard::InOrder; 4]);
        streams.forget(square(1));
        assert_eq!(streams.len(), 1);
        assert_eq!(hear(&mut streams, 3), [Heard::First, Heard::First, Heard::First, Heard::InOrder]);
        streams.forget_node(1);
        assert_eq!(streams.len(), 1);
        assert_eq!(hear(&mut streams, 4), [Heard::First, Heard::First, Heard::InOrder, Heard::First]);
        streams.forget_node(1);
        streams.forget_node(2);
        assert!(streams.is_empty() && streams.squares.is_empty());
    }

    #[test]
    fn there_is_a_bound_and_the_silent_make_room() {
        let mut streams = Streams::default();
        for node in 0..limits::STREAMS_MAX as u64 {
            streams.heard(square(1), &frame(node, 0, 5, 1), node % 2);
        }
        let full = limits::STREAMS_MAX;
        let more =
            |streams: &mut Streams, sequence, now_ms| streams.heard(square(2), &frame(1, 0, 5, sequence), now_ms);
        assert_eq!((more(&mut streams, 1, 1), more(&mut streams, 2, 2)), (Heard::First, Heard::First));
        assert_eq!((streams.len(), streams.unfollowed()), (full, 2));
        // Half of them were heard a millisecond earlier. Room had been looked for at 1.
        assert_eq!(more(&mut streams, 3, LATE_MS), Heard::First);
        assert_eq!((streams.len(), streams.unfollowed()), (full, 3));
        assert_eq!(more(&mut streams, 4, 1 + LATE_MS), Heard::First);
        assert_eq!(more(&mut streams, 5, 1 + LATE_MS), Heard::InOrder);
        assert_eq!((streams.len(), streams.unfollowed()), (1, 3));
    }

    proptest! {
        #[test]
        fn what_was_lost_is_counted_wherever_the_numbers_begin(begin: u32, lost in vec(any::<bool>(), 1..200)) {
            let mut streams = Streams::default();
            streams.heard(square(1), &frame(1, 0, 5, begin), 0);
            let (mut missing, mut came) = (0, 0);
            for (i, _) in lost.iter().enumerate().filter(|(_, lost)| !**lost) {
                let header = frame(1, 0, 5, begin.wrapping_add(i as u32 + 1));
                match streams.heard(square(1), &header, 0) {
                    Heard::InOrder => {}
                    Heard::Gap(n) => missing += n as usize,
                    other => prop_assert!(false, "{:?}", other),
                }
                prop_assert_eq!(streams.heard(square(1), &header, 0), Heard::Old);
                came = i + 1;
            }
            prop_assert_eq!(missing, lost[..came].iter().filter(|lost| **lost).count());
        }
    }
}
