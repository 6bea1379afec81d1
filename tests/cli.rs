//! The binary from outside: exit codes, what goes to which stream, and pipes that close early.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};

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
        (&["config"], &[("ENABLE_REDIS", "true")], 2, "", "not part of this version"),
        (&["config", "--check"], &[("REDIS_URL", "redis://x")], 0, "valid", "REDIS_URL is ignored"),
        (&["config", "--check"], &[("REDIS_URL", "redis://x"), ("RINGROAD_LOG", "error")], 0, "valid", ""),
        (&["config", "--check"], &[("RUST_LOG", "a=b=c")], 2, "", "RUST_LOG"),
        (&["drive", "wss://localhost"], &[], 2, "", "no TLS"),
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
    assert!(out.contains("  lost: 1001") && err.contains("every vehicle was lost"), "{out}---\n{err}");
}

#[test]
fn secrets_are_shown_only_when_asked_for() {
    let env = [("V2V_JWT_SECRET", "hunter2")];
    let output = run(&["config"], &env);
    assert!(text(&output.stdout).contains("secret = \"********\""));
    assert!(!text(&output.stdout).contains("hunter2") && !text(&output.stderr).contains("hunter2"));
    let output = run(&["config", "--show-secrets"], &env);
    assert!(text(&output.stdout).contains("secret = \"hunter2\""));
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
