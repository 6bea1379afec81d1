//! The layers a configuration is made of, in rising priority: defaults, the file, the environment names of earlier
//! servers, `RINGROAD_SECTION__KEY`, `--set section.key=value`.
//!
//! Each layer is broken into single keys before it is laid over the ones below, so a file may set `burst` alone, and
//! every value knows where it came from when a rule complains about it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::keys::{self, Key, Kind, Place};
use super::{Config, ConfigError, Problem, Source, check};

/// Names that begin like ours and are not keys: the log filter, and what Kubernetes and Docker put into the
/// environment of a pod when a service is called `ringroad` or `ringroad-redis`.
const NOT_KEYS: [&str; 4] = ["RINGROAD_LOG", "RINGROAD_LOG_FORMAT", "RINGROAD_PORT", "RINGROAD_REDIS_PORT"];
const NOT_KEYS_BEGIN: [&str; 4] =
    ["RINGROAD_SERVICE_", "RINGROAD_PORT_", "RINGROAD_REDIS_SERVICE_", "RINGROAD_REDIS_PORT_"];

/// Where `ENABLE_REDIS` alone looks for a server.
const LOCAL_REDIS: &str = "redis://127.0.0.1:6379";

/// A configuration that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// Complete and checked.
    pub config: Config,
    /// What the operator should be told although it is no error.
    pub warnings: Vec<String>,
}

/// Reads all layers. The environment is an argument, so that nothing here depends on the process.
pub fn load(
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    sets: &[String],
) -> Result<Loaded, ConfigError> {
    // In order of names, so that `…__SIGNALING` comes before `…__SIGNALING__BURST` and errors come in one order.
    let env: BTreeMap<String, String> = env.collect();
    let mut layers = Layers::over_defaults()?;
    if let Some(path) = file {
        layers.lay_file(path);
    }
    layers.lay_old_names(&env);
    layers.lay_environment(&env);
    layers.lay_sets(sets);
    let config = layers.finish()?;
    let warnings = check::warnings(&config);
    Ok(Loaded { config, warnings })
}

/// What has been laid so far.
struct Layers {
    tree: Table,
    /// Who set a key last; keys that nobody set are missing.
    sources: BTreeMap<&'static str, Source>,
    problems: Vec<Problem>,
}

impl Layers {
    fn over_defaults() -> Result<Layers, ConfigError> {
        let tree = Table::try_from(Config::default()).map_err(|error| refused(error.to_string()))?;
        Ok(Layers { tree, sources: BTreeMap::new(), problems: Vec::new() })
    }

