//! wire

pub mod error;
