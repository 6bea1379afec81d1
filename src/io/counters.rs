//! What only the shell can count.

use super::tls::outcome::HandshakeOutcome;
use crate::metrics::{FineHistogram, PerLabel, counters};

counters! {
    /// Counters of one worker's shell. The pump copies them into the core's
    /// [`Counters`](crate::metrics::Counters) around every turn.
    pub struct ShellCounters {
        accepts: u64 = counter "ringroad_accepts_total", "", "Connections accepted.";
        accept_errors: u64 = counter "ringroad_accept_errors_total", "",
            "Accepts that failed: no descriptor was left, or the peer had gone again.";
        private_refused: u64 = counter "ringroad_private_refused_total", "",
            "Connections to the private address that were closed because too many waited for their worker.";
        connects: u64 = counter "ringroad_connects_total", "", "Connections made because the core asked for them.";
        connects_failed: u64 = counter "ringroad_connects_failed_total", "",
            "Connections that the core asked for and that could not be made.";
        closes: u64 = counter "ringroad_sockets_closed_total", "", "Connections closed, whoever began it.";
        recvs: u64 = counter "ringroad_recvs_total", "", "Chunks of bytes received.";
        recv_bytes: u64 = counter "ringroad_received_bytes_total", "bytes", "Bytes received.";
        buffers_exhausted: u64 = counter "ringroad_buffers_exhausted_total", "",
            "Receives that ended because every receive buffer was in use.";
        cq_overflows: u64 = counter "ringroad_cq_overflows_total", "",
            "Times the completion queue was found overflowing.";
        sends: u64 = counter "ringroad_sends_total", "", "Sends submitted.";
        sent_bytes: u64 = counter "ringroad_sent_bytes_total", "bytes", "Bytes that the kernel took.";
        sends_blocked: u64 = counter "ringroad_sends_blocked_total", "",
            "Sends of which the kernel took a part or nothing.";
        sends_failed: u64 = counter "ringroad_sends_failed_total", "",
            "Sends that failed because the connection is broken.";
        tls_handshakes: PerLabel<HandshakeOutcome> = counter "ringroad_tls_handshakes_total", "",
            "TLS handshakes, by what became of them.";
        tls_sessions: u64 = gauge "ringroad_tls_sessions", "", "Connections now that speak TLS.";
        tls_broken: u64 = counter "ringroad_tls_broken_total", "",
            "Connections that ended because what came over TLS could not be decrypted, or nothing could be encrypted any more.";
        tls_unread: u64 = counter "ringroad_tls_unread_total", "",
            "Sends that were dropped because the TLS handshake was not done: answers to those who are not let in.";
        tls_reloads: u64 = counter "ringroad_tls_reloads_total", "", "Times that the certificate was read anew.";
        tls_reloads_failed: u64 = counter "ringroad_tls_reloads_failed_total", "",
            "Times that the certificate was to be read anew and could not be used; the one before stays.";
        tls_expiry_s: u64 = gauge "ringroad_tls_certificate_expiry_seconds", "seconds",
            "When the certificate that is shown ends, in seconds since 1970; 0: there is none.";
        cancels_repeated: u64 = counter "ringroad_cancels_repeated_total", "",
            "Cancels that did not find their request although it had not ended, and were repeated.";
        mail_batches: u64 = counter "ringroad_mesh_received_total", "", "Batches that arrived from other workers.";
        mail_refused: u64 = counter "ringroad_mesh_refused_total", "", "Batches that a full inbox sent back.";
        radio_read_bytes: u64 = counter "ringroad_radio_read_bytes_total", "bytes", "Bytes read from the radio modem.";
        radio_written_bytes: u64 = counter "ringroad_radio_written_bytes_total", "bytes",
            "Bytes that the radio modem took.";
        radio_bytes_shed: u64 = counter "ringroad_radio_shed_bytes_total", "bytes",
            "Bytes for the radio modem that were dropped: the line was too slow, or the device away.";
        radio_lost: u64 = counter "ringroad_radio_lost_total", "", "Times the radio device was lost.";
        links_up: u64 = counter "ringroad_links_up_total", "", "Links to Redis servers that were made.";
        links_down: u64 = counter "ringroad_links_down_total", "",
            "Links to Redis servers that could not be made, or ended without being closed.";
        link_sends_blocked: u64 = counter "ringroad_link_sends_blocked_total", "",
            "Sends to Redis servers of which the kernel took a part or nothing.";
        link_stalls: u64 = counter "ringroad_link_stalls_total", "",
            "Times a link was not read because the worker had not handled what had been read.";
        pumps: u64 = counter "ringroad_pumps_total", "", "Runs of the pump: wake-ups of this worker.";
        turns: u64 = counter "ringroad_turns_total", "", "Turns of the core carried out.";
        turn_ms: FineHistogram = histogram "ringroad_turn_ms", "ms",
            "Time of one turn: from asking the core for it until it was carried out.";
        round_ms: FineHistogram = histogram "ringroad_round_ms", "ms",
            "Time of one round: what has come is handed to the core, and its turns are carried out. Meanwhile nobody is \
             accepted and nothing is received.";
        rounds_cut: u64 = counter "ringroad_rounds_cut_total", "",
            "Rounds that ended, because their time was over, before the core had nothing more to do.";
        budgets_spent: u64 = counter "ringroad_budgets_spent_total", "",
            "Runs of the pump that ended with work left over.";
        cpu_ms: u64 = counter "ringroad_cpu_ms_total", "ms",
            "Processor time that the workers have taken, their kernel work included; of a second ago at most.";
        busy_percent: u64 = gauge "ringroad_busy_percent", "percent",
            "Share of its time that each worker has lately been busy, added up: 100 is one whole core.";
        inbox_batches: u64 = gauge "ringroad_mesh_inbox_batches", "",
            "Batches that workers found waiting for them when they last looked, added up.";
        memory_bytes: u64 = gauge "process_resident_memory_bytes", "bytes",
            "Memory of the process that is in RAM; of a second ago at most.";
    }
}
