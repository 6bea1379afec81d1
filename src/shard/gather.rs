//! Listings that need every shard: ask all, wait a bounded time, answer once.
//!
//! This is the only question between shards, and it is not on the way of any message: a scrape or a page asks it.

use rustc_hash::FxHashMap;

use crate::limits;
use crate::metrics::{self, Counters, Gauge};
use crate::turn::{ConnId, Now, ShardId};

use super::close::ShedReason;
use super::conns::Phase;
use super::http::separate;
use super::mail::{Note, What};
use super::world::WorldId;
use super::{Shard, Timer};

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    Vehicles,
    Presence,
    Metrics,
}

/// One shard's contribution.
#[derive(Clone, Debug)]
pub enum Part {
    /// Members of a JSON array, and how many.
    Members(Vec<u8>, usize),
    /// Whose, and what it has counted.
    Counters(ShardId, Box<Counters>),
}

/// A listing that is not complete.
struct Gathering {
    conn: ConnId,
    listing: Listing,
    head_only: bool,
    headers: Vec<(&'static str, String)>,
    missing: usize,
    members: Vec<u8>,
    count: usize,
    workers: Vec<(ShardId, Counters)>,
}

/// This shard's listings.
#[derive(Default)]
pub struct Gatherings {
    open: FxHashMap<u64, Gathering>,
    asked: u64,
    /// Connections whose listing is not yet out.
    conns: Vec<ConnId>,
}

impl Shard {
    /// Begins a listing for a connection.
    pub(super) fn gather(
        &mut self,
        now: Now,
        id: ConnId,
        (world, listing): (WorldId, Listing),
        head_only: bool,
        headers: Vec<(&'static str, String)>,
    ) {
        // Who asks for long listings must not keep the operator from the metrics.
        let most = if listing == Listing::Metrics { 2 * limits::LISTINGS_MAX } else { limits::LISTINGS_MAX };
        if self.gatherings.conns.len() >= most {
            self.out.counters.shed.increment(ShedReason::Listing);
            let headers = [("Retry-After", "1".to_owned())];
            self.send_reply(now, id, 503, "application/json", &headers, head_only, br#"{"error":"busy"}"#);
            return;
        }
        let Some(conn) = self.out.conns.find(id) else { return };
        conn.phase = Phase::Gathering;
        self.gatherings.conns.push(id);
        self.gatherings.asked += 1;
        let number = self.gatherings.asked;
        let gathering = Gathering {
            conn: id,
            listing,
            head_only,
            headers,
            missing: self.mesh.peers() + 1,
            members: Vec::new(),
            count: 0,
            workers: Vec::new(),
        };
        self.gatherings.open.insert(number, gathering);
        self.out.timers.set(now.mono_ms + limits::LISTING_MS_MAX, Timer::Listing(number));
        let note = Note { world, what: What::Ask { listing, number } };
        self.mesh.tell_all(note, &mut self.out.counters);
        self.part(now, self.mesh.shard(), world, listing, number);
    }

    /// Another shard asks.
    pub(super) fn asked(&mut self, now: Now, from: ShardId, world: WorldId, listing: Listing, number: u64) {
        self.part(now, from, world, listing, number);
    }

    /// Finds this shard's part of a listing, and answers whoever asks for it.
    fn part(&mut self, now: Now, asker: ShardId, world: WorldId, listing: Listing, number: u64) {
        let part = match listing {
            Listing::Vehicles => Part::Members(self.vehicles_part(world), self.listed(world).count()),
            Listing::Presence => Part::Members(self.presence_part(now, world), self.listed(world).count()),
            Listing::Metrics => {
                self.take_census(now, asker, number);
                return;
            }
        };
        self.answer_part(now, asker, number, part);
    }

    /// Gives a shard, this one or another, this one's part of a listing.
    pub(super) fn answer_part(&mut self, now: Now, asker: ShardId, number: u64, part: Part) {
        if self.is_here(asker) {
            self.answered(now, number, part);
        } else {
            // The number says which listing it is for, and that knows its world.
            let note = Note { world: WorldId::default(), what: What::Answer { number, part } };
            self.mesh.tell(asker, note, &mut self.out.counters);
        }
    }

    /// A part of a listing is there.
    pub(super) fn answered(&mut self, now: Now, number: u64, part: Part) {
        let Some(gathering) = self.gatherings.open.get_mut(&number) else { return };
        match part {
            Part::Members(members, count) => {
                if !members.is_empty() {
                    separate(&mut gathering.members);
                    gathering.members.extend_from_slice(&members);
                }
                gathering.count += count;
            }
            Part::Counters(worker, counters) => gathering.workers.push((worker, *counters)),
        }
        gathering.missing -= 1;
        if gathering.missing > 0 {
            return;
        }
        let Some(mut gathering) = self.gatherings.open.remove(&number) else { return };
        let mut body = Vec::new();
        let content_type = match gathering.listing {
            Listing::Vehicles => {
                body.extend_from_slice(b"{\"vehicles\":[");
                body.extend_from_slice(&gathering.members);
                body.extend_from_slice(b"]}");
                "application/json"
            }
            Listing::Presence => {
                body.extend_from_slice(format!("{{\"count\":{},\"vehicles\":[", gathering.count).as_bytes());
                body.extend_from_slice(&gathering.members);
                body.extend_from_slice(b"]}");
                "application/json"
            }
            Listing::Metrics => {
                let uptime_s = now.mono_ms as f64 / 1_000.0;
                let gauges = [Gauge::uptime_seconds(uptime_s), Gauge::workers(self.mesh.peers() + 1)];
                let mut text = String::new();
                gathering.workers.sort_by_key(|(worker, _)| worker.0);
                metrics::render(&mut text, &gathering.workers, &gauges);
                body = text.into_bytes();
                metrics::CONTENT_TYPE
            }
        };
        self.send_reply(now, gathering.conn, 200, content_type, &gathering.headers, gathering.head_only, &body);
    }

    /// Somebody did not answer in time. Half a listing would look like a whole one.
    pub(super) fn listing_is_late(&mut self, now: Now, number: u64) {
        if let Some(gathering) = self.gatherings.open.remove(&number) {
            let body = format!("{{\"error\":\"{} worker(s) did not answer in time\"}}", gathering.missing);
            let (conn, head_only) = (gathering.conn, gathering.head_only);
            self.send_reply(now, conn, 503, "application/json", &gathering.headers, head_only, body.as_bytes());
        }
    }
}

impl Gatherings {
    /// A connection goes; if it waited for a listing or was being sent one, there is room for another.
    pub fn conn_ends(&mut self, id: ConnId) {
        if let Some(at) = self.conns.iter().position(|conn| *conn == id) {
            self.conns.swap_remove(at);
            self.open.retain(|_, gathering| gathering.conn != id);
        }
    }
}
