//! Commands: arrays of bulk strings, the only form that servers take.

use crate::wire::text::write_u64;

/// Writes a whole command.
pub fn write(out: &mut Vec<u8>, args: &[&[u8]]) {
    begin(out, args.len());
    for argument in args {
        self::argument(out, argument);
    }
}

/// Begins a command of that many arguments, its name counted.
pub fn begin(out: &mut Vec<u8>, args: usize) {
    write_head(out, b'*', args);
}

/// Writes the next argument.
pub fn argument(out: &mut Vec<u8>, bytes: &[u8]) {
    write_head(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn write_head(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    write_u64(out, length as u64);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut out = Vec::new();
        write(&mut out, &[b"PUBLISH", b"v2v:broadcast", b"", b"a\r\nb"]);
        assert_eq!(out, b"*4\r\n$7\r\nPUBLISH\r\n$13\r\nv2v:broadcast\r\n$0\r\n\r\n$4\r\na\r\nb\r\n");
    }
}
