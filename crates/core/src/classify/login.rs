//! Requests to the token endpoint of a login (RFC 6749 § 6, RFC 7009 § 2.1), in JSON or as a form.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

use http::header::CONTENT_TYPE;
use http::request::Parts;

use super::members::Members;
use super::{Classified, registry};
use crate::local::{LocalAnswer, Wish};
use crate::placeholder;

/// What a token endpoint is asked for where the token is a placeholder, and which rules say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginRule {
    /// What the proxy answers itself.
    pub answer: LocalAnswer,
    /// The rule of that answer.
    pub rule: &'static str,
    /// The rule of everything else: it makes tokens, or ends those of others.
    pub minting: &'static str,
}

impl LoginRule {
    /// Answered here, because the token is a placeholder.
    pub(super) const fn local(self) -> Classified {
        Classified::local(self.answer, self.rule)
    }

    /// Anything else.
    pub(super) const fn other(self) -> Classified {
        Classified::mint(self.minting)
    }

    /// By a body whose coding and type the head has told. Whose placeholder it is, the answer looks up.
    pub(super) fn by_body(self, is_json: bool, body: &[u8]) -> Classified {
        let field = |name| read(is_json, body, name);
        let token = match self.answer.wish {
            Wish::Refresh => field("refresh_token").filter(|_| field("grant_type").as_deref() == Some("refresh_token")),
            Wish::Revoke | Wish::Logout => field("token"),
        };
        if token.is_some_and(|token| placeholder::looks_like_one(&token)) { self.local() } else { self.other() }
    }
}

/// A member of such a body.
pub(crate) fn field(parts: &Parts, body: &[u8], name: &str) -> Option<String> {
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    read(is_json(content_type), body, name)
}

/// Whether a body of this type is read as JSON rather than as a form.
pub(super) fn is_json(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn read(is_json: bool, body: &[u8], name: &str) -> Option<String> {
    if is_json {
        return Members::read(body)?.text(name).map(str::to_owned);
    }
    let pairs = registry::pairs(std::str::from_utf8(body).ok()?)?;
    pairs.into_iter().find(|(own, _)| own == name).map(|(_, value)| value)
}
