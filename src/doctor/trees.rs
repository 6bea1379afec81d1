//! Hosts that are trees of files: a healthy one, and ills, each of which must change its own verdict and no other.

use std::fs;

use super::{Host, Verdict};

/// A host with nothing to mend.
const HEALTHY: &[(&str, &str)] = &[
    ("proc/sys/kernel/osrelease", "6.12.9-amd64\n"),
    ("proc/sys/kernel/io_uring_disabled", "0\n"),
    ("proc/sys/net/core/somaxconn", "65535\n"),
    ("proc/sys/net/core/netdev_max_backlog", "16384\n"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "65535\n"),
    ("proc/sys/net/ipv4/tcp_syncookies", "1\n"),
    ("proc/sys/net/ipv4/tcp_migrate_req", "1\n"),
    ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t262144\n"),
    ("proc/sys/net/ipv4/tcp_rmem", "4096\t16384\t262144\n"),
    ("proc/sys/net/ipv4/tcp_notsent_lowat", "131072\n"),
    ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "0\n"),
    ("proc/sys/net/ipv4/ip_local_port_range", "10240\t65535\n"),
    ("proc/sys/net/ipv4/ip_local_reserved_ports", "\n"),
    ("proc/sys/net/ipv4/ip_unprivileged_port_start", "1024\n"),
    ("proc/sys/net/ipv4/tcp_mem", "190000\t253000\t380000\n"),
    ("proc/sys/net/netfilter/nf_conntrack_max", "1048576\n"),
    ("proc/sys/net/netfilter/nf_conntrack_count", "40\n"),
    (
        "proc/net/nf_conntrack",
        "ipv4 2 tcp 6 100 ESTABLISHED src=10.0.0.9 dst=10.0.0.1 sport=50000 dport=22 src=10.0.0.1\n",
    ),
    ("proc/net/tcp", "  sl  local_address rem_address   st\n   0: 0100000A:0BBA 0900000A:C350 01 00000000:00000000\n"),
    ("proc/net/softnet_stat", "0000ffff 00000000 00000000\n000000ff 00000000 00000001\n"),
    ("proc/net/netstat", "TcpExt: SyncookiesSent ListenOverflows\nTcpExt: 3 0\nIpExt: InNoRoutes\nIpExt: 0\n"),
    ("proc/sys/fs/nr_open", "1048576\n"),
    ("proc/sys/fs/file-max", "9223372036854775807\n"),
    ("proc/sys/fs/file-nr", "1000\t0\t9223372036854775807\n"),
    ("proc/meminfo", "MemTotal:       16384000 kB\nMemFree: 1 kB\n"),
    ("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 quiet\n"),
    (
        "proc/interrupts",
        "            CPU0       CPU1\n 30:          1          0  PCI-MSI 1-edge      eth0-rx-0\n \
         31:          0          1  PCI-MSI 2-edge      eth0-rx-1\n 32:   9   0  PCI-MSI 3-edge      eth0-tx-0\n",
    ),
    ("proc/irq/30/effective_affinity_list", "0\n"),
    ("proc/irq/31/effective_affinity_list", "1\n"),
    ("proc/irq/32/effective_affinity_list", "0\n"),
    (
        "proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n\
         Max open files            1024                 1048576              files     \n\
         Max locked memory         8388608              8388608              bytes     \n",
    ),
    ("proc/self/status", "Name:\tringroad\nCapEff:\t0000000000000000\nSeccomp:\t2\nCpus_allowed_list:\t0-1\n"),
    ("proc/self/cgroup", "0::/system.slice/ringroad.service\n"),
    ("sys/fs/cgroup/system.slice/ringroad.service/cpu.max", "max 100000\n"),
    ("sys/fs/cgroup/system.slice/ringroad.service/memory.max", "max\n"),
    ("sys/class/net/lo/queues/rx-0/rps_cpus", "0\n"),
    ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n"),
    ("sys/class/net/eth0/queues/rx-1/rps_cpus", "0\n"),
    ("sys/class/net/eth0/queues/tx-0/xps_cpus", "0\n"),
    ("sys/class/net/eth0/device/msi_irqs/30", "msix\n"),
    ("sys/class/net/eth0/device/msi_irqs/31", "msix\n"),
    ("sys/class/net/eth0/device/msi_irqs/32", "msix\n"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
    ("sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet acpi_pm \n"),
    ("sys/devices/system/cpu/vulnerabilities/mds", "Mitigation: Clear CPU buffers\n"),
    ("sys/devices/system/cpu/vulnerabilities/l1tf", "Not affected\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
    ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n"),
    ("sys/devices/system/node/online", "0\n"),
    ("sys/devices/system/node/node0/cpulist", "0-1\n"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
];

/// A file and its other content; `None`: it does not exist.
pub(super) type Change = (&'static str, Option<&'static str>);

/// What is different; the check that changes, to what, and a part of what is said about it.
pub(super) type Ill = (&'static [Change], &'static str, Verdict, &'static str);

const STATUS_ROOT: &str = "CapEff:\t000001ffffffffff\nSeccomp:\t0\nCpus_allowed_list:\t0-1\n";

pub(super) const ILLS: &[Ill] = &[
    (&[("proc/sys/kernel/osrelease", Some("5.10.0-30-amd64"))], "kernel", Verdict::Blocking, "newer kernel"),
    (&[("proc/sys/kernel/osrelease", Some("6.1.0-13-amd64"))], "kernel", Verdict::Warn, "6.12"),
    (&[("proc/sys/kernel/osrelease", Some("strange"))], "kernel", Verdict::Unknown, "strange is not understood"),
    (&[("proc/sys/kernel/osrelease", None)], "kernel", Verdict::Unknown, "/proc/sys/kernel/osrelease does not exist"),
    (
        &[("proc/sys/kernel/io_uring_disabled", Some("2"))],
        "kernel.io_uring_disabled",
        Verdict::Blocking,
        "sysctl -w kernel.io_uring_disabled=\"0\"",
    ),
    (&[("proc/sys/kernel/io_uring_disabled", Some("1"))], "kernel.io_uring_disabled", Verdict::Warn, "io_uring_group"),
    (&[("proc/sys/net/core/somaxconn", Some("4096"))], "net.core.somaxconn", Verdict::Warn, "retries after"),
    (&[("proc/sys/net/core/somaxconn", Some("many"))], "net.core.somaxconn", Verdict::Unknown, "not understood: many"),
    (&[("proc/sys/net/core/netdev_max_backlog", Some("1000"))], "net.core.netdev_max_backlog", Verdict::Warn, "16384"),
    (
        &[("proc/sys/net/ipv4/tcp_max_syn_backlog", Some("2048"))],
        "net.ipv4.tcp_max_syn_backlog",
        Verdict::Warn,
        "half-open",
    ),
    (&[("proc/sys/net/ipv4/tcp_syncookies", Some("0"))], "net.ipv4.tcp_syncookies", Verdict::Warn, "flood"),
    (&[("proc/sys/net/ipv4/tcp_migrate_req", Some("0"))], "net.ipv4.tcp_migrate_req", Verdict::Warn, "restart"),
    (
        &[("proc/sys/net/ipv4/tcp_wmem", Some("4096 16384 4194304"))],
        "net.ipv4.tcp_wmem",
        Verdict::Warn,
        "sysctl -w net.ipv4.tcp_wmem=\"4096 16384 262144\"",
    ),
    (&[("proc/sys/net/ipv4/tcp_rmem", Some("4096 131072 262144"))], "net.ipv4.tcp_rmem", Verdict::Warn, "flooding"),
    (&[("proc/sys/net/ipv4/tcp_rmem", Some("4096"))], "net.ipv4.tcp_rmem", Verdict::Unknown, "not understood"),
    (
        &[("proc/sys/net/ipv4/tcp_notsent_lowat", Some("4294967295"))],
        "net.ipv4.tcp_notsent_lowat",
        Verdict::Warn,
        "proxy",
    ),
    (
        &[("proc/sys/net/ipv4/tcp_slow_start_after_idle", Some("1"))],
        "net.ipv4.tcp_slow_start_after_idle",
        Verdict::Warn,
        "slowly",
    ),
    (
        &[("proc/sys/net/ipv4/ip_local_port_range", Some("32768 60999"))],
        "net.ipv4.ip_local_port_range",
        Verdict::Warn,
        "fewer vehicles",
    ),
    (
        &[("proc/sys/net/ipv4/ip_local_port_range", Some("1024 65535"))],
        "port and local ports",
        Verdict::Warn,
        "ip_local_reserved_ports=3002",
    ),
    (&[("proc/sys/net/ipv4/ip_unprivileged_port_start", Some("4000"))], "port", Verdict::Blocking, "BIND_SERVICE"),
    (&[("proc/sys/net/ipv4/ip_unprivileged_port_start", None)], "port", Verdict::Unknown, "does not exist"),
    (&[("proc/sys/net/ipv4/tcp_mem", Some("100 200 300"))], "net.ipv4.tcp_mem", Verdict::Warn, "lowers"),
    (&[("proc/meminfo", Some("MemFree: 1 kB"))], "net.ipv4.tcp_mem", Verdict::Unknown, "no line MemTotal"),
    (
        &[("proc/sys/net/netfilter/nf_conntrack_max", Some("65536"))],
        "net.netfilter.nf_conntrack_max",
        Verdict::Warn,
        "drops the first connection",
    ),
    (
        &[("proc/sys/net/netfilter/nf_conntrack_count", Some("1048576"))],
        "conntrack",
        Verdict::Blocking,
        "dport 3002 notrack",
    ),
    (
        &[("proc/sys/net/netfilter/nf_conntrack_count", Some("900000"))],
        "conntrack",
        Verdict::Warn,
        "dport 3002 notrack",
    ),
    (
        &[("proc/net/nf_conntrack", Some("ipv4 2 tcp 6 9 ESTABLISHED src=1.2.3.4 dst=10.0.0.1 sport=5 dport=3002"))],
        "conntrack",
        Verdict::Warn,
        "dport 3002 notrack",
    ),
    (&[("proc/net/nf_conntrack", None)], "conntrack", Verdict::Unknown, "/proc/net/nf_conntrack does not exist"),
    (&[("proc/net/tcp", Some("  sl  local_address"))], "conntrack", Verdict::Unknown, "nobody is connected to 3002"),
    (
        &[("proc/net/softnet_stat", Some("00000001 0000000a 0\n00000001 00000006 0"))],
        "packets dropped on arrival",
        Verdict::Warn,
        "netdev_max_backlog",
    ),
    (&[("proc/net/softnet_stat", Some("x"))], "packets dropped on arrival", Verdict::Unknown, "not understood"),
    (
        &[("proc/net/netstat", Some("TcpExt: A ListenOverflows\nTcpExt: 0 7\n"))],
        "listen queue overflows",
        Verdict::Warn,
        "somaxconn",
    ),
    (&[("proc/net/netstat", Some("TcpExt: A\nTcpExt: 0\n"))], "listen queue overflows", Verdict::Unknown, "no Listen"),
    (&[("proc/sys/fs/nr_open", Some("4096"))], "fs.nr_open", Verdict::Warn, "LimitNOFILE"),
    (&[("proc/sys/fs/file-max", Some("100000"))], "fs.file-max", Verdict::Warn, "sysctl.d"),
    (
        &[("proc/self/limits", Some("Max open files 1024 4096 files\nMax locked memory unlimited unlimited bytes\n"))],
        "RLIMIT_NOFILE",
        Verdict::Warn,
        "LimitNOFILE",
    ),
    (
        &[("proc/self/limits", Some("Max open files 64 64 files\nMax locked memory 8388608 8388608 bytes\n"))],
        "RLIMIT_NOFILE",
        Verdict::Blocking,
        "LimitNOFILE",
    ),
    (
        &[("proc/self/limits", Some("Max open files 1024 1048576 files\nMax locked memory 65536 65536 bytes\n"))],
        "RLIMIT_MEMLOCK",
        Verdict::Blocking,
        "LimitMEMLOCK",
    ),
    (
        &[("proc/self/limits", Some("Max open files 1024 1048576 files\nMax locked memory 8 1048576 bytes\n"))],
        "RLIMIT_MEMLOCK",
        Verdict::Warn,
        "LimitMEMLOCK",
    ),
    (
        &[("proc/self/limits", Some("Max open files 1024 unlimited files\n"))],
        "RLIMIT_MEMLOCK",
        Verdict::Unknown,
        "no hard limit for Max locked memory",
    ),
    (
        &[("sys/fs/cgroup/system.slice/ringroad.service/cpu.max", Some("150000 100000"))],
        "CPUs",
        Verdict::Warn,
        "CPUQuota",
    ),
    (&[("sys/fs/cgroup/system.slice/cpu.max", Some("150000 100000"))], "CPUs", Verdict::Warn, "CPUQuota"),
    (
        &[("proc/irq/31/effective_affinity_list", Some("0"))],
        "interrupts of eth0",
        Verdict::Warn,
        "tuning/affinity eth0",
    ),
    (
        &[("proc/irq/31/effective_affinity_list", None)],
        "interrupts of eth0",
        Verdict::Unknown,
        "/proc/irq/31/smp_affinity_list does not exist",
    ),
    (
        &[("sys/devices/system/clocksource/clocksource0/current_clocksource", Some("hpet"))],
        "clocksource",
        Verdict::Warn,
        "echo tsc",
    ),
    (&[("proc/cmdline", Some("quiet mitigations=off"))], "mitigations", Verdict::Warn, "mitigations=off"),
    (
        &[("sys/devices/system/cpu/vulnerabilities/mds", Some("Vulnerable: no microcode"))],
        "mitigations",
        Verdict::Warn,
        "microcode",
    ),
    (
        &[("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", Some("powersave"))],
        "CPU governor",
        Verdict::Warn,
        "cpupower",
    ),
    (&[("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", None)], "CPU governor", Verdict::Unknown, "no cpufreq"),
    (
        &[
            ("sys/devices/system/node/online", Some("0-1")),
            ("sys/devices/system/node/node0/cpulist", Some("0")),
            ("sys/devices/system/node/node1/cpulist", Some("1")),
        ],
        "NUMA",
        Verdict::Warn,
        "per node",
    ),
    (
        &[("sys/kernel/mm/transparent_hugepage/enabled", Some("[always] madvise never"))],
        "transparent huge pages",
        Verdict::Warn,
        "echo madvise",
    ),
    (&[("proc/self/status", Some("CapEff:\t0\nCpus_allowed_list:\t0-1\n"))], "seccomp", Verdict::Unknown, "Seccomp"),
];

/// What is different and just as good.
pub(super) const AS_GOOD: &[&[Change]] = &[
    &[("proc/self/status", Some(STATUS_ROOT))],
    &[("proc/sys/kernel/io_uring_disabled", None)],
    &[("proc/sys/net/netfilter/nf_conntrack_max", None), ("proc/sys/net/netfilter/nf_conntrack_count", None)],
    &[("proc/sys/net/netfilter/nf_conntrack_count", Some("0")), ("proc/net/nf_conntrack", None)],
    &[("proc/sys/net/core/somaxconn", Some("200000")), ("proc/sys/net/ipv4/tcp_rmem", Some("4096 8192 65536"))],
    // Privileged, and what they lack is theirs.
    &[
        ("proc/self/status", Some(STATUS_ROOT)),
        ("proc/sys/net/ipv4/ip_unprivileged_port_start", Some("4000")),
        ("proc/self/limits", Some("Max open files 1 1048576 files\nMax locked memory 65536 65536 bytes\n")),
    ],
    &[
        ("proc/sys/net/ipv4/ip_local_port_range", Some("1024 65535")),
        ("proc/sys/net/ipv4/ip_local_reserved_ports", Some("3000-3005,9000")),
    ],
    // Both queues on one processor, but handed on.
    &[
        ("proc/irq/31/effective_affinity_list", Some("0")),
        ("sys/class/net/eth0/queues/rx-0/rps_cpus", Some("3")),
        ("sys/class/net/eth0/queues/rx-1/rps_cpus", Some("3")),
    ],
    &[("sys/devices/system/node/online", None), ("sys/devices/system/node/node0/cpulist", None)],
    &[("sys/devices/system/clocksource/clocksource0/current_clocksource", Some("kvm-clock"))],
];

/// A host that is a folder, healthy at first.
pub(super) struct Tree(tempfile::TempDir);

impl Tree {
    pub(super) fn healthy() -> Tree {
        let tree = Tree(tempfile::tempdir().unwrap());
        HEALTHY.iter().for_each(|(path, content)| tree.write(path, Some(content)));
        tree
    }

    fn write(&self, path: &str, content: Option<&str>) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match content {
            Some(content) => fs::write(path, content).unwrap(),
            None if path.exists() => fs::remove_file(path).unwrap(),
            None => {}
        }
    }

    pub(super) fn host(&self) -> Host {
        Host::below(self.0.path(), None)
    }

    /// With these files for as long as somebody looks.
    pub(super) fn with<T>(&self, changes: &[Change], look: impl FnOnce(&Host) -> T) -> T {
        changes.iter().for_each(|(path, content)| self.write(path, *content));
        let seen = look(&self.host());
        for (path, _) in changes {
            self.write(path, HEALTHY.iter().find(|(name, _)| name == path).map(|(_, content)| *content));
        }
        seen
    }
}
