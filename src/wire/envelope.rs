//! What hosts say to each other as JSON: envelopes, presence entries, records of messages. `docs/BACKPLANE.md`.
//!
//! Existing servers read and write the same channels and keys. They know `origin` and `obj`; everything between
//! gateways stands beside these in `ringroad`. What stands there is checked here as strictly as a registration, so that
//! whoever has an [`Envelope`] need not ask again. Numbers are doubles, as in every JavaScript server: whole up to
//! 2^53, and what follows a point is dropped.

use uuid::Uuid;

use super::json::is_vehicle_id;
use super::tape::{Parser, Value};
use super::text::{write_string, write_u64};
use crate::limits;
use crate::metrics::labels;

/// Who publishes an envelope, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source<'a> {
    /// The node's id.
    pub node: &'a str,
    /// Which run of the node: its start, Unix ms.
    pub epoch: u64,
    /// Which worker of the node.
    pub worker: u16,
    /// Time of publishing, Unix ms.
    pub at: u64,
    /// In whose world; `None`: in the one that there is without tenants, or in all of them.
    pub tenant: Option<&'a str>,
}

/// What an envelope is among gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A publication that is not repaired.
    Event,
    /// An emergency alert.
    Alert {
        /// Its number among those of its node, epoch and worker, from 1.
        seq: u64,
    },
    /// A vehicle came or went.
    Presence {
        /// Which registration: its time, Unix ms.
        connected_ms: u64,
        /// Who came; `None` when it went.
        identity: Option<Who<'a>>,
    },
    /// This worker is there.
    Beat {
        /// The newest `seq` of its alerts; 0: none yet.
        head: u64,
        /// Likewise for each tenant with alerts, at most [`limits::HEADS_MAX`].
        heads: Vec<(&'a str, u64)>,
        /// How many workers its node has.
        workers: u16,
        /// After how much silence its node is taken for dead.
        lease_ms: u64,
        /// This was the last one.
        leaving: bool,
    },
    /// Repeat alerts.
    Again {
        /// Of which worker.
        of: u16,
        /// From this `seq` on.
        from: u64,
        /// Those that were raised since then, Unix ms.
        since: u64,
    },
    /// Alerts have been repeated.
    Resent {
        /// All before this `seq`, as far as they are kept.
        to: u64,
    },
    /// A vehicle's entry is missing. Is it there?
    Doubt {
        /// Which vehicle.
        vehicle_id: &'a str,
        /// Which registration of it.
        connected_ms: u64,
    },
    /// Where are these vehicles of yours?
    Where {
        /// Which, 1 to [`limits::WHERE_VEHICLES_MAX`].
        vehicle_ids: Vec<&'a str>,
    },
    /// Vehicles are there.
    There {
        /// The worker that asked.
        to: u16,
        /// By vehicle id the name of the square, 1 to [`limits::WHERE_VEHICLES_MAX`].
        squares: Vec<(&'a str, &'a str)>,
    },
    /// An event for one vehicle.
    Direct {
        /// The sending worker's number for it.
        number: u64,
        /// Whose event; `None`: the radio's.
        sender: Option<&'a str>,
        /// For whom.
        recipient: &'a str,
    },
    /// A direct event reached its vehicle.
    Delivered {
        /// The worker that sent it.
        to: u16,
        /// Its number there.
        number: u64,
    },
    /// A direct event found nobody.
    Offline {
        /// The worker that sent it.
        to: u16,
        /// Its number there.
        number: u64,
    },
}

/// Who a vehicle is, as it registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Who<'a> {
    /// 1 to 64 characters.
    pub driver_name: &'a str,
    /// At most 64 characters, like the others.
    pub license_plate: Option<&'a str>,
    /// `model`
    pub model: Option<&'a str>,
    /// `color`
    pub color: Option<&'a str>,
}

/// Who published an envelope.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Origin<'a> {
    /// A gateway, by its node id; whatever else is a string if there is no `ringroad`.
    Text(&'a str),
    /// An existing server, by its process id.
    Number(f64),
}

/// What a receiver needs of an envelope.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope<'a> {
    /// Who published it.
    pub origin: Origin<'a>,
    /// The event as clients get it.
    pub obj: Option<Obj<'a>>,
    /// Epoch, worker, time of publishing, and what it is; `None` from existing servers. An event, an alert, a presence
    /// and a direct one have an `obj`; that of an alert has an `id`, that of a presence `vehicle_id`, `status` and
    /// `last_seen`.
    pub ringroad: Option<(u64, u16, u64, Kind<'a>)>,
    /// In whose world it was published, says `ringroad`.
    pub tenant: Option<&'a str>,
}

