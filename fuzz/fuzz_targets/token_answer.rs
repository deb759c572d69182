//! Answers that hold tokens: what is passed on is the same document with every token masked, as an independent reader finds
//! them, and no byte of a token is left where it stood. Input: the body.
#![no_main]

use clauderon_core::derived::{Answer, Derivation, Form, Token};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

static DERIVATION: Derivation =
    Derivation { kind: "fuzz", tokens: &[masked("token"), masked("access_token")], required: false, always: true };

const fn masked(member: &'static str) -> Token {
    Token { member, prefix: "", form: Form::Masked, lifetime: None, audience: |_| Vec::new() }
}

fuzz_target!(|body: &[u8]| {
    let Ok(answer) = Answer::read(body, true, &DERIVATION, 1_800_000_000) else { return };
    let swapped = answer.swap(|token, _, _| panic!("{} has no placeholder", token.member));
    if body.is_empty() {
        return assert!(swapped.body.is_empty());
    }
    // Numbers out of range and halves of surrogate pairs are JSON by its grammar alone.
    let Ok(mut expected) = serde_json::from_slice::<Value>(body) else { return };
    let mut count = 0;
    mask(&mut expected, false, &mut count);
    let got: Value = serde_json::from_slice(&swapped.body).expect("what goes on is JSON");
    assert_eq!(got, expected);
    // Members of the same name count once for a reader that keeps the last of them.
    assert!(swapped.count >= count, "{} of {count} tokens were masked", swapped.count);
    if count == 0 && swapped.count == 0 {
        assert_eq!(&swapped.body[..], body, "a document without tokens changed");
    }
});

/// Masks the strings of the two members, also in arrays there.
fn mask(value: &mut Value, named: bool, count: &mut u64) {
    match value {
        Value::String(text) if named && !text.trim().is_empty() => {
            *text = "********".to_owned();
            *count += 1;
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, named, count)),
        Value::Object(members) => members.iter_mut().for_each(|(name, value)| {
            let named = DERIVATION.tokens.iter().any(|token| token.member.eq_ignore_ascii_case(name));
            mask(value, named, count);
        }),
        _ => {}
    }
}
