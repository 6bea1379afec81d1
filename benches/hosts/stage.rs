//! Two hosts and everyone on them: the feeding one in this process, the other one the real binary.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ringroad::config::{Config, PresenceScope};
use ringroad::io::Running;
use ringroad::metrics::Counters;

use crate::alerts::alert_number;
use crate::client::{Client, Sender};
use crate::delays::Delays;
use crate::feed::{self, Shared};
use crate::gateway::{Gateway, Metrics};
use crate::machine::Others;
use crate::measured::Measured;
use crate::plan::Plan;
use crate::redis::Redis;
use crate::{PATIENCE, Verdict, until};

/// Alerts per second among the positions.
pub const ALERTS: u64 = 10;

/// Probes, each with a listener on both hosts.
const PROBES: usize = 16;

/// What is tried.
#[derive(Clone, Copy)]
pub struct Setup {
    pub vehicles: usize,
    pub squares: usize,
    pub tick_ms: u64,
}

fn config(setup: Setup) -> Config {
    let mut config = Config::default();
    config.vehicles.coalesce_ms = 0;
    config.vehicles.nearby_list_ms = 0;
    config.vehicles.heartbeat_timeout_ms = 600_000;
    config.rate_limits.location_update.burst = 0;
    config.rate_limits.emergency_alert.burst = 0;
    config.presence.scope = PresenceScope::None;
    config.redis.position_tick_ms = setup.tick_ms;
    config
}

/// The sender's work without a backplane.
pub fn alone(setup: Setup, rate: u64, seconds: f64) -> Measured {
    let (running, shared) = feed::serve(config(setup), Plan::new(setup.vehicles, setup.squares, 0));
    until("everyone registers", || shared.registered.load(Ordering::Relaxed) as usize == setup.vehicles);
    shared.feed(rate, ALERTS);
    thread::sleep(Duration::from_secs_f64(seconds / 4.0));
    shared.behind_us_max.store(0, Ordering::Relaxed);
    let others = Others::watch();
    let (began, fed, cpu) = (Instant::now(), shared.fed.load(Ordering::Relaxed), shared.seconds());
    thread::sleep(Duration::from_secs_f64(seconds));
    let measured = Measured {
        seconds: began.elapsed().as_secs_f64(),
        fed: shared.fed.load(Ordering::Relaxed) - fed,
        sender: shared.seconds() - cpu,
        behind_ms: shared.behind_us_max.load(Ordering::Relaxed) as f64 / 1e3,
        others: others.share(0.0),
        ..Measured::default()
    };
    running.stop();
    running.join().expect("an orderly end");
    measured
}

/// Two hosts and everyone on them.
pub struct Stage {
    running: Running,
    shared: Arc<Shared>,
    receiver: Gateway,
    stop: Arc<AtomicBool>,
    readers: Vec<JoinHandle<()>>,
    /// Connections stay open as long as they are here.
    senders: Vec<Sender>,
    posts: Vec<Client>,
    here: Arc<Mutex<Delays>>,
    there: Arc<Mutex<Delays>>,
    alerts: Arc<Mutex<Alerts>>,
}

/// Alerts that one listener of the other host has heard.
#[derive(Default)]
struct Alerts {
    delays: Delays,
    seen: Vec<bool>,
    doubled: usize,
}

impl Stage {
    pub fn open(setup: Setup, redis: &Redis) -> Stage {
        redis.ask("FLUSHALL");
        let tick = format!("redis.position_tick_ms={}", setup.tick_ms);
        let settings = [
            "vehicles.coalesce_ms=0",
            "vehicles.nearby_list_ms=0",
            "vehicles.heartbeat_timeout_ms=600000",
            "presence.scope=none",
            &tick,
        ];
        let receiver = redis.gateway("receiver", 1, &settings);
        let plan = Plan::new(setup.vehicles, setup.squares, setup.squares.min(PROBES));
        let mut config = config(setup);
        config.redis.url = redis.url();
        config.redis.node_id = "sender".to_owned();
        // Posts first: nothing is published that nobody there hears.
        let place = |(square, at): (usize, &(i32, i32))| Client::place(receiver.addr, &format!("post-{square}"), *at);
        let mut posts: Vec<Client> = plan.posts.iter().enumerate().map(place).collect();
        until("the receiver listens", || redis.squares() == setup.squares as u64);
        let (running, shared) = feed::serve(config, plan);
        until("everyone registers", || shared.registered.load(Ordering::Relaxed) as usize == setup.vehicles);
        let mut stage = Stage {
            running,
            shared,
            receiver,
            stop: Arc::default(),
            readers: Vec::new(),
            senders: Vec::new(),
            posts: posts.split_off(setup.squares.min(PROBES)),
            here: Arc::default(),
            there: Arc::default(),
            alerts: Arc::default(),
        };
        for (at, post) in posts.into_iter().enumerate() {
            let alerts = (at == 0).then(|| stage.alerts.clone());
            stage.listen(at, post, stage.there.clone(), alerts);
            let addr = stage.running.addr().expect("it listens");
            let beside = stage.shared.plan.probes[at].beside(0);
            let local = Client::place(addr, &format!("local-{at}"), beside);
            stage.listen(at, local, stage.here.clone(), None);
        }
        let everyone = (setup.vehicles + setup.squares + setup.squares.min(PROBES)) as u64;
        until("the receiver knows everyone", || vehicles(&stage.receiver) == everyone);
        stage
    }