/// An event on its way to clients, and what a gateway looks at in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Obj<'a> {
    /// Its name.
    pub event: &'a str,
    /// The whole of it as JSON text.
    pub text: Vec<u8>,
    /// `data.id`, a string.
    pub id: Option<&'a str>,
    /// `data.vehicleId`, if it is one.
    pub vehicle_id: Option<&'a str>,
    /// `data.status`, a string.
    pub status: Option<&'a str>,
    /// `data.lastSeen`, Unix ms.
    pub last_seen: Option<u64>,
}

/// A vehicle's entry in `v2v:presence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Who it is.
    pub who: Who<'a>,
    /// When it registered, Unix ms.
    pub connected_ms: u64,
    /// The node that it is connected to; `None` in entries of existing servers.
    pub node: Option<&'a str>,
    /// When it was last heard of, Unix ms; when it registered, if the entry does not say.
    pub last_seen: u64,
}

labels! {
    /// Why an envelope or an entry was not understood.
    pub enum Malformed for "reason" {
        /// Not a JSON object, or nested deeper than 64 levels.
        Json = "json",
        /// `origin` is missing, or with `ringroad` not a node id.
        Origin = "origin",
        /// `obj` is not an event with data, or is missing, or not what its kind needs.
        Obj = "obj",
        /// `ringroad` has no epoch, worker or time.
        Ringroad = "ringroad",
        /// A kind that is not known.
        Kind = "kind",
        /// A field that the kind or the entry needs is missing or out of range.
        Field = "field",
    }
}

/// Whether `id` may name a node: 1 to 64 of letters, digits, `.`, `_`, `-`.
pub fn is_node_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Whether `name` may be a tenant's: as that of a node. It becomes part of the names of channels and keys.
pub fn is_tenant_name(name: &str) -> bool {
    is_node_id(name)
}

/// Writes an envelope. `obj` is the JSON text of an event, `{"event": NAME, "data": {…}}`.
pub fn write(out: &mut Vec<u8>, source: &Source<'_>, kind: &Kind<'_>, obj: Option<&[u8]>) {
    string(out, "{\"origin\":", source.node);
    if let Some(obj) = obj {
        raw(out, ",\"obj\":");
        out.extend_from_slice(obj);
    }
    number(out, ",\"ringroad\":{\"epoch\":", source.epoch);
    number(out, ",\"worker\":", source.worker.into());
    number(out, ",\"at\":", source.at);
    if let Some(tenant) = source.tenant {
        string(out, ",\"tenant\":", tenant);
    }
    string(out, ",\"kind\":", kind.name());
    match *kind {
        Kind::Event => {}
        Kind::Alert { seq } => number(out, ",\"seq\":", seq),
        Kind::Presence { connected_ms, identity } => {
            number(out, ",\"connectedAt\":", connected_ms);
            if let Some(who) = identity {
                raw(out, ",");
                write_who(out, &who);
            }
        }
        Kind::Beat { head, ref heads, workers, lease_ms, leaving } => {
            number(out, ",\"head\":", head);
            for (at, (tenant, head)) in heads.iter().enumerate() {
                string(out, if at == 0 { ",\"heads\":{" } else { "," }, tenant);
                number(out, ":", *head);
            }
            raw(out, if heads.is_empty() { "" } else { "}" });
            number(out, ",\"workers\":", workers.into());
            number(out, ",\"leaseMs\":", lease_ms);
            raw(out, if leaving { ",\"leaving\":true" } else { ",\"leaving\":false" });
        }
        Kind::Again { of, from, since } => {
            number(out, ",\"of\":", of.into());
            number(out, ",\"from\":", from);
            number(out, ",\"since\":", since);
        }
        Kind::Resent { to } => number(out, ",\"to\":", to),
        Kind::Doubt { vehicle_id, connected_ms } => {
            string(out, ",\"vehicleId\":", vehicle_id);
            number(out, ",\"connectedAt\":", connected_ms);
        }
        Kind::Where { ref vehicle_ids } => {
            for (at, vehicle_id) in vehicle_ids.iter().enumerate() {
                string(out, if at == 0 { ",\"vehicleIds\":[" } else { "," }, vehicle_id);
            }
            raw(out, "]");
        }
        Kind::There { to, ref squares } => {
            number(out, ",\"to\":", to.into());
            for (at, (vehicle_id, square)) in squares.iter().enumerate() {
                string(out, if at == 0 { ",\"squares\":{" } else { "," }, vehicle_id);
                string(out, ":", square);
            }
            raw(out, "}");
        }
        Kind::Direct { number: n, sender, recipient } => {
            number(out, ",\"number\":", n);
            match sender {
                Some(sender) => string(out, ",\"sender\":", sender),
                None => raw(out, ",\"sender\":null"),
            }
            string(out, ",\"recipient\":", recipient);
        }
        Kind::Delivered { to, number: n } | Kind::Offline { to, number: n } => {
            number(out, ",\"to\":", to.into());
            number(out, ",\"number\":", n);
        }
    }
    raw(out, "}}");
}

