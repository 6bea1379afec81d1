//! The vehicles that one shard knows: its own, and those that are connected elsewhere on this host.
//!
//! Every shard knows every vehicle of its host (about 200 bytes each), so a neighbour on another core looks like one on
//! this core, and nobody has to ask.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::geo::{Place, Squares};
use crate::turn::{ConnId, ShardId};
use crate::wire::event::Identity;
use crate::wire::json::EventKind;
use crate::wire::state::{self, Sample};

use super::pairs::Near;
use super::past::Link;
use super::rate::Level;
use super::significant::Shown;
use super::table::Table;
use super::watch::Seen;

/// Position of a vehicle in its world's table, with a generation against stale timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    pub index: u32,
    pub born: u32,
}

/// Which registration of a vehicle id this is. The later one wins everywhere, in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch {
    /// Unix time of the registration.
    pub connected_ms: u64,
    /// Key of the node where it happened.
    pub node: u64,
    /// Which of its shards. Of another node's vehicles nobody needs to know: 0.
    pub shard: ShardId,
    /// Counts registrations on that shard; 0 of another node's.
    pub count: u64,
}

impl Epoch {
    /// A registration on another node.
    pub fn elsewhere(connected_ms: u64, node: u64) -> Epoch {
        Epoch { connected_ms, node, shard: ShardId(0), count: 0 }
    }
}

/// What is remembered of a vehicle that left.
#[derive(Clone, Copy, Debug)]
pub struct Departed {
    pub epoch: Epoch,
    pub rates: Rates,
}

/// Who drives a vehicle.
#[derive(Debug)]
pub enum Owner {
    /// A connection of this shard.
    Here(Box<Driving>),
    /// Another shard of this host, or another host: the vehicle's epoch says which.
    There,
}

/// What only the owner of a vehicle keeps.
#[derive(Debug)]
pub struct Driving {
    pub conn: ConnId,
    /// From when on the next update may be processed: `coalesce_ms` after the last one. Until then, updates wait.
    pub ready_ms: u64,
    /// The newest update that waits: mostly there is none.
    pub waiting: Option<Box<Sample>>,
    /// The newest timestamp of an accepted fix (0: there was none), and when that fix arrived.
    pub newest: (u64, u64),
    /// When the last `nearby_vehicles` list was sent.
    pub listed_ms: u64,
    /// A timer will send the list.
    pub list_pending: bool,
    pub rates: Rates,
    /// The other hosts have been told of this registration.
    pub announced: bool,
    /// The watcher of its connection, if that has one.
    pub watcher: Option<u32>,
    /// Its connection speaks `ringroad.v1`.
    pub slim: bool,
    /// Until when its states say that it has raised an alert.
    pub alert_until_ms: u64,
}

impl Driving {
    pub fn new(conn: ConnId) -> Self {
        Driving {
            conn,
            ready_ms: 0,
            waiting: None,
            newest: (0, 0),
            listed_ms: 0,
            list_pending: false,
            rates: Rates::default(),
            announced: false,
            watcher: None,
            slim: false,
            alert_until_ms: 0,
        }
    }
}

/// A vehicle's token buckets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    pub location_update: Level,
    pub send_message: Level,
    pub emergency_alert: Level,
    pub signaling: Level,
    pub ice_candidate: Level,
}

impl Rates {
    /// Of each bucket the emptier one: what one connection of a vehicle has spent, the next one has not.
    pub fn spent(&mut self, elsewhere: &Rates) {
        let Rates { location_update, send_message, emergency_alert, signaling, ice_candidate } = elsewhere;
        self.location_update = self.location_update.max(*location_update);
        self.send_message = self.send_message.max(*send_message);
        self.emergency_alert = self.emergency_alert.max(*emergency_alert);
        self.signaling = self.signaling.max(*signaling);
        self.ice_candidate = self.ice_candidate.max(*ice_candidate);
    }

