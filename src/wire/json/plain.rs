//! The message that arrives most, `location_update`, read in one pass where it is written plainly.
//!
//! Plain is what `JSON.stringify` and its like write: the event first, then the data and nothing else; each known field
//! at most once and in range, no other field, no escapes, no exponents, no `null`. White space may stand where JSON allows it.
//! Whatever is not plain is left to the general reader, which alone refuses: so this one has no errors, and what it
//! reads, the general one reads alike (a property below).

use super::{Fix, ID_BYTES, ID_LEN, TS_MAX};

/// Ten to the power of so many decimals, each exactly a double.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// Digits that always fit a `u64`.
const DIGITS_MAX: usize = 19;

/// How a message begins that has no white space.
const BEGINNING: &[u8] = br#"{"event":"location_update","data":{"#;

/// A field of the data, with its bit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    VehicleId = 1,
    Lat = 1 << 1,
    Lon = 1 << 2,
    Speed = 1 << 3,
    Heading = 1 << 4,
    Elevation = 1 << 5,
    Accuracy = 1 << 6,
    Ts = 1 << 7,
}

/// Those that must be there.
const REQUIRED: u8 = Field::VehicleId as u8 | Field::Lat as u8 | Field::Lon as u8;

/// Whose position a message tells, and the position; `None` if it is not a plain `location_update`.
pub(super) fn location_update(text: &[u8]) -> Option<(&str, Fix)> {
    let mut at = Cursor { text, at: 0 };
    if text.starts_with(BEGINNING) {
        at.at = BEGINNING.len();
    } else {
        for expected in [&b"{"[..], b"\"event\"", b":", b"\"location_update\"", b",", b"\"data\"", b":", b"{"] {
            at.past(expected)?;
        }
    }
    let mut seen = 0_u8;
    let mut vehicle_id = "";
    let mut fix = Fix::default();
    loop {
        let field = at.field()?;
        at.past(b":")?;
        match field {
            Field::VehicleId => vehicle_id = at.vehicle_id()?,
            Field::Lat => fix.lat = at.number().filter(|lat| lat.abs() <= 90.0)?,
            Field::Lon => fix.lon = at.number().filter(|lon| lon.abs() <= 180.0)?,
            Field::Speed => fix.speed = Some(at.number().filter(|speed| *speed >= 0.0)?),
            Field::Heading => fix.heading = Some(at.number().filter(|heading| *heading >= -360.0)?),
            Field::Elevation => fix.elevation = Some(at.number()?),
            Field::Accuracy => fix.accuracy = Some(at.number().filter(|accuracy| *accuracy >= 0.0)?),
            Field::Ts => fix.ts = Some(at.number().filter(|ts| (0.0..=TS_MAX).contains(ts))? as u64),
        }
        if seen & field as u8 != 0 {
            return None;
        }
        seen |= field as u8;
        match at.token()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    at.past(b"}")?;
    // Nothing may follow.
    (seen & REQUIRED == REQUIRED && at.token().is_none()).then_some((vehicle_id, fix))
}

/// A place in a text.
struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The next byte that is not white space, taken.
    #[inline]
    fn token(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.get(self.at)?;
            self.at += 1;
            if byte > b' ' || !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
        }
    }

    /// Takes these bytes, and white space before them; `None` if there are others.
    #[inline]
    fn past(&mut self, expected: &[u8]) -> Option<()> {
        if self.token()? != expected[0] {
            return None;
        }
        let rest = &expected[1..];
        self.at += self.text[self.at..].starts_with(rest).then_some(rest.len())?;
        Some(())
    }

    /// The name of a field.
    #[inline]
    fn field(&mut self) -> Option<Field> {
        self.past(b"\"")?;
        let (len, field) = match &self.text[self.at..] {
            [b'l', b'a', b't', b'"', ..] => (4, Field::Lat),
            [b'l', b'o', b'n', b'"', ..] => (4, Field::Lon),
            [b't', b's', b'"', ..] => (3, Field::Ts),
            [b's', b'p', b'e', b'e', b'd', b'"', ..] => (6, Field::Speed),
            [b'h', b'e', b'a', b'd', b'i', b'n', b'g', b'"', ..] => (8, Field::Heading),
            rest if rest.starts_with(b"vehicleId\"") => (10, Field::VehicleId),
            rest if rest.starts_with(b"accuracy\"") => (9, Field::Accuracy),
            rest if rest.starts_with(b"elevation\"") => (10, Field::Elevation),
            _ => return None,
        };
        self.at += len;
        Some(field)
    }

    /// A vehicle id.
    #[inline]
    fn vehicle_id(&mut self) -> Option<&'a str> {
        self.past(b"\"")?;
        let rest = &self.text[self.at..];
        let len = rest.iter().position(|byte| !ID_BYTES[usize::from(*byte)])?;
        if rest[len] != b'"' || !ID_LEN.contains(&len) {
            return None;
        }
        self.at += len + 1;
        std::str::from_utf8(&rest[..len]).ok()
    }

    /// A number without exponent.
    #[inline]
    fn number(&mut self) -> Option<f64> {
        let first = self.token()?;
        let start = self.at - 1;
        let negative = first == b'-';
        let digits = if negative { &self.text[self.at..] } else { &self.text[start..] };
        let (whole, whole_len) = digits_of(digits, 0);
        // "01" is no number, nor is "-".
        if whole_len == 0 || (whole_len > 1 && digits[0] == b'0') {
            return None;
        }
        let (mut mantissa, mut len, mut decimals) = (whole, whole_len, 0);
        if digits.get(whole_len) == Some(&b'.') {
            let (all, decimals_len) = digits_of(&digits[whole_len + 1..], whole);
            if decimals_len == 0 {
                return None;
            }
            (mantissa, len, decimals) = (all, whole_len + 1 + decimals_len, decimals_len);
        }
        if whole_len + decimals > DIGITS_MAX || matches!(digits.get(len), Some(b'e' | b'E')) {
            return None;
        }
        self.at = start + usize::from(negative) + len;
        let magnitude = if mantissa < 1 << 53 {
            // Both are doubles exactly, so the quotient is the nearest double to the number (Clinger's fast path).
            mantissa as f64 / POWERS[decimals]
        } else {
            std::str::from_utf8(&digits[..len]).ok()?.parse().ok()?
        };
        Some(if negative { -magnitude } else { magnitude })
    }
}