/// Writes a vehicle's entry in `v2v:presence`.
pub fn write_entry(out: &mut Vec<u8>, entry: &Entry<'_>) {
    raw(out, "{");
    write_who(out, &entry.who);
    number(out, ",\"connectedAt\":", entry.connected_ms);
    if let Some(node) = entry.node {
        string(out, ",\"node\":", node);
        // Of two registrations in one millisecond it decides which is the later.
        string(out, ",\"nodeKey\":", &format!("{:016x}", super::state::key(node)));
    }
    raw(out, ",\"status\":\"online\"");
    number(out, ",\"lastSeen\":", entry.last_seen);
    raw(out, "}");
}

/// Writes an element of the list `v2v:messages`.
pub fn write_message_record(out: &mut Vec<u8>, id: Uuid, sender: &str, recipient: &str, content: &str, ts: u64) {
    string(out, "{\"id\":", id.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
    string(out, ",\"senderId\":", sender);
    string(out, ",\"recipientId\":", recipient);
    string(out, ",\"content\":", content);
    raw(out, ",\"messageType\":\"text\"");
    number(out, ",\"ts\":", ts);
    raw(out, "}");
}

/// `driverName` and `vehicleInfo`, members of some object.
fn write_who(out: &mut Vec<u8>, who: &Who<'_>) {
    string(out, "\"driverName\":", who.driver_name);
    raw(out, ",\"vehicleInfo\":{");
    let info = [("licensePlate", who.license_plate), ("model", who.model), ("color", who.color)];
    let mut first = true;
    for (name, value) in info {
        let Some(value) = value else { continue };
        raw(out, if first { "" } else { "," });
        write_string(out, name);
        string(out, ":", value);
        first = false;
    }
    raw(out, "}");
}

fn raw(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn string(out: &mut Vec<u8>, before: &str, value: &str) {
    raw(out, before);
    write_string(out, value);
}

fn number(out: &mut Vec<u8>, before: &str, value: u64) {
    raw(out, before);
    write_u64(out, value);
}

/// Reads an envelope and hands it to `then`. `payload` is used up: it is parsed in place.
pub fn read<R>(parser: &mut Parser, payload: &mut [u8], then: impl FnOnce(Result<Envelope<'_>, Malformed>) -> R) -> R {
    parsed(parser, payload, |value| then(value.ok_or(Malformed::Json).and_then(envelope)))
}

/// Reads a vehicle's entry in `v2v:presence` and hands it to `then`. `text` is used up: it is parsed in place.
pub fn read_entry<R>(parser: &mut Parser, text: &mut [u8], then: impl FnOnce(Result<Entry<'_>, Malformed>) -> R) -> R {
    parsed(parser, text, |value| then(value.ok_or(Malformed::Json).and_then(entry)))
}

/// Hands the object that `text` is to `then`, or nothing if it is none.
fn parsed<R>(parser: &mut Parser, text: &mut [u8], then: impl FnOnce(Option<Value<'_, '_>>) -> R) -> R {
    let mut then = Some(then);
    let outcome =
        parser.with(text, |value| then.take().map(|then| then(Some(value).filter(|value| value.is_object()))));
    match (outcome, then) {
        (Ok(Some(result)), _) => result,
        (_, Some(then)) => then(None),
        (_, None) => unreachable!("`then` is consumed only where its result is returned"),
    }
}

fn envelope<'i>(value: Value<'_, 'i>) -> Result<Envelope<'i>, Malformed> {
    let origin = value.field("origin").ok_or(Malformed::Origin)?;
    let origin = match (origin.as_str(), origin.as_f64()) {
        (Some(text), _) => Origin::Text(text),
        (None, Some(number)) => Origin::Number(number),
        (None, None) => return Err(Malformed::Origin),
    };
    let obj = value.field("obj").filter(|obj| !obj.is_null()).map(obj).transpose()?;
    let mut tenant = None;
    let ringroad = match value.field("ringroad") {
        None => None,
        Some(_) if !matches!(origin, Origin::Text(node) if is_node_id(node)) => return Err(Malformed::Origin),
        Some(ringroad) => {
            let source = |name| whole(ringroad, name).map_err(|_| Malformed::Ringroad);
            let worker = u16::try_from(source("worker")?).map_err(|_| Malformed::Ringroad)?;
            if let Some(name) = ringroad.field("tenant") {
                tenant = Some(name.as_str().filter(|name| is_tenant_name(name)).ok_or(Malformed::Ringroad)?);
            }
            Some((source("epoch")?, worker, source("at")?, kind(ringroad, obj.as_ref())?))
        }
    };
    Ok(Envelope { origin, obj, ringroad, tenant })
}

fn obj<'i>(value: Value<'_, 'i>) -> Result<Obj<'i>, Malformed> {
    let event = value.field("event").and_then(Value::as_str).ok_or(Malformed::Obj)?;
    let data = value.field("data").filter(|data| data.is_object()).ok_or(Malformed::Obj)?;
    let mut text = Vec::with_capacity(256);
    value.write(&mut text);
    let of = |name| data.field(name).and_then(Value::as_str);
    Ok(Obj {
        event,
        text,
        id: of("id"),
        vehicle_id: of("vehicleId").filter(|id| is_vehicle_id(id)),
        status: of("status"),
        last_seen: whole(data, "lastSeen").ok(),
    })
}

impl Kind<'_> {
    fn name(&self) -> &'static str {
        match self {
            Kind::Event => "event",
            Kind::Alert { .. } => "alert",
            Kind::Presence { .. } => "presence",
            Kind::Beat { .. } => "beat",
            Kind::Again { .. } => "again",
            Kind::Resent { .. } => "resent",
            Kind::Doubt { .. } => "doubt",
            Kind::Where { .. } => "where",
            Kind::There { .. } => "there",
            Kind::Direct { .. } => "direct",
            Kind::Delivered { .. } => "delivered",
            Kind::Offline { .. } => "offline",
        }
    }
}

fn kind<'i>(ringroad: Value<'_, 'i>, obj: Option<&Obj<'i>>) -> Result<Kind<'i>, Malformed> {
    let whole = |name| whole(ringroad, name);
    let small = |name| whole(name).and_then(|number| u16::try_from(number).map_err(|_| Malformed::Field));
    let from_one = |name| whole(name).and_then(|number| if number == 0 { Err(Malformed::Field) } else { Ok(number) });
    match ringroad.field("kind").and_then(Value::as_str).ok_or(Malformed::Kind)? {
        "event" => obj.map(|_| Kind::Event).ok_or(Malformed::Obj),
        "alert" => {
            obj.filter(|obj| obj.event == "emergency_alert" && obj.id.is_some()).ok_or(Malformed::Obj)?;
            Ok(Kind::Alert { seq: from_one("seq")? })
        }
        "presence" => {
            let obj = obj.filter(|obj| obj.event == "presence_update" && obj.vehicle_id.is_some());
            let status = obj.filter(|obj| obj.last_seen.is_some()).and_then(|obj| obj.status);
            let identity = match status {
                Some("online") => Some(who(ringroad)?),
                Some("offline" | "timeout") => None,
                _ => return Err(Malformed::Obj),
            };
            Ok(Kind::Presence { connected_ms: whole("connectedAt")?, identity })
        }
        "beat" => Ok(Kind::Beat {
            head: whole("head")?,
            heads: ringroad.field("heads").map_or(Ok(Vec::new()), heads)?,
            workers: small("workers")?,
            lease_ms: whole("leaseMs")?,
            leaving: ringroad.field("leaving").and_then(Value::as_bool).ok_or(Malformed::Field)?,
        }),
        "again" => Ok(Kind::Again { of: small("of")?, from: from_one("from")?, since: whole("since")? }),
        "resent" => Ok(Kind::Resent { to: whole("to")? }),
        "doubt" => {
            let vehicle_id = vehicle_id(ringroad.field("vehicleId").ok_or(Malformed::Field)?)?;
            Ok(Kind::Doubt { vehicle_id, connected_ms: whole("connectedAt")? })
        }
        "where" => {
            let vehicle_ids = ringroad.field("vehicleIds").and_then(Value::items).ok_or(Malformed::Field)?;
            Ok(Kind::Where { vehicle_ids: some(vehicle_ids.map(vehicle_id))? })
        }
        "there" => {
            let squares = ringroad.field("squares").ok_or(Malformed::Field)?.fields().map(|(id, square)| {
                let square = square.as_str().filter(|name| is_square_name(name) && is_vehicle_id(id));
                square.map(|square| (id, square)).ok_or(Malformed::Field)
            });
            Ok(Kind::There { to: small("to")?, squares: some(squares)? })
        }
        "direct" => {
            obj.ok_or(Malformed::Obj)?;
            let sender = ringroad.field("sender").ok_or(Malformed::Field)?;
            let sender = if sender.is_null() { None } else { Some(vehicle_id(sender)?) };
            let recipient = vehicle_id(ringroad.field("recipient").ok_or(Malformed::Field)?)?;
            Ok(Kind::Direct { number: whole("number")?, sender, recipient })
        }
        "delivered" => Ok(Kind::Delivered { to: small("to")?, number: whole("number")? }),
        "offline" => Ok(Kind::Offline { to: small("to")?, number: whole("number")? }),
        _ => Err(Malformed::Kind),
    }
}

