//! Bytes to values and back. Pure: no socket, clock or randomness, and no panic on any bytes.
//!
//! - [`upgrade`]: the HTTP/1.1 request that a connection begins with, and the replies to it; [`host`]: under which name.
//! - [`frame`]: WebSocket frames, both directions.
//! - [`message`]: frames to messages, at whatever split the bytes arrive.
//! - [`tape`], [`json`]: V2V messages from clients; [`error`]: what is answered to the others.
//! - [`text`], [`event`]: V2V events to clients.
//! - [`units`]: SAE J2735 units, and their sentinels.
//! - [`state`]: a vehicle's state in 32 bytes, and the frame that carries many; [`slim`]: positions as such frames, to
//!   and from clients.
//! - [`envelope`], [`bus`]: what hosts tell each other, as JSON and as state frames; [`resp`]: how Redis speaks.
//! - [`radio`]: frames of the serial radio modem.

pub mod upgrade;
pub mod host;
pub mod frame;
pub mod front;
pub mod message;
pub mod tape;
pub mod json;
pub mod error;
pub mod text;
pub mod event;
pub mod units;
pub mod state;
pub mod slim;
pub mod bus;
pub mod envelope;
pub mod radio;
pub mod resp;
