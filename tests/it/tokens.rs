//! Tokens over sockets: the same table as on a shard, the file of keys, the private address, and the logs.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use ringroad::auth::{Keys, Rules};
use ringroad::config;
use serde_json::{Value, json};
use tungstenite::{ClientRequestBuilder, Error};

use crate::client::{Client, dial};
use crate::gateway::{Gateway, ringroad};
use crate::token_table::{
    CASES, EC_PUBLIC, ED_PUBLIC, LEEWAY, P384_PUBLIC, RSA, RSA_PUBLIC, SECRET, SETTINGS, Signer, jwks, token,
};
use crate::until;

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn signed(signer: Signer, claims: Value) -> String {
    token(signer, &claims, now_s())
}

/// A gateway that wants tokens, by a file of keys.
fn guarded(keys: &Path, settings: &[&str]) -> Gateway {
    let file = format!("auth.key_file='{}'", keys.display());
    let all: Vec<&str> = SETTINGS.iter().chain(settings).copied().chain([file.as_str()]).collect();
    Gateway::start(&all)
}

/// The name of a file, with this in it.
fn file(folder: &tempfile::TempDir, text: &str) -> std::path::PathBuf {
    let path = folder.path().join("keys");
    fs::write(&path, text).expect("written");
    path
}

/// A file that takes another's place in one step, as operators should.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("written");
    fs::rename(new, path).expect("renamed");
}

/// What becomes of an event that shows a token: the reason that is counted, or nothing.
fn shown(addr: SocketAddr, event: &str, mut data: Value, token: &str) -> Result<(), String> {
    data["authToken"] = json!(token);
    let mut client = Client::connect(addr);
    client.send(event, data);
    let answers = ["registered", "watching", "error"];
    let answer = client.next_of(&answers);
    if answer.name == "error" {
        assert_eq!(answer.data["code"], "auth_failed", "{answer:?}");
        assert_eq!(client.closed(), (1008, "auth_failed".to_owned()));
        return Err(answer.data["message"].as_str().expect("a message").to_owned());
    }
    client.goodbye();
    Ok(())
}

/// Status of a handshake with this query and header.
fn knock(addr: SocketAddr, query: &str, authorization: Option<&str>) -> u16 {
    let uri = format!("ws://{addr}/v2v{query}").parse().expect("an address");
    let mut request = ClientRequestBuilder::new(uri);
    if let Some(value) = authorization {
        request = request.with_header("Authorization", value);
    }
    match tungstenite::client(request, dial(addr)) {
        Ok((mut socket, reply)) => {
            socket.close(None).expect("sent");
            reply.status().as_u16()
        }
        Err(tungstenite::HandshakeError::Failure(Error::Http(reply))) => reply.status().as_u16(),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn each_token_is_good_for_what_it_says_and_none_is_ever_logged() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder, &jwks());
    let file = format!("auth.key_file='{}'", path.display());
    let settings: Vec<&str> = SETTINGS.iter().copied().chain([LEEWAY, file.as_str()]).collect();
    let gateway = Gateway::start_logging("trace", &settings);
    let mut tokens = Vec::new();
    let message = |reason: &str| match reason {
        "" => Ok(()),
        "role" => Err("authToken has no role that allows this".to_owned()),
        "vehicle" => Err("authToken is for another vehicle".to_owned()),
        "invalid" => Err("authToken is not valid".to_owned()),
        "expired" => Err("authToken has expired".to_owned()),
        "not_yet_valid" => Err("authToken is not valid yet".to_owned()),
        "issuer" => Err("authToken is from another issuer".to_owned()),
        "audience" => Err("authToken is for another audience".to_owned()),
        "tenant" => Err("authToken is for another tenant".to_owned()),
        other => panic!("no reason {other}"),
    };
    for case in CASES {
        let token = case.token(now_s());
        let vehicle = json!({"vehicleId": "veh-a", "driverName": "A"});
        assert_eq!(shown(gateway.addr, "register", vehicle, &token), message(case.register), "{}", case.what);
        let area = json!({"south": 1, "west": 1, "north": 2, "east": 2});
        assert_eq!(shown(gateway.addr, "view", area, &token), message(case.view), "{}", case.what);
        assert_eq!(knock(gateway.addr, "", Some(&format!("Bearer {token}"))), case.knock(), "{}", case.what);
        assert_eq!(knock(gateway.addr, &format!("?token={token}"), None), case.knock(), "{}", case.what);
        let listing = gateway.ask("GET /vehicles", &[("Authorization", &format!("Bearer {token}"))]);
        assert_eq!(listing.status, case.list, "{}", case.what);
        assert_eq!(gateway.get(&format!("/vehicles?token={token}")).status, case.list, "{}", case.what);
        tokens.push(token);
    }
    assert_eq!(gateway.get("/metrics").status, 401);
    let log = gateway.stop();
    assert!(log.contains("a token was accepted"), "{log}");
    for token in tokens {
        let signature = token.rsplit('.').find(|part| !part.is_empty()).expect("parts");
        assert!(!log.contains(&token) && !log.contains(signature), "{token} in\n{log}");
    }
}

