//! What lies between the network card and a worker: interrupts, queues, tracked connections, what was dropped.

use std::collections::BTreeSet;

use super::host::strange;
use super::process::cpus_allowed;
use super::{Check, Finding, Host, Needs, Unread};

/// Of the table of tracked connections, what may be in use before somebody should look.
const CONNTRACK_PERCENT_MAX: u64 = 80;

/// The kernel's own bound for TCP's memory is 9.4 % of all; less than this part of all, and somebody has lowered it.
const TCP_MEM_PART: u64 = 16;

/// Bytes of a page on the processors that Ringroad is made for.
const PAGE_BYTES: u64 = 4096;

pub(super) fn look(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    out.extend([tcp_mem(host), conntrack(host, needs)]);
    out.extend(interrupts(host, needs));
    out.extend([softnet(host), overflows(host)]);
}

fn tcp_mem(host: &Host) -> Finding {
    let check = Check { name: "net.ipv4.tcp_mem", wanted: "the kernel's own, 9 % of memory" };
    let path = "proc/sys/net/ipv4/tcp_mem";
    let read = || -> Result<_, Unread> {
        let text = host.read(path)?;
        let pages = text.split_whitespace().nth(2).and_then(|max| max.parse::<u64>().ok());
        Ok((pages.ok_or_else(|| strange(path, &text))? * PAGE_BYTES, super::capacity::memory_bytes(host)?))
    };
    match read() {
        Err(unread) => check.unknown(unread),
        Ok((max, all)) if max < all / TCP_MEM_PART => check.warn(
            format!("{} MiB", max >> 20),
            "find what lowers it in /etc/sysctl.d: beyond it the kernel drops what connections have queued",
        ),
        Ok((max, _)) => check.ok(format!("{} MiB", max >> 20)),
    }
}

/// Whether each connection to the port takes an entry of a firewall's table.
fn conntrack(host: &Host, needs: &Needs) -> Finding {
    let check = Check { name: "conntrack", wanted: "connections to the port are not tracked" };
    let count = match host.number("proc/sys/net/netfilter/nf_conntrack_count") {
        Ok(count) => count,
        Err(Unread::Missing(_)) if host.has("proc/sys/net/core") => {
            return check.ok("not in this kernel, or not loaded");
        }
        Err(unread) => return check.unknown(unread),
    };
    let max = match host.number("proc/sys/net/netfilter/nf_conntrack_max") {
        Ok(max) => max,
        Err(unread) => return check.unknown(unread),
    };
    let value = format!("{count} of {max} entries in use");
    let notrack = format!(
        "do not track the port: nft add rule ip raw prerouting tcp dport {port} notrack, and the same for output with \
         sport {port}; else raise net.netfilter.nf_conntrack_max",
        port = needs.port
    );
    if count >= max {
        return check.blocking(value, notrack);
    }
    if count * 100 >= max * CONNTRACK_PERCENT_MAX {
        return check.warn(value, notrack);
    }
    if count == 0 {
        return check.ok(value);
    }
    let dport = format!("dport={}", needs.port);
    match host.read("proc/net/nf_conntrack") {
        Ok(table) if table.lines().any(|line| line.split_whitespace().any(|word| word == dport)) => {
            check.warn(format!("{value}, connections to {} among them", needs.port), notrack)
        }
        Ok(_) => match connected(host, needs.port) {
            Ok(true) => check.ok(format!("{value}, none to {}", needs.port)),
            Ok(false) => check.unknown(format!("{value}; nobody is connected to {}, so look again later", needs.port)),
            Err(unread) => check.unknown(unread),
        },
        Err(unread) => check.unknown(format!("{value}; whether to {} among them: {unread}", needs.port)),
    }
}

/// Whether somebody is connected to the port, as `/proc/net/tcp` has it: local address, remote one, state in hex.
fn connected(host: &Host, port: u16) -> Result<bool, Unread> {
    let local = format!(":{port:04X}");
    let established = |table: String| {
        table.lines().skip(1).any(|line| {
            let mut words = line.split_whitespace();
            words.nth(1).is_some_and(|at| at.ends_with(&local)) && words.nth(1) == Some("01")
        })
    };
    // A kernel without IPv6 has no second table.
    let six = host.read("proc/net/tcp6").is_ok_and(established);
    Ok(six || established(host.read("proc/net/tcp")?))
}

/// One finding for each network device that has interrupts.
fn interrupts(host: &Host, needs: &Needs) -> Vec<Finding> {
    let check = Check { name: "network interrupts", wanted: "receive queues on as many CPUs as there are workers" };
    let devices = match host.names("sys/class/net") {
        Ok(devices) => devices,
        Err(unread) => return vec![check.unknown(unread)],
    };
    let cards: Vec<_> =
        devices.into_iter().filter(|device| host.has(&format!("sys/class/net/{device}/device"))).collect();
    if cards.is_empty() {
        let reason =
            "no network card is seen from here (a container's are its host's); run `ringroad doctor` on the host";
        return vec![check.unknown(reason)];
    }
    let named = |device: &str| format!("interrupts of {device}");
    cards
        .iter()
        .map(|device| {
            let name = named(device);
            let check = Check { name: &name, ..check };
            spread(host, needs, device, check).unwrap_or_else(|unread| check.unknown(unread))
        })
        .collect()
}

