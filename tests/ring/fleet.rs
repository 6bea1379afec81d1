//! More connections than one process may have both ends of: the clients are another process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::echo::Habits;
use crate::{Server, connect_from, options, raise_descriptor_limit, until};

const FLEET: u32 = 12_000;

/// Runs an ignored test of this binary in another process.
pub fn child(test: &str, env: &[(&str, String)]) -> Child {
    started(&mut command(test), env)
}

fn started(command: &mut Command, env: &[(&str, String)]) -> Child {
    command.envs(env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// The command line of [`child`].
fn command(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", test, "--nocapture", "--test-threads=1"]);
    command
}

/// A [`child`] of which every thread blocks SIGINT and SIGTERM from its first moment, as `main` would see to.
#[allow(unsafe_code)]
pub fn child_with_signals_blocked(test: &str) -> Child {
    use std::os::unix::process::CommandExt;
    let mut command = command(test);
    // SAFETY: between fork and exec only what a signal handler may do is allowed; setting the signal mask is.
    unsafe { command.pre_exec(|| ringroad::io::signals::block().map_err(Into::into)) };
    started(&mut command, &[])
}

/// Reads a child's output until a line contains `word`; answers with that line.
pub fn line_with(child: &mut Child, word: &str) -> String {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    lines.find_map(|line| line.ok().filter(|line| line.contains(word))).unwrap_or_else(|| panic!("no {word:?}"))
}

#[test]
fn one_worker_serves_twelve_thousand_connections() {
    let server = Server::start(options(), Habits::default());
    let mut clients = child("fleet::clients", &[("RINGROAD_TEST_ADDR", server.addr.to_string())]);
    line_with(&mut clients, "all echoed");
    server.until("all are there", |seen| seen.open == FLEET as usize);
    // All of them disappear at once.
    kill(Pid::from_raw(clients.id() as i32), Signal::SIGKILL).unwrap();
    clients.wait().unwrap();
    server.until("all are closed", |seen| seen.open == 0);
    let seen = server.stop();
    assert_eq!((seen.shell.accepts, seen.shell.closes), (u64::from(FLEET), u64::from(FLEET)));
    println!("{:?}", seen.shell);
}

#[test]
#[ignore = "the other process of one_worker_serves_twelve_thousand_connections"]
fn clients() {
    let Ok(addr) = std::env::var("RINGROAD_TEST_ADDR") else { return };
    let addr: SocketAddr = addr.parse().unwrap();
    raise_descriptor_limit();
    let streams: Vec<TcpStream> = (0..FLEET).map(|n| connect_from(n, addr).unwrap()).collect();
    for round in 0..3u32 {
        let token = |n: usize| (n as u32 * 31 + round).to_le_bytes();
        for (n, stream) in streams.iter().enumerate() {
            (&*stream).write_all(&token(n)).unwrap();
        }
        for (n, stream) in streams.iter().enumerate() {
            let mut back = [0; 4];
            (&*stream).read_exact(&mut back).unwrap();
            assert_eq!(back, token(n));
        }
    }
    println!("all echoed");
    // Until we are killed, or whoever started us has gone.
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_worker_without_descriptors_goes_on_when_some_are_freed() {
    let mut server = child("fleet::server_with_few_descriptors", &[]);
    let line = line_with(&mut server, "listens on ");
    let addr: SocketAddr = line.rsplit(' ').next().unwrap().parse().unwrap();
    let mut streams: Vec<TcpStream> = (0..100).map(|n| connect_from(n, addr).unwrap()).collect();
    for stream in &streams {
        (&*stream).write_all(b"x").unwrap();
    }
    // The first ones are served; the others wait in the backlog until those have gone.
    let mut served = 0;
    while let Some(mut stream) = (!streams.is_empty()).then(|| streams.remove(0)) {
        let mut back = [0];
        stream.read_exact(&mut back).unwrap();
        served += 1;
    }
    assert_eq!(served, 100);
    drop(server.stdin.take());
    let errors = line_with(&mut server, "accept errors ");
    assert!(!errors.ends_with("accept errors 0"), "{errors}");
    until("the server has ended", || server.try_wait().unwrap().is_some());
}

#[test]
#[ignore = "the other process of a_worker_without_descriptors_goes_on_when_some_are_freed"]
fn server_with_few_descriptors() {
    // Before the accept starts: io_uring notes the limit with the request.
    setrlimit(Resource::RLIMIT_NOFILE, 40, 40).unwrap();
    let server = Server::start(options(), Habits::default());
    println!("listens on {}", server.addr);
    let _ = std::io::stdin().read(&mut [0]);
    println!("accept errors {}", server.stop().shell.accept_errors);
}
