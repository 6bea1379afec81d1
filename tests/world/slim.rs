//! The words that scripts have for `ringroad.v1` and for what connections watch. See [`crate::script`].

use std::collections::BTreeMap;

use ringroad::wire::slim::{self, COMPLETE, CUT, TIERED};
use ringroad::wire::state::{self, FLAG_EMERGENCY, FLAG_GONE, Header, State, key};
use ringroad::wire::units;
use serde_json::{Value, json};

/// `LAT LON [speed=…] [heading=…] [yaw=…] [ts=±MS]`: a state message of the vehicle.
pub fn report(vehicle: &str, fields: &str, now: u64) -> Result<Vec<u8>, String> {
    let mut words = fields.split_whitespace();
    let mut degrees = || words.next().and_then(|word| word.parse::<f64>().ok()).ok_or("reports LAT LON");
    let (lat, lon) = (degrees()?, degrees()?);
    let mut state = State::unavailable(key(&format!("veh-{vehicle}")));
    (state.lat_e7, state.lon_e7) = (units::lat_e7(lat), units::lon_e7(lon));
    let mut base = 0;
    for word in words {
        let (field, value) = word.split_once('=').ok_or("field=value")?;
        let value: f64 = value.parse().map_err(|_| format!("{word:?}"))?;
        match field {
            "speed" => state.speed = units::speed(Some(value)),
            "heading" => state.heading = units::heading(Some(value)),
            "yaw" => state.yaw = (value * 100.0) as i16,
            "msg" => state.msg_cnt = value as u8,
            "ts" => {
                base = (now as i64 + value as i64) as u64;
                state.sec_mark = units::sec_mark(base);
            }
            _ => return Err(format!("no field {field:?}")),
        }
    }
    Ok(message(&state, base))
}

/// A state message as a vehicle sends it.
pub fn message(state: &State, base_unix_ms: u64) -> Vec<u8> {
    let header = Header { kind: slim::STATES_KIND, record_size: 32, flags: 0, count: 1, epoch: 0, base_unix_ms };
    [&header.encode()[..], &state::encode(state)].concat()
}

/// `SOUTH WEST NORTH EAST [maxHz=…]`, or nothing.
pub fn view(words: &str) -> Result<String, String> {
    let names = ["south", "west", "north", "east"];
    let mut data = json!({});
    for (at, word) in words.split_whitespace().enumerate() {
        let (name, value) = word.split_once('=').unwrap_or_else(|| (names.get(at).copied().unwrap_or("?"), word));
        data[name] = value.parse::<f64>().map_err(|_| format!("{word:?} is not a number"))?.into();
    }
    Ok(data.to_string())
}

/// `METRES`, or nothing.
pub fn near(words: &str) -> Result<String, String> {
    match words.parse::<f64>() {
        Ok(metres) => Ok(json!({ "radiusM": metres }).to_string()),
        Err(_) if words.is_empty() => Ok("{}".into()),
        Err(_) => Err(format!("{words:?} is not a number")),
    }
}

/// Names of vehicles.
pub fn follow(words: &str) -> String {
    let ids: Vec<String> = words.split_whitespace().map(|name| format!("veh-{name}")).collect();
    json!({ "vehicleIds": ids }).to_string()
}

/// `watching 3`, with the epoch beyond the first and `cut` where they are not what one expects.
pub fn condense_watching(data: &Value) -> String {
    let cut = if data["cut"] == true { " cut" } else { "" };
    format!("watching {} of {}{cut}", data["vehicles"], data["epoch"])
}

/// The records of a state frame, and its flags where there are any.
pub fn condense(frame: &[u8], names: &BTreeMap<u64, String>, now: u64) -> Vec<String> {
    let (header, states) = slim::states(frame).expect("the gateway's own frames are valid").expect("states");
    let base = header.base_unix_ms;
    assert!(base <= now, "the base time is when it was sent");
    let name = |key: u64| names.get(&key).cloned().unwrap_or_else(|| format!("{key:016x}"));
    let mut heard: Vec<String> = states.map(|state| condense_state(&state, &name(state.key), base, now)).collect();
    for (flag, word) in [(COMPLETE, "complete"), (TIERED, "tiered"), (CUT, "cut")] {
        if header.flags & flag != 0 {
            heard.push(format!("{word} {}", header.epoch));
        }
    }
    heard
}

fn condense_state(state: &State, name: &str, base: u64, now: u64) -> String {
    if state.flags & FLAG_GONE != 0 {
        assert_eq!(*state, State { flags: FLAG_GONE, ..State::unavailable(state.key) }, "nothing else counts");
        return format!("gone {name}");
    }
    let mut text = format!("state {name} {} {}", f64::from(state.lat_e7) / 1e7, f64::from(state.lon_e7) / 1e7);
    if state.speed < units::SPEED_UNAVAILABLE {
        text += &format!(" speed={}", f64::from(state.speed) / 50.0);
    }
    if state.heading < units::HEADING_UNAVAILABLE {
        text += &format!(" heading={}", f64::from(state.heading) / 80.0);
    }
    if state.yaw != units::YAW_UNAVAILABLE {
        text += &format!(" yaw={}", f64::from(state.yaw) / 100.0);
    }
    if state.msg_cnt != 0 {
        text += &format!(" msg={}", state.msg_cnt);
    }
    if state.flags & FLAG_EMERGENCY != 0 {
        text += " emergency";
    }
    match state.unix_ms(base) {
        Some(ts) if ts == now => {}
        Some(ts) => text += &format!(" ({:+}ms)", ts as i64 - now as i64),
        None => text += " (long ago)",
    }
    text
}
