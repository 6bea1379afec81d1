//! The look at the servers before the start, at real ones and at ones that only pretend.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ringroad::config::{Servers, Topology};
use ringroad::io::redis::probe::{ProbeError, probe};
use ringroad::io::redis::tls::Tls;
use ringroad::turn::Endpoint;
use tempfile::TempDir;

use crate::links::server;
use crate::tls::Authority;
use crate::{PATIENCE, loopback};

/// A real server, on a port that the kernel chose and on a socket in the file system. It ends with the test.
struct Redis {
    child: Child,
    dir: TempDir,
    port: u16,
}

impl Redis {
    /// `PORT` in the arguments becomes its port.
    fn start(args: &[&str]) -> Redis {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let dir = tempfile::tempdir().unwrap();
            let port = TcpListener::bind(loopback()).unwrap().local_addr().unwrap().port();
            let mut command = Command::new("redis-server");
            if args.contains(&"--sentinel") {
                std::fs::write(dir.path().join("sentinel.conf"), "").unwrap();
                command.arg(dir.path().join("sentinel.conf"));
            } else {
                command.args(["--save", "", "--appendonly", "no"]);
            }
            command.args(["--bind", "127.0.0.1", "--unixsocket", "s.sock", "--dir"]).arg(dir.path());
            if !args.contains(&"PORT") {
                command.args(["--port", &port.to_string()]);
            }
            command.args(args.iter().map(|arg| arg.replace("PORT", &port.to_string())));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut redis = Redis { child: command.spawn().expect("redis-server is installed"), dir, port };
            // Somebody else may have taken the port meanwhile; then it ends.
            while redis.child.try_wait().unwrap().is_none() {
                if redis.asked("PING").is_some_and(|answer| answer.starts_with(['+', '-'])) {
                    return redis;
                }
                assert!(Instant::now() < deadline, "no server came up");
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn path(&self) -> Box<str> {
        self.dir.path().join("s.sock").to_str().unwrap().into()
    }

    /// Asks it directly: one line for one line.
    fn asked(&self, command: &str) -> Option<String> {
        let mut stream = UnixStream::connect(&*self.path()).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{command}\r\n").as_bytes()).ok()?;
        let mut answer = [0; 512];
        let len = stream.read(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer[..len]).into_owned())
    }

    fn set(&self, command: &str) {
        assert_eq!(self.asked(command).unwrap(), "+OK\r\n", "{command}");
    }

    fn at(&self) -> Endpoint {
        at("127.0.0.1", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn at(host: &str, port: u16) -> Endpoint {
    Endpoint::Tcp { host: host.into(), port }
}

fn nobody() -> Endpoint {
    at("127.0.0.1", TcpListener::bind(loopback()).unwrap().local_addr().unwrap().port())
}

fn servers(topology: Topology) -> Servers {
    Servers { topology, tls: false, username: None, password: None, database: 0 }
}

fn single(at: Endpoint) -> Servers {
    servers(Topology::Single(at))
}

fn sentinels(sentinels: Vec<Endpoint>) -> Servers {
    servers(Topology::Sentinel { sentinels, service: "roads".to_owned() })
}

fn cluster(seeds: Vec<Endpoint>) -> Servers {
    servers(Topology::Cluster { seeds })
}

fn with_login(servers: Servers, username: Option<&str>, password: &str) -> Servers {
    Servers { username: username.map(String::from), password: Some(password.to_owned()), ..servers }
}

fn probed(servers: &Servers) -> Result<(), ProbeError> {
    probe(servers, None, Duration::from_secs(5))
}

fn refused(servers: &Servers) -> String {
    match probed(servers) {
        Err(ProbeError::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn unreachable(servers: &Servers) -> String {
    match probed(servers) {
        Err(ProbeError::Unreachable(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_plain_server_is_fine() {
    let redis = Redis::start(&[]);
    assert_eq!(probed(&single(redis.at())), Ok(()));
    assert_eq!(probed(&single(at("localhost", redis.port))), Ok(()));
    assert_eq!(probed(&single(Endpoint::Unix { path: redis.path() })), Ok(()));
    assert_eq!(probed(&Servers { database: 15, ..single(redis.at()) }), Ok(()));
    let why = refused(&Servers { database: 16, ..single(redis.at()) });
    assert_eq!(why, format!("{}: database 16 cannot be used: ERR DB index is out of range", redis.at()));
    // Unasked, a password does no harm.
    assert_eq!(probed(&with_login(single(redis.at()), None, "x")), Ok(()));
}

#[test]
fn a_password_is_right_or_refused() {
    let redis = Redis::start(&["--requirepass", "right"]);
    assert_eq!(probed(&with_login(single(redis.at()), None, "right")), Ok(()));
    let why = refused(&with_login(single(redis.at()), None, "wrong"));
    assert!(why.starts_with(&format!("{}: the server does not let us in: WRONGPASS", redis.at())), "{why}");
    assert!(!why.contains("wrong"), "{why}");
    let why = refused(&single(redis.at()));
    assert_eq!(why, format!("{}: the server wants a password (redis.password)", redis.at()));
}

#[test]
fn a_user_needs_permissions() {
    let redis = Redis::start(&[]);
    redis.set("ACL SETUSER able on >word ~* &* +@all");
    redis.set("ACL SETUSER mute on >word ~* &* +@all -ping");
    redis.set("ACL SETUSER tied on >word ~* &* +@all -select");
    redis.set("ACL SETUSER gone off >word ~* &* +@all");
    let user = |name| with_login(single(redis.at()), Some(name), "word");
    assert_eq!(probed(&user("able")), Ok(()));
    assert!(refused(&user("mute")).contains("the server does not let us in: NOPERM"));
    assert_eq!(probed(&user("tied")), Ok(()));
    assert!(refused(&Servers { database: 1, ..user("tied") }).contains("database 1 cannot be used: NOPERM"));
    assert!(refused(&user("gone")).contains("WRONGPASS"));
    assert!(refused(&user("nobody")).contains("WRONGPASS"));
}

#[test]
fn who_cannot_be_reached_is_no_error_of_the_configuration() {
    let free = nobody();
    assert_eq!(unreachable(&single(free.clone())), format!("{free}: Connection refused"));
    let why = unreachable(&single(at("no-such-host.invalid", 1)));
    assert!(why.starts_with("no-such-host.invalid:1: the name cannot be resolved: "), "{why}");
    let why = unreachable(&single(Endpoint::Unix { path: "/nowhere/redis.sock".into() }));
    assert_eq!(why, "/nowhere/redis.sock: No such file or directory");

    let silent = TcpListener::bind(loopback()).unwrap();
    let begun = Instant::now();
    let to = at("127.0.0.1", silent.local_addr().unwrap().port());
    let patience = Duration::from_millis(300);
    let both = cluster(vec![to.clone(), to.clone()]);
    let Err(ProbeError::Unreachable(why)) = probe(&both, None, patience) else { panic!() };
    assert_eq!(why, format!("{to}: no answer in time; {to}: no answer in time"));
    assert!(begun.elapsed() >= patience && begun.elapsed() < patience * 10, "{:?}", begun.elapsed());
}

/// A server that answers every question with this.
fn pretender(answer: &str) -> Endpoint {
    let answer = answer.to_owned();
    server(move |mut stream: TcpStream| {
        let mut question = [0; 4096];
        while stream.read(&mut question).is_ok_and(|len| len > 0) && stream.write_all(answer.as_bytes()).is_ok() {}
    })
}

fn greeting(server: &str, version: &str, mode: &str, role: &str) -> String {
    let fields = [("server", server), ("version", version), ("mode", mode), ("role", role)];
    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    let fields: String = fields.iter().flat_map(|(key, value)| [bulk(key), bulk(value)]).collect();
    format!("%5\r\n{fields}$7\r\nmodules\r\n*0\r\n")
}

#[test]
fn versions_are_told_apart() {
    let version = |server: &str, version: &str| {
        probed(&single(pretender(&greeting(server, version, "standalone", "master"))))
            .map_err(|error| error.to_string())
    };
    for (server, new_enough) in
        [("redis", "6.2.0"), ("redis", "10.0.1"), ("valkey", "7.2.4"), ("valkey", "9.1.0-rc1"), ("other", "1.0")]
    {
        assert_eq!(version(server, new_enough), Ok(()), "{server} {new_enough}");
    }
    for (server, too_old) in [("redis", "6.0.16"), ("redis", "5.0.0"), ("valkey", "7.1.9")] {
        let why = version(server, too_old).unwrap_err();
        assert!(why.contains(&format!("{server} {too_old} is too old; Redis 6.2 ")), "{why}");
    }
    // Sharded channels came with 7.0.
    let old_node = pretender(&greeting("redis", "6.2.14", "cluster", "master"));
    assert!(refused(&cluster(vec![old_node])).contains("redis 6.2.14 is too old"));
    let node = pretender(&greeting("redis", "7.0.0", "cluster", "slave"));
    assert_eq!(probed(&cluster(vec![node])), Ok(()));
}

#[test]
fn errors_of_servers_pass_or_do_not() {
    let why = |answer: &str| probed(&with_login(single(pretender(answer)), None, "secret")).unwrap_err();
    for passing in [
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-ERR max number of clients reached\r\n",
        "-MASTERDOWN Link with MASTER is down\r\n",
    ] {
        assert!(matches!(why(passing), ProbeError::Unreachable(_)), "{passing}");
    }
    let replica = greeting("redis", "7.0.0", "standalone", "slave");
    assert!(matches!(why(&replica), ProbeError::Unreachable(why) if why.contains("a replica")));
    // As a server of 2015 puts it, which must not reach a log.
    let old = "-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 'secret' \r\n";
    let ProbeError::Refused(told) = why(old) else { panic!() };
    assert!(told.contains("does not know HELLO; Redis 6.2") && !told.contains("secret"), "{told}");
    for lasting in ["-DENIED Redis is running in protected mode\r\n", "-NOPROTO unsupported\r\n", "+OK\r\n"] {
        assert!(matches!(why(lasting), ProbeError::Refused(_)), "{lasting}");
    }
    let ProbeError::Refused(told) = why("HTTP/1.1 400 Bad Request\r\n\r\n") else { panic!() };
    assert!(told.ends_with("the answer is not Redis's protocol; does it want TLS (rediss://)?"), "{told}");
}

#[test]
fn every_kind_of_server_is_told_from_the_others() {
    let redis = Redis::start(&[]);
    let node = Redis::start(&["--cluster-enabled", "yes", "--cluster-port", "0"]);
    let sentinel = Redis::start(&["--sentinel"]);
    assert_eq!(probed(&cluster(vec![node.at()])), Ok(()));
    assert_eq!(probed(&cluster(vec![nobody(), node.at()])), Ok(()));
    assert!(refused(&cluster(vec![redis.at()])).ends_with("not a part of a Cluster; redis:// is for single servers"));
    assert!(refused(&single(node.at())).ends_with("a part of a Cluster; that is redis+cluster://"));
    assert!(refused(&single(sentinel.at())).ends_with("a Sentinel; those are redis+sentinel://"));
    assert!(refused(&sentinels(vec![redis.at()])).ends_with("not a Sentinel"));
}

#[test]
fn sentinels_lead_to_the_master() {
    let master = Redis::start(&["--requirepass", "right"]);
    let sentinel = Redis::start(&["--sentinel"]);
    let known = with_login(sentinels(vec![nobody(), sentinel.at()]), None, "right");
    let why = refused(&known);
    assert!(why.ends_with("the Sentinel knows no master called \"roads\""), "{why}");
    sentinel.set(&format!("SENTINEL MONITOR roads 127.0.0.1 {} 1", master.port));
    assert_eq!(probed(&known), Ok(()));
    // With a password of its own, which has to be the same.
    sentinel.set("ACL SETUSER default resetpass >right");
    assert_eq!(probed(&known), Ok(()));
    let why = refused(&with_login(known.clone(), None, "wrong"));
    assert!(why.contains("WRONGPASS"), "{why}");
    let (sentinel_at, master_at) = (sentinel.at(), master.at());
    drop(master);
    let why = unreachable(&known);
    let expected = format!("the master that Sentinel {sentinel_at} names: {master_at}: Connection refused");
    assert!(why.ends_with(&expected), "{why}");
}

fn encrypted(servers: Servers, tls: &Tls) -> Result<(), ProbeError> {
    probe(&Servers { tls: true, ..servers }, Some(tls), Duration::from_secs(5))
}

#[test]
fn encryption_is_right_or_refused() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key) = authority.certificate(&["localhost"], |_| {});
    std::fs::write(file("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(file("key.pem"), key.serialize_pem()).unwrap();
    let ca = authority.file();
    let ca = ca.to_str().unwrap();
    let (cert, key) = (file("cert.pem"), file("key.pem"));
    let args = ["--port", "0", "--tls-port", "PORT", "--tls-cert-file", &cert, "--tls-key-file", &key];
    let optional = Redis::start(&[&args[..], &["--tls-ca-cert-file", ca, "--tls-auth-clients", "no"]].concat());
    let strict = Redis::start(&[&args[..], &["--tls-ca-cert-file", ca]].concat());

    let tls = authority.trusted();
    assert_eq!(encrypted(single(at("localhost", optional.port)), &tls), Ok(()));
    // In the file system nothing is encrypted.
    assert_eq!(encrypted(single(Endpoint::Unix { path: optional.path() }), &tls), Ok(()));
    let why = |servers: Servers, tls: &Tls| match encrypted(servers, tls) {
        Err(ProbeError::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    let told = why(single(optional.at()), &tls);
    assert!(told.ends_with("the server's certificate is not for 127.0.0.1, but for localhost"), "{told}");
    let told = why(single(at("localhost", optional.port)), &Authority::new().trusted());
    assert!(told.contains("the server's certificate names an authority in "), "{told}");
    let told = why(single(at("localhost", strict.port)), &tls);
    assert!(told.ends_with("the server asks for a client certificate, which Ringroad has none of (tls-auth-clients)"));

    let plain = Redis::start(&[]);
    let plainly = single(at("localhost", plain.port));
    let told = probe(&Servers { tls: true, ..plainly }, Some(&tls), Duration::from_secs(1)).unwrap_err();
    assert!(told.to_string().ends_with("no TLS handshake in time; perhaps the server does not speak TLS"), "{told}");
    match probed(&single(optional.at())).unwrap_err() {
        ProbeError::Refused(why) | ProbeError::Unreachable(why) => {
            assert!(why.ends_with("does it want TLS (rediss://)?"), "{why}");
        }
    }
}
