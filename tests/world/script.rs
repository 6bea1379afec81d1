//! Scripts as data: a small language for what happens in a world and what each client then has heard.
//!
//! ```text
//! shards 2                                   # before anything else; 1 without it
//! hosts 2                                    # likewise: hosts A and B share a Redis; see `fleet`
//! set presence.scope = "none"                # any configuration key, as TOML
//! a@0 registers; b@1 registers               # connect (shard after @) and register as vehicle "veh-a"
//! a2@1 registers as a                        # another client, the same vehicle
//! a3 registers as a called Ada               # with another driver
//! a at 48.0 11.0 speed=3 ts=-100             # location_update; ts relative to now
//! c@1 connects slim                          # a client that speaks ringroad.v1
//! c reports 48.0 11.0 speed=3 ts=-100        # a location as a state record
//! c views 47 10 49 12 maxHz=2                # south west north east
//! at once: a at 48 11; b at 48 11.001        # one turn
//! a sends connect_request {"requesterId":$a,"targetId":$b}
//! b< connect_request {"requesterId":"a","targetId":"b","ts":now}
//! +200ms
//! clock -5000                                # the gateway's clock is set, by ms
//! drain 2000ms                               # everybody is let go of within that time
//! busy 60                                    # how busy its workers are, percent
//! a< nothing
//! ```
//!
//! `NAME<` lists everything that a client has received since it was last asked, in order, condensed by [`condense`],
//! and is compared strictly. `veh-` is left out everywhere.

use std::collections::{BTreeMap, BTreeSet};

use ringroad::config::Config;
use ringroad::metrics::Values;
use ringroad::sim::{ClientId, Heard, World};
use ringroad::turn::Ended;
use ringroad::wire::frame::{Opcode, encode_masked};
use ringroad::wire::radio;
use ringroad::wire::slim::SUBPROTOCOL;
use ringroad::wire::state::key;
use serde_json::Value;

use crate::{fleet, slim};

/// Names of hosts; their nodes have the same.
pub const HOSTS: [&str; 4] = ["A", "B", "C", "D"];

/// Plays a script in a world of its own.
#[track_caller]
pub fn check(script: &str) {
    Play::default().run(script);
}

/// A world, the names of its clients, and how far a script has come.
#[derive(Default)]
pub struct Play {
    settings: String,
    shards: u16,
    /// Hosts that share a Redis; 0: one that shares nothing.
    pub hosts: usize,
    world: Option<World>,
    clients: BTreeMap<String, Client>,
    ids: BTreeSet<String>,
    at_once: bool,
    radio: radio::Decoder,
}

struct Client {
    id: ClientId,
    /// The vehicle that it drives or will drive, without `veh-`.
    vehicle: String,
    told_closed: bool,
    told_pings: (usize, usize),
    told_reply: usize,
}

