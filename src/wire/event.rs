//! What the gateway tells clients: [`Event`] to JSON text.

mod name;

use std::sync::Arc;

use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::error::ErrorCode;
use super::json::{Edges, EventKind};
use super::state::Sample;
use super::text::{write_decimal, write_string, write_u64};
use super::units;

pub use name::EventName;

/// Whether a vehicle is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Registered.
    Online,
    /// Disconnected.
    Offline,
    /// Silent for too long.
    Timeout,
}

impl Status {
    /// Its word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Online => "online",
            Status::Offline => "offline",
            Status::Timeout => "timeout",
        }
    }

    /// The status of a word.
    pub fn from_name(name: &str) -> Option<Status> {
        [Status::Online, Status::Offline, Status::Timeout].into_iter().find(|status| status.as_str() == name)
    }
}

/// Who a vehicle is, as it registered. Written once, shared by every worker of the host.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    /// `vehicleId`
    pub vehicle_id: Box<str>,
    /// `driverName`
    pub driver_name: Box<str>,
    /// `licensePlate`
    pub license_plate: Option<Box<str>>,
    /// `model`
    pub model: Option<Box<str>>,
    /// `color`
    pub color: Option<Box<str>>,
    /// When it registered, ms since the Unix epoch.
    pub connected_ms: u64,
}

impl Identity {
    /// The vehicle's key.
    pub fn key(&self) -> u64 {
        super::state::key(&self.vehicle_id)
    }

    /// A hash of what others are told of it: it changes when that does.
    pub fn fingerprint(&self) -> u32 {
        let optional = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| xxh3_64(text.as_bytes()) | 1);
        let parts = [
            xxh3_64(self.vehicle_id.as_bytes()),
            xxh3_64(self.driver_name.as_bytes()),
            optional(&self.license_plate),
            optional(&self.model),
            optional(&self.color),
        ];
        let hash = parts
            .into_iter()
            .fold(0u64, |hash, part| (hash.rotate_left(23) ^ part).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        (hash >> 32) as u32
    }

    /// Writes `vehicleInfo`, the fields that are there.
    pub fn write_info(&self, out: &mut Vec<u8>) {
        let fields = [("licensePlate", &self.license_plate), ("model", &self.model), ("color", &self.color)];
        let mut before = "{";
        for (name, value) in fields {
            let Some(value) = value else { continue };
            raw(out, std::mem::replace(&mut before, ","));
            write_string(out, name);
            string(out, ":", value);
        }
        raw(out, if before == "{" { "{}" } else { "}" });
    }
}

/// A vehicle's motion in the units of SAE J2735, as far as its sender gave it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Motion {
    /// 1e-7 degree.
    pub lat_e7: i32,
    /// 1e-7 degree.
    pub lon_e7: i32,
    /// 0.02 m/s.
    pub speed: Option<u16>,
    /// 0.0125 degree clockwise from north.
    pub heading: Option<u16>,
    /// 0.1 m.
    pub elevation: Option<i32>,
    /// 0.01 m.
    pub accuracy: Option<u32>,
    /// ms since the Unix epoch.
    pub ts: u64,
}

impl Motion {
    /// The motion in a sample.
    pub fn of(sample: &Sample) -> Motion {
        let state = sample.state();
        Motion {
            lat_e7: state.lat_e7,
            lon_e7: state.lon_e7,
            speed: Some(state.speed).filter(|speed| *speed < units::SPEED_UNAVAILABLE),
            heading: Some(state.heading).filter(|heading| *heading < units::HEADING_UNAVAILABLE),
            elevation: Some(state.elevation)
                .filter(|elevation| *elevation != units::ELEVATION_UNAVAILABLE)
                .map(|elevation| i32::from(elevation) - 4096),
            accuracy: sample.accuracy,
            ts: sample.ts,
        }
    }
}

/// One line of a `nearby_vehicles` list.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// Who.
    pub identity: Arc<Identity>,
    /// How far, whole metres.
    pub distance_m: u32,
}

