//! How a gateway comes to its servers: by name and password, over sockets of all kinds, later than it would like.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;

use crate::client::{Client, expect_all};
use crate::gateway::ringroad;
use crate::host::Host;
use crate::redis::{LOOPBACK, Port, Redis};
use crate::relayed::relay;
use crate::{PATIENCE, until};

/// Two hosts do all that they do with a server.
pub fn all_works(url: &str, more: &[&str]) {
    let hosts = ["a", "b"].map(|node| Host::start(url, node, more));
    let mut cars = hosts.each_ref().map(|host| Client::connect(host.addr).register(&format!("car-{}", host.node)));
    for host in &hosts {
        host.until_hosts(2);
        until("both are known", || host.listed().len() == 2);
    }
    for car in &mut cars {
        car.locate(52.0, 13.2);
    }
    expect_all(&mut cars, "proximity_event", |data| data["eventType"] == "enter");
    let [one, other] = &mut cars;
    relay(one, other);
    one.send("emergency_alert", json!({"senderId": "car-a"}));
    expect_all(&mut cars, "emergency_alert", |data| data["senderId"] == "car-a");
    let [_, other] = cars;
    other.goodbye();
    until("one is left", || hosts.iter().all(|host| host.listed() == ["car-a"]));
    for host in &hosts {
        assert_eq!(host.metric("ringroad_backplane_dropped_total{reason=\"refused\"}"), 0, "{}", host.node);
    }
    let [a, b] = hosts;
    b.crash();
    a.until_hosts(1);
}

/// The gateway ends by itself, with this code, and says these words.
fn fails(url: &str, more: &[&str], words: &[&str]) {
    let url = format!("redis.url={url}");
    let sets = [url.as_str()].into_iter().chain(more.iter().copied()).flat_map(|setting| ["--set", setting]);
    let args: Vec<&str> = ["--listen", "127.0.0.1:0", "--workers", "2"].into_iter().chain(sets).collect();
    let mut child = ringroad(&args).spawn().expect("the binary starts");
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("our child").is_none() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    // If it serves, it is ended here, and has no code.
    let _ = child.kill();
    let output = child.wait_with_output().expect("our child");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "no {word:?} in {stderr}");
    }
    assert!(!stderr.contains("panicked") && !stderr.contains("s3cret"), "{stderr}");
}

#[test]
fn a_wrong_password_is_told_at_once() {
    let redis = Redis::with(&["requirepass opensesame"]);
    let addr = redis.addr.to_string();
    fails(&format!("redis://:s3cret@{addr}"), &[], &[&addr, "password"]);
    fails(&format!("redis://{addr}"), &[], &[&addr, "password"]);
    fails(&format!("redis://{addr}"), &["redis.username=nobody", "redis.password=s3cret"], &[&addr, "password"]);
}

#[test]
fn passwords_come_in_the_url_in_a_key_and_in_a_file() {
    let redis = Redis::with(&["requirepass open:sesame/1"]);
    let addr = redis.addr;
    let file = redis.file("password");
    fs::write(&file, "open:sesame/1\n").expect("written");
    let from_file = format!("redis.password_file={}", file.display());
    Host::start(&format!("redis://:open%3Asesame%2F1@{addr}"), "a", &[]);
    Host::start(&format!("redis://{addr}"), "a", &["redis.password=open:sesame/1"]);
    Host::start(&format!("redis://{addr}"), "a", &[&from_file]);
}

