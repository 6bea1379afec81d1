//! A Redis server without sockets: what the backplane uses of one, in RESP3, on the simulated clock.
//!
//! It reads real commands and writes real replies. What it does not know it refuses, and remembers that it had to: a
//! test may look whether a gateway said anything that no server would take.

mod keyspace;
mod resp;
mod scripts;
mod session;
mod store;

use std::collections::{BTreeMap, BTreeSet};

use crate::turn::Now;
use resp::ProtocolError;
use scripts::{Returned, Scripts};
use session::{Session, Spread};
use store::{Store, WrongType};

/// A client of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SessionId(u64);

/// Which messages do not reach their subscribers.
#[derive(Clone, Copy, Debug, Default)]
struct Loss {
    /// Each so many-th; 0: none.
    every: usize,
    passed: usize,
}

/// The server. Adjustable at any time.
#[derive(Debug, Default)]
pub struct Redis {
    /// What clients must log in with; `None`: nothing.
    pub password: Option<String>,
    /// No message is lost on channels with this in their names; empty: on all.
    pub spared: String,
    /// The most fields that one step through a hash shows; 0: as many as are asked for.
    pub scan_fields_max: usize,
    /// Errors that were sent, but for those that belong to an orderly conversation.
    pub refused: Vec<String>,
    /// Messages that were lost on purpose.
    pub lost: usize,
    sessions: BTreeMap<SessionId, Session>,
    opened: u64,
    databases: BTreeMap<u16, Store>,
    scripts: Scripts,
    losses: BTreeMap<usize, Loss>,
    watched: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    now: Now,
}

impl Redis {
    // ---- For tests.

    /// From now on each `every`-th message to a host is lost; 0: none.
    pub fn lose(&mut self, host: usize, every: usize) {
        self.losses.insert(host, Loss { every, passed: 0 });
    }

    /// Publishes as a client of no host. How many heard it.
    pub fn publish(&mut self, channel: &str, payload: &[u8]) -> usize {
        self.tell(Spread::Everywhere, channel.as_bytes(), payload)
    }

    /// What was published on a channel since the last call, which began to watch it.
    pub fn published(&mut self, channel: &str) -> Vec<Vec<u8>> {
        self.watched.insert(channel.into(), Vec::new()).unwrap_or_default()
    }

    /// How many sessions listen to a channel.
    pub fn listeners(&self, channel: &str) -> usize {
        self.sessions.values().filter(|session| session.of(Spread::Everywhere).contains(channel.as_bytes())).count()
    }

    /// The channels that a host listens to, in order.
    pub fn listened_by(&self, host: usize) -> Vec<String> {
        let sessions = self.sessions.values().filter(|session| session.host == host);
        let channels = sessions.flat_map(|session| {
            [Spread::Everywhere, Spread::Sharded].into_iter().flat_map(|spread| session.of(spread).iter())
        });
        let channels: BTreeSet<String> = channels.map(|channel| readable(channel)).collect();
        channels.into_iter().collect()
    }

    /// Every key.
    pub fn keys(&self) -> Vec<String> {
        self.databases.get(&0).map_or_else(Vec::new, |store| store.keys().map(readable).collect())
    }

    /// The text under a key.
    pub fn text(&self, key: &str) -> Option<String> {
        self.databases.get(&0)?.text(key.as_bytes()).map(readable)
    }

    /// Puts a text under a key.
    pub fn set_text(&mut self, key: &str, text: &str) {
        database(&mut self.databases, 0, self.now).set(key.as_bytes(), text.as_bytes(), None);
    }

    /// The hash under a key; empty if there is none.
    pub fn hash(&mut self, key: &str) -> BTreeMap<String, String> {
        let store = database(&mut self.databases, 0, self.now);
        let hash = store.hash(key.as_bytes()).map_or_else(|_| BTreeMap::new(), |hash| hash.clone());
        store.tidy(key.as_bytes());
        hash.iter().map(|(field, value)| (readable(field), readable(value))).collect()
    }

    /// Sets a field of a hash, or takes it away.
    pub fn set_field(&mut self, key: &str, field: &str, value: Option<&str>) {
        let store = database(&mut self.databases, 0, self.now);
        if let Ok(hash) = store.hash(key.as_bytes()) {
            match value {
                Some(value) => drop(hash.insert(field.into(), value.into())),
                None => drop(hash.remove(field.as_bytes())),
            }
        }
        store.tidy(key.as_bytes());
    }

    /// The list under a key; empty if there is none.
    pub fn list(&mut self, key: &str) -> Vec<String> {
        let store = database(&mut self.databases, 0, self.now);
        let list = store.list(key.as_bytes()).map_or_else(|_| Vec::new(), |list| list.iter().cloned().collect());
        store.tidy(key.as_bytes());
        list.iter().map(|element| readable(element)).collect()
    }

    // ---- For the network.

    pub(super) fn advance(&mut self, now: Now) {
        self.now = now;
        self.databases.values_mut().for_each(|store| store.advance(now.mono_ms));
    }

    /// It begins anew: nobody is connected and no script is known; with `empty`, no key either.
    pub(super) fn restart(&mut self, empty: bool) {
        self.sessions.clear();
        self.scripts = Scripts::default();
        if empty {
            self.databases.clear();
        }
    }

    pub(super) fn accept(&mut self, host: usize) -> SessionId {
        self.opened += 1;
        let id = SessionId(self.opened);
        self.sessions.insert(id, Session::new(host));
        id
    }

    pub(super) fn hang_up(&mut self, id: SessionId) {
        self.sessions.remove(&id);
    }

