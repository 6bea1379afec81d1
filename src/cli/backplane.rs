//! A look at the backplane's servers before anything else starts.

use std::time::Duration;

use ringroad::config::Config;
use ringroad::io::redis::probe::{ProbeError, probe};
use ringroad::io::redis::tls::Tls;

use super::Failure;

/// Servers that have not answered by then are taken for unreachable. Several share it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the servers, if there are any. What waiting would not heal is an error of the configuration.
pub fn look_at_servers(config: &Config) -> Result<(), Failure> {
    let usage = |reason: &dyn std::fmt::Display| Failure::Usage(format!("redis: {reason}"));
    let Some(servers) = config.redis.servers().map_err(|error| usage(&error))? else { return Ok(()) };
    let tls = servers.tls.then(|| Tls::trusting(&config.redis.tls_ca)).transpose().map_err(|error| usage(&error))?;
    match probe(&servers, tls.as_ref(), PATIENCE) {
        Err(ProbeError::Refused(why)) => Err(usage(&why)),
        Err(ProbeError::Unreachable(why)) => {
            tracing::warn!("redis cannot be used now: {why}; a gateway starts without it, and tries again");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}
