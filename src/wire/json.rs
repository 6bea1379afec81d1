//! V2V messages from clients: `{"event": NAME, "data": {…}}` to [`Command`].
//!
//! What a field may hold is decided here, once; what a command may do is the shard's business. The contract is in
//! `docs/PROTOCOL.md`.

mod plain;
mod watch;

use std::ops::RangeInclusive;

use super::error::ErrorCode;
use super::tape::{NotJson, Parser, Value};
use super::text;
pub use watch::{Edges, Terms};

/// Every event that a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// `register`
    Register,
    /// `heartbeat`
    Heartbeat,
    /// `location_update`
    LocationUpdate,
    /// `send_message`
    SendMessage,
    /// `emergency_alert`
    EmergencyAlert,
    /// `connect_request`
    ConnectRequest,
    /// `connect_response`
    ConnectResponse,
    /// `call_initiate`
    CallInitiate,
    /// `webrtc_offer`
    WebrtcOffer,
    /// `webrtc_answer`
    WebrtcAnswer,
    /// `ice_candidate`
    IceCandidate,
    /// `sync_disconnect`
    SyncDisconnect,
    /// `sync_end_call`
    SyncEndCall,
    /// `view`
    View,
    /// `near`
    Near,
    /// `follow`
    Follow,
}

impl crate::metrics::Label for EventKind {
    const ALL: &'static [Self] = &EventKind::ALL;
    const NAME: &'static str = "event";

    fn index(self) -> usize {
        self as usize
    }

    fn label(self) -> &'static str {
        self.name()
    }
}

