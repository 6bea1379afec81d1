//! Links against servers that behave, and servers that don't.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringroad::io::Options;
use ringroad::limits;
use ringroad::turn::Endpoint;
use socket2::{Domain, Socket, Type};

use crate::ferry::{Harbour, Order};
use crate::fleet::{child, line_with};
use crate::{Numbers, PATIENCE, connect_from, loopback, options, until};

fn to(addr: SocketAddr) -> Endpoint {
    Endpoint::Tcp { host: addr.ip().to_string().into(), port: addr.port() }
}

/// A server for any number of links, each in a thread of its own.
pub fn server(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> Endpoint {
    let listener = TcpListener::bind(loopback()).unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, serve) = (stream.unwrap(), serve.clone());
            thread::spawn(move || serve(stream));
        }
    });
    to(addr)
}

/// Sends back what comes, in pieces of the server's own.
fn echo(mut stream: impl Read + Write) {
    let mut numbers = Numbers(7);
    let mut buffer = vec![0; 40_000];
    loop {
        let want = 1 + numbers.below(buffer.len());
        match stream.read(&mut buffer[..want]) {
            Ok(0) | Err(_) => return,
            Ok(len) => {
                if stream.write_all(&buffer[..len]).is_err() {
                    return;
                }
            }
        }
    }
}

/// Sends bytes of every size over an open link, split in every way, and gets them back.
pub fn echoes(harbour: &Harbour, link: u32) {
    let mut numbers = Numbers(99);
    let mut sent = Vec::new();
    for size in [1, 2, 3, 100, 4_095, 65_535, 65_536, 65_537, 300_000, 1_000_000] {
        let bytes = numbers.bytes(size);
        sent.extend_from_slice(&bytes);
        let mut left = &bytes[..];
        while !left.is_empty() {
            let (now, later) = left.split_at(1 + numbers.below(left.len()));
            harbour.send(link, now);
            left = later;
        }
        harbour.until_link(link, "all is back", |heard| heard.received == sent.len() as u64);
    }
    assert!(harbour.board(0).links[&link].bytes == sent, "the bytes changed on the way");
}

#[test]
fn bytes_of_any_size_go_both_ways() {
    let harbour = Harbour::start(options());
    harbour.open(1, server(echo));
    harbour.until_up(1);
    echoes(&harbour, 1);
    harbour.close(1);
    harbour.until_done();
    let seen = &harbour.stop()[0];
    assert_eq!(seen.links[&1].down, None);
    assert_eq!((seen.shell.links_up, seen.shell.links_down), (1, 0));
}

#[test]
fn a_socket_in_the_file_system_is_a_link_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("redis.sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || echo(listener.accept().unwrap().0));
    let harbour = Harbour::start(options());
    harbour.open(1, Endpoint::Unix { path: path.to_str().unwrap().into() });
    harbour.until_up(1);
    echoes(&harbour, 1);
    harbour.open(2, Endpoint::Unix { path: folder.path().join("none").to_str().unwrap().into() });
    assert_eq!(harbour.until_down(2), "No such file or directory");
    harbour.open(3, Endpoint::Unix { path: "/".repeat(200).into() });
    assert!(harbour.until_down(3).starts_with("bad path of a socket: "), "{}", harbour.until_down(3));
    harbour.stop();
}

#[test]
fn names_are_resolved_and_every_address_is_tried() {
    let Endpoint::Tcp { port, .. } = server(echo) else { unreachable!() };
    let harbour = Harbour::start(options());
    // Nobody listens on the IPv6 address that many systems give this name first.
    harbour.open(1, Endpoint::Tcp { host: "localhost".into(), port });
    harbour.until_up(1);
    harbour.send(1, b"by name");
    harbour.until_link(1, "it is back", |heard| heard.bytes == b"by name");
    harbour.open(2, Endpoint::Tcp { host: "no-such-host.invalid".into(), port });
    let why = harbour.until_down(2);
    assert!(why.starts_with("cannot resolve no-such-host.invalid: "), "{why}");
    harbour.stop();
}

