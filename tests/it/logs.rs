//! The log: what it looks like, how often it says a thing, and what it never says.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::Numbers;
use crate::client::{Client, dial};
use crate::gateway::{Gateway, ringroad};
use crate::token_table::{Signer, sign};

/// Nobody listens there.
const NO_REDIS: &str = "redis.url='redis://gateway:hunter2@127.0.0.1:1'";

/// What a look at a Redis that is not there logs, with these variables.
fn warned(variables: &[(&str, &str)]) -> String {
    let mut command = ringroad(&["config", "--check", "--set", NO_REDIS]);
    let done = command.envs(variables.iter().copied()).output().expect("the binary");
    assert!(done.status.success());
    String::from_utf8(done.stderr).expect("UTF-8")
}

#[test]
fn lines_are_text_or_json_as_asked() {
    let text = warned(&[]);
    assert!(text.contains(" WARN ") && text.contains("redis cannot be used now"), "{text}");
    assert_eq!(warned(&[("RINGROAD_LOG_FORMAT", "text")]).lines().count(), text.lines().count());
    let lines = warned(&[("RINGROAD_LOG_FORMAT", "json")]);
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(line["level"], "WARN");
        assert!(line["message"].as_str().is_some_and(|text| text.contains("redis")), "{line}");
        assert!(line["timestamp"].is_string() && line["target"].is_string(), "{line}");
    }
    assert!(!lines.is_empty());
    assert_eq!(warned(&[("RINGROAD_LOG", "error")]), "");
}

#[test]
fn a_format_that_does_not_exist_is_refused_by_name() {
    let done = ringroad(&["config", "--check"]).env("RINGROAD_LOG_FORMAT", "xml").output().expect("the binary");
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(2));
    assert!(said.contains("RINGROAD_LOG_FORMAT=xml: expected text, json or journal"), "{said}");
}

#[test]
fn the_journal_is_told_the_priority_and_no_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    let file = File::create(&path).expect("a file");
    let about = file.metadata().expect("its numbers");
    let ours = format!("{}:{}", about.dev(), about.ino());
    let check = |stream: &str| {
        let mut command = ringroad(&["config", "--check", "--set", NO_REDIS]);
        file.set_len(0).expect("emptied");
        command.env("JOURNAL_STREAM", stream).stderr(Stdio::from(File::create(&path).expect("a file")));
        assert!(command.status().expect("the binary").success());
        std::fs::read_to_string(&path).expect("text")
    };
    let told = check(&ours);
    assert!(told.starts_with("<4> WARN ") || told.starts_with("<4>WARN "), "{told}");
    // It was redirected: whoever reads it now knows nothing of priorities.
    let told = check(&format!("{}:{}", about.dev(), about.ino() + 1));
    assert!(told.starts_with("20") && told.contains(" WARN "), "{told}");
}

/// An entry as a journal gets it (systemd.io/JOURNAL_NATIVE_PROTOCOL): `NAME=value`, or `NAME`, the length in eight
/// bytes and the value.
fn fields_of(mut entry: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while !entry.is_empty() {
        let end = entry.iter().position(|byte| *byte == b'\n').expect("a line");
        let (line, rest) = (std::str::from_utf8(&entry[..end]).expect("UTF-8"), &entry[end + 1..]);
        let (name, value, rest) = match line.split_once('=') {
            Some((name, value)) => (name, value.to_owned(), rest),
            None => {
                let (len, rest) = rest.split_first_chunk().expect("a length");
                let (value, rest) = rest.split_at(u64::from_le_bytes(*len) as usize);
                let value = std::str::from_utf8(value).expect("UTF-8").to_owned();
                (line, value, rest.strip_prefix(b"\n").expect("the end of a field"))
            }
        };
        fields.insert(name.to_owned(), value);
        entry = rest;
    }
    fields
}

/// Where the journal listens cannot be chosen, so the binary runs where that place is ours.
#[test]
fn the_journal_is_given_fields_if_it_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = UnixDatagram::bind(folder.path().join("socket")).expect("a socket");
    journal.set_nonblocking(true).expect("set");
    let command = |script: &str, args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-euc", script, "sh"]).arg(folder.path()).args(args);
        command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("RINGROAD_LOG_FORMAT", "journal");
        command.output()
    };
    let place = "mount -t tmpfs none /run; mkdir -p /run/systemd/journal; mount --bind \"$1\" /run/systemd/journal";
    match command(place, &[]) {
        Ok(tried) if tried.status.success() => {}
        tried => {
            eprintln!("skipped: a mount namespace is not allowed here: {tried:?}");
            return;
        }
    }
    let binary = env!("CARGO_BIN_EXE_ringroad");
    let args = [binary, "config", "--check", "--set", NO_REDIS];
    let done = command(&format!("{place}; shift; exec \"$@\""), &args).expect("the binary");
    assert!(done.status.success(), "{done:?}");
    assert_eq!(String::from_utf8_lossy(&done.stderr), "", "nothing is said twice");
    let mut entries = Vec::new();
    let mut entry = [0; 65_536];
    while let Ok(bytes) = journal.recv(&mut entry) {
        entries.push(fields_of(&entry[..bytes]));
    }
    let warning =
        entries.iter().find(|fields| fields.get("MESSAGE").is_some_and(|text| text.contains("redis cannot be")));
    let warning = warning.unwrap_or_else(|| panic!("no warning in {entries:?}"));
    let field = |name: &str| warning.get(name).map(String::as_str);
    assert_eq!((field("PRIORITY"), field("SYSLOG_IDENTIFIER")), (Some("4"), Some("ringroad")), "{warning:?}");
    assert_eq!(field("CODE_FILE"), Some("src/cli/backplane.rs"), "{warning:?}");
    assert!(field("TARGET").is_some_and(|target| target.starts_with("ringroad::")), "{warning:?}");

    // Without a journal it says so instead of being silent.
    drop(journal);
    let done = command(&format!("{place}; shift; exec \"$@\""), &args).expect("the binary");
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{said}");
    assert!(said.contains("RINGROAD_LOG_FORMAT=journal: the journal cannot be reached"), "{said}");
}