impl EventKind {
    /// All of them, in the order in which they are listed to a client that sent something else.
    pub const ALL: [EventKind; 16] = [
        EventKind::Register,
        EventKind::Heartbeat,
        EventKind::LocationUpdate,
        EventKind::SendMessage,
        EventKind::EmergencyAlert,
        EventKind::ConnectRequest,
        EventKind::ConnectResponse,
        EventKind::CallInitiate,
        EventKind::WebrtcOffer,
        EventKind::WebrtcAnswer,
        EventKind::IceCandidate,
        EventKind::SyncDisconnect,
        EventKind::SyncEndCall,
        EventKind::View,
        EventKind::Near,
        EventKind::Follow,
    ];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Register => "register",
            EventKind::Heartbeat => "heartbeat",
            EventKind::LocationUpdate => "location_update",
            EventKind::SendMessage => "send_message",
            EventKind::EmergencyAlert => "emergency_alert",
            EventKind::ConnectRequest => "connect_request",
            EventKind::ConnectResponse => "connect_response",
            EventKind::CallInitiate => "call_initiate",
            EventKind::WebrtcOffer => "webrtc_offer",
            EventKind::WebrtcAnswer => "webrtc_answer",
            EventKind::IceCandidate => "ice_candidate",
            EventKind::SyncDisconnect => "sync_disconnect",
            EventKind::SyncEndCall => "sync_end_call",
            EventKind::View => "view",
            EventKind::Near => "near",
            EventKind::Follow => "follow",
        }
    }

    /// The event that goes from one vehicle to another under this name.
    pub fn relayed(name: &str) -> Option<EventKind> {
        use EventKind::*;
        EventKind::from_name(name).filter(|kind| match kind {
            Register | Heartbeat | LocationUpdate | SendMessage | EmergencyAlert | View | Near | Follow => false,
            ConnectRequest | ConnectResponse | CallInitiate | WebrtcOffer | WebrtcAnswer | IceCandidate
            | SyncDisconnect | SyncEndCall => true,
        })
    }

    /// Whether it changes what a connection watches.
    pub fn is_watch(self) -> bool {
        matches!(self, EventKind::View | EventKind::Near | EventKind::Follow)
    }

    /// The token bucket of the vehicle that it is drawn from, as `[rate_limits]` calls it.
    pub fn bucket(self) -> Option<&'static str> {
        match self {
            EventKind::Register | EventKind::Heartbeat => None,
            // Who watches need not drive; their bucket is the connection's.
            EventKind::View | EventKind::Near | EventKind::Follow => None,
            EventKind::LocationUpdate => Some("location_update"),
            EventKind::SendMessage => Some("send_message"),
            EventKind::EmergencyAlert => Some("emergency_alert"),
            EventKind::IceCandidate => Some("ice_candidate"),
            EventKind::ConnectRequest
            | EventKind::ConnectResponse
            | EventKind::CallInitiate
            | EventKind::WebrtcOffer
            | EventKind::WebrtcAnswer
            | EventKind::SyncDisconnect
            | EventKind::SyncEndCall => Some("signaling"),
        }
    }

    fn from_name(name: &str) -> Option<EventKind> {
        EventKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A position report as its sender gave it, in range.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fix {
    /// Degrees north, −90 to 90.
    pub lat: f64,
    /// Degrees east, −180 to 180.
    pub lon: f64,
    /// Metres per second.
    pub speed: Option<f64>,
    /// Degrees clockwise from north.
    pub heading: Option<f64>,
    /// Metres.
    pub elevation: Option<f64>,
    /// Metres.
    pub accuracy: Option<f64>,
    /// The sender's clock, ms since the Unix epoch.
    pub ts: Option<u64>,
}

/// What a client asks for.
#[derive(Debug, PartialEq)]
pub enum Command<'a> {
    /// Bind this connection to a vehicle.
    Register {
        /// `^[A-Za-z0-9._-]{3,40}$`
        vehicle_id: &'a str,
        /// 1 to 64 characters.
        driver_name: &'a str,
        /// `vehicleInfo`
        info: Info<'a>,
        /// `authToken`
        auth_token: Option<&'a str>,
    },
    /// Answer with `heartbeat_ack`.
    Heartbeat,
    /// The vehicle is here.
    Location {
        /// Whose position.
        vehicle_id: &'a str,
        /// Where and when.
        fix: Fix,
    },
    /// Text to one vehicle.
    Message {
        /// From whom.
        sender: &'a str,
        /// To whom.
        recipient: &'a str,
        /// 1 to 512 characters, control characters stripped.
        content: String,
    },
    /// Text to everyone.
    Emergency {
        /// From whom.
        sender: &'a str,
        /// `vehicleInfo` as JSON, if the sender gave one.
        info: Option<Vec<u8>>,
    },
    /// Something for one other vehicle, passed on as it is.
    Relay(Relay<'a>),
    /// Be sent what is within an area.
    View {
        /// `None` ends it.
        edges: Option<Edges>,
        /// How.
        terms: Terms<'a>,
    },
    /// Be sent what is around the connection's own vehicle.
    Near {
        /// More than 0; `None` ends it.
        radius_m: Option<f64>,
        /// How.
        terms: Terms<'a>,
    },
    /// Be sent certain vehicles, wherever they are.
    Follow {
        /// As they were sent, one may be there twice. Nobody ends it.
        vehicle_ids: Vec<&'a str>,
        /// How.
        terms: Terms<'a>,
    },
}

/// `vehicleInfo` of a registration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info<'a> {
    /// `licensePlate`
    pub license_plate: Option<&'a str>,
    /// `model`
    pub model: Option<&'a str>,
    /// `color`
    pub color: Option<&'a str>,
}

/// A command whose data goes to another vehicle.
#[derive(Debug, PartialEq)]
pub struct Relay<'a> {
    /// The id inside the data that must be the sender's own, if the event names one.
    pub sender: Option<&'a str>,
    /// The vehicle that is to hear it.
    pub recipient: &'a str,
    /// The data as JSON, defaults filled in; an object that is not empty.
    pub data: Vec<u8>,
}

/// Why a message was not understood; becomes an `error` event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// `code`
    pub code: ErrorCode,
    /// `message`: what is wrong and what would be right.
    pub message: &'static str,
}

/// A message that named a known event. The shard limits the rate by `kind` before it looks at the rest.
pub struct Decoded<'a> {
    /// Which event.
    pub kind: EventKind,
    /// What it asks for, or what is wrong with its data.
    pub command: Result<Command<'a>, Rejected>,
}

