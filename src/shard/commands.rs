//! What each client event does.

use std::sync::Arc;

use crate::limits;
use crate::turn::{ConnId, Now, ShardId};
use crate::wire::error::ErrorCode;
use crate::wire::event::{Event, Identity};
use crate::wire::json::{self, Command, Decoded, EventKind, Fix, Rejected};
use crate::wire::slim::{self, Invalid, Reported};
use crate::wire::state::{self, Sample, State};
use crate::wire::units;

use super::auth::Wants;
use super::mail::{Note, StateNote, What};
use super::vehicles::Slot;
use super::world::WorldId;
use super::{Shard, Timer};

impl Shard {
    /// A message in the V2V dialect.
    pub(super) fn v2v_message(&mut self, now: Now, id: ConnId, text: &mut [u8]) {
        self.keep_text(text);
        let mut parser = self.parser.take().unwrap_or_default();
        let bytes = text.len();
        json::decode(&mut parser, text, now.unix_ms, |decoded| match decoded {
            Ok(decoded) => self.command(now, id, decoded, bytes),
            Err(Rejected { code: code @ ErrorCode::UnknownEvent, message }) => {
                self.error_with(now, id, code, message, Some(KNOWN_EVENTS.as_bytes()));
            }
            Err(Rejected { code, message }) => self.error(now, id, code, message),
        });
        self.parser = Some(parser);
    }

    /// What a message of so many bytes asks for.
    fn command(&mut self, now: Now, id: ConnId, decoded: Decoded<'_>, bytes: usize) {
        self.out.counters.commands.increment(decoded.kind);
        self.out.counters.command_bytes.add(decoded.kind, bytes as u64);
        if let Ok(Command::Location { vehicle_id, fix }) = &decoded.command {
            self.fix_message(now, id, vehicle_id, fix);
            return;
        }
        let Decoded { kind, command } = decoded;
        let Some(conn) = self.out.conns.find(id) else { return };
        let (world_id, slot) = (conn.world, conn.vehicle);
        let me = match kind {
            EventKind::Register | EventKind::Heartbeat => None,
            EventKind::View | EventKind::Follow if slot.is_none() => {
                if !self.may_watch(now, id, kind) {
                    return;
                }
                None
            }
            _ => {
                let Some((_, slot)) = self.vehicle_may(now, id, kind) else { return };
                let Some(vehicle) = self.worlds[world_id].vehicles.find(slot) else { return };
                let me = (vehicle.key, vehicle.identity.clone());
                if kind.is_watch() && !self.may_watch(now, id, kind) {
                    return;
                }
                Some(me)
            }
        };
        self.carry_out(now, world_id, id, me, Decoded { kind, command });
    }

    /// The vehicle of a connection, if there is one and its rate allows this now. If not, the connection has been told,
    /// or the message is read again later.
    fn vehicle_may(&mut self, now: Now, id: ConnId, kind: EventKind) -> Option<(WorldId, Slot)> {
        let conn = self.out.conns.peek(id)?;
        let (world_id, slot) = (conn.world, conn.vehicle);
        let world = &mut self.worlds[world_id];
        let Some((slot, vehicle)) = slot.and_then(|slot| Some((slot, world.vehicles.find(slot)?))) else {
            self.error(now, id, ErrorCode::NotRegistered, "register first");
            return None;
        };
        let Some(driving) = vehicle.driving_mut() else { return Some((world_id, slot)) };
        let Some((level, bucket)) = driving.rates.bucket(kind, &self.config.rate_limits) else {
            return Some((world_id, slot));
        };
        if let Err(retry_ms) = level.take(bucket, now.mono_ms) {
            self.too_fast(now, id, kind, retry_ms);
            return None;
        }
        if self.bus.is_some() {
            let (key, identity) = (vehicle.key, vehicle.identity.clone());
            if self.ask_shared_bucket(now, world_id, id, (key, &identity), (kind, bucket)) {
                // It is read again when the answer is there.
                return None;
            }
        }
        Some((world_id, slot))
    }

