//! One core's world.
//!
//! A [`Shard`] owns the connections of its worker and their vehicles, and knows every other vehicle of its host. It is
//! a [`Core`]: the shell hands it bytes and time, and reads back what to send. Nothing here waits, spawns or locks.
//!
//! In reading order: `admission` (who is let in), `conns`, `session` and `drain` (a connection's life), `commands` (what clients
//! ask), `vehicles`, `world`
//! `pairs`, `nearby` and `crowd` (who is near whom), `watch` (views), `presence` and `relay`, `log`, `outbox` and
//! `fanout` (to many), `mail` (to other shards),
//! `backplane` (to other hosts), `http`, `gather` and `census`, `radio`.

mod admission;
mod auth;
pub mod backplane;
pub mod census;
pub mod close;
mod commands;
mod conns;
mod crowd;
mod drain;
mod fanout;
mod gather;
mod http;
mod ids;
mod log;
mod mail;
mod nearby;
mod outbox;
mod pairs;
mod past;
mod presence;
mod radio;
mod rate;
mod relay;
mod session;
mod significant;
mod table;
mod tally;
mod timers;
mod vehicles;
mod watch;
mod world;

use std::sync::Arc;

use crate::config::{Config, Servers};
use crate::limits;
use crate::metrics::Counters;
use crate::turn::{ConnId, Core, Input, Now, ShardId, Turn};
use crate::wire::tape::Parser;

use admission::Admission;
use auth::Auth;
use backplane::{Backplane, Node};
use census::Census;
use drain::Drain;
use fanout::Fanout;
use gather::Gatherings;
use ids::Ids;
use mail::{Mesh, What};
use radio::Radio;
use vehicles::{Epoch, Slot};
use world::{World, WorldId, Worlds};

pub use conns::Dialect;
pub use mail::Batch;

/// Something that is due at a time. Most wait by the connection, some rarely: those are boxed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Timer {
    /// The request head should be complete.
    Head(ConnId),
    /// How does its token stand?
    Token(ConnId),
    /// Has it said anything lately?
    Silence(ConnId),
    /// Positions may be sent again.
    Flush(ConnId),
    /// Its connection was closed for being slow.
    Lost(ConnId),
    /// The time for closing is over.
    Release(ConnId),
    /// The process drains, and this one's turn has come.
    Leave(ConnId),
    /// A watcher has more in view than it is shown at the full pace.
    View(WorldId, ConnId),
    /// The waiting position report may be processed.
    Coalesce(WorldId, Slot),
    /// The list of neighbours has changed.
    List(WorldId, Slot),
    /// The list of neighbours of the vehicle that it drives is due in any case.
    Interval(ConnId),
    /// A vehicle's state that was much like the last is told now.
    Show(WorldId, Slot),
    /// A vehicle in a crowd may choose anew whom it sees.
    Crowd(WorldId, Slot),
    /// A `connect_request` (requester, target) has waited long enough.
    Request(Box<(WorldId, u64, u64)>),
    /// A vehicle's departure is old news.
    Departed(Box<(WorldId, u64, Epoch)>),
    /// A vehicle registered on another host at that time (`mono_ms`); has it been heard of from there since?
    Unconfirmed(Box<(WorldId, Slot, u64)>),
    /// A listing should be complete.
    Listing(u64),
    /// More connections are to be looked at for a scrape.
    Census,
    /// Another shard's inbox was full.
    Mesh,
    /// Has the radio become quiet amid a frame?
    Radio,
}

// Two or three wait for each connection.
const _: () = assert!(size_of::<Timer>() <= 16);

/// Everything that one worker serves. See the module's documentation.
pub struct Shard {
    config: Arc<Config>,
    node: Node,
    bus: Option<Box<Backplane>>,
    out: Fanout,
    worlds: Worlds,
    mesh: Mesh,
    ids: Ids,
    admission: Admission,
    auth: Auth,
    /// Away while a message is read.
    parser: Option<Parser>,
    /// Away while an envelope is read: what that causes may read a message.
    bus_parser: Option<Parser>,
    radio: Radio,
    gatherings: Gatherings,
    /// One that is under way.
    census: Option<Box<Census>>,
    mail: Vec<(ShardId, Batch)>,
    /// What the turn that is being carried out releases.
    released_last: Vec<ConnId>,
    drain: Option<Drain>,
    stopping: bool,
    /// The inputs since the last turn have been settled, and the mesh has its batches.
    settled: bool,
    /// When (`mono_ms`) that was.
    settled_ms: u64,
}

