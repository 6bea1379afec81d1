//! shard

pub mod close;
