//! What only the shell can count.

/// Counters of one worker's shell. They only grow; the pump copies them into the core's
/// [`Counters`](crate::metrics::Counters) when it has run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShellCounters {
    /// Connections accepted.
    pub accepts: u64,
    /// Accepts that failed: no descriptor was left, or the peer had gone again.
    pub accept_errors: u64,
    /// Connections made because the core asked for them.
    pub connects: u64,
    /// Connections that the core asked for and that could not be made.
    pub connects_failed: u64,
    /// Connections closed, whoever began it.
    pub closes: u64,
    /// Chunks of bytes received.
    pub recvs: u64,
    /// Bytes received.
    pub recv_bytes: u64,
    /// Receives that ended because every receive buffer was in use.
    pub buffers_exhausted: u64,
    /// Times the completion queue was found overflowing.
    pub cq_overflows: u64,
    /// Sends submitted.
    pub sends: u64,
    /// Bytes that the kernel took.
    pub sent_bytes: u64,
    /// Sends of which the kernel took a part or nothing.
    pub sends_blocked: u64,
    /// Sends that failed because the connection is broken.
    pub sends_failed: u64,
    /// Cancels that came while their request was changing hands, and were repeated.
    pub cancels_repeated: u64,
    /// Batches that arrived from other workers.
    pub mail_batches: u64,
    /// Batches that a full inbox sent back.
    pub mail_refused: u64,
    /// Bytes read from the radio modem.
    pub radio_read_bytes: u64,
    /// Bytes that the radio modem took.
    pub radio_written_bytes: u64,
    /// Bytes for the radio modem that were dropped: the line was too slow, or the device away.
    pub radio_bytes_shed: u64,
    /// Times the radio device was lost.
    pub radio_lost: u64,
    /// Runs of the pump: wake-ups of this worker.
    pub pumps: u64,
    /// Turns of the core carried out.
    pub turns: u64,
    /// Runs of the pump that ended with work left over.
    pub budgets_spent: u64,
}
