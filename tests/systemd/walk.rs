//! An operator's walk through docs/OPERATIONS.md on a host that systemd runs: the commands as they stand there.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use ringroad::drive::{self, DriveOptions, Report};

use crate::host::{Host, PATIENCE, text};

/// The commands that the documents name so.
fn documented(name: &str) -> &'static str {
    let documents = include_str!("../../docs/OPERATIONS.md");
    let found = documents.split(&format!("```sh {name}\n")).nth(1).and_then(|rest| rest.split("```").next());
    found.unwrap_or_else(|| panic!("docs/OPERATIONS.md has no commands named {name}"))
}

/// With each fleet.
const VIEWERS: u32 = 2;

/// A drain in seconds that a test can wait for.
const QUICKLY: &str = "sed -i 's/^drain_ms = .*/drain_ms = 1500/' /etc/ringroad/ringroad.toml";

/// Drives a fleet on the host until `is_over` says so of a report; what it has seen until then.
fn fleet(
    host: &Host,
    vehicles: u32,
    mut is_over: impl FnMut(&Report) -> bool + Send + 'static,
) -> mpsc::Receiver<Report> {
    let (tell, told) = mpsc::channel();
    let options = DriveOptions {
        url: "ws://127.0.0.1:3002/v2v".to_owned(),
        vehicles: Some(vehicles),
        viewers: VIEWERS,
        hz: 5.0,
        seconds: Some(600.0),
        side_m: 800.0,
        ..DriveOptions::default()
    };
    thread::scope(|scope| {
        // A thread that has moved to another network stays there, and so do those that it starts.
        scope.spawn(|| {
            host.enter_network();
            thread::spawn(move || {
                let over = |report: &Report| {
                    let _ = tell.send(report.clone());
                    if is_over(report) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                };
                let report = drive::run(options, over).expect("a drive");
                let _ = tell.send(report);
            });
        });
    });
    told
}

/// The first report that is as wanted.
fn report(inbox: &mpsc::Receiver<Report>, what: &str, is: impl Fn(&Report) -> bool) -> Report {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let report = inbox.recv_timeout(left).unwrap_or_else(|_| panic!("waited in vain: {what}"));
        if is(&report) {
            return report;
        }
    }
}

