//! GraphQL bodies: what is taken for a query changes nothing. Input: a document; with a leading `!`, a whole body.
#![no_main]

use clauderon_core::access::{OperationClass, ReadException};
use clauderon_core::classify::BodyRule;
use clauderon_core::facts::Facts;
use clauderon_core::host::{Authority, Scheme};
use http::Request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Some(body) = input.strip_prefix(b"!") {
        if reads(body) {
            assert!(body.trim_ascii().starts_with(b"{"), "only an object is a request");
            assert!(!reads(&[b"[", body, b"]"].concat()), "a batch is a write");
            assert!(!reads(&[b"\xef\xbb\xbf", body].concat()), "a byte order mark is ambiguous");
            assert!(!reads(&[body, body].concat()), "two requests are not one");
        }
        return;
    }
    let Ok(document) = std::str::from_utf8(input) else { return };
    if reads(&request(document)) {
        let words = keywords(document);
        assert!(
            !words.iter().any(|word| word == "mutation" || word == "subscription"),
            "{document:?} begins {words:?}"
        );
        assert!(!reads(&request(&format!("{document}\nmutation{{x}}"))), "{document:?}");
        assert!(!reads(&request(&format!("subscription{{x}}\n{document}"))), "{document:?}");
    }
});

fn reads(body: &[u8]) -> bool {
    let origin = Authority::parse("api.github.com").expect("a host").origin(Scheme::Https);
    let request = Request::post("/graphql").header("content-type", "application/json").body(());
    let (parts, ()) = request.expect("a plain request").into_parts();
    let class = BodyRule::Graphql.classify(&Facts::of(&parts, &origin, false), body).class;
    class == OperationClass::Excepted(ReadException::GraphqlQuery)
}

fn request(document: &str) -> Vec<u8> {
    let mut json = String::from("{\"query\":\"");
    for c in document.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if c.is_control() => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => json.push(c),
        }
    }
    (json + "\"}").into_bytes()
}

/// What definitions begin with, by a scanner that knows strings, comments and brackets and nothing else.
fn keywords(text: &str) -> Vec<String> {
    let (mut found, mut rest, mut open, mut fresh) = (Vec::new(), text, 0_i32, true);
    while let Some(c) = rest.chars().next() {
        let word: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let length = match c {
            '#' => rest.find(['\n', '\r']).unwrap_or(rest.len()),
            '"' if rest.starts_with("\"\"\"") => end_of(rest, "\"\"\""),
            '"' => end_of(rest, "\""),
            c => word.len().max(c.len_utf8()),
        };
        if open == 0 && fresh && !word.is_empty() {
            found.push(word);
            fresh = false;
        }
        open += i32::from(matches!(c, '{' | '(' | '[')) - i32::from(matches!(c, '}' | ')' | ']'));
        fresh |= c == '}' && open == 0;
        rest = &rest[length..];
    }
    found
}

fn end_of(text: &str, quotes: &str) -> usize {
    let body = &text[quotes.len()..];
    let mut from = 0;
    while let Some(at) = body[from..].find(quotes).map(|at| at + from) {
        let escapes = body[..at].bytes().rev().take_while(|b| *b == b'\\').count();
        let escaped = if quotes.len() == 1 { escapes % 2 == 1 } else { escapes > 0 };
        if !escaped {
            return quotes.len() + at + quotes.len();
        }
        from = at + quotes.len();
    }
    text.len()
}
