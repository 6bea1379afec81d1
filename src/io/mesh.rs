//! Bounded inboxes between the workers of one process, and the switch that drains and stops them all. The only file of the shell
//! with locks and atomics that threads share.
//!
//! Each worker has one inbox and one eventfd. A sender takes the lock once per batch of batches, and writes the eventfd
//! only if the inbox was empty: whoever made it non-empty has woken its owner, or is about to.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::tls::Certificate;
use crate::auth::Keys;
use crate::config::Config;
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

    /// Whose view this is.
    pub(crate) fn own(&self) -> ShardId {
        self.own
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

/// What a worker is given by threads that are none.
pub(crate) enum Given {
    /// New keys, or the news that there should be some.
    Keys(Option<Arc<Keys>>),
    /// Other settings.
    Settings(Arc<Config>),
    /// Another certificate, or the news that there should be one.
    Certificate(Option<Arc<Certificate>>),
    /// A connection that came to the private address.
    Private(OwnedFd),
}

impl Given {
    /// The news that something could not be read.
    fn is_failure(&self) -> bool {
        matches!(self, Given::Keys(None) | Given::Certificate(None))
    }
}

/// The way into a worker for threads that are none: rarely used, so a lock for each thing is good enough.
pub(crate) struct Hatch {
    waiting: Mutex<Waiting>,
    /// Whether there may be something.
    any: AtomicBool,
    wake: Wake,
}

/// What was given to a worker and not taken.
#[derive(Default)]
pub(crate) struct Waiting {
    /// The first one first.
    pub(crate) given: VecDeque<Given>,
    /// Connections that found no room.
    pub(crate) refused: u64,
}

impl Hatch {
    pub(crate) fn new(wake: Wake) -> Hatch {
        Hatch { waiting: Mutex::default(), any: AtomicBool::new(false), wake }
    }

    /// Gives the worker something. Connections beyond [`limits::PRIVATE_WAITING_MAX`] are closed; keys, settings and
    /// certificates replace those that wait, but the news that there are none does not replace what was read before.
    pub(crate) fn give(&self, what: Given) {
        let mut waiting = lock(&self.waiting);
        match &what {
            Given::Private(_) if waiting.given.len() >= limits::PRIVATE_WAITING_MAX => waiting.refused += 1,
            Given::Private(_) => waiting.given.push_back(what),
            Given::Keys(_) | Given::Settings(_) | Given::Certificate(_) => {
                let is_failure = what.is_failure();
                let is_replaced = |one: &Given| {
                    std::mem::discriminant(one) == std::mem::discriminant(&what) && (one.is_failure() || !is_failure)
                };
                waiting.given.retain(|one| !is_replaced(one));
                waiting.given.push_back(what);
            }
        }
        self.any.store(true, Ordering::Release);
        drop(waiting);
        self.wake.wake();
    }

    /// Takes everything that waits.
    pub(crate) fn take(&self) -> Waiting {
        if !self.any.load(Ordering::Acquire) {
            return Waiting::default();
        }
        let mut waiting = lock(&self.waiting);
        self.any.store(false, Ordering::Release);
        std::mem::take(&mut *waiting)
    }
}

/// How long a worker has to let go of everybody when nobody has asked it to.
const FOREVER: u64 = u64::MAX;

/// Drains and stops all workers, and knows which still run and which are there.
pub(crate) struct Switch {
    /// How long a drain may take, ms; 0: stop. It only becomes less.
    leave_within_ms: AtomicU64,
    /// Workers that have let go of everybody.
    drained: AtomicU16,
    /// How often the workers were called, and the last call that each has answered.
    calls: AtomicU64,
    answers: Vec<AtomicU64>,
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
            leave_within_ms: AtomicU64::new(FOREVER),
            drained: AtomicU16::new(0),
            calls: AtomicU64::new(0),
            answers: wakes.iter().map(|_| AtomicU64::new(0)).collect(),
            running: Mutex::new(wakes.len() as u16),
            wakes,
            ended: Condvar::new(),
            all_ended: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        })
    }

    pub(crate) fn stop(&self) {
        self.drain(0);
    }

    /// Asks all workers to let go of everybody within this time, and to stop then.
    pub(crate) fn drain(&self, within_ms: u64) {
        self.leave_within_ms.fetch_min(within_ms, Ordering::AcqRel);
        self.wakes.iter().for_each(Wake::wake);
    }

    /// How long a drain may take that was asked for, ms; 0: stop.
    pub(crate) fn leave_within_ms(&self) -> Option<u64> {
        Some(self.leave_within_ms.load(Ordering::Acquire)).filter(|within_ms| *within_ms != FOREVER)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.leave_within_ms() == Some(0)
    }

    /// One worker has let go of everybody. Until the last one has, all go on: each has what others ask it for, and the
    /// host leaves its Redis as one.
    pub(crate) fn worker_drained(&self) {
        if usize::from(self.drained.fetch_add(1, Ordering::AcqRel)) + 1 == self.wakes.len() {
            self.stop();
        }
    }

    /// Calls all workers. Each answers when it has done what it is doing.
    pub(crate) fn call(&self) {
        self.calls.fetch_add(1, Ordering::AcqRel);
        self.wakes.iter().for_each(Wake::wake);
    }

    /// A worker is there.
    pub(crate) fn answer(&self, worker: ShardId) {
        let call = self.calls.load(Ordering::Acquire);
        if let Some(answer) = self.answers.get(usize::from(worker.0)) {
            answer.store(call, Ordering::Release);
        }
    }

    /// Who has not answered the last call.
    pub(crate) fn silent(&self) -> Vec<ShardId> {
        let call = self.calls.load(Ordering::Acquire);
        let behind = |(_, answer): &(u16, &AtomicU64)| answer.load(Ordering::Acquire) != call;
        (0..).zip(&self.answers).filter(behind).map(|(worker, _)| ShardId(worker)).collect()
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
    fn a_hatch_holds_the_newest_keys_and_so_many_connections() {
        let hatch = Hatch::new(Wake::new().unwrap());
        assert!(hatch.take().given.is_empty());
        for _ in 0..limits::PRIVATE_WAITING_MAX + 2 {
            hatch.give(Given::Private(std::fs::File::open("/dev/null").unwrap().into()));
        }
        // There is always room for keys and settings; new keys that could not be read are no keys.
        hatch.give(Given::Settings(Arc::default()));
        (0..2).for_each(|_| hatch.give(Given::Certificate(None)));
        for keys in [Some(Arc::new(Keys::of_secret("a"))), None] {
            hatch.give(Given::Keys(keys));
        }
        let taken = hatch.take();
        assert_eq!((taken.given.len(), taken.refused), (limits::PRIVATE_WAITING_MAX + 4, 2));
        assert!(matches!(taken.given.back(), Some(Given::Keys(None))));
        let taken = hatch.take();
        assert_eq!((taken.given.len(), taken.refused), (0, 0));
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
