//! Who sees whom where there are too many to see them all.
//!
//! A vehicle has at most `neighbours_max` neighbours. Whoever looks around and finds room for all within the radius sees
//! them all, and those who do not see it take it in if they have room. One with more around it than it may have is
//! *crowded*: it sees the nearest, chooses anew once per `crowd_ms`, and in between looks at nobody but those with whom
//! it has pairs. It is taken in by nobody unseen: whoever is not crowded looks around itself then.
//!
//! So a move in a crowd costs what its pairs cost, which are as many as all vehicles may have neighbours.

use std::iter::once;

use crate::geo::{Ruler, distance};
use crate::turn::Now;

use super::Timer;
use super::fanout::Fanout;
use super::ids::Ids;
use super::vehicles::Slot;
use super::world::World;

/// What the distance of one that is a neighbour already counts: another must be nearer by a fifth to take its place.
const STAYING: f64 = 0.8;

/// Somebody within the radius of a vehicle that looks around. At least one of the two does not see the other.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    pub peer: u32,
    pub metres: f64,
    /// Position in the peer's list, if there is a pair. Nothing moves it while the vehicle looks around: of a peer's
    /// pairs only the one with this vehicle can end.
    pub back: Option<u32>,
    /// The vehicle is to see it.
    pub wanted: bool,
}

/// One out of too many.
#[derive(Clone, Copy, Debug)]
pub struct Ranked {
    metres: f64,
    peer: u32,
    who: Who,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    /// A neighbour, and the position of the pair in its list.
    Present(u32),
    /// A candidate, and its position in their list.
    New(u32),
}

impl World {
    /// Finds everybody within the radius with whom `index` has no pair, adds them to those in `around`, and decides who
    /// begins to see whom. Of those with whom it has pairs, `paired` are within the radius.
    pub(super) fn look_around(
        &mut self,
        now: Now,
        index: u32,
        (moved, paired): (bool, u64),
        around: &mut Vec<Candidate>,
        out: &mut Fanout,
        ids: &mut Ids,
    ) {
        let vehicle = self.vehicles.at_mut(index);
        vehicle.strayed = false;
        let Some(position) = vehicle.position else { return };
        let owned = vehicle.driving().is_some();
        let (vehicles, place) = (&self.vehicles, position.place);
        let ruler = Ruler::at(place, self.hysteresis.enter_m);
        let mut within = paired;
        let (all, mut examined) = if owned { self.index.count(&ruler) } else { (usize::MAX, 0) };
        self.work += examined;
        // Mostly there is nobody new; the vehicle itself is in the index too. Of another shard's vehicle only those who see
        // it are paired with it.
        if all as u64 != paired + 1 {
            let near = &vehicles.at(index).near;
            self.scratch.mark_all(once(index).chain(near.iter().map(|near| near.peer)));
            let scratch = &self.scratch;
            examined = self.index.around(&ruler, |peer, other| {
                if scratch.is_marked(peer) {
                    return;
                }
                within += 1;
                if owned || vehicles.at(peer).is_open() {
                    let metres = distance::metres(place, other);
                    around.push(Candidate { peer, metres, back: None, wanted: owned });
                }
            });
            self.work += examined;
        }
        out.counters.candidates_examined += examined as u64 - 1;
        out.counters.candidates_within_radius += within;

        let most = self.config.vehicles.neighbours_max;
        let crowded = if owned { self.is_too_many(index, around) } else { within > u64::from(most) };
        for candidate in around.iter_mut() {
            if !crowded && std::mem::take(&mut candidate.wanted) {
                self.begin_to_see(now, index, moved, candidate, out, ids);
            }
            if self.is_taken_in(moved && !crowded, candidate) {
                let (peer, metres, back) = (candidate.peer, candidate.metres, self.pair_with(index, candidate));
                self.vehicles.see(peer, back);
                self.regain_neighbour(peer, back);
                self.tell_enter(now, peer, index, metres, out, ids);
                self.mark_due(peer, back, out);
            }
        }
        // After the offers: a choice may end pairs, but not those with candidates that have taken the vehicle in.
        self.decide(now, index, crowded, around, out, ids);
        for mut candidate in around.drain(..).filter(|candidate| candidate.wanted) {
            self.begin_to_see(now, index, moved, &mut candidate, out, ids);
        }
    }

