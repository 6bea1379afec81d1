//! All links of a client, what is to be done with them, and what was heard over them.

use std::collections::BTreeMap;

use super::backoff::Jitter;
use super::link::{Answer, Command, Heard, Kept, Kind, Link, Login, Pulse, Question, Waiting};
use super::route::Event;
use super::script::{self, Hashes};
use super::subscriptions::Subscriptions;
use super::told::Told;
use super::{ClientCounts, News, NotSent, Outcome, Script, Spread};
use crate::limits;
use crate::turn::{Endpoint, LinkId, LinkWork};
use crate::wire::resp::{Reply, command};

/// The links of a client, its subscriptions and its news.
#[derive(Debug)]
pub(super) struct Links<T> {
    /// Now, as the client was told last.
    pub(super) now_ms: u64,
    pub(super) login: Login,
    pub(super) jitter: Jitter,
    pub(super) subscriptions: Subscriptions,
    /// When (`mono_ms`) the subscriptions are compared next, while commands are taken.
    pub(super) reconcile_ms: u64,
    pub(super) counts: ClientCounts,
    pub(super) told: Told<T>,
    links: BTreeMap<LinkId, Link<T>>,
    next_link: u32,
    hashes: Hashes,
    scratch: Vec<u8>,
    work: Vec<LinkWork>,
    bytes: Vec<u8>,
    /// How much of `work` the shell has been shown.
    shown: usize,
    /// The last error with which a subscription was refused.
    pub(super) refusal: Option<Box<str>>,
}

impl<T> Links<T> {
    pub(super) fn new(login: Login, seed: u64) -> Links<T> {
        Links {
            now_ms: 0,
            login,
            jitter: Jitter::new(seed),
            subscriptions: Subscriptions::default(),
            reconcile_ms: 0,
            counts: ClientCounts::default(),
            told: Told::new(),
            links: BTreeMap::new(),
            next_link: 0,
            hashes: Hashes::default(),
            scratch: Vec::new(),
            work: Vec::new(),
            bytes: Vec::new(),
            shown: 0,
            refusal: None,
        }
    }

    /// Whether nothing waits for an answer on a link.
    pub(super) fn is_idle(&self, id: LinkId) -> bool {
        self.links.get(&id).is_none_or(Link::is_idle)
    }

    /// Since when (`mono_ms`) a server with data has owed an answer.
    pub(super) fn waiting_since(&self) -> Option<u64> {
        let links = self.links.values().filter(|link| link.is_ready() && link.kind == Kind::Data);
        links.filter_map(Link::waiting_since).min()
    }

    pub(super) fn in_flight_bytes(&self) -> usize {
        self.links.values().map(|link| link.in_flight_bytes).sum()
    }

    // ---- Links come and go.

    pub(super) fn open(&mut self, to: &Endpoint, kind: Kind) -> LinkId {
        let id = LinkId(self.next_link);
        self.next_link = self.next_link.wrapping_add(1);
        self.links.insert(id, Link::new(id, kind, self.now_ms));
        self.work.push(LinkWork::Open { link: id, to: to.clone() });
        id
    }

