//! The HTTP/1.1 request that every connection begins with, and the replies to it (RFC 6455, section 4; RFC 9112).
//!
//! One request per connection: it becomes a WebSocket, or it is answered and the connection closes. What a path or an
//! origin means is not known here.

use std::io::Write;

use data_encoding::BASE64;
use httparse::{EMPTY_HEADER, Header, Status};
use sha1::{Digest, Sha1};

use crate::limits::{REQUEST_HEAD_BYTES_MAX, REQUEST_HEADERS_MAX};

/// A whole request head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// A valid opening handshake: answer it with [`accept`], or not with 101.
    Upgrade(Upgrade<'a>),
    /// Anything else, without a body: answer it with [`reply`].
    Plain(Plain<'a>),
}

/// A client's opening handshake (RFC 6455, section 4.2.1). Extensions are not kept: none is supported, and RFC 6455
/// declines by silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upgrade<'a> {
    /// The target up to its `?`.
    pub path: &'a str,
    /// The target after its `?`, or nothing.
    pub query: &'a str,
    /// `Host`, as sent.
    pub host: &'a str,
    /// The page that opens the connection; browsers always say.
    pub origin: Option<&'a str>,
    /// `Authorization`, as sent.
    pub authorization: Option<&'a str>,
    /// The subprotocols that the client offers.
    pub protocols: Protocols<'a>,
    /// The `Sec-WebSocket-Accept` that the client expects.
    pub accept: [u8; 28],
}

impl Plain<'_> {
    /// Whether the client has the version of the answer that `tag` names, quotes included. RFC 9110, section 13.1.2: "A
    /// recipient MUST use the weak comparison function when comparing entity tags for If-None-Match".
    pub fn has(&self, tag: &str) -> bool {
        let same = |given: &str| given == "*" || given.strip_prefix("W/").unwrap_or(given) == tag;
        self.if_none_match.is_some_and(|list| tokens(list).any(same))
    }
}

impl Upgrade<'_> {
    /// Whether the client offers this subprotocol. Their names are case-sensitive.
    pub fn offers(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|offered| offered == protocol)
    }
}

/// `Sec-WebSocket-Protocol`. RFC 6455, section 11.3.4: it "MAY appear multiple times in an HTTP request (which is
/// logically the same as a single |Sec-WebSocket-Protocol| header field that contains all values)".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protocols<'a> {
    /// As sent; what is beyond the last one counts as not offered.
    lines: [&'a str; PROTOCOL_LINES_MAX],
    count: usize,
}

/// Nobody is known to spread subprotocols over lines at all.
const PROTOCOL_LINES_MAX: usize = 4;

impl<'a> Protocols<'a> {
    /// Their names, in the order in which they were sent.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> {
        self.lines.into_iter().take(self.count).flat_map(tokens).filter(|name| !name.is_empty())
    }

    fn add(&mut self, line: &'a str) {
        if let Some(next) = self.lines.get_mut(self.count) {
            *next = line;
            self.count += 1;
        }
    }
}

/// A request that is not a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain<'a> {
    /// In capitals, as HTTP has it.
    pub method: &'a str,
    /// The target up to its `?`.
    pub path: &'a str,
    /// The target after its `?`, or nothing.
    pub query: &'a str,
    /// `Host`, as sent; absent in HTTP/1.0 only.
    pub host: Option<&'a str>,
    /// The page that asks, if it is not its own origin.
    pub origin: Option<&'a str>,
    /// `Authorization`, as sent.
    pub authorization: Option<&'a str>,
    /// Which versions of the answer the client has already: a list of entity tags, as sent.
    pub if_none_match: Option<&'a str>,
    /// The method is HEAD: the reply has a body's headers and no body.
    pub head_only: bool,
}

/// Why a request is not served, whatever it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not HTTP, or a header that makes no sense.
    Malformed,
    /// `Host` is absent or there twice.
    Host,
    /// A handshake whose `Upgrade` does not name `websocket`.
    Upgrade,
    /// A handshake whose `Connection` does not name `upgrade`.
    Connection,
    /// A handshake whose `Sec-WebSocket-Key` is not 16 bytes in base64.
    Key,
    /// A handshake that is not a GET.
    Method,
    /// A request with a body.
    Body,
    /// A request line that fills the head.
    TargetTooLong,
    /// A head of too many bytes or lines.
    HeadTooLarge,
    /// A handshake of another WebSocket version than 13.
    WebSocketVersion,
    /// Not HTTP/1.0 or 1.1, or a handshake in 1.0.
    HttpVersion,
}