/// The fields of `/proc/PID/status`.
fn status(host: &Host, pid: &str) -> BTreeMap<String, String> {
    let text = host.ask(&format!("cat /proc/{pid}/status"));
    let fields = text.lines().filter_map(|line| line.split_once(":\t"));
    fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// Nothing that an operator would have to ask about.
fn assert_quiet(host: &Host) {
    let log = host.ask("journalctl --no-pager --output cat --unit 'ringroad*'");
    assert!(!log.contains(" WARN ") && !log.contains(" ERROR "), "{log}");
}

#[test]
fn a_service_is_installed_started_reloaded_stopped_and_taken_away() {
    let Some(host) = Host::boot() else { return };
    let said = host.ask(documented("service"));
    for expected in ["Active: active (running)", "Status: \"listening on 0.0.0.0:3002", "\"status\":\"ok\""] {
        assert!(said.contains(expected), "{expected} is missing in\n{said}");
    }
    assert_eq!(host.ask("systemctl is-enabled ringroad"), "enabled");
    assert_eq!(
        host.ask("stat --format '%U %G %a' /run/ringroad /etc/ringroad/ringroad.toml"),
        "ringroad ringroad 750\nroot ringroad 640"
    );

    // The confinement is there, and within it io_uring carries a fleet.
    let pid = host.shows("ringroad", "MainPID");
    assert_eq!(host.ask("cat /run/ringroad/ringroad.pid"), pid);
    let seen = status(&host, &pid);
    let uid = host.ask("id --user ringroad");
    assert_eq!(seen["Uid"].split('\t').collect::<Vec<_>>(), [&*uid; 4]);
    assert_eq!([&*seen["NoNewPrivs"], &*seen["Seccomp"], &*seen["CapBnd"]], ["1", "2", "0000000000000000"]);
    let report = report(&fleet(&host, 30, |report| report.tally.owed > 2_000), "a drive", |report| {
        report.phase == drive::report::Phase::Done
    });
    assert_eq!((report.registered, report.tally.wrong, report.closes.len()), (30, 0, 0), "{report}");

    // Whoever asks about it is told: of what blocks, the exit code would say.
    let examined = [documented("doctor"), documented("limits")].map(|lines| host.ask(lines));
    assert!(
        examined.iter().all(|said| said.contains("blocking: 0") && said.contains("Ringroad runs here")),
        "{examined:?}"
    );
    assert!(examined[1].contains("a filter that allows io_uring"), "{}", examined[1]);
    assert!(host.ask(documented("metrics")).contains("\nringroad_build_info{"));

    // Installed again nothing changes; neither does what runs.
    assert_eq!(host.ask("systemd/install"), "");
    assert_eq!(host.shows("ringroad", "MainPID"), pid);

    // What an operator changes is read again and said; what is wrong is found before, or does no harm.
    let said = host.ask(&format!("{QUICKLY}\n{}", documented("reload")));
    assert!(said.contains("configuration read again") && said.contains("server.drain_ms"), "{said}");
    assert!(host.shows("ringroad", "StatusText").ends_with("; configuration read again"));
    let wrong = host.run(&format!(
        "sed -i 's/^drain_ms = .*/drain_ms = \"soon\"/' /etc/ringroad/ringroad.toml\n{}",
        documented("reload")
    ));
    assert_eq!(wrong.status.code(), Some(2), "it stops at the check: {}", text(&wrong.stderr));
    host.ask("sed -i 's/^drain_ms = .*/drain_ms = 1500/' /etc/ringroad/ringroad.toml");

    // A stop is a drain: everybody is told, and systemd waits, although the unit alone would not give it the time.
    assert_quiet(&host);
    host.ask(
        "mkdir -p /etc/systemd/system/ringroad.service.d
        printf '[Service]\nTimeoutStopSec=1\n' > /etc/systemd/system/ringroad.service.d/hasty.conf
        systemctl daemon-reload",
    );
    let everybody = 30 + u64::from(VIEWERS);
    let are_told = move |report: &Report| report.closes.get("1012 shutdown").is_some_and(|count| *count >= everybody);
    let inbox = fleet(&host, 30, are_told);
    self::report(&inbox, "they drive", |report| report.tally.owed > 500);
    host.ask("systemctl stop ringroad");
    let shown = host.ask("systemctl show ringroad --property Result --property ExecMainStatus --property ActiveState");
    assert_eq!(
        shown.lines().collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>(),
        ["ActiveState=inactive", "ExecMainStatus=0", "Result=success"]
    );
    let log = host.ask("journalctl --no-pager --output cat --unit ringroad");
    assert!(log.contains("draining; a second signal ends the process at once over_ms=1500"), "{log}");
    // Each at its own moment, the last ones after more than that second; there was nowhere to come back to.
    let last = self::report(&inbox, "they were told", are_told);
    assert_eq!(last.closes["1012 shutdown"], everybody, "{last}");
    let others = last.closes.keys().filter(|why| !["1012 shutdown", "connection failed"].contains(&why.as_str()));
    assert_eq!(others.count(), 0, "{last}");
    assert_quiet(&host);

    host.ask("systemd/install --uninstall --purge");
    assert_eq!(host.shows("ringroad", "LoadState"), "not-found");
    assert_eq!(host.ask("ls -d /etc/ringroad /usr/local/bin/ringroad 2>/dev/null || true"), "");
}

#[test]
fn what_does_not_answer_is_ended_and_started_again_and_what_cannot_start_is_left() {
    let Some(host) = Host::boot() else { return };
    // As an operator would change it; ten seconds are long for a test.
    host.ask(
        "mkdir -p /etc/systemd/system/ringroad.service.d
        printf '[Service]\nWatchdogSec=2\n' > /etc/systemd/system/ringroad.service.d/quick.conf",
    );
    host.ask(documented("service"));
    let first = host.shows("ringroad", "MainPID");
    let [process] = host.processes("ringroad.service")[..] else { panic!("one process") };
    let worker = (std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs"))
        .flatten()
        .find(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "ringroad-1"))
        .expect("a second worker");
    let worker = Pid::from_raw(worker.file_name().to_string_lossy().parse().expect("a number"));
    ptrace::seize(worker, ptrace::Options::empty()).expect("root may");
    ptrace::interrupt(worker).expect("seized");
    waitpid(worker, Some(WaitPidFlag::__WALL)).expect("it stands");
    host.until("it was started again", || {
        // A thread that was held has to be let go of by who held it, or its process does not end.
        let _ = waitpid(worker, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG));
        host.shows("ringroad", "NRestarts") == "1" && host.shows("ringroad", "ActiveState") == "active"
    });
    assert_ne!(host.shows("ringroad", "MainPID"), first);
    let log = host.ask("journalctl --no-pager --output cat --unit ringroad");
    assert!(log.contains("stuck: the watchdog is not fed workers=\"1\""), "{log}");
    assert!(log.contains("Watchdog timeout") && log.contains("'watchdog'"), "{log}");
    assert!(host.ask("curl --silent --fail localhost:3002/health").contains("\"status\":\"ok\""));

    // Who is killed is started again likewise; a configuration that cannot be costs an error, once.
    host.ask("systemctl kill --signal KILL --kill-whom main ringroad");
    host.until("it was started again", || {
        host.shows("ringroad", "NRestarts") == "2" && host.shows("ringroad", "ActiveState") == "active"
    });
    host.ask("systemctl stop ringroad\necho '[sever]' >> /etc/ringroad/ringroad.toml");
    assert!(!host.run("systemctl start ringroad").status.success());
    assert_eq!([host.shows("ringroad", "ExecMainStatus"), host.shows("ringroad", "ActiveState")], ["2", "failed"]);
    assert_eq!(host.shows("ringroad", "NRestarts"), "0");
    let log = host.ask("journalctl --no-pager --output cat --unit ringroad --lines 20");
    assert!(log.contains("sever"), "{log}");
}