    /// The bucket that an event is drawn from, and its setting.
    pub fn bucket(
        &mut self,
        kind: EventKind,
        limits: &crate::config::RateLimits,
    ) -> Option<(&mut Level, crate::config::Bucket)> {
        Some(match kind {
            EventKind::Register | EventKind::Heartbeat => return None,
            EventKind::View | EventKind::Near | EventKind::Follow => return None,
            EventKind::LocationUpdate => (&mut self.location_update, limits.location_update),
            EventKind::SendMessage => (&mut self.send_message, limits.send_message),
            EventKind::EmergencyAlert => (&mut self.emergency_alert, limits.emergency_alert),
            EventKind::IceCandidate => (&mut self.ice_candidate, limits.ice_candidate),
            EventKind::ConnectRequest
            | EventKind::ConnectResponse
            | EventKind::CallInitiate
            | EventKind::WebrtcOffer
            | EventKind::WebrtcAnswer
            | EventKind::SyncDisconnect
            | EventKind::SyncEndCall => (&mut self.signaling, limits.signaling),
        })
    }
}

/// A vehicle's latest position.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    pub place: Place,
    pub sample: Sample,
    /// When the update arrived at its owner or, over the mesh, here.
    pub updated_ms: u64,
    /// Unix time of the same.
    pub updated_unix_ms: u64,
}

/// A vehicle.
#[derive(Debug)]
pub struct Vehicle {
    pub key: u64,
    pub born: u32,
    pub identity: Arc<Identity>,
    pub epoch: Epoch,
    pub owner: Owner,
    pub position: Option<Position>,
    /// Its pairs with vehicles around: those that it sees, and those that see it.
    pub near: Vec<Near>,
    /// How many it sees: its neighbours. None if it is not owned here.
    pub seeing: u32,
    /// There are more around it than it may see. It looks around only once per `crowd_ms`, and of another shard's
    /// vehicle that is all this says.
    pub crowded: bool,
    /// Has moved since it looked around.
    pub strayed: bool,
    /// Is to look around although it has not moved.
    pub choosing: bool,
    /// Not before this (`mono_ms`) does it choose anew whom it sees.
    pub choose_at_ms: u64,
    /// Who watches it.
    pub seen: Vec<Seen>,
    /// What was told last, with `significant_changes`.
    pub shown: Option<Box<Shown>>,
    /// Its position event in the render log: where, and how long. Length 0: not rendered.
    pub rendered: (u64, u32),
    /// The position before.
    pub passed: Link,
    /// Has moved and is to be settled.
    pub moved: bool,
    /// How many positions since it was settled the newest one has replaced.
    pub unsettled: u32,
    /// The squares that this host listens to because of it. None of another host's vehicle.
    pub squares: Squares,
    /// When its newest state was published, by the clock of the other host that it is connected to; 0: none was heard.
    pub heard_at: u64,
    /// When (`mono_ms`) it registered on another host, if it has not been heard of from there since.
    pub unconfirmed_ms: Option<u64>,
}

impl Vehicle {
    pub fn driving(&self) -> Option<&Driving> {
        match &self.owner {
            Owner::Here(driving) => Some(driving),
            Owner::There => None,
        }
    }

    /// Whether it takes in whoever comes within its radius, at once.
    pub fn is_open(&self) -> bool {
        self.driving().is_some() && !self.crowded
    }

    pub fn driving_mut(&mut self) -> Option<&mut Driving> {
        match &mut self.owner {
            Owner::Here(driving) => Some(driving),
            Owner::There => None,
        }
    }
}

/// What every look at a vehicle's neighbours asks of each of them. It lies apart from all else that is known of a vehicle,
/// so that thousands of them stay in the processor's cache.
#[derive(Clone, Copy, Debug, Default)]
pub struct Track {
    /// Where it is, if it is anywhere.
    pub place: Place,
    /// Counts the moves that those who see it are to hear of.
    pub moves: u32,
    /// Its connection knows that neighbours have moved, and will be flushed.
    pub woken: bool,
}

