//! One publication to many bounded outboxes, and outboxes to one send per connection and turn.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::config::Config;
use crate::limits;
use crate::metrics::Counters;
use crate::turn::{ConnId, Now, Send, Store};
use crate::wire::event::{Event, EventName};
use crate::wire::frame::{self, Opcode};

use super::Timer;
use super::close::{CloseReason, SlowIn};
use super::conns::{Conn, Conns, Phase};
use super::outbox::{Stretch, Waiting};
use super::tally::FlushTally;
use super::timers::Timers;
use super::watch::{Flush, Left};
use super::world::{World, WorldId, Worlds};

/// Connections and what is on its way to them.
pub struct Fanout {
    pub config: Arc<Config>,
    pub conns: Conns,
    pub timers: Timers<Timer>,
    pub counters: Counters,
    /// Connections with something to send, each once. Who waits longest goes first: under a crowd a turn may not end for
    /// a long time, and inputs come in between.
    pub queue: VecDeque<ConnId>,
    /// How many connections are blocked.
    pub blocked: usize,
    /// Mean time between two position flushes to one connection for which this worker has time.
    ease_ms: u64,
    /// Emptied outboxes, kept for their allocations: the box goes back to a connection as it is.
    #[allow(clippy::vec_box)]
    spare: Vec<Box<Waiting>>,
    /// This turn's sends and the bytes composed for them.
    pub arena: Vec<u8>,
    pub sends: Vec<Send>,
    pub finished: Vec<ConnId>,
    pub released: Vec<ConnId>,
    /// Connections whose last bytes went out in the previous piece of this turn.
    finishing: Vec<ConnId>,
    /// Connections with more to send than one piece should hold.
    again: Vec<ConnId>,
}

impl Fanout {
    pub fn new(config: Arc<Config>) -> Self {
        Fanout {
            conns: Conns::default(),
            timers: Timers::new(0),
            counters: Counters::default(),
            queue: VecDeque::new(),
            blocked: 0,
            ease_ms: 0,
            spare: Vec::new(),
            arena: Vec::new(),
            sends: Vec::new(),
            finished: Vec::new(),
            released: Vec::new(),
            finishing: Vec::new(),
            again: Vec::new(),
            config,
        }
    }

    /// A worker that has time sends each position at once. The busier it is, the longer a connection's positions wait for
    /// each other: what a send costs hardly depends on how much is in it.
    pub fn heed_load(&mut self, percent: u8) {
        let (idle, busy) = limits::FLUSH_LOAD_PERCENT;
        let share = u64::from(percent.clamp(idle, busy) - idle);
        self.ease_ms = self.config.vehicles.flush_busy_ms * share / u64::from(busy - idle);
    }

    /// Puts a connection into the flush queue.
    pub fn enqueue(queue: &mut VecDeque<ConnId>, id: ConnId, conn: &mut Conn) {
        if !conn.queued {
            conn.queued = true;
            queue.push_back(id);
        }
    }

    /// Sends an event to one connection.
    pub fn event(&mut self, now: Now, id: ConnId, event: &Event<'_>) {
        self.frame(now, id, event.name(), |out| frame::encode_with(out, Opcode::Text, |text| event.write(text)));
    }

    /// Sends an event's JSON text to one connection.
    pub fn text_frame(&mut self, now: Now, id: ConnId, name: EventName, text: &[u8]) {
        self.frame(now, id, name, |out| frame::encode(out, Opcode::Text, text));
    }

    fn frame(&mut self, now: Now, id: ConnId, name: EventName, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(conn) = self.conns.find(id) else { return };
        if !matches!(conn.phase, Phase::Open) {
            return;
        }
        self.counters.events_sent += 1;
        let out = conn.outbox.writer(|| self.spare.pop());
        let start = out.len();
        write(out);
        self.counters.told(name, out.len() - start);
        if conn.blocked && conn.waiting_bytes() > self.config.limits.outbox_bytes_max as usize {
            self.slow(now, id, SlowIn::Outbox);
            return;
        }
        Self::enqueue(&mut self.queue, id, conn);
    }

    /// Sends a control frame. It has room where events have none left; who pings on and never reads is slow all the
    /// same.
    pub fn control(&mut self, now: Now, id: ConnId, opcode: Opcode, payload: &[u8]) {
        let Some(conn) = self.conns.find(id) else { return };
        frame::encode(conn.outbox.writer(|| self.spare.pop()), opcode, payload);
        let room = self.config.limits.outbox_bytes_max as usize + limits::CONTROL_RESERVE_BYTES;
        if conn.blocked && matches!(conn.phase, Phase::Open) && conn.waiting_bytes() > room {
            self.slow(now, id, SlowIn::Control);
            return;
        }
        Self::enqueue(&mut self.queue, id, conn);
    }

