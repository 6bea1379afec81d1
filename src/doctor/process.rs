//! What the process may use: descriptors, locked memory, the port, CPUs.

use super::host::strange;
use super::{Check, Finding, Host, Needs, Unread};

/// Descriptors of a worker beside its connections: listener, two rings, eventfds, a link to each of some servers.
pub(super) const DESCRIPTORS_PER_WORKER: u64 = 16;

/// Descriptors of the process beside its workers'.
pub(super) const DESCRIPTORS_BESIDE: u64 = 64;

/// Locked memory that the rings of one worker are counted as, KiB. Found on Linux 6.18 by trying ever lower limits with
/// one and three workers, which needed 496 and 1,486. Who has CAP_IPC_LOCK is not counted.
const LOCKED_KIB_PER_WORKER_MIN: u64 = 496;

/// What two workers needed each: rings that the start has tried and dropped may still be counted.
const LOCKED_KIB_PER_WORKER: u64 = 640;

/// Bits of `CapEff` (linux/capability.h).
const CAP_NET_BIND_SERVICE: u64 = 1 << 10;
const CAP_IPC_LOCK: u64 = 1 << 14;

/// Descriptors of the whole host; systemd raises it beyond any number that matters.
const FILE_MAX_MIN: u64 = 1_048_576;

pub(super) fn look(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    out.extend([nofile(host, needs), nr_open(host, needs), file_max(host), memlock(host, needs)]);
    out.extend([privileged_port(host, needs), port_in_range(host, needs), cpus(host, needs)]);
}

/// A hard limit of the process as `/proc/PID/limits` has it; `u64::MAX` is unlimited. The gateway raises the soft ones.
pub(super) fn hard_limit(host: &Host, name: &str) -> Result<u64, Unread> {
    let text = host.of_process("limits")?;
    let odd = || strange(&host.process_path("limits"), &format!("no hard limit for {name}"));
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(odd)?;
    match line.split_whitespace().nth(1) {
        Some("unlimited") => Ok(u64::MAX),
        Some(number) => number.parse().map_err(|_| odd()),
        None => Err(odd()),
    }
}

/// CPUs that the process may use.
pub(super) fn cpus_allowed(host: &Host) -> Result<Vec<u32>, Unread> {
    let path = host.process_path("status");
    let text = host.field(&path, "Cpus_allowed_list")?;
    super::host::members(&text).filter(|cpus| !cpus.is_empty()).ok_or_else(|| strange(&path, &text))
}

fn has_capability(host: &Host, bit: u64) -> Result<bool, Unread> {
    let path = host.process_path("status");
    let text = host.field(&path, "CapEff")?;
    u64::from_str_radix(&text, 16).map(|caps| caps & bit != 0).map_err(|_| strange(&path, &text))
}

fn nofile(host: &Host, needs: &Needs) -> Finding {
    let beside = DESCRIPTORS_BESIDE + DESCRIPTORS_PER_WORKER * needs.workers(host);
    let wanted = needs.conns_max(host) + beside;
    let text = format!("{wanted}: limits.conns_per_worker_max of each worker, and {beside}");
    let check = Check { name: "RLIMIT_NOFILE", wanted: &text };
    match hard_limit(host, "Max open files") {
        Err(unread) => check.unknown(unread),
        Ok(limit) if limit < beside => {
            check.blocking(limit.to_string(), "LimitNOFILE=1048576 in the unit, or `ulimit -Hn` as root")
        }
        Ok(limit) if limit < wanted => check.warn(
            limit.to_string(),
            "LimitNOFILE=1048576 in the unit (for logins: tuning/limits.d), or a smaller limits.conns_per_worker_max",
        ),
        Ok(limit) => check.ok(shown(limit)),
    }
}

fn nr_open(host: &Host, needs: &Needs) -> Finding {
    let wanted = needs.conns_max(host) + DESCRIPTORS_BESIDE + DESCRIPTORS_PER_WORKER * needs.workers(host);
    let text = format!("at least {wanted}");
    let check = Check { name: "fs.nr_open", wanted: &text };
    match host.number("proc/sys/fs/nr_open") {
        Err(unread) => check.unknown(unread),
        Ok(ceiling) if ceiling < wanted => check.warn(
            ceiling.to_string(),
            format!("sysctl fs.nr_open={}: LimitNOFILE cannot be more", wanted.next_power_of_two()),
        ),
        Ok(ceiling) => check.ok(ceiling.to_string()),
    }
}

fn file_max(host: &Host) -> Finding {
    let text = format!("at least {FILE_MAX_MIN}");
    let check = Check { name: "fs.file-max", wanted: &text };
    match host.number("proc/sys/fs/file-max") {
        Err(unread) => check.unknown(unread),
        Ok(max) if max < FILE_MAX_MIN => check.warn(
            max.to_string(),
            "find what lowers it: `grep -r file-max /etc/sysctl.d /usr/lib/sysctl.d`; systemd sets it to the maximum",
        ),
        Ok(max) => check.ok(shown(max)),
    }
}

