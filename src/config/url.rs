//! How a URL names the servers of a backplane.
//!
//! Read by hand: a list of hosts with commas is no URL to those who read URLs. What is wrong is said without repeating
//! any of it, for any part of a URL that is wrong may turn out to be a password.

use std::net::Ipv6Addr;

use super::{MASK, Servers, Topology};
use crate::turn::Endpoint;

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// What a socket's address can hold, the NUL at its end left out (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Why a configuration names no servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The URL is none of those that are understood.
    #[error("{wrong}; expected something like {example}")]
    Grammar {
        /// What is wrong with it.
        wrong: &'static str,
        /// A right one of its kind.
        example: &'static str,
    },
    /// There is a password file, and nobody has read it.
    #[error("`redis.password_file` has not been read: only `load` does that")]
    PasswordUnread,
}

/// What stands behind the scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Single,
    Unix,
    Sentinel,
    Cluster,
}

/// Each scheme with its form, and whether links are encrypted.
const SCHEMES: [(&str, Form, bool); 8] = [
    ("redis", Form::Single, false),
    ("rediss", Form::Single, true),
    ("unix", Form::Unix, false),
    ("redis+unix", Form::Unix, false),
    ("redis+sentinel", Form::Sentinel, false),
    ("rediss+sentinel", Form::Sentinel, true),
    ("redis+cluster", Form::Cluster, false),
    ("rediss+cluster", Form::Cluster, true),
];

impl Form {
    fn example(self) -> &'static str {
        match self {
            Form::Single => "redis://user:password@localhost:6379/0",
            Form::Unix => "unix:///run/redis/redis.sock?db=0&user=name&password=word",
            Form::Sentinel => "redis+sentinel://user:password@host1:26379,host2:26379/service/0",
            Form::Cluster => "redis+cluster://user:password@host1:6379,host2:6379",
        }
    }

    fn wrong(self, wrong: &'static str) -> UrlError {
        UrlError::Grammar { wrong, example: self.example() }
    }
}

/// A URL in pieces, as they are written: `scheme://login@hosts/path?query`.
struct Pieces<'a> {
    scheme: &'a str,
    form: Form,
    tls: bool,
    /// `user:password`
    login: Option<&'a str>,
    hosts: &'a str,
    /// From its slash on, or empty.
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Pieces<'a> {
    fn of(url: &'a str) -> Result<Pieces<'a>, UrlError> {
        let Some((scheme, form, tls, rest)) = scheme_of(url) else {
            let wrong = "the scheme is none of redis, rediss, unix, redis+unix, redis+sentinel, rediss+sentinel, \
                         redis+cluster, rediss+cluster";
            return Err(Form::Single.wrong(wrong));
        };
        if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(form.wrong("there is a blank in it"));
        }
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        if form != Form::Unix && rest.contains('@') {
            return Err(form.wrong("a / or ? stands before the @; within user and password they are %2F and %3F"));
        }
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        Ok(Pieces { scheme, form, tls, login, hosts, path, query })
    }

    fn servers(&self) -> Result<Servers, UrlError> {
        if self.query.is_some() && self.form != Form::Unix {
            return Err(self.form.wrong("only unix:// takes what begins with ?"));
        }
        let (username, password) = match self.login {
            None => (None, None),
            Some(login) => match login.split_once(':') {
                Some((user, password)) => (self.decoded(user)?, self.decoded(password)?),
                None => {
                    let wrong = "before the @ there is no colon; a password without a user is :password@, \
                                 and a user without a password goes into redis.username";
                    return Err(self.form.wrong(wrong));
                }
            },
        };
        let plain = |topology, database| Servers { topology, tls: self.tls, username, password, database };
        match self.form {
            Form::Single => {
                if self.hosts.contains(',') {
                    return Err(self.form.wrong("several hosts need redis+sentinel:// or redis+cluster://"));
                }
                let database = self.database(self.path.strip_prefix('/').unwrap_or_default())?;
                Ok(plain(Topology::Single(self.endpoint(self.hosts, REDIS_PORT)?), database))
            }
            Form::Unix => self.unix(),
            Form::Sentinel => {
                let (service, database) = match self.path.strip_prefix('/').unwrap_or_default().split_once('/') {
                    Some((service, database)) => (service, self.database(database)?),
                    None => (self.path.strip_prefix('/').unwrap_or_default(), 0),
                };
                let Some(service) = self.decoded(service)? else {
                    return Err(self.form.wrong("after the hosts there is no name of the service"));
                };
                Ok(plain(Topology::Sentinel { sentinels: self.endpoints(SENTINEL_PORT)?, service }, database))
            }
            Form::Cluster => {
                if !matches!(self.path, "" | "/") {
                    return Err(self.form.wrong("a Cluster has no databases to choose from"));
                }
                Ok(plain(Topology::Cluster { seeds: self.endpoints(REDIS_PORT)? }, 0))
            }
        }
    }

    fn unix(&self) -> Result<Servers, UrlError> {
        if !self.hosts.is_empty() || self.login.is_some() || self.path.is_empty() {
            return Err(self.form.wrong("unix:// is followed by a path that begins with /"));
        }
        let path = self.decoded(self.path)?.unwrap_or_default();
        if path.contains('\0') || path.len() > SOCKET_PATH_BYTES_MAX {
            return Err(self.form.wrong("a path of a socket has at most 107 bytes, and no NUL"));
        }
        let [mut database, mut username, mut password] = [None, None, None];
        for pair in self.query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let known = match name {
                "db" => &mut database,
                "user" => &mut username,
                "password" => &mut password,
                _ => return Err(self.form.wrong("what follows the ? is something else than db, user and password")),
            };
            if known.replace(value).is_some() {
                return Err(self.form.wrong("db, user or password is there twice"));
            }
        }
        Ok(Servers {
            topology: Topology::Single(Endpoint::Unix { path: path.into() }),
            tls: false,
            username: self.decoded(username.unwrap_or_default())?,
            password: self.decoded(password.unwrap_or_default())?,
            database: self.database(database.unwrap_or_default())?,
        })
    }

    fn endpoints(&self, default_port: u16) -> Result<Vec<Endpoint>, UrlError> {
        self.hosts.split(',').map(|host| self.endpoint(host, default_port)).collect()
    }

    fn endpoint(&self, text: &str, default_port: u16) -> Result<Endpoint, UrlError> {
        let wrong_address = || self.form.wrong("an IPv6 address stands in brackets, as in [::1]:6379");
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(wrong_address)?;
                host.parse::<Ipv6Addr>().map_err(|_| wrong_address())?;
                match rest.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if rest.is_empty() => (host, None),
                    None => return Err(wrong_address()),
                }
            }
            None => {
                let (host, port) = match text.split_once(':') {
                    Some((_, port)) if port.contains(':') => return Err(wrong_address()),
                    Some((host, port)) => (host, Some(port)),
                    None => (text, None),
                };
                if host.is_empty() {
                    return Err(self.form.wrong("a host is missing"));
                }
                if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')) {
                    return Err(self.form.wrong("a host is neither a name nor an address"));
                }
                (host, port)
            }
        };
        let port = match port {
            None => default_port,
            Some(port) => number(port)
                .filter(|port| *port > 0)
                .ok_or_else(|| self.form.wrong("a port is not a number from 1 to 65535"))?,
        };
        Ok(Endpoint::Tcp { host: host.into(), port })
    }

    fn database(&self, text: &str) -> Result<u16, UrlError> {
        if text.is_empty() {
            return Ok(0);
        }
        number(text).ok_or_else(|| self.form.wrong("the database is not a number from 0 to 65535"))
    }

    /// What percent signs stand for; `None` if it is empty.
    fn decoded(&self, text: &str) -> Result<Option<String>, UrlError> {
        let wrong =
            || self.form.wrong("a % is not followed by the two digits of a byte of UTF-8; the sign itself is %25");
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'%' => {
                    let mut digit = || char::from(rest.next()?).to_digit(16);
                    let (high, low) = (digit().ok_or_else(wrong)?, digit().ok_or_else(wrong)?);
                    (high * 16 + low) as u8
                }
                byte => byte,
            });
        }
        let text = String::from_utf8(bytes).map_err(|_| wrong())?;
        Ok((!text.is_empty()).then_some(text))
    }
}

