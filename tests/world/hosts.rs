//! Several hosts and the Redis between them. `fleet` says how to read the scripts.

mod alerts;
mod buckets;
mod death;
mod direct;
mod existing;
mod presence;
mod squares;
mod stop;
mod takeover;
mod tenants;
mod watch;
