//! `path-tasks`: one monoio task per connection. It awaits a read into its own buffer, hands what came to the shard, and
//! awaits the next.
//!
//! The pump is the runtime's main future. It runs after the tasks that were ready, so all that they have brought is one
//! turn. Who sends does not wait: a send is a system call, and what it leaves over a task of its own writes.
//!
//! monoio lends nobody the descriptor of its streams, but it tells its number. That stays good while one half of the
//! stream is there: the table has the half that writes, unless a task writes with it.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Shutdown, TcpStream as Socket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt, OwnedReadHalf, OwnedWriteHalf, Splitable};
use monoio::net::{TcpStream, UnixStream};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{self, MsgFlags};
use ringroad::limits;
use ringroad::turn::{ConnId, Now};

use super::door::Door;
use super::shell::Shell;
use super::table::Line;

/// A connection's receive buffer: as much as one of the gateway's shared ones.
const BUFFER_BYTES: usize = 512;

/// Entries of the ring: as many reads go out with one system call.
const ENTRIES: u32 = 4096;

/// Where the half that writes is when no task has it.
type Home = Rc<Cell<Option<OwnedWriteHalf<TcpStream>>>>;

/// A socket as who sends has it.
pub struct Lent {
    fd: RawFd,
    half: Home,
}

impl Line for Lent {
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(socket::send(self.fd, bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?)
    }

    fn shut(&self, how: Shutdown) {
        let how = match how {
            Shutdown::Read => socket::Shutdown::Read,
            Shutdown::Write => socket::Shutdown::Write,
            Shutdown::Both => socket::Shutdown::Both,
        };
        let _ = socket::shutdown(self.fd, how);
    }
}

/// What the tasks of a thread share.
struct Worker {
    shell: RefCell<Shell<Lent>>,
    /// The time of this round, once somebody has asked for it; who asks first has woken the thread.
    now: Cell<Option<Now>>,
    /// Something has come since the pump ran.
    woken: Cell<bool>,
    pump: RefCell<Option<Waker>>,
    /// Wakes the pump after the runtime had its turn: a task of monoio 0.2.4 that wakes itself stops its thread's I/O.
    again: EventFd,
}

/// Serves until `goodbye` is readable.
pub fn run(door: Door, mut shell: Shell<Lent>, goodbye: OwnedFd) -> io::Result<()> {
    shell.has_tasks = true;
    let again = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let worker = Rc::new(Worker {
        shell: RefCell::new(shell),
        now: Cell::new(None),
        woken: Cell::new(true),
        pump: RefCell::new(None),
        again,
    });
    let mut ring = io_uring_06::IoUring::builder();
    ring.setup_single_issuer().setup_coop_taskrun();
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .uring_builder(ring)
        .with_entries(ENTRIES)
        .enable_timer()
        .build()?;
    runtime.block_on(async {
        monoio::spawn(enter(worker.clone(), door, polled(goodbye)?));
        monoio::spawn(wake_again(worker.clone(), polled(worker.again.as_fd().try_clone_to_owned()?)?));
        worker.pump().await
    })
}

/// monoio has no type for a descriptor that is only polled; to a poll all are alike.
fn polled(fd: OwnedFd) -> io::Result<UnixStream> {
    UnixStream::from_std(fd.into())
}

/// Lets connections in until `goodbye` is readable.
async fn enter(worker: Rc<Worker>, door: Door, goodbye: UnixStream) -> io::Result<()> {
    let waiting = polled(door.listener.as_fd().try_clone_to_owned()?)?;
    let mut ends = pin!(goodbye.readable(false));
    loop {
        let mut enters = pin!(waiting.readable(false));
        let over = poll_fn(|context| match ends.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending => enters.as_mut().poll(context).map(|_| false),
        });
        if over.await {
            break;
        }
        if let Err(error) = door.accept(|socket, peer| worker.open(socket, peer)) {
            // No descriptor or no memory: it would only fail again at once.
            eprintln!("path-tasks: new connections have to wait: {error}");
            worker.shell.borrow_mut().counts.accept_errors += 1;
            monoio::time::sleep(Duration::from_millis(limits::ACCEPT_RETRY_MS)).await;
        }
    }
    let now = worker.now();
    worker.shell.borrow_mut().stop(now);
    worker.wake();
    Ok(())
}

