//! Bytes of the wire to values, and back.

pub mod radio;
pub mod state;
pub mod units;
