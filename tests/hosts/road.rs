//! Vehicles on several hosts that keep driving while something breaks, and the ledger of what each of them received.
//!
//! All are near each other, and go a step to the east together, so that a position says which step it belongs to. The
//! test's own thread drives them all: nothing here needs a lock.

use std::collections::{BTreeMap, HashMap};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::PATIENCE;
use crate::client::{Client, Event};
use crate::host::Host;

/// In the middle of a square, so that all drive in one.
const LAT: f64 = 52.0;
const LON: f64 = 13.2;
/// Some centimetres; seven decimals are kept.
const STEP: f64 = 1e-6;
/// Time between two steps.
const PACE: Duration = Duration::from_millis(50);

/// What a vehicle has received of one other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// The newest step.
    pub newest: usize,
    /// Positions received, and how many of them were older than one before.
    pub received: usize,
    pub backwards: usize,
    /// Longest time from a step to its arrival, or that of a later one.
    pub slowest: Duration,
}

pub struct Driver {
    pub client: Client,
    pub node: &'static str,
    pub errors: Vec<Value>,
    /// What the radio said.
    pub words: Vec<String>,
    /// Marks of alerts begin here: those raised before it came are not for it.
    first_mark: u64,
    seen: HashMap<String, Seen>,
    /// Ids of the alerts that arrived, by mark.
    alerts: BTreeMap<u64, Vec<String>>,
    /// What it was told of others: vehicle and status.
    presence: Vec<(String, String)>,
}

impl Driver {
    fn book(&mut self, event: Event, steps: &[Instant]) {
        let text = |name: &str| event.data[name].as_str().unwrap_or_default().to_owned();
        match event.name.as_str() {
            "peer_location" => {
                let lon = event.data["lon"].as_f64().expect("a number");
                let step = ((lon - LON) / STEP).round() as usize;
                self.seen.entry(text("vehicleId")).or_default().book(step, steps);
            }
            "emergency_alert" => {
                let mark = event.data["vehicleInfo"]["mark"].as_u64().unwrap_or_else(|| panic!("not ours: {event:?}"));
                self.alerts.entry(mark).or_default().push(text("id"));
            }
            "presence_update" => self.presence.push((text("vehicleId"), text("status"))),
            "radio_text" => self.words.push(text("content")),
            "error" => self.errors.push(event.data),
            _ => {}
        }
    }

    /// How often it was told this of a vehicle.
    pub fn told(&self, id: &str, status: &str) -> usize {
        self.presence.iter().filter(|told| told.0 == id && told.1 == status).count()
    }

    /// What it was told last of a vehicle.
    pub fn last_told(&self, id: &str) -> Option<&str> {
        self.presence.iter().rev().find(|told| told.0 == id).map(|told| told.1.as_str())
    }
}

impl Seen {
    fn book(&mut self, step: usize, steps: &[Instant]) {
        self.received += 1;
        if step > self.newest {
            // The first position says nothing of the time: its sender may have driven alone before.
            if self.newest > 0 {
                self.slowest = self.slowest.max(steps[self.newest].elapsed());
            }
            self.newest = step;
        } else if step < self.newest {
            self.backwards += 1;
        }
    }
}

/// How the positions of one host's vehicles arrived at those of another, or of the same.
#[derive(Debug, Default)]
pub struct Arrivals {
    pub pairs: usize,
    pub received: usize,
    pub backwards: usize,
    pub slowest: Duration,
}

#[derive(Default)]
pub struct Road {
    pub drivers: Vec<Driver>,
    /// When each step was taken; the first is 1.
    steps: Vec<Instant>,
    marks: u64,
}

impl Road {
    /// That many vehicles more, on this host.
    pub fn join(&mut self, host: &Host, count: usize) {
        for n in 0..count {
            let client = Client::connect(host.addr).register(&format!("{}-car-{n}", host.node));
            self.drivers.push(Driver {
                client,
                node: host.node,
                errors: Vec::new(),
                words: Vec::new(),
                first_mark: self.marks,
                seen: HashMap::new(),
                alerts: BTreeMap::new(),
                presence: Vec::new(),
            });
        }
    }

    /// The vehicles of a host that is gone are off the road.
    pub fn leave(&mut self, node: &str) {
        self.drivers.retain(|driver| driver.node != node);
    }

