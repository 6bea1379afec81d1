//! Encryption of links: whom to trust, and what to say about those who are not.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, ClientConnection, Error, RootCertStore};

use super::words;

/// Encryption as every link of a process has it. Made once, before the workers start.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    /// Where the trusted authorities are from, to follow "an authority".
    origin: Arc<str>,
}

/// Why there is nobody to trust.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("cannot read {path}: {why}", why = words(.source))]
    Unreadable {
        /// Which file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{path} is not a PEM file of certificates: {why}")]
    NotCertificates {
        /// Which file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The system has none.
    #[error("this system has no authorities to trust; name those of the servers in redis.tls_ca, or with --tls-ca")]
    NoneHere,
    /// The algorithms do not go together.
    #[error("TLS cannot be used: {0}")]
    Unusable(#[from] Error),
}

impl Tls {
    /// Trusts the authorities in a PEM file (`redis.tls_ca`); without a name, those of the system.
    pub fn trusting(file: &str) -> Result<Tls, TlsError> {
        let (authorities, origin) = match file {
            "" => (system()?, "of this system".into()),
            path => (listed(path)?, format!("in {path}").into()),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(authorities)
            .with_no_client_auth();
        // Links last. What an earlier one has left is not worth a lock that all workers share.
        config.resumption = Resumption::disabled();
        Ok(Tls { config: Arc::new(config), origin })
    }

    /// The client's end of a connection to a server that has to prove this name or address.
    pub(super) fn connect(&self, host: &str) -> Result<ClientConnection, String> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{host:?} is not a name that a certificate can be for"))?;
        let mut connection = ClientConnection::new(self.config.clone(), name).map_err(|error| self.explain(&error))?;
        // Bounded by who fills them: `Stream::send`.
        connection.set_buffer_limit(None);
        Ok(connection)
    }

    /// How a client begins.
    pub(crate) fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// What an operator should read about an error.
    pub(crate) fn explain(&self, error: &Error) -> String {
        match error {
            Error::InvalidCertificate(why) => self.explain_certificate(why),
            Error::InvalidMessage(_) => "the server does not speak TLS here".to_owned(),
            Error::AlertReceived(AlertDescription::CertificateRequired) => {
                "the server asks for a client certificate, which Ringroad has none of (tls-auth-clients)".to_owned()
            }
            Error::AlertReceived(alert) => format!("the server gave TLS up: {alert:?}"),
            other => format!("TLS failed: {other}"),
        }
    }

    fn explain_certificate(&self, error: &CertificateError) -> String {
        use CertificateError as E;
        let what = match error {
            E::UnknownIssuer => {
                return format!("the server's certificate is not signed by an authority {}", self.origin);
            }
            E::BadSignature => {
                return format!(
                    "the server's certificate names an authority {}, but was not signed by it",
                    self.origin
                );
            }
            E::NotValidForNameContext { expected, presented } if presented.is_empty() => {
                return format!("the server's certificate is not for {}: it is for no name", expected.to_str());
            }
            E::NotValidForNameContext { expected, presented } => {
                let names: Vec<_> = presented.iter().map(|name| name_alone(name)).collect();
                let names = names.join(", ");
                return format!("the server's certificate is not for {}, but for {names}", expected.to_str());
            }
            E::Expired | E::ExpiredContext { .. } => "has expired",
            E::NotValidYet | E::NotValidYetContext { .. } => "is not valid yet",
            E::Revoked => "was revoked",
            // The library says it only in the text of an error that is not its own.
            E::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                "is that of an authority; a server needs one that an authority has signed"
            }
            other => return format!("the server's certificate is not accepted: {other}"),
        };
        format!("the server's certificate {what}")
    }
}

/// `redis.example` of `DnsName("redis.example")`.
fn name_alone(presented: &str) -> &str {
    let inner = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.map_or(presented, |inner| inner.trim_matches('"'))
}

fn listed(path: &str) -> Result<RootCertStore, TlsError> {
    let wrong = |why: String| TlsError::NotCertificates { path: path.to_owned(), why };
    let unreadable = |error| match error {
        pem::Error::Io(source) => TlsError::Unreadable { path: path.to_owned(), source },
        other => wrong(other.to_string()),
    };
    let mut authorities = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(Path::new(path)).map_err(unreadable)?;
    for (number, certificate) in (1..).zip(certificates) {
        let added = authorities.add(certificate.map_err(unreadable)?);
        added.map_err(|error| wrong(format!("certificate {number}: {error}")))?;
    }
    if authorities.is_empty() { Err(wrong("there is none in it".to_owned())) } else { Ok(authorities) }
}

fn system() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some of the system's authorities cannot be read");
    }
    let mut authorities = RootCertStore::empty();
    // Systems keep certificates that are too old for anyone to parse.
    authorities.add_parsable_certificates(found.certs);
    if authorities.is_empty() { Err(TlsError::NoneHere) } else { Ok(authorities) }
}
