//! What a scrape has to look for, because nobody counts it as it changes: who is there, and what waits.
//!
//! It walks over the connections of the shard once per scrape, and costs the way of a message nothing.

use crate::metrics::{PerLabel, labels};

use super::Shard;
use super::conns::{Conn, Dialect, Phase};

labels! {
    /// Where a connection is in its life, and how it speaks.
    pub enum ConnState for "state" {
        /// Its request has not come, or not all of it.
        Handshake = "handshake",
        /// A WebSocket in JSON.
        Json = "json",
        /// A WebSocket that speaks `ringroad.v1`.
        Slim = "slim",
        /// Waits for a listing.
        Listing = "listing",
        /// The last bytes are out or on their way.
        Closing = "closing",
    }
}

impl ConnState {
    fn of(conn: &Conn) -> ConnState {
        match (&conn.phase, conn.dialect) {
            (Phase::Upgrading, _) => ConnState::Handshake,
            (Phase::Open, Some(Dialect::Slim)) => ConnState::Slim,
            (Phase::Open, _) => ConnState::Json,
            (Phase::Gathering, _) => ConnState::Listing,
            (Phase::Closing, _) => ConnState::Closing,
        }
    }
}

impl Shard {
    /// Writes down what is there now.
    pub(super) fn take_census(&mut self) {
        let (mut states, mut outbox_bytes) = (PerLabel::default(), 0);
        for (_, conn) in self.out.conns.iter_mut() {
            states.increment(ConnState::of(conn));
            outbox_bytes += conn.outbox.len() as u64;
        }
        let counters = &mut self.out.counters;
        (counters.connections, counters.outbox_bytes) = (states, outbox_bytes);
        counters.log_bytes = self.worlds.iter().map(|world| world.log.bytes().len() as u64).sum();
        counters.flush_queue = self.out.queue.len() as u64;
        counters.mesh_waiting = self.mesh.waiting() as u64;
    }
}
