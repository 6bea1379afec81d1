//! Listeners and threads: how the workers come to be, and how they end.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{any::Any, io};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use socket2::{Domain, Protocol, Socket, Type};

use super::clock::Clock;
use super::driver::Pump;
use super::hands::{Hands, Listening};
use super::mesh::{Given, Hatch, Mesh, Switch, Wake};
use super::private::Door;
use super::probe::{self, Unavailable};
use super::radio::Radio;
use super::redis::Links;
use super::redis::tls::Tls;
use super::ring::{DataRing, Sizes};
use super::tls::desk::Desk;
use super::tls::{Certificate, Dialling, Encryption};
use crate::auth::Keys;
use crate::config::Config;
use crate::limits;
use crate::turn::{Core, ShardId};

/// How to run a core.
#[derive(Debug)]
pub struct Options {
    /// Where to listen; port 0 lets the kernel choose one. `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Where to listen for connections that the core is told of as [`OpenedPrivately`]; `None`: nowhere.
    ///
    /// [`OpenedPrivately`]: crate::turn::Input::OpenedPrivately
    pub private_listen: Option<SocketAddr>,
    /// Let other processes of this user listen on the same port: for a restart without a gap. Otherwise a port that is
    /// taken is an error, which `SO_REUSEPORT` alone would hide.
    pub share_port: bool,
    /// Worker threads; 0: one per CPU that this process may use.
    pub workers: u16,
    /// Where [`Turn::connects`](crate::turn::Turn::connects) go.
    pub target: Option<SocketAddr>,
    /// Receive buffers per worker; rounded up to a power of two, at most 32,768.
    pub buffers: u16,
    /// Bytes in one receive buffer.
    pub buffer_bytes: u32,
    /// Entries of the data ring's submission queue.
    pub sq_entries: u32,
    /// Entries of the data ring's completion queue; at least as many as the submission queue has.
    pub cq_entries: u32,
    /// Bytes that the kernel keeps for a slow reader (`SO_SNDBUF`, which Linux doubles); 0: it decides itself.
    pub send_buffer_bytes: u32,
    /// Bytes of one connection that may wait in the kernel for the reader's window, or the path, to take them
    /// (`TCP_NOTSENT_LOWAT`): as long as there are as many, a send is blocked. 0: as many as its buffer holds.
    pub unsent_bytes_max: u32,
    /// Bind each worker to a CPU.
    pub pin: bool,
    /// Give a new connection to the worker of the CPU that takes in its first packet, if there is one
    /// (`SO_INCOMING_CPU`); otherwise, and on kernels before 6.2, a hash of its addresses decides.
    pub steer_by_cpu: bool,
    /// The radio modem, for worker 0.
    pub radio: Option<Radio>,
    /// How links over TCP are encrypted; `None`: they are not.
    pub link_tls: Option<Tls>,
    /// How the listener encrypts, not the private one; `None`: it does not.
    pub encryption: Option<Encryption>,
    /// How connections to the target encrypt; `None`: they do not. A shell has a listener or a target that encrypts, not
    /// both.
    pub dialling: Option<Dialling>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: None,
            private_listen: None,
            share_port: false,
            workers: 0,
            target: None,
            buffers: 4096,
            buffer_bytes: 512,
            sq_entries: 2048,
            cq_entries: 16 * 1024,
            send_buffer_bytes: 0,
            unsent_bytes_max: 0,
            pin: true,
            steer_by_cpu: false,
            radio: None,
            link_tls: None,
            encryption: None,
            dialling: None,
        }
    }
}

/// Why the workers could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The listener could not be had.
    #[error("cannot listen on {addr}: {why}", why = listen_error(.source))]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No io_uring.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// A thread, an eventfd or a runtime could not be made.
    #[error("cannot start a worker: {0}")]
    Worker(#[source] io::Error),
    /// Making a core panicked.
    #[error("worker {} panicked while it started: {message}", .worker.0)]
    Panicked {
        /// Which.
        worker: ShardId,
        /// What it said.
        message: String,
    },
}

