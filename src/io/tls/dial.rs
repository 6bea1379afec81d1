//! TLS towards a gateway: whom to trust, and a first try that says what is wrong before thousands do.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Error};

use crate::io::redis::tls::{Tls, TlsError};

/// How connections that are made encrypt.
#[derive(Clone, Debug)]
pub struct Dialling {
    /// Whom to trust.
    pub(super) config: Arc<ClientConfig>,
    /// What the server has to prove that it is.
    pub(super) name: ServerName<'static>,
    tls: Tls,
}

/// Why nobody can be called.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// There is nobody to trust.
    #[error(transparent)]
    Trust(#[from] TlsError),
    /// No certificate can be for it.
    #[error("{0:?} is not a name that a certificate can be for")]
    Name(String),
    /// The handshake failed.
    #[error("{0}")]
    Handshake(String),
}

impl Dialling {
    /// To a server that has to prove this name or address to somebody who trusts the authorities in a PEM file; without
    /// one, those of the system.
    pub fn to(name: &str, authorities: &str) -> Result<Dialling, DialError> {
        let tls = Tls::trusting(authorities)?;
        let mut config = ClientConfig::clone(tls.config());
        // Who loses its connection comes back with a ticket.
        config.resumption = Resumption::default();
        let server = ServerName::try_from(name.to_owned()).map_err(|_| DialError::Name(name.to_owned()))?;
        Ok(Dialling { config: Arc::new(config), name: server, tls })
    }

    /// Shakes hands with whoever is there, and lets go.
    pub fn try_at(&self, addr: SocketAddr, timeout: Duration) -> Result<(), DialError> {
        let shake = || {
            let mut stream = TcpStream::connect_timeout(&addr, timeout)?;
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
            let mut connection =
                ClientConnection::new(self.config.clone(), self.name.clone()).map_err(io::Error::other)?;
            connection.complete_io(&mut stream)?;
            connection.send_close_notify();
            // It is of no use any more, and may be gone.
            let _ = connection.complete_io(&mut stream);
            Ok(())
        };
        shake().map_err(|error: io::Error| {
            let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
            DialError::Handshake(of_tls.map_or_else(|| error.to_string(), |of_tls| self.tls.explain(of_tls)))
        })
    }
}
