//! A parsed JSON text as a flat tape, read without recursion.
//!
//! simd-json leaves a list of nodes in which every object and array says how many nodes belong to it. Fields are found
//! by stepping over them, so nothing here recurses and depth costs nothing but the check that refuses it.

use simd_json::{Buffers, Node, StaticNode, Tape};

use super::text;

/// Deepest nesting that is accepted. Real messages stay under five.
const DEPTH_MAX: usize = 64;

/// Parser state that one worker reuses for every message.
pub struct Parser {
    buffers: Buffers,
    /// Kept only for its allocation; always empty between calls.
    spare: Option<Tape<'static>>,
}

impl Default for Parser {
    fn default() -> Self {
        Parser { buffers: Buffers::default(), spare: Some(Tape::null()) }
    }
}

/// Why a text is not JSON that we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotJson {
    /// Not JSON at all: syntax, a lone surrogate, a number beyond what a double holds.
    #[error("not valid JSON")]
    Syntax,
    /// Nested deeper than 64 levels.
    #[error("nested too deeply")]
    TooDeep,
}

impl Parser {
    /// Parses `text` in place and shows the result to `read`.
    pub fn with<R>(&mut self, text: &mut [u8], read: impl FnOnce(Value<'_, '_>) -> R) -> Result<R, NotJson> {
        let mut tape = self.spare.take().unwrap_or_else(Tape::null).reset();
        let outcome = match simd_json::fill_tape(text, &mut self.buffers, &mut tape) {
            Err(_) => Err(NotJson::Syntax),
            Ok(()) if tape.0.is_empty() => Err(NotJson::Syntax),
            Ok(()) if depth_exceeds(&tape.0, DEPTH_MAX) => Err(NotJson::TooDeep),
            Ok(()) => Ok(read(Value { nodes: &tape.0 })),
        };
        self.spare = Some(tape.reset());
        outcome
    }
}

fn depth_exceeds(nodes: &[Node<'_>], max: usize) -> bool {
    // Ends (as node positions) of the containers that enclose the current node.
    let mut ends = [0usize; DEPTH_MAX];
    let mut depth = 0;
    for (at, node) in nodes.iter().enumerate() {
        while depth > 0 && at >= ends[depth - 1] {
            depth -= 1;
        }
        if let Node::Object { count, .. } | Node::Array { count, .. } = node {
            if depth == max {
                return true;
            }
            ends[depth] = at + 1 + count;
            depth += 1;
        }
    }
    false
}

/// One JSON value on a tape: its node and all that belongs to it.
#[derive(Clone, Copy)]
pub struct Value<'t, 'i> {
    nodes: &'t [Node<'i>],
}

impl<'t, 'i> Value<'t, 'i> {
    /// How many nodes the value that starts at `at` takes.
    fn span(nodes: &[Node<'i>], at: usize) -> usize {
        match nodes[at] {
            Node::Object { count, .. } | Node::Array { count, .. } => 1 + count,
            Node::String(_) | Node::Static(_) => 1,
        }
    }

    /// The fields of an object in order; nothing for any other value.
    pub fn fields(self) -> impl Iterator<Item = (&'i str, Value<'t, 'i>)> {
        let nodes = self.nodes;
        let end = match nodes[0] {
            Node::Object { count, .. } => 1 + count,
            _ => 1,
        };
        let mut at = 1;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let Node::String(name) = nodes[at] else { return None };
            let span = Self::span(nodes, at + 1);
            let value = Value { nodes: &nodes[at + 1..at + 1 + span] };
            at += 1 + span;
            Some((name, value))
        })
    }

    /// A field by name. Of duplicate keys the last one counts, as in every JavaScript client.
    pub fn field(self, name: &str) -> Option<Value<'t, 'i>> {
        self.fields().filter(|(key, _)| *key == name).last().map(|(_, value)| value)
    }

    /// The values of an array in order; `None` for any other value.
    pub fn items(self) -> Option<impl Iterator<Item = Value<'t, 'i>>> {
        let nodes = self.nodes;
        let Node::Array { count, .. } = nodes[0] else { return None };
        let mut at = 1;
        Some(std::iter::from_fn(move || {
            if at > count {
                return None;
            }
            let span = Self::span(nodes, at);
            let value = Value { nodes: &nodes[at..at + span] };
            at += span;
            Some(value)
        }))
    }

    /// Whether this is an object.
    pub fn is_object(self) -> bool {
        matches!(self.nodes[0], Node::Object { .. })
    }

    /// Whether this is `null`.
    pub fn is_null(self) -> bool {
        matches!(self.nodes[0], Node::Static(StaticNode::Null))
    }

    /// The text of a string.
    pub fn as_str(self) -> Option<&'i str> {
        match self.nodes[0] {
            Node::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of `true` and `false`.
    pub fn as_bool(self) -> Option<bool> {
        match self.nodes[0] {
            Node::Static(StaticNode::Bool(value)) => Some(value),
            _ => None,
        }
    }

    /// Any number as a double. Integers beyond 2^53 lose their last digits, as in every JavaScript client.
    pub fn as_f64(self) -> Option<f64> {
        match self.nodes[0] {
            Node::Static(StaticNode::F64(value)) => Some(value),
            Node::Static(StaticNode::I64(value)) => Some(value as f64),
            Node::Static(StaticNode::U64(value)) => Some(value as f64),
            _ => None,
        }
    }

    /// Writes the value as JSON text: the same value, without the sender's white space and escapes.
    pub fn write(self, out: &mut Vec<u8>) {
        // What still has to be closed: (node position of the end, closing character).
        let mut open: Vec<(usize, u8)> = Vec::new();
        let mut keys_follow: Vec<bool> = Vec::new();
        let mut first = true;
        let mut at = 0;
        let mut after_key = false;
        loop {
            while let Some(&(end, closing)) = open.last() {
                if at < end {
                    break;
                }
                open.pop();
                keys_follow.pop();
                out.push(closing);
                first = false;
            }
            if at >= self.nodes.len() {
                return;
            }
            let is_key = !after_key && keys_follow.last() == Some(&true);
            if !after_key && !first {
                out.push(b',');
            }
            first = false;
            match self.nodes[at] {
                Node::String(value) => text::write_string(out, value),
                Node::Static(value) => write_static(out, value),
                Node::Object { count, .. } => {
                    out.push(b'{');
                    open.push((at + 1 + count, b'}'));
                    keys_follow.push(true);
                    first = true;
                }
                Node::Array { count, .. } => {
                    out.push(b'[');
                    open.push((at + 1 + count, b']'));
                    keys_follow.push(false);
                    first = true;
                }
            }
            if is_key {
                out.push(b':');
            }
            after_key = is_key;
            at += 1;
        }
    }
}

