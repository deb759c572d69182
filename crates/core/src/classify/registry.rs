//! Token requests of the OCI registry protocol (distribution's `spec/auth/{token,oauth,scope}.md`): what a read-only session
//! asks is narrowed to pulling.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

use super::body::BodyRule;
use super::narrow::Narrowing;
use super::{Classification, Classified};
use crate::access::ReadException;
use crate::facts::Facts;

/// The class of a request to a token endpoint.
pub(crate) fn by_head(facts: &Facts<'_>) -> Classification {
    if facts.query.is_some_and(|query| narrow(query).is_none()) {
        return Classified::write("registry-scope").into();
    }
    match *facts.method {
        Method::POST => BodyRule::RegistryToken.by_head(facts),
        _ => Classified::read("registry-token").narrowed(Narrowing::RegistryScope).into(),
    }
}

/// The class of the same request sent as a form.
pub(super) fn by_form(facts: &Facts<'_>, body: &[u8]) -> Classified {
    let form = std::str::from_utf8(body).ok();
    let known = form.and_then(pairs).is_some_and(|pairs| {
        pairs
            .iter()
            .any(|(name, value)| name == "grant_type" && ["password", "refresh_token"].contains(&value.as_str()))
    });
    let narrows = form.and_then(narrow).is_some() && facts.query.is_none_or(|query| narrow(query).is_some());
    if known && narrows {
        return Classified::excepted(ReadException::RegistryToken).narrowed(Narrowing::RegistryScope);
    }
    Classified::write("registry-scope")
}

/// The same query or form, asking for pulling only and for no lasting token; written anew, so that there is one way to read it.
/// `None` if nothing is left of what was asked, or if it can be read in several ways.
pub(super) fn narrow(text: &str) -> Option<String> {
    let (mut asked, mut left, mut kept) = (false, false, Vec::new());
    for (name, value) in pairs(text)? {
        match name.as_str() {
            "scope" => {
                let scopes: Vec<String> = value.split_ascii_whitespace().filter_map(pull_only).collect();
                asked |= !value.trim().is_empty();
                left |= !scopes.is_empty();
                kept.extend((!scopes.is_empty()).then(|| (name, scopes.join(" "))));
            }
            "offline_token" | "access_type" => {}
            _ => kept.push((name, value)),
        }
    }
    let pairs: Vec<String> = kept.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    (left || !asked).then(|| pairs.join("&"))
}

/// What is left of one scope (`type:name:action,action`): pulling, or listing the registry's catalog.
fn pull_only(scope: &str) -> Option<String> {
    let (resource, actions) = scope.rsplit_once(':').filter(|(resource, _)| resource.contains(':'))?;
    if scope == "registry:catalog:*" {
        return Some(scope.to_owned());
    }
    actions.split(',').any(|action| action == "pull").then(|| format!("{resource}:pull"))
}

/// The decoded pairs, if every reader finds the same: no `;` that may separate, no bad escapes, no name twice but `scope`.
pub(crate) fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name)?, decode(value)?);
        let twice = name != "scope" && pairs.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name));
        let alike = name != "scope" && LOOKED_AT.iter().any(|one| *one != name && one.eq_ignore_ascii_case(&name));
        if twice || alike || pairs.len() == MAX_PAIRS {
            return None;
        }
        pairs.push((name, value));
    }
    Some(pairs)
}

fn decode(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    let escapes = spaced.split('%').skip(1);
    let valid = escapes.map(str::as_bytes).all(|e| e.get(..2).is_some_and(|e| e.iter().all(u8::is_ascii_hexdigit)));
    let plain = valid && !text.contains(';');
    plain.then(|| percent_decode(spaced.as_bytes()).decode_utf8().ok().map(String::from))?
}

fn encode(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, ESCAPED)
}

const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const LOOKED_AT: [&str; 4] = ["scope", "offline_token", "access_type", "grant_type"];
const MAX_PAIRS: usize = 64;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_asked_shrinks_to_pulling() {
        let cases = [
            ("", ""),
            ("service=registry.docker.io", "service=registry.docker.io"),
            ("scope=repository%3Ao%2Fr%3Apull&service=s", "scope=repository%3Ao%2Fr%3Apull&service=s"),
            ("scope=repository:o/r:pull,push", "scope=repository%3Ao%2Fr%3Apull"),
            ("scope=repository:o/r:push,pull&scope=repository:a/b:push", "scope=repository%3Ao%2Fr%3Apull"),
            ("scope=repository:a:pull+repository:b:delete,pull", "scope=repository%3Aa%3Apull%20repository%3Ab%3Apull"),
            ("scope=repository:h:5000/r:pull", "scope=repository%3Ah%3A5000%2Fr%3Apull"),
            ("scope=repository(plugin):o/r:pull,push", "scope=repository%28plugin%29%3Ao%2Fr%3Apull"),
            ("scope=registry:catalog:*", "scope=registry%3Acatalog%3A%2A"),
            ("scope=&account=me", "account=me"),
            ("account=me&offline_token=true&client_id=docker", "account=me&client_id=docker"),
            ("grant_type=password&access_type=offline&password=p%26q", "grant_type=password&password=p%26q"),
        ];
        for (asked, narrowed) in cases {
            assert_eq!(narrow(asked).as_deref(), Some(narrowed), "{asked}");
        }
    }

    #[test]
    fn what_is_not_for_pulling_or_not_clear_is_refused() {
        for asked in [
            "scope=repository:o/r:push",
            "scope=repository:o/r:*",
            "scope=repository:o/r:",
            "scope=repository:o/r:Pull",
            "scope=o/r:pull",
            "scope=pull",
            "scope=repository:o/r:push&scope=repository:a/b:delete",
            "Scope=repository:o/r:pull",
            "service=s;scope=repository:o/r:push",
            "scope=repository%3Ao%2Fr%3Apush",
            "%73cope=repository:o/r:push",
            "scope=%zz",
            "scope=%ff",
            "a=1&a=2",
            "Offline_Token=true",
        ] {
            assert_eq!(narrow(asked), None, "{asked}");
        }
    }

    proptest! {
        #[test]
        fn what_is_left_asks_for_nothing_but_pulling(
            scopes in proptest::collection::vec("repository:[a-b/:]{1,4}:(pull|push|delete|\\*|,){0,4}", 1..4), plus in any::<bool>()
        ) {
            let joined = if plus { format!("scope={}", scopes.join("+")) } else {
                scopes.iter().map(|scope| format!("scope={scope}")).collect::<Vec<_>>().join("&")
            };
            if let Some(narrowed) = narrow(&joined) {
                let left = pairs(&narrowed).unwrap();
                prop_assert!(!left.is_empty());
                for scope in left.iter().flat_map(|(_, value)| value.split(' ')) {
                    prop_assert!(scope.ends_with(":pull"), "{}", scope);
                }
                prop_assert_eq!(narrow(&narrowed), Some(narrowed), "narrowing twice changes nothing");
            }
        }
    }
}
