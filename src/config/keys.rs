//! The key table: every key an operator may set, once, with its meaning, its unit and what it accepts.
//!
//! The printed configuration, the error messages and the search for the nearest key all read this table; a test holds
//! it against the serialised [`Config`](super::Config), so neither can have a key that the other lacks.

use std::fmt;

/// A key and what is to be said about it.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// `section.key`
    pub name: &'static str,
    /// What it accepts.
    pub kind: Kind,
    /// Unit of the value; empty where there is none.
    pub unit: &'static str,
    /// What it does, in one sentence without a full stop.
    pub meaning: &'static str,
}

/// What a key accepts. `Display` says it in words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// An IP address and a port.
    Address,
    /// An IP address and a port, or nothing.
    OptionalAddress,
    /// Names of tenants.
    Tenants,
    /// Path of a WebSocket endpoint beside the HTTP ones.
    Path,
    /// Any string.
    Text,
    /// Any string; never printed.
    Secret,
    /// Web origins.
    Origins,
    /// A boolean.
    Flag,
    /// An integer within bounds, both included.
    Whole(u64, u64),
    /// A number within bounds, both included.
    Real(f64, f64),
    /// One of some words.
    Choice(&'static [&'static str]),
    /// A speed that serial lines have.
    Baud,
    /// A token bucket: `burst` and `per_ms`.
    Bucket,
    /// Short radio ids to vehicle ids.
    ShortIds,
    /// Where the backplane's servers are, or nothing. Printed without its password.
    Servers,
    /// What names in Redis begin with.
    Prefix,
    /// Names of events.
    Events,
    /// Any of some words, each once.
    Words(&'static [&'static str]),
    /// Name of a node, or nothing.
    NodeId,
    /// Where map tiles are, or nothing.
    Tiles,
    /// IP networks or addresses.
    Networks,
    /// Names of hosts.
    Hosts,
}

/// Paths that answer HTTP on the same port.
pub const HTTP_PATHS: [&str; 9] =
    ["/health", "/metrics", "/vehicles", "/presence", "/map", "/map.js", "/map.css", "/map.json", "/ringroad.js"];

/// Speeds of a serial line.
pub const BAUDS: [u64; 11] = [1_200, 2_400, 4_800, 9_600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600];

/// Tokens of a bucket; 0 is unlimited.
pub const BURST: Kind = Kind::Whole(0, 1_000_000);

/// Time in which a bucket fills.
pub const PER_MS: Kind = Kind::Whole(1, DAY_MS);

/// The token buckets of `[rate_limits]`.
const BUCKETS: [&str; 5] = ["location_update", "send_message", "signaling", "ice_candidate", "emergency_alert"];

/// Characters of a prefix.
pub const PREFIX_CHARS_MAX: usize = 64;

/// Characters of a node's name, and of an event's.
pub const NAME_CHARS_MAX: usize = 64;

/// Tenants. Each worker looks at each of them in every turn.
pub const TENANTS_MAX: usize = 256;

const DAY_MS: u64 = 86_400_000;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

const fn key(name: &'static str, kind: Kind, unit: &'static str, meaning: &'static str) -> Key {
    Key { name, kind, unit, meaning }
}