fn write_static(out: &mut Vec<u8>, value: StaticNode) {
    match value {
        StaticNode::Null => out.extend_from_slice(b"null"),
        StaticNode::Bool(true) => out.extend_from_slice(b"true"),
        StaticNode::Bool(false) => out.extend_from_slice(b"false"),
        StaticNode::I64(value) => text::write_i64(out, value),
        StaticNode::U64(value) => text::write_u64(out, value),
        StaticNode::F64(value) => text::write_f64(out, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(json: &str) -> Result<String, NotJson> {
        let mut text = json.as_bytes().to_vec();
        let mut out = Vec::new();
        Parser::default().with(&mut text, |value| value.write(&mut out))?;
        Ok(String::from_utf8(out).expect("we write UTF-8"))
    }

    #[test]
    fn writing_gives_the_same_value() {
        for json in [
            "{}",
            "[]",
            "null",
            "[[],{},[{}]]",
            r#"{"a":1,"b":[true,false,null,-3,2.5,"x"],"c":{"d":{"e":[]}},"f":"g"}"#,
            r#"{"big":18446744073709551615,"past 2^53":9007199254740993,"small":-9223372036854775808}"#,
            r#"{"text":"tab\t quote\" back\\ slash/ \u0001 é €"}"#,
        ] {
            let written = rewritten(json).unwrap();
            let expected: serde_json::Value = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), expected, "{written}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for json in [
            "",
            " ",
            "NaN",
            "[1e400]",
            "{\"a\":-1e999}",
            r#"["\ud800"]"#,
            r#"["\ud800\u0041"]"#,
            "{'a':1}",
            "[1,]",
            "[1] 2",
        ] {
            assert_eq!(rewritten(json), Err(NotJson::Syntax), "{json}");
        }
    }

    #[test]
    fn depth_has_a_bound_and_costs_no_stack() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(rewritten(&nested(64)).is_ok());
        assert_eq!(rewritten(&nested(65)), Err(NotJson::TooDeep));
        assert_eq!(rewritten(&nested(500)), Err(NotJson::TooDeep));
        // The parser has a bound of its own, beyond ours.
        assert!(rewritten(&nested(10_000)).is_err());
        assert_eq!(rewritten(&r#"{"a":"#.repeat(10_000)), Err(NotJson::Syntax));
    }

    #[test]
    fn items_are_those_of_an_array_and_not_what_is_in_them() {
        let written = |json: &str| {
            let mut text = json.as_bytes().to_vec();
            let items = Parser::default().with(&mut text, |value| {
                value.items().map(|items| {
                    let written = |item: Value<'_, '_>| {
                        let mut out = Vec::new();
                        item.write(&mut out);
                        String::from_utf8(out).expect("we write UTF-8")
                    };
                    items.map(written).collect::<Vec<_>>()
                })
            });
            items.unwrap()
        };
        let nested = [r#"[1,["2"]]"#, "{}", r#"{"a":[3]}"#, r#""4""#, "[]", "null"].map(str::to_owned);
        assert_eq!(written(&format!("[{}]", nested.join(","))), Some(nested.to_vec()));
        assert_eq!(written("[]"), Some(vec![]));
        assert_eq!((written("{}"), written("7"), written("null")), (None, None, None));
    }

    #[test]
    fn the_last_of_duplicate_keys_counts() {
        let mut text = br#"{"a":1,"a":{"a":3},"a":2}"#.to_vec();
        let found = Parser::default().with(&mut text, |value| value.field("a").and_then(|v| v.as_f64()));
        assert_eq!(found, Ok(Some(2.0)));
    }
}