    /// Sends bytes that are not WebSocket frames.
    pub fn bytes(&mut self, id: ConnId, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(conn) = self.conns.find(id) else { return };
        write(conn.outbox.writer(|| self.spare.pop()));
        Self::enqueue(&mut self.queue, id, conn);
    }

    /// Tells everyone in a world.
    pub fn broadcast(&mut self, world: &mut World, event: &Event<'_>) {
        self.counters.broadcasts += 1;
        frame::encode_with(world.log.writer(), Opcode::Text, |text| event.write(text));
        world.unannounced.note(event.name(), world.log.head());
    }

    /// Tells everyone in a world an event's JSON text.
    pub fn broadcast_text(&mut self, world: &mut World, name: EventName, text: &[u8]) {
        self.counters.broadcasts += 1;
        frame::encode(world.log.writer(), Opcode::Text, text);
        world.unannounced.note(name, world.log.head());
    }

    /// Closes a WebSocket connection whose reader is too slow: what waits is dropped but for the rest of a frame that
    /// the kernel has begun to take.
    fn slow(&mut self, now: Now, id: ConnId, queue: SlowIn) {
        if let Some(conn) = self.conns.find(id) {
            self.counters.slow_readers.increment(queue);
            conn.outbox.truncate(conn.partial as usize);
            self.close_frame(now, id, CloseReason::Slow);
            // Its vehicle, if any, goes with the timer below: the shard is told when it fires.
            self.timers.set(now.mono_ms, Timer::Lost(id));
        }
    }

    /// Puts what goes to everyone, as far as a connection has not been sent it, behind what waits for it alone: it is
    /// about to be closed in order. A reader that is behind by more than its outbox may hold is let off that.
    pub fn hand_over_news(&mut self, world: &World, id: ConnId) {
        let Some(conn) = self.conns.find(id).filter(|conn| conn.dialect.is_some()) else { return };
        let Some(news) = world.log.since(conn.cursor).filter(|news| !news.is_empty()) else { return };
        if news.len() + conn.waiting_bytes() > self.config.limits.outbox_bytes_max as usize {
            self.counters.slow_readers.increment(SlowIn::Log);
            return;
        }
        conn.outbox.writer(|| self.spare.pop()).extend_from_slice(news);
        conn.cursor = world.log.head();
    }

    /// Sends a Close frame and ends the connection once it is out. The vehicle is the caller's to let go.
    pub fn close_frame(&mut self, now: Now, id: ConnId, reason: CloseReason) {
        let Some(conn) = self.conns.find(id) else { return };
        if matches!(conn.phase, Phase::Closing) {
            return;
        }
        if let (Phase::Open, Some(code)) = (&conn.phase, reason.code()) {
            frame::encode_close(conn.outbox.writer(|| self.spare.pop()), code, reason.reason());
        }
        self.finish(now, id, reason);
    }

    /// Ends a connection once its outbox is out.
    pub fn finish(&mut self, now: Now, id: ConnId, reason: CloseReason) {
        let Some(conn) = self.conns.find(id) else { return };
        if matches!(conn.phase, Phase::Closing) {
            return;
        }
        self.counters.closes.increment(reason);
        conn.phase = Phase::Closing;
        conn.finishing = true;
        conn.state_due = false;
        conn.passing.get_or_insert_default().last_bytes = conn.outbox.len();
        Self::enqueue(&mut self.queue, id, conn);
        self.timers.set(now.mono_ms + limits::CLOSE_MS_MAX, Timer::Release(id));
    }

    /// The time for closing is over, unless the reader is only slow.
    pub fn release_if_stuck(&mut self, now: Now, id: ConnId) {
        match self.conns.find(id) {
            // It has taken enough; or all, but the shell still has the last piece, encrypted: once more then.
            Some(conn)
                if match conn.outbox.len() {
                    0 => conn.blocked && conn.last_bytes() > 0,
                    left => left + limits::CLOSE_BYTES_MIN <= conn.last_bytes(),
                } =>
            {
                conn.passing.get_or_insert_default().last_bytes = conn.outbox.len();
                self.timers.set(now.mono_ms + limits::CLOSE_MS_MAX, Timer::Release(id));
            }
            _ => self.release(id),
        }
    }

