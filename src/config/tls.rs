//! `[tls]`: encryption on the listener.

use serde::{Deserialize, Serialize};

/// `[tls]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM file of the certificate, and of those between it and its authority; empty: the port speaks no TLS.
    pub certificate: String,
    /// PEM file of its private key; empty: likewise.
    pub key: String,
    /// Whether the port speaks nothing else.
    pub required: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Tls { certificate: String::new(), key: String::new(), required: true }
    }
}

impl Tls {
    /// Whether the port speaks TLS at all.
    pub fn is_on(&self) -> bool {
        !self.certificate.is_empty()
    }

    /// Keys that contradict each other, and why.
    pub(super) fn conflicts(&self) -> Vec<([&'static str; 2], String)> {
        let (set, missing) = match (self.certificate.is_empty(), self.key.is_empty()) {
            (false, true) => ("tls.certificate", "tls.key"),
            (true, false) => ("tls.key", "tls.certificate"),
            _ => return Vec::new(),
        };
        vec![([set, missing], format!("`{set}` names a file, but `{missing}` is empty; TLS needs both"))]
    }
}
