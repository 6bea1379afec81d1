//! What happens in a random world, decided before it begins.

use std::fmt;

use ringroad::config::Config;

use super::views::Edges;
use crate::bad_input::Random;
use crate::script::HOSTS;
use crate::tokens::SECRET;

/// Vehicles of one tenant. Those of the next have the numbers behind them, and the same names.
pub const VEHICLES: usize = 15;

/// So many of them drive where there are several tenants, to meet each other.
const FEWER: usize = 7;

/// Viewers of one tenant, numbered likewise. Those with an odd number speak `ringroad.v1`.
pub const VIEWERS: usize = 4;

/// Who shares a world: everybody on hosts without tenants, and two tenants.
pub const TENANTS: [Option<&str>; 3] = [None, Some("north"), Some("south")];

/// Around these the vehicles drive, degrees: inside a square, on its border, on the corner of four, on ±180°.
const ANCHORS: [(f64, f64); 4] = [(48.05, 11.1), (48.164_062_5, 11.1), (48.164_062_5, 11.25), (-17.050_781_25, 180.0)];

/// What happens at a time. Steps about a vehicle are left out while it is not connected, and those about a host that
/// dies, sleeps or lives already as well, so that any part of a plan is one too.
#[derive(Clone, Debug)]
pub enum Step {
    /// A client connects, registers as this vehicle and says where it is (1e-7 degree).
    Register {
        vehicle: usize,
        host: usize,
        shard: usize,
        at: (i32, i32),
    },
    Move {
        vehicle: usize,
        to: (i32, i32),
    },
    Leave {
        vehicle: usize,
    },
    Alert {
        vehicle: usize,
    },
    Tell {
        from: usize,
        to: usize,
    },
    /// A viewer, connected if it is not, has this view from now on, or none.
    View {
        viewer: usize,
        host: usize,
        shard: usize,
        edges: Option<Edges>,
    },
    /// Likewise it follows the vehicles whose bits are set.
    Follow {
        viewer: usize,
        host: usize,
        shard: usize,
        vehicles: u32,
    },
    /// A vehicle watches everything around it.
    Near {
        vehicle: usize,
        radius_m: f64,
    },
    LookAway {
        viewer: usize,
    },
    Wait {
        ms: u64,
    },
    RedisDown,
    RedisFreezes,
    RedisUp,
    RedisEmpties,
    Loses {
        every: usize,
        host: usize,
    },
    CutOff {
        host: usize,
    },
    Back {
        host: usize,
    },
    Away {
        host: usize,
        ms: u64,
    },
    Dies {
        host: usize,
    },
    Stops {
        host: usize,
    },
    Starts {
        host: usize,
        renamed: bool,
    },
    Sleeps {
        host: usize,
    },
    Wakes {
        host: usize,
    },
    Inbox {
        most: usize,
    },
    Split {
        bytes: usize,
    },
}

/// A world, and what happens in it.
pub struct Plan {
    pub hosts: usize,
    /// Which tenants each host has, by their places in [`TENANTS`], in the order in which it names them.
    pub tenants: Vec<Vec<usize>>,
    pub shards: usize,
    pub is_public: bool,
    pub settings: String,
    pub clocks_ahead_ms: Vec<i64>,
    /// Positions may be lost like other messages. Nobody repeats them, so everyone says once more where it is.
    pub loses_positions: bool,
    pub steps: Vec<Step>,
}

impl Plan {
    pub fn new(seed: u64) -> Plan {
        let mut random = Random(seed);
        let hosts = 2 + random.below(2);
        Plan::of_hosts(random, vec![vec![0]; hosts])
    }

    /// Two hosts have both tenants, in different order; one has none, and the fourth none, one or both.
    pub fn with_tenants(seed: u64) -> Plan {
        let mut random = Random(seed);
        let fourth = [vec![0], vec![2], vec![1, 2]][random.below(3)].clone();
        Plan::of_hosts(random, vec![vec![1, 2], vec![0], vec![2, 1], fourth])
    }

    fn of_hosts(mut random: Random, tenants: Vec<Vec<usize>>) -> Plan {
        let (hosts, shards) = (tenants.len(), 1 + random.below(2));
        let is_public = random.below(2) == 0;
        let settings = format!(
            "redis.url = 'redis://sim'
             redis.position_tick_ms = {}
             presence.scope = '{}'
             vehicles = {{ nearby_list_ms = 0, coalesce_ms = 0, flush_ms = {}, heartbeat_timeout_ms = 3600000, ping_ms = 3600000 }}
             viewers.requests = {{ burst = 0, per_ms = 1 }}
             rate_limits.location_update = {{ burst = 0, per_ms = 1 }}
             rate_limits.emergency_alert = {{ burst = 0, per_ms = 1 }}
             rate_limits.send_message = {{ burst = 0, per_ms = 1 }}",
            [0, 20, 100][random.below(3)],
            if is_public { "all" } else { "none" },
            [0, 20][random.below(2)],
        );
        // Most clocks agree.
        let is_skewed = random.below(4) == 0;
        let clocks_ahead_ms =
            (0..hosts).map(|_| if is_skewed { random.below(8_000) as i64 - 4_000 } else { 0 }).collect();
        let anchor = ANCHORS[random.below(ANCHORS.len())];
        let mut steps = Vec::new();
        let steps_min = if has_several(&tenants) { 800 } else { 250 };
        while steps.len() < steps_min {
            step(&mut random, &mut steps, (&tenants, shards), anchor);
        }
        let loses_positions = random.below(3) == 0;
        Plan { hosts, tenants, shards, is_public, settings, clocks_ahead_ms, loses_positions, steps }
    }