impl Shard {
    /// The shard of worker `id` out of `shards` of a node that shares nothing. `seed` makes its ids unique.
    pub fn new(config: Arc<Config>, id: ShardId, shards: u16, seed: u64) -> Self {
        Shard::of_node(config, Node::new("", 0), None, id, shards, seed)
    }

    /// The shard of worker `id` out of `shards` of a node that shares these servers with others.
    pub fn of_node(
        config: Arc<Config>,
        node: Node,
        servers: Option<Servers>,
        id: ShardId,
        shards: u16,
        seed: u64,
    ) -> Self {
        let bus = servers.map(|servers| Box::new(Backplane::new(&config, servers, &node, id, shards, !seed)));
        Shard {
            node,
            bus,
            bus_parser: None,
            out: Fanout::new(config.clone()),
            worlds: Worlds::new(&config),
            mesh: Mesh::new(id, shards),
            ids: Ids::new(seed),
            admission: Admission::new(&config.admission),
            auth: Auth::new(&config.auth),
            parser: None,
            radio: Radio::new(&config.radio),
            gatherings: Gatherings::default(),
            census: None,
            mail: Vec::new(),
            released_last: Vec::new(),
            drain: None,
            stopping: false,
            settled: false,
            settled_ms: 0,
            config,
        }
    }

    /// Goes on with other settings, as far as [`crate::config::reload`] lets them change.
    fn configure(&mut self, config: Arc<Config>) {
        self.auth.configure(&config.auth);
        self.admission.configure(&config.admission);
        self.worlds.iter_mut().for_each(|world| world.config = config.clone());
        self.out.config = config.clone();
        self.config = config;
    }

    fn fire(&mut self, now: Now, timer: Timer) {
        match timer {
            Timer::Head(id) => self.check_head(now, id),
            Timer::Token(id) => self.check_token(now, id),
            Timer::Silence(id) => self.check_silence(now, id),
            Timer::Flush(id) => {
                if let Some(conn) = self.out.conns.find(id) {
                    conn.paced = false;
                    Fanout::enqueue(&mut self.out.queue, id, conn);
                }
            }
            Timer::View(world, id) => self.worlds[world].views.push_back(id),
            Timer::Lost(id) => self.lost(now, id),
            Timer::Release(id) => self.out.release_if_stuck(now, id),
            // All of a step leave together, see `settle`.
            Timer::Leave(_) => {}
            Timer::Coalesce(world, slot) => self.process_waiting(now, world, slot),
            Timer::List(world, slot) => self.worlds[world].list_changes(now, slot, &mut self.out),
            Timer::Interval(id) => {
                // Belongs to the connection, not to the vehicle: a takeover ends it, and the new connection has its
                // own.
                if let Some(conn) = self.out.conns.find(id)
                    && let Some(slot) = conn.vehicle
                {
                    let world = conn.world;
                    self.worlds[world].list_periodically(now, id, slot, &mut self.out);
                }
            }
            Timer::Show(world, slot) => self.worlds[world].show(now, slot),
            Timer::Crowd(world, slot) => self.worlds[world].choose_again(now, slot),
            Timer::Request(request) => {
                let (world, requester, target) = *request;
                self.forget_request(now, world, requester, target);
            }
            Timer::Departed(registration) => {
                let (world, key, epoch) = *registration;
                let departed = &mut self.worlds[world].departed;
                if departed.get(&key).is_some_and(|departed| departed.epoch == epoch) {
                    departed.remove(&key);
                }
            }
            Timer::Unconfirmed(arrival) => {
                let (world, slot, since_ms) = *arrival;
                self.check_confirmed(now, world, slot, since_ms);
            }
            Timer::Listing(number) => self.listing_is_late(now, number),
            Timer::Census => self.go_on_with_census(now),
            Timer::Mesh => self.mesh.retry(),
            Timer::Radio => self.check_radio(now),
        }
    }

