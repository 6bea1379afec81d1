//! A gateway whose vehicles have no sockets: a shard on the real shell, fed with what many connections would bring.
//!
//! What clients' sockets cost is not the question here, and 200,000 messages per second through them would take the
//! whole machine. So connections are made up, and their bytes handed to the shard as the data ring does: all that have
//! come within a millisecond, then a turn. Everything behind that is the real thing, the links to Redis above all.
//! Clients with sockets can connect too.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ringroad::config::Config;
use ringroad::io::{Options, Running, start, unix_ms};
use ringroad::metrics::Counters;
use ringroad::shard::backplane::Node;
use ringroad::shard::{Batch, Shard};
use ringroad::sim::HANDSHAKE;
use ringroad::turn::{ConnId, Core, Ended, Input, Now, Send, Turn};

use crate::alerts::alert;
use crate::client::location;
use crate::machine;
use crate::plan::{Plan, masked};

/// Connections with sockets have smaller indexes.
const FIRST_MADE_UP: u32 = 1024;

/// Vehicles that register in one millisecond. Each writes an entry into Redis.
const REGISTRATIONS_PER_MS: usize = 10;

/// Most updates of one turn: what one run of the pump would take of completions.
const UPDATES_PER_TURN: u64 = 4096;

/// Time between two looks at the counters, milliseconds.
const SHOW_MS: u64 = 20;

/// What the feeding core and those who watch it share.
pub struct Shared {
    pub plan: Plan,
    /// Updates per second.
    rate: AtomicU64,
    /// Alerts per second, of the first vehicle.
    alert_rate: AtomicU64,
    pub registered: AtomicU64,
    /// Updates handed to the shard so far.
    pub fed: AtomicU64,
    pub alerts: AtomicU64,
    alerts_sent: Mutex<Vec<Instant>>,
    /// By how much the feeding was behind at most, microseconds.
    pub behind_us_max: AtomicU64,
    counters: Mutex<Counters>,
    /// `stat` of the thread.
    stat: Mutex<PathBuf>,
    stopped: AtomicBool,
}

impl Shared {
    /// From now on, this many updates and alerts per second.
    pub fn feed(&self, rate: u64, alert_rate: u64) {
        self.rate.store(rate, Ordering::Relaxed);
        self.alert_rate.store(alert_rate, Ordering::Relaxed);
    }

    pub fn alert_sent(&self, number: usize) -> Instant {
        self.alerts_sent.lock().expect("unpoisoned")[number]
    }

    /// What the shard counted at most some milliseconds ago.
    pub fn counters(&self) -> Counters {
        self.counters.lock().expect("unpoisoned").clone()
    }

    /// Processor time of its thread so far, feeding included.
    pub fn seconds(&self) -> f64 {
        machine::seconds(&self.stat.lock().expect("unpoisoned"))
    }
}

/// Starts a gateway of one worker with these vehicles. They register at once, and rest until they are fed.
pub fn serve(config: Config, plan: Plan) -> (Running, Arc<Shared>) {
    let shared = Arc::new(Shared {
        plan,
        rate: AtomicU64::new(0),
        alert_rate: AtomicU64::new(0),
        registered: AtomicU64::new(0),
        fed: AtomicU64::new(0),
        alerts: AtomicU64::new(0),
        alerts_sent: Mutex::default(),
        behind_us_max: AtomicU64::new(0),
        counters: Mutex::default(),
        stat: Mutex::default(),
        stopped: AtomicBool::new(false),
    });
    let servers = config.redis.servers().expect("a URL of ours");
    let node = Node::new(&config.redis.node_id, unix_ms());
    let options = Options { listen: Some((Ipv4Addr::LOCALHOST, 0).into()), workers: 1, ..Options::default() };
    let (config, all) = (Arc::new(config), shared.clone());
    let running = start(options, move |shard| {
        let task = fs::read_link("/proc/thread-self").expect("procfs");
        *all.stat.lock().expect("unpoisoned") = PathBuf::from("/proc").join(task).join("stat");
        Feeder::new(Shard::of_node(config.clone(), node.clone(), servers.clone(), shard, 1, 1), all.clone())
    });
    (running.expect("io_uring"), shared)
}

/// Something that happens at a rate.
#[derive(Default)]
struct Pace {
    rate: u64,
    began: Option<Instant>,
    done: u64,
}

impl Pace {
    /// How many times it is due now, and by how much the oldest of them is late, microseconds.
    fn due(&mut self, rate: u64) -> (u64, u64) {
        if rate != self.rate || self.began.is_none() {
            *self = Pace { rate, began: Some(Instant::now()), done: 0 };
        }
        let elapsed_us = self.began.map_or(0, |began| began.elapsed().as_micros() as u64);
        let due = (elapsed_us * rate / 1_000_000).saturating_sub(self.done);
        let late_us = if due == 0 { 0 } else { elapsed_us - self.done * 1_000_000 / rate };
        (due, late_us)
    }
}

/// The core: the shard, and what feeds it.
struct Feeder {
    shard: Shard,
    shared: Arc<Shared>,
    next: usize,
    /// Whether the next round goes there or back.
    back: usize,
    fed_ms: u64,
    shown_ms: u64,
    moves: Pace,
    alerts: Pace,
    bytes: Vec<u8>,
    sends: Vec<Send>,
    finished: Vec<ConnId>,
    released: Vec<ConnId>,
}

