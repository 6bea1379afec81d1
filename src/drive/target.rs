//! Where to: a `ws://` or `wss://` URL.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::io::tls::{DialError, Dialling};

/// Of `ws://` and of `wss://` without a port (RFC 6455, section 3).
const PORTS: [u16; 2] = [80, 443];

/// Of a URL that names none: where vehicles' gateways listen.
const PATH: &str = "/v2v";

/// For the one connection that only tries whether anyone is there.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// A gateway's endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A name or an address, an IPv6 one without its brackets.
    name: String,
    port: u16,
    /// Whether it speaks TLS.
    is_encrypted: bool,
    /// As the `Host` header has it.
    pub host: String,
    /// With its query.
    pub path: String,
}

/// Why a gateway cannot be driven against.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Nobody to trust, or a name that nobody can prove.
    #[error(transparent)]
    Tls(#[from] DialError),
    /// Authorities, and nothing to be encrypted.
    #[error("--tls-ca names authorities, but {0:?} does not begin with wss://")]
    Clear(String),
    /// The gateway and we do not agree.
    #[error("cannot speak TLS with {addr}: {source}")]
    Handshake {
        /// Where.
        addr: SocketAddr,
        /// Why.
        source: DialError,
    },
    /// Another scheme, or none.
    #[error("{0:?} does not begin with ws:// or wss://")]
    Scheme(String),
    /// Not a host and a port.
    #[error("{0:?} is not a host and port")]
    Authority(String),
    /// Not what a request line can hold.
    #[error("{0:?} is not a path: blanks and what is not ASCII have to be percent-encoded")]
    Path(String),
    /// The name has no address.
    #[error("cannot resolve {name}: {source}")]
    Resolve {
        /// The name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody answers at any address.
    #[error("cannot connect to {addr}: {source}")]
    Connect {
        /// The last address tried.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl Target {
    /// Reads `ws[s]://host[:port][/path][?query]`.
    pub fn parse(url: &str) -> Result<Target, TargetError> {
        let scheme_end = url.find("://").ok_or_else(|| TargetError::Scheme(url.into()))?;
        let (scheme, rest) = (&url[..scheme_end], &url[scheme_end + 3..]);
        let is_encrypted = match scheme.to_ascii_lowercase().as_str() {
            "ws" => false,
            "wss" => true,
            _ => return Err(TargetError::Scheme(url.into())),
        };
        // RFC 6455, section 3: "Fragment identifiers are meaningless in the context of WebSocket URIs".
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let wrong = || TargetError::Authority(authority.into());
        let (name, port) = match authority.strip_prefix('[') {
            Some(bracketed) => bracketed.split_once(']').ok_or_else(wrong)?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|&port| port > 0).ok_or_else(wrong)?,
            None if port.is_empty() => PORTS[usize::from(is_encrypted)],
            None => return Err(wrong()),
        };
        let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '[' | ']' | '\\' | '"');
        if name.is_empty() || !name.chars().all(fits) {
            return Err(wrong());
        }
        let path = match path {
            "" => PATH.to_string(),
            query if query.starts_with('?') => format!("{PATH}{query}"),
            path => path.to_string(),
        };
        // A blank would end it in the middle of the request line.
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TargetError::Path(path));
        }
        Ok(Target { name: name.into(), port, is_encrypted, host: authority.into(), path })
    }

    /// How to encrypt, with the authorities in a PEM file, or those of the system; `None`: not at all.
    pub fn dialling(&self, authorities: &str) -> Result<Option<Dialling>, TargetError> {
        match self.is_encrypted {
            true => Ok(Some(Dialling::to(&self.name, authorities)?)),
            false if authorities.is_empty() => Ok(None),
            false => Err(TargetError::Clear(format!("ws://{}", self.host))),
        }
    }

    /// Whether whoever is there can be spoken to.
    pub fn greet(addr: SocketAddr, dialling: &Dialling) -> Result<(), TargetError> {
        dialling.try_at(addr, PROBE_TIMEOUT).map_err(|source| TargetError::Handshake { addr, source })
    }

    /// The first of the host's addresses at which somebody accepts a connection. `localhost` is often two, and a
    /// gateway listens on one.
    pub fn resolve(&self) -> Result<SocketAddr, TargetError> {
        let unresolved = |source| TargetError::Resolve { name: self.name.clone(), source };
        let mut failure = None;
        for addr in (self.name.as_str(), self.port).to_socket_addrs().map_err(unresolved)? {
            match TcpStream::connect_timeout(&addr, PROBE_TIMEOUT) {
                Ok(_) => return Ok(addr),
                Err(source) => failure = Some(TargetError::Connect { addr, source }),
            }
        }
        Err(failure.unwrap_or_else(|| unresolved(io::Error::other("it has no address"))))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn urls_that_are() {
        for (url, name, port, host, path) in [
            ("wss://gateway.example", "gateway.example", 443, "gateway.example", "/v2v"),
            ("WSS://[::1]:3002/a", "::1", 3002, "[::1]:3002", "/a"),
            ("ws://localhost:3002/v2v", "localhost", 3002, "localhost:3002", "/v2v"),
            ("WS://10.0.0.7", "10.0.0.7", 80, "10.0.0.7", "/v2v"),
            ("ws://[::1]:3002/a/b?c=d/e#f", "::1", 3002, "[::1]:3002", "/a/b?c=d/e"),
            ("ws://gateway.example?token=x", "gateway.example", 80, "gateway.example", "/v2v?token=x"),
            ("ws://gateway.example/", "gateway.example", 80, "gateway.example", "/"),
        ] {
            let is_encrypted = url.to_ascii_lowercase().starts_with("wss");
            let expected = Target { name: name.into(), port, is_encrypted, host: host.into(), path: path.into() };
            assert_eq!(Target::parse(url).unwrap(), expected, "{url}");
        }
    }

    #[test]
    fn urls_that_are_none_say_why() {
        let error = |url| Target::parse(url).unwrap_err().to_string();
        assert_eq!(error("http://localhost"), "\"http://localhost\" does not begin with ws:// or wss://");
        assert_eq!(error("localhost:3002"), "\"localhost:3002\" does not begin with ws:// or wss://");
        for url in ["ws://", "ws://:3002", "ws://a:b", "ws://a:0", "ws://a:65536", "ws://[::1", "ws://me@a", "ws://a b"]
        {
            assert!(error(url).ends_with("is not a host and port"), "{url}");
        }
        for url in ["ws://a/b c", "ws://a/b\r\nX: y", "ws://a/straße", "ws://a?b c"] {
            assert!(error(url).contains("is not a path"), "{url}");
        }
    }

    #[test]
    fn nobody_there_is_said_with_the_address() {
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Target::parse(&format!("ws://{addr}/v2v")).unwrap().resolve().unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot connect to {addr}: Connection refused")), "{error}");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        assert_eq!(Target::parse(&format!("ws://{addr}")).unwrap().resolve().unwrap(), addr);
    }
}
