//! Codes of the `error` event.

use crate::metrics::labels;

labels! {
    /// What was wrong with a client's message. The connection lives on, but for `auth_failed`.
    pub enum ErrorCode for "code" {
        /// Not JSON, or not an object with `event` and `data`.
        InvalidJson = "invalid_json",
        /// An event that the protocol does not have; the details list those it has.
        UnknownEvent = "unknown_event",
        /// A `register` with missing or unacceptable fields.
        InvalidRegister = "invalid_register",
        /// The token was missing or wrong; the connection is closed.
        AuthFailed = "auth_failed",
        /// A `location_update` without a place on Earth.
        InvalidLocation = "invalid_location",
        /// Missing or unacceptable fields in any other event.
        ValidationError = "validation_error",
        /// A `view`, `near` or `follow` with unacceptable fields.
        InvalidView = "invalid_view",
        /// A view of more than a connection may watch.
        ViewTooLarge = "view_too_large",
        /// A binary position with a field that is wrong or missing; the details say where.
        InvalidState = "invalid_state",
        /// Too many of this event; the details say when to try again.
        RateLimited = "rate_limited",
        /// Something that only a registered vehicle may do.
        NotRegistered = "not_registered",
        /// An id in the place of the sender's that is not the sender's.
        NotYours = "not_yours",
        /// The other vehicle is not connected.
        TargetOffline = "target_offline",
        /// An answer to a request that nobody made, or that has timed out.
        NoPendingRequest = "no_pending_request",
        /// A field or message beyond its bound.
        TooLarge = "too_large",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Label;

    #[test]
    fn codes_are_those_of_the_protocol() {
        let codes: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        let protocol = "invalid_json unknown_event invalid_register auth_failed invalid_location validation_error \
                        invalid_view view_too_large invalid_state rate_limited not_registered not_yours \
                        target_offline no_pending_request too_large";
        assert_eq!(codes, protocol.split_whitespace().collect::<Vec<_>>());
    }
}
