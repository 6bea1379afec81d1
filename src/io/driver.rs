//! The pump: what one worker does, again and again.
//!
//! Wait for a completion, the eventfd or the next deadline. Then, in rounds: take the mail and what else was brought,
//! enter the data ring, hand the completions to the core, carry out its turns. Each of the two has its time in a round, and what is left
//! over goes first in the next one: under a crowd turns never end, and accepts must not wait for that.
//!
//! When nothing is left, or the budget is spent, and there are links, monoio gets its turn; what is left over continues
//! behind it, because the pump then writes its own eventfd. It never wakes its own task: under monoio 0.2.4 a task that
//! does stops all I/O of its thread. Without links monoio has nothing to do, and the pump sleeps in the data ring: one
//! system call where the way through monoio is four.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use monoio::net::UnixStream;

use super::clock::Clock;
use super::deaf::ignore_new_connections;
use super::hands::{Aftermath, Hands, Listening, peer};
use super::load::Load;
use super::mesh::{Given, Hatch, Switch, Wake};
use super::ring::Op;
use super::sockets::{BLOCKED, CONNECTING, RECV, RELEASED, RUNNING, STARVED};
use super::usage::Usage;
use crate::limits;
use crate::turn::{ConnId, Core, Ended, Input, Now, ShardId};

/// How a run of the pump has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pumped {
    /// Everything that had come is done.
    Dry,
    /// Work is left over.
    Spent,
    /// The worker is done.
    Done,
}

/// One worker: a core, its hands, and what moves them.
pub(crate) struct Pump<C: Core> {
    pub(super) core: C,
    pub(super) hands: Hands<C::Mail>,
    clock: Clock,
    wake: Wake,
    hatch: Arc<Hatch>,
    switch: Arc<Switch>,
    taken: VecDeque<(ShardId, C::Mail)>,
    /// The worker has links, so it sleeps in monoio.
    through_monoio: bool,
    /// When (µs) it last had nothing to do.
    dry_at_us: u64,
    /// When (`mono_ms`) a core that was told to stop has had its time.
    stop_by: Option<u64>,
    pub(super) drain: Drain,
    load: Load,
    usage: Usage,
    /// Not before this (`mono_ms`) is the next warning about the listener logged.
    pub(super) warn_at: u64,
}

impl<C: Core> Pump<C> {
    pub(crate) fn new(
        core: C,
        hands: Hands<C::Mail>,
        clock: Clock,
        (wake, hatch): (Wake, Arc<Hatch>),
        switch: Arc<Switch>,
    ) -> Pump<C> {
        Pump {
            usage: Usage::of(hands.mesh.is_first()),
            core,
            hands,
            clock,
            wake,
            hatch,
            switch,
            taken: VecDeque::new(),
            through_monoio: false,
            dry_at_us: 0,
            stop_by: None,
            drain: Drain::default(),
            load: Load::default(),
            warn_at: 0,
        }
    }

