//! How the vehicles of the soak speak. All else that it looks at is the same in either dialect.

use std::collections::BTreeMap;

use ringroad::wire::slim;
use ringroad::wire::state::{self, FLAG_GONE, Header, State, key};
use serde_json::{Value, json};
use tungstenite::Message;

#[derive(Clone, Copy)]
pub enum Dialect {
    /// Sections 2 and 4 of the protocol.
    V2vJson,
    /// Section 12.
    Slim,
}

/// What a message says of one vehicle.
pub enum Said {
    /// Its latitude, 1e-7 degree.
    At(i32),
    /// It has left the view.
    Gone,
}

impl Dialect {
    /// What is offered at the upgrade.
    pub fn subprotocol(self) -> Option<&'static str> {
        match self {
            Dialect::V2vJson => None,
            Dialect::Slim => Some(slim::SUBPROTOCOL),
        }
    }

    /// A vehicle's report of where it is.
    pub fn position(self, id: &str, lat_e7: i32, lon_e7: i32) -> Message {
        match self {
            Dialect::V2vJson => {
                let [lat, lon] = [lat_e7, lon_e7].map(|e7| f64::from(e7) / 1e7);
                event("location_update", json!({"vehicleId": id, "lat": lat, "lon": lon}))
            }
            Dialect::Slim => {
                let (kind, record_size) = (slim::STATES_KIND, state::RECORD_BYTES as u8);
                let header = Header { kind, record_size, flags: 0, count: 1, epoch: 0, base_unix_ms: 0 };
                let state = State { lat_e7, lon_e7, ..State::unavailable(key(id)) };
                Message::binary([&header.encode()[..], &state::encode(&state)].concat())
            }
        }
    }

    /// What a message says of others. `names`: the vehicles that may be near, by their keys.
    pub fn positions(self, message: &Message, names: &BTreeMap<u64, String>) -> Vec<(String, Said)> {
        match (self, message) {
            // Most of what goes to everyone need not be looked at further.
            (Dialect::V2vJson, Message::Text(text)) if text.starts_with(r#"{"event":"peer_location""#) => {
                let event: Value = serde_json::from_str(text).expect("events are JSON");
                let lat = event["data"]["lat"].as_f64().expect("a number");
                let id = event["data"]["vehicleId"].as_str().expect("an id").to_owned();
                vec![(id, Said::At((lat * 1e7).round() as i32))]
            }
            (Dialect::Slim, Message::Binary(frame)) => {
                let (_, states) = slim::states(frame).expect("a state frame").expect("of a known kind");
                let said =
                    |state: State| if state.flags & FLAG_GONE != 0 { Said::Gone } else { Said::At(state.lat_e7) };
                states.map(|state| (names[&state.key].clone(), said(state))).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// A message that is the same in either dialect.
pub fn event(name: &str, data: Value) -> Message {
    Message::text(json!({"event": name, "data": data}).to_string())
}
