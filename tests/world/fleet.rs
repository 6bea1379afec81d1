//! What scripts say about several hosts and the Redis between them.
//!
//! ```text
//! hosts 2                                    # A and B; their nodes have the same names
//! a@A registers; b@B1 registers              # on host A; on shard 1 of host B
//! A dies; A starts; A starts as C            # its process is gone; there again; as another node
//! A sleeps; A wakes                          # its process stands still
//! A stops                                    # in order, but it is not waited for
//! A drains over 2000ms                       # likewise, everybody at their own time
//! A is cut off; A is back                    # nothing gets to Redis or back
//! A is 5ms away                              # from Redis
//! A hears 50ms late on 1                     # shard 1 does, what Redis says
//! A is 2000ms ahead                          # its clock, of the others'
//! redis down; redis up                       # links break, and new ones are refused
//! redis freezes; redis thaws                 # it accepts and answers nothing
//! redis empties                              # it starts anew without a key
//! link split 13                              # bytes between hosts and Redis come in pieces
//! redis loses every 2 to B                   # messages, but not replies; 0: none
//! redis writes a {"driverName":"x"}          # into the presence hash; without JSON: takes away
//! server says {"origin":1,"obj":{…}}         # on v2v:broadcast, as an existing server
//! broadcast< A: alert a                      # everything on v2v:broadcast since it was last asked
//! presence< a on A, b on B                   # the presence hash, by vehicle; `?`: no node
//! messages< a to b: "hello"                  # the list of messages
//! leases< A, B                               # the nodes whose lease stands
//! A lists a, b                               # GET /vehicles, by vehicle; the same on each of its shards
//! all list a, b                              # likewise, on every host that lives
//! count NAME on A = 1
//! ```

use ringroad::sim::{Health, World};
use ringroad::turn::Ended;
use serde_json::Value;

use crate::script::{HOSTS, Play, compare, condense, host_of, ids, number};

/// Channel of what goes to everyone.
const BROADCAST: &str = "v2v:broadcast";

/// Whether a statement that begins so is one of these.
pub fn is_about(first: &str) -> bool {
    let others = ["link", "redis", "server", "broadcast<", "presence<", "messages<", "leases<", "all"];
    HOSTS.contains(&first) || others.contains(&first)
}

/// From now on `broadcast<` is told what is published, and nothing of before.
pub fn watch(world: &mut World) {
    // A watch begins with the first question.
    drop(world.redis().published(BROADCAST));
}

impl Play {
    /// Something about hosts or Redis.
    pub fn fleet(&mut self, first: &str, rest: &str) -> Result<(), String> {
        match first {
            "redis" => return self.redis(rest),
            "link" => {
                let bytes = number(rest.strip_prefix("split ").ok_or("link split BYTES")?)?;
                self.world().faults.link_split = bytes;
            }
            "server" => {
                let text = ids(rest.strip_prefix("says ").ok_or("server says JSON")?);
                self.world().redis().publish(BROADCAST, text.as_bytes());
                self.world().settle();
            }
            "broadcast<" => return compare(rest, &self.broadcast()),
            "presence<" => return compare(rest, &self.presence()),
            "messages<" => return compare(rest, &self.messages()),
            "leases<" => {
                let keys = self.world().redis().keys();
                let nodes: Vec<String> =
                    keys.iter().filter_map(|key| key.strip_prefix("v2v:node:")).map(str::to_owned).collect();
                return compare(rest, &nodes);
            }
            "all" => {
                let expected = rest.strip_prefix("list").ok_or("all list …")?;
                for host in 0..self.world().hosts() {
                    if self.world().is_alive(host) {
                        self.lists(host, expected)?;
                    }
                }
            }
            host => return self.host(host_of(host)?, rest),
        }
        Ok(())
    }

