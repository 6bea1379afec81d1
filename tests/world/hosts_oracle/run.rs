//! A world in which a plan is carried out, and what must hold in it.

use std::collections::{BTreeMap, BTreeSet};

use ringroad::geo::Place;
use ringroad::geo::distance::metres;
use ringroad::sim::{ClientId, HANDSHAKE, Health, Heard, World, handshake_with};
use ringroad::turn::Ended;
use ringroad::wire::slim::SUBPROTOCOL;
use serde_json::{Value, json};

use super::plan::{Plan, Step, TENANTS, VEHICLES, VIEWERS};
use super::views::{Edges, Eyes};
use crate::script::HOSTS;
use crate::tokens::{Signer, sign};

/// Radius, and where a neighbour is lost.
const ENTER_M: f64 = 500.0;
const EXIT_M: f64 = 550.0;

/// How long nothing happens in the end.
const QUIET_MS: u64 = 60_000;

/// A client: a vehicle's, or one that only looks.
struct Rider {
    client: ClientId,
    /// Whose it is, by its place in [`TENANTS`].
    tenant: usize,
    vehicle: Option<usize>,
    viewer: Option<usize>,
    eyes: Option<Eyes>,
    host: usize,
    /// Which run of its host.
    run: usize,
    since_ms: u64,
    has_left: bool,
    /// Where it has said it is, 1e-7 degree.
    e7: Option<(i32, i32)>,
    near: BTreeSet<String>,
    online: BTreeSet<String>,
    alerts: BTreeSet<String>,
    messages: BTreeSet<String>,
    /// Messages that it has sent, and when.
    told: Vec<(String, u64)>,
    errors: usize,
}

impl Rider {
    fn place(&self) -> Option<Place> {
        self.e7.map(|(lat, lon)| Place::from_e7(lat, lon))
    }

    /// Whether it has been there since the beginning.
    fn is_witness(&self) -> bool {
        self.vehicle.is_none() && self.viewer.is_none() && self.run == 0
    }
}

/// An alert, and who must hear of it.
struct Raised {
    id: String,
    host: usize,
    run: usize,
    owed: Vec<usize>,
}

/// The world, and what was done in it.
pub struct Run<'p> {
    plan: &'p Plan,
    world: World,
    riders: Vec<Rider>,
    alerts: Vec<Raised>,
    /// How often each host has begun anew, and when last.
    runs: Vec<usize>,
    started_ms: Vec<u64>,
    asleep: Vec<bool>,
    stopping: Vec<bool>,
    /// What a client of each tenant shows, and what an operator does.
    tokens: Vec<(String, String)>,
}

/// What stands in everything that a tenant's clients say in their own words.
fn mark(tenant: usize) -> String {
    format!("of-{}", TENANTS[tenant].unwrap_or("nobody"))
}

/// Good for ever, for one tenant's world.
fn token(tenant: &str, roles: &[&str]) -> String {
    sign(Signer::Secret, &json!({"tenant": tenant, "roles": roles}))
}

/// The name that a vehicle has in its world.
fn name_of(vehicle: usize) -> String {
    (vehicle % VEHICLES).to_string()
}

