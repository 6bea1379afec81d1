//! The rules: what each key accepts, and how values must relate.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use toml::Value;

use super::keys::{self, Key, Kind};
use super::{Config, ConfigError, MASK, Problem, Source, UrlError, url};
use crate::wire::host;
use crate::wire::json::is_vehicle_id;

/// What an outbox must hold beyond the largest message: a relayed message leaves with a frame header and some fields
/// more than it came with.
const OUTBOX_SPARE_BYTES: u32 = 1024;

/// HS256 keys shorter than its hash are weaker than the hash (RFC 7518, section 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// Characters of an offending value that an error repeats.
const SHOWN_CHARS_MAX: usize = 80;

/// Checks a configuration that was made in a program rather than by [`load`](super::load).
pub fn check(config: &Config) -> Result<(), ConfigError> {
    let mut problems = Vec::new();
    match toml::Table::try_from(config) {
        Ok(tree) => {
            for key in keys::KEYS {
                let value = key.name.split('.').try_fold(None, |at: Option<&Value>, segment| {
                    Some(at.map_or_else(|| tree.get(segment), |value| value.get(segment)))
                });
                if let Some(Some(value)) = value
                    && !accepts(&key.kind, value)
                {
                    problems.push(invalid(key, value, Source::Default));
                }
            }
        }
        Err(error) => problems.push(Problem::Refused { reason: error.to_string(), at: Source::Default }),
    }
    if let Err(unread @ UrlError::PasswordUnread) = config.redis.servers() {
        problems.push(Problem::Refused { reason: unread.to_string(), at: Source::Default });
    }
    problems.extend(relations(config, |_| Source::Default));
    if problems.is_empty() { Ok(()) } else { Err(ConfigError(problems)) }
}

/// Whether a value has the right type and is within its bounds.
pub(super) fn accepts(kind: &Kind, value: &Value) -> bool {
    match (kind, value) {
        (Kind::Address, Value::String(text)) => text.parse::<SocketAddr>().is_ok(),
        (Kind::OptionalAddress, Value::String(text)) => text.is_empty() || text.parse::<SocketAddr>().is_ok(),
        (Kind::Tenants, Value::Array(items)) => {
            let names: BTreeSet<_> = items.iter().filter_map(Value::as_str).collect();
            items.len() <= keys::TENANTS_MAX
                && names.len() == items.len()
                && names.iter().all(|name| !name.is_empty() && is_node_id(name))
        }
        (Kind::Path, Value::String(path)) => is_endpoint_path(path),
        (Kind::Text | Kind::Secret, Value::String(_)) => true,
        (Kind::Origins, Value::Array(items)) => items.iter().all(|item| item.as_str().is_some_and(is_origin)),
        (Kind::Hosts, Value::Array(items)) => items.iter().all(|item| item.as_str().is_some_and(host::is_name)),
        (Kind::Flag, Value::Boolean(_)) => true,
        (Kind::Whole(min, max), Value::Integer(n)) => u64::try_from(*n).is_ok_and(|n| (*min..=*max).contains(&n)),
        // NaN is in no range.
        (Kind::Real(min, max), Value::Float(x)) => (*min..=*max).contains(x),
        (Kind::Choice(words), Value::String(word)) => words.contains(&word.as_str()),
        (Kind::Baud, Value::Integer(n)) => u64::try_from(*n).is_ok_and(|n| keys::BAUDS.contains(&n)),
        (Kind::Bucket, Value::Table(parts)) => parts.iter().all(|(name, part)| match name.as_str() {
            "burst" => accepts(&keys::BURST, part),
            "per_ms" => accepts(&keys::PER_MS, part),
            _ => false,
        }),
        (Kind::ShortIds, Value::Table(ids)) => {
            let vehicles: BTreeSet<_> = ids.values().filter_map(Value::as_str).collect();
            vehicles.len() == ids.len()
                && ids.iter().all(|(short, vehicle)| is_short_id(short) && vehicle.as_str().is_some_and(is_vehicle_id))
        }
        (Kind::Servers, Value::String(text)) => text.is_empty() || url::parse(text).is_ok(),
        (Kind::Prefix, Value::String(text)) => {
            text.len() <= keys::PREFIX_CHARS_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
        }
        (Kind::Events, Value::Array(items)) => items.iter().all(|item| item.as_str().is_some_and(is_event)),
        (Kind::Words(words), Value::Array(items)) => {
            let given: BTreeSet<_> = items.iter().filter_map(Value::as_str).collect();
            given.len() == items.len() && given.iter().all(|word| words.contains(word))
        }
        (Kind::NodeId, Value::String(id)) => is_node_id(id),
        (Kind::Networks, Value::Array(items)) => {
            items.iter().all(|item| item.as_str().is_some_and(|text| super::admission::network(text).is_some()))
        }
        (Kind::Tiles, Value::String(url)) => url.is_empty() || is_tile_url(url),
        _ => false,
    }
}

