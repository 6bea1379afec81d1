//! A Redis client without sockets: commands and desired subscriptions in, replies and messages out.
//!
//! It knows the topology (one server, Sentinel, Cluster), keeps its links up, and restores what it was told to listen
//! to. Commands of one turn leave in one write; replies come in the order of their commands.
//!
//! `link` is one connection, `links` are all of them with what goes over them, `subscriptions` what is to be listened
//! to. A `route` decides which servers there are and what goes where: `single`, `sentinel` or `cluster`.

mod backoff;
mod cluster;
mod link;
mod links;
mod nodes;
mod route;
mod script;
mod sentinel;
mod server;
mod single;
mod slots;
mod subscriptions;
mod told;

use std::fmt::Debug;
use std::sync::Arc;

use crate::config::{Servers, Topology};
use crate::limits;
use crate::turn::{LinkId, LinkWork, Now};
use crate::wire::resp::Reply;

use cluster::Cluster;
use link::Login;
use links::Links;
use route::{Event, Route};
use sentinel::Sentinels;
use single::Single;

/// How a channel is spread over a Cluster. Elsewhere both are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Spread {
    /// PUBLISH and SUBSCRIBE: every node of a Cluster hears it.
    Everywhere,
    /// SPUBLISH and SSUBSCRIBE: only the shard that has the channel's slot.
    Sharded,
}

/// A Lua script: sent by its hash, and whole where the server does not know it.
#[derive(Clone, Copy, Debug)]
pub struct Script(pub &'static str);

/// What became of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The server's reply, errors left out.
    Reply(Reply),
    /// The server's error.
    Refused(Box<str>),
    /// The link broke before the reply: it may have been executed or not.
    Unknown,
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// No server is there for it now.
    Down,
    /// More than `limits::BACKPLANE_BYTES_MAX` are waiting for their replies.
    Full,
}

/// What the client has to tell.
#[derive(Clone, Debug, PartialEq)]
pub enum News<T> {
    /// Commands are taken from now on. Also after every loss, and once subscriptions are under way.
    Ready,
    /// They are not, until the next `Ready`. Outcomes of what was under way have been told before. Also when the first
    /// attempt fails, and now and then when the reason changes.
    Lost {
        /// What an operator should read.
        why: Box<str>,
    },
    /// A command's outcome.
    Outcome {
        /// As given with the command.
        token: T,
        /// What became of it.
        outcome: Outcome,
    },
    /// The server has confirmed a subscription, for the first time or again after a loss or a move.
    Subscribed {
        /// Which channel.
        channel: Arc<[u8]>,
    },
    /// A message.
    Message {
        /// On which channel.
        channel: Arc<[u8]>,
        /// What was published.
        payload: Vec<u8>,
    },
}

/// Counts of a client; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCounts {
    /// Links that were opened after the first of their kind was lost.
    pub reconnects: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Replies or pushes that were longer than the client reads, and were skipped.
    pub oversized: u64,
    /// Links given up because they fell silent.
    pub silent: u64,
    /// Commands sent again because a Cluster pointed elsewhere.
    pub redirects: u64,
    /// Subscriptions that a reconciliation found missing.
    pub resubscribed: u64,
    /// Subscriptions that a server refused, or ended by itself.
    pub unsubscribed: u64,
}

/// The client of one worker. `T` tells its commands apart.
#[derive(Debug)]
pub struct Client<T> {
    links: Links<T>,
    route: Box<dyn Route<T>>,
    has_begun: bool,
    is_closed: bool,
}

impl<T> Client<T> {
    /// A client that will connect with its first `advance`. `name` is what `CLIENT LIST` shows; `seed` spreads the
    /// backoff.
    pub fn new(servers: Servers, name: &str, seed: u64) -> Self {
        // A server takes no other name, and would refuse the whole greeting for it.
        let name = name.chars().map(|letter| if letter.is_ascii_graphic() { letter } else { '-' }).collect();
        let Servers { topology, username, password, database, .. } = servers;
        let login = Login { name, username, password, database };
        let route: Box<dyn Route<T>> = match topology {
            Topology::Single(at) => Box::new(Single::new(at)),
            Topology::Sentinel { sentinels, service } => Box::new(Sentinels::new(sentinels, service)),
            Topology::Cluster { seeds } => Box::new(Cluster::new(seeds)),
        };
        Client { links: Links::new(login, seed), route, has_begun: false, is_closed: false }
    }

    /// Whether commands are taken. In a Cluster: whether any master is connected.
    pub fn is_ready(&self) -> bool {
        self.links.is_ready()
    }

    /// Whether the server is slow to answer: the oldest command has waited longer than `ms`.
    pub fn is_late(&self, now: Now, ms: u64) -> bool {
        self.links.waiting_since().is_some_and(|since_ms| now.mono_ms > since_ms + ms)
    }

    /// Bytes of commands without a reply so far.
    pub fn in_flight_bytes(&self) -> usize {
        self.links.in_flight_bytes()
    }

    /// Sends a command. `key` is the key it is about, which says where in a Cluster it goes; `None`: any server.
    pub fn send(&mut self, now: Now, key: Option<&[u8]>, args: &[&[u8]], token: T) -> Result<(), NotSent> {
        self.links.now_ms = now.mono_ms;
        let link = self.link_for(key)?;
        self.links.command(link, args, self.route.keeps_commands(), token)
    }

