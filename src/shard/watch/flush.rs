//! What a watcher's connection is sent: who has gone, who is new, and the newest state of everything that moved.
//!
//! A send has a bound. What is left is still marked and follows with the next send; if the reader takes no more, the
//! marks stay and the states behind them grow newer. What has been sent and moves again before the flush is over waits
//! for the next one, and that for its time.

use crate::limits;
use crate::metrics::Counters;
use crate::turn::Now;
use crate::wire::event::{Event, EventName};
use crate::wire::frame::{self, Opcode};
use crate::wire::slim::{self, StateFrames};
use crate::wire::state::RECORD_BYTES;

use super::super::conns::Dialect;
use super::super::past::Past;
use super::super::vehicles::{Slot, Vehicle};
use super::super::world::World;
use super::Watcher;

/// What a flush has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing is due.
    Nothing,
    /// More of this flush: it need not wait.
    Pieces,
    /// Something that has become due meanwhile, for the next flush.
    Newer,
}

/// How a connection is flushed.
#[derive(Clone, Copy, Debug)]
pub struct Flush {
    pub now: Now,
    /// What newer positions of neighbours have replaced while it waited comes too, if that is little.
    pub passed: bool,
}

impl Flush {
    /// The past, if it is to come.
    pub fn past(self, past: &Past) -> Option<&Past> {
        self.passed.then_some(past)
    }
}

impl World {
    /// Appends what is due to a watcher.
    pub fn flush(
        &mut self,
        flush: Flush,
        index: u32,
        (own, dialect): (Option<Slot>, Dialect),
        out: &mut Vec<u8>,
        counters: &mut Counters,
    ) -> Left {
        let now = flush.now;
        let full = out.len() + limits::FLUSH_BYTES_MAX;
        self.scratch.records.clear();
        let asking = {
            let watcher = self.watchers.at_mut(index);
            watcher.stirred &= watcher.walk_at > 0;
            watcher.is_asking()
        };
        let mut more = self.flush_gone(index, dialect, full, out, counters);
        let mut walked = false;
        if !more {
            match (asking, own) {
                (true, _) => {
                    more = self.flush_sights(now, index, dialect, full, out, counters);
                    walked = !more;
                }
                (false, Some(own)) if dialect == Dialect::Slim => {
                    more = self.flush_neighbours(flush, index, own, full, out, counters);
                    walked = !more;
                }
                (false, Some(own)) => {
                    self.take_positions(flush, own, out, counters);
                    walked = true;
                }
                (false, None) => walked = true,
            }
        }
        if dialect == Dialect::Slim {
            let crowded = !asking && own.and_then(|own| self.vehicles.find(own)).is_some_and(|own| own.crowded);
            let watcher = self.watchers.at_mut(index);
            let complete = walked && !more && watcher.incomplete;
            watcher.incomplete &= !complete;
            let tiered = if watcher.tiered { slim::TIERED } else { 0 };
            let cut = if watcher.cut || crowded { slim::CUT } else { 0 };
            if complete || !self.scratch.records.is_empty() {
                let mut frames = StateFrames::begin(out, tiered | cut, watcher.epoch as u16, now.unix_ms);
                self.scratch.records.iter().for_each(|record| frames.push(out, record));
                frames.finish(out, complete);
                counters.state_frames += 1;
            }
        } else if walked && !more {
            self.watchers.at_mut(index).incomplete = false;
        }
        match (more, self.watchers.at(index).stirred) {
            (true, _) => Left::Pieces,
            (false, true) => Left::Newer,
            (false, false) => Left::Nothing,
        }
    }

    /// Who has left the view.
    fn flush_gone(
        &mut self,
        index: u32,
        dialect: Dialect,
        full: usize,
        out: &mut Vec<u8>,
        counters: &mut Counters,
    ) -> bool {
        let (watcher, records) = (self.watchers.at_mut(index), &mut self.scratch.records);
        let keys: Vec<u64> = watcher.gone.keys().take(limits::FLUSH_BYTES_MAX / RECORD_BYTES).copied().collect();
        for key in keys {
            if is_full(out, records, full) {
                return true;
            }
            let Some(identity) = watcher.gone.remove(&key) else { continue };
            match dialect {
                Dialect::Slim => records.push(slim::gone(key)),
                Dialect::V2vJson => {
                    let (event, start) = (Event::PeerGone { vehicle_id: &identity.vehicle_id }, out.len());
                    frame::encode_with(out, Opcode::Text, |text| event.write(text));
                    counters.told(EventName::PeerGone, out.len() - start);
                }
            }
        }
        if watcher.gone.is_empty() {
            // A view that was moved leaves room for thousands behind.
            watcher.gone.shrink_to(limits::NAMES_KEPT_MAX);
        }
        !watcher.gone.is_empty() || is_full(out, records, full)
    }

