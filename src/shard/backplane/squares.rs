//! Positions between hosts: which squares this host listens to, what it publishes, and what it hears.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::geo::{Place, Square, Squares};
use crate::limits;
use crate::turn::Now;
use crate::wire::bus::{self, BusError, Header};
use crate::wire::state::Sample;

use super::super::mail::{Note, StateNote, What};
use super::super::world::WorldId;
use super::super::{Shard, Timer};
use super::client::Spread;
use super::counters::Dropped;
use super::interest::Change;
use super::streams::Heard;
use super::{Ask, Backplane};

/// Where a vehicle is, says a node that this shard does not know it from.
pub struct Early {
    node: u64,
    sample: Sample,
    /// When that node published it, by its own clock.
    at: u64,
    pub heard_ms: u64,
}

/// What is to be done with the vehicles in some squares.
#[derive(Default)]
pub struct Walk {
    /// Another host wants to hear of this shard's vehicles there.
    asked: FxHashSet<Square>,
    /// This host has asked, at that time (`mono_ms`), who is there: who does not answer has gone.
    counted: FxHashMap<Square, u64>,
    /// This host does not listen there any more.
    forgotten: FxHashSet<Square>,
    /// Not before this (`mono_ms`).
    again_ms: u64,
}

impl Walk {
    pub fn next_deadline(&self) -> Option<u64> {
        let nothing = self.asked.is_empty() && self.counted.is_empty() && self.forgotten.is_empty();
        (!nothing).then_some(self.again_ms)
    }

    fn is_due(&self, now_ms: u64) -> bool {
        self.next_deadline().is_some_and(|due_ms| due_ms <= now_ms)
    }

    fn clear(&mut self) {
        self.asked.clear();
        self.counted.clear();
        self.forgotten.clear();
    }

    /// Nobody can be answered.
    pub fn link_lost(&mut self) {
        self.asked.clear();
    }
}

impl Backplane {
    /// A vehicle is no longer this shard's: nothing more is published of it.
    pub fn forget_position(&mut self, world: WorldId, key: u64) {
        if let Some(realm) = self.realms.get_mut(world) {
            realm.positions.forget(key);
        }
    }
}

impl Shard {
    /// A vehicle of this host is somewhere else, or has become this host's, or another's: which squares matter for it
    /// may have changed.
    pub(in super::super) fn watch_around(&mut self, now: Now, world: WorldId, index: u32) {
        let Some(realm) = self.bus.as_mut().and_then(|bus| bus.realms.get_mut(world)) else { return };
        let world = &mut self.worlds[world];
        let reach_m = world.hysteresis.exit_m + limits::SQUARE_MARGIN_M;
        let vehicle = world.vehicles.at_mut(index);
        let squares = match vehicle.position {
            Some(position) if vehicle.epoch.node == self.node.key => Squares::around(position.place, reach_m),
            _ => Squares::NONE,
        };
        let before = std::mem::replace(&mut vehicle.squares, squares);
        if before != squares {
            realm.interest.moved(before, squares, now.mono_ms);
        }
    }

    /// A vehicle is gone.
    pub(in super::super) fn watch_no_more(&mut self, now: Now, world: WorldId, squares: Squares) {
        if let Some(realm) = self.bus.as_mut().and_then(|bus| bus.realms.get_mut(world)) {
            realm.interest.moved(squares, Squares::NONE, now.mono_ms);
        }
    }

    /// Subscribes to what has come into reach, and forgets what has been out of it for a while.
    pub(super) fn settle_squares(&mut self, now: Now) {
        let Some(bus) = &mut self.bus else { return };
        for realm in bus.realms.iter_mut() {
            for change in realm.interest.due(now.mono_ms) {
                match change {
                    Change::Want(square) => bus.client.subscribe(now, Spread::Sharded, &realm.channel_of(square)),
                    Change::Leave(square) => {
                        bus.client.unsubscribe(now, Spread::Sharded, &realm.channel_of(square));
                        realm.streams.forget(square);
                        let note = Note { world: realm.world, what: What::Forgotten(square) };
                        self.mesh.tell_all(note, &mut self.out.counters);
                    }
                    Change::Forget(square) => drop(realm.walk.forgotten.insert(square)),
                }
            }
        }
        for world in bus.realms.worlds() {
            self.walk_squares(now, world);
        }
    }