    fn listen(&mut self, at: usize, client: Client, delays: Arc<Mutex<Delays>>, alerts: Option<Arc<Mutex<Alerts>>>) {
        let shared = self.shared.clone();
        let (sender, reader) = client.listen(self.stop.clone(), move |event, arrived| {
            if let Some((_, delay)) = shared.plan.probes[at].heard(event, arrived) {
                delays.lock().expect("unpoisoned").add(delay);
            }
            if let (Some(alerts), Some(number)) = (&alerts, alert_number(event)) {
                let mut alerts = alerts.lock().expect("unpoisoned");
                let most = alerts.seen.len().max(number + 1);
                alerts.seen.resize(most, false);
                if std::mem::replace(&mut alerts.seen[number], true) {
                    alerts.doubled += 1;
                } else {
                    alerts.delays.add(arrived.saturating_duration_since(shared.alert_sent(number)));
                }
            }
        });
        self.senders.push(sender);
        self.readers.push(reader);
    }

    fn look(&self, redis: &Redis) -> Look {
        Look {
            at: Instant::now(),
            sender: self.shared.counters(),
            metrics: self.receiver.metrics(),
            fed: self.shared.fed.load(Ordering::Relaxed),
            seconds: [self.shared.seconds(), self.receiver.seconds(), redis.seconds()],
        }
    }

    /// Feeds at a rate for a while, and lets everything come to rest afterwards.
    pub fn measure(&mut self, redis: &Redis, rate: u64, seconds: f64) -> Measured {
        self.shared.feed(rate, ALERTS);
        thread::sleep(Duration::from_secs_f64((seconds / 4.0).min(2.0)));
        for delays in [&self.here, &self.there] {
            *delays.lock().expect("unpoisoned") = Delays::default();
        }
        self.alerts.lock().expect("unpoisoned").delays = Delays::default();
        self.shared.behind_us_max.store(0, Ordering::Relaxed);
        let others = Others::watch();
        let before = self.look(redis);
        thread::sleep(Duration::from_secs_f64(seconds));
        let after = self.look(redis);
        let take = |delays: &Mutex<Delays>| std::mem::take(&mut *delays.lock().expect("unpoisoned"));
        let behind_ms = self.shared.behind_us_max.load(Ordering::Relaxed) as f64 / 1e3;
        let mut measured = Measured::between(&before, &after);
        measured.others = others.share(measured.receiver + measured.redis);
        measured.behind_ms = behind_ms;
        measured.here = take(&self.here);
        measured.there = take(&self.there);
        measured.alerts = std::mem::take(&mut self.alerts.lock().expect("unpoisoned").delays);
        self.shared.feed(0, 0);
        measured.missing = self.missing_at_rest();
        measured
    }

    /// States that were published and never heard, once nothing is under way any more.
    fn missing_at_rest(&self) -> i64 {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let sent = self.shared.counters().backplane.states_out as i64;
            let metrics = self.receiver.metrics();
            let missing = sent - metrics.get("ringroad_backplane_states_in_total") as i64;
            if (missing == 0 && sent > 0) || Instant::now() > deadline {
                return missing;
            }
            thread::sleep(Duration::from_millis(30));
        }
    }

    pub fn close(self, verdict: &mut Verdict) {
        let raised = self.shared.alerts.load(Ordering::Relaxed) as usize;
        let heard = || self.alerts.lock().expect("unpoisoned").seen.iter().filter(|seen| **seen).count();
        let deadline = Instant::now() + PATIENCE;
        while heard() < raised && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        verdict.demand(heard() == raised, || format!("{} of {raised} alerts among positions lost", raised - heard()));
        let doubled = self.alerts.lock().expect("unpoisoned").doubled;
        verdict.demand(doubled == 0, || format!("{doubled} alerts among positions came twice"));
        self.stop.store(true, Ordering::Relaxed);
        self.readers.into_iter().for_each(|reader| reader.join().expect("it reads to the end"));
        // A gateway waits a while for clients that are still there.
        drop((self.senders, self.posts));
        self.running.stop();
        self.running.join().expect("an orderly end");
        self.receiver.stop();
    }
}

/// Vehicles that a gateway knows, those of other hosts too.
pub fn vehicles(gateway: &Gateway) -> u64 {
    let health: serde_json::Value = serde_json::from_str(&gateway.get("/health")).expect("JSON");
    health["vehicles"].as_u64().expect("a number")
}

/// What everyone has counted at one time.
pub struct Look {
    pub at: Instant,
    pub sender: Counters,
    pub metrics: Metrics,
    pub fed: u64,
    /// Of the sender, the receiver and Redis.
    pub seconds: [f64; 3],
}