/// What a client is told. Shapes and units: `docs/PROTOCOL.md`.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// First on every connection.
    Connected {
        /** now */
        ts: u64,
        /** of this connection */
        session: Uuid,
    },
    /// The vehicle is bound to this connection.
    Registered {
        /** whose */
        vehicle_id: &'a str,
    },
    /// The gateway will end.
    ServerShutdown {
        /** after so long it closes this connection */
        reconnect_in_ms: u64,
        /** now */
        ts: u64,
    },
    /// Answer to `heartbeat`.
    HeartbeatAck {
        /** now */
        ts: u64,
    },
    /// A vehicle came or went.
    PresenceUpdate {
        /** whose */
        vehicle_id: &'a str,
        /** how */
        status: Status,
        /** ms since the epoch */
        last_seen: u64,
    },
    /// Who is near, nearest first.
    NearbyVehicles {
        /** nearest first */
        vehicles: &'a [Neighbour],
        /** metres */
        radius_m: f64,
    },
    /// Somebody came near, or is no longer.
    ProximityEvent {
        /** unique */
        id: Uuid,
        /** who is told */
        vehicle_id: &'a str,
        /** about whom */
        peer_id: &'a str,
        /** whole metres; `None` is an exit */
        distance_m: Option<u32>,
        /** now */
        ts: u64,
    },
    /// A neighbour moved.
    PeerLocation {
        /** who */
        vehicle_id: &'a str,
        /** where */
        motion: &'a Motion,
    },
    /// Text from another vehicle.
    ReceiveMessage {
        /** unique */
        id: Uuid,
        /** from */
        sender: &'a str,
        /** to */
        recipient: &'a str,
        /** text */
        content: &'a str,
        /** now */
        ts: u64,
        /** over the radio bridge */
        via_radio: bool,
    },
    /// Help is needed.
    EmergencyAlert {
        /** receivers drop a second one */
        id: Uuid,
        /** from */
        sender: &'a str,
        /** JSON object, or `None` for null */
        info: Option<&'a [u8]>,
        /** now */
        ts: u64,
        /** over the radio bridge */
        via_radio: bool,
    },
    /// Text from the radio to everyone.
    RadioText {
        /** short id or vehicle id */
        from: &'a str,
        /** text */
        content: &'a str,
    },
    /// Another vehicle's event, passed on.
    Relayed {
        /** which */
        kind: EventKind,
        /** its data */
        data: &'a [u8],
    },
    /// Who belongs to a key, before its first record.
    VehicleIdentity {
        /** of the records */
        key: u64,
        /** whose */
        identity: &'a Identity,
    },
    /// A vehicle has left the view.
    PeerGone {
        /** who */
        vehicle_id: &'a str,
    },
    /// Answer to `view`, `near` and `follow`: what the connection watches now.
    Watching {
        /** counts them */
        epoch: u64,
        /** how many are sent */
        vehicles: usize,
        /** there are more */
        cut: bool,
        /** the area */
        view: Option<Edges>,
        /** metres around the own vehicle */
        near_m: Option<f64>,
        /** ids in the list */
        follow: usize,
    },
    /// The token of this connection ends soon, and the connection with it.
    TokenExpiring {
        /** ms since the epoch */
        expires_at: u64,
        /** from now */
        expires_in_ms: u64,
    },
    /// A message was not accepted.
    Error {
        /** why */
        code: ErrorCode,
        /** in words */
        message: &'a str,
        /** now */
        ts: u64,
        /** JSON object */
        details: Option<&'a [u8]>,
    },
}

