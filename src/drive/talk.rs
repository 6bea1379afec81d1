//! What a vehicle says, and how much of an answer it has to understand.
//!
//! Nearly all that arrives are `peer_location`s, some hundred thousand per second, of which a load generator needs two
//! fields. [`hear`] reads them in one pass over the text, in any order of keys, and passes over what it does not need.
//! What that pass cannot be sure of (an escape in a name, a number that is no integer) is left to a real JSON parser.

use std::io::Write;

use simd_json::prelude::*;

use super::Fix;
use super::roster::Roster;

/// What a gateway's message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A neighbour's update.
    PeerLocation {
        /// Whose; `None` is a vehicle that is not of the fleet.
        sender: Option<u32>,
        /// Which.
        ts: u64,
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
    /// Not an event at all.
    Nonsense,
}

/// Appends the registration of a vehicle.
pub fn register(out: &mut Vec<u8>, id: &str, number: u32) {
    // Writing into memory does not fail.
    let _ = write!(
        out,
        concat!(
            r#"{{"event":"register","data":{{"vehicleId":"{id}","driverName":"Driver {number}","#,
            r#""vehicleInfo":{{"licensePlate":"RR {number:05}","model":"Roadster","color":"blue"}}}}}}"#
        ),
        id = id,
        number = number
    );
}

