//! The client against servers that do what a test says, byte by byte.

mod cluster;
mod link;
mod sentinel;
mod storm;
mod subscriptions;

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::turn::Endpoint;
use crate::wire::resp::Frame;
use crate::wire::resp::read::Reader;

/// A server's end of a link.
struct Peer {
    to: Endpoint,
    reader: Reader,
    /// Commands that have not been looked at, their arguments joined by spaces.
    asked: VecDeque<String>,
}

/// A client, and the servers that it has opened links to.
struct World {
    client: Client<u32>,
    now: Now,
    peers: BTreeMap<LinkId, Peer>,
    closed: Vec<LinkId>,
}

fn tcp(port: u16) -> Endpoint {
    Endpoint::Tcp { host: "host".into(), port }
}

fn servers(topology: Topology) -> Servers {
    Servers { topology, tls: false, username: None, password: None, database: 0 }
}

fn text_of(command: Frame) -> String {
    let Frame::Reply(command) = command else { panic!("not a command: {command:?}") };
    let args = command.as_list().expect("an array").iter().map(|arg| arg.as_bytes().expect("a string"));
    args.map(|arg| String::from_utf8_lossy(arg).into_owned()).collect::<Vec<_>>().join(" ")
}

fn bulk(texts: &[&str]) -> String {
    let bulks: String = texts.iter().map(|text| format!("${}\r\n{text}\r\n", text.len())).collect();
    format!("*{}\r\n{bulks}", texts.len())
}

fn push(texts: &[&str]) -> String {
    bulk(texts).replacen('*', ">", 1)
}

fn confirmation(kind: &str, channel: &str) -> String {
    format!(">3\r\n${}\r\n{kind}\r\n${}\r\n{channel}\r\n:1\r\n", kind.len(), channel.len())
}

impl World {
    fn new(servers: Servers) -> World {
        let now = Now { mono_ms: 1_000, unix_ms: 1_700_000_000_000 };
        let client = Client::new(servers, "me", 3);
        let mut world = World { client, now, peers: BTreeMap::new(), closed: Vec::new() };
        assert_eq!(world.client.next_deadline(), Some(0), "it wants to begin");
        world.client.advance(now);
        world.carry_out();
        world
    }

    /// One server, ready.
    fn ready() -> (World, LinkId) {
        let mut world = World::new(servers(Topology::Single(tcp(1))));
        let link = world.link(1);
        world.greet(link);
        assert_eq!(world.news(), [News::Ready]);
        (world, link)
    }

    fn carry_out(&mut self) {
        let (work, bytes) = self.client.work();
        let mut senders = Vec::new();
        for item in work {
            match item {
                LinkWork::Open { link, to } => {
                    let reader = Reader::new(1 << 24, 1 << 24);
                    let peer = Peer { to: to.clone(), reader, asked: VecDeque::new() };
                    assert!(self.peers.insert(*link, peer).is_none(), "a number was used twice");
                }
                LinkWork::Send { link, start, len } => {
                    assert!(!senders.contains(link), "two sends to one link");
                    senders.push(*link);
                    let peer = self.peers.get_mut(link).expect("a send to a link that is open");
                    let mut bytes = &bytes[*start as usize..][..*len as usize];
                    while let Some(command) = peer.reader.take(&mut bytes).expect("a command") {
                        peer.asked.push_back(text_of(command));
                    }
                }
                LinkWork::Close { link } => {
                    assert!(self.peers.remove(link).is_some(), "closed, and was not open");
                    self.closed.push(*link);
                }
            }
        }
        self.client.sent();
    }

    /// The newest link to a port.
    fn link(&self, port: u16) -> LinkId {
        let links = self.peers.iter().rev();
        let found = links.into_iter().find(|(_, peer)| peer.to == tcp(port)).map(|(link, _)| *link);
        found.unwrap_or_else(|| panic!("no link to {port}"))
    }

    fn has_link(&self, port: u16) -> bool {
        self.peers.values().any(|peer| peer.to == tcp(port))
    }

    /// What the client has sent over a link since it was looked at last.
    fn asked(&mut self, link: LinkId) -> Vec<String> {
        self.carry_out();
        self.peers.get_mut(&link).expect("an open link").asked.drain(..).collect()
    }

    fn up(&mut self, link: LinkId) {
        self.client.link_up(self.now, link);
        self.carry_out();
    }

    fn answer(&mut self, link: LinkId, bytes: &str) {
        self.client.link_bytes(self.now, link, bytes.as_bytes());
        self.carry_out();
    }

    fn down(&mut self, link: LinkId) {
        self.peers.remove(&link).expect("an open link");
        self.client.link_down(self.now, link, "gone");
        self.carry_out();
    }

    /// Connects a link and ends its handshake.
    fn greet(&mut self, link: LinkId) {
        self.up(link);
        let asked = self.asked(link);
        assert!(asked[0].starts_with("HELLO 3") && asked.last().is_some_and(|last| last == "PING"), "{asked:?}");
        self.answer(link, &format!("%0\r\n{}+PONG\r\n", "+OK\r\n".repeat(asked.len() - 2)));
    }

    /// Lets time pass, deadline by deadline.
    fn pass(&mut self, ms: u64) {
        let end_ms = self.now.mono_ms + ms;
        while let Some(due_ms) = self.client.next_deadline().filter(|due_ms| *due_ms <= end_ms) {
            self.now.mono_ms = self.now.mono_ms.max(due_ms);
            self.client.advance(self.now);
            assert!(self.client.next_deadline() > Some(self.now.mono_ms), "a deadline stays in the past");
            self.carry_out();
        }
        self.now.mono_ms = end_ms;
    }

    fn news(&mut self) -> Vec<News<u32>> {
        std::iter::from_fn(|| self.client.next_news()).collect()
    }

    fn send(&mut self, key: &str, args: &str, token: u32) -> Result<(), NotSent> {
        let args: Vec<&[u8]> = args.split(' ').map(str::as_bytes).collect();
        let key = Some(key.as_bytes()).filter(|key| !key.is_empty());
        self.client.send(self.now, key, &args, token)
    }
}

fn outcome(token: u32, outcome: Outcome) -> News<u32> {
    News::Outcome { token, outcome }
}

fn reply(token: u32, value: i64) -> News<u32> {
    outcome(token, Outcome::Reply(Reply::Integer(value)))
}

fn subscribed(channel: &str) -> News<u32> {
    News::Subscribed { channel: channel.as_bytes().into() }
}

fn lost(why: &str) -> News<u32> {
    News::Lost { why: why.into() }
}
