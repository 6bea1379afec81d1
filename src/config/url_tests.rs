//! The grammar as tables, and what holds for any text.

use proptest::prelude::*;

use super::*;

fn tcp(host: &str, port: u16) -> Endpoint {
    Endpoint::Tcp { host: host.into(), port }
}

fn login(user: &str, password: &str) -> (Option<String>, Option<String>) {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    (given(user), given(password))
}

#[test]
fn urls_name_their_servers() {
    let single = |host, port| Topology::Single(tcp(host, port));
    let unix = |path: &str| Topology::Single(Endpoint::Unix { path: path.into() });
    let sentinel = |sentinels: &[Endpoint], service: &str| Topology::Sentinel {
        sentinels: sentinels.to_vec(),
        service: service.to_owned(),
    };
    let cluster = |seeds: &[Endpoint]| Topology::Cluster { seeds: seeds.to_vec() };
    let none = || login("", "");
    let cases = [
        ("redis://localhost", single("localhost", 6379), false, none(), 0),
        ("REDIS://localhost/", single("localhost", 6379), false, none(), 0),
        ("redis://10.0.0.1:1/65535", single("10.0.0.1", 1), false, none(), 65535),
        ("redis://my_cache-1.example:65535/00", single("my_cache-1.example", 65535), false, none(), 0),
        ("rediss://[2001:db8::1]:7000/2", single("2001:db8::1", 7000), true, none(), 2),
        ("redis://[::1]", single("::1", 6379), false, none(), 0),
        ("redis://:word@h", single("h", 6379), false, login("", "word"), 0),
        ("redis://me:word@h", single("h", 6379), false, login("me", "word"), 0),
        ("redis://me:@h", single("h", 6379), false, login("me", ""), 0),
        ("redis://:@h", single("h", 6379), false, none(), 0),
        ("redis://m%65:a%2Fb%3a%C3%A4%25@h", single("h", 6379), false, login("me", "a/b:ä%"), 0),
        ("redis://me:a:b@c#d@h", single("h", 6379), false, login("me", "a:b@c#d"), 0),
        ("unix:///run/redis.sock", unix("/run/redis.sock"), false, none(), 0),
        ("redis+unix:///a%20b@c?db=3", unix("/a b@c"), false, none(), 3),
        ("unix:///s?user=me&password=p%26q=r&db=1", unix("/s"), false, login("me", "p&q=r"), 1),
        ("unix:///s?", unix("/s"), false, none(), 0),
        ("redis+sentinel://a/main", sentinel(&[tcp("a", 26379)], "main"), false, none(), 0),
        (
            "rediss+sentinel://:word@a:1,[::1],b/main%2F1/4",
            sentinel(&[tcp("a", 1), tcp("::1", 26379), tcp("b", 26379)], "main/1"),
            true,
            login("", "word"),
            4,
        ),
        ("redis+cluster://a,b:7000", cluster(&[tcp("a", 6379), tcp("b", 7000)]), false, none(), 0),
        ("rediss+cluster://me:word@[::1]:1/", cluster(&[tcp("::1", 1)]), true, login("me", "word"), 0),
    ];
    for (url, topology, tls, (username, password), database) in cases {
        let expected = Servers { topology, tls, username, password, database };
        let servers = parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert!(servers == expected, "{url}: {servers:?} {:?}", servers.password);
    }
}

