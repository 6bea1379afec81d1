//! What an operator may set.
//!
//! [`Config`] is what the rest of Ringroad sees: complete, checked, never a text. Four files stand behind it: [`keys`]
//! names every key with its unit and range, `sources` reads the layers and refuses what it does not know, `check` holds
//! the rules, `show` prints a configuration back, `reload` says what a running gateway takes of another one. `redis` and `url` turn the backplane's part into servers.

mod admission;
mod check;
mod error;
pub mod keys;
mod redis;
mod reload;
mod show;
mod sources;
mod tls;
mod url;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use admission::Admission;
pub use check::check;
pub use error::{ConfigError, Problem, Source};
pub use redis::{Redis, Servers, Topology};
pub use reload::{Reloaded, is_reloaded, reload};
pub use show::{MASK, differences, masked, to_toml_commented};
pub use sources::{Loaded, load};
pub use tls::Tls;
pub use url::UrlError;

/// The whole configuration, with defaults that need no file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Listener and workers.
    pub server: Server,
    /// Positions, neighbours, liveness.
    pub vehicles: Vehicles,
    /// What connections may watch.
    pub viewers: Viewers,
    /// Token buckets per vehicle and event.
    pub rate_limits: RateLimits,
    /// Who hears of presence.
    pub presence: Presence,
    /// Encryption on the listener.
    pub tls: Tls,
    /// Who may connect, and as whom.
    pub auth: Auth,
    /// The backplane.
    pub redis: Redis,
    /// Bounds.
    pub limits: Limits,
    /// Who is let in at the door.
    pub admission: Admission,
    /// The serial radio modem.
    pub radio: Radio,
    /// The live map.
    pub map: Map,
    /// What is logged.
    pub log: Log,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Address and port to listen on; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// Worker threads; 0: one per core.
    pub workers: u16,
    /// Path of the WebSocket endpoint.
    pub path: String,
    /// Origins whose pages may connect; empty: all.
    pub allowed_origins: Vec<String>,
    /// Time over which connections are let go of after SIGTERM; 0: all at once.
    pub drain_ms: u64,
    /// Which worker gets a new connection.
    pub steer: Steer,
    /// Address and port of a second listener, for operators; empty: none.
    pub private_listen: String,
    /// Names under which it may be asked, beside `localhost` and addresses.
    pub private_hosts: Vec<String>,
}

/// Which worker gets a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Steer {
    /// Any: a hash of both addresses decides.
    Hash,
    /// That of the CPU which takes in the connection's first packet.
    Cpu,
}

/// `[vehicles]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vehicles {
    /// Vehicles within this distance are neighbours, metres.
    pub nearby_radius_m: f64,
    /// A neighbour is lost beyond `max(radius × factor, radius + 20 m)`.
    pub nearby_exit_factor: f64,
    /// At most one location update per vehicle is processed in this time; 0: every one.
    pub coalesce_ms: u64,
    /// Least time between two position flushes to one connection; 0: every turn.
    pub flush_ms: u64,
    /// The same while the worker is busy, if that is longer.
    pub flush_busy_ms: u64,
    /// A connection silent for this long is closed.
    pub heartbeat_timeout_ms: u64,
    /// A connection silent for this long gets a WebSocket ping.
    pub ping_ms: u64,
    /// Least time between two `nearby_vehicles` lists after a change; 0: no lists at all.
    pub nearby_list_ms: u64,
    /// A `nearby_vehicles` list is sent this often even without a change.
    pub nearby_interval_ms: u64,
    /// Neighbours of one vehicle; where there are more, it has the nearest.
    pub neighbours_max: u32,
    /// Time between two choices of the nearest.
    pub crowd_ms: u64,
    /// How long a `connect_request` waits for its answer.
    pub request_timeout_ms: u64,
    /// Positions of a vehicle are told only if they differ from the last that was told, or that is a second old.
    pub significant_changes: bool,
}

/// `[viewers]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Viewers {
    /// Largest area of a `view`, km².
    pub area_km2_max: f64,
    /// Largest radius of a `near`, metres.
    pub near_radius_m_max: f64,
    /// Vehicles that one connection may follow.
    pub follow_max: u32,
    /// Vehicles that one connection is shown; of more the nearest to the middle.
    pub vehicles_max: u32,
    /// Of these, those nearest to the middle are shown at the full pace.
    pub nearest: u32,
    /// Time between two states of the others, and between two choices who is nearest.
    pub rest_ms: u64,
    /// `view`, `near` and `follow` of one connection together.
    pub requests: Bucket,
}

/// A token bucket: `burst` tokens, refilled at `burst` per `per_ms`. Burst 0: unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// Tokens in a full bucket.
    pub burst: u32,
    /// Time in which an empty bucket fills.
    pub per_ms: u64,
}

/// `[rate_limits]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimits {
    /// `location_update`
    pub location_update: Bucket,
    /// `send_message`
    pub send_message: Bucket,
    /// Requests, answers, calls, offers and goodbyes between two vehicles.
    pub signaling: Bucket,
    /// `ice_candidate`; a browser sends 5 to 20 in a burst.
    pub ice_candidate: Bucket,
    /// `emergency_alert`
    pub emergency_alert: Bucket,
}

/// Who hears of a vehicle's coming and going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PresenceScope {
    /// Every connection.
    All,
    /// Neighbours only.
    Nearby,
    /// Nobody.
    None,
}

/// `[presence]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Presence {
    /// `all`, `nearby` or `none`.
    pub scope: PresenceScope,
}

