//! A client of the server: its handshake, and what it listens to.

use std::collections::BTreeSet;

use super::resp::{Commands, Output};
use super::{readable, wrong_number};

/// How a channel is spread over a Cluster; in a single server they are names of two kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
    Everywhere,
    Sharded,
}

/// What is kept of a client.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// The host that it comes from.
    pub(super) host: usize,
    name: String,
    pub(super) commands: Commands,
    pub(super) out: Output,
    /// It has said HELLO 3, with the right password.
    pub(super) greeted: bool,
    pub(super) database: u16,
    everywhere: BTreeSet<Vec<u8>>,
    sharded: BTreeSet<Vec<u8>>,
}

impl Session {
    pub(super) fn new(host: usize) -> Session {
        Session { host, ..Session::default() }
    }

    pub(super) fn of(&self, spread: Spread) -> &BTreeSet<Vec<u8>> {
        match spread {
            Spread::Everywhere => &self.everywhere,
            Spread::Sharded => &self.sharded,
        }
    }

    pub(super) fn hello(&mut self, args: &[&[u8]], password: Option<&str>) -> Result<(), String> {
        let [b"3", rest @ ..] = args else { return Err("NOPROTO unsupported protocol version".into()) };
        let mut rest: &[&[u8]] = rest;
        let mut authenticated = password.is_none();
        loop {
            rest = match rest {
                [] => break,
                [b"AUTH", b"default", word, rest @ ..] => {
                    if password.is_some_and(|password| password.as_bytes() != *word) {
                        return Err("WRONGPASS invalid username-password pair or user is disabled.".into());
                    }
                    authenticated = true;
                    rest
                }
                [b"SETNAME", name, rest @ ..] => {
                    self.name = readable(name);
                    rest
                }
                _ => return Err("ERR Syntax error in HELLO".into()),
            };
        }
        if !authenticated {
            return Err("NOAUTH HELLO must be called with the client already authenticated".into());
        }
        self.greeted = true;
        self.out.head('%', 2);
        self.out.bulk(b"server");
        self.out.bulk(b"redis");
        self.out.bulk(b"proto");
        self.out.integer(3);
        Ok(())
    }

    pub(super) fn subscribe(&mut self, spread: Spread, wanted: bool, channels: &[&[u8]]) -> Result<(), String> {
        if channels.is_empty() {
            return Err(wrong_number("subscribe"));
        }
        for channel in channels {
            let subscribed = match spread {
                Spread::Everywhere => &mut self.everywhere,
                Spread::Sharded => &mut self.sharded,
            };
            if wanted {
                subscribed.insert(channel.to_vec());
            } else {
                subscribed.remove(*channel);
            }
            let count = subscribed.len() as i64;
            let letter = if spread == Spread::Sharded { "s" } else { "" };
            let done = if wanted { "subscribe" } else { "unsubscribe" };
            self.out.head('>', 3);
            self.out.bulk(format!("{letter}{done}").as_bytes());
            self.out.bulk(channel);
            self.out.integer(count);
        }
        Ok(())
    }

    /// What is about the connection itself.
    pub(super) fn talk(&mut self, name: &str, args: &[&[u8]]) -> Result<(), String> {
        match (name, args) {
            ("PING", []) => self.out.simple("PONG"),
            ("SELECT", [database]) => {
                let number = std::str::from_utf8(database).ok().and_then(|digits| digits.parse().ok());
                self.database = number.filter(|number| *number < 16).ok_or("ERR DB index is out of range")?;
                self.out.simple("OK");
            }
            ("CLIENT", [b"INFO"]) => {
                let (sub, ssub) = (self.everywhere.len(), self.sharded.len());
                let database = self.database;
                self.out.verbatim(&format!("name={} db={database} sub={sub} psub=0 ssub={ssub} resp=3\n", self.name));
            }
            _ => return Err(format!("ERR unknown command or wrong number of arguments for '{name}'")),
        }
        Ok(())
    }
}
