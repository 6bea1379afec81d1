//! The binary from outside: exit codes, what goes to which stream, and pipes that close early.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn ringroad(args: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringroad"));
    // Nothing of the machine's own settings may leak into a test.
    command.env_clear().envs(env.iter().copied()).args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    ringroad(args, env).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], i32, &'a str, &'a str);

#[test]
fn exit_codes_and_streams() {
    let cases: &[Case<'_>] = &[
        (&["--version"], &[], 0, "ringroad ", ""),
        (&["--help"], &[], 0, "drive", ""),
        (&["--bogus"], &[], 2, "", "--bogus"),
        (&["config", "--check"], &[], 0, "valid", ""),
        (&["config", "--check", "--config", "/nonexistent.toml"], &[], 2, "", "ringroad: /nonexistent.toml: "),
        (&["config", "--set", "server.worker=1"], &[], 2, "", "nearest known key is `server.workers`"),
        (&["config"], &[("NEARBY_RADIUS_METERS", "321")], 0, "nearby_radius_m = 321.0", ""),
        (&["config", "--listen", "127.0.0.1:9"], &[("V2V_SERVER_PORT", "4000")], 0, "listen = \"127.0.0.1:9\"", ""),
        (&["config"], &[("ENABLE_REDIS", "true")], 0, "url = \"redis://127.0.0.1:6379\"", ""),
        (&["config"], &[("REDIS_URL", "redis://:word@cache")], 0, "url = \"redis://:********@cache\"", ""),
        (&["config", "--check"], &[("REDIS_URL", "redis://cache:x")], 2, "", "a port is not a number"),
        (&["config"], &[("RINGROAD_REDIS__LEASE_MS", "5000"), ("REDIS_URL", "redis://x")], 0, "5000", "lease_ms"),
        (
            &["config"],
            &[("RINGROAD_REDIS__LEASE_MS", "5000"), ("REDIS_URL", "redis://x"), ("RINGROAD_LOG", "error")],
            0,
            "5000",
            "",
        ),
        (&["config", "--check"], &[("RUST_LOG", "a=b=c")], 2, "", "RUST_LOG"),
        (&["drive", "wss://localhost:1", "--tls-ca", "/nonexistent.pem"], &[], 2, "", "cannot read /nonexistent.pem"),
        (&["drive", "wss://a_b:1", "--tls-ca", "/dev/null"], &[], 2, "", "/dev/null is not a PEM file of certificates"),
        (&["drive", "ws://localhost:1", "--tls-ca", "/x.pem"], &[], 2, "", "does not begin with wss://"),
        (&["drive", "ws://localhost", "--hz", "1000"], &[], 2, "", "hz is 1000"),
        (&["drive", "ws://localhost", "--trace", "/nonexistent.csv"], &[], 2, "", "/nonexistent.csv: No such file"),
        (&["drive", "ws://127.0.0.1:1"], &[], 1, "", "cannot connect to 127.0.0.1:1"),
        (&["serve", "--set", "auth.required=true"], &[], 2, "", "V2V_JWT_SECRET"),
    ];
    for (args, env, code, stdout, stderr) in cases {
        let output = run(args, env);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(*code), "{args:?} {env:?}\n{out}{err}");
        assert!(out.contains(stdout) && err.contains(stderr), "{args:?} {env:?}\n{out}---\n{err}");
        assert_eq!(out.is_empty(), stdout.is_empty(), "{args:?} {env:?}\n{out}");
        assert_eq!(err.is_empty(), stderr.is_empty(), "{args:?} {env:?}\n{err}");
    }
}

