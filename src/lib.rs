//! Ringroad: a real-time gateway for vehicles.
//!
//! The library is two halves. A synchronous, deterministic core ([`wire`], [`geo`], [`auth`], [`shard`]) knows no socket, thread,
//! clock or randomness; a thin shell ([`io`]) is the only room that does. [`turn`] is the contract between them.
//!
//! Rooms in reading order:
//! - [`turn`]: what a shell tells a core, and what a core asks of its shell.
//! - [`config`], [`limits`]: what an operator may set, and the bounds that nobody may.
//! - [`wire`]: bytes to values and back.
//! - [`geo`]: places, distances, the cell index.
//! - [`auth`]: tokens, and what they grant.
//! - [`shard`]: one core's world.
//! - [`io`]: threads, the data ring, the mesh between shards, signals.
//! - [`page`]: the live map that a browser is given.
//! - [`metrics`]: counters of one worker, and their exposition.
//! - [`client`]: the other end of a connection, without its socket; [`dice`]: chance from a seed.
//! - [`drive`]: a fleet of vehicles that speaks the real protocol.
//! - [`doctor`]: what of this host stands in the way, and what to do about it.
//! - [`sim`]: shards and clients in one thread on a simulated clock.

pub mod turn;
pub mod config;
pub mod limits;
pub mod wire;
pub mod geo;
pub mod auth;
pub mod shard;
pub mod gateway;
pub mod io;
pub mod page;
pub mod metrics;
pub mod client;
pub mod dice;
pub mod drive;
pub mod doctor;
pub mod sim;
