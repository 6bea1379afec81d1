//! Messages and bytes to clients, counted by event.
//!
//! What is for one connection counts when it is put into its outbox (`fanout`). What is for everyone is counted once per
//! turn, and positions once per flush: nothing is counted record by record.

use crate::metrics::Counters;
use crate::wire::event::EventName;

use super::conns::Dialect;

/// An event in a broadcast log, for readers that have yet to be told of it.
#[derive(Clone, Copy, Debug)]
struct Mark {
    name: EventName,
    /// Where in the log it ends.
    end: u64,
}

/// What a broadcast log has got since its readers were last queued, and who they are. No longer than that part of the
/// log.
#[derive(Debug, Default)]
pub struct Unannounced {
    marks: Vec<Mark>,
    /// Readers that are to get all of it.
    readers: u64,
    /// From where on the others are to: they have come since.
    joined: Vec<u64>,
}

impl Unannounced {
    /// An event was appended to the log, which ends at `head` now.
    pub fn note(&mut self, name: EventName, head: u64) {
        self.marks.push(Mark { name, end: head });
    }

    /// A connection is to get what the log has from `cursor` on. `before`: where the log ended when this was last asked.
    pub fn reader(&mut self, cursor: u64, before: u64) {
        if cursor <= before {
            self.readers += 1;
        } else {
            self.joined.push(cursor);
        }
    }

    /// Counts each event for each of its readers, and forgets both.
    pub fn count(&mut self, before: u64, counters: &mut Counters) {
        // A storm may bring as many of both as there are vehicles, so each is walked over once.
        self.joined.sort_unstable();
        let (mut readers, mut joined, mut start) = (self.readers, self.joined.iter().peekable(), before);
        for Mark { name, end } in self.marks.drain(..) {
            while joined.next_if(|cursor| **cursor < end).is_some() {
                readers += 1;
            }
            counters.messages_out.add(name, readers);
            counters.messages_out_bytes.add(name, readers * (end - start));
            start = end;
        }
        self.readers = 0;
        self.joined.clear();
    }
}

/// The counters as they were before a flush of positions to one connection.
#[derive(Clone, Copy, Debug)]
pub struct FlushTally {
    positions: u64,
    frames: u64,
    /// Bytes of what flushes say beside positions, which counts where it is written.
    beside: u64,
    start: usize,
}

impl FlushTally {
    /// The flush begins at `start` of what is sent in this turn.
    pub fn before(counters: &Counters, start: usize) -> Self {
        let (positions, frames) = (counters.peer_locations, counters.state_frames);
        FlushTally { positions, frames, beside: beside(counters), start }
    }

    /// It has ended at `end`.
    pub fn count(self, dialect: Option<Dialect>, end: usize, counters: &mut Counters) {
        let bytes = (end - self.start) as u64 - (beside(counters) - self.beside);
        let (name, messages) = match dialect {
            Some(Dialect::Slim) => (EventName::State, counters.state_frames - self.frames),
            _ => (EventName::PeerLocation, counters.peer_locations - self.positions),
        };
        counters.messages_out.add(name, messages);
        counters.messages_out_bytes.add(name, bytes);
    }
}

fn beside(counters: &Counters) -> u64 {
    let of = |name| counters.messages_out_bytes.of(name);
    of(EventName::VehicleIdentity) + of(EventName::PeerGone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_everyone_counts_for_each_who_was_there() {
        let mut news = Unannounced::default();
        let mut counters = Counters::default();
        news.note(EventName::EmergencyAlert, 1_100);
        news.note(EventName::PresenceUpdate, 1_150);
        news.note(EventName::PresenceUpdate, 1_200);
        // Two were there, one of them behind; one came after the alert, one after both, the last hears nothing.
        for cursor in [1_000, 400, 1_150, 1_100, 1_200] {
            news.reader(cursor, 1_000);
        }
        news.count(1_000, &mut counters);
        let told = |name| (counters.messages_out.of(name), counters.messages_out_bytes.of(name));
        assert_eq!(told(EventName::EmergencyAlert), (2, 200));
        assert_eq!(told(EventName::PresenceUpdate), (3 + 4, 350));
        assert_eq!(counters.messages_out.total(), 9);
        // And then it is forgotten.
        news.count(1_200, &mut counters);
        assert_eq!(counters.messages_out.total(), 9);
    }
}
