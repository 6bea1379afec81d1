//! The service manager is told how things are, and its watchdog is fed by every worker or by none.

use std::fs;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::client::Client;
use crate::gateway::Gateway;
use crate::manager::Manager;

/// The thread of a worker.
fn thread_of(gateway: &Gateway, worker: u16) -> Pid {
    let tasks = fs::read_dir(format!("/proc/{}/task", gateway.pid())).expect("it runs");
    let is_it = |task: &std::path::Path| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == format!("ringroad-{worker}"))
    };
    let task = tasks.flatten().map(|task| task.path()).find(|task| is_it(task)).expect("a worker");
    Pid::from_raw(task.file_name().expect("a number").to_string_lossy().parse().expect("a number"))
}

#[test]
fn it_is_ready_when_it_serves_and_says_how_it_ends() {
    let manager = Manager::new();
    let env = [("NOTIFY_SOCKET", &*manager.address())];
    let mut gateway = Gateway::start_with(&["--listen", "127.0.0.1:0"], &["server.drain_ms=700"], &env);
    let ready = manager.expect("READY=1");
    assert!(ready.contains(&format!("STATUS=listening on {}, 2 workers", gateway.addr)), "{ready}");
    let mut client = Client::connect(gateway.addr);
    gateway.signal(Signal::SIGTERM);
    let stopping = manager.expect("STOPPING=1");
    assert!(stopping.contains("STATUS=draining, over 700 ms"), "{stopping}");
    let extended = stopping.lines().find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC=")).expect("more time");
    assert!(extended.parse::<u64>().expect("a number") >= 700_000 + 4_000_000, "{extended}");
    client.closed();
    drop(client);
    assert_eq!(gateway.wait().code(), Some(0));
    assert_eq!(manager.hear(Duration::from_millis(1)), None, "without a watchdog there is nothing to feed");
}

#[test]
fn nobody_has_to_listen() {
    let env = [("NOTIFY_SOCKET", "/nonexistent/notify")];
    let gateway = Gateway::start_with(&["--listen", "127.0.0.1:0"], &[], &env);
    Client::connect(gateway.addr).register("car-1").goodbye();
    assert!(gateway.stop().contains("the service manager cannot be told"));
}

#[test]
fn one_stuck_worker_keeps_the_watchdog_from_being_fed() {
    const WATCHDOG: Duration = Duration::from_millis(900);
    let manager = Manager::new();
    let env = [("NOTIFY_SOCKET", &*manager.address()), ("WATCHDOG_USEC", "900000")];
    let gateway = Gateway::start_with(&["--listen", "127.0.0.1:0"], &[], &env);
    for _ in 0..4 {
        manager.expect("WATCHDOG=1");
    }
    for worker in 0..2 {
        let thread = thread_of(&gateway, worker);
        ptrace::seize(thread, ptrace::Options::empty()).expect("our child's thread");
        ptrace::interrupt(thread).expect("seized");
        waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it stands");
        // It may have answered the last call before it stood.
        let mut fed = 0;
        while manager.hear(WATCHDOG).is_some() {
            fed += 1;
            assert!(fed <= 2, "worker {worker} stands, and the watchdog is fed");
        }
        ptrace::detach(thread, None).expect("seized");
        for _ in 0..3 {
            manager.expect("WATCHDOG=1");
        }
    }
    let log = gateway.stop_with_errors();
    for worker in 0..2 {
        assert!(log.contains(&format!("stuck: the watchdog is not fed workers=\"{worker}\"")), "{log}");
    }
}

#[test]
fn a_watchdog_of_another_process_is_none_of_its_business() {
    let manager = Manager::new();
    let env = [("NOTIFY_SOCKET", &*manager.address()), ("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")];
    let gateway = Gateway::start_with(&["--listen", "127.0.0.1:0"], &[], &env);
    manager.expect("READY=1");
    Client::connect(gateway.addr).goodbye();
    assert_eq!(manager.hear(Duration::from_millis(1)), None);
    drop(gateway);
}