impl Refusal {
    /// The status code of the reply.
    pub const fn status(self) -> u16 {
        match self {
            Refusal::Malformed | Refusal::Host | Refusal::Upgrade | Refusal::Connection | Refusal::Key => 400,
            Refusal::Method => 405,
            Refusal::Body => 413,
            Refusal::TargetTooLong => 414,
            Refusal::WebSocketVersion => 426,
            Refusal::HeadTooLarge => 431,
            Refusal::HttpVersion => 505,
        }
    }

    /// What the reply says, and its body.
    pub const fn reason(self) -> &'static str {
        match self {
            Refusal::Malformed => "malformed request",
            Refusal::Host => "exactly one Host header is needed",
            Refusal::Upgrade => "the Upgrade header must name websocket; does a proxy remove it?",
            Refusal::Connection => "the Connection header must name Upgrade; does a proxy remove it?",
            Refusal::Key => "Sec-WebSocket-Key must be 16 bytes in base64",
            Refusal::Method => "a WebSocket begins with GET",
            Refusal::Body => "requests with a body are not accepted",
            Refusal::TargetTooLong => "request target too long",
            Refusal::HeadTooLarge => "request head too large",
            Refusal::WebSocketVersion => "WebSocket version 13 is needed",
            Refusal::HttpVersion => "HTTP/1.1 is needed",
        }
    }
}

/// Reads one request head from the front of `bytes`: the request and how many bytes it took, `None` if more are needed.
pub fn parse(bytes: &[u8]) -> Result<Option<(Request<'_>, usize)>, Refusal> {
    let bytes = &bytes[..bytes.len().min(REQUEST_HEAD_BYTES_MAX)];
    let mut headers = [EMPTY_HEADER; REQUEST_HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let used = match head.parse(bytes) {
        Ok(Status::Complete(used)) => used,
        Ok(Status::Partial) if bytes.len() < REQUEST_HEAD_BYTES_MAX => return Ok(None),
        Ok(Status::Partial) if head.version.is_none() => return Err(Refusal::TargetTooLong),
        Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadTooLarge),
        Err(httparse::Error::Version) => return Err(Refusal::HttpVersion),
        Err(_) => return Err(Refusal::Malformed),
    };
    let (Some(method), Some(target), Some(version)) = (head.method, head.path, head.version) else {
        return Err(Refusal::Malformed);
    };
    let (path, query) = path_and_query(target);
    let fields = Fields::read(head.headers)?;

    // RFC 9112, section 3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request
    // message that lacks a Host header field and to any request message that contains more than one".
    if fields.hosts > 1 || fields.hosts == 0 && version == 1 {
        return Err(Refusal::Host);
    }
    if fields.has_body {
        return Err(Refusal::Body);
    }
    if !fields.upgrade && fields.key.is_none() {
        let Fields { host, origin, authorization, if_none_match, .. } = fields;
        let head_only = method == "HEAD";
        let plain = Plain { method, path, query, host, origin, authorization, if_none_match, head_only };
        return Ok(Some((Request::Plain(plain), used)));
    }

    // RFC 6455, section 4.2.1: "An HTTP/1.1 or higher GET request", and the headers in the order they are listed there.
    if version == 0 {
        return Err(Refusal::HttpVersion);
    }
    if method != "GET" {
        return Err(Refusal::Method);
    }
    if !fields.upgrade {
        return Err(Refusal::Upgrade);
    }
    if !fields.connection {
        return Err(Refusal::Connection);
    }
    // RFC 6455, section 4.4: a server that does not speak the client's version answers with those it does. Before the
    // key, because older drafts had another kind of key.
    if fields.version != Some("13") {
        return Err(Refusal::WebSocketVersion);
    }
    let Some(key) = fields.key.filter(|key| is_key(key)) else { return Err(Refusal::Key) };
    let Fields { host, origin, authorization, protocols, .. } = fields;
    let host = host.unwrap_or_default();
    let upgrade = Upgrade { path, query, host, origin, authorization, protocols, accept: accept_key(key) };
    Ok(Some((Request::Upgrade(upgrade), used)))
}