    /// A position in the V2V dialect: the message that comes most, so that nothing is cloned or looked up twice for it.
    fn fix_message(&mut self, now: Now, id: ConnId, vehicle_id: &str, fix: &Fix) {
        let Some((world_id, slot)) = self.vehicle_may(now, id, EventKind::LocationUpdate) else { return };
        let Some(vehicle) = self.worlds[world_id].vehicles.find(slot) else { return };
        if *vehicle.identity.vehicle_id == *vehicle_id {
            let report = Report::of_fix(vehicle.key, fix);
            self.locate(now, world_id, slot, &report);
        } else {
            self.not_yours(now, id);
        }
    }

    /// A binary message in `ringroad.v1`: where the vehicle is.
    pub(super) fn state_message(&mut self, now: Now, id: ConnId, message: &[u8]) {
        self.keep_text(message);
        self.out.counters.commands.increment(EventKind::LocationUpdate);
        self.out.counters.command_bytes.add(EventKind::LocationUpdate, message.len() as u64);
        if let Some((world_id, slot)) = self.vehicle_may(now, id, EventKind::LocationUpdate) {
            self.report(now, world_id, id, slot, message);
        }
    }

    /// Reads where a vehicle is.
    pub(super) fn report(&mut self, now: Now, world_id: WorldId, id: ConnId, slot: Slot, message: &[u8]) {
        let Some(key) = self.worlds[world_id].vehicles.find(slot).map(|vehicle| vehicle.key) else { return };
        match slim::read(message) {
            Err(Invalid { offset, message }) => {
                let details = format!("{{\"offset\":{offset}}}");
                self.error_with(now, id, ErrorCode::InvalidState, message, Some(details.as_bytes()));
            }
            Ok(Reported { state, .. }) if state.key != key => {
                self.error(now, id, ErrorCode::NotYours, "the key is not that of this connection's vehicle");
            }
            Ok(Reported { state, ts }) => {
                let accuracy = units::accuracy_m(state.accuracy).map(|metres| (metres * 100.0).round() as u32);
                self.locate(now, world_id, slot, &Report { state, accuracy, ts });
            }
        }
    }

    /// Does what a client asks, whose rate allows it. `me`: its vehicle.
    pub(super) fn carry_out(
        &mut self,
        now: Now,
        world_id: WorldId,
        id: ConnId,
        me: Option<(u64, Arc<Identity>)>,
        decoded: Decoded<'_>,
    ) {
        let Decoded { kind, command } = decoded;
        let command = match command {
            Ok(command) => command,
            Err(Rejected { code, message }) => {
                self.error(now, id, code, message);
                return;
            }
        };
        let own_id = me.as_ref().map_or("", |(_, identity)| &*identity.vehicle_id);
        let named = match &command {
            Command::Location { vehicle_id, .. } => Some(*vehicle_id),
            Command::Message { sender, .. } | Command::Emergency { sender, .. } => Some(*sender),
            Command::Relay(relay) => relay.sender,
            Command::Register { .. } | Command::Heartbeat => None,
            Command::View { .. } | Command::Near { .. } | Command::Follow { .. } => None,
        };
        if named.is_some_and(|named| named != own_id) {
            self.not_yours(now, id);
            return;
        }
        match (command, &me) {
            (Command::Register { vehicle_id, driver_name, info, auth_token }, _) => {
                match self.authorize(now, id, auth_token, Wants::Register(vehicle_id)) {
                    Ok(()) => self.register(now, id, vehicle_id, driver_name, info),
                    Err(fault) => self.token_refused(now, id, fault),
                }
            }
            (Command::Heartbeat, _) => self.out.event(now, id, &Event::HeartbeatAck { ts: now.unix_ms }),
            (command @ (Command::View { .. } | Command::Near { .. } | Command::Follow { .. }), _) => {
                self.watch(now, id, command);
            }
            (Command::Location { fix, .. }, Some((key, _))) => {
                let vehicles = &self.worlds[world_id].vehicles;
                if let Some(index) = vehicles.by_key(*key) {
                    self.locate(now, world_id, vehicles.slot(index), &Report::of_fix(*key, &fix));
                }
            }
            (Command::Message { recipient, content, .. }, Some((_, identity))) => {
                self.out.counters.messages += 1;
                self.message(now, world_id, id, &identity.vehicle_id, recipient, &content);
            }
            (Command::Emergency { info, .. }, Some((key, identity))) => {
                let info = info.as_deref();
                let vehicles = &mut self.worlds[world_id].vehicles;
                if let Some(driving) = vehicles.by_key(*key).and_then(|index| vehicles.at_mut(index).driving_mut()) {
                    driving.alert_until_ms = now.mono_ms + limits::EMERGENCY_SHOWN_MS;
                }
                self.emergency(now, world_id, &identity.vehicle_id, info, false);
            }
            (Command::Relay(relay), Some((key, _))) => self.relay(now, id, *key, kind, relay),
            (_, None) => unreachable!("every other command needs a registration, checked above"),
        }
    }

