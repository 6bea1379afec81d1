//! Several vehicles by one name: `bus-*`.

/// A vehicle id in which each `*` stands for any number of characters, none too. Nothing else has a meaning of its own;
/// no vehicle id has a `*` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// The pattern as a claim has it.
    pub fn new(text: &str) -> Pattern {
        Pattern(text.into())
    }

    /// Whether it names this vehicle.
    pub fn names(&self, vehicle_id: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return *self.0 == *vehicle_id };
        let Some(mut left) = vehicle_id.strip_prefix(first) else { return false };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        // The first place where a part fits leaves the most for those that follow.
        for part in middle.split('*') {
            match left.split_once(part) {
                Some((_, after)) => left = after,
                None => return false,
            }
        }
        left.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_is_any_number_of_characters() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("bus-7", &["bus-7"], &["bus-77", "bus-", "a-bus-7", "BUS-7", ""]),
            ("bus-*", &["bus-", "bus-7", "bus-*"], &["bus", "tram-7", "abus-7"]),
            ("*-7", &["-7", "bus-7", "a-7-7"], &["bus-77", "7"]),
            ("b*s-*7", &["bs-7", "bus-17", "bus-7-7"], &["bus-71", "us-7", "b7"]),
            ("*", &["", "anything"], &[]),
            ("**", &["", "anything"], &[]),
            ("a*a", &["aa", "aba"], &["a", "ab"]),
            ("a*b*b", &["abb", "axbxb"], &["ab", "abx"]),
            ("bus.7", &["bus.7"], &["bus-7"]),
            ("", &[""], &["a"]),
        ];
        for (pattern, yes, no) in cases {
            for id in *yes {
                assert!(Pattern::new(pattern).names(id), "{pattern} {id}");
            }
            for id in *no {
                assert!(!Pattern::new(pattern).names(id), "{pattern} {id}");
            }
        }
    }

    /// The same by trying every length for every star.
    fn by_search(pattern: &[u8], id: &[u8]) -> bool {
        match (pattern.split_first(), id.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => (0..=id.len()).any(|skipped| by_search(rest, &id[skipped..])),
            (Some((a, rest)), Some((b, after))) => a == b && by_search(rest, after),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn patterns_mean_what_a_search_finds(pattern in "[ab*]{0,6}", id in "[ab]{0,8}") {
            prop_assert_eq!(Pattern::new(&pattern).names(&id), by_search(pattern.as_bytes(), id.as_bytes()));
        }
    }
}