/// Whether what a card receives is taken in by as many CPUs as could, by its queues or by RPS.
fn spread(host: &Host, needs: &Needs, device: &str, check: Check<'_>) -> Result<Finding, Unread> {
    let folder = format!("sys/class/net/{device}/queues");
    let queues: Vec<_> = host.names(&folder)?.into_iter().filter(|name| name.starts_with("rx-")).collect();
    let steered: BTreeSet<u32> = queues
        .iter()
        .filter_map(|queue| host.read(&format!("{folder}/{queue}/rps_cpus")).ok())
        .flat_map(|mask| bits(&mask))
        .collect();
    let useful = (needs.workers(host) as usize).min(cpus_allowed(host)?.len());
    let numbered = host
        .names(&format!("sys/class/net/{device}/device/msi_irqs"))
        .or_else(|_| host.names(&format!("sys/class/net/{device}/device/../msi_irqs")));
    let interrupted = match numbered {
        Ok(irqs) => affinity(host, &receiving(host, irqs))?,
        Err(unread) if steered.len() < useful => return Err(unread),
        Err(_) => BTreeSet::new(),
    };
    let (plural, on) =
        (if queues.len() == 1 { "" } else { "s" }, if steered.is_empty() { " on" } else { ", handed on (RPS) to" });
    let by = if steered.is_empty() { &interrupted } else { &steered };
    let value = format!("{} receive queue{plural}{on} {}", queues.len(), listed(by));
    Ok(if steered.len().max(interrupted.len().min(queues.len())) >= useful {
        check.ok(value)
    } else {
        check.warn(value, format!("tuning/affinity {device}: one queue per CPU, or RPS where there are fewer queues"))
    })
}

/// Of a card's interrupts those of its receive queues, by their names in `/proc/interrupts`; all, if none is named so.
fn receiving(host: &Host, irqs: Vec<String>) -> Vec<String> {
    let table = host.read("proc/interrupts").unwrap_or_default();
    let is_receiving = |irq: &String| {
        table.lines().any(|line| {
            let name = line.split_whitespace().last().unwrap_or_default().to_ascii_lowercase();
            line.trim_start().strip_prefix(irq.as_str()).is_some_and(|rest| rest.starts_with(':'))
                && ["input", "rx"].iter().any(|word| name.contains(word))
        })
    };
    let named: Vec<_> = irqs.iter().filter(|irq| is_receiving(irq)).cloned().collect();
    if named.is_empty() { irqs } else { named }
}

/// CPUs that these interrupts go to.
fn affinity(host: &Host, irqs: &[String]) -> Result<BTreeSet<u32>, Unread> {
    let mut cpus = BTreeSet::new();
    for irq in irqs {
        let effective = host.set(&format!("proc/irq/{irq}/effective_affinity_list"));
        let set = match effective {
            Ok(set) if !set.is_empty() => set,
            _ => host.set(&format!("proc/irq/{irq}/smp_affinity_list"))?,
        };
        // Of several that are allowed one is interrupted.
        cpus.extend(set.first());
    }
    Ok(cpus)
}

/// CPUs of a mask, groups of 32 bits in hex, the highest first.
fn bits(mask: &str) -> Vec<u32> {
    let groups = mask.trim().rsplit(',').filter_map(|group| u32::from_str_radix(group, 16).ok());
    (0..)
        .zip(groups)
        .flat_map(|(at, group)| (0..32).filter(move |bit| group >> bit & 1 == 1).map(move |bit| at * 32 + bit))
        .collect()
}

fn listed(cpus: &BTreeSet<u32>) -> String {
    let numbers = cpus.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    format!("CPU{} {numbers}", if cpus.len() == 1 { "" } else { "s" })
}

/// `/proc/net/softnet_stat`: a line per CPU, in hex; packets taken in, dropped for want of room, and times the budget
/// was used up.
fn softnet(host: &Host) -> Finding {
    let check = Check { name: "packets dropped on arrival", wanted: "0 since the start of the host" };
    let path = "proc/net/softnet_stat";
    let dropped = host.read(path).and_then(|text| {
        let column = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
        text.lines().map(column).sum::<Option<u64>>().ok_or_else(|| strange(path, &text))
    });
    match dropped {
        Err(unread) => check.unknown(unread),
        Ok(0) => check.ok("0"),
        Ok(dropped) => check.warn(
            dropped.to_string(),
            "if it grows: raise net.core.netdev_max_backlog, spread interrupts (tuning/affinity)",
        ),
    }
}

/// `TcpExt` in `/proc/net/netstat`: a line of names, then one of values.
fn overflows(host: &Host) -> Finding {
    let check = Check { name: "listen queue overflows", wanted: "0 since the start of the host" };
    let path = "proc/net/netstat";
    let overflows = host.read(path).and_then(|text| {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
        let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let found =
            names.split_whitespace().zip(values.split_whitespace()).find(|(name, _)| *name == "ListenOverflows");
        found.and_then(|(_, value)| value.parse::<u64>().ok()).ok_or_else(|| strange(path, "no ListenOverflows"))
    });
    match overflows {
        Err(unread) => check.unknown(unread),
        Ok(0) => check.ok("0"),
        Ok(count) => check.warn(
            count.to_string(),
            "if it grows: raise net.core.somaxconn and restart the gateway, whose queue is as long as it was at its start",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::bits;

    #[test]
    fn masks_as_the_kernel_writes_them() {
        assert_eq!(bits("5"), [0, 2]);
        assert_eq!(bits("1,80000000"), [31, 32]);
        assert_eq!(bits("00000000,00000000"), [0u32; 0]);
    }
}