    /// A position report: late ones are counted, early ones wait, the rest move the vehicle.
    fn locate(&mut self, now: Now, world_id: WorldId, slot: Slot, report: &Report) {
        self.out.counters.location_updates_received += 1;
        let world = &mut self.worlds[world_id];
        let Some(driving) = world.vehicles.find(slot).and_then(|vehicle| vehicle.driving_mut()) else { return };
        let given = report.ts.filter(|ts| *ts <= now.unix_ms + limits::FUTURE_FIX_MS);
        let ts = given.unwrap_or(now.unix_ms);
        // Without a time of the sender's, a fix is as new as its arrival, even if the gateway's clock was set back.
        let (newest, arrived_ms) = driving.newest;
        if given.is_some_and(|ts| ts < newest) && now.mono_ms - arrived_ms < limits::LATE_FIX_MS {
            self.out.counters.location_updates_late += 1;
            return;
        }
        driving.newest = (ts, now.mono_ms);
        let sample = report.sample(ts);
        if now.mono_ms >= driving.ready_ms {
            // One whose time has come in this very turn has been overtaken.
            self.out.counters.location_updates_coalesced += u64::from(driving.waiting.take().is_some());
            self.process(now, world_id, slot, sample);
        } else if let Some(waiting) = &mut driving.waiting {
            **waiting = sample;
            self.out.counters.location_updates_coalesced += 1;
        } else {
            driving.waiting = Some(Box::new(sample));
            self.out.timers.set(driving.ready_ms, Timer::Coalesce(world_id, slot));
        }
    }

    /// The time of a waiting position report has come.
    pub(super) fn process_waiting(&mut self, now: Now, world_id: WorldId, slot: Slot) {
        let world = &mut self.worlds[world_id];
        let Some(driving) = world.vehicles.find(slot).and_then(|vehicle| vehicle.driving_mut()) else { return };
        // The timer may be that of a connection which has been replaced since; the new one has set its own.
        if now.mono_ms < driving.ready_ms {
            return;
        }
        if let Some(sample) = driving.waiting.take() {
            self.process(now, world_id, slot, *sample);
        }
    }

    fn process(&mut self, now: Now, world_id: WorldId, slot: Slot, mut sample: Sample) {
        let world = &mut self.worlds[world_id];
        let Some(vehicle) = world.vehicles.find(slot) else { return };
        let Some(driving) = vehicle.driving_mut() else { return };
        driving.ready_ms = now.mono_ms + self.config.vehicles.coalesce_ms;
        if now.mono_ms < driving.alert_until_ms {
            state::raise_flag(&mut sample.record, state::FLAG_EMERGENCY);
        }
        world.place(slot.index, sample, now);
        self.out.counters.location_updates_processed += 1;
        self.watch_around(now, world_id, slot.index);
        if self.mesh.peers() > 0 || self.bus.is_some() {
            let note = StateNote { world: world_id, sample };
            self.tell_hosts_where(world_id, &note);
            self.mesh.state(note);
        }
    }

    /// A vehicle moved, says another shard.
    pub(super) fn moved_elsewhere(&mut self, now: Now, from: ShardId, note: &StateNote) {
        let world = &mut self.worlds[note.world];
        let Some(index) = world.vehicles.by_key(note.sample.key()) else { return };
        // Taken over meanwhile, by this shard or by a third: what its former connection said no longer counts.
        let epoch = world.vehicles.at(index).epoch;
        if epoch.shard == from && epoch.node == self.node.key {
            world.place(index, note.sample, now);
            self.watch_around(now, note.world, index);
        }
    }

