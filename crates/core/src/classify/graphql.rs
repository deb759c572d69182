//! GraphQL sent by GET: the one way in which a plain-looking read may carry a mutation.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

use percent_encoding::percent_decode_str;

use super::Classified;
use crate::facts::Facts;

/// A write if a document in the query may hold anything but queries; `None` where there is no such document.
pub(super) fn classify(facts: &Facts<'_>) -> Option<Classified> {
    let query = facts.query?;
    let path = percent_decode_str(facts.raw_path).decode_utf8_lossy();
    let endpoint = path.trim_end_matches('/').rsplit(['/', '.', '-']).next()?;
    let document = endpoint.eq_ignore_ascii_case("graphql").then(|| percent_decode_str(query).decode_utf8_lossy())?;
    let changes = ["mutation", "subscription"].iter().any(|word| document.contains(word));
    changes.then_some(Classified::write("graphql-by-get"))
}
