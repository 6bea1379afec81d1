//! The gateway's settings, as far as a path has what they ask for.

use ringroad::config::{self, Config};

/// Reads `--set KEY=VALUE`, repeated. Without others, a path listens on a port of the kernel's choice.
pub fn read(args: &[String]) -> Result<Config, String> {
    let mut sets = vec!["server.listen=127.0.0.1:0".to_owned(), "server.workers=1".to_owned()];
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.next()) {
            ("--set", Some(set)) => sets.push(set.clone()),
            _ => return Err(format!("{arg}: expected --set KEY=VALUE")),
        }
    }
    let config = config::load(None, std::iter::empty(), &sets).map_err(|error| error.to_string())?.config;
    if config.server.workers != 1 {
        return Err("a path has one worker".to_owned());
    }
    if config.redis.servers().map_err(|error| error.to_string())?.is_some() {
        return Err("a path has no links to Redis".to_owned());
    }
    if !config.radio.device.is_empty() {
        return Err("a path has no radio modem".to_owned());
    }
    Ok(config)
}
