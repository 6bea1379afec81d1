//! What is to be listened to, and where each of it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Spread;
use crate::limits;
use crate::turn::LinkId;

/// Where a subscription is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    Asked { link: LinkId, since_ms: u64 },
    Confirmed { link: LinkId },
}

impl Place {
    fn link(self) -> Option<LinkId> {
        match self {
            Place::Nowhere => None,
            Place::Asked { link, .. } | Place::Confirmed { link } => Some(link),
        }
    }
}

/// All subscriptions of a client. They are as many as its owner wants.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    everywhere: FxHashMap<Arc<[u8]>, Place>,
    sharded: FxHashMap<Arc<[u8]>, Place>,
    /// Some may be nowhere that could be somewhere.
    pub(super) is_unsettled: bool,
}

impl Subscriptions {
    fn of(&self, spread: Spread) -> &FxHashMap<Arc<[u8]>, Place> {
        match spread {
            Spread::Everywhere => &self.everywhere,
            Spread::Sharded => &self.sharded,
        }
    }

    fn of_mut(&mut self, spread: Spread) -> &mut FxHashMap<Arc<[u8]>, Place> {
        match spread {
            Spread::Everywhere => &mut self.everywhere,
            Spread::Sharded => &mut self.sharded,
        }
    }

    pub(super) fn want(&mut self, spread: Spread, channel: &[u8]) {
        if !self.of(spread).contains_key(channel) {
            self.of_mut(spread).insert(channel.into(), Place::Nowhere);
            self.is_unsettled = true;
        }
    }

    /// No longer wanted. Returns the link that has to be told.
    pub(super) fn forget(&mut self, spread: Spread, channel: &[u8]) -> Option<(LinkId, Arc<[u8]>)> {
        let (channel, place) = self.of_mut(spread).remove_entry(channel)?;
        Some((place.link()?, channel))
    }

    /// Those that are nowhere.
    pub(super) fn homeless(&self) -> impl Iterator<Item = (Spread, &Arc<[u8]>)> {
        [Spread::Everywhere, Spread::Sharded].into_iter().flat_map(|spread| {
            let places = self.of(spread).iter();
            places.filter(|(_, place)| **place == Place::Nowhere).map(move |(channel, _)| (spread, channel))
        })
    }

    /// A link has been asked for it.
    pub(super) fn asked(&mut self, spread: Spread, channel: &[u8], link: LinkId, now_ms: u64) {
        if let Some(place) = self.of_mut(spread).get_mut(channel) {
            *place = Place::Asked { link, since_ms: now_ms };
        }
    }

    /// A link has confirmed it. Returns its name if it is wanted there.
    pub(super) fn confirmed(&mut self, spread: Spread, channel: &[u8], link: LinkId) -> Option<Arc<[u8]>> {
        let name = self.name(spread, channel, link)?;
        self.of_mut(spread).insert(name.clone(), Place::Confirmed { link });
        Some(name)
    }

    /// The name of a channel that is wanted on this link.
    pub(super) fn name(&self, spread: Spread, channel: &[u8], link: LinkId) -> Option<Arc<[u8]>> {
        let (name, place) = self.of(spread).get_key_value(channel)?;
        (place.link() == Some(link)).then(|| name.clone())
    }

    /// It is not on this link, or not any more. It is asked for again with the next comparison, if not before.
    pub(super) fn dropped(&mut self, spread: Spread, channel: &[u8], link: LinkId) {
        if let Some(place) = self.of_mut(spread).get_mut(channel)
            && place.link() == Some(link)
        {
            *place = Place::Nowhere;
        }
    }

    /// Nothing is on this link any more.
    pub(super) fn left(&mut self, link: LinkId) {
        for place in self.everywhere.values_mut().chain(self.sharded.values_mut()) {
            if place.link() == Some(link) {
                *place = Place::Nowhere;
                self.is_unsettled = true;
            }
        }
    }

    /// Those that are spread by slot and are elsewhere than `whither` says now.
    pub(super) fn moved(&mut self, whither: impl Fn(&[u8]) -> Option<LinkId>) {
        for (channel, place) in &mut self.sharded {
            if place.link() != whither(channel) {
                *place = Place::Nowhere;
            }
        }
        self.is_unsettled = true;
    }

    /// How many are confirmed.
    pub(super) fn confirmed_anywhere(&self) -> usize {
        let places = self.everywhere.values().chain(self.sharded.values());
        places.filter(|place| matches!(place, Place::Confirmed { .. })).count()
    }

    /// The links that they are on.
    pub(super) fn links(&self) -> BTreeSet<LinkId> {
        self.everywhere.values().chain(self.sharded.values()).filter_map(|place| place.link()).collect()
    }

    /// How many a link has confirmed.
    pub(super) fn count(&self, spread: Spread, link: LinkId) -> usize {
        self.of(spread).values().filter(|place| **place == Place::Confirmed { link }).count()
    }

    /// A link has lost some that it had confirmed, and nobody knows which. Returns how many are to be asked for again.
    pub(super) fn doubt(&mut self, spread: Spread, link: LinkId) -> u64 {
        let mut doubted = 0;
        for place in self.of_mut(spread).values_mut().filter(|place| **place == Place::Confirmed { link }) {
            *place = Place::Nowhere;
            doubted += 1;
        }
        self.is_unsettled |= doubted > 0;
        doubted
    }

    /// Compares what is wanted with what is confirmed.
    pub(super) fn reconcile(&mut self, now_ms: u64) {
        for place in self.everywhere.values_mut().chain(self.sharded.values_mut()) {
            let is_missing = match *place {
                Place::Nowhere => true,
                Place::Asked { since_ms, .. } => now_ms - since_ms >= limits::SUBSCRIBE_MS_MAX,
                Place::Confirmed { .. } => false,
            };
            if is_missing {
                *place = Place::Nowhere;
                self.is_unsettled = true;
            }
        }
    }
}
