//! A master that Sentinels know.
//!
//! Every Sentinel is asked where the master is, and what most of them say is followed once it says itself that it is
//! one. When they announce another, it is followed at once; they are asked again when the master is lost, when it turns
//! out to be one no longer, and now and then.

use super::backoff::Backoff;
use super::link::{Answer, Kind, Question};
use super::links::Links;
use super::route::{Event, Route};
use super::server::Server;
use super::{Outcome, Spread};
use crate::limits;
use crate::turn::{Endpoint, LinkId};
use crate::wire::resp::Reply;

/// One Sentinel.
#[derive(Debug)]
struct Watcher {
    server: Server,
    /// Its own name, which tells two addresses of one Sentinel from two Sentinels.
    id: Option<Vec<u8>>,
    is_learned: bool,
    /// It has not answered yet where the master is.
    is_asked: bool,
    /// Where the master is.
    says: Option<Endpoint>,
}

impl Watcher {
    fn new(at: Endpoint, id: Option<Vec<u8>>) -> Watcher {
        let server = Server::new(at, Kind::Sentinel { with_password: false });
        Watcher { server, is_learned: id.is_some(), id, is_asked: false, says: None }
    }
}

/// When the Sentinels are asked.
#[derive(Clone, Copy, Debug)]
enum Round {
    /// At this time (`mono_ms`).
    Due(u64),
    /// They were asked; who has not answered by this time is not waited for.
    Until(u64),
}

/// The route to a master that moves.
#[derive(Debug)]
pub(super) struct Sentinels {
    service: String,
    watchers: Vec<Watcher>,
    /// Who is followed. Ready: it has said that it is a master.
    master: Option<Server>,
    round: Round,
    /// Of rounds that led to no master.
    backoff: Backoff,
    had_master: bool,
}

impl Sentinels {
    pub(super) fn new(sentinels: Vec<Endpoint>, service: String) -> Sentinels {
        let watchers = sentinels.into_iter().map(|at| Watcher::new(at, None)).collect();
        let (round, backoff) = (Round::Due(0), Backoff::default());
        Sentinels { service, watchers, master: None, round, backoff, had_master: false }
    }

    fn watcher(&mut self, link: LinkId) -> Option<&mut Watcher> {
        self.watchers.iter_mut().find(|watcher| watcher.server.link == Some(link))
    }

    fn is_master(&self, link: LinkId) -> bool {
        self.master.as_ref().is_some_and(|master| master.link == Some(link))
    }

    // ---- Rounds.

    fn begin_round<T>(&mut self, links: &mut Links<T>) {
        self.round = Round::Until(links.now_ms + limits::SENTINEL_ANSWER_MS_MAX);
        for watcher in &mut self.watchers {
            (watcher.is_asked, watcher.says) = (false, None);
            if let Some(link) = watcher.server.ready_link() {
                watcher.is_asked = true;
                links.ask(link, Question::Master, &[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self.service.as_bytes()]);
                links.ask(link, Question::Sentinels, &[b"SENTINEL", b"SENTINELS", self.service.as_bytes()]);
            }
        }
    }

    /// A Sentinel is there: it is asked like the others.
    fn greeted<T>(&mut self, links: &mut Links<T>, link: LinkId) {
        let Some(watcher) = self.watchers.iter_mut().find(|watcher| watcher.server.link == Some(link)) else { return };
        watcher.server.ready(links);
        links.listen(link, b"+switch-master");
        links.ask(link, Question::MyId, &[b"SENTINEL", b"MYID"]);
        match self.round {
            Round::Until(_) => {
                watcher.is_asked = true;
                links.ask(link, Question::Master, &[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self.service.as_bytes()]);
                links.ask(link, Question::Sentinels, &[b"SENTINEL", b"SENTINELS", self.service.as_bytes()]);
            }
            Round::Due(_) if self.master.is_none() => self.begin_round(links),
            Round::Due(_) => {}
        }
    }