/// Every key, in the order in which a configuration is printed.
pub const KEYS: &[Key] = &[
    key("server.listen", Kind::Address, "", "Address and port to listen on; port 0 lets the kernel choose"),
    key("server.workers", Kind::Whole(0, 1024), "threads", "Worker threads; 0: one per core"),
    key("server.path", Kind::Path, "", "Path of the WebSocket endpoint"),
    key("server.allowed_origins", Kind::Origins, "", "Origins whose pages may connect; empty: all"),
    key(
        "server.drain_ms",
        Kind::Whole(0, 600_000),
        "ms",
        "Time over which connections are let go of after SIGTERM, each told its own moment; 0: all at once",
    ),
    key(
        "server.steer",
        Kind::Choice(&["hash", "cpu"]),
        "",
        "Which worker gets a new connection: any (hash), or that of the CPU which takes in its packets (cpu, from Linux \
         6.2 on), where a network card's queues are spread over all CPUs (tuning/affinity)",
    ),
    key(
        "server.private_listen",
        Kind::OptionalAddress,
        "",
        "Address and port of a second listener, for operators: /metrics, /vehicles and /presence need no token there, and \
         without a token are nowhere else; empty: none",
    ),
    key(
        "server.private_hosts",
        Kind::Hosts,
        "",
        "Names under which the second listener may be asked, beside localhost and IP addresses: a page in an operator's \
         browser can make a name of its own lead there, and is refused by it (DNS rebinding)",
    ),
    key("vehicles.nearby_radius_m", Kind::Real(1.0, 5_000.0), "m", "Vehicles within this distance are neighbours"),
    key(
        "vehicles.nearby_exit_factor",
        Kind::Real(1.0, 3.0),
        "",
        "A neighbour is lost beyond the larger of radius x factor and radius + 20 m",
    ),
    key(
        "vehicles.coalesce_ms",
        Kind::Whole(0, 60_000),
        "ms",
        "At most one location update per vehicle is processed in this time, the newest; 0: every one",
    ),
    key(
        "vehicles.flush_ms",
        Kind::Whole(0, 1_000),
        "ms",
        "Least time between two position flushes to one connection while the worker has time; 0: none",
    ),
    key(
        "vehicles.flush_busy_ms",
        Kind::Whole(0, 1_000),
        "ms",
        "What that grows to while the worker is busy, if it is longer: fewer and fuller messages",
    ),
    key(
        "vehicles.heartbeat_timeout_ms",
        Kind::Whole(1, DAY_MS),
        "ms",
        "A connection silent for this long is closed and announced as timed out; more than ping_ms",
    ),
    key("vehicles.ping_ms", Kind::Whole(1, DAY_MS), "ms", "A connection silent for this long gets a WebSocket ping"),
    key(
        "vehicles.nearby_list_ms",
        Kind::Whole(0, DAY_MS),
        "ms",
        "Least time between two nearby_vehicles lists after a change; 0: no lists at all",
    ),
    key(
        "vehicles.nearby_interval_ms",
        Kind::Whole(100, DAY_MS),
        "ms",
        "A nearby_vehicles list is sent this often even without a change",
    ),
    key(
        "vehicles.neighbours_max",
        Kind::Whole(1, 4096),
        "vehicles",
        "Neighbours that one vehicle has at most; where more are within the radius, the nearest",
    ),
    key(
        "vehicles.crowd_ms",
        Kind::Whole(100, 60_000),
        "ms",
        "Where there are more than neighbours_max, the nearest are chosen anew this often",
    ),
    key("vehicles.request_timeout_ms", Kind::Whole(1, DAY_MS), "ms", "How long a connect_request waits for its answer"),
    key(
        "vehicles.significant_changes",
        Kind::Flag,
        "",
        "Tell of a position only if it differs from the last that was told by more than 4 m, 4 degrees or 0.5 m/s, or \
         if that is a second old (as ETSI EN 302 637-2 generates CAMs)",
    ),
    key(
        "viewers.area_km2_max",
        Kind::Real(0.01, 600_000_000.0),
        "km2",
        "Largest area of a view; larger ones are refused",
    ),
    key("viewers.near_radius_m_max", Kind::Real(1.0, 100_000.0), "m", "Largest radius of a near"),
    key("viewers.follow_max", Kind::Whole(1, 100_000), "vehicles", "Vehicles that one connection may follow"),
    key(
        "viewers.vehicles_max",
        Kind::Whole(1, 1_000_000),
        "vehicles",
        "Vehicles that one connection is shown at a time; of more, those nearest to the middle",
    ),
    key(
        "viewers.nearest",
        Kind::Whole(1, 1_000_000),
        "vehicles",
        "Of these, so many nearest to the middle are shown at the full pace, the others once per rest_ms",
    ),
    key(
        "viewers.rest_ms",
        Kind::Whole(100, 60_000),
        "ms",
        "Time between two states of the others, and between two choices who is nearest",
    ),
    key("viewers.requests", Kind::Bucket, "", "Token bucket per connection for view, near and follow together"),
    key(
        "rate_limits.location_update",
        Kind::Bucket,
        "",
        "Token bucket per vehicle: burst messages per per_ms; burst 0: unlimited",
    ),
    key("rate_limits.send_message", Kind::Bucket, "", "The same for send_message"),
    key("rate_limits.signaling", Kind::Bucket, "", "The same for requests, answers, calls, offers and goodbyes"),
    key(
        "rate_limits.ice_candidate",
        Kind::Bucket,
        "",
        "The same for ice_candidate; a browser sends 5 to 20 in a burst",
    ),
    key("rate_limits.emergency_alert", Kind::Bucket, "", "The same for emergency_alert"),
    key("presence.scope", Kind::Choice(&["all", "nearby", "none"]), "", "Who hears of a vehicle's coming and going"),
    key(
        "tls.certificate",
        Kind::Text,
        "",
        "PEM file of the certificate that server.listen shows, and behind it of those up to its authority's; read again on \
         SIGHUP; empty: no TLS",
    ),
    key("tls.key", Kind::Text, "", "PEM file of its private key: PKCS #8, PKCS #1 or SEC 1, without a password"),
    key(
        "tls.required",
        Kind::Flag,
        "",
        "Whether server.listen speaks TLS only; false: plain HTTP and WebSocket as well, told apart by the first byte",
    ),
    key("auth.required", Kind::Flag, "", "Whether connections need a valid token"),
    key("auth.secret", Kind::Secret, "", "Secret of the HS256 tokens; empty: none"),
    key(
        "auth.key_file",
        Kind::Text,
        "",
        "File with the public keys of the RS256, ES256 and EdDSA tokens, PEM or JWKS; read again when it changes; \
         empty: none",
    ),
    key("auth.issuer", Kind::Text, "", "What a token's iss must be; empty: anything"),
    key("auth.audience", Kind::Text, "", "What a token's aud must name; empty: anything"),
    key(
        "auth.tenants",
        Kind::Tenants,
        "",
        "Names that a token's tenant may be; tenants do not see each other at all, and every client's token must name \
         one; empty: there are no tenants",
    ),
    key(
        "auth.leeway_ms",
        Kind::Whole(0, 300_000),
        "ms",
        "How much clocks may differ: a token counts this much before its nbf and beyond its exp",
    ),
    key(
        "auth.wait_ms",
        Kind::Whole(100, 600_000),
        "ms",
        "How long a connection may be there without having shown a token; then it is closed with 1008",
    ),
    key(
        "auth.warn_ms",
        Kind::Whole(0, DAY_MS),
        "ms",
        "So long before its token ends is a client told token_expiring; 0: not at all",
    ),
    key(
        "redis.url",
        Kind::Servers,
        "",
        "Servers that join this host with others; empty: none. redis://[[user]:password@]host[:port][/db], rediss:// with \
         TLS, unix:///path[?db=N&user=name&password=word], \
         redis+sentinel://[[user]:password@]host[:port],host[:port],.../service[/db], \
         redis+cluster://[[user]:password@]host[:port],host[:port],..., rediss+sentinel:// and rediss+cluster:// with \
         TLS; in user, password and path %2F stands for /",
    ),
    key("redis.username", Kind::Text, "", "ACL user; empty: the one in the URL, or the default user"),
    key("redis.password", Kind::Secret, "", "Password; empty: the one in the URL, or that of password_file"),
    key(
        "redis.password_file",
        Kind::Text,
        "",
        "File with the password, read at start, blanks around it trimmed; only without any other password",
    ),
    key(
        "redis.tls_ca",
        Kind::Text,
        "",
        "PEM file of the authorities that may have signed the servers' certificates; empty: the system's",
    ),
    key("redis.channel_prefix", Kind::Prefix, "", "What every channel and key begins with; the same on all hosts"),
    key(
        "redis.publish_whitelist",
        Kind::Events,
        "",
        "Events that may go to v2v:broadcast and are taken from it; Ringroad publishes only the three of the default, \
         any other is taken from other servers and given to every client",
    ),
    key(
        "redis.payload_bytes_max",
        Kind::Whole(1024, MIB),
        "bytes",
        "Longest message that is published or read, positions left out",
    ),
    key(
        "redis.retry_events_max",
        Kind::Whole(1, 100_000),
        "alerts",
        "Emergency alerts that each worker keeps, to publish them when the servers are back and to repeat them",
    ),
    key(
        "redis.messages_max",
        Kind::Whole(0, 10_000_000),
        "messages",
        "Length of the list v2v:messages, which is trimmed to it; 0: none is kept",
    ),
    key(
        "redis.lease_ms",
        Kind::Whole(3_000, 600_000),
        "ms",
        "How long a node may be silent before its vehicles are announced as gone; well above the 3 s after which a \
         silent link is given up and the 1 s in which a lost one is tried again",
    ),
    key(
        "redis.node_id",
        Kind::NodeId,
        "",
        "Name of this process, unique among those that share the servers; empty: made at start",
    ),
    key(
        "redis.position_tick_ms",
        Kind::Whole(0, 1_000),
        "ms",
        "Least time between two publications of positions in one square; 0: every turn",
    ),
    key("redis.shared_limits", Kind::Words(&BUCKETS), "", "Token buckets of rate_limits that all hosts share"),
    key(
        "limits.conns_per_worker_max",
        Kind::Whole(1, 1_000_000),
        "connections",
        "Connections of one worker; more are refused with 503",
    ),
    key(
        "limits.message_bytes_max",
        Kind::Whole(KIB, 16 * MIB),
        "bytes",
        "One WebSocket message; larger ones close the connection with 1009",
    ),
    key(
        "limits.outbox_bytes_max",
        Kind::Whole(2 * KIB, 64 * MIB),
        "bytes",
        "Events waiting for one connection; beyond, it is closed with 4008; at least message_bytes_max + 1024",
    ),
    key(
        "limits.handshake_ms_max",
        Kind::Whole(100, 600_000),
        "ms",
        "Time from the connection to a complete request head",
    ),
    key(
        "limits.broadcast_log_bytes",
        Kind::Whole(64 * KIB, KIB * MIB),
        "bytes",
        "Log of what goes to everyone, per worker; who falls behind by more is closed with 4008",
    ),
    key(
        "limits.unsent_bytes_max",
        Kind::Whole(4 * KIB, 16 * MIB),
        "bytes",
        "Bytes for one connection that wait in the kernel because its reader takes no more; what is there is sent, \
         however old",
    ),
    key(
        "admission.half_open_max",
        Kind::Whole(1, 1_000_000),
        "connections",
        "A connection that has not completed its request is closed when so many newer ones have come to its worker",
    ),
    key(
        "admission.conns_per_address_max",
        Kind::Whole(0, 1_000_000),
        "connections",
        "Connections of one worker from one IPv4 address or IPv6 /64; more are refused with 429; 0: any number. Vehicles \
         behind one carrier's gateway share an address",
    ),
    key(
        "admission.accept_rate",
        Kind::Bucket,
        "",
        "Token bucket per worker for WebSocket handshakes; beyond, they are refused with 503 and a Retry-After at which \
         there will be room; burst 0: unlimited",
    ),
    key(
        "admission.trusted_proxies",
        Kind::Networks,
        "",
        "Networks or addresses of proxies whose word on a client's address is believed; themselves they are not limited",
    ),
    key(
        "admission.proxy_protocol",
        Kind::Flag,
        "",
        "Whether connections from trusted proxies begin with a PROXY header, version 2; those that do not are closed",
    ),
    key(
        "admission.forwarded_for",
        Kind::Flag,
        "",
        "Whether trusted proxies name the client in X-Forwarded-For; only if each of them appends to it",
    ),
    key("radio.device", Kind::Text, "", "Serial device of the radio modem; empty: none"),
    key("radio.baud", Kind::Baud, "baud", "Speed of the serial line"),
    key("radio.short_ids", Kind::ShortIds, "", "Short radio ids to vehicle ids"),
    key("map.enabled", Kind::Flag, "", "Whether GET / is a live map of the vehicles"),
    key(
        "map.tile_url",
        Kind::Tiles,
        "",
        "Raster tiles that the map lies on, with {z}, {x} and {y} in Web Mercator; empty: a plain grid, and the page \
         asks nobody but the gateway",
    ),
    key("map.tile_attribution", Kind::Text, "", "Whose tiles they are, shown in the map's corner"),
    key(
        "log.level",
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        "",
        "The least that is logged; RINGROAD_LOG or RUST_LOG in the environment, if set, decide instead",
    ),
    key(
        "log.repeats_max",
        Kind::Whole(0, 1_000_000),
        "lines",
        "Lines that one place in the code may log within log.repeats_ms; the others are counted, and their number is \
         logged at its end; 0: any number",
    ),
    key("log.repeats_ms", Kind::Whole(1_000, 3_600_000), "ms", "Period of log.repeats_max"),
];

