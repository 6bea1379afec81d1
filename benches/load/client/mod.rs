//! The other end of every connection: one thread that sends on time, reads what comes, counts it, and looks closely at a
//! sample.
//!
//! In reading order: `conn` (a socket and its frames), `talk` (what is said, in each way of speaking), `ledger` (what is
//! owed and what came), [`fleet`] (all connections and the loop), [`drive`] (what is done with them).

mod conn;
pub mod drive;
pub mod fleet;
mod ledger;
mod talk;

pub use fleet::Fleet;
pub use ledger::{Heard, Neighbours};
pub use talk::Talk;
