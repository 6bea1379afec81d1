//! Tenants across hosts: what a host needs of them, and who looks after what a dead one has left. That nothing crosses is
//! the oracle's (`hosts_oracle`).

use ringroad::config::Config;
use ringroad::sim::{ClientId, HANDSHAKE, World};
use serde_json::json;

use crate::script::HOSTS;
use crate::tokens::{SECRET, Signer, sign};

/// Hosts of one shard, each with these tenants; those without any want no tokens.
fn world(tenants: &[Vec<String>]) -> World {
    let config = |tenants: &Vec<String>| -> Config {
        let auth = format!("auth = {{ required = true, secret = '{SECRET}', tenants = {tenants:?} }}");
        let auth = if tenants.is_empty() { "" } else { &auth };
        toml::from_str(&format!("redis.url = 'redis://sim'\n{auth}")).expect("known keys")
    };
    let mut world = World::of_hosts(&HOSTS[..tenants.len()], 1, tenants.iter().map(config).collect());
    world.settle();
    world
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// A vehicle of a tenant at a place.
fn drive(world: &mut World, host: usize, tenant: &str, id: &str, (lat, lon): (f64, f64)) -> ClientId {
    let token = sign(Signer::Secret, &json!({"tenant": tenant, "roles": ["vehicle"]}));
    let client = world.shake_hands(host, 0, &HANDSHAKE.replacen("/v2v", &format!("/v2v?token={token}"), 1));
    world.send(client, &json!({"event": "register", "data": {"vehicleId": id, "driverName": "D"}}).to_string());
    let place = json!({"vehicleId": id, "lat": lat, "lon": lon});
    world.send(client, &json!({"event": "location_update", "data": place}).to_string());
    client
}

#[test]
fn a_tenant_without_connections_needs_two_channels_and_no_square() {
    let tenants: Vec<String> = (0..100).map(|n| format!("tenant-{n}")).collect();
    let reversed: Vec<String> = tenants.iter().rev().cloned().collect();
    let mut world = world(&[tenants, reversed, names(&["tenant-7"]), names(&[])]);
    world.advance(5_000);
    for (host, expected) in [(0, 202), (1, 202), (2, 4), (3, 3)] {
        assert_eq!(world.redis().listened_by(host).len(), expected, "host {}", HOSTS[host]);
    }
    // One vehicle in the middle of a square: there its tenant's positions are wanted, on this host.
    let client = drive(&mut world, 0, "tenant-7", "bus-7", (48.05, 11.1));
    world.advance(100);
    let squares = |world: &mut World, host| -> Vec<String> {
        let channels = world.redis().listened_by(host);
        channels.into_iter().filter(|channel| channel.contains(":cell:")).collect()
    };
    assert_eq!(squares(&mut world, 0), ["v2v:tenant:tenant-7:cell:u0xc"]);
    for (host, name) in HOSTS.iter().enumerate().skip(1) {
        assert_eq!(squares(&mut world, host), [""; 0], "host {name}");
    }
    world.hang_up(client, ringroad::turn::Ended::Eof);
    world.advance(20_000);
    assert_eq!(world.redis().listened_by(0).len(), 202, "nobody is there any more");
}

#[test]
fn a_dead_hosts_tenants_are_swept_by_those_that_have_them() {
    let mut world = world(&[names(&["north", "south", "west"]), names(&["north"]), names(&["south"]), names(&[])]);
    for tenant in ["north", "south", "west"] {
        drive(&mut world, 0, tenant, "bus-7", (48.05, 11.1));
    }
    world.advance(1_000);
    let left = |world: &mut World| -> Vec<&str> {
        let is_there = |tenant: &&str| !world.redis().hash(&format!("v2v:tenant:{tenant}:presence")).is_empty();
        ["north", "south", "west"].into_iter().filter(is_there).collect()
    };
    assert_eq!(left(&mut world), ["north", "south", "west"]);
    world.kill(0);
    world.advance(15_000);
    assert_eq!(left(&mut world), ["west"], "nobody has it");
    for (host, name) in HOSTS.iter().enumerate().skip(1) {
        assert_eq!(world.counters_at(host, 0).backplane.processes, 3, "{name} has forgotten the dead one");
    }
    // Until somebody comes who does.
    world.start(0, "A2");
    world.advance(15_000);
    assert_eq!(left(&mut world), [""; 0]);
    assert_eq!(world.counters_at(0, 0).backplane.swept, 1);
}
