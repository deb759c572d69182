//! Git's smart HTTP protocol and its large files', on whatever host they are spoken.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

use http::{Method, header};
use percent_encoding::percent_decode_str;

use super::{BodyRule, Classification, Classified};
use crate::access::ReadException;
use crate::facts::Facts;

/// A fetch, a batch of large files, or the discovery that begins a push; `None` for anything else.
pub(super) fn classify(facts: &Facts<'_>) -> Option<Classification> {
    if facts.query.is_some_and(asks_to_push) {
        return Some(Classified::write("git-push-discovery").into());
    }
    if is_lfs_batch(facts) {
        return Some(BodyRule::LfsBatch.by_head(facts));
    }
    if writes_lfs(facts) {
        return Some(Classified::write("lfs.write").into());
    }
    is_fetch(facts).then_some(Classified::excepted(ReadException::GitFetch).into())
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

fn is_lfs_batch(facts: &Facts<'_>) -> bool {
    let endpoint = facts.path.is_some_and(|path| path.as_str().ends_with("/info/lfs/objects/batch"));
    *facts.method == Method::POST && !facts.upgrade && endpoint
}

/// Locks, and reports of an upload: no more a write than the method says, but with a name that LFS's users can read.
fn writes_lfs(facts: &Facts<'_>) -> bool {
    let endpoint = facts.path.is_some_and(|path| path.as_str().contains("/info/lfs/"));
    endpoint && ![Method::GET, Method::HEAD, Method::OPTIONS].contains(facts.method)
}
