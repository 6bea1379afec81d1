//! Bounded inboxes between the workers of one process, and the switch that stops them all. The only file of the shell
//! with locks and atomics that threads share.
//!
//! Each worker has one inbox and one eventfd. A sender takes the lock once per batch of batches, and writes the eventfd
//! only if the inbox was empty: whoever made it non-empty has woken its owner, or is about to.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::limits;
use crate::turn::ShardId;

/// A worker's eventfd: written by its data ring, by other workers, and by who stops it.
#[derive(Clone)]
pub(crate) struct Wake(Arc<EventFd>);

impl Wake {
    pub(crate) fn new() -> nix::Result<Wake> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Wake(Arc::new(EventFd::from_flags(flags)?)))
    }

    /// Wakes the worker, or lets it run again if it is running. Fails only if the counter is full, and then it is
    /// awake.
    pub(crate) fn wake(&self) {
        let _ = self.0.write(1);
    }

    /// Takes note of all wakes so far.
    pub(crate) fn clear(&self) {
        let _ = self.0.read();
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What waits for one worker.
struct Inbox<M> {
    batches: Mutex<VecDeque<(ShardId, M)>>,
    /// Whether there may be something, so that a worker without mail needs no lock to know.
    any: AtomicBool,
    wake: Wake,
}

/// One worker's view of all inboxes.
pub(crate) struct Mesh<M> {
    own: ShardId,
    inboxes: Arc<[Inbox<M>]>,
    /// Mail of one turn, by whom it goes to.
    sorted: Vec<Vec<M>>,
}

impl<M> Mesh<M> {
    /// The inboxes of `wakes.len()` workers, as each of them sees them.
    pub(crate) fn between(wakes: &[Wake]) -> Vec<Mesh<M>> {
        let inbox = |wake: &Wake| Inbox {
            batches: Mutex::new(VecDeque::new()),
            any: AtomicBool::new(false),
            wake: wake.clone(),
        };
        let inboxes: Arc<[Inbox<M>]> = wakes.iter().map(inbox).collect();
        let view = |own| Mesh {
            own: ShardId(own),
            inboxes: inboxes.clone(),
            sorted: wakes.iter().map(|_| Vec::new()).collect(),
        };
        (0..wakes.len() as u16).map(view).collect()
    }

    /// Whether it is worker 0's, who does what is done once per process.
    pub(crate) fn is_first(&self) -> bool {
        self.own == ShardId(0)
    }

    /// Delivers a turn's mail; `refused` gets what found its inbox full. Once one batch was refused, so are the later
    /// ones of the turn to the same worker: the order holds.
    pub(crate) fn post(&mut self, mail: &mut Vec<(ShardId, M)>, mut refused: impl FnMut(ShardId, M)) {
        for (to, batch) in mail.drain(..) {
            match self.sorted.get_mut(usize::from(to.0)) {
                Some(sorted) => sorted.push(batch),
                None => refused(to, batch),
            }
        }
        for (to, sorted) in (0..).map(ShardId).zip(&mut self.sorted) {
            if sorted.is_empty() {
                continue;
            }
            let inbox = &self.inboxes[usize::from(to.0)];
            let mut batches = lock(&inbox.batches);
            let was_empty = batches.is_empty();
            let room = limits::INBOX_BATCHES_MAX.saturating_sub(batches.len()).min(sorted.len());
            batches.extend(sorted.drain(..room).map(|batch| (self.own, batch)));
            inbox.any.store(!batches.is_empty(), Ordering::Release);
            drop(batches);
            if was_empty {
                inbox.wake.wake();
            }
            for batch in sorted.drain(..) {
                refused(to, batch);
            }
        }
    }

    /// Takes everything that has arrived, in order of arrival, into `taken`.
    pub(crate) fn take(&mut self, taken: &mut VecDeque<(ShardId, M)>) {
        debug_assert!(taken.is_empty());
        let inbox = &self.inboxes[usize::from(self.own.0)];
        if inbox.any.load(Ordering::Acquire) {
            let mut batches = lock(&inbox.batches);
            inbox.any.store(false, Ordering::Release);
            std::mem::swap(&mut *batches, taken);
        }
    }
}

/// Stops all workers, and knows which still run.
pub(crate) struct Switch {
    stopped: AtomicBool,
    wakes: Vec<Wake>,
    running: Mutex<u16>,
    ended: Condvar,
    /// Written once when the last worker has ended, for those who wait with poll.
    all_ended: EventFd,
}

impl Switch {
    /// For workers that are about to start, one per eventfd.
    pub(crate) fn new(wakes: Vec<Wake>) -> nix::Result<Switch> {
        Ok(Switch {
            stopped: AtomicBool::new(false),
            running: Mutex::new(wakes.len() as u16),
            wakes,
            ended: Condvar::new(),
            all_ended: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        })
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wakes.iter().for_each(Wake::wake);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// One worker has ended, in whatever way. One that was not asked to takes the others with it: a process that
    /// answers for a part of its connections only looks healthier than it is.
    pub(crate) fn worker_ended(&self) {
        self.stop();
        let mut running = lock(&self.running);
        *running -= 1;
        if *running == 0 {
            let _ = self.all_ended.write(1);
            self.ended.notify_all();
        }
    }

    /// Waits for the last worker; false if the time was over first.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut running = lock(&self.running);
        while *running > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            running = self.ended.wait_timeout(running, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Readable once the last worker has ended.
    pub(crate) fn all_ended(&self) -> BorrowedFd<'_> {
        self.all_ended.as_fd()
    }
}

/// Nothing under these locks can be half done when a thread panics, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh_of_two() -> (Vec<Wake>, Mesh<u32>, Mesh<u32>) {
        let wakes = vec![Wake::new().unwrap(), Wake::new().unwrap()];
        let mut views = Mesh::between(&wakes);
        let second = views.pop().unwrap();
        (wakes, views.pop().unwrap(), second)
    }

    #[test]
    fn a_full_inbox_refuses_the_rest_and_keeps_the_order() {
        let (_wakes, mut sender, mut receiver) = mesh_of_two();
        let count = limits::INBOX_BATCHES_MAX as u32 + 3;
        let mut refused = Vec::new();
        let mut mail: Vec<_> = (0..count).map(|n| (ShardId(1), n)).collect();
        sender.post(&mut mail, |to, batch| refused.push((to, batch)));
        assert_eq!(refused, (count - 3..count).map(|n| (ShardId(1), n)).collect::<Vec<_>>());
        let mut taken = VecDeque::new();
        receiver.take(&mut taken);
        assert!(taken.iter().copied().eq((0..count - 3).map(|n| (ShardId(0), n))));
    }

    #[test]
    fn mail_to_nobody_comes_back() {
        let (_wakes, mut sender, _receiver) = mesh_of_two();
        let mut refused = Vec::new();
        sender.post(&mut vec![(ShardId(9), 1)], |to, batch| refused.push((to, batch)));
        assert_eq!(refused, [(ShardId(9), 1)]);
    }

    #[test]
    fn an_eventfd_is_written_once_while_nobody_reads() {
        let (wakes, mut sender, mut receiver) = mesh_of_two();
        for n in 0..5 {
            sender.post(&mut vec![(ShardId(1), n)], |_, _| unreachable!());
        }
        assert_eq!(wakes[1].0.read(), Ok(1));
        let mut taken = VecDeque::new();
        receiver.take(&mut taken);
        assert_eq!(taken.len(), 5);
        taken.clear();
        receiver.take(&mut taken);
        assert!(taken.is_empty());
        sender.post(&mut vec![(ShardId(1), 6)], |_, _| unreachable!());
        assert_eq!(wakes[1].0.read(), Ok(1));
    }
}
