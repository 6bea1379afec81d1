//! How many connections this host can hold, and what ends first.
//!
//! An estimate out of measured figures (docs/OPERATIONS.md has how): it says what a host can *hold*, idle. What it can
//! *serve* depends on how often vehicles report and how many are near each other, and only a drive tells.

use serde::Serialize;

use super::process::{DESCRIPTORS_BESIDE, DESCRIPTORS_PER_WORKER, hard_limit};
use super::{Host, Needs, Unread};

/// What the gateway keeps of an idle registered vehicle (`idle` in benches/results/others.md).
pub const USER_BYTES_PER_CONN: u64 = 816;

/// What it keeps of it on each further worker, which knows it too (docs/ARCHITECTURE.md).
pub const USER_BYTES_PER_CONN_AND_WORKER: u64 = 200;

/// What the kernel keeps of an idle connection with a receive under way: socket 2,496, its inode 851, file 191 and entry
/// 192, request 252 and poll 78, rounded up.
pub const KERNEL_BYTES_PER_CONN: u64 = 4_100;

/// What it keeps of its TLS, which all clients may speak where any does (docs/OPERATIONS.md).
pub const TLS_BYTES_PER_CONN: u64 = 3_700;

/// What one gateway takes without any connection.
pub const BASE_BYTES: u64 = 14 << 20;

/// Of the memory, what is left for what connections have queued, the page cache and everybody else: a quarter.
pub const MEMORY_SPARE_PART: u64 = 4;

/// One thing that there is not without end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bound {
    /// What.
    pub of: &'static str,
    /// Connections that it is enough for; `None`: without bound, or not known.
    pub connections: Option<u64>,
    /// How that was reckoned, or why it is not known.
    pub because: String,
}

/// The estimate.
#[derive(Clone, Debug, Serialize)]
pub struct Capacity {
    /// Idle connections; `None` if no bound is known.
    pub connections: Option<u64>,
    /// What ends first.
    pub limited_by: Option<&'static str>,
    /// Everything that was reckoned with, the scarcest first.
    pub bounds: Vec<Bound>,
}

/// Reckons.
pub fn estimate(host: &Host, needs: &Needs) -> Capacity {
    let mut bounds = vec![configuration(host, needs)];
    bounds.extend([
        known("memory", memory(host, needs)),
        known("descriptors of the process", descriptors(host, needs)),
        known("descriptors of the host", files(host)),
        tracked(host),
        known("ports, from one address", ports(host)),
        Bound {
            of: "locked memory",
            connections: None,
            because: "no bound: workers need it, connections do not".to_owned(),
        },
    ]);
    bounds.sort_by_key(|bound| bound.connections.unwrap_or(u64::MAX));
    // Clients have addresses of their own; only behind a proxy do they share one.
    let first = bounds.iter().find(|bound| bound.connections.is_some() && !bound.of.starts_with("ports"));
    Capacity {
        connections: first.and_then(|bound| bound.connections),
        limited_by: first.map(|bound| bound.of),
        bounds: bounds.clone(),
    }
}

fn known(of: &'static str, found: Result<(u64, String), Unread>) -> Bound {
    match found {
        Ok((connections, because)) => Bound { of, connections: Some(connections), because },
        Err(unread) => Bound { of, connections: None, because: format!("not known: {unread}") },
    }
}

fn configuration(host: &Host, needs: &Needs) -> Bound {
    Bound {
        of: "limits.conns_per_worker_max",
        connections: Some(needs.conns_max(host)),
        because: format!("{} for each of {} workers", needs.conns_per_worker_max, needs.workers(host)),
    }
}