/// What a dotted path leads to.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// A section, or nothing yet (the empty path).
    Section,
    /// A key of the table.
    Key(&'static Key),
    /// `burst` or `per_ms` of a bucket, with what that accepts.
    BucketPart(Kind),
    /// One short id.
    ShortId,
}

/// Follows a dotted path.
pub fn find(path: &str) -> Option<Place> {
    if let Some(key) = KEYS.iter().find(|key| key.name == path) {
        return Some(Place::Key(key));
    }
    if sections().any(|section| section == path) {
        return Some(Place::Section);
    }
    let (parent, last) = path.rsplit_once('.')?;
    match KEYS.iter().find(|key| key.name == parent)?.kind {
        Kind::Bucket if last == "burst" => Some(Place::BucketPart(BURST)),
        Kind::Bucket if last == "per_ms" => Some(Place::BucketPart(PER_MS)),
        Kind::ShortIds => Some(Place::ShortId),
        _ => None,
    }
}

/// The known path that is most like `path`, which is not one.
///
/// The last segment counts almost as much as the whole: a key in the wrong section, or in none, is the commonest slip
/// after a wrong letter.
pub fn nearest(path: &str) -> String {
    let tail = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let parts = KEYS
        .iter()
        .filter(|key| key.kind == Kind::Bucket)
        .flat_map(|key| [format!("{}.burst", key.name), format!("{}.per_ms", key.name)]);
    let known = KEYS.iter().map(|key| key.name.to_owned()).chain(sections().map(str::to_owned)).chain(parts);
    let likeness = |candidate: &str| {
        let (wrong, right) = (tail(path), tail(candidate));
        // A shortened name, `radius`, is far from the whole by letters alone. The section counts, if it is a known one.
        let section = |path: &str| path.split_once('.').map(|(section, _)| section.to_owned());
        let elsewhere = if section(path) == section(candidate) { 0.0 } else { 0.01 };
        let contained = if wrong.len() >= 4 && right.contains(&wrong) { 0.85 - elsewhere } else { 0.0 };
        strsim::normalized_damerau_levenshtein(path, candidate)
            .max(strsim::normalized_damerau_levenshtein(&wrong, &right) * 0.95)
            .max(contained)
    };
    known.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap_or_default()
}

