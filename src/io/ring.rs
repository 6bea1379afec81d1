//! The data ring: the io_uring on which all client sockets of a worker live.
//!
//! The ring is created `SINGLE_ISSUER | DEFER_TASKRUN`: the kernel does nothing on its own, it only notes that there is
//! something to do and writes the registered eventfd. An enter with GETEVENTS then does it. One such enter works
//! through about twenty notes and leaves the rest (`TASKRUN_FLAG` tells), so [`DataRing::harvest`] repeats it.
//!
//! While the pump runs, and while the worker sleeps in this ring itself, the eventfd is switched off: it would only tell
//! the worker to do what it is doing.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use socket2::SockAddr;

use super::buffers::{self, Buffers, Picked};
pub(crate) use super::ops::Op;
use crate::limits;
use crate::turn::ConnId;

/// The flag behind [`cqueue::buffer_select`], which the crate does not export.
const IORING_CQE_F_BUFFER: u32 = 1;

/// For requests that concern no connection.
const NOBODY: ConnId = ConnId { index: 0, generation: 0 };

/// A completion, as it came. Not to be copied: it may own a descriptor or a buffer.
#[derive(Debug)]
pub(crate) struct Completion {
    user_data: u64,
    /// What the system call would have answered: a count, a descriptor, or a negated error number.
    pub(crate) result: i32,
    flags: u32,
}

impl Completion {
    pub(crate) fn op(&self) -> Option<Op> {
        Op::of(self.user_data)
    }

    pub(crate) fn conn(&self) -> ConnId {
        ConnId { index: self.user_data as u32, generation: (self.user_data >> 32) as u32 & 0x00ff_ffff }
    }

    /// Whether the request goes on. Without it a multishot has ended, for whatever reason, and has to be started anew.
    pub(crate) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The receive buffer that the kernel picked. Once: who takes it gives it back.
    pub(crate) fn take_buffer(&mut self) -> Option<Picked> {
        let id = cqueue::buffer_select(self.flags)?;
        self.flags &= !IORING_CQE_F_BUFFER;
        Some(Picked { id, len: usize::try_from(self.result).unwrap_or(0) })
    }

    /// The descriptor that an accept made.
    pub(crate) fn into_accepted(self) -> Result<OwnedFd, i32> {
        if self.op() != Some(Op::Accept) || self.result < 0 {
            return Err(-self.result);
        }
        // SAFETY: the kernel made this descriptor for this completion, completions are looked at once, and nobody else
        // knows the number.
        Ok(unsafe { OwnedFd::from_raw_fd(self.result) })
    }
}

/// Sizes of a data ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) sq_entries: u32,
    pub(crate) cq_entries: u32,
    pub(crate) buffers: u16,
    pub(crate) buffer_bytes: u32,
}

/// An io_uring with its receive buffers. Used by the thread that made it and by no other.
pub(crate) struct DataRing {
    ring: IoUring,
    pub(crate) buffers: Buffers,
    /// Harvested, or found while a turn's sends were submitted; not looked at yet.
    waiting: VecDeque<Completion>,
    /// Sends of the running [`DataRing::send_all`] that the kernel did not take whole: position and result.
    unsent: Vec<(u32, i32)>,
    overflows: u64,
    /// The last enter that looked for completions found none.
    barren: bool,
    /// The worker's eventfd, as far as the ring listens to it.
    bell: Bell,
}

/// What the ring knows of the eventfd that others write to wake its worker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bell {
    /// Nobody listens here.
    Unheard,
    /// A poll is running.
    Polled,
    /// The poll has ended: it was written.
    Rung,
}

/// `struct io_uring_getevents_arg`. The crate's type does not let the third field be set.
#[repr(C)]
struct Wait {
    sigmask: u64,
    sigmask_bytes: u32,
    min_wait_us: u32,
    timespec: u64,
}

impl DataRing {
    /// Creates the ring and its buffers. `wake` is written whenever the ring wants to be entered.
    pub(crate) fn new(sizes: Sizes, wake: BorrowedFd<'_>) -> io::Result<DataRing> {
        let ring = Self::builder().setup_cqsize(sizes.cq_entries).build(sizes.sq_entries)?;
        ring.submitter().register_eventfd(wake.as_raw_fd())?;
        let buffers = Buffers::register(&ring, sizes.buffers, sizes.buffer_bytes)?;
        Ok(DataRing {
            ring,
            buffers,
            waiting: VecDeque::new(),
            unsent: Vec::new(),
            overflows: 0,
            barren: false,
            bell: Bell::Unheard,
        })
    }