#[test]
fn an_upgrade_as_it_is_written_moves_the_fleet_and_loses_nobody() {
    const VEHICLES: u32 = 40;
    let Some(host) = Host::boot() else { return };
    host.ask(documented("service"));
    host.ask(&format!("{QUICKLY}\nsystemctl restart ringroad\n{}", documented("turns")));
    let (stop, stopped) = mpsc::channel::<()>();
    let inbox = fleet(&host, VEHICLES, move |_| stopped.try_recv() == Err(mpsc::TryRecvError::Disconnected));
    let mut owed = report(&inbox, "they drive", |report| report.tally.owed > 2_000).tally.owed;
    host.ask(documented("upgrade"));
    assert_eq!(host.shows("ringroad@green", "ActiveState"), "active", "`start` returns when it serves");
    host.until("the old one has ended", || host.shows("ringroad", "ActiveState") == "inactive");
    assert_eq!([host.shows("ringroad", "Result"), host.shows("ringroad", "ExecMainStatus")], ["success", "0"]);
    assert_eq!(host.ask("systemctl is-enabled ringroad@green ringroad || true"), "enabled\ndisabled");
    assert_eq!(host.ask("cat /run/ringroad/ringroad.pid"), host.shows("ringroad@green", "MainPID"));
    let returned = report(&inbox, "all are back", |report| report.returned >= u64::from(VEHICLES)).returned;
    owed = report(&inbox, "they drive on", |report| report.tally.owed > owed + 2_000).tally.owed;

    // Its turn: green to blue. A configuration that cannot be harms nobody.
    let back = documented("upgrade").replace("green", "OTHER").replace("blue", "green").replace("OTHER", "blue");
    host.ask("rm /etc/ringroad/blue.toml\necho '[sever]' > /etc/ringroad/blue.toml");
    assert!(!host.run("systemctl start ringroad@blue").status.success());
    assert_eq!(host.shows("ringroad@green", "ActiveState"), "active");
    host.ask(&format!("ln -sf ringroad.toml /etc/ringroad/blue.toml\n{back}"));
    host.until("green has ended", || host.shows("ringroad@green", "ActiveState") == "inactive");
    report(&inbox, "all are back", |report| report.returned >= returned + u64::from(VEHICLES));
    report(&inbox, "they drive on", |report| report.tally.owed > owed + 2_000);
    drop(stop);
    let last = report(&inbox, "the end", |report| report.phase == drive::report::Phase::Done);
    // Every connection that ended was closed in order and came back; none was refused, reset or left without a goodbye.
    assert_eq!(last.closes.keys().collect::<Vec<_>>(), ["1012 shutdown"], "{last}");
    let returned = last.returned + last.viewers_returned;
    assert_eq!((last.closes["1012 shutdown"], last.registered), (returned, VEHICLES), "{last}");
    assert!(last.viewers_returned >= 2 * u64::from(VIEWERS), "{last}");
    assert!(last.errors.is_empty() && last.tally.wrong == 0, "{last}");
    let log = host.ask("journalctl --no-pager --output cat --unit 'ringroad*'");
    assert!(!log.contains("may be refused"), "{log}");

    // Blue is enabled and serves; nothing of either stays, but for their user.
    host.ask("systemd/install --uninstall --purge");
    host.until("blue has ended", || host.processes("system-ringroad.slice/ringroad@blue.service").is_empty());
    let left = "find /etc /usr/local /run/ringroad -name '*ringroad*'";
    assert_eq!(host.ask(&format!("{left} -not -type d")), "");
}