    /// A vehicle begins to see a candidate. `moved`: it has come to where that one was.
    fn begin_to_see(
        &mut self,
        now: Now,
        index: u32,
        moved: bool,
        candidate: &mut Candidate,
        out: &mut Fanout,
        ids: &mut Ids,
    ) {
        let at = self.see_candidate(index, candidate);
        let is_slim = self.regain_neighbour(index, at);
        self.tell_enter(now, index, candidate.peer, candidate.metres, out, ids);
        if is_slim || !moved {
            // That one has moved at some time, and this one was not sent it.
            self.mark_due(index, at, out);
        }
    }

    /// A vehicle begins to see a candidate, and nobody is told. Answers the position of the pair in its list.
    fn see_candidate(&mut self, index: u32, candidate: &mut Candidate) -> u32 {
        let back = self.pair_with(index, candidate);
        let at = self.vehicles.at(candidate.peer).near[back as usize].back;
        self.vehicles.see(index, at);
        at
    }

    /// Position in the candidate's list of its pair with the vehicle.
    fn pair_with(&mut self, index: u32, candidate: &mut Candidate) -> u32 {
        *candidate.back.get_or_insert_with(|| self.vehicles.pair(index, candidate.peer))
    }

    /// Whether a vehicle would have too many neighbours if it saw all candidates.
    fn is_too_many(&self, index: u32, around: &[Candidate]) -> bool {
        let wanted = around.iter().filter(|candidate| candidate.wanted).count();
        self.vehicles.at(index).seeing as usize + wanted > self.config.vehicles.neighbours_max as usize
    }

    /// A vehicle has looked around: is it in a crowd, and whom of those in `around` does it want to see then?
    fn decide(
        &mut self,
        now: Now,
        index: u32,
        crowded: bool,
        around: &mut [Candidate],
        out: &mut Fanout,
        ids: &mut Ids,
    ) {
        let vehicle = self.vehicles.at_mut(index);
        let is_due = now.mono_ms >= vehicle.choose_at_ms;
        if is_due && (vehicle.crowded || crowded) {
            vehicle.choose_at_ms = now.mono_ms + self.config.vehicles.crowd_ms;
        }
        vehicle.crowded = false;
        if !crowded {
            return;
        }
        let owned = vehicle.driving().is_some();
        self.crowd(now, index, out);
        if owned && is_due {
            self.choose(now, index, around, out, ids);
        } else {
            around.iter_mut().for_each(|candidate| candidate.wanted = false);
        }
    }

    /// Leaves a crowded vehicle the nearest of its neighbours and the candidates that it wants.
    fn choose(&mut self, now: Now, index: u32, around: &mut [Candidate], out: &mut Fanout, ids: &mut Ids) {
        out.counters.crowd_choices += 1;
        let mut ranked = std::mem::take(&mut self.scratch.ranked);
        for near in self.vehicles.at(index).near.iter().filter(|near| near.sees) {
            let metres = self.metres_between(index, near.peer) * STAYING;
            ranked.push(Ranked { metres, peer: near.peer, who: Who::Present(near.back) });
        }
        for (at, candidate) in around.iter_mut().enumerate() {
            if std::mem::take(&mut candidate.wanted) {
                let Candidate { peer, metres, .. } = *candidate;
                ranked.push(Ranked { metres, peer, who: Who::New(at as u32) });
            }
        }
        let most = (self.config.vehicles.neighbours_max as usize).min(ranked.len());
        let (vehicles, is_present) = (&self.vehicles, |who: Who| matches!(who, Who::Present(_)));
        if most < ranked.len() {
            ranked.select_nth_unstable_by(most, |a, b| {
                let of_equals = || vehicles.at(a.peer).key.cmp(&vehicles.at(b.peer).key);
                let staying = || is_present(b.who).cmp(&is_present(a.who));
                a.metres.total_cmp(&b.metres).then_with(staying).then_with(of_equals)
            });
        }
        for Ranked { who, .. } in &ranked[..most] {
            if let Who::New(at) = who {
                around[*at as usize].wanted = true;
            }
        }
        for Ranked { peer, who, .. } in &ranked[most..] {
            if let Who::Present(back) = who {
                let at = self.vehicles.at(*peer).near[*back as usize].back;
                let ended = self.vehicles.at(index).near[at as usize];
                self.vehicles.unsee(index, at);
                self.tell_exit(now, index, ended, out, ids);
            }
        }
        ranked.clear();
        self.scratch.ranked = ranked;
    }