    /// Ends a round once nobody is waited for.
    fn end_round<T>(&mut self, links: &mut Links<T>) {
        let Round::Until(until_ms) = self.round else { return };
        let is_awaited =
            |watcher: &Watcher| watcher.is_asked || watcher.server.link.is_some() && !watcher.server.is_ready;
        if links.now_ms < until_ms && self.watchers.iter().any(is_awaited) {
            return;
        }
        let voters: Vec<&Watcher> = self.voters().collect();
        let votes = |at: &Endpoint| voters.iter().filter(|voter| voter.says.as_ref() == Some(at)).count();
        // Of several with as many votes the last one is taken; the next round may decide otherwise.
        let chosen = voters.iter().filter_map(|voter| voter.says.as_ref()).max_by_key(|at| votes(at)).cloned();
        let is_majority = chosen.as_ref().is_some_and(|at| votes(at) * 2 > voters.len());
        let has_answered = voters.iter().any(|voter| voter.server.is_ready);
        match (chosen, &self.master) {
            (Some(at), None) => self.follow(links, at, "another server is the master"),
            // What works is left only if most of all Sentinels say so, whether they answered or not.
            (Some(at), Some(master)) if master.at != at && is_majority => {
                self.follow(links, at, "another server is the master");
            }
            (None, None) => {
                if has_answered {
                    links.lost(&format!("no Sentinel knows a master of {}", self.service));
                }
                self.failed(links);
            }
            _ => self.round = Round::Due(links.now_ms + limits::RECONCILE_MS),
        }
    }

    /// The Sentinels, each once.
    fn voters(&self) -> impl Iterator<Item = &Watcher> {
        self.watchers.iter().enumerate().filter_map(|(at, watcher)| {
            let is_known = watcher.id.is_some() && self.watchers[..at].iter().any(|other| other.id == watcher.id);
            (!is_known).then_some(watcher)
        })
    }

    /// There is no master: asks again, but not at once.
    fn failed<T>(&mut self, links: &mut Links<T>) {
        self.backoff.failed(links.now_ms, &mut links.jitter);
        self.round = Round::Due(self.backoff.due_ms);
    }

    // ---- The master.

    fn follow<T>(&mut self, links: &mut Links<T>, at: Endpoint, why: &str) {
        self.leave(links, why);
        let mut master = Server::new(at, Kind::Data);
        links.counts.reconnects += u64::from(self.had_master);
        self.had_master = true;
        master.advance(links);
        self.master = Some(master);
        self.round = Round::Due(links.now_ms + limits::RECONCILE_MS);
    }

    fn leave<T>(&mut self, links: &mut Links<T>, why: &str) {
        if let Some(mut master) = self.master.take() {
            master.leave(links);
            links.lost(&format!("{}: {why}", master.at));
        }
    }

    /// The server that is followed says what it is.
    fn judge<T>(&mut self, links: &mut Links<T>, answer: &Answer) {
        let role = match answer {
            Ok(reply) => reply.as_list().and_then(|role| role.first()).and_then(Reply::as_bytes).unwrap_or_default(),
            // Who may not ask has to believe the Sentinels.
            Err(error) if error.starts_with("NOPERM") => b"master",
            Err(error) => error.as_bytes(),
        };
        match &mut self.master {
            Some(master) if role == b"master" => {
                master.ready(links);
                self.backoff.succeeded(links.now_ms);
                self.settle(links);
                links.ready();
            }
            _ => {
                let why = format!("not a master: {}", String::from_utf8_lossy(role));
                self.leave(links, &why);
                self.failed(links);
            }
        }
    }

    // ---- What Sentinels say.

    fn told<T>(&mut self, links: &mut Links<T>, link: LinkId, question: Question, answer: &Answer) {
        let Some(watcher) = self.watcher(link) else { return };
        match question {
            Question::Master => {
                watcher.is_asked = false;
                watcher.says = answer.as_ref().ok().and_then(Reply::as_list).and_then(|at| match at {
                    [host, port] => endpoint(host.as_bytes()?, port.as_bytes()?),
                    _ => None,
                });
                if self.master.is_none() && matches!(self.round, Round::Due(_)) {
                    // Late, but nobody has said anything better.
                    self.round = Round::Until(links.now_ms);
                }
                self.end_round(links);
            }
            Question::MyId => {
                let id = answer.as_ref().ok().and_then(Reply::as_bytes).filter(|id| !id.is_empty());
                watcher.id = id.map(<[u8]>::to_vec);
            }
            Question::Sentinels => {
                for other in answer.as_ref().ok().and_then(Reply::as_list).unwrap_or_default() {
                    self.learn(other);
                }
            }
            Question::Role | Question::Subscribed | Question::Slots => {}
        }
    }

    /// A Sentinel named another.
    fn learn(&mut self, other: &Reply) {
        let (Some(host), Some(port), Some(id)) = (field(other, b"ip"), field(other, b"port"), field(other, b"runid"))
        else {
            return;
        };
        let Some(at) = endpoint(host, port) else { return };
        let is_known = |watcher: &Watcher| watcher.server.at == at || watcher.id.as_deref() == Some(id);
        if !id.is_empty() && self.watchers.len() < limits::SENTINELS_MAX && !self.watchers.iter().any(is_known) {
            self.watchers.push(Watcher::new(at, Some(id.to_vec())));
        }
    }

