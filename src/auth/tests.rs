//! Files of keys, and what they are good for. What tokens grant is tried in `tests/world` with the same table as over
//! sockets.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config;

const RSA: &str = include_str!("../../tests/tokens/keys/rsa.pem");
const RSA_PUBLIC: &str = include_str!("../../tests/tokens/keys/rsa.pub.pem");
const RSA_PKCS1: &str = include_str!("../../tests/tokens/keys/rsa.pkcs1.pem");
const OTHER_RSA: &str = include_str!("../../tests/tokens/keys/other-rsa.pem");
const SMALL_RSA_PUBLIC: &str = include_str!("../../tests/tokens/keys/small-rsa.pub.pem");
const EC: &str = include_str!("../../tests/tokens/keys/ec.pem");
const EC_PUBLIC: &str = include_str!("../../tests/tokens/keys/ec.pub.pem");
const P384_PUBLIC: &str = include_str!("../../tests/tokens/keys/p384.pub.pem");
const ED: &str = include_str!("../../tests/tokens/keys/ed.pem");
const ED_PUBLIC: &str = include_str!("../../tests/tokens/keys/ed.pub.pem");

fn signed(algorithm: Algorithm) -> String {
    let key = match algorithm {
        Algorithm::RS256 => EncodingKey::from_rsa_pem(RSA.as_bytes()),
        Algorithm::ES256 => EncodingKey::from_ec_pem(EC.as_bytes()),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(ED.as_bytes()),
        _ => Ok(EncodingKey::from_secret(b"s3cret")),
    };
    encode(&Header::new(algorithm), &json!({}), &key.expect("a key")).expect("a token")
}

/// The public half of a key as a member of a set.
fn jwk(pem: &str, algorithm: Algorithm) -> Value {
    let key = match algorithm {
        Algorithm::RS256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
        Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
        _ => EncodingKey::from_ed_pem(pem.as_bytes()),
    };
    let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key.expect("a key"), algorithm).expect("a key");
    serde_json::to_value(jwk).expect("JSON")
}

