//! What the doctor says of the hosts in `trees`, and that it wants what `tuning/` sets.

use super::sysctls::SYSCTLS;
use super::trees::{AS_GOOD, Change, ILLS, Tree};
use super::*;

const NEEDS: Needs =
    Needs { port: 3002, workers: 0, conns_per_worker_max: 100_000, steer_by_cpu: false, is_encrypted: false };
const USABLE: Uring = Uring::Usable { min_wait: true };

fn not_ok(report: &Report) -> Vec<(&str, Verdict, &str)> {
    let findings = report.findings.iter().filter(|finding| finding.verdict != Verdict::Ok);
    findings
        .map(|finding| {
            let said = finding.fix.as_ref().or(finding.reason.as_ref()).expect("a word about it");
            (finding.check.as_str(), finding.verdict, said.as_str())
        })
        .collect()
}

#[test]
fn a_healthy_host_has_nothing_to_mend() {
    let tree = Tree::healthy();
    for changes in [&[][..]].iter().chain(AS_GOOD) {
        let report = tree.with(changes, |host| examine(host, &NEEDS, &USABLE));
        assert_eq!(not_ok(&report), [], "{changes:?}");
        assert_eq!(report.verdict, Verdict::Ok);
    }
}

#[test]
fn each_ill_changes_its_own_verdict_and_no_other() {
    let tree = Tree::healthy();
    for (changes, check, verdict, said) in ILLS {
        let report = tree.with(changes, |host| examine(host, &NEEDS, &USABLE));
        let found = not_ok(&report);
        assert!(
            matches!(found[..], [(name, is, text)] if name == *check && is == *verdict && text.contains(said)),
            "{changes:?}: {found:#?}"
        );
        assert_eq!(report.verdict, *verdict);
        assert_eq!(report.blocking().count(), usize::from(*verdict == Verdict::Blocking));
        let finding = report.findings.iter().find(|finding| finding.check == *check).unwrap();
        assert_eq!(finding.value.is_none(), *verdict == Verdict::Unknown, "{finding:?}");
        assert_eq!(finding.fix.is_none(), *verdict == Verdict::Unknown, "{finding:?}");
    }
}

#[test]
fn what_a_ring_answers_decides_about_io_uring() {
    let tree = Tree::healthy();
    for (uring, expected) in [
        (Uring::Usable { min_wait: false }, vec![("io_uring", Verdict::Warn, "6.12")]),
        (
            Uring::Refused("forbidden here".into()),
            vec![("io_uring", Verdict::Blocking, "forbidden"), ("seccomp", Verdict::Warn, "profile")],
        ),
        (
            Uring::Untried("a copy".into()),
            vec![("io_uring", Verdict::Unknown, "copy"), ("seccomp", Verdict::Unknown, "copy")],
        ),
    ] {
        let report = examine(&tree.host(), &NEEDS, &uring);
        let found = not_ok(&report);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!((found.0, found.1) == (expected.0, expected.1) && found.2.contains(expected.2), "{found:?}");
        }
    }
}

#[test]
fn nothing_to_read_is_nothing_known() {
    let folder = tempfile::tempdir().unwrap();
    let report = examine(&Host::below(folder.path(), None), &NEEDS, &Uring::Untried("no host".into()));
    for finding in &report.findings {
        assert_eq!((finding.verdict, &finding.value), (Verdict::Unknown, &None), "{finding:?}");
        assert!(finding.reason.as_ref().is_some_and(|reason| !reason.is_empty()), "{finding:?}");
    }
    let capacity = capacity::estimate(&Host::below(folder.path(), None), &NEEDS);
    // Only the configuration is known.
    assert_eq!((capacity.connections, capacity.limited_by), (Some(100_000), Some("limits.conns_per_worker_max")));
}

#[test]
fn more_workers_than_processors_are_too_many() {
    let tree = Tree::healthy();
    let report = examine(&tree.host(), &Needs { workers: 4, conns_per_worker_max: 1_000, ..NEEDS }, &USABLE);
    assert!(matches!(not_ok(&report)[..], [("CPUs", Verdict::Warn, _)]), "{:?}", not_ok(&report));
}

#[test]
fn steering_needs_a_kernel_that_can() {
    let tree = Tree::healthy();
    let needs = Needs { steer_by_cpu: true, ..NEEDS };
    let verdict = |release: Option<&'static str>| {
        let report = tree.with(&[("proc/sys/kernel/osrelease", release)], |host| examine(host, &needs, &USABLE));
        report.findings.iter().find(|finding| finding.check == "server.steer").expect("asked for").verdict
    };
    let cases = [(Some("6.12.1"), Verdict::Ok), (Some("6.2.0"), Verdict::Ok), (Some("6.1.0-13-amd64"), Verdict::Warn)];
    for (release, expected) in cases.into_iter().chain([(Some("odd"), Verdict::Unknown), (None, Verdict::Unknown)]) {
        assert_eq!(verdict(release), expected, "{release:?}");
    }
    let report = examine(&tree.host(), &NEEDS, &USABLE);
    assert!(report.findings.iter().all(|finding| finding.check != "server.steer"), "nobody asked");
}

