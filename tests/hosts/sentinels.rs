//! A master, a replica, and three Sentinels that watch them.

use crate::plain::Plain;
use crate::redis::{LOOPBACK, Redis};
use crate::until;

const SERVICE: &str = "fleet";

pub struct Sentinels {
    servers: [Redis; 2],
    sentinels: Vec<Redis>,
}

impl Sentinels {
    pub fn start() -> Sentinels {
        Sentinels::with(&[], &[])
    }

    /// The same with more lines of configuration, for the servers and for the Sentinels.
    pub fn with(servers: &[&str], sentinels: &[&str]) -> Sentinels {
        let server = |line: &str| Redis::with(&[servers, &["repl-diskless-sync-delay 0", line]].concat());
        let master = server("");
        let replica = server(&format!("replicaof {} {}", master.addr.ip(), master.addr.port()));
        let watch = [
            format!("sentinel monitor {SERVICE} {} {} 2", master.addr.ip(), master.addr.port()),
            // Less than about a second, and they take a master for dead whose links they only make anew.
            format!("sentinel down-after-milliseconds {SERVICE} 1500"),
            format!("sentinel failover-timeout {SERVICE} 1000"),
        ];
        let lines: Vec<&str> = watch.iter().map(String::as_str).chain(sentinels.iter().copied()).collect();
        let mut sentinels: Vec<Redis> = (0..3).map(|_| Redis::configured(LOOPBACK, &["--sentinel"], &lines)).collect();
        sentinels.iter_mut().for_each(Redis::run);
        let sentinels = Sentinels { servers: [master, replica], sentinels };
        until("the Sentinels know each other and the replica", || {
            sentinels.sentinels.iter().all(|sentinel| {
                let facts = sentinel.plain().ask(&["SENTINEL", "MASTER", SERVICE]);
                let facts: Vec<String> = facts.list().iter().map(|fact| fact.text()).collect();
                let fact = |name: &str| facts.chunks(2).find(|pair| pair[0] == name).map(|pair| pair[1].as_str());
                fact("num-other-sentinels") == Some("2") && fact("num-slaves") == Some("1")
            })
        });
        until("the replica follows", || sentinels.servers[1].plain().ask(&["ROLE"]).list()[3].text() == "connected");
        sentinels
    }

    pub fn url(&self) -> String {
        let addrs: Vec<String> = self.sentinels.iter().map(|sentinel| sentinel.addr.to_string()).collect();
        format!("redis+sentinel://{}/{SERVICE}", addrs.join(","))
    }

    /// Position of the server that each Sentinel calls master.
    pub fn masters(&self) -> Vec<usize> {
        let named = |sentinel: &Redis| {
            let reply = sentinel.plain().ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]);
            let port = reply.list()[1].number();
            self.servers.iter().position(|server| i64::from(server.addr.port()) == port).expect("one of ours")
        };
        self.sentinels.iter().map(named).collect()
    }

    /// Position of the server that all Sentinels call master, once they agree.
    pub fn master(&self) -> usize {
        let mut named = self.masters();
        until("the Sentinels agree", || {
            named = self.masters();
            named.iter().all(|at| *at == named[0])
        });
        named[0]
    }

    pub fn all(&self) -> impl Iterator<Item = &Redis> {
        self.servers.iter().chain(&self.sentinels)
    }

    pub fn plain(&self, at: usize) -> Plain {
        self.servers[at].plain()
    }

    pub fn server(&mut self, at: usize) -> &mut Redis {
        &mut self.servers[at]
    }

    /// Whether the server there has taken over. A promotion ends the connections of its clients.
    pub fn leads(&self, at: usize) -> bool {
        let role = self.servers[at].plain().try_ask(&["ROLE"]);
        self.masters().contains(&at) && role.is_ok_and(|role| role.list()[0].text() == "master")
    }
}
