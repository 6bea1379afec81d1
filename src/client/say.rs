//! What a client says to a gateway. Shapes and units: `docs/PROTOCOL.md`, sections 2, 10 and 12.

use super::{Client, Dialect};
use crate::wire::frame::Opcode;
use crate::wire::json::{Edges, Terms};
use crate::wire::slim;
use crate::wire::state::{self, Header, RECORD_BYTES, State};
use crate::wire::text::{write_decimal, write_f64, write_string, write_u64};
use crate::wire::units;

/// Who a vehicle is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registration<'a> {
    /// 3 to 40 of `A–Z a–z 0–9 . _ -`.
    pub vehicle_id: &'a str,
    /// 1 to 64 characters.
    pub driver_name: &'a str,
    /// At most 64 characters, as the following ones.
    pub license_plate: Option<&'a str>,
    /// Of the vehicle.
    pub model: Option<&'a str>,
    /// Of the vehicle.
    pub color: Option<&'a str>,
    /// Where the gateway wants a token.
    pub auth_token: Option<&'a str>,
}

impl Client {
    /// Queues an event as it is, JSON text.
    pub fn say(&mut self, text: &str) {
        self.send(Opcode::Text, text.as_bytes());
    }

    /// Queues our goodbye. Nothing can be said after it.
    pub fn goodbye(&mut self, code: u16) {
        self.send(Opcode::Close, &code.to_be_bytes());
        self.said_goodbye = true;
    }

    /// Says which vehicle this is.
    pub fn register(&mut self, who: &Registration<'_>) {
        self.event("register", |data| {
            data.text("vehicleId", who.vehicle_id);
            data.text("driverName", who.driver_name);
            let info = [("licensePlate", who.license_plate), ("model", who.model), ("color", who.color)];
            if info.iter().any(|(_, value)| value.is_some()) {
                data.object("vehicleInfo", |data| {
                    info.iter().filter_map(|(name, value)| Some((name, (*value)?))).for_each(|(name, value)| {
                        data.text(name, value);
                    });
                });
            }
            if let Some(token) = who.auth_token {
                data.text("authToken", token);
            }
        });
    }

    /// Says that a vehicle with nothing to report is there.
    pub fn heartbeat(&mut self) {
        self.event("heartbeat", |_| {});
    }

    /// Reports where the vehicle is. `state` is what it measured at `unix_ms` by its own clock, and has its key; its
    /// position has to be there. In JSON, `vehicle_id` says whose it is, and what that dialect has no word for stays out.
    pub fn report(&mut self, vehicle_id: &str, state: &State, unix_ms: u64) {
        match self.dialect {
            Dialect::Binary => {
                let header = Header {
                    kind: slim::STATES_KIND,
                    record_size: RECORD_BYTES as u8,
                    flags: 0,
                    count: 1,
                    epoch: 0,
                    base_unix_ms: unix_ms,
                };
                let mut message = std::mem::take(&mut self.scratch);
                message.clear();
                message.extend_from_slice(&header.encode());
                message.extend_from_slice(&state::encode(&State { sec_mark: units::sec_mark(unix_ms), ..*state }));
                self.send(Opcode::Binary, &message);
                self.scratch = message;
            }
            Dialect::Json => self.event("location_update", |data| {
                data.text("vehicleId", vehicle_id);
                data.decimal("lat", state.lat_e7.into(), 7);
                data.decimal("lon", state.lon_e7.into(), 7);
                if state.speed < units::SPEED_UNAVAILABLE {
                    data.decimal("speed", i64::from(state.speed) * 2, 2);
                }
                if state.heading < units::HEADING_UNAVAILABLE {
                    data.decimal("heading", i64::from(state.heading) * 125, 4);
                }
                if state.elevation != units::ELEVATION_UNAVAILABLE {
                    data.decimal("elevation", i64::from(state.elevation) - 4096, 1);
                }
                if state.accuracy != units::ACCURACY_UNAVAILABLE {
                    data.decimal("accuracy", i64::from(state.accuracy) * 5, 2);
                }
                write_u64(data.member("ts"), unix_ms);
            }),
        }
    }

    /// Asks for everything within an area, instead of a former area or circle; `None` ends it.
    pub fn view(&mut self, edges: Option<Edges>, terms: &Terms<'_>) {
        self.event("view", |data| {
            if let Some(edges) = edges {
                data.decimal("south", edges.south_e7.into(), 7);
                data.decimal("west", edges.west_e7.into(), 7);
                data.decimal("north", edges.north_e7.into(), 7);
                data.decimal("east", edges.east_e7.into(), 7);
            }
            data.terms(terms);
        });
    }

    /// Asks for everything within a distance of its own vehicle, instead of a former area or circle; `None` ends it.
    pub fn near(&mut self, radius_m: Option<f64>, terms: &Terms<'_>) {
        self.event("near", |data| {
            if let Some(radius_m) = radius_m {
                write_f64(data.member("radiusM"), radius_m);
            }
            data.terms(terms);
        });
    }

    /// Asks for certain vehicles, wherever they are, instead of the former ones; nobody ends it.
    pub fn follow<'a>(&mut self, vehicle_ids: impl IntoIterator<Item = &'a str>, terms: &Terms<'_>) {
        self.event("follow", |data| {
            let out = data.member("vehicleIds");
            out.push(b'[');
            for (at, id) in vehicle_ids.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_string(out, id);
            }
            out.push(b']');
            data.terms(terms);
        });
    }

    fn event(&mut self, name: &str, data: impl FnOnce(&mut Object<'_>)) {
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        text.extend_from_slice(b"{\"event\":");
        write_string(&mut text, name);
        text.extend_from_slice(b",\"data\":");
        Object::write(&mut text, data);
        text.push(b'}');
        self.send(Opcode::Text, &text);
        self.scratch = text;
    }
}

/// A JSON object that is being written.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl Object<'_> {
    fn write(out: &mut Vec<u8>, members: impl FnOnce(&mut Object<'_>)) {
        out.push(b'{');
        members(&mut Object { out, is_empty: true });
        out.push(b'}');
    }

    /// Writes a key; the value is to follow.
    fn member(&mut self, key: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        write_string(self.out, key);
        self.out.push(b':');
        self.out
    }

    fn text(&mut self, key: &str, value: &str) {
        write_string(self.member(key), value);
    }

    fn decimal(&mut self, key: &str, value: i64, decimals: u32) {
        write_decimal(self.member(key), value, decimals);
    }

    fn object(&mut self, key: &str, members: impl FnOnce(&mut Object<'_>)) {
        Object::write(self.member(key), members);
    }

    fn terms(&mut self, terms: &Terms<'_>) {
        if let Some(hz) = terms.max_hz {
            write_f64(self.member("maxHz"), hz);
        }
        if let Some(token) = terms.auth_token {
            self.text("authToken", token);
        }
    }
}
