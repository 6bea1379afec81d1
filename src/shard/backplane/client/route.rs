//! What one topology decides, and what it decides about.

use std::fmt::Debug;

use super::Spread;
use super::link::{Answer, Command, Question};
use super::links::Links;
use crate::turn::LinkId;

/// What a route has to decide.
#[derive(Debug)]
pub(super) enum Event<T> {
    /// A link has ended its handshake.
    Ready,
    /// A link is of no use any more.
    Broken { why: Box<str> },
    /// A server refused a command.
    Refused { command: Command<T>, error: Box<str> },
    /// A server refused a subscription, or has ended it.
    Unsubscribed { error: Option<Box<str>> },
    /// A server answered what the client itself had asked.
    Answer { question: Question, answer: Answer },
    /// A Sentinel announced something.
    Announced { what: Vec<u8> },
}

/// Which servers there are, and what goes where.
pub(super) trait Route<T>: Debug + Send {
    /// Time has passed: connects what is due.
    fn advance(&mut self, links: &mut Links<T>);

    /// Something happened on a link. A broken one is not among the links any more.
    fn heard(&mut self, links: &mut Links<T>, link: LinkId, event: Event<T>);

    /// The link for a command about `key`.
    fn link_for(&self, key: Option<&[u8]>) -> Option<LinkId>;

    /// Sends the subscriptions that are nowhere to where they belong. Returns how many were sent.
    fn settle(&mut self, links: &mut Links<T>) -> u64;

    /// How a channel is spread here.
    fn spread(&self, wanted: Spread) -> Spread;

    /// Whether a command may have to be sent again elsewhere.
    fn keeps_commands(&self) -> bool;

    /// When (`mono_ms`) `advance` has work next.
    fn deadline(&self) -> Option<u64>;
}