/// Decodes one message and hands it to `take`. `text` is used up: what is not plain is parsed in place.
///
/// `unix_ms` fills in timestamps that a sender may leave out.
pub fn decode<R>(
    parser: &mut Parser,
    text: &mut [u8],
    unix_ms: u64,
    take: impl FnOnce(Result<Decoded<'_>, Rejected>) -> R,
) -> R {
    if let Some((vehicle_id, fix)) = plain::location_update(text) {
        let command = Ok(Command::Location { vehicle_id, fix });
        return take(Ok(Decoded { kind: EventKind::LocationUpdate, command }));
    }
    let mut take = Some(take);
    let outcome = parser.with(text, |message| {
        let decoded = decode_event(message, unix_ms);
        take.take().map(|take| take(decoded))
    });
    match (outcome, take) {
        (Ok(Some(result)), _) => result,
        (Err(NotJson::TooDeep), Some(take)) => {
            take(Err(rejected(ErrorCode::InvalidJson, "nested deeper than 64 levels")))
        }
        (_, Some(take)) => take(Err(rejected(ErrorCode::InvalidJson, "not valid JSON"))),
        (_, None) => unreachable!("`take` is consumed only where its result is returned"),
    }
}

fn rejected(code: ErrorCode, message: &'static str) -> Rejected {
    Rejected { code, message }
}

fn decode_event<'i>(message: Value<'_, 'i>, unix_ms: u64) -> Result<Decoded<'i>, Rejected> {
    let Some(name) = message.field("event").and_then(Value::as_str) else {
        return Err(rejected(ErrorCode::InvalidJson, "a message is {\"event\": NAME, \"data\": {…}}"));
    };
    let Some(kind) = EventKind::from_name(name) else {
        return Err(rejected(ErrorCode::UnknownEvent, "no such event"));
    };
    let data = message.field("data").filter(|data| data.is_object());
    let command = match (kind, data) {
        (EventKind::Heartbeat, _) => Ok(Command::Heartbeat),
        (_, None) => Err("data must be an object"),
        (EventKind::Register, Some(data)) => register(data),
        (EventKind::LocationUpdate, Some(data)) => location(data),
        (EventKind::SendMessage, Some(data)) => send_message(data),
        (EventKind::EmergencyAlert, Some(data)) => emergency(data),
        (EventKind::View, Some(data)) => watch::view(data),
        (EventKind::Near, Some(data)) => watch::near(data),
        (EventKind::Follow, Some(data)) => watch::follow(data),
        (_, Some(data)) => relay(kind, data, unix_ms),
    };
    let code = match kind {
        EventKind::Register => ErrorCode::InvalidRegister,
        EventKind::LocationUpdate => ErrorCode::InvalidLocation,
        EventKind::View | EventKind::Near | EventKind::Follow => ErrorCode::InvalidView,
        _ => ErrorCode::ValidationError,
    };
    Ok(Decoded { kind, command: command.map_err(|message| rejected(code, message)) })
}

/// How long a vehicle id is.
const ID_LEN: RangeInclusive<usize> = 3..=40;

/// What it is made of: letters, digits, `.`, `_`, `-`.
static ID_BYTES: [bool; 256] = {
    let mut is_in = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        is_in[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'.' | b'_' | b'-');
        byte += 1;
    }
    is_in
};

/// The latest time that is taken, ms: 2^53, beyond which a JavaScript sender cannot have meant what we would read.
const TS_MAX: f64 = 9_007_199_254_740_992.0;

/// Whether `id` is a vehicle id: 3 to 40 of letters, digits, `.`, `_`, `-`.
pub fn is_vehicle_id(id: &str) -> bool {
    ID_LEN.contains(&id.len()) && id.bytes().all(|byte| ID_BYTES[usize::from(byte)])
}

fn vehicle_id<'i>(data: Value<'_, 'i>, field: &str, wrong: &'static str) -> Result<&'i str, &'static str> {
    data.field(field).and_then(Value::as_str).filter(|id| is_vehicle_id(id)).ok_or(wrong)
}

/// A string of `min` to `max` characters (Unicode scalar values), or nothing when the field is absent or null.
fn optional_text<'i>(
    data: Value<'_, 'i>,
    field: &str,
    max: usize,
    wrong: &'static str,
) -> Result<Option<&'i str>, &'static str> {
    match data.field(field) {
        None => Ok(None),
        Some(value) if value.is_null() => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) if text.chars().count() <= max => Ok(Some(text)),
            _ => Err(wrong),
        },
    }
}

