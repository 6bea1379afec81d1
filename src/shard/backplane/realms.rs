//! What a worker keeps for each world of which the other hosts know: the one that there is without tenants, or one for
//! each tenant.
//!
//! Hosts may name their tenants in another order, and not all of them: between hosts a world is called by its tenant's
//! name. The links are the same for all worlds, and so are the nodes and their leases.

use rustc_hash::FxHashMap;

use crate::config::Config;
use crate::geo::Square;
use crate::wire::state;

use super::alerts::{Alert, AlertLog};
use super::follows::Follows;
use super::interest::Interest;
use super::positions::Positions;
use super::squares::Walk;
use super::streams::Streams;
use crate::shard::world::WorldId;

/// Names of the channels and keys of one world, with the prefix.
pub struct Names {
    pub broadcast: Box<str>,
    pub gateways: Box<str>,
    pub presence: Box<str>,
    pub messages: Box<str>,
    pub sweep: Box<str>,
    /// What the name of a square comes after.
    pub cells: Box<str>,
    /// What a vehicle and the name of its bucket come after.
    pub buckets: Box<str>,
}

impl Names {
    fn new(prefix: &str, tenant: Option<&str>) -> Names {
        let begin = tenant.map_or_else(|| format!("{prefix}v2v:"), |tenant| format!("{prefix}{TENANT}{tenant}:"));
        let name = |rest: &str| format!("{begin}{rest}").into_boxed_str();
        Names {
            broadcast: name("broadcast"),
            gateways: name("gateways"),
            presence: name("presence"),
            messages: name("messages"),
            sweep: name("maintenance:last_sweep"),
            cells: name("cell:"),
            buckets: name("rl:"),
        }
    }
}

/// What a tenant's name comes after, in the names of its world.
const TENANT: &str = "v2v:tenant:";

/// One world among the hosts.
pub struct Realm {
    pub world: WorldId,
    /// `None`: there are no tenants.
    pub tenant: Option<Box<str>>,
    pub names: Names,
    pub alerts: AlertLog,
    /// Not before this time (`mono_ms`) are alerts published: one could not be.
    pub alerts_at_ms: u64,
    pub interest: Interest,
    pub follows: Follows,
    pub positions: Positions,
    pub streams: Streams,
    pub walk: Walk,
    /// Up to which vehicle the entries have been written again since the client became ready.
    pub rewriting: Option<u32>,
}

impl Realm {
    /// The channel of a square.
    pub fn channel_of(&self, square: Square) -> Vec<u8> {
        [self.names.cells.as_bytes(), &square.name()].concat()
    }

    /// When (`mono_ms`) a turn is due because of what the worker has to find out in this world.
    pub fn next_deadline(&self) -> Option<u64> {
        self.walk.next_deadline().into_iter().chain(self.interest.next_deadline()).min()
    }
}

/// What a channel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// What concerns this node, in whichever world.
    ToMe,
    /// What concerns all nodes; without tenants, the world that there is too.
    Hosts,
    /// A world.
    World(WorldId),
    /// A square of a world.
    Square(WorldId, Square),
}

/// All of them, and the names that belong to none.
pub struct Realms {
    prefix: Box<str>,
    /// `v2v:gateways`, where nodes beat.
    pub hosts: Box<str>,
    pub to_me: Box<str>,
    pub lease: Box<str>,
    all: Vec<Realm>,
    by_tenant: FxHashMap<Box<str>, WorldId>,
}

impl Realms {
    /// Those of worker `shard` out of `workers` of a node.
    pub fn new(config: &Config, node: &str, shard: u16, workers: u16) -> Realms {
        let prefix: &str = &config.redis.channel_prefix;
        let realm = |world: WorldId, tenant: Option<&str>| Realm {
            world,
            tenant: tenant.map(Into::into),
            names: Names::new(prefix, tenant),
            alerts: AlertLog::new(config.redis.retry_events_max as usize),
            alerts_at_ms: 0,
            // All tenants drive in the same city: their squares are spread over the workers each in its own way.
            interest: Interest::new(shard, workers).spread_by(tenant.map_or(0, state::key)),
            follows: Follows::default(),
            positions: Positions::default(),
            streams: Streams::default(),
            walk: Walk::default(),
            rewriting: None,
        };
        let tenants = config.auth.tenants.iter().enumerate();
        let mut all: Vec<Realm> = tenants.map(|(at, name)| realm(WorldId::of_tenant(at), Some(name))).collect();
        let by_tenant = all.iter().filter_map(|realm| Some((realm.tenant.clone()?, realm.world))).collect();
        if all.is_empty() {
            all.push(realm(WorldId::default(), None));
        }
        Realms {
            prefix: prefix.into(),
            hosts: format!("{prefix}v2v:gateways").into(),
            to_me: format!("{prefix}v2v:to:{node}").into(),
            lease: format!("{prefix}v2v:node:{node}").into(),
            all,
            by_tenant,
        }
    }

