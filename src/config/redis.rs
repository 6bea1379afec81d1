//! `[redis]`: where the backplane's servers are, and what goes through them.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use super::{MASK, UrlError, url};
use crate::turn::Endpoint;

/// A node's key in Redis is renewed every third of its lease, so two thirds are left in the worst case. They must do
/// for a link that falls silent (noticed after 3 s) and one that is made anew (tried every second).
const LEASE_COMFORTABLE_MS: u64 = 6_000;

/// Characters of a host's name that a node's name begins with.
const HOST_CHARS_MAX: usize = 40;

/// Events that Ringroad publishes to `v2v:broadcast`.
const PUBLISHED: [&str; 3] = ["presence_update", "emergency_alert", "radio_text"];

/// `[redis]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// Where: `redis://`, `rediss://`, `unix://`, `redis+sentinel://`, `redis+cluster://`; empty: no backplane.
    pub url: String,
    /// ACL user; empty: the one in the URL, or the default user.
    pub username: String,
    /// Its password; empty: the one in the URL, or that of `password_file`.
    pub password: String,
    /// File with the password; what surrounds it is trimmed.
    pub password_file: String,
    /// What [`load`](super::load) found in `password_file`. No key, and never printed.
    #[serde(skip)]
    pub password_in_file: String,
    /// PEM file of the authorities that may have signed the servers' certificates; empty: the system's.
    pub tls_ca: String,
    /// What every channel and key begins with.
    pub channel_prefix: String,
    /// Events that may reach `v2v:broadcast`, and that are taken from it.
    pub publish_whitelist: Vec<String>,
    /// Longest message that is published or read, bus frames left out.
    pub payload_bytes_max: u32,
    /// Alerts that each worker keeps to repeat them.
    pub retry_events_max: u32,
    /// Length of the list of messages; 0: none is kept.
    pub messages_max: u32,
    /// How long a node may be silent before its vehicles are announced as gone.
    pub lease_ms: u64,
    /// Name of this process, unique among those that share the servers; empty: made at start.
    pub node_id: String,
    /// Least time between two frames of positions in one square; 0: every turn.
    pub position_tick_ms: u64,
    /// Token buckets (`rate_limits`) that all hosts share.
    pub shared_limits: Vec<String>,
}

impl Default for Redis {
    fn default() -> Self {
        Redis {
            url: String::new(),
            username: String::new(),
            password: String::new(),
            password_file: String::new(),
            password_in_file: String::new(),
            tls_ca: String::new(),
            channel_prefix: String::new(),
            publish_whitelist: PUBLISHED.map(String::from).to_vec(),
            payload_bytes_max: 4096,
            retry_events_max: 1_000,
            messages_max: 10_000,
            lease_ms: 10_000,
            node_id: String::new(),
            position_tick_ms: 20,
            shared_limits: vec!["emergency_alert".into()],
        }
    }
}

impl Redis {
    /// The servers and how to log in to them; `None`: there is no backplane.
    pub fn servers(&self) -> Result<Option<Servers>, UrlError> {
        if self.url.is_empty() {
            return Ok(None);
        }
        if !self.password_file.is_empty() && self.password_in_file.is_empty() {
            return Err(UrlError::PasswordUnread);
        }
        let mut servers = url::parse(&self.url)?;
        if !self.username.is_empty() {
            servers.username = Some(self.username.clone());
        }
        if let Some(password) = [&self.password, &self.password_in_file].into_iter().find(|word| !word.is_empty()) {
            servers.password = Some(password.clone());
        }
        Ok(Some(servers))
    }

    /// Gives the node of a backplane a name if nobody did: its host's, and behind it what no other process has.
    pub fn name_node(&mut self) {
        if self.url.is_empty() || !self.node_id.is_empty() {
            return;
        }
        // Linux always has it; a node without a host's name is told apart by the rest.
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let of_name = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let host: String = host.chars().filter(of_name).take(HOST_CHARS_MAX).collect();
        // The standard library's hasher keys are the one randomness that needs no dependency.
        let unique = RandomState::new().hash_one(std::process::id()) as u32;
        self.node_id = format!("{host}-{unique:08x}");
    }

    /// Reads the password file if it is going to be needed: once, for it may be a pipe.
    pub(super) fn read_password_file(&mut self) -> Result<(), String> {
        if self.url.is_empty() || self.password_file.is_empty() {
            return Ok(());
        }
        let text = std::fs::read_to_string(&self.password_file);
        let text = text.map_err(|error| format!("`redis.password_file` is {:?}: {error}", self.password_file))?;
        if text.trim().is_empty() {
            return Err(format!("`redis.password_file` is {:?}: there is no password in it", self.password_file));
        }
        self.password_in_file = text.trim().to_owned();
        Ok(())
    }