fn register<'i>(data: Value<'_, 'i>) -> Result<Command<'i>, &'static str> {
    let vehicle_id = vehicle_id(data, "vehicleId", "vehicleId must be 3 to 40 of A-Z a-z 0-9 . _ -")?;
    let driver_name = data
        .field("driverName")
        .and_then(Value::as_str)
        .filter(|name| (1..=64).contains(&name.chars().count()))
        .ok_or("driverName must be 1 to 64 characters")?;
    let info = match data.field("vehicleInfo") {
        None => Info::default(),
        Some(info) if info.is_null() => Info::default(),
        Some(info) if info.is_object() => Info {
            license_plate: optional_text(info, "licensePlate", 64, "licensePlate must be at most 64 characters")?,
            model: optional_text(info, "model", 64, "model must be at most 64 characters")?,
            color: optional_text(info, "color", 64, "color must be at most 64 characters")?,
        },
        Some(_) => return Err("vehicleInfo must be an object"),
    };
    let auth_token = auth_token(data)?;
    Ok(Command::Register { vehicle_id, driver_name, info, auth_token })
}

fn auth_token<'i>(data: Value<'_, 'i>) -> Result<Option<&'i str>, &'static str> {
    optional_text(data, "authToken", 8192, "authToken must be a string")
}

fn location<'i>(data: Value<'_, 'i>) -> Result<Command<'i>, &'static str> {
    let mut id = None;
    let mut fix = Fix { lat: f64::NAN, lon: f64::NAN, ..Fix::default() };
    // One pass over the fields: this is the event that arrives most. The last of duplicate keys counts.
    for (name, value) in data.fields() {
        match name {
            "vehicleId" => id = value.as_str(),
            "lat" => fix.lat = value.as_f64().unwrap_or(f64::NAN),
            "lon" => fix.lon = value.as_f64().unwrap_or(f64::NAN),
            "speed" => fix.speed = motion(value, 0.0, "speed must be metres per second, 0 or more")?,
            "heading" => fix.heading = motion(value, -360.0, "heading must be degrees from north")?,
            "elevation" => fix.elevation = motion(value, f64::NEG_INFINITY, "elevation must be metres")?,
            "accuracy" => fix.accuracy = motion(value, 0.0, "accuracy must be metres, 0 or more")?,
            "ts" => fix.ts = timestamp(value)?,
            _ => {}
        }
    }
    let vehicle_id = id.filter(|id| is_vehicle_id(id)).ok_or("vehicleId must be 3 to 40 of A-Z a-z 0-9 . _ -")?;
    // Comparisons with NaN are false, so an absent coordinate fails here too.
    if !(-90.0..=90.0).contains(&fix.lat) {
        return Err("lat must be a number from -90 to 90");
    }
    if !(-180.0..=180.0).contains(&fix.lon) {
        return Err("lon must be a number from -180 to 180");
    }
    Ok(Command::Location { vehicle_id, fix })
}

/// A number that may be absent; `null` counts as absent.
fn motion(value: Value<'_, '_>, min: f64, wrong: &'static str) -> Result<Option<f64>, &'static str> {
    if value.is_null() {
        return Ok(None);
    }
    value.as_f64().filter(|number| *number >= min).map(Some).ok_or(wrong)
}

fn timestamp(value: Value<'_, '_>) -> Result<Option<u64>, &'static str> {
    if value.is_null() {
        return Ok(None);
    }
    value
        .as_f64()
        .filter(|ms| (0.0..=TS_MAX).contains(ms))
        .map(|ms| Some(ms as u64))
        .ok_or("ts must be milliseconds since 1970")
}

fn send_message<'i>(data: Value<'_, 'i>) -> Result<Command<'i>, &'static str> {
    let sender = vehicle_id(data, "senderId", "senderId must be a vehicle id")?;
    let recipient = vehicle_id(data, "recipientId", "recipientId must be a vehicle id")?;
    if let Some(kind) = data.field("messageType")
        && !kind.is_null()
        && kind.as_str() != Some("text")
    {
        return Err("messageType must be \"text\"");
    }
    if let Some(sent) = data.field("sentTs") {
        timestamp(sent).map_err(|_| "sentTs must be milliseconds since 1970")?;
    }
    const WRONG: &str = "content must be 1 to 512 characters";
    let content = data.field("content").and_then(Value::as_str).ok_or(WRONG)?;
    let content: String = content.chars().filter(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r')).collect();
    if !(1..=512).contains(&content.chars().count()) {
        return Err(WRONG);
    }
    Ok(Command::Message { sender, recipient, content })
}

