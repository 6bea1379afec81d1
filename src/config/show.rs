//! A configuration as text: the whole of it with comments, or what differs from the defaults.

use std::fmt::Write;

use toml::Value;

use super::Config;
use super::keys::{self, KEYS, Key, Kind};

/// What stands in the place of a secret.
pub const MASK: &str = "********";

/// The same configuration, fit to be shown.
pub fn masked(config: &Config) -> Config {
    let mut config = config.clone();
    if !config.auth.secret.is_empty() {
        config.auth.secret = MASK.to_owned();
    }
    config.redis = config.redis.masked();
    config
}

/// The configuration as a file: every key, above it what it means, its unit and its default. Secrets are in it unless
/// the configuration was [`masked`].
pub fn to_toml_commented(config: &Config) -> String {
    let mut out = String::new();
    for section in keys::sections() {
        if !out.is_empty() {
            out.push('\n');
        }
        let _ = writeln!(out, "[{section}]");
        for key in KEYS.iter().filter(|key| key.name.split('.').next() == Some(section)) {
            let (_, name) = key.name.split_once('.').unwrap_or_default();
            let _ = writeln!(out, "# {}.{} Default {}.", key.meaning, range(key), text(&Config::default(), key));
            let _ = writeln!(out, "{name} = {}", text(config, key));
        }
    }
    out
}

/// Keys whose values are not the defaults, with these values as TOML; secrets masked.
pub fn differences(config: &Config) -> Vec<(String, String)> {
    let (config, default) = (masked(config), Config::default());
    KEYS.iter()
        .map(|key| (key.name.to_owned(), text(&config, key), text(&default, key)))
        .filter(|(_, value, default)| value != default)
        .map(|(name, value, _)| (name, value))
        .collect()
}

/// What the key accepts, where the default does not show it by itself.
fn range(key: &Key) -> String {
    let unit = if key.unit.is_empty() { String::new() } else { format!(" {}", key.unit) };
    match key.kind {
        Kind::Whole(min, max) => format!(" {min} to {max}{unit}."),
        Kind::Real(min, max) => format!(" {min} to {max}{unit}."),
        Kind::Choice(words) => format!(" One of {}.", words.join(", ")),
        Kind::Words(words) => format!(" Any of {}.", words.join(", ")),
        _ => String::new(),
    }
}

/// One value as TOML on one line.
fn text(config: &Config, key: &Key) -> String {
    let value = toml::Table::try_from(config).ok().and_then(|tree| {
        let (section, name) = key.name.split_once('.')?;
        tree.get(section)?.get(name).cloned()
    });
    match (key.kind, value) {
        // The order of a table is alphabetical, which happens to be the order in which one says it.
        (Kind::Bucket, Some(Value::Table(parts))) | (Kind::ShortIds, Some(Value::Table(parts))) => {
            let parts: Vec<String> = parts.iter().map(|(name, value)| format!("{name} = {value}")).collect();
            if parts.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", parts.join(", ")) }
        }
        (_, Some(value)) => value.to_string(),
        // A struct that is not TOML cannot be in memory: the key table is tested against it.
        (_, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Bucket, PresenceScope};

    fn changed() -> Config {
        let mut config = Config::default();
        config.server.listen = "[::1]:0".parse().expect("an address");
        config.server.allowed_origins = vec!["https://a.example".into(), "null".into()];
        config.vehicles.nearby_radius_m = 250.0;
        config.rate_limits.signaling = Bucket { burst: 0, per_ms: 7 };
        config.presence.scope = PresenceScope::Nearby;
        config.auth.secret = "quote \" backslash \\ newline \n end".into();
        config.redis.url = "redis+sentinel://me:my%2Fword@a,b:5/main/3".into();
        config.redis.password = "hunter2".into();
        config.redis.shared_limits = vec![];
        config.radio.short_ids.insert("12".into(), "BUS-12".into());
        config
    }

    #[test]
    fn the_printed_configuration_loads_as_itself() {
        for config in [Config::default(), changed()] {
            let text = to_toml_commented(&config);
            let back: Config = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_eq!(back, config);
        }
    }

    #[test]
    fn every_key_has_its_line_and_above_it_a_comment() {
        let text = to_toml_commented(&Config::default());
        for key in KEYS {
            let name = key.name.split_once('.').expect("section and name").1;
            let lines: Vec<&str> = text.lines().collect();
            let at = lines.iter().position(|line| line.starts_with(&format!("{name} = "))).expect(name);
            assert!(lines[at - 1].starts_with("# ") && lines[at - 1].contains(". Default "), "{}", lines[at - 1]);
        }
        assert!(text.contains("location_update = { burst = 5, per_ms = 1000 }"), "{text}");
        assert!(text.contains("neighbours. 1 to 5000 m. Default 500.0."), "{text}");
    }

    #[test]
    fn differences_are_named_and_secrets_masked() {
        assert_eq!(differences(&Config::default()), []);
        let pairs = differences(&changed());
        let expected = [
            ("server.listen", "\"[::1]:0\""),
            ("server.allowed_origins", "[\"https://a.example\", \"null\"]"),
            ("vehicles.nearby_radius_m", "250.0"),
            ("rate_limits.signaling", "{ burst = 0, per_ms = 7 }"),
            ("presence.scope", "\"nearby\""),
            ("auth.secret", "\"********\""),
            ("redis.url", "\"redis+sentinel://me:********@a,b:5/main/3\""),
            ("redis.password", "\"********\""),
            ("redis.shared_limits", "[]"),
            ("radio.short_ids", "{ 12 = \"BUS-12\" }"),
        ];
        assert_eq!(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), expected);
    }
}