/// All vehicles of a world that this shard knows.
#[derive(Default)]
pub struct Vehicles {
    slots: Table<Option<Vehicle>>,
    /// Of each slot.
    tracks: Vec<Track>,
    free: Vec<u32>,
    /// Positions that were replaced by newer ones and whose connection lost the vehicle before it was flushed.
    pub replaced: u64,
    by_key: FxHashMap<u64, u32>,
    births: u32,
}

impl Vehicles {
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// How many slots there are, free ones too: every index is below.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    pub fn by_key(&self, key: u64) -> Option<u32> {
        self.by_key.get(&key).copied()
    }

    /// A vehicle by its id. Another one's id may have the same key.
    pub fn by_id(&self, vehicle_id: &str) -> Option<u32> {
        self.by_key(state::key(vehicle_id)).filter(|index| &*self.at(*index).identity.vehicle_id == vehicle_id)
    }

    /// A vehicle by its table index, which must be in use.
    pub fn at(&self, index: u32) -> &Vehicle {
        let vehicle = self.slots.get(index).and_then(Option::as_ref);
        vehicle.expect("an index in use: pairs and slots are removed with their vehicle")
    }

    /// Like [`Vehicles::at`], to change it.
    pub fn at_mut(&mut self, index: u32) -> &mut Vehicle {
        self.get_mut(index).expect("an index in use: pairs and slots are removed with their vehicle")
    }

    /// What others ask of a vehicle, by its table index.
    pub fn track(&self, index: u32) -> &Track {
        &self.tracks[index as usize]
    }

    /// Likewise, to change it.
    pub fn track_mut(&mut self, index: u32) -> &mut Track {
        &mut self.tracks[index as usize]
    }

    /// A vehicle by a table index that may be free.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Vehicle> {
        self.slots.get_mut(index)?.as_mut()
    }

    /// The vehicle of a slot, unless it has gone since.
    pub fn find(&mut self, slot: Slot) -> Option<&mut Vehicle> {
        self.slots.get_mut(slot.index)?.as_mut().filter(|vehicle| vehicle.born == slot.born)
    }

    pub fn slot(&self, index: u32) -> Slot {
        Slot { index, born: self.at(index).born }
    }

    pub fn insert(&mut self, key: u64, identity: Arc<Identity>, epoch: Epoch, owner: Owner) -> u32 {
        self.births = self.births.wrapping_add(1);
        let vehicle = Vehicle {
            key,
            born: self.births,
            identity,
            epoch,
            owner,
            position: None,
            near: Vec::new(),
            seeing: 0,
            crowded: false,
            strayed: false,
            choosing: false,
            choose_at_ms: 0,
            seen: Vec::new(),
            shown: None,
            rendered: (0, 0),
            passed: Link::default(),
            moved: false,
            unsettled: 0,
            squares: Squares::NONE,
            heard_at: 0,
            unconfirmed_ms: None,
        };
        let index = match self.free.pop() {
            None => {
                self.tracks.push(Track::default());
                self.slots.push(Some(vehicle))
            }
            Some(index) => {
                self.tracks[index as usize] = Track::default();
                *self.slots.get_mut(index).expect("a slot that was in use") = Some(vehicle);
                index
            }
        };
        self.by_key.insert(key, index);
        index
    }

    /// Takes a vehicle out. Its pairs must be gone.
    pub fn remove(&mut self, index: u32) -> Vehicle {
        let vehicle = self.slots.get_mut(index).and_then(Option::take).expect("an index in use");
        debug_assert!(vehicle.near.is_empty() && vehicle.seen.is_empty());
        self.by_key.remove(&vehicle.key);
        self.free.push(index);
        vehicle
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Vehicle)> {
        self.slots.iter().filter_map(|(index, slot)| Some((index, slot.as_ref()?)))
    }
}
