//! Under which name a request asks.
//!
//! A page that an operator has open can make its own name lead to any address it likes (DNS rebinding), and then its
//! requests there are those of its own origin. What it cannot do is to send them under another name than its own.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether `Host` is an IP address, `localhost`, or one of these names, whatever the port. RFC 9110, section 7.2:
/// `Host = uri-host [ ":" port ]`.
pub fn is_known(host: &str, names: &[String]) -> bool {
    let Some(name) = name_of(host) else { return false };
    // RFC 4343: names are the same in any case; one that is written in full ends with a full stop.
    let name = name.strip_suffix('.').unwrap_or(name);
    let same = |known: &str| name.eq_ignore_ascii_case(known.strip_suffix('.').unwrap_or(known));
    match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => name.parse::<Ipv4Addr>().is_ok() || same("localhost") || names.iter().any(|known| same(known)),
    }
}

/// `Host` without its port; `None` if it has one that is none.
fn name_of(host: &str) -> Option<&str> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (host, ""),
    };
    port.bytes().all(|byte| byte.is_ascii_digit()).then_some(name)
}

/// Whether this can be the name of a host: RFC 1123, section 2.1, and underscores, as containers have them.
pub fn is_name(text: &str) -> bool {
    let of_label = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(of_label);
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_known_names_are_known() {
        let names = ["gateway-1".to_owned(), "ops.example.".to_owned()];
        for host in [
            "127.0.0.1",
            "127.0.0.1:3003",
            "10.1.2.3:80",
            "[::1]",
            "[::1]:3003",
            "[2001:db8::1]:",
            "localhost",
            "LocalHost:3003",
            "localhost.:1",
            "gateway-1",
            "GATEWAY-1:3003",
            "gateway-1.",
            "ops.example:9",
        ] {
            assert!(is_known(host, &names), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:3003",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.localhost",
            "gateway-1.evil.example",
            "gateway-11",
            "ops",
            "",
            ":3003",
            ".",
            "::1",
            "[::1",
            "[evil]",
            "[127.0.0.1]",
            "localhost:80:80",
            "localhost:x",
            "user@localhost",
            "127.0.0.1/x",
            "0x7f.1",
            "2130706433",
        ] {
            assert!(!is_known(host, &names), "{host}");
        }
    }
}
