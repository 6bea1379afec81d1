//! One gateway among several that share a Redis.

use std::fs;
use std::ops::Deref;
use std::time::Duration;

use serde_json::Value;

use crate::gateway::Gateway;
use crate::redis::Redis;
use crate::until;

/// How long a node may be silent here.
pub const LEASE: Duration = Duration::from_secs(3);

/// When a dead node's vehicles must be gone: its lease, and time to notice that.
pub const GONE: Duration = Duration::from_secs(5);

pub struct Host {
    pub node: &'static str,
    gateway: Gateway,
}

impl Deref for Host {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.gateway
    }
}

impl Host {
    /// A host that has joined.
    pub fn start(url: &str, node: &'static str, more: &[&str]) -> Host {
        let host = Host::unjoined(url, node, more);
        host.until_up();
        host
    }

    /// A host whose servers may not be there yet.
    pub fn unjoined(url: &str, node: &'static str, more: &[&str]) -> Host {
        Host::listen("127.0.0.1:0", url, node, more)
    }

    pub fn listen(addr: &str, url: &str, node: &'static str, more: &[&str]) -> Host {
        let lease = format!("redis.lease_ms={}", LEASE.as_millis());
        let settings = [format!("redis.url={url}"), format!("redis.node_id={node}"), lease];
        let settings: Vec<&str> = settings.iter().map(String::as_str).chain(more.iter().copied()).collect();
        Host { node, gateway: Gateway::listen(addr, &settings) }
    }

    /// Two hosts that have joined one server and hear each other.
    pub fn pair(redis: &Redis, more: &[&str]) -> [Host; 2] {
        let hosts = ["a", "b"].map(|node| Host::start(&redis.url(), node, more));
        hosts.iter().for_each(|host| host.until_heard(redis));
        hosts.iter().for_each(|host| host.until_hosts(2));
        hosts
    }

    /// Waits until it listens for what is sent to it. It is up a little earlier.
    pub fn until_heard(&self, redis: &Redis) {
        let channel = format!("v2v:to:{}", self.node);
        until(&format!("somebody listens to {channel}"), || redis.listeners(&channel) == 1);
    }

    /// How many of its two workers have their link to Redis. `/health` says what it is for the worker that was asked.
    fn workers_up(&self) -> u64 {
        self.metric("ringroad_backplane_workers_up")
    }

    fn health(&self) -> Value {
        self.get("/health").json()["redis"].take()
    }

    pub fn is_up(&self) -> bool {
        self.workers_up() == 2 && self.health() == "up"
    }

    pub fn is_down(&self) -> bool {
        self.workers_up() == 0 && self.health() == "down"
    }

    pub fn until_up(&self) {
        until(&format!("{}: Redis is there", self.node), || self.is_up());
    }

    pub fn until_down(&self) {
        until(&format!("{}: Redis is away", self.node), || self.is_down());
    }

    /// Waits until it counts that many hosts, itself included.
    pub fn until_hosts(&self, count: u64) {
        until(&format!("{}: {count} hosts", self.node), || self.metric("v2v_ws_process_count") == count);
    }

    /// Ids that `/vehicles` lists, in order.
    pub fn listed(&self) -> Vec<String> {
        let listing = self.get("/vehicles").json();
        let ids = listing["vehicles"].as_array().expect("a list").iter().map(id);
        let mut ids: Vec<String> = ids.collect();
        ids.sort();
        ids
    }

    pub fn stop(self) -> String {
        self.gateway.stop()
    }

    pub fn crash(self) -> String {
        self.gateway.crash()
    }

    /// Open descriptors of the process.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs").count()
    }

    /// Resident memory of the process.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

fn id(vehicle: &Value) -> String {
    vehicle["vehicleId"].as_str().expect("an id").to_owned()
}
