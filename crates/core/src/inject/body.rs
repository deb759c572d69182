//! Fields of a request's body, as a placeholder may stand in them.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use memchr::memmem;
use zeroize::Zeroizing;

use super::render::{Fault, escaped};
use crate::classify::{Members, form_pairs};
use crate::json::{self, Text, quoted};
use crate::placeholder::looks_like_one;
use crate::policy::Permit;
use crate::rule::{BodyUser, Rule};
use crate::secret::Secret;

/// What of a body may hold a placeholder.
pub(super) enum Fields {
    /// The strings of a JSON document that look as if they did.
    Json(Vec<Text>),
    /// The decoded pairs of a form.
    Form(Vec<(String, String)>),
    /// It is something else, or can be read in several ways.
    Unread,
}

/// Reads a body as its head says that it is meant.
pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Fields {
    let Ok(text) = std::str::from_utf8(body) else { return Fields::Unread };
    let fields = match media_type(headers) {
        Some(MediaType::Json) => {
            json::find(text, |_, value| looks_like_one(value)).map(|found| Fields::Json(found.texts))
        }
        Some(MediaType::Form) => form_pairs(text).map(Fields::Form),
        None => None,
    };
    fields.unwrap_or(Fields::Unread)
}

/// Whether one of `rules` has a placeholder stand in the body, and this request may send one that can be read. A login is read
/// whatever it says to be.
pub(super) fn may_stand_in_it(headers: &HeaderMap, rules: &[Arc<Rule>]) -> bool {
    let reads = |(_, user): (&str, Option<&BodyUser>)| user.is_some() || media_type(headers).is_some();
    rules.iter().any(|rule| rule.shape.body_field().is_some_and(reads))
}

/// Whether the request carries its credential in the body. A login does, whatever its fields are called.
pub(super) fn takes_credential(permit: &Permit, parts: &Parts, body: Option<&Bytes>) -> bool {
    let Some(body) = body.filter(|body| !body.is_empty()) else { return false };
    let in_it = |rule: &Rule| match rule.shape.body_field() {
        Some((_, Some(_))) => true,
        Some((field, None)) => names(&parts.headers, body, field),
        None => false,
    };
    permit.rules().iter().any(|rule| in_it(rule))
}

/// Whether a body may have this member or pair.
fn names(headers: &HeaderMap, body: &[u8], field: &str) -> bool {
    let Ok(text) = std::str::from_utf8(body) else { return true };
    match media_type(headers) {
        Some(MediaType::Json) => json::find(text, |name, _| name == field).is_none_or(|found| !found.is_empty()),
        Some(MediaType::Form) => form_pairs(text).is_none_or(|pairs| pairs.iter().any(|(name, _)| name == field)),
        None => false,
    }
}

/// Puts `secret` where one of `placeholders` is the whole of `field`, and the user that goes with it beside it.
pub(super) fn swap(
    parts: &mut Parts,
    body: &Bytes,
    (field, user): (&str, Option<&BodyUser>),
    placeholders: &[String],
    secret: &Secret,
) -> Result<Bytes, Fault> {
    let text = std::str::from_utf8(body).map_err(|_| Fault::Ambiguous)?;
    let (own, token) = match (user, secret.expose().split_once(':')) {
        (Some(_), Some((own, token))) => (own, token),
        _ => ("", secret.expose()),
    };
    let swap = Swap { field, placeholders, token, user, own };
    let swapped = match media_type(&parts.headers) {
        Some(MediaType::Json) => swap.json(text)?,
        Some(MediaType::Form) => swap.form(text)?,
        None => return Err(Fault::Ambiguous),
    };
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(swapped.len()));
    Ok(Bytes::from_owner(swapped))
}

struct Swap<'a> {
    field: &'a str,
    placeholders: &'a [String],
    token: &'a str,
    user: Option<&'a BodyUser>,
    /// The user that the secret brought along.
    own: &'a str,
}

impl Swap<'_> {
    fn json(&self, text: &str) -> Result<Zeroizing<Vec<u8>>, Fault> {
        // Two members of one name, and the origin might read the other one.
        Members::read(text.as_bytes()).ok_or(Fault::Ambiguous)?;
        let named = |name: &str| name == self.field || self.user.is_some_and(|user| *user.field == *name);
        let found = json::find(text, |name, _| named(name)).ok_or(Fault::Ambiguous)?;
        let mut replaced: Vec<(Range<usize>, Zeroizing<String>)> = Vec::new();
        for text in found.texts.into_iter().filter(|text| text.depth == 1) {
            if let Some(value) = self.value(&text.name, &text.value)? {
                replaced.push((text.range, quoted(value)));
            }
        }
        Ok(json::splice(text, replaced.iter().map(|(range, text)| (range, text.as_str()))))
    }

    fn form(&self, text: &str) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let pairs = form_pairs(text).ok_or(Fault::Ambiguous)?;
        let mut form = Zeroizing::new(Vec::with_capacity(2 * text.len()));
        for (nth, (name, value)) in pairs.iter().enumerate() {
            let value = self.value(name, value)?.unwrap_or(value);
            form.extend_from_slice(if nth == 0 { b"" } else { b"&" });
            form.extend_from_slice(escaped(name).as_bytes());
            form.push(b'=');
            form.extend_from_slice(escaped(value).as_bytes());
        }
        Ok(form)
    }

    /// What takes the place of this field's value, if anything does.
    fn value<'v>(&'v self, name: &str, value: &str) -> Result<Option<&'v str>, Fault> {
        if name == self.field && self.placeholders.iter().any(|placeholder| placeholder == value) {
            return Ok(Some(self.token));
        }
        let Some(user) = self.user.filter(|user| *user.field == *name) else { return Ok(None) };
        if !value.is_empty() && value != "clauderon" {
            return Ok(None);
        }
        let known = [user.name.as_deref(), Some(self.own)].into_iter().flatten().find(|known| !known.is_empty());
        known.map(Some).ok_or(Fault::NoUser)
    }
}

enum MediaType {
    Json,
    Form,
}

/// What the one `Content-Type` says; nothing of a body that is encoded besides.
fn media_type(headers: &HeaderMap) -> Option<MediaType> {
    let mut sent = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (sent.next(), sent.next()) else { return None };
    let essence = value.to_str().ok()?.split(';').next()?.trim().to_ascii_lowercase();
    let plain = headers.get_all(http::header::CONTENT_ENCODING).iter().all(|coding| coding == "identity");
    match essence.as_str() {
        _ if !plain => None,
        "application/x-www-form-urlencoded" => Some(MediaType::Form),
        "application/json" => Some(MediaType::Json),
        other => (other.starts_with("application/") && memmem::find(other.as_bytes(), b"+json").is_some())
            .then_some(MediaType::Json),
    }
}
