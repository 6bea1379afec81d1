//! Sessions against rustls's own client, however its bytes are cut, and against whoever changes them.

use std::io::{Read as _, Write};
use std::sync::LazyLock;
use std::time::SystemTime;

use proptest::collection::vec;
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, SupportedProtocolVersion};

use super::*;
use crate::io::tls::{Certificate, CertificateFiles, Encryption};

/// A server's part, and whom its clients trust.
static PARTS: LazyLock<(Arc<ServerConfig>, CertificateDer<'static>)> = LazyLock::new(|| {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["gateway".to_owned()]).unwrap().self_signed(&key).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let paths = ["certificate", "key"].map(|name| directory.path().join(name));
    std::fs::write(&paths[0], certificate.pem()).unwrap();
    std::fs::write(&paths[1], key.serialize_pem()).unwrap();
    let files = CertificateFiles::new(&paths[0], &paths[1]).unwrap();
    (files.read(SystemTime::now()).unwrap().config.clone(), certificate.der().clone())
});

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

fn terms(required: bool) -> Terms {
    Terms::Port { config: PARTS.0.clone(), required }
}

fn client_config(version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut trusted = RootCertStore::empty();
    trusted.add(PARTS.1.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    Arc::new(config.with_root_certificates(trusted).with_no_client_auth())
}

fn client(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config.clone(), ServerName::try_from("gateway").unwrap()).unwrap()
}

/// A session and a client, with a wire between them that cuts as it is told.
struct Talk {
    session: Session,
    client: ClientConnection,
    /// Lengths of the pieces in which the client's bytes come, again and again.
    cuts: Vec<usize>,
    /// What the core was given.
    heard: Vec<u8>,
    /// What the client has read.
    read: Vec<u8>,
    next: Next,
}

impl Talk {
    fn new(client: ClientConnection, cuts: &[usize]) -> Talk {
        let (session, cuts) = (Session::new(&terms(true)), cuts.to_vec());
        Talk { session, client, cuts, heard: Vec::new(), read: Vec::new(), next: Next::On }
    }

    fn give(&mut self, bytes: &[u8]) {
        let (mut rest, mut cuts) = (bytes, self.cuts.clone().into_iter().cycle());
        while !rest.is_empty() && matches!(self.next, Next::On) {
            let (piece, others) = rest.split_at(cuts.next().unwrap().min(rest.len()));
            rest = others;
            self.next = self.session.take(&terms(true), &mut piece.to_vec(), &mut self.heard);
            assert!(self.session.incoming.len() <= limits::TLS_WAITING_BYTES_MAX, "more waits than is ever wanted");
        }
    }

    /// Until neither has anything more to say.
    fn settle(&mut self) {
        loop {
            let mut sent = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut sent).unwrap();
            }
            self.give(&sent);
            let answer = std::mem::take(&mut self.session.outgoing);
            if sent.is_empty() && answer.is_empty() {
                return;
            }
            let mut answer = &answer[..];
            while !answer.is_empty() {
                self.client.read_tls(&mut answer).unwrap();
                let _ = self.client.process_new_packets().unwrap();
                // An end without a goodbye is not one yet.
                let _ = self.client.reader().read_to_end(&mut self.read);
            }
        }
    }

    /// Sends to the client, as often as one send takes.
    fn say(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let mut out = Vec::new();
            let Sealing::Sealed(taken) = self.session.seal(&terms(true), bytes, &mut out) else { panic!("not sealed") };
            assert!(taken <= limits::TLS_SEND_BYTES_MAX && out.len() > taken);
            self.session.outgoing.append(&mut out);
            bytes = &bytes[taken..];
        }
        self.settle();
    }
}

/// A session that is agreed on, and the terms of its port.
pub fn greeted() -> (Session, Encryption) {
    let mut talk = Talk::new(client(&client_config(VERSIONS[1])), &[500]);
    talk.settle();
    assert!(talk.session.is_greeted());
    let certificate = Arc::new(Certificate { config: PARTS.0.clone(), expires_unix_s: 0 });
    (talk.session, Encryption { certificate, required: true })
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251) as u8).collect()
}

