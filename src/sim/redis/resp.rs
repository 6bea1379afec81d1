//! RESP3 as a server has it: commands are read, replies and pushes are written.

/// The bytes of one session that have not become a command.
#[derive(Debug, Default)]
pub(super) struct Commands {
    bytes: Vec<u8>,
}

/// Bytes that are no command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProtocolError(pub(super) &'static str);

impl Commands {
    /// More has arrived, at any split.
    pub(super) fn arrived(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next command with its arguments, once all of it is there.
    pub(super) fn next(&mut self) -> Result<Option<Vec<Vec<u8>>>, ProtocolError> {
        let mut rest = &self.bytes[..];
        let Some(count) = length(&mut rest, b'*')? else { return Ok(None) };
        let mut command = Vec::new();
        for _ in 0..count {
            let Some(length) = length(&mut rest, b'$')? else { return Ok(None) };
            let Some((text, behind)) = rest.split_at_checked(length + 2) else { return Ok(None) };
            let Some(text) = text.strip_suffix(b"\r\n") else { return Err(ProtocolError("a string without its end")) };
            command.push(text.to_vec());
            rest = behind;
        }
        let used = self.bytes.len() - rest.len();
        self.bytes.drain(..used);
        Ok(Some(command))
    }
}

/// A line of `kind` and a number. `None`: it is not complete.
fn length(bytes: &mut &[u8], kind: u8) -> Result<Option<usize>, ProtocolError> {
    let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else {
        return if bytes.first().is_none_or(|first| *first == kind) {
            Ok(None)
        } else {
            Err(ProtocolError("not an array of strings"))
        };
    };
    let number = bytes[..end].strip_prefix(&[kind]).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    *bytes = &bytes[end + 2..];
    number.map(Some).ok_or(ProtocolError("not an array of strings"))
}

/// What a session is sent.
#[derive(Debug, Default)]
pub(super) struct Output(pub(super) Vec<u8>);

impl Output {
    pub(super) fn simple(&mut self, text: &str) {
        self.0.extend_from_slice(format!("+{text}\r\n").as_bytes());
    }

    pub(super) fn error(&mut self, text: &str) {
        self.0.extend_from_slice(format!("-{text}\r\n").as_bytes());
    }

    pub(super) fn integer(&mut self, value: i64) {
        self.0.extend_from_slice(format!(":{value}\r\n").as_bytes());
    }

    pub(super) fn null(&mut self) {
        self.0.extend_from_slice(b"_\r\n");
    }

    pub(super) fn bulk(&mut self, bytes: &[u8]) {
        self.head('$', bytes.len());
        self.0.extend_from_slice(bytes);
        self.0.extend_from_slice(b"\r\n");
    }

    /// Text for people, in the form that says so.
    pub(super) fn verbatim(&mut self, text: &str) {
        self.head('=', text.len() + 4);
        self.0.extend_from_slice(format!("txt:{text}\r\n").as_bytes());
    }

    /// The head of an array (`*`), a map (`%`, counted in pairs) or a push (`>`).
    pub(super) fn head(&mut self, kind: char, count: usize) {
        self.0.extend_from_slice(format!("{kind}{count}\r\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_at_any_split() {
        let bytes = b"*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\na\r\nb\r\n";
        for split in 1..bytes.len() {
            let (mut commands, mut read) = (Commands::default(), Vec::new());
            for piece in bytes.chunks(split) {
                commands.arrived(piece);
                while let Some(command) = commands.next().unwrap() {
                    read.push(command);
                }
            }
            assert_eq!(read, [vec![b"PING".to_vec()], vec![b"SET".to_vec(), b"".to_vec(), b"a\r\nb".to_vec()]]);
        }
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for bytes in [&b"PING\r\n"[..], b"P", b"*x\r\n", b"*1\r\n:1\r\n", b"*1\r\n$1\r\nabc"] {
            let mut commands = Commands::default();
            commands.arrived(bytes);
            assert!(commands.next().is_err(), "{}", bytes.escape_ascii());
        }
    }
}
