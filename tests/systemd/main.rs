//! What `systemd/` installs: the script, and units that systemd understands, finds well confined, and runs. `systemd-analyze`
//! is needed, and Debian's package of that name has it; a real systemd runs only as root (`host`, and `walk` through it).

mod host;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const UNITS: [&str; 2] = ["ringroad.service", "ringroad@.service"];

/// Tenths: the exposure that an operator should not have to accept more of.
const EXPOSURE_MAX: &str = "20";

fn source(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(file)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// Runs the script for a root of its own.
fn install(root: &Path, args: &[&str]) -> Output {
    Command::new(source("install")).args(args).env("DESTDIR", root).output().expect("a shell")
}

fn installed(root: &Path) -> String {
    let output = install(root, &["--binary", env!("CARGO_BIN_EXE_ringroad")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

/// Every file below a root, with its mode and inode.
fn files(root: &Path) -> BTreeMap<PathBuf, (u32, u64)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let (path, metadata) = (entry.path(), entry.metadata().expect("there"));
            if metadata.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).expect("below").to_owned();
                found.insert(name, (metadata.permissions().mode() & 0o777, metadata.ino()));
            }
        }
    }
    found
}

/// `KEY=value` lines of a unit, and whether a comment says why.
fn directives(unit: &str) -> Vec<(String, bool)> {
    let (mut found, mut has_reason) = (Vec::new(), false);
    for line in unit.lines() {
        match line {
            line if line.starts_with('#') => has_reason = true,
            "" => has_reason = false,
            line if line.starts_with('[') => {}
            line => found.push((line.to_owned(), has_reason)),
        }
    }
    found
}

#[test]
fn it_installs_once_and_keeps_what_an_operator_has_written() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let root = root.path();
    assert!(installed(root).contains("etc/ringroad/ringroad.toml"));
    let before = files(root);
    let mode = |file: &str| before.get(Path::new(file)).map(|(mode, _)| *mode);
    for (file, expected) in [
        ("usr/local/bin/ringroad", 0o755),
        ("etc/systemd/system/ringroad.service", 0o644),
        ("etc/systemd/system/ringroad@.service", 0o644),
        ("etc/sysusers.d/ringroad.conf", 0o644),
        ("etc/tmpfiles.d/ringroad.conf", 0o644),
        ("etc/ringroad/ringroad.toml", 0o640),
    ] {
        assert_eq!(mode(file), Some(expected), "{file} of {before:?}");
    }
    assert_eq!(installed(root), "", "the second time there is nothing to do");
    assert_eq!(files(root), before);

    let configuration = root.join("etc/ringroad/ringroad.toml");
    fs::write(&configuration, "[server]\nworkers = 3\n").expect("written");
    fs::write(root.join("etc/systemd/system/ringroad.service"), "# older").expect("written");
    assert_eq!(installed(root).lines().count(), 1, "only the unit differs");
    assert!(fs::read_to_string(&configuration).expect("there").contains("workers = 3"));

    let kept = install(root, &["--uninstall"]);
    assert!(kept.status.success(), "{}", text(&kept.stderr));
    assert_eq!(files(root).keys().collect::<Vec<_>>(), [Path::new("etc/ringroad/ringroad.toml")]);
    for _ in 0..2 {
        assert!(install(root, &["--uninstall", "--purge"]).status.success());
        assert!(files(root).is_empty(), "{:?}", files(root));
    }
}

#[test]
fn what_cannot_be_installed_is_said() {
    let root = tempfile::tempdir().expect("a temporary directory");
    for (args, word) in [
        (&["--binary", "/nonexistent/ringroad"][..], "cargo build --release"),
        (&["--reinstall"], "--reinstall"),
        (&["--binary"], "needs a file"),
    ] {
        let output = install(root.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(word), "{}", text(&output.stderr));
        assert!(files(root.path()).is_empty());
    }
}

#[test]
fn the_example_is_a_configuration_with_the_defaults() {
    let path = source("ringroad.toml").display().to_string();
    let shown = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_ringroad"))
            .env_clear()
            .arg("config")
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("the binary runs");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).to_owned()
    };
    assert_eq!(shown(&["--config", &path]), shown(&[]));
}

#[test]
fn each_directive_has_its_reason_and_both_units_are_one() {
    let read = |unit: &str| fs::read_to_string(source(unit)).expect("a unit");
    let [single, template] = UNITS.map(read).map(|unit| directives(&unit));
    for (directive, has_reason) in single.iter().chain(&template) {
        assert!(
            *has_reason || directive.starts_with("Description=") || directive.starts_with("WantedBy="),
            "{directive}"
        );
    }
    let common = |of: &[(String, bool)]| -> Vec<String> {
        let own = ["Description=", "ExecStart=", "Environment=GROUP", "EnvironmentFile=-/etc/ringroad/%i.group"];
        let is_own = |line: &&String| own.iter().any(|own| line.starts_with(own));
        of.iter().map(|(line, _)| line).filter(|line| !is_own(line)).cloned().collect()
    };
    assert_eq!(common(&single), common(&template));
}