fn memory(host: &Host, needs: &Needs) -> Result<(u64, String), Unread> {
    let all = memory_bytes(host)?;
    let tls = if needs.is_encrypted { TLS_BYTES_PER_CONN } else { 0 };
    let known_elsewhere = USER_BYTES_PER_CONN_AND_WORKER * (needs.workers(host) - 1);
    let each = USER_BYTES_PER_CONN + known_elsewhere + KERNEL_BYTES_PER_CONN + tls;
    let usable = (all - all / MEMORY_SPARE_PART).saturating_sub(BASE_BYTES);
    let because = format!("three quarters of {} MiB, {each} bytes each", all >> 20);
    Ok((usable / each, because))
}

fn descriptors(host: &Host, needs: &Needs) -> Result<(u64, String), Unread> {
    let limit = hard_limit(host, "Max open files")?;
    let beside = DESCRIPTORS_BESIDE + DESCRIPTORS_PER_WORKER * needs.workers(host);
    Ok((limit.saturating_sub(beside), format!("RLIMIT_NOFILE without the {beside} that the gateway needs itself")))
}

/// `file-nr` is: in use, always 0, most.
fn files(host: &Host) -> Result<(u64, String), Unread> {
    let path = "proc/sys/fs/file-nr";
    let text = host.read(path)?;
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    match (numbers.next(), numbers.nth(1)) {
        (Some(Ok(used)), Some(Ok(max))) => {
            Ok((max.saturating_sub(used), "fs.file-max without those in use".to_owned()))
        }
        _ => Err(super::host::strange(path, &text)),
    }
}

fn tracked(host: &Host) -> Bound {
    let of = "tracked connections";
    let count = host.number("proc/sys/net/netfilter/nf_conntrack_count");
    match (count, host.number("proc/sys/net/netfilter/nf_conntrack_max")) {
        (Ok(0), Ok(_)) => Bound { of, connections: None, because: "no bound: nothing is tracked now".to_owned() },
        (Ok(count), Ok(max)) => {
            known(of, Ok((max.saturating_sub(count), "nf_conntrack_max without those in use".to_owned())))
        }
        (Err(Unread::Missing(_)), _) if host.has("proc/sys/net/core") => {
            Bound { of, connections: None, because: "no bound: there is no connection tracking".to_owned() }
        }
        (Err(unread), _) | (_, Err(unread)) => known(of, Err(unread)),
    }
}

/// What a proxy on a host with the same settings, or one that drives from this one, reaches.
fn ports(host: &Host) -> Result<(u64, String), Unread> {
    let path = "proc/sys/net/ipv4/ip_local_port_range";
    let text = host.read(path)?;
    let mut ends = text.split_whitespace().map(str::parse::<u64>);
    match (ends.next(), ends.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first <= last => Ok((
            last - first + 1,
            "ip_local_port_range; matters behind a proxy with one address and for `ringroad drive`".to_owned(),
        )),
        _ => Err(super::host::strange(path, &text)),
    }
}

/// The host's memory, or what the process's cgroup grants of it, bytes.
pub(super) fn memory_bytes(host: &Host) -> Result<u64, Unread> {
    let path = "proc/meminfo";
    let text = host.field(path, "MemTotal")?;
    let kib: u64 = text
        .strip_suffix(" kB")
        .and_then(|kib| kib.trim().parse().ok())
        .ok_or_else(|| super::host::strange(path, &text))?;
    // `max` is no number, and no limit.
    let granted =
        cgroups(host).into_iter().filter_map(|cgroup| host.number(&format!("{cgroup}/memory.max")).ok()).min();
    Ok(granted.map_or(kib * 1024, |granted| granted.min(kib * 1024)))
}

/// Folders of the process's cgroup (version 2) and of those above it.
pub(super) fn cgroups(host: &Host) -> Vec<String> {
    let text = host.of_process("cgroup").unwrap_or_default();
    let Some(path) = text.lines().find_map(|line| line.strip_prefix("0::")) else { return Vec::new() };
    let mut folders = vec!["sys/fs/cgroup".to_owned()];
    for name in path.split('/').filter(|name| !name.is_empty() && *name != "..") {
        folders.push(format!("{}/{name}", folders[folders.len() - 1]));
    }
    folders
}
