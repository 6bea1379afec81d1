//! Writing JSON: strings, numbers, and decimals of fixed-point units.

/// Writes `value` as a JSON string, quotes included.
pub fn write_string(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    let mut plain = 0;
    for (at, byte) in value.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&value.as_bytes()[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
    }
    out.extend_from_slice(&value.as_bytes()[plain..]);
    out.push(b'"');
}

/// Writes an unsigned integer.
pub fn write_u64(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes an integer as 16 hexadecimal digits, without quotes: a JavaScript client's numbers end at 53 bits.
pub fn write_hex(out: &mut Vec<u8>, value: u64) {
    for shift in (0..64).step_by(4).rev() {
        out.push(HEX[(value >> shift & 15) as usize]);
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Writes a signed integer.
pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    write_u64(out, value.unsigned_abs());
}

/// Writes a finite double in its shortest form; JSON has no other, so anything else becomes `null`.
pub fn write_f64(out: &mut Vec<u8>, value: f64) {
    use std::io::Write;
    if !value.is_finite() {
        out.extend_from_slice(b"null");
    } else if value == value.trunc() && value.abs() < 1e15 {
        write_i64(out, value as i64);
    } else if (1e-5..1e15).contains(&value.abs()) {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{value}");
    } else {
        let _ = write!(out, "{value:e}");
    }
}

/// Writes `value` × 10^−`decimals` without trailing zeros: `(304178750, 7)` is `30.417875`.
pub fn write_decimal(out: &mut Vec<u8>, value: i64, decimals: u32) {
    let unit = 10u64.pow(decimals);
    let magnitude = value.unsigned_abs();
    if value < 0 {
        out.push(b'-');
    }
    write_u64(out, magnitude / unit);
    let mut fraction = magnitude % unit;
    if fraction == 0 {
        return;
    }
    let mut width = decimals;
    while fraction.is_multiple_of(10) {
        fraction /= 10;
        width -= 1;
    }
    out.push(b'.');
    let mut digits = [b'0'; 20];
    for at in (0..width as usize).rev() {
        digits[at] = b'0' + (fraction % 10) as u8;
        fraction /= 10;
    }
    out.extend_from_slice(&digits[..width as usize]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(value: i64, decimals: u32) -> String {
        let mut out = Vec::new();
        write_decimal(&mut out, value, decimals);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn decimals_drop_trailing_zeros_and_keep_leading_ones() {
        assert_eq!(decimal(304_178_750, 7), "30.417875");
        assert_eq!(decimal(-976_670_300, 7), "-97.66703");
        assert_eq!(decimal(1, 7), "0.0000001");
        assert_eq!(decimal(-1, 7), "-0.0000001");
        assert_eq!(decimal(0, 7), "0");
        assert_eq!(decimal(1_800_000_000, 7), "180");
        assert_eq!(decimal(1050, 2), "10.5");
    }

    #[test]
    fn hexadecimal_digits_are_always_16() {
        for value in [0, 1, 0x0123_4567_89AB_CDEF, u64::MAX] {
            let mut out = Vec::new();
            write_hex(&mut out, value);
            assert_eq!(out, format!("{value:016x}").into_bytes());
        }
    }

    #[test]
    fn doubles_read_back_as_themselves() {
        for value in [0.1, -2.5e-9, 1e300, 123456.789, 3.0, -0.5, f64::MIN_POSITIVE] {
            let mut out = Vec::new();
            write_f64(&mut out, value);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(serde_json::from_str::<f64>(&text).unwrap(), value, "{text}");
        }
    }
}
