//! The life of one link: a task from the connect to the end.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::desk::{Desk, News, Presence};
use super::dial::{Dialled, Readiness, dial, wait_failed};
use super::stream::Stream;
use crate::io::driver::first;
use crate::limits;
use crate::turn::{Endpoint, LinkId};

/// What the task of a link and the pump share. Nothing here is borrowed across an `await`.
pub(super) struct Link {
    id: LinkId,
    /// While it is up.
    stream: RefCell<Option<Stream>>,
    /// Why a send has failed. What the server had sent before is read first: it may say more.
    broken: RefCell<Option<String>>,
    was_up: Cell<bool>,
    closed: Cell<bool>,
    task: Cell<Option<Waker>>,
}

impl Link {
    pub(super) fn new(id: LinkId) -> Link {
        Link {
            id,
            stream: RefCell::new(None),
            broken: RefCell::new(None),
            was_up: Cell::new(false),
            closed: Cell::new(false),
            task: Cell::new(None),
        }
    }

    /// Sends, unless the link has just ended: then the core is about to hear of it. True: the kernel did not take
    /// everything.
    pub(super) fn send(&self, bytes: &[u8]) -> bool {
        debug_assert!(self.was_up.get(), "a send to {:?}, which is not up", self.id);
        self.attend(|stream| stream.send(bytes));
        let blocked = self.has_unsent();
        if blocked || self.is_broken() {
            self.wake();
        }
        blocked
    }

    /// Ends it, in whatever state it is. The task is gone when the thread next sleeps.
    pub(super) fn close(&self) {
        self.closed.set(true);
        drop(self.stream.take());
        self.wake();
    }

    /// Lets the task look at what has changed.
    pub(super) fn wake(&self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Lets the stream do something, as long as it is well.
    fn attend(&self, what: impl FnOnce(&mut Stream) -> Result<(), String>) {
        if self.is_broken() {
            return;
        }
        if let Some(stream) = &mut *self.stream.borrow_mut()
            && let Err(why) = what(stream)
        {
            self.broken.replace(Some(why));
        }
    }

    fn is_broken(&self) -> bool {
        self.broken.borrow().is_some()
    }

    fn has_unsent(&self) -> bool {
        !self.is_broken() && self.stream.borrow().as_ref().is_some_and(Stream::has_unsent)
    }

    /// Waits for the end of `life`, or for [`Link::close`]: `None`.
    async fn unless_closed<T>(&self, mut life: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        poll_fn(|context| {
            if self.closed.get() {
                return Poll::Ready(None);
            }
            self.task.set(Some(context.waker().clone()));
            life.as_mut().poll(context).map(Some)
        })
        .await
    }
}

/// The task of a link. Only here does one end, and dropping it is safe wherever it waits.
pub(super) async fn live(link: Rc<Link>, desk: Rc<Desk>, to: Endpoint) {
    let _presence = Presence::at(desk.clone());
    let why = link.unless_closed(pin!(serve(&link, &desk, &to))).await;
    link.task.take();
    drop(link.stream.take());
    if let Some(why) = why {
        desk.tell(link.id, News::Down(why));
    }
}

/// Connects, then reads and sends to the end. Answers why it has come.
async fn serve(link: &Link, desk: &Desk, to: &Endpoint) -> String {
    let Dialled { stream, readiness, early } = match dial(to, desk).await {
        Ok(dialled) => dialled,
        Err(why) => return why,
    };
    link.stream.replace(Some(stream));
    link.was_up.set(true);
    desk.tell(link.id, News::Up);
    desk.bring(link.id, &early);
    let mut reading = pin!(read(link, desk, &readiness));
    let mut sending = pin!(send(link, &readiness));
    poll_fn(|context| {
        // A send that fails is found by the reader; what was read may have to be answered.
        if let Poll::Ready(why) = sending.as_mut().poll(context) {
            return Poll::Ready(why);
        }
        if let Poll::Ready(why) = reading.as_mut().poll(context) {
            return Poll::Ready(why);
        }
        sending.as_mut().poll(context)
    })
    .await
}

/// Reads until nothing more can come. Each read waits for the kernel first, so the thread's other work gets its turn.
async fn read(link: &Link, desk: &Desk, readiness: &Readiness) -> String {
    loop {
        desk.room().await;
        match receive(link, desk) {
            Err(why) => return why,
            Ok(_) if link.is_broken() => return last_words(link, desk),
            Ok(_) => {}
        }
        let broken = pin!(poll_fn(|_| if link.is_broken() { Poll::Ready(()) } else { Poll::Pending }));
        if let Some(Err(error)) = first(pin!(readiness.readable()), broken).await {
            return wait_failed(&error);
        }
    }
}

fn receive(link: &Link, desk: &Desk) -> Result<bool, String> {
    match &mut *link.stream.borrow_mut() {
        Some(stream) => desk.receive(link.id, stream),
        None => Ok(false),
    }
}

/// Reads what a server had to say before a send failed. It may go on talking; that is not waited for.
fn last_words(link: &Link, desk: &Desk) -> String {
    for _ in 0..limits::LINK_LAST_READS_MAX {
        match receive(link, desk) {
            Ok(true) => {}
            Ok(false) => break,
            Err(why) => return why,
        }
    }
    link.broken.take().unwrap_or_default()
}

/// Sends what the kernel did not take at once, whenever it takes more.
async fn send(link: &Link, readiness: &Readiness) -> String {
    loop {
        poll_fn(|_| if link.has_unsent() { Poll::Ready(()) } else { Poll::Pending }).await;
        if let Err(error) = readiness.writable().await {
            return wait_failed(&error);
        }
        link.attend(Stream::flush);
    }
}
