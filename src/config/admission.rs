//! `[admission]`: who is let in at the door, before anybody has said who they are.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Bucket;

/// `[admission]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admission {
    /// A connection that has not completed its request is closed when so many newer ones have come to its worker.
    pub half_open_max: u32,
    /// Connections of one worker from one IPv4 address or IPv6 /64; 0: any number.
    pub conns_per_address_max: u32,
    /// WebSocket handshakes that one worker accepts; burst 0: any number.
    pub accept_rate: Bucket,
    /// Networks, or addresses, of proxies whose word on a client's address is believed.
    pub trusted_proxies: Vec<String>,
    /// Connections from trusted proxies begin with a PROXY header, version 2.
    pub proxy_protocol: bool,
    /// Trusted proxies name the client in `X-Forwarded-For`.
    pub forwarded_for: bool,
}

impl Default for Admission {
    fn default() -> Self {
        Admission {
            half_open_max: 65_536,
            conns_per_address_max: 0,
            accept_rate: Bucket { burst: 0, per_ms: 1_000 },
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            forwarded_for: false,
        }
    }
}

impl Admission {
    /// The networks of trusted proxies; what is none is left out, and [`check`](super::check) refuses it.
    pub fn trusted(&self) -> Vec<IpNet> {
        self.trusted_proxies.iter().filter_map(|text| network(text)).collect()
    }

    /// Keys that contradict each other, and why.
    pub(super) fn conflicts(&self) -> Vec<([&'static str; 2], String)> {
        let believes =
            [(self.proxy_protocol, "admission.proxy_protocol"), (self.forwarded_for, "admission.forwarded_for")];
        let unused = believes.into_iter().filter(|(is_on, _)| *is_on && self.trusted_proxies.is_empty());
        unused
            .map(|(_, key)| {
                let reason = format!(
                    "`{key}` is true, but `admission.trusted_proxies` is empty; name the proxies, because what anybody \
                     else says about an address is not believed"
                );
                ([key, "admission.trusted_proxies"], reason)
            })
            .collect()
    }
}

/// A network such as `10.0.0.0/8`, or a single address.
pub(super) fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| Some(IpNet::from(text.parse::<std::net::IpAddr>().ok()?)))
}
