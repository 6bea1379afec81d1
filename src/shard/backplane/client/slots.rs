//! Where the slots of a Cluster are, as its nodes say.

use crate::turn::Endpoint;
use crate::wire::resp::Reply;

/// Slots of a Cluster.
pub(super) const SLOTS: usize = 16_384;

/// The slot of a key or channel.
pub(super) fn slot_of(key: &[u8]) -> usize {
    usize::from(redis_protocol::redis_keyslot(key)) % SLOTS
}

/// A range of slots and its master.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) master: Endpoint,
    pub(super) replicas: Vec<Endpoint>,
}

/// Reads the answer to CLUSTER SLOTS. `asked` is the node that gave it: one that does not know its own address leaves
/// it to the reader. `None`: it is not such an answer.
pub(super) fn ranges(answer: &Reply, asked: &Endpoint) -> Option<Vec<Range>> {
    answer.as_list()?.iter().map(|range| read_range(range.as_list()?, asked)).collect()
}

fn read_range(range: &[Reply], asked: &Endpoint) -> Option<Range> {
    let [first, last, master, replicas @ ..] = range else { return None };
    let slot = |value: &Reply| usize::try_from(value.as_integer()?).ok().filter(|slot| *slot < SLOTS);
    let (first, last) = (slot(first)?, slot(last)?);
    let node = |node: &Reply| {
        let [host, port, ..] = node.as_list()? else { return None };
        endpoint(host.as_bytes().unwrap_or_default(), port.as_integer()?.try_into().ok()?, asked)
    };
    // A replica that cannot be understood is not needed.
    let replicas = replicas.iter().filter_map(node).collect();
    (first <= last).then_some(Range { first, last, master: node(master)?, replicas })
}

/// Where a server points: the slot, and who has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    pub(super) slot: usize,
    pub(super) at: Endpoint,
    /// For one command only, and it has to be announced by ASKING.
    pub(super) is_ask: bool,
}

/// Reads `MOVED slot host:port` or `ASK slot host:port`.
pub(super) fn pointer(error: &str, asked: &Endpoint) -> Option<Pointer> {
    let mut words = error.split(' ');
    let is_ask = match words.next()? {
        "MOVED" => false,
        "ASK" => true,
        _ => return None,
    };
    let slot = words.next()?.parse().ok().filter(|slot| *slot < SLOTS)?;
    let (host, port) = words.next()?.rsplit_once(':')?;
    let at = endpoint(host.as_bytes(), port.parse().ok()?, asked)?;
    Some(Pointer { slot, at, is_ask })
}

fn endpoint(host: &[u8], port: u16, asked: &Endpoint) -> Option<Endpoint> {
    let host = match (host, asked) {
        (b"" | b"?", Endpoint::Tcp { host, .. }) => host.clone(),
        (b"" | b"?", Endpoint::Unix { .. }) => return None,
        _ => std::str::from_utf8(host).ok()?.into(),
    };
    Some(Endpoint::Tcp { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp { host: host.into(), port }
    }

    fn list(values: Vec<Reply>) -> Reply {
        Reply::List(values)
    }

    fn node(host: Reply, port: i64) -> Reply {
        list(vec![host, Reply::Integer(port), Reply::Text(b"id".to_vec()), list(vec![])])
    }

    #[test]
    fn slots_are_read_whatever_a_node_knows_of_itself() {
        let text = |text: &str| Reply::Text(text.into());
        let answer = list(vec![
            list(vec![Reply::Integer(0), Reply::Integer(99), node(text("10.0.0.1"), 7000), node(text("::1"), 7001)]),
            list(vec![Reply::Integer(100), Reply::Integer(100), node(text(""), 7002)]),
            list(vec![Reply::Integer(101), Reply::Integer(200), node(Reply::Null, 7003), node(text("?"), 7004)]),
        ]);
        let ranges = ranges(&answer, &tcp("seed", 1)).expect("slots");
        let found: Vec<_> = ranges.iter().map(|range| (range.first, range.last, &range.master)).collect();
        let expected = [tcp("10.0.0.1", 7000), tcp("seed", 7002), tcp("seed", 7003)];
        assert_eq!(found, [(0, 99, &expected[0]), (100, 100, &expected[1]), (101, 200, &expected[2])]);
        assert_eq!((&ranges[0].replicas[0], &ranges[2].replicas[0]), (&tcp("::1", 7001), &tcp("seed", 7004)));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let asked = tcp("seed", 1);
        let with = |first, last, port| {
            list(vec![list(vec![Reply::Integer(first), Reply::Integer(last), node(Reply::Null, port)])])
        };
        assert!(ranges(&with(0, 16_383, 7000), &asked).is_some());
        for answer in [with(0, 16_384, 7000), with(5, 4, 7000), with(-1, 4, 7000), with(0, 1, 70_000), Reply::Null] {
            assert_eq!(ranges(&answer, &asked), None);
        }
    }

    #[test]
    fn a_slot_is_that_of_the_braces() {
        // From the Cluster specification, and `CLUSTER KEYSLOT`.
        assert_eq!((slot_of(b"123456789"), slot_of(b"")), (0x31C3, 0));
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"user1000"));
        assert_eq!(slot_of(b"foo{}{bar}"), 8_363);
        assert_eq!((slot_of(b"foo{{bar}}zap"), slot_of(b"foo{bar}{zap}")), (slot_of(b"{bar"), slot_of(b"bar")));
        for key in [&b"{"[..], b"}", b"{}", b"a{", b"}{", b"{}}", b"a{}"] {
            assert!(slot_of(key) < SLOTS);
        }
    }

    #[test]
    fn pointers_are_read() {
        let asked = tcp("seed", 1);
        let expect = |slot, at, is_ask| Some(Pointer { slot, at, is_ask });
        assert_eq!(pointer("MOVED 3999 127.0.0.1:6381", &asked), expect(3999, tcp("127.0.0.1", 6381), false));
        assert_eq!(pointer("ASK 0 ::1:6381", &asked), expect(0, tcp("::1", 6381), true));
        assert_eq!(pointer("MOVED 1 :6381", &asked), expect(1, tcp("seed", 6381), false));
        for error in ["MOVED", "MOVED 16384 a:1", "MOVED 1 a", "MOVED 1 a:b", "ERR MOVED 1 a:1", "ASKING 1 a:1"] {
            assert_eq!(pointer(error, &asked), None, "{error}");
        }
    }
}