#[test]
fn keys_are_read_again_when_their_file_changes_and_bad_ones_change_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder, RSA_PUBLIC);
    let gateway = guarded(&path, &["server.private_listen='127.0.0.1:0'"]);
    let private = gateway.private_addr();
    let counted = |series: &str| Gateway::metric_at(private, series);
    let knocks = |signer| knock(gateway.addr, &format!("?token={}", signed(signer, json!({}))), None);
    assert_eq!((knocks(Signer::Rsa), knocks(Signer::Ed)), (101, 401));
    replace(&path, ED_PUBLIC);
    until("the new keys count", || counted("ringroad_key_reloads_total") == 1);
    // Each worker has its own, and the kernel chooses the worker.
    until("every worker has them", || (0..16).all(|_| (knocks(Signer::Rsa), knocks(Signer::Ed)) == (401, 101)));
    let mut failed = 0;
    for bad in ["", "nonsense", RSA, P384_PUBLIC, &jwks()[..100]] {
        // Written in place, as editors do.
        fs::write(&path, bad).expect("written");
        failed += 1;
        until("it was looked at", || counted("ringroad_key_reloads_failed_total") >= failed);
        failed = counted("ringroad_key_reloads_failed_total");
        assert_eq!((knocks(Signer::Rsa), knocks(Signer::Ed)), (401, 101), "{bad:?}");
    }
    fs::remove_file(&path).expect("removed");
    until("it is missed", || counted("ringroad_key_reloads_failed_total") > failed);
    assert_eq!((knocks(Signer::Rsa), knocks(Signer::Ed)), (401, 101));
    fs::write(&path, [RSA_PUBLIC, EC_PUBLIC].concat()).expect("written");
    until("it is back", || counted("ringroad_key_reloads_total") == 2);
    until("every worker has them", || (0..16).all(|_| (knocks(Signer::Ec), knocks(Signer::Ed)) == (101, 401)));
    let log = gateway.stop();
    assert!(log.contains("the keys before stay in use") && log.contains("private key"), "{log}");
    assert!(log.contains("keys were read anew"), "{log}");
}