async fn wake_again(worker: Rc<Worker>, wakes: UnixStream) -> io::Result<()> {
    loop {
        wakes.readable(false).await?;
        worker.again.read()?;
        worker.wake();
    }
}

/// A connection's task: until its end, or until the shard has given it up.
async fn read(worker: Rc<Worker>, conn: ConnId, mut stream: OwnedReadHalf<TcpStream>) {
    let mut buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
    loop {
        let result;
        (result, buffer) = stream.read(buffer).await;
        if !worker.received(conn, result.map(|len| &mut buffer[..len])) {
            return;
        }
    }
}

/// A blocked connection's other task. Broken is writable too: the next send tells.
async fn write(worker: Rc<Worker>, conn: ConnId, rest: Vec<u8>, home: Home) {
    let Some(mut half) = home.take() else { return };
    let _ = half.write_all(rest).await;
    // If the shard has given it up meanwhile, it closes here.
    home.set(Some(half));
    let now = worker.now();
    worker.shell.borrow_mut().writable(now, conn);
    worker.wake();
}

impl Worker {
    fn wake(&self) {
        if !self.woken.replace(true)
            && let Some(waker) = self.pump.borrow_mut().take()
        {
            waker.wake();
        }
    }

    fn now(&self) -> Now {
        self.now.get().unwrap_or_else(|| {
            let mut shell = self.shell.borrow_mut();
            shell.wakes();
            let now = shell.now();
            self.now.set(Some(now));
            now
        })
    }

    fn open(self: &Rc<Worker>, socket: Socket, peer: IpAddr) -> io::Result<()> {
        let stream = TcpStream::from_std(socket)?;
        let fd = stream.as_raw_fd();
        let (reads, writes) = stream.into_split();
        let lent = Lent { fd, half: Rc::new(Cell::new(Some(writes))) };
        let now = self.now();
        let conn = self.shell.borrow_mut().opened(now, lent, peer);
        monoio::spawn(read(self.clone(), conn, reads));
        self.wake();
        Ok(())
    }

    fn received(&self, conn: ConnId, result: io::Result<&mut [u8]>) -> bool {
        let now = self.now();
        let goes_on = self.shell.borrow_mut().received(now, conn, result);
        self.wake();
        goes_on
    }

    /// Carries out the shard's turns whenever something has come, or is due.
    async fn pump(self: &Rc<Worker>) -> io::Result<()> {
        loop {
            self.wait().await;
            self.woken.set(false);
            self.now();
            let round_us = self.shell.borrow().micros();
            let now = self.shell.borrow().now();
            let more = self.shell.borrow_mut().turns(now, round_us)?;
            let blocked = std::mem::take(&mut self.shell.borrow_mut().blocked);
            for (conn, rest) in blocked {
                if let Some(lent) = self.shell.borrow().table.line_without(conn, 0) {
                    monoio::spawn(write(self.clone(), conn, rest, lent.half.clone()));
                }
            }
            self.now.set(None);
            self.shell.borrow_mut().sleeps();
            if self.shell.borrow().is_done() {
                return Ok(());
            }
            if more {
                self.again.write(1)?;
            }
        }
    }

    async fn wait(&self) {
        let deadline = self.shell.borrow().next_deadline();
        let wait_ms = deadline.map(|at| at.saturating_sub(self.shell.borrow().now().mono_ms));
        let mut sleep = pin!(wait_ms.map(|wait_ms| monoio::time::sleep(Duration::from_millis(wait_ms))));
        poll_fn(|context| {
            if self.woken.get() {
                return Poll::Ready(());
            }
            *self.pump.borrow_mut() = Some(context.waker().clone());
            match sleep.as_mut().as_pin_mut() {
                Some(sleep) => sleep.poll(context),
                None => Poll::Pending,
            }
        })
        .await;
    }
}