    /// Publishes. The reply is how many clients of that server heard it.
    pub fn publish(
        &mut self,
        now: Now,
        spread: Spread,
        channel: &[u8],
        payload: &[u8],
        token: T,
    ) -> Result<(), NotSent> {
        match self.route.spread(spread) {
            Spread::Everywhere => self.send(now, None, &[b"PUBLISH", channel, payload], token),
            Spread::Sharded => self.send(now, Some(channel), &[b"SPUBLISH", channel, payload], token),
        }
    }

    /// Runs a script on one key.
    pub fn run(&mut self, now: Now, script: &Script, key: &[u8], args: &[&[u8]], token: T) -> Result<(), NotSent> {
        self.links.now_ms = now.mono_ms;
        let link = self.link_for(Some(key))?;
        self.links.script(link, script, key, args, token)
    }

    fn link_for(&self, key: Option<&[u8]>) -> Result<LinkId, NotSent> {
        let link = self.route.link_for(key).filter(|_| self.is_ready());
        link.ok_or(NotSent::Down)
    }

    /// Listens to a channel from now on, whatever happens to links.
    pub fn subscribe(&mut self, now: Now, spread: Spread, channel: &[u8]) {
        self.links.now_ms = now.mono_ms;
        self.links.subscriptions.want(self.route.spread(spread), channel);
    }

    /// Stops listening to a channel.
    pub fn unsubscribe(&mut self, now: Now, spread: Spread, channel: &[u8]) {
        self.links.now_ms = now.mono_ms;
        self.links.unsubscribe(self.route.spread(spread), channel);
    }

    /// A link is up.
    pub fn link_up(&mut self, now: Now, link: LinkId) {
        self.begin(now);
        self.links.greet(link);
    }

    /// Bytes came over a link.
    pub fn link_bytes(&mut self, now: Now, link: LinkId, bytes: &[u8]) {
        self.begin(now);
        let mut bytes = bytes;
        self.links.counts.bytes_in += bytes.len() as u64;
        while let Some(event) = self.links.hear(link, &mut bytes) {
            if let Event::Broken { .. } = event {
                self.links.close(link);
            }
            self.route.heard(&mut self.links, link, event);
        }
    }

    /// A link could not be made or has ended.
    pub fn link_down(&mut self, now: Now, link: LinkId, why: &str) {
        self.begin(now);
        if self.links.ended(link) {
            self.route.heard(&mut self.links, link, Event::Broken { why: why.into() });
        }
    }

    /// Time has passed: connects, watchdogs, reconciliation.
    pub fn advance(&mut self, now: Now) {
        if self.is_closed {
            return;
        }
        self.begin(now);
        self.has_begun = true;
        for link in self.links.silent() {
            self.links.counts.silent += 1;
            self.links.close(link);
            self.route.heard(&mut self.links, link, Event::Broken { why: "nothing was heard from it".into() });
        }
        self.route.advance(&mut self.links);
        if self.is_ready() && now.mono_ms >= self.links.reconcile_ms {
            self.links.reconcile_ms = now.mono_ms + limits::RECONCILE_MS;
            // What is new is not missing.
            self.settle();
            self.links.subscriptions.reconcile(now.mono_ms);
            self.links.counts.resubscribed += self.settle();
            self.links.ask_subscribed();
        }
    }

    fn settle(&mut self) -> u64 {
        match self.links.subscriptions.is_unsettled && self.is_ready() {
            true => self.route.settle(&mut self.links),
            false => 0,
        }
    }

    /// The time is `now`. If this worker stood still, what the servers said meanwhile has not been heard.
    fn begin(&mut self, now: Now) {
        let was_late =
            self.next_deadline().is_some_and(|due_ms| now.mono_ms > due_ms.saturating_add(limits::STANDSTILL_MS));
        self.links.now_ms = now.mono_ms;
        if was_late {
            self.links.excuse();
        }
    }

    /// When (`mono_ms`) `advance` has work next.
    pub fn next_deadline(&self) -> Option<u64> {
        if self.is_closed {
            return None;
        }
        if !self.has_begun {
            return Some(0);
        }
        let reconcile = self.is_ready().then_some(self.links.reconcile_ms);
        [self.links.deadline(), self.route.deadline(), reconcile].into_iter().flatten().min()
    }

    /// The oldest news.
    pub fn next_news(&mut self) -> Option<News<T>> {
        self.links.told.news.pop_front()
    }

    /// What the links are to do, and the bytes that `Send`s point into. Emptied by this call's successor `sent`.
    pub fn work(&mut self) -> (&[LinkWork], &[u8]) {
        self.settle();
        self.links.work()
    }

    /// The work has been carried out.
    pub fn sent(&mut self) {
        self.links.sent();
    }

    /// How many channels it is known to listen to. Looks at all of them.
    pub fn subscribed(&self) -> usize {
        self.links.subscriptions.confirmed_anywhere()
    }

    /// What it has counted.
    pub fn counts(&self) -> ClientCounts {
        self.links.counts
    }

    /// The last error with which a server refused a subscription.
    pub fn refusal(&self) -> Option<&str> {
        self.links.refusal.as_deref()
    }

    /// Gives up all links for good. What was sent before still leaves.
    pub fn close(&mut self) {
        if !self.is_closed {
            self.is_closed = true;
            self.links.close_all();
        }
    }
}

#[cfg(test)]
mod tests;