fn emergency<'i>(data: Value<'_, 'i>) -> Result<Command<'i>, &'static str> {
    let sender = vehicle_id(data, "senderId", "senderId must be a vehicle id")?;
    let info = match data.field("vehicleInfo") {
        Some(info) if info.is_object() => {
            let mut json = Vec::new();
            info.write(&mut json);
            if json.len() > EMERGENCY_INFO_BYTES_MAX {
                return Err("vehicleInfo must be at most 2048 bytes");
            }
            Some(json)
        }
        Some(info) if !info.is_null() => return Err("vehicleInfo must be an object"),
        _ => None,
    };
    Ok(Command::Emergency { sender, info })
}

/// An alert goes to everyone, so what a sender may attach to it is bounded more tightly than a message.
const EMERGENCY_INFO_BYTES_MAX: usize = 2048;

fn relay<'i>(kind: EventKind, data: Value<'_, 'i>, unix_ms: u64) -> Result<Command<'i>, &'static str> {
    const PEER: &str = "targetId must be a vehicle id";
    let (sender, recipient) = match kind {
        EventKind::ConnectRequest => {
            optional_text(data, "purpose", 128, "purpose must be at most 128 characters")?;
            let requester = vehicle_id(data, "requesterId", "requesterId must be a vehicle id")?;
            (Some(requester), vehicle_id(data, "targetId", PEER)?)
        }
        EventKind::ConnectResponse => {
            optional_text(data, "reason", 128, "reason must be at most 128 characters")?;
            data.field("approved").and_then(Value::as_bool).ok_or("approved must be true or false")?;
            let target = vehicle_id(data, "targetId", PEER)?;
            (Some(target), vehicle_id(data, "requesterId", "requesterId must be a vehicle id")?)
        }
        EventKind::CallInitiate => {
            let caller = vehicle_id(data, "callerId", "callerId must be a vehicle id")?;
            (Some(caller), vehicle_id(data, "calleeId", "calleeId must be a vehicle id")?)
        }
        EventKind::SyncDisconnect | EventKind::SyncEndCall => {
            let from = vehicle_id(data, "fromVehicleId", "fromVehicleId must be a vehicle id")?;
            (Some(from), vehicle_id(data, "toVehicleId", "toVehicleId must be a vehicle id")?)
        }
        _ => (None, vehicle_id(data, "targetId", PEER)?),
    };
    let is_absent = |name: &str| data.field(name).is_none_or(Value::is_null);
    // What the gateway says takes the place of what the sender said, so that no key stands there twice.
    let is_ours = |name: &str| match (kind, name) {
        (EventKind::ConnectRequest | EventKind::ConnectResponse, "ts") => true,
        (EventKind::SyncDisconnect | EventKind::SyncEndCall, "reason" | "timestamp") => is_absent(name),
        _ => false,
    };
    let mut json = Vec::with_capacity(256);
    json.push(b'{');
    for (name, value) in data.fields().filter(|(name, _)| !is_ours(name)) {
        text::write_string(&mut json, name);
        json.push(b':');
        value.write(&mut json);
        json.push(b',');
    }
    for name in ["ts", "reason", "timestamp"].into_iter().filter(|name| is_ours(name)) {
        text::write_string(&mut json, name);
        json.push(b':');
        match (name, kind) {
            ("reason", EventKind::SyncDisconnect) => text::write_string(&mut json, "peer_disconnect"),
            ("reason", _) => text::write_string(&mut json, "peer_ended"),
            _ => text::write_u64(&mut json, unix_ms),
        }
        json.push(b',');
    }
    // There is a member, the recipient's id, so there is a comma.
    json.pop();
    json.push(b'}');
    match kind {
        EventKind::IceCandidate if json.len() > ICE_CANDIDATE_BYTES_MAX => Err("data must be at most 4096 bytes"),
        _ if json.len() > RELAY_BYTES_MAX => Err("data must be at most 32768 bytes"),
        _ => Ok(Command::Relay(Relay { sender, recipient, data: json })),
    }
}

/// What one vehicle may send another in one event. Session descriptions of browsers stay under 20 KiB.
const RELAY_BYTES_MAX: usize = 32 * 1024;