    /// By how much the clocks of two hosts differ at most.
    pub fn clocks_differ_ms(&self) -> u64 {
        let ahead = self.clocks_ahead_ms.iter();
        ahead.clone().max().zip(ahead.min()).map_or(0, |(most, least)| most.abs_diff(*least))
    }

    /// What each host is told.
    pub fn configs(&self) -> Vec<Config> {
        let names = |tenants: &[usize]| tenants.iter().filter_map(|tenant| TENANTS[*tenant]).collect::<Vec<_>>();
        let config = |tenants: &Vec<usize>| {
            let names = names(tenants);
            let tokens = format!("auth = {{ required = true, secret = '{SECRET}', tenants = {names:?} }}");
            let more = if names.is_empty() { String::new() } else { tokens };
            toml::from_str(&format!("{}\n{more}", self.settings)).expect("known keys")
        };
        self.tenants.iter().map(config).collect()
    }
}

/// Whether there are tenants; then more has to happen until each has seen as much.
fn has_several(tenants: &[Vec<usize>]) -> bool {
    tenants.iter().any(|tenants| tenants.len() > 1)
}

/// Adds what happens next, and mostly some time.
fn step(random: &mut Random, steps: &mut Vec<Step>, (tenants, shards): (&[Vec<usize>], usize), anchor: (f64, f64)) {
    let hosts = tenants.len();
    let (vehicle, host, shard) = (random.below(VEHICLES), random.below(hosts), random.below(shards));
    // Whoever comes to a host is of one of its tenants. Where there are several, each has fewer vehicles.
    let tenant = match &tenants[host][..] {
        [tenant] => *tenant,
        several => several[random.below(several.len())],
    };
    let vehicle = tenant * VEHICLES + if has_several(tenants) { vehicle % FEWER } else { vehicle };
    match random.below(100) {
        0..18 => steps.push(Step::Register { vehicle, host, shard, at: somewhere(random, anchor) }),
        18..54 => steps.push(Step::Move { vehicle, to: somewhere(random, anchor) }),
        54..61 => steps.push(Step::Leave { vehicle }),
        61..66 => steps.push(Step::Alert { vehicle }),
        66..71 => {
            let to = random.below(VEHICLES);
            let to = tenant * VEHICLES + if has_several(tenants) { to % FEWER } else { to };
            steps.push(Step::Tell { from: vehicle, to });
        }
        71..81 => steps.push(look(random, (vehicle, host, shard), anchor)),
        81..83 => {
            // Twice at the same time.
            let other =
                (1..hosts).map(|further| (host + further) % hosts).find(|other| tenants[*other].contains(&tenant));
            let other = other.unwrap_or(host);
            steps.push(Step::Register { vehicle, host, shard, at: somewhere(random, anchor) });
            steps.push(Step::Register { vehicle, host: other, shard, at: somewhere(random, anchor) });
        }
        _ => steps.push(fault(random, host)),
    }
    match random.below(20) {
        0..8 => {}
        8..16 => steps.push(Step::Wait { ms: 2 + random.below(50) as u64 }),
        16..19 => steps.push(Step::Wait { ms: 500 + random.below(3_000) as u64 }),
        _ => steps.push(Step::Wait { ms: 5_000 + random.below(20_000) as u64 }),
    }
}

fn fault(random: &mut Random, host: usize) -> Step {
    match random.below(26) {
        0 => Step::RedisDown,
        1 => Step::RedisFreezes,
        2..6 => Step::RedisUp,
        6 => Step::RedisEmpties,
        7 => Step::Loses { every: 1 + random.below(4), host },
        8..10 => Step::Loses { every: 0, host },
        10 => Step::CutOff { host },
        11..14 => Step::Back { host },
        14 => Step::Away { host, ms: random.below(80) as u64 },
        15 => Step::Away { host, ms: 0 },
        16 => Step::Dies { host },
        17 => Step::Stops { host },
        18..21 => Step::Starts { host, renamed: random.below(3) == 0 },
        21 => Step::Sleeps { host },
        22..24 => Step::Wakes { host },
        24 => Step::Inbox { most: random.below(3) },
        _ => Step::Split { bytes: [0, 1, 7, 100][random.below(4)] },
    }
}

