//! What becomes of the section: servers, conflicts, and what is shown of it.

use std::io::Write;

use super::*;
use crate::config::{Config, check, load};

fn redis(url: &str) -> Redis {
    Redis { url: url.to_owned(), ..Redis::default() }
}

fn servers(redis: &Redis) -> Servers {
    redis.servers().expect("servers").expect("a backplane")
}

/// A file in the file system for as long as it is kept.
fn file(content: &[u8]) -> (tempfile::NamedTempFile, String) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(content).expect("written");
    let path = file.path().to_str().expect("UTF-8").to_owned();
    (file, path)
}

fn loaded(sets: &[&str]) -> Result<Config, String> {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    load(None, std::iter::empty(), &sets).map(|loaded| loaded.config).map_err(|error| error.to_string())
}

#[test]
fn without_a_url_there_is_no_backplane() {
    assert_eq!(Redis { username: "me".into(), ..Redis::default() }.servers(), Ok(None));
}

#[test]
fn keys_win_over_the_url() {
    let mut redis = redis("redis://me:word@cache");
    assert_eq!((servers(&redis).username.as_deref(), servers(&redis).password.as_deref()), (Some("me"), Some("word")));
    (redis.username, redis.password) = ("you".into(), "hunter2".into());
    assert_eq!(
        (servers(&redis).username.as_deref(), servers(&redis).password.as_deref()),
        (Some("you"), Some("hunter2"))
    );
}

#[test]
fn a_node_of_a_backplane_has_a_name_of_its_own() {
    let mut nodes = [redis("redis://cache"), redis("redis://cache"), redis("")];
    nodes[2].name_node();
    assert_eq!(nodes[2].node_id, "", "nobody asks for it");
    for node in &mut nodes[..2] {
        node.name_node();
        assert!(!node.node_id.is_empty());
        let config = Config { redis: node.clone(), ..Config::default() };
        check(&config).expect("a name that may be configured");
        let name = node.node_id.clone();
        node.name_node();
        assert_eq!(node.node_id, name, "a node keeps its name");
    }
    assert_ne!(nodes[0].node_id, nodes[1].node_id);
}

#[test]
fn a_password_file_is_read_and_trimmed() {
    let (_file, path) = file(b"\n hunter 2\r\n");
    let config = loaded(&["redis.url=redis://cache", &format!("redis.password_file={path}")]).expect("usable");
    assert_eq!(servers(&config.redis).password.as_deref(), Some("hunter 2"));
    for text in [super::super::to_toml_commented(&config), format!("{:?}", super::super::differences(&config))] {
        assert!(text.contains(&path) && !text.contains("hunter"), "{text}");
    }
}

#[test]
fn a_password_file_must_have_a_password() {
    let ((_empty, empty), (_binary, binary)) = (file(b" \n"), file(b"\xff\xfe"));
    for (path, why) in [
        ("/nonexistent/password", "No such file"),
        ("/", "Is a directory"),
        (&empty, "there is no password in it"),
        (&binary, "UTF-8"),
    ] {
        let file = format!("redis.password_file={path}");
        let error = loaded(&["redis.url=redis://cache", &file]).expect_err(path);
        assert!(
            error.starts_with(&format!("--set redis.password_file: `redis.password_file` is {path:?}: ")),
            "{error}"
        );
        assert!(error.contains(why) && error.lines().count() == 1, "{error}");
        assert!(loaded(&[&file]).is_ok(), "nobody needs the password");
    }
}

#[test]
fn a_program_that_has_not_read_the_password_file_is_told() {
    let mut config = Config { redis: redis("redis://cache"), ..Config::default() };
    config.redis.password_file = "/etc/password".into();
    assert_eq!(config.redis.servers(), Err(UrlError::PasswordUnread));
    let error = check(&config).expect_err("nobody read it").to_string();
    assert!(error.contains("`redis.password_file` has not been read") && error.lines().count() == 1, "{error}");
    config.redis.password_in_file = "hunter2".into();
    assert_eq!(servers(&config.redis).password.as_deref(), Some("hunter2"));
    check(&config).expect("read");
}

#[test]
fn values_that_do_not_go_together_are_refused() {
    let (_file, path) = file(b"word");
    let password_file = format!("redis.password_file={path}");
    let no_authority = format!("redis.tls_ca={path}");
    let (_broken, broken) = file(b"-----BEGIN CERTIFICATE-----\nAAAA\n");
    let broken = format!("redis.tls_ca={broken}");
    let cases: &[(&[&str], &str)] = &[
        (&["redis.password=x", &password_file], "`redis.password` and `redis.password_file` are both set"),
        (&["redis.url=redis://:x@h", &password_file], "`redis.password_file` is set, and `redis.url` has a password"),
        (&["redis.url=redis://h", "redis.username=me"], "there is no password"),
        (&["redis.url=redis://me:@h"], "there is no password"),
        (&["redis.url=redis://h", &no_authority], "`redis.url` asks for no TLS"),
        (&["redis.url=unix:///s", &no_authority], "`redis.url` asks for no TLS"),
        (&["redis.url=rediss://h", "redis.tls_ca=/nonexistent.pem"], "`redis.tls_ca` is \"/nonexistent.pem\": "),
        (&["redis.url=rediss://h", &no_authority], "there is no certificate in it"),
        (&["redis.url=rediss://h", &broken], "`redis.tls_ca` is "),
        (&["redis.url=redis://:********@h"], "`redis.url` has ******** in it"),
    ];
    for (sets, reason) in cases {
        let error = loaded(sets).expect_err(reason);
        assert!(error.contains(reason) && error.starts_with("--set redis."), "{sets:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{sets:?}: {error}");
    }
    // Without a URL nothing of it is used.
    loaded(&["redis.username=me", &no_authority]).expect("usable");
    // A user of the URL and a password of a file are no conflict.
    let config = loaded(&["redis.url=redis://me:@h", &password_file]).expect("usable");
    assert_eq!(servers(&config.redis).username.as_deref(), Some("me"));
}

#[test]
fn servers_are_shown_without_their_password() {
    let cases = [
        ("redis://:hunter2@cache", "cache:6379"),
        ("rediss://me:hunter2@[::1]:1/2", "[::1]:1, database 2, TLS"),
        ("unix:///run/redis.sock?password=hunter2", "/run/redis.sock"),
        ("redis+sentinel://:hunter2@a,b:1/main/3", "main of sentinels a:26379, b:1, database 3"),
        ("rediss+cluster://:hunter2@a,b:1", "cluster a:6379, b:1, TLS"),
    ];
    for (url, expected) in cases {
        let servers = servers(&redis(url));
        assert_eq!(servers.to_string(), expected);
        assert!(servers.password.is_some() && !format!("{servers:?}").contains("hunter2"), "{servers:?}");
    }
}
