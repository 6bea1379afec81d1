//! Tokens: who has signed them, and what they grant. Pure: keys come as text, time as an argument.
//!
//! `keys` holds the keys and checks signatures; `grant` makes of a token's claims what its bearer may do; `pattern` is
//! how a claim names several vehicles; `fault` is why a token is refused. What a shard does with it is in `shard/auth`.

mod fault;
mod grant;
mod keys;
mod pattern;

#[cfg(test)]
mod tests;

pub use fault::TokenFault;
pub use grant::{Grant, Rules};
pub use keys::{Keys, KeysError};
pub use pattern::Pattern;