/// What we read of a head's fields.
#[derive(Default)]
struct Fields<'a> {
    hosts: usize,
    host: Option<&'a str>,
    has_body: bool,
    upgrade: bool,
    connection: bool,
    key: Option<&'a str>,
    version: Option<&'a str>,
    origin: Option<&'a str>,
    authorization: Option<&'a str>,
    if_none_match: Option<&'a str>,
    protocols: Protocols<'a>,
    extensions: bool,
    accept: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn read(headers: &[Header<'a>]) -> Result<Fields<'a>, Refusal> {
        let mut fields = Fields::default();
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            let text = || std::str::from_utf8(header.value).map(str::trim_ascii).map_err(|_| Refusal::Malformed);
            // A list may be spread over several lines; what is not a list may not.
            let once = |field: &mut Option<&'a str>, refusal| match field.replace(text()?) {
                Some(_) => Err(refusal),
                None => Ok(()),
            };
            if is("host") {
                fields.hosts += 1;
                fields.host = Some(text()?);
            } else if is("upgrade") {
                fields.upgrade |= tokens(text()?).any(|token| token.eq_ignore_ascii_case("websocket"));
            } else if is("connection") {
                fields.connection |= tokens(text()?).any(|token| token.eq_ignore_ascii_case("upgrade"));
            } else if is("sec-websocket-key") {
                once(&mut fields.key, Refusal::Key)?;
            } else if is("sec-websocket-version") {
                once(&mut fields.version, Refusal::WebSocketVersion)?;
            } else if is("sec-websocket-accept") {
                once(&mut fields.accept, Refusal::Malformed)?;
            } else if is("origin") {
                once(&mut fields.origin, Refusal::Malformed)?;
            } else if is("authorization") {
                once(&mut fields.authorization, Refusal::Malformed)?;
            } else if is("if-none-match") {
                // Who has none of those that we understand is sent the whole.
                fields.if_none_match = text().ok();
            } else if is("sec-websocket-protocol") {
                fields.protocols.add(text()?);
            } else if is("sec-websocket-extensions") {
                fields.extensions |= !header.value.trim_ascii().is_empty();
            } else if is("transfer-encoding") {
                fields.has_body = true;
            } else if is("content-length") {
                let digits = header.value.trim_ascii();
                if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                    return Err(Refusal::Malformed);
                }
                fields.has_body |= digits.iter().any(|digit| *digit != b'0');
            }
        }
        Ok(fields)
    }
}

/// The token that a request brings: RFC 6750, section 2.1, `Authorization: Bearer TOKEN`; or, for browsers, which cannot
/// set that header on a WebSocket, `?token=TOKEN`. The header counts if there are both.
pub fn token<'a>(authorization: Option<&'a str>, query: &'a str) -> Option<&'a str> {
    // RFC 9110, section 11.1: the scheme is case-insensitive.
    let bearer = authorization.and_then(|credentials| {
        let (scheme, token) = credentials.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_ascii())
    });
    bearer.or_else(|| parameter(query, "token"))
}

/// A parameter of a query, as sent. One that is empty counts as absent.
pub fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).filter(|value| !value.is_empty())
}

fn tokens(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim_ascii)
}

fn path_and_query(target: &str) -> (&str, &str) {
    // RFC 9112, section 3.2.2: "a server MUST accept the absolute-form in requests".
    let local = match target.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            rest.find(['/', '?']).map_or("/", |start| &rest[start..])
        }
        _ => target,
    };
    match local.split_once('?') {
        Some(("", query)) => ("/", query),
        Some((path, query)) => (path, query),
        None => (local, ""),
    }
}

/// RFC 6455, section 4.2.1: in base64, a "value that, when decoded, is 16 bytes in length". The four bits that are left
/// over in the last character may be anything; some clients draw the characters at random.
fn is_key(key: &str) -> bool {
    key.len() == 24
        && key.ends_with("==")
        && key.bytes().take(22).all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455, section 4.2.2).
pub fn accept_key(key: &str) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    let mut accept = [0; 28];
    BASE64.encode_mut(&digest, &mut accept);
    accept
}

