//! A Redis Cluster: three masters and a replica of each.

use crate::plain::Reply;
use crate::redis::{LOOPBACK, Port, Redis};
use crate::until;

const MASTERS: usize = 3;
const SLOTS: usize = 16_384;

pub struct Cluster {
    /// The masters as it began, then their replicas in the same order.
    pub nodes: Vec<Redis>,
    _buses: Vec<Port>,
}

impl Cluster {
    pub fn start() -> Cluster {
        Cluster::with(&[])
    }

    /// The same with more lines of configuration.
    pub fn with(more: &[&str]) -> Cluster {
        let buses: Vec<Port> = (0..2 * MASTERS).map(|_| Port::reserve(LOOPBACK)).collect();
        let nodes = buses.iter().map(|bus| {
            let port = format!("cluster-port {}", bus.number);
            let lines = [
                "cluster-enabled yes",
                "cluster-node-timeout 1500",
                "cluster-replica-validity-factor 0",
                "repl-diskless-sync-delay 0",
                &port,
            ];
            Redis::with(&[&lines, more].concat())
        });
        let cluster = Cluster { nodes: nodes.collect(), _buses: buses };
        for (n, node) in cluster.nodes.iter().enumerate() {
            let mut plain = node.plain();
            plain.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]);
            if n < MASTERS {
                let [first, last] = [n * SLOTS / MASTERS, (n + 1) * SLOTS / MASTERS - 1].map(|slot| slot.to_string());
                plain.ask(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
            }
            let first = &cluster.nodes[0];
            let (ip, port) = (first.addr.ip().to_string(), first.addr.port().to_string());
            plain.ask(&["CLUSTER", "MEET", &ip, &port, &cluster._buses[0].number.to_string()]);
        }
        until("the nodes know each other", || (0..6).all(|n| cluster.is_well(n)));
        for n in 0..MASTERS {
            let master = cluster.id(n);
            cluster.nodes[n + MASTERS].plain().ask(&["CLUSTER", "REPLICATE", &master]);
        }
        until("the replicas follow", || {
            let role = |n: usize| cluster.nodes[n].plain().ask(&["ROLE"]);
            (MASTERS..6).all(|n| role(n).list().get(3).is_some_and(|state| state.text() == "connected"))
        });
        // A replica is only one for the others once they heard of it.
        until("everyone knows the replicas", || {
            let replicas = |node: &Redis| node.plain().ask(&["CLUSTER", "NODES"]).text().matches("slave").count();
            cluster.nodes.iter().all(|node| replicas(node) == MASTERS)
        });
        cluster
    }

    pub fn url(&self) -> String {
        let addrs: Vec<String> = self.nodes.iter().map(|node| node.addr.to_string()).collect();
        format!("redis+cluster://{}", addrs.join(","))
    }

    fn id(&self, node: usize) -> String {
        self.nodes[node].plain().ask(&["CLUSTER", "MYID"]).text()
    }

    /// Whether this node sees all slots served and all six nodes.
    pub fn is_well(&self, node: usize) -> bool {
        let info = self.nodes[node].plain().ask(&["CLUSTER", "INFO"]).text();
        info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:6")
    }

    pub fn slot(&self, key: &str) -> u16 {
        self.nodes[0].plain().ask(&["CLUSTER", "KEYSLOT", key]).number() as u16
    }

    /// Which node serves a slot, as one of them sees it.
    pub fn owner(&self, slot: u16, asked: usize) -> usize {
        self.find_owner(slot, asked).expect("all slots are served")
    }

    /// The same while the cluster is not well.
    pub fn find_owner(&self, slot: u16, asked: usize) -> Option<usize> {
        let ranges = self.nodes[asked].plain().ask(&["CLUSTER", "SLOTS"]);
        let slot = i64::from(slot);
        let has = |range: &&Reply| (range.list()[0].number()..=range.list()[1].number()).contains(&slot);
        let port = ranges.list().iter().find(has)?.list()[2].list()[1].number();
        self.nodes.iter().position(|node| i64::from(node.addr.port()) == port)
    }

    /// The squares that anybody listens to.
    pub fn cells(&self) -> Vec<String> {
        let of = |node: &Redis| node.plain().ask(&["PUBSUB", "SHARDCHANNELS", "v2v:cell:*"]);
        self.nodes.iter().flat_map(|node| of(node).list().iter().map(|cell| cell.text()).collect::<Vec<_>>()).collect()
    }

    /// Moves a slot with its keys, as an operator's tools do.
    pub fn migrate(&self, slot: u16, to: usize) {
        let from = self.owner(slot, to);
        assert_ne!(from, to);
        let (source, target) = (self.id(from), self.id(to));
        let number = slot.to_string();
        let [mut at_source, mut at_target] = [from, to].map(|node| self.nodes[node].plain());
        at_target.ask(&["CLUSTER", "SETSLOT", &number, "IMPORTING", &source]);
        at_source.ask(&["CLUSTER", "SETSLOT", &number, "MIGRATING", &target]);
        let (ip, port) = (self.nodes[to].addr.ip().to_string(), self.nodes[to].addr.port().to_string());
        loop {
            let keys = at_source.ask(&["CLUSTER", "GETKEYSINSLOT", &number, "100"]);
            let keys: Vec<String> = keys.list().iter().map(|key| key.text()).collect();
            if keys.is_empty() {
                break;
            }
            let head = ["MIGRATE", &ip, &port, "", "0", "5000", "KEYS"].map(str::to_owned);
            at_source.ask(&head.into_iter().chain(keys).collect::<Vec<_>>());
        }
        at_target.ask(&["CLUSTER", "SETSLOT", &number, "NODE", &target]);
        at_source.ask(&["CLUSTER", "SETSLOT", &number, "NODE", &target]);
        // Who dies before its replica has heard of all this takes the slot and its keys with it.
        assert_eq!(at_target.ask(&["WAIT", "1", "5000"]).number(), 1);
        until("all know who has the slot", || (0..6).all(|node| self.find_owner(slot, node) == Some(to)));
    }
}