    /// Bytes of a session. An error: they are no commands, and the session ends.
    pub(super) fn receive(&mut self, id: SessionId, bytes: &[u8]) -> Result<(), String> {
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        session.commands.arrived(bytes);
        loop {
            let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
            match session.commands.next() {
                Ok(None) => return Ok(()),
                Ok(Some(command)) => self.execute(id, &command),
                Err(ProtocolError(why)) => {
                    self.refused.push(format!("protocol error: {why}"));
                    return Err(why.into());
                }
            }
        }
    }

    /// What sessions are to be sent, in the order of their opening.
    pub(super) fn outputs(&mut self) -> impl Iterator<Item = (SessionId, Vec<u8>)> {
        let sessions = self.sessions.iter_mut().filter(|(_, session)| !session.out.0.is_empty());
        sessions.map(|(id, session)| (*id, std::mem::take(&mut session.out.0)))
    }

    // ---- Commands.

    fn execute(&mut self, id: SessionId, command: &[Vec<u8>]) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let words: Vec<&[u8]> = command.iter().map(|word| &word[..]).collect();
        let name = words.first().map_or_else(String::new, |name| readable(name).to_ascii_uppercase());
        let args = words.get(1..).unwrap_or_default();
        let outcome = match name.as_str() {
            "HELLO" => session.hello(args, self.password.as_deref()),
            _ if !session.greeted => Err("NOAUTH this server speaks RESP3, after HELLO".into()),
            "SUBSCRIBE" | "UNSUBSCRIBE" => session.subscribe(Spread::Everywhere, name == "SUBSCRIBE", args),
            "SSUBSCRIBE" | "SUNSUBSCRIBE" => session.subscribe(Spread::Sharded, name == "SSUBSCRIBE", args),
            "PUBLISH" | "SPUBLISH" => self.publish_for(id, &name, args),
            "EVAL" | "EVALSHA" => self.eval(id, &name, args),
            "PING" | "SELECT" | "CLIENT" => session.talk(&name, args),
            _ => {
                let fields_max = if self.scan_fields_max == 0 { usize::MAX } else { self.scan_fields_max };
                let store = database(&mut self.databases, session.database, self.now);
                keyspace::execute(store, &mut session.out, &name, args, fields_max)
            }
        };
        if let Err(error) = outcome {
            // Who does not know yet whether a script is there asks, and is told.
            if !error.starts_with("NOSCRIPT") {
                self.refused.push(format!("{name}: {error}"));
            }
            if let Some(session) = self.sessions.get_mut(&id) {
                session.out.error(&error);
            }
        }
    }

    fn publish_for(&mut self, id: SessionId, name: &str, args: &[&[u8]]) -> Result<(), String> {
        let [channel, payload] = args else { return Err(wrong_number(name)) };
        let spread = if name == "SPUBLISH" { Spread::Sharded } else { Spread::Everywhere };
        let heard = self.tell(spread, channel, payload);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.out.integer(heard as i64);
        }
        Ok(())
    }

    fn tell(&mut self, spread: Spread, channel: &[u8], payload: &[u8]) -> usize {
        if let Some(watched) = self.watched.get_mut(channel) {
            watched.push(payload.to_vec());
        }
        let spared = self.spared.as_bytes();
        let is_spared = !spared.is_empty() && channel.windows(spared.len()).any(|part| part == spared);
        let mut heard = 0;
        for session in self.sessions.values_mut().filter(|session| session.of(spread).contains(channel)) {
            heard += 1;
            if !is_spared && self.losses.get_mut(&session.host).is_some_and(Loss::takes) {
                self.lost += 1;
                continue;
            }
            session.out.head('>', 3);
            session.out.bulk(if spread == Spread::Sharded { b"smessage" } else { b"message" });
            session.out.bulk(channel);
            session.out.bulk(payload);
        }
        heard
    }

    fn eval(&mut self, id: SessionId, name: &str, args: &[&[u8]]) -> Result<(), String> {
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let [script, b"1", key, args @ ..] = args else { return Err(wrong_number(name)) };
        let hash = if name == "EVAL" { self.scripts.learn(script) } else { readable(script) };
        if !self.scripts.knows(&hash) {
            return Err("NOSCRIPT No matching script. Please use EVAL.".into());
        }
        let store = database(&mut self.databases, session.database, self.now);
        let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.to_vec()).collect();
        match scripts::run(store, &hash, key, &args, self.now.unix_ms * 1_000) {
            None => Err("ERR not a script of the backplane".into()),
            Some(Err(wrong)) => Err(wrong.into()),
            Some(Ok(Returned::Integer(value))) => {
                session.out.integer(value);
                Ok(())
            }
            Some(Ok(Returned::Pair(first, second))) => {
                session.out.head('*', 2);
                session.out.integer(first);
                session.out.integer(second);
                Ok(())
            }
        }
    }
}

impl Loss {
    fn takes(&mut self) -> bool {
        self.passed += 1;
        let taken = self.every > 0 && self.passed >= self.every;
        if taken {
            self.passed = 0;
        }
        taken
    }
}

fn database(databases: &mut BTreeMap<u16, Store>, number: u16, now: Now) -> &mut Store {
    let store = databases.entry(number).or_default();
    store.advance(now.mono_ms);
    store
}

fn wrong_number(name: &str) -> String {
    format!("ERR wrong number of arguments for '{}' command", name.to_ascii_lowercase())
}

fn readable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl From<WrongType> for String {
    fn from(_: WrongType) -> String {
        "WRONGTYPE Operation against a key holding the wrong kind of value".into()
    }
}