    /// An alert goes to every connection of every shard, and over the radio.
    pub(super) fn emergency(
        &mut self,
        now: Now,
        world_id: WorldId,
        sender: &str,
        info: Option<&[u8]>,
        via_radio: bool,
    ) {
        self.out.counters.emergencies += 1;
        let event = Event::EmergencyAlert { id: self.ids.next_uuid(), sender, info, ts: now.unix_ms, via_radio };
        self.publish(now, world_id, "emergency_alert", &event);
        if !via_radio {
            self.radio_emergency(sender);
        }
    }

    /// Tells every connection of every shard of this host, and then the other hosts.
    pub(super) fn publish(&mut self, now: Now, world_id: WorldId, name: &str, event: &Event<'_>) {
        let mut text = Vec::new();
        event.write(&mut text);
        self.out.broadcast_text(&mut self.worlds[world_id], event.name(), &text);
        if self.mesh.peers() > 0 || self.bus.is_some() {
            let text: Arc<[u8]> = text.into();
            let what = What::Publish { name: event.name(), text: text.clone() };
            self.mesh.tell_all(Note { world: world_id, what }, &mut self.out.counters);
            self.publish_to_hosts(now, world_id, name, &text);
        }
    }

    pub(super) fn too_fast(&mut self, now: Now, id: ConnId, kind: EventKind, retry_ms: u64) {
        let details = format!("{{\"event\":\"{}\",\"retryAfterMs\":{retry_ms}}}", kind.name());
        self.error_with(now, id, ErrorCode::RateLimited, "too many of this event", Some(details.as_bytes()));
    }

    fn not_yours(&mut self, now: Now, id: ConnId) {
        self.error(now, id, ErrorCode::NotYours, "this connection is registered as another vehicle");
    }

    pub(super) fn error(&mut self, now: Now, id: ConnId, code: ErrorCode, message: &str) {
        self.error_with(now, id, code, message, None);
    }

    pub(super) fn error_with(&mut self, now: Now, id: ConnId, code: ErrorCode, message: &str, details: Option<&[u8]>) {
        self.out.counters.errors.increment(code);
        self.out.event(now, id, &Event::Error { code, message, ts: now.unix_ms, details });
    }
}

/// A position report as its sender gave it, in wire units. Its secMark is set from its time.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    pub state: State,
    /// 0.01 m.
    pub accuracy: Option<u32>,
    /// The sender's time, ms since the Unix epoch.
    pub ts: Option<u64>,
}

impl Report {
    fn of_fix(key: u64, fix: &Fix) -> Report {
        let state = State {
            lat_e7: units::lat_e7(fix.lat),
            lon_e7: units::lon_e7(fix.lon),
            elevation: units::elevation(fix.elevation),
            speed: units::speed(fix.speed),
            heading: units::heading(fix.heading),
            accuracy: units::accuracy(fix.accuracy),
            ..State::unavailable(key)
        };
        Report { state, accuracy: fix.accuracy.map(|metres| (metres * 100.0).round() as u32), ts: fix.ts }
    }

    /// What the gateway keeps of it, once its time is settled.
    fn sample(&self, ts: u64) -> Sample {
        let state = State { sec_mark: units::sec_mark(ts), ..self.state };
        Sample { record: state::encode(&state), ts, accuracy: self.accuracy }
    }
}

/// `details` of an `unknown_event` error.
const KNOWN_EVENTS: &str = concat!(
    r#"{"known":["register","heartbeat","location_update","send_message","emergency_alert","connect_request","#,
    r#""connect_response","call_initiate","webrtc_offer","webrtc_answer","ice_candidate","sync_disconnect","#,
    r#""sync_end_call","view","near","follow"]}"#
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_events_are_all_listed() {
        let listed: serde_json::Value = serde_json::from_str(KNOWN_EVENTS).unwrap();
        let names: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(listed["known"], serde_json::json!(names));
    }
}
