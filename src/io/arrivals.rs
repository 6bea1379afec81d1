//! What completions mean to the core.

use std::io;
use std::os::fd::AsFd;

use super::deaf::hears;
use super::driver::Pump;
use super::hands::{Listening, peer};
use super::ring::{Completion, Op};
use super::sockets::{BLOCKED, CONNECTING, ENDED, RECV, RELEASED, SESSION, STARVED};
use super::tls::desk::Heard;
use crate::limits;
use crate::turn::{ConnId, Core, Ended, Input, Now};

impl<C: Core> Pump<C> {
    /// Makes of a completion what the core should hear.
    pub(super) fn complete(&mut self, now: Now, completion: Completion) -> io::Result<()> {
        let conn = completion.conn();
        match completion.op() {
            Some(Op::Recv) => self.received(now, completion),
            Some(Op::Accept) => self.accepted(now, completion),
            Some(Op::Writable) => self.writable(now, conn),
            Some(Op::Connect) => self.connected(now, conn, completion.result),
            Some(Op::CancelRecv) => self.missed(conn, Op::Recv, RECV, completion.result),
            Some(Op::CancelWritable) => self.missed(conn, Op::Writable, BLOCKED, completion.result),
            Some(Op::CancelConnect) => self.missed(conn, Op::Connect, CONNECTING, completion.result),
            Some(Op::CancelOther) => {
                // As in `missed`: until the accept has ended, the worker does not.
                if completion.result == -libc::ENOENT && matches!(self.hands.listening, Listening::Closing { .. }) {
                    self.hands.to_cancel_again.push((Op::Accept, conn));
                }
                Ok(())
            }
            Some(Op::RadioReadable) => {
                let Some(radio) = &mut self.hands.radio else { return Ok(()) };
                let heard = |bytes: &[u8]| self.core.handle(now, Input::Radio { bytes });
                radio.read(now.mono_ms, heard, &mut self.hands.ring, &mut self.hands.counts)
            }
            Some(Op::RadioWritable) => match &mut self.hands.radio {
                Some(radio) => radio.resume(&mut self.hands.ring, &mut self.hands.counts),
                None => Ok(()),
            },
            Some(Op::Send | Op::Woken) | None => {
                debug_assert!(false, "{completion:?} belongs to nobody");
                Ok(())
            }
        }
    }

    /// A cancel has found nothing. Usually the last completion was under way and has come since. If not, the request
    /// may have been on its way from one of the kernel's lists to another, and nobody has told it to end.
    fn missed(&mut self, conn: ConnId, op: Op, flag: u8, result: i32) -> io::Result<()> {
        if result == -libc::ENOENT && self.hands.sockets.peek(conn).is_some_and(|socket| socket.has(flag)) {
            self.hands.to_cancel_again.push((op, conn));
        }
        Ok(())
    }

    fn received(&mut self, now: Now, mut completion: Completion) -> io::Result<()> {
        let conn = completion.conn();
        let socket = self.hands.sockets.find(conn);
        debug_assert!(socket.is_some(), "{completion:?} is for a connection that is gone");
        let (wanted, has_session) = socket.map_or((false, false), |socket| {
            if !completion.more() {
                socket.clear(RECV);
            }
            (!socket.has(ENDED | RELEASED), socket.has(SESSION))
        });
        let mut heard = Heard::On;
        if let Some(picked) = completion.take_buffer() {
            let bytes = self.hands.ring.buffers.filled(&picked);
            if wanted && !bytes.is_empty() {
                self.hands.counts.recvs += 1;
                self.hands.counts.recv_bytes += bytes.len() as u64;
                match &mut self.hands.desk {
                    Some(desk) if has_session => {
                        heard = desk.take(conn, bytes, &mut self.hands.counts);
                        if !desk.plain.is_empty() {
                            self.core.handle(now, Input::Bytes { conn, bytes: &mut desk.plain });
                        }
                    }
                    _ => self.core.handle(now, Input::Bytes { conn, bytes }),
                }
            }
            self.hands.ring.buffers.give_back(picked);
        }
        match heard {
            Heard::On => {}
            Heard::Clear => self.hands.speak_in_clear(conn),
            Heard::Ended => self.end(now, conn, Ended::Eof),
            Heard::Broken => self.end(now, conn, Ended::Reset),
        }
        let wanted = wanted && !matches!(heard, Heard::Ended | Heard::Broken);
        if completion.more() {
            return Ok(());
        }
        match (-completion.result, wanted) {
            (libc::ENOBUFS, _) => {
                self.hands.counts.buffers_exhausted += 1;
                if let Some(socket) = self.hands.sockets.find(conn).filter(|socket| !socket.has(RELEASED | ENDED)) {
                    socket.set(STARVED);
                    self.hands.starved.push_back(conn);
                }
            }
            (0, true) => self.end(now, conn, Ended::Eof),
            // It ended because the completion queue was full, or for want of memory; the connection is well.
            (..=-1 | libc::ECANCELED | libc::EAGAIN | libc::EINTR | libc::ENOMEM, true) => self.hands.receive(conn)?,
            (_, true) => self.end(now, conn, Ended::Reset),
            (_, false) => {}
        }
        self.hands.close_if_done(conn);
        Ok(())
    }