const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\xc3\x50\x0b\xba";

proptest! {
    /// However what a client sends is cut, the core is given the same, and the client what it is sent.
    #[test]
    fn cuts_change_nothing(
        cuts in vec(prop_oneof![1usize..40, 1usize..2_000, Just(512usize)], 1..6),
        version in 0..2usize,
        has_header: bool,
        asked_len in 1usize..50_000,
        answer_len in 1usize..200_000,
    ) {
        let mut talk = Talk::new(client(&client_config(VERSIONS[version])), &cuts);
        let header = if has_header { HEADER } else { b"" };
        talk.give(header);
        let (asked, answer) = (pattern(asked_len), pattern(answer_len));
        talk.client.set_buffer_limit(None);
        talk.client.writer().write_all(&asked).unwrap();
        talk.settle();
        prop_assert!(talk.session.is_greeted() && talk.session.outcome == Some(HandshakeOutcome::Full));
        prop_assert!(talk.heard == [header, &asked].concat(), "what was heard");
        talk.say(&answer);
        prop_assert!(talk.read == answer, "what was read");
        prop_assert_eq!((talk.session.incoming.capacity(), talk.session.outgoing.capacity()), (0, 0), "at rest");
        // The client's goodbye is heard, and what the core says then still goes out, and ours behind it.
        talk.client.send_close_notify();
        talk.settle();
        prop_assert!(matches!(talk.next, Next::Ended), "{:?}", talk.next);
        talk.say(b"last words");
        talk.session.end();
        talk.settle();
        prop_assert!(talk.read.ends_with(b"last words") && !talk.client.wants_read(), "its end is one");
    }

    /// Bytes that nobody sent: a byte of what a client sends is another, from anywhere on. Nothing breaks but the
    /// connection, and the core is given nothing that was not said.
    #[test]
    fn changed_bytes_end_the_session_or_wait(
        cuts in vec(1usize..700, 1..4),
        version in 0..2usize,
        at in 0usize..1_000,
        to: u8,
        then in vec(any::<u8>(), 0..400),
    ) {
        let mut talk = Talk::new(client(&client_config(VERSIONS[version])), &cuts);
        talk.client.writer().write_all(b"hello").unwrap();
        let mut left = at;
        for _ in 0..6 {
            let mut sent = Vec::new();
            while talk.client.wants_write() {
                talk.client.write_tls(&mut sent).unwrap();
            }
            if left < sent.len() {
                sent[left] = to;
                for (byte, other) in sent[left + 1..].iter_mut().zip(&then) {
                    *byte = *other;
                }
            }
            left = left.saturating_sub(sent.len());
            talk.give(&sent);
            let mut answer = &std::mem::take(&mut talk.session.outgoing)[..];
            while !answer.is_empty() && talk.client.read_tls(&mut answer).unwrap() > 0 {
                // The client may be as displeased.
                if talk.client.process_new_packets().is_err() {
                    break;
                }
            }
        }
        prop_assert!(b"hello".starts_with(&talk.heard) || matches!(talk.next, Next::On), "{:?}", talk.heard);
        prop_assert!(talk.heard.is_empty() || talk.heard == b"hello");
        // What follows is not looked at once it is over.
        if matches!(talk.next, Next::Refused(_) | Next::Broken(_)) {
            let next = talk.session.take(&terms(true), &mut then.clone(), &mut talk.heard);
            prop_assert!(matches!(next, Next::On));
            let sealing = talk.session.seal(&terms(true), b"x", &mut Vec::new());
            prop_assert_eq!(sealing, Sealing::Unreadable);
        }
    }

    /// Any bytes at all.
    #[test]
    fn any_bytes_are_taken(handshake: bool, required: bool, bytes in vec(any::<u8>(), 0..600), cut in 1usize..600) {
        let (mut session, mut plain) = (Session::new(&terms(true)), Vec::new());
        let mut bytes = [if handshake { &[22, 3, 1][..] } else { b"" }, &bytes].concat();
        for piece in bytes.chunks_mut(cut) {
            if !matches!(session.take(&terms(required), piece, &mut plain), Next::On) {
                break;
            }
        }
        prop_assert!(!handshake || plain.is_empty());
    }
}