    fn lay_file(&mut self, path: &Path) {
        let name = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                self.problems.push(Problem::Unreadable { path: name, reason: error.to_string() });
                return;
            }
        };
        let file = File { name: &name, text: &text };
        match DeTable::parse(&text) {
            Ok(table) => self.lay_table("", table, &file),
            Err(error) => {
                let at = file.source(error.span().map_or(0, |span| span.start));
                self.problems.push(Problem::Syntax { at, reason: error.message().to_owned() });
            }
        }
    }

    fn lay_table(&mut self, prefix: &str, table: Spanned<DeTable<'_>>, file: &File<'_>) {
        for (name, value) in table.into_inner() {
            let at = file.source(name.span().start);
            let path =
                if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
            let span = value.span();
            match (keys::find(&path), value.into_inner()) {
                (Some(_), DeValue::Table(inner)) => self.lay_table(&path, Spanned::new(span, inner), file),
                (Some(_), value) => {
                    // An integer beyond i64 is TOML, but no value; it is shown as it was written.
                    let as_written = Value::String(file.text.get(span.clone()).unwrap_or_default().to_owned());
                    let value = Value::deserialize(Spanned::new(span, value).into_deserializer()).unwrap_or(as_written);
                    self.lay(&path, value, at);
                }
                (None, _) => self.unknown(path, at),
            }
        }
    }

    /// Names that existing deployments use. What is set to nothing counts as not set, as they had it.
    fn lay_old_names(&mut self, env: &BTreeMap<String, String>) {
        let old = |name: &str| {
            let text = env.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
            text.map(|text| (text, Source::Variable(name.to_owned())))
        };
        if let Some((text, at)) = old("V2V_SERVER_PORT") {
            self.lay_port(text, at);
        }
        if let Some((text, at)) = old("NEARBY_RADIUS_METERS") {
            self.lay_text("vehicles.nearby_radius_m", text, at);
        }
        if let Some((text, at)) = old("ALLOWED_ORIGINS") {
            self.lay_text("server.allowed_origins", if text == "*" { "" } else { text }, at);
        }
        if let Some((text, at)) = old("V2V_JWT_SECRET") {
            self.lay("auth.secret", Value::String(text.to_owned()), at);
        }
        if let Some((text, at)) = old("REQUIRE_AUTH") {
            match truth(text) {
                Some(required) => self.lay("auth.required", Value::Boolean(required), at),
                None => self.lay("auth.required", Value::String(text.to_owned()), at),
            }
        }

        let lay_url = |layers: &mut Layers, url: &str, at| layers.lay("redis.url", Value::String(url.to_owned()), at);
        match (old("ENABLE_REDIS").map(|(text, at)| (truth(text), text, at)), old("REDIS_URL")) {
            (Some((None, text, at)), _) => {
                let reason = format!("ENABLE_REDIS is {text:?}; expected true or false");
                self.problems.push(Problem::Refused { reason, at });
            }
            // Also what a file says, as any higher layer does.
            (Some((Some(false), _, at)), _) => lay_url(self, "", at),
            // The address alone is enough.
            (Some((Some(true), ..)) | None, Some((url, at))) => lay_url(self, url, at),
            (Some((Some(true), _, at)), None) => {
                let in_file = self.tree.get("redis").and_then(|redis| redis.get("url")?.as_str());
                if in_file == Some("") {
                    lay_url(self, LOCAL_REDIS, at);
                }
            }
            (None, None) => {}
        }
    }

    fn lay_environment(&mut self, env: &BTreeMap<String, String>) {
        for (name, text) in env {
            let Some(rest) = name.strip_prefix("RINGROAD_") else { continue };
            if NOT_KEYS.contains(&name.as_str()) || NOT_KEYS_BEGIN.iter().any(|begin| name.starts_with(begin)) {
                continue;
            }
            let path = rest.to_ascii_lowercase().replace("__", ".");
            self.lay_text(&path, text, Source::Variable(name.clone()));
        }
    }

    fn lay_sets(&mut self, sets: &[String]) {
        for set in sets {
            match set.split_once('=') {
                Some((path, text)) if !path.trim().is_empty() => {
                    let path = path.trim();
                    self.lay_text(path, text.trim(), Source::Set(path.to_owned()));
                }
                // What follows the key may be a secret.
                _ => {
                    let of_key = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
                    let key: String = set.chars().take_while(of_key).collect();
                    let rest = if key.len() < set.len() { "…" } else { "" };
                    self.problems.push(Problem::Malformed { text: key + rest });
                }
            }
        }
    }

    /// The old servers know a port only; the address stays as it is.
    fn lay_port(&mut self, text: &str, at: Source) {
        let listen = self.tree.get("server").and_then(|server| server.get("listen")?.as_str());
        match (text.parse::<u16>(), listen.and_then(|listen| listen.parse::<SocketAddr>().ok())) {
            (Ok(port), Some(mut listen)) => {
                listen.set_port(port);
                self.lay("server.listen", Value::String(listen.to_string()), at);
            }
            _ => self.problems.push(Problem::Invalid {
                key: "server.listen".to_owned(),
                value: check::shown(&Value::String(text.to_owned())),
                expected: "a port from 0 to 65535".to_owned(),
                at,
            }),
        }
    }

    /// Lays a value that was written without TOML's context.
    fn lay_text(&mut self, path: &str, text: &str, at: Source) {
        match keys::find(path) {
            Some(Place::Key(key)) => self.lay(path, value_of(&key.kind, text), at),
            Some(Place::BucketPart(kind)) => self.lay(path, value_of(&kind, text), at),
            Some(Place::ShortId) => self.lay(path, value_of(&Kind::Text, text), at),
            Some(Place::Section) | None => self.unknown(path.to_owned(), at),
        }
    }

    /// Lays one value over what is there, if the key accepts it.
    fn lay(&mut self, path: &str, value: Value, at: Source) {
        match keys::find(path) {
            Some(Place::Key(key)) => self.lay_key(key, value, at),
            Some(Place::BucketPart(kind)) => self.lay_part(path, kind, value, at),
            Some(Place::ShortId) => self.lay_part(path, Kind::ShortIds, value, at),
            // A section that is not a table, `server = 3`, is as wrong as a section that does not exist.
            Some(Place::Section) | None => self.unknown(path.to_owned(), at),
        }
    }

    fn lay_key(&mut self, key: &'static Key, value: Value, at: Source) {
        let value = match (key.kind, value) {
            (Kind::Real(..), Value::Integer(n)) => Value::Float(n as f64),
            (Kind::Bucket, Value::Table(parts)) => {
                for (name, part) in parts {
                    self.lay(&format!("{}.{name}", key.name), part, at.clone());
                }
                return;
            }
            (_, value) => value,
        };
        if !check::accepts(&key.kind, &value) {
            self.problems.push(check::invalid(key, &value, at));
            return;
        }
        self.sources.insert(key.name, at);
        if let Some((section, name)) = key.name.split_once('.')
            && let Some(Value::Table(section)) = self.tree.get_mut(section)
        {
            section.insert(name.to_owned(), value);
        }
    }

    /// Lays an entry of a bucket or of the short ids.
    fn lay_part(&mut self, path: &str, kind: Kind, value: Value, at: Source) {
        let mut segments = path.splitn(3, '.');
        let (Some(section), Some(name), Some(part)) = (segments.next(), segments.next(), segments.next()) else {
            return;
        };
        let Some(Value::Table(whole)) = self.tree.get_mut(section).and_then(|section| section.get_mut(name)) else {
            return;
        };
        let mut changed = whole.clone();
        changed.insert(part.to_owned(), value.clone());
        let accepted = match kind {
            // Whether a vehicle has two short ids shows only in the whole.
            Kind::ShortIds => check::accepts(&kind, &Value::Table(changed.clone())),
            _ => check::accepts(&kind, &value),
        };
        if accepted {
            *whole = changed;
            if let Some(key) = keys::KEYS.iter().find(|key| path.starts_with(&format!("{}.", key.name))) {
                self.sources.insert(key.name, at);
            }
        } else {
            let (value, expected) = (check::shown(&value), kind.to_string());
            self.problems.push(Problem::Invalid { key: path.to_owned(), value, expected, at });
        }
    }

    fn unknown(&mut self, path: String, at: Source) {
        let nearest = keys::nearest(&path);
        self.problems.push(Problem::Unknown { key: path, nearest, at });
    }

    fn finish(self) -> Result<Config, ConfigError> {
        if !self.problems.is_empty() {
            return Err(ConfigError(self.problems));
        }
        let mut config = Config::deserialize(self.tree).map_err(|error| refused(error.to_string()))?;
        let source = |key: &str| self.sources.get(key).cloned().unwrap_or(Source::Default);
        let mut problems = Vec::new();
        if let Err(reason) = config.redis.read_password_file() {
            problems.push(Problem::Refused { reason, at: source("redis.password_file") });
        }
        problems.extend(check::relations(&config, source));
        if problems.is_empty() { Ok(config) } else { Err(ConfigError(problems)) }
    }
}

/// A file that is being read: turns offsets into lines.
struct File<'a> {
    name: &'a str,
    text: &'a str,
}

impl File<'_> {
    fn source(&self, offset: usize) -> Source {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        Source::File { path: self.name.to_owned(), line }
    }
}

/// A value from the environment or the command line, where a shell has often taken the quotes away.
fn value_of(kind: &Kind, text: &str) -> Value {
    let bare = || Value::String(text.to_owned());
    let toml = || text.parse::<Value>().ok();
    match kind {
        Kind::Address
        | Kind::Path
        | Kind::Text
        | Kind::Secret
        | Kind::Choice(_)
        | Kind::Servers
        | Kind::Prefix
        | Kind::NodeId
        | Kind::Tiles => toml().filter(Value::is_str).unwrap_or_else(bare),
        Kind::Origins | Kind::Networks | Kind::Hosts | Kind::Events | Kind::Tenants | Kind::Words(_)
            if !text.trim_start().starts_with('[') =>
        {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
        }
        _ => toml().unwrap_or_else(bare),
    }
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn refused(reason: String) -> ConfigError {
    ConfigError(vec![Problem::Refused { reason, at: Source::Default }])
}

#[cfg(test)]
#[path = "sources_tests.rs"]
mod tests;