    fn accepted(&mut self, now: Now, completion: Completion) -> io::Result<()> {
        let ended = !completion.more();
        let accepted = completion.into_accepted();
        if ended {
            self.accept_again(now, accepted.as_ref().err().copied())?;
        }
        let accepted = accepted.map_err(|_| ()).and_then(|fd| {
            if self.drain.has_begun {
                hears(fd.as_fd()).map_err(|_| ())?;
            }
            Ok((peer(&fd).map_err(|_| ())?, fd))
        });
        match accepted {
            Ok(_) if self.hands.stopping => {}
            Ok((peer, fd)) => {
                self.hands.counts.accepts += 1;
                let conn = self.hands.sockets.insert(Some(fd));
                self.hands.expect_session(conn);
                self.core.handle(now, Input::Opened { conn, peer });
                self.hands.receive(conn)?;
            }
            Err(()) if self.hands.stopping => {}
            Err(()) => self.hands.counts.accept_errors += 1,
        }
        Ok(())
    }

    /// The accept has ended, for an error or without one.
    fn accept_again(&mut self, now: Now, error: Option<i32>) -> io::Result<()> {
        self.hands.listening = match std::mem::replace(&mut self.hands.listening, Listening::Off) {
            Listening::On(listener) => match error {
                // accept(2): the error may be that of the connection, not of the listener.
                None | Some(libc::ECONNABORTED | libc::EPROTO | libc::EAGAIN | libc::EINTR | libc::ECANCELED) => {
                    self.hands.ring.accept(listener.as_fd())?;
                    Listening::On(listener)
                }
                // No descriptor, no memory, or something unforeseen: it would only fail again at once.
                Some(error) => {
                    if now.mono_ms >= self.warn_at {
                        self.warn_at = now.mono_ms + limits::WARN_MS;
                        let error = io::Error::from_raw_os_error(error);
                        tracing::warn!(%error, "new connections have to wait");
                    }
                    self.hands.descriptor_freed = false;
                    Listening::Paused(listener, now.mono_ms + limits::ACCEPT_RETRY_MS)
                }
            },
            // Closing, or off already.
            _ => Listening::Off,
        };
        Ok(())
    }

    fn writable(&mut self, now: Now, conn: ConnId) -> io::Result<()> {
        let Some(socket) = self.hands.sockets.find(conn) else { return Ok(()) };
        socket.clear(BLOCKED);
        if socket.has(RELEASED) {
            self.hands.close_if_done(conn);
        } else if socket.has(SESSION) {
            // What waits there goes first.
            self.hands.look_after(conn);
        } else {
            // Broken is writable too: the next send tells.
            self.core.handle(now, Input::Writable { conn });
        }
        Ok(())
    }

    fn connected(&mut self, now: Now, conn: ConnId, result: i32) -> io::Result<()> {
        let Some(socket) = self.hands.sockets.find(conn) else { return Ok(()) };
        socket.clear(CONNECTING);
        match (result, self.hands.target) {
            (0.., Some(target)) => {
                self.hands.counts.connects += 1;
                self.hands.expect_session(conn);
                self.core.handle(now, Input::Opened { conn, peer: target.ip() });
                self.hands.receive(conn)
            }
            _ => {
                self.connect_failed(now, conn);
                Ok(())
            }
        }
    }

    /// The core never knew this connection, so it is not the core that forgets it.
    pub(super) fn connect_failed(&mut self, now: Now, conn: ConnId) {
        self.hands.counts.connects_failed += 1;
        self.hands.forget(conn);
        self.core.handle(now, Input::Ended { conn, how: Ended::ConnectFailed });
    }

    /// Tells the core, once, that no more bytes will come.
    pub(super) fn end(&mut self, now: Now, conn: ConnId, how: Ended) {
        if let Some(socket) = self.hands.sockets.find(conn)
            && !socket.has(ENDED | RELEASED)
        {
            socket.set(ENDED);
            self.core.handle(now, Input::Ended { conn, how });
        }
    }
}
