//! A rolling restart of a host among hosts: a new process beside the old one, under traffic, and every alert accounted for.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::json;

use crate::client::Client;
use crate::gateway::Gateway;
use crate::redis::Redis;
use crate::{PATIENCE, heavy};

const VEHICLES: usize = 30;

/// A fleet whose vehicles come back when they are sent away, and who has heard which alert.
struct Fleet {
    vehicles: Vec<Client>,
    /// Registered on its present connection.
    is_there: Vec<bool>,
    moves: Vec<usize>,
    heard: Vec<BTreeSet<String>>,
    /// On its present connection alone.
    heard_here: Vec<BTreeSet<String>>,
}

impl Fleet {
    fn register(addr: std::net::SocketAddr) -> Fleet {
        let vehicles: Vec<Client> =
            (0..VEHICLES).map(|n| Client::connect(addr).register(&format!("car-{n}"))).collect();
        let (is_there, moves) = (vec![true; VEHICLES], vec![0; VEHICLES]);
        let nothing = vec![BTreeSet::new(); VEHICLES];
        Fleet { vehicles, is_there, moves, heard: nothing.clone(), heard_here: nothing }
    }

    /// Takes in what has come, and has whoever was closed come back.
    fn go_on(&mut self) {
        for n in 0..VEHICLES {
            let vehicle = &mut self.vehicles[n];
            let is_closed = vehicle.is_closed();
            for event in vehicle.backlog.drain(..) {
                match event.name.as_str() {
                    "emergency_alert" => {
                        let id = event.data["id"].as_str().expect("an id").to_owned();
                        // Who moves while it travels may hear it on both connections.
                        assert!(self.heard_here[n].insert(id.clone()), "{} heard an alert twice", vehicle.id);
                        self.heard[n].insert(id);
                    }
                    "registered" => self.is_there[n] = true,
                    "error" => panic!("{}: {}", vehicle.id, event.data),
                    _ => {}
                }
            }
            if is_closed {
                assert_eq!(vehicle.closed(), (1012, "shutdown".to_owned()), "{}", vehicle.id);
                let (id, addr) = (vehicle.id.clone(), vehicle.socket.get_ref().peer_addr());
                let addr = addr.unwrap_or_else(|_| panic!("{id} was cut off"));
                *vehicle = Client::connect(addr);
                vehicle.ask_to_register(&id);
                self.is_there[n] = false;
                self.moves[n] += 1;
                self.heard_here[n].clear();
            }
        }
    }

    /// One raises an alert. Whoever was registered when it was raised hears it, unless it was closed before that came.
    /// How many of these there were.
    fn alert(&mut self, sender: usize) -> usize {
        let (there, moves) = (self.is_there.clone(), self.moves.clone());
        let known: BTreeSet<String> = self.heard[sender].clone();
        let id = self.vehicles[sender].id.clone();
        self.vehicles[sender].send("emergency_alert", json!({ "senderId": id }));
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.go_on();
            if self.moves[sender] > moves[sender] {
                // It was closed: nobody knows whether the alert was accepted before that.
                return 0;
            }
            let accepted: Vec<&String> = self.heard[sender].difference(&known).collect();
            if let [alert] = accepted[..] {
                let has_moved = |n: usize| self.moves[n] > moves[n];
                let waits = |n: usize| there[n] && !has_moved(n) && !self.heard[n].contains(alert);
                if !(0..VEHICLES).any(waits) {
                    return (0..VEHICLES).filter(|n| there[*n] && !self.heard[*n].contains(alert)).count();
                }
            }
            assert!(Instant::now() < deadline, "an accepted alert does not reach everybody");
        }
    }
}

#[test]
fn an_upgrade_under_traffic_loses_no_alert_and_refuses_nobody() {
    let _alone = heavy();
    let redis = Redis::start();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let pid_file = directory.path().join("pid").display().to_string();
    let url = format!("redis.url={}", redis.url());
    let start = |addr: &str| {
        let gateway = Gateway::start_with(
            &["--listen", addr, "--replace", &pid_file],
            &["server.drain_ms=2000", &url, "redis.shared_limits=[]"],
            &[],
        );
        crate::until("it is joined", || gateway.metric("ringroad_backplane_workers_up") == 2);
        gateway
    };
    let mut serving = start("127.0.0.1:0");
    let addr = serving.addr;
    let mut fleet = Fleet::register(addr);
    let (mut raised, mut missed) = (0, 0);
    for _ in 0..2 {
        fleet.moves.fill(0);
        let mut before = std::mem::replace(&mut serving, start(&addr.to_string()));
        let mut sender = 0;
        while !before.has_ended() || fleet.moves.contains(&0) || fleet.is_there.contains(&false) {
            sender = (sender + 7) % VEHICLES;
            if fleet.is_there[sender] {
                missed += fleet.alert(sender);
                raised += 1;
            }
            fleet.go_on();
        }
        assert_eq!(before.wait().code(), Some(0));
    }
    // After the move all is as before it.
    for sender in 0..VEHICLES {
        assert_eq!(fleet.alert(sender), 0);
    }
    assert!(raised > VEHICLES, "{raised}");
    // Who is closed while an alert is on its way misses it: at most one for each move.
    assert!(missed <= 2 * 2 * VEHICLES, "{missed} of {raised}");
    assert_eq!(serving.metric("ringroad_backplane_alerts_lost_total"), 0);
    crate::until("all are back", || serving.vehicles() == VEHICLES as u64);
    drop(fleet);
}
