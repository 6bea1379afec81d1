//! Encrypted links, against a server whose certificates are right, or wrong.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use ringroad::io::Options;
use ringroad::io::redis::tls::Tls;
use ringroad::limits;
use ringroad::turn::Endpoint;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use crate::ferry::Harbour;
use crate::links::{echoes, server};
use crate::{loopback, options};

/// An authority, as a file too.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, folder }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub fn trusted(&self) -> Tls {
        Tls::trusting(self.file().to_str().unwrap()).unwrap()
    }

    /// A certificate for these names, and its key.
    pub fn certificate(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// How a server proves that it is one of these.
    fn server(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Arc<ServerConfig> {
        let (certificate, key) = self.certificate(names, change);
        served(vec![certificate.der().clone()], key)
    }
}

fn served(chain: Vec<rustls::pki_types::CertificateDer<'static>>, key: KeyPair) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap())
}

/// An encrypted server; `serve` gets each connection.
fn tls_server(
    config: Arc<ServerConfig>,
    serve: impl Fn(StreamOwned<ServerConnection, TcpStream>) + Clone + Send + 'static,
) -> u16 {
    let to = server(move |stream| {
        stream.set_nodelay(true).unwrap();
        serve(StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream));
    });
    let Endpoint::Tcp { port, .. } = to else { unreachable!() };
    port
}

/// Sends back what comes. Not while more is under way: reading and writing take turns here.
fn echo(mut stream: impl Read + Write) {
    let mut buffer = vec![0; 30_000];
    while let Ok(len @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..len]).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

fn at(host: &str, port: u16) -> Endpoint {
    Endpoint::Tcp { host: host.into(), port }
}

fn harbour(tls: Tls) -> Harbour {
    Harbour::start(Options { link_tls: Some(tls), ..options() })
}

#[test]
fn encrypted_bytes_of_any_size_go_both_ways() {
    let authority = Authority::new();
    let port = tls_server(authority.server(&["localhost", "127.0.0.1"], |_| {}), echo);
    let harbour = harbour(authority.trusted());
    // Names and addresses are both proved.
    harbour.open(1, at("localhost", port));
    harbour.open(2, at("127.0.0.1", port));
    harbour.until_up(1);
    harbour.until_up(2);
    echoes(&harbour, 1);
    echoes(&harbour, 2);
    harbour.stop();
}

#[test]
fn a_goodbye_is_said_and_heard() {
    let authority = Authority::new();
    let (closed, how) = std::sync::mpsc::channel();
    let port = tls_server(authority.server(&["127.0.0.1"], |_| {}), move |mut stream| {
        let mut word = [0; 3];
        stream.read_exact(&mut word).unwrap();
        if &word == b"go!" {
            stream.write_all(b"bye").unwrap();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        }
        // Without a goodbye of the other side this is an error.
        closed.send(stream.read(&mut word).map_err(|error| error.kind())).unwrap();
    });
    let harbour = harbour(authority.trusted());
    harbour.open(1, at("127.0.0.1", port));
    harbour.until_up(1);
    harbour.send(1, b"hi!");
    harbour.close(1);
    assert_eq!(how.recv_timeout(crate::PATIENCE).unwrap(), Ok(0));
    harbour.open(2, at("127.0.0.1", port));
    harbour.until_up(2);
    harbour.send(2, b"go!");
    assert_eq!(harbour.until_down(2), "the server closed the connection");
    assert_eq!(how.recv_timeout(crate::PATIENCE).unwrap(), Ok(0));
    assert_eq!(harbour.stop()[0].links[&2].bytes, b"bye");
}

#[test]
fn a_flood_and_its_backpressure_pass_encryption() {
    const BYTES: usize = 24 << 20;
    let authority = Authority::new();
    let port = tls_server(authority.server(&["127.0.0.1"], |_| {}), |mut stream| {
        let mut bytes = vec![0; BYTES];
        for (n, byte) in bytes.iter_mut().enumerate() {
            *byte = (n % 251) as u8;
        }
        stream.write_all(&bytes).unwrap();
        // It reads nothing before it has sent everything, and then only to find the end.
        let mut left = BYTES / 4;
        while let Ok(len @ 1..) = stream.read(&mut bytes) {
            left -= len;
            if left == 0 {
                stream.write_all(b"thanks").unwrap();
            }
        }
    });
    let harbour = harbour(authority.trusted());
    harbour.open(1, at("127.0.0.1", port));
    harbour.until_up(1);
    for _ in 0..6 {
        harbour.send(1, &vec![b's'; 1 << 20]);
    }
    let heard = harbour.until_link(1, "everything has come", |heard| heard.received == BYTES as u64 + 6);
    assert!(heard.bytes.ends_with(b"thanks"));
    assert!(heard.bytes[..BYTES].iter().enumerate().all(|(n, byte)| *byte == (n % 251) as u8));
    harbour.stop();
}