impl Event<'_> {
    /// What it is called on the wire.
    pub fn name(&self) -> EventName {
        match *self {
            Event::Connected { .. } => EventName::Connected,
            Event::Registered { .. } => EventName::Registered,
            Event::ServerShutdown { .. } => EventName::ServerShutdown,
            Event::HeartbeatAck { .. } => EventName::HeartbeatAck,
            Event::PresenceUpdate { .. } => EventName::PresenceUpdate,
            Event::NearbyVehicles { .. } => EventName::NearbyVehicles,
            Event::ProximityEvent { .. } => EventName::ProximityEvent,
            Event::PeerLocation { .. } => EventName::PeerLocation,
            Event::ReceiveMessage { .. } => EventName::ReceiveMessage,
            Event::EmergencyAlert { .. } => EventName::EmergencyAlert,
            Event::RadioText { .. } => EventName::RadioText,
            Event::VehicleIdentity { .. } => EventName::VehicleIdentity,
            Event::PeerGone { .. } => EventName::PeerGone,
            Event::Watching { .. } => EventName::Watching,
            Event::TokenExpiring { .. } => EventName::TokenExpiring,
            Event::Error { .. } => EventName::Error,
            Event::Relayed { kind, .. } => kind.into(),
        }
    }

    /// Writes the event as JSON text.
    pub fn write(&self, out: &mut Vec<u8>) {
        let name = self.name().as_str();
        match *self {
            Event::Connected { ts, session } => {
                begin(out, name);
                number(out, "ts", ts);
                uuid(out, ",\"sessionId\":", session);
            }
            Event::TokenExpiring { expires_at, expires_in_ms } => {
                begin(out, name);
                number(out, "expiresAt", expires_at);
                raw(out, ",");
                number(out, "expiresInMs", expires_in_ms);
            }
            Event::Registered { vehicle_id } => {
                begin(out, name);
                string(out, "\"vehicleId\":", vehicle_id);
            }
            Event::ServerShutdown { reconnect_in_ms, ts } => {
                begin(out, name);
                number(out, "reconnectInMs", reconnect_in_ms);
                raw(out, ",");
                number(out, "ts", ts);
            }
            Event::HeartbeatAck { ts } => {
                begin(out, name);
                number(out, "ts", ts);
            }
            Event::PresenceUpdate { vehicle_id, status, last_seen } => {
                begin(out, name);
                string(out, "\"vehicleId\":", vehicle_id);
                string(out, ",\"status\":", status.as_str());
                raw(out, ",");
                number(out, "lastSeen", last_seen);
            }
            Event::NearbyVehicles { vehicles, radius_m } => {
                begin(out, name);
                raw(out, "\"vehicles\":[");
                for (at, neighbour) in vehicles.iter().enumerate() {
                    raw(out, if at == 0 { "{" } else { ",{" });
                    string(out, "\"vehicleId\":", &neighbour.identity.vehicle_id);
                    string(out, ",\"driverName\":", &neighbour.identity.driver_name);
                    raw(out, ",");
                    number(out, "distance", neighbour.distance_m.into());
                    optional(out, ",\"model\":", neighbour.identity.model.as_deref());
                    optional(out, ",\"color\":", neighbour.identity.color.as_deref());
                    raw(out, "}");
                }
                raw(out, "],\"radius\":");
                super::text::write_f64(out, radius_m);
            }
            Event::ProximityEvent { id, vehicle_id, peer_id, distance_m, ts } => {
                begin(out, name);
                uuid(out, "\"id\":", id);
                string(out, ",\"vehicleId\":", vehicle_id);
                string(out, ",\"peerVehicleId\":", peer_id);
                match distance_m {
                    Some(metres) => {
                        raw(out, ",\"eventType\":\"enter\",\"distanceM\":");
                        write_u64(out, metres.into());
                    }
                    None => raw(out, ",\"eventType\":\"exit\",\"distanceM\":null"),
                }
                raw(out, ",");
                number(out, "ts", ts);
            }
            Event::PeerLocation { vehicle_id, motion } => {
                begin(out, name);
                string(out, "\"vehicleId\":", vehicle_id);
                decimal(out, ",\"lat\":", motion.lat_e7.into(), 7);
                decimal(out, ",\"lon\":", motion.lon_e7.into(), 7);
                raw(out, ",");
                number(out, "ts", motion.ts);
                raw(out, ",\"coalesced\":true");
                if let Some(speed) = motion.speed {
                    decimal(out, ",\"speed\":", i64::from(speed) * 2, 2);
                }
                if let Some(heading) = motion.heading {
                    decimal(out, ",\"heading\":", i64::from(heading) * 125, 4);
                }
                if let Some(elevation) = motion.elevation {
                    decimal(out, ",\"elevation\":", elevation.into(), 1);
                }
                if let Some(accuracy) = motion.accuracy {
                    decimal(out, ",\"accuracy\":", accuracy.into(), 2);
                }
            }
            Event::ReceiveMessage { id, sender, recipient, content, ts, via_radio } => {
                begin(out, name);
                uuid(out, "\"id\":", id);
                string(out, ",\"senderId\":", sender);
                string(out, ",\"recipientId\":", recipient);
                string(out, ",\"content\":", content);
                raw(out, ",");
                number(out, "ts", ts);
                raw(out, if via_radio { ",\"via\":\"radio\"" } else { "" });
            }
            Event::EmergencyAlert { id, sender, info, ts, via_radio } => {
                begin(out, name);
                uuid(out, "\"id\":", id);
                string(out, ",\"senderId\":", sender);
                raw(out, ",\"vehicleInfo\":");
                out.extend_from_slice(info.unwrap_or(b"null"));
                raw(out, ",");
                number(out, "ts", ts);
                raw(out, if via_radio { ",\"via\":\"radio\"" } else { "" });
            }
            Event::RadioText { from, content } => {
                begin(out, name);
                string(out, "\"from\":", from);
                string(out, ",\"content\":", content);
            }
            Event::Relayed { data, .. } => {
                raw(out, "{\"event\":");
                write_string(out, name);
                raw(out, ",\"data\":");
                out.extend_from_slice(data);
                raw(out, "}");
                return;
            }
            Event::VehicleIdentity { key, identity } => {
                begin(out, name);
                raw(out, "\"key\":\"");
                super::text::write_hex(out, key);
                string(out, "\",\"vehicleId\":", &identity.vehicle_id);
                string(out, ",\"driverName\":", &identity.driver_name);
                raw(out, ",\"vehicleInfo\":");
                identity.write_info(out);
            }
            Event::PeerGone { vehicle_id } => {
                begin(out, name);
                string(out, "\"vehicleId\":", vehicle_id);
            }
            Event::Watching { epoch, vehicles, cut, view, near_m, follow } => {
                begin(out, name);
                number(out, "epoch", epoch);
                raw(out, ",");
                number(out, "vehicles", vehicles as u64);
                raw(out, if cut { ",\"cut\":true" } else { ",\"cut\":false" });
                match view {
                    Some(edges) => {
                        decimal(out, ",\"view\":{\"south\":", edges.south_e7.into(), 7);
                        decimal(out, ",\"west\":", edges.west_e7.into(), 7);
                        decimal(out, ",\"north\":", edges.north_e7.into(), 7);
                        decimal(out, ",\"east\":", edges.east_e7.into(), 7);
                        raw(out, "}");
                    }
                    None => raw(out, ",\"view\":null"),
                }
                raw(out, ",\"nearM\":");
                match near_m {
                    Some(metres) => super::text::write_f64(out, metres),
                    None => raw(out, "null"),
                }
                raw(out, ",");
                number(out, "follow", follow as u64);
            }
            Event::Error { code, message, ts, details } => {
                begin(out, name);
                string(out, "\"code\":", code.as_str());
                string(out, ",\"message\":", message);
                raw(out, ",");
                number(out, "ts", ts);
                if let Some(details) = details {
                    raw(out, ",\"details\":");
                    out.extend_from_slice(details);
                }
            }
        }
        raw(out, "}}");
    }
}

fn begin(out: &mut Vec<u8>, name: &str) {
    raw(out, "{\"event\":\"");
    raw(out, name);
    raw(out, "\",\"data\":{");
}

fn raw(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn string(out: &mut Vec<u8>, before: &str, value: &str) {
    raw(out, before);
    write_string(out, value);
}

fn optional(out: &mut Vec<u8>, before: &str, value: Option<&str>) {
    raw(out, before);
    match value {
        Some(value) => write_string(out, value),
        None => raw(out, "null"),
    }
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    raw(out, "\"");
    raw(out, name);
    raw(out, "\":");
    write_u64(out, value);
}

fn decimal(out: &mut Vec<u8>, before: &str, value: i64, decimals: u32) {
    raw(out, before);
    write_decimal(out, value, decimals);
}

fn uuid(out: &mut Vec<u8>, before: &str, id: Uuid) {
    let mut text = Uuid::encode_buffer();
    raw(out, before);
    raw(out, "\"");
    raw(out, id.hyphenated().encode_lower(&mut text));
    raw(out, "\"");
}

#[cfg(test)]
mod tests;
