//! A Cluster: one link to each master, and which slot is where.
//!
//! Any node knows where the slots are. One is asked at the start, when a server points elsewhere, when a master is lost,
//! and now and then. What goes to no slot goes to *home*, one of the masters.

use super::backoff::Backoff;
use super::link::{Answer, Command, Question};
use super::links::Links;
use super::nodes::{Node, Nodes, Number, Role};
use super::route::{Event, Route};
use super::slots::{self, SLOTS, slot_of};
use super::{Outcome, Spread};
use crate::limits;
use crate::turn::{Endpoint, LinkId};

/// The route to the masters of a Cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    seeds: Vec<Endpoint>,
    /// Every node that was named last.
    known: Vec<Endpoint>,
    nodes: Nodes,
    /// Who has each slot.
    owners: Vec<Option<Number>>,
    home: Option<Number>,
    /// Until then (`mono_ms`) the choice of a home waits for masters that are being connected.
    home_ms: u64,
    /// When (`mono_ms`) somebody is to be asked where the slots are.
    due_ms: u64,
    /// Who was asked last, and when.
    asked: (Option<LinkId>, u64),
    /// Whose turn it is to be asked, or to be connected for that.
    turn: usize,
    /// Of answers that left something open.
    backoff: Backoff,
    /// Subscriptions that followed a pointer since the last answer.
    followed: u32,
}

impl Cluster {
    pub(super) fn new(seeds: Vec<Endpoint>) -> Cluster {
        Cluster {
            seeds,
            known: Vec::new(),
            nodes: Nodes::default(),
            owners: vec![None; SLOTS],
            home: None,
            home_ms: 0,
            due_ms: 0,
            asked: (None, 0),
            turn: 0,
            backoff: Backoff::default(),
            followed: 0,
        }
    }

    // ---- Nodes.

    fn owner_link(&self, key: &[u8]) -> Option<LinkId> {
        self.nodes.ready_link(self.owners[slot_of(key)]?)
    }

    fn home_link(&self) -> Option<LinkId> {
        self.nodes.ready_link(self.home?)
    }

    /// Lets go of nodes that have left, once they have answered.
    fn sweep<T>(&mut self, links: &mut Links<T>) {
        for number in self.nodes.sweep(links) {
            self.disown(number);
        }
    }

    /// Nothing is at this node any more.
    fn disown(&mut self, number: Number) {
        for owner in self.owners.iter_mut().filter(|owner| **owner == Some(number)) {
            *owner = None;
        }
    }

    /// Chooses another home if there is none, at random. False: there is no master that could be it.
    fn settle_home<T>(&mut self, links: &mut Links<T>) -> bool {
        if self.home.is_some_and(|home| self.nodes.get(home).is_some_and(Node::is_ready_master)) {
            return true;
        }
        if let Some(link) = self.home_link() {
            links.subscriptions.left(link);
        }
        self.home = None;
        let fit: Vec<Number> =
            self.nodes.iter().filter(|(_, node)| node.is_ready_master()).map(|(number, _)| number).collect();
        if fit.is_empty() {
            return false;
        }
        // Else the node that was asked first would be everybody's home.
        let is_awaited = |node: &Node| node.role == Role::Master && node.server.link.is_some() && !node.server.is_ready;
        if links.now_ms < self.home_ms && self.nodes.iter().any(|(_, node)| is_awaited(node)) {
            return true;
        }
        self.home = Some(fit[links.jitter.below(fit.len() as u64) as usize]);
        self.place(links);
        if !links.is_ready() {
            links.ready();
        }
        true
    }

    fn place<T>(&self, links: &mut Links<T>) -> u64 {
        links.settle(|spread, channel| match spread {
            Spread::Everywhere => Some((self.home_link()?, 0)),
            Spread::Sharded => Some((self.owner_link(channel)?, slot_of(channel) as u16)),
        })
    }

    // ---- Where the slots are.

    /// Asks as soon as that is allowed.
    fn ask_soon<T>(&mut self, links: &Links<T>) {
        self.due_ms = self.due_ms.min(links.now_ms.max(self.asked.1 + limits::SLOTS_MS_MIN));
    }

