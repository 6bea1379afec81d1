//! What the presence hash says: read at start, when a node appears and every now and then, so that whatever was missed
//! is made good; and swept when a node has died.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::limits;
use crate::turn::Now;
use crate::wire::envelope::{self, Kind};
use crate::wire::event::Status;
use crate::wire::resp::Reply;
use crate::wire::{json, state};

use super::super::Shard;
use super::super::mail::{Note, What};
use super::super::vehicles::Epoch;
use super::super::world::WorldId;
use super::counters::Dropped;
use super::presence::Left;
use super::steward::Reading;
use super::{Ask, To, presence, scripts};

impl Shard {
    /// What the steward has to do by itself: its lease, looking after silent nodes, the next reading.
    pub(super) fn steward_turn(&mut self, now: Now) {
        let lease_ms = self.config.redis.lease_ms;
        let Some(bus) = &mut self.bus else { return };
        let Some(steward) = &mut bus.steward else { return };
        self.out.counters.backplane.processes = steward.nodes.count() as u64 + 1;
        if bus.leaving_by.is_some() {
            return;
        }
        if now.mono_ms >= steward.lease_at_ms {
            steward.lease_at_ms = now.mono_ms + lease_ms / 3;
            let value = format!(
                "{{\"epoch\":{},\"workers\":{},\"version\":\"{}\"}}",
                self.node.epoch,
                bus.workers,
                env!("CARGO_PKG_VERSION")
            );
            let (key, px) = (bus.realms.lease.as_bytes(), lease_ms.to_string());
            let args: [&[u8]; 5] = [b"SET", key, value.as_bytes(), b"PX", px.as_bytes()];
            let sent = bus.client.send(now, Some(key), &args, Ask::Nothing);
            self.count_command(sent);
        }
        let Some(bus) = &mut self.bus else { return };
        let Some(steward) = &mut bus.steward else { return };
        for id in steward.nodes.overdue(now.mono_ms, lease_ms) {
            let key = bus.realms.lease_of(&id);
            // It is asked again in a second.
            let _ = bus.client.send(now, Some(key.as_bytes()), &[b"EXISTS", key.as_bytes()], Ask::Lease(id));
        }
        // The one that has waited longest.
        let next = steward.hashes.iter_mut().min_by_key(|hash| hash.read_at_ms);
        if let Some(hash) = next.filter(|hash| steward.reading.is_none() && now.mono_ms >= hash.read_at_ms) {
            let vehicles = &self.worlds[hash.world].vehicles;
            let known = vehicles.iter().map(|(_, vehicle)| (vehicle.key, vehicle.epoch)).collect();
            // What asks for a reading from now on asks for the next one.
            hash.read_at_ms = u64::MAX;
            steward.reading = Some(Reading {
                world: hash.world,
                sweeping: std::mem::take(&mut hash.to_sweep),
                known,
                found: FxHashSet::default(),
                ghosts: FxHashMap::default(),
                incomplete: false,
            });
            self.scan(now, b"0");
        }
    }

    fn scan(&mut self, now: Now, cursor: &[u8]) {
        let Some(bus) = &mut self.bus else { return };
        let world = bus.steward.as_ref().and_then(|steward| Some(steward.reading.as_ref()?.world));
        let Some(realm) = world.and_then(|world| bus.realms.get(world)) else { return };
        let key = realm.names.presence.as_bytes();
        let args: [&[u8]; 5] = [b"HSCAN", key, cursor, b"COUNT", limits::SCAN_COUNT.as_bytes()];
        if bus.client.send(now, Some(key), &args, Ask::Scan).is_err() {
            self.give_up_reading(now);
        }
    }

    /// It is begun again a little later.
    fn give_up_reading(&mut self, now: Now) {
        if let Some(steward) = self.bus.as_mut().and_then(|bus| bus.steward.as_mut())
            && let Some(reading) = steward.reading.take()
        {
            steward.not_read(now, reading);
        }
    }