/// Section names, each once.
pub fn sections() -> impl Iterator<Item = &'static str> {
    let mut previous = "";
    KEYS.iter().filter_map(move |key| {
        let (section, _) = key.name.split_once('.')?;
        (section != std::mem::replace(&mut previous, section)).then_some(section)
    })
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Address => write!(f, "an IP address and a port, such as \"0.0.0.0:3002\" or \"[::]:3002\""),
            Kind::OptionalAddress => write!(f, "an IP address and a port, such as \"127.0.0.1:3003\", or nothing"),
            Kind::Tenants => {
                write!(f, "at most {TENANTS_MAX} names, each once, of 1 to {NAME_CHARS_MAX} of A-Z a-z 0-9 . _ -")
            }
            Kind::Path => {
                write!(f, "a path that starts with '/', without '?', '#' or spaces, and is none of the HTTP paths (")?;
                write!(f, "{})", HTTP_PATHS.join(", "))
            }
            Kind::Text | Kind::Secret => write!(f, "a string"),
            Kind::Origins => {
                write!(f, "a list of origins such as \"https://example.org\", without a path; empty to allow all")
            }
            Kind::Flag => write!(f, "true or false"),
            Kind::Whole(min, max) => write!(f, "an integer from {min} to {max}"),
            Kind::Real(min, max) => write!(f, "a number from {min} to {max}"),
            Kind::Choice(words) => write!(f, "one of \"{}\"", words.join("\", \"")),
            Kind::Baud => write!(f, "a standard speed: {}", BAUDS.map(|baud| baud.to_string()).join(", ")),
            Kind::Bucket => write!(f, "a bucket such as {{ burst = 5, per_ms = 1000 }}"),
            Kind::ShortIds => {
                write!(f, "short ids from 1 to 254, each with its own vehicle id (3 to 40 of A-Z a-z 0-9 . _ -)")
            }
            Kind::Servers => write!(f, "a URL such as redis://user:password@localhost:6379/0, or nothing"),
            Kind::Prefix => write!(f, "at most {PREFIX_CHARS_MAX} ASCII characters without blanks"),
            Kind::Events => write!(f, "a list of events, each 1 to {NAME_CHARS_MAX} of a-z _"),
            Kind::Words(words) => write!(f, "a list of any of \"{}\", each once", words.join("\", \"")),
            Kind::Networks => write!(f, "a list of networks or addresses such as \"10.0.0.0/8\" or \"2001:db8::1\""),
            Kind::Hosts => write!(f, "a list of host names such as \"gateway-1\", without a port"),
            Kind::NodeId => write!(f, "1 to {NAME_CHARS_MAX} of A-Z a-z 0-9 . _ -, or nothing"),
            Kind::Tiles => {
                write!(
                    f,
                    "a URL such as https://tiles.example/{{z}}/{{x}}/{{y}}.png, or a path of this kind, or nothing"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_table_has_exactly_the_keys_of_the_struct() {
        let tree = toml::Table::try_from(Config::default()).expect("the default configuration is TOML");
        let mut of_struct: Vec<String> = Vec::new();
        for (section, content) in &tree {
            of_struct.extend(content.as_table().expect("a section").keys().map(|name| format!("{section}.{name}")));
        }
        let mut of_table: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
        of_struct.sort();
        of_table.sort();
        assert_eq!(of_struct, of_table);
        assert_eq!(sections().count(), tree.len(), "the keys of one section stand together");
    }

    #[test]
    fn every_bucket_can_be_shared() {
        let of_table = KEYS.iter().filter(|key| key.kind == Kind::Bucket);
        let names: Vec<&str> = of_table.filter_map(|key| key.name.strip_prefix("rate_limits.")).collect();
        assert_eq!(names, BUCKETS);
    }

    #[test]
    fn paths_lead_to_their_places() {
        for path in ["server", "server.listen", "rate_limits.signaling", "rate_limits.signaling.burst"] {
            assert!(find(path).is_some(), "{path}");
        }
        assert!(matches!(find("radio.short_ids.7"), Some(Place::ShortId)));
        for path in ["", "listen", "server.port", "rate_limits.signaling.rate", "server.listen.port", "server."] {
            assert!(find(path).is_none(), "{path}");
        }
    }

    #[test]
    fn the_nearest_key_is_the_one_that_was_meant() {
        let cases = [
            ("vehicles.nearby_radius", "vehicles.nearby_radius_m"),
            ("vehicle.flush_ms", "vehicles.flush_ms"),
            ("listen", "server.listen"),
            ("server.worker", "server.workers"),
            ("server.nearby_radius_m", "vehicles.nearby_radius_m"),
            ("rate_limits.location_updates", "rate_limits.location_update"),
            ("rate_limits.signaling.brust", "rate_limits.signaling.burst"),
            ("vehicle", "vehicles"),
            ("server.origins", "server.allowed_origins"),
            ("vehicles.radius", "vehicles.nearby_radius_m"),
            ("redis.prefix", "redis.channel_prefix"),
            ("redis.user", "redis.username"),
            ("redis.lease", "redis.lease_ms"),
        ];
        for (wrong, meant) in cases {
            assert_eq!(nearest(wrong), meant, "{wrong}");
        }
    }
}
