//! What vehicles say, and how what they hear is told apart, in each way of speaking.

use std::fmt::Write;

use ringroad::wire::frame::Opcode;
use ringroad::wire::slim;
use ringroad::wire::state::{self, FLAG_GONE, Header, RECORD_BYTES, State};
use ringroad::wire::{units, upgrade};

use super::conn::masked;

/// How a contender speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    /// V2V events as JSON.
    Json,
    /// The same, with positions in `ringroad.v1`.
    Slim,
    /// V2V events in packets of Engine.IO 4 and Socket.IO.
    SocketIo,
    /// A floor: after the upgrade nothing has a meaning, and nobody registers.
    Bare,
}

/// Any key will do: it only has to be answered (RFC 6455, section 1.3, has this one).
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// What a server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Registered,
    Watching,
    /// One position.
    Position,
    /// A state frame with so many records.
    States(u16),
    Alert,
    /// Engine.IO is open: the namespace is to be asked for.
    Open,
    /// The namespace is open: events may be said.
    Welcome,
    /// Engine.IO wants a sign of life.
    Ping,
    Error,
    /// Whatever else the protocol has.
    Other,
}

impl Talk {
    /// The upgrade request.
    pub fn request(self, host: &str) -> Vec<u8> {
        let path = if self == Talk::SocketIo { "/socket.io/?EIO=4&transport=websocket" } else { "/v2v" };
        let mut request = Vec::new();
        upgrade::request(&mut request, host, path, KEY.as_bytes().try_into().expect("24 characters"), self.protocol());
        request
    }

    /// How long the reply to the upgrade is, once it is whole.
    pub fn reply_len(self, bytes: &[u8]) -> Result<Option<usize>, upgrade::ReplyError> {
        upgrade::parse_reply(bytes, &upgrade::accept_key(KEY), self.protocol())
    }

    fn protocol(self) -> Option<&'static str> {
        (self == Talk::Slim).then_some(slim::SUBPROTOCOL)
    }

    /// A frame with an event.
    pub fn event(self, out: &mut Vec<u8>, name: &str, data: &str) {
        let text = match self {
            Talk::SocketIo => format!(r#"42["{name}",{data}]"#),
            _ => format!(r#"{{"event":"{name}","data":{data}}}"#),
        };
        masked(out, Opcode::Text, text.as_bytes());
    }

    /// A frame with a position, 1e-7 degree.
    pub fn position(self, out: &mut Vec<u8>, vehicle: &Named, (lat_e7, lon_e7): (i32, i32), ts: u64) {
        if self == Talk::Slim {
            let header = Header {
                kind: slim::STATES_KIND,
                record_size: RECORD_BYTES as u8,
                flags: 0,
                count: 1,
                epoch: 0,
                base_unix_ms: ts,
            };
            let state = State {
                lat_e7,
                lon_e7,
                speed: 410,
                heading: 7_320,
                sec_mark: units::sec_mark(ts),
                ..State::unavailable(vehicle.key)
            };
            let mut message = [0; 48];
            message[..16].copy_from_slice(&header.encode());
            message[16..].copy_from_slice(&state::encode(&state));
            return masked(out, Opcode::Binary, &message);
        }
        let mut data = String::with_capacity(160);
        let (lat, lon) = (Degrees(lat_e7), Degrees(lon_e7));
        write!(
            data,
            r#"{{"vehicleId":"{}","lat":{lat},"lon":{lon},"speed":8.2,"heading":91.5,"ts":{ts}}}"#,
            vehicle.id
        )
        .expect("a String takes everything");
        self.event(out, "location_update", &data);
    }

    /// What a message says, by its first bytes.
    #[inline]
    pub fn said(self, opcode: u8, payload: &[u8]) -> Said {
        let name = match self {
            Talk::Bare => return Said::Alert,
            Talk::Slim if opcode == 2 => {
                return match payload {
                    [state::VERSION, slim::STATES_KIND, 32, _, low, high, ..] => {
                        Said::States(u16::from_le_bytes([*low, *high]))
                    }
                    _ => Said::Other,
                };
            }
            Talk::Json | Talk::Slim => payload.strip_prefix(br#"{"event":""#),
            Talk::SocketIo => match payload {
                [b'0', ..] => return Said::Open,
                [b'4', b'0', ..] => return Said::Welcome,
                [b'2'] => return Said::Ping,
                _ => payload.strip_prefix(br#"42[""#),
            },
        };
        let Some(name) = name else { return Said::Error };
        match name {
            [b'p', b'e', b'e', b'r', b'_', b'l', ..] => Said::Position,
            [b'e', b'm', ..] => Said::Alert,
            [b'e', b'r', ..] => Said::Error,
            [b'r', b'e', b'g', ..] => Said::Registered,
            [b'w', b'a', b't', ..] => Said::Watching,
            _ => Said::Other,
        }
    }
}

/// Who a vehicle is to others.
pub struct Named {
    pub id: String,
    pub key: u64,
}

impl Named {
    pub fn new(number: usize) -> Named {
        let id = format!("v{number:05}");
        Named { key: state::key(&id), id }
    }
}

/// 1e-7 degree, as degrees with all their decimals.
struct Degrees(i32);

impl std::fmt::Display for Degrees {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{:07}", self.0.unsigned_abs() / 10_000_000, self.0.unsigned_abs() % 10_000_000)
    }
}

/// Number and `ts` of the vehicle whose position an event tells.
pub fn sender(text: &[u8]) -> Option<(usize, u64)> {
    let number = digits(after(text, br#""vehicleId":"v"#)?)?;
    Some((number as usize, digits(after(text, br#""ts":"#)?)?))
}

/// Key and secMark of the records of a state frame that are positions.
pub fn records(message: &[u8]) -> impl Iterator<Item = (u64, u16)> {
    let states = slim::states(message).ok().flatten().into_iter().flat_map(|(_, states)| states);
    states.filter(|state| state.flags & FLAG_GONE == 0).map(|state| (state.key, state.sec_mark))
}

fn after<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(word.len()).position(|window| window == word)?;
    Some(&text[at + word.len()..])
}

fn digits(text: &[u8]) -> Option<u64> {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    str::from_utf8(&text[..len]).ok()?.parse().ok()
}