    /// A part of the hash.
    pub(super) fn scanned(&mut self, now: Now, reply: Option<Reply>) {
        let Some(Reply::List(parts)) = reply else {
            self.give_up_reading(now);
            return;
        };
        let [Reply::Text(cursor), entries] = &parts[..] else {
            self.give_up_reading(now);
            return;
        };
        let pairs: Vec<(&[u8], &[u8])> = match entries {
            Reply::List(flat) => {
                flat.chunks_exact(2).filter_map(|pair| Some((pair[0].as_bytes()?, pair[1].as_bytes()?))).collect()
            }
            Reply::Map(pairs) => pairs.iter().filter_map(|(k, v)| Some((k.as_bytes()?, v.as_bytes()?))).collect(),
            _ => Vec::new(),
        };
        for (vehicle_id, entry) in pairs {
            self.entry_read(now, vehicle_id, entry);
        }
        if cursor == b"0" {
            self.reading_done(now);
        } else {
            self.scan(now, cursor);
        }
    }

    fn entry_read(&mut self, now: Now, vehicle_id: &[u8], entry: &[u8]) {
        let Some(vehicle_id) = std::str::from_utf8(vehicle_id).ok().filter(|id| json::is_vehicle_id(id)) else {
            return;
        };
        let mut parser = self.bus_parser.take().unwrap_or_default();
        let read = envelope::read_entry(&mut parser, &mut entry.to_vec(), |read| {
            let entry = read.ok()?;
            let node: Arc<str> = entry.node?.into();
            Some((node, presence::identity(vehicle_id, &entry.who, entry.connected_ms)))
        });
        self.bus_parser = Some(parser);
        // Damaged, or an existing server's: neither is ours to look after.
        let Some((node, identity)) = read else { return };
        let (key, connected_ms) = (state::key(vehicle_id), identity.connected_ms);
        let node_key = state::key(&node);
        let epoch = Epoch::elsewhere(connected_ms, node_key);
        let own = self.node.clone();
        let Some(steward) = self.bus.as_mut().and_then(|bus| bus.steward.as_mut()) else { return };
        let Some(reading) = &mut steward.reading else { return };
        let world = reading.world;
        if node_key == own.key {
            let vehicles = &self.worlds[world].vehicles;
            let driven = vehicles.by_key(key).map(|index| vehicles.at(index).epoch);
            let driven = driven.is_some_and(|epoch| (epoch.connected_ms, epoch.node) == (connected_ms, own.key));
            if driven {
                reading.found.insert(key);
                return;
            }
            // It may have left, or arrived, a moment ago; one of an earlier run of this node has not.
            let ghosts = steward.hashes.iter().find(|hash| hash.world == world).map(|hash| &hash.ghosts);
            let known = ghosts.and_then(|ghosts| ghosts.get(&key)).filter(|(connected, _)| *connected == connected_ms);
            let since_ms = known.map_or(now.mono_ms, |(_, since_ms)| *since_ms);
            if connected_ms < own.epoch || now.mono_ms >= since_ms + limits::ABSENT_MS {
                let left = left(world, vehicle_id, epoch, now.unix_ms);
                self.delete_entry(now, &left.clone(), Ask::Removed(left));
            } else {
                reading.ghosts.insert(key, (connected_ms, since_ms));
            }
            return;
        }
        let vehicles = &self.worlds[world].vehicles;
        // Where an older registration stands than the one that is known here, that one may have ended unheard.
        if vehicles.by_key(key).is_none_or(|index| vehicles.at(index).epoch <= epoch) {
            reading.found.insert(key);
        }
        if reading.sweeping.contains(&node_key) {
            let last_seen = now.unix_ms.saturating_sub(self.config.redis.lease_ms);
            self.sweep_entry(now, &node, left(world, vehicle_id, epoch, last_seen));
            return;
        }
        steward.nodes.mentioned(node_key, &node, now.mono_ms);
        self.entered_elsewhere(now, world, &node, identity, epoch);
    }

