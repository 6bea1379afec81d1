//! A look at the servers before the start: a wrong password should be an error at once, not a line in a log that
//! repeats.
//!
//! Blocking, and one question after the other. What is learned here is forgotten: the client finds out for itself.

use std::time::{Duration, Instant};

use super::talk::{Answer, Talk};
use super::tls::Tls;
use crate::config::{Servers, Topology};
use crate::turn::Endpoint;
use crate::wire::resp::Reply;

/// What is wrong with the servers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// It will not get better by itself: credentials, permissions, version, certificate, or another kind of server.
    #[error("{0}")]
    Refused(String),
    /// Nobody answers, or not yet. The gateway can start, and will try again.
    #[error("{0}")]
    Unreachable(String),
}

/// What the configuration takes a server for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Single,
    Sentinel,
    Master,
    Cluster,
}

/// Asks the servers, in the order of the configuration, until one answers. Takes about `patience` at most.
pub fn probe(servers: &Servers, tls: Option<&Tls>, patience: Duration) -> Result<(), ProbeError> {
    debug_assert_eq!(tls.is_some(), servers.tls, "encryption is settled by the URL");
    let until = Instant::now() + patience;
    match &servers.topology {
        Topology::Single(at) => check(servers, at, Kind::Single, tls, until),
        Topology::Cluster { seeds } => first(seeds, until, |at, until| check(servers, at, Kind::Cluster, tls, until)),
        Topology::Sentinel { sentinels, service } => first(sentinels, until, |at, until| {
            let mut talk = greet(servers, at, Kind::Sentinel, tls, until)?;
            let master = master(&mut talk, service)?;
            check(servers, &master, Kind::Master, tls, until)
                .map_err(|error| told_by(error, &format!("the master that Sentinel {at} names")))
        }),
    }
}

/// The first server that answers decides. Each gets its share of the time.
fn first(
    all: &[Endpoint],
    until: Instant,
    mut ask: impl FnMut(&Endpoint, Instant) -> Result<(), ProbeError>,
) -> Result<(), ProbeError> {
    let mut unreachable = Vec::new();
    for (at, left) in all.iter().zip((1..=all.len() as u32).rev()) {
        let now = Instant::now();
        match ask(at, now + until.saturating_duration_since(now) / left) {
            Err(ProbeError::Unreachable(why)) => unreachable.push(why),
            decided => return decided,
        }
    }
    Err(ProbeError::Unreachable(unreachable.join("; ")))
}

fn told_by(error: ProbeError, whom: &str) -> ProbeError {
    match error {
        ProbeError::Refused(why) => ProbeError::Refused(format!("{whom}: {why}")),
        ProbeError::Unreachable(why) => ProbeError::Unreachable(format!("{whom}: {why}")),
    }
}

/// Whether a server with data is what the configuration says, and lets us in.
fn check(servers: &Servers, at: &Endpoint, kind: Kind, tls: Option<&Tls>, until: Instant) -> Result<(), ProbeError> {
    let mut talk = greet(servers, at, kind, tls, until)?;
    if servers.database != 0 {
        let database = servers.database.to_string();
        let selected = talk.ask(&[b"SELECT", database.as_bytes()])?;
        selected.map_err(|error| refusal(at, &format!("database {database} cannot be used"), &error))?;
    }
    // Who is still loading refuses only from here on.
    talk.ask(&[b"PING"])?.map_err(|error| refusal(at, NOT_LET_IN, &error))?;
    Ok(())
}

/// Connects, says who we are, and looks at whom we are talking to.
fn greet<'a>(
    servers: &Servers,
    at: &'a Endpoint,
    kind: Kind,
    tls: Option<&'a Tls>,
    until: Instant,
) -> Result<Talk<'a>, ProbeError> {
    let mut talk = Talk::begin(at, tls, until)?;
    // Sentinels often have no password although the master has one.
    let mut answer = hello(&mut talk, servers, kind != Kind::Sentinel)?;
    if kind == Kind::Sentinel && answer.as_ref().is_err_and(|error| error.starts_with("NOAUTH")) {
        answer = hello(&mut talk, servers, true)?;
    }
    match answer {
        Ok(hello) => inspect(&hello, kind).map_err(|error| told_by(error, &at.to_string()))?,
        // The rest of this error repeats what was sent, the password too.
        Err(error) if error.starts_with("ERR unknown command") => {
            return Err(ProbeError::Refused(format!("{at}: the server does not know HELLO; {NEEDED}")));
        }
        Err(error) if error.starts_with("NOAUTH") => {
            return Err(ProbeError::Refused(format!("{at}: the server wants a password (redis.password)")));
        }
        Err(error) => return Err(refusal(at, NOT_LET_IN, &error)),
    }
    Ok(talk)
}

