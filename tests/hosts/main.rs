//! Several gateways that share a Redis, all of them real: binaries with two workers each, redis-servers, WebSocket
//! clients. One file per property.
//!
//! What is held here is what `docs/BACKPLANE.md` and `docs/PROTOCOL.md` promise. Nothing waits by sleeping; where a test
//! lets time pass, vehicles drive meanwhile. A gateway that logs an error, or does not end cleanly, fails its test.

// The tests of one gateway use more of these than the tests here.
#[allow(dead_code)]
#[path = "../it/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "../it/gateway.rs"]
mod gateway;
#[path = "../it/patience.rs"]
mod patience;
#[path = "../it/relayed.rs"]
mod relayed;
#[path = "../tokens/mod.rs"]
mod tokens;

mod cluster;
mod host;
mod namespace;
mod plain;
mod redis;
mod road;
mod sentinels;

mod crash;
mod cut;
mod direct;
mod failover;
mod flood;
mod harness;
mod join;
mod neighbours;
mod plan;
mod restarts;
mod rights;
mod takeover;
mod tenants;
mod upgrade;
mod watch;

use std::sync::{Mutex, MutexGuard, PoisonError};

use patience::{PATIENCE, until};

/// Tests that load both cores take turns.
fn heavy() -> MutexGuard<'static, ()> {
    static HEAVY: Mutex<()> = Mutex::new(());
    HEAVY.lock().unwrap_or_else(PoisonError::into_inner)
}