fn memlock(host: &Host, needs: &Needs) -> Finding {
    let wanted_kib = LOCKED_KIB_PER_WORKER * needs.workers(host);
    let text = format!("{wanted_kib} KiB: {LOCKED_KIB_PER_WORKER} per worker");
    let check = Check { name: "RLIMIT_MEMLOCK", wanted: &text };
    match (hard_limit(host, "Max locked memory"), has_capability(host, CAP_IPC_LOCK)) {
        (Err(unread), _) => check.unknown(unread),
        (Ok(u64::MAX), _) => check.ok("unlimited"),
        (Ok(bytes), _) if bytes / 1024 >= wanted_kib => check.ok(format!("{} KiB", bytes / 1024)),
        (Ok(bytes), Ok(true)) => check.ok(format!("{} KiB, which CAP_IPC_LOCK overrides", bytes / 1024)),
        (Ok(bytes), Ok(false)) => {
            let fix = "LimitMEMLOCK=256M in the unit (for logins: tuning/limits.d), or fewer server.workers";
            let value = format!("{} KiB", bytes / 1024);
            let too_little = bytes / 1024 < LOCKED_KIB_PER_WORKER_MIN * needs.workers(host);
            if too_little { check.blocking(value, fix) } else { check.warn(value, fix) }
        }
        (Ok(_), Err(unread)) => check.unknown(unread),
    }
}

fn privileged_port(host: &Host, needs: &Needs) -> Finding {
    let text = format!("{} may be bound", needs.port);
    let check = Check { name: "port", wanted: &text };
    match (host.number("proc/sys/net/ipv4/ip_unprivileged_port_start"), has_capability(host, CAP_NET_BIND_SERVICE)) {
        (Ok(first), _) if u64::from(needs.port) >= first || needs.port == 0 => check.ok(text.as_str()),
        (Ok(_), Ok(true)) => check.ok(format!("{text}, with CAP_NET_BIND_SERVICE")),
        (Ok(first), Ok(false)) => check.blocking(
            format!("ports below {first} are privileged"),
            "AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, or a server.listen with a higher port",
        ),
        (Err(unread), _) | (_, Err(unread)) => check.unknown(unread),
    }
}

/// An outgoing connection may have taken the port before the gateway starts.
fn port_in_range(host: &Host, needs: &Needs) -> Finding {
    let check = Check { name: "port and local ports", wanted: "outside of net.ipv4.ip_local_port_range, or reserved" };
    let path = "proc/sys/net/ipv4/ip_local_port_range";
    let range = match host.read(path) {
        Ok(range) => range,
        Err(unread) => return check.unknown(unread),
    };
    let mut ends = range.split_whitespace().map(str::parse::<u32>);
    let (Some(Ok(first)), Some(Ok(last))) = (ends.next(), ends.next()) else {
        return check.unknown(strange(path, &range));
    };
    let port = u32::from(needs.port);
    if port == 0 || !(first..=last).contains(&port) {
        return check.ok(format!("{port} is outside of {first} to {last}"));
    }
    match host.set("proc/sys/net/ipv4/ip_local_reserved_ports") {
        Err(unread) => check.unknown(unread),
        Ok(reserved) if reserved.contains(&port) => check.ok(format!("{port} is reserved")),
        Ok(_) => check.warn(
            format!("{port} is within {first} to {last}"),
            format!("sysctl net.ipv4.ip_local_reserved_ports={port}: a client could take it before the gateway starts"),
        ),
    }
}

fn cpus(host: &Host, needs: &Needs) -> Finding {
    let text = format!("{} for as many workers", needs.workers(host));
    let check = Check { name: "CPUs", wanted: &text };
    let cpus = match cpus_allowed(host) {
        Ok(cpus) => cpus.len() as u64,
        Err(unread) => return check.unknown(unread),
    };
    if needs.workers(host) > cpus {
        return check.warn(cpus.to_string(), "server.workers = 0: workers that share a CPU wait for each other");
    }
    match cpu_quota(host) {
        Some(quota) if quota < needs.workers(host) as f64 => check.warn(
            format!("{cpus}, of which the cgroup grants {quota:.1}"),
            "raise CPUQuota (a container's --cpus), or set server.workers: throttled workers stand still for tens of ms",
        ),
        _ => check.ok(cpus.to_string()),
    }
}

/// CPUs' worth of time that the process's cgroup, or one above it, grants; `None`: all.
fn cpu_quota(host: &Host) -> Option<f64> {
    let quotas = super::capacity::cgroups(host).into_iter().filter_map(|cgroup| {
        let text = host.read(&format!("{cgroup}/cpu.max")).ok()?;
        let (quota, period) = text.split_once(' ')?;
        Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
    });
    quotas.reduce(f64::min)
}

/// A number, or that it is so large that nobody means it.
pub(super) fn shown(number: u64) -> String {
    if number >= u64::MAX / 4 { "unlimited".to_owned() } else { number.to_string() }
}