#[test]
fn a_certificate_that_is_renewed_is_taken_by_whichever_unit_serves() {
    let Some(host) = Host::boot() else { return };
    host.ask(documented("service"));
    let hook = "/etc/letsencrypt/renewal-hooks/deploy/ringroad";
    host.ask(&format!(
        "mkdir -p $(dirname {hook}) /etc/letsencrypt/live/gateway\ncat > {hook} <<'END'\n{}END\nchmod +x {hook}",
        documented("hook")
    ));
    let made = |name: &str| {
        host.ask(&format!(
            "cd /etc/letsencrypt/live/gateway
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN={name} \
                -keyout privkey.pem -out fullchain.pem 2>&1
            chmod 600 *.pem"
        ));
    };
    let renewed = |name: &str| {
        made(name);
        host.ask(&format!("RENEWED_LINEAGE=/etc/letsencrypt/live/gateway {hook}"));
    };
    let shown =
        || text(&host.run("openssl s_client -connect localhost:3002 </dev/null | grep '^subject='").stdout).to_owned();
    let shows = |name: &str| host.until(name, || shown().trim().ends_with(name));

    // The first pair comes before the configuration names it, and while nothing has to be told.
    host.ask("systemctl stop ringroad");
    renewed("first");
    assert_eq!(host.shows("ringroad", "ActiveState"), "inactive", "none is started");
    host.ask(&format!(
        "{QUICKLY}
        sed -i 's#^certificate = .*#certificate = \"/etc/ringroad/tls/fullchain.pem\"#
            s#^key = .*#key = \"/etc/ringroad/tls/key.pem\"#' /etc/ringroad/ringroad.toml
        systemctl start ringroad"
    ));
    shows("first");
    let pid = host.shows("ringroad", "MainPID");
    renewed("second");
    shows("second");
    assert_eq!(host.shows("ringroad", "MainPID"), pid, "it was not started anew");

    host.ask(&format!("{}\nsystemctl start ringroad@green", documented("turns")));
    host.until("the old one has ended", || host.shows("ringroad", "ActiveState") == "inactive");
    renewed("third");
    shows("third");
    assert_eq!(host.shows("ringroad", "ActiveState"), "inactive");

    // systemd can hand them over, too; these change with a restart.
    host.ask(
        "systemctl stop ringroad@green
        mkdir -p /etc/systemd/system/ringroad.service.d
        live=/etc/letsencrypt/live/gateway
        printf '[Service]\nLoadCredential=key.pem:%s/privkey.pem\nLoadCredential=fullchain.pem:%s/fullchain.pem\n' \
            $live $live > /etc/systemd/system/ringroad.service.d/credentials.conf
        sed -i 's#/etc/ringroad/tls/#/run/credentials/ringroad.service/#' /etc/ringroad/ringroad.toml
        systemctl daemon-reload
        systemctl start ringroad",
    );
    shows("third");
    made("fourth");
    host.ask("systemctl reload ringroad");
    shows("third");
    host.ask("systemctl restart ringroad");
    shows("fourth");
    assert_quiet(&host);
}

