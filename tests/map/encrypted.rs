//! The map over TLS: the page by https, and what it shows by wss.

use std::io::Write;
use std::process::{Command, Stdio};

use data_encoding::BASE64;

use crate::alone;
use crate::browser::Browser;
use crate::certificates::Authority;
use crate::drive::Drive;
use crate::gateway::Gateway;

/// SHA-256 of a public key, by which the browser knows it.
fn fingerprint(key: &[u8]) -> String {
    let mut child = Command::new("openssl")
        .args(["dgst", "-sha256", "-binary"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    child.stdin.take().expect("piped").write_all(key).expect("it reads");
    BASE64.encode(&child.wait_with_output().expect("it ends").stdout)
}

#[test]
fn the_map_shows_the_fleet_over_tls() {
    let _alone = alone();
    let authority = Authority::new();
    let key = authority.issue(1, |_| {});
    let [certificate, private] = authority.settings();
    let gateway = Gateway::start(&[&certificate, &private, "tls.required=false"]);
    let _drive = Drive::start(gateway.addr, &["--vehicles", "100", "--hz", "2", "--side", "2000"]);
    // Nobody else's certificate is taken, and nothing else is made easier.
    let mut browser = Browser::start_with(&[&format!("--ignore-certificate-errors-spki-list={}", fingerprint(&key))]);
    let mut page = browser.page(1280, 800);
    page.go(&format!("https://{}/", gateway.addr));
    page.wait("typeof window.ringroadMap === 'object' && location.protocol === 'https:'");
    page.wait("ringroadMap.vehicles === 100 && ringroadMap.watched === 100 && ringroadMap.complete");
    page.wait("ringroadMap.recordsPerSecond > 30 && document.getElementById('link').dataset.state === 'open'");
    assert!(gateway.metric("ringroad_tls_sessions") >= 1, "it is not encrypted");
    assert_eq!(page.numbers()["errors"], 0, "{}", page.numbers());
    assert_eq!(page.complaints, Vec::<String>::new());
}