    /// Gives a connection up.
    pub fn release(&mut self, id: ConnId) {
        if let Some(mut conn) = self.conns.remove(id) {
            self.blocked -= usize::from(conn.blocked);
            self.recycle(conn.outbox.take());
            self.released.push(id);
        }
    }

    fn recycle(&mut self, outbox: Option<Box<Waiting>>) {
        if self.spare.len() < limits::SPARE_OUTBOXES_MAX
            && let Some(outbox) = outbox
        {
            self.spare.extend(outbox.emptied(limits::SPARE_OUTBOX_BYTES_MAX));
        }
    }

    /// The kernel took only a part of this connection's send.
    pub fn blocked(&mut self, now: Now, id: ConnId, rest: &[u8], worlds: &Worlds) {
        let Some(conn) = self.conns.find(id) else { return };
        if !conn.blocked {
            conn.blocked = true;
            self.blocked += 1;
        }
        if rest.is_empty() {
            // The shell has the rest, and all is as if the kernel had taken it.
            return;
        }
        // What has to follow whatever happens: the rest of the frame that the kernel has cut.
        let send = &self.sends[conn.send_at as usize];
        let taken = send.len as usize - rest.len();
        let bytes = match send.store {
            Store::Arena if conn.piece > 0 => conn.outbox.with_piece(conn.piece as usize),
            Store::Arena => &self.arena[send.start as usize..][..send.len as usize],
            Store::Log => &worlds[conn.world].log.bytes()[send.start as usize..],
        };
        conn.partial = cut(bytes, conn.lead, taken);
        match send.store {
            Store::Arena if conn.piece > 0 => conn.outbox.give_back(rest.len(), conn.positions_sent.after(taken)),
            Store::Arena => conn.outbox.put_back(rest, conn.positions_sent.after(taken)),
            // The log still holds the frames that follow the cut one: the cursor goes back instead.
            Store::Log => {
                let (begun, whole) = rest.split_at(conn.partial as usize);
                conn.cursor -= whole.len() as u64;
                let behind = conn.outbox.positions();
                let positions = Stretch { start: behind.start + begun.len() as u32, ..behind };
                conn.outbox.put_back(begun, positions);
            }
        }
        if matches!(conn.phase, Phase::Open) && conn.waiting_bytes() > self.config.limits.outbox_bytes_max as usize {
            self.slow(now, id, SlowIn::Outbox);
        }
    }

    /// A blocked connection takes bytes again.
    pub fn writable(&mut self, id: ConnId) {
        let Some(conn) = self.conns.find(id) else { return };
        if conn.blocked {
            conn.blocked = false;
            self.blocked -= 1;
        }
        Self::enqueue(&mut self.queue, id, conn);
    }

    /// Closes the blocked connections whose cursor has fallen off their world's log.
    pub fn shed_laggards(&mut self, now: Now, world: &World) {
        let tail = world.log.tail();
        let lags = |conn: &Conn| {
            conn.blocked && conn.world == world.id && matches!(conn.phase, Phase::Open) && conn.cursor < tail
        };
        let lost: Vec<ConnId> = self.conns.iter_mut().filter(|(_, conn)| lags(conn)).map(|(id, _)| id).collect();
        for id in lost {
            self.slow(now, id, SlowIn::Log);
        }
    }

    /// Shortens a long log within a turn. What is forgotten everybody has, but for laggards beyond the bound; only when
    /// far more than that has come since a connection was last sent anything, its turn comes too late.
    pub fn shorten_log(&mut self, now: Now, world: &mut World) {
        let (mut readers, mut laggards) = (world.log.head(), world.log.head());
        for (_, conn) in self.conns.iter_mut() {
            if matches!(conn.phase, Phase::Open) && conn.world == world.id {
                let oldest = if conn.blocked { &mut laggards } else { &mut readers };
                *oldest = conn.cursor.min(*oldest);
            }
        }
        world.log.shorten(readers, laggards);
        self.shed_laggards(now, world);
    }

    /// Queues every connection of a world that has not seen its log's head, when there is something new in it. A
    /// laggard queues itself once it is writable.
    pub fn enqueue_readers(&mut self, world: &mut World) {
        let head = world.log.head();
        let before = std::mem::replace(&mut world.announced, head);
        if head == before {
            return;
        }
        for (id, conn) in self.conns.iter_mut() {
            if matches!(conn.phase, Phase::Open) && conn.world == world.id && conn.cursor < head {
                world.unannounced.reader(conn.cursor, before);
                Self::enqueue(&mut self.queue, id, conn);
            }
        }
        world.unannounced.count(before, &mut self.counters);
    }