#[test]
fn a_flood_of_lines_is_counted_and_not_written() {
    const TOKENS: usize = 200;
    const LINES_MAX: usize = 5;
    let begun = Instant::now();
    let gateway = Gateway::start_logging(
        "ringroad=debug",
        &[
            "auth.required=true",
            "auth.secret='a secret of tests, which everybody knows'",
            &format!("log.repeats_max={LINES_MAX}"),
            "log.repeats_ms=1000",
        ],
    );
    let token = sign(Signer::Secret, &json!({"roles": ["viewer"], "sub": "somebody"}));
    // Each has a line at `debug`.
    for _ in 0..TOKENS {
        let mut stream = dial(gateway.addr);
        let request = format!(
            "GET /v2v?token={token} HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("a reply");
        assert_eq!(&status, b"HTTP/1.1 101");
    }
    let log = gateway.stop();
    // A period ends when it is looked at, once a second.
    let periods_max = 1 + begun.elapsed().as_secs() as usize;
    let (mut lines, mut held) = (0, 0);
    for line in log.lines().filter(|line| line.contains("a token was accepted")) {
        match line.split_once(" more like it: ") {
            Some((before, _)) => {
                held += before.rsplit(' ').next().and_then(|n| n.parse::<usize>().ok()).expect("a number")
            }
            None => lines += 1,
        }
    }
    assert_eq!(lines + held, TOKENS, "{log}");
    assert!((1..=LINES_MAX * periods_max).contains(&lines), "{lines}:\n{log}");
    assert!(held > 0, "{log}");
    assert!(!log.contains(&token), "{log}");
}

#[test]
fn bad_input_leaves_nothing_private_in_the_log() {
    let begun = Instant::now();
    let gateway = Gateway::start(&[
        "auth.required=true",
        "auth.secret=open-sesame-0123456789-0123456789",
        "server.private_listen='127.0.0.1:0'",
        "admission.trusted_proxies=['127.0.0.1']",
        "admission.forwarded_for=true",
        NO_REDIS,
    ]);
    let private_addr = gateway.private_addr();
    let mut private: Vec<String> = [
        "hunter2",
        "open-sesame",
        "secret-car",
        "48.8583",
        "Eve Driver",
        "eyJhbGciOiJub25lIn0",
        "evil.example",
        "198.51.100.7",
    ]
    .map(Into::into)
    .into();
    let mut numbers = Numbers(3);
    for n in 0..30 {
        let stream = dial(gateway.addr);
        private.push(stream.local_addr().expect("connected").to_string());
        let mut client = Client::over(stream);
        match n % 5 {
            0 => client.send("location_update", json!({"vehicleId": "secret-car", "lat": 48.8583, "lon": 2.2944})),
            1 => {
                let token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJzZWNyZXQtY2FyIn0.";
                let data = json!({"vehicleId": "secret-car", "driverName": "Eve Driver", "authToken": token});
                client.send("register", data);
                client.expect("error");
                continue;
            }
            2 => client.text("{\"event\":\"register\",\"data\":{\"vehicleId\":\"secret-car\",48.8583"),
            3 => client.text(r#"{"event":"secret-car","data":{"lat":48.8583}}"#),
            _ => {
                client.raw(&numbers.bytes(200));
                continue;
            }
        }
        client.expect("error");
    }
    gateway.ask("GET /vehicles/secret-car?token=eyJhbGciOiJub25lIn0", &[("Authorization", "Bearer open-sesame")]);
    let upgrade = [
        ("Host", "evil.example"),
        ("Origin", "https://evil.example"),
        ("X-Forwarded-For", "198.51.100.7"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];
    for (addr, headers, status) in
        [(gateway.addr, &upgrade[1..], 401), (private_addr, &upgrade[1..], 401), (private_addr, &upgrade[..1], 400)]
    {
        let reply = Gateway::ask_at(addr, "GET /v2v?token=eyJhbGciOiJub25lIn0.e30.", headers);
        assert_eq!(reply.status, status, "{headers:?}");
    }
    let log = gateway.stop();
    // What is looked into is the whole log: it has the line of its first moment.
    assert!(log.contains("redis cannot be used now"), "{log}");
    for word in &private {
        assert!(!log.contains(word.as_str()), "{word} in\n{log}");
    }
    // Two workers try Redis again and again; each says so once in ten seconds at most.
    let times_max = 2 * (1 + begun.elapsed().as_secs() as usize / 10);
    let times = log.matches("Redis cannot be reached").count();
    assert!((1..=times_max).contains(&times), "{times}:\n{log}");
}