    /// `+switch-master`: service, old host, old port, new host, new port.
    fn announced<T>(&mut self, links: &mut Links<T>, what: &[u8]) {
        let mut words = what.split(|byte| *byte == b' ');
        if words.next() == Some(self.service.as_bytes())
            && let (Some(host), Some(port)) = (words.nth(2), words.next())
            && let Some(at) = endpoint(host, port)
            && self.master.as_ref().is_none_or(|master| master.at != at)
        {
            self.follow(links, at, "the Sentinels have switched to another master");
        }
    }

    /// A Sentinel's link is gone.
    fn unwatched<T>(&mut self, links: &mut Links<T>, link: LinkId, why: &str) {
        let Some(at) = self.watchers.iter().position(|watcher| watcher.server.link == Some(link)) else { return };
        let watcher = &mut self.watchers[at];
        watcher.server.lost(links);
        (watcher.is_asked, watcher.says) = (false, None);
        let told = format!("Sentinel {}: {why}", watcher.server.at);
        let has_password = links.login.password.is_some();
        if why.starts_with("NOAUTH") && has_password && watcher.server.kind != (Kind::Sentinel { with_password: true })
        {
            watcher.server.kind = Kind::Sentinel { with_password: true };
            watcher.server.backoff = Backoff::default();
        } else if self.master.is_none() && !self.watchers.iter().any(|watcher| watcher.server.is_ready) {
            links.lost(&told);
        }
        let watcher = &self.watchers[at];
        if watcher.is_learned && watcher.server.backoff.failures() > limits::SENTINEL_FAILURES_MAX {
            self.watchers.remove(at);
        }
        self.end_round(links);
    }
}

impl<T> Route<T> for Sentinels {
    fn advance(&mut self, links: &mut Links<T>) {
        self.watchers.iter_mut().for_each(|watcher| watcher.server.advance(links));
        match self.round {
            Round::Due(due_ms) if links.now_ms >= due_ms => self.begin_round(links),
            Round::Due(_) => {}
            Round::Until(_) => self.end_round(links),
        }
    }

    fn heard(&mut self, links: &mut Links<T>, link: LinkId, event: Event<T>) {
        let is_master = self.is_master(link);
        match event {
            Event::Ready if is_master => links.ask(link, Question::Role, &[b"ROLE"]),
            Event::Ready => self.greeted(links, link),
            Event::Answer { answer, .. } if is_master => self.judge(links, &answer),
            Event::Answer { question, answer } => self.told(links, link, question, &answer),
            Event::Announced { what } => self.announced(links, &what),
            Event::Broken { why } if is_master => {
                self.leave(links, &why);
                self.failed(links);
            }
            Event::Broken { why } => self.unwatched(links, link, &why),
            Event::Refused { command, error } => {
                let is_demoted = is_master && error.starts_with("READONLY");
                links.tell(command.token, Outcome::Refused(error));
                if is_demoted {
                    self.leave(links, "it is a replica now");
                    self.failed(links);
                }
            }
            // The next comparison asks again.
            Event::Unsubscribed { .. } => {}
        }
    }

    fn link_for(&self, _key: Option<&[u8]>) -> Option<LinkId> {
        self.master.as_ref()?.ready_link()
    }

    fn settle(&mut self, links: &mut Links<T>) -> u64 {
        let link = self.master.as_ref().and_then(Server::ready_link);
        links.settle(|_, _| Some((link?, 0)))
    }

    fn spread(&self, _wanted: Spread) -> Spread {
        Spread::Everywhere
    }

    fn keeps_commands(&self) -> bool {
        false
    }

    fn deadline(&self) -> Option<u64> {
        let (Round::Due(round_ms) | Round::Until(round_ms)) = self.round;
        self.watchers.iter().filter_map(|watcher| watcher.server.deadline()).chain([round_ms]).min()
    }
}

fn endpoint(host: &[u8], port: &[u8]) -> Option<Endpoint> {
    let host = std::str::from_utf8(host).ok().filter(|host| !host.is_empty())?;
    let port = std::str::from_utf8(port).ok()?.parse().ok()?;
    Some(Endpoint::Tcp { host: host.into(), port })
}

/// A field of a map, or of a list that was one in RESP2.
fn field<'a>(of: &'a Reply, name: &[u8]) -> Option<&'a [u8]> {
    match of {
        Reply::Map(fields) => fields.iter().find(|(key, _)| key.as_bytes() == Some(name))?.1.as_bytes(),
        Reply::List(fields) => fields.chunks_exact(2).find(|pair| pair[0].as_bytes() == Some(name))?[1].as_bytes(),
        _ => None,
    }
}
