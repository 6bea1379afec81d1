//! One connection to a port with TLS: what it has sent so far, and what it is still to be sent. No socket, no clock of its
//! own.

use std::sync::Arc;

use rustls::Error;
use rustls::client::{ClientConfig, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConfig, UnbufferedServerConnection};

use super::outcome::HandshakeOutcome;
use super::records::{End, Read};
use crate::limits;
use crate::wire::front::{PROXY_HEAD_BYTES, PROXY_SIGNATURE};
use crate::wire::upgrade;

/// A handshake record begins with it (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// What the body of the answer says to whoever speaks HTTP in clear where TLS is required.
const REFUSAL: &[u8] = b"this port speaks TLS: https:// and wss://\n";

/// How sessions begin.
pub(super) enum Terms {
    /// With what comes to a port.
    Port {
        /// What those who speak TLS are shown.
        config: Arc<ServerConfig>,
        /// Whoever does not is turned away.
        required: bool,
    },
    /// With our own word, to a server.
    Call {
        /// Whom to trust.
        config: Arc<ClientConfig>,
        /// What it has to prove that it is.
        name: ServerName<'static>,
    },
}

/// What is to be done after bytes were taken.
#[derive(Debug)]
pub(super) enum Next {
    /// Go on.
    On,
    /// It speaks in clear, and needs no session.
    Clear,
    /// The client has said that nothing more will come (close_notify).
    Ended,
    /// There is no session, and the answer says why; `Some` if it was tried. The core is not told: whoever has connected
    /// is there until it goes, or its time for a request is over.
    Refused(Option<Error>),
    /// What came cannot be trusted, after a handshake that could.
    Broken(Error),
}

/// What became of bytes that were to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sealing {
    /// They may go as they are: it is not known yet whether the client speaks TLS, and it need not.
    Clear,
    /// So many of them are encrypted.
    Sealed(usize),
    /// Nothing yet: the handshake goes on, and the core has to wait.
    NotYet,
    /// Nobody can read them: the handshake is not done, or never will be.
    Unreadable,
    /// Nothing can be encrypted any more.
    Broken,
}

/// How far it is.
enum Stage {
    /// Its first byte has not come, a PROXY header left aside.
    Silent { had_header: bool },
    /// So much of a PROXY header is still to come.
    Header { left: usize },
    /// Somebody speaks TLS.
    Encrypted { tls: Box<End>, is_greeted: bool },
    /// Its last words are said. What comes is not looked at.
    Over,
}

/// A connection that speaks TLS, or may.
pub(super) struct Session {
    stage: Stage,
    /// What came and is not whole.
    incoming: Vec<u8>,
    /// What the kernel has not taken yet, in order.
    pub outgoing: Vec<u8>,
    /// The core was told that it is blocked.
    pub is_blocked: bool,
    /// The core has bytes to send before anything else.
    pub is_owed: bool,
    /// It is in the list of those to look after.
    pub is_due: bool,
    /// Once everything is out, the sending side is to be shut.
    pub is_ending: bool,
    /// Our last word is said: what still comes is not looked at, least of all a handshake that was refused.
    is_deaf: bool,
    /// How its handshake has ended, until that is counted.
    pub outcome: Option<HandshakeOutcome>,
}

impl Session {
    pub fn new(terms: &Terms) -> Session {
        let mut session = Session {
            stage: Stage::Silent { had_header: false },
            incoming: Vec::new(),
            outgoing: Vec::new(),
            is_blocked: false,
            is_owed: false,
            is_due: false,
            is_ending: false,
            is_deaf: false,
            outcome: None,
        };
        if let Terms::Call { config, name } = terms {
            match UnbufferedClientConnection::new(config.clone(), name.clone()) {
                Ok(tls) => {
                    session.stage = Stage::Encrypted { tls: Box::new(End::Client(tls)), is_greeted: false };
                    // Its first word.
                    session.read(&mut [], &mut Vec::new());
                }
                Err(error) => drop(session.fail(error)),
            }
        }
        session
    }

    /// Whether we have called, and there is no agreement yet.
    pub fn is_calling(&self) -> bool {
        matches!(&self.stage, Stage::Encrypted { tls, is_greeted: false } if matches!(**tls, End::Client(_)))
    }

    /// Whether somebody speaks TLS with whom nothing was agreed yet.
    pub fn is_shaking_hands(&self) -> bool {
        matches!(self.stage, Stage::Encrypted { is_greeted: false, .. })
    }

    /// Whether the handshake is done.
    pub fn is_greeted(&self) -> bool {
        matches!(self.stage, Stage::Encrypted { is_greeted: true, .. })
    }

    /// Takes what was received; `plain` gets what the core should see.
    pub fn take(&mut self, terms: &Terms, bytes: &mut [u8], plain: &mut Vec<u8>) -> Next {
        match &mut self.stage {
            _ if self.is_deaf => Next::On,
            Stage::Over => Next::On,
            Stage::Encrypted { .. } if self.incoming.is_empty() => {
                let (next, used) = self.read(bytes, plain);
                self.incoming.extend_from_slice(&bytes[used..]);
                next
            }
            Stage::Silent { .. } | Stage::Header { .. } | Stage::Encrypted { .. } => {
                let mut held = std::mem::take(&mut self.incoming);
                held.extend_from_slice(bytes);
                let (next, used) = match self.stage {
                    Stage::Encrypted { .. } => self.read(&mut held, plain),
                    _ => self.begin(terms, &mut held, plain),
                };
                held.drain(..used);
                // Whoever is at rest has no buffer.
                self.incoming = if held.is_empty() { Vec::new() } else { held };
                next
            }
        }
    }