/// Appends the reply that turns the connection into a WebSocket. A protocol that the client did not offer is left out,
/// since RFC 6455, section 4.1 has the client fail the connection over it.
pub fn accept(out: &mut Vec<u8>, upgrade: &Upgrade<'_>, protocol: Option<&str>) {
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
    out.extend_from_slice(b"Sec-WebSocket-Accept: ");
    out.extend_from_slice(&upgrade.accept);
    out.extend_from_slice(b"\r\n");
    if let Some(protocol) = protocol.filter(|protocol| upgrade.offers(protocol)) {
        field(out, "Sec-WebSocket-Protocol", protocol);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the whole reply to a request that is not served. The connection is to be closed after it.
pub fn refuse(out: &mut Vec<u8>, refusal: Refusal) {
    let extra_headers: &[(&str, &str)] = match refusal {
        Refusal::Method => &[("Allow", "GET")],
        // RFC 9110, section 15.5.22: "The server MUST send an Upgrade header field in a 426 response", and section 7.8:
        // its sender "MUST also send an "Upgrade" connection option".
        Refusal::WebSocketVersion => {
            &[("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
        }
        _ => &[],
    };
    let body = [refusal.reason(), "\n"].concat();
    reply(out, refusal.status(), "text/plain", extra_headers, false, body.as_bytes());
}

/// Appends a reply with a body, after which the connection is to be closed. With `head_only`, the body is announced and
/// left out. Control characters in headers are left out too, so nothing that a client sent can add a header.
pub fn reply(
    out: &mut Vec<u8>,
    status: u16,
    content_type: &str,
    extra_headers: &[(&str, &str)],
    head_only: bool,
    body: &[u8],
) {
    // Writing to a Vec does not fail.
    let _ = write!(out, "HTTP/1.1 {status} {}\r\nConnection: close\r\n", phrase(status));
    // RFC 9110, section 8.6: "A server MUST NOT send a Content-Length header field in any response with a status code
    // of 1xx (Informational) or 204 (No Content)."
    if status != 204 {
        let _ = write!(out, "Content-Length: {}\r\n", body.len());
        field(out, "Content-Type", content_type);
    }
    for (name, value) in extra_headers {
        field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
    if !head_only {
        out.extend_from_slice(body);
    }
}

fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    debug_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
    visible(out, name);
    out.extend_from_slice(b": ");
    visible(out, value);
    out.extend_from_slice(b"\r\n");
}

fn visible(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().filter(|byte| !byte.is_ascii_control()));
}

const fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        // RFC 9112, section 4: the phrase may be absent.
        _ => "",
    }
}

/// Why a server's answer to our handshake is not the one we need (RFC 6455, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Not an HTTP/1.1 reply, or a header that makes no sense.
    #[error("malformed reply")]
    Malformed,
    /// A head of too many bytes or lines.
    #[error("reply head too large")]
    TooLarge,
    /// Another status than 101.
    #[error("status {0}")]
    Status(u16),
    /// `Upgrade` does not name `websocket`.
    #[error("reply without Upgrade: websocket")]
    Upgrade,
    /// `Connection` does not name `upgrade`.
    #[error("reply without Connection: Upgrade")]
    Connection,
    /// `Sec-WebSocket-Accept` is not the one that belongs to our key.
    #[error("wrong Sec-WebSocket-Accept")]
    Accept,
    /// An extension that we did not ask for.
    #[error("unwanted extension")]
    Extension,
    /// Not the subprotocol that we asked for, or one although we asked for none.
    #[error("wrong subprotocol")]
    Protocol,
}

/// Appends a client's opening handshake. `key` is 16 random bytes in base64.
pub fn request(out: &mut Vec<u8>, host: &str, path: &str, key: &[u8; 24], protocol: Option<&str>) {
    out.extend_from_slice(b"GET ");
    out.extend(path.bytes().filter(u8::is_ascii_graphic));
    out.extend_from_slice(b" HTTP/1.1\r\n");
    field(out, "Host", host);
    out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
    out.extend_from_slice(b"Sec-WebSocket-Key: ");
    out.extend_from_slice(key);
    out.extend_from_slice(b"\r\n");
    if let Some(protocol) = protocol {
        field(out, "Sec-WebSocket-Protocol", protocol);
    }
    out.extend_from_slice(b"\r\n");
}