    /// Everything that this turn decides: timers, neighbours, batches for the other shards.
    fn settle(&mut self, now: Now) {
        let mut due = Vec::new();
        self.out.timers.advance(now.mono_ms, |timer| due.push(timer));
        let leaving: Vec<ConnId> =
            due.iter().filter_map(|timer| if let Timer::Leave(id) = timer { Some(*id) } else { None }).collect();
        self.part_with(now, &leaving);
        for timer in due {
            self.fire(now, timer);
        }
        self.settle_backplane(now);
        for world in self.worlds.iter_mut() {
            world.settle(now, &mut self.out, &mut self.ids);
            self.out.enqueue_readers(world);
        }
        self.settle_watched(now);
        self.mesh.send(&mut self.mail, &mut self.out.counters);
        (self.settled, self.settled_ms) = (true, now.mono_ms);
    }

    fn turn_done(&mut self) {
        if let Some(bus) = &mut self.bus {
            bus.turn_done();
        }
    }

    fn end_turn(&mut self, now: Now) {
        self.settled = false;
        let laggards = self.out.blocked > 0;
        for world in self.worlds.iter_mut() {
            if world.log.trim(laggards) {
                self.out.shed_laggards(now, world);
            }
        }
    }

    /// Checks what must hold between inputs; panics if it does not. For tests: it looks at everything.
    pub fn check_invariants(&mut self) {
        for world in self.worlds.iter() {
            world.check_invariants();
            for (index, vehicle) in world.vehicles.iter() {
                let Some(driving) = vehicle.driving() else { continue };
                let slot = world.vehicles.slot(index);
                let conn = self.out.conns.find(driving.conn).expect("an owned vehicle has its connection");
                assert_eq!(conn.vehicle, Some(slot), "a connection and its vehicle know each other");
                assert_eq!(driving.watcher, conn.watcher, "and its watcher");
            }
            for (index, watcher) in world.watchers.iter() {
                let conn = self.out.conns.find(watcher.conn).expect("a watcher has its connection");
                assert_eq!(conn.watcher, Some(index), "a connection and its watcher know each other");
            }
        }
        self.check_watched();
        let blocked = self.out.conns.iter_mut().filter(|(_, conn)| conn.blocked).count();
        assert_eq!(blocked, self.out.blocked, "blocked connections are counted");
    }

    fn mail_arrived(&mut self, now: Now, from: ShardId, batch: Batch) {
        for note in batch.notes {
            let world = note.world;
            match note.what {
                What::Arrived { key, identity, epoch, position } => {
                    self.arrived(now, world, key, identity, epoch, position);
                }
                What::Gone { key, departed, status, last_seen } => {
                    self.gone(now, world, key, departed, (status, last_seen));
                }
                What::Spent { key, rates } => self.spent(world, key, &rates),
                What::Publish { name, text } => {
                    self.out.broadcast_text(&mut self.worlds[world], name, &text);
                }
                What::Deliver(deliver) => self.deliver(now, world, deliver),
                What::Undeliverable { sender } => self.undeliverable(now, sender),
                What::Radio(frame) => self.radio_send(frame),
                What::Ask { listing, number } => self.asked(now, from, world, listing, number),
                What::Answer { number, part } => self.answered(now, number, part),
                What::BusFrame { square, frame } => self.frame_passed_on(now, world, square, &frame),
                What::AskSquare(square) => self.square_asked(now, world, square),
                What::SquareCounted(square) => self.square_counted(now, world, square),
                What::Forgotten(square) => self.square_forgotten(world, square),
                What::Watched { from, to } => self.watched(now, world, from, to),
                What::MissedIn(square) => self.ask_square(now, world, square),
                What::Whereabouts { node, found } => self.whereabouts(now, world, node, &found),
                What::NodeNamed(id) => self.node_named(id),
                What::NodeDead { node } => self.forget_node(node),
                What::RepeatAlerts { node, from, since } => self.repeat_alerts(now, world, &node, from, since),
                What::DirectAnswered { number, delivered } => self.direct_settled(now, number, delivered),
                What::AssertAgain { key } => self.assert_again(now, world, key),
                What::RewriteEntries => self.rewrite_all(world),
            }
        }
        for state in batch.states.iter() {
            self.moved_elsewhere(now, from, state);
        }
    }
}