    /// Takes the sights that are due. True: not all have been looked at.
    fn flush_sights(
        &mut self,
        now: Now,
        index: u32,
        dialect: Dialect,
        full: usize,
        out: &mut Vec<u8>,
        counters: &mut Counters,
    ) -> bool {
        let watcher = self.watchers.at_mut(index);
        let mut at = std::mem::take(&mut watcher.walk_at);
        if at == 0 {
            watcher.rest_walks = std::mem::take(&mut watcher.rest_due);
        }
        let with_rest = watcher.rest_walks;
        while let Some(sight) = self.watchers.at_mut(index).sights.get_mut(at) {
            at += 1;
            if !sight.due || (sight.far && !with_rest && sight.told) {
                continue;
            }
            sight.due = false;
            let (vehicle, named) = (sight.vehicle, std::mem::replace(&mut sight.named, true));
            let is_first = !std::mem::replace(&mut sight.told, true);
            match dialect {
                Dialect::Slim => {
                    self.take_record(now, index, (vehicle, named), out, counters);
                }
                Dialect::V2vJson => {
                    self.write_position(vehicle, out);
                }
            }
            count_newest(now, self.vehicles.at(vehicle), is_first, counters);
            if is_full(out, &self.scratch.records, full) {
                self.watchers.at_mut(index).walk_at = at;
                return true;
            }
        }
        false
    }

    /// Takes the neighbours of its own vehicle that are due. True: there are more.
    fn flush_neighbours(
        &mut self,
        flush: Flush,
        index: u32,
        own: Slot,
        full: usize,
        out: &mut Vec<u8>,
        counters: &mut Counters,
    ) -> bool {
        let now = flush.now;
        let Some(vehicle) = self.vehicles.find(own) else { return false };
        let mut neighbours = std::mem::take(&mut vehicle.near);
        self.vehicles.track_mut(own.index).woken = false;
        let mut all = neighbours.iter_mut();
        while !is_full(out, &self.scratch.records, full)
            && let Some(near) = all.next()
        {
            let Some(due) = self.vehicles.take_due(flush.now, near, flush.past(&self.past), counters) else { continue };
            for passed in due.passed.iter().filter_map(|link| self.past.get(link)) {
                self.scratch.records.push(slim::record_at(&passed.sample, now.unix_ms));
                count(now, passed.updated_ms, due.is_first, counters);
            }
            let named = std::mem::replace(&mut near.named, true);
            self.take_record(now, index, (near.peer, named), out, counters);
            count_newest(now, self.vehicles.at(near.peer), due.is_first, counters);
        }
        let more = all.any(|near| self.vehicles.is_due(near));
        self.vehicles.at_mut(own.index).near = neighbours;
        more
    }

    /// Takes a vehicle's record, and before it says who that is if the connection does not know.
    fn take_record(
        &mut self,
        now: Now,
        index: u32,
        (vehicle, named): (u32, bool),
        out: &mut Vec<u8>,
        counters: &mut Counters,
    ) {
        let vehicle = self.vehicles.at(vehicle);
        if !named {
            name(self.watchers.at_mut(index), vehicle, out, counters);
        }
        if let Some(position) = &vehicle.position {
            self.scratch.records.push(slim::record_at(&position.sample, now.unix_ms));
        }
    }
}

/// Says who a vehicle is, unless the connection knows.
fn name(watcher: &mut Watcher, vehicle: &Vehicle, out: &mut Vec<u8>, counters: &mut Counters) {
    if !watcher.knows(vehicle.key, &vehicle.identity) {
        watcher.learns(vehicle.key, &vehicle.identity);
        counters.identities_sent += 1;
        let (event, start) = (Event::VehicleIdentity { key: vehicle.key, identity: &vehicle.identity }, out.len());
        frame::encode_with(out, Opcode::Text, |text| event.write(text));
        counters.told(EventName::VehicleIdentity, out.len() - start);
    }
}

fn is_full(out: &[u8], records: &[[u8; 32]], full: usize) -> bool {
    out.len() + size_of_val(records) >= full || records.len() >= slim::RECORDS_MAX
}

/// Counts a position that is sent. How old one is that was there before the connection looked says nothing about the way.
pub fn count(now: Now, updated_ms: u64, is_first: bool, counters: &mut Counters) {
    counters.peer_locations += 1;
    if !is_first {
        counters.delivery_latency_ms.observe(now.mono_ms.saturating_sub(updated_ms));
    }
}

/// The same of a vehicle's newest.
pub fn count_newest(now: Now, vehicle: &Vehicle, is_first: bool, counters: &mut Counters) {
    count(now, vehicle.position.map_or(now.mono_ms, |position| position.updated_ms), is_first, counters);
}
