//! Layers and their errors, as tables: what is in the file, in the environment, on the command line; what comes out.

use std::io::Write;

use super::*;
use crate::config::{Bucket, PresenceScope, differences, to_toml_commented};

/// File text, environment, sets; and what comes of them.
type Case<'a, Outcome> = (&'a str, &'a [&'a str], &'a [&'a str], Outcome);

/// Loads a file text (none if empty), variables and sets given as `NAME=value`.
fn load_all(file: &str, env: &[&str], sets: &[&str]) -> Result<Loaded, String> {
    let mut temporary = tempfile::NamedTempFile::new().expect("a temporary file");
    temporary.write_all(file.as_bytes()).expect("written");
    let path = (!file.is_empty()).then(|| temporary.path());
    let env = env.iter().map(|pair| pair.split_once('=').expect("NAME=value"));
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    let name = temporary.path().display().to_string();
    load(path, env, &sets).map_err(|error| error.to_string().replace(&name, "FILE"))
}

fn loaded(file: &str, env: &[&str], sets: &[&str]) -> Config {
    load_all(file, env, sets).unwrap_or_else(|error| panic!("{file} {env:?} {sets:?}: {error}")).config
}

#[test]
fn nothing_gives_the_defaults_without_a_warning() {
    let all = load_all("", &["PATH=/bin", "RINGROAD_LOG=debug"], &[]).expect("defaults");
    assert_eq!(all, Loaded { config: Config::default(), warnings: vec![] });
}

#[test]
fn a_later_layer_wins() {
    let file = "[vehicles]\nnearby_radius_m = 100\n";
    let old = "NEARBY_RADIUS_METERS=200";
    let new = "RINGROAD_VEHICLES__NEARBY_RADIUS_M=300";
    let set = "vehicles.nearby_radius_m=400";
    let cases: &[Case<'_, f64>] = &[
        (file, &[], &[], 100.0),
        (file, &[old], &[], 200.0),
        (file, &[old, new], &[], 300.0),
        (file, &[new, old], &[], 300.0),
        (file, &[old, new], &[set], 400.0),
        ("", &[old], &[set], 400.0),
        ("", &[], &[set, "vehicles.nearby_radius_m = 450.5"], 450.5),
    ];
    for (file, env, sets, radius) in cases {
        assert_eq!(loaded(file, env, sets).vehicles.nearby_radius_m, *radius, "{env:?} {sets:?}");
    }
}