impl Core for Shard {
    type Mail = Batch;

    fn handle(&mut self, now: Now, input: Input<'_, Batch>) {
        self.settled = false;
        self.turn_done();
        match input {
            Input::Opened { conn, peer } => self.opened(now, conn, peer, false),
            Input::OpenedPrivately { conn, peer } => self.opened(now, conn, peer, true),
            Input::Bytes { conn, bytes } => self.bytes(now, conn, bytes),
            Input::Ended { conn, how } => self.ended(now, conn, how),
            Input::Blocked { conn, rest } => self.out.blocked(now, conn, rest, &self.worlds),
            Input::Writable { conn } => self.out.writable(conn),
            Input::Mail { from, mail } => self.mail_arrived(now, from, mail),
            Input::MailRefused { to, mail } => {
                self.mesh.refused(to, mail, &mut self.out.counters);
                self.out.timers.set(now.mono_ms + limits::MESH_RETRY_MS, Timer::Mesh);
            }
            Input::Radio { bytes } => self.radio_received(now, bytes),
            Input::LinkUp { link } => self.link_input(now, |client| client.link_up(now, link)),
            Input::LinkBytes { link, bytes } => self.link_input(now, |client| client.link_bytes(now, link, bytes)),
            Input::LinkDown { link, why } => self.link_input(now, |client| client.link_down(now, link, why)),
            Input::Keys(keys) => self.keys_changed(now, keys),
            Input::Load { percent } => self.out.heed_load(percent),
            Input::Configure { config } => self.configure(config),
            Input::Drain { over_ms } => self.drain(now, over_ms),
            Input::Stop => self.stop(now),
        }
    }

    fn poll_turn(&mut self, now: Now) -> Option<Turn<'_, Batch>> {
        self.turn_done();
        // A turn may last for longer than a moment: what is due by now belongs to it.
        if !self.settled || now.mono_ms > self.settled_ms {
            self.settle(now);
        }
        for world in self.worlds.iter_mut() {
            world.rendered.trim(true);
            if world.log.is_long() {
                self.out.shorten_log(now, world);
            }
        }
        self.radio.sending.clear();
        std::mem::swap(&mut self.radio.sending, &mut self.radio.line);
        // `released` and `mail` are filled by `handle` too, so they are emptied by those who carry them out.
        self.out.compose(now, &mut self.worlds);
        self.released_last.clear();
        std::mem::swap(&mut self.released_last, &mut self.out.released);
        for id in &self.released_last {
            self.gatherings.conn_ends(*id);
            self.admission.leave(*id);
            self.auth.conn_ends(*id);
        }
        let has_link_work = self.bus.as_mut().is_some_and(|bus| bus.has_work());
        let nothing = self.out.sends.is_empty()
            && self.out.finished.is_empty()
            && self.released_last.is_empty()
            && self.mail.is_empty()
            && self.radio.sending.is_empty()
            && !has_link_work;
        if nothing && self.out.is_idle() {
            self.end_turn(now);
            return None;
        }
        let (links, link_bytes) = self.bus.as_mut().map_or((&[][..], &[][..]), |bus| bus.work());
        Some(Turn {
            arena: &self.out.arena,
            log: self.worlds[WorldId::default()].log.bytes(),
            sends: &self.out.sends,
            finished: &self.out.finished,
            released: &self.released_last,
            mail: &mut self.mail,
            radio: &self.radio.sending,
            connects: 0,
            links,
            link_bytes,
        })
    }

    fn next_deadline(&self) -> Option<u64> {
        let backplane = self.bus.as_ref().and_then(|bus| bus.next_deadline(self.config.redis.position_tick_ms));
        // What was more than the work of one turn is due at once; the shell looks at its sockets first.
        let unsettled = self.worlds.iter().any(World::is_behind).then_some(0);
        self.out.timers.next_event_ms().into_iter().chain(backplane).chain(unsettled).min()
    }

    fn counters(&mut self) -> &mut Counters {
        &mut self.out.counters
    }

    fn is_stopped(&self) -> bool {
        self.stopping && self.out.conns.is_empty() && self.bus.as_ref().is_none_or(|bus| bus.is_closed())
    }
}