#[test]
fn a_gateway_without_its_server_serves_and_joins_when_it_is_there() {
    let mut redis = Redis::planned(LOOPBACK, &[]);
    let hosts = ["a", "b"].map(|node| Host::unjoined(&redis.url(), node, &[]));
    let mut cars = hosts.each_ref().map(|host| Client::connect(host.addr).register(&format!("car-{}", host.node)));
    for (host, car) in hosts.iter().zip(&mut cars) {
        let mut beside = Client::connect(host.addr).register(&format!("beside-{}", host.node));
        car.expect_that("presence_update", |data| data["vehicleId"] == beside.id.as_str());
        relay(car, &mut beside);
        beside.goodbye();
        assert!(host.is_down() && host.vehicles() == 1);
        car.locate(52.0, 13.2);
    }
    cars[0].send("emergency_alert", json!({"senderId": "car-a"}));
    cars[0].expect("emergency_alert");
    redis.run();
    for host in &hosts {
        host.until_up();
    }
    expect_all(&mut cars, "proximity_event", |data| data["eventType"] == "enter");
    // What was said before anybody was there to hear it.
    cars[1].expect_that("emergency_alert", |data| data["senderId"] == "car-a");
    for host in &hosts {
        until("both are known", || host.listed() == ["car-a", "car-b"]);
    }
    drop(cars);
    for host in hosts {
        let log = host.stop();
        assert!(log.contains(" WARN ") && log.contains(&redis.addr.to_string()), "{log}");
    }
}

#[test]
fn a_socket_in_the_file_system() {
    let folder = tempfile::TempDir::with_prefix("redis-").expect("a folder");
    let path = folder.path().join("redis.sock");
    let redis = Redis::with(&[&format!("unixsocket {}", path.display())]);
    all_works(&format!("unix://{}", path.display()), &[]);
    assert_eq!(redis.plain().ask(&["HLEN", "v2v:presence"]).number(), 0);
}

#[test]
fn a_prefix_keeps_two_fleets_apart() {
    let redis = Redis::start();
    let one = Host::start(&redis.url(), "a", &["redis.channel_prefix=one:"]);
    let other = Host::start(&redis.url(), "a", &["redis.channel_prefix=two:"]);
    let mut at_one = Client::connect(one.addr).register("car-1");
    let mut at_other = Client::connect(other.addr).register("car-1");
    let mut plain = redis.plain();
    for key in ["one:v2v:presence", "two:v2v:presence"] {
        until("each has its own", || plain.ask(&["HLEN", key]).number() == 1);
    }
    let keys = plain.ask(&["KEYS", "*"]);
    assert!(keys.list().iter().all(|key| key.text().starts_with("one:") || key.text().starts_with("two:")), "{keys:?}");
    at_one.send("emergency_alert", json!({"senderId": "car-1"}));
    at_one.expect("emergency_alert");
    assert!(at_other.sync().iter().all(|event| event.name == "presence_update"));
    assert_eq!((one.vehicles(), other.vehicles()), (1, 1));
}

/// An authority, and what it signed for 127.0.0.1: PEM files.
fn certificates(folder: &Path) {
    let write = |name: &str, text: String| fs::write(folder.join(name), text).expect("written");
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(authority, key).expect("a certificate");
    write("ca.pem", authority.pem());
    let key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    let server = server.signed_by(&key, &authority).expect("a certificate");
    write("server.pem", server.pem());
    write("server.key", key.serialize_pem());
}

#[test]
fn an_encrypted_server_is_one_like_the_others() {
    let folder = tempfile::TempDir::with_prefix("redis-").expect("a folder");
    certificates(folder.path());
    let port = Port::reserve(LOOPBACK);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let lines = [
        format!("tls-port {}", port.number),
        format!("tls-cert-file {}", path("server.pem")),
        format!("tls-key-file {}", path("server.key")),
        format!("tls-ca-cert-file {}", path("ca.pem")),
        "tls-auth-clients no".to_owned(),
    ];
    let _redis = Redis::with(&lines.each_ref().map(String::as_str));
    let url = format!("rediss://127.0.0.1:{}", port.number);
    all_works(&url, &[&format!("redis.tls_ca={}", path("ca.pem"))]);

    // Signed by nobody whom the system knows.
    fails(&url, &[], &["127.0.0.1", "certificate"]);
}
