//! What a user of the servers has to be allowed: `docs/OPERATIONS.md` quotes these rules.

use std::collections::BTreeSet;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::heavy;
use crate::host::Host;
use crate::join::all_works;
use crate::plain::Plain;
use crate::redis::Redis;
use crate::sentinels::Sentinels;
use crate::until;

/// On a server.
const SERVER: &str = "resetchannels &v2v:* ~v2v:* -@all +hello +select +ping +client|info +subscribe +unsubscribe \
                      +publish +eval +evalsha +hget +hset +hdel +hscan +set +exists +del +rpush +ltrim +time +pexpire";

/// Besides, on a server whose master the Sentinels know.
const WITH_SENTINELS: &str = "+role";

/// Besides, on a node of a Cluster.
const IN_CLUSTER: &str = "+cluster|slots +asking +spublish +ssubscribe +sunsubscribe";

/// On a Sentinel.
const SENTINEL: &str = "resetchannels &+switch-master -@all +hello +ping +client|info +subscribe +unsubscribe \
                        +sentinel|get-master-addr-by-name +sentinel|sentinels +sentinel|myid";

fn user(rules: &[&str]) -> String {
    format!("user ringroad on >opensesame {}", rules.join(" "))
}

/// Nothing was refused.
fn held(plain: &mut Plain) {
    let log = plain.ask(&["ACL", "LOG"]);
    // Lines of names and values; the fourth value is what was refused.
    let refused: Vec<String> = log.list().iter().map(|line| line.list()[7].text()).collect();
    assert!(refused.is_empty(), "missing in the rule: {refused:?}");
}

#[test]
fn a_server() {
    let redis = Redis::with(&[&user(&[SERVER])]);
    let url = format!("redis://ringroad:opensesame@{}/2", redis.addr);
    all_works(&url, &["rate_limits.emergency_alert.burst=10"]);
    let mut plain = redis.plain();
    held(&mut plain);

    // And none of them is there for nothing.
    let [a, b] = ["a", "b"].map(|node| Host::start(&url, node, &[]));
    let mut car = Client::connect(a.addr).register("car-a");
    car.locate(52.0, 13.2);
    until("it listens to the square", || redis.listeners("v2v:cell:u31r") == 1);
    car.locate(10.0, 10.0);
    b.stop();
    let rights: BTreeSet<&str> = SERVER.split(' ').filter_map(|word| word.strip_prefix('+')).collect();
    let mut unused = rights.clone();
    until("every right is used", || {
        let stats = plain.ask(&["INFO", "COMMANDSTATS"]).text();
        let used = |right: &&str| stats.contains(&format!("cmdstat_{right}:"));
        unused = rights.iter().copied().filter(|right| !used(right)).collect();
        unused.is_empty()
    });
    held(&mut plain);
}

#[test]
fn servers_and_sentinels() {
    let _heavy = heavy();
    let sentinels = Sentinels::with(&[&user(&[SERVER, WITH_SENTINELS])], &[&user(&[SENTINEL])]);
    all_works(&sentinels.url().replace("://", "://ringroad:opensesame@"), &[]);
    sentinels.all().for_each(|server| held(&mut server.plain()));
}

#[test]
fn a_cluster() {
    let _heavy = heavy();
    let cluster = Cluster::with(&[&user(&[SERVER, IN_CLUSTER])]);
    all_works(&cluster.url().replace("://", "://ringroad:opensesame@"), &[]);
    cluster.nodes.iter().for_each(|node| held(&mut node.plain()));
}
