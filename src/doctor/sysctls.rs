//! The kernel settings of `tuning/sysctl.d/90-ringroad.conf`. A test holds this table to that file, which has the reasons.

use super::{Check, Finding, Host, Unread, Verdict};

/// A setting and what is wanted of it.
#[derive(Clone, Copy, Debug)]
pub struct Sysctl {
    /// As `sysctl` names it.
    pub name: &'static str,
    /// What the file sets.
    pub wanted: &'static str,
    /// How another value compares with that.
    pub rule: Rule,
    /// What a value that is not as wanted does.
    pub otherwise: &'static str,
    /// The value with which Ringroad cannot start at all.
    pub blocks: Option<&'static str>,
    /// Verdict where there is no such setting.
    pub absent: Verdict,
}

/// Which values are as good as the wanted one. Of several numbers each is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// No other.
    Exactly,
    /// Greater ones.
    AtLeast,
    /// Smaller ones.
    AtMost,
    /// A first number that is smaller and a second that is greater.
    Around,
}

const fn sysctl(name: &'static str, rule: Rule, wanted: &'static str, otherwise: &'static str) -> Sysctl {
    Sysctl { name, wanted, rule, otherwise, blocks: None, absent: Verdict::Unknown }
}

/// In the order of the file.
pub const SYSCTLS: &[Sysctl] = &[
    // Kernels before 6.6 have no such switch. Whether io_uring is refused, a check of its own says.
    Sysctl {
        absent: Verdict::Ok,
        blocks: Some("2"),
        ..sysctl(
            "kernel.io_uring_disabled",
            Rule::Exactly,
            "0",
            "1: only root and the group in kernel.io_uring_group may use io_uring, 2: nobody",
        )
    },
    sysctl(
        "net.core.somaxconn",
        Rule::AtLeast,
        "65535",
        "of a fleet that dials at once, who does not fit into the queue retries after 1, 3, 7 s",
    ),
    sysctl("net.ipv4.tcp_max_syn_backlog", Rule::AtLeast, "65535", "the same for half-open connections"),
    sysctl("net.ipv4.tcp_syncookies", Rule::AtLeast, "1", "a SYN flood keeps everybody out"),
    sysctl(
        "net.ipv4.tcp_migrate_req",
        Rule::Exactly,
        "1",
        "a restart resets the connections that wait in the old process's queue",
    ),
    sysctl(
        "net.core.netdev_max_backlog",
        Rule::AtLeast,
        "16384",
        "packets of a burst are dropped when a core is busy (/proc/net/softnet_stat)",
    ),
    sysctl(
        "net.ipv4.tcp_wmem",
        Rule::AtMost,
        "4096 16384 262144",
        "a stalled reader holds more old positions in the kernel",
    ),
    sysctl("net.ipv4.tcp_rmem", Rule::AtMost, "4096 16384 262144", "a flooding client holds more memory in the kernel"),
    sysctl("net.ipv4.tcp_notsent_lowat", Rule::AtMost, "131072", "a proxy on this host hoards old positions"),
    sysctl(
        "net.ipv4.tcp_slow_start_after_idle",
        Rule::Exactly,
        "0",
        "after each rest a connection starts slowly again",
    ),
    // Without connection tracking there is nothing to run full.
    Sysctl {
        absent: Verdict::Ok,
        ..sysctl(
            "net.netfilter.nf_conntrack_max",
            Rule::AtLeast,
            "1048576",
            "the firewall drops the first connection beyond",
        )
    },
    sysctl(
        "net.ipv4.ip_local_port_range",
        Rule::Around,
        "10240 65535",
        "`ringroad drive` on this host, or a proxy, reaches fewer vehicles",
    ),
];

impl Sysctl {
    /// Where it can be read.
    pub fn path(&self) -> String {
        format!("proc/sys/{}", self.name.replace('.', "/"))
    }

    /// Whether a value is as wanted; `None`: it is no value of this setting.
    pub fn suits(&self, value: &str) -> Option<bool> {
        let (is, wanted) = (numbers(value)?, numbers(self.wanted)?);
        (is.len() == wanted.len()).then(|| {
            let mut pairs = is.iter().zip(&wanted);
            match self.rule {
                Rule::Exactly => is == wanted,
                Rule::AtLeast => pairs.all(|(is, wanted)| is >= wanted),
                Rule::AtMost => pairs.all(|(is, wanted)| is <= wanted),
                Rule::Around => is[0] <= wanted[0] && is[1..] >= wanted[1..],
            }
        })
    }

    fn examine(&self, host: &Host) -> Finding {
        let wanted = match self.rule {
            Rule::Exactly => self.wanted.to_owned(),
            Rule::AtLeast => format!("at least {}", self.wanted),
            Rule::AtMost => format!("at most {}", self.wanted),
            Rule::Around => format!("{} or wider", self.wanted),
        };
        let check = Check { name: self.name, wanted: &wanted };
        let value = match host.read(&self.path()) {
            Ok(value) => value.split_whitespace().collect::<Vec<_>>().join(" "),
            // A tree without any settings says nothing about this one.
            Err(Unread::Missing(_)) if self.absent == Verdict::Ok && host.has("proc/sys/kernel") => {
                return check.ok("no such setting");
            }
            Err(unread) => return check.unknown(unread),
        };
        match self.suits(&value) {
            Some(true) => check.ok(value),
            Some(false) => {
                let fix = format!("sysctl -w {}=\"{}\" ({})", self.name, self.wanted, self.otherwise);
                if self.blocks == Some(value.as_str()) { check.blocking(value, fix) } else { check.warn(value, fix) }
            }
            None => check.unknown(super::host::strange(&self.path(), &value)),
        }
    }
}

fn numbers(text: &str) -> Option<Vec<u64>> {
    let numbers: Option<Vec<_>> = text.split_whitespace().map(|number| number.parse().ok()).collect();
    numbers.filter(|numbers| !numbers.is_empty())
}

pub(super) fn look(host: &Host, out: &mut Vec<Finding>) {
    out.extend(SYSCTLS.iter().map(|sysctl| sysctl.examine(host)));
}
