//! The Lua scripts of the backplane on a real server. `REDIS_SERVER` names another program than `redis-server`.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ringroad::config::Bucket;
use ringroad::shard::backplane::client::Script;
use ringroad::shard::backplane::scripts;
use ringroad::wire::resp::Reply;

const DEADLINE: Duration = Duration::from_secs(20);

/// A server of this test alone: on a socket in its own directory, without a port that somebody else could take.
struct Server {
    child: Child,
    dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Server {
        let program = env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".into());
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let child = Command::new(&program)
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("these tests need {program}: {error}"));
        let mut server = Server { child, dir };
        let started = Instant::now();
        loop {
            if let Ok(mut client) = server.try_connect()
                && client.command(&[b"PING"]) == Reply::Text(b"PONG".to_vec())
            {
                return server;
            }
            assert_eq!(server.child.try_wait().unwrap(), None, "the server has ended");
            assert!(started.elapsed() < DEADLINE, "the server does not answer");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn try_connect(&self) -> io::Result<Client> {
        let stream = UnixStream::connect(self.dir.path().join("socket"))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    fn connect(&self) -> Client {
        self.try_connect().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A blocking client that speaks RESP2.
struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    fn command(&mut self, args: &[&[u8]]) -> Reply {
        let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            bytes.extend_from_slice(arg);
            bytes.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&bytes).unwrap();
        self.reply()
    }

    fn reply(&mut self) -> Reply {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let line = line.strip_suffix("\r\n").expect("a whole line");
        let (kind, rest) = line.split_at(1);
        match kind {
            "+" => Reply::Text(rest.into()),
            "-" => Reply::Error(rest.into()),
            ":" => Reply::Integer(rest.parse().unwrap()),
            "$" if rest == "-1" => Reply::Null,
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.stream.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                Reply::Text(bytes)
            }
            "*" => Reply::List((0..rest.parse().unwrap()).map(|_| self.reply()).collect()),
            _ => panic!("not RESP2: {line}"),
        }
    }

    fn run<const N: usize>(&mut self, script: &Script, key: &str, args: &scripts::Args<'_, N>) -> Reply {
        let head: [&[u8]; 4] = [b"EVAL", script.0.as_bytes(), b"1", key.as_bytes()];
        self.command(&[&head[..], &args.slices()[..]].concat())
    }

    fn is_done<const N: usize>(&mut self, script: &Script, args: &scripts::Args<'_, N>) -> bool {
        let reply = self.run(script, PRESENCE, args);
        scripts::was_done(&reply).unwrap_or_else(|| panic!("{reply:?}"))
    }

    fn take(&mut self, key: &str, bucket: Bucket) -> Result<(), u64> {
        let reply = self.run(&scripts::BUCKET, key, &scripts::bucket(bucket));
        scripts::token(&reply).unwrap_or_else(|| panic!("{reply:?}"))
    }

    /// Puts an entry into the presence hash, or takes it out.
    fn stands(&mut self, entry: Option<&[u8]>) {
        self.command(&[b"DEL", PRESENCE.as_bytes()]);
        if let Some(entry) = entry {
            assert_eq!(self.command(&[b"HSET", PRESENCE.as_bytes(), b"car", entry]), Reply::Integer(1));
        }
    }

    fn entry(&mut self) -> Option<Vec<u8>> {
        match self.command(&[b"HGET", PRESENCE.as_bytes(), b"car"]) {
            Reply::Text(entry) => Some(entry),
            Reply::Null => None,
            other => panic!("{other:?}"),
        }
    }

    /// The server's clock, microseconds.
    fn time_us(&mut self) -> u64 {
        let reply = self.command(&[b"TIME"]);
        let parts: Vec<i64> = reply.as_list().unwrap().iter().map(|part| part.as_integer().unwrap()).collect();
        (parts[0] * 1_000_000 + parts[1]) as u64
    }

    fn wait_until_us(&mut self, time_us: u64) {
        let started = Instant::now();
        while self.time_us() < time_us {
            assert!(started.elapsed() < DEADLINE);
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn number(&mut self, args: &[&[u8]]) -> i64 {
        let reply = self.command(args);
        reply.as_integer().unwrap_or_else(|| panic!("{reply:?}"))
    }
}

const PRESENCE: &str = "v2v:presence";

/// What no gateway wrote, or nobody can read.
const NOT_OURS: [&[u8]; 17] = [
    b"",
    b"{",
    b"null",
    b"5",
    b"\"node\"",
    b"[]",
    b"[\"node\",\"a\"]",
    b"{}",
    b"\xff\xfe",
    br#"{"driverName":"Ada","vehicleInfo":{},"connectedAt":9999}"#,
    br#"{"node":null,"lastSeen":9999,"connectedAt":1}"#,
    br#"{"node":5,"lastSeen":9999,"connectedAt":1}"#,
    br#"{"node":true,"lastSeen":9999,"connectedAt":1}"#,
    br#"{"node":["a"],"lastSeen":9999,"connectedAt":1}"#,
    br#"{"node":{"a":"a"},"lastSeen":9999,"connectedAt":1}"#,
    br#"{"Node":"a","lastSeen":9999,"connectedAt":1}"#,
    br#"{"node":"a","lastSeen":9999,"connectedAt":1"#,
];

#[test]
fn an_entry_is_written_unless_a_later_registration_stands_there() {
    let server = Server::start();
    let mut client = server.connect();
    let cases: [(&str, u64, u64, &str, bool); 14] = [
        ("a", 999, 1_000, "a", true),
        ("a", 1_000, 1_000, "a", true),
        ("a", 1_001, 1_000, "a", false),
        ("b", 999, 1_000, "a", true),
        ("b", 1_001, 1_000, "a", false),
        ("a", 1_000, 1_000, "b", true),
        ("b", 1_000, 1_000, "a", false),
        ("ab", 1_000, 1_000, "a", false),
        ("a", 1_000, 1_000, "ab", true),
        ("", 1_000, 1_000, "a", true),
        // By bytes, in whatever locale: capitals first, and letters outside of ASCII last.
        ("B", 1_000, 1_000, "a", true),
        ("a", 1_000, 1_000, "B", false),
        ("\u{e9}", 1_000, 1_000, "z", false),
        ("a", 1_763_711_234_567, 1_763_711_234_568, "a", true),
    ];
    for (node, last_seen, new_last_seen, new_node, written) in cases {
        let there = format!(r#"{{"node":"x","nodeKey":"{node}","connectedAt":1,"lastSeen":{last_seen}}}"#).into_bytes();
        let new = b"the new one".to_vec();
        client.stands(Some(&there));
        let args = scripts::enter("car", &new, new_last_seen, new_node);
        let case = format!("{node} {last_seen} {new_last_seen} {new_node}");
        assert_eq!(client.is_done(&scripts::ENTER, &args), written, "{case}");
        assert_eq!(client.entry(), Some(if written { new } else { there }), "{case}");
    }
}

#[test]
fn what_cannot_be_read_is_as_good_as_absent_when_a_vehicle_enters() {
    let server = Server::start();
    let mut client = server.connect();
    let nested = [b"[".repeat(5_000), b"]".repeat(5_000)].concat();
    let unordered: [&[u8]; 4] = [
        br#"{"node":"b"}"#,
        br#"{"node":"b","lastSeen":"9999"}"#,
        br#"{"node":"b","lastSeen":null}"#,
        br#"{"node":"b","lastSeen":[9999]}"#,
    ];
    let there = NOT_OURS.into_iter().chain(unordered).chain([&nested[..]]).map(Some).chain([None]);
    for there in there {
        client.stands(there);
        let entry: &[u8] = b"{\"any\":\"bytes \xff\"}";
        assert!(client.is_done(&scripts::ENTER, &scripts::enter("car", entry, 1, "a")), "{there:?}");
        assert_eq!(client.entry().as_deref(), Some(entry));
        assert_eq!(client.number(&[b"HLEN", PRESENCE.as_bytes()]), 1);
    }
}

#[test]
fn an_entry_is_deleted_by_its_node_and_not_for_an_earlier_registration() {
    let server = Server::start();
    let mut client = server.connect();
    let cases: [(&str, &str, u64, bool); 9] = [
        (r#"{"node":"a","connectedAt":1000,"lastSeen":9999}"#, "a", 1_000, true),
        (r#"{"node":"a","connectedAt":999}"#, "a", 1_000, true),
        (r#"{"node":"a","connectedAt":1001}"#, "a", 1_000, false),
        (r#"{"node":"b","connectedAt":1000}"#, "a", 1_000, false),
        (r#"{"node":"b","connectedAt":1}"#, "a", 1_000, false),
        (r#"{"node":"ab","connectedAt":1}"#, "a", 1_000, false),
        (r#"{"node":"a"}"#, "a", 0, true),
        (r#"{"node":"a","connectedAt":"2025-11-21"}"#, "a", 0, true),
        (r#"{"node":"a","connectedAt":1763711234568}"#, "a", 1_763_711_234_567, false),
    ];
    for (there, node, connected_ms, deleted) in cases {
        for script in [&scripts::LEAVE, &scripts::SWEEP_ONE] {
            client.stands(Some(there.as_bytes()));
            let args = scripts::leave("car", node, connected_ms);
            assert_eq!(client.is_done(script, &args), deleted, "{there} {node} {connected_ms}");
            assert_eq!(client.entry().as_deref(), (!deleted).then_some(there.as_bytes()));
        }
    }
    let nested = [b"[".repeat(5_000), b"]".repeat(5_000)].concat();
    for there in NOT_OURS.into_iter().chain([&nested[..]]).map(Some).chain([None]) {
        client.stands(there);
        assert!(!client.is_done(&scripts::LEAVE, &scripts::leave("car", "a", 5_000)), "{there:?}");
        assert!(!client.is_done(&scripts::SWEEP_ONE, &scripts::sweep_one("car", "a", 5_000)), "{there:?}");
        assert_eq!(client.entry().as_deref(), there, "it is left alone");
    }
}

#[test]
fn a_key_of_another_type_is_an_error_and_stays() {
    let server = Server::start();
    let mut client = server.connect();
    client.command(&[b"SET", PRESENCE.as_bytes(), b"text"]);
    let replies = [
        client.run(&scripts::ENTER, PRESENCE, &scripts::enter("car", b"{}", 1, "a")),
        client.run(&scripts::LEAVE, PRESENCE, &scripts::leave("car", "a", 1)),
        client.run(&scripts::BUCKET, PRESENCE, &scripts::bucket(Bucket { burst: 1, per_ms: 1 })),
    ];
    for reply in replies {
        assert!(matches!(&reply, Reply::Error(error) if error.contains("WRONGTYPE")), "{reply:?}");
    }
    assert_eq!(client.command(&[b"GET", PRESENCE.as_bytes()]), Reply::Text(b"text".to_vec()));
}

#[test]
fn a_bucket_gives_its_burst_and_then_its_rate() {
    let server = Server::start();
    let mut client = server.connect();
    let (key, bucket) = ("v2v:rl:car:emergency_alert", Bucket { burst: 5, per_ms: 1_000 });
    let started_us = client.time_us();
    assert!((0..5).all(|_| client.take(key, bucket).is_ok()));
    // The last millisecond before the next token counts as one; a test host may stall for longer than a token takes.
    let refused = client.take(key, bucket);
    if client.time_us() < started_us + 200_000 {
        assert!(matches!(refused, Err(1..=200)), "{refused:?}");
    }
    let mut taken = 5 + u64::from(refused.is_ok());
    for _ in 0..6 {
        if let Err(retry_ms) = client.take(key, bucket) {
            let refused_us = client.time_us();
            client.wait_until_us(refused_us + retry_ms * 1_000);
            assert_eq!(client.take(key, bucket), Ok(()), "as promised");
        }
        taken += 1;
    }
    let passed_us = client.time_us() - started_us;
    assert!(taken <= 5 + passed_us / 200_000, "{taken} in {passed_us} us");
    assert!(passed_us >= 1_000_000, "six more tokens take more than a second: {passed_us} us");
}

#[test]
fn buckets_are_apart_and_burst_zero_is_unlimited() {
    let server = Server::start();
    let mut client = server.connect();
    let slow = Bucket { burst: 1, per_ms: 3_600_000 };
    assert_eq!(client.take("a", slow), Ok(()));
    let refused = client.take("a", slow).unwrap_err();
    assert!((3_500_000..=3_600_000).contains(&refused), "{refused}");
    assert_eq!(client.take("b", slow), Ok(()));
    let unlimited = Bucket { burst: 0, per_ms: 1_000 };
    assert!((0..100).all(|_| client.take("c", unlimited).is_ok()));
    assert_eq!(client.number(&[b"EXISTS", b"c"]), 0);
}

#[test]
fn hosts_that_hurry_together_never_get_more_than_the_burst() {
    let server = Server::start();
    let bucket = Bucket { burst: 20, per_ms: 3_600_000 };
    let passed: usize = thread::scope(|scope| {
        let hosts: Vec<_> = (0..8)
            .map(|_| {
                let mut client = server.connect();
                scope.spawn(move || (0..50).filter(|_| client.take("shared", bucket).is_ok()).count())
            })
            .collect();
        hosts.into_iter().map(|host| host.join().unwrap()).sum()
    });
    assert_eq!(passed, 20);
}

#[test]
fn a_bucket_expires_once_it_is_full() {
    let server = Server::start();
    let mut client = server.connect();
    let bucket = Bucket { burst: 4, per_ms: 1_000_000 };
    for taken in 1..=4 {
        assert_eq!(client.take("slow", bucket), Ok(()));
        let left_ms = client.number(&[b"PTTL", b"slow"]);
        assert!((taken * 250_000 - 60_000..=taken * 250_000).contains(&left_ms), "{taken}: {left_ms}");
    }
    assert!(client.take("slow", bucket).is_err());
    assert!(client.number(&[b"PTTL", b"slow"]) > 900_000, "a refusal changes nothing");

    let started = Instant::now();
    assert_eq!(client.take("fast", Bucket { burst: 1, per_ms: 50 }), Ok(()));
    while client.number(&[b"EXISTS", b"fast"]) == 1 {
        assert!(started.elapsed() < DEADLINE);
        thread::sleep(Duration::from_millis(1));
    }
    assert!(started.elapsed() >= Duration::from_millis(49), "not before it is full");
}

#[test]
fn a_bucket_that_makes_no_sense_heals() {
    let server = Server::start();
    let mut client = server.connect();
    let bucket = Bucket { burst: 10, per_ms: 1_000 };
    for odd in ["", "text", "nan", "-5", "1"] {
        client.command(&[b"HSET", b"odd", b"fullAt", odd.as_bytes()]);
        assert_eq!(client.take("odd", bucket), Ok(()), "{odd}");
        let left_ms = client.number(&[b"PTTL", b"odd"]);
        assert!((0..=100).contains(&left_ms) || left_ms == -2, "{odd}: {left_ms}");
    }
    // The clock was an hour ahead when this was written; or it is no time at all.
    let ahead = (client.time_us() + 3_600_000_000).to_string();
    for odd in [&ahead, "inf", "1e300"] {
        client.command(&[b"DEL", b"odd"]);
        client.command(&[b"HSET", b"odd", b"fullAt", odd.as_bytes()]);
        assert!(matches!(client.take("odd", bucket), Err(1..=100)), "{odd}: it is empty");
        let left_ms = client.number(&[b"PTTL", b"odd"]);
        assert!((0..=1_000).contains(&left_ms) || left_ms == -2, "{odd}: {left_ms}");
        let refused_us = client.time_us();
        client.wait_until_us(refused_us + 100_000);
        assert_eq!(client.take("odd", bucket), Ok(()), "{odd}: and fills");
    }
}