    /// Whether a candidate that does not see the vehicle takes it in at once. If that must not be, or if it has no room,
    /// it has to look around itself: in a crowd, who comes first need not be who is nearest.
    fn is_taken_in(&mut self, at_once: bool, candidate: &Candidate) -> bool {
        let Candidate { peer, back, .. } = *candidate;
        let taker = self.vehicles.at(peer);
        let is_seen = back.is_some_and(|back| taker.near[back as usize].sees);
        if !taker.is_open() || is_seen || taker.choosing {
            return false;
        }
        if at_once && taker.seeing < self.config.vehicles.neighbours_max {
            return true;
        }
        if !taker.moved {
            self.look_soon(peer);
        }
        false
    }

    /// A vehicle has more around it than it may see: it chooses as soon as it may.
    fn crowd(&mut self, now: Now, index: u32, out: &mut Fanout) {
        let slot = self.vehicles.slot(index);
        let vehicle = self.vehicles.at_mut(index);
        vehicle.crowded = true;
        vehicle.choose_at_ms = vehicle.choose_at_ms.max(now.mono_ms);
        out.timers.set(vehicle.choose_at_ms, Timer::Crowd(self.id, slot));
    }

    /// The time has come for a crowded vehicle to look around, whether it moves or not.
    pub fn choose_again(&mut self, now: Now, slot: Slot) {
        let Some(vehicle) = self.vehicles.find(slot) else { return };
        // The timer may be one from before it had a new connection.
        if !vehicle.crowded || now.mono_ms < vehicle.choose_at_ms {
            return;
        }
        if vehicle.driving().is_none() && !vehicle.strayed {
            // All that is near another shard's vehicle knows it: nothing happens before its next move.
            vehicle.crowded = false;
            return;
        }
        self.look_soon(slot.index);
    }

    /// Has a vehicle look around although it has not moved.
    fn look_soon(&mut self, index: u32) {
        let vehicle = self.vehicles.at_mut(index);
        if !vehicle.choosing {
            vehicle.choosing = true;
            self.choosing.push_back(index);
        }
    }

    /// A vehicle has become this shard's, or another's: what it knew of crowds was meant otherwise.
    pub(super) fn uncrowd(&mut self, index: u32) {
        let vehicle = self.vehicles.at_mut(index);
        (vehicle.crowded, vehicle.choose_at_ms) = (false, 0);
        if vehicle.strayed {
            self.look_soon(index);
        }
    }

    /// A vehicle that has become this shard's begins to see who is around, and nobody is told yet.
    pub(super) fn see_anew(&mut self, now: Now, index: u32, out: &mut Fanout, ids: &mut Ids) {
        let vehicle = self.vehicles.at(index);
        let Some(position) = vehicle.position else { return };
        self.uncrowd(index);
        let mut around = std::mem::take(&mut self.scratch.around);
        let near = &self.vehicles.at(index).near;
        self.scratch.mark_all(once(index).chain(near.iter().map(|near| near.peer)));
        for near in near {
            let metres = self.metres_between(index, near.peer);
            around.push(Candidate { peer: near.peer, metres, back: Some(near.back), wanted: true });
        }
        // There are pairs only with those who see it: not with other shards' vehicles, nor in a crowd with all of this
        // shard's.
        let (vehicles, scratch) = (&self.vehicles, &self.scratch);
        self.index.within(position.place, self.hysteresis.enter_m, |peer, metres| {
            if !scratch.is_marked(peer) && !vehicles.at(peer).is_open() {
                around.push(Candidate { peer, metres, back: None, wanted: true });
            }
        });
        let crowded = self.is_too_many(index, &around);
        self.decide(now, index, crowded, &mut around, out, ids);
        for mut candidate in around.drain(..).filter(|candidate| candidate.wanted) {
            self.see_candidate(index, &mut candidate);
        }
        self.scratch.around = around;
    }

    /// How far two vehicles that have positions are from each other.
    pub(super) fn metres_between(&self, a: u32, b: u32) -> f64 {
        let place = |index| self.vehicles.at(index).position.map(|position| position.place);
        place(a).zip(place(b)).map_or(f64::INFINITY, |(a, b)| distance::metres(a, b))
    }
}
