//! Real Redis servers, each in a folder and on a port of its own.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::{Domain, Protocol, Socket, Type};
use tempfile::TempDir;

use crate::plain::{Plain, Reply};
use crate::until;

pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A port that the kernel chose and gives to nobody else while this lives, whether a server listens on it or not.
///
/// A bound socket that does not listen refuses connections, and lets others with SO_REUSEADDR bind beside it. Without
/// it, a client that keeps trying a dead server's port could be given that very port and reach itself.
pub struct Port {
    pub number: u16,
    _held: Socket,
}

impl Port {
    pub fn reserve(ip: IpAddr) -> Port {
        let held = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        held.set_reuse_address(true).expect("settable");
        held.bind(&SocketAddr::new(ip, 0).into()).expect("a port");
        let number = held.local_addr().ok().and_then(|addr| addr.as_socket()).expect("an address").port();
        Port { number, _held: held }
    }
}

/// A server. When it is dropped it is killed, whatever state it is in.
pub struct Redis {
    pub addr: SocketAddr,
    pub folder: TempDir,
    arguments: Vec<String>,
    process: Option<Child>,
    _port: Port,
}

impl Redis {
    /// A single server that keeps nothing on disk.
    pub fn start() -> Redis {
        Redis::with(&[])
    }

    /// The same with more lines of configuration.
    pub fn with(lines: &[&str]) -> Redis {
        Redis::at(LOOPBACK, lines)
    }

    pub fn at(ip: IpAddr, lines: &[&str]) -> Redis {
        let mut redis = Redis::planned(ip, lines);
        redis.run();
        redis
    }

    /// A server that has yet to be run; its address is known.
    pub fn planned(ip: IpAddr, lines: &[&str]) -> Redis {
        let lines: Vec<&str> = ["save \"\"", "appendonly no"].into_iter().chain(lines.iter().copied()).collect();
        Redis::configured(ip, &[], &lines)
    }

    /// Any mode of the binary: a name and arguments, and the configuration that it may rewrite.
    pub fn configured(ip: IpAddr, arguments: &[&str], lines: &[&str]) -> Redis {
        let folder = TempDir::with_prefix("redis-").expect("a folder");
        let port = Port::reserve(ip);
        let addr = SocketAddr::new(ip, port.number);
        let mut text = format!("port {}\nbind {ip}\nprotected-mode no\ndir {}\n", addr.port(), folder.path().display());
        // One for all that happens, read when a server does not start.
        let _ = writeln!(text, "logfile {}", folder.path().join("log").display());
        for line in lines {
            let _ = writeln!(text, "{line}");
        }
        let file = folder.path().join("redis.conf");
        fs::write(&file, text).expect("written");
        let arguments =
            [file.display().to_string()].into_iter().chain(arguments.iter().map(|&text| text.to_owned())).collect();
        Redis { addr, folder, arguments, process: None, _port: port }
    }

    /// Starts it (again), and waits until it answers.
    pub fn run(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let mut command = Command::new("redis-server");
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().expect("redis-server is installed (scripts/test does that)"));
        until("redis-server answers", || {
            let ended = self.process.as_mut().and_then(|process| process.try_wait().expect("our child"));
            assert!(ended.is_none(), "{ended:?}\n{}", self.log());
            let answer = Plain::try_connect(self.addr).and_then(|mut plain| plain.try_ask(&["PING"]));
            match answer {
                Ok(Reply::Error(error)) => !error.starts_with("LOADING"),
                answer => answer.is_ok(),
            }
        });
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn plain(&self) -> Plain {
        Plain::connect(self.addr)
    }

    pub fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        kill(Pid::from_raw(process.id() as i32), signal).expect("our child");
    }

    /// `kill -9`.
    pub fn crash(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("our child");
            process.wait().expect("our child");
        }
    }

    /// It is there and says nothing.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// How many clients listen to a channel.
    pub fn listeners(&self, channel: &str) -> i64 {
        self.plain().ask(&["PUBSUB", "NUMSUB", channel]).list()[1].number()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.crash();
    }
}
