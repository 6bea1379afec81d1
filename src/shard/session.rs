//! A connection's life from its first byte to its last: upgrade, WebSocket messages, liveness, closing.

use std::net::IpAddr;

use crate::limits;
use crate::turn::{ConnId, Ended, Now};
use crate::wire::error::ErrorCode;
use crate::wire::event::{Event, Status};
use crate::wire::frame::{Opcode, Role};
use crate::wire::message::{Message, ProtocolError};
use crate::wire::slim;
use crate::wire::upgrade::{self, Request};

use super::auth::Wants;
use super::census::ControlIn;
use super::close::{CloseReason, Refused};
use super::conns::{Conn, Dialect, Phase};
use super::{Shard, Timer};

/// When to come again for who was refused for a reason that has no time of its own.
const FULL_RETRY_S: u64 = 5;

impl Shard {
    /// A connection is there. `private`: it came to the private address.
    pub(super) fn opened(&mut self, now: Now, id: ConnId, peer: IpAddr, private: bool) {
        self.out.counters.connections_opened += 1;
        let full = self.out.conns.let_in() >= self.config.limits.conns_per_worker_max as usize;
        let world = self.auth.first_world();
        self.out.conns.insert(id, Conn { heard_ms: now.mono_ms, world, private, ..Conn::default() });
        if full || self.stopping {
            self.refuse(now, id, if full { Refused::Full } else { Refused::Stopping }, FULL_RETRY_S);
            return;
        }
        // Whoever reaches the private address is the operator.
        if !private && let Err(refused) = self.admission.open(id, peer) {
            self.refuse(now, id, refused, FULL_RETRY_S);
            return;
        }
        let conns = &self.out.conns;
        if let Some(oldest) = self.admission.wait_for_request(id, |id| conns.waits_for_request(id))
            && conns.waits_for_request(oldest)
        {
            self.refuse(now, oldest, Refused::HalfOpen, FULL_RETRY_S);
        }
        self.out.timers.set(now.mono_ms + self.config.limits.handshake_ms_max, Timer::Head(id));
    }

