//! `Authorization` as clients write it around a placeholder.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

/// A field value that consists of a scheme and one placeholder (RFC 9110 § 11.4).
pub(super) struct Auth<'v> {
    /// As the client wrote it; empty where it wrote none.
    pub(super) scheme: &'v str,
    pub(super) form: Form,
}

/// Where in the credentials the placeholder stands.
pub(super) enum Form {
    /// It is all of them.
    Token,
    /// `token=…`, as PagerDuty and some GitHub clients write it.
    Parameter,
    /// Base64 of the placeholder alone.
    Encoded,
    /// The user of Base64 `user:password`, with this password (RFC 7617 § 2).
    User { password: Zeroizing<String> },
    /// The password, with this user.
    Password { user: String },
}

impl<'v> Auth<'v> {
    /// Reads `value`; `None` if there is anything beside scheme, user and a text that `is_ours`.
    pub(super) fn parse(value: &'v [u8], is_ours: impl Fn(&str) -> bool) -> Option<Self> {
        let value = std::str::from_utf8(value).ok()?.trim();
        let (scheme, rest) = value.split_once(' ').unwrap_or(("", value));
        let rest = rest.trim_start();
        let form = if is_ours(rest) {
            Some(Form::Token)
        } else {
            parameter(rest, &is_ours).or_else(|| encoded(rest, &is_ours))
        };
        Some(Self { scheme, form: form? })
    }
}

/// What a field value holds in Base64 after its scheme, if it does.
pub(super) fn decoded(value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let value = value.trim_ascii();
    let rest = value.iter().position(|b| *b == b' ').and_then(|at| value.get(at..)).unwrap_or(value);
    decode(rest.trim_ascii())
}

/// Base64 as RFC 7617 wants it.
pub(super) fn encode(text: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(BASE64.encode(text))
}

fn parameter(rest: &str, is_ours: &impl Fn(&str) -> bool) -> Option<Form> {
    let (name, value) = rest.split_once('=')?;
    (name.eq_ignore_ascii_case("token") && is_ours(value.trim_matches('"'))).then_some(Form::Parameter)
}

fn encoded(rest: &str, is_ours: &impl Fn(&str) -> bool) -> Option<Form> {
    let bytes = decode(rest.as_bytes())?;
    let text = std::str::from_utf8(&bytes).ok()?;
    match text.split_once(':') {
        None => is_ours(text).then_some(Form::Encoded),
        Some((user, password)) if is_ours(password) && !is_ours(user) => Some(Form::Password { user: user.into() }),
        Some((user, password)) => is_ours(user).then(|| Form::User { password: Zeroizing::new(password.into()) }),
    }
}

fn decode(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    // Most tokens hold a character that Base64 has not, which one look tells.
    if memchr::memchr3(b'-', b'_', b'.', text).is_some() {
        return None;
    }
    BASE64.decode(text).ok().map(Zeroizing::new)
}

/// Clients that write no padding exist, and so do origins that accept it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
