//! What the links of one worker have for its core, until the pump fetches it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::stream::Stream;
use super::tls::Tls;
use crate::io::mesh::Wake;
use crate::limits;
use crate::turn::LinkId;

/// What a link has to tell.
pub(super) enum News {
    /// It is connected.
    Up,
    /// These of the desk's bytes have arrived.
    Bytes(Range<usize>),
    /// It has ended, and why.
    Down(String),
}

/// Shared by the links of one worker and its pump. Nothing here is borrowed across an `await`.
pub(super) struct Desk {
    pile: RefCell<Pile>,
    wake: Wake,
    /// Links whose tasks have not ended.
    tasks: Cell<u32>,
    /// Who waits for the last of them.
    deserted: Cell<Option<Waker>>,
    /// Held once here, and once by each thread that resolves a name.
    pub(super) resolvers: Arc<()>,
    /// How links are encrypted, if they are.
    pub(super) tls: Option<Tls>,
}

struct Pile {
    news: VecDeque<(LinkId, News)>,
    /// The bytes that the news are about.
    bytes: Vec<u8>,
    /// Where a link reads into first. One for all, because none keeps anything in it.
    scratch: Box<[u8]>,
    /// Times a link had to wait because too much lay here.
    stalls: u64,
    stalled: bool,
}

impl Pile {
    fn put(&mut self, wake: &Wake, link: LinkId, news: News) {
        // Whoever made it non-empty has woken the pump.
        if self.news.is_empty() {
            wake.wake();
        }
        self.news.push_back((link, news));
    }

    fn put_bytes(&mut self, wake: &Wake, link: LinkId, range: Range<usize>) {
        if !range.is_empty() {
            self.put(wake, link, News::Bytes(range));
        }
    }
}

impl Desk {
    pub(super) fn new(wake: Wake, tls: Option<Tls>) -> Desk {
        let pile =
            Pile { news: VecDeque::new(), bytes: Vec::new(), scratch: Box::default(), stalls: 0, stalled: false };
        let pile = RefCell::new(pile);
        Desk { pile, wake, tasks: Cell::new(0), deserted: Cell::new(None), resolvers: Arc::new(()), tls }
    }

    /// Puts news down, and wakes the pump if nothing lay here.
    pub(super) fn tell(&self, link: LinkId, news: News) {
        self.pile.borrow_mut().put(&self.wake, link, news);
    }

    /// Puts bytes down, if there are any.
    pub(super) fn bring(&self, link: LinkId, bytes: &[u8]) {
        let mut pile = self.pile.borrow_mut();
        pile.bytes.extend_from_slice(bytes);
        let end = pile.bytes.len();
        pile.put_bytes(&self.wake, link, end - bytes.len()..end);
    }

    /// Puts down what a link has received, once. As [`Stream::receive`].
    pub(super) fn receive(&self, link: LinkId, stream: &mut Stream) -> Result<bool, String> {
        let mut pile = self.pile.borrow_mut();
        let pile = &mut *pile;
        if pile.scratch.is_empty() {
            pile.scratch = vec![0; limits::LINK_READ_BYTES_MAX].into();
        }
        let start = pile.bytes.len();
        let received = stream.receive(&mut pile.scratch, &mut pile.bytes);
        let end = pile.bytes.len();
        pile.put_bytes(&self.wake, link, start..end);
        received
    }

    /// Waits until there is room for what a link may read at once.
    pub(super) async fn room(&self) {
        let mut waited = false;
        poll_fn(|_| {
            let mut pile = self.pile.borrow_mut();
            if pile.bytes.len() < limits::LINK_PILE_BYTES_MAX {
                return Poll::Ready(());
            }
            pile.stalls += u64::from(!waited);
            pile.stalled = true;
            waited = true;
            // `fetch` tells who called it that everyone has to be woken.
            Poll::Pending
        })
        .await;
    }

    /// Hands out everything that lies here, oldest first. True: links wait for the room.
    pub(super) fn fetch(&self, mut heard: impl FnMut(LinkId, News, &[u8])) -> bool {
        let mut pile = self.pile.borrow_mut();
        let pile = &mut *pile;
        for (link, news) in pile.news.drain(..) {
            heard(link, news, &pile.bytes);
        }
        pile.bytes.clear();
        std::mem::take(&mut pile.stalled)
    }

    /// Times a link had to wait for room.
    pub(super) fn stalls(&self) -> u64 {
        self.pile.borrow().stalls
    }

    /// Waits until the tasks of all links have ended.
    pub(super) async fn desertion(&self) {
        poll_fn(|context| {
            if self.tasks.get() == 0 {
                return Poll::Ready(());
            }
            self.deserted.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// Held by the task of a link while it runs.
pub(super) struct Presence(Rc<Desk>);

impl Presence {
    pub(super) fn at(desk: Rc<Desk>) -> Presence {
        desk.tasks.set(desk.tasks.get() + 1);
        Presence(desk)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.tasks.set(self.0.tasks.get() - 1);
        if self.0.tasks.get() == 0
            && let Some(waiting) = self.0.deserted.take()
        {
            waiting.wake();
        }
    }
}