fn hello(talk: &mut Talk<'_>, servers: &Servers, with_password: bool) -> Result<Answer, ProbeError> {
    let mut hello = vec![&b"HELLO"[..], b"3"];
    if let Some(password) = servers.password.as_ref().filter(|_| with_password) {
        let username = servers.username.as_deref().unwrap_or("default");
        hello.extend([&b"AUTH"[..], username.as_bytes(), password.as_bytes()]);
    }
    talk.ask(&hello)
}

const NOT_LET_IN: &str = "the server does not let us in";

const NEEDED: &str = "Redis 6.2 (for a Cluster 7.0) or Valkey 7.2 is needed, or newer";

/// Looks at a server's answer to HELLO.
fn inspect(hello: &Reply, kind: Kind) -> Result<(), ProbeError> {
    let refused = |why: String| Err(ProbeError::Refused(why));
    let Reply::Map(fields) = hello else { return refused(format!("no answer to HELLO that makes sense; {NEEDED}")) };
    let field = |name: &str| {
        let value = fields.iter().find(|(key, _)| key.as_bytes() == Some(name.as_bytes()))?.1.as_bytes()?;
        Some(String::from_utf8_lossy(value))
    };
    let (server, version) = (field("server").unwrap_or_default(), field("version").unwrap_or_default());
    let oldest = match (&*server, kind) {
        ("redis", Kind::Cluster) => (7, 0),
        ("redis", _) => (6, 2),
        ("valkey", _) => (7, 2),
        // Somebody else's, with numbers of their own.
        _ => (0, 0),
    };
    if parsed(&version).is_some_and(|version| version < oldest) {
        return refused(format!("{server} {version} is too old; {NEEDED}"));
    }
    match (field("mode").as_deref(), kind) {
        (Some("sentinel"), Kind::Sentinel) | (Some("cluster"), Kind::Cluster) => {}
        (_, Kind::Sentinel) => return refused("not a Sentinel".to_owned()),
        (_, Kind::Cluster) => return refused("not a part of a Cluster; redis:// is for single servers".to_owned()),
        (Some("sentinel"), _) => return refused("a Sentinel; those are redis+sentinel://".to_owned()),
        (Some("cluster"), _) => return refused("a part of a Cluster; that is redis+cluster://".to_owned()),
        _ => {}
    }
    // Replicas come and go as masters do.
    if matches!(kind, Kind::Single | Kind::Master) && field("role").is_some_and(|role| role != "master") {
        return Err(ProbeError::Unreachable("a replica at the moment, which takes no writes".to_owned()));
    }
    Ok(())
}

fn parsed(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Asks a Sentinel for the master.
fn master(talk: &mut Talk<'_>, service: &str) -> Result<Endpoint, ProbeError> {
    let at = talk.at();
    let answer = talk.ask(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", service.as_bytes()])?;
    let reply = answer.map_err(|error| refusal(at, "the Sentinel does not tell where the master is", &error))?;
    let text = |part: &Reply| Some(std::str::from_utf8(part.as_bytes()?).ok()?.to_owned());
    let named = match reply.as_list() {
        Some([host, port]) => text(host).zip(text(port).and_then(|port| port.parse().ok())),
        _ => None,
    };
    match named {
        Some((host, port)) => Ok(Endpoint::Tcp { host: host.into(), port }),
        None => Err(ProbeError::Refused(format!("{at}: the Sentinel knows no master called {service:?}"))),
    }
}

/// What a server's error means for the start.
fn refusal(at: &Endpoint, what: &str, error: &str) -> ProbeError {
    const PASSING: [&str; 8] = [
        "LOADING",
        "BUSY",
        "MASTERDOWN",
        "CLUSTERDOWN",
        "TRYAGAIN",
        "UNKILLABLE",
        "MISCONF",
        "ERR max number of clients",
    ];
    let why = format!("{at}: {what}: {}", printable(error));
    if PASSING.iter().any(|passing| error.starts_with(passing)) {
        ProbeError::Unreachable(why)
    } else {
        ProbeError::Refused(why)
    }
}

/// The beginning of a text that somebody else wrote.
fn printable(text: &str) -> String {
    text.chars().take(200).filter(|c| !c.is_control()).collect()
}