/// Somebody watches something else.
fn look(random: &mut Random, (vehicle, host, shard): (usize, usize, usize), anchor: (f64, f64)) -> Step {
    let viewer = vehicle / VEHICLES * VIEWERS + random.below(VIEWERS);
    match random.below(8) {
        0..3 => {
            let ((lat, lon), (other_lat, other_lon)) = (somewhere(random, anchor), somewhere(random, anchor));
            // The shorter way round.
            let is_across = lon.abs_diff(other_lon) > 1_800_000_000;
            let (west, east) = if (lon < other_lon) != is_across { (lon, other_lon) } else { (other_lon, lon) };
            let edges = (lat.min(other_lat), west, lat.max(other_lat), east);
            Step::View { viewer, host, shard, edges: Some(edges).filter(|_| random.below(8) > 0) }
        }
        3..6 => Step::Follow {
            viewer,
            host,
            shard,
            vehicles: (random.below(1 << VEHICLES) & random.below(1 << VEHICLES)) as u32,
        },
        6 => Step::Near { vehicle, radius_m: [600.0, 2_000.0, 5_000.0][random.below(3)] },
        _ => Step::LookAway { viewer },
    }
}

/// Mostly where others are; sometimes far away, where nobody on another host looks.
fn somewhere(random: &mut Random, (lat, lon): (f64, f64)) -> (i32, i32) {
    let (north, east) = (random.unit() * 2.0 - 1.0, random.unit() * 2.0 - 1.0);
    let far = if random.below(8) == 0 { 1.0 } else { 0.0 };
    let lat = lat + north * 0.012 + far;
    let lon = (lon + east * 0.016 + 540.0).rem_euclid(360.0) - 180.0;
    ((lat * 1e7).round() as i32, (lon * 1e7).round() as i32)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { hosts, tenants, shards, settings, clocks_ahead_ms, loses_positions, .. } = self;
        write!(f, "{settings}\n{hosts} hosts {tenants:?} of {shards} shards, clocks ahead {clocks_ahead_ms:?}, ")?;
        write!(f, "positions {}", if *loses_positions { "may be lost" } else { "are not lost" })
    }
}

/// Nearly as scripts have it.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let degrees = |(lat, lon): (i32, i32)| format!("{} {}", f64::from(lat) / 1e7, f64::from(lon) / 1e7);
        match *self {
            Step::Register { vehicle, host, shard, at } => {
                write!(f, "{vehicle}@{}{shard} registers at {}", HOSTS[host], degrees(at))
            }
            Step::Move { vehicle, to } => write!(f, "{vehicle} at {}", degrees(to)),
            Step::Leave { vehicle } => write!(f, "{vehicle} hangs up"),
            Step::Alert { vehicle } => write!(f, "{vehicle} alerts"),
            Step::Tell { from, to } => write!(f, "{from} tells {to}"),
            Step::View { viewer, host, shard, edges } => {
                let edges =
                    edges.map(|(south, west, north, east)| [south, west, north, east].map(|e7| f64::from(e7) / 1e7));
                write!(f, "v{viewer}@{}{shard} views {edges:?}", HOSTS[host])
            }
            Step::Follow { viewer, host, shard, vehicles } => {
                let vehicles = (0..VEHICLES).filter(|vehicle| vehicles >> vehicle & 1 == 1);
                write!(f, "v{viewer}@{}{shard} follows {:?}", HOSTS[host], vehicles.collect::<Vec<_>>())
            }
            Step::Near { vehicle, radius_m } => write!(f, "{vehicle} nears {radius_m}"),
            Step::LookAway { viewer } => write!(f, "v{viewer} hangs up"),
            Step::Wait { ms } => write!(f, "+{ms}ms"),
            Step::RedisDown => write!(f, "redis down"),
            Step::RedisFreezes => write!(f, "redis freezes"),
            Step::RedisUp => write!(f, "redis up"),
            Step::RedisEmpties => write!(f, "redis empties"),
            Step::Loses { every, host } => write!(f, "redis loses every {every} to {}", HOSTS[host]),
            Step::CutOff { host } => write!(f, "{} is cut off", HOSTS[host]),
            Step::Back { host } => write!(f, "{} is back", HOSTS[host]),
            Step::Away { host, ms } => write!(f, "{} is {ms}ms away", HOSTS[host]),
            Step::Dies { host } => write!(f, "{} dies", HOSTS[host]),
            Step::Stops { host } => write!(f, "{} stops", HOSTS[host]),
            Step::Starts { host, renamed: false } => write!(f, "{} starts", HOSTS[host]),
            Step::Starts { host, renamed: true } => write!(f, "{} starts as another node", HOSTS[host]),
            Step::Sleeps { host } => write!(f, "{} sleeps", HOSTS[host]),
            Step::Wakes { host } => write!(f, "{} wakes", HOSTS[host]),
            Step::Inbox { most } => write!(f, "inbox {most}"),
            Step::Split { bytes } => write!(f, "split {bytes}"),
        }
    }
}