    /// Runs until the worker was stopped and everything is closed.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        let worked = self.work().await;
        // A task that still waits when its runtime goes is never freed.
        self.hands.links.end().await;
        worked.and_then(|()| self.quiesce())
    }

    async fn work(&mut self) -> io::Result<()> {
        // monoio has no type for an eventfd. It only ever polls this one, and to a poll all descriptors are alike.
        let wakes = UnixStream::from_std(self.wake.as_fd().try_clone_to_owned()?.into())?;
        if let Listening::On(listener) = &self.hands.listening {
            self.hands.ring.accept(listener.as_fd())?;
        }
        if let Some(radio) = &mut self.hands.radio {
            radio.listen(&mut self.hands.ring)?;
        }
        let mut pumped = self.pump()?;
        while pumped != Pumped::Done {
            if !self.through_monoio {
                if pumped == Pumped::Dry {
                    let wait = self.wait();
                    self.hands.ring.sleep(self.wake.as_fd(), wait)?;
                }
                pumped = self.pump()?;
                continue;
            }
            // The poll outlives any number of deadlines; only a wake uses it up.
            let mut woken = pin!(wakes.readable(false));
            let mut is_woken = false;
            while !is_woken && self.through_monoio && pumped != Pumped::Done {
                let wait = self.wait();
                if wait == Some(0) {
                    self.wake.wake();
                }
                is_woken = match wait.filter(|wait| *wait > 0) {
                    None => Some(woken.as_mut().await),
                    Some(wait) => {
                        let sleep = pin!(monoio::time::sleep(Duration::from_millis(wait)));
                        first(woken.as_mut(), sleep).await
                    }
                }
                .transpose()?
                .is_some();
                pumped = self.pump()?;
            }
        }
        Ok(())
    }

    /// How long the worker may sleep, ms.
    fn wait(&self) -> Option<u64> {
        self.next_deadline().map(|at| at.saturating_sub(self.clock.now().mono_ms))
    }

    /// One run.
    fn pump(&mut self) -> io::Result<Pumped> {
        self.hands.ring.keep_quiet();
        if self.through_monoio {
            let slept_us = self.clock.micros() - self.dry_at_us;
            if slept_us < u64::from(limits::LINGER_US) {
                self.hands.ring.linger(Duration::from_micros(u64::from(limits::LINGER_US) - slept_us))?;
            }
            self.wake.clear();
        }
        self.hands.counts.pumps += 1;
        self.switch.answer(self.hands.mesh.own());
        let mut budget = limits::PUMP_COMPLETIONS_MAX;
        let mut idle = false;
        let pump_us = self.clock.micros();
        self.usage.look(pump_us, &mut self.hands.counts);
        if let Some(percent) = self.load.began(pump_us) {
            self.hands.counts.busy_percent = percent.into();
            self.core.handle(self.clock.now(), Input::Load { percent });
        }
        for _ in 0..limits::PUMP_ROUNDS_MAX {
            let round_us = self.clock.micros();
            let now = self.clock.now();
            if self.hands.ring.was_woken() {
                // Before looking what it was written for: what comes later writes it again.
                self.wake.clear();
            }
            self.heed_the_switch(now)?;
            self.take_mail(now);
            self.take_given(now)?;
            self.hear_links(now);
            self.hands.ring.harvest(budget)?;
            self.receive(now, &mut budget)?;
            self.resume(now)?;
            let more_turns = self.turns(now, round_us)?;
            self.hands.ring.submit()?;
            idle = !more_turns && self.hands.is_idle();
            let over_us = self.clock.micros();
            self.hands.counts.round_ms.observe(over_us - round_us);
            if idle || budget == 0 || over_us - pump_us >= limits::PUMP_MS_MAX * 1_000 {
                break;
            }
        }
        self.through_monoio = self.hands.links.any();
        if self.through_monoio {
            self.hands.ring.ring_again();
            if idle {
                self.hands.ring.settle()?;
            }
        }
        let spent = !idle || !self.hands.is_idle();
        if spent {
            self.hands.counts.budgets_spent += 1;
            if self.through_monoio {
                self.wake.wake();
            }
        }
        if self.drain.has_begun {
            // The last connection may just have gone.
            self.heed_the_switch(self.clock.now())?;
        }
        self.show_counts();
        let over_us = self.clock.micros();
        self.dry_at_us = if spent { 0 } else { over_us };
        self.load.over(over_us);
        Ok(match spent {
            _ if self.is_done() => Pumped::Done,
            true => Pumped::Spent,
            false => Pumped::Dry,
        })
    }

    fn show_counts(&mut self) {
        self.hands.counts.cq_overflows = self.hands.ring.overflows();
        self.core.counters().shell.clone_from(&self.hands.counts);
    }

    fn next_deadline(&self) -> Option<u64> {
        let retry = match self.hands.listening {
            Listening::Paused(_, at) => Some(at),
            _ => None,
        };
        let reopen = self.hands.radio.as_ref().and_then(|radio| radio.reopen_at());
        let drain = [self.drain.close_listener_at, self.drain.stop_at];
        [self.core.next_deadline(), retry, reopen, self.stop_by].into_iter().chain(drain).flatten().min()
    }

    fn is_done(&self) -> bool {
        let Some(stop_by) = self.stop_by else { return false };
        let closed = self.hands.sockets.live() == 0 && matches!(self.hands.listening, Listening::Off);
        (closed && self.core.is_stopped()) || self.clock.now().mono_ms >= stop_by
    }

    fn heed_the_switch(&mut self, now: Now) -> io::Result<()> {
        match self.switch.leave_within_ms() {
            _ if self.hands.stopping => return Ok(()),
            None => return Ok(()),
            Some(0) => {}
            Some(over_ms) => return self.drain(now, over_ms),
        }
        self.hands.stopping = true;
        self.drain = Drain::default();
        self.stop_by = Some(now.mono_ms + limits::STOP_MS_MAX);
        self.hands.stop_listening()?;
        let connecting = |conn: &ConnId| self.hands.sockets.peek(*conn).is_some_and(|socket| socket.has(CONNECTING));
        let connecting: Vec<_> = self.hands.sockets.ids().filter(connecting).collect();
        for conn in connecting {
            self.hands.cancel(conn)?;
        }
        self.core.handle(now, Input::Stop);
        Ok(())
    }

    /// Begins to let go of everybody, or goes on with it. Other workers may need this one until they have done so too.
    fn drain(&mut self, now: Now, over_ms: u64) -> io::Result<()> {
        if !std::mem::replace(&mut self.drain.has_begun, true) {
            if let Listening::On(listener) | Listening::Paused(listener, _) = &self.hands.listening {
                if let Err(error) = ignore_new_connections(listener.as_fd()) {
                    tracing::warn!(%error, "connections that are being made while the listener closes may be refused");
                }
                self.drain.close_listener_at = Some(now.mono_ms + limits::LISTENER_LINGER_MS);
            }
            self.drain.stop_at = Some(now.mono_ms + over_ms.max(limits::LISTENER_LINGER_MS) + limits::CLOSE_MS_MAX);
            self.core.handle(now, Input::Drain { over_ms });
        }
        if self.drain.close_listener_at.is_some_and(|at| now.mono_ms >= at) {
            self.drain.close_listener_at = None;
            self.hands.stop_listening()?;
        }
        let is_empty = self.hands.sockets.live() == 0 && matches!(self.hands.listening, Listening::Off);
        if is_empty && !std::mem::replace(&mut self.drain.is_over, true) {
            self.switch.worker_drained();
        }
        if self.drain.stop_at.is_some_and(|at| now.mono_ms >= at) {
            self.drain.stop_at = None;
            self.switch.stop();
        }
        Ok(())
    }

    fn take_mail(&mut self, now: Now) {
        self.hands.mesh.take(&mut self.taken);
        if !self.taken.is_empty() {
            self.hands.counts.inbox_batches = self.taken.len() as u64;
        }
        for (from, mail) in self.taken.drain(..) {
            self.hands.counts.mail_batches += 1;
            self.core.handle(now, Input::Mail { from, mail });
        }
    }

    /// What threads have given that are no workers.
    fn take_given(&mut self, now: Now) -> io::Result<()> {
        let waiting = self.hatch.take();
        self.hands.counts.private_refused += waiting.refused;
        for given in waiting.given {
            match given {
                Given::Keys(keys) => self.core.handle(now, Input::Keys(keys)),
                Given::Settings(config) => self.core.handle(now, Input::Configure { config }),
                Given::Certificate(certificate) => self.hands.show(certificate.as_ref()),
                Given::Private(_) if self.hands.stopping => {}
                Given::Private(socket) => match peer(&socket) {
                    Ok(peer) => {
                        self.hands.counts.accepts += 1;
                        let conn = self.hands.sockets.insert(Some(socket));
                        self.core.handle(now, Input::OpenedPrivately { conn, peer });
                        self.hands.receive(conn)?;
                    }
                    Err(_) => self.hands.counts.accept_errors += 1,
                },
            }
        }
        Ok(())
    }

    fn hear_links(&mut self, now: Now) {
        let core = &mut self.core;
        self.hands.links.fetch(&mut self.hands.counts, |input| core.handle(now, input));
    }

    /// Starts again what had to wait.
    fn resume(&mut self, now: Now) -> io::Result<()> {
        // Every buffer that was in a completion is back by now. More receives than there are buffers would only end
        // again at once; the others go first in the next round.
        for _ in 0..self.hands.starved.len().min(self.hands.ring.buffers.count()) {
            if let Some(conn) = self.hands.starved.pop_front()
                && self.hands.sockets.peek(conn).is_some_and(|socket| socket.has(STARVED))
            {
                self.hands.receive(conn)?;
            }
        }
        for (op, conn) in std::mem::take(&mut self.hands.to_cancel_again) {
            self.hands.counts.cancels_repeated += 1;
            self.hands.ring.cancel(op, conn)?;
        }
        self.hands.listening = match std::mem::replace(&mut self.hands.listening, Listening::Off) {
            Listening::Paused(listener, at) if self.hands.descriptor_freed || now.mono_ms >= at => {
                self.hands.ring.accept(listener.as_fd())?;
                Listening::On(listener)
            }
            other => other,
        };
        match &mut self.hands.radio {
            Some(radio) => radio.reopen_if_due(now.mono_ms, &mut self.hands.ring),
            None => Ok(()),
        }
    }

    /// Hands completions to the core until none is left, or their time is over, or the budget.
    fn receive(&mut self, now: Now, budget: &mut usize) -> io::Result<()> {
        let begun_us = self.clock.micros();
        while *budget > 0
            && let Some(completion) = self.hands.ring.next_completion()
        {
            *budget -= 1;
            self.complete(now, completion)?;
            // To look at the clock every time would be a hundredth of the work, unless there may be a handshake in it.
            let looks = self.hands.desk.is_some() || budget.is_multiple_of(16);
            if looks && self.clock.micros() - begun_us >= limits::ROUND_RECEIVE_MS_MAX * 1_000 {
                break;
            }
        }
        self.hands.send_own()?;
        self.tell(now);
        Ok(())
    }

    /// Carries out the core's turns, at least one. True: it may have more than fit into a round that began then.
    fn turns(&mut self, now: Now, round_us: u64) -> io::Result<bool> {
        self.show_counts();
        let mut begun_us = self.clock.micros();
        for _ in 0..limits::ROUND_TURNS_MAX {
            let Some(turn) = self.core.poll_turn(now) else { return Ok(false) };
            self.hands.carry_out(turn)?;
            self.tell(now);
            let over_us = self.clock.micros();
            self.hands.counts.turn_ms.observe(over_us - begun_us);
            self.show_counts();
            begun_us = over_us;
            if over_us - round_us >= limits::ROUND_MS_MAX * 1_000 {
                break;
            }
        }
        self.hands.counts.rounds_cut += 1;
        Ok(true)
    }

    /// Tells the core what became of its turn.
    fn tell(&mut self, now: Now) {
        let mut aftermath = std::mem::take(&mut self.hands.aftermath);
        for what in aftermath.drain(..) {
            match what {
                Aftermath::Blocked(conn, unsent) => {
                    if self.hands.sockets.peek(conn).is_some_and(|socket| !socket.has(RELEASED)) {
                        let rest = self.hands.rests.of(unsent);
                        self.core.handle(now, Input::Blocked { conn, rest });
                    }
                }
                Aftermath::Writable(conn) => {
                    if self.hands.sockets.peek(conn).is_some_and(|socket| !socket.has(RELEASED)) {
                        self.core.handle(now, Input::Writable { conn });
                    }
                }
                Aftermath::Broken(conn) => self.end(now, conn, Ended::Reset),
                Aftermath::ConnectFailed(conn) => self.connect_failed(now, conn),
                Aftermath::MailRefused(to, mail) => self.core.handle(now, Input::MailRefused { to, mail }),
            }
        }
        self.hands.aftermath = aftermath;
    }

    /// Ends what still runs, so that the buffers can go. After an orderly stop there is nothing.
    fn quiesce(&mut self) -> io::Result<()> {
        let give_up_at = self.clock.now().mono_ms + limits::QUIESCE_MS_MAX;
        self.hands.ring.cancel_everything()?;
        loop {
            self.hands.ring.harvest(usize::MAX)?;
            while let Some(completion) = self.hands.ring.next_completion() {
                if let Some(socket) = self.hands.sockets.find(completion.conn())
                    && !completion.more()
                {
                    match completion.op() {
                        Some(Op::Recv) => socket.clear(RECV),
                        Some(Op::Writable) => socket.clear(BLOCKED),
                        Some(Op::Connect) => socket.clear(CONNECTING),
                        _ => {}
                    }
                }
                // A descriptor that an accept still made closes here.
                drop(completion.into_accepted());
            }
            let running = |conn: ConnId| self.hands.sockets.peek(conn).is_some_and(|socket| socket.has(RUNNING));
            if !self.hands.sockets.ids().any(running) || self.clock.now().mono_ms >= give_up_at {
                return Ok(());
            }
            std::thread::yield_now();
        }
    }
}

/// How far a worker is with letting go of everybody.
#[derive(Debug, Default)]
pub(super) struct Drain {
    pub(super) has_begun: bool,
    is_over: bool,
    /// When (`mono_ms`) the listener has accepted everything that was under way.
    close_listener_at: Option<u64>,
    /// When (`mono_ms`) whoever is still there is closed with all others.
    stop_at: Option<u64>,
}

/// Waits for either; `Some` if the first one came first.
pub(super) async fn first<A: Future, B: Future>(mut a: Pin<&mut A>, mut b: Pin<&mut B>) -> Option<A::Output> {
    poll_fn(|context| {
        if let Poll::Ready(output) = a.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        b.as_mut().poll(context).map(|_| None)
    })
    .await
}
