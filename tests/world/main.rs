//! The shard's behaviour, through a small world: several shards and their clients in one thread on a simulated clock.
//!
//! Most tests are scripts; `script` says how to read them.

mod fleet;
mod script;
mod shrink;
mod significant;
mod slim;
#[path = "../tokens/mod.rs"]
mod tokens;

mod admission;
mod bad_input;
mod broadcast;
mod census;
mod crowd;
mod crowd_oracle;
mod document;
mod drain;
mod events;
mod hosts;
mod hosts_oracle;
mod http;
mod layout;
mod limits;
mod liveness;
mod mesh;
mod oracle;
mod page;
mod presence;
mod proximity;
mod radio;
mod relay;
mod rounds;
mod slow_reader;
mod tally;
mod takeover;
mod token_matrix;
mod upgrade;
mod watch;
mod watch_flush;
mod watch_oracle;