    /// The shard that listens to a square does so no more.
    pub(in super::super) fn square_forgotten(&mut self, world: WorldId, square: Square) {
        if let Some(realm) = self.bus.as_mut().and_then(|bus| bus.realms.get_mut(world))
            && realm.interest.forgotten(square)
        {
            realm.walk.forgotten.insert(square);
        }
    }

    /// Looks at every vehicle of a world once for all squares in which something is to be done, and not too often: a fleet that
    /// goes home leaves hundreds of squares.
    fn walk_squares(&mut self, now: Now, of: WorldId) {
        let Some(bus) = &mut self.bus else { return };
        let Some(realm) = bus.realms.get_mut(of) else { return };
        if bus.ready {
            realm.walk.asked.extend(realm.positions.due_asks(now.mono_ms));
        }
        if !realm.walk.is_due(now.mono_ms) {
            return;
        }
        realm.walk.again_ms = now.mono_ms + limits::WALK_MS;
        let (mut lost, mut doubtful) = (Vec::new(), Vec::new());
        let world = &mut self.worlds[of];
        for (index, vehicle) in world.vehicles.iter() {
            let Some(position) = &vehicle.position else { continue };
            let square = Square::of(position.place);
            if vehicle.epoch.node == self.node.key {
                if vehicle.driving().is_some() && realm.walk.asked.contains(&square) {
                    realm.positions.moved(position.sample, square);
                }
            } else if realm.walk.forgotten.contains(&square) {
                // What is known of it grows old from now on.
                lost.push(index);
            } else if let Some(asked_ms) = realm.walk.counted.get(&square)
                // The answer may have been quicker than this walk.
                && position.updated_ms < *asked_ms
                && vehicle.unconfirmed_ms.is_none()
            {
                doubtful.push(index);
            }
        }
        realm.walk.clear();
        for index in lost {
            self.lose(now, of, index);
        }
        for index in doubtful {
            let world = &mut self.worlds[of];
            world.vehicles.at_mut(index).unconfirmed_ms = Some(now.mono_ms);
            let timer = Timer::Unconfirmed(Box::new((of, world.vehicles.slot(index), now.mono_ms)));
            self.out.timers.set(now.mono_ms + limits::UNCONFIRMED_MS, timer);
            let key = world.vehicles.at(index).key;
            self.look_after(now, of, key);
        }
    }

    /// Nothing more will be heard of where a vehicle of another host is.
    pub(in super::super) fn lose(&mut self, now: Now, of: WorldId, index: u32) {
        let world = &mut self.worlds[of];
        world.lose(now, index, &mut self.out, &mut self.ids);
        let key = world.vehicles.at(index).key;
        self.look_after(now, of, key);
    }

    /// A vehicle of this shard has moved.
    pub(in super::super) fn tell_hosts_where(&mut self, world: WorldId, note: &StateNote) {
        if let Some(bus) = &mut self.bus
            && bus.ready
            && let Some(realm) = bus.realms.get_mut(world)
        {
            let state = note.sample.state();
            realm.positions.moved(note.sample, Square::of(Place::from_e7(state.lat_e7, state.lon_e7)));
        }
    }

