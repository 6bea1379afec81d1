//! A certificate and its key: two PEM files, read at the start, and again when somebody asks for it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, ProducesTickets};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError as Fault, Error, InconsistentKeys, RootCertStore, ServerConfig};

use crate::io::small_file;
use crate::limits;

/// The only protocol behind the encryption, as ALPN spells it (RFC 7301).
const HTTP_1_1: &[u8] = b"http/1.1";

/// A time beyond the end of any certificate: 9999-12-31T23:59:59Z is their last (RFC 5280, section 4.1.2.5).
const BEYOND_S: u64 = 253_402_300_800;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file could not be read.
    #[error("`{key}` {}: {source}", .path.display())]
    Unreadable {
        /// The key of the configuration that names it.
        key: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What a file says is of no use.
    #[error("`{key}` {}: {why}", .path.display())]
    Unusable {
        /// The key of the configuration that names it.
        key: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The algorithms do not go together.
    #[error("TLS cannot be used: {0}")]
    Unavailable(#[from] Error),
}

/// What a listener shows, and how it encrypts with it.
#[derive(Debug)]
pub struct Certificate {
    pub(super) config: Arc<ServerConfig>,
    /// When it ends, seconds since 1970.
    pub expires_unix_s: u64,
}

/// Where certificate and key are.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    certificate: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    /// All workers, and certificates that follow one another, issue tickets with the same keys, which change every six
    /// hours: whoever comes back resumes with any worker.
    ticketer: Arc<dyn ProducesTickets>,
}

impl CertificateFiles {
    /// Files that have not been read.
    pub fn new(certificate: &Path, key: &Path) -> Result<CertificateFiles, CertificateError> {
        Ok(CertificateFiles {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            provider: Arc::new(default_provider()),
            ticketer: Ticketer::new()?,
        })
    }

    /// Reads both. `now` is the time by which the certificate has to be valid.
    pub fn read(&self, now: SystemTime) -> Result<Arc<Certificate>, CertificateError> {
        let chain = self.chain()?;
        let expires_unix_s = self.valid_until(&chain, now)?;
        let certified =
            CertifiedKey::from_der(chain, self.private_key()?, &self.provider).map_err(|error| match error {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    self.key_is(format!("it is not the key of the certificate in {}", self.certificate.display()))
                }
                // The certificate was parsed before.
                other => self.key_is(format!("the key cannot be used: {other}")),
            })?;
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        config.ticketer = self.ticketer.clone();
        // Tickets do it without a store, and the lock that workers would share.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(Certificate { config: Arc::new(config), expires_unix_s }))
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
        let text = read("tls.certificate", &self.certificate)?;
        let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
        match chain {
            Err(error) => Err(self.certificate_is(format!("it is not a PEM file: {error}"))),
            Ok(chain) if chain.is_empty() => Err(self.certificate_is("there is no certificate in it".to_owned())),
            Ok(chain) => Ok(chain),
        }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, CertificateError> {
        let text = read("tls.key", &self.key)?;
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
            let encrypted = b"BEGIN ENCRYPTED PRIVATE KEY";
            self.key_is(match error {
                pem::Error::NoItemsFound if text.windows(encrypted.len()).any(|at| at == encrypted) => {
                    "the key in it is encrypted with a password; nobody is there to type it".to_owned()
                }
                pem::Error::NoItemsFound => "there is no private key in it".to_owned(),
                other => format!("it is not a PEM file: {other}"),
            })
        })
    }

    /// When the chain's first certificate ends. It has begun, and has not ended.
    ///
    /// rustls verifies what clients are shown, and shows its dates only in what it says against them. It looks at them
    /// before anything else, so no authority is needed.
    fn valid_until(&self, chain: &[CertificateDer<'static>], now: SystemTime) -> Result<u64, CertificateError> {
        let wrong = |error: &Error| self.certificate_is(format!("the certificate cannot be read: {error}"));
        let first = ParsedCertificate::try_from(&chain[0]).map_err(|error| wrong(&error))?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let at = |time| {
            let nobody = RootCertStore::empty();
            verify_server_cert_signed_by_trust_anchor(&first, &nobody, &chain[1..], time, algorithms)
        };
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        match at(UnixTime::since_unix_epoch(now)) {
            Err(error @ Error::InvalidCertificate(Fault::Expired | Fault::ExpiredContext { .. })) => {
                return Err(self.certificate_is(told(&error, "the certificate has expired")));
            }
            Err(error @ Error::InvalidCertificate(Fault::NotValidYet | Fault::NotValidYetContext { .. })) => {
                return Err(self.certificate_is(told(&error, "the certificate is not valid yet")));
            }
            _ => {}
        }
        match at(UnixTime::since_unix_epoch(Duration::from_secs(BEYOND_S))) {
            Err(Error::InvalidCertificate(Fault::ExpiredContext { not_after, .. })) => Ok(not_after.as_secs()),
            Err(error) => Err(wrong(&error)),
            Ok(()) => Ok(BEYOND_S),
        }
    }

    fn certificate_is(&self, why: String) -> CertificateError {
        CertificateError::Unusable { key: "tls.certificate", path: self.certificate.clone(), why }
    }

    fn key_is(&self, why: String) -> CertificateError {
        CertificateError::Unusable { key: "tls.key", path: self.key.clone(), why }
    }
}

/// What is wrong with a date, and by how much, as far as the library knows.
fn told(error: &Error, what: &str) -> String {
    match error {
        Error::InvalidCertificate(Fault::ExpiredContext { time, not_after }) => {
            format!("{what}, {} hours ago", time.as_secs().saturating_sub(not_after.as_secs()) / 3600)
        }
        Error::InvalidCertificate(Fault::NotValidYetContext { time, not_before }) => {
            format!("{what}, but in {} hours", not_before.as_secs().saturating_sub(time.as_secs()) / 3600)
        }
        _ => what.to_owned(),
    }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, CertificateError> {
    let read = small_file::read(path, limits::CERTIFICATE_FILE_BYTES_MAX, "certificates or a key");
    read.map_err(|source| CertificateError::Unreadable { key, path: path.to_owned(), source })
}