/// The newest number of each tenant's alerts.
fn heads<'i>(value: Value<'_, 'i>) -> Result<Vec<(&'i str, u64)>, Malformed> {
    let read = |(tenant, head): (&'i str, _)| {
        let tenant = is_tenant_name(tenant).then_some(tenant).ok_or(Malformed::Field)?;
        Ok((tenant, whole_of(Some(head))?))
    };
    let heads: Vec<_> = value.fields().take(limits::HEADS_MAX + 1).map(read).collect::<Result<_, _>>()?;
    if value.is_object() && heads.len() <= limits::HEADS_MAX { Ok(heads) } else { Err(Malformed::Field) }
}

fn entry<'i>(value: Value<'_, 'i>) -> Result<Entry<'i>, Malformed> {
    let connected_ms = whole(value, "connectedAt")?;
    let node = match value.field("node") {
        Some(node) if !node.is_null() => Some(node.as_str().filter(|id| is_node_id(id)).ok_or(Malformed::Field)?),
        _ => None,
    };
    let last_seen = match value.field("lastSeen") {
        Some(last_seen) if !last_seen.is_null() => whole(value, "lastSeen")?,
        _ => connected_ms,
    };
    Ok(Entry { who: who(value)?, connected_ms, node, last_seen })
}

/// `driverName` and `vehicleInfo` of an object, as a registration may hold them.
fn who<'i>(value: Value<'_, 'i>) -> Result<Who<'i>, Malformed> {
    let driver_name = value
        .field("driverName")
        .and_then(Value::as_str)
        .filter(|name| (1..=64).contains(&name.chars().count()))
        .ok_or(Malformed::Field)?;
    let info = match value.field("vehicleInfo") {
        Some(info) if info.is_object() => info,
        Some(info) if !info.is_null() => return Err(Malformed::Field),
        _ => return Ok(Who { driver_name, ..Who::default() }),
    };
    let text = |name| match info.field(name) {
        Some(text) if !text.is_null() => {
            text.as_str().filter(|text| text.chars().count() <= 64).map(Some).ok_or(Malformed::Field)
        }
        _ => Ok(None),
    };
    Ok(Who { driver_name, license_plate: text("licensePlate")?, model: text("model")?, color: text("color")? })
}

