//! The gateway: shards on workers, from a configuration.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;

use crate::config::{Config, Steer, UrlError};
use crate::io::radio::{Radio, RadioError};
use crate::io::redis::tls::{Tls, TlsError};
use crate::io::{self, Options, Running, StartError, start};
use crate::shard::Shard;
use crate::shard::backplane::Node;

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The workers could not.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The radio modem could not be opened.
    #[error(transparent)]
    Radio(#[from] RadioError),
    /// `redis.url` says nothing that can be understood.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The authorities that may have signed the servers' certificates could not be read.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Starts the gateway. It serves when this returns.
pub fn serve(config: Config) -> Result<Running, GatewayError> {
    serve_on(config, false)
}

/// Starts the gateway on a port on which another process of this user listens, for both to serve until that one ends.
pub fn serve_beside(config: Config) -> Result<Running, GatewayError> {
    serve_on(config, true)
}

fn serve_on(mut config: Config, share_port: bool) -> Result<Running, GatewayError> {
    config.redis.name_node();
    let radio = match config.radio.device.as_str() {
        "" => None,
        device => Some(Radio::open(Path::new(device), config.radio.baud)?),
    };
    let workers = match config.server.workers {
        // As many as this process may use CPUs: a container may have been given only some.
        0 => std::thread::available_parallelism().map_or(1, |cpus| cpus.get().min(usize::from(u16::MAX)) as u16),
        workers => workers,
    };
    let servers = config.redis.servers()?;
    let node = Node::new(&config.redis.node_id, io::unix_ms());
    let link_tls = match &servers {
        Some(servers) if servers.tls => Some(Tls::trusting(&config.redis.tls_ca)?),
        _ => None,
    };
    let options = Options {
        link_tls,
        listen: Some(config.server.listen),
        share_port,
        workers,
        radio,
        unsent_bytes_max: config.limits.unsent_bytes_max,
        steer_by_cpu: config.server.steer == Steer::Cpu,
        ..Options::default()
    };
    let config = Arc::new(config);
    let make = move |shard| {
        // The standard library's hasher keys are the one randomness that needs no dependency.
        let seed = RandomState::new().hash_one(shard);
        Shard::of_node(config.clone(), node.clone(), servers.clone(), shard, workers, seed)
    };
    Ok(start(options, make)?)
}
