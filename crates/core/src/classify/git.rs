//! Git's smart HTTP protocol, on whatever host it is spoken.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

use http::{Method, header};
use percent_encoding::percent_decode_str;

use super::Classified;
use crate::access::ReadException;
use crate::facts::Facts;

/// A fetch, or the discovery that begins a push; `None` for anything else.
pub(super) fn classify(facts: &Facts<'_>) -> Option<Classified> {
    if facts.query.is_some_and(asks_to_push) {
        return Some(Classified::write("git-push-discovery"));
    }
    is_fetch(facts).then_some(Classified::excepted(ReadException::GitFetch))
}

/// The path is not looked at: how an origin reads an odd spelling of `info/refs` is its own affair, and no one else asks this.
fn asks_to_push(query: &str) -> bool {
    let is = |text: &str, word: &str| percent_decode_str(text).decode_utf8_lossy().trim().eq_ignore_ascii_case(word);
    let pairs = query.split(['&', ';']).filter_map(|pair| pair.split_once('='));
    query.len() >= "service=git-receive-pack".len() && { pairs }
        .any(|(key, value)| is(key, "service") && is(value, "git-receive-pack"))
}

fn is_fetch(facts: &Facts<'_>) -> bool {
    let endpoint = facts.path.is_some_and(|path| path.segments().next_back() == Some("git-upload-pack"));
    let mut types = facts.headers.get_all(header::CONTENT_TYPE).iter();
    let declared = types.next().is_some_and(|value| value == "application/x-git-upload-pack-request");
    *facts.method == Method::POST && !facts.upgrade && endpoint && declared && types.next().is_none()
}
