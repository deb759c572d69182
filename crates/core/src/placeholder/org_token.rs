//! Placeholders for Sentry's organization tokens. sentry-cli takes the address and the organization out of the token itself
//! (getsentry/sentry-cli `src/utils/auth_token/org_auth_token.rs`), so the placeholder says what the real one says.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::session::SessionId;

/// What a token says about its organization; no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region_url: Option<String>,
    org: String,
}

impl Claims {
    /// What `token` says, if it is an organization token.
    pub(super) fn of(token: &str) -> Option<Self> {
        let (claims, _secret) = token.strip_prefix(PREFIX)?.rsplit_once('_')?;
        let claims = STANDARD.decode(claims).or_else(|_| STANDARD_NO_PAD.decode(claims)).ok()?;
        serde_json::from_slice(&claims).ok().filter(|_| token.len() <= LONGEST)
    }

    /// The session's placeholder with these claims.
    pub(super) fn render(&self, session: &SessionId) -> String {
        let said = serde_json::to_string(self).expect("three texts can be written as JSON");
        let own = format!("{},\"iat\":0,{}", beginning(session), said.trim_start_matches('{'));
        format!("{PREFIX}{}_{}", STANDARD.encode(own), STANDARD_NO_PAD.encode([0; SECRET_BYTES]))
    }
}

/// What the session's placeholders begin with, whatever they claim, and no other's do.
pub(super) fn prefix(session: &SessionId) -> String {
    // With its comma this is a multiple of three bytes, so that what follows leaves its Base64 alone.
    format!("{PREFIX}{}", STANDARD.encode(format!("{},", beginning(session))))
}

/// How long the placeholder is that `text` begins with, given that it has a session's [`prefix`].
pub(super) fn length(text: &[u8]) -> Option<usize> {
    let base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    let rest = text.get(PREFIX.len()..)?;
    let claims = rest.iter().take(LONGEST).take_while(|b| base64(b) || **b == b'=').count();
    let secret = rest.get(claims..)?.strip_prefix(b"_")?.get(..SECRET_CHARS)?;
    secret.iter().all(base64).then_some(PREFIX.len() + claims + 1 + SECRET_CHARS)
}

/// Bytes from the beginning of a placeholder to its [`MARKER`].
pub(super) const MARKER_AT: usize = PREFIX.len();
/// Base64 of `{"clauderon"`.
pub(super) const MARKER: &str = "eyJjbGF1ZGVyb24i";
/// Bytes of every [`prefix`].
pub(super) const PREFIX_LEN: usize = PREFIX.len() + 32;

/// The session first: a scanner that looks for Sentry's tokens expects the time of issue there.
fn beginning(session: &SessionId) -> String {
    format!("{{\"clauderon\":\"{}\"", session.as_str())
}

const PREFIX: &str = "sntrys_";
const SECRET_BYTES: usize = 32;
const SECRET_CHARS: usize = 43;
/// Far beyond any address and name of an organization.
const LONGEST: usize = 4096;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    fn real(claims: &str) -> String {
        format!("sntrys_{}_{}", STANDARD.encode(claims), "k".repeat(43))
    }

    #[test]
    fn the_placeholder_claims_what_the_token_claims() {
        let session = SessionId::parse("7f3a9c21").unwrap();
        let token = real(r#"{"iat":1705,"url":"https://sentry.io","region_url":"https://de.sentry.io","org":"acme"}"#);
        let placeholder = Claims::of(&token).unwrap().render(&session);
        assert!(placeholder.starts_with(&prefix(&session)) && prefix(&session).len() == PREFIX_LEN);
        assert_eq!(placeholder.find(MARKER), Some(MARKER_AT));
        assert_eq!(length(placeholder.as_bytes()), Some(placeholder.len()));
        assert_eq!(length(format!("{placeholder}\", x").as_bytes()), Some(placeholder.len()));
        let (payload, secret) = placeholder.strip_prefix("sntrys_").unwrap().rsplit_once('_').unwrap();
        assert_eq!(STANDARD_NO_PAD.decode(secret).unwrap().len(), 32, "sentry-cli counts the bytes");
        assert_eq!(
            String::from_utf8(STANDARD.decode(payload).unwrap()).unwrap(),
            r#"{"clauderon":"7f3a9c21","iat":0,"url":"https://sentry.io","region_url":"https://de.sentry.io","org":"acme"}"#
        );
        assert_ne!(prefix(&session), prefix(&SessionId::parse("7f3a9c22").unwrap()));
    }

    #[test]
    fn other_tokens_claim_nothing() {
        for other in ["sntryu_0123", "sntrys_", "sntrys_e30_x", "sntrys_%%_x", &real("[]"), &real("{\"url\":1}")] {
            assert_eq!(Claims::of(other), None, "{other}");
        }
        assert!(Claims::of(&real(r#"{"url":"https://s.example","org":"o"}"#)).is_some(), "self-hosted names no region");
        let huge = format!(r#"{{"url":"https://s.example/{}","org":"o"}}"#, "x".repeat(LONGEST));
        assert_eq!(Claims::of(&real(&huge)), None);
    }

    #[test]
    fn what_ends_too_early_is_none() {
        for text in
            ["", "sntrys_", "sntrys_eyJ", "sntrys_eyJ_", "sntrys_eyJ_AAAA", &format!("sntrys_eyJ_{}", "-".repeat(43))]
        {
            assert_eq!(length(text.as_bytes()), None, "{text}");
        }
    }
}