#[test]
fn a_drive_whose_gateway_goes_away_fails_and_still_shows_its_table() {
    let mut config = ringroad::config::Config::default();
    (config.server.listen, config.server.workers) = (([127, 0, 0, 1], 0).into(), 1);
    let gateway = ringroad::gateway::serve(config).expect("a gateway");
    let url = format!("ws://{}/v2v", gateway.addr().expect("it listens"));
    let mut drive = ringroad(&["drive", &url, "--vehicles", "20", "--seconds", "600"], &[])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let listed = || {
        let mut stream = TcpStream::connect(gateway.addr().expect("it listens")).expect("a connection");
        stream.write_all(b"GET /vehicles HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("a reply");
        reply
    };
    while !listed().contains("-00019") {
        assert_eq!(drive.try_wait().expect("a child"), None, "it drives");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    gateway.stop();
    let output = drive.wait_with_output().expect("it ends");
    gateway.join().expect("a proper end");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(out.contains("  lost: 1012") && err.contains("every vehicle was lost"), "{out}---\n{err}");
}

#[test]
fn secrets_are_shown_only_when_asked_for() {
    let env =
        [("V2V_JWT_SECRET", "hunter2"), ("REDIS_URL", "rediss://:hunter2@h"), ("RINGROAD_REDIS__PASSWORD", "hunter2")];
    let output = run(&["config"], &env);
    for shown in ["secret = \"********\"", "url = \"rediss://:********@h\"", "password = \"********\""] {
        assert!(text(&output.stdout).contains(shown), "{shown}: {}", text(&output.stdout));
    }
    assert!(!text(&output.stdout).contains("hunter2") && !text(&output.stderr).contains("hunter2"));
    let output = run(&["config", "--show-secrets"], &env);
    for shown in ["secret = \"hunter2\"", "url = \"rediss://:hunter2@h\"", "password = \"hunter2\""] {
        assert!(text(&output.stdout).contains(shown), "{shown}: {}", text(&output.stdout));
    }
}

#[test]
fn the_printed_configuration_is_a_configuration_file() {
    let printed = run(&["config", "--set", "vehicles.flush_ms=7"], &[]).stdout;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), &printed).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    assert_eq!(text(&run(&["config", "--config", path], &[]).stdout), text(&printed));
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    for args in [["config"], ["--help"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = ringroad(&args, &[]).stdout(writer).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("panicked"), "{}", text(&output.stderr));
    }
}

#[test]
fn the_doctor_tells_of_this_host_and_exits_as_it_says() {
    let output = run(&["doctor", "--json", "--capacity"], &[]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = report["findings"].as_array().expect("findings");
    let verdicts: Vec<_> = findings.iter().map(|finding| finding["verdict"].as_str().expect("a verdict")).collect();
    let blocking = verdicts.contains(&"blocking");
    assert_eq!(output.status.code(), Some(i32::from(blocking)), "{report:#}");
    assert_eq!(text(&output.stderr).contains("blocking: "), blocking);
    let found = |check: &str| findings.iter().find(|finding| finding["check"] == check).expect(check);
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a kernel");
    assert_eq!(found("kernel")["value"], release.trim());
    // The other tests run gateways, so this host can.
    assert_ne!(found("io_uring")["verdict"], "blocking");
    assert!(report["capacity"]["connections"].as_u64().is_some_and(|count| count > 0), "{report:#}");

    // Of a process that runs: this one, whose descriptors are as many.
    let pid = std::process::id().to_string();
    let of_pid = run(&["doctor", "--json", "--pid", &pid], &[]);
    let of_pid: serde_json::Value = serde_json::from_slice(&of_pid.stdout).expect("JSON");
    let limit = of_pid["findings"].as_array().expect("findings").iter().find(|of| of["check"] == "RLIMIT_NOFILE");
    assert_eq!(limit.expect("a limit")["value"], found("RLIMIT_NOFILE")["value"]);
}

#[test]
fn a_host_that_cannot_run_it_is_a_failure() {
    let tree = tempfile::tempdir().expect("a temporary directory");
    let root = tree.path().to_str().expect("UTF-8");
    let output = run(&["doctor", "--root", root], &[]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{}", text(&output.stderr));
    let kernel = tree.path().join("proc/sys/kernel");
    std::fs::create_dir_all(&kernel).expect("made");
    std::fs::write(kernel.join("osrelease"), "4.19.0").expect("written");
    let output = run(&["doctor", "--root", root], &[]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), "ringroad: blocking: kernel\n"));
    assert!(text(&output.stdout).starts_with("blocking  kernel "), "{}", text(&output.stdout));
    let output = run(&["doctor", "--pid", "4194305"], &[]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    // What it asks of the host depends on the configuration.
    let output = run(&["doctor", "--root", root, "--json", "--listen", "127.0.0.1:443"], &[]);
    assert!(text(&output.stdout).contains("443 may be bound"), "{}", text(&output.stdout));
}

/// A Redis server on a socket in the file system. It is stopped when it is dropped.
struct Redis {
    process: Child,
    directory: tempfile::TempDir,
}

impl Redis {
    fn start(args: &[&str]) -> Redis {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--unixsocket", "s", "--save", ""]).args(args).current_dir(directory.path());
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("redis-server is installed");
        let mut redis = Redis { process, directory };
        let deadline = Instant::now() + Duration::from_secs(30);
        while UnixStream::connect(redis.directory.path().join("s")).is_err() {
            assert_eq!(redis.process.try_wait().expect("a child"), None, "it runs");
            assert!(Instant::now() < deadline, "it listens");
            std::thread::sleep(Duration::from_millis(5));
        }
        redis
    }

    fn url(&self, login: &str) -> String {
        format!("unix://{}/s?{login}", self.directory.path().display())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("a child");
    }
}

/// An address where nobody listens, and nobody else can as long as the socket is kept.
fn nobody() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bound");
    let addr = socket.local_addr().expect("bound").as_socket().expect("an address");
    (socket, addr)
}

