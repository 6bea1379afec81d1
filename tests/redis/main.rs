//! The backplane's client against real servers, on loopback.
//!
//! Nothing here waits by sleeping for a fixed time; what must come true is polled until a deadline.

mod cluster;
mod driver;
mod sentinel;
mod server;
mod single;