    /// The kind of ring that Ringroad needs; see [`super::probe`].
    pub(crate) fn builder() -> io_uring::Builder {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all().setup_clamp();
        builder
    }

    /// Accepts until the completion without [`Completion::more`].
    pub(crate) fn accept(&mut self, listener: BorrowedFd<'_>) -> io::Result<()> {
        let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build();
        self.push(entry.user_data(Op::Accept.tag(NOBODY)))
    }

    /// Receives until the completion without [`Completion::more`].
    pub(crate) fn recv(&mut self, fd: BorrowedFd<'_>, conn: ConnId) -> io::Result<()> {
        let entry = opcode::RecvMulti::new(Fd(fd.as_raw_fd()), buffers::GROUP).build();
        self.push(entry.user_data(Op::Recv.tag(conn)))
    }

    /// One completion when the socket takes bytes again, or is broken.
    pub(crate) fn writable(&mut self, fd: BorrowedFd<'_>, conn: ConnId) -> io::Result<()> {
        self.poll(fd, libc::POLLOUT, Op::Writable.tag(conn))
    }

    /// One completion when the radio has bytes, or is gone.
    pub(crate) fn radio_readable(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.poll(fd, libc::POLLIN, Op::RadioReadable.tag(NOBODY))
    }

    /// One completion when the radio takes bytes again.
    pub(crate) fn radio_writable(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.poll(fd, libc::POLLOUT, Op::RadioWritable.tag(NOBODY))
    }

    fn poll(&mut self, fd: BorrowedFd<'_>, events: i16, user_data: u64) -> io::Result<()> {
        self.push(opcode::PollAdd::new(Fd(fd.as_raw_fd()), events as u32).build().user_data(user_data))
    }

    /// Connects a socket. Submits: the kernel has copied the address when this returns.
    pub(crate) fn connect_all<'a>(
        &mut self,
        sockets: impl Iterator<Item = (ConnId, BorrowedFd<'a>)>,
        target: &SockAddr,
    ) -> io::Result<()> {
        for (conn, fd) in sockets {
            let entry = opcode::Connect::new(Fd(fd.as_raw_fd()), target.as_ptr().cast(), target.len()).build();
            self.push(entry.user_data(Op::Connect.tag(conn)))?;
        }
        self.submit()
    }

