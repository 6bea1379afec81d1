//! Letting go of everybody over some time, before the process ends.
//!
//! Each connection is told when its turn comes (`server_shutdown`) and is served until then; so a fleet moves to other
//! hosts, or to the process that replaces this one, at a pace that those can take. Who goes takes along everything that
//! waits for it, and what goes to everyone up to that moment.

use crate::dice::Dice;
use crate::limits;
use crate::turn::{ConnId, Now};
use crate::wire::event::{Event, Status};

use super::close::CloseReason;
use super::conns::Phase;
use super::{Shard, Timer};

/// A drain that has begun.
pub struct Drain {
    /// When (`mono_ms`) the last connection is let go of.
    ends_ms: u64,
    dice: Dice,
}

impl Shard {
    /// Lets go of every connection within the next `over_ms`, each at its own time. New ones are still served: they had
    /// been in the listener's queue when it was told to end.
    pub(super) fn drain(&mut self, now: Now, over_ms: u64) {
        if self.stopping || self.drain.is_some() {
            return;
        }
        let seed = self.ids.next_uuid().as_u64_pair().0;
        self.drain = Some(Drain { ends_ms: now.mono_ms + over_ms, dice: Dice::new(seed, 0) });
        let open = |phase: &Phase| matches!(phase, Phase::Open);
        let ids: Vec<ConnId> =
            self.out.conns.iter_mut().filter(|(_, conn)| open(&conn.phase)).map(|(id, _)| id).collect();
        // A stretch of the time for each, and its moment somewhere in it: evenly spread, however few they are.
        let stretch_ms = over_ms as f64 / ids.len().max(1) as f64;
        for (rank, id) in ids.into_iter().enumerate() {
            let from_ms = stretch_ms * rank as f64;
            self.send_away(now, id, from_ms..from_ms + stretch_ms);
        }
    }

    /// Tells a connection that was upgraded during a drain that it has to go as well.
    pub(super) fn send_away_if_draining(&mut self, now: Now, id: ConnId) {
        if let Some(drain) = &self.drain {
            let left_ms = drain.ends_ms.saturating_sub(now.mono_ms);
            self.send_away(now, id, 0.0..left_ms as f64);
        }
    }

    fn send_away(&mut self, now: Now, id: ConnId, within_ms: std::ops::Range<f64>) {
        let Some(drain) = &mut self.drain else { return };
        let wait_ms = drain.dice.between(within_ms.start, within_ms.end) as u64;
        // Who goes at the same time is announced as gone together, in one send to each of those who stay.
        let leaves_ms = (now.mono_ms + wait_ms).next_multiple_of(limits::DRAIN_STEP_MS).min(drain.ends_ms);
        let reconnect_in_ms = leaves_ms.saturating_sub(now.mono_ms);
        self.out.event(now, id, &Event::ServerShutdown { reconnect_in_ms, ts: now.unix_ms });
        self.out.timers.set(leaves_ms, Timer::Leave(id));
    }

    /// The time of these connections has come. First all of them get what goes to everyone, and only then is each
    /// announced as gone: none is told of the others, which for thousands that go at once would be millions.
    pub(super) fn part_with(&mut self, now: Now, ids: &[ConnId]) {
        // What goes to everyone is counted while they are there.
        for world in self.worlds.iter_mut().filter(|_| !ids.is_empty()) {
            self.out.enqueue_readers(world);
        }
        for &id in ids {
            if let Some(conn) = self.out.conns.peek(id).filter(|conn| matches!(conn.phase, Phase::Open)) {
                self.out.hand_over_news(&self.worlds[conn.world], id);
            }
        }
        for &id in ids {
            if self.out.conns.peek(id).is_some_and(|conn| matches!(conn.phase, Phase::Open)) {
                self.close(now, id, CloseReason::Shutdown, Status::Offline);
            }
        }
    }

    /// Whether a drain, or the end, has begun.
    pub(super) fn is_leaving(&self) -> bool {
        self.stopping || self.drain.is_some()
    }
}