impl Play {
    /// Plays a script, or the next part of one.
    #[track_caller]
    pub fn run(&mut self, script: &str) -> &mut Play {
        for (number, line) in script.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with("# ") {
                continue;
            }
            let outcome = self.line(line);
            if let Err(why) = outcome {
                let mut shown = String::new();
                for (at, line) in script.lines().enumerate() {
                    let pointer = if at == number { ">" } else { " " };
                    shown += &format!("{pointer} {}\n", line.trim());
                }
                panic!("\n{shown}\n{why}\n");
            }
        }
        self
    }

    /// The world, made by the first use.
    pub fn world(&mut self) -> &mut World {
        let (settings, shards, hosts) = (&self.settings, self.shards.max(1), self.hosts);
        self.world.get_or_insert_with(|| {
            let config: Config = toml::from_str(settings).expect("the script's settings are TOML of known keys");
            if hosts == 0 {
                return World::new(shards, config);
            }
            let mut world = World::of_nodes(&HOSTS[..hosts], shards, config);
            fleet::watch(&mut world);
            world.settle();
            world
        })
    }

    /// How many shards each host has.
    pub fn shards(&self) -> usize {
        usize::from(self.shards.max(1))
    }

    /// A client by its name in the script.
    pub fn client(&self, name: &str) -> ClientId {
        self.clients.get(name).unwrap_or_else(|| panic!("no client {name}")).id
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(statements) = line.strip_prefix("at once:") {
            self.at_once = true;
            let outcome = statements.split(';').try_for_each(|statement| self.statement(statement.trim()));
            self.at_once = false;
            self.world().settle();
            return outcome;
        }
        if line.contains('{') || line.contains('<') || line.contains('"') {
            return self.statement(line);
        }
        line.split(';').try_for_each(|statement| self.statement(statement.trim()))
    }

    fn statement(&mut self, statement: &str) -> Result<(), String> {
        let (first, rest) = statement.split_once(' ').unwrap_or((statement, ""));
        let rest = rest.trim();
        match first {
            "set" => self.settings += &format!("{rest}\n"),
            "shards" => self.shards = number(rest)? as u16,
            "hosts" => {
                self.hosts = number(rest)?;
                self.settings += "redis.url = 'redis://sim'\n";
            }
            "split" => self.world().faults.split = number(rest)?,
            "inbox" => self.world().faults.inbox_max = number(rest)?,
            "clock" => {
                let set_by_ms: i64 = rest.parse().map_err(|_| "clock ±MS")?;
                let unix_ms = self.world().now().unix_ms;
                self.world().set_clock(unix_ms.saturating_add_signed(set_by_ms));
            }
            "busy" => self.world().load(number(rest)? as u8),
            "stop" => self.world().stop(),
            "drain" => {
                let over_ms = number(rest.strip_suffix("ms").ok_or("drain needs ms")?)? as u64;
                self.world().drain_host(0, over_ms);
            }
            "forget" => {
                let names: Vec<String> = self.clients.keys().cloned().collect();
                names.iter().for_each(|name| drop(self.heard(name)));
                fleet::watch(self.world());
            }
            "count" => return self.count(rest),
            _ if self.hosts > 0 && fleet::is_about(first) => return self.fleet(first, rest),
            "radio" => return self.radio_hears(rest),
            "radio<" => return compare(rest, &self.radio_sent()),
            _ if first.starts_with('+') => {
                let ms = first[1..].strip_suffix("ms").map(|ms| number(ms).map(|ms| ms as u64));
                let s = first[1..].strip_suffix('s').map(|s| number(s).map(|s| s as u64 * 1000));
                self.world().advance(ms.or(s).ok_or("+N needs ms or s")??);
            }
            _ if statement.contains('<') && !statement.split('<').next().unwrap_or("").contains('{') => {
                let (names, expected) = statement.split_once('<').unwrap_or_default();
                for name in names.split_whitespace() {
                    let heard = self.heard(name);
                    compare(expected, &heard).map_err(|why| format!("{name} {why}"))?;
                }
            }
            name => return self.act(name, rest),
        }
        Ok(())
    }

    /// Something that a client does.
    fn act(&mut self, name: &str, deed: &str) -> Result<(), String> {
        let (name, at) = match name.split_once('@') {
            Some((name, at)) => (name, place(at)?),
            None => (name, (0, 0)),
        };
        let (verb, rest) = deed.split_once(' ').unwrap_or((deed, ""));
        match verb {
            "opens" => drop(self.open(name, at)),
            "connects" if rest == "slim" => drop(self.connect_slim(name, at)),
            "connects" => drop(self.connect(name, at)),
            "registers" => {
                let (rest, driver) = rest.split_once(" called ").unwrap_or((rest, ""));
                if let Some(vehicle) = rest.strip_prefix("as ") {
                    self.meet(name, at);
                    self.clients.get_mut(name).expect("met").vehicle = vehicle.into();
                }
                self.meet(name, at);
                let vehicle = &self.clients[name].vehicle;
                let driver = if driver.is_empty() { format!("Driver {vehicle}") } else { driver.to_owned() };
                let data = format!(r#"{{"vehicleId":"veh-{vehicle}","driverName":"{driver}"}}"#);
                self.send(name, "register", &data);
            }
            "at" => {
                let mut fields = rest.split_whitespace();
                let (lat, lon) = (fields.next().ok_or("latitude")?, fields.next().ok_or("longitude")?);
                let mut data = format!(r#"{{"vehicleId":"veh-{}","lat":{lat},"lon":{lon}"#, self.clients[name].vehicle);
                for field in fields {
                    let (key, value) = field.split_once('=').ok_or("field=value")?;
                    if key == "ts" {
                        let ts = self.world().now().unix_ms as i64 + value.parse::<i64>().map_err(|e| e.to_string())?;
                        data += &format!(r#","ts":{ts}"#);
                    } else {
                        data += &format!(r#","{key}":{value}"#);
                    }
                }
                self.send(name, "location_update", &(data + "}"));
            }
            "reports" => {
                let vehicle = self.clients[name].vehicle.clone();
                let message = slim::report(&vehicle, rest, self.world().now().unix_ms)?;
                let client = self.client(name);
                if self.at_once {
                    self.world().say_binary(client, &message);
                } else {
                    self.world().send_binary(client, &message);
                }
            }
            "views" => self.send(name, "view", &slim::view(rest)?),
            "nears" => self.send(name, "near", &slim::near(rest)?),
            "follows" => self.send(name, "follow", &slim::follow(rest)),
            "tells" => {
                let (to, content) = rest.split_once(' ').ok_or("tells WHOM WHAT")?;
                let sender = &self.clients[name].vehicle;
                let data = format!(
                    r#"{{"senderId":"veh-{sender}","recipientId":"veh-{to}","content":"{content}","messageType":"text"}}"#
                );
                self.send(name, "send_message", &data);
            }
            "alerts" => {
                let data = format!(r#"{{"senderId":"veh-{}"}}"#, self.clients[name].vehicle);
                self.send(name, "emergency_alert", &data);
            }
            "requests" => {
                let data = format!(r#"{{"requesterId":"veh-{}","targetId":"veh-{rest}"}}"#, self.clients[name].vehicle);
                self.send(name, "connect_request", &data);
            }
            "approves" => {
                let target = &self.clients[name].vehicle;
                let data = format!(r#"{{"requesterId":"veh-{rest}","targetId":"veh-{target}","approved":true}}"#);
                self.send(name, "connect_response", &data);
            }
            "heartbeats" => self.say(name, r#"{"event":"heartbeat"}"#),
            "sends" => {
                let (event, data) = rest.split_once(' ').unwrap_or((rest, "{}"));
                self.send(name, event, &ids(data));
            }
            "says" => self.say(name, &ids(rest)),
            "gets" => {
                let client = self.open(name, at);
                let request = format!("GET {rest} HTTP/1.1\r\nHost: sim\r\n\r\n");
                self.world().send_bytes(client, request.as_bytes());
            }
            "hangs" => self.hang_up(name, Ended::Eof),
            "breaks" => self.hang_up(name, Ended::Reset),
            "pings" => self.frame(name, Opcode::Ping, rest.as_bytes()),
            "pongs" => self.frame(name, Opcode::Pong, rest.as_bytes()),
            "leaves" => {
                let payload = match rest.split_once(' ').unwrap_or((rest, "")) {
                    ("", _) => Vec::new(),
                    (code, reason) => [&(number(code)? as u16).to_be_bytes()[..], reason.as_bytes()].concat(),
                };
                self.frame(name, Opcode::Close, &payload);
            }
            "stalls" => {
                let bytes = if rest.is_empty() { 0 } else { number(rest)? };
                let client = self.client(name);
                self.world().stall(client, bytes);
            }
            "trickles" => {
                let bytes = number(rest)?;
                let client = self.client(name);
                self.world().trickle(client, bytes);
            }
            "resumes" => {
                let client = self.client(name);
                self.world().resume(client);
            }
            _ => return Err(format!("{name:?} cannot {deed:?}")),
        }
        Ok(())
    }

    fn open(&mut self, name: &str, (host, shard): (usize, usize)) -> ClientId {
        let id = self.world().open_at(host, shard);
        let vehicle = name.to_owned();
        let client = Client { id, vehicle, told_closed: false, told_pings: (0, 0), told_reply: 0 };
        self.clients.insert(name.to_owned(), client);
        id
    }

    fn connect(&mut self, name: &str, at: (usize, usize)) -> ClientId {
        let client = self.open(name, at);
        self.world().send_bytes(client, ringroad::sim::HANDSHAKE.as_bytes());
        client
    }

    fn connect_slim(&mut self, name: &str, at: (usize, usize)) -> ClientId {
        let client = self.open(name, at);
        self.world().send_bytes(client, ringroad::sim::handshake_with(SUBPROTOCOL).as_bytes());
        client
    }

    /// Connects a client unless it is.
    fn meet(&mut self, name: &str, at: (usize, usize)) {
        let known = self.clients.get(name).map(|client| client.id);
        if known.is_none_or(|id| !self.world().is_held(id)) {
            self.connect(name, at);
        }
    }

    fn send(&mut self, name: &str, event: &str, data: &str) {
        self.say(name, &format!(r#"{{"event":"{event}","data":{data}}}"#));
    }

    fn say(&mut self, name: &str, text: &str) {
        let client = self.client(name);
        if self.at_once { self.world().say(client, text) } else { self.world().send(client, text) }
    }

    fn frame(&mut self, name: &str, opcode: Opcode, payload: &[u8]) {
        let mut bytes = Vec::new();
        encode_masked(&mut bytes, opcode, [9, 8, 7, 6], payload);
        let client = self.client(name);
        self.world().send_bytes(client, &bytes);
    }

    fn hang_up(&mut self, name: &str, how: Ended) {
        let client = self.client(name);
        self.world().hang_up(client, how);
    }

    /// What a client has received since the last call.
    pub fn heard(&mut self, name: &str) -> Vec<String> {
        let now = self.world().now().unix_ms;
        let names: BTreeMap<u64, String> = self
            .clients
            .values()
            .map(|client| (key(&format!("veh-{}", client.vehicle)), client.vehicle.clone()))
            .collect();
        let client = self.clients.get_mut(name).unwrap_or_else(|| panic!("no client {name}"));
        let world = self.world.as_mut().expect("made");
        let mut heard = Vec::new();
        for one in world.take_heard(client.id) {
            let text = match one {
                Heard::Text(text) => text,
                Heard::Binary(frame) => {
                    heard.extend(slim::condense(&frame, &names, now));
                    continue;
                }
            };
            let event: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            if let Some(id) = event["data"]["id"].as_str() {
                assert!(uuid::Uuid::parse_str(id).is_ok(), "not a UUID: {text}");
                let is_new = self.ids.insert(id.to_owned());
                assert!(is_new || event["event"] == "emergency_alert", "an id for the second time: {text}");
            }
            heard.push(condense(&event, &client.vehicle, now));
        }
        let (pings, pongs) = world.pings_and_pongs(client.id);
        heard.extend((client.told_pings.0..pings).map(|_| "ping".to_owned()));
        heard.extend((client.told_pings.1..pongs).map(|_| "pong".to_owned()));
        client.told_pings = (pings, pongs);
        let reply = world.reply(client.id);
        if !reply.starts_with("HTTP/1.1 101") && reply.len() > client.told_reply {
            client.told_reply = reply.len();
            let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
            let status = head.split(' ').nth(1).unwrap_or_default();
            heard.push(short(&format!("{status} {}", body.trim()), now));
        }
        if let Some((code, reason)) = world.closed(client.id)
            && !std::mem::replace(&mut client.told_closed, true)
        {
            let code = code.map_or(String::new(), |code| format!(" {code}"));
            heard.push(format!("closed{code} {reason}").trim().to_owned());
        }
        heard
    }

    /// `count NAME = N` or `count NAME{label} = N`: a counter, summed over the shards, and over all hosts but for
    /// `count NAME on HOST = N`.
    fn count(&mut self, statement: &str) -> Result<(), String> {
        let (name, expected) = statement.split_once('=').ok_or("count NAME = N")?;
        let counted = match name.trim().split_once(" on ") {
            Some((name, host)) => self.counted_on(host_of(host)?, name),
            None => self.counted(name.trim()),
        };
        let expected = number(expected.trim())? as u64;
        if counted == expected { Ok(()) } else { Err(format!("{} is {counted}", name.trim())) }
    }

    /// A counter by its exposed name, summed over the shards of all hosts that live.
    pub fn counted(&mut self, name: &str) -> u64 {
        let hosts = 0..self.world().hosts();
        let alive: Vec<usize> = hosts.filter(|host| self.world().is_alive(*host)).collect();
        alive.into_iter().map(|host| self.counted_on(host, name)).sum()
    }

    /// A counter of one host.
    pub fn counted_on(&mut self, host: usize, name: &str) -> u64 {
        let (family_name, label) = name.split_once('{').map_or((name, None), |(f, l)| (f, l.strip_suffix('}')));
        let mut sum = None;
        for shard in 0..self.shards() {
            self.world().counters_at(host, shard).visit(&mut |family, values| {
                if family.name == family_name {
                    *sum.get_or_insert(0) += match values {
                        Values::One(value) => value,
                        Values::Labelled(_, series) => {
                            let wanted = series.iter().filter(|(value, _)| label.is_none_or(|label| label == *value));
                            wanted.map(|(_, count)| count).sum()
                        }
                        Values::Buckets(_) => panic!("{name} is a histogram"),
                    };
                }
            });
        }
        sum.unwrap_or_else(|| panic!("no counter {name}"))
    }

    /// `radio hears text 1 2 hello`
    fn radio_hears(&mut self, statement: &str) -> Result<(), String> {
        let mut words = statement.splitn(5, ' ');
        if words.next() != Some("hears") {
            return Err("radio hears KIND SENDER RECIPIENT PAYLOAD".into());
        }
        let kind = match words.next() {
            Some("text") => radio::Kind::Text,
            Some("emergency") => radio::Kind::Emergency,
            _ => radio::Kind::Control,
        };
        let mut id = || number(words.next().unwrap_or_default()).map(|id| id as u8);
        let (sender, recipient) = (id()?, id()?);
        let mut bytes = Vec::new();
        let payload = words.next().unwrap_or_default();
        radio::encode(&mut bytes, &radio::Frame { kind, sender, recipient, payload }).map_err(|e| e.to_string())?;
        self.world().radio_receives(&bytes);
        Ok(())
    }

    fn radio_sent(&mut self) -> Vec<String> {
        let bytes = std::mem::take(&mut self.world().radio);
        let mut sent = Vec::new();
        let mut at = 0;
        loop {
            let (used, frame) = self.radio.decode(&bytes[at..]);
            at += used;
            let Some(frame) = frame else { return sent };
            let kind = format!("{:?}", frame.kind).to_lowercase();
            sent.push(short(&format!("{kind} {} to {}: {}", frame.sender, frame.recipient, frame.payload), u64::MAX));
        }
    }
}

/// `1`, `B` or `B1`: a host, of which the first is meant without a letter, and a shard.
fn place(at: &str) -> Result<(usize, usize), String> {
    let digits = at.trim_start_matches(|letter: char| letter.is_ascii_uppercase());
    let host = &at[..at.len() - digits.len()];
    Ok((if host.is_empty() { 0 } else { host_of(host)? }, if digits.is_empty() { 0 } else { number(digits)? }))
}

pub fn host_of(name: &str) -> Result<usize, String> {
    HOSTS.iter().position(|host| *host == name).ok_or_else(|| format!("no host {name:?}"))
}

/// An event in a few words. `me` is the vehicle of the client that received it.
pub fn condense(event: &Value, me: &str, now: u64) -> String {
    let data = &event["data"];
    let text = |field: &str| data[field].as_str().unwrap_or("?").replace("veh-", "");
    let ago = |field: &str| match now as i64 - data[field].as_i64().unwrap_or(-1) {
        0 => String::new(),
        ms => format!(" ({:+}ms)", -ms),
    };
    let via = if data["via"] == "radio" { " via radio" } else { "" };
    let name = event["event"].as_str().unwrap_or("?");
    let condensed = match name {
        "connected" | "heartbeat_ack" => name.into(),
        "registered" => format!("registered {}", text("vehicleId")),
        "presence_update" if data["status"] == "online" => format!("online {}", text("vehicleId")),
        "presence_update" => format!("{} {}{}", text("status"), text("vehicleId"), ago("lastSeen")),
        "nearby_vehicles" => {
            let vehicles = data["vehicles"].as_array().map_or(&[][..], |list| list);
            let line = |v: &Value| format!("{} {}", v["vehicleId"].as_str().unwrap_or("?"), v["distance"]);
            format!("list({})", vehicles.iter().map(line).collect::<Vec<_>>().join(", "))
        }
        "proximity_event" => {
            let whose = if text("vehicleId") == me { String::new() } else { format!(" for {}", text("vehicleId")) };
            let metres = if data["distanceM"].is_null() { String::new() } else { format!(" {}", data["distanceM"]) };
            format!("{} {}{metres}{whose}", text("eventType"), text("peerVehicleId"))
        }
        "peer_location" => {
            let motion = ["speed", "heading", "elevation", "accuracy"].iter();
            let motion =
                motion.filter(|field| !data[**field].is_null()).map(|field| format!(" {field}={}", data[*field]));
            format!(
                "peer {} {} {}{}{}",
                text("vehicleId"),
                data["lat"],
                data["lon"],
                motion.collect::<String>(),
                ago("ts")
            )
        }
        "receive_message" => {
            let whose = if text("recipientId") == me { String::new() } else { format!(" for {}", text("recipientId")) };
            format!("{}: {:?}{whose}{via}", text("senderId"), text("content"))
        }
        "emergency_alert" => {
            let info = if data["vehicleInfo"].is_null() { String::new() } else { format!(" {}", data["vehicleInfo"]) };
            format!("alert {}{info}{via}", text("senderId"))
        }
        "server_shutdown" => "sent away".into(),
        "vehicle_identity" => {
            let id = data["vehicleId"].as_str().unwrap_or_default();
            assert_eq!(data["key"].as_str(), Some(&*format!("{:016x}", key(id))), "the key of {id}");
            format!("named {}", text("vehicleId"))
        }
        "peer_gone" => format!("peer_gone {}", text("vehicleId")),
        "watching" => slim::condense_watching(data),
        "radio_text" => format!("radio {}: {:?}", text("from"), text("content")),
        "error" => match data["details"]["retryAfterMs"].as_u64() {
            Some(ms) => format!("error {} retry {ms}", text("code")),
            None => format!("error {}", text("code")),
        },
        _ => format!("{name} {data}"),
    };
    short(&condensed, now)
}

fn short(text: &str, now: u64) -> String {
    text.replace("veh-", "").replace(&now.to_string(), "now")
}

/// `$b` stands for `"veh-b"`.
pub fn ids(text: &str) -> String {
    let mut out = String::new();
    let mut parts = text.split('$');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(part.len());
        out += &format!("\"veh-{}\"{}", &part[..end], &part[end..]);
    }
    out
}

pub fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}

pub fn compare(expected: &str, heard: &[String]) -> Result<(), String> {
    let expected = expected.trim();
    let got = if heard.is_empty() { "nothing".to_owned() } else { heard.join(", ") };
    if expected == got { Ok(()) } else { Err(format!("heard    {got}\nnot      {expected}")) }
}
