//! Servers of our own, on ports that the kernel chose. They end with the test.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringroad::turn::Endpoint;
use ringroad::wire::resp::read::Reader;
use ringroad::wire::resp::{Frame, Reply, command};
use tempfile::TempDir;

use crate::driver::PATIENCE;

pub struct Server {
    pub port: u16,
    /// The other one, where it is used.
    pub bus: u16,
    dir: TempDir,
    args: Vec<String>,
    child: Child,
    /// What is to be said before it answers.
    login: Vec<&'static str>,
}

/// A port that is free at the moment.
fn free_port() -> u16 {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    probe.local_addr().expect("its address").port()
}

impl Server {
    /// A server with further arguments on its command line. `BUS` in them becomes another free port.
    pub fn start(args: &[&str]) -> Server {
        Server::start_with(&[], &[], args)
    }

    /// A server that wants a password.
    pub fn start_locked(password: &'static str, args: &[&str]) -> Server {
        Server::start_with(&["AUTH", password], &[], &[&["--requirepass", password], args].concat())
    }

    /// A Sentinel of one master, `ring`. It writes its configuration itself, so there has to be a file.
    pub fn sentinel(master: u16, quorum: u16, password: Option<&'static str>) -> Server {
        let mut config = vec![
            format!("sentinel monitor ring 127.0.0.1 {master} {quorum}"),
            "sentinel down-after-milliseconds ring 500".into(),
            "sentinel failover-timeout ring 3000".into(),
        ];
        let mut login = vec![];
        if let Some(password) = password {
            config.extend([format!("sentinel auth-pass ring {password}"), format!("requirepass {password}")]);
            login.extend(["AUTH", password]);
        }
        Server::start_with(&login, &config, &["--sentinel"])
    }

    fn start_with(login: &[&'static str], config: &[String], args: &[&str]) -> Server {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (port, bus) = (free_port(), free_port());
            let args: Vec<String> = args.iter().map(|arg| arg.replace("BUS", &bus.to_string())).collect();
            let dir = tempfile::tempdir().expect("a directory");
            fs::write(dir.path().join("redis.conf"), config.join("\n")).expect("a file");
            let child = launch(port, &dir, &args);
            let mut server = Server { port, bus, dir, args, child, login: login.to_vec() };
            // Somebody else may have taken the port meanwhile; then it has ended.
            if server.is_up() {
                return server;
            }
            assert!(Instant::now() < deadline, "no server came up");
        }
    }

    /// Starts it again on its port.
    pub fn restart(&mut self) {
        self.kill();
        self.child = launch(self.port, &self.dir, &self.args);
        assert!(self.is_up(), "it did not come up again");
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours");
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("a child of ours");
    }

    /// False: it has ended.
    fn is_up(&mut self) -> bool {
        loop {
            if let Ok(frame) = ask(self.port, &self.login, &["PING"])
                && !matches!(&frame, Frame::Error(error) if error.starts_with("LOADING"))
            {
                return self.child.try_wait().expect("a child of ours").is_none();
            }
            if self.child.try_wait().expect("a child of ours").is_some() {
                return false;
            }
            thread::yield_now();
        }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Tcp { host: "127.0.0.1".into(), port: self.port }
    }

    /// Asks it directly. A server that changes its role may close the connection instead of answering.
    pub fn try_ask(&self, args: &[&str]) -> Option<Frame> {
        ask(self.port, &self.login, args).ok()
    }

    /// Asks it directly, and expects a reply.
    pub fn ask(&self, args: &[&str]) -> Reply {
        match self.try_ask(args) {
            Some(Frame::Reply(reply)) => reply,
            other => panic!("{args:?}: {other:?}"),
        }
    }
}

/// Asks until the answer satisfies `is`.
pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::yield_now();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been killed before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(port: u16, dir: &TempDir, args: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    command.arg(dir.path().join("redis.conf")).args([
        "--port",
        &port.to_string(),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
    ]);
    command.arg("--dir").arg(dir.path()).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("redis-server is installed")
}

/// Asks whoever listens on a port.
fn ask(port: u16, first: &[&str], args: &[&str]) -> std::io::Result<Frame> {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut out = Vec::new();
    let bytes = |args: &[&str]| args.iter().map(|arg| arg.as_bytes().to_vec()).collect::<Vec<_>>();
    let commands: Vec<_> = [first, args].into_iter().filter(|args| !args.is_empty()).map(bytes).collect();
    for args in &commands {
        command::write(&mut out, &args.iter().map(|arg| &arg[..]).collect::<Vec<_>>());
    }
    socket.write_all(&out)?;
    let (mut reader, mut buffer) = (Reader::new(1 << 24, 1 << 24), [0; 4096]);
    let mut replies = 0;
    loop {
        let len = socket.read(&mut buffer)?;
        if len == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = &buffer[..len];
        while let Some(frame) = reader.take(&mut bytes).expect("RESP") {
            replies += 1;
            if replies == commands.len() {
                return Ok(frame);
            }
        }
    }
}