/// The servers that a URL names.
pub(super) fn parse(url: &str) -> Result<Servers, UrlError> {
    Pieces::of(url)?.servers()
}

/// The URL without what may be a password. Who reads it shall know which server is meant.
pub(super) fn masked(url: &str) -> String {
    match Pieces::of(url) {
        Ok(pieces) if pieces.servers().is_ok() => {
            let login = match pieces.login.and_then(|login| login.split_once(':')) {
                Some((user, "")) => format!("{user}:@"),
                Some((user, _)) => format!("{user}:{MASK}@"),
                None => String::new(),
            };
            let query = pieces.query.map(|query| {
                let pairs = query.split('&').map(|pair| match pair.split_once('=') {
                    Some(("password", word)) if !word.is_empty() => format!("password={MASK}"),
                    _ => pair.to_owned(),
                });
                format!("?{}", pairs.collect::<Vec<_>>().join("&"))
            });
            format!("{}://{login}{}{}{}", pieces.scheme, pieces.hosts, pieces.path, query.unwrap_or_default())
        }
        // In a URL that is wrong a password may be anywhere but behind the last @, and what begins with ? may have an @
        // of its own.
        _ => match scheme_of(url).map(|(scheme, _, _, rest)| (scheme, rest.rsplit_once('@'))) {
            Some((scheme, Some((before, behind)))) if !before.contains('?') => {
                format!("{scheme}://{MASK}@{}", behind.split('?').next().unwrap_or_default())
            }
            Some((scheme, _)) => format!("{scheme}://{MASK}"),
            None => MASK.to_owned(),
        },
    }
}

fn scheme_of(url: &str) -> Option<(&'static str, Form, bool, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let known = SCHEMES.iter().find(|(name, ..)| name.eq_ignore_ascii_case(scheme));
    known.map(|&(scheme, form, tls)| (scheme, form, tls, rest))
}

/// Digits only: `parse` would take a sign.
fn number(digits: &str) -> Option<u16> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
#[path = "url_tests.rs"]
mod tests;
