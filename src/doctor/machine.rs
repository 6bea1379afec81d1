//! The machine: its memory's nodes, how it pages, how its processors are clocked.

use std::collections::BTreeSet;

use super::process::cpus_allowed;
use super::{Check, Finding, Host, Needs, Unread};

const THP: &str = "sys/kernel/mm/transparent_hugepage/enabled";

pub(super) fn look(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    out.extend([numa(host, needs), huge_pages(host), governor(host)]);
}

fn numa(host: &Host, needs: &Needs) -> Finding {
    let check = Check { name: "NUMA", wanted: "the workers of a process on one node" };
    let nodes = || -> Result<_, Unread> {
        // A kernel without NUMA has no such folder.
        let nodes = match host.set("sys/devices/system/node/online") {
            Err(Unread::Missing(_)) if host.has("sys/devices/system/cpu") => return Ok((1, 1)),
            nodes => nodes?,
        };
        let cpus: BTreeSet<_> = cpus_allowed(host)?.into_iter().collect();
        let mut used = 0;
        for node in &nodes {
            let of_node = host.set(&format!("sys/devices/system/node/node{node}/cpulist"))?;
            used += usize::from(of_node.iter().any(|cpu| cpus.contains(cpu)));
        }
        Ok((nodes.len(), used))
    };
    match nodes() {
        Err(unread) => check.unknown(unread),
        Ok((1, _)) => check.ok("one node"),
        Ok((nodes, used)) if used <= 1 || needs.workers(host) == 1 => check.ok(format!("one of {nodes} nodes")),
        Ok((nodes, used)) => check.warn(
            format!("{used} of {nodes} nodes"),
            "one gateway per node, each with CPUAffinity= and NUMAPolicy=bind NUMAMask= in its unit, joined by Redis",
        ),
    }
}

fn huge_pages(host: &Host) -> Finding {
    let check = Check { name: "transparent huge pages", wanted: "madvise or never" };
    match host.read(THP) {
        Err(Unread::Missing(_)) if host.has("sys/kernel/mm") => check.ok("not in this kernel"),
        Err(unread) => check.unknown(unread),
        Ok(text) => match text.split(['[', ']']).nth(1) {
            Some("always") => check.warn(
                "always",
                format!(
                    "echo madvise > /{THP}: a heap that is half empty takes more memory, and pauses while pages join"
                ),
            ),
            Some(mode) => check.ok(mode),
            None => check.unknown(super::host::strange(THP, &text)),
        },
    }
}

fn governor(host: &Host) -> Finding {
    let check = Check { name: "CPU governor", wanted: "performance" };
    let governors = || -> Result<BTreeSet<String>, Unread> {
        cpus_allowed(host)?
            .into_iter()
            .map(|cpu| host.read(&format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor")))
            .collect()
    };
    match governors() {
        Err(Unread::Missing(_)) if host.has("sys/devices/system/cpu") => {
            check.unknown("no cpufreq here: the hypervisor, or the firmware, decides how fast the processor runs")
        }
        Err(unread) => check.unknown(unread),
        Ok(governors) => {
            let value = governors.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            if governors.iter().all(|name| name == "performance") {
                check.ok(value)
            } else {
                check.warn(value, "cpupower frequency-set -g performance, or the tuned profile: waking up is slow else")
            }
        }
    }
}
