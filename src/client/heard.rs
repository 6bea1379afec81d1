//! What a gateway says to a client.

use std::borrow::Cow;

use simd_json::prelude::*;

use super::Dialect;
use super::scan::{Go, Scanner};
use crate::wire::slim;
use crate::wire::state::{FLAG_GONE, FrameError, Header, State};

/// What RFC 6455, section 7.1.5 calls the code of a close frame that has none.
pub const NO_CODE: u16 = 1005;

/// One message, understood.
#[derive(Debug, PartialEq)]
pub enum Heard<'a> {
    /// The connection is a WebSocket, and what was said before is on its way.
    Upgraded,
    /// An event of `docs/PROTOCOL.md`, section 4.
    Event {
        /// Its name.
        name: Cow<'a, str>,
        /// The whole message, JSON.
        text: &'a str,
    },
    /// Positions, as records ([`Dialect::Binary`] only).
    States(States<'a>),
    /// Who belongs to a key; it comes before the first record ([`Dialect::Binary`] only).
    Identity(Identity),
    /// The gateway says goodbye, and has been answered. It will send nothing more.
    Closed {
        /// Why; [`NO_CODE`] if it did not say.
        code: u16,
        /// Why, in words.
        reason: &'a str,
    },
    /// A text that is not an event.
    Nonsense {
        /// What came.
        text: &'a str,
    },
    /// Nothing to do: a ping, which has been answered, or what this version does not know.
    Nothing,
}

/// A state frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States<'a> {
    /// What stands before the records.
    pub header: Header,
    message: &'a [u8],
}

/// One record of a state frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Where a vehicle is.
    Here {
        /// In wire units; [`crate::wire::units`] has what people measure.
        state: State,
        /// When it was measured, Unix ms; `None`: the gateway does not say.
        unix_ms: Option<u64>,
    },
    /// It has left the view.
    Gone {
        /// Whose key.
        key: u64,
    },
}

impl<'a> States<'a> {
    /// Reads a binary message; `None` if it is of a kind that is to be skipped.
    pub(super) fn read(message: &'a [u8]) -> Result<Option<States<'a>>, FrameError> {
        Ok(slim::states(message)?.map(|(header, _)| States { header, message }))
    }

    /// All records, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Seen> + use<'a> {
        let base_unix_ms = self.header.base_unix_ms;
        // It has been read before, so there is something.
        let states = slim::states(self.message).ok().flatten().into_iter().flat_map(|(_, states)| states);
        states.map(move |state| match state.flags & FLAG_GONE {
            0 => Seen::Here { state, unix_ms: state.unix_ms(base_unix_ms) },
            _ => Seen::Gone { key: state.key },
        })
    }

    /// Everything in view has been sent at least once since the `watching` of the frame's epoch.
    pub fn is_complete(&self) -> bool {
        self.header.flags & slim::COMPLETE != 0
    }

    /// There are more vehicles than are sent.
    pub fn is_cut(&self) -> bool {
        self.header.flags & slim::CUT != 0
    }
}

/// Who a vehicle is, as it registered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Of its records.
    pub key: u64,
    /// `vehicleId`
    pub vehicle_id: String,
    /// `driverName`
    pub driver_name: String,
    /// `licensePlate`
    pub license_plate: Option<String>,
    /// `model`
    pub model: Option<String>,
    /// `color`
    pub color: Option<String>,
}

impl Identity {
    fn read(text: &str) -> Option<Identity> {
        let mut bytes = text.as_bytes().to_vec();
        let event = simd_json::to_borrowed_value(&mut bytes).ok()?;
        let data = event.get("data")?;
        let key = data.get_str("key").filter(|key| key.len() == 16)?;
        let word = |name| Some(data.get_str(name)?.to_owned());
        let info = |name| Some(data.get("vehicleInfo")?.get_str(name)?.to_owned());
        Some(Identity {
            key: u64::from_str_radix(key, 16).ok()?,
            vehicle_id: word("vehicleId")?,
            driver_name: word("driverName")?,
            license_plate: info("licensePlate"),
            model: info("model"),
            color: info("color"),
        })
    }
}

/// Understands a text message.
pub(super) fn text(text: &mut [u8], dialect: Dialect) -> Heard<'_> {
    // The decoder has looked that it is UTF-8.
    let text = str::from_utf8(text).unwrap_or_default();
    match name(text) {
        Some(name) if name == "vehicle_identity" && dialect == Dialect::Binary => {
            Identity::read(text).map_or(Heard::Nonsense { text }, Heard::Identity)
        }
        Some(name) => Heard::Event { name, text },
        None => Heard::Nonsense { text },
    }
}

/// The name of an event; `None`: it is none.
#[inline]
fn name(text: &str) -> Option<Cow<'_, str>> {
    let mut name = None;
    let scanned = Scanner::new(text.as_bytes()).object(|scanner, key| {
        if key == b"event" {
            name = Some(scanner.string()?);
            return Some(Go::Stop);
        }
        scanner.skip_value()?;
        Some(Go::On)
    });
    match (scanned, name) {
        (Some(()), Some(name)) => str::from_utf8(name).ok().map(Cow::Borrowed),
        // The sure way.
        _ => {
            let mut bytes = text.as_bytes().to_vec();
            let event = simd_json::to_borrowed_value(&mut bytes).ok()?;
            event.get_str("event").map(|name| Cow::Owned(name.to_owned()))
        }
    }
}
