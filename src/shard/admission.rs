//! Who is let in: how many of one address, how fast, and whose connection it is that a proxy passes on.
//!
//! The handshakes that are refused for their rate are told, each, when there will be room for them: the time of a token that is
//! set aside for it, so a fleet that dials at once comes back spread over the time that it needs.

use std::collections::VecDeque;
use std::net::IpAddr;

use ipnet::IpNet;
use rustc_hash::FxHashMap;

use super::close::Refused;
use super::rate::Level;
use crate::config::{self, Bucket};
use crate::limits;
use crate::turn::{ConnId, Now};
use crate::wire::front;

/// Places of the queue of those who wait for their request that are kept when it is empty.
const WAITING_KEPT: usize = 1024;

/// Who shares a limit: an IPv4 address, or an IPv6 /64, which is what one household or host is given (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holder {
    V4(u32),
    V6(u64),
}

impl Holder {
    fn of(address: IpAddr) -> Holder {
        match address.to_canonical() {
            IpAddr::V4(address) => Holder::V4(address.to_bits()),
            IpAddr::V6(address) => Holder::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// A connection from a trusted proxy that has not yet said whose it is.
#[derive(Clone, Copy, Debug)]
struct Fronted {
    awaits_header: bool,
}

/// The door of one shard.
pub struct Admission {
    rules: config::Admission,
    trusted: Vec<IpNet>,
    fronted: FxHashMap<u32, Fronted>,
    /// Whose a connection is, by its index; only where that is limited.
    holders: FxHashMap<u32, Holder>,
    held: FxHashMap<Holder, u32>,
    level: Level,
    /// Tokens that have been promised to those who were refused.
    promised: Level,
    warn_at_ms: u64,
    /// The newest connections that may not have completed their request, oldest first.
    half_open: VecDeque<ConnId>,
}

impl Admission {
    /// With these rules, and nobody there.
    pub fn new(rules: &config::Admission) -> Admission {
        Admission {
            trusted: rules.trusted(),
            rules: rules.clone(),
            fronted: FxHashMap::default(),
            holders: FxHashMap::default(),
            held: FxHashMap::default(),
            level: Level::default(),
            promised: Level::default(),
            warn_at_ms: 0,
            half_open: VecDeque::new(),
        }
    }

    /// How many may wait for their request, and how fast handshakes are let in, from now on. Addresses are counted as at the
    /// start.
    pub fn configure(&mut self, rules: &config::Admission) {
        (self.rules.half_open_max, self.rules.accept_rate) = (rules.half_open_max, rules.accept_rate);
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// A connection begins.
    pub fn open(&mut self, id: ConnId, peer: IpAddr) -> Result<(), Refused> {
        if (self.rules.proxy_protocol || self.rules.forwarded_for) && self.is_trusted(peer) {
            self.fronted.insert(id.index, Fronted { awaits_header: self.rules.proxy_protocol });
            return Ok(());
        }
        self.enter(id, peer)
    }

    /// Whether an older connection has to go because a new one has not completed its request either.
    pub fn wait_for_request(&mut self, id: ConnId, is_waiting: impl Fn(ConnId) -> bool) -> Option<ConnId> {
        self.forget_waiting(is_waiting);
        self.half_open.push_back(id);
        if self.half_open.len() > self.rules.half_open_max as usize { self.half_open.pop_front() } else { None }
    }

    /// Forgets those at the front that do not wait any more. After a storm nobody does, and the memory goes back.
    pub fn forget_waiting(&mut self, is_waiting: impl Fn(ConnId) -> bool) {
        while self.half_open.front().is_some_and(|oldest| !is_waiting(*oldest)) {
            self.half_open.pop_front();
        }
        if self.half_open.is_empty() && self.half_open.capacity() > WAITING_KEPT {
            self.half_open = VecDeque::new();
        }
    }

    fn enter(&mut self, id: ConnId, address: IpAddr) -> Result<(), Refused> {
        let max = self.rules.conns_per_address_max;
        if max == 0 {
            return Ok(());
        }
        let holder = Holder::of(address);
        let held = self.held.entry(holder).or_default();
        if *held >= max {
            return Err(Refused::Address);
        }
        *held += 1;
        self.holders.insert(id.index, holder);
        Ok(())
    }

    /// A connection has ended.
    pub fn leave(&mut self, id: ConnId) {
        self.fronted.remove(&id.index);
        if let Some(holder) = self.holders.remove(&id.index)
            && let Some(held) = self.held.get_mut(&holder)
        {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&holder);
            }
        }
    }

    /// How many of the first bytes are a proxy's header; 0 where none is due, `None`: more bytes are needed.
    pub fn header(&mut self, now: Now, id: ConnId, bytes: &[u8]) -> Result<Option<usize>, Refused> {
        match self.fronted.get(&id.index) {
            Some(fronted) if fronted.awaits_header => {}
            _ => return Ok(Some(0)),
        }
        let (used, client) = match front::proxy_header(bytes) {
            Ok(None) => return Ok(None),
            Ok(Some(read)) => read,
            Err(front::NoProxyHeader) => {
                if now.mono_ms >= self.warn_at_ms {
                    self.warn_at_ms = now.mono_ms + limits::WARN_MS;
                    tracing::warn!(
                        "a connection from a trusted proxy did not begin with a PROXY header of version 2, which \
                         admission.proxy_protocol asks for"
                    );
                }
                return Err(Refused::ProxyHeader);
            }
        };
        self.fronted.remove(&id.index);
        match client {
            // A proxy behind another one: the request says whose it is.
            Some(client) if self.rules.forwarded_for && self.is_trusted(client) => {
                self.fronted.insert(id.index, Fronted { awaits_header: false });
            }
            Some(client) => self.enter(id, client)?,
            // The proxy itself, which is not limited.
            None => {}
        }
        Ok(Some(used))
    }

    /// A request head is complete.
    pub fn request(&mut self, id: ConnId, head: &[u8]) -> Result<(), Refused> {
        if self.fronted.remove(&id.index).is_none() {
            return Ok(());
        }
        match front::forwarded_for(head, |address| self.is_trusted(address)) {
            Some(client) if !self.is_trusted(client) => self.enter(id, client),
            _ => Ok(()),
        }
    }

    /// A handshake is complete; if it comes too fast, in how many seconds it should be tried again.
    pub fn accept(&mut self, now: Now) -> Result<(), u64> {
        let rate = self.rules.accept_rate;
        let Err(wait_ms) = self.level.take(rate, now.mono_ms) else { return Ok(()) };
        let wait_ms = wait_ms + self.promise(rate, now);
        Err(wait_ms.div_ceil(1_000).clamp(1, limits::RETRY_AFTER_S_MAX))
    }

    /// In how many milliseconds there will be a token that nobody else was promised.
    fn promise(&mut self, rate: Bucket, now: Now) -> u64 {
        let mut next = self.promised;
        next.spend(rate, 1, now.mono_ms);
        let wait_ms = next.wait_ms(now.mono_ms);
        // Beyond the longest time that anybody is told, promises would only pile up.
        if wait_ms <= limits::RETRY_AFTER_S_MAX * 1_000 {
            self.promised = next;
        }
        wait_ms
    }
}