    /// Does not let somebody in, and says when to come again.
    fn refuse(&mut self, now: Now, id: ConnId, refused: Refused, retry_s: u64) {
        self.out.counters.refused.increment(refused);
        if !self.out.conns.turn_away(id) {
            self.out.counters.closes.increment(CloseReason::Refused);
            self.out.release(id);
            return;
        }
        let (status, body) = match refused {
            Refused::Address => (429, &br#"{"error":"too_many_connections"}"#[..]),
            Refused::Rate | Refused::HalfOpen => (503, &br#"{"error":"busy"}"#[..]),
            Refused::Full | Refused::Stopping => (503, &br#"{"error":"full"}"#[..]),
            // Those are answered in HTTP where they are found; and who speaks something else would not understand it.
            Refused::Host | Refused::ProxyHeader => (0, &b""[..]),
        };
        if status > 0 {
            let retry_s = retry_s.to_string();
            let headers = [("Retry-After", retry_s.as_str())];
            self.out.bytes(id, |out| upgrade::reply(out, status, "application/json", &headers, false, body));
        }
        self.out.finish(now, id, CloseReason::Refused);
    }

    pub(super) fn bytes(&mut self, now: Now, id: ConnId, bytes: &mut [u8]) {
        let Some(conn) = self.out.conns.find(id) else { return };
        match conn.phase {
            Phase::Open => self.messages(now, id, bytes),
            Phase::Upgrading => match conn.passing.take() {
                None => self.beginning(now, id, bytes),
                Some(mut passing) => {
                    passing.head.extend_from_slice(bytes);
                    self.beginning(now, id, &mut passing.head);
                }
            },
            // RFC 6455, section 1.4: "After sending a control frame indicating the connection should be closed, a peer
            // does not send any further data" and what it receives is discarded.
            Phase::Gathering | Phase::Closing => {}
        }
    }

    /// Everything that came so far: a proxy's header, if one is due, and a request head.
    fn beginning(&mut self, now: Now, id: ConnId, bytes: &mut [u8]) {
        match self.admission.header(now, id, bytes) {
            Ok(Some(used)) if used < bytes.len() => self.request(now, id, &mut bytes[used..]),
            Ok(Some(_)) => {}
            Ok(None) => self.keep_head(id, bytes),
            Err(refused) => self.refuse(now, id, refused, FULL_RETRY_S),
        }
    }

    /// Keeps what came until the rest is there.
    fn keep_head(&mut self, id: ConnId, bytes: &[u8]) {
        if let Some(conn) = self.out.conns.find(id) {
            conn.passing.get_or_insert_default().head = bytes.to_vec();
        }
    }

    /// Everything that came so far of a request head.
    fn request(&mut self, now: Now, id: ConnId, bytes: &mut [u8]) {
        let parsed = upgrade::parse(bytes);
        if let Ok(Some((_, used))) = parsed
            && let Err(refused) = self.admission.request(id, &bytes[..used])
        {
            self.refuse(now, id, refused, FULL_RETRY_S);
            return;
        }
        let (used, dialect) = match parsed {
            Ok(None) => {
                self.keep_head(id, bytes);
                return;
            }
            Err(refusal) => {
                self.out.bytes(id, |out| upgrade::refuse(out, refusal));
                self.out.finish(now, id, CloseReason::Refused);
                return;
            }
            Ok(Some((Request::Plain(request), _))) => {
                self.out.counters.http_requests += 1;
                if !self.host_is_known(now, id, request.host, request.head_only) {
                    return;
                }
                self.answer(now, id, &request);
                return;
            }
            Ok(Some((Request::Upgrade(request), used))) => {
                if !self.host_is_known(now, id, Some(request.host), false) {
                    return;
                }
                if request.path != self.config.server.path {
                    self.reply(now, id, 404, request.origin, false, br#"{"error":"not_found"}"#);
                    return;
                }
                if !self.origin_is_allowed(request.origin) {
                    self.reply(now, id, 403, None, false, br#"{"error":"origin_not_allowed"}"#);
                    return;
                }
                // Before a signature is checked: that may take a tenth of a millisecond.
                if let Err(retry_s) = self.admission.accept(now) {
                    self.refuse(now, id, Refused::Rate, retry_s);
                    return;
                }
                // Without one, it may still come with the first message.
                let token = upgrade::token(request.authorization, request.query);
                if token.is_some()
                    && let Err(fault) = self.authorize(now, id, token, Wants::Enter)
                {
                    self.out.counters.tokens_refused.increment(fault);
                    let mut headers = self.cors(id, request.origin);
                    // RFC 6750, section 3.1: a token that is no good, and one that is good for something else.
                    let status = if fault.is_forbidden() { 403 } else { 401 };
                    if status == 401 {
                        headers.push(("WWW-Authenticate", r#"Bearer error="invalid_token""#.to_owned()));
                    }
                    let body = format!("{{\"error\":\"auth_failed\",\"message\":\"{}\"}}", fault.message());
                    self.send_reply(now, id, status, "application/json", &headers, false, body.as_bytes());
                    return;
                }
                let slim = request.offers(slim::SUBPROTOCOL);
                self.out.bytes(id, |out| upgrade::accept(out, &request, slim.then_some(slim::SUBPROTOCOL)));
                (used, if slim { Dialect::Slim } else { Dialect::V2vJson })
            }
        };
        let Some(conn) = self.out.conns.find(id) else { return };
        conn.phase = Phase::Open;
        self.out.counters.upgrades.increment(dialect);
        conn.dialect = Some(dialect);
        let world = &mut self.worlds[conn.world];
        conn.cursor = world.log.head();
        conn.watcher = (dialect == Dialect::Slim).then(|| world.watchers.add(id));
        conn.heard_ms = now.mono_ms;
        let conns = &self.out.conns;
        self.admission.forget_waiting(|id| conns.waits_for_request(id));
        let session = self.ids.next_uuid();
        self.out.event(now, id, &Event::Connected { ts: now.unix_ms, session });
        self.send_away_if_draining(now, id);
        self.await_token(now, id);
        if !self.head_is_due_before_silence() {
            self.look_for_silence(now.mono_ms + self.config.vehicles.ping_ms, id);
        }
        if used < bytes.len() {
            self.messages(now, id, &mut bytes[used..]);
        }
    }

    pub(super) fn origin_is_allowed(&self, origin: Option<&str>) -> bool {
        let allowed = &self.config.server.allowed_origins;
        match origin {
            None => true,
            Some(_) if allowed.is_empty() => true,
            Some(origin) => allowed.iter().any(|one| one.eq_ignore_ascii_case(origin)),
        }
    }

    fn messages(&mut self, now: Now, id: ConnId, bytes: &mut [u8]) {
        let Some(conn) = self.out.conns.find(id) else { return };
        let mut decoder = std::mem::take(&mut conn.decoder);
        let message_bytes_max = self.config.limits.message_bytes_max as usize;
        let mut at = 0;
        loop {
            match decoder.decode(Role::Server, message_bytes_max, &mut bytes[at..]) {
                Err(error) => {
                    self.violated(now, id, error);
                    return;
                }
                Ok((_, None)) => break,
                Ok((used, Some(message))) => {
                    at += used;
                    if !self.message_arrived(now, id, message) {
                        return;
                    }
                }
            }
        }
        if let Some(conn) = self.out.conns.find(id) {
            conn.decoder = decoder;
        }
    }

    /// False once the connection takes no more messages.
    fn message_arrived(&mut self, now: Now, id: ConnId, message: Message<'_>) -> bool {
        let Some(conn) = self.out.conns.find(id) else { return false };
        conn.heard_ms = now.mono_ms;
        let dialect = conn.dialect;
        match message {
            Message::Binary(report) if dialect == Some(Dialect::Slim) => {
                self.count_in(report);
                self.state_message(now, id, report);
            }
            // Existing servers read JSON from binary messages too, so clients may send it that way.
            Message::Text(text) | Message::Binary(text) => {
                self.count_in(text);
                self.v2v_message(now, id, text);
            }
            // RFC 6455, section 5.5.3: "A Pong frame sent in response to a Ping frame must have identical 'Application
            // data' as found in the message body of the Ping frame being replied to."
            Message::Ping(payload) => {
                self.out.counters.control_in.increment(ControlIn::Ping);
                self.out.control(now, id, Opcode::Pong, payload);
            }
            Message::Pong(_) => self.out.counters.control_in.increment(ControlIn::Pong),
            Message::Close { code, .. } => {
                self.out.counters.control_in.increment(ControlIn::Close);
                // RFC 6455, section 5.5.1: "When sending a Close frame in response, the endpoint typically echos the
                // status code it received."
                let echoed = code.map(u16::to_be_bytes);
                self.out.control(now, id, Opcode::Close, echoed.as_ref().map_or(&[][..], |code| code));
                self.depart(now, id, Status::Offline);
                self.out.finish(now, id, CloseReason::ClientClosed);
                return false;
            }
        }
        self.out.conns.find(id).is_some_and(|conn| matches!(conn.phase, Phase::Open))
    }

    fn count_in(&mut self, message: &[u8]) {
        self.out.counters.messages_in += 1;
        self.out.counters.messages_in_bytes += message.len() as u64;
    }

    fn violated(&mut self, now: Now, id: ConnId, error: ProtocolError) {
        let reason = match error {
            ProtocolError::TooBig => {
                self.error(now, id, ErrorCode::TooLarge, "the message exceeds message_bytes_max");
                CloseReason::TooBig
            }
            ProtocolError::Utf8 => CloseReason::InvalidUtf8,
            _ => CloseReason::Protocol,
        };
        self.close(now, id, reason, Status::Offline);
    }

    /// Closes a connection from our side.
    pub(super) fn close(&mut self, now: Now, id: ConnId, reason: CloseReason, status: Status) {
        self.depart(now, id, status);
        self.out.close_frame(now, id, reason);
    }

    pub(super) fn ended(&mut self, now: Now, id: ConnId, how: Ended) {
        let Some(conn) = self.out.conns.find(id) else { return };
        conn.ended = true;
        let reads_on = match conn.phase {
            // A client that only shut its sending side still reads the reply.
            Phase::Gathering => how == Ended::Eof,
            Phase::Closing => how == Ended::Eof && (conn.finishing || conn.blocked),
            Phase::Upgrading | Phase::Open => false,
        };
        if !reads_on && !matches!(conn.phase, Phase::Closing) {
            self.out.counters.closes.increment(CloseReason::Reset);
        }
        // Also of a connection that reads on: closed for being slow, it may be released before `lost` comes to it.
        self.depart(now, id, Status::Offline);
        if !reads_on {
            self.out.release(id);
        }
    }

    /// How long a connection has said nothing decides: nothing, a ping, or its end.
    pub(super) fn check_silence(&mut self, now: Now, id: ConnId) {
        let vehicles = &self.config.vehicles;
        let (ping_ms, timeout_ms) = (vehicles.ping_ms, vehicles.heartbeat_timeout_ms);
        let Some(conn) = self.out.conns.find(id) else { return };
        if !matches!(conn.phase, Phase::Open) {
            return;
        }
        let silent_ms = now.mono_ms - conn.heard_ms.min(now.mono_ms);
        if silent_ms >= timeout_ms {
            self.close(now, id, CloseReason::Timeout, Status::Timeout);
        } else if silent_ms >= ping_ms {
            self.out.control(now, id, Opcode::Ping, b"");
            let left_ms = timeout_ms - silent_ms;
            if left_ms <= ping_ms {
                self.out.timers.set(now.mono_ms + left_ms, Timer::Silence(id));
            } else {
                self.look_for_silence(now.mono_ms + ping_ms, id);
            }
        } else {
            self.look_for_silence(now.mono_ms + ping_ms - silent_ms, id);
        }
    }

    /// About then, a connection may have to be pinged.
    fn look_for_silence(&mut self, due_ms: u64, id: ConnId) {
        let slack_ms = self.config.vehicles.ping_ms / limits::REST_SLACK_PART;
        self.out.timers.set_about(due_ms, slack_ms, Timer::Silence(id));
    }

    /// The timer of a request head outlives its upgrade: while it comes before anybody can have been silent for long, it
    /// is the first look at that too, and a connection has one timer and not two.
    fn head_is_due_before_silence(&self) -> bool {
        self.config.limits.handshake_ms_max <= self.config.vehicles.ping_ms
    }

    /// A request head that is still not complete will not be waited for.
    pub(super) fn check_head(&mut self, now: Now, id: ConnId) {
        if self.head_is_due_before_silence() {
            self.check_silence(now, id);
        }
        if self.out.conns.find(id).is_some_and(|conn| matches!(conn.phase, Phase::Upgrading)) {
            self.out
                .bytes(id, |out| upgrade::reply(out, 408, "text/plain", &[], false, b"no complete request in time\n"));
            self.out.finish(now, id, CloseReason::HandshakeTimeout);
        }
    }

    /// A slow reader's connection has been closed by the fan-out; its vehicle follows.
    pub(super) fn lost(&mut self, now: Now, id: ConnId) {
        self.depart(now, id, Status::Offline);
    }

    /// Says goodbye to everyone, at once.
    pub(super) fn stop(&mut self, now: Now) {
        self.stopping = true;
        let ids: Vec<ConnId> = self.out.conns.ids().collect();
        self.part_with(now, &ids);
        for id in ids {
            if self.out.conns.peek(id).is_some_and(|conn| matches!(conn.phase, Phase::Upgrading)) {
                self.out.finish(now, id, CloseReason::Shutdown);
            }
        }
    }
}
