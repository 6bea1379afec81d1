//! The gateway: shards on workers, from a configuration.

use std::hash::{BuildHasher, RandomState};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::auth::Keys;
use crate::config::{self, Config, Steer, UrlError};
use crate::io::key_file::{KeyFile, KeyFileError, KeyWatch};
use crate::io::radio::{Radio, RadioError};
use crate::io::redis::tls::{Tls, TlsError};
use crate::io::tls::{CertificateError, CertificateFiles, Encryption};
use crate::io::{self, Failed, Options, Running, StartError, start};
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
    /// The keys of tokens could not be read.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The certificate could not be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// `server.private_listen` is no address.
    #[error("`server.private_listen` is {0:?}; expected an IP address and a port")]
    PrivateListen(String),
}

/// A gateway that serves. Its workers are [`Running`].
pub struct Gateway {
    running: Running,
    keys: Option<KeyWatch>,
    certificate: Option<CertificateFiles>,
}

impl Gateway {
    /// Reads again what can be read again while it serves: the file of keys, and the certificate.
    pub fn reload(&self) {
        if let Some(keys) = &self.keys {
            keys.reload();
        }
        match self.certificate.as_ref().map(|files| files.read(SystemTime::now())) {
            None => {}
            Some(Ok(certificate)) => {
                tracing::info!(expires_unix_s = certificate.expires_unix_s, "the certificate was read anew");
                self.running.show(Some(certificate));
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "the certificate before stays in use");
                self.running.show(None);
            }
        }
    }

    /// Waits until all workers have ended, and tells if one of them failed.
    pub fn join(self) -> Result<(), Failed> {
        self.running.join()
    }
}

impl Deref for Gateway {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

/// The keys that tokens are checked with, and the file that they are from, if there is one.
pub fn keys(config: &config::Auth) -> Result<(Arc<Keys>, Option<KeyFile>), KeyFileError> {
    if !config.required || config.key_file.is_empty() {
        return Ok((Arc::new(Keys::of_secret(&config.secret)), None));
    }
    let mut file = KeyFile::new(Path::new(&config.key_file), &config.secret);
    Ok((file.read()?, Some(file)))
}

/// How the listener encrypts, and the files that it is from; `None`: it does not.
pub fn encryption(config: &config::Tls) -> Result<Option<(Encryption, CertificateFiles)>, CertificateError> {
    if !config.is_on() {
        return Ok(None);
    }
    let files = CertificateFiles::new(Path::new(&config.certificate), Path::new(&config.key))?;
    let certificate = files.read(SystemTime::now())?;
    Ok(Some((Encryption { certificate, required: config.required }, files)))
}

/// Starts the gateway. It serves when this returns.
pub fn serve(config: Config) -> Result<Gateway, GatewayError> {
    serve_on(config, false)
}

/// Starts the gateway on a port on which another process of this user listens, for both to serve until that one ends.
pub fn serve_beside(config: Config) -> Result<Gateway, GatewayError> {
    serve_on(config, true)
}

fn serve_on(mut config: Config, share_port: bool) -> Result<Gateway, GatewayError> {
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
    let (keys, key_file) = keys(&config.auth)?;
    let (encryption, certificate) = encryption(&config.tls)?.unzip();
    let private_listen = match config.server.private_listen.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| GatewayError::PrivateListen(text.to_owned()))?),
    };
    let options = Options {
        link_tls,
        encryption,
        listen: Some(config.server.listen),
        share_port,
        private_listen,
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
        Shard::of_node(config.clone(), node.clone(), servers.clone(), shard, workers, seed).with_keys(keys.clone())
    };
    let running = start(options, make)?;
    let watch = key_file.map(|file| KeyWatch::start(file, running.key_ring()));
    match watch.transpose() {
        Ok(keys) => Ok(Gateway { running, keys, certificate }),
        Err(error) => {
            running.stop();
            // Why it stops is known.
            let _ = running.join();
            Err(StartError::Worker(error).into())
        }
    }
}
