//! Records of one connection, whichever end of it we are: rustls's states, as far as they go.

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{CommonState, Error};

/// What a record adds to its content, at most: header, type, explicit nonce and tag (RFC 5288, RFC 8446).
const RECORD_OVERHEAD_BYTES: usize = 5 + 1 + 8 + 16;

/// What a record holds.
const RECORD_CONTENT_BYTES: usize = 16 * 1024;

/// What rustls may put before a send: an answer to a key update.
const SPARE_BYTES: usize = 64;

/// Which end we are; rustls has a type for each.
pub(super) enum End {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

impl End {
    pub(super) fn state(&self) -> &CommonState {
        match self {
            End::Server(tls) => tls,
            End::Client(tls) => tls,
        }
    }

    /// Works through the records in `bytes` as far as they are whole; `plain` gets what is in them, `outgoing` the answers.
    pub(super) fn read(&mut self, bytes: &mut [u8], outgoing: &mut Vec<u8>, plain: &mut Vec<u8>) -> Read {
        match self {
            End::Server(tls) => advance(tls, bytes, outgoing, plain),
            End::Client(tls) => advance(tls, bytes, outgoing, plain),
        }
    }

    /// Encrypts these bytes, or that nothing more will come, behind what `out` holds. `incoming` is what waits to be whole.
    /// False: nothing can be encrypted, any more.
    pub(super) fn write(&mut self, incoming: &mut Vec<u8>, out: &mut Vec<u8>, bytes: Option<&[u8]>) -> bool {
        match self {
            End::Server(tls) => encrypt(tls, incoming, out, bytes),
            End::Client(tls) => encrypt(tls, incoming, out, bytes),
        }
    }
}

/// What has come of some bytes.
pub(super) struct Read {
    /// How many of them are done with.
    pub(super) used: usize,
    /// The peer has said that nothing more will come.
    pub(super) has_ended: bool,
    /// What was wrong; the alert that belongs to it is among the answers.
    pub(super) error: Option<Error>,
}

/// What both ends can do.
trait Unbuffered {
    type Data;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// Whether something waits to be sent.
    fn has_something(&self) -> bool;
}

impl Unbuffered for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }

    fn has_something(&self) -> bool {
        self.wants_write()
    }
}

impl Unbuffered for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }

    fn has_something(&self) -> bool {
        self.wants_write()
    }
}

fn advance<T: Unbuffered>(tls: &mut T, bytes: &mut [u8], outgoing: &mut Vec<u8>, plain: &mut Vec<u8>) -> Read {
    let mut used = 0;
    let mut has_ended = false;
    loop {
        let UnbufferedStatus { mut discard, state } = tls.process(&mut bytes[used..]);
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(Ok(record)) = traffic.next_record() {
                    discard += record.discard;
                    plain.extend_from_slice(record.payload);
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => encode(outgoing, |room| data.encode(room)),
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => has_ended = true,
            Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) | ConnectionState::Closed) => {
                return Read { used: used + discard, has_ended, error: None };
            }
            // Early data, which nobody is offered. What a later version may add cannot be known.
            Ok(_) => {
                let error = Some(Error::General("a state of TLS that is not known here".to_owned()));
                return Read { used, has_ended, error };
            }
            Err(error) => {
                used += discard;
                // The alert that belongs to it. What waits comes before a look at the bytes, and they must not be looked
                // at again: rustls would be wrong twice, and does not expect that.
                while tls.has_something()
                    && let Ok(ConnectionState::EncodeTlsData(mut data)) = tls.process(&mut bytes[used..]).state
                {
                    encode(outgoing, |room| data.encode(room));
                }
                return Read { used, has_ended, error: Some(error) };
            }
        }
        used += discard;
    }
}

fn encrypt<T: Unbuffered>(tls: &mut T, incoming: &mut Vec<u8>, out: &mut Vec<u8>, bytes: Option<&[u8]>) -> bool {
    let put = |traffic: &mut WriteTraffic<'_, T::Data>, room: &mut [u8]| match bytes {
        Some(bytes) => traffic.encrypt(bytes, room),
        None => traffic.queue_close_notify(room),
    };
    loop {
        // It looks at what waits, too, and finds nothing that it has not seen.
        let UnbufferedStatus { discard, state } = tls.process(incoming);
        let written = match state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                let len = bytes.map_or(0, <[u8]>::len);
                let records = len / RECORD_CONTENT_BYTES + 1;
                Some(into(out, len + records * RECORD_OVERHEAD_BYTES + SPARE_BYTES, |room| {
                    match put(&mut traffic, room) {
                        Err(EncryptError::InsufficientSize(more)) => Err(Some(more.required_size)),
                        written => written.map_err(|_| None),
                    }
                }))
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                encode(out, |room| data.encode(room));
                None
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                None
            }
            Ok(ConnectionState::PeerClosed) => None,
            _ => return false,
        };
        incoming.drain(..discard);
        if let Some(written) = written {
            return written;
        }
    }
}

fn encode(out: &mut Vec<u8>, mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    into(out, 0, |room| match encode(room) {
        Err(EncodeError::InsufficientSize(more)) => Err(Some(more.required_size)),
        written => written.map_err(|_| None),
    });
}

/// Appends what is written into room of this length, or of what it turns out to need (`Err(Some(…))`). False: nothing
/// was.
fn into(out: &mut Vec<u8>, room: usize, mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>) -> bool {
    let start = out.len();
    let mut room = room;
    // Once for what is needed, and once to do it.
    for _ in 0..2 {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return true;
            }
            Err(Some(needed)) => room = needed,
            Err(None) => break,
        }
    }
    out.truncate(start);
    false
}
