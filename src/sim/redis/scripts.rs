//! The backplane's Lua scripts, known by their text and done by hand.

use std::collections::BTreeSet;

use sha1::{Digest, Sha1};

use super::store::{Store, WrongType};
use crate::shard::backplane::scripts;
use crate::wire::tape::Parser;

/// What a script replies.
pub(super) enum Returned {
    Integer(i64),
    Pair(i64, i64),
}

/// The scripts that this server has been shown, by their hashes.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    known: BTreeSet<String>,
}

impl Scripts {
    pub(super) fn learn(&mut self, text: &[u8]) -> String {
        let hash = data_encoding::HEXLOWER.encode(&Sha1::digest(text));
        self.known.insert(hash.clone());
        hash
    }

    pub(super) fn knows(&self, hash: &str) -> bool {
        self.known.contains(hash)
    }
}

/// Does what the script with that hash does; `None`: it is none of the backplane's.
pub(super) fn run(
    store: &mut Store,
    hash: &str,
    key: &[u8],
    args: &[Vec<u8>],
    unix_us: u64,
) -> Option<Result<Returned, WrongType>> {
    let is = |script: &crate::shard::backplane::client::Script| {
        hash == data_encoding::HEXLOWER.encode(&Sha1::digest(script.0))
    };
    let done = if is(&scripts::ENTER) {
        enter(store, key, args).map(Returned::Integer)
    } else if is(&scripts::LEAVE) || is(&scripts::SWEEP_ONE) {
        leave(store, key, args).map(Returned::Integer)
    } else if is(&scripts::BUCKET) {
        bucket(store, key, args, unix_us)
    } else {
        return None;
    };
    store.tidy(key);
    Some(done)
}

/// What the scripts look at in a presence entry.
#[derive(Default)]
struct Entry {
    node: Option<String>,
    node_key: Option<String>,
    last_seen: Option<f64>,
    connected_at: Option<f64>,
}

/// An entry, of which nothing is known if it is no JSON object.
fn entry(text: &[u8]) -> Entry {
    let read = Parser::default().with(&mut text.to_vec(), |value| {
        let number = |name| value.field(name).and_then(|field| field.as_f64());
        let text = |name| value.field(name).and_then(|field| field.as_str()).map(str::to_owned);
        Entry {
            node: text("node"),
            node_key: text("nodeKey"),
            last_seen: number("lastSeen"),
            connected_at: number("connectedAt"),
        }
    });
    read.unwrap_or_default()
}

fn number(arg: &[u8]) -> f64 {
    std::str::from_utf8(arg).ok().and_then(|digits| digits.parse().ok()).unwrap_or(f64::NAN)
}

fn enter(store: &mut Store, key: &[u8], args: &[Vec<u8>]) -> Result<i64, WrongType> {
    let [vehicle, new, last_seen, node_key] = args else { return Ok(0) };
    let hash = store.hash(key)?;
    let there = hash.get(vehicle).map(|there| entry(there)).unwrap_or_default();
    if let Entry { node: Some(_), node_key: their_key, last_seen: Some(their_last_seen), .. } = there {
        let (their_key, last_seen) = (their_key.unwrap_or_default(), number(last_seen));
        if their_last_seen > last_seen || (their_last_seen == last_seen && their_key.as_bytes() > &node_key[..]) {
            return Ok(0);
        }
    }
    hash.insert(vehicle.clone(), new.clone());
    Ok(1)
}

fn leave(store: &mut Store, key: &[u8], args: &[Vec<u8>]) -> Result<i64, WrongType> {
    let [vehicle, node, connected_at] = args else { return Ok(0) };
    let hash = store.hash(key)?;
    let there = hash.get(vehicle).map(|there| entry(there)).unwrap_or_default();
    if there.node.is_none_or(|theirs| theirs.as_bytes() != &node[..])
        || there.connected_at.is_some_and(|theirs| theirs > number(connected_at))
    {
        return Ok(0);
    }
    Ok(i64::from(hash.remove(vehicle).is_some()))
}

fn bucket(store: &mut Store, key: &[u8], args: &[Vec<u8>], unix_us: u64) -> Result<Returned, WrongType> {
    let [burst, per_ms] = args else { return Ok(Returned::Pair(0, 0)) };
    let (burst, period, now) = (number(burst), number(per_ms) * 1_000.0, unix_us as f64);
    if burst == 0.0 {
        return Ok(Returned::Pair(1, 0));
    }
    let hash = store.hash(key)?;
    let stored = hash.get(&b"fullAt"[..]).map(|text| number(text)).filter(|number| !number.is_nan()).unwrap_or(now);
    let before = now.max(stored.min(now + period));
    let (mut full_at, mut retry) = (before + (period / burst).floor(), 0.0);
    if full_at > now + period {
        retry = ((full_at - now - period) / 1_000.0).ceil();
        if before == stored {
            return Ok(Returned::Pair(0, retry as i64));
        }
        full_at = before;
    }
    hash.insert(b"fullAt".to_vec(), format!("{full_at:.0}").into_bytes());
    store.expire(key, ((full_at - now) / 1_000.0).ceil().max(1.0) as u64);
    Ok(Returned::Pair(i64::from(retry == 0.0), retry as i64))
}