/// Starts `serve`, reads what it says until `last`, and ends it as an operator does.
fn served(env: &[(&str, &str)], last: &str) -> (Vec<String>, Output) {
    let mut serve = ringroad(&["serve", "--listen", "127.0.0.1:0", "--workers", "1"], env)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut lines = Vec::new();
    for line in BufReader::new(serve.stdout.take().expect("a pipe")).lines() {
        lines.push(line.expect("UTF-8"));
        if lines.last().is_some_and(|line| line.starts_with(last)) {
            break;
        }
    }
    let pid = nix::unistd::Pid::from_raw(serve.id().try_into().expect("a pid"));
    // It may have ended by itself; then its output says why.
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    (lines, serve.wait_with_output().expect("it ends"))
}

#[test]
fn a_server_that_refuses_is_an_error_of_the_configuration() {
    let redis = Redis::start(&["--requirepass", "rightword"]);
    for (login, part) in [("password=hunter2", "WRONGPASS"), ("", "the server wants a password")] {
        let env = [("REDIS_URL", &*redis.url(login))];
        for args in [&["config", "--check"][..], &["serve", "--listen", "127.0.0.1:0"], &["demo"]] {
            let output = run(args, &env);
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            assert_eq!((output.status.code(), out), (Some(2), ""), "{args:?} {err}");
            assert!(err.starts_with("ringroad: redis: ") && err.contains(part), "{args:?} {err}");
            assert!(!err.contains("hunter2"), "{args:?} {err}");
        }
        assert_eq!(run(&["config"], &env).status.code(), Some(0), "it only prints");
    }
    let output = run(&["config", "--check"], &[("REDIS_URL", &*redis.url("password=rightword"))]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((output.status.code(), out, err), (Some(0), "configuration is valid\n", ""));
}

#[test]
fn a_server_that_cannot_be_reached_is_a_warning() {
    let (_socket, addr) = nobody();
    let url = format!("redis://:hunter2@{addr}");
    let env = [("REDIS_URL", &*url), ("RINGROAD_REDIS__NODE_ID", "edge-1")];
    let warning = format!("WARN ringroad::cli::backplane: redis cannot be used now: {addr}: Connection refused");
    let output = run(&["config", "--check"], &env);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((output.status.code(), out), (Some(0), "configuration is valid\n"), "{err}");
    assert!(err.contains(&warning) && !err.contains("hunter2"), "{err}");

    let (lines, output) = served(&env, "redis: ");
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{lines:?} {err}");
    assert!(lines[0].contains(" listening on 127.0.0.1:") && lines[1] == "workers: 1", "{lines:?}");
    assert_eq!(lines[2..], ["node: edge-1".to_owned(), format!("redis: {addr}")]);
    assert!(err.contains(&warning) && !err.contains("hunter2"), "{err}");
}

#[test]
fn a_gateway_with_a_backplane_says_which() {
    let redis = Redis::start(&[]);
    let (lines, output) = served(&[("REDIS_URL", &*redis.url("db=3"))], "redis: ");
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{lines:?} {err}");
    assert!(lines[2].strip_prefix("node: ").is_some_and(|name| name.contains('-')), "{lines:?}");
    assert_eq!(lines[3], format!("redis: {}/s, database 3", redis.directory.path().display()));
    assert!(!err.contains("cannot be used"), "{err}");

    let (lines, output) = served(&[("REDIS_URL", &*redis.url("")), ("ENABLE_REDIS", "false")], "workers: ");
    assert_eq!((output.status.code(), lines.len()), (Some(0), 2), "{lines:?} {}", text(&output.stderr));
}