    fn host(&mut self, host: usize, deed: &str) -> Result<(), String> {
        match deed.split_whitespace().collect::<Vec<_>>()[..] {
            ["dies"] => self.world().kill(host),
            ["starts"] => self.world().start(host, HOSTS[host]),
            ["starts", "as", node] => self.world().start(host, node),
            ["stops"] => self.world().stop_host(host),
            ["drains", "over", time] => self.world().drain_host(host, ms(time)? as u64),
            ["sleeps"] => self.world().sleep(host, true),
            ["wakes"] => self.world().sleep(host, false),
            ["is", "cut", "off"] => self.world().cut(host, true),
            ["is", "back"] => self.world().cut(host, false),
            ["is", far, "away"] => self.world().set_latency(host, ms(far)? as u64),
            ["hears", late, "late", "on", shard] => self.world().set_lag(host, number(shard)?, ms(late)? as u64),
            ["is", far, "ahead"] => self.world().set_clock_ahead(host, ms(far)?),
            ["lists", ..] => return self.lists(host, deed.strip_prefix("lists").unwrap_or_default()),
            _ => return Err(format!("a host cannot {deed:?}")),
        }
        Ok(())
    }

    fn redis(&mut self, deed: &str) -> Result<(), String> {
        if let Some(entry) = deed.strip_prefix("writes ") {
            let (vehicle, json) = entry.split_once(' ').unwrap_or((entry, ""));
            let json = Some(json).filter(|json| !json.is_empty());
            self.world().redis().set_field("v2v:presence", &format!("veh-{vehicle}"), json);
            return Ok(());
        }
        match deed.split_whitespace().collect::<Vec<_>>()[..] {
            ["down"] => self.world().set_health(Health::Down),
            ["up" | "thaws"] => self.world().set_health(Health::Up),
            ["freezes"] => self.world().set_health(Health::Frozen),
            ["empties"] => self.world().empty_redis(),
            ["loses", "every", nth, "to", host] => self.world().redis().lose(host_of(host)?, number(nth)?),
            _ => return Err(format!("redis cannot {deed:?}")),
        }
        Ok(())
    }

    /// What was published to everyone since the last call.
    fn broadcast(&mut self) -> Vec<String> {
        let now = self.world().now().unix_ms;
        let published = self.world().redis().published(BROADCAST);
        let told = published.iter().map(|payload| {
            let Ok(envelope) = serde_json::from_slice::<Value>(payload) else { return "?".into() };
            let origin = envelope["origin"].as_str().map_or_else(|| envelope["origin"].to_string(), str::to_owned);
            format!("{origin}: {}", condense(&envelope["obj"], "", now))
        });
        told.collect()
    }

    fn presence(&mut self) -> Vec<String> {
        let entries = self.world().redis().hash("v2v:presence");
        let entry = |(vehicle, entry): (&String, &String)| {
            let entry: Value = serde_json::from_str(entry).unwrap_or_default();
            format!("{} on {}", vehicle.replace("veh-", ""), entry["node"].as_str().unwrap_or("?"))
        };
        entries.iter().map(entry).collect()
    }

    fn messages(&mut self) -> Vec<String> {
        let messages = self.world().redis().list("v2v:messages");
        let message = |text: &String| {
            let message: Value = serde_json::from_str(text).unwrap_or_default();
            let of = |field: &str| message[field].as_str().unwrap_or("?").replace("veh-", "");
            format!("{} to {}: {:?}", of("senderId"), of("recipientId"), of("content"))
        };
        messages.iter().map(message).collect()
    }

    fn lists(&mut self, host: usize, expected: &str) -> Result<(), String> {
        for shard in 0..self.shards() {
            compare(expected, &self.listed(host, shard)).map_err(|why| format!("{}{shard} {why}", HOSTS[host]))?;
        }
        Ok(())
    }

    /// Which vehicles a shard lists, in order.
    pub fn listed(&mut self, host: usize, shard: usize) -> Vec<String> {
        let client = self.world().open_at(host, shard);
        self.world().send_bytes(client, b"GET /vehicles HTTP/1.1\r\nHost: sim\r\n\r\n");
        let reply = self.world().reply(client);
        self.world().hang_up(client, Ended::Eof);
        let body = reply.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let listing: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {reply}"));
        let vehicles = listing["vehicles"].as_array().expect("a list");
        let mut names: Vec<String> =
            vehicles.iter().map(|v| v["vehicleId"].as_str().unwrap_or("?").replace("veh-", "")).collect();
        names.sort();
        names
    }
}

fn ms(text: &str) -> Result<i64, String> {
    text.strip_suffix("ms").and_then(|ms| ms.parse().ok()).ok_or_else(|| format!("{text:?} is no time in ms"))
}
