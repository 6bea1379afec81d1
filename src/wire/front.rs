//! What a proxy in front of the gateway says about whose connection it passes on: the PROXY header, version 2
//! (haproxy.org, `proxy-protocol.txt`), and `X-Forwarded-For`. Whether it is believed is not known here.

use std::net::{IpAddr, SocketAddr};

use httparse::EMPTY_HEADER;
use ppp::v2::{Addresses, Command, Header, ParseError};

use crate::limits::{PROXY_HEADER_BYTES_MAX, REQUEST_HEADERS_MAX};

/// What every PROXY header, version 2, begins with.
pub const PROXY_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes from the signature to the length of what follows, which is in the last two.
pub const PROXY_HEAD_BYTES: usize = 16;

/// Why a PROXY header is none. "The receiver MUST abort the connection": nobody can know what the rest means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoProxyHeader;

/// Reads a PROXY header, version 2, from the front of `bytes`: how many bytes it takes, and whose connection it is; `None`
/// if more bytes are needed. The client is `None` where the proxy speaks for itself (LOCAL, as health checks do) or does
/// not know.
pub fn proxy_header(bytes: &[u8]) -> Result<Option<(usize, Option<IpAddr>)>, NoProxyHeader> {
    match Header::try_from(bytes) {
        Ok(header) if header.len() > PROXY_HEADER_BYTES_MAX => Err(NoProxyHeader),
        Ok(header) => {
            let client = match (header.command, header.addresses) {
                (Command::Proxy, Addresses::IPv4(addresses)) => Some(addresses.source_address.into()),
                (Command::Proxy, Addresses::IPv6(addresses)) => Some(addresses.source_address.into()),
                _ => None,
            };
            Ok(Some((header.header.len(), client)))
        }
        Err(ParseError::Incomplete(_)) => Ok(None),
        Err(ParseError::Partial(_, announced)) if announced <= PROXY_HEADER_BYTES_MAX => Ok(None),
        Err(_) => Err(NoProxyHeader),
    }
}

/// The client that the `X-Forwarded-For` lines of a whole request head name: each proxy appends whom it heard, so from the
/// right the first that is not a trusted proxy itself. What stands left of it anybody may have written. `None` if there is
/// nobody, or what stands there is no address.
pub fn forwarded_for(head: &[u8], is_trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let mut headers = [EMPTY_HEADER; REQUEST_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(head).ok()?;
    let lines = request.headers.iter().rev().filter(|header| header.name.eq_ignore_ascii_case("x-forwarded-for"));
    let mut nearest = None;
    for line in lines {
        for part in std::str::from_utf8(line.value).ok()?.rsplit(',') {
            let address = address(part.trim())?;
            if !is_trusted(address) {
                return Some(address);
            }
            nearest = Some(address);
        }
    }
    // The proxies only: one of them asks for itself.
    nearest
}

/// An address, perhaps with a port, as some proxies write it.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse().ok().or_else(with_port).or_else(bare).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &[u8] = PROXY_SIGNATURE;

    /// Version and command, family and protocol, what follows.
    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &len, rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0xc3, 0x50, 0x0b, 0xba];

    fn v6() -> Vec<u8> {
        let source = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        [&source[..], &[0; 16], &[1, 2, 3, 4]].concat()
    }

    #[test]
    fn headers_name_the_client() {
        let with_tlv = [&V4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
        let cases: [(Vec<u8>, Option<&str>); 7] = [
            (header(0x21, 0x11, &V4), Some("192.0.2.7")),
            (header(0x21, 0x11, &with_tlv), Some("192.0.2.7")),
            (header(0x21, 0x21, &v6()), Some("2001:db8::9")),
            (header(0x20, 0x00, &[]), None),
            (header(0x20, 0x11, &V4), None),
            (header(0x21, 0x00, &[1, 2, 3]), None),
            (header(0x21, 0x31, &[7; 216]), None),
        ];
        for (bytes, client) in cases {
            let client = client.map(|text| text.parse().unwrap());
            let followed = [&bytes[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(proxy_header(&followed), Ok(Some((bytes.len(), client))), "{bytes:?}");
            for cut in 0..bytes.len() {
                assert_eq!(proxy_header(&bytes[..cut]), Ok(None), "{cut} of {bytes:?}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused_as_soon_as_it_shows() {
        let cases: [&[u8]; 8] = [
            b"G",
            b"GET / HTTP/1.1\r\n\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 50000 3002\r\n",
            &header(0x11, 0x11, &V4),
            &header(0x22, 0x11, &V4),
            &header(0x21, 0x41, &V4),
            &header(0x21, 0x13, &V4),
            &header(0x21, 0x11, &V4[..11]),
        ];
        for bytes in cases {
            assert_eq!(proxy_header(bytes), Err(NoProxyHeader), "{bytes:?}");
        }
        // Long, and announced as long.
        let long = header(0x21, 0x11, &[0; PROXY_HEADER_BYTES_MAX + 1]);
        assert_eq!(proxy_header(&long), Err(NoProxyHeader));
        assert_eq!(proxy_header(&long[..16]), Err(NoProxyHeader));
    }

    proptest::proptest! {
        /// Whatever comes: a header is within the bytes, and more bytes change nothing about one that is there.
        #[test]
        fn any_bytes_are_a_header_or_none(
            signed in proptest::bool::ANY,
            rest in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
        ) {
            let bytes = if signed { [SIGNATURE, &rest].concat() } else { rest };
            let read = proxy_header(&bytes);
            if let Ok(Some((used, _))) = read {
                proptest::prop_assert!(used >= 16 && used <= bytes.len());
                proptest::prop_assert_eq!(proxy_header(&bytes[..used]), read);
            }
            let _ = forwarded_for(&bytes, |_| false);
        }
    }

    #[test]
    fn the_client_is_the_first_from_the_right_that_is_not_a_proxy() {
        let cases: &[(&[&str], Option<&str>)] = &[
            (&[], None),
            (&["192.0.2.7"], Some("192.0.2.7")),
            (&["1.1.1.1, 192.0.2.7"], Some("192.0.2.7")),
            (&["1.1.1.1, 192.0.2.7, 10.0.0.2"], Some("192.0.2.7")),
            (&["1.1.1.1", "192.0.2.7", "10.0.0.2,10.0.0.3"], Some("192.0.2.7")),
            (&["10.0.0.9, 10.0.0.2"], Some("10.0.0.9")),
            (&["192.0.2.7:4711"], Some("192.0.2.7")),
            (&["[2001:db8::9]:4711"], Some("2001:db8::9")),
            (&["[2001:db8::9]"], Some("2001:db8::9")),
            (&["2001:db8::9"], Some("2001:db8::9")),
            (&["::ffff:192.0.2.7"], Some("192.0.2.7")),
            (&["192.0.2.7, unknown"], None),
            (&["192.0.2.7, "], None),
            (&["_hidden, 192.0.2.7"], Some("192.0.2.7")),
        ];
        let is_trusted = |address: IpAddr| matches!(address, IpAddr::V4(four) if four.octets()[0] == 10);
        for (lines, client) in cases {
            let lines: String = lines.iter().map(|line| format!("X-Forwarded-FOR: {line}\r\n")).collect();
            let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
            let client = client.map(|text| text.parse().unwrap());
            assert_eq!(forwarded_for(head.as_bytes(), is_trusted), client, "{lines:?}");
        }
        assert_eq!(forwarded_for(b"nonsense", is_trusted), None);
    }
}
