//! What is shown of each worker by itself: the few series that say whether the load is even.
//!
//! Everything else is summed. The label has as many values as there are workers, so this table stays short.

use super::{Counters, Family, Kind};

/// A family with one series per worker.
pub struct PerWorker {
    /// What is said about it.
    pub family: Family,
    /// Its value in the counters of one worker.
    pub value: fn(&Counters) -> u64,
}

const fn line(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    help: &'static str,
    value: fn(&Counters) -> u64,
) -> PerWorker {
    PerWorker { family: Family { name, kind, unit, help }, value }
}

/// All of them.
pub const PER_WORKER: &[PerWorker] = &[
    line("ringroad_worker_connections", Kind::Gauge, "", "Connections now, by worker.", |of| of.connections_open),
    line("ringroad_worker_vehicles", Kind::Gauge, "", "Vehicles connected now, by worker.", |of| of.active_vehicles),
    line(
        "ringroad_worker_busy_percent",
        Kind::Gauge,
        "percent",
        "Share of its time that a worker has lately been busy.",
        |of| of.shell.busy_percent,
    ),
    line("ringroad_worker_cpu_ms_total", Kind::Counter, "ms", "Processor time taken, by worker.", |of| of.shell.cpu_ms),
    line("ringroad_worker_messages_in_total", Kind::Counter, "", "WebSocket messages received, by worker.", |of| {
        of.messages_in
    }),
    line("ringroad_worker_positions_out_total", Kind::Counter, "", "Positions delivered, by worker.", |of| {
        of.peer_locations
    }),
    line("ringroad_worker_rounds_cut_total", Kind::Counter, "", "Rounds that their time ended, by worker.", |of| {
        of.shell.rounds_cut
    }),
    line(
        "ringroad_worker_mesh_refused_total",
        Kind::Counter,
        "",
        "Batches of a worker that the full inbox of another sent back.",
        |of| of.shell.mail_refused,
    ),
    line("ringroad_worker_inbox_batches", Kind::Gauge, "", "Batches found waiting when a worker last looked.", |of| {
        of.shell.inbox_batches
    }),
];
