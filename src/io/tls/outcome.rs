//! How handshakes end, as they are counted.

use rustls::{Error, HandshakeKind};

use crate::metrics::labels;

labels! {
    /// What became of a connection on a port with TLS.
    pub enum HandshakeOutcome for "outcome" {
        /// Done, with the certificate and its signature.
        Full = "full",
        /// Done, with a ticket of an earlier one.
        Resumed = "resumed",
        /// What came was no TLS, where it is required.
        Plain = "plain",
        /// No version, cipher suite, curve or protocol in common.
        Incompatible = "incompatible",
        /// The client said what displeased it: that it does not trust the certificate, mostly.
        Declined = "declined",
        /// What came was wrong.
        Malformed = "malformed",
        /// It ended, or its time was over, before the handshake did.
        Abandoned = "abandoned",
    }
}

impl HandshakeOutcome {
    /// Of a handshake that is done.
    pub(super) fn of_kind(kind: Option<HandshakeKind>) -> HandshakeOutcome {
        match kind {
            Some(HandshakeKind::Resumed) => HandshakeOutcome::Resumed,
            _ => HandshakeOutcome::Full,
        }
    }

    /// Of one that has failed.
    pub(super) fn of_error(error: &Error) -> HandshakeOutcome {
        match error {
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => HandshakeOutcome::Incompatible,
            Error::AlertReceived(_) => HandshakeOutcome::Declined,
            _ => HandshakeOutcome::Malformed,
        }
    }
}