    /// Publishes what has moved since the last tick, unless Redis is behind: then the newest goes a little later.
    pub(super) fn publish_positions(&mut self, now: Now) {
        let tick_ms = self.config.redis.position_tick_ms;
        let Some(bus) = &self.bus else { return };
        // Whoever found no room goes first now.
        let from = bus.positions_from;
        let behind = bus.realms.worlds().skip_while(move |world| *world < from);
        for world in behind.chain(bus.realms.worlds().take_while(move |world| *world < from)) {
            let Some(bus) = &mut self.bus else { return };
            if bus.client.in_flight_bytes() > limits::STATES_IN_FLIGHT_BYTES_MAX {
                bus.positions_from = world;
                return;
            }
            let realm = bus.realms.get_mut(world);
            let pieces = realm.and_then(|realm| realm.positions.take(now.mono_ms, tick_ms));
            for (square, states) in pieces.into_iter().flatten() {
                self.publish_states(now, world, square, &states);
            }
        }
    }

    /// Publishes one frame's worth of a square.
    fn publish_states(&mut self, now: Now, world: WorldId, square: Square, states: &[Sample]) {
        let Some(bus) = &mut self.bus else { return };
        let Some(realm) = bus.realms.get_mut(world) else { return };
        let header = Header {
            kind: bus::Kind::States,
            worker: self.mesh.shard().0,
            sequence: realm.positions.next_sequence(square),
            node: self.node.key,
            epoch: self.node.epoch,
            at: now.unix_ms,
        };
        bus.scratch.clear();
        bus::encode_states(&mut bus.scratch, &header, states.iter());
        let sent = bus.client.publish(now, Spread::Sharded, &realm.channel_of(square), &bus.scratch, Ask::Nothing);
        if sent.is_ok() {
            self.out.counters.backplane.states_out += states.len() as u64;
        }
        self.count_sent(sent);
    }

    /// Publishes where a vehicle of this shard is, although it has not moved.
    pub(in super::super) fn tell_hosts_where_again(&mut self, world: WorldId, index: u32) {
        let vehicle = self.worlds[world].vehicles.at(index);
        if let (Some(bus), Some(position)) = (&mut self.bus, &vehicle.position)
            && bus.ready
            && let Some(realm) = bus.realms.get_mut(world)
        {
            realm.positions.moved(position.sample, Square::of(position.place));
        }
    }

    /// Asks the other hosts for everything in a square.
    pub(in super::super) fn ask_square(&mut self, now: Now, world: WorldId, square: Square) {
        let Some(bus) = self.bus.as_mut().filter(|bus| bus.ready) else { return };
        let Some(realm) = bus.realms.get(world) else { return };
        let header = Header {
            kind: bus::Kind::Ask,
            worker: self.mesh.shard().0,
            sequence: 0,
            node: self.node.key,
            epoch: self.node.epoch,
            at: now.unix_ms,
        };
        bus.scratch.clear();
        bus::encode_ask(&mut bus.scratch, &header);
        let channel = realm.channel_of(square);
        let sent = bus.client.publish(now, Spread::Sharded, &channel, &bus.scratch, Ask::Nothing);
        self.count_sent(sent);
        if sent.is_ok() {
            // Of those that have left while nothing was heard, nobody will say so any more.
            self.mesh.tell_all(Note { world, what: What::SquareCounted(square) }, &mut self.out.counters);
            self.square_counted(now, world, square);
        }
    }

    /// This host has asked who is in a square.
    pub(in super::super) fn square_counted(&mut self, now: Now, world: WorldId, square: Square) {
        // It may be another shard of this host whose link is back already.
        if let Some(realm) = self.bus.as_mut().and_then(|bus| bus.realms.get_mut(world)) {
            realm.walk.counted.entry(square).or_insert(now.mono_ms);
        }
    }

