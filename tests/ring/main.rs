//! The data ring under attack: real sockets on loopback against the shell, with everything that could run out made so
//! small that it does.
//!
//! Nothing here waits by sleeping for a fixed time; what must come true is polled until a deadline.

mod churn;
mod drain;
mod echo;
mod ferry;
mod fleet;
mod life;
mod links;
mod mesh;
mod probe;
mod radio;
mod rounds;
mod streams;
mod tls;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ringroad::io::{Options, Running, start};
use socket2::{Domain, Socket, Type};

use echo::{Echo, Habits, Seen};

/// Far beyond what anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// An echo server on the smallest of rings, unless a test says otherwise.
fn options() -> Options {
    Options { listen: Some(loopback()), workers: 1, pin: false, ..Options::default() }
}

struct Server {
    running: Option<Running>,
    seen: Arc<Mutex<Seen>>,
    addr: SocketAddr,
}

impl Server {
    fn start(options: Options, habits: Habits) -> Server {
        raise_descriptor_limit();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let view = seen.clone();
        let running = start(options, move |_| Echo::new(habits.clone(), view.clone())).unwrap();
        let addr = running.addr().unwrap();
        Server { running: Some(running), seen, addr }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Polls what the core has seen until it is as expected.
    fn until(&self, what: &str, is: impl Fn(&Seen) -> bool) {
        until(what, || is(&self.seen.lock().unwrap()));
    }

    /// Stops in good order: everything accepted was closed, and well before the time a core has to say goodbye is over.
    fn stop(mut self) -> Seen {
        let running = self.running.take().unwrap();
        let begun = Instant::now();
        running.stop();
        assert!(running.wait(PATIENCE));
        running.join().unwrap();
        assert!(begun.elapsed() < Duration::from_millis(1_900), "connections were left over: {:?}", begun.elapsed());
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn raise_descriptor_limit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    });
}

/// Connects from the `n`-th of many loopback addresses, so that no pair of addresses runs out of ports.
fn connect_from(n: u32, to: SocketAddr) -> std::io::Result<TcpStream> {
    let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 0, 2)) + n % 200);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((IpAddr::V4(source), 0)).into())?;
    socket.connect(&to.into())?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A small generator of numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(len);
        bytes
    }
}

/// Writes `bytes` in pieces and reads as many back at the same time.
fn echoed(stream: &TcpStream, bytes: &[u8], mut piece: impl FnMut() -> usize + Send) -> Vec<u8> {
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut left = bytes;
            while !left.is_empty() {
                let (now, later) = left.split_at(piece().clamp(1, left.len()));
                (&*stream).write_all(now).unwrap();
                left = later;
            }
        });
        let mut back = vec![0; bytes.len()];
        (&*stream).read_exact(&mut back).unwrap();
        back
    })
}
