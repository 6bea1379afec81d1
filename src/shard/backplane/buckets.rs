//! Rates that all hosts share: a command whose bucket is in Redis waits for the answer, a bounded time.

use std::sync::Arc;

use crate::config::Bucket;
use crate::turn::{ConnId, Now};
use crate::wire::event::Identity;
use crate::wire::json::{self, EventKind};
use crate::wire::resp::Reply;
use crate::wire::state;

use super::super::Shard;
use super::super::world::WorldId;
use super::held::Held;
use super::{Ask, scripts};

impl Shard {
    /// Keeps a copy of a message that may have to wait: reading it uses it up.
    pub(in super::super) fn keep_text(&mut self, text: &[u8]) {
        if let Some(bus) = &mut self.bus
            && bus.ready
            && !self.config.redis.shared_limits.is_empty()
        {
            bus.text.clear();
            bus.text.extend_from_slice(text);
        }
    }

    /// Asks Redis whether a vehicle may do this now. False: the local bucket, which has said yes, decides alone.
    pub(in super::super) fn ask_shared_bucket(
        &mut self,
        now: Now,
        world: WorldId,
        id: ConnId,
        (key, identity): (u64, &Arc<Identity>),
        (kind, setting): (EventKind, Bucket),
    ) -> bool {
        let (Some(bus), Some(bucket)) = (&mut self.bus, kind.bucket()) else { return false };
        let shared = self.config.redis.shared_limits.iter().any(|name| name == bucket);
        let Some(realm) = bus.realms.get(world).filter(|_| shared && setting.burst > 0) else { return false };
        if !bus.ready || bus.client.is_late(now, crate::limits::SHARED_LIMIT_MS_MAX) {
            self.out.counters.backplane.shared_by_local += 1;
            return false;
        }
        let held = Held { world, conn: id, key, identity: identity.clone(), kind, text: bus.text.clone() };
        let Ok(number) = bus.held.hold(now.mono_ms, held) else {
            self.out.counters.backplane.shared_by_local += 1;
            return false;
        };
        let name = format!("{}{}:{bucket}", realm.names.buckets, identity.vehicle_id);
        let args = scripts::bucket(setting);
        let sent = bus.client.run(now, &scripts::BUCKET, name.as_bytes(), &args.slices(), Ask::Bucket(number));
        if sent.is_err() {
            bus.held.answer(number);
            self.out.counters.backplane.shared_by_local += 1;
        }
        sent.is_ok()
    }

    /// Redis has decided, or could not.
    pub(super) fn bucket_answered(&mut self, now: Now, number: u64, reply: Option<Reply>) {
        let Some(held) = self.bus.as_mut().and_then(|bus| bus.held.answer(number)) else { return };
        let counters = &mut self.out.counters.backplane;
        match reply.as_ref().and_then(scripts::token) {
            Some(Err(retry_ms)) => {
                counters.shared_by_redis += 1;
                // The host's own bucket had said yes; who tries again when told must not be refused by that one.
                let vehicles = &mut self.worlds[held.world].vehicles;
                if let Some(index) = vehicles.by_key(held.key)
                    && let Some(driving) = vehicles.at_mut(index).driving_mut()
                    && let Some((level, bucket)) = driving.rates.bucket(held.kind, &self.config.rate_limits)
                {
                    level.give_back(bucket);
                }
                self.too_fast(now, held.conn, held.kind, retry_ms);
            }
            Some(Ok(())) => {
                counters.shared_by_redis += 1;
                self.let_go(now, held);
            }
            None => {
                counters.shared_by_local += 1;
                self.let_go(now, held);
            }
        }
    }

    /// Commands whose answer does not come in time are carried out: the local bucket had said yes.
    pub(super) fn answer_late(&mut self, now: Now) {
        let Some(bus) = &mut self.bus else { return };
        let late = bus.held.late(now.mono_ms);
        for held in late {
            self.out.counters.backplane.shared_by_local += 1;
            self.let_go(now, held);
        }
        self.directs_are_offline(now, false);
    }

    pub(super) fn let_all_held_go(&mut self, now: Now) {
        let Some(bus) = &mut self.bus else { return };
        for held in bus.held.give_up() {
            self.out.counters.backplane.shared_by_local += 1;
            self.let_go(now, held);
        }
    }

    /// Carries out a command that has waited. Its connection may have gone: what was for others still happens.
    fn let_go(&mut self, now: Now, held: Held) {
        let Held { world, conn, key, identity, mut text, .. } = held;
        // A state message begins with its version, 1; no JSON text does.
        if text.first() == Some(&state::VERSION) {
            let vehicles = &self.worlds[world].vehicles;
            if let Some(index) = vehicles.by_key(key) {
                self.report(now, world, conn, vehicles.slot(index), &text);
            }
            return;
        }
        let mut parser = self.parser.take().unwrap_or_default();
        json::decode(&mut parser, &mut text, now.unix_ms, |decoded| {
            if let Ok(decoded) = decoded {
                self.carry_out(now, world, conn, Some((key, identity)), decoded);
            }
        });
        self.parser = Some(parser);
    }
}