/// Appends an update: positions to 7 decimals, exactly the 1e-7 degree of the fix.
pub fn location_update(out: &mut Vec<u8>, id: &str, fix: &Fix, ts: u64) {
    let _ = write!(out, r#"{{"event":"location_update","data":{{"vehicleId":"{id}","lat":"#);
    decimal_degrees(out, fix.lat_e7);
    out.extend_from_slice(br#","lon":"#);
    decimal_degrees(out, fix.lon_e7);
    let _ = write!(out, r#","speed":{:.2}"#, fix.speed_mps);
    if let Some(heading) = fix.heading_degrees {
        // 359.96° is north, not 360.0°.
        let tenths = (heading * 10.0).round() as u32 % 3600;
        let _ = write!(out, r#","heading":{}.{}"#, tenths / 10, tenths % 10);
    }
    let _ = write!(out, r#","ts":{ts}}}}}"#);
}

fn decimal_degrees(out: &mut Vec<u8>, e7: i32) {
    let sign = if e7 < 0 { "-" } else { "" };
    let e7 = e7.unsigned_abs();
    let _ = write!(out, "{sign}{}.{:07}", e7 / 10_000_000, e7 % 10_000_000);
}

/// Understands a message. Its bytes may be changed.
#[inline]
pub fn hear(text: &mut [u8], roster: &Roster) -> Heard {
    scan(text, roster).unwrap_or_else(|| parse(text, roster))
}

/// The quick way; `None` for what it does not understand.
fn scan(text: &[u8], roster: &Roster) -> Option<Heard> {
    let mut scanner = Scanner { rest: text };
    let (mut event, mut data) = (None, Fields::default());
    scanner.object(|scanner, key| {
        match key {
            b"event" => {
                let name = scanner.string()?;
                event = Some(name);
                // No other event has anything that we need.
                let all = !matches!(name, b"peer_location" | b"error");
                return Some(if all { Go::Stop } else { Go::On });
            }
            b"data" => data.read(scanner)?,
            _ => scanner.skip_value()?,
        }
        Some(Go::On)
    })?;
    Some(match event? {
        b"peer_location" => Heard::PeerLocation { sender: roster.number(data.vehicle_id?), ts: data.ts? },
        b"error" => Heard::Error { code: str::from_utf8(data.code?).ok()?.to_string() },
        b"registered" => Heard::Registered,
        _ => Heard::Other,
    })
}

/// The sure way.
fn parse(text: &mut [u8], roster: &Roster) -> Heard {
    let Ok(message) = simd_json::to_borrowed_value(text) else { return Heard::Nonsense };
    let data = message.get("data");
    let text = |key| data.and_then(|data| data.get_str(key));
    match message.get_str("event") {
        Some("peer_location") => match (text("vehicleId"), data.and_then(|data| data.get_u64("ts"))) {
            (Some(id), Some(ts)) => Heard::PeerLocation { sender: roster.number(id.as_bytes()), ts },
            _ => Heard::Nonsense,
        },
        Some("error") => text("code").map_or(Heard::Nonsense, |code| Heard::Error { code: code.to_string() }),
        Some("registered") => Heard::Registered,
        Some(_) => Heard::Other,
        None => Heard::Nonsense,
    }
}

/// The fields of `data` that matter to us.
#[derive(Default)]
struct Fields<'a> {
    vehicle_id: Option<&'a [u8]>,
    ts: Option<u64>,
    code: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn read(&mut self, scanner: &mut Scanner<'a>) -> Option<()> {
        scanner.object(|scanner, key| {
            match key {
                b"vehicleId" => self.vehicle_id = Some(scanner.string()?),
                b"ts" => self.ts = Some(scanner.integer()?),
                b"code" => self.code = Some(scanner.string()?),
                _ => scanner.skip_value()?,
            }
            Some(Go::On)
        })
    }
}

enum Go {
    On,
    Stop,
}

/// Walks over JSON, trusting that it is: the frame's text is the gateway's, and what looks odd goes to the parser.
struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    /// Calls `member` with each key; it has to consume the value.
    #[inline]
    fn object(&mut self, mut member: impl FnMut(&mut Self, &'a [u8]) -> Option<Go>) -> Option<()> {
        self.take(b'{')?;
        if self.peek()? == b'}' {
            return self.take(b'}');
        }
        loop {
            let key = self.string()?;
            self.take(b':')?;
            if let Go::Stop = member(self, key)? {
                return Some(());
            }
            if self.peek()? == b'}' {
                return self.take(b'}');
            }
            self.take(b',')?;
        }
    }

    /// The next byte that is not white space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.rest.first()? {
                b' ' | b'\n' | b'\r' | b'\t' => self.rest = &self.rest[1..],
                byte => return Some(byte),
            }
        }
    }

    #[inline]
    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.rest = &self.rest[1..])
    }

    /// A string without escapes.
    #[inline]
    fn string(&mut self) -> Option<&'a [u8]> {
        self.take(b'"')?;
        let end = self.rest.iter().position(|&byte| byte == b'"' || byte == b'\\')?;
        let (string, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        (rest[0] == b'"').then_some(string)
    }

    #[inline]
    fn integer(&mut self) -> Option<u64> {
        self.peek()?;
        let mut number = 0u64;
        let mut digits = 0;
        while let Some(byte) = self.rest.get(digits).filter(|byte| byte.is_ascii_digit()) {
            number = number.checked_mul(10)?.checked_add((byte - b'0') as u64)?;
            digits += 1;
        }
        let next = *self.rest.get(digits)?;
        self.rest = &self.rest[digits..];
        (digits > 0 && !matches!(next, b'.' | b'e' | b'E')).then_some(number)
    }

    fn skip_value(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'{' | b'[' => {
                let mut depth = 0;
                loop {
                    match self.peek()? {
                        b'"' => {
                            self.string()?;
                            continue;
                        }
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                    self.rest = &self.rest[1..];
                    if depth == 0 {
                        return Some(());
                    }
                }
            }
            _ => {
                let end = self.rest.iter().position(|byte| matches!(byte, b',' | b'}' | b']'))?;
                self.rest = &self.rest[end..];
                Some(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn roster() -> Roster {
        Roster::numbered("drive", 20)
    }

    fn heard(text: &str) -> Heard {
        hear(&mut text.as_bytes().to_vec(), &roster())
    }

    fn is_scanned(text: &str) -> bool {
        scan(text.as_bytes(), &roster()).is_some()
    }

    #[test]
    fn a_peer_location_in_any_order_and_spacing() {
        let usual = r#"{"event":"peer_location","data":{"vehicleId":"drive-00017","lat":30.2672001,"lon":-97.7431002,"ts":1760000000123,"coalesced":true,"speed":13.42,"heading":91.5}}"#;
        assert!(is_scanned(usual));
        assert_eq!(heard(usual), Heard::PeerLocation { sender: Some(17), ts: 1_760_000_000_123 });
        for text in [
            r#"{"data":{"ts":7,"coalesced":true,"lat":-1e-7,"vehicleId":"a-1"},"event":"peer_location"}"#,
            r#" { "event" : "peer_location" , "data" : { "ts" : 7 , "x":[1,{"ts":9,"s":"}]"}], "vehicleId" : "a-1" } } "#,
            "{\"v\":2,\"event\":\"peer_location\",\"data\":{\"vehicleId\":\"a-1\",\r\n\t\"ts\":7}}",
        ] {
            assert!(is_scanned(text), "{text}");
            assert_eq!(heard(text), Heard::PeerLocation { sender: None, ts: 7 }, "{text}");
        }
    }

    #[test]
    fn the_unusual_goes_to_the_parser() {
        for text in [
            r#"{"event":"peer\u005flocation","data":{"vehicleId":"drive-00001","ts":7}}"#,
            r#"{"event":"peer_location","data":{"vehicleId":"drive-\u00300001","ts":7}}"#,
            r#"{"event":"peer_location","data":{"note":"say \"ts\"","vehicleId":"drive-00001","ts":7}}"#,
        ] {
            assert!(!is_scanned(text), "{text}");
            assert_eq!(heard(text), Heard::PeerLocation { sender: Some(1), ts: 7 }, "{text}");
        }
    }

    #[test]
    fn other_events() {
        assert_eq!(heard(r#"{"event":"registered","data":{"vehicleId":"drive-00017"}}"#), Heard::Registered);
        assert_eq!(heard(r#"{"event":"connected","data":{"ts":1,"sessionId":"x"}}"#), Heard::Other);
        assert_eq!(heard(r#"{"data":{"vehicles":[{"vehicleId":"\""}]},"event":"nearby_vehicles"}"#), Heard::Other);
        let error = r#"{"event":"error","data":{"message":"wait","ts":5,"details":{"retryAfterMs":200},"code":"rate_limited"}}"#;
        assert_eq!(heard(error), Heard::Error { code: "rate_limited".into() });
    }

    #[test]
    fn what_is_no_event() {
        for text in [
            "",
            "{",
            "{}",
            "[]",
            "null",
            r#"{"event":7}"#,
            r#"{"event":"peer_location"}"#,
            r#"{"event":"peer_location","data":{"vehicleId":"a-1"}}"#,
            r#"{"event":"peer_location","data":{"vehicleId":"a-1","ts":7.5}}"#,
            r#"{"event":"peer_location","data":{"vehicleId":"a-1","ts":99999999999999999999}}"#,
            r#"{"event":"error","data":{}}"#,
        ] {
            assert_eq!(heard(text), Heard::Nonsense, "{text}");
        }
    }

    #[test]
    fn what_a_vehicle_says_is_json() {
        let mut out = Vec::new();
        register(&mut out, "drive-00017", 17);
        let said: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(said["event"], "register");
        assert_eq!(said["data"]["vehicleId"], "drive-00017");
        assert_eq!(said["data"]["driverName"], "Driver 17");
        out.clear();
        let fix = Fix { lat_e7: -7, lon_e7: -1_799_999_999, speed_mps: 13.418, heading_degrees: Some(359.96) };
        location_update(&mut out, "drive-00017", &fix, 1_760_000_000_123);
        let said: Value = serde_json::from_slice(&out).unwrap();
        let expected = json!({
            "event": "location_update",
            "data": {
                "vehicleId": "drive-00017", "lat": -0.0000007, "lon": -179.9999999, "speed": 13.42, "heading": 0.0,
                "ts": 1_760_000_000_123u64,
            }
        });
        assert_eq!(said, expected);
        out.clear();
        location_update(&mut out, "x", &Fix { heading_degrees: None, ..fix }, 1);
        assert!(!String::from_utf8(out).unwrap().contains("heading"));
    }
}