    /// The channel of another node.
    pub fn to_node(&self, node: &str) -> String {
        format!("{}v2v:to:{node}", self.prefix)
    }

    /// The lease of another node.
    pub fn lease_of(&self, node: &str) -> String {
        format!("{}v2v:node:{node}", self.prefix)
    }

    /// The world of a tenant, or the one that there is without tenants; `None`: none of this host's.
    pub fn named(&self, tenant: Option<&str>) -> Option<WorldId> {
        match tenant {
            Some(tenant) => self.by_tenant.get(tenant).copied(),
            None => self.get(WorldId::default()).map(|realm| realm.world),
        }
    }

    /// The realm of a world. The lobby has none, and where there are tenants the default world has none.
    pub fn get(&self, world: WorldId) -> Option<&Realm> {
        self.all.get(self.at(world)?)
    }

    /// Likewise, to be changed.
    pub fn get_mut(&mut self, world: WorldId) -> Option<&mut Realm> {
        let at = self.at(world)?;
        self.all.get_mut(at)
    }

    /// Worlds are numbered in the order of their realms.
    fn at(&self, world: WorldId) -> Option<usize> {
        usize::from(world.0).checked_sub(usize::from(self.all.first()?.world.0))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Realm> {
        self.all.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Realm> {
        self.all.iter_mut()
    }

    /// The oldest alert that waits to be published, in the first world that has one. It is under way from now on.
    pub fn next_unpublished(&mut self, now_ms: u64) -> Option<(WorldId, Alert)> {
        let mut due = self.all.iter_mut().filter(|realm| now_ms >= realm.alerts_at_ms);
        due.find_map(|realm| Some((realm.world, realm.alerts.next_unpublished()?)))
    }

    /// The first world whose entries are being written again, and from which vehicle on.
    pub fn next_rewriting(&mut self) -> Option<(u32, &mut Realm)> {
        self.all.iter_mut().find_map(|realm| Some((realm.rewriting?, realm)))
    }

    /// The worlds, so that each of them can be gone through while everything else changes.
    pub fn worlds(&self) -> impl Iterator<Item = WorldId> + use<> {
        let first = self.all.first().map_or(0, |realm| realm.world.0);
        (first..first + self.all.len() as u16).map(WorldId)
    }

    /// Which of the channels that workers listen to this one is.
    pub fn channel(&self, channel: &[u8]) -> Option<Channel> {
        let rest = std::str::from_utf8(channel).ok()?.strip_prefix(&*self.prefix)?;
        let (world, rest) = match rest.strip_prefix(TENANT) {
            Some(rest) => {
                let (tenant, rest) = rest.split_once(':')?;
                (self.named(Some(tenant))?, rest)
            }
            None if channel == self.to_me.as_bytes() => return Some(Channel::ToMe),
            None if channel == self.hosts.as_bytes() => return Some(Channel::Hosts),
            None => (self.named(None)?, rest.strip_prefix("v2v:")?),
        };
        match rest {
            "broadcast" | "gateways" => Some(Channel::World(world)),
            _ => Square::parse(rest.strip_prefix("cell:")?.as_bytes()).map(|square| Channel::Square(world, square)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn realms(tenants: &[&str]) -> Realms {
        let mut config = Config::default();
        config.redis.channel_prefix = "p:".to_owned();
        config.auth.required = true;
        config.auth.tenants = tenants.iter().map(|&name| name.to_owned()).collect();
        Realms::new(&config, "a", 0, 2)
    }

    /// Names as they travel; the world of which they are; squares by `u33d`.
    #[test]
    fn names_say_what_they_are_for() {
        let square = Square::parse(b"u33d").unwrap();
        let (without, with) = (realms(&[]), realms(&["north", "v2v"]));
        let north = WorldId::of_tenant(0);
        for (realms, channel, expected) in [
            (&without, "p:v2v:broadcast", Some(Channel::World(WorldId(0)))),
            (&without, "p:v2v:cell:u33d", Some(Channel::Square(WorldId(0), square))),
            (&without, "p:v2v:gateways", Some(Channel::Hosts)),
            (&without, "p:v2v:to:a", Some(Channel::ToMe)),
            (&without, "p:v2v:to:b", None),
            (&without, "v2v:broadcast", None),
            (&without, "p:v2v:tenant:north:broadcast", None),
            (&with, "p:v2v:gateways", Some(Channel::Hosts)),
            (&with, "p:v2v:to:a", Some(Channel::ToMe)),
            (&with, "p:v2v:broadcast", None),
            (&with, "p:v2v:cell:u33d", None),
            (&with, "p:v2v:tenant:north:broadcast", Some(Channel::World(north))),
            (&with, "p:v2v:tenant:north:gateways", Some(Channel::World(north))),
            (&with, "p:v2v:tenant:v2v:broadcast", Some(Channel::World(WorldId::of_tenant(1)))),
            (&with, "p:v2v:tenant:north:cell:u33d", Some(Channel::Square(north, square))),
            (&with, "p:v2v:tenant:north:cell:U33D", None),
            (&with, "p:v2v:tenant:north:presence", None),
            (&with, "p:v2v:tenant:south:broadcast", None),
            (&with, "p:v2v:tenant:north", None),
        ] {
            assert_eq!(realms.channel(channel.as_bytes()), expected, "{channel}");
        }
        for realms in [&without, &with] {
            for realm in realms.iter() {
                assert_eq!(realms.channel(&realm.channel_of(square)), Some(Channel::Square(realm.world, square)));
                assert_eq!(realms.channel(realm.names.broadcast.as_bytes()), Some(Channel::World(realm.world)));
            }
        }
    }

    #[test]
    fn a_world_has_its_realm_and_the_lobby_has_none() {
        for (tenants, known, unknown) in [(&[][..], &[0][..], &[1, 2, 3][..]), (&["x", "y"], &[2, 3], &[0, 1, 4])] {
            let realms = realms(tenants);
            assert_eq!(realms.worlds().map(|world| world.0).collect::<Vec<_>>(), known);
            assert!(known.iter().all(|world| realms.get(WorldId(*world)).is_some_and(|realm| realm.world.0 == *world)));
            assert!(unknown.iter().all(|world| realms.get(WorldId(*world)).is_none()));
        }
    }

    #[test]
    fn an_alert_that_redis_refuses_holds_up_those_of_no_other_tenant() {
        let mut realms = realms(&["north", "south"]);
        for realm in realms.iter_mut() {
            realm.alerts.push(0, realm.world.0.to_string().into_bytes().into());
        }
        let [north, south] = [0, 1].map(WorldId::of_tenant);
        realms.get_mut(north).unwrap().alerts_at_ms = 1_000;
        let mut published = |now_ms| realms.next_unpublished(now_ms).map(|(world, _)| world);
        assert_eq!([published(999), published(999), published(1_000)], [Some(south), None, Some(north)]);
    }

    #[test]
    fn tenants_spread_their_squares_over_the_workers_each_in_its_own_way() {
        let realms = realms(&["north", "south"]);
        let square = |n: u16| Square::parse(format!("u3{}{}", n / 8 % 8, n % 8).as_bytes());
        let listeners = |world| -> Vec<u16> {
            let realm = realms.get(world).unwrap();
            (0..64).filter_map(square).map(|square| realm.interest.listener_of(square)).collect()
        };
        let (north, south) = (listeners(WorldId::of_tenant(0)), listeners(WorldId::of_tenant(1)));
        assert_ne!(north, south);
        assert!((16..48).contains(&north.iter().sum::<u16>()), "{north:?}");
    }
}