#[test]
fn what_is_scarce_limits_the_capacity() {
    let limits = "Max open files 1024 20000 files\nMax locked memory 8 8388608 bytes\n";
    // Bytes of a connection with two workers: 816 + 200 + 4,100.
    let cases: &[(&[Change], u64, &str)] = &[
        (&[], 200_000, "limits.conns_per_worker_max"),
        (&[("proc/self/limits", Some(limits))], 20_000 - 64 - 2 * 16, "descriptors of the process"),
        (&[("proc/sys/fs/file-nr", Some("1000 0 51000"))], 50_000, "descriptors of the host"),
        (&[("proc/meminfo", Some("MemTotal: 1048576 kB"))], ((768 << 20) - (14 << 20)) / 5_116, "memory"),
        (&[("sys/fs/cgroup/system.slice/memory.max", Some("536870912"))], ((384 << 20) - (14 << 20)) / 5_116, "memory"),
        (&[("proc/sys/net/netfilter/nf_conntrack_max", Some("65536"))], 65_496, "tracked connections"),
    ];
    let tree = Tree::healthy();
    for (changes, connections, by) in cases {
        let capacity = tree.with(changes, |host| capacity::estimate(host, &NEEDS));
        let encrypted = tree.with(changes, |host| capacity::estimate(host, &Needs { is_encrypted: true, ..NEEDS }));
        let memory = |of: &capacity::Capacity| {
            of.bounds.iter().find(|bound| bound.of == "memory").and_then(|bound| bound.connections)
        };
        assert!(memory(&encrypted) < memory(&capacity));
        assert_eq!((capacity.connections, capacity.limited_by), (Some(*connections), Some(*by)), "{capacity:#?}");
        assert_eq!(capacity.bounds.len(), 7);
    }
}

#[test]
fn a_report_can_be_read_by_people_and_by_programs() {
    let report = Tree::healthy().with(
        &[("proc/sys/net/core/somaxconn", Some("128")), ("proc/net/softnet_stat", None)],
        |host| Report { capacity: Some(capacity::estimate(host, &NEEDS)), ..examine(host, &NEEDS, &USABLE) },
    );
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!(json["verdict"], "warn");
    assert_eq!(json["capacity"]["connections"], 200_000);
    let findings = json["findings"].as_array().unwrap();
    assert_eq!(findings.len(), report.findings.len());
    let found = |check: &str| findings.iter().find(|finding| finding["check"] == check).unwrap();
    let somaxconn = found("net.core.somaxconn");
    assert_eq!((&somaxconn["value"], &somaxconn["wanted"]), (&"128".into(), &"at least 65535".into()));
    assert!(somaxconn["fix"].as_str().unwrap().contains("65535") && somaxconn.get("reason").is_none());
    let dropped = found("packets dropped on arrival");
    assert!(dropped["value"].is_null() && dropped["reason"].as_str().unwrap().contains("softnet_stat"));

    let table = report.to_string();
    let count = |verdict: &str| table.lines().filter(|line| line.starts_with(verdict)).count();
    assert_eq!((count("ok "), count("warn "), count("unknown ")), (report.findings.len() - 2, 1, 1), "{table}");
    assert!(table.contains("blocking: 0, warnings: 1, unknown: 1") && table.contains("about 200000 idle"), "{table}");
    assert!(
        table.contains("\nRingroad runs here; ") && table.contains("cp tuning/sysctl.d/90-ringroad.conf"),
        "{table}"
    );
    // Where all of them are well, nobody is sent there.
    let table =
        Tree::healthy().with(&[("proc/net/softnet_stat", None)], |host| examine(host, &NEEDS, &USABLE)).to_string();
    assert!(table.contains("as far as is known.") && !table.contains("sysctl --system"), "{table}");
    let no_bound = Tree::healthy()
        .with(&[("proc/sys/fs/file-nr", Some("9 0 9223372036854775807"))], |host| capacity::estimate(host, &NEEDS));
    assert!(no_bound.to_string().contains("unlimited  fs.file-max"), "{no_bound}");
}

/// What the doctor wants and what `tuning/` sets are one.
#[test]
fn the_file_sets_what_is_wanted_and_nothing_else() {
    let file = include_str!("../../tuning/sysctl.d/90-ringroad.conf");
    let set: Vec<_> = file
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let (name, value) = line.split_once(" = ").unwrap_or_else(|| panic!("{line}"));
            // Only what some kernels lack may fail.
            let may_fail = name.starts_with('-');
            (name.trim_start_matches('-'), value, may_fail)
        })
        .collect();
    let wanted: Vec<_> =
        SYSCTLS.iter().map(|sysctl| (sysctl.name, sysctl.wanted, sysctl.absent == Verdict::Ok)).collect();
    assert_eq!(set, wanted);
    for sysctl in SYSCTLS {
        assert_eq!(sysctl.suits(sysctl.wanted), Some(true), "{}", sysctl.name);
    }
}
