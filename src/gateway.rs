//! The gateway: shards on workers, from a configuration.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;

use crate::config::Config;
use crate::io::radio::{Radio, RadioError};
use crate::io::{Options, Running, StartError, start};
use crate::shard::Shard;

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The workers could not.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The radio modem could not be opened.
    #[error(transparent)]
    Radio(#[from] RadioError),
}

/// Starts the gateway. It serves when this returns.
pub fn serve(config: Config) -> Result<Running, GatewayError> {
    let radio = match config.radio.device.as_str() {
        "" => None,
        device => Some(Radio::open(Path::new(device), config.radio.baud)?),
    };
    let workers = match config.server.workers {
        // As many as this process may use CPUs: a container may have been given only some.
        0 => std::thread::available_parallelism().map_or(1, |cpus| cpus.get().min(usize::from(u16::MAX)) as u16),
        workers => workers,
    };
    let options = Options { listen: Some(config.server.listen), workers, radio, ..Options::default() };
    let config = Arc::new(config);
    let make = move |shard| {
        // The standard library's hasher keys are the one randomness that needs no dependency.
        let seed = RandomState::new().hash_one(shard);
        Shard::new(config.clone(), shard, workers, seed)
    };
    Ok(start(options, make)?)
}