/// More names at a time than there may be threads: the others wait for their turn.
#[test]
fn many_names_at_once_are_all_resolved() {
    let Endpoint::Tcp { port, .. } = server(echo) else { unreachable!() };
    let harbour = Harbour::start(options());
    let links = limits::LINK_RESOLVERS_MAX as u32 * 3;
    for number in 0..links {
        harbour.open(number, Endpoint::Tcp { host: "localhost".into(), port });
    }
    (0..links).for_each(|number| harbour.until_up(number));
    harbour.stop();
}

#[test]
fn a_server_that_is_not_there_is_told_in_words() {
    let free = TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
    let harbour = Harbour::start(options());
    harbour.open(1, to(free));
    assert_eq!(harbour.until_down(1), "Connection refused");
    harbour.open(2, Endpoint::Tcp { host: "localhost".into(), port: free.port() });
    let why = harbour.until_down(2);
    assert!(why.contains(&format!("127.0.0.1:{}: Connection refused", free.port())), "{why}");
    let seen = &harbour.stop()[0];
    assert_eq!((seen.shell.links_up, seen.shell.links_down), (0, 2));
}

#[test]
fn a_server_that_closes_is_heard_to_the_end() {
    let harbour = Harbour::start(options());
    harbour.open(
        1,
        server(|mut stream| {
            stream.write_all(&vec![b'x'; 500_000]).unwrap();
            stream.write_all(b"-ERR max number of clients reached\r\n").unwrap();
        }),
    );
    assert_eq!(harbour.until_down(1), "the server closed the connection");
    let heard = &harbour.stop()[0].links[&1];
    assert!(heard.bytes.starts_with(&[b'x'; 500_000]) && heard.bytes.ends_with(b"reached\r\n"));
}

/// The server closes while bytes of ours are still under way to it, so its kernel answers with a reset.
#[test]
fn what_a_server_said_before_a_send_failed_is_heard() {
    let harbour = Harbour::start(options());
    let (closed, has_closed) = std::sync::mpsc::channel();
    harbour.open(
        1,
        server(move |mut stream| {
            stream.write_all(b"-ERR go away\r\n").unwrap();
            drop(stream);
            closed.send(()).unwrap();
        }),
    );
    has_closed.recv_timeout(PATIENCE).unwrap();
    harbour.send(1, &[b'x'; 1000]);
    harbour.send(1, &[b'x'; 1000]);
    let why = harbour.until_down(1);
    assert!(why.contains("the server closed") || why.contains("the connection broke"), "{why}");
    assert_eq!(harbour.stop()[0].links[&1].bytes, b"-ERR go away\r\n");
}

#[test]
fn a_server_that_does_not_read_is_given_up_at_the_bound() {
    let harbour = Harbour::start(options());
    let stuck = Arc::new(AtomicBool::new(true));
    let view = stuck.clone();
    harbour.open(
        1,
        server(move |stream| {
            until("the test is over", || !view.load(Ordering::Relaxed));
            drop(stream);
        }),
    );
    harbour.until_up(1);
    let piece = vec![0; 1 << 20];
    let pieces = limits::LINK_UNSENT_BYTES_MAX / piece.len();
    for _ in 0..pieces {
        harbour.send(1, &piece);
    }
    harbour.until_done();
    // So much has to fit, and the kernel took some of it.
    assert_eq!(harbour.board(0).links[&1].down, None);
    assert!(harbour.board(0).shell.link_sends_blocked > 0);
    for _ in 0..2 * pieces {
        harbour.send(1, &piece);
    }
    assert_eq!(harbour.until_down(1), "the server does not read: more than 16 MiB wait for it");
    stuck.store(false, Ordering::Relaxed);
    harbour.stop();
}