    /// Asks the next node, or connects one to be asked.
    fn ask<T>(&mut self, links: &mut Links<T>) {
        self.turn = self.turn.wrapping_add(1);
        let ready: Vec<LinkId> = self.nodes.iter().filter_map(|(_, node)| node.server.ready_link()).collect();
        self.due_ms = links.now_ms + limits::SLOTS_MS;
        if !ready.is_empty() {
            self.ask_link(links, ready[self.turn % ready.len()]);
            return;
        }
        self.asked = (None, links.now_ms);
        let is_new = |at: &&Endpoint| !self.nodes.iter().any(|(_, node)| node.server.at == **at);
        let places: Vec<Endpoint> = self.known.iter().chain(&self.seeds).filter(is_new).cloned().collect();
        if !places.is_empty() {
            self.nodes.connect(links, places[self.turn % places.len()].clone(), Role::Scout);
        }
        self.ask_later(links);
    }

    fn ask_link<T>(&mut self, links: &mut Links<T>, link: LinkId) {
        self.asked = (Some(link), links.now_ms);
        self.due_ms = links.now_ms + limits::SLOTS_MS;
        links.ask(link, Question::Slots, &[b"CLUSTER", b"SLOTS"]);
    }

    /// Something is open: asks again, at growing distances.
    fn ask_later<T>(&mut self, links: &mut Links<T>) {
        self.backoff.failed(links.now_ms, &mut links.jitter);
        self.due_ms = self.due_ms.min(self.backoff.due_ms.max(self.asked.1 + limits::SLOTS_MS_MIN));
    }

    fn answered<T>(&mut self, links: &mut Links<T>, link: LinkId, answer: &Answer) {
        if self.asked.0 == Some(link) {
            self.asked.0 = None;
        }
        let Some(asked) = self.nodes.by_link(link).and_then(|number| self.nodes.get(number)) else { return };
        let at = asked.server.at.clone();
        let ranges = answer.as_ref().ok().and_then(|reply| slots::ranges(reply, &at));
        match ranges {
            Some(ranges) if !ranges.is_empty() => self.apply(links, &ranges),
            _ => {
                let why = answer.as_ref().err().map_or("it knows of no slots", |error| error);
                if !links.is_ready() {
                    links.lost(&format!("{at}: {why}"));
                }
                self.ask_later(links);
            }
        }
    }

    fn apply<T>(&mut self, links: &mut Links<T>, ranges: &[slots::Range]) {
        self.nodes.doubt_all(links.now_ms);
        self.owners.fill(None);
        self.known.clear();
        for range in ranges {
            let number = self.nodes.master(links, &range.master);
            self.owners[range.first..=range.last].fill(number);
            for at in [&range.master].into_iter().chain(&range.replicas) {
                if !self.known.contains(at) && self.known.len() < limits::CLUSTER_NODES_MAX {
                    self.known.push(at.clone());
                }
            }
        }
        self.followed = 0;
        self.home_ms = links.now_ms + limits::HOME_MS_MAX;
        if !self.settle_home(links) && links.is_ready() {
            links.lost("the Cluster has other masters now");
        }
        links.subscriptions.moved(|channel| self.owner_link(channel));
        self.place(links);
        self.sweep(links);
        let is_settled =
            self.owners.iter().all(|owner| owner.is_some_and(|owner| self.nodes.ready_link(owner).is_some()));
        if is_settled {
            self.backoff = Backoff::default();
            self.due_ms = self.due_ms.min(links.now_ms + limits::SLOTS_MS);
        } else {
            self.ask_later(links);
        }
    }

    // ---- What nodes refuse.

    fn refused<T>(&mut self, links: &mut Links<T>, link: LinkId, command: Command<T>, error: Box<str>) {
        let pointer = self.pointer(link, &error);
        let (Some(pointer), Some(mut kept)) = (pointer, command.kept) else {
            if is_about_slots(&error) {
                self.ask_soon(links);
            }
            links.tell(command.token, Outcome::Refused(error));
            return;
        };
        let target = self.follow(links, &pointer);
        match target.and_then(|target| self.nodes.get(target)?.server.link) {
            Some(target) if kept.redirects < limits::REDIRECTS_MAX => {
                kept.redirects += 1;
                kept.asking = pointer.is_ask;
                links.counts.redirects += 1;
                links.send_again(target, command.token, kept);
            }
            _ => links.tell(command.token, Outcome::Refused(error)),
        }
    }

    fn pointer(&self, link: LinkId, error: &str) -> Option<slots::Pointer> {
        slots::pointer(error, &self.nodes.get(self.nodes.by_link(link)?)?.server.at)
    }