/// The error for a value that its key does not accept.
pub(super) fn invalid(key: &Key, value: &Value, at: Source) -> Problem {
    let name = key.name.to_owned();
    let value = match (key.kind, value) {
        (Kind::Servers, Value::String(text)) => {
            let value = shown(&Value::String(url::masked(text)));
            return match url::parse(text) {
                Err(error) => Problem::Refused { reason: format!("`{name}` is {value}: {error}"), at },
                Ok(_) => Problem::Invalid { key: name, value, expected: key.kind.to_string(), at },
            };
        }
        (Kind::Secret | Kind::Servers, _) => MASK.to_owned(),
        (_, value) => shown(value),
    };
    Problem::Invalid { key: name, value, expected: key.kind.to_string(), at }
}

/// A value as TOML, short enough for a line of a terminal.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The rules between keys, for values that are each acceptable by themselves.
pub(super) fn relations(config: &Config, source: impl Fn(&str) -> Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse = |keys: [&str; 2], reason: String| {
        // The reader is sent to the value that somebody chose; the other one may be a default.
        let at = keys.map(&source).into_iter().find(|at| *at != Source::Default).unwrap_or(Source::Default);
        problems.push(Problem::Refused { reason, at });
    };

    let vehicles = &config.vehicles;
    if vehicles.heartbeat_timeout_ms <= vehicles.ping_ms {
        refuse(
            ["vehicles.heartbeat_timeout_ms", "vehicles.ping_ms"],
            format!(
                "`vehicles.heartbeat_timeout_ms` is {}; expected more than `vehicles.ping_ms`, which is {}: \
                 a silent client must have time to answer a ping",
                vehicles.heartbeat_timeout_ms, vehicles.ping_ms
            ),
        );
    }

    let limits = &config.limits;
    if limits.outbox_bytes_max < limits.message_bytes_max.saturating_add(OUTBOX_SPARE_BYTES) {
        refuse(
            ["limits.outbox_bytes_max", "limits.message_bytes_max"],
            format!(
                "`limits.outbox_bytes_max` is {}; expected at least `limits.message_bytes_max`, which is {}, \
                 + {OUTBOX_SPARE_BYTES}: one relayed message must fit",
                limits.outbox_bytes_max, limits.message_bytes_max
            ),
        );
    }

    if config.auth.required && config.auth.secret.is_empty() && config.auth.key_file.is_empty() {
        refuse(
            ["auth.required", "auth.secret"],
            "`auth.required` is true, but there is no key to check tokens with; \
             set `auth.key_file`, `auth.secret` or the environment variable V2V_JWT_SECRET"
                .to_owned(),
        );
    }
    if config.auth.secret == MASK {
        // A printed configuration that is loaded again; everyone knows this secret.
        refuse(
            ["auth.secret", "auth.secret"],
            format!("`auth.secret` is {MASK}, which `ringroad config` prints in the place of a secret; set the secret"),
        );
    }
    if !config.auth.tenants.is_empty() {
        // Each of these would let one tenant see another, or everybody see all of them.
        let conflicts = [
            (!config.auth.required, "auth.required", "is false: who shows no token belongs to no tenant"),
            (!config.radio.device.is_empty(), "radio.device", "is set: everybody hears the radio"),
        ];
        for (_, key, why) in conflicts.into_iter().filter(|(conflicts, ..)| *conflicts) {
            refuse(["auth.tenants", key], format!("`auth.tenants` names tenants, but `{key}` {why}"));
        }
    }
    for (keys, reason) in
        config.redis.conflicts().into_iter().chain(config.admission.conflicts()).chain(config.tls.conflicts())
    {
        refuse(keys, reason);
    }
    problems
}