#[test]
fn a_server_that_only_talks_is_given_up_too() {
    let harbour = Harbour::start(options());
    harbour.board(0).forgetful = true;
    harbour.open(1, server(|stream| while (&stream).write_all(&[b't'; 65_536]).is_ok() {}));
    harbour.until_up(1);
    let piece = vec![0; 1 << 20];
    for _ in 0..3 * limits::LINK_UNSENT_BYTES_MAX / piece.len() {
        harbour.send(1, &piece);
    }
    assert_eq!(harbour.until_down(1), "the server does not read: more than 16 MiB wait for it");
    harbour.stop();
}

#[test]
fn a_server_that_reads_late_gets_everything() {
    let harbour = Harbour::start(options());
    let asleep = Arc::new(AtomicBool::new(true));
    let view = asleep.clone();
    harbour.open(
        1,
        server(move |stream| {
            until("it is woken", || !view.load(Ordering::Relaxed));
            echo(stream);
        }),
    );
    harbour.until_up(1);
    let bytes = Numbers(3).bytes(12 << 20);
    for piece in bytes.chunks(1 << 20) {
        harbour.send(1, piece);
    }
    harbour.until_done();
    assert!(harbour.board(0).shell.link_sends_blocked > 0);
    asleep.store(false, Ordering::Relaxed);
    harbour.until_link(1, "all is back", |heard| heard.received == bytes.len() as u64);
    assert!(harbour.stop()[0].links[&1].bytes == bytes);
}

/// A listener that answers no connect: its queue is full, and nobody takes from it.
fn deaf_server() -> (Socket, Vec<Socket>, Endpoint) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&loopback().into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap().as_socket().unwrap();
    let filling = (0..4)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
            let _ = socket.connect(&addr.into());
            socket
        })
        .collect();
    (listener, filling, to(addr))
}

#[test]
fn a_server_that_does_not_answer_is_given_up_in_time_or_closed_before() {
    let (_listener, _filling, to) = deaf_server();
    let harbour = Harbour::start(options());
    let begun = Instant::now();
    harbour.open(1, to.clone());
    harbour.open(2, to.clone());
    harbour.until_done();
    harbour.close(2);
    assert_eq!(harbour.until_down(1), "no answer within 3 s");
    assert!(begun.elapsed() >= Duration::from_millis(limits::LINK_CONNECT_MS_MAX));
    // A stop does not wait for it either.
    harbour.open(3, to);
    harbour.until_done();
    let seen = &harbour.stop()[0];
    assert!(seen.links[&2].down.is_none() && seen.links[&3].down.is_none());
}

#[test]
fn two_hundred_links_leave_nothing_behind() {
    let mut other = child("links::links_opened_and_closed", &[]);
    line_with(&mut other, "nothing is left");
    drop(other.stdin.take());
    assert!(other.wait().unwrap().success());
}

/// Descriptors of this process, as `/proc` describes them.
fn descriptors() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    // The one that reads the folder is gone by the time it is looked at.
    let mut all: Vec<_> = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).collect();
    all.sort();
    all.into_iter().map(|path| path.to_string_lossy().into_owned()).collect()
}

fn until_closed(before: &[String]) {
    let deadline = Instant::now() + PATIENCE;
    while descriptors() != before && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    let left: Vec<_> = descriptors().into_iter().filter(|name| !before.contains(name)).collect();
    assert!(descriptors() == before, "left open: {left:?}");
}

