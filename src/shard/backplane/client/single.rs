//! One server.

use super::link::Kind;
use super::links::Links;
use super::route::{Event, Route};
use super::server::Server;
use super::{Outcome, Spread};
use crate::turn::{Endpoint, LinkId};

/// The route to the only server there is.
#[derive(Debug)]
pub(super) struct Single {
    server: Server,
}

impl Single {
    pub(super) fn new(at: Endpoint) -> Single {
        Single { server: Server::new(at, Kind::Data) }
    }
}

impl<T> Route<T> for Single {
    fn advance(&mut self, links: &mut Links<T>) {
        self.server.advance(links);
    }

    fn heard(&mut self, links: &mut Links<T>, link: LinkId, event: Event<T>) {
        match event {
            Event::Ready => {
                self.server.ready(links);
                self.settle(links);
                links.ready();
            }
            Event::Broken { why } => {
                if self.server.link == Some(link) {
                    self.server.lost(links);
                    links.lost(&format!("{}: {why}", self.server.at));
                }
            }
            Event::Refused { command, error } => links.tell(command.token, Outcome::Refused(error)),
            // The next comparison asks again.
            Event::Unsubscribed { .. } => {}
            // Nothing is asked here.
            Event::Answer { .. } | Event::Announced { .. } => {}
        }
    }

    fn link_for(&self, _key: Option<&[u8]>) -> Option<LinkId> {
        self.server.ready_link()
    }

    fn settle(&mut self, links: &mut Links<T>) -> u64 {
        let link = self.server.ready_link();
        links.settle(|_, _| Some((link?, 0)))
    }

    fn spread(&self, _wanted: Spread) -> Spread {
        Spread::Everywhere
    }

    fn keeps_commands(&self) -> bool {
        false
    }

    fn deadline(&self) -> Option<u64> {
        self.server.deadline()
    }
}
