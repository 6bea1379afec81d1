//! What a vehicle says, and how much of an answer it has to understand.
//!
//! Nearly all events that arrive are `peer_location`s, some hundred thousand per second, of which a load generator needs
//! two fields. They are read in one pass over the text, in any order of keys; what that pass cannot be sure of is left to
//! a real JSON parser.

use simd_json::prelude::*;

use super::Fix;
use super::roster::Roster;
use crate::client::Client;
use crate::client::Registration;
use crate::client::scan::{Go, Scanner};
use crate::wire::state::State;
use crate::wire::units;

/// What an event of the gateway is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A vehicle's update.
    PeerLocation {
        /// Whose; `None` is a vehicle that is not of the fleet.
        sender: Option<u32>,
        /// Which.
        ts: u64,
    },
    /// A vehicle has left the view.
    PeerGone {
        /// Whose; `None` is a vehicle that is not of the fleet.
        sender: Option<u32>,
    },
    /// What is watched from now on.
    Watching {
        /// There are more vehicles than are sent.
        cut: bool,
    },
    /// The gateway knows the vehicle from now on.
    Registered,
    /// The gateway refused something.
    Error {
        /// Why, in one word.
        code: String,
    },
    /// Any other event.
    Other,
    /// It lacks what an event of its name has.
    Nonsense,
}

/// Says who a vehicle is.
pub fn register(client: &mut Client, id: &str, number: u32) {
    client.register(&Registration {
        vehicle_id: id,
        driver_name: &format!("Driver {number}"),
        license_plate: Some(&format!("RR {number:05}")),
        model: Some("Roadster"),
        color: Some("blue"),
        auth_token: None,
    });
}

/// A fix as a vehicle reports it: positions exactly, the heading as its instruments have it, in tenths of a degree.
pub fn state(key: u64, fix: &Fix) -> State {
    State {
        lat_e7: fix.lat_e7,
        lon_e7: fix.lon_e7,
        speed: units::speed(Some(fix.speed_mps)),
        // 359.96° is north, not 360.0°.
        heading: units::heading(fix.heading_degrees.map(|heading| (heading * 10.0).round() / 10.0)),
        ..State::unavailable(key)
    }
}

/// Understands an event.
#[inline]
pub fn understand(name: &str, text: &str, roster: &Roster) -> Told {
    match name {
        "peer_location" | "peer_gone" | "watching" | "error" => {}
        "registered" => return Told::Registered,
        _ => return Told::Other,
    }
    scan(name, text, roster).or_else(|| parse(name, text, roster)).unwrap_or(Told::Nonsense)
}

/// The quick way; `None` for what it does not understand.
fn scan(name: &str, text: &str, roster: &Roster) -> Option<Told> {
    let mut data = Fields::default();
    Scanner::new(text.as_bytes()).object(|scanner, key| {
        match key {
            b"data" => data.read(scanner)?,
            _ => scanner.skip_value()?,
        }
        Some(Go::On)
    })?;
    Some(match name {
        "peer_location" => Told::PeerLocation { sender: roster.number(data.vehicle_id?), ts: data.ts? },
        "peer_gone" => Told::PeerGone { sender: roster.number(data.vehicle_id?) },
        "watching" => Told::Watching { cut: data.cut? },
        "error" => Told::Error { code: str::from_utf8(data.code?).ok()?.to_owned() },
        _ => return None,
    })
}

/// The sure way.
fn parse(name: &str, text: &str, roster: &Roster) -> Option<Told> {
    let mut bytes = text.as_bytes().to_vec();
    let message = simd_json::to_borrowed_value(&mut bytes).ok()?;
    let data = message.get("data")?;
    let sender = || Some(roster.number(data.get_str("vehicleId")?.as_bytes()));
    Some(match name {
        "peer_location" => Told::PeerLocation { sender: sender()?, ts: data.get_u64("ts")? },
        "peer_gone" => Told::PeerGone { sender: sender()? },
        "watching" => Told::Watching { cut: data.get_bool("cut")? },
        "error" => Told::Error { code: data.get_str("code")?.to_owned() },
        _ => return None,
    })
}

/// The fields of `data` that matter to us.
#[derive(Default)]
struct Fields<'a> {
    vehicle_id: Option<&'a [u8]>,
    ts: Option<u64>,
    code: Option<&'a [u8]>,
    cut: Option<bool>,
}