    pub(super) fn greet(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.greet(&self.login, self.now_ms);
        }
    }

    /// Gives a link up: tells what became of its commands, and that nothing is subscribed there any more.
    pub(super) fn close(&mut self, id: LinkId) {
        if self.ended(id) {
            self.work.push(LinkWork::Close { link: id });
        }
    }

    /// Gives all links up, but for what they are still to send.
    pub(super) fn close_all(&mut self) {
        self.told.closed();
        if self.shown == 0 {
            self.collect();
        }
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            self.close(id);
        }
    }

    /// A link has ended by itself. False: it was not there any more.
    pub(super) fn ended(&mut self, id: LinkId) -> bool {
        let Some(link) = self.links.remove(&id) else { return false };
        for waiting in link.into_unanswered() {
            if let Waiting::Command(command) = waiting {
                self.tell(command.token, Outcome::Unknown);
            }
        }
        self.subscriptions.left(id);
        true
    }

    /// Links that have fallen silent.
    pub(super) fn silent(&mut self) -> Vec<LinkId> {
        let now_ms = self.now_ms;
        let silent = self.links.values_mut().filter_map(|link| (link.feel(now_ms) == Pulse::Silent).then_some(link.id));
        silent.collect()
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        self.links.values().map(Link::deadline).min()
    }

    pub(super) fn excuse(&mut self) {
        self.links.values_mut().for_each(|link| link.excuse(self.now_ms));
    }

    // ---- What is sent.

    /// Sends a command of the client's owner.
    pub(super) fn command(&mut self, id: LinkId, args: &[&[u8]], keep: bool, token: T) -> Result<(), NotSent> {
        self.scratch.clear();
        command::write(&mut self.scratch, args);
        self.send_scratch(id, keep, None, token)
    }

    /// Sends a script by its hash.
    pub(super) fn script(
        &mut self,
        id: LinkId,
        script: &Script,
        key: &[u8],
        args: &[&[u8]],
        token: T,
    ) -> Result<(), NotSent> {
        self.scratch.clear();
        self.hashes.write(&mut self.scratch, script.0, key, args);
        self.send_scratch(id, true, Some(script.0), token)
    }

    fn send_scratch(&mut self, id: LinkId, keep: bool, script: Option<&'static str>, token: T) -> Result<(), NotSent> {
        let bytes = self.scratch.len();
        if self.in_flight_bytes() + bytes > limits::BACKPLANE_BYTES_MAX {
            return Err(NotSent::Full);
        }
        let link = self.links.get_mut(&id).ok_or(NotSent::Down)?;
        if keep {
            let kept = Kept { bytes: self.scratch.clone(), script, redirects: 0, asking: false };
            link.send_kept(token, Box::new(kept), self.now_ms);
        } else {
            let command = Command { token, bytes, kept: None };
            link.send(Waiting::Command(command), self.now_ms, |out| out.extend_from_slice(&self.scratch));
        }
        Ok(())
    }

    /// Sends a kept command again.
    pub(super) fn send_again(&mut self, id: LinkId, token: T, kept: Box<Kept>) {
        match self.links.get_mut(&id) {
            Some(link) => link.send_kept(token, kept, self.now_ms),
            None => self.tell(token, Outcome::Unknown),
        }
    }

    /// Asks something for the client itself.
    pub(super) fn ask(&mut self, id: LinkId, question: Question, args: &[&[u8]]) {
        if let Some(link) = self.links.get_mut(&id) {
            link.send(Waiting::Question(question), self.now_ms, |out| command::write(out, args));
        }
    }

    /// Listens to what a Sentinel announces.
    pub(super) fn listen(&mut self, id: LinkId, channel: &[u8]) {
        if let Some(link) = self.links.get_mut(&id) {
            link.subscribe(b"SUBSCRIBE", Spread::Everywhere, vec![channel.into()], self.now_ms);
        }
    }

    /// Sends the subscriptions that are nowhere to the links that `whither` names for them: one command never mixes
    /// places, and has at most as many channels as is good for a server. Returns how many were sent.
    pub(super) fn settle(&mut self, whither: impl Fn(Spread, &[u8]) -> Option<(LinkId, u16)>) -> u64 {
        self.subscriptions.is_unsettled = false;
        let mut found: Vec<_> = self
            .subscriptions
            .homeless()
            .filter_map(|(spread, channel)| Some((whither(spread, channel)?, spread, channel.clone())))
            .collect();
        found.sort_unstable();
        for group in found.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            for batch in group.chunks(limits::SUBSCRIBE_CHANNELS_MAX) {
                let ((link, _), spread) = (batch[0].0, batch[0].1);
                let channels: Vec<_> = batch.iter().map(|(_, _, channel)| channel.clone()).collect();
                for channel in &channels {
                    self.subscriptions.asked(spread, channel, link, self.now_ms);
                }
                let name: &[u8] = if spread == Spread::Sharded { b"SSUBSCRIBE" } else { b"SUBSCRIBE" };
                if let Some(link) = self.links.get_mut(&link) {
                    link.subscribe(name, spread, channels, self.now_ms);
                }
            }
        }
        found.len() as u64
    }

    pub(super) fn unsubscribe(&mut self, spread: Spread, channel: &[u8]) {
        if let Some((id, channel)) = self.subscriptions.forget(spread, channel)
            && let Some(link) = self.links.get_mut(&id)
        {
            let name: &[u8] = if spread == Spread::Sharded { b"SUNSUBSCRIBE" } else { b"UNSUBSCRIBE" };
            let waiting = Waiting::Unsubscribe { spread, channel: channel.clone() };
            link.send(waiting, self.now_ms, |out| command::write(out, &[name, &channel]));
        }
    }

    /// Asks every link how much it is subscribed to: a server may end a subscription and say nothing.
    pub(super) fn ask_subscribed(&mut self) {
        for id in self.subscriptions.links() {
            self.ask(id, Question::Subscribed, &[b"CLIENT", b"INFO"]);
        }
    }

    // ---- What is heard.

    /// Goes on with what arrived over a link until there is something to decide; `None`: all of it was heard.
    pub(super) fn hear(&mut self, id: LinkId, bytes: &mut &[u8]) -> Option<Event<T>> {
        loop {
            let link = self.links.get_mut(&id)?;
            let heard = match link.hear(bytes, self.now_ms, &mut self.counts.oversized) {
                Ok(heard) => heard?,
                Err(why) => return Some(Event::Broken { why }),
            };
            let event = match heard {
                Heard::Ready => Some(Event::Ready),
                Heard::Message { payload, .. } if link.kind != Kind::Data => Some(Event::Announced { what: payload }),
                Heard::Message { spread, channel, payload } => {
                    // Else it was unsubscribed while the message was under way, or has moved to another link.
                    if let Some(channel) = self.subscriptions.name(spread, &channel, id) {
                        self.told.news.push_back(News::Message { channel, payload });
                    }
                    None
                }
                Heard::Confirmed { spread, channel } => {
                    if let Some(channel) = self.subscriptions.confirmed(spread, &channel, id) {
                        self.told.news.push_back(News::Subscribed { channel });
                    }
                    None
                }
                Heard::Dropped { spread, channel } => {
                    self.counts.unsubscribed += 1;
                    self.subscriptions.dropped(spread, &channel, id);
                    Some(Event::Unsubscribed { error: None })
                }
                Heard::Answer(waiting, answer) => self.answered(id, waiting, answer),
            };
            if event.is_some() {
                return event;
            }
        }
    }

    fn answered(&mut self, id: LinkId, waiting: Waiting<T>, answer: Answer) -> Option<Event<T>> {
        match (waiting, answer) {
            (Waiting::Command(command), Ok(reply)) => self.tell(command.token, Outcome::Reply(reply)),
            (Waiting::Command(command), Err(error)) => match command.kept {
                Some(mut kept) if error.starts_with("NOSCRIPT") && kept.script.is_some() => {
                    if let Some(script) = kept.script.take() {
                        kept.bytes = script::whole(&kept.bytes, script);
                    }
                    self.send_again(id, command.token, kept);
                }
                kept => return Some(Event::Refused { command: Command { kept, ..command }, error }),
            },
            (Waiting::Question(Question::Subscribed), answer) => self.compare(id, &answer),
            (Waiting::Question(question), answer) => return Some(Event::Answer { question, answer }),
            (Waiting::Subscribe { spread, channels, .. }, Err(error)) => {
                self.counts.unsubscribed += channels.len() as u64;
                for channel in channels {
                    self.subscriptions.dropped(spread, &channel, id);
                }
                self.refusal = Some(error.clone());
                return Some(Event::Unsubscribed { error: Some(error) });
            }
            // What is not there need not be left; a handshake's answers stay in the link.
            _ => {}
        }
        None
    }

    /// A server says how much a link is subscribed to. It has told everything else before, so this is exact.
    fn compare(&mut self, id: LinkId, answer: &Answer) {
        // A user who may not ask is not told; the confirmations have to do.
        let Ok(Reply::Text(info)) = answer else { return };
        let info = String::from_utf8_lossy(info);
        let number = |name: &str| {
            let field = info.split_ascii_whitespace().find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
            field.and_then(|number| number.parse::<usize>().ok())
        };
        for (spread, name) in [(Spread::Everywhere, "sub"), (Spread::Sharded, "ssub")] {
            if number(name).is_some_and(|number| number < self.subscriptions.count(spread, id)) {
                self.counts.resubscribed += self.subscriptions.doubt(spread, id);
            }
        }
    }

    // ---- What the owner is told.

    pub(super) fn is_ready(&self) -> bool {
        self.told.is_ready()
    }

    pub(super) fn tell(&mut self, token: T, outcome: Outcome) {
        self.told.outcome(token, outcome);
    }

    pub(super) fn ready(&mut self) {
        self.reconcile_ms = self.now_ms + limits::RECONCILE_MS;
        self.told.ready();
    }

    pub(super) fn lost(&mut self, why: &str) {
        self.told.lost(why, self.now_ms);
    }

    // ---- What the shell is to do.

    pub(super) fn work(&mut self) -> (&[LinkWork], &[u8]) {
        // Shown twice, it is the same.
        if self.shown == 0 {
            self.collect();
            self.shown = self.work.len();
        }
        (&self.work[..self.shown], &self.bytes)
    }

    /// One send for each link that has something to send.
    fn collect(&mut self) {
        for link in self.links.values_mut().filter(|link| !link.out.is_empty()) {
            let (start, len) = (self.bytes.len() as u32, link.out.len() as u32);
            self.bytes.append(&mut link.out);
            link.out.shrink_to(limits::REST_BYTES_KEPT_MAX);
            self.work.push(LinkWork::Send { link: link.id, start, len });
            self.counts.bytes_out += u64::from(len);
        }
    }

    pub(super) fn sent(&mut self) {
        self.work.drain(..self.shown);
        self.shown = 0;
        self.bytes.clear();
        self.bytes.shrink_to(limits::REST_BYTES_KEPT_MAX);
    }
}
