//! Places, distances, and who is near whom.
//!
//! A place is two 32-bit fractions of a turn ([`turns`]), so that a difference of longitudes is one wrapping
//! subtraction, right across the antimeridian. There is one distance in all of Ringroad ([`distance::metres`]): the
//! index, the proximity rule and the ledger of `ringroad drive` all mean that one, and a [`ruler`] answers as it does. Cells ([`cells`]) only ever find
//! candidates; the distance decides, or the edges of a box ([`bounds`]). Two indexes answer
//! the two questions: who is in here ([`index`]), and whose areas is this in ([`areas`]). Squares ([`squares`]) are the coarse cells that hosts tell each other positions by.
//!
//! This room knows nothing of vehicles, connections or time.

pub mod turns;
pub mod distance;
pub mod ruler;
pub mod bounds;
pub mod cells;
mod lists;
pub mod index;
pub mod areas;
pub mod proximity;
pub mod squares;

#[cfg(test)]
mod samples;

pub use areas::AreaIndex;
pub use bounds::Bounds;
pub use index::CellIndex;
pub use proximity::Hysteresis;
pub use ruler::Ruler;
pub use squares::{Square, Squares};
pub use turns::Place;
