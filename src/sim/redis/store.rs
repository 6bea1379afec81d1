//! Keys and values, with their ends.

use std::collections::{BTreeMap, VecDeque};

use xxhash_rust::xxh3::xxh3_64;

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(Vec<u8>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    List(VecDeque<Vec<u8>>),
}

/// A value of another type stands under this key.
pub(super) struct WrongType;

/// A field of a hash, and its value.
pub(super) type Field = [Vec<u8>; 2];

/// One database.
#[derive(Debug, Default)]
pub(super) struct Store {
    values: BTreeMap<Vec<u8>, (Value, Option<u64>)>,
    now_ms: u64,
}

impl Store {
    /// It is `now_ms` (`mono_ms`): what has expired is gone.
    pub(super) fn advance(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.values.retain(|_, (_, ends_ms)| ends_ms.is_none_or(|ends_ms| ends_ms > now_ms));
    }

    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.values.contains_key(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.values.keys().map(|key| &key[..])
    }

    pub(super) fn set(&mut self, key: &[u8], text: &[u8], lives_ms: Option<u64>) {
        let ends_ms = lives_ms.map(|ms| self.now_ms + ms);
        self.values.insert(key.to_vec(), (Value::Text(text.to_vec()), ends_ms));
    }

    pub(super) fn delete(&mut self, key: &[u8]) -> bool {
        self.values.remove(key).is_some()
    }

    pub(super) fn expire(&mut self, key: &[u8], lives_ms: u64) {
        if let Some((_, ends_ms)) = self.values.get_mut(key) {
            *ends_ms = Some(self.now_ms + lives_ms);
        }
    }

    pub(super) fn text(&self, key: &[u8]) -> Option<&[u8]> {
        match self.values.get(key) {
            Some((Value::Text(text), _)) => Some(text),
            _ => None,
        }
    }

    /// The hash under a key, empty if there is nothing. What is left empty has to be taken away by [`Store::tidy`].
    pub(super) fn hash(&mut self, key: &[u8]) -> Result<&mut BTreeMap<Vec<u8>, Vec<u8>>, WrongType> {
        match &mut self.values.entry(key.to_vec()).or_insert((Value::Hash(BTreeMap::new()), None)).0 {
            Value::Hash(hash) => Ok(hash),
            _ => Err(WrongType),
        }
    }

    /// Likewise a list.
    pub(super) fn list(&mut self, key: &[u8]) -> Result<&mut VecDeque<Vec<u8>>, WrongType> {
        match &mut self.values.entry(key.to_vec()).or_insert((Value::List(VecDeque::new()), None)).0 {
            Value::List(list) => Ok(list),
            _ => Err(WrongType),
        }
    }

    /// Nothing empty stays.
    pub(super) fn tidy(&mut self, key: &[u8]) {
        let is_empty = match self.values.get(key) {
            Some((Value::Hash(hash), _)) => hash.is_empty(),
            Some((Value::List(list), _)) => list.is_empty(),
            _ => false,
        };
        if is_empty {
            self.values.remove(key);
        }
    }

    /// One step through a hash: where the next begins, and some fields with their values.
    ///
    /// As a server's tables do, it goes by the fields' hashes, so what comes and goes meanwhile moves nothing; and it
    /// makes use of its right to show a field twice.
    pub(super) fn scan(&mut self, key: &[u8], cursor: u64, count: usize) -> Result<(u64, Vec<Field>), WrongType> {
        let place = |field: &[u8]| xxh3_64(field) >> 16;
        let mut rest: Vec<Field> =
            self.hash(key)?.iter().map(|(field, value)| [field.clone(), value.clone()]).collect();
        self.tidy(key);
        rest.retain(|[field, _]| place(field) >= cursor);
        rest.sort_by_key(|[field, _]| place(field));
        let shown = rest.len().min(count.max(2));
        let next = if shown < rest.len() { place(&rest[shown - 1][0]) } else { 0 };
        rest.truncate(shown);
        Ok((next, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_shows_everything_that_was_there_all_the_time() {
        let mut store = Store::default();
        let name = |at: u32| format!("field {at}").into_bytes();
        for at in 0..50 {
            store.hash(b"h").ok().unwrap().insert(name(at), b"v".to_vec());
        }
        let (mut cursor, mut steps, mut found) = (0, 0, Vec::new());
        loop {
            let (next, shown) = store.scan(b"h", cursor, 7).ok().unwrap();
            found.extend(shown.into_iter().map(|[field, _]| field));
            // Every other field goes on the way.
            store.hash(b"h").ok().unwrap().remove(&name(steps * 2 + 1));
            steps += 1;
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        assert!(steps > 5);
        assert!((0..50).step_by(2).all(|at| found.contains(&name(at))));
        assert!(found.len() > 50, "some come twice");
    }

    #[test]
    fn values_end() {
        let mut store = Store::default();
        store.advance(1_000);
        store.set(b"a", b"1", Some(500));
        store.set(b"b", b"2", None);
        store.hash(b"h").ok().unwrap().insert(b"f".to_vec(), b"v".to_vec());
        store.expire(b"h", 700);
        store.advance(1_499);
        assert_eq!((store.text(b"a"), store.text(b"b")), (Some(&b"1"[..]), Some(&b"2"[..])));
        store.advance(1_500);
        assert_eq!((store.text(b"a"), store.has(b"h")), (None, true));
        store.advance(1_700);
        assert_eq!(store.keys().collect::<Vec<_>>(), [b"b"]);
    }
}
