//! What one worker counts of the backplane.

use crate::metrics::{Histogram, PerLabel, counters, labels};

use super::client::ClientCounts;

labels! {
    /// Why something was not sent to Redis, or what came from there was not used.
    pub enum Dropped for "reason" {
        /// Redis was away; of positions the next one follows.
        NotConnected = "not_connected",
        /// Too much was waiting for Redis's answers.
        Backlog = "backlog",
        /// Redis answered with an error.
        Refused = "refused",
        /// Longer than `redis.payload_bytes_max`.
        TooLarge = "too_large",
        /// An event that is not in `redis.publish_whitelist`.
        NotWhitelisted = "not_whitelisted",
        /// Not JSON, or not the JSON of an envelope.
        Malformed = "malformed",
        /// A bus frame or an envelope of a version that this gateway does not know.
        Version = "version",
        /// A bus frame whose records have a wrong size or number.
        Records = "records",
        /// A bus frame older than the newest of its stream.
        Old = "old",
        /// A position of a vehicle that this host does not know, or not as that node's.
        UnknownVehicle = "unknown_vehicle",
        /// An alert that had to make room for a newer one before it could be published.
        AlertOverflow = "alert_overflow",
        /// A departure that had to make room for a later one before Redis came back.
        DepartureOverflow = "departure_overflow",
        /// An envelope of a tenant that this host does not have, or on the channel of another one.
        Tenant = "tenant",
        /// A beat of more nodes than a gateway knows.
        Nodes = "nodes",
        /// A vehicle of another host beyond those that a gateway knows.
        Vehicles = "vehicles",
        /// A vehicle id whose key is another vehicle's.
        KeyCollision = "key_collision",
    }
}

counters! {
    /// Counters of one worker's backplane.
    pub struct BackplaneCounters {
        // Names that dashboards of existing servers know.
        published: u64 = counter "v2v_pubsub_messages_published", "", "Messages published to Redis.";
        consumed: u64 = counter "v2v_pubsub_messages_consumed", "", "Messages of other processes taken from Redis.";
        replay_skipped: u64 = counter "v2v_pubsub_replay_skipped", "",
            "Alerts that had been delivered already and came again.";
        processes: u64 = gauge "v2v_ws_process_count", "", "Gateways that share the Redis, this one included.";

        up: u64 = gauge "ringroad_backplane_workers_up", "", "Workers whose Redis is connected.";
        lag_ms: Histogram = histogram "ringroad_backplane_lag_ms", "ms",
            "Time from publishing on another host to delivery on this one, by the two hosts' clocks.";
        reconnects: u64 = counter "ringroad_backplane_reconnects_total", "", "Links to Redis made again after a loss.";
        silent: u64 = counter "ringroad_backplane_silent_links_total", "", "Links given up because they fell silent.";
        redirects: u64 = counter "ringroad_backplane_redirects_total", "", "Commands sent again, elsewhere in a Cluster.";
        resubscribed: u64 = counter "ringroad_backplane_resubscribed_total", "",
            "Subscriptions that were found missing and made again.";
        unsubscribed: u64 = counter "ringroad_backplane_unsubscribed_total", "",
            "Subscriptions that a server ended by itself, such as when a Cluster moved a slot.";
        oversized: u64 = counter "ringroad_backplane_oversized_total", "",
            "Replies and messages from Redis too long to be read.";
        dropped: PerLabel<Dropped> = counter "ringroad_backplane_dropped_total", "",
            "What was not sent to Redis or not used when it came from there, by why.";
        gaps: u64 = counter "ringroad_backplane_gaps_total", "",
            "Bus frames of positions found missing by their numbers.";
        alert_gaps: u64 = counter "ringroad_backplane_alert_gaps_total", "",
            "How often alerts were found missing by their numbers; they are asked for again.";
        restarts: u64 = counter "ringroad_backplane_node_restarts_total", "", "Other nodes that came back as another run.";
        alerts_lost: u64 = counter "ringroad_backplane_alerts_lost_total", "",
            "Alerts that were missing and that their node no longer had.";
        alerts_repeated: u64 = counter "ringroad_backplane_alerts_repeated_total", "",
            "Alerts sent again because another node had missed them.";
        untracked: u64 = counter "ringroad_backplane_untracked_total", "",
            "Messages of streams beyond what a gateway follows, and asks beyond what it remembers.";
        kept_for_retry: u64 = gauge "ringroad_backplane_kept_for_retry", "", "Alerts that wait to be published.";
        squares: u64 = gauge "ringroad_backplane_squares", "",
            "Squares whose positions this host listens to, counted once per worker.";
        whereabouts_asked: u64 = counter "ringroad_backplane_whereabouts_asked_total", "",
            "Followed vehicles whose hosts were asked where they are, each time.";
        whereabouts_unknown: u64 = gauge "ringroad_backplane_whereabouts_unknown", "",
            "Followed vehicles of other hosts that have not been found yet.";
        subscriptions: u64 = gauge "ringroad_backplane_subscriptions", "", "Channels that this host listens to.";
        states_out: u64 = counter "ringroad_backplane_states_out_total", "", "Positions published to other hosts.";
        states_in: u64 = counter "ringroad_backplane_states_in_total", "", "Positions of other hosts received.";
        states_conflated: u64 = counter "ringroad_backplane_states_conflated_total", "",
            "Positions that a newer one replaced before they were published.";
        shared_by_redis: u64 = counter "ringroad_shared_limit_redis_total", "", "Rate limits decided by Redis.";
        shared_by_local: u64 = counter "ringroad_shared_limit_local_total", "",
            "Shared rate limits decided by the local bucket, because Redis was away or slow.";
        swept: u64 = counter "ringroad_backplane_swept_total", "", "Vehicles of dead nodes that this host announced as gone.";
        bytes_in: u64 = counter "ringroad_backplane_received_bytes_total", "bytes", "Received from Redis.";
        bytes_out: u64 = counter "ringroad_backplane_sent_bytes_total", "bytes", "Sent to Redis.";
    }
}

impl BackplaneCounters {
    /// Takes over what the client counts.
    pub(super) fn show(&mut self, counts: &ClientCounts) {
        let ClientCounts { reconnects, bytes_in, bytes_out, oversized, silent, redirects, resubscribed, unsubscribed } =
            *counts;
        self.reconnects = reconnects;
        self.bytes_in = bytes_in;
        self.bytes_out = bytes_out;
        self.oversized = oversized;
        self.silent = silent;
        self.redirects = redirects;
        self.resubscribed = resubscribed;
        self.unsubscribed = unsubscribed;
    }
}
