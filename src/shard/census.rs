//! What a scrape has to look for, because nobody counts it as it changes: who is there, and what waits.
//!
//! It walks over the connections of the shard once per scrape, and costs the way of a message nothing. A walk over
//! 100,000 takes milliseconds, so of many some are looked at in each turn.

use crate::limits;
use crate::metrics::{PerLabel, labels};
use crate::turn::{Now, ShardId};

use super::conns::{Conn, Dialect, Phase};
use super::gather::Part;
use super::watch::Watcher;
use super::{Shard, Timer};

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

/// A walk over a shard's connections, and who wants to know what it finds.
#[derive(Default)]
pub struct Census {
    /// The connection that is looked at next.
    at: u32,
    states: PerLabel<ConnState>,
    clients: PerLabel<Role>,
    outbox_bytes: u64,
    vehicles: u64,
    watchers: u64,
    sights: u64,
    /// By their numbers the listings that it is for, and whose they are. Each shard gathers a bounded number.
    askers: Vec<(ShardId, u64)>,
}

impl Shard {
    /// Counts what is there for a listing of a shard. Who asks while that is under way shares in it.
    pub(super) fn take_census(&mut self, now: Now, asker: ShardId, number: u64) {
        if let Some(census) = &mut self.census {
            census.askers.push((asker, number));
            return;
        }
        self.census = Some(Box::new(Census { askers: vec![(asker, number)], ..Census::default() }));
        self.go_on_with_census(now);
    }

    /// Looks at some more connections. After the last one, whoever has asked is told.
    pub(super) fn go_on_with_census(&mut self, now: Now) {
        let Some(mut census) = self.census.take() else { return };
        let all = self.out.conns.slots();
        let end = all.min(census.at + limits::CENSUS_CONNS_MAX);
        for conn in (census.at..end).filter_map(|index| self.out.conns.at(index)) {
            let watcher = conn.watcher.map(|index| self.worlds[conn.world].watchers.at(index));
            census.look_at(conn, watcher);
        }
        census.at = end;
        if end < all {
            self.out.timers.set(now.mono_ms + 1, Timer::Census);
            self.census = Some(census);
            return;
        }
        self.write_down(&census);
        for (asker, number) in census.askers {
            let part = Part::Counters(self.mesh.shard(), Box::new(self.out.counters.clone()));
            self.answer_part(now, asker, number, part);
        }
    }

    /// Writes down what is there now.
    fn write_down(&mut self, census: &Census) {
        let counters = &mut self.out.counters;
        (counters.connections, counters.clients) = (census.states, census.clients);
        (counters.outbox_bytes, counters.active_vehicles) = (census.outbox_bytes, census.vehicles);
        (counters.watchers, counters.sights) = (census.watchers, census.sights);
        counters.connections_open = self.out.conns.len() as u64;
        counters.connections_blocked = self.out.blocked as u64;
        counters.log_bytes = self.worlds.iter().map(|world| world.log.bytes().len() as u64).sum();
        counters.settle_queue =
            self.worlds.iter().map(|world| (world.moved.len() + world.choosing.len() + world.views.len()) as u64).sum();
        counters.flush_queue = self.out.queue.len() as u64;
        counters.mesh_waiting = self.mesh.waiting() as u64;
        if let Some(bus) = &self.bus {
            counters.backplane.subscriptions = bus.subscriptions() as u64;
        }
    }
}

impl Census {
    fn look_at(&mut self, conn: &Conn, watcher: Option<&Watcher>) {
        let watches = watcher.is_some_and(Watcher::is_asking);
        self.states.increment(ConnState::of(conn));
        self.outbox_bytes += conn.outbox.len() as u64;
        self.vehicles += u64::from(conn.vehicle.is_some());
        self.watchers += u64::from(watches);
        self.sights += watcher.map_or(0, |watcher| watcher.sights.len() as u64);
        if matches!(conn.phase, Phase::Open) {
            self.clients.increment(match (conn.vehicle, watches) {
                (Some(_), _) => Role::Vehicle,
                (None, true) => Role::Viewer,
                (None, false) => Role::Idle,
            });
        }
    }
}
