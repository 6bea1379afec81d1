use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::limits::RESP_DEPTH_MAX;
use crate::wire::resp::Reply;

const BOUND: usize = 1 << 20;

fn read_all(reader: &mut Reader, mut bytes: &[u8]) -> Result<Vec<Frame>, Malformed> {
    let mut frames = Vec::new();
    while let Some(frame) = reader.take(&mut bytes)? {
        frames.push(frame);
    }
    assert!(bytes.is_empty(), "bytes were left without a frame");
    Ok(frames)
}

fn read(bytes: &[u8]) -> Result<Vec<Frame>, Malformed> {
    read_all(&mut Reader::new(BOUND, BOUND), bytes)
}

fn text(text: &str) -> Reply {
    Reply::Text(text.into())
}

#[test]
fn every_type_is_read() {
    let bytes = b"+OK\r\n-ERR no\r\n:-12\r\n,1.5\r\n#t\r\n#f\r\n_\r\n(1234567890123456789012\r\n\
        $5\r\na\r\nbc\r\n$0\r\n\r\n$-1\r\n*-1\r\n!5\r\nERR x\r\n=7\r\ntxt:abc\r\n\
        *2\r\n:1\r\n*0\r\n~2\r\n:1\r\n*1\r\n_\r\n%2\r\n$1\r\nz\r\n:1\r\n$1\r\na\r\n-ERR y\r\n\
        >3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\np\r\n|1\r\n+ttl\r\n:9\r\n:7\r\n";
    let reply = |value| Frame::Reply(value);
    let expected = vec![
        reply(text("OK")),
        Frame::Error("ERR no".into()),
        reply(Reply::Integer(-12)),
        reply(Reply::Double(1.5)),
        reply(Reply::Bool(true)),
        reply(Reply::Bool(false)),
        reply(Reply::Null),
        reply(text("1234567890123456789012")),
        reply(text("a\r\nbc")),
        reply(text("")),
        reply(Reply::Null),
        reply(Reply::Null),
        Frame::Error("ERR x".into()),
        reply(text("abc")),
        reply(Reply::List(vec![Reply::Integer(1), Reply::List(vec![])])),
        reply(Reply::List(vec![Reply::Integer(1), Reply::List(vec![Reply::Null])])),
        reply(Reply::Map(vec![(text("z"), Reply::Integer(1)), (text("a"), Reply::Error("ERR y".into()))])),
        Frame::Push(vec![text("message"), text("c"), text("p")]),
        reply(Reply::Integer(7)),
    ];
    assert_eq!(read(bytes), Ok(expected));
}

