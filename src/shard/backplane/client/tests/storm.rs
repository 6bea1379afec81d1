//! Servers that do anything at any time, from a seed. Whatever they do, every command has one outcome, time goes on,
//! and nothing panics.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::shard::backplane::client::backoff::Jitter;

const CHANNELS: [&str; 5] = ["a", "b", "c", "{a}1", "{a}2"];

struct Storm {
    world: World,
    dice: Jitter,
    /// Links that are connected.
    up: HashSet<LinkId>,
    tokens: u32,
    waiting: HashSet<u32>,
    is_ready: bool,
}

impl Storm {
    fn one_in(&mut self, times: u64) -> bool {
        self.dice.below(times) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.dice.below(of.len() as u64) as usize].clone()
    }

    /// What a server may well answer.
    fn answer(&mut self, asked: &str) -> String {
        let words: Vec<&str> = asked.split(' ').collect();
        let port = 1 + self.dice.below(6);
        if self.one_in(12) {
            let errors =
                ["ERR no", "NOSCRIPT no", "READONLY no", "CLUSTERDOWN", "TRYAGAIN", "LOADING", "NOAUTH", "NOPERM"];
            return format!("-{}\r\n", self.pick(&errors));
        }
        match words[0] {
            "HELLO" => "%1\r\n+proto\r\n:3\r\n".into(),
            "PING" => "+PONG\r\n".into(),
            "ROLE" => format!("*1\r\n+{}\r\n", self.pick(&["master", "master", "slave"])),
            "CLIENT" => format!("+sub={} ssub={}\r\n", self.dice.below(6), self.dice.below(6)),
            "CLUSTER" => {
                let middle = self.dice.below(16_383);
                let range = |first, last, port| format!("*3\r\n:{first}\r\n:{last}\r\n*2\r\n+host\r\n:{port}\r\n");
                format!("*2\r\n{}{}", range(0, middle, port), range(middle + 1, 16_383, 1 + self.dice.below(6)))
            }
            "SENTINEL" => match words[1] {
                "MYID" => format!("+id{port}\r\n"),
                "SENTINELS" => format!("*1\r\n{}", bulk(&["ip", "host", "port", &port.to_string(), "runid", "x"])),
                _ => bulk(&["host", &port.to_string()]),
            },
            "SUBSCRIBE" | "SSUBSCRIBE" | "UNSUBSCRIBE" | "SUNSUBSCRIBE" if !self.one_in(10) => {
                let kind = words[0].to_lowercase();
                words[1..].iter().map(|channel| confirmation(&kind, channel)).collect()
            }
            _ if self.one_in(6) => {
                format!("-{} {} host:{port}\r\n", self.pick(&["MOVED", "ASK"]), self.dice.below(16_384))
            }
            _ => format!(":{}\r\n", self.dice.below(100)),
        }
    }

    /// One link does something.
    fn stir(&mut self, link: LinkId) {
        if !self.up.contains(&link) {
            if self.one_in(3) {
                self.world.down(link);
            } else if !self.one_in(4) {
                self.up.insert(link);
                self.world.up(link);
            }
            return;
        }
        if self.one_in(60) {
            self.world.down(link);
            return;
        }
        if self.one_in(80) {
            let bytes: Vec<u8> = (0..1 + self.dice.below(20)).map(|_| self.dice.below(256) as u8).collect();
            self.world.client.link_bytes(self.world.now, link, &bytes);
            return;
        }
        if self.one_in(8) {
            let channel = self.pick(&CHANNELS);
            let kind = self.pick(&["message", "smessage", "sunsubscribe", "subscribe", "else"]);
            let what = self.pick(&["x", "ring host 1 host 2", "ring host 2 host 3"]);
            self.world.answer(link, &push(&[kind, channel, what]));
        }
        let mut bytes = String::new();
        while let Some(asked) = self.world.peers.get_mut(&link).and_then(|peer| peer.asked.pop_front()) {
            bytes += &self.answer(&asked);
        }
        let bytes = bytes.into_bytes();
        let split = self.dice.below(bytes.len() as u64 + 1) as usize;
        for part in [&bytes[..split], &bytes[split..]] {
            if !part.is_empty() {
                self.world.client.link_bytes(self.world.now, link, part);
            }
        }
    }

    fn use_client(&mut self) {
        let channel = self.pick(&CHANNELS);
        let spread = self.pick(&[Spread::Everywhere, Spread::Sharded]);
        let (now, client) = (self.world.now, &mut self.world.client);
        match self.dice.below(5) {
            0 => client.subscribe(now, spread, channel.as_bytes()),
            1 => client.unsubscribe(now, spread, channel.as_bytes()),
            kind => {
                let token = self.tokens;
                self.tokens += 1;
                let sent = match kind {
                    2 => client.publish(now, spread, channel.as_bytes(), b"x", token),
                    3 => client.run(now, &Script("return 1"), channel.as_bytes(), &[b"y"], token),
                    _ => client.send(now, Some(channel.as_bytes()), &[b"GET", channel.as_bytes()], token),
                };
                if sent.is_ok() {
                    self.waiting.insert(token);
                }
            }
        }
    }

    fn hear(&mut self) {
        for news in self.world.news() {
            match news {
                News::Outcome { token, .. } => {
                    assert!(self.waiting.remove(&token), "an outcome for nothing or a second one")
                }
                News::Ready => {
                    assert!(!self.is_ready, "ready twice");
                    self.is_ready = true;
                }
                News::Lost { .. } => self.is_ready = false,
                News::Subscribed { .. } | News::Message { .. } => {}
            }
        }
        assert_eq!(self.is_ready, self.world.client.is_ready());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_command_has_one_outcome_whatever_servers_do(seed: u64, kind in 0..3) {
        let topology = match kind {
            0 => Topology::Single(tcp(1)),
            1 => Topology::Sentinel { sentinels: vec![tcp(11), tcp(12)], service: "ring".into() },
            _ => Topology::Cluster { seeds: vec![tcp(1), tcp(2)] },
        };
        let mut storm = Storm {
            world: World::new(servers(topology)),
            dice: Jitter::new(seed),
            up: HashSet::new(),
            tokens: 0,
            waiting: HashSet::new(),
            is_ready: false,
        };
        for _ in 0..300 {
            let ms = if storm.one_in(30) { 4_000 } else { storm.dice.below(100) };
            if storm.one_in(100) {
                storm.world.now.mono_ms += 10_000;
            }
            storm.world.pass(ms);
            for _ in 0..3 {
                storm.use_client();
            }
            storm.world.carry_out();
            for link in storm.world.peers.keys().copied().collect::<Vec<_>>() {
                if storm.world.peers.contains_key(&link) {
                    storm.stir(link);
                    storm.world.carry_out();
                }
            }
            storm.hear();
        }
        storm.world.client.close();
        storm.world.carry_out();
        for news in storm.world.news() {
            if let News::Outcome { token, .. } = news {
                prop_assert!(storm.waiting.remove(&token));
            }
        }
        prop_assert_eq!((storm.waiting.len(), storm.world.client.in_flight_bytes()), (0, 0));
        prop_assert!(storm.world.peers.is_empty());
    }
}
