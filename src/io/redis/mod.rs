//! Links to Redis servers: connections that a core opens by name, on monoio rather than on the data ring.
//!
//! A link is one task of its worker's thread. monoio only tells it when its socket is ready; reading and sending are
//! plain calls that never wait, so nothing is lost when a task is dropped, wherever it is. What arrives goes to a desk
//! that all links of a worker share; the pump fetches it from there in its rounds, as it does the mail. What the core
//! sends leaves at once, in the pump; only what the kernel does not take waits for the task.
//!
//! - `links`: the links of one worker, as its hands see them; `desk`: what they have for the core.
//! - `link`: the life of one; `dial`: how it comes to be; `resolve`: names to addresses.
//! - `stream`: its socket; [`tls`]: whom to trust.
//! - [`probe`]: a look at the servers before the start; `talk`: how it asks them.

mod desk;
mod dial;
mod link;
mod links;
pub mod probe;
mod resolve;
mod stream;
mod talk;
pub mod tls;

use std::io;

pub(super) use links::Links;

/// An error of the system, without its number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    text.split(" (os error ").next().unwrap_or_default().to_owned()
}