#[test]
fn systemd_understands_the_units_and_finds_them_confined() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: systemd-analyze is not installed (Debian: apt-get install systemd)");
        return;
    }
    let root = tempfile::tempdir().expect("a temporary directory");
    for drop_in in [None, Some("radio.conf")] {
        for unit in UNITS {
            // An instance has a name; and what is started must be there.
            let name = unit.replace('@', "@blue");
            let path = root.path().join(&name);
            let unit = fs::read_to_string(source(unit)).expect("a unit");
            let mut unit = unit.replace("/usr/local/bin/ringroad", env!("CARGO_BIN_EXE_ringroad"));
            if let Some(drop_in) = drop_in {
                // A section that comes again goes on.
                unit += &fs::read_to_string(source(drop_in)).expect("a drop-in");
            }
            fs::write(&path, unit).expect("written");
            let path = path.to_str().expect("UTF-8");
            let verified = Command::new("systemd-analyze").args(["verify", path]).output().expect("it runs");
            // It complains about other units of this machine too, and about keys that it ignores only in words.
            let about_ours: Vec<&str> =
                text(&verified.stderr).lines().filter(|line| line.contains("ringroad")).collect();
            assert!(verified.status.success() && about_ours.is_empty(), "{name}: {}", text(&verified.stderr));
            let mut security = Command::new("systemd-analyze");
            security.args(["security", "--no-pager", "--offline=true"]).arg(format!("--threshold={EXPOSURE_MAX}"));
            let judged = security.arg(path).output().expect("it runs");
            let verdict = text(&judged.stdout).lines().last().unwrap_or_default().to_owned();
            assert!(judged.status.success() && verdict.contains("Overall exposure level"), "{name}: {verdict}");
        }
    }
}

/// The system calls of a set, and of the sets in it.
fn system_calls(set: &str) -> BTreeSet<String> {
    let output = Command::new("systemd-analyze").args(["syscall-filter", set]).output().expect("it runs");
    assert!(output.status.success(), "{set}: {}", text(&output.stderr));
    let lines = text(&output.stdout).lines().skip(1).map(str::trim);
    let members = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    members.flat_map(|one| if one.starts_with('@') { system_calls(one) } else { [one.to_owned()].into() }).collect()
}

/// What the unit lets through, as systemd reads it: sets are added, or taken away behind `~`.
fn allowed(unit: &str) -> BTreeSet<String> {
    let mut allowed = system_calls("@default");
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (names, is_taken) = line.strip_prefix('~').map_or((line, false), |names| (names, true));
        for name in names.split(' ') {
            let calls = if name.starts_with('@') { system_calls(name) } else { [name.to_owned()].into() };
            allowed = if is_taken { &allowed - &calls } else { &allowed | &calls };
        }
    }
    allowed
}

#[test]
fn a_gateway_at_work_needs_no_system_call_that_its_unit_forbids() {
    let is_there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !is_there("strace") || !is_there("systemd-analyze") {
        eprintln!("skipped: strace or systemd-analyze is not installed");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (trace, pid_file) = (folder.path().join("trace"), folder.path().join("pid"));
    let mut gateway = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(&trace)
        .arg(env!("CARGO_BIN_EXE_ringroad"))
        .args(["serve", "--listen", "127.0.0.1:0", "--set", "server.drain_ms=300", "--replace"])
        .arg(&pid_file)
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    let mut line = String::new();
    BufReader::new(gateway.stdout.take().expect("a pipe")).read_line(&mut line).expect("a first line");
    let addr = line.trim().rsplit(' ').next().expect("an address").to_owned();
    let options = ringroad::drive::DriveOptions {
        url: format!("ws://{addr}/v2v"),
        vehicles: Some(20),
        seconds: Some(1.0),
        ..ringroad::drive::DriveOptions::default()
    };
    let report = ringroad::drive::run(options, |_| std::ops::ControlFlow::Continue(())).expect("a drive");
    assert_eq!(report.registered, 20);
    let pid: i32 = fs::read_to_string(&pid_file).expect("written").trim().parse().expect("a number");
    for signal in [Signal::SIGHUP, Signal::SIGTERM] {
        kill(Pid::from_raw(pid), signal).expect("it runs");
    }
    assert!(gateway.wait().expect("our child").success());
    let trace = fs::read_to_string(&trace).expect("a trace");
    let call = |line: &str| Some(line.split_once(' ')?.1.trim_start().split_once('(')?.0.to_owned());
    let is_name = |name: &String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let used: BTreeSet<String> = trace.lines().filter_map(call).filter(is_name).collect();
    assert!(used.contains("io_uring_enter") && used.contains("sched_setaffinity"), "{used:?}");
    let unit = fs::read_to_string(source("ringroad.service")).expect("a unit");
    let forbidden = &used - &allowed(&unit);
    assert!(forbidden.is_empty(), "{forbidden:?}");
}

/// Where the tests may become another user, the two files are tried in a root of their own.
#[test]
fn the_user_and_its_folder_are_made() {
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if !is_root || Command::new("systemd-sysusers").arg("--version").output().is_err() {
        eprintln!("skipped: needs root, systemd-sysusers and systemd-tmpfiles");
        return;
    }
    let root = tempfile::tempdir().expect("a temporary directory");
    let root = root.path();
    installed(root);
    fs::create_dir_all(root.join("run")).expect("a folder");
    let made = |program: &str, args: &[&str]| {
        let output = Command::new(program).arg(format!("--root={}", root.display())).args(args).output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{program}: {}", text(&output.stderr));
    };
    made("systemd-sysusers", &["ringroad.conf"]);
    let users = fs::read_to_string(root.join("etc/passwd")).expect("users");
    let user = users.lines().find(|line| line.starts_with("ringroad:")).expect("ours");
    assert!(user.ends_with("nologin"), "{user}");
    made("systemd-tmpfiles", &["--create", "ringroad.conf"]);
    let folder = fs::metadata(root.join("run/ringroad")).expect("a folder");
    assert_eq!(folder.permissions().mode() & 0o777, 0o750);
    let uid: u32 = user.split(':').nth(2).and_then(|uid| uid.parse().ok()).expect("a number");
    assert_eq!(folder.uid(), uid);
}