    /// The same, fit to be shown.
    pub(super) fn masked(&self) -> Redis {
        let hidden = |secret: &str| if secret.is_empty() { String::new() } else { MASK.to_owned() };
        Redis {
            url: if self.url.is_empty() { String::new() } else { url::masked(&self.url) },
            password: hidden(&self.password),
            password_in_file: hidden(&self.password_in_file),
            ..self.clone()
        }
    }

    /// Values that do not go together: the keys, and why. Whether the URL is right by itself was asked before.
    pub(super) fn conflicts(&self) -> Vec<([&'static str; 2], String)> {
        let mut conflicts = Vec::new();
        for (key, is_masked) in [("redis.url", self.url.contains(MASK)), ("redis.password", self.password == MASK)] {
            if is_masked {
                // A printed configuration that is loaded again.
                let reason = format!(
                    "`{key}` has {MASK} in it, which `ringroad config` prints in the place of a secret; set the secret"
                );
                conflicts.push(([key, key], reason));
            }
        }
        if !self.password.is_empty() && !self.password_file.is_empty() {
            let reason = "`redis.password` and `redis.password_file` are both set; which of them is meant?";
            conflicts.push((["redis.password_file", "redis.password"], reason.to_owned()));
        }
        if self.url.is_empty() {
            return conflicts;
        }
        let of_url = url::parse(&self.url);
        if let (Ok(Servers { password: Some(_), .. }), false) = (&of_url, self.password_file.is_empty()) {
            let reason = "`redis.password_file` is set, and `redis.url` has a password too; which of them is meant?";
            conflicts.push((["redis.password_file", "redis.url"], reason.to_owned()));
        }
        if let Ok(Some(Servers { username: Some(_), password: None, .. })) = self.servers() {
            let reason = "`redis.username` or `redis.url` has a user, but there is no password; \
                          for a user that needs none, set `redis.password` to any";
            conflicts.push((["redis.username", "redis.url"], reason.to_owned()));
        }
        if let (Ok(of_url), false) = (&of_url, self.tls_ca.is_empty()) {
            if !of_url.tls {
                let reason = "`redis.tls_ca` is set, but `redis.url` asks for no TLS; expected rediss:// in it";
                conflicts.push((["redis.tls_ca", "redis.url"], reason.to_owned()));
            } else if let Err(why) = read_authorities(&self.tls_ca) {
                let reason = format!("`redis.tls_ca` is {:?}: {why}", self.tls_ca);
                conflicts.push((["redis.tls_ca", "redis.url"], reason));
            }
        }
        conflicts
    }

    /// What works but should not stay so.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.url.is_empty() {
            return warnings;
        }
        if self.lease_ms < LEASE_COMFORTABLE_MS {
            warnings.push(format!(
                "`redis.lease_ms` is {}; below {LEASE_COMFORTABLE_MS} a node that only lost its connection may be taken \
                 for dead",
                self.lease_ms
            ));
        }
        let foreign = self.publish_whitelist.iter().filter(|name| !PUBLISHED.contains(&name.as_str()));
        let foreign: Vec<String> = foreign.map(|name| format!("`{name}`")).collect();
        if !foreign.is_empty() {
            warnings.push(format!(
                "`redis.publish_whitelist` has {}: Ringroad publishes only {}; the rest is only taken from other \
                 servers, and given to every client",
                foreign.join(", "),
                PUBLISHED.join(", ")
            ));
        }
        warnings
    }
}

/// Whether the file has certificates, and nothing that is broken.
fn read_authorities(path: &str) -> Result<(), String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err("there is no certificate in it".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// The servers of a backplane, as a URL means them.
#[derive(Clone, PartialEq, Eq)]
pub struct Servers {
    /// How they are found.
    pub topology: Topology,
    /// Whether links are encrypted.
    pub tls: bool,
    /// ACL user.
    pub username: Option<String>,
    /// Password.
    pub password: Option<String>,
    /// Database number; always 0 in a Cluster.
    pub database: u16,
}

/// How the servers are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single(Endpoint),
    /// Sentinels that know the master.
    Sentinel {
        /// All of them.
        sentinels: Vec<Endpoint>,
        /// Name of the master.
        service: String,
    },
    /// A Cluster.
    Cluster {
        /// Any of its nodes.
        seeds: Vec<Endpoint>,
    },
}

/// For an operator to read: where, never who.
impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |of: &[Endpoint]| of.iter().map(Endpoint::to_string).collect::<Vec<_>>().join(", ");
        match &self.topology {
            Topology::Single(server) => write!(f, "{server}")?,
            Topology::Sentinel { sentinels, service } => write!(f, "{service} of sentinels {}", list(sentinels))?,
            Topology::Cluster { seeds } => write!(f, "cluster {}", list(seeds))?,
        }
        if self.database != 0 {
            write!(f, ", database {}", self.database)?;
        }
        f.write_str(if self.tls { ", TLS" } else { "" })
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers")
            .field("topology", &self.topology)
            .field("tls", &self.tls)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| MASK))
            .field("database", &self.database)
            .finish()
    }
}

#[cfg(test)]
#[path = "redis_tests.rs"]
mod tests;