    /// Composes sends for queued connections until the queue is empty or the piece is full.
    pub fn compose(&mut self, now: Now, worlds: &mut Worlds) {
        self.arena.clear();
        self.sends.clear();
        self.finished.clear();
        for id in std::mem::take(&mut self.finishing) {
            let Some(conn) = self.conns.find(id) else { continue };
            if conn.blocked || !conn.outbox.is_empty() {
                continue;
            }
            conn.finishing = false;
            let has_ended = conn.ended;
            self.finished.push(id);
            if has_ended {
                self.release(id);
            }
        }
        for id in std::mem::take(&mut self.again) {
            if let Some(conn) = self.conns.find(id) {
                Self::enqueue(&mut self.queue, id, conn);
            }
        }
        while self.arena.len() < limits::TURN_BYTES_MAX && self.sends.len() < limits::TURN_SENDS_MAX {
            let Some(id) = self.queue.pop_front() else { break };
            self.compose_one(now, worlds, id);
        }
    }

    fn compose_one(&mut self, now: Now, worlds: &mut Worlds, id: ConnId) {
        let Some(conn) = self.conns.find(id) else { return };
        conn.queued = false;
        if conn.blocked {
            return;
        }
        let world = &mut worlds[conn.world];
        let open = matches!(conn.phase, Phase::Open);
        let start = self.arena.len();

        let news = if open && conn.dialect.is_some() { world.log.since(conn.cursor) } else { Some(&[][..]) };
        let Some(news) = news else {
            self.slow(now, id, SlowIn::Log);
            return;
        };
        // A connection to which little is sent need not wait even while the worker is busy: it has a few flushes to spare.
        let to_spare_ms = limits::FLUSHES_TO_SPARE * self.ease_ms;
        let eased_ms = (to_spare_ms.min(conn.ahead_ms.into()) + self.ease_ms).saturating_sub(to_spare_ms);
        let paced_ms = self.config.vehicles.flush_ms.max(conn.pace_ms.into());
        let flush_at_ms = conn.flushed_ms + paced_ms.max(eased_ms);
        let state = open && conn.state_due && (conn.flushing || now.mono_ms >= flush_at_ms);
        if open && conn.state_due && !state && !conn.paced {
            conn.paced = true;
            self.timers.set(flush_at_ms, Timer::Flush(id));
        }

        // Who has events of its own in every piece of a turn that does not end is still told what goes to everyone.
        let news_first = conn.news_waited && conn.greeted && conn.partial == 0 && !news.is_empty();
        if (conn.outbox.is_empty() && !state) || news_first {
            conn.news_waited = false;
            if news_first {
                self.again.push(id);
            }
            // The common case of a broadcast: everyone's send points at the same bytes.
            if !news.is_empty() {
                conn.send_at = self.sends.len() as u32;
                let (store, start) = if world.id == WorldId::default() {
                    (Store::Log, (conn.cursor - world.log.tail()) as u32)
                } else {
                    // A turn has one log to share, the default world's; tenants have copies.
                    self.arena.extend_from_slice(news);
                    let behind = conn.outbox.positions();
                    conn.positions_sent = Stretch { start: behind.start + news.len() as u32, ..behind };
                    (Store::Arena, start as u32)
                };
                self.sends.push(Send { conn: id, store, start, len: news.len() as u32 });
                (conn.lead, conn.piece) = (0, 0);
                conn.cursor = world.log.head();
            }
        } else if conn.outbox.is_long() {
            conn.news_waited = true;
            conn.lead = if conn.greeted { conn.partial } else { conn.outbox.len() as u32 };
            conn.positions_sent = conn.outbox.positions();
            self.arena.extend_from_slice(conn.outbox.take_piece());
            let len = self.arena.len() - start;
            conn.piece = len as u32;
            conn.partial = cut(conn.outbox.with_piece(len), conn.lead, len);
            conn.send_at = self.sends.len() as u32;
            self.sends.push(Send { conn: id, store: Store::Arena, start: start as u32, len: len as u32 });
            self.again.push(id);
        } else {
            // A long send is not made longer: what was copied and is not taken counts against the outbox, while
            // broadcasts wait in the log and positions need not wait at all. They follow in the next piece. Nor do
            // positions follow older ones that are still there.
            let joined_bytes_max = limits::JOINED_BYTES_MAX.min(self.config.limits.outbox_bytes_max as usize / 2);
            let behind = conn.outbox.positions();
            let crowded = !conn.outbox.is_empty() && conn.outbox.len() + news.len() > joined_bytes_max;
            let crowded = crowded || behind.len > 0;
            let news = if crowded { &[][..] } else { news };
            let state = state && !crowded;
            conn.news_waited = crowded;
            if crowded {
                self.again.push(id);
            }
            // The outbox goes first: it may begin with the handshake's reply or with the rest of a frame.
            conn.lead = if conn.greeted { conn.partial } else { conn.outbox.len() as u32 };
            (conn.partial, conn.piece) = (0, 0);
            let outbox = conn.outbox.take();
            self.arena.extend_from_slice(outbox.as_ref().map_or(&[], |outbox| outbox.bytes()));
            self.arena.extend_from_slice(news);
            let events_end = self.arena.len();
            if open && !crowded {
                conn.cursor = world.log.head();
            }
            if state {
                // A pace that was asked for is there to have fewer positions.
                let flush = Flush { now, passed: paced_ms == 0 };
                let tally = FlushTally::before(&self.counters, events_end);
                let left = match (conn.watcher, conn.dialect, conn.vehicle) {
                    (Some(watcher), Some(dialect), own) => {
                        world.flush(flush, watcher, (own, dialect), &mut self.arena, &mut self.counters)
                    }
                    (_, _, Some(slot)) => {
                        world.take_positions(flush, slot, &mut self.arena, &mut self.counters);
                        Left::Nothing
                    }
                    _ => Left::Nothing,
                };
                tally.count(conn.dialect, self.arena.len(), &mut self.counters);
                (conn.state_due, conn.flushing) = (left != Left::Nothing, left == Left::Pieces);
                if self.arena.len() > events_end {
                    let since_ms = now.mono_ms - conn.flushed_ms;
                    let ahead_ms = (u64::from(conn.ahead_ms) + self.ease_ms).saturating_sub(since_ms);
                    conn.ahead_ms = u16::try_from(ahead_ms).unwrap_or(u16::MAX);
                    conn.flushed_ms = now.mono_ms;
                }
                if left != Left::Nothing {
                    self.again.push(id);
                }
            }
            conn.positions_sent =
                if state { Stretch::of(events_end - start..self.arena.len() - start) } else { behind };
            let len = self.arena.len() - start;
            conn.send_at = self.sends.len() as u32;
            if len > 0 {
                self.sends.push(Send { conn: id, store: Store::Arena, start: start as u32, len: len as u32 });
            }
            self.recycle(outbox);
        }
        if let Some(conn) = self.conns.find(id) {
            conn.greeted |= conn.dialect.is_some();
            if conn.finishing {
                self.finishing.push(id);
            }
        }
    }