fn listen_error(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => "the port is in use by another process".to_owned(),
        Some(libc::EADDRNOTAVAIL) => "the address belongs to no interface of this host".to_owned(),
        Some(libc::EACCES) => "ports below 1024 need CAP_NET_BIND_SERVICE".to_owned(),
        _ => error.to_string(),
    }
}

/// How workers ended that should not have.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// A panic.
    #[error("worker {} panicked: {message}", .worker.0)]
    Panicked {
        /// Which.
        worker: ShardId,
        /// What it said.
        message: String,
    },
    /// The ring or the runtime broke.
    #[error("worker {} broke: {source}", .worker.0)]
    Broke {
        /// Which.
        worker: ShardId,
        /// What the system said.
        source: io::Error,
    },
}

/// Workers that run. Dropping this leaves them running.
pub struct Running {
    addr: Option<SocketAddr>,
    private_addr: Option<SocketAddr>,
    door: Option<JoinHandle<()>>,
    hatches: Arc<[Arc<Hatch>]>,
    switch: Arc<Switch>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Running {
    /// Where they listen, with the port that the kernel chose.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// Where the private address is, with the port that the kernel chose.
    pub fn private_addr(&self) -> Option<SocketAddr> {
        self.private_addr
    }

    /// A way to give all workers other keys, which outlives this.
    pub fn key_ring(&self) -> KeyRing {
        KeyRing(self.hatches.clone())
    }

    /// How many there are.
    pub fn workers(&self) -> u16 {
        self.threads.len() as u16
    }

    /// Asks all to stop, and returns at once. Each closes its listener and tells its core; it ends when the core is
    /// done and everything closed, or after [`limits::STOP_MS_MAX`].
    pub fn stop(&self) {
        self.switch.stop();
    }

    /// Asks all to let go of everybody within this time, and to stop once all have. Nobody is refused meanwhile, but the
    /// listeners take no new connections; with no time at all this is [`Running::stop`].
    pub fn drain(&self, over: Duration) {
        self.switch.drain(over.as_millis().try_into().unwrap_or(u64::MAX - 1));
    }

    /// Hands other settings to all cores.
    pub fn configure(&self, config: Config) {
        let config = Arc::new(config);
        self.hatches.iter().for_each(|hatch| hatch.give(Given::Settings(config.clone())));
    }

    /// New connections are shown this certificate, by every worker that has one; `None`: the one that was there, because
    /// another could not be used.
    pub fn show(&self, certificate: Option<Arc<Certificate>>) {
        self.hatches.iter().for_each(|hatch| hatch.give(Given::Certificate(certificate.clone())));
    }

    /// Calls all workers; each answers as soon as it has done what it is doing, see [`Running::silent`].
    pub fn call(&self) {
        self.switch.call();
    }

    /// The workers that have not answered the last call.
    pub fn silent(&self) -> Vec<ShardId> {
        self.switch.silent()
    }

    /// Waits until all have ended; false if the time was over first. They also end if one of them fails.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.switch.wait(timeout)
    }

    /// Readable once all have ended.
    pub(crate) fn all_ended(&self) -> BorrowedFd<'_> {
        self.switch.all_ended()
    }

    /// Waits until all have ended, and tells if one of them failed.
    pub fn join(self) -> Result<(), Failed> {
        let mut failed = None;
        for (worker, thread) in (0..).map(ShardId).zip(self.threads) {
            let failure = match thread.join() {
                Ok(Ok(())) => continue,
                Ok(Err(source)) => Failed::Broke { worker, source },
                Err(panic) => Failed::Panicked { worker, message: message(&*panic) },
            };
            failed.get_or_insert(failure);
        }
        if let Some(door) = self.door {
            // It ends with the workers, and has nothing to tell.
            let _ = door.join();
        }
        failed.map_or(Ok(()), Err)
    }
}