    /// Finds out what comes first: a PROXY header, which is for the core, TLS, or something in clear. How many bytes it has
    /// done with.
    fn begin(&mut self, terms: &Terms, bytes: &mut [u8], plain: &mut Vec<u8>) -> (Next, usize) {
        let Terms::Port { config, required } = terms else { return (Next::On, bytes.len()) };
        let mut used = 0;
        loop {
            let rest = &mut bytes[used..];
            match self.stage {
                Stage::Header { left } => {
                    let came = left.min(rest.len());
                    plain.extend_from_slice(&rest[..came]);
                    used += came;
                    if came < left {
                        self.stage = Stage::Header { left: left - came };
                        return (Next::On, used);
                    }
                    self.stage = Stage::Silent { had_header: true };
                }
                _ if rest.is_empty() => return (Next::On, used),
                _ if rest[0] == HANDSHAKE => {
                    let (next, of_rest) = match UnbufferedServerConnection::new(config.clone()) {
                        Ok(tls) => {
                            self.stage = Stage::Encrypted { tls: Box::new(End::Server(tls)), is_greeted: false };
                            self.read(rest, plain)
                        }
                        Err(error) => (self.fail(error), rest.len()),
                    };
                    return (next, used + of_rest);
                }
                Stage::Silent { had_header: false } if may_be_signed(rest) => {
                    let Some(head) = rest.first_chunk::<PROXY_HEAD_BYTES>() else { return (Next::On, used) };
                    let more = u16::from_be_bytes([head[PROXY_HEAD_BYTES - 2], head[PROXY_HEAD_BYTES - 1]]);
                    self.stage = Stage::Header { left: PROXY_HEAD_BYTES + usize::from(more) };
                }
                _ if *required => {
                    upgrade::reply(&mut self.outgoing, 400, "text/plain", &[], false, REFUSAL);
                    self.outcome = Some(HandshakeOutcome::Plain);
                    (self.stage, self.is_ending) = (Stage::Over, true);
                    return (Next::Refused(None), bytes.len());
                }
                _ => {
                    plain.extend_from_slice(rest);
                    return (Next::Clear, bytes.len());
                }
            }
        }
    }

    /// The handshake has failed.
    fn fail(&mut self, error: Error) -> Next {
        self.outcome = Some(HandshakeOutcome::of_error(&error));
        (self.stage, self.is_ending) = (Stage::Over, true);
        Next::Refused(Some(error))
    }

    /// Decrypts everything that is whole in `bytes`, which begin with what waited. How many it has done with.
    fn read(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>) -> (Next, usize) {
        let Stage::Encrypted { tls, is_greeted } = &mut self.stage else { return (Next::On, bytes.len()) };
        let Read { used, has_ended, error } = tls.read(bytes, &mut self.outgoing, plain);
        // What follows a close_notify is not looked at (RFC 8446, section 6.1).
        let waits = if has_ended { 0 } else { bytes.len() - used };
        let endless = (waits > limits::TLS_WAITING_BYTES_MAX).then(|| Error::General("it has no end".to_owned()));
        match error.or(endless) {
            Some(error) if *is_greeted => {
                self.stage = Stage::Over;
                (Next::Broken(error), bytes.len())
            }
            Some(error) => (self.fail(error), bytes.len()),
            None => {
                if !*is_greeted && !tls.state().is_handshaking() {
                    *is_greeted = true;
                    self.outcome = Some(HandshakeOutcome::of_kind(tls.state().handshake_kind()));
                }
                (if has_ended { Next::Ended } else { Next::On }, bytes.len() - waits)
            }
        }
    }

    /// Encrypts the beginning of what the core sends, behind what `out` holds.
    pub fn seal(&mut self, terms: &Terms, bytes: &[u8], out: &mut Vec<u8>) -> Sealing {
        match &self.stage {
            Stage::Silent { .. } | Stage::Header { .. } if matches!(terms, Terms::Port { required: false, .. }) => {
                return Sealing::Clear;
            }
            Stage::Encrypted { is_greeted: true, .. } => {}
            _ if self.is_calling() => return Sealing::NotYet,
            _ => return Sealing::Unreadable,
        }
        let taken = bytes.len().min(limits::TLS_SEND_BYTES_MAX);
        match self.write(out, Some(&bytes[..taken])) {
            true => Sealing::Sealed(taken),
            false => Sealing::Broken,
        }
    }

    /// Says that nothing more will be sent, as far as there is anybody to hear it. The sending side is to be shut then.
    pub fn end(&mut self) {
        self.is_ending = true;
        if self.is_greeted() {
            let mut outgoing = std::mem::take(&mut self.outgoing);
            // Where even that cannot be encrypted any more, the end of the connection says it.
            self.write(&mut outgoing, None);
            self.outgoing = outgoing;
        }
        self.is_deaf = true;
    }

    /// Encrypts these bytes, or that nothing more will come. False: nothing can be encrypted any more.
    fn write(&mut self, out: &mut Vec<u8>, bytes: Option<&[u8]>) -> bool {
        let Stage::Encrypted { tls, .. } = &mut self.stage else { return false };
        tls.write(&mut self.incoming, out, bytes)
    }
}

/// Whether these bytes begin with the signature of a PROXY header, version 2, as far as they go.
fn may_be_signed(bytes: &[u8]) -> bool {
    bytes.iter().zip(PROXY_SIGNATURE).all(|(one, other)| one == other)
}

#[cfg(test)]
#[path = "session_tests.rs"]
pub(super) mod tests;