    fn sweep_entry(&mut self, now: Now, node: &str, left: Left) {
        let Some(bus) = &mut self.bus else { return };
        let Some(realm) = bus.realms.get(left.world) else { return };
        let vehicle_id = left.vehicle_id.clone();
        let args = scripts::sweep_one(&vehicle_id, node, left.epoch.connected_ms);
        let key = realm.names.presence.as_bytes();
        let sent = bus.client.run(now, &scripts::SWEEP_ONE, key, &args.slices(), Ask::Removed(left));
        if sent.is_err()
            && let Some(reading) = bus.steward.as_mut().and_then(|steward| steward.reading.as_mut())
        {
            reading.incomplete = true;
        }
        self.count_command(sent);
    }

    /// An entry was to be deleted because nobody drives its vehicle any more.
    pub(super) fn entry_removed(&mut self, now: Now, left: Left, reply: Option<Reply>) {
        // 0: somebody else has deleted it, and announces it; or the vehicle has come back.
        if reply.as_ref().and_then(scripts::was_done) == Some(true) {
            self.out.counters.backplane.swept += 1;
            self.left_elsewhere(
                now,
                left.world,
                &left.vehicle_id,
                left.epoch.connected_ms,
                (left.status, left.last_seen),
            );
            self.announce_left(now, &left, Ask::Nothing);
        }
    }

    fn reading_done(&mut self, now: Now) {
        let Some(steward) = self.bus.as_mut().and_then(|bus| bus.steward.as_mut()) else { return };
        let Some(mut reading) = steward.reading.take() else { return };
        let (world, is_early) = (reading.world, now.mono_ms < steward.ready_ms + limits::ABSENT_MS);
        let Some(hash) = steward.hash(world) else { return };
        hash.ghosts = std::mem::take(&mut reading.ghosts);
        let absent_before = std::mem::take(&mut hash.absent);
        let (mut orphans, mut doubted, mut unwritten) = (Vec::new(), Vec::new(), Vec::new());
        let vehicles = &self.worlds[world].vehicles;
        for (key, epoch) in std::mem::take(&mut reading.known) {
            let Some(index) = vehicles.by_key(key) else { continue };
            if reading.found.contains(&key) || vehicles.at(index).epoch != epoch {
                continue;
            }
            let identity = &vehicles.at(index).identity;
            if reading.sweeping.contains(&epoch.node) {
                orphans.push((identity.clone(), epoch));
            } else if epoch.node == self.node.key {
                // One that has just registered is on its way.
                if now.unix_ms > epoch.connected_ms + limits::READ_SOON_MS {
                    unwritten.push((key, epoch.shard));
                }
            } else {
                // Above all when Redis has come back empty, its own host writes it by itself. If not, that is asked.
                let before = absent_before.get(&key).filter(|(absent, _)| *absent == epoch);
                let mut since_ms = before.map_or(now.mono_ms, |(_, since_ms)| *since_ms);
                if now.mono_ms >= since_ms + limits::ABSENT_MS && doubted.len() < limits::DOUBTS_MAX {
                    since_ms = now.mono_ms;
                    doubted.push((identity.clone(), epoch));
                }
                hash.absent.insert(key, (epoch, since_ms));
            }
        }
        // When Redis comes back, others come back after this host, and change what it has read.
        let waits = is_early || !hash.absent.is_empty() || !hash.ghosts.is_empty();
        let pause_ms = if waits { limits::ABSENT_MS } else { limits::READ_EVERY_MS };
        hash.read_ms = now.mono_ms;
        hash.read_at_ms = hash.read_at_ms.min(now.mono_ms + pause_ms);
        let mut dead = Vec::new();
        if reading.incomplete {
            steward.not_read(now, reading);
        } else {
            dead = steward.swept(world, reading.sweeping);
        }
        for node in dead {
            self.mesh.tell_all(Note { world, what: What::NodeDead { node } }, &mut self.out.counters);
            self.forget_node(node);
        }
        for (identity, epoch) in orphans {
            // Its entry had been lost, and its node is dead: nobody else would learn it from the hash.
            let left = left(world, &identity.vehicle_id, epoch, now.unix_ms);
            self.left_elsewhere(now, world, &left.vehicle_id, epoch.connected_ms, (left.status, left.last_seen));
            self.announce_left(now, &left, Ask::Nothing);
        }
        for (identity, epoch) in doubted {
            let Some(node) = self.bus.as_ref().and_then(|bus| bus.node_names.get(&epoch.node).cloned()) else {
                continue;
            };
            let kind = Kind::Doubt { vehicle_id: &identity.vehicle_id, connected_ms: epoch.connected_ms };
            // It is asked again.
            let _ = self.post(now, world, To::Node(&node), &kind, None, Ask::Nothing);
        }
        if unwritten.len() <= limits::ASSERTS_MAX {
            for (key, home) in unwritten {
                self.have_asserted(now, world, key, home);
            }
        } else {
            let note = Note { world, what: What::RewriteEntries };
            self.mesh.tell_all(note, &mut self.out.counters);
            self.rewrite_all(world);
        }
    }