/// Gives keys to all workers, while they run.
#[derive(Clone)]
pub struct KeyRing(Arc<[Arc<Hatch>]>);

impl KeyRing {
    /// Tokens are to be checked with these from now on; `None`: with those that were there, because others could not be
    /// read.
    pub fn give(&self, keys: Option<Arc<Keys>>) {
        for hatch in self.0.iter() {
            hatch.give(Given::Keys(keys.clone()));
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a word").to_owned()
}

/// What a worker takes along into its thread.
struct Kit<M> {
    shard: ShardId,
    cpu: Option<usize>,
    sizes: Sizes,
    listener: Option<OwnedFd>,
    target: Option<SocketAddr>,
    radio: Option<Radio>,
    link_tls: Option<Tls>,
    encryption: Option<Encryption>,
    dialling: Option<Dialling>,
    wake: Wake,
    hatch: Arc<Hatch>,
    mesh: Mesh<M>,
    switch: Arc<Switch>,
    clock: Clock,
}

/// Binds the listeners and starts the workers; `make` is called once on the thread of each.
///
/// When this returns all of them run, or none.
pub fn start<C, F>(options: Options, make: F) -> Result<Running, StartError>
where
    C: Core,
    F: Fn(ShardId) -> C + Send + Sync + 'static,
{
    probe::check()?;
    raise_descriptor_limit();
    let cpus = allowed_cpus();
    let workers = if options.workers == 0 { cpus.len().min(usize::from(u16::MAX)) as u16 } else { options.workers };
    let (addr, mut listeners) = match options.listen {
        Some(addr) => bind_all(addr, workers, &cpus, &options).map_err(|source| StartError::Listen { addr, source })?,
        None => (None, Vec::new()),
    };
    let open_door = |addr| -> io::Result<Door> {
        let socket = socket(addr)?;
        socket.set_reuse_port(options.share_port)?;
        Door::open(socket, addr)
    };
    let door = options.private_listen.map(|addr| open_door(addr).map_err(|source| StartError::Listen { addr, source }));
    let door = door.transpose()?;
    let buffers = options.buffers.clamp(1, 1 << 15).next_power_of_two();
    let sizes = Sizes {
        sq_entries: options.sq_entries.max(1),
        cq_entries: options.cq_entries.max(options.sq_entries).max(1),
        buffers,
        buffer_bytes: options.buffer_bytes.max(1),
    };
    let broken = |error: nix::Error| StartError::Worker(error.into());
    let wakes = (0..workers).map(|_| Wake::new()).collect::<nix::Result<Vec<_>>>().map_err(broken)?;
    let switch = Arc::new(Switch::new(wakes.clone()).map_err(broken)?);
    let hatches: Arc<[_]> = wakes.iter().map(|wake| Arc::new(Hatch::new(wake.clone()))).collect();
    let clock = Clock::start();
    let make = Arc::new(make);
    let (ready, started) = mpsc::channel();
    let mut running = Running {
        addr,
        private_addr: door.as_ref().map(Door::addr),
        door: None,
        hatches: hatches.clone(),
        switch: switch.clone(),
        threads: Vec::new(),
    };
    let mut radio = options.radio;
    listeners.reverse();
    for (shard, (wake, mesh)) in (0..).map(ShardId).zip(wakes.iter().zip(Mesh::between(&wakes))) {
        let kit = Kit {
            shard,
            cpu: options.pin.then(|| cpu_of(shard, &cpus)),
            sizes,
            listener: listeners.pop(),
            target: options.target,
            radio: radio.take(),
            link_tls: options.link_tls.clone(),
            encryption: options.encryption.clone(),
            dialling: options.dialling.clone(),
            wake: wake.clone(),
            hatch: hatches[usize::from(shard.0)].clone(),
            mesh,
            switch: switch.clone(),
            clock,
        };
        let (make, ready) = (make.clone(), ready.clone());
        let name = format!("ringroad-{}", shard.0);
        let thread = thread::Builder::new().name(name).spawn(move || work(kit, &*make, ready));
        match thread {
            Ok(thread) => running.threads.push(thread),
            Err(error) => {
                running.stop();
                let _ = running.join();
                return Err(StartError::Worker(error));
            }
        }
    }
    drop(ready);
    // Each worker answers once, or drops its end because it panicked.
    let mut answers = started.iter();
    let mut failure = None;
    for _ in 0..workers {
        match answers.next() {
            Some(Ok(())) => {}
            Some(Err(error)) => failure = Some(error),
            None => break,
        }
    }
    if failure.is_none() && !running.switch.is_stopped() {
        match door.map(|door| door.attend(hatches, switch)).transpose() {
            Ok(door) => {
                running.door = door;
                return Ok(running);
            }
            Err(error) => failure = Some(StartError::Worker(error)),
        }
    }
    running.stop();
    let joined = running.join();
    Err(match (failure, joined) {
        (Some(error), _) => error,
        (None, Err(Failed::Panicked { worker, message })) => StartError::Panicked { worker, message },
        (None, Err(Failed::Broke { source, .. })) => StartError::Worker(source),
        (None, Ok(())) => StartError::Worker(io::Error::other("it ended at once")),
    })
}

/// Tells the switch that this worker has ended, even if it panicked.
struct Ending(Arc<Switch>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.worker_ended();
    }
}

/// A worker's thread.
fn work<C: Core>(
    kit: Kit<C::Mail>,
    make: &(dyn Fn(ShardId) -> C + Send + Sync),
    ready: mpsc::Sender<Result<(), StartError>>,
) -> io::Result<()> {
    let _ending = Ending(kit.switch.clone());
    if let Some(cpu) = kit.cpu {
        let mut only = CpuSet::new();
        // A worker that may not be pinned works too, only a little slower.
        let _ = only.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &only));
    }
    let built = runtime()
        .and_then(|runtime| Ok((runtime, DataRing::new(kit.sizes, kit.wake.as_fd())?)))
        .map_err(|error| StartError::Unavailable(probe::explain(error)));
    let (mut runtime, ring) = match built {
        Ok(built) => built,
        Err(error) => {
            let _ = ready.send(Err(error));
            return Ok(());
        }
    };
    let mut hands = Hands::new(ring, kit.mesh, Links::new(kit.wake.clone(), kit.link_tls));
    hands.listening = kit.listener.map_or(Listening::Off, Listening::On);
    hands.target = kit.target;
    hands.radio = kit.radio;
    if let Some(encryption) = &kit.encryption {
        hands.desk = Some(Desk::of_port(encryption));
        hands.note_certificate(&encryption.certificate);
    } else if let Some(dialling) = &kit.dialling {
        hands.desk = Some(Desk::of_calls(dialling));
    }
    let pump = Pump::new(make(kit.shard), hands, kit.clock, (kit.wake, kit.hatch), kit.switch);
    let _ = ready.send(Ok(()));
    drop(ready);
    runtime.block_on(pump.run())
}