impl Run<'_> {
    pub fn new(plan: &Plan) -> Run<'_> {
        let world = World::of_hosts(&HOSTS[..plan.hosts], plan.shards as u16, plan.configs());
        let mut run = Run {
            plan,
            world,
            riders: Vec::new(),
            alerts: Vec::new(),
            runs: vec![0; plan.hosts],
            started_ms: vec![0; plan.hosts],
            asleep: vec![false; plan.hosts],
            stopping: vec![false; plan.hosts],
            tokens: TENANTS
                .iter()
                .map(|tenant| {
                    tenant.map(|tenant| (token(tenant, &["vehicle", "viewer"]), token(tenant, &["operator"])))
                })
                .map(Option::unwrap_or_default)
                .collect(),
        };
        run.world.redis().scan_fields_max = 4;
        if !plan.loses_positions {
            run.world.redis().spared = ":cell:".into();
        }
        for (host, ms) in plan.clocks_ahead_ms.iter().enumerate() {
            run.world.set_clock_ahead(host, *ms);
        }
        run.world.settle();
        (0..plan.hosts).for_each(|host| run.look_on(host));
        run
    }

    /// A client on each shard of a host hears everything and says nothing.
    fn look_on(&mut self, host: usize) {
        for shard in 0..self.plan.shards {
            for tenant in &self.plan.tenants[host] {
                self.board((host, shard), *tenant, None, None);
            }
        }
    }

    fn board(
        &mut self,
        (host, shard): (usize, usize),
        tenant: usize,
        vehicle: Option<usize>,
        viewer: Option<usize>,
    ) -> usize {
        let is_slim = viewer.is_some_and(|viewer| viewer % 2 == 1);
        let handshake = if is_slim { handshake_with(SUBPROTOCOL) } else { HANDSHAKE.to_owned() };
        let handshake = match TENANTS[tenant] {
            Some(_) => handshake.replacen("/v2v", &format!("/v2v?token={}", self.tokens[tenant].0), 1),
            None => handshake,
        };
        let client = self.world.shake_hands(host, shard, &handshake);
        self.riders.push(Rider {
            client,
            tenant,
            vehicle,
            viewer,
            eyes: viewer.map(|_| Eyes::default()),
            host,
            run: self.runs[host],
            since_ms: self.world.now().mono_ms,
            has_left: false,
            e7: None,
            near: BTreeSet::new(),
            online: BTreeSet::new(),
            alerts: BTreeSet::new(),
            messages: BTreeSet::new(),
            told: Vec::new(),
            errors: 0,
        });
        self.riders.len() - 1
    }

    /// Whether a host takes part, and has this tenant.
    fn takes(&self, host: usize, tenant: usize) -> bool {
        self.is_up(host) && self.plan.tenants[host].contains(&tenant)
    }

    /// Whether a host takes part.
    fn is_up(&self, host: usize) -> bool {
        self.world.is_alive(host) && !self.asleep[host] && !self.stopping[host]
    }

    /// Whether a client is connected, and its host will hear it.
    fn is_open(&self, rider: &Rider) -> bool {
        !rider.has_left && rider.run == self.runs[rider.host] && self.world.closed(rider.client).is_none()
    }

    /// The newest client of a vehicle that can do something now.
    fn driver(&self, vehicle: usize) -> Option<usize> {
        let can = |rider: &Rider| rider.vehicle == Some(vehicle) && self.is_open(rider) && self.is_up(rider.host);
        self.riders.iter().rposition(can)
    }

    pub fn step(&mut self, step: &Step) -> Result<(), String> {
        match *step {
            Step::Register { vehicle, host, shard, at } if self.takes(host, vehicle / VEHICLES) => {
                let tenant = vehicle / VEHICLES;
                let rider = self.board((host, shard), tenant, Some(vehicle), None);
                let (name, driver) = (name_of(vehicle), mark(tenant));
                self.say(rider, "register", &format!(r#"{{"vehicleId":"veh-{name}","driverName":"{driver}"}}"#));
                self.drive(rider, at);
            }
            Step::Move { vehicle, to } => {
                if let Some(rider) = self.driver(vehicle) {
                    self.drive(rider, to);
                }
            }
            Step::Leave { vehicle } => {
                if let Some(rider) = self.driver(vehicle) {
                    self.riders[rider].has_left = true;
                    let how = if rider % 2 == 0 { Ended::Eof } else { Ended::Reset };
                    self.world.hang_up(self.riders[rider].client, how);
                }
            }
            Step::Alert { vehicle } => {
                if let Some(rider) = self.driver(vehicle) {
                    let (name, info) = (name_of(vehicle), mark(vehicle / VEHICLES));
                    let data = format!(r#"{{"senderId":"veh-{name}","vehicleInfo":{{"model":"{info}"}}}}"#);
                    self.say(rider, "emergency_alert", &data);
                }
            }
            Step::Tell { from, to } => {
                if let Some(rider) = self.driver(from) {
                    let content = format!("{rider} {} {}", self.riders[rider].told.len(), mark(from / VEHICLES));
                    let (from, to) = (name_of(from), name_of(to));
                    let now_ms = self.world.now().mono_ms;
                    self.riders[rider].told.push((content.clone(), now_ms));
                    let text = format!(
                        r#"{{"senderId":"veh-{from}","recipientId":"veh-{to}","content":"{content}","messageType":"text"}}"#
                    );
                    self.say(rider, "send_message", &text);
                }
            }
            Step::View { viewer, host, shard, edges } => self.view(viewer, (host, shard), edges),
            Step::Follow { viewer, host, shard, vehicles } => self.follow(viewer, (host, shard), vehicles),
            Step::Near { vehicle, radius_m } => {
                if let Some(rider) = self.driver(vehicle) {
                    // What it has been told of its neighbours does not count any more.
                    self.listen()?;
                    self.riders[rider].eyes.get_or_insert_default().near_m = Some(radius_m);
                    self.say(rider, "near", &format!(r#"{{"radiusM":{radius_m}}}"#));
                }
            }
            Step::LookAway { viewer } => {
                if let Some(rider) = self.viewer(viewer) {
                    self.riders[rider].has_left = true;
                    self.world.hang_up(self.riders[rider].client, Ended::Reset);
                }
            }
            Step::Wait { ms } => self.world.advance(ms),
            Step::RedisDown => self.world.set_health(Health::Down),
            Step::RedisFreezes if self.world.health() == Health::Up => self.world.set_health(Health::Frozen),
            Step::RedisUp => self.world.set_health(Health::Up),
            Step::RedisEmpties => self.world.empty_redis(),
            Step::Loses { every, host } => self.world.redis().lose(host, every),
            Step::CutOff { host } => self.world.cut(host, true),
            Step::Back { host } => self.world.cut(host, false),
            Step::Away { host, ms } => self.world.set_latency(host, ms),
            Step::Dies { host } => self.kill(host),
            Step::Stops { host } if self.is_up(host) => {
                self.stopping[host] = true;
                self.world.stop_host(host);
            }
            Step::Starts { host, renamed } => self.start(host, renamed),
            Step::Sleeps { host } if self.is_up(host) => {
                self.asleep[host] = true;
                self.world.sleep(host, true);
            }
            Step::Wakes { host } => self.wake(host),
            Step::Inbox { most } => self.world.faults.inbox_max = most,
            Step::Split { bytes } => self.world.faults.link_split = bytes,
            Step::Register { .. } | Step::RedisFreezes | Step::Stops { .. } | Step::Sleeps { .. } => {}
        }
        for host in 0..self.plan.hosts {
            if self.stopping[host] && self.world.is_alive(host) && self.world.has_stopped(host) {
                self.kill(host);
            }
        }
        self.listen()
    }

    /// The connection of a viewer that can do something now.
    fn viewer(&self, viewer: usize) -> Option<usize> {
        self.riders
            .iter()
            .rposition(|rider| rider.viewer == Some(viewer) && self.is_open(rider) && self.is_up(rider.host))
    }

    /// Likewise, or a new one.
    fn seat(&mut self, viewer: usize, (host, shard): (usize, usize)) -> Option<usize> {
        let seated = self.viewer(viewer);
        let tenant = viewer / VIEWERS;
        seated.or_else(|| self.takes(host, tenant).then(|| self.board((host, shard), tenant, None, Some(viewer))))
    }

    fn view(&mut self, viewer: usize, place: (usize, usize), edges: Option<Edges>) {
        let Some(rider) = self.seat(viewer, place) else { return };
        self.riders[rider].eyes.get_or_insert_default().view = edges;
        let data = edges.map_or_else(
            || "{}".into(),
            |(south, west, north, east)| {
                let [south, west, north, east] = [south, west, north, east].map(|e7| f64::from(e7) / 1e7);
                format!(r#"{{"south":{south},"west":{west},"north":{north},"east":{east}}}"#)
            },
        );
        self.say(rider, "view", &data);
    }

    fn follow(&mut self, viewer: usize, place: (usize, usize), vehicles: u32) {
        let Some(rider) = self.seat(viewer, place) else { return };
        let follows: BTreeSet<usize> = (0..VEHICLES).filter(|vehicle| vehicles >> vehicle & 1 == 1).collect();
        let ids: Vec<String> = follows.iter().map(|vehicle| format!(r#""veh-{vehicle}""#)).collect();
        self.riders[rider].eyes.get_or_insert_default().follows = follows;
        self.say(rider, "follow", &format!(r#"{{"vehicleIds":[{}]}}"#, ids.join(",")));
    }

    fn say(&mut self, rider: usize, event: &str, data: &str) {
        self.world.send(self.riders[rider].client, &format!(r#"{{"event":"{event}","data":{data}}}"#));
    }

    fn drive(&mut self, rider: usize, (lat, lon): (i32, i32)) {
        let vehicle = name_of(self.riders[rider].vehicle.expect("a vehicle's"));
        self.riders[rider].e7 = Some((lat, lon));
        let (lat, lon) = (f64::from(lat) / 1e7, f64::from(lon) / 1e7);
        self.say(rider, "location_update", &format!(r#"{{"vehicleId":"veh-{vehicle}","lat":{lat},"lon":{lon}}}"#));
    }

    fn kill(&mut self, host: usize) {
        if self.world.is_alive(host) {
            self.world.kill(host);
            self.runs[host] += 1;
            (self.asleep[host], self.stopping[host]) = (false, false);
        }
    }

    fn start(&mut self, host: usize, renamed: bool) {
        if !self.world.is_alive(host) {
            let node = if renamed { format!("{}{}", HOSTS[host], self.runs[host]) } else { HOSTS[host].into() };
            self.world.start(host, &node);
            self.started_ms[host] = self.world.now().mono_ms;
            self.look_on(host);
        }
    }

    fn wake(&mut self, host: usize) {
        if self.asleep[host] {
            self.asleep[host] = false;
            self.world.sleep(host, false);
        }
    }

    /// Takes note of what all clients have been told.
    fn listen(&mut self) -> Result<(), String> {
        for rider in 0..self.riders.len() {
            for one in self.world.take_heard(self.riders[rider].client) {
                let seen = match one {
                    Heard::Text(text) => {
                        self.check_whose(rider, &text)?;
                        let event: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
                        self.hear(rider, &event)?;
                        self.riders[rider].eyes.as_mut().map_or(Ok(()), |eyes| eyes.hear(&event))
                    }
                    Heard::Binary(frame) => {
                        self.riders[rider].eyes.as_mut().map_or(Ok(()), |eyes| eyes.hear_frame(&frame))
                    }
                };
                seen.map_err(|why| format!("{}: {why}", self.name(rider)))?;
            }
        }
        Ok(())
    }

    /// No tenant hears what another one's clients have said.
    fn check_whose(&self, rider: usize, text: &str) -> Result<(), String> {
        let mut others = (0..TENANTS.len()).filter(|tenant| *tenant != self.riders[rider].tenant).map(mark);
        let stray = others.find(|mark| text.contains(mark));
        stray.map_or(Ok(()), |mark| Err(format!("{} has heard what is {mark}: {text}", self.name(rider))))
    }

    fn hear(&mut self, at: usize, event: &Value) -> Result<(), String> {
        let data = &event["data"];
        let text = |name: &str| data[name].as_str().unwrap_or("?").replace("veh-", "");
        let rider = &mut self.riders[at];
        let fresh = match event["event"].as_str().unwrap_or("?") {
            "proximity_event" if data["eventType"] == "enter" => rider.near.insert(text("peerVehicleId")),
            "proximity_event" => rider.near.remove(&text("peerVehicleId")),
            "receive_message" => rider.messages.insert(text("content")),
            "presence_update" if data["status"] == "online" => {
                rider.online.insert(text("vehicleId"));
                true
            }
            // Those who came later do not know who had been there before.
            "presence_update" => rider.online.remove(&text("vehicleId")) || !rider.is_witness(),
            "error" if data["code"] == "target_offline" => {
                rider.errors += 1;
                true
            }
            "error" => false,
            "emergency_alert" => {
                let is_own = rider.vehicle.is_some_and(|vehicle| text("senderId") == name_of(vehicle));
                if is_own && !self.alerts.iter().any(|alert| alert.id == text("id")) {
                    self.raised(at, text("id"));
                }
                self.riders[at].alerts.insert(text("id"))
            }
            _ => true,
        };
        if fresh { Ok(()) } else { Err(format!("{}: unexpected {event}", self.name(at))) }
    }

    /// A sender has seen its own alert: it was accepted.
    fn raised(&mut self, sender: usize, id: String) {
        let Rider { host, run, tenant, .. } = self.riders[sender];
        let now_ms = self.world.now().mono_ms;
        // Which alerts are older than a host is told by the clocks.
        let is_old = |host: usize| now_ms >= self.started_ms[host] + self.plan.clocks_differ_ms();
        let is_owed = |rider: &Rider| rider.tenant == tenant && self.is_open(rider) && is_old(rider.host);
        let owed = (0..self.riders.len()).filter(|rider| is_owed(&self.riders[*rider])).collect();
        self.alerts.push(Raised { id, host, run, owed });
    }

    fn name(&self, rider: usize) -> String {
        let Rider { vehicle, viewer, host, since_ms, tenant, .. } = &self.riders[rider];
        let ago_s = (self.world.now().mono_ms - since_ms) as f64 / 1e3;
        match (vehicle, viewer) {
            (Some(vehicle), _) => format!("vehicle {vehicle} on {} ({ago_s} s ago)", HOSTS[*host]),
            (None, Some(viewer)) => format!("v{viewer} on {} ({ago_s} s ago)", HOSTS[*host]),
            (None, None) => format!("witness {} on {} ({ago_s} s ago)", mark(*tenant), HOSTS[*host]),
        }
    }

    /// Everything is well, and after a while all agree.
    pub fn finish(mut self) -> Result<(), String> {
        self.world.faults.inbox_max = 0;
        self.world.set_health(Health::Up);
        for host in 0..self.plan.hosts {
            self.world.redis().lose(host, 0);
            self.world.set_latency(host, 0);
            self.world.cut(host, false);
            self.wake(host);
        }
        if self.plan.loses_positions {
            // A registration that has taken over another may be dated ahead of its host's clock. What is published before
            // that time counts only if it comes together with it.
            self.step(&Step::Wait { ms: self.plan.clocks_differ_ms() + 100 })?;
            // Of several connections nobody knows yet which one will stay.
            for driver in self.drivers().into_values().flatten() {
                if let Some(Rider { e7: Some(place), .. }) = self.riders.get(driver) {
                    self.drive(driver, *place);
                }
            }
        }
        for _ in 0..10 {
            self.step(&Step::Wait { ms: QUIET_MS / 10 })?;
        }
        self.check_connections()?;
        self.check_listings()?;
        self.check_neighbours()?;
        self.check_views()?;
        self.check_alerts()?;
        self.check_messages()?;
        if self.plan.is_public {
            self.check_presence_told()?;
        }
        let refused = &self.world.redis().refused;
        if refused.is_empty() { Ok(()) } else { Err(format!("refused by Redis: {refused:?}")) }
    }

    /// The clients that drive each vehicle.
    fn drivers(&self) -> BTreeMap<usize, Vec<usize>> {
        let mut drivers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, rider) in self.riders.iter().enumerate() {
            if let Some(vehicle) = rider.vehicle.filter(|_| self.is_open(rider)) {
                drivers.entry(vehicle).or_default().push(at);
            }
        }
        drivers
    }

    fn check_connections(&self) -> Result<(), String> {
        let drivers = self.drivers();
        for (vehicle, drivers) in &drivers {
            if drivers.len() > 1 {
                let names: Vec<String> = drivers.iter().map(|at| self.name(*at)).collect();
                return Err(format!("vehicle {vehicle} has several connections: {}", names.join(", ")));
            }
        }
        if self.plan.clocks_differ_ms() > 0 {
            // Which registration is the latest depends on whose clock is asked.
            return Ok(());
        }
        for vehicle in 0..VEHICLES * TENANTS.len() {
            let all = self.riders.iter().filter(|rider| rider.vehicle == Some(vehicle));
            let latest_ms = all.clone().map(|rider| rider.since_ms).max();
            let mut latest = all.filter(|rider| Some(rider.since_ms) == latest_ms);
            let ended =
                |rider: &Rider| rider.has_left || rider.run != self.runs[rider.host] || self.stopping[rider.host];
            if latest_ms.is_some() && !latest.any(ended) && !drivers.contains_key(&vehicle) {
                return Err(format!("vehicle {vehicle} has lost its latest connection"));
            }
        }
        Ok(())
    }

    /// The drivers of a tenant's vehicles.
    fn drivers_of(&self, tenant: usize) -> BTreeMap<usize, Vec<usize>> {
        self.drivers().into_iter().filter(|(vehicle, _)| vehicle / VEHICLES == tenant).collect()
    }

    fn check_listings(&mut self) -> Result<(), String> {
        (0..TENANTS.len()).try_for_each(|tenant| self.check_listings_of(tenant))
    }

    fn check_listings_of(&mut self, tenant: usize) -> Result<(), String> {
        let drivers = self.drivers_of(tenant);
        let names: BTreeSet<String> = drivers.keys().map(|vehicle| name_of(*vehicle)).collect();
        let has = |host: &usize| self.world.is_alive(*host) && self.plan.tenants[*host].contains(&tenant);
        let hosts: Vec<usize> = (0..self.plan.hosts).filter(has).collect();
        let query = TENANTS[tenant].map_or(String::new(), |_| format!("?token={}", self.tokens[tenant].1));
        let request = format!("GET /vehicles{query} HTTP/1.1\r\nHost: sim\r\n\r\n");
        for &host in &hosts {
            for shard in 0..self.plan.shards {
                let client = self.world.open_at(host, shard);
                self.world.send_bytes(client, request.as_bytes());
                let reply = self.world.reply(client);
                self.world.hang_up(client, Ended::Eof);
                let body = reply.split_once("\r\n\r\n").map_or("", |(_, body)| body);
                let listing: Value = serde_json::from_str(body).map_err(|error| format!("{error}: {reply}"))?;
                let vehicles = listing["vehicles"].as_array().map_or(&[][..], |list| list);
                let listed: Vec<String> =
                    vehicles.iter().map(|v| v["vehicleId"].as_str().unwrap_or("?").replace("veh-", "")).collect();
                let unique: BTreeSet<String> = listed.iter().cloned().collect();
                if unique != names || unique.len() != listed.len() {
                    return Err(format!("{}{shard} lists {listed:?} instead of {names:?}", HOSTS[host]));
                }
            }
        }
        if hosts.is_empty() {
            // Nobody is left who could sweep.
            return Ok(());
        }
        let hash = TENANTS[tenant].map_or("v2v:presence".into(), |tenant| format!("v2v:tenant:{tenant}:presence"));
        let entries = self.world.redis().hash(&hash);
        let found: BTreeSet<String> = entries.keys().map(|vehicle| vehicle.replace("veh-", "")).collect();
        if found != names {
            return Err(format!("the presence hash has {found:?} instead of {names:?}"));
        }
        for (vehicle, drivers) in &drivers {
            let entry: Value =
                serde_json::from_str(&entries[&format!("veh-{}", name_of(*vehicle))]).unwrap_or_default();
            let host = self.riders[drivers[0]].host;
            if !entry["node"].as_str().is_some_and(|node| node.starts_with(HOSTS[host])) {
                return Err(format!("the entry of vehicle {vehicle}, which is on {}, is {entry}", HOSTS[host]));
            }
        }
        Ok(())
    }

    fn check_neighbours(&self) -> Result<(), String> {
        let drivers = self.drivers();
        for (vehicle, drivers_of) in &drivers {
            let rider = &self.riders[drivers_of[0]];
            let mut unknown = rider.near.clone();
            let is_other = |other: &usize| other != vehicle && other / VEHICLES == vehicle / VEHICLES;
            for (other, drivers_of) in drivers.iter().filter(|(other, _)| is_other(other)) {
                let is_near = unknown.remove(&name_of(*other));
                let (Some(here), Some(there)) = (rider.place(), self.riders[drivers_of[0]].place()) else { continue };
                let distance = metres(here, there);
                if (distance <= ENTER_M && !is_near) || (distance > EXIT_M && is_near) {
                    let other = self.name(drivers_of[0]);
                    let held = if is_near { "holds near" } else { "does not know of" };
                    return Err(format!("{} {held} {other}, {distance:.0} m away", self.name(self.at_of(rider))));
                }
            }
            if !unknown.is_empty() {
                return Err(format!("vehicle {vehicle} holds near {unknown:?}, who are not there"));
            }
        }
        Ok(())
    }

    fn check_views(&self) -> Result<(), String> {
        let places = (0..TENANTS.len()).map(|tenant| {
            let drivers = self.drivers_of(tenant);
            drivers.iter().map(|(vehicle, all)| (vehicle % VEHICLES, self.riders[all[0]].place())).collect()
        });
        let places: Vec<BTreeMap<usize, Option<Place>>> = places.collect();
        for (at, rider) in self.riders.iter().enumerate().filter(|(_, rider)| self.is_open(rider)) {
            let own = rider.vehicle.map(|vehicle| vehicle % VEHICLES).zip(rider.place());
            if let Some(eyes) = &rider.eyes {
                eyes.check(&places[rider.tenant], own).map_err(|why| format!("{} {why}", self.name(at)))?;
            }
        }
        Ok(())
    }

    fn at_of(&self, rider: &Rider) -> usize {
        self.riders.iter().position(|other| other.client == rider.client).expect("one of them")
    }

    fn check_alerts(&self) -> Result<(), String> {
        for alert in self.alerts.iter().filter(|alert| self.runs[alert.host] == alert.run) {
            for at in alert.owed.iter().filter(|at| self.is_open(&self.riders[**at])) {
                if !self.riders[*at].alerts.contains(&alert.id) {
                    return Err(format!(
                        "{} has not heard of alert {} of {}",
                        self.name(*at),
                        alert.id,
                        HOSTS[alert.host]
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_messages(&self) -> Result<(), String> {
        let came: BTreeSet<&String> = self.riders.iter().flat_map(|rider| &rider.messages).collect();
        for (at, rider) in self.riders.iter().enumerate().filter(|(_, rider)| self.is_open(rider)) {
            let missing = rider.told.iter().filter(|(content, _)| !came.contains(content)).count();
            if missing > rider.errors || rider.errors > rider.told.len() {
                let (told, errors) = (rider.told.len(), rider.errors);
                return Err(format!(
                    "{}: of {told} messages {missing} are missing and {errors} reported",
                    self.name(at)
                ));
            }
        }
        Ok(())
    }

    fn check_presence_told(&self) -> Result<(), String> {
        let names: Vec<BTreeSet<String>> = (0..TENANTS.len())
            .map(|tenant| self.drivers_of(tenant).keys().map(|vehicle| name_of(*vehicle)).collect())
            .collect();
        for (at, rider) in self.riders.iter().enumerate() {
            let names = &names[rider.tenant];
            if rider.is_witness() && self.is_open(rider) && rider.online != *names {
                return Err(format!("{} was told of {:?} instead of {names:?}", self.name(at), rider.online));
            }
        }
        Ok(())
    }
}