fn with(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

#[test]
fn a_file_has_the_keys_of_the_algorithms_that_its_tokens_name() {
    use Algorithm::{ES256, EdDSA, HS256, RS256};
    let rules = Rules::new(&config::Auth::default());
    let accepted = |keys: &Keys| {
        let accepts = |algorithm: &Algorithm| rules.read(keys, 0, &signed(*algorithm)).is_ok();
        [HS256, RS256, ES256, EdDSA].into_iter().filter(accepts).collect::<Vec<_>>()
    };
    let all = [RSA_PUBLIC, "between them anything may stand\n", EC_PUBLIC, ED_PUBLIC].concat();
    let (rsa, ec, ed) = (jwk(RSA, RS256), jwk(EC, ES256), jwk(ED, EdDSA));
    let cases = [
        ("", RSA_PUBLIC.to_owned(), vec![RS256]),
        ("", RSA_PKCS1.to_owned(), vec![RS256]),
        ("", EC_PUBLIC.to_owned(), vec![ES256]),
        ("", ED_PUBLIC.replace('\n', "\r\n"), vec![EdDSA]),
        ("s3cret", all, vec![HS256, RS256, ES256, EdDSA]),
        ("", set(&[rsa.clone(), ec.clone(), ed.clone()]), vec![RS256, ES256, EdDSA]),
        ("s3cret", set(&[with(ec.clone(), "kid", json!("2026-11"))]), vec![HS256, ES256]),
        // A secret beside public keys does not make them secrets.
        (RSA_PUBLIC, set(&[with(rsa.clone(), "use", json!("sig"))]), vec![RS256]),
        // What is for something else, or of a kind that we do not know, is passed over.
        (
            "",
            set(&[
                with(rsa.clone(), "use", json!("enc")),
                with(rsa.clone(), "alg", json!("PS256")),
                with(rsa, "alg", json!("RSA-OAEP")),
                json!({"kty": "XYZ"}),
                json!({"kty": "EC", "crv": "P-999", "x": "", "y": ""}),
                ed,
            ]),
            vec![EdDSA],
        ),
        ("", set(&[with(jwk(OTHER_RSA, RS256), "kid", json!("old")), ec]), vec![ES256]),
    ];
    for (secret, text, expected) in cases {
        let keys = Keys::of_file(secret, &text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(accepted(&keys), expected, "{text}");
    }
    assert_eq!(accepted(&Keys::of_secret("s3cret")), [HS256]);
    assert!(Keys::of_secret("").is_empty());
}

#[test]
fn a_file_that_cannot_be_used_says_why() {
    let ed = jwk(ED, Algorithm::EdDSA);
    let cut = &RSA_PUBLIC[..RSA_PUBLIC.len() - 30];
    let secret = |k: &str| set(&[json!({"kty": "oct", "k": k})]);
    let cases = [
        (String::new(), KeysError::Unknown),
        ("a secret".to_owned(), KeysError::Unknown),
        (RSA.to_owned(), KeysError::Private("PRIVATE KEY".to_owned())),
        ([EC_PUBLIC, ED].concat(), KeysError::Private("PRIVATE KEY".to_owned())),
        ("-----BEGIN CERTIFICATE-----\n".to_owned(), KeysError::Label("CERTIFICATE".to_owned())),
        (cut.to_owned(), KeysError::Damaged(1)),
        ([cut, ED_PUBLIC].concat(), KeysError::Damaged(1)),
        (SMALL_RSA_PUBLIC.to_owned(), KeysError::Size(1)),
        ([ED_PUBLIC, P384_PUBLIC].concat(), KeysError::Kind(2)),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----".to_owned(), KeysError::Kind(1)),
        (set(&[]), KeysError::Nothing),
        (set(&[json!({"kty": "XYZ"})]), KeysError::Nothing),
        (set(&vec![ed.clone(); crate::limits::TOKEN_KEYS_MAX + 1]), KeysError::TooMany),
        (set(&[ed.clone(), with(ed.clone(), "d", json!("AAAA"))]), KeysError::Private("key number 2".to_owned())),
        (set(&[with(ed, "x", json!("AAAA"))]), KeysError::Kind(1)),
        (set(&[json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"})]), KeysError::Size(1)),
        (secret("c2hvcnQ"), KeysError::Short(1)),
    ];
    for (text, expected) in cases {
        assert_eq!(Keys::of_file("s3cret", &text).expect_err(&text), expected, "{text}");
    }
    assert!(matches!(Keys::of_file("", "{\"keys\": 3}"), Err(KeysError::Set(_))));
    assert!(Keys::of_file("", &secret("YSBzZWNyZXQgb2YgdGhpcnR5LXR3byBieXRlcyBvciBtb3Jl")).is_ok());
}

#[test]
fn keys_are_not_shown() {
    let shown = format!("{:?}", Keys::of_secret("hunter2"));
    assert!(!shown.contains("hunter2") && !shown.contains("104, 117, 110"), "{shown}");
}

#[test]
fn no_token_at_all_is_a_token() {
    let (rules, keys) = (Rules::default(), Keys::of_secret("s3cret"));
    let long = format!("{}{}", signed(Algorithm::HS256), "A".repeat(crate::limits::TOKEN_BYTES_MAX));
    for text in ["", ".", "..", "...", "a.b.c", "e30.e30.", "\u{0}", &long] {
        assert_eq!(rules.read(&keys, 0, text), Err(TokenFault::Invalid), "{text}");
    }
}

/// A text with some of its bytes replaced, or cut short.
fn damaged(text: &str, wounds: &[(usize, char)], cut: usize) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for (at, letter) in wounds {
        let at = at % letters.len();
        letters[at] = *letter;
    }
    letters.into_iter().take(text.len() - cut % text.len()).collect()
}

proptest! {
    // RSA takes its time where nothing is optimised.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_token_is_refused(
        wounds in proptest::collection::vec((0usize..1 << 16, "[A-Za-z0-9_.=-]"), 1..4),
        which in 0usize..4,
        cut in prop_oneof![Just(0usize), 0usize..1 << 16],
    ) {
        let algorithm = [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA][which];
        let keys = Keys::of_file("s3cret", &[RSA_PUBLIC, EC_PUBLIC, ED_PUBLIC].concat()).expect("keys");
        let whole = signed(algorithm);
        let wounds: Vec<(usize, char)> = wounds.into_iter().filter_map(|(at, c)| Some((at, c.chars().next()?))).collect();
        let token = damaged(&whole, &wounds, cut);
        let outcome = Rules::default().read(&keys, 0, &token);
        prop_assert!(token == whole || outcome == Err(TokenFault::Invalid), "{token}");
    }

    #[test]
    fn a_damaged_file_is_used_or_refused(
        wounds in proptest::collection::vec((0usize..1 << 16, any::<char>()), 0..4),
        which in 0usize..5,
        cut in prop_oneof![Just(0usize), 0usize..1 << 16],
    ) {
        let set = set(&[jwk(ED, Algorithm::EdDSA), jwk(EC, Algorithm::ES256)]);
        let text = [RSA_PUBLIC, EC_PUBLIC, ED_PUBLIC, RSA_PKCS1, &set][which];
        let _ = Keys::of_file("", &damaged(text, &wounds, cut));
    }

    #[test]
    fn any_contents_of_a_key_are_used_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
        label in "(RSA )?PUBLIC KEY",
    ) {
        let body = data_encoding::BASE64.encode(&bytes);
        let _ = Keys::of_file("", &format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"));
    }
}
