//! The shell: threads, sockets, the data ring, the clock, signals. It runs any [`Core`](crate::turn::Core) and knows
//! none.
//!
//! monoio runs each worker's thread and its timers; the client sockets of a worker live on an io_uring of our own, the
//! *data ring*, because one multishot receive per connection out of shared buffers costs neither task nor future nor
//! buffer per connection. A worker without links to Redis sleeps in the data ring; monoio has nothing to do then. With
//! links it sleeps in monoio, and an eventfd joins the two: it is registered with the data ring. Other workers, links
//! and [`Running`] write it too, and the data ring polls it.
//!
//! - [`threads`]: listeners, one pinned thread per worker, start and stop.
//! - `driver`: the pump, what one worker does; `arrivals`: what completions mean to the core; `hands`: how a worker
//!   carries out what its core wants; [`rests`]: what the kernel did not take; [`load`]: how busy it is.
//! - `ring`, `ops`, `buffers`, `sockets`: the data ring, its requests, its receive buffers, and who is on it.
//! - `deaf`: a listener that is about to go. `private`: the second listener, for operators; [`key_file`]: the keys of
//!   tokens, read again when they change; `small_file`: how such files are read.
//! - `mesh`: inboxes between workers; the only file with locks and atomics that threads share.
//! - [`tls`]: encryption on the listener.
//! - [`redis`]: links to Redis servers, which monoio carries.
//! - `clock`, [`signals`], [`radio`], [`probe`], [`counters`], `usage`: what the names say.

mod arrivals;
mod buffers;
mod clock;
pub mod counters;
mod deaf;
mod driver;
mod hands;
pub mod key_file;
pub mod load;
mod mesh;
mod ops;
mod private;
pub mod probe;
pub mod radio;
pub mod redis;
pub mod rests;
mod ring;
pub mod signals;
mod small_file;
mod sockets;
pub mod threads;
pub mod tls;
mod usage;

pub use clock::unix_ms;
pub use probe::Unavailable;
pub use threads::{Failed, KeyRing, Options, Running, StartError, start};
