//! The certificate's files: what is wrong with them, and new ones while the gateway serves.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::certificates::Authority;
use crate::client::dial;
use crate::gateway::{Gateway, ringroad};
use crate::tls::{Encrypted, get};
use crate::until;

/// The serial number that the client was shown.
fn serial(stream: &Encrypted) -> u64 {
    let shown = stream.conn.peer_certificates().expect("a certificate")[0].clone();
    // The first integer behind the version, in DER: [0] { 2 } and then tag 2, length, number.
    let at = shown.windows(5).position(|at| at == [0xa0, 3, 2, 1, 2]).expect("version 3") + 5;
    let len = usize::from(shown[at + 1]);
    shown[at + 2..at + 2 + len].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[test]
fn a_new_certificate_is_shown_to_new_connections() {
    let authority = Authority::new();
    let (gateway, private) = authority.serve_only(&[]);
    let mut old = authority.vehicle(dial(gateway.addr), "old");
    assert_eq!(serial(old.socket.get_ref()), 1);
    let shown = || {
        let mut stream = authority.over(dial(gateway.addr));
        assert!(get(&mut stream, "/health").starts_with("HTTP/1.1 200 "));
        serial(&stream)
    };
    let reloads = || Gateway::metric_at(private, "ringroad_tls_reloads_total");
    let failed = || Gateway::metric_at(private, "ringroad_tls_reloads_failed_total");
    authority.issue(2, |_| {});
    gateway.signal(Signal::SIGHUP);
    until("both workers show it", || (0..8).all(|_| shown() == 2));
    assert_eq!((reloads(), failed()), (1, 0));
    old.send("heartbeat", json!({}));
    old.expect("heartbeat_ack", |_| true);

    type Harm = fn(&Authority);
    let harms: [(Harm, &str); 6] = [
        (|of| fs::remove_file(of.path("certificate.pem")).expect("removed"), "No such file"),
        (|of| fs::write(of.path("certificate.pem"), "nothing").expect("written"), "there is no certificate in it"),
        (|of| fs::write(of.path("key.pem"), "nothing").expect("written"), "there is no private key in it"),
        (
            |of| fs::write(of.path("key.pem"), KeyPair::generate().expect("a key").serialize_pem()).expect("written"),
            "it is not the key of the certificate in",
        ),
        (
            |of| drop(of.issue(3, |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1))),
            "the certificate has expired",
        ),
        (|of| drop(of.issue(4, |params| params.not_before = rcgen::date_time_ymd(2199, 1, 1))), "is not valid yet"),
    ];
    for (n, (harm, _)) in (1..).zip(harms) {
        authority.issue(9, |_| {});
        harm(&authority);
        gateway.signal(Signal::SIGHUP);
        until("it has tried", || failed() == n);
        assert_eq!(shown(), 2);
    }
    assert_eq!(reloads(), 1);
    authority.issue(5, |_| {});
    gateway.signal(Signal::SIGHUP);
    until("both workers show it", || (0..8).all(|_| shown() == 5));
    old.send("heartbeat", json!({}));
    old.expect("heartbeat_ack", |_| true);
    let log = gateway.stop();
    for (_, why) in harms {
        let told = |line: &&str| line.contains(" WARN ") && line.contains("stays in use") && line.contains(why);
        assert_eq!(log.lines().filter(told).count(), 1, "{why}:\n{log}");
    }
}

/// What docs/OPERATIONS.md says to try, as it is written there; only the port is another.
#[test]
fn what_operators_are_told_to_try_works() {
    let text = include_str!("../../docs/OPERATIONS.md");
    let commands = text.split("```sh tls\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the commands");
    let directory = tempfile::tempdir().expect("a directory");
    let run = |command: &str| {
        let command = format!("export PATH=/usr/local/bin:/usr/bin:/bin\n{command}");
        let output = Command::new("timeout").args(["60", "sh", "-c", &command]).current_dir(&directory).output();
        let output = output.expect("a shell");
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(output.status.success(), "{command}: {said}");
        said
    };
    let (make, rest) = commands.split_once("\nringroad --set").expect("a gateway");
    run(make);
    let line = rest.lines().next().expect("its settings");
    let sets: Vec<String> =
        line.split("--set").map(|set| set.trim().replace('=', &format!("={}/", directory.path().display()))).collect();
    let gateway = Gateway::start(&sets.iter().map(String::as_str).collect::<Vec<_>>());
    let looks: Vec<&str> = rest.lines().filter(|line| line.contains("localhost:3002")).collect();
    assert_eq!(looks.len(), 2);
    for look in looks.into_iter().filter(|look| look.starts_with("openssl")) {
        let said = run(&look.replace("localhost:3002", &format!("localhost:{}", gateway.addr.port())));
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    }
}

