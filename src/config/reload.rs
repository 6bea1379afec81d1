//! What a running gateway takes of a configuration that is read again.

use toml::Value;

use super::Config;
use super::keys::KEYS;

/// Keys that take effect at once, and sections (with a full stop at the end) of which all keys do. The others shape what
/// was made at the start: listeners, threads, indexes, timers that run, links.
const RELOADED: &[&str] = &[
    "server.allowed_origins",
    "server.private_hosts",
    "server.drain_ms",
    "vehicles.coalesce_ms",
    "vehicles.flush_ms",
    "vehicles.flush_busy_ms",
    "vehicles.request_timeout_ms",
    "viewers.area_km2_max",
    "viewers.near_radius_m_max",
    "viewers.follow_max",
    "viewers.requests",
    "rate_limits.",
    "admission.half_open_max",
    "admission.accept_rate",
    "auth.issuer",
    "auth.audience",
    "auth.leeway_ms",
    "auth.wait_ms",
    "auth.warn_ms",
    "limits.conns_per_worker_max",
    "limits.message_bytes_max",
    "limits.outbox_bytes_max",
    "map.",
    "log.",
];

/// What became of a configuration that was read again.
#[derive(Clone, Debug, PartialEq)]
pub struct Reloaded {
    /// The running one with what could be taken.
    pub config: Config,
    /// Keys that have changed and take effect.
    pub taken: Vec<&'static str>,
    /// Keys that have changed and need a restart.
    pub left: Vec<&'static str>,
}

/// Takes of `wanted` what a gateway that runs with `running` can. Both are complete and checked; so is the result.
pub fn reload(running: &Config, wanted: &Config) -> Reloaded {
    let mut reloaded = Reloaded { config: running.clone(), taken: Vec::new(), left: Vec::new() };
    let (Ok(now), Ok(then)) = (toml::Table::try_from(running), toml::Table::try_from(wanted)) else {
        // The key table is tested against the struct: both are TOML.
        return reloaded;
    };
    let mut merged = now.clone();
    for key in KEYS {
        let Some((section, name)) = key.name.split_once('.') else { continue };
        let of = |tree: &toml::Table| tree.get(section).and_then(|section| section.get(name)).cloned();
        let (before, after) = (of(&now), of(&then));
        // Who is not named gets a name at the start, and keeps it.
        let is_unnamed = key.name == "redis.node_id" && wanted.redis.node_id.is_empty();
        if before == after || is_unnamed {
            continue;
        }
        if !is_reloaded(key.name) {
            reloaded.left.push(key.name);
            continue;
        }
        if let (Some(Value::Table(section)), Some(after)) = (merged.get_mut(section), after) {
            section.insert(name.to_owned(), after);
            reloaded.taken.push(key.name);
        }
    }
    match merged.try_into::<Config>().map(|config| (super::check(&config).is_ok(), config)) {
        Ok((true, config)) => reloaded.config = config,
        // Each of the two is consistent, and a mixture of them is not: all of it waits for the restart.
        _ => reloaded.left.append(&mut reloaded.taken),
    }
    reloaded
}

/// Whether a key takes effect without a restart.
pub fn is_reloaded(name: &str) -> bool {
    RELOADED.iter().any(|entry| if entry.ends_with('.') { name.starts_with(entry) } else { name == *entry })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_a_key_or_a_section_of_keys() {
        for entry in RELOADED {
            let known =
                KEYS.iter().any(|key| key.name == *entry || (entry.ends_with('.') && key.name.starts_with(entry)));
            assert!(known, "{entry}");
        }
    }

    #[test]
    fn operators_are_told_all_of_them() {
        let told = include_str!("../../docs/OPERATIONS.md").split("## Reading the configuration again").nth(1);
        let told = told.and_then(|text| text.split("All others").next()).expect("its section");
        let mut named: Vec<&str> = told.split('`').skip(1).step_by(2).filter(|word| word.contains('.')).collect();
        named.retain(|word| !word.contains(' '));
        let mut entries: Vec<String> = RELOADED
            .iter()
            .map(|entry| if entry.ends_with('.') { format!("{entry}*") } else { entry.to_string() })
            .collect();
        entries.sort();
        named.sort();
        assert_eq!(named, entries);
    }

    #[test]
    fn what_can_be_taken_is_and_the_rest_is_named() {
        let mut running = Config::default();
        running.redis.node_id = "named-at-start".into();
        let mut wanted = Config::default();
        wanted.rate_limits.signaling.burst = 77;
        wanted.server.allowed_origins = vec!["https://a.example".into()];
        wanted.server.workers = 3;
        wanted.vehicles.nearby_radius_m = 300.0;
        wanted.auth.audience = "ringroad".into();
        let reloaded = reload(&running, &wanted);
        assert_eq!(reloaded.taken, ["server.allowed_origins", "rate_limits.signaling", "auth.audience"]);
        assert_eq!(reloaded.left, ["server.workers", "vehicles.nearby_radius_m"]);
        let mut expected = running.clone();
        expected.rate_limits.signaling.burst = 77;
        expected.server.allowed_origins = vec!["https://a.example".into()];
        expected.auth.audience = "ringroad".into();
        assert_eq!(reloaded.config, expected);
        let again = reload(&reloaded.config, &wanted);
        assert_eq!((again.taken.len(), again.left.len(), again.config), (0, 2, expected));
    }

    #[test]
    fn keys_that_bound_each_other_change_together() {
        let mut running = Config::default();
        running.limits.message_bytes_max = 1024;
        running.limits.outbox_bytes_max = 4096;
        let mut wanted = running.clone();
        wanted.limits.message_bytes_max = 8192;
        wanted.limits.outbox_bytes_max = 16_384;
        assert_eq!(reload(&running, &wanted).config, wanted);
    }
}
