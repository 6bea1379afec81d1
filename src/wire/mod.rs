//! Bytes to values and back. Pure: no socket, clock or randomness, and no panic on any bytes.
//!
//! - [`upgrade`]: the HTTP/1.1 request that a connection begins with, and the replies to it.
//! - [`frame`]: WebSocket frames, both directions.
//! - [`message`]: frames to messages, at whatever split the bytes arrive.

pub mod upgrade;
pub mod frame;
pub mod message;