/// Files that `openssl` has made, and what `ringroad config --check` says of them.
#[test]
fn files_are_looked_at_before_anything_starts() {
    let authority = Authority::new();
    authority.issue(1, |_| {});
    let made = |args: &str| {
        let output = Command::new("openssl").args(args.split(' ')).current_dir(authority.directory.path()).output();
        let output = output.expect("openssl is installed");
        assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
    };
    made("req -x509 -newkey rsa:2048 -nodes -keyout rsa.pem -out rsa-certificate.pem -days 2 -subj /CN=rsa");
    made("rsa -in rsa.pem -traditional -out rsa-pkcs1.pem");
    made("rsa -in rsa.pem -aes128 -passout pass:word -out rsa-encrypted.pem");
    made("ecparam -name prime256v1 -genkey -out sec1.pem");
    made("req -x509 -key sec1.pem -out sec1-certificate.pem -days 2 -subj /CN=sec1");
    fs::write(authority.path("empty.pem"), "").expect("written");
    fs::write(authority.path("torn.pem"), "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")
        .expect("written");
    fs::write(authority.path("wrong.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .expect("written");
    let cases = [
        ("certificate.pem", "key.pem", ""),
        ("rsa-certificate.pem", "rsa.pem", ""),
        ("rsa-certificate.pem", "rsa-pkcs1.pem", ""),
        ("sec1-certificate.pem", "sec1.pem", ""),
        ("rsa-certificate.pem", "rsa-encrypted.pem", "`tls.key` DIR/rsa-encrypted.pem: the key in it is encrypted"),
        ("rsa-certificate.pem", "key.pem", "`tls.key` DIR/key.pem: it is not the key of the certificate in DIR/rsa-"),
        ("missing.pem", "key.pem", "`tls.certificate` DIR/missing.pem: No such file"),
        ("certificate.pem", "missing.pem", "`tls.key` DIR/missing.pem: No such file"),
        ("", "key.pem", "`tls.key` names a file, but `tls.certificate` is empty"),
        ("certificate.pem", "", "`tls.certificate` names a file, but `tls.key` is empty"),
        ("empty.pem", "key.pem", "`tls.certificate` DIR/empty.pem: there is no certificate in it"),
        ("torn.pem", "key.pem", "`tls.certificate` DIR/torn.pem: it is not a PEM file: "),
        ("wrong.pem", "key.pem", "`tls.certificate` DIR/wrong.pem: the certificate cannot be read"),
        ("certificate.pem", "certificate.pem", "`tls.key` DIR/certificate.pem: there is no private key in it"),
        (".", "key.pem", "`tls.certificate` DIR/.: not a file"),
    ];
    let directory = authority.directory.path();
    let named = |key: &str, file: &str| {
        let path = if file.is_empty() { String::new() } else { Path::new(directory).join(file).display().to_string() };
        format!("tls.{key}={path}")
    };
    for (certificate, key, said) in cases {
        for asked in [&["config", "--check"][..], &["serve", "--listen", "127.0.0.1:0"]] {
            if said.is_empty() && asked[0] == "serve" {
                continue;
            }
            let sets = [named("certificate", certificate), named("key", key)];
            let output =
                ringroad(&[asked, &["--set", &sets[0], "--set", &sets[1]]].concat()).output().expect("it runs");
            let told = String::from_utf8_lossy(&output.stderr).replace(&directory.display().to_string(), "DIR");
            assert_eq!(output.status.code(), Some(if said.is_empty() { 0 } else { 2 }), "{certificate} {key}: {told}");
            assert!(told.contains(said), "{certificate} {key}: {told}");
        }
    }
    // The doctor says the same, and how long a good one lasts.
    let doctor = |certificate: &str| {
        let sets = [named("certificate", certificate), named("key", "key.pem")];
        let output = ringroad(&["doctor", "--json", "--set", &sets[0], "--set", &sets[1]]).output().expect("it runs");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let findings = report["findings"].as_array().expect("findings");
        findings.iter().find(|of| of["check"] == "certificate").expect("one").clone()
    };
    let good = doctor("certificate.pem");
    assert!(good["verdict"] == "ok" && good["value"].as_str().is_some_and(|text| text.ends_with(" days")), "{good}");
    let bad = doctor("empty.pem");
    assert!(bad["verdict"] == "blocking" && bad["fix"].to_string().contains("there is no certificate in it"), "{bad}");
    // Its own vehicles could not come in.
    let sets = authority.settings();
    let demo = ringroad(&["demo", "--listen", "127.0.0.1:0", "--set", &sets[0], "--set", &sets[1]]).output();
    let demo = demo.expect("it runs");
    assert_eq!(demo.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&demo.stderr).contains("speak no TLS"));
}