#[test]
fn values_are_read_as_their_layer_writes_them() {
    let cases: &[Case<'_, &str>] = &[
        ("", &["RINGROAD_SERVER__LISTEN=127.0.0.1:9"], &[], r#"server.listen="127.0.0.1:9""#),
        ("", &[], &["server.listen=\"127.0.0.1:9\""], r#"server.listen="127.0.0.1:9""#),
        ("", &["V2V_SERVER_PORT=4000"], &[], r#"server.listen="0.0.0.0:4000""#),
        ("[server]\nlisten='[::1]:1'", &["V2V_SERVER_PORT=4000"], &[], r#"server.listen="[::1]:4000""#),
        (
            "",
            &["ALLOWED_ORIGINS=https://a.b, https://c.d,"],
            &[],
            r#"server.allowed_origins=["https://a.b", "https://c.d"]"#,
        ),
        ("", &["RINGROAD_SERVER__ALLOWED_ORIGINS=[\"https://a.b\"]"], &[], r#"server.allowed_origins=["https://a.b"]"#),
        ("", &["ALLOWED_ORIGINS=*"], &[], ""),
        ("", &["ALLOWED_ORIGINS=", "V2V_SERVER_PORT= ", "REQUIRE_AUTH="], &[], ""),
        ("", &["REQUIRE_AUTH=no", "ENABLE_REDIS=False"], &[], ""),
        (
            "",
            &["RINGROAD_REDIS__PUBLISH_WHITELIST=radio_text, weather"],
            &["redis.shared_limits=signaling,ice_candidate", "redis.node_id=7"],
            "redis.publish_whitelist=[\"radio_text\", \"weather\"]; redis.node_id=\"7\"; \
             redis.shared_limits=[\"signaling\", \"ice_candidate\"]",
        ),
        ("", &[], &["presence.scope=none"], r#"presence.scope="none""#),
        ("", &[], &["auth.secret=12345"], r#"auth.secret="********""#),
        (
            "",
            &["RINGROAD_RATE_LIMITS__LOCATION_UPDATE={burst=7, per_ms=2000}"],
            &["rate_limits.location_update.burst=0"],
            "rate_limits.location_update={ burst = 0, per_ms = 2000 }",
        ),
        (
            "",
            &["RINGROAD_RATE_LIMITS__SIGNALING__BURST=9", "RINGROAD_RATE_LIMITS__SIGNALING={burst=7, per_ms=2000}"],
            &[],
            "rate_limits.signaling={ burst = 9, per_ms = 2000 }",
        ),
        (
            "[rate_limits.signaling]\nper_ms = 5\n[rate_limits]\nice_candidate.burst = 6\n",
            &[],
            &[],
            "rate_limits.signaling={ burst = 2, per_ms = 5 }; rate_limits.ice_candidate={ burst = 6, per_ms = 1000 }",
        ),
        (
            "[radio.short_ids]\n7 = 'BUS-7'\n",
            &[],
            &["radio.short_ids.8=BUS-8"],
            r#"radio.short_ids={ 7 = "BUS-7", 8 = "BUS-8" }"#,
        ),
        ("[radio]\nshort_ids = {7 = 'BUS-7'}\n", &["RINGROAD_RADIO__SHORT_IDS={}"], &[], ""),
        (
            "",
            &["RINGROAD_PORT_3002_TCP_ADDR=10.0.0.1", "RINGROAD_SERVICE_HOST=10.0.0.1", "RINGROAD_PORT=tcp://x"],
            &[],
            "",
        ),
        (
            "",
            &["RINGROAD_REDIS_PORT=tcp://x", "RINGROAD_REDIS_PORT_6379_TCP=tcp://x", "RINGROAD_REDIS_SERVICE_HOST=x"],
            &[],
            "",
        ),
    ];
    for (file, env, sets, expected) in cases {
        let pairs = differences(&loaded(file, env, sets));
        let text: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(text.join("; "), *expected, "{file} {env:?} {sets:?}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place_and_what_would_be_right() {
    let cases: &[Case<'_, &[&str]>] = &[
        (
            "[server]\n\nlisten_addr = 'x'\n",
            &[],
            &[],
            &["FILE:3: unknown key `server.listen_addr`; the nearest known key is `server.listen`"],
        ),
        ("listen = 'x'\n", &[], &[], &["FILE:1: unknown key `listen`; the nearest known key is `server.listen`"]),
        (
            "# c\n[vehicle]\nping_ms = 1\n",
            &[],
            &[],
            &["FILE:2: unknown key `vehicle`; the nearest known key is `vehicles`"],
        ),
        ("server = 3\n", &[], &[], &["FILE:1: unknown key `server`"]),
        (
            "",
            &["RINGROAD_SERVER__LISTE=1"],
            &[],
            &["environment variable RINGROAD_SERVER__LISTE: unknown key `server.liste`", "`server.listen`"],
        ),
        ("", &["RINGROAD_SERVER_LISTEN=1"], &[], &["RINGROAD_SERVER_LISTEN: unknown key", "`server.listen`"]),
        ("", &["RINGROAD_SERVER=1"], &[], &["RINGROAD_SERVER: unknown key `server`"]),
        ("", &[], &["vehicles.radius_m=1"], &["--set vehicles.radius_m: unknown key", "`vehicles.nearby_radius_m`"]),
        ("", &[], &["server.workers"], &["--set server.workers: expected section.key=value"]),
        ("", &[], &["=1"], &["--set …: expected"]),
        (
            "[server]\nworkers = 'four'\n",
            &[],
            &[],
            &["FILE:2: `server.workers` is \"four\"; expected an integer from 0 to 1024"],
        ),
        (
            "[server]\nworkers = 99999999999999999999\n",
            &[],
            &[],
            &["FILE:2: `server.workers` is", "99999999999999999999"],
        ),
        ("[server]\nworkers = 1\nworkers = 2\n", &[], &[], &["FILE:3: "]),
        ("[server]\nworkers = = 2\n", &[], &[], &["FILE:2: "]),
        (
            "[vehicles]\nnearby_radius_m = nan\n",
            &[],
            &[],
            &["FILE:2: `vehicles.nearby_radius_m` is nan", "from 1 to 5000"],
        ),
        ("", &["NEARBY_RADIUS_METERS=0"], &[], &["variable NEARBY_RADIUS_METERS: `vehicles.nearby_radius_m` is 0"]),
        ("", &["NEARBY_RADIUS_METERS=far"], &[], &["`vehicles.nearby_radius_m` is \"far\""]),
        ("", &["V2V_SERVER_PORT=70000"], &[], &["V2V_SERVER_PORT: `server.listen` is \"70000\"; expected a port"]),
        ("", &["REQUIRE_AUTH=maybe"], &[], &["REQUIRE_AUTH: `auth.required` is \"maybe\"; expected true or false"]),
        (
            "",
            &["REQUIRE_AUTH=true"],
            &[],
            &["environment variable REQUIRE_AUTH: `auth.required` is true", "V2V_JWT_SECRET"],
        ),
        (
            "",
            &["ENABLE_REDIS=maybe"],
            &[],
            &["variable ENABLE_REDIS: ENABLE_REDIS is \"maybe\"; expected true or false"],
        ),
        (
            "[redis]\nurl = 'redis://me:hunter2@cache:port'\n",
            &[],
            &[],
            &["FILE:2: `redis.url` is \"redis://********@cache:port\": a port is not a number from 1 to 65535; \
                 expected something like redis://user:password@localhost:6379/0"],
        ),
        ("", &["RINGROAD_REDIS__URL=cache"], &[], &["RINGROAD_REDIS__URL: `redis.url` is \"********\": the scheme"]),
        ("", &["REDIS_URL=redis://a,b"], &[], &["variable REDIS_URL: `redis.url`", "redis+cluster://"]),
        (
            "",
            &[],
            &["redis.uri=x"],
            &["--set redis.uri: unknown key `redis.uri`; the nearest known key is `redis.url`"],
        ),
        (
            "[rate_limits]\nsignaling = {burst = 1, rate = 2}\n",
            &[],
            &[],
            &["FILE:2: unknown key `rate_limits.signaling.rate`"],
        ),
        ("[rate_limits]\nsignaling = 3\n", &[], &[], &["FILE:2: `rate_limits.signaling` is 3; expected a bucket"]),
        (
            "",
            &[],
            &["rate_limits.signaling={per_ms=0}"],
            &["`rate_limits.signaling.per_ms` is 0; expected an integer from 1"],
        ),
        ("[radio.short_ids]\n7 = 'BUS-7'\n\n8 = 'BUS-7'\n", &[], &[], &["FILE:4: `radio.short_ids.8` is \"BUS-7\""]),
        ("[radio.short_ids]\n255 = 'BUS-7'\n", &[], &[], &["FILE:2: `radio.short_ids.255`", "from 1 to 254"]),
        ("[auth]\nsecret = 5\n", &[], &[], &["FILE:2: `auth.secret` is ********; expected a string"]),
        (
            "[vehicles]\n\nping_ms = 60000\n",
            &[],
            &[],
            &["FILE:3: `vehicles.heartbeat_timeout_ms` is 60000", "`vehicles.ping_ms`"],
        ),
        ("[limits]\nmessage_bytes_max = 1048576\n", &[], &[], &["FILE:2: `limits.outbox_bytes_max` is 262144"]),
        ("[server]\npath = '/metrics'\n", &[], &[], &["FILE:2: `server.path` is \"/metrics\"; expected a path"]),
        (
            "[server]\nworker = 1\npath = 'x'\n",
            &["NEARBY_RADIUS_METERS=-1"],
            &["radio.baud=1"],
            &[
                "FILE:2: ",
                "FILE:3: ",
                "NEARBY_RADIUS_METERS",
                "--set radio.baud: `radio.baud` is 1; expected a standard speed",
            ],
        ),
    ];
    for (file, env, sets, parts) in cases {
        let error = load_all(file, env, sets).expect_err(&format!("{file} {env:?} {sets:?}"));
        for part in *parts {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }
}

#[test]
fn the_old_names_of_redis_say_whether_and_where() {
    let file = "[redis]\nurl = 'redis://file'\n";
    let (url, on, off) = ("REDIS_URL=redis://old", "ENABLE_REDIS=yes", "ENABLE_REDIS=off");
    let new = "RINGROAD_REDIS__URL=redis://new";
    let cases: &[Case<'_, &str>] = &[
        ("", &[url], &[], "redis://old"),
        ("", &[url, on], &[], "redis://old"),
        ("", &[url, off], &[], ""),
        ("", &["REDIS_URL=nonsense", off], &[], ""),
        ("", &[on], &[], "redis://127.0.0.1:6379"),
        ("", &[on, "REDIS_URL= "], &[], "redis://127.0.0.1:6379"),
        (file, &[], &[], "redis://file"),
        (file, &[on], &[], "redis://file"),
        (file, &[url], &[], "redis://old"),
        (file, &[off], &[], ""),
        ("", &[url, off, new], &[], "redis://new"),
        (file, &[url, on, "RINGROAD_REDIS__URL="], &[], ""),
        (file, &[url, on, new], &["redis.url="], ""),
    ];
    for (file, env, sets, expected) in cases {
        assert_eq!(loaded(file, env, sets).redis.url, *expected, "{file} {env:?} {sets:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let error = load(Some(Path::new("/nonexistent/ringroad.toml")), std::iter::empty(), &[]).expect_err("no file");
    assert!(error.to_string().starts_with("/nonexistent/ringroad.toml: "), "{error}");
}

#[test]
fn secrets_stay_out_of_errors() {
    let error =
        load_all("", &["V2V_JWT_SECRET=hunter2"], &["auth.secret=[1]", "auth.required=hunter", "auth.secrets=hunter2"])
            .expect_err("three problems");
    assert!(!error.contains("hunter2"), "{error}");
    let error = load_all("", &[], &["auth.secret:hunter2", "auth.secret hunter2", "=hunter2"]).expect_err("no keys");
    assert!(error.contains("--set auth.secret…: expected") && !error.contains("hunter2"), "{error}");
    for wrong in ["redis://:hunter2@h:x", "redis://:hunter2", ":hunter2@host", "redis://:p/hunter2@h", "//hunter2"] {
        let file = format!("[redis]\nurl = ['{wrong}']\npassword = ['hunter2']\n");
        let (env, set) = (format!("REDIS_URL={wrong}"), format!("redis.url={wrong}"));
        let error = load_all(&file, &[&env], &[&set]).expect_err("four problems");
        assert!(error.lines().count() == 4 && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_masked_secret_is_no_secret() {
    let mut config = Config::default();
    config.auth.secret = "a secret that is long enough to be one".into();
    let printed = to_toml_commented(&crate::config::masked(&config));
    let error = load_all(&printed, &[], &["auth.required=true"]).expect_err("everyone knows the mask");
    assert!(error.contains("`auth.secret` is ********, which `ringroad config` prints"), "{error}");
    let all = load_all(&printed, &["V2V_JWT_SECRET=a secret that is long enough to be one"], &[]).expect("usable");
    assert_eq!(all.config, config);

    for secret in ["redis.password=hunter2", "redis.url=redis://:hunter2@cache"] {
        let config = loaded("", &["REDIS_URL=redis://cache"], &[secret]);
        let printed = to_toml_commented(&crate::config::masked(&config));
        assert!(printed.contains("cache") && !printed.contains("hunter2"), "{printed}");
        let error = load_all(&printed, &[], &[]).expect_err("everyone knows the mask");
        assert!(error.contains("has ******** in it, which `ringroad config` prints"), "{error}");
        assert_eq!(loaded(&printed, &[], &[secret]), config);
    }
}

#[test]
fn some_things_are_worth_a_warning_only() {
    let all =
        load_all("", &["REDIS_URL=redis://x"], &["redis.lease_ms=5999", "redis.publish_whitelist=radio_text,gone"]);
    let warnings = all.expect("usable").warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("`redis.lease_ms` is 5999") && warnings[1].contains("has `gone`:"), "{warnings:?}");
    let all = load_all("", &[], &["redis.lease_ms=5999", "redis.publish_whitelist=gone"]).expect("usable");
    assert_eq!(all.warnings, Vec::<String>::new(), "there is no backplane to warn about");
    let all = load_all("", &["REQUIRE_AUTH=yes", "V2V_JWT_SECRET=short"], &[]).expect("usable");
    assert!(all.warnings.len() == 1 && all.warnings[0].contains("5 bytes"), "{:?}", all.warnings);
    for (audience, expected) in [("", 1), ("ringroad", 0)] {
        let sets = ["auth.key_file=/keys.pem".to_owned(), format!("auth.audience={audience}")];
        let all = load_all("", &["REQUIRE_AUTH=yes"], &sets.each_ref().map(String::as_str)).expect("usable");
        let named = all.warnings.iter().filter(|warning| warning.contains("`auth.audience` is empty"));
        assert_eq!((named.count(), all.warnings.len()), (expected, expected), "{:?}", all.warnings);
    }
}

#[test]
fn the_printed_configuration_can_be_given_back() {
    let mut config = Config::default();
    config.vehicles.nearby_radius_m = 321.5;
    config.rate_limits.send_message = Bucket { burst: 0, per_ms: 1 };
    config.presence.scope = PresenceScope::None;
    config.radio.short_ids.insert("254".into(), "a.b_c-d".into());
    config.redis.url = "unix:///run/a%20b?password=p%26q".into();
    config.redis.publish_whitelist = vec!["a_b".into()];
    config.auth.secret = "line\nline \"'''\u{7f}".into();
    assert_eq!(loaded(&to_toml_commented(&config), &[], &[]), config);
}