/// Appends the digits at the front to a number: the number, and how many they were. If they are more than
/// [`DIGITS_MAX`], it means nothing.
#[inline]
fn digits_of(text: &[u8], before: u64) -> (u64, usize) {
    let (mut number, mut len) = (before, 0);
    while let Some(eight) = text[len..].first_chunk() {
        let (digits, count) = eight_digits(*eight);
        number = number.wrapping_mul(TENS[count]).wrapping_add(digits);
        len += count;
        if count < 8 {
            return (number, len);
        }
    }
    while let Some(digit) = text.get(len).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        number = number.wrapping_mul(10).wrapping_add(digit.into());
        len += 1;
    }
    (number, len)
}

/// Ten to the power of so many digits.
const TENS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// The number at the front of eight bytes, and how many of them are its digits; all bytes at a time.
#[inline]
fn eight_digits(bytes: [u8; 8]) -> (u64, usize) {
    // The first byte lowest. A digit becomes its value; any other byte has its top bit set by the sum, or had it. What
    // the sum carries goes to later bytes.
    let values = u64::from_le_bytes(bytes) ^ 0x3030_3030_3030_3030;
    let others = (values.wrapping_add(0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080;
    let count = others.trailing_zeros() / 8;
    if count == 0 {
        return (0, 0);
    }
    // Zeros before the digits in place of what is behind them; then by twos, fours and all.
    let values = values << (64 - 8 * count);
    let twos = values.wrapping_mul(10).wrapping_add(values >> 8) & 0x00FF_00FF_00FF_00FF;
    let fours = twos.wrapping_mul(100).wrapping_add(twos >> 16) & 0x0000_FFFF_0000_FFFF;
    (fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xFFFF_FFFF, count as usize)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::{Command, Decoded, Parser, decode_event};
    use super::*;

    /// What the general reader makes of a text, if that is a position.
    fn generally(text: &[u8]) -> Option<(String, Fix)> {
        let mut bytes = text.to_vec();
        let read = Parser::default().with(&mut bytes, |message| match decode_event(message, 7) {
            Ok(Decoded { command: Ok(Command::Location { vehicle_id, fix }), .. }) => {
                Some((vehicle_id.to_owned(), fix))
            }
            _ => None,
        });
        read.ok().flatten()
    }

    fn plainly(text: &str) -> Option<(String, Fix)> {
        location_update(text.as_bytes()).map(|(id, fix)| (id.to_owned(), fix))
    }

    #[test]
    fn what_clients_write_is_plain() {
        for text in [
            r#"{"event":"location_update","data":{"vehicleId":"bus-7","lat":30.2672,"lon":-97.7431,"speed":8.2,"heading":91.5,"ts":1767268800120}}"#,
            r#"{"event":"location_update","data":{"vehicleId":"BUS_1.2","lat":-90,"lon":180.0,"elevation":-12.25,"accuracy":0}}"#,
            r#"{"event":"location_update","data":{"lat":30.267153046875002,"lon":-97.74306081250001,"vehicleId":"bus-7"}}"#,
            r#"{"event": "location_update", "data": {"vehicleId": "bus-7", "lat": 0, "lon": -0.0, "heading": -359.9}}"#,
            "\n{ \"event\"\t:\r\n\"location_update\" , \"data\" : { \"vehicleId\" : \"abc\" , \"lat\" : 1 , \"lon\" : 2 } } ",
        ] {
            let plain = plainly(text);
            assert!(plain.is_some(), "{text}");
            assert_eq!(plain, generally(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_general_reader() {
        let update = |fields: &str| format!(r#"{{"event":"location_update","data":{{"vehicleId":"bus-7",{fields}}}}}"#);
        for fields in [
            r#""lat":48,"lon":1e1"#,
            r#""lat":48,"lon":11,"speed":null"#,
            r#""lat":48,"lon":11,"more":true"#,
            r#""lat":48,"lat":49,"lon":11"#,
            r#""\u006cat":48,"lon":11"#,
            r#""lat":48,"lon":0.12345678901234567890"#,
        ] {
            assert_eq!(plainly(&update(fields)), None, "{fields}");
            assert!(generally(update(fields).as_bytes()).is_some(), "{fields}");
        }
        for fields in [
            r#""lat":48"#,
            r#""lat":90.1,"lon":0"#,
            r#""lat":048,"lon":0"#,
            r#""lat":48.,"lon":0"#,
            r#""lat":.5,"lon":0"#,
            r#""lat":-,"lon":0"#,
            r#""lat":+1,"lon":0"#,
            r#""lat":"48","lon":0"#,
            r#""lat":48,"lon":0,"speed":-1"#,
            r#""lat":48,"lon":0,"ts":9007199254740994"#,
            r#""lat":48,"lon":0,"#,
            r#""lat":48 1,"lon":0"#,
        ] {
            assert_eq!(plainly(&update(fields)), None, "{fields}");
            assert_eq!(generally(update(fields).as_bytes()), None, "{fields}");
        }
        for text in ["", "{", r#"{"event":"location_update""#, r#"{"event":"location_update","data":{}}"#] {
            assert_eq!(plainly(text), None, "{text}");
        }
        let whole = update(r#""lat":48,"lon":11"#);
        assert!(plainly(&whole).is_some());
        assert_eq!(plainly(&format!("{whole},")), None);
        assert!((0..whole.len()).all(|cut| plainly(&whole[..cut]).is_none()), "half a message is none");
    }

    proptest! {
        #[test]
        fn digits_are_read_at_any_length(digits in "[0-9]{0,19}", behind in "(\\PC{0,9}|[,}./:]{0,9})") {
            let text = format!("{digits}{behind}");
            let all: String = text.chars().take_while(char::is_ascii_digit).collect();
            prop_assume!(all.len() <= DIGITS_MAX);
            prop_assert_eq!(digits_of(text.as_bytes(), 0), (all.parse().unwrap_or(0), all.len()));
        }
    }

    /// Numbers as people and programs write them, some of which are none.
    fn numbers() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "-?[0-9]{1,3}\\.[0-9]{1,8}",
            2 => "-?[0-9]{1,3}\\.[0-9]{9,18}",
            1 => "-?[0-9]{0,20}(\\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?",
            1 => "-?(0|1|89|90|179|180|360)(\\.0{1,20}[0-9])?",
            1 => (0..20_000_000_000_000_000_u64).prop_map(|number| number.to_string()),
            2 => (-180.0..180.0f64).prop_map(|number| number.to_string()),
            1 => any::<f64>().prop_map(|number| number.to_string()),
            1 => prop::sample::select(vec!["null", "true", "\"7\"", "[]", "{}", "NaN", "-", ".", ""]).prop_map(str::to_owned),
        ]
    }

    fn fields() -> impl Strategy<Value = String> {
        let names =
            vec!["lat", "lon", "lat", "lon", "speed", "heading", "elevation", "accuracy", "ts", "more", "vehicleId"];
        (prop::sample::select(names), numbers()).prop_map(|(name, number)| format!("\"{name}\":{number}"))
    }

    /// A message, nearly always of the right shape.
    fn messages() -> impl Strategy<Value = String> {
        let coordinates =
            (numbers(), numbers()).prop_map(|(lat, lon)| vec![format!("\"lat\":{lat}"), format!("\"lon\":{lon}")]);
        let ids = prop_oneof![8 => "[A-Za-z0-9._-]{3,8}", 1 => "\\PC{0,41}", 1 => "[a-z\\\\u0-9]{3,9}"];
        (coordinates, vec(fields(), 0..4), ids, any::<u8>(), any::<u8>()).prop_map(
            |(mut all, more, id, order, style)| {
                all.extend(more);
                all.insert(usize::from(order) % (all.len() + 1), format!("\"vehicleId\":\"{id}\""));
                let (comma, colon) = if style % 4 == 0 { (", ", ": ") } else { (",", ":") };
                let event = if style % 16 == 1 { "heartbeat" } else { "location_update" };
                format!("{{\"event\"{colon}\"{event}\"{comma}\"data\"{colon}{{{}}}}}", all.join(comma))
            },
        )
    }

    fn check(text: &[u8]) -> Result<bool, TestCaseError> {
        let plain = location_update(text).map(|(id, fix)| (id.to_owned(), fix));
        if plain.is_some() {
            prop_assert_eq!(&plain, &generally(text), "{}", String::from_utf8_lossy(text));
        }
        Ok(plain.is_some())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn what_is_read_plainly_is_read_alike_in_general(text in messages()) {
            check(text.as_bytes())?;
        }

        #[test]
        fn also_with_bytes_that_were_changed(
            text in messages(), changes in vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..4),
        ) {
            let mut bytes = text.into_bytes();
            for (at, byte, replaces) in changes {
                let at = at.index(bytes.len());
                if replaces { bytes[at] = byte } else { bytes.insert(at, b"\"\\{}:, .-0e\n"[usize::from(byte) % 12]) }
            }
            check(&bytes)?;
        }

        #[test]
        fn every_number_is_the_nearest_double(
            lat in "-?[1-8]?[0-9]\\.[0-9]{1,17}", lon in "-?(1[0-7][0-9]|[1-9]?[0-9])\\.[0-9]{1,16}",
        ) {
            let text = format!(r#"{{"event":"location_update","data":{{"vehicleId":"bus-7","lat":{lat},"lon":{lon}}}}}"#);
            let (_, fix) = location_update(text.as_bytes()).expect("a plain message");
            prop_assert_eq!(fix.lat.to_bits(), lat.parse::<f64>().unwrap().to_bits());
            prop_assert_eq!(fix.lon.to_bits(), lon.parse::<f64>().unwrap().to_bits());
            check(text.as_bytes())?;
        }
    }
}
