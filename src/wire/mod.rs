//! Bytes to values and back. Pure: no socket, no clock, no panic that bytes could reach.

pub mod error;
pub mod event;
pub mod frame;
pub mod json;
pub mod message;
pub mod radio;
pub mod state;
pub mod tape;
pub mod text;
pub mod upgrade;
