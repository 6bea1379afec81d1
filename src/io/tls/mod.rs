//! TLS on the listener: 1.2 and 1.3 by rustls, below the core, which sees what clients say and nothing of how it came.
//!
//! rustls has randomness and a clock, so it belongs to the shell. Its unbuffered interface fits the data ring: records
//! that came whole are decrypted where they were received, and a turn's sends are encrypted into one arena and submitted with all others.
//!
//! - [`certificate`]: the two files, what may be wrong with them, and what is made of them.
//! - `session`: one connection, without its socket; `records`: what rustls makes of its bytes. `desk`: all of a worker, in
//!   a table beside its sockets, so that a connection without TLS has nothing there. `hands`: what is sent for them.
//! - `dial`: the other end, for the fleet of `ringroad drive`.
//! - [`outcome`]: how handshakes end, as they are counted.

pub mod certificate;
pub(crate) mod desk;
mod dial;
mod hands;
pub mod outcome;
mod records;
mod session;

use std::sync::Arc;

pub(crate) use hands::Sealings;

pub use certificate::{Certificate, CertificateError, CertificateFiles};
pub use dial::{DialError, Dialling};

/// How a listener encrypts.
#[derive(Clone, Debug)]
pub struct Encryption {
    /// What it shows.
    pub certificate: Arc<Certificate>,
    /// Whether everybody has to. Otherwise the first byte tells: 22 begins a handshake record (RFC 8446, section 5.1),
    /// and no HTTP request.
    pub required: bool,
}