    /// A silent node's lease was looked at.
    pub(super) fn lease_looked_at(&mut self, now: Now, id: Arc<str>, reply: Option<Reply>) {
        let Some(bus) = &mut self.bus else { return };
        let Some(steward) = &mut bus.steward else { return };
        match reply.and_then(|reply| reply.as_integer()) {
            Some(0) => {
                let node = state::key(&id);
                steward.leaseless.insert(node);
                let px = limits::SWEEP_LOCK_MS.to_string();
                // Each world has its own lock: not every host has all tenants.
                let unswept = steward.hashes.iter().filter(|hash| !hash.swept.contains(&node));
                let mut sent = Ok(());
                for realm in unswept.filter_map(|hash| bus.realms.get(hash.world)) {
                    let key = realm.names.sweep.as_bytes();
                    let args: [&[u8]; 6] = [b"SET", key, self.node.id.as_bytes(), b"NX", b"PX", px.as_bytes()];
                    sent = sent.and(bus.client.send(now, Some(key), &args, Ask::SweepLock(realm.world, id.clone())));
                }
                self.count_command(sent);
            }
            Some(_) => {
                let node = state::key(&id);
                steward.leaseless.remove(&node);
                // When its lease ends again, it has died again.
                for hash in &mut steward.hashes {
                    hash.swept.remove(&node);
                }
                steward.nodes.is_alive(node, now.mono_ms);
            }
            None => {}
        }
    }

    /// Null: another host sweeps.
    pub(super) fn sweep_lock_asked(&mut self, now: Now, world: WorldId, id: Arc<str>, reply: Option<Reply>) {
        let Some(bus) = &mut self.bus else { return };
        let tenant = bus.realms.get(world).and_then(|realm| realm.tenant.as_deref());
        let Some(steward) = &mut bus.steward else { return };
        if let Some(Reply::Text(_)) = reply {
            tracing::info!(node = &*id, tenant, "a node has died; its vehicles are swept");
            // All that are dead by now: there is one lock for everyone.
            let dead = std::mem::take(&mut steward.leaseless);
            if let Some(hash) = steward.hash(world) {
                hash.to_sweep.extend(dead.difference(&hash.swept));
                // Who has waited longest goes first, and one that is due keeps its place.
                hash.read_at_ms = hash.read_at_ms.min(now.mono_ms);
            }
            steward.leaseless = dead;
        }
    }

    /// At an orderly end nobody needs to wait for the lease.
    pub(super) fn give_up_lease(&mut self, now: Now) {
        if let Some(bus) = self.bus.as_mut().filter(|bus| bus.steward.is_some()) {
            let key = bus.realms.lease.as_bytes();
            // If it does not arrive, the lease ends by itself.
            let _ = bus.client.send(now, Some(key), &[b"DEL", key], Ask::Nothing);
        }
    }

    pub(super) fn count_command(&mut self, sent: Result<(), super::client::NotSent>) {
        match sent {
            Ok(()) => {}
            Err(super::client::NotSent::Down) => self.out.counters.backplane.dropped.increment(Dropped::NotConnected),
            Err(super::client::NotSent::Full) => self.out.counters.backplane.dropped.increment(Dropped::Backlog),
        }
    }
}

fn left(world: WorldId, vehicle_id: &str, epoch: Epoch, last_seen: u64) -> Left {
    Left { world, vehicle_id: vehicle_id.into(), epoch, status: Status::Offline, last_seen }
}
