//! The names of the fleet's vehicles, and the way back from a name to its number.
//!
//! A name carries its number, `drive-00017` or `drive-00017-8948` with what a recording calls the vehicle, so that a
//! delivery finds its vehicle without a hash.

use rustc_hash::FxHashMap;

use crate::wire::state;

/// Longest vehicle id of the protocol: `^[A-Za-z0-9._-]{3,40}$`.
const ID_BYTES_MAX: usize = 40;

/// Digits of a number, at least.
const DIGITS: usize = 5;

/// All names.
#[derive(Clone, Debug)]
pub struct Roster {
    /// With its dash.
    prefix: String,
    ids: Vec<String>,
    by_key: FxHashMap<u64, u32>,
}

impl Roster {
    /// Vehicles that have no names but their numbers.
    pub fn numbered(prefix: &str, count: u32) -> Roster {
        Roster::new(prefix, (0..count).map(|_| ""))
    }

    /// Vehicles that have names of their own; what the protocol does not allow in them is left out.
    pub fn named<'a>(prefix: &str, names: impl IntoIterator<Item = &'a str>) -> Roster {
        Roster::new(prefix, names)
    }

    fn new<'a>(prefix: &str, names: impl IntoIterator<Item = &'a str>) -> Roster {
        let prefix = format!("{}-", allowed(prefix).take(16).collect::<String>());
        let ids = names.into_iter().enumerate().map(|(number, name)| {
            let mut id = format!("{prefix}{number:0DIGITS$}");
            if !name.is_empty() {
                id.push('-');
                id.extend(allowed(name).take(ID_BYTES_MAX - id.len()));
            }
            id
        });
        let ids: Vec<String> = ids.collect();
        let by_key = ids.iter().zip(0..).map(|(id, number)| (state::key(id), number)).collect();
        Roster { prefix, ids, by_key }
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.ids.len() as u32
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The id of a vehicle.
    pub fn id(&self, number: u32) -> &str {
        &self.ids[number as usize]
    }

    /// The vehicle of an id, if it is one of ours.
    #[inline]
    pub fn number(&self, id: &[u8]) -> Option<u32> {
        let digits = id.strip_prefix(self.prefix.as_bytes())?.iter().take_while(|byte| byte.is_ascii_digit());
        let number = digits.take(9).fold(0, |number, digit| number * 10 + (digit - b'0') as u32);
        (self.ids.get(number as usize)?.as_bytes() == id).then_some(number)
    }

    /// The key of a vehicle.
    pub fn key(&self, number: u32) -> u64 {
        state::key(self.id(number))
    }

    /// The vehicle of a key, if it is one of ours.
    #[inline]
    pub fn by_key(&self, key: u64) -> Option<u32> {
        self.by_key.get(&key).copied()
    }
}

fn allowed(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let roster = Roster::numbered("drive", 120_000);
        assert_eq!((roster.id(17), roster.id(119_999)), ("drive-00017", "drive-119999"));
        for number in 0..roster.len() {
            assert_eq!(roster.number(roster.id(number).as_bytes()), Some(number));
            assert_eq!(roster.by_key(roster.key(number)), Some(number));
        }
    }

    #[test]
    fn names_are_made_fit() {
        let roster = Roster::named("dr ive/", ["8948", "Bus №7 \"süd\"", &"x".repeat(99), "№"]);
        let ids: Vec<&str> = (0..4).map(|number| roster.id(number)).collect();
        assert_eq!(ids[..2], ["drive-00000-8948", "drive-00001-Bus7sd"]);
        assert_eq!((ids[2].len(), ids[3]), (40, "drive-00003-"));
        assert_eq!(roster.number(b"drive-00001-Bus7sd"), Some(1));
    }

    #[test]
    fn strangers_are_nobody() {
        let roster = Roster::numbered("drive", 20);
        for id in ["", "drive-", "drive-00020", "drive-17", "drive-000017", "drive-00017-8948", "bus-00017"] {
            assert_eq!(roster.number(id.as_bytes()), None, "{id}");
        }
        assert_eq!(roster.number(b"drive-99999999999999999999"), None);
        assert_eq!(roster.by_key(state::key("drive-00020")), None);
    }
}