/// Links in every state, closed by either side.
#[test]
#[ignore = "the other process of two_hundred_links_leave_nothing_behind"]
fn links_opened_and_closed() {
    let (_listener, _filling, deaf) = deaf_server();
    let gone = Arc::new(AtomicBool::new(false));
    let view = gone.clone();
    let echoing = server(echo);
    let leaving = server(move |_| view.store(true, Ordering::Relaxed));
    let refusing = to(TcpListener::bind(loopback()).unwrap().local_addr().unwrap());
    let Endpoint::Tcp { port, .. } = echoing else { unreachable!() };
    let named = Endpoint::Tcp { host: "localhost".into(), port };
    let before_start = descriptors();
    let harbour = Harbour::start(options());
    harbour.until_done();
    let before = descriptors();
    for round in 0..40 {
        let links = [&echoing, &leaving, &refusing, &deaf, &named];
        let number = |n: usize| (round * links.len() + n) as u32;
        for (n, to) in links.into_iter().enumerate() {
            harbour.open(number(n), to.clone());
        }
        if round % 2 == 0 {
            harbour.until_up(number(0));
            harbour.send(number(0), b"echo");
            harbour.until_down(number(1));
            harbour.until_down(number(2));
            harbour.until_up(number(4));
        }
        for n in 0..links.len() {
            harbour.close(number(n));
        }
    }
    harbour.until_done();
    assert!(gone.load(Ordering::Relaxed));
    until_closed(&before);
    // Some are open at the stop.
    for (number, to) in [(1000, &echoing), (1001, &deaf), (1002, &named)] {
        harbour.open(number, to.clone());
    }
    harbour.until_up(1000);
    harbour.stop();
    until_closed(&before_start);
    println!("nothing is left");
}

/// Writes as fast as it can, and reads whatever comes.
fn flood(stream: TcpStream) {
    let mut reader = stream.try_clone().unwrap();
    thread::spawn(move || while reader.read(&mut [0; 4096]).is_ok_and(|len| len > 0) {});
    while (&stream).write_all(&[b'f'; 65_536]).is_ok() {}
}

#[test]
fn clients_are_served_however_much_links_bring() {
    let harbour = Harbour::start(Options { workers: 2, ..options() });
    let flooding = server(flood);
    for worker in 0..2 {
        let mut board = harbour.board(worker);
        board.forgetful = true;
        board.order(Order::Open(1, flooding.clone()));
    }
    let flooded = |least: u64| {
        until("both are flooded", || (0..2).all(|worker| harbour.board(worker).received() > least));
    };
    flooded(0);
    let begun = Instant::now();
    let mut served = 0;
    while served < 300 {
        let mut stream = connect_from(served, harbour.addr).unwrap();
        stream.write_all(b"still there?").unwrap();
        let mut back = [0; 12];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"still there?");
        served += 1;
        // Sends take turns with reads.
        for worker in 0..2 {
            harbour.board(worker).order(Order::Send(1, vec![b's'; 10_000]));
        }
    }
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    let so_far = (0..2).map(|worker| harbour.board(worker).received()).max().unwrap();
    flooded(so_far + (1 << 20));
    let boards = harbour.stop();
    assert!(boards.iter().all(|board| board.shell.accepts > 50), "one worker had no clients");
}

/// More at once than may lie between links and core: they take turns, and nothing is lost.
#[test]
fn many_links_that_bring_much_wait_for_the_core() {
    const EACH: usize = 4 << 20;
    const LINKS: u32 = 48;
    let harbour = Harbour::start(options());
    harbour.board(0).forgetful = true;
    let sending = server(|mut stream| {
        stream.write_all(&vec![b'm'; EACH]).unwrap();
        // Stays until the other side goes.
        let _ = stream.read(&mut [0]);
    });
    for number in 0..LINKS {
        harbour.open(number, sending.clone());
    }
    for number in 0..LINKS {
        harbour.until_link(number, "all has come", |heard| heard.received == EACH as u64);
    }
    harbour.until_done();
    let seen = &harbour.stop()[0];
    assert!(seen.shell.link_stalls > 0, "the bound was never reached");
}

#[test]
fn there_is_a_bound_for_links() {
    let harbour = Harbour::start(options());
    let (_listener, _filling, deaf) = deaf_server();
    let max = limits::LINKS_MAX as u32;
    for number in 0..=max {
        harbour.open(number, deaf.clone());
    }
    assert_eq!(harbour.until_down(max), "more than 1024 links");
    (0..max).for_each(|number| harbour.close(number));
    harbour.open(max + 1, server(echo));
    harbour.until_up(max + 1);
    harbour.stop();
}