    /// Whether `compose` has anything left to do.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.finishing.is_empty() && self.again.is_empty() && self.released.is_empty()
    }
}

/// Of bytes that are whole frames but for the first `lead`, `taken` have gone: how many more belong to what is cut.
fn cut(bytes: &[u8], lead: u32, taken: usize) -> u32 {
    let lead = lead as usize;
    (if taken < lead { lead - taken } else { cut_frame(&bytes[lead..], taken - lead) }) as u32
}

/// How many bytes of the frame in which position `at` lies are still to come. `bytes` are whole frames.
fn cut_frame(bytes: &[u8], at: usize) -> usize {
    let mut start = 0;
    while start < at {
        // Our own frames: never masked.
        let len = match bytes[start + 1] {
            126 => 4 + usize::from(u16::from_be_bytes([bytes[start + 2], bytes[start + 3]])),
            127 => {
                let mut len = [0; 8];
                len.copy_from_slice(&bytes[start + 2..start + 10]);
                10 + u64::from_be_bytes(len) as usize
            }
            len => 2 + usize::from(len),
        };
        start += len;
    }
    start - at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_frame_is_completed_and_no_other() {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for len in [0, 5, 125, 126, 300, 70_000, 1] {
            frame::encode(&mut bytes, Opcode::Text, &vec![b'x'; len]);
            ends.push(bytes.len());
        }
        for at in (0..2_000).chain(bytes.len() - 2_000..=bytes.len()) {
            let end = if at == 0 { 0 } else { *ends.iter().find(|end| **end >= at).unwrap() };
            assert_eq!(at + cut_frame(&bytes, at), end, "cut at {at}");
        }
    }
}
