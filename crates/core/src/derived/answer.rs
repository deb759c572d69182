//! An answer that holds tokens: read whole, or not passed on at all.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::table::DerivedToken;
use super::{Derivation, Form, Token};
use crate::json::{self, Found, quoted};
use crate::secret::Secret;

/// An answer's body in which every token is known.
pub struct Answer<'a> {
    body: &'a str,
    held: Vec<Held>,
}

/// A token in an answer.
struct Held {
    token: &'static Token,
    secret: Secret,
    /// Where it stands in the body.
    range: Range<usize>,
    lifetime: Option<Duration>,
}

/// What may be passed on of an answer.
pub struct Swapped {
    /// The body with placeholders.
    pub body: Zeroizing<Vec<u8>>,
    /// What they stand for.
    pub tokens: Vec<Arc<DerivedToken>>,
    /// How many were replaced.
    pub count: u64,
}

/// Why an answer is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unswappable {
    /// Not one JSON document.
    #[error("a body that is no JSON document")]
    NoJson,
    /// A success that holds none of the tokens.
    #[error("a body without the token that was asked for")]
    NoToken,
    /// A token that no request could carry.
    #[error("a token that no request can carry")]
    BadToken,
    /// More tokens than any service gives at once.
    #[error("more tokens than one session may hold")]
    TooMany,
}

impl<'a> Answer<'a> {
    /// Finds the tokens in a body. `success` says that the status is one with which they come (RFC 9110 § 15.3); other answers
    /// may hold them too. An empty body holds none. `now` is in seconds since the Unix epoch.
    pub fn read(body: &'a [u8], success: bool, derivation: &Derivation, now: u64) -> Result<Self, Unswappable> {
        let body = std::str::from_utf8(body).map_err(|_| Unswappable::NoJson)?;
        let held = if body.is_empty() { Vec::new() } else { held(body, derivation, now)? };
        match held.len() {
            0 if success && derivation.required => Err(Unswappable::NoToken),
            ..=MAX_TOKENS => Ok(Self { body, held }),
            _ => Err(Unswappable::TooMany),
        }
    }

    /// Whether there is no token in it.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Puts placeholders in the place of the tokens; `keep` holds a token for its lifetime and says what stands for it.
    pub fn swap(self, mut keep: impl FnMut(&'static Token, Secret, Option<Duration>) -> Arc<DerivedToken>) -> Swapped {
        let (mut tokens, mut replaced) = (Vec::new(), Vec::new());
        for Held { token, secret, range, lifetime } in self.held {
            let text = if token.form == Form::Masked {
                quoted(MASK)
            } else {
                let kept = keep(token, secret, lifetime);
                let text = quoted(kept.placeholder());
                tokens.push(kept);
                text
            };
            replaced.push((range, text));
        }
        let body = json::splice(self.body, replaced.iter().map(|(range, text)| (range, text.as_str())));
        Swapped { body, tokens, count: replaced.len() as u64 }
    }
}

fn held(body: &str, derivation: &Derivation, now: u64) -> Result<Vec<Held>, Unswappable> {
    let is = |token: &Token, name: &str| token.member.eq_ignore_ascii_case(name);
    let wanted =
        |name: &str, _: &str| LIFETIMES.contains(&name) || derivation.tokens.iter().any(|token| is(token, name));
    let found = json::find(body, wanted).ok_or(Unswappable::NoJson)?;
    let mut held = Vec::new();
    for text in &found.texts {
        let mut tokens = derivation.tokens.iter().filter(|token| is(token, &text.name));
        let Some(token) = tokens.find(|token| text.value.starts_with(token.prefix)) else { continue };
        let Some(secret) = Secret::parse(&text.value).map_err(|_| Unswappable::BadToken)? else { continue };
        if secret.to_header("", "").is_err() {
            return Err(Unswappable::BadToken);
        }
        let usual = || token.lifetime.map(|seconds| Duration::from_secs(seconds.into()));
        let lifetime = told(&found, text.object, now).or_else(usual);
        held.push(Held { token, secret, range: text.range.clone(), lifetime });
    }
    Ok(held)
}

/// How long a token lives as the object that holds it says: for so many seconds (RFC 6749 § 5.1), or until then.
fn told(found: &Found, object: usize, now: u64) -> Option<Duration> {
    let number = |name| found.numbers.iter().find(|n| n.object == object && n.name == name).map(|n| n.value);
    let seconds = number("expires_in").or_else(|| number("expires_at").map(|at| at.saturating_sub(now)))?;
    Some(Duration::from_secs(seconds.clamp(1, MAX_LIFETIME)))
}

const LIFETIMES: [&str; 2] = ["expires_in", "expires_at"];
const MASK: &str = "********";

/// A year.
const MAX_LIFETIME: u64 = 365 * 86_400;

/// Three is the most any endpoint is known to give, but a listing may have a few dozen to mask.
const MAX_TOKENS: usize = 1024;