/// Reads the server's answer from the front of `bytes`: how many bytes it took, `None` if more are needed. WebSocket
/// frames may follow at once. `protocol` is what [`request`] asked for, and nothing else will do.
pub fn parse_reply(
    bytes: &[u8],
    expected_accept: &[u8; 28],
    protocol: Option<&str>,
) -> Result<Option<usize>, ReplyError> {
    let bytes = &bytes[..bytes.len().min(REQUEST_HEAD_BYTES_MAX)];
    let mut headers = [EMPTY_HEADER; REQUEST_HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let used = match head.parse(bytes) {
        Ok(Status::Complete(used)) => used,
        Ok(Status::Partial) if bytes.len() < REQUEST_HEAD_BYTES_MAX => return Ok(None),
        Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => return Err(ReplyError::TooLarge),
        Err(_) => return Err(ReplyError::Malformed),
    };
    match head.code {
        Some(101) => {}
        Some(status) => return Err(ReplyError::Status(status)),
        None => return Err(ReplyError::Malformed),
    }
    let fields = Fields::read(head.headers).map_err(|_| ReplyError::Malformed)?;
    if !fields.upgrade {
        return Err(ReplyError::Upgrade);
    }
    if !fields.connection {
        return Err(ReplyError::Connection);
    }
    if fields.accept.map(str::as_bytes) != Some(expected_accept) {
        return Err(ReplyError::Accept);
    }
    if fields.extensions {
        return Err(ReplyError::Extension);
    }
    if !fields.protocols.iter().eq(protocol) {
        return Err(ReplyError::Protocol);
    }
    Ok(Some(used))
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};

    use proptest::prelude::*;
    use tungstenite::HandshakeError;

    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &[u8; 28] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    const HANDSHAKE: &str = "GET /v2v?token=a?b HTTP/1.1\r\n\
        Host: example.org:3002\r\n\
        Upgrade: h2c, WebSocket\r\n\
        Connection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
        Sec-WebSocket-Protocol: chat, ringroad.v1\r\n\
        Origin: https://example.org\r\n\
        \r\n";

    /// The handshake with a part of it replaced; the part must be there.
    fn with(part: &str, by: &str) -> String {
        assert!(HANDSHAKE.contains(part));
        HANDSHAKE.replacen(part, by, 1)
    }

    #[test]
    fn a_token_comes_in_the_header_or_in_the_query() {
        let cases = [
            (None, "", None),
            (None, "token=a.b.c", Some("a.b.c")),
            (None, "x=1&token=a.b.c&y", Some("a.b.c")),
            (None, "token=", None),
            (None, "xtoken=a&tokens=b&token", None),
            (Some("Bearer a.b.c"), "token=d", Some("a.b.c")),
            (Some("bEARER  a.b.c"), "", Some("a.b.c")),
            (Some("Basic dXNlcjpwYXNz"), "token=d", Some("d")),
            (Some("Bearer"), "", None),
        ];
        for (authorization, query, expected) in cases {
            assert_eq!(token(authorization, query), expected, "{authorization:?} ?{query}");
        }
        let bytes = with("Origin:", "Authorization: Bearer x.y.z\r\nOrigin:");
        assert_eq!(upgrade(bytes.as_bytes()).authorization, Some("Bearer x.y.z"));
        let twice = with("Origin:", "Authorization: Bearer x\r\nAuthorization: Bearer y\r\nOrigin:");
        assert_eq!(parse(twice.as_bytes()), Err(Refusal::Malformed));
    }

    fn upgrade(bytes: &[u8]) -> Upgrade<'_> {
        match parse(bytes) {
            Ok(Some((Request::Upgrade(upgrade), used))) if used == bytes.len() => upgrade,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn refused(head: impl AsRef<[u8]>, refusal: Refusal) {
        assert_eq!(parse(head.as_ref()), Err(refusal));
        let mut out = vec![];
        refuse(&mut out, refusal);
        let mut headers = [EMPTY_HEADER; 16];
        let mut reply = httparse::Response::new(&mut headers);
        assert!(reply.parse(&out).unwrap().is_complete());
        assert_eq!(reply.code, Some(refusal.status()));
    }

    #[test]
    fn a_handshake_is_read_whole() {
        let upgrade = upgrade(HANDSHAKE.as_bytes());
        assert_eq!((upgrade.path, upgrade.query), ("/v2v", "token=a?b"));
        assert_eq!(upgrade.origin, Some("https://example.org"));
        assert_eq!(&upgrade.accept, ACCEPT);
        assert!(upgrade.offers("ringroad.v1") && upgrade.offers("chat"));
        assert!(!upgrade.offers("Chat") && !upgrade.offers("") && !upgrade.offers("chat, ringroad.v1"));
        for cut in 0..HANDSHAKE.len() {
            assert_eq!(parse(&HANDSHAKE.as_bytes()[..cut]), Ok(None), "cut at {cut}");
        }
        // Frames may be there already.
        let with_frame = [HANDSHAKE.as_bytes(), b"\x81\x80\0\0\0\0"].concat();
        assert_eq!(parse(&with_frame).unwrap().unwrap().1, HANDSHAKE.len());
    }

    #[test]
    fn offers_may_be_spread_over_lines() {
        let offered = |lines: &str| {
            let head = with("Sec-WebSocket-Protocol: chat, ringroad.v1\r\n", lines);
            upgrade(head.as_bytes()).protocols.iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(offered(""), [""; 0]);
        assert_eq!(offered("Sec-WebSocket-Protocol: chat, ringroad.v1\r\n"), ["chat", "ringroad.v1"]);
        assert_eq!(offered("Sec-WebSocket-Protocol: \r\nsec-websocket-protocol:a ,,\tb,\r\n"), ["a", "b"]);
        let lines =
            |count: usize| (0..count).map(|at| format!("Sec-WebSocket-Protocol: p{at}\r\n")).collect::<String>();
        assert_eq!(offered(&lines(PROTOCOL_LINES_MAX)).last().map(String::as_str), Some("p3"));
        assert_eq!(offered(&lines(PROTOCOL_LINES_MAX + 1)).len(), PROTOCOL_LINES_MAX);
    }

    #[test]
    fn a_client_gets_the_subprotocol_that_it_asks_for_or_none() {
        let mut asked = vec![];
        request(&mut asked, "host", "/v2v", KEY.as_bytes().try_into().unwrap(), Some("ringroad.v1"));
        let agreed = |protocol| {
            let mut reply = vec![];
            accept(&mut reply, &upgrade(&asked), protocol);
            reply
        };
        let (chosen, declined) = (agreed(Some("ringroad.v1")), agreed(None));
        let wrong = Err(ReplyError::Protocol);
        assert_eq!(parse_reply(&chosen, ACCEPT, Some("ringroad.v1")), Ok(Some(chosen.len())));
        assert_eq!(parse_reply(&declined, ACCEPT, None), Ok(Some(declined.len())));
        assert_eq!(parse_reply(&declined, ACCEPT, Some("ringroad.v1")), wrong);
        assert_eq!(parse_reply(&chosen, ACCEPT, Some("ringroad.v2")), wrong);
        assert_eq!(parse_reply(&chosen, ACCEPT, None), wrong);
        let twice = String::from_utf8(chosen).unwrap().replace("ringroad.v1", "ringroad.v1, chat");
        assert_eq!(parse_reply(twice.as_bytes(), ACCEPT, Some("ringroad.v1")), wrong);
    }

    #[test]
    fn handshakes_that_break_a_rule() {
        refused(with("GET", "POST"), Refusal::Method);
        refused(with("HTTP/1.1", "HTTP/1.0"), Refusal::HttpVersion);
        refused(with("HTTP/1.1", "HTTP/2.0"), Refusal::HttpVersion);
        refused(with("Host: example.org:3002\r\n", ""), Refusal::Host);
        refused(with("Host:", "Host: a\r\nHost:"), Refusal::Host);
        refused(with("WebSocket", "h3"), Refusal::Upgrade);
        refused(with("Upgrade: h2c, WebSocket\r\n", ""), Refusal::Upgrade);
        refused(with(", Upgrade", ""), Refusal::Connection);
        refused(with("Connection: keep-alive, Upgrade\r\n", ""), Refusal::Connection);
        refused(with("Version: 13", "Version: 8"), Refusal::WebSocketVersion);
        refused(with("Version: 13", "Version: 13\r\nSec-WebSocket-Version: 13"), Refusal::WebSocketVersion);
        refused(with("Sec-WebSocket-Version: 13\r\n", ""), Refusal::WebSocketVersion);
        refused(with("Key: ", "Nokey: "), Refusal::Key);
        refused(with("ZQ==\r\n", "ZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), Refusal::Key);
        for key in
            ["", "dGhlIHNhbXBsZQ==", "dGhlIHNhbXBsZSBub25jZWU=", "dGhlIHNhbXBs*SBub25jZQ==", "====================="]
        {
            refused(with(KEY, key), Refusal::Key);
        }
        refused(with("Origin: https", "Origin: a\r\nOrigin: https"), Refusal::Malformed);
        let (before, after) = HANDSHAKE.split_once("https").unwrap();
        refused([before.as_bytes(), b"\xFF", after.as_bytes()].concat(), Refusal::Malformed);
    }

    #[test]
    fn requests_that_are_not_handshakes() {
        let plain = |head: &str| match parse(head.as_bytes()).unwrap().unwrap().0 {
            Request::Plain(plain) => (plain.method.to_owned(), plain.path.to_owned(), plain.head_only),
            other => panic!("{other:?}"),
        };
        let get = |path: &str| ("GET".to_owned(), path.to_owned(), false);
        assert_eq!(plain("GET /health HTTP/1.1\r\nHost: a\r\nX: \u{e9}\r\n\r\n"), get("/health"));
        assert_eq!(plain("GET /health HTTP/1.0\r\n\r\n"), get("/health"));
        assert!(plain("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n").2);
        assert_eq!(plain("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n"), get("/"));
        for (target, path) in
            [("HTTP://a:1/x?http://b/", "/x"), ("http://a", "/"), ("ws://a?q", "/"), ("/a://b", "/a://b")]
        {
            assert_eq!(plain(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")), get(path));
        }
        let has = |field: &str, tag: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
            let parsed = parse(head.as_bytes()).unwrap().unwrap().0;
            matches!(parsed, Request::Plain(plain) if plain.has(tag))
        };
        for field in ["If-None-Match: \"a\"", "if-none-match: \"b\", W/\"a\"", "If-None-Match: *"] {
            assert!(has(field, "\"a\""), "{field}");
        }
        for field in ["If-None-Match: \"aa\"", "If-None-Match: a", "If-None-Match:", "If-Match: \"a\""] {
            assert!(!has(field, "\"a\""), "{field}");
        }
        refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", Refusal::Body);
        refused("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::Body);
        refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", Refusal::Body);
        refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", Refusal::Malformed);
        refused(with("Origin", "Content-Length: 3\r\nContent-Length: 0\r\nOrigin"), Refusal::Body);
        refused("GET / HTTP/1.1\r\n\r\n", Refusal::Host);
        refused(b"\x16\x03\x01\x02\0\x01\0\x01\xfc", Refusal::Malformed);
        refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal::HttpVersion);
    }

    #[test]
    fn heads_are_bounded() {
        let padded = |len: usize| with("Origin: ", &format!("X: {}\r\nOrigin: ", "x".repeat(len)));
        let room = REQUEST_HEAD_BYTES_MAX - padded(0).len();
        upgrade(padded(room).as_bytes());
        refused(padded(room + 1), Refusal::HeadTooLarge);
        refused(&padded(2 * room)[..REQUEST_HEAD_BYTES_MAX], Refusal::HeadTooLarge);
        assert_eq!(parse(&padded(2 * room).as_bytes()[..REQUEST_HEAD_BYTES_MAX - 1]), Ok(None));
        refused(format!("GET /{}", "x".repeat(REQUEST_HEAD_BYTES_MAX)), Refusal::TargetTooLong);
        refused(format!("GET /{} HTTP/1.1", "x".repeat(REQUEST_HEAD_BYTES_MAX - 9)), Refusal::TargetTooLong);
        refused(format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(REQUEST_HEADERS_MAX + 1)), Refusal::HeadTooLarge);
    }

    #[test]
    fn accepting_never_names_an_extension_or_an_unoffered_protocol() {
        let upgrade = upgrade(HANDSHAKE.as_bytes());
        let accepted = |protocol| {
            let mut out = vec![];
            accept(&mut out, &upgrade, protocol);
            String::from_utf8(out).unwrap()
        };
        let bare = accepted(None);
        assert_eq!(parse_reply(bare.as_bytes(), ACCEPT, None), Ok(Some(bare.len())));
        for cut in 0..bare.len() {
            assert_eq!(parse_reply(&bare.as_bytes()[..cut], ACCEPT, None), Ok(None));
        }
        assert!(!bare.contains("Extensions") && !bare.contains("Protocol:"));
        assert!(accepted(Some("ringroad.v1")).contains("\r\nSec-WebSocket-Protocol: ringroad.v1\r\n"));
        assert_eq!(accepted(Some("other")), bare);
        assert_eq!(accepted(Some("chat\r\nX: y")), bare);
    }

    #[test]
    fn replies_are_whole_and_cannot_be_injected_into() {
        let mut out = vec![];
        reply(&mut out, 200, "text/plain\r\nA: b", &[("Access-Control-Allow-Origin", "x\r\n\r\n\0y")], false, b"hello");
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\nContent-Type: text/plainA: b\r\n\
             Access-Control-Allow-Origin: xy\r\n\r\nhello"
        );
        let mut out = vec![];
        reply(&mut out, 404, "application/json", &[], true, b"{}");
        assert!(out.ends_with(b"Content-Length: 2\r\nContent-Type: application/json\r\n\r\n"));
        let mut out = vec![];
        refuse(&mut out, Refusal::WebSocketVersion);
        assert!(String::from_utf8(out).unwrap().contains("\r\nSec-WebSocket-Version: 13\r\n"));
    }

    #[test]
    fn replies_that_are_not_the_expected_one() {
        let mut good = vec![];
        accept(&mut good, &upgrade(HANDSHAKE.as_bytes()), None);
        let good = String::from_utf8(good).unwrap();
        let check = |part: &str, by: &str, error| {
            assert!(good.contains(part));
            assert_eq!(parse_reply(good.replacen(part, by, 1).as_bytes(), ACCEPT, None), Err(error));
        };
        check("101", "503", ReplyError::Status(503));
        check("HTTP", "SSH", ReplyError::Malformed);
        check("websocket", "h2c", ReplyError::Upgrade);
        check("Connection: Upgrade", "Connection: close", ReplyError::Connection);
        check("s3p", "S3p", ReplyError::Accept);
        check("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", ReplyError::Extension);
        let long = format!("{}X: {}", good.trim_end(), "x".repeat(REQUEST_HEAD_BYTES_MAX));
        assert_eq!(parse_reply(long.as_bytes(), ACCEPT, None), Err(ReplyError::TooLarge));
    }

    /// An in-memory socket that would block when it is empty.
    #[derive(Debug, Default)]
    struct Wire {
        incoming: io::Cursor<Vec<u8>>,
        written: Vec<u8>,
    }

    impl Read for Wire {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            match self.incoming.read(bytes)? {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                read => Ok(read),
            }
        }
    }

    impl Write for Wire {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn tungstenite_agrees_from_both_ends() {
        let request = tungstenite::client::ClientRequestBuilder::new("ws://host/v2v?a=b".parse().unwrap())
            .with_sub_protocol("ringroad.v1");
        let Err(HandshakeError::Interrupted(mut client)) = tungstenite::client(request, Wire::default()) else {
            panic!("the client waits for our reply")
        };
        let mut out = vec![];
        accept(&mut out, &upgrade(&client.get_ref().get_ref().written), Some("ringroad.v1"));
        client.get_mut().get_mut().incoming = io::Cursor::new(out);
        let (_, response) = client.handshake().unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "ringroad.v1");

        let mut out = vec![];
        super::request(&mut out, "host", "/v2v", KEY.as_bytes().try_into().unwrap(), None);
        assert_eq!((upgrade(&out).path, &upgrade(&out).accept), ("/v2v", ACCEPT));
        let server = tungstenite::accept(Wire { incoming: io::Cursor::new(out), written: vec![] }).unwrap();
        let written = &server.get_ref().written;
        assert_eq!(parse_reply(written, ACCEPT, None), Ok(Some(written.len())));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            place in 0..HANDSHAKE.len(),
            cut in 0..40usize,
        ) {
            let _ = parse(&bytes);
            let _ = parse_reply(&bytes, ACCEPT, None);
            let mut damaged = HANDSHAKE.as_bytes().to_vec();
            damaged.splice(place..(place + cut).min(HANDSHAKE.len()), bytes.iter().copied().take(cut));
            if let Ok(Some((Request::Upgrade(upgrade), used))) = parse(&damaged) {
                prop_assert!(used <= damaged.len());
                let mut out = vec![];
                let first = upgrade.protocols.iter().next();
                accept(&mut out, &upgrade, first);
                prop_assert_eq!(parse_reply(&out, &upgrade.accept, first), Ok(Some(out.len())));
            }
        }
    }
}