    /// Everyone takes a step when it is time to, and reads what has come.
    fn go(&mut self) {
        if self.steps.last().is_none_or(|last| last.elapsed() >= PACE) {
            self.steps.push(Instant::now());
            for driver in &mut self.drivers {
                driver.client.locate(LAT, LON + self.steps.len() as f64 * STEP);
            }
        }
        for driver in &mut self.drivers {
            if driver.client.is_closed() {
                let (code, reason) = driver.client.closed();
                panic!("{} was closed: {code} {reason}", driver.client.id);
            }
            while let Some(event) = driver.client.backlog.pop_front() {
                driver.book(event, &self.steps);
            }
        }
        thread::sleep(Duration::from_millis(1));
    }

    pub fn drive_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.go();
        }
    }

    /// Drives until something has come true, and says how long that took.
    pub fn drive_until(&mut self, what: &str, mut is: impl FnMut(&Road) -> bool) -> Duration {
        let begun = Instant::now();
        while !is(self) {
            assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
            self.go();
        }
        begun.elapsed()
    }

    /// Every vehicle has received a step of every other that was taken after this call.
    pub fn meet(&mut self) -> Duration {
        let from = self.steps.len() + 1;
        self.drive_until("all see all", |road| {
            let ids: Vec<&String> = road.drivers.iter().map(|driver| &driver.client.id).collect();
            let sees = |driver: &Driver, id: &&String| driver.seen.get(*id).is_some_and(|seen| seen.newest >= from);
            road.drivers.iter().all(|driver| ids.iter().all(|id| **id == driver.client.id || sees(driver, id)))
        })
    }

    /// The first vehicle of a host raises an alert.
    pub fn raise(&mut self, node: &str) {
        let mark = self.marks;
        self.marks += 1;
        let driver = self.drivers.iter_mut().find(|driver| driver.node == node).expect("a vehicle there");
        let id = driver.client.id.clone();
        driver.client.send("emergency_alert", json!({"senderId": id, "vehicleInfo": {"mark": mark}}));
    }

    /// Arrivals of alerts that are still to come.
    pub fn alerts_owed(&self) -> usize {
        let owed =
            |driver: &Driver| (driver.first_mark..self.marks).filter(|mark| !driver.alerts.contains_key(mark)).count();
        self.drivers.iter().map(owed).sum()
    }

    /// Drives until every alert has arrived, and holds all of them to having arrived once. What might come twice has
    /// the time of `more` to do so.
    pub fn settle_alerts(&mut self, more: Duration) {
        self.drive_until("every alert is everywhere", |road| road.alerts_owed() == 0);
        self.drive_for(more);
        let mut ids: BTreeMap<u64, &String> = BTreeMap::new();
        for driver in &self.drivers {
            for (mark, arrived) in &driver.alerts {
                assert_eq!(arrived.len(), 1, "alert {mark} at {}", driver.client.id);
                assert_eq!(*ids.entry(*mark).or_insert(&arrived[0]), &arrived[0], "alert {mark} has one id");
            }
        }
    }

    /// Nobody was told that one of those who drive has gone.
    pub fn hold_nobody_gone(&self) {
        for driver in &self.drivers {
            for other in &self.drivers {
                let gone = driver.told(&other.client.id, "offline");
                assert_eq!(gone, 0, "{} was told that {} has gone", driver.client.id, other.client.id);
            }
        }
    }

    /// How positions arrived from the vehicles of one host at those of another.
    pub fn arrivals(&self, from: &str, to: &str) -> Arrivals {
        let mut sum = Arrivals::default();
        let senders: Vec<&String> =
            self.drivers.iter().filter(|driver| driver.node == from).map(|driver| &driver.client.id).collect();
        for driver in self.drivers.iter().filter(|driver| driver.node == to) {
            for id in senders.iter().filter(|id| ***id != driver.client.id) {
                let seen = driver.seen.get(*id).copied().unwrap_or_default();
                // What is still to arrive counts as well.
                let waiting = self.steps.get(seen.newest).map_or(Duration::ZERO, Instant::elapsed);
                sum.pairs += 1;
                sum.received += seen.received;
                sum.backwards += seen.backwards;
                sum.slowest = sum.slowest.max(seen.slowest).max(waiting);
            }
        }
        sum
    }

    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Local delivery does not wait for anything: each step arrived at the neighbours on its own host, or a later one,
    /// in good time.
    pub fn hold_local_to(&self, slowest: Duration) {
        for node in ["a", "b"] {
            let arrivals = self.arrivals(node, node);
            eprintln!("{node}: {} steps, {arrivals:?}", self.steps());
            assert!(arrivals.slowest < slowest && arrivals.backwards == 0, "{node}: {arrivals:?}");
        }
    }
}