/// What works but should not stay so.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let secret_bytes = config.auth.secret.len();
    let is_short = (1..SECRET_BYTES_MIN).contains(&secret_bytes);
    if config.auth.required && is_short {
        warnings.push(format!(
            "`auth.secret` has {secret_bytes} bytes; an HS256 secret should have at least {SECRET_BYTES_MIN}"
        ));
    }
    if config.auth.required && !config.auth.key_file.is_empty() && config.auth.audience.is_empty() {
        warnings.push(
            "`auth.audience` is empty: tokens that the same keys have signed for other services are good here too"
                .to_owned(),
        );
    }
    warnings.extend(config.redis.warnings());
    warnings
}

fn is_endpoint_path(path: &str) -> bool {
    // `/vehicles/:id` is HTTP too, so what lies below an HTTP path is taken as well.
    let is_http = keys::HTTP_PATHS
        .iter()
        .any(|http| path.strip_prefix(http).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    path.starts_with('/')
        && !is_http
        && path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'))
}

/// What a browser puts into `Origin`: scheme and authority, never a path; or `null`.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else {
        return text == "null";
    };
    !scheme.is_empty()
        && !authority.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && !authority.contains(['/', '?', '#', '@', '*', ','])
}

fn is_short_id(text: &str) -> bool {
    // Written in one way only, or `7` and `07` would be two entries for one modem.
    text.parse::<u8>().is_ok_and(|id| (1..=254).contains(&id) && id.to_string() == text)
}