/// `[auth]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// Whether connections need a valid token.
    pub required: bool,
    /// Secret of the HS256 tokens; empty: none.
    pub secret: String,
    /// File with public keys, PEM or JWKS; empty: none.
    pub key_file: String,
    /// What `iss` must be; empty: anything.
    pub issuer: String,
    /// What `aud` must name; empty: anything.
    pub audience: String,
    /// Names that `tenant` may be, each with a world of its own; empty: there are no tenants.
    pub tenants: Vec<String>,
    /// How much clocks may differ: a token counts this much before its `nbf` and beyond its `exp`.
    pub leeway_ms: u64,
    /// How long a connection may be there without a token.
    pub wait_ms: u64,
    /// So long before its token ends is a client warned; 0: it is not.
    pub warn_ms: u64,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections of one worker; more are refused with 503.
    pub conns_per_worker_max: u32,
    /// One WebSocket message.
    pub message_bytes_max: u32,
    /// Events waiting for one connection; beyond, it is closed with 4008.
    pub outbox_bytes_max: u32,
    /// Time from accept to a complete request head.
    pub handshake_ms_max: u64,
    /// The log of what goes to everyone; a reader that falls behind by more is closed with 4008.
    pub broadcast_log_bytes: u32,
    /// Bytes for one connection that wait in the kernel because its reader, or the path to it, takes no more. What waits
    /// here instead can still be replaced by something newer.
    ///
    /// At 16 KiB a reader behind a line of 1 Mbit/s is an eighth of a second behind, at 128 KiB a second. The kernel fills
    /// a segment that it has begun, so it holds up to 64 KiB more: on loopback a stalled reader had 54 KiB in it with 16
    /// or 32 KiB here, 67 with 64, 156 with 128, and 3 MiB without. Who reads notices none of that: 2.3 MB of `/vehicles`
    /// took 2.1 ms with any.
    pub unsent_bytes_max: u32,
}

/// `[radio]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Radio {
    /// Serial device of the modem; empty: none.
    pub device: String,
    /// Speed of the serial line.
    pub baud: u32,
    /// Short radio ids (1 to 254, as text) to vehicle ids.
    pub short_ids: BTreeMap<String, String>,
}

/// `[map]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Map {
    /// Whether `GET /` is the live map.
    pub enabled: bool,
    /// Where the map's tiles are, with `{z}`, `{x}` and `{y}`; empty: no tiles.
    pub tile_url: String,
    /// Whose tiles they are.
    pub tile_attribution: String,
}

/// The least that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What must not be.
    Error,
    /// What an operator should look at.
    Warn,
    /// What happens rarely.
    Info,
    /// What happens often.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Its word, as a filter of logs.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// The least that is logged, unless `RINGROAD_LOG` or `RUST_LOG` says more exactly what.
    pub level: LogLevel,
    /// Lines of one place in the code within a period; the others are counted. 0: any number.
    pub repeats_max: u32,
    /// That period.
    pub repeats_ms: u64,
}

impl Default for Log {
    fn default() -> Self {
        Log { level: LogLevel::Info, repeats_max: 30, repeats_ms: 10_000 }
    }
}

impl Default for Server {
    fn default() -> Self {
        Server {
            listen: SocketAddr::from(([0, 0, 0, 0], 3002)),
            workers: 0,
            path: "/v2v".into(),
            allowed_origins: Vec::new(),
            drain_ms: 10_000,
            steer: Steer::Hash,
            private_listen: String::new(),
            private_hosts: Vec::new(),
        }
    }
}

impl Default for Vehicles {
    fn default() -> Self {
        Vehicles {
            nearby_radius_m: 500.0,
            nearby_exit_factor: 1.1,
            coalesce_ms: 150,
            flush_ms: 0,
            flush_busy_ms: 60,
            heartbeat_timeout_ms: 60_000,
            ping_ms: 25_000,
            nearby_list_ms: 1_000,
            nearby_interval_ms: 30_000,
            neighbours_max: 128,
            crowd_ms: 1_000,
            request_timeout_ms: 30_000,
            significant_changes: false,
        }
    }
}

impl Default for Viewers {
    fn default() -> Self {
        Viewers {
            area_km2_max: 100_000.0,
            near_radius_m_max: 5_000.0,
            follow_max: 1_000,
            vehicles_max: 20_000,
            nearest: 4_096,
            rest_ms: 1_000,
            requests: Bucket { burst: 10, per_ms: 1_000 },
        }
    }
}

impl Default for RateLimits {
    fn default() -> Self {
        RateLimits {
            location_update: Bucket { burst: 5, per_ms: 1_000 },
            send_message: Bucket { burst: 3, per_ms: 1_000 },
            signaling: Bucket { burst: 2, per_ms: 1_000 },
            ice_candidate: Bucket { burst: 50, per_ms: 1_000 },
            emergency_alert: Bucket { burst: 1, per_ms: 10_000 },
        }
    }
}

impl Default for Presence {
    fn default() -> Self {
        Presence { scope: PresenceScope::All }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Auth {
            required: false,
            secret: String::new(),
            key_file: String::new(),
            issuer: String::new(),
            audience: String::new(),
            tenants: Vec::new(),
            leeway_ms: 5_000,
            wait_ms: 10_000,
            warn_ms: 60_000,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            conns_per_worker_max: 100_000,
            message_bytes_max: 64 * 1024,
            outbox_bytes_max: 256 * 1024,
            handshake_ms_max: 10_000,
            broadcast_log_bytes: 4 * 1024 * 1024,
            unsent_bytes_max: 16 * 1024,
        }
    }
}

impl Default for Radio {
    fn default() -> Self {
        Radio { device: String::new(), baud: 9_600, short_ids: BTreeMap::new() }
    }
}

impl Default for Map {
    fn default() -> Self {
        Map { enabled: true, tile_url: String::new(), tile_attribution: String::new() }
    }
}