/// Why a link to a server with such a certificate is refused.
fn refusal(tls: Tls, config: Arc<ServerConfig>, host: &str) -> String {
    let port = tls_server(config, echo);
    let harbour = harbour(tls);
    harbour.open(1, at(host, port));
    let why = harbour.until_down(1);
    assert!(!harbour.stop()[0].links[&1].up);
    // Attempts by name say at which address.
    why.replace(&format!("127.0.0.1:{port}: "), "")
}

#[test]
fn a_certificate_of_somebody_elses_authority_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let why = refusal(ours.trusted(), theirs.server(&["127.0.0.1"], |_| {}), "127.0.0.1");
    let file = ours.file();
    // Both call themselves the same, as authorities of a tutorial do.
    assert_eq!(
        why,
        format!("the server's certificate names an authority in {}, but was not signed by it", file.display())
    );
    let mut other = CertificateParams::default();
    other.distinguished_name.push(rcgen::DnType::CommonName, "another authority");
    other.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let other = CertifiedIssuer::self_signed(other, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &other).unwrap();
    let why = refusal(ours.trusted(), served(vec![certificate.der().clone()], key), "127.0.0.1");
    assert_eq!(why, format!("the server's certificate is not signed by an authority in {}", file.display()));
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let config = authority.server(&["redis.example", "10.1.2.3"], |_| {});
    let why = refusal(authority.trusted(), config, "127.0.0.1");
    assert_eq!(why, "the server's certificate is not for 127.0.0.1, but for redis.example, 10.1.2.3");
}

#[test]
fn a_certificate_that_has_expired_is_refused() {
    let authority = Authority::new();
    let config = authority.server(&["127.0.0.1"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    assert_eq!(refusal(authority.trusted(), config, "127.0.0.1"), "the server's certificate has expired");
}

#[test]
fn the_certificate_of_the_authority_itself_is_refused() {
    let authority = Authority::new();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let file = authority.folder.path().join("self.pem");
    std::fs::write(&file, certificate.pem()).unwrap();
    let tls = Tls::trusting(file.to_str().unwrap()).unwrap();
    let why = refusal(tls, served(vec![certificate.der().clone()], key), "127.0.0.1");
    assert!(why.contains("is that of an authority; a server needs one"), "{why}");
}

#[test]
fn a_server_without_encryption_is_told_from_one_that_is_silent() {
    let authority = Authority::new();
    let harbour = harbour(authority.trusted());
    harbour.open(
        1,
        server(|mut stream| {
            let _ = stream.read(&mut [0; 100]);
            let _ = stream.write_all(b"-ERR unknown command\r\n");
            let _ = stream.read(&mut [0; 100]);
        }),
    );
    assert_eq!(harbour.until_down(1), "the server does not speak TLS here");

    let silent = TcpListener::bind(loopback()).unwrap();
    let to = at("127.0.0.1", silent.local_addr().unwrap().port());
    harbour.open(2, to.clone());
    harbour.open(3, to.clone());
    harbour.until_done();
    harbour.close(3);
    let waited = std::time::Instant::now();
    assert!(harbour.until_down(2).starts_with("connected, but no TLS handshake within 3 s; "));
    assert!(waited.elapsed().as_millis() < u128::from(limits::LINK_CONNECT_MS_MAX) + 2_000);
    harbour.open(4, to);
    harbour.until_done();
    let seen = &harbour.stop()[0];
    assert!(seen.links[&3].down.is_none() && seen.links[&4].down.is_none());
    thread::scope(|scope| {
        // Both closed links are closed at the other end too, the second behind its ClientHello.
        for _ in 0..3 {
            let mut stream = silent.accept().unwrap().0;
            scope.spawn(move || while stream.read(&mut [0; 4096]).is_ok_and(|len| len > 0) {});
        }
    });
}

#[test]
fn a_socket_in_the_file_system_is_not_encrypted() {
    let authority = Authority::new();
    let path = authority.folder.path().join("redis.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    thread::spawn(move || echo(listener.accept().unwrap().0));
    let harbour = harbour(authority.trusted());
    harbour.open(1, Endpoint::Unix { path: path.to_str().unwrap().into() });
    harbour.until_up(1);
    harbour.send(1, b"in the clear");
    harbour.until_link(1, "it is back", |heard| heard.bytes == b"in the clear");
    harbour.stop();
}

#[test]
fn a_bad_file_of_authorities_is_an_error_at_the_start() {
    let authority = Authority::new();
    let error = |content: &str| {
        let file = authority.folder.path().join("bad.pem");
        std::fs::write(&file, content).unwrap();
        Tls::trusting(file.to_str().unwrap()).unwrap_err().to_string()
    };
    assert!(error("").ends_with("bad.pem is not a PEM file of certificates: there is none in it"), "{}", error(""));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(error(broken).contains("bad.pem is not a PEM file of certificates: certificate 1: "), "{}", error(broken));
    let half = "-----BEGIN CERTIFICATE-----\nAAAA\n";
    assert!(error(half).contains("bad.pem is not a PEM file of certificates: "), "{}", error(half));
    let missing = Tls::trusting("/nowhere/ca.pem").unwrap_err().to_string();
    assert_eq!(missing, "cannot read /nowhere/ca.pem: No such file or directory");
}