    /// A node points to another one, for good or for one command.
    fn follow<T>(&mut self, links: &mut Links<T>, pointer: &slots::Pointer) -> Option<Number> {
        let target = self.nodes.master(links, &pointer.at);
        if !pointer.is_ask {
            self.owners[pointer.slot] = target;
            self.ask_soon(links);
        }
        target
    }

    /// A node does not have a channel that was wanted there.
    fn unsubscribed<T>(&mut self, links: &mut Links<T>, link: LinkId, error: Option<&str>) {
        let moves = match error {
            // Its slot has moved. The node may not say to whom, but it will point there.
            None => true,
            Some(error) => match self.pointer(link, error) {
                Some(pointer) => self.follow(links, &pointer).is_some(),
                None => is_about_slots(error),
            },
        };
        if moves {
            self.ask_soon(links);
            // Nodes that point to each other are left alone until somebody knows more.
            self.followed += 1;
            links.subscriptions.is_unsettled |= self.followed <= limits::REDIRECTS_MAX;
        }
    }

    // ---- Links.

    fn greeted<T>(&mut self, links: &mut Links<T>, link: LinkId) {
        let Some(node) = self.nodes.by_link(link).and_then(|number| self.nodes.get_mut(number)) else { return };
        node.server.ready(links);
        links.subscriptions.is_unsettled = true;
        if node.role == Role::Scout && self.asked.0.is_none() {
            self.ask_link(links, link);
        }
        self.settle_home(links);
    }

    fn lost<T>(&mut self, links: &mut Links<T>, link: LinkId, why: &str) {
        if self.asked.0 == Some(link) {
            self.asked.0 = None;
            self.ask_later(links);
        }
        let Some(number) = self.nodes.by_link(link) else { return };
        let Some(node) = self.nodes.get_mut(number) else { return };
        let was_ready = node.server.is_ready;
        node.server.lost(links);
        let why = format!("{}: {why}", node.server.at);
        if node.role != Role::Master {
            self.nodes.forget(number);
            self.disown(number);
        } else if was_ready {
            // Attempts that fail change nothing.
            self.ask_soon(links);
        }
        if !self.settle_home(links) {
            links.lost(&why);
        }
    }
}

impl<T> Route<T> for Cluster {
    fn advance(&mut self, links: &mut Links<T>) {
        for node in self.nodes.iter_mut() {
            node.server.advance(links);
        }
        if self.asked.0.is_some() && links.now_ms >= self.asked.1 + limits::SLOTS_ANSWER_MS_MAX {
            self.asked.0 = None;
            self.due_ms = links.now_ms;
        }
        if self.asked.0.is_none() && links.now_ms >= self.due_ms {
            self.ask(links);
        }
        if self.home.is_none() {
            self.settle_home(links);
        }
        self.sweep(links);
    }

    fn heard(&mut self, links: &mut Links<T>, link: LinkId, event: Event<T>) {
        match event {
            Event::Ready => self.greeted(links, link),
            Event::Broken { why } => self.lost(links, link, &why),
            Event::Refused { command, error } => self.refused(links, link, command, error),
            Event::Unsubscribed { error } => self.unsubscribed(links, link, error.as_deref()),
            Event::Answer { question: Question::Slots, answer } => self.answered(links, link, &answer),
            Event::Answer { .. } | Event::Announced { .. } => {}
        }
    }

    fn link_for(&self, key: Option<&[u8]>) -> Option<LinkId> {
        match key {
            Some(key) => self.owner_link(key),
            None => self.home_link(),
        }
    }

    fn settle(&mut self, links: &mut Links<T>) -> u64 {
        self.place(links)
    }

    fn spread(&self, wanted: Spread) -> Spread {
        wanted
    }

    fn keeps_commands(&self) -> bool {
        true
    }

    fn deadline(&self) -> Option<u64> {
        let ask_ms = match self.asked {
            (Some(_), since_ms) => since_ms + limits::SLOTS_ANSWER_MS_MAX,
            (None, _) => self.due_ms,
        };
        let is_choosing = self.home.is_none() && self.nodes.iter().any(|(_, node)| node.is_ready_master());
        [self.nodes.deadline(), Some(ask_ms), is_choosing.then_some(self.home_ms)].into_iter().flatten().min()
    }
}

/// Whether an error may mean that the slots are elsewhere, or soon will be.
fn is_about_slots(error: &str) -> bool {
    ["TRYAGAIN", "CLUSTERDOWN", "LOADING", "READONLY", "MASTERDOWN", "MOVED"].iter().any(|kind| error.starts_with(kind))
}
