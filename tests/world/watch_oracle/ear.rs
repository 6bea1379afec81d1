//! What a client has received, in the model's words.

use std::sync::LazyLock;

use ringroad::sim::Heard;
use ringroad::wire::slim::{self, COMPLETE, CUT, TIERED};
use ringroad::wire::state::{FLAG_EMERGENCY, FLAG_GONE, State, key};
use serde_json::Value;

use super::area::E7;
use super::plan::VEHICLES;

/// One thing that a client was told.
#[derive(Debug)]
pub enum Word {
    /// A state frame begins.
    Frame {
        epoch: u16,
        base_ms: u64,
        cut: bool,
        tiered: bool,
    },
    State(Told),
    Gone(usize),
    Named(usize, String),
    /// The state frame that has just ended says so.
    Complete,
    /// Another vehicle is not a neighbour any more.
    Exit(usize),
    Watching(Value),
}

/// A state, as it was told.
#[derive(Debug)]
pub struct Told {
    pub vehicle: usize,
    pub e7: E7,
    /// The number of the fix, which travels as its speed.
    pub fix: usize,
    pub ts: Option<u64>,
    /// JSON does not say.
    pub emergency: Option<bool>,
    /// What the time was resolved with, in `ringroad.v1`.
    pub base_ms: Option<u64>,
}

static VEHICLE_BY_KEY: LazyLock<Vec<u64>> =
    LazyLock::new(|| (0..VEHICLES).map(|vehicle| key(&format!("veh-v{vehicle}"))).collect());

fn of_key(key: u64) -> Result<usize, String> {
    VEHICLE_BY_KEY.iter().position(|known| *known == key).ok_or(format!("nobody has the key {key:016x}"))
}

fn of_id(id: &Value) -> Result<usize, String> {
    let number = id.as_str().and_then(|id| id.strip_prefix("veh-v")?.parse().ok());
    number.ok_or(format!("nobody is called {id}"))
}

/// A message, word by word.
pub fn words(heard: &Heard) -> Result<Vec<Word>, String> {
    match heard {
        Heard::Text(text) => Ok(event(text)?.into_iter().collect()),
        Heard::Binary(frame) => states(frame),
    }
}

fn event(text: &str) -> Result<Option<Word>, String> {
    let event: Value = serde_json::from_str(text).map_err(|error| format!("{error}: {text}"))?;
    let data = &event["data"];
    Ok(match event["event"].as_str().unwrap_or_default() {
        "peer_location" => {
            let e7 = |field: &str| (data[field].as_f64().unwrap_or(f64::NAN) * 1e7).round() as i32;
            Some(Word::State(Told {
                vehicle: of_id(&data["vehicleId"])?,
                e7: (e7("lat"), e7("lon")),
                fix: (data["speed"].as_f64().unwrap_or(f64::NAN) * 50.0).round() as usize,
                ts: data["ts"].as_u64(),
                emergency: None,
                base_ms: None,
            }))
        }
        "peer_gone" => Some(Word::Gone(of_id(&data["vehicleId"])?)),
        "vehicle_identity" => {
            let vehicle = of_id(&data["vehicleId"])?;
            if data["key"].as_str() != Some(&format!("{:016x}", VEHICLE_BY_KEY[vehicle])) {
                return Err(format!("not its key: {text}"));
            }
            Some(Word::Named(vehicle, data["driverName"].as_str().unwrap_or_default().into()))
        }
        "proximity_event" if data["eventType"] == "exit" => Some(Word::Exit(of_id(&data["peerVehicleId"])?)),
        "watching" => Some(Word::Watching(data.clone())),
        "connected" | "registered" | "proximity_event" | "emergency_alert" => None,
        _ => return Err(format!("heard {text}")),
    })
}

fn states(frame: &[u8]) -> Result<Vec<Word>, String> {
    let (header, states) = slim::states(frame).map_err(|error| error.to_string())?.ok_or("a kind that is not known")?;
    let has = |flag| header.flags & flag != 0;
    let (epoch, base_ms) = (header.epoch, header.base_unix_ms);
    let mut words = vec![Word::Frame { epoch, base_ms, cut: has(CUT), tiered: has(TIERED) }];
    for state in states {
        let vehicle = of_key(state.key)?;
        words.push(if state.flags & FLAG_GONE == 0 {
            Word::State(Told {
                vehicle,
                e7: (state.lat_e7, state.lon_e7),
                fix: usize::from(state.speed),
                ts: state.unix_ms(base_ms),
                emergency: Some(state.flags & FLAG_EMERGENCY != 0),
                base_ms: Some(base_ms),
            })
        } else if state == (State { flags: FLAG_GONE, ..State::unavailable(state.key) }) {
            Word::Gone(vehicle)
        } else {
            return Err(format!("gone, and more: {state:?}"));
        });
    }
    if header.count == 0 && !has(COMPLETE) {
        return Err("a frame that says nothing".into());
    }
    if has(COMPLETE) {
        words.push(Word::Complete);
    }
    Ok(words)
}
