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

labels! {
    /// What a WebSocket is for.
    pub enum Role for "role" {
        /// It drives a vehicle.
        Vehicle = "vehicle",
        /// It watches, and drives none.
        Viewer = "viewer",
        /// It has neither registered nor asked to see anything.
        Idle = "idle",
    }
}

labels! {
    /// A control frame of a client.
    pub enum ControlIn for "frame" {
        /// Wants a pong.
        Ping = "ping",
        /// Answers a ping.
        Pong = "pong",
        /// Says goodbye.
        Close = "close",
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
        let (mut states, mut roles, mut outbox_bytes) = (PerLabel::default(), PerLabel::default(), 0);
        for (_, conn) in self.out.conns.iter_mut() {
            states.increment(ConnState::of(conn));
            outbox_bytes += conn.outbox.len() as u64;
            if matches!(conn.phase, Phase::Open) {
                let watcher = conn.watcher.map(|index| self.worlds[conn.world].watchers.at(index));
                let watches = watcher.is_some_and(|watcher| watcher.is_asking());
                roles.increment(match (conn.vehicle, watches) {
                    (Some(_), _) => Role::Vehicle,
                    (None, true) => Role::Viewer,
                    (None, false) => Role::Idle,
                });
            }
        }
        let counters = &mut self.out.counters;
        (counters.connections, counters.clients, counters.outbox_bytes) = (states, roles, outbox_bytes);
        counters.log_bytes = self.worlds.iter().map(|world| world.log.bytes().len() as u64).sum();
        counters.settle_queue =
            self.worlds.iter().map(|world| (world.moved.len() + world.choosing.len() + world.views.len()) as u64).sum();
        counters.flush_queue = self.out.queue.len() as u64;
        counters.mesh_waiting = self.mesh.waiting() as u64;
    }
}
