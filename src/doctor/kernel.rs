//! The kernel: its version, what of io_uring it grants, its clock, and what it does against the processor's faults.

use super::{Check, Finding, Host, Needs, Uring};

/// Clocks that are read without a system call, from fastest on.
const FAST_CLOCKS: [&str; 4] = ["tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page"];

const CLOCK: &str = "sys/devices/system/clocksource/clocksource0";
const VULNERABILITIES: &str = "sys/devices/system/cpu/vulnerabilities";

pub(super) fn look(host: &Host, needs: &Needs, uring: &Uring, out: &mut Vec<Finding>) {
    out.extend(needs.steer_by_cpu.then(|| steer(host)));
    out.extend([version(host), ring(uring), seccomp(host, uring), clock(host), mitigations(host)]);
}

fn version(host: &Host) -> Finding {
    let check = Check { name: "kernel", wanted: "6.12 or newer; 6.1 at least" };
    let release = match host.read("proc/sys/kernel/osrelease") {
        Ok(release) => release,
        Err(unread) => return check.unknown(unread),
    };
    match crate::io::probe::version(&release) {
        Some(version) if version < crate::io::probe::KERNEL_MIN => {
            check.blocking(release, "install a newer kernel; Debian 12 has 6.1, Debian 13 has 6.12")
        }
        Some(version) if version < (6, 12) => check.warn(
            release,
            "nothing breaks; from 6.12 on a busy worker takes a fifth less processor time per position (min_wait)",
        ),
        Some(_) => check.ok(release),
        None => check.unknown(format!("the version {release} is not understood")),
    }
}

/// Only asked for where somebody wants it; whether it is wise, the interrupts of the network cards say.
fn steer(host: &Host) -> Finding {
    let check = Check { name: "server.steer", wanted: "a kernel that steers by CPU, 6.2 or newer" };
    match host.read("proc/sys/kernel/osrelease") {
        Err(unread) => check.unknown(unread),
        Ok(release) => match crate::io::probe::version(&release) {
            Some(version) if version < (6, 2) => check.warn(
                release,
                "server.steer = \"hash\": this kernel goes by the hash in any case, or install a newer one",
            ),
            Some(_) => check.ok(release),
            None => check.unknown(format!("the version {release} is not understood")),
        },
    }
}

fn ring(uring: &Uring) -> Finding {
    let check = Check { name: "io_uring", wanted: "usable, with a minimum wait" };
    match uring {
        Uring::Usable { min_wait: true } => check.ok("usable, with a minimum wait"),
        Uring::Usable { min_wait: false } => {
            check.warn("usable, without a minimum wait", "nothing breaks; Linux 6.12 and newer have it")
        }
        Uring::Refused(reason) => check.blocking("refused", reason.clone()),
        Uring::Untried(reason) => check.unknown(reason),
    }
}

fn seccomp(host: &Host, uring: &Uring) -> Finding {
    let check = Check { name: "seccomp", wanted: "none, or a filter that allows io_uring" };
    match host.field(&host.process_path("status"), "Seccomp") {
        Err(unread) => check.unknown(unread),
        Ok(mode) if mode == "0" => check.ok("none"),
        Ok(_) => match uring {
            Uring::Usable { .. } => check.ok("a filter that allows io_uring"),
            // It may be somebody else's doing; the line above says what was answered.
            Uring::Refused(_) => check.warn(
                "a filter, and io_uring is refused",
                "let the container's profile allow io_uring_setup, io_uring_enter and io_uring_register",
            ),
            Uring::Untried(reason) => check.unknown(format!("there is a filter; {reason}")),
        },
    }
}

fn clock(host: &Host) -> Finding {
    let check = Check { name: "clocksource", wanted: "one that is read without a system call" };
    let path = format!("{CLOCK}/current_clocksource");
    match host.read(&path) {
        Err(unread) => check.unknown(unread),
        Ok(clock) if FAST_CLOCKS.contains(&clock.as_str()) => check.ok(clock),
        Ok(clock) => {
            let available = host.read(&format!("{CLOCK}/available_clocksource")).unwrap_or_default();
            let better = FAST_CLOCKS.iter().find(|name| available.split(' ').any(|other| other == **name));
            let fix = match better {
                Some(name) => format!("echo {name} > /{path}; dmesg says why the kernel did not choose it"),
                None => "no better one is available; the hypervisor, or the firmware, has to offer the TSC".to_owned(),
            };
            check.warn(clock, fix)
        }
    }
}

fn mitigations(host: &Host) -> Finding {
    let check = Check { name: "mitigations", wanted: "on; nothing vulnerable" };
    let off = host.read("proc/cmdline").is_ok_and(|line| line.split_whitespace().any(|word| word == "mitigations=off"));
    if off {
        return check.warn(
            "off",
            "only where nothing foreign runs on this machine; else take mitigations=off out of the kernel's command line",
        );
    }
    let names = match host.names(VULNERABILITIES) {
        Ok(names) => names,
        Err(unread) => return check.unknown(unread),
    };
    let vulnerable: Vec<_> = names
        .iter()
        .filter(|name| host.read(&format!("{VULNERABILITIES}/{name}")).is_ok_and(|text| text.starts_with("Vulnerable")))
        .map(String::as_str)
        .collect();
    if vulnerable.is_empty() {
        check.ok("on")
    } else {
        check.warn(
            format!("vulnerable: {}", vulnerable.join(", ")),
            "update kernel and microcode; in a virtual machine that is the host's",
        )
    }
}
