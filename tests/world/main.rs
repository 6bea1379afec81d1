//! The shard's behaviour, through a small world: several shards and their clients in one thread on a simulated clock.
//!
//! Most tests are scripts; `script` says how to read them.

mod fleet;
mod script;

mod bad_input;
mod broadcast;
mod document;
mod events;
mod hosts;
mod hosts_oracle;
mod http;
mod limits;
mod liveness;
mod mesh;
mod oracle;
mod presence;
mod proximity;
mod radio;
mod relay;
mod slow_reader;
mod takeover;
mod upgrade;