#[test]
fn who_need_not_speak_tls_may_speak_in_clear() {
    let cases: [(&[u8], &str); 4] =
        [(b"GET / HTTP/1.1", ""), (HEADER, "GET /"), (b"\r\n\r\n\0\r\nQUID\n", ""), (&[HEADER, HEADER].concat(), "")];
    for (first, then) in cases {
        let bytes = [first, then.as_bytes()].concat();
        for cut in 1..bytes.len() {
            let (mut session, mut heard) = (Session::new(&terms(true)), Vec::new());
            let mut next = Next::On;
            let mut left = &bytes[..];
            while matches!(next, Next::On) && !left.is_empty() {
                // What the core says meanwhile goes as it is.
                assert_eq!(session.seal(&terms(false), b"503", &mut Vec::new()), Sealing::Clear);
                let (piece, rest) = left.split_at(cut.min(left.len()));
                next = session.take(&terms(false), &mut piece.to_vec(), &mut heard);
                left = rest;
            }
            assert!(matches!(next, Next::Clear), "{next:?} of {bytes:?} in pieces of {cut}");
            assert_eq!([&heard[..], left].concat(), bytes);
            // Where everybody has to, nobody is heard but the balancer.
            let (mut session, mut heard) = (Session::new(&terms(true)), Vec::new());
            let mut pieces = bytes.chunks(cut);
            let refused = pieces.any(|piece| {
                matches!(session.take(&terms(true), &mut piece.to_vec(), &mut heard), Next::Refused(None))
            });
            assert!(refused && session.outgoing.starts_with(b"HTTP/1.1 400 "));
            assert!(HEADER.starts_with(&heard) && session.outcome == Some(HandshakeOutcome::Plain));
            assert_eq!(session.seal(&terms(true), b"503", &mut Vec::new()), Sealing::Unreadable);
        }
    }
}

#[test]
fn who_comes_back_with_a_ticket_resumes() {
    for version in VERSIONS {
        let config = client_config(version);
        for (outcome, kind) in
            [(HandshakeOutcome::Full, HandshakeKind::Full), (HandshakeOutcome::Resumed, HandshakeKind::Resumed)]
        {
            let mut talk = Talk::new(client(&config), &[300]);
            talk.settle();
            // Tickets of 1.3 come behind the handshake, and are read with the first bytes.
            talk.say(b"welcome");
            assert_eq!((talk.session.outcome, talk.client.handshake_kind()), (Some(outcome), Some(kind)));
        }
    }
}

#[test]
fn an_answer_to_a_key_update_is_sent_and_both_go_on() {
    let mut talk = Talk::new(client(&client_config(&rustls::version::TLS13)), &[512]);
    talk.settle();
    for round in 0..4 {
        talk.client.refresh_traffic_keys().unwrap();
        talk.client.writer().write_all(&[round]).unwrap();
        talk.settle();
        talk.say(&[round]);
    }
    assert_eq!((&talk.heard[..], &talk.read[..]), (&[0, 1, 2, 3][..], &[0, 1, 2, 3][..]));
}

#[test]
fn what_comes_after_our_last_word_is_not_looked_at() {
    for version in VERSIONS {
        // Who was refused before its first: nothing is signed for it.
        let mut refused = Talk::new(client(&client_config(version)), &[usize::MAX]);
        refused.session.end();
        refused.settle();
        assert!(refused.client.is_handshaking() && refused.read.is_empty() && refused.session.outcome.is_none());
        // Who was let go: a record that nobody has encrypted.
        let mut gone = Talk::new(client(&client_config(version)), &[usize::MAX]);
        gone.settle();
        assert!(gone.session.is_greeted());
        gone.session.end();
        gone.settle();
        gone.give(b"\x17\x03\x03\x00\x20no record of anybody, or of no one");
        assert!(matches!(gone.next, Next::On), "{:?}", gone.next);
        assert!(gone.session.outgoing.is_empty());
    }
}
