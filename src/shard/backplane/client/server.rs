//! A server that a link is kept to.

use super::backoff::Backoff;
use super::link::Kind;
use super::links::Links;
use crate::turn::{Endpoint, LinkId};

/// One server: its link, or when to try again.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) at: Endpoint,
    pub(super) kind: Kind,
    pub(super) link: Option<LinkId>,
    pub(super) backoff: Backoff,
    /// Its link is ready.
    pub(super) is_ready: bool,
    was_opened: bool,
}

impl Server {
    pub(super) fn new(at: Endpoint, kind: Kind) -> Server {
        Server { at, kind, link: None, backoff: Backoff::default(), is_ready: false, was_opened: false }
    }

    /// The link, if it is ready.
    pub(super) fn ready_link(&self) -> Option<LinkId> {
        self.link.filter(|_| self.is_ready)
    }

    /// Connects when that is due.
    pub(super) fn advance<T>(&mut self, links: &mut Links<T>) {
        if self.link.is_none() && links.now_ms >= self.backoff.due_ms {
            links.counts.reconnects += u64::from(self.was_opened);
            self.was_opened = true;
            self.link = Some(links.open(&self.at, self.kind));
        }
    }

    /// When (`mono_ms`) it has to be connected.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.link.is_none().then_some(self.backoff.due_ms)
    }

    /// Its handshake is over.
    pub(super) fn ready<T>(&mut self, links: &Links<T>) {
        self.is_ready = true;
        self.backoff.succeeded(links.now_ms);
    }

    /// Gives its link up.
    pub(super) fn leave<T>(&mut self, links: &mut Links<T>) {
        if let Some(link) = self.link {
            links.close(link);
            self.lost(links);
        }
    }

    /// Its link is gone.
    pub(super) fn lost<T>(&mut self, links: &mut Links<T>) {
        self.link = None;
        self.is_ready = false;
        self.backoff.failed(links.now_ms, &mut links.jitter);
    }
}