fn vehicle_id<'i>(value: Value<'_, 'i>) -> Result<&'i str, Malformed> {
    value.as_str().filter(|id| is_vehicle_id(id)).ok_or(Malformed::Field)
}

/// At least one, and not too many.
fn some<T>(all: impl Iterator<Item = Result<T, Malformed>>) -> Result<Vec<T>, Malformed> {
    let read: Vec<T> = all.take(limits::WHERE_VEHICLES_MAX + 1).collect::<Result<_, _>>()?;
    if (1..=limits::WHERE_VEHICLES_MAX).contains(&read.len()) { Ok(read) } else { Err(Malformed::Field) }
}

/// Whether a name may be that of a square, a geohash of four characters.
fn is_square_name(name: &str) -> bool {
    name.len() == 4 && name.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
}

/// A number from 0 that a double holds whole.
fn whole(value: Value<'_, '_>, name: &str) -> Result<u64, Malformed> {
    whole_of(value.field(name))
}

fn whole_of(value: Option<Value<'_, '_>>) -> Result<u64, Malformed> {
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    let number = value.and_then(Value::as_f64).filter(|number| (0.0..=WHOLE_MAX).contains(number));
    number.map(|number| number as u64).ok_or(Malformed::Field)
}

#[cfg(test)]
mod tests;