/// A candidate is a line of text. They come in bursts, so nobody's outbox may be filled with them.
const ICE_CANDIDATE_BYTES_MAX: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// The code of the rejection, or "ok" and the kind.
    fn verdict(json: &str) -> String {
        let mut text = json.as_bytes().to_vec();
        decode(&mut Parser::default(), &mut text, 7, |decoded| match decoded {
            Err(rejected) => rejected.code.as_str().to_owned(),
            Ok(Decoded { kind, command: Ok(_) }) => format!("ok {}", kind.name()),
            Ok(Decoded { command: Err(rejected), .. }) => rejected.code.as_str().to_owned(),
        })
    }

    fn location(fields: &str) -> String {
        verdict(&format!(r#"{{"event":"location_update","data":{{"vehicleId":"veh-1",{fields}}}}}"#))
    }

    #[test]
    fn what_is_relayed_has_a_bound() {
        let relayed = |event: &str, n: usize| {
            let sdp = "x".repeat(n);
            verdict(&format!(r#"{{"event":"{event}","data":{{"targetId":"abc","sdp":"{sdp}"}}}}"#))
        };
        assert_eq!(relayed("webrtc_offer", 32_700), "ok webrtc_offer");
        assert_eq!(relayed("webrtc_offer", 32_768), "validation_error");
        assert_eq!(relayed("ice_candidate", 4_000), "ok ice_candidate");
        assert_eq!(relayed("ice_candidate", 4_096), "validation_error");
    }

    #[test]
    fn what_the_gateway_adds_stands_there_once() {
        let relayed = |event: &str, fields: &str| {
            let json = format!(
                r#"{{"event":"{event}","data":{{"requesterId":"abc","targetId":"def","approved":true,
                "fromVehicleId":"abc","toVehicleId":"def"{fields}}}}}"#
            );
            decode(&mut Parser::default(), &mut json.into_bytes(), 7, |decoded| {
                let Ok(Decoded { command: Ok(Command::Relay(relay)), .. }) = decoded else { panic!("not a relay") };
                let text = String::from_utf8(relay.data).unwrap();
                text.split_once(r#""toVehicleId":"def","#).expect("what was sent comes first").1.to_owned()
            })
        };
        for event in ["connect_request", "connect_response"] {
            assert_eq!(relayed(event, r#","ts":1,"ts":"2","x":3"#), r#""x":3,"ts":7}"#);
        }
        let sent = r#","reason":null,"timestamp":null"#;
        assert_eq!(relayed("sync_disconnect", sent), r#""reason":"peer_disconnect","timestamp":7}"#);
        assert_eq!(relayed("sync_end_call", r#","timestamp":5"#), r#""timestamp":5,"reason":"peer_ended"}"#);
    }

    #[test]
    fn every_bad_input_has_its_code() {
        for (json, expected) in [
            ("", "invalid_json"),
            ("NaN", "invalid_json"),
            ("[]", "invalid_json"),
            ("{}", "invalid_json"),
            (r#"{"event":7}"#, "invalid_json"),
            (r#"{"event":"teleport","data":{}}"#, "unknown_event"),
            (r#"{"event":"heartbeat"}"#, "ok heartbeat"),
            (r#"{"event":"register"}"#, "invalid_register"),
            (r#"{"event":"register","data":[]}"#, "invalid_register"),
            (r#"{"event":"register","data":{"vehicleId":"","driverName":"A"}}"#, "invalid_register"),
            (r#"{"event":"register","data":{"vehicleId":"ab","driverName":"A"}}"#, "invalid_register"),
            (r#"{"event":"register","data":{"vehicleId":"a b","driverName":"A"}}"#, "invalid_register"),
            (r#"{"event":"register","data":{"vehicleId":"abc","driverName":""}}"#, "invalid_register"),
            (r#"{"event":"register","data":{"vehicleId":"abc","driverName":"A"}}"#, "ok register"),
            (
                r#"{"event":"register","data":{"vehicleId":"abc","driverName":"A","vehicleInfo":[]}}"#,
                "invalid_register",
            ),
            (
                r#"{"event":"send_message","data":{"senderId":"abc","recipientId":"def","content":""}}"#,
                "validation_error",
            ),
            (
                r#"{"event":"send_message","data":{"senderId":"abc","recipientId":"def","content":"\u0000\u0007"}}"#,
                "validation_error",
            ),
            (
                r#"{"event":"send_message","data":{"senderId":"abc","recipientId":"def","content":"x","messageType":"image"}}"#,
                "validation_error",
            ),
            (
                r#"{"event":"send_message","data":{"senderId":"abc","recipientId":"def","content":"x"}}"#,
                "ok send_message",
            ),
            (
                r#"{"event":"connect_response","data":{"requesterId":"abc","targetId":"def","approved":1}}"#,
                "validation_error",
            ),
            (r#"{"event":"webrtc_offer","data":{"sdp":"x"}}"#, "validation_error"),
        ] {
            assert_eq!(verdict(json), expected, "{json}");
        }
        let long =
            |n: usize| format!(r#"{{"event":"register","data":{{"vehicleId":"{}","driverName":"A"}}}}"#, "v".repeat(n));
        assert_eq!(verdict(&long(40)), "ok register");
        assert_eq!(verdict(&long(41)), "invalid_register");
        let content = |n: usize| {
            let content = "é".repeat(n);
            format!(
                r#"{{"event":"send_message","data":{{"senderId":"abc","recipientId":"def","content":"{content}"}}}}"#
            )
        };
        assert_eq!(verdict(&content(512)), "ok send_message");
        assert_eq!(verdict(&content(513)), "validation_error");
    }

    #[test]
    fn the_edges_of_the_earth_are_in_and_beyond_is_out() {
        for (fields, expected) in [
            (r#""lat":0,"lon":0"#, "ok location_update"),
            (r#""lat":90,"lon":180"#, "ok location_update"),
            (r#""lat":-90,"lon":-180"#, "ok location_update"),
            (r#""lat":90.0000001,"lon":0"#, "invalid_location"),
            (r#""lat":0,"lon":180.0000001"#, "invalid_location"),
            (r#""lat":NaN,"lon":0"#, "invalid_json"),
            (r#""lat":1e400,"lon":0"#, "invalid_json"),
            (r#""lat":"48","lon":0"#, "invalid_location"),
            (r#""lat":48"#, "invalid_location"),
            (r#""lat":100,"lat":48,"lon":0"#, "ok location_update"),
            (r#""lat":48,"lat":100,"lon":0"#, "invalid_location"),
            (r#""lat":48,"lon":0,"speed":-1"#, "invalid_location"),
            (r#""lat":48,"lon":0,"speed":null,"heading":"n""#, "invalid_location"),
            (r#""lat":48,"lon":0,"ts":9007199254740993"#, "ok location_update"),
            (r#""lat":48,"lon":0,"ts":1e17"#, "invalid_location"),
            (r#""lat":48,"lon":0,"ts":-1"#, "invalid_location"),
        ] {
            assert_eq!(location(fields), expected, "{fields}");
        }
    }

    #[test]
    fn a_relay_passes_everything_on_and_fills_in_defaults() {
        let relayed = |json: &str| {
            let mut text = json.as_bytes().to_vec();
            decode(&mut Parser::default(), &mut text, 7, |decoded| match decoded.unwrap().command {
                Ok(Command::Relay(relay)) => String::from_utf8(relay.data).unwrap(),
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(
            relayed(r#"{"event":"call_initiate","data":{"callerId":"abc", "calleeId":"def", "x":[1,{"y":null}]}}"#),
            r#"{"callerId":"abc","calleeId":"def","x":[1,{"y":null}]}"#
        );
        assert_eq!(
            relayed(r#"{"event":"connect_request","data":{"requesterId":"abc","targetId":"def"}}"#),
            r#"{"requesterId":"abc","targetId":"def","ts":7}"#
        );
        assert_eq!(
            relayed(r#"{"event":"sync_end_call","data":{"fromVehicleId":"abc","toVehicleId":"def","timestamp":5}}"#),
            r#"{"fromVehicleId":"abc","toVehicleId":"def","timestamp":5,"reason":"peer_ended"}"#
        );
    }

    #[test]
    fn control_characters_are_stripped_but_for_tab_and_line_ends() {
        let mut text = br#"{"event":"send_message","data":{"senderId":"abc","recipientId":"def","content":"a\u0000b\tc\r\n\u001bd\u009fe"}}"#.to_vec();
        decode(&mut Parser::default(), &mut text, 7, |decoded| match decoded.unwrap().command {
            Ok(Command::Message { content, .. }) => assert_eq!(content, "ab\tc\r\nde"),
            other => panic!("{other:?}"),
        });
    }
}
