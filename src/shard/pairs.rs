//! Pairs: which vehicles know of each other, and which of the two sees the other.
//!
//! A pair is one structure with an end in each vehicle's list, and the ends point at each other. It stands as long as at
//! least one of its vehicles *sees* the other, that is, has it as a neighbour. Mostly both do. In a crowd a vehicle sees
//! only the nearest, and one that nobody sees may see many; a vehicle of another shard sees nobody here at all.
//!
//! State is not queued, and a move writes nothing into the lists of those who see it: it counts. Each end remembers up to
//! which move its connection has heard of the peer, so whoever is flushed finds out who has moved since by comparing two
//! numbers.

use super::past::{Passage, Past};
use super::vehicles::Vehicles;
use crate::limits;
use crate::metrics::Counters;
use crate::turn::Now;

/// One end of a pair, in the list of one of its vehicles.
#[derive(Clone, Copy, Debug)]
pub struct Near {
    /// Table index of the other vehicle.
    pub peer: u32,
    /// Position of the other end in the peer's list.
    pub back: u32,
    /// Of the peer's moves those that this vehicle's connection need not be sent any more; see [`Vehicles::is_due`].
    pub heard: u32,
    /// This vehicle has the peer as a neighbour. Only one that is owned here has any.
    pub sees: bool,
    /// The peer has this vehicle as a neighbour: what its end says, kept here too because every move asks.
    pub seen: bool,
    /// The connection has been sent a state of the peer.
    pub told: bool,
    /// The connection surely knows who the peer is.
    pub named: bool,
}

/// What a connection is to be sent of a neighbour, beside its newest state.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// The connection is told of it for the first time.
    pub is_first: bool,
    /// What it was not sent before that one.
    pub passed: Passage,
}

impl Vehicles {
    /// Makes a pair of two vehicles of which neither sees the other yet. Answers the position of its end in `b`'s list.
    pub fn pair(&mut self, a: u32, b: u32) -> u32 {
        let (a_at, b_at) = (self.at(a).near.len() as u32, self.at(b).near.len() as u32);
        let end = Near { peer: b, back: b_at, heard: 0, sees: false, seen: false, told: false, named: false };
        self.at_mut(a).near.push(end);
        self.at_mut(b).near.push(Near { peer: a, back: a_at, ..end });
        b_at
    }

    /// A vehicle begins to see the one at position `at` of its list.
    pub fn see(&mut self, index: u32, at: u32) {
        let vehicle = self.at_mut(index);
        let near = &mut vehicle.near[at as usize];
        vehicle.seeing += u32::from(!near.sees);
        near.sees = true;
        let Near { peer, back, .. } = *near;
        self.at_mut(peer).near[back as usize].seen = true;
        self.hear(index, at);
    }

    /// A vehicle ceases to see the one at position `at` of its list. If that one does not see it either, the pair ends,
    /// and the last pair moves to that position. Whether it did.
    pub fn unsee(&mut self, index: u32, at: u32) -> bool {
        let vehicle = self.at_mut(index);
        let near = &mut vehicle.near[at as usize];
        vehicle.seeing -= u32::from(near.sees);
        let before = *near;
        *near = Near { sees: false, told: false, named: false, ..*near };
        let Near { peer, back, seen, .. } = *near;
        self.replaced += self.replaced_for(&before);
        self.at_mut(peer).near[back as usize].seen = false;
        let ends = !seen;
        if ends {
            self.unpair(index, at);
        }
        ends
    }

    /// Whether the peer of an end has moved within the radius since its vehicle's connection was last sent it.
    pub fn is_due(&self, near: &Near) -> bool {
        near.sees && near.heard != self.track(near.peer).moves
    }

    /// How many states of its peer an end's connection was to be sent and will not: all that are due but the newest.
    fn replaced_for(&self, near: &Near) -> u64 {
        let due = if near.sees { self.track(near.peer).moves.wrapping_sub(near.heard) } else { 0 };
        u64::from(due.saturating_sub(1))
    }

    /// If the peer of an end is due, takes it as sent. `past`: what was replaced meanwhile comes too, if that is little.
    pub fn take_due(&self, now: Now, near: &mut Near, past: Option<&Past>, counters: &mut Counters) -> Option<Due> {
        if !self.is_due(near) {
            return None;
        }
        let (replaced, moves) = (self.replaced_for(near), self.track(near.peer).moves);
        let is_first = !std::mem::replace(&mut near.told, true);
        near.heard = moves;
        let passed = match past {
            Some(past) if (1..=u64::from(limits::PAST_MOVES_MAX)).contains(&replaced) && !is_first => {
                let since_ms = now.mono_ms.saturating_sub(limits::PAST_MS_MAX);
                past.before(self.at(near.peer).passed, moves, replaced as u32, since_ms)
            }
            _ => Passage::default(),
        };
        counters.state_conflated += replaced - passed.len() as u64;
        Some(Due { is_first, passed })
    }

    /// The connection of `index` need not be sent the state that the vehicle at position `at` of its list has now.
    pub fn hear(&mut self, index: u32, at: u32) {
        let moves = self.track(self.at(index).near[at as usize].peer).moves;
        self.at_mut(index).near[at as usize].heard = moves;
    }

    /// The connection of `index` is to be sent the newest state of the vehicle at position `at` of its list.
    pub fn mishear(&mut self, index: u32, at: u32) {
        let moves = self.track(self.at(index).near[at as usize].peer).moves;
        let near = &mut self.at_mut(index).near[at as usize];
        if near.heard == moves {
            near.heard = moves.wrapping_sub(1);
        }
    }

    /// Ends the pair at position `at` of `index`'s list, on both sides. The last pair moves to that position.
    pub fn unpair(&mut self, index: u32, at: u32) {
        let Near { peer, back, .. } = self.at(index).near[at as usize];
        self.remove_end(peer, back);
        self.remove_end(index, at);
    }

    fn remove_end(&mut self, index: u32, at: u32) {
        let vehicle = self.at_mut(index);
        let removed = vehicle.near.swap_remove(at as usize);
        vehicle.seeing -= u32::from(removed.sees);
        let moved = vehicle.near.get(at as usize).copied();
        self.replaced += self.replaced_for(&removed);
        if let Some(Near { peer, back, .. }) = moved {
            self.at_mut(peer).near[back as usize].back = at;
        }
    }
}