#[test]
fn the_private_address_answers_operators_on_every_worker() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder, &jwks());
    let gateway = guarded(&path, &["server.private_listen='127.0.0.1:0'", "auth.tenants=[]"]);
    let private = gateway.private_addr();
    let claims = json!({"tenant": null, "vehicleId": "veh-*"});
    let mut client = Client::connect(gateway.addr);
    let data = json!({"vehicleId": "veh-a", "driverName": "A", "authToken": signed(Signer::Ec, claims)});
    client.send("register", data);
    client.expect("registered");
    for _ in 0..4 {
        let listing = Gateway::get_at(private, "/vehicles");
        assert_eq!((listing.status, &listing.json()["vehicles"][0]["vehicleId"]), (200, &json!("veh-a")));
        assert_eq!(Gateway::get_at(private, "/presence").json()["count"], 1);
        assert_eq!(Gateway::metric_at(private, "v2v_active_vehicles"), 1);
        assert_eq!(Gateway::get_at(private, "/health").json()["vehicles"], 1);
    }
    // A page whose name leads there is told that it is the wrong one.
    let mut stream = dial(private);
    stream.write_all(b"GET /vehicles HTTP/1.1\r\nHost: evil.example:3003\r\n\r\n").expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a reply");
    assert!(reply.starts_with("HTTP/1.1 421 Misdirected Request\r\n") && !reply.contains("veh-a"), "{reply}");
    assert_eq!(Gateway::metric_at(private, "ringroad_refused_total{reason=\"host\"}"), 1);
    for path in ["/vehicles", "/presence", "/metrics", "/vehicles/veh-a", "/"] {
        let reply = gateway.get(path);
        assert_eq!((reply.status, reply.header("WWW-Authenticate")), (401, Some("Bearer")), "{path}");
    }
    assert_eq!(gateway.get("/health").status, 200);
    client.goodbye();
}

#[test]
fn a_connection_ends_with_its_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder, &jwks());
    let gateway = guarded(&path, &["auth.leeway_ms=0"]);
    // A machine that stands still for a while may let the token end before it was shown.
    let mut client = loop {
        let mut client = Client::connect(gateway.addr);
        let ends = signed(Signer::Ed, json!({"exp": 3}));
        client.send("register", json!({"vehicleId": "veh-a", "driverName": "A", "authToken": ends}));
        if client.next_of(&["registered", "error"]).name == "registered" {
            break client;
        }
    };
    let warning = client.expect("token_expiring");
    let left_ms = warning["expiresInMs"].as_u64().expect("a number");
    assert!((1..=3_000).contains(&left_ms) && warning["expiresAt"].is_u64(), "{warning}");
    assert_eq!(client.closed(), (4003, "token_expired".to_owned()));
}

#[test]
fn a_file_of_keys_that_cannot_be_used_keeps_it_from_starting() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing").display().to_string();
    let private = file(&folder, RSA).display().to_string();
    for (path, why) in [(missing, "No such file"), (private, "private key")] {
        let setting = format!("auth.key_file='{path}'");
        for command in [&["config", "--check"][..], &["serve", "--listen", "127.0.0.1:0", "--workers", "1"]] {
            let args: Vec<&str> =
                command.iter().copied().chain(["--set", "auth.required=true", "--set", &setting]).collect();
            let output = ringroad(&args).output().expect("the binary runs");
            let told = String::from_utf8(output.stderr).expect("UTF-8");
            assert_eq!(output.status.code(), Some(2), "{told}");
            assert!(told.contains("auth.key_file") && told.contains(&path) && told.contains(why), "{told}");
        }
    }
}

/// The commands of docs/OPERATIONS.md that make keys, and tokens by hand.
#[test]
fn what_openssl_makes_as_the_documents_say_is_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = include_str!("../../docs/OPERATIONS.md");
    let script = text.split("```sh token\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the commands");
    let mut shell = std::process::Command::new("sh");
    let output = shell.args(["-euc", script]).current_dir(folder.path()).output().expect("a shell");
    let token = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let public = fs::read_to_string(folder.path().join("tokens.pub.pem")).expect("a public key");
    let keys = Keys::of_file(SECRET, &public).expect("keys");
    let grant = Rules::new(&config::Auth::default()).read(&keys, now_s() * 1_000, token.trim()).expect("a token");
    assert!(grant.operates && grant.expires_ms.is_some(), "{grant:?}");
}