#[test]
fn what_is_not_resp3_is_an_error() {
    for bytes in [
        &b"?\r\n"[..],
        b"HELLO 3\r\n",
        b"$x\r\n",
        b"$\r\n",
        b"$-2\r\n",
        b"%-1\r\n",
        b"*1\n",
        b"*1\r\r",
        b"$1234567890123456789\r\n",
        b"$1\r\nabc",
        b"$1\r\na\rb",
        b"*1\r\n>0\r\n",
        b":12a\r\n",
        b"#x\r\n",
        b"=3\r\nabc\r\n",
    ] {
        assert!(read(bytes).is_err(), "{}", bytes.escape_ascii());
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| [&b"*1\r\n".repeat(depth)[..], b":1\r\n"].concat();
    assert_eq!(read(&nested(RESP_DEPTH_MAX)).map(|frames| frames.len()), Ok(1));
    assert_eq!(read(&nested(RESP_DEPTH_MAX + 1)), Err(Malformed::Depth));
}

#[test]
fn a_frame_that_is_too_long_is_skipped_and_not_kept() {
    let mut reader = Reader::new(1000, 20);
    for piece in [&b"*2\r\n$2000\r\n"[..], &[b'x'; 1500], &[b'x'; 500], b"\r\n:1"] {
        assert_eq!(read_all(&mut reader, piece), Ok(vec![]));
    }
    assert_eq!(reader.kept.capacity(), 0);
    let rest = b"\r\n:5\r\n>1\r\n$12\r\nabcdefghijkl\r\n:6\r\n";
    let skipped = |is_push| Frame::Skipped { is_push };
    let number = |value| Frame::Reply(Reply::Integer(value));
    assert_eq!(read_all(&mut reader, rest), Ok(vec![skipped(false), number(5), skipped(true), number(6)]));
}

fn replies() -> impl Strategy<Value = Reply> {
    let single = prop_oneof![
        Just(Reply::Null),
        any::<bool>().prop_map(Reply::Bool),
        any::<i64>().prop_map(Reply::Integer),
        (-1e9..1e9).prop_map(Reply::Double),
        vec(any::<u8>(), 0..40).prop_map(Reply::Text),
        "[A-Z]{2,6} [ -~]{0,20}".prop_map(|error| Reply::Error(error.into())),
    ];
    single.prop_recursive(4, 24, 5, |inner| {
        let pairs = vec((inner.clone(), inner.clone()), 0..4);
        prop_oneof![vec(inner, 0..5).prop_map(Reply::List), pairs.prop_map(Reply::Map)]
    })
}

fn write(out: &mut Vec<u8>, reply: &Reply) {
    let head = |out: &mut Vec<u8>, kind, length| out.extend_from_slice(format!("{kind}{length}\r\n").as_bytes());
    match reply {
        Reply::Null => out.extend_from_slice(b"_\r\n"),
        Reply::Bool(value) => out.extend_from_slice(if *value { b"#t\r\n" } else { b"#f\r\n" }),
        Reply::Integer(value) => out.extend_from_slice(format!(":{value}\r\n").as_bytes()),
        Reply::Double(value) => out.extend_from_slice(format!(",{value}\r\n").as_bytes()),
        Reply::Error(error) => out.extend_from_slice(format!("-{error}\r\n").as_bytes()),
        Reply::Text(text) => {
            head(out, '$', text.len());
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
        Reply::List(values) => {
            head(out, '*', values.len());
            values.iter().for_each(|value| write(out, value));
        }
        Reply::Map(pairs) => {
            head(out, '%', pairs.len());
            for (key, value) in pairs {
                write(out, key);
                write(out, value);
            }
        }
    }
}

/// Feeds `bytes` in pieces of the given lengths, again and again.
fn read_in_pieces(bytes: &[u8], pieces: &[usize]) -> Result<Vec<Frame>, Malformed> {
    let mut reader = Reader::new(BOUND, BOUND);
    let (mut frames, mut rest) = (Vec::new(), bytes);
    for piece in pieces.iter().cycle() {
        let (head, tail) = rest.split_at(*piece.min(&rest.len()));
        frames.extend(read_all(&mut reader, head)?);
        rest = tail;
        if rest.is_empty() {
            break;
        }
    }
    Ok(frames)
}

proptest! {
    #[test]
    fn what_was_written_is_read_at_any_split(sent in vec(replies(), 1..6), pieces in vec(1usize..30, 1..8)) {
        let mut bytes = Vec::new();
        sent.iter().for_each(|reply| write(&mut bytes, reply));
        let expected: Vec<Frame> = sent
            .into_iter()
            .map(|reply| match reply {
                Reply::Error(error) => Frame::Error(error),
                value => Frame::Reply(value),
            })
            .collect();
        prop_assert_eq!(read(&bytes), Ok(expected.clone()));
        prop_assert_eq!(read_in_pieces(&bytes, &pieces), Ok(expected));
    }

    /// Whatever becomes of mutated bytes, it does not depend on how they were split, up to the first error.
    #[test]
    fn damage_is_an_error_and_never_a_panic(
        sent in vec(replies(), 1..4),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        pieces in vec(1usize..9, 1..8),
    ) {
        let mut bytes = Vec::new();
        sent.iter().for_each(|reply| write(&mut bytes, reply));
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        prop_assert_eq!(read(&bytes), read_in_pieces(&bytes, &pieces));
    }

    #[test]
    fn noise_is_never_a_panic(bytes in vec(prop_oneof![
        4 => prop::sample::select(b"*$%~>|=!+-:,#_(0123456789\r\n".to_vec()),
        1 => any::<u8>(),
    ], 0..200)) {
        prop_assert_eq!(read(&bytes), read_in_pieces(&bytes, &[1]));
    }
}
