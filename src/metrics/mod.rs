//! Counters of one worker, and their exposition as Prometheus text.
//!
//! A worker counts in a plain struct that only its own thread writes. A scrape takes a copy from each, adds them up and
//! renders the sum. To add a counter, add a line to the table below; nothing else knows the fields one by one.

mod histogram;
mod label;
mod table;
mod text;
mod workers;

pub use histogram::{BOUNDS_MS, BOUNDS_US, Durations, FineHistogram, Histogram, Scale};
pub use label::{LABELS_MAX, Label, PerLabel};
pub use table::{Buckets, Family, Kind, Series, Values};
pub use text::{CONTENT_TYPE, Gauge, render};

pub(crate) use label::labels;
pub(crate) use table::counters;

use crate::auth::TokenFault;
use crate::io::counters::ShellCounters;
use crate::shard::Dialect;
use crate::shard::backplane::counters::BackplaneCounters;
use crate::shard::census::{ControlIn, Role};
use crate::shard::close::{CloseReason, Refused, ShedReason, SlowIn};
use crate::wire::error::ErrorCode;
use crate::wire::event::EventName;

counters! {
    /// Plain counters of one worker. Written by its thread alone; summed over workers at scrape.
    pub struct Counters {
        // Names that dashboards of existing servers know.
        messages: u64 = counter "v2v_messages_total", "", "Chat messages accepted from vehicles.";
        emergencies: u64 = counter "v2v_emergencies_total", "", "Emergency alerts accepted, each counted once.";
        call_sessions: u64 = counter "v2v_call_sessions_total", "", "Calls begun (call_initiate relayed).";
        active_vehicles: u64 = gauge "v2v_active_vehicles", "", "Vehicles registered and connected now.";
        candidates_examined: u64 = counter "v2v_spatial_candidates_examined", "",
            "Vehicles whose distance was looked at when another moved.";
        candidates_within_radius: u64 = counter "v2v_spatial_candidates_within_radius", "",
            "Of these, vehicles that were within the radius.";
        location_updates_received: u64 = counter "v2v_location_updates_received", "",
            "Location updates that passed validation and the rate limit.";
        location_updates_processed: u64 = counter "v2v_location_updates_processed", "",
            "Location updates that moved their vehicle.";
        location_updates_coalesced: u64 = counter "v2v_location_updates_coalesced", "",
            "Location updates that a newer one replaced before they were processed.";
        delivery_latency_ms: Histogram = histogram "v2v_message_delivery_latency_ms", "ms",
            "Time from the receipt of a position to its send to a neighbour or viewer, but for the first that one is sent.";

        // Connections.
        connections_open: u64 = gauge "ringroad_connections_open", "", "Connections open now, of any protocol.";
        connections_opened: u64 = counter "ringroad_connections_opened_total", "", "Connections accepted.";
        upgrades: PerLabel<Dialect> = counter "ringroad_upgrades_total", "",
            "Connections that became WebSockets, by how they speak.";
        connections_blocked: u64 = gauge "ringroad_connections_blocked", "",
            "Connections whose readers take nothing now.";
        slow_readers: PerLabel<SlowIn> = counter "ringroad_slow_readers_total", "",
            "Connections closed because events waited for them beyond a bound, by which.";
        closes: PerLabel<CloseReason> = counter "ringroad_connections_closed_total", "", "Connections closed, by why.";
        refused: PerLabel<Refused> = counter "ringroad_refused_total", "", "Connections and handshakes not let in, by why.";
        http_requests: u64 = counter "ringroad_http_requests_total", "", "HTTP requests answered, upgrades left out.";

        // Tokens.
        tokens_accepted: u64 = counter "ringroad_tokens_accepted_total", "", "Tokens that were good.";
        tokens_refused: PerLabel<TokenFault> = counter "ringroad_tokens_refused_total", "",
            "Connections and requests that were refused for their token, or for want of one, by why.";
        tokens_expiring: u64 = counter "ringroad_tokens_expiring_total", "",
            "Connections that were told that their token ends soon.";
        key_reloads: u64 = counter "ringroad_key_reloads_total", "", "Times that the file of keys was read anew.";
        key_reloads_failed: u64 = counter "ringroad_key_reloads_failed_total", "",
            "Times that the file of keys had changed and could not be used; the keys before stay.";

        // In and out.
        messages_in: u64 = counter "ringroad_messages_in_total", "", "WebSocket messages received, whole ones.";
        messages_in_bytes: u64 = counter "ringroad_messages_in_bytes_total", "bytes",
            "Bytes of these, without frame headers.";
        control_in: PerLabel<ControlIn> = counter "ringroad_control_frames_in_total", "",
            "Control frames received, by what they are.";
        messages_out: PerLabel<EventName> = counter "ringroad_messages_out_total", "",
            "Messages put in line for clients, by event; one for everyone counts once for each.";
        messages_out_bytes: PerLabel<EventName> = counter "ringroad_messages_out_bytes_total", "bytes",
            "Bytes of these, with their frame headers.";
        events_sent: u64 = counter "ringroad_events_sent_total", "", "Events sent to clients, positions left out.";
        errors: PerLabel<ErrorCode> = counter "ringroad_errors_total", "", "Error events sent to clients, by code.";
        broadcasts: u64 = counter "ringroad_broadcasts_total", "", "Events put into a worker's broadcast log, for all.";
        relays: u64 = counter "ringroad_relays_total", "", "Messages and signals passed from one vehicle to another.";

        // Positions and neighbours.
        location_updates_late: u64 = counter "ringroad_location_updates_late_total", "",
            "Location updates older than the newest of their vehicle; they cause no event.";
        peer_locations: u64 = counter "ringroad_peer_locations_total", "",
            "Positions delivered to neighbours and viewers, in either dialect.";
        state_frames: u64 = counter "ringroad_state_frames_total", "", "Binary messages that carried positions.";
        identities_sent: u64 = counter "ringroad_identities_sent_total", "",
            "Times that a connection was told who a vehicle is.";
        states_insignificant: u64 = counter "ringroad_states_insignificant_total", "",
            "Positions that were too much like the last to be told at once (vehicles.significant_changes).";
        state_conflated: u64 = counter "ringroad_state_conflated_total", "",
            "Positions that a newer one replaced before they were sent to a slow reader, or to one that is sent fewer.";
        sights_refused: u64 = counter "ringroad_sights_refused_total", "",
            "Times that a vehicle was in a view which already held viewers.vehicles_max.";
        watchers: u64 = gauge "ringroad_watchers", "", "Connections that have sent view, near or follow.";
        sights: u64 = gauge "ringroad_sights", "", "Vehicles in the views of all of them.";
        registrations: u64 = counter "ringroad_registrations_total", "", "Vehicles registered, takeovers included.";
        presence_updates: u64 = counter "ringroad_presence_updates_total", "", "Vehicles that came or went.";
        proximity_enters: u64 = counter "ringroad_proximity_enter_total", "", "Vehicles told that a neighbour came.";
        proximity_exits: u64 = counter "ringroad_proximity_exit_total", "", "Vehicles told that a neighbour left.";
        crowd_choices: u64 = counter "ringroad_crowd_choices_total", "",
            "Times a vehicle with too many others around chose the nearest as its neighbours.";
        settles_cut: u64 = counter "ringroad_settles_cut_total", "",
            "Turns that left vehicles that had moved, or choices, for the next one.";

        // Between workers, over the air, and what was let go.
        mesh_batches: u64 = counter "ringroad_mesh_batches_total", "", "Batches handed to other workers.";
        radio_frames_in: u64 = counter "ringroad_radio_frames_in_total", "", "Radio frames received and understood.";
        radio_frames_out: u64 = counter "ringroad_radio_frames_out_total", "", "Radio frames given to the modem.";
        radio_frames_bad: u64 = counter "ringroad_radio_frames_bad_total", "",
            "Radio frames with a wrong checksum, version, type or length, or without an end.";
        shed: PerLabel<ShedReason> = counter "ringroad_shed_total", "", "What was dropped on purpose, by why.";

        // What waits, and who.
        commands: PerLabel<crate::wire::json::EventKind> = counter "ringroad_commands_total", "",
            "Messages of clients that were understood, by event; those that are then refused too.";
        command_bytes: PerLabel<crate::wire::json::EventKind> = counter "ringroad_commands_bytes_total", "bytes",
            "Bytes of these, without frame headers.";
        connections: PerLabel<crate::shard::census::ConnState> = gauge "ringroad_connections", "",
            "Connections now, by state.";
        clients: PerLabel<Role> = gauge "ringroad_clients", "", "WebSockets now, by what they are for.";
        outbox_bytes: u64 = gauge "ringroad_outbox_bytes", "bytes",
            "What waits in all outboxes: the kernel has not taken it.";
        log_bytes: u64 = gauge "ringroad_broadcast_log_bytes", "bytes",
            "What goes to everyone and has not been sent to everyone, once per worker.";
        settle_queue: u64 = gauge "ringroad_settle_queue", "",
            "Vehicles that have moved, or are to choose whom they see, and views to be chosen anew, that wait for it.";
        flush_queue: u64 = gauge "ringroad_flush_queue", "", "Connections that stand in line to be sent to.";
        mesh_waiting: u64 = gauge "ringroad_mesh_waiting", "",
            "Notes and positions that wait because another worker's inbox was full.";
        /// The backplane.
        backplane: BackplaneCounters = table;
        /// What the shell counts.
        shell: ShellCounters = table;
    }
}

impl Counters {
    /// A message has been put in line for one client; with its frame it has so many bytes.
    pub fn told(&mut self, event: EventName, bytes: usize) {
        self.messages_out.increment(event);
        self.messages_out_bytes.add(event, bytes as u64);
    }
}

#[cfg(test)]
#[path = "documents_tests.rs"]
mod documents_tests;