    /// A bus frame on a channel that this worker listens to.
    pub(super) fn frame_heard(&mut self, now: Now, world: WorldId, square: Square, payload: Vec<u8>) {
        let dropped = &mut self.out.counters.backplane.dropped;
        if payload.len() > limits::BUS_FRAME_BYTES_MAX {
            dropped.increment(Dropped::TooLarge);
            return;
        }
        let header = match bus::decode(&payload) {
            Ok((header, _)) => header,
            Err(BusError::Version) => {
                dropped.increment(Dropped::Version);
                return;
            }
            Err(BusError::RecordSize | BusError::Short | BusError::Long) => {
                dropped.increment(Dropped::Records);
                return;
            }
            Err(BusError::Kind) => {
                dropped.increment(Dropped::Malformed);
                return;
            }
        };
        if header.node == self.node.key {
            return;
        }
        // What was on its way when the square was forgotten would never be forgotten again.
        let realm = self.bus.as_mut().and_then(|bus| bus.realms.get_mut(world));
        let Some(realm) = realm.filter(|realm| realm.interest.wants(square)) else { return };
        let counters = &mut self.out.counters.backplane;
        counters.consumed += 1;
        counters.lag_ms.observe(now.unix_ms.saturating_sub(header.at));
        if header.kind == bus::Kind::Ask {
            self.everyone_asked(now, world, square);
            return;
        }
        match realm.streams.heard(square, &header, now.mono_ms) {
            Heard::First | Heard::InOrder => {}
            Heard::Gap(missing) => {
                counters.gaps += u64::from(missing);
                self.ask_square(now, world, square);
            }
            Heard::Restarted => self.ask_square(now, world, square),
            Heard::Old => {
                counters.dropped.increment(Dropped::Old);
                return;
            }
        }
        let frame: Arc<[u8]> = payload.into();
        let note = Note { world, what: What::BusFrame { square, frame: frame.clone() } };
        self.mesh.tell_all(note, &mut self.out.counters);
        self.states_heard(now, world, &frame);
    }

    /// A bus frame on a channel that another shard listens to.
    pub(in super::super) fn frame_passed_on(&mut self, now: Now, world: WorldId, square: Square, frame: &[u8]) {
        if let Some(realm) = self.bus.as_mut().and_then(|bus| bus.realms.get_mut(world)) {
            realm.interest.heard(square, now.mono_ms);
        }
        self.states_heard(now, world, frame);
    }

    /// The positions in a bus frame, which has been checked.
    fn states_heard(&mut self, now: Now, of: WorldId, frame: &[u8]) {
        let Ok((header, states)) = bus::decode(frame) else { return };
        let (mut known, mut unknown) = (0, 0);
        for sample in states {
            let state = sample.state();
            if state.position_e7().is_none() {
                unknown += 1;
                continue;
            }
            let world = &mut self.worlds[of];
            let found = world.vehicles.by_key(state.key);
            let Some(index) = found.filter(|index| world.vehicles.at(*index).epoch.node == header.node) else {
                // One that has just left, or has been taken over by this host, may still be under way.
                let is_late = found.is_some_and(|index| world.vehicles.at(index).epoch.node == self.node.key)
                    || world.departed.contains_key(&state.key);
                unknown += u64::from(!is_late);
                if let Some(bus) = &mut self.bus
                    && (bus.early.len() < limits::EARLY_MAX || bus.early.contains_key(&(of, state.key)))
                {
                    let (node, at, heard_ms) = (header.node, header.at, now.mono_ms);
                    bus.early.insert((of, state.key), Early { node, sample, at, heard_ms });
                }
                continue;
            };
            known += 1;
            if let Some(bus) = self.bus.as_mut().filter(|bus| !bus.early.is_empty()) {
                // What another node had said of it is older.
                bus.early.remove(&(of, state.key));
            }
            let vehicle = world.vehicles.at_mut(index);
            let updated_ms = vehicle.position.as_ref().map(|position| position.updated_ms);
            if header.at < vehicle.heard_at
                && updated_ms.is_some_and(|updated_ms| now.mono_ms < updated_ms + limits::CROSSED_MS)
            {
                // It has gone on to another square, and that was heard first.
                continue;
            }
            vehicle.heard_at = header.at;
            if let Some(position) = vehicle.position.as_mut().filter(|position| position.sample == sample) {
                // Said again because somebody has asked: it is still there.
                position.updated_ms = now.mono_ms;
                if vehicle.unconfirmed_ms.take().is_some() {
                    self.look_after(now, of, state.key);
                }
                continue;
            }
            self.place_elsewhere(now, of, index, sample);
        }
        // Each worker looks at every frame; the steward counts.
        if let Some(steward) = self.bus.as_mut().and_then(|bus| bus.steward.as_mut()) {
            let counters = &mut self.out.counters.backplane;
            counters.states_in += known;
            counters.dropped.add(Dropped::UnknownVehicle, unknown);
            if unknown > 0 {
                // Its registration may have been missed.
                steward.read_for_unknown(now, of);
            }
        }
    }