type Runtime = monoio::Runtime<monoio::time::TimeDriver<monoio::IoUringDriver>>;

/// monoio on a ring of its own. It carries timers, the poll of the eventfd and those of links, so it may be small.
fn runtime() -> io::Result<Runtime> {
    let mut ring = io_uring_06::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun();
    monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().uring_builder(ring).with_entries(256).enable_timer().build()
}

/// The CPU that a worker is bound to.
fn cpu_of(worker: ShardId, cpus: &[usize]) -> usize {
    cpus[usize::from(worker.0) % cpus.len()]
}

/// One listener per worker, in worker order.
fn bind_all(
    addr: SocketAddr,
    workers: u16,
    cpus: &[usize],
    options: &Options,
) -> io::Result<(Option<SocketAddr>, Vec<OwnedFd>)> {
    if !options.share_port && addr.port() != 0 {
        // Without SO_REUSEPORT this fails beside any other listener, even one that would share.
        socket(addr)?.bind(&addr.into())?;
    }
    let mut addr = addr;
    let mut listeners = Vec::new();
    for worker in (0..workers).map(ShardId) {
        let socket = socket(addr)?;
        socket.set_reuse_port(true)?;
        if options.steer_by_cpu {
            socket.set_cpu_affinity(cpu_of(worker, cpus))?;
        }
        // Accepted sockets inherit all three.
        socket.set_tcp_nodelay(true)?;
        if options.send_buffer_bytes > 0 {
            socket.set_send_buffer_size(options.send_buffer_bytes as usize)?;
        }
        if options.unsent_bytes_max > 0 {
            socket.set_tcp_notsent_lowat(options.unsent_bytes_max)?;
        }
        socket.bind(&addr.into())?;
        addr = socket.local_addr()?.as_socket().unwrap_or(addr);
        listeners.push(socket);
    }
    for listener in &listeners {
        listener.listen(limits::BACKLOG_CONNS)?;
    }
    Ok((Some(addr), listeners.into_iter().map(OwnedFd::from).collect()))
}

