//! The servers change places while vehicles drive.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::heavy;
use crate::host::Host;
use crate::road::Road;
use crate::sentinels::Sentinels;
use crate::until;

/// How long positions of the other host may stay away once the servers are well again.
const RESUMED: Duration = Duration::from_secs(2);

fn two_hosts(url: &str) -> ([Host; 2], Road) {
    let hosts = ["a", "b"].map(|node| Host::start(url, node, &["vehicles.flush_ms=0"]));
    let mut road = Road::default();
    for host in &hosts {
        road.join(host, 3);
    }
    road.meet();
    (hosts, road)
}

fn resumes(road: &mut Road, what: &str) {
    let took = road.meet();
    eprintln!("{what}: all see all after {took:?}");
    assert!(took < RESUMED, "{what}: {took:?}");
}

fn ends_well(road: &mut Road, hosts: &[Host; 2]) {
    road.settle_alerts(Duration::from_secs(1));
    road.hold_local_to(Duration::from_secs(3));
    road.hold_nobody_gone();
    for host in hosts {
        until("all six are listed", || host.listed().len() == 6);
    }
}

#[test]
fn the_hosts_follow_the_sentinels_to_a_new_master() {
    let _heavy = heavy();
    let mut sentinels = Sentinels::start();
    let (hosts, mut road) = two_hosts(&sentinels.url());
    let first = sentinels.master();
    road.raise("a");
    sentinels.server(first).crash();
    road.raise("b");
    let second = 1 - first;
    let led = road.drive_until("the replica leads", |_| sentinels.leads(second));
    road.raise("a");
    // They ask the Sentinels again at least every second.
    let took = road.drive_until("both are back", |_| hosts.iter().all(Host::is_up));
    eprintln!("promoted after {led:?}, joined {took:?} later");
    road.raise("b");
    resumes(&mut road, "promotion");
    // The former master comes back and believes for some seconds that it still is one.
    sentinels.server(first).run();
    road.drive_for(Duration::from_secs(2));
    road.raise("a");
    road.raise("b");
    let listeners = |at: usize| {
        let reply = sentinels.plain(at).ask(&["PUBSUB", "NUMSUB", "v2v:broadcast"]);
        reply.list()[1].number()
    };
    assert_eq!((listeners(first), listeners(second)), (0, 2));
    ends_well(&mut road, &hosts);
    until("all are in the hash", || sentinels.plain(second).hash("v2v:presence").len() == 6);
}

#[test]
fn the_hosts_follow_a_cluster_through_moves_and_a_lost_master() {
    let _heavy = heavy();
    let mut cluster = Cluster::start();
    let (hosts, mut road) = two_hosts(&cluster.url());
    let cells = cluster.cells();
    eprintln!("{cells:?}");
    let cell = cells.first().expect("the square that they drive in").clone();
    for key in [cell.as_str(), "v2v:presence", "v2v:messages"] {
        let slot = cluster.slot(key);
        let from = cluster.owner(slot, 0);
        road.raise("a");
        cluster.migrate(slot, (from + 1) % 3);
        road.raise("b");
        resumes(&mut road, key);
    }
    let moved = hosts.each_ref().map(|host| host.metric("ringroad_backplane_redirects_total"));
    eprintln!("redirects: {moved:?}");

    // The master that has the square dies.
    let slot = cluster.slot(&cell);
    let lost = cluster.owner(slot, 0);
    road.raise("a");
    cluster.nodes[lost].crash();
    road.raise("b");
    let asked = (lost + 1) % 3;
    let took = road.drive_until("its replica has the slot", |_| {
        let well = [asked, lost + 3].into_iter().all(|node| cluster.is_well(node));
        well && cluster.find_owner(slot, asked) == Some(lost + 3)
    });
    eprintln!("the cluster was well again after {took:?}");
    road.raise("a");
    resumes(&mut road, "failover");
    road.drive_until("both are up", |_| hosts.iter().all(Host::is_up));

    // It comes back as a replica of its replica.
    cluster.nodes[lost].run();
    road.drive_until("all are well", |_| (0..6).all(|node| cluster.is_well(node)));
    road.raise("b");
    resumes(&mut road, "return");
    ends_well(&mut road, &hosts);
    let owner = cluster.owner(cluster.slot("v2v:presence"), asked);
    until("all are in the hash", || cluster.nodes[owner].plain().hash("v2v:presence").len() == 6);
}