fn made_up(vehicle: usize) -> ConnId {
    ConnId { index: FIRST_MADE_UP + vehicle as u32, generation: 1 }
}

fn has_socket(conn: ConnId) -> bool {
    conn.index < FIRST_MADE_UP
}

impl Feeder {
    fn new(shard: Shard, shared: Arc<Shared>) -> Feeder {
        Feeder {
            shard,
            shared,
            next: 0,
            back: 0,
            fed_ms: 0,
            shown_ms: 0,
            moves: Pace::default(),
            alerts: Pace::default(),
            bytes: Vec::new(),
            sends: Vec::new(),
            finished: Vec::new(),
            released: Vec::new(),
        }
    }

    /// What has come within this millisecond.
    fn feed(&mut self, now: Now) {
        let shared = self.shared.clone();
        let registered = shared.registered.load(Ordering::Relaxed) as usize;
        for vehicle in (registered..shared.plan.drivers.len()).take(REGISTRATIONS_PER_MS) {
            self.register(now, vehicle);
            shared.registered.fetch_add(1, Ordering::Relaxed);
        }
        let (alerts, _) = self.alerts.due(shared.alert_rate.load(Ordering::Relaxed));
        for _ in 0..alerts {
            self.alerts.done += 1;
            let number = shared.alerts.fetch_add(1, Ordering::Relaxed);
            shared.alerts_sent.lock().expect("unpoisoned").push(Instant::now());
            self.say(now, made_up(0), &masked(&alert("car-0", number as u32)));
        }
        let (due, behind_us) = self.moves.due(shared.rate.load(Ordering::Relaxed));
        shared.behind_us_max.fetch_max(behind_us, Ordering::Relaxed);
        let due = due.min(UPDATES_PER_TURN);
        for _ in 0..due {
            self.move_next(now, &shared.plan);
        }
        self.moves.done += due;
        shared.fed.fetch_add(due, Ordering::Relaxed);
    }

    fn register(&mut self, now: Now, vehicle: usize) {
        let conn = made_up(vehicle);
        let shared = self.shared.clone();
        let driver = &shared.plan.drivers[vehicle];
        self.shard.handle(now, Input::Opened { conn, peer: Ipv4Addr::LOCALHOST.into() });
        for bytes in [HANDSHAKE.as_bytes(), &driver.registration, &driver.moves[1]] {
            self.say(now, conn, bytes);
        }
    }

    fn move_next(&mut self, now: Now, plan: &Plan) {
        let driver = &plan.drivers[self.next];
        match driver.probe.map(|probe| &plan.probes[probe]) {
            None => self.say(now, made_up(self.next), &driver.moves[self.back]),
            Some(probe) => {
                let (lat_e7, lon_e7) = probe.next();
                self.say(now, made_up(self.next), &masked(&location(&probe.id, lat_e7, lon_e7)));
            }
        }
        self.next += 1;
        if self.next == plan.drivers.len() {
            self.next = 0;
            self.back ^= 1;
        }
    }

    fn say(&mut self, now: Now, conn: ConnId, bytes: &[u8]) {
        // A shard unmasks in place.
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.shard.handle(now, Input::Bytes { conn, bytes: &mut self.bytes });
    }
}

impl Core for Feeder {
    type Mail = Batch;

    fn handle(&mut self, now: Now, input: Input<'_, Batch>) {
        let is_stop = matches!(input, Input::Stop);
        self.shard.handle(now, input);
        if is_stop {
            self.shared.stopped.store(true, Ordering::Relaxed);
            for vehicle in 0..self.shared.registered.load(Ordering::Relaxed) as usize {
                self.shard.handle(now, Input::Ended { conn: made_up(vehicle), how: Ended::Eof });
            }
        }
    }

    fn poll_turn(&mut self, now: Now) -> Option<Turn<'_, Batch>> {
        // Once per reading of the clock, so that a round ends.
        if now.mono_ms > self.fed_ms && !self.shared.stopped.load(Ordering::Relaxed) {
            self.fed_ms = now.mono_ms;
            self.feed(now);
        }
        if now.mono_ms >= self.shown_ms + SHOW_MS {
            self.shown_ms = now.mono_ms;
            self.shared.counters.lock().expect("unpoisoned").clone_from(self.shard.counters());
        }
        let turn = self.shard.poll_turn(now)?;
        // Whoever has no socket has read everything at once.
        self.sends.clear();
        self.sends.extend(turn.sends.iter().filter(|send| has_socket(send.conn)));
        self.finished.clear();
        self.finished.extend(turn.finished.iter().filter(|conn| has_socket(**conn)));
        self.released.clear();
        self.released.extend(turn.released.iter().filter(|conn| has_socket(**conn)));
        Some(Turn { sends: &self.sends, finished: &self.finished, released: &self.released, ..turn })
    }

    fn next_deadline(&self) -> Option<u64> {
        let feeding = !self.shared.stopped.load(Ordering::Relaxed);
        self.shard.next_deadline().into_iter().chain(feeding.then_some(self.fed_ms + 1)).min()
    }

    fn counters(&mut self) -> &mut Counters {
        self.shard.counters()
    }

    fn is_stopped(&self) -> bool {
        self.shard.is_stopped()
    }
}
