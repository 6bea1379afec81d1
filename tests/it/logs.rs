//! The log: what it looks like, how often it says a thing, and what it never says.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::time::Instant;

use serde_json::{Value, json};

use crate::Numbers;
use crate::client::{Client, dial};
use crate::gateway::{Gateway, ringroad};

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
    assert!(said.contains("RINGROAD_LOG_FORMAT=xml: expected text or json"), "{said}");
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

#[test]
fn bad_input_leaves_nothing_private_in_the_log() {
    let begun = Instant::now();
    let gateway = Gateway::start(&["auth.required=true", "auth.secret=open-sesame-0123456789-0123456789", NO_REDIS]);
    let mut private: Vec<String> =
        ["hunter2", "open-sesame", "secret-car", "48.8583", "Eve Driver", "eyJhbGciOiJub25lIn0"].map(Into::into).into();
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
