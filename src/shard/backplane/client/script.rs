//! Scripts: by their hash, or whole.

use data_encoding::HEXLOWER;
use sha1::{Digest, Sha1};

use crate::wire::resp::command;

/// Hashes of the scripts that were run: as many as the program has.
#[derive(Debug, Default)]
pub(super) struct Hashes {
    known: Vec<(&'static str, String)>,
}

impl Hashes {
    fn of(&mut self, script: &'static str) -> &str {
        let at = match self.known.iter().position(|(known, _)| std::ptr::eq(*known, script)) {
            Some(at) => at,
            None => {
                self.known.push((script, HEXLOWER.encode(&Sha1::digest(script))));
                self.known.len() - 1
            }
        };
        &self.known[at].1
    }

    /// Writes `EVALSHA hash 1 key …`.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, script: &'static str, key: &[u8], args: &[&[u8]]) {
        command::begin(out, args.len() + 4);
        for argument in [&b"EVALSHA"[..], self.of(script).as_bytes(), b"1", key].iter().chain(args) {
            command::argument(out, argument);
        }
    }
}

/// The same command with the script itself: `EVAL script 1 key …`.
pub(super) fn whole(by_hash: &[u8], script: &str) -> Vec<u8> {
    const REPLACED: usize = b"$7\r\nEVALSHA\r\n$40\r\n".len() + 40 + b"\r\n".len();
    let head = by_hash.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let mut bytes = by_hash[..head].to_vec();
    command::argument(&mut bytes, b"EVAL");
    command::argument(&mut bytes, script.as_bytes());
    bytes.extend_from_slice(by_hash.get(head + REPLACED..).unwrap_or_default());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_stay_when_the_script_is_sent_whole() {
        let (mut hashes, mut by_hash, mut expected) = (Hashes::default(), Vec::new(), Vec::new());
        hashes.write(&mut by_hash, "return 1", b"k", &[b"", b"a\nb"]);
        command::write(&mut expected, &[b"EVAL", b"return 1", b"1", b"k", b"", b"a\nb"]);
        assert_eq!(whole(&by_hash, "return 1"), expected);
    }
}