fn is_event(text: &str) -> bool {
    (1..=keys::NAME_CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_'))
}

fn is_node_id(text: &str) -> bool {
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    text.len() <= keys::NAME_CHARS_MAX && text.bytes().all(of_name)
}

fn is_tile_url(url: &str) -> bool {
    // The scheme and the authority go into the page's security policy, where a `;` or a blank would say more than that.
    let of_authority = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']');
    let is_somewhere = match url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) {
        Some(rest) => {
            let (authority, _) = rest.split_once('/').unwrap_or_default();
            !authority.is_empty() && authority.bytes().all(of_authority)
        }
        None => url.starts_with('/') && !url.starts_with("//"),
    };
    is_somewhere
        && url.bytes().all(|byte| byte.is_ascii_graphic())
        && ["{z}", "{x}", "{y}"].iter().all(|part| url.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn values_are_accepted_or_refused() {
        let yes_no: &[(&str, &[&str], &[&str])] = &[
            (
                "server.listen",
                &["'0.0.0.0:0'", "'[::]:3002'"],
                &["'localhost:1'", "'1.2.3.4'", "3002", "'1.2.3.4:65536'"],
            ),
            ("server.workers", &["0", "1024"], &["-1", "1025", "1.0", "'2'", "true"]),
            (
                "server.path",
                &["'/'", "'/v2v'", "'/ws/v1'", "'/vehicles-live'", "'/Health'"],
                &[
                    "''",
                    "'v2v'",
                    "'/health'",
                    "'/vehicles'",
                    "'/vehicles/x'",
                    "'/presence/'",
                    "'/a b'",
                    "'/a?b'",
                    "'/ä'",
                    "'/map.js'",
                    "'/map/x'",
                    "'/ringroad.js'",
                ],
            ),
            (
                "server.allowed_origins",
                &["[]", "['https://a.example', 'http://localhost:3000', 'null']"],
                &["['*']", "['a.example']", "['https://a.example/']", "'https://a.example'", "[1]", "['://a']"],
            ),
            (
                "server.private_hosts",
                &["[]", "['gateway-1', 'ops.example.', 'a_b']"],
                &["['']", "['a:80']", "['*.example']", "['a..b']", "'gateway-1'", "[1]"],
            ),
            ("server.drain_ms", &["0", "600000"], &["600001", "-1", "'10s'"]),
            ("log.level", &["'error'", "'trace'"], &["'INFO'", "''", "3"]),
            ("log.repeats_max", &["0", "1000000"], &["1000001", "-1"]),
            ("log.repeats_ms", &["1000", "3600000"], &["999", "3600001"]),
            ("vehicles.nearby_radius_m", &["1.0", "5000.0"], &["0.999", "5000.1", "nan", "inf", "-inf", "'500'"]),
            ("vehicles.nearby_exit_factor", &["1.0", "3.0"], &["0.99", "3.01", "nan"]),
            ("vehicles.flush_ms", &["0", "1000"], &["1001", "-1"]),
            ("vehicles.flush_busy_ms", &["0", "1000"], &["1001", "-1"]),
            ("vehicles.coalesce_ms", &["0", "60000"], &["60001"]),
            ("vehicles.ping_ms", &["1"], &["0"]),
            ("vehicles.neighbours_max", &["1", "4096"], &["0", "4097", "-1"]),
            ("vehicles.crowd_ms", &["100", "60000"], &["99", "60001"]),
            ("presence.scope", &["'all'", "'nearby'", "'none'"], &["'All'", "''", "1"]),
            ("auth.required", &["true"], &["1", "'true'"]),
            ("server.private_listen", &["''", "'127.0.0.1:0'", "'[::1]:9'"], &["'localhost:1'", "'9'", "1"]),
            (
                "auth.tenants",
                &["[]", "['acme', 'Acme', 'a.b_c-d']"],
                &["['']", "['a', 'a']", "['a b']", "'acme'", "[1]", "['a/b']"],
            ),
            ("auth.leeway_ms", &["0", "300000"], &["300001", "-1"]),
            ("auth.wait_ms", &["100"], &["99", "0"]),
            ("auth.warn_ms", &["0", "86400000"], &["86400001"]),
            ("limits.message_bytes_max", &["1024", "16777216"], &["1023", "16777217"]),
            ("limits.broadcast_log_bytes", &["65536", "1073741824"], &["65535", "1073741825"]),
            ("limits.unsent_bytes_max", &["4096", "16777216"], &["4095", "0", "16777217"]),
            ("limits.handshake_ms_max", &["100", "600000"], &["99", "600001"]),
            ("limits.conns_per_worker_max", &["1", "1000000"], &["0", "1000001"]),
            ("radio.baud", &["9600", "115200"], &["9601", "0", "-9600"]),
            (
                "radio.short_ids",
                &["{}", "{1='CAR', 254='a.b_c-d'}"],
                &["{0='CAR'}", "{255='CAR'}", "{07='CAR'}", "{1='ab'}", "{1='a b c'}", "{1='CAR', 2='CAR'}", "{1=3}"],
            ),
            (
                "redis.url",
                &["''", "'redis://localhost'", "'unix:///run/redis.sock'", "'redis+cluster://a,b:7000'"],
                &["'localhost'", "'http://localhost'", "'redis://localhost:0'", "'redis://a,b'", "1", "['redis://a']"],
            ),
            ("redis.channel_prefix", &["''", "'prod:'", "'{v}:'"], &["'a b'", "'ä'", "1", "\"\\n\""]),
            (
                "redis.publish_whitelist",
                &["[]", "['emergency_alert', 'weather']"],
                &["['Weather']", "['']", "['v2v:x']", "'weather'", "[1]"],
            ),
            ("redis.payload_bytes_max", &["1024", "1048576"], &["1023", "1048577"]),
            ("redis.retry_events_max", &["1", "100000"], &["0", "100001"]),
            ("redis.messages_max", &["0", "10000000"], &["10000001", "-1"]),
            ("redis.lease_ms", &["3000", "600000"], &["2999", "600001"]),
            ("redis.node_id", &["''", "'edge-1.example_2'"], &["'a b'", "'ä'", "'a:b'", "1"]),
            ("redis.position_tick_ms", &["0", "1000"], &["1001", "-1"]),
            (
                "redis.shared_limits",
                &["[]", "['emergency_alert', 'location_update']"],
                &["['emergency']", "['signaling', 'signaling']", "'signaling'", "[1]"],
            ),
            (
                "admission.trusted_proxies",
                &["[]", "['10.0.0.0/8', '2001:db8::/32', '192.0.2.1', '::1']"],
                &["['proxy.example']", "['10.0.0.0/33']", "'10.0.0.1'", "[1]", "['']"],
            ),
            ("admission.half_open_max", &["1", "1000000"], &["0", "1000001"]),
            ("map.enabled", &["true", "false"], &["1", "'on'"]),
            (
                "map.tile_url",
                &[
                    "''",
                    "'https://a.example:8/{z}/{x}/{y}.png?key=1'",
                    "'/tiles/{x}-{y}-{z}'",
                    "'http://[::1]/{z}{x}{y}'",
                ],
                &[
                    "'https://a.example/{z}/{x}.png'",
                    "'{z}/{x}/{y}'",
                    "'//a.example/{z}/{x}/{y}'",
                    "'ftp://a.example/{z}/{x}/{y}'",
                    "'https://{z}/{x}/{y}'",
                    "'https:///{z}/{x}/{y}'",
                    "'https://a;b/{z}/{x}/{y}'",
                    "'https://a.example/{z}/{x}/{y} z'",
                    "1",
                ],
            ),
            ("map.tile_attribution", &["''", "'© whoever drew them'"], &["1"]),
            (
                "rate_limits.signaling",
                &["{burst=0}", "{burst=5, per_ms=1000}", "{}"],
                &["{burst=-1}", "{per_ms=0}", "{rate=1}", "5", "{burst=1000001}"],
            ),
        ];
        for (name, yes, no) in yes_no {
            let key = keys::KEYS.iter().find(|key| key.name == *name).expect("a known key");
            for text in *yes {
                assert!(accepts(&key.kind, &value(text)), "{name} = {text}");
            }
            for text in *no {
                assert!(!accepts(&key.kind, &value(text)), "{name} = {text}");
            }
        }
    }

    #[test]
    fn defaults_are_acceptable() {
        check(&Config::default()).expect("defaults");
    }

    #[test]
    fn a_configuration_made_in_a_program_is_checked_too() {
        let mut config = Config::default();
        config.vehicles.nearby_radius_m = f64::NAN;
        config.vehicles.ping_ms = 60_000;
        let ConfigError(problems) = check(&config).expect_err("two problems");
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[test]
    fn relations_name_both_keys() {
        type Change = fn(&mut Config);
        let cases: &[(Change, &str, &str)] = &[
            (|c| c.vehicles.heartbeat_timeout_ms = 25_000, "vehicles.heartbeat_timeout_ms", "vehicles.ping_ms"),
            (|c| c.admission.proxy_protocol = true, "admission.proxy_protocol", "admission.trusted_proxies"),
            (|c| c.admission.forwarded_for = true, "admission.forwarded_for", "admission.trusted_proxies"),
            (|c| c.limits.outbox_bytes_max = 65_536, "limits.outbox_bytes_max", "limits.message_bytes_max"),
            (|c| c.auth.required = true, "auth.required", "V2V_JWT_SECRET"),
            (|c| c.auth.tenants = vec!["acme".to_owned()], "auth.tenants", "auth.required"),
            (
                |c| {
                    c.auth.tenants = vec!["acme".to_owned()];
                    c.auth = crate::config::Auth { required: true, key_file: "f".to_owned(), ..c.auth.clone() };
                    c.radio.device = "/dev/ttyUSB0".to_owned();
                },
                "auth.tenants",
                "radio.device",
            ),
            (|c| c.auth.secret = MASK.to_owned(), "auth.secret", "`ringroad config` prints"),
        ];
        for (change, first, second) in cases {
            let mut config = Config::default();
            change(&mut config);
            let text = check(&config).expect_err(first).to_string();
            assert!(text.contains(first) && text.contains(second), "{text}");
        }
    }

    #[test]
    fn tenants_may_share_a_redis() {
        let mut config = Config::default();
        let tenants = vec!["acme".to_owned(), "other".to_owned()];
        config.auth = crate::config::Auth { required: true, secret: "s".repeat(32), tenants, ..config.auth };
        config.redis.url = "redis://localhost".to_owned();
        check(&config).expect("nothing is wrong with it");
    }

    #[test]
    fn long_values_are_shortened_at_a_character() {
        let text = shown(&Value::String("ä".repeat(200)));
        assert_eq!(text.chars().count(), SHOWN_CHARS_MAX + 1);
    }
}