    /// Asks a request to end. Its last completion still comes. The answer to the cancel itself comes only if there was
    /// nothing to cancel, as an `Op::Cancel…` of the same connection.
    pub(crate) fn cancel(&mut self, op: Op, conn: ConnId) -> io::Result<()> {
        let entry = opcode::AsyncCancel::new(op.tag(conn)).build();
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(op.cancel().tag(conn)))
    }

    /// Asks the accept to end.
    pub(crate) fn cancel_accept(&mut self) -> io::Result<()> {
        self.cancel(Op::Accept, NOBODY)
    }

    /// Asks both polls of the radio to end, whichever of them runs.
    pub(crate) fn cancel_radio(&mut self) -> io::Result<()> {
        self.cancel(Op::RadioReadable, NOBODY)?;
        self.cancel(Op::RadioWritable, NOBODY)
    }

    /// Asks everything to end.
    pub(crate) fn cancel_everything(&mut self) -> io::Result<()> {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(Op::CancelOther.tag(NOBODY)))
    }

    /// Sends, and leaves in `unsent` the sends of which the kernel took a part or nothing: position and result.
    ///
    /// When this returns the kernel has no more use for any of the bytes, so the borrow may end. What that rests on, as
    /// seen on 6.18 (tests below) and in its source:
    /// - `MSG_DONTWAIT` makes the request REQ_F_NOWAIT, which io_uring neither polls for nor hands to a thread: the
    ///   send ends inside the submit. A full socket is an EAGAIN that is in the completion queue when the submit
    ///   returns.
    /// - With `MSG_WAITALL` a short count is a failed request, so it is reported although successes are skipped.
    ///   Without it a short count is a success, is skipped, and the stream is corrupt.
    pub(crate) fn send_all<'a>(
        &mut self,
        sends: impl Iterator<Item = (u32, BorrowedFd<'a>, &'a [u8])>,
        unsent: &mut Vec<(u32, i32)>,
    ) -> io::Result<()> {
        debug_assert!(self.unsent.is_empty());
        const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        for (position, fd, bytes) in sends {
            let len = u32::try_from(bytes.len()).expect("a send is described by 32-bit numbers");
            let entry = opcode::Send::new(Fd(fd.as_raw_fd()), bytes.as_ptr(), len).flags(FLAGS).build();
            let tag = Op::Send.tag(ConnId { index: position, generation: 0 });
            self.push(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(tag))?;
        }
        self.submit()?;
        // Reports that did not fit into the completion queue are late, but not lost.
        self.gather_all()?;
        unsent.clear();
        std::mem::swap(&mut self.unsent, unsent);
        Ok(())
    }

    /// Submits what is queued and gathers completions until the kernel has none left or `enough` are waiting.
    ///
    /// The kernel's flag for work left over is a hint and must not be waited for: set a moment after the work that it
    /// stands for was done, it stays until the next work comes. (Seen about once in a hundred runs of the attack on
    /// tiny rings: everyone starved, so nothing came.) So an enter that brought nothing ends this.
    ///
    /// Without anything queued, and with no note of work to do, it only looks: a sleep in this ring has just brought
    /// what there was.
    pub(crate) fn harvest(&mut self, enough: usize) -> io::Result<()> {
        loop {
            let before = self.waiting.len();
            if !self.has_work() {
                self.gather();
                self.barren = false;
                return Ok(());
            }
            self.enter(EnterFlags::GETEVENTS)?;
            self.gather_all()?;
            self.barren = self.waiting.len() == before;
            if self.barren || self.waiting.len() >= enough || !self.ring.submission().taskrun() {
                return Ok(());
            }
        }
    }

    /// Whether an enter would find something to do, as far as can be told without one.
    fn has_work(&mut self) -> bool {
        let submission = self.ring.submission();
        !submission.is_empty() || submission.taskrun() || submission.cq_overflow()
    }

    /// Sleeps until something comes, `wake` is written, or the time is over; then gathers.
    ///
    /// The kernel lets what comes in the first [`limits::LINGER_US`] lie, unless it is much, so that a busy worker is
    /// not woken for each message. Whoever has slept for longer wakes at once. Kernels before 6.12 wake always at once.
    pub(crate) fn sleep(&mut self, wake: BorrowedFd<'_>, wait_ms: Option<u64>) -> io::Result<()> {
        if self.bell == Bell::Unheard {
            self.poll(wake, libc::POLLIN, Op::Woken.tag(NOBODY))?;
            self.bell = Bell::Polled;
        }
        self.ring.completion().disable_eventfd();
        // Without any time at all the kernel would take the shorter one for the end.
        let time = Duration::from_millis(wait_ms.unwrap_or(u64::MAX).min(limits::SLEEP_MS_MAX));
        match self.ring.params().is_feature_min_timeout() && !time.is_zero() {
            true => self.wait(limits::LINGER_COMPLETIONS, limits::LINGER_US, time),
            false => self.wait(1, 0, time),
        }
    }

    /// Lets completions gather for this long, or until they are many.
    pub(crate) fn linger(&mut self, time: Duration) -> io::Result<()> {
        self.wait(limits::LINGER_COMPLETIONS, 0, time)
    }

    /// Submits, waits until there are `enough` completions or the time is over, and gathers. After the shorter time
    /// one completion is enough.
    fn wait(&mut self, enough: u32, min_wait_us: u32, time: Duration) -> io::Result<()> {
        self.buffers.publish();
        let time = Timespec::from(time);
        let wait = Wait { sigmask: 0, sigmask_bytes: 0, min_wait_us, timespec: &raw const time as u64 };
        let queued = self.ring.submission().len() as u32;
        let flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        // SAFETY: `queued` entries are in the submission queue; the argument has the layout that EXT_ARG asks for, and
        // what it points to lives until the call returns.
        match unsafe { self.ring.submitter().enter(queued, enough, flags.bits(), Some(&wait)) } {
            Err(error)
                if !matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY)) =>
            {
                Err(error)
            }
            _ => self.gather_all(),
        }
    }

    /// Whether the worker's eventfd was written since the last time. Who asks reads it, and looks then what it was
    /// written for.
    pub(crate) fn was_woken(&mut self) -> bool {
        let rung = self.bell == Bell::Rung;
        if rung {
            self.bell = Bell::Unheard;
        }
        rung
    }

    /// The next completion, oldest first.
    pub(crate) fn next_completion(&mut self) -> Option<Completion> {
        self.waiting.pop_front()
    }

    /// Submits what is queued.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
        if self.ring.submission().is_empty() { Ok(()) } else { self.enter(EnterFlags::empty()) }
    }

    /// Times the completion queue was found overflowing.
    pub(crate) fn overflows(&self) -> u64 {
        self.overflows
    }

    /// Switches the eventfd off, until [`DataRing::ring_again`]. Saves most wake-ups that would find nothing.
    pub(crate) fn keep_quiet(&mut self) {
        // The kernel notes its work, then reads this switch, with no barrier of its own in between. x86 orders the two;
        // elsewhere a note could be missed by both sides.
        if cfg!(target_arch = "x86_64") {
            self.ring.completion().disable_eventfd();
        }
    }

    /// Switches the eventfd on.
    pub(crate) fn ring_again(&mut self) {
        self.ring.completion().enable_eventfd();
        // The kernel notes its work first and reads the switch second. This is the other half: the switch first, then
        // `settle` reads the notes. One of the two sees the other.
        fence(Ordering::SeqCst);
    }

    /// To be called between [`DataRing::ring_again`] and sleep: work that came while the eventfd was off is not
    /// announced any more. If there may be some, this does all of it, and [`DataRing::is_idle`] tells.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        if !self.ring.submission().taskrun() {
            return Ok(());
        }
        // An enter does as much as completions are wanted, so this wants as many as fit; and waits for none of them.
        let before = self.waiting.len();
        self.wait(self.ring.params().cq_entries(), 0, Duration::ZERO)?;
        self.barren = self.waiting.len() == before;
        Ok(())
    }

    /// Whether nothing waits, here or in the kernel, as far as can be told without asking it.
    pub(crate) fn is_idle(&mut self) -> bool {
        let (_, submission, completion) = self.ring.split();
        let unwoken = self.bell != Bell::Rung;
        let kernel_is_idle = completion.is_empty() && !submission.cq_overflow();
        let no_work_left = !submission.taskrun() || self.barren;
        unwoken && kernel_is_idle && no_work_left && submission.is_empty() && self.waiting.is_empty()
    }

    fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        // SAFETY: a request refers to memory in three cases. Receives refer to `buffers`, which outlive the ring. Sends
        // and connects refer to memory that their callers, `send_all` and `connect_all`, borrow until they have
        // submitted. No descriptor is closed before the last completion of its requests.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.submit()?;
        }
        Ok(())
    }

    fn enter(&mut self, flags: EnterFlags) -> io::Result<()> {
        self.buffers.publish();
        loop {
            let queued = self.ring.submission().len() as u32;
            // SAFETY: `queued` entries are in the submission queue, and no extended argument is passed.
            let entered = unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, flags.bits(), None) };
            match entered {
                Ok(submitted) if submitted as u32 >= queued => return Ok(()),
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // No memory for requests, or too much that overflowed: room first.
                    Some(libc::EAGAIN | libc::EBUSY) => self.flush_overflow()?,
                    _ => return Err(error),
                },
            }
        }
    }

    fn flush_overflow(&mut self) -> io::Result<()> {
        self.overflows += 1;
        self.gather();
        let flags = EnterFlags::GETEVENTS.bits();
        // SAFETY: submits nothing, passes no extended argument.
        match unsafe { self.ring.submitter().enter::<libc::sigset_t>(0, 0, flags, None) } {
            Err(error) if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)) => Err(error),
            _ => {
                self.gather();
                Ok(())
            }
        }
    }

    /// Empties the completion queue, and what did not fit into it.
    fn gather_all(&mut self) -> io::Result<()> {
        self.gather();
        while self.ring.submission().cq_overflow() {
            self.flush_overflow()?;
        }
        Ok(())
    }

    /// Empties the completion queue. Reports on sends are for the turn under way, everything else waits for the pump.
    fn gather(&mut self) {
        for entry in self.ring.completion() {
            let completion = Completion { user_data: entry.user_data(), result: entry.result(), flags: entry.flags() };
            match completion.op() {
                Some(Op::Send) => self.unsent.push((completion.conn().index, completion.result)),
                Some(Op::Woken) => self.bell = Bell::Rung,
                _ => self.waiting.push_back(completion),
            }
        }
    }
}

impl Drop for DataRing {
    fn drop(&mut self) {
        // Before the buffers' memory goes. Receives that still run end without a buffer.
        self.buffers.unregister(&self.ring);
    }
}

/// Sets an option of a socket that no crate has: here, because `unsafe` has its two files.
pub(crate) fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let bytes = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed, and of the value, which outlives the call, the kernel reads its bytes.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), bytes) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests;