fn socket(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    // Connections of an earlier run that the kernel still remembers do not count.
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// Takes all the descriptors that the hard limit grants. The soft one is often 1,024, for programs that use `select`;
/// here each connection is a descriptor.
fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(soft, hard, %error, "the descriptor limit could not be raised");
    }
}

/// CPUs that this process may use; a container may have been given only some.
fn allowed_cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    let cpus: Vec<_> = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu) == Ok(true)).collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Linux copies the options of a listener into what it accepts; nobody promises that.
    #[test]
    fn accepted_sockets_have_the_options_of_their_listener() {
        let options = Options { unsent_bytes_max: 12_345, send_buffer_bytes: 20_000, ..Options::default() };
        let (addr, mut listeners) = bind_all(([127, 0, 0, 1], 0).into(), 1, &[0], &options).unwrap();
        let client = std::net::TcpStream::connect(addr.unwrap()).unwrap();
        let (accepted, _) = Socket::from(listeners.remove(0)).accept().unwrap();
        assert_eq!(accepted.tcp_notsent_lowat().unwrap(), 12_345);
        assert!(accepted.tcp_nodelay().unwrap());
        assert_eq!(accepted.send_buffer_size().unwrap(), 40_000, "Linux doubles it");
        drop(client);
    }

    /// On loopback the CPU that connects takes the packet in.
    #[test]
    fn a_connection_goes_to_the_worker_of_the_cpu_that_takes_it_in() {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        if probe::version(&release).is_some_and(|version| version < (6, 2)) {
            return;
        }
        let cpus = allowed_cpus();
        let options = Options { steer_by_cpu: true, ..Options::default() };
        // The workers in another order than their CPUs, so that no other rule gives the same.
        let order: Vec<_> = cpus.iter().rev().copied().collect();
        let (addr, listeners) = bind_all(([127, 0, 0, 1], 0).into(), order.len() as u16, &order, &options).unwrap();
        let listeners: Vec<_> = listeners.into_iter().map(Socket::from).collect();
        listeners.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
        for (worker, cpu) in order.iter().enumerate() {
            let connects = thread::spawn({
                let cpu = *cpu;
                move || {
                    let mut only = CpuSet::new();
                    only.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &only)).unwrap();
                    (0..16).map(|_| std::net::TcpStream::connect(addr.unwrap()).unwrap()).collect::<Vec<_>>()
                }
            });
            let clients = connects.join().unwrap();
            let accepted = listeners.iter().map(|listener| std::iter::from_fn(|| listener.accept().ok()).count());
            let expected = (0..order.len()).map(|other| if other == worker { clients.len() } else { 0 });
            assert_eq!(accepted.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "CPU {cpu} of {order:?}");
        }
    }
}