    /// A vehicle of another host is here.
    fn place_elsewhere(&mut self, now: Now, of: WorldId, index: u32, sample: Sample) {
        self.worlds[of].place(index, sample, now);
        self.look_after(now, of, sample.key());
        let state = sample.state();
        let wanted = Square::of(Place::from_e7(state.lat_e7, state.lon_e7));
        let realm = self.bus.as_ref().and_then(|bus| bus.realms.get(of));
        if realm.is_some_and(|realm| !realm.interest.wants(wanted)) {
            // It has left for where this host does not listen: nobody here is near it any more, and nothing more will
            // be heard of it.
            self.lose(now, of, index);
        }
    }

    /// A vehicle has left another host. What was published of it since it was last heard there may be of its next
    /// registration, which is told over another link.
    pub(in super::super) fn keep_early(&mut self, now: Now, world: WorldId, index: u32, last_seen: u64) {
        let vehicle = self.worlds[world].vehicles.at(index);
        if vehicle.epoch.node != self.node.key
            && vehicle.heard_at > last_seen
            && let Some(position) = &vehicle.position
            && let Some(bus) = &mut self.bus
            && bus.early.len() < limits::EARLY_MAX
        {
            // Only its time can tell.
            let heard_ms = now.mono_ms.saturating_sub(limits::EARLY_UNDATED_MS);
            let (node, at) = (vehicle.epoch.node, vehicle.heard_at);
            bus.early.insert((world, vehicle.key), Early { node, sample: position.sample, at, heard_ms });
        }
    }

    /// A vehicle has registered on another host; its position may have been quicker.
    pub(in super::super) fn place_early(&mut self, now: Now, world: WorldId, index: u32) {
        let vehicle = self.worlds[world].vehicles.at(index);
        let (key, epoch) = (vehicle.key, vehicle.epoch);
        if let Some(early) = self.bus.as_mut().and_then(|bus| bus.early.remove(&(world, key)))
            && early.node == epoch.node
        {
            // It may be from an earlier registration on that node. A registration is dated ahead of its node's clock if
            // it takes over one from a node whose clock is ahead; then it is new if it has just come.
            let is_just_heard = now.mono_ms < early.heard_ms + limits::EARLY_UNDATED_MS;
            if early.at >= epoch.connected_ms || is_just_heard {
                self.worlds[world].vehicles.at_mut(index).heard_at = early.at;
                self.place_elsewhere(now, world, index, early.sample);
            }
        }
    }

    /// Every shard of this host is to say who is in a square.
    pub(super) fn everyone_asked(&mut self, now: Now, world: WorldId, square: Square) {
        self.mesh.tell_all(Note { world, what: What::AskSquare(square) }, &mut self.out.counters);
        self.square_asked(now, world, square);
    }

    /// Another host wants to know who is in a square.
    pub(in super::super) fn square_asked(&mut self, now: Now, world: WorldId, square: Square) {
        if let Some(bus) = self.bus.as_mut().filter(|bus| bus.ready)
            && let Some(realm) = bus.realms.get_mut(world)
            && realm.positions.ask(square, now.mono_ms)
        {
            realm.walk.asked.insert(square);
        }
    }

    /// A node has died, and its vehicles are gone.
    pub(in super::super) fn forget_node(&mut self, node: u64) {
        if let Some(bus) = &mut self.bus {
            bus.realms.iter_mut().for_each(|realm| realm.streams.forget_node(node));
            bus.node_names.remove(&node);
        }
    }
}
