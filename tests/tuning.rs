//! `tuning/affinity` on hosts that are trees of files, and what `ringroad doctor` says of them before and after.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// A host with this many processors and queues, all of whose interrupts go to processor 0.
fn host(cpus: u32, receiving: u32, sending: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut table = String::from("   CPU0\n");
    let mut irq = 40;
    let mut queue = |kind: &str, at: u32| {
        table.push_str(&format!(" {irq}:  7  PCI-MSI {irq}-edge  eth0-{kind}-{at}\n"));
        write(folder.path(), &format!("sys/class/net/eth0/device/msi_irqs/{irq}"), "msix");
        write(folder.path(), &format!("proc/irq/{irq}/smp_affinity_list"), "0");
        write(folder.path(), &format!("proc/irq/{irq}/smp_affinity"), "1");
        irq += 1;
    };
    for at in 0..receiving {
        queue("rx", at);
        write(folder.path(), &format!("sys/class/net/eth0/queues/rx-{at}/rps_cpus"), "0");
    }
    for at in 0..sending {
        queue("tx", at);
        write(folder.path(), &format!("sys/class/net/eth0/queues/tx-{at}/xps_cpus"), "0");
    }
    write(folder.path(), "proc/interrupts", &table);
    write(folder.path(), "proc/irq/default_smp_affinity", "ff");
    write(folder.path(), "sys/devices/system/cpu/online", &format!("0-{}", cpus - 1));
    write(folder.path(), "sys/class/net/lo/queues/rx-0/rps_cpus", "0");
    write(folder.path(), "proc/self/status", &format!("Cpus_allowed_list:\t0-{}\n", cpus - 1));
    folder
}

fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn affinity(root: &Path, args: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/affinity");
    Command::new(script).env("RINGROAD_ROOT", root).args(args).output().expect("the script runs")
}

fn verdict(root: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_ringroad"))
        .args(["doctor", "--json", "--root"])
        .arg(root)
        .output()
        .expect("the binary runs");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = report["findings"].as_array().expect("findings");
    let found = findings.iter().find(|finding| finding["check"] == "interrupts of eth0").expect("a finding");
    found["verdict"].as_str().expect("a verdict").to_owned()
}

/// What the files of one kind hold, in the order of their queues.
fn held(root: &Path, count: u32, path: impl Fn(u32) -> String) -> Vec<String> {
    (0..count).map(|at| fs::read_to_string(root.join(path(at))).unwrap().trim().to_owned()).collect()
}

#[test]
fn queues_are_spread_over_the_processors_and_the_doctor_agrees() {
    type Case = (u32, u32, u32, &'static [&'static str], &'static [&'static str], &'static [&'static str]);
    // Processors, receive and transmit queues; interrupts of all queues, RPS, XPS.
    let cases: &[Case] = &[
        (2, 2, 2, &["0", "1", "0", "1"], &["0", "0"], &["00000001", "00000002"]),
        (4, 1, 1, &["0", "0"], &["0000000f"], &["0"]),
        (4, 2, 2, &["0", "1", "0", "1"], &["0000000f", "0000000f"], &["00000005", "0000000a"]),
        (
            34,
            3,
            3,
            &["0", "1", "2", "0", "1", "2"],
            &["00000003,ffffffff", "00000003,ffffffff", "00000003,ffffffff"],
            &["00000002,49249249", "92492492", "00000001,24924924"],
        ),
        (1, 2, 2, &["0", "0", "0", "0"], &["0", "0"], &["00000001", "0"]),
        (2, 11, 1, &["0", "1", "0", "1", "0", "1", "0", "1", "0", "1", "0", "0"], &["0"; 11], &["0"]),
    ];
    for (cpus, receiving, sending, irqs, rps, xps) in cases {
        let host = host(*cpus, *receiving, *sending);
        let case = format!("{cpus} processors, {receiving} and {sending} queues");
        assert_eq!(verdict(host.path()), if *cpus == 1 { "ok" } else { "warn" }, "{case}");
        let output = affinity(host.path(), &["eth0"]);
        assert!(output.status.success(), "{case}: {}", String::from_utf8_lossy(&output.stderr));
        let placed = || held(host.path(), receiving + sending, |at| format!("proc/irq/{}/smp_affinity_list", 40 + at));
        let handed_on = || held(host.path(), *receiving, |at| format!("sys/class/net/eth0/queues/rx-{at}/rps_cpus"));
        let chosen = || held(host.path(), *sending, |at| format!("sys/class/net/eth0/queues/tx-{at}/xps_cpus"));
        assert_eq!((placed(), handed_on(), chosen()), (owned(irqs), owned(rps), owned(xps)), "{case}");
        assert_eq!(verdict(host.path()), "ok", "{case}");

        let output = affinity(host.path(), &["--undo", "eth0"]);
        assert!(output.status.success(), "{case}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(handed_on().iter().chain(&chosen()).all(|mask| mask == "0"), "{case}");
        let masks = held(host.path(), receiving + sending, |at| format!("proc/irq/{}/smp_affinity", 40 + at));
        assert!(masks.iter().all(|mask| mask == "ff"), "{case}: {masks:?}");
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_dry_run_writes_nothing_and_what_cannot_be_done_is_said() {
    let host = host(4, 1, 1);
    let output = affinity(host.path(), &["--dry-run", "--cpus", "1,3", "eth0"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            "echo 1 > /proc/irq/40/smp_affinity_list",
            "echo 1 > /proc/irq/41/smp_affinity_list",
            "echo 0000000a > /sys/class/net/eth0/queues/rx-0/rps_cpus",
        ]
    );
    assert_eq!(verdict(host.path()), "warn");
    // An interrupt that the kernel manages refuses; the rest is done all the same.
    fs::remove_file(host.path().join("proc/irq/40/smp_affinity_list")).unwrap();
    fs::create_dir(host.path().join("proc/irq/40/smp_affinity_list")).unwrap();
    for (args, code, said) in [
        (&["eth0"][..], 1, "/proc/irq/40/smp_affinity_list does not take 0"),
        (&["eth1"], 1, "there is no device eth1"),
        (&["lo"], 1, "lo is no network card"),
        (&["--cpus", "x", "eth0"], 1, "x is no list of processors"),
        (&[], 2, "usage:"),
        (&["eth0", "eth1"], 2, "usage:"),
        (&["--cpus"], 2, "usage:"),
    ] {
        let output = affinity(host.path(), args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(said), "{args:?}: {stderr}");
    }
    assert_eq!(held(host.path(), 1, |_| "sys/class/net/eth0/queues/rx-0/rps_cpus".into()), ["0000000f"]);
}

#[test]
fn limits_of_logins_are_lines_that_pam_takes() {
    let file = include_str!("../tuning/limits.d/90-ringroad.conf");
    let lines = file.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let limits: Vec<Vec<_>> = lines.map(|line| line.split_whitespace().collect()).collect();
    let expected = |who, item, value| vec![who, "-", item, value];
    assert_eq!(
        limits,
        [
            expected("*", "nofile", "1048576"),
            expected("root", "nofile", "1048576"),
            expected("*", "memlock", "262144"),
            expected("root", "memlock", "262144"),
        ]
    );
}
