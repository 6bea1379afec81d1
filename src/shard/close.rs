//! Why connections end, and why single things are let go. The same value is the close code, the close text, the
//! counter's label and the log field.

use crate::metrics::labels;

labels! {
    /// Why a connection ended.
    pub enum CloseReason for "reason" {
        /// The client said goodbye with a close frame.
        ClientClosed = "client_closed",
        /// The connection broke, or ended without a close frame.
        Reset = "reset",
        /// No complete request head in time.
        HandshakeTimeout = "handshake_timeout",
        /// A newer connection registered the same vehicle.
        Replaced = "replaced",
        /// Silent for too long.
        Timeout = "timeout",
        /// Events waited for it beyond the bound.
        Slow = "slow",
        /// What it sent is not RFC 6455.
        Protocol = "protocol",
        /// A text message that is not UTF-8.
        InvalidUtf8 = "invalid_utf8",
        /// A message beyond the limit.
        TooBig = "too_big",
        /// The token was missing or wrong.
        AuthFailed = "auth_failed",
        /// The token has expired and no newer one was shown, or its key has been taken away.
        TokenExpired = "token_expired",
        /// The gateway stops.
        Shutdown = "shutdown",
        /// Refused at the door: too many connections, a bad request head, an origin that is not allowed.
        Refused = "refused",
        /// An HTTP request was answered.
        Http = "http",
    }
}

impl CloseReason {
    /// The code of the close frame that the server begins with; none where no close frame is due, or the client's own
    /// is answered.
    pub const fn code(self) -> Option<u16> {
        match self {
            CloseReason::Protocol => Some(1002),
            CloseReason::InvalidUtf8 => Some(1007),
            CloseReason::AuthFailed => Some(1008),
            CloseReason::TooBig => Some(1009),
            // "Service Restart" in the registry of close codes: come back, here or elsewhere.
            CloseReason::Shutdown => Some(1012),
            CloseReason::Replaced => Some(4001),
            CloseReason::Timeout => Some(4002),
            CloseReason::TokenExpired => Some(4003),
            CloseReason::Slow => Some(4008),
            CloseReason::ClientClosed
            | CloseReason::Reset
            | CloseReason::HandshakeTimeout
            | CloseReason::Refused
            | CloseReason::Http => None,
        }
    }

    /// The text of the close frame.
    pub const fn reason(self) -> &'static str {
        self.as_str()
    }
}

labels! {
    /// Why somebody was not let in.
    pub enum Refused for "reason" {
        /// The worker has `limits.conns_per_worker_max` connections.
        Full = "full",
        /// The gateway stops.
        Stopping = "stopping",
        /// Its address has `admission.conns_per_address_max` connections.
        Address = "address",
        /// Handshakes came faster than `admission.accept_rate`.
        Rate = "rate",
        /// Nothing came, and `admission.half_open_max` others waited too.
        HalfOpen = "half_open",
        /// A trusted proxy did not begin with a PROXY header.
        ProxyHeader = "proxy_header",
        /// It asked the private address under a name that is not in `server.private_hosts`.
        Host = "host",
    }
}

labels! {
    /// Why something was dropped on purpose while its connection lived on.
    pub enum ShedReason for "reason" {
        /// A note for another worker, whose inbox was full and whose backlog was too.
        MeshBacklog = "mesh_backlog",
        /// A `connect_request` that waited for its answer when too many did.
        PendingRequest = "pending_request",
        /// An HTTP listing that was asked for while too many were being gathered.
        Listing = "listing",
    }
}

labels! {
    /// What a slow reader did not take in time: which bound it went beyond.
    pub enum SlowIn for "queue" {
        /// Events of its own: `limits.outbox_bytes_max`.
        Outbox = "outbox",
        /// Events for everyone: `limits.broadcast_log_bytes`.
        Log = "log",
        /// Pongs, beyond what the outbox may hold.
        Control = "control",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CONTROL_PAYLOAD_BYTES_MAX;
    use crate::metrics::Label;

    #[test]
    fn codes_are_ones_that_a_server_may_send_and_each_has_one_reason() {
        let codes: Vec<u16> = CloseReason::ALL.iter().filter_map(|reason| reason.code()).collect();
        for (i, code) in codes.iter().enumerate() {
            // RFC 6455, section 7.4: 1004, 1005, 1006 and 1015 are reserved, 4000 to 4999 are for applications.
            assert!(matches!(code, 1000..=1003 | 1007..=1012 | 4000..=4999), "{code}");
            assert!(!codes[..i].contains(code), "{code} twice");
        }
    }

    #[test]
    fn a_close_frame_holds_code_and_reason() {
        for reason in CloseReason::ALL {
            assert!(2 + reason.reason().len() <= CONTROL_PAYLOAD_BYTES_MAX);
        }
    }
}
