//! As much JSON as a client needs: members of an object, one after the other, in one pass and without memory.
//!
//! Made for what a gateway writes. What a pass cannot be sure of (an escape in a name, a number that is no integer) is
//! answered with `None`, and left to a real parser.

/// Whether an object's other members matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Go {
    /// They do.
    On,
    /// They do not.
    Stop,
}

/// Walks over JSON, trusting that it is.
#[derive(Clone, Debug)]
pub struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    /// At the beginning of a text.
    pub fn new(text: &'a [u8]) -> Scanner<'a> {
        Scanner { rest: text }
    }

    /// Calls `member` with each key; it has to consume the value, or to stop.
    #[inline]
    pub fn object(&mut self, mut member: impl FnMut(&mut Self, &'a [u8]) -> Option<Go>) -> Option<()> {
        self.take(b'{')?;
        if self.peek()? == b'}' {
            return self.take(b'}');
        }
        loop {
            let key = self.string()?;
            self.take(b':')?;
            if let Go::Stop = member(self, key)? {
                return Some(());
            }
            if self.peek()? == b'}' {
                return self.take(b'}');
            }
            self.take(b',')?;
        }
    }

    /// The next byte that is not white space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.rest.first()? {
                b' ' | b'\n' | b'\r' | b'\t' => self.rest = &self.rest[1..],
                byte => return Some(byte),
            }
        }
    }

    #[inline]
    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.rest = &self.rest[1..])
    }

    /// A string without escapes.
    #[inline]
    pub fn string(&mut self) -> Option<&'a [u8]> {
        self.take(b'"')?;
        let end = self.rest.iter().position(|&byte| byte == b'"' || byte == b'\\')?;
        let (string, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        (rest[0] == b'"').then_some(string)
    }

    /// A whole number that is not negative.
    #[inline]
    pub fn integer(&mut self) -> Option<u64> {
        self.peek()?;
        let mut number = 0u64;
        let mut digits = 0;
        while let Some(byte) = self.rest.get(digits).filter(|byte| byte.is_ascii_digit()) {
            number = number.checked_mul(10)?.checked_add((byte - b'0') as u64)?;
            digits += 1;
        }
        let next = *self.rest.get(digits)?;
        self.rest = &self.rest[digits..];
        (digits > 0 && !matches!(next, b'.' | b'e' | b'E')).then_some(number)
    }

    /// `true` or `false`.
    pub fn flag(&mut self) -> Option<bool> {
        self.peek()?;
        let (word, flag): (&[u8], bool) = if self.rest.starts_with(b"t") { (b"true", true) } else { (b"false", false) };
        self.rest = self.rest.strip_prefix(word)?;
        Some(flag)
    }

    /// Passes over a value.
    pub fn skip_value(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'{' | b'[' => {
                let mut depth = 0;
                loop {
                    match self.peek()? {
                        b'"' => {
                            self.string()?;
                            continue;
                        }
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                    self.rest = &self.rest[1..];
                    if depth == 0 {
                        return Some(());
                    }
                }
            }
            _ => {
                let end = self.rest.iter().position(|byte| matches!(byte, b',' | b'}' | b']'))?;
                self.rest = &self.rest[end..];
                Some(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers, strings and flags of an object, by key.
    fn members(text: &str) -> Option<Vec<String>> {
        let mut members = Vec::new();
        Scanner::new(text.as_bytes()).object(|scanner, key| {
            let value = match key {
                b"n" => scanner.integer()?.to_string(),
                b"s" => String::from_utf8(scanner.string()?.to_vec()).ok()?,
                b"f" => scanner.flag()?.to_string(),
                _ => scanner.skip_value().map(|()| "-".to_owned())?,
            };
            members.push(value);
            Some(if key == b"end" { Go::Stop } else { Go::On })
        })?;
        Some(members)
    }

    #[test]
    fn members_in_any_order_and_spacing() {
        for (text, expected) in [
            ("{}", ""),
            (" { } ", ""),
            (r#"{"n":7,"s":"x","f":true}"#, "7 x true"),
            ("{\"s\" :\t\"\",\r\n \"f\": false , \"n\" : 0 }", " false 0"),
            (r#"{"x":[1,{"n":9,"s":"}]"}],"y":{"z":[]},"q":-1e7,"n":12}"#, "- - - 12"),
            (r#"{"n":1,"end":0, what follows is not looked at"#, "1 -"),
        ] {
            assert_eq!(members(text).map(|members| members.join(" ")).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_it_cannot_be_sure_of_is_none() {
        for text in [
            "",
            "7",
            "{",
            r#"{"n""#,
            r#"{"n":1"#,
            r#"{"n":1.5}"#,
            r#"{"n":1e3}"#,
            r#"{"n":-1}"#,
            r#"{"n":99999999999999999999}"#,
            r#"{"s":"a\"b"}"#,
            r#"{"\u006e":1}"#,
            r#"{"f":null}"#,
            r#"{"x":[{}"#,
            r#"{"n":1 "s":"x"}"#,
        ] {
            assert_eq!(members(text), None, "{text}");
        }
    }
}