#[test]
fn what_is_wrong_is_said_with_an_example_of_its_kind() {
    let path = format!("unix:///{}", "x".repeat(SOCKET_PATH_BYTES_MAX));
    let cases = [
        ("localhost:6379", "the scheme is none of"),
        ("http://localhost", "the scheme is none of"),
        ("redis:/localhost", "the scheme is none of"),
        ("redis+sentinels://a/b", "the scheme is none of"),
        ("redis://local host", "a blank"),
        ("redis://host\n", "a blank"),
        ("redis://", "a host is missing"),
        ("redis://:word", "a host is missing"),
        ("redis://:6379", "a host is missing"),
        ("redis://:word@", "a host is missing"),
        ("redis://hänsel", "neither a name nor an address"),
        ("redis://a%62", "neither a name nor an address"),
        ("redis://a#b", "neither a name nor an address"),
        ("redis://word@host", "there is no colon"),
        ("redis://me:pa/ss@host", "a / or ? stands before the @"),
        ("redis://me:pa?ss@host", "a / or ? stands before the @"),
        ("redis://me:100%@host", "a % is not followed"),
        ("redis://me:%FF@host", "a % is not followed"),
        ("redis://me:%+1@host", "a % is not followed"),
        ("redis://host:", "a port is not a number from 1 to 65535"),
        ("redis://host:0", "a port is not a number from 1 to 65535"),
        ("redis://host:65536", "a port is not a number from 1 to 65535"),
        ("redis://host:+1", "a port is not a number from 1 to 65535"),
        ("redis://::1", "an IPv6 address stands in brackets"),
        ("redis://[::1", "an IPv6 address stands in brackets"),
        ("redis://[::1]6379", "an IPv6 address stands in brackets"),
        ("redis://[localhost]", "an IPv6 address stands in brackets"),
        ("redis://host/65536", "the database is not a number"),
        ("redis://host/one", "the database is not a number"),
        ("redis://host/1/", "the database is not a number"),
        ("redis://host?db=1", "only unix:// takes"),
        ("redis://a,b", "several hosts need"),
        ("unix://run/redis.sock", "a path that begins with /"),
        ("unix://me:word@/run/redis.sock", "a path that begins with /"),
        ("unix://", "a path that begins with /"),
        (&*path, "at most 107 bytes"),
        ("unix:///s%00", "no NUL"),
        ("unix:///s?db=1&database=2", "something else than db, user and password"),
        ("unix:///s?db=1&db=2", "there twice"),
        ("unix:///s?db=x", "the database is not a number"),
        ("redis+sentinel://a", "no name of the service"),
        ("redis+sentinel://a/", "no name of the service"),
        ("redis+sentinel://a//1", "no name of the service"),
        ("redis+sentinel://a/main/1/2", "the database is not a number"),
        ("redis+sentinel://a,,b/main", "a host is missing"),
        ("redis+cluster://a,", "a host is missing"),
        ("redis+cluster://a,b:x", "a port is not a number"),
        ("redis+cluster://a/1", "no databases"),
    ];
    for (url, part) in cases {
        let error = parse(url).expect_err(url).to_string();
        assert!(error.contains(part) && error.contains("expected something like "), "{url}: {error}");
    }
}

#[test]
fn the_examples_are_right() {
    for (_, form, _) in SCHEMES {
        assert!(parse(form.example()).is_ok(), "{}", form.example());
    }
}

#[test]
fn a_masked_url_shows_the_host_and_no_password() {
    let cases = [
        ("redis://host:1/2", "redis://host:1/2"),
        ("rediss://:word@host", "rediss://:********@host"),
        ("redis://me:wo@rd@host:1/2", "redis://me:********@host:1/2"),
        ("redis://me:@host", "redis://me:@host"),
        ("unix:///run/a@b?user=me&password=w@rd&db=1", "unix:///run/a@b?user=me&password=********&db=1"),
        ("redis+sentinel://:word@a,b:1/main/2", "redis+sentinel://:********@a,b:1/main/2"),
        ("redis+cluster://:word@a,b", "redis+cluster://:********@a,b"),
        // From here on they are wrong.
        ("redis://me:wo/rd@host:x/2?word", "redis://********@host:x/2"),
        ("redis://word", "redis://word"),
        ("redis://:word", "redis://********"),
        ("redis://word@host", "redis://********@host"),
        ("redis://me:wo?rd@host", "redis://********"),
        ("unix:///s?passwort=w@rd", "unix://********"),
        ("word://word", "********"),
        (":word@host", "********"),
    ];
    for (url, expected) in cases {
        assert_eq!(masked(url), expected, "{url}");
    }
}

/// What percent-encoding makes of any text.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02x}") })
        .collect()
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*") {
        let _ = (parse(&text), masked(&text));
    }

    #[test]
    fn any_text_behind_a_scheme_is_read_or_refused(
        scheme in prop::sample::select(SCHEMES.map(|(name, ..)| name).to_vec()),
        rest in "[a-c@:/?,\\[\\]%0-9=&#.]{0,24}",
    ) {
        let url = format!("{scheme}://{rest}");
        let masked = masked(&url);
        match parse(&url) {
            // A masked URL names the same servers, with another password.
            Ok(servers) => {
                let again = parse(&masked).expect(&masked);
                prop_assert_eq!((&servers.topology, servers.database), (&again.topology, again.database));
                prop_assert_eq!(&servers.username, &again.username);
                prop_assert_eq!(servers.password.is_some(), again.password.is_some());
                prop_assert!(again.password.is_none_or(|word| word == MASK));
            }
            Err(_) => prop_assert!(masked.contains(MASK)),
        }
    }

    #[test]
    fn user_and_password_arrive_and_stay_hidden(
        user in "[a-z]{0,8}",
        password in "\\PC{1,16}",
        host in "[a-z]{1,8}",
        database: u16,
    ) {
        let url = format!("redis://{}:{}@{host}/{database}", encoded(&user), encoded(&password));
        let servers = parse(&url).expect("a URL");
        prop_assert_eq!(servers.username.unwrap_or_default(), user.as_str());
        prop_assert_eq!(servers.password, Some(password));
        prop_assert_eq!(servers.topology, Topology::Single(tcp(&host, 6379)));
        prop_assert_eq!(masked(&url), format!("redis://{user}:{MASK}@{host}/{database}"));
    }
}