impl<'a> Fields<'a> {
    #[inline]
    fn read(&mut self, scanner: &mut Scanner<'a>) -> Option<()> {
        scanner.object(|scanner, key| {
            match key {
                b"vehicleId" => self.vehicle_id = Some(scanner.string()?),
                b"ts" => self.ts = Some(scanner.integer()?),
                b"code" => self.code = Some(scanner.string()?),
                b"cut" => self.cut = Some(scanner.flag()?),
                _ => scanner.skip_value()?,
            }
            Some(Go::On)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster() -> Roster {
        Roster::numbered("drive", 20)
    }

    fn told(name: &str, text: &str) -> Told {
        understand(name, text, &roster())
    }

    fn is_scanned(name: &str, text: &str) -> bool {
        scan(name, text, &roster()).is_some()
    }

    #[test]
    fn a_peer_location_in_any_order_and_spacing() {
        let usual = r#"{"event":"peer_location","data":{"vehicleId":"drive-00017","lat":30.2672001,"lon":-97.7431002,"ts":1760000000123,"coalesced":true,"speed":13.42,"heading":91.5}}"#;
        assert!(is_scanned("peer_location", usual));
        assert_eq!(told("peer_location", usual), Told::PeerLocation { sender: Some(17), ts: 1_760_000_000_123 });
        for text in [
            r#"{"data":{"ts":7,"coalesced":true,"lat":-1e-7,"vehicleId":"a-1"},"event":"peer_location"}"#,
            r#" { "event" : "peer_location" , "data" : { "ts" : 7 , "x":[1,{"ts":9,"s":"}]"}], "vehicleId" : "a-1" } } "#,
            "{\"v\":2,\"event\":\"peer_location\",\"data\":{\"vehicleId\":\"a-1\",\r\n\t\"ts\":7}}",
        ] {
            assert!(is_scanned("peer_location", text), "{text}");
            assert_eq!(told("peer_location", text), Told::PeerLocation { sender: None, ts: 7 }, "{text}");
        }
    }

    #[test]
    fn the_unusual_goes_to_the_parser() {
        for text in [
            r#"{"event":"peer_location","data":{"vehicleId":"drive-\u00300001","ts":7}}"#,
            r#"{"event":"peer_location","data":{"note":"say \"ts\"","vehicleId":"drive-00001","ts":7}}"#,
        ] {
            assert!(!is_scanned("peer_location", text), "{text}");
            assert_eq!(told("peer_location", text), Told::PeerLocation { sender: Some(1), ts: 7 }, "{text}");
        }
    }

    #[test]
    fn other_events() {
        for (name, data, expected) in [
            ("registered", r#"{"vehicleId":"drive-00001"}"#, Told::Registered),
            ("error", r#"{"code":"rate_limited","message":"…"}"#, Told::Error { code: "rate_limited".into() }),
            ("error", r#"{"code":"\u0078"}"#, Told::Error { code: "x".into() }),
            ("peer_gone", r#"{"vehicleId":"drive-00003"}"#, Told::PeerGone { sender: Some(3) }),
            ("peer_gone", r#"{"vehicleId":"else"}"#, Told::PeerGone { sender: None }),
            ("watching", r#"{"epoch":1,"vehicles":9,"cut":true,"view":{"south":1}}"#, Told::Watching { cut: true }),
            ("watching", r#"{"cut":false,"x":"\""}"#, Told::Watching { cut: false }),
            ("presence_update", r#"{"vehicleId":"drive-00001","ts":7}"#, Told::Other),
            ("error", "{}", Told::Nonsense),
            ("peer_location", r#"{"vehicleId":"drive-00001"}"#, Told::Nonsense),
            ("peer_location", r#"{"vehicleId":"drive-00001","ts":-7}"#, Told::Nonsense),
            ("peer_location", r#"{"vehicleId":"drive-00001","ts":1.5}"#, Told::Nonsense),
            ("watching", "{}", Told::Nonsense),
        ] {
            let text = format!(r#"{{"event":"{name}","data":{data}}}"#);
            assert_eq!(told(name, &text), expected, "{text}");
        }
    }

    #[test]
    fn a_fix_is_reported_as_instruments_have_it() {
        let fix = Fix { lat_e7: -7, lon_e7: -1_799_999_999, speed_mps: 13.418, heading_degrees: Some(359.96) };
        let state = state(9, &fix);
        assert_eq!((state.key, state.lat_e7, state.lon_e7), (9, -7, -1_799_999_999));
        assert_eq!((state.speed, state.heading), (671, 0));
        let state = super::state(9, &Fix { heading_degrees: Some(91.54), ..fix });
        assert_eq!(units::heading_degrees(state.heading), Some(91.5));
        let state = super::state(9, &Fix { heading_degrees: None, ..fix });
        assert_eq!(state.heading, units::HEADING_UNAVAILABLE);
    }
}