/// A secret that only the service is given is needed to check its configuration.
#[test]
fn a_configuration_is_checked_with_its_secret() {
    let Some(host) = Host::boot() else { return };
    host.ask(documented("service"));
    host.ask(
        "echo V2V_JWT_SECRET=0123456789abcdef0123456789abcdef > /etc/ringroad/environment
        chmod 600 /etc/ringroad/environment
        sed -i 's/^required = .*/required = true/' /etc/ringroad/ringroad.toml
        systemctl restart ringroad",
    );
    assert_eq!(host.run(documented("reload")).status.code(), Some(2), "by itself it has no key");
    assert!(host.ask(documented("check")).contains("configuration is valid"));
    host.ask("echo '[sever]' >> /etc/ringroad/ringroad.toml");
    assert_eq!(host.run(documented("check")).status.code(), Some(2));
}

/// What a package leaves, or an image that was made elsewhere: systemd makes user and folder, and starts it.
#[test]
fn a_host_that_boots_with_it_serves() {
    let Some(host) = Host::boot_installed() else { return };
    host.until("it is up", || host.shows("ringroad", "ActiveState") == "active");
    assert!(host.ask("curl --silent --fail localhost:3002/health").contains("\"status\":\"ok\""));
    let owned = host.ask("stat --format '%U %G %a' /run/ringroad /etc/ringroad/ringroad.toml");
    assert_eq!(owned, "ringroad ringroad 750\nroot ringroad 640");
    assert_quiet(&host);
}

/// The kernel takes the settings as they are written, and the doctor finds them.
#[test]
fn the_settings_of_the_kernel_are_what_the_doctor_wants() {
    let Some(host) = Host::boot() else { return };
    host.ask(documented("service"));
    let warned = || -> Vec<String> {
        let report: serde_json::Value = serde_json::from_str(&host.ask("ringroad doctor --json")).expect("JSON");
        let findings = report["findings"].as_array().expect("findings").iter();
        let names = findings.filter(|finding| finding["verdict"] == "warn").map(|finding| &finding["check"]);
        names.filter_map(|name| Some(name.as_str()?.to_owned())).filter(|name| name.starts_with("net.")).collect()
    };
    let before = warned();
    assert!(
        before.iter().any(|name| name == "net.ipv4.tcp_migrate_req"),
        "a new network has the kernel's own: {before:?}"
    );
    // Those of all networks can be read here and not written, of which `sysctl` complains.
    host.run(documented("sysctls"));
    let after = warned();
    assert!(after.iter().all(|name| name == "net.netfilter.nf_conntrack_max"), "{after:?} of {before:?}");
}
