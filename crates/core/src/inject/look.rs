//! Looking through a request head: where placeholders stand, and whether a surface is taken.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::auth::{self, Auth};
use super::body::{self, Fields};
use crate::credential::CredentialName;
use crate::denial::{Denial, DenialCode};
use crate::derived::{DerivedTable, DerivedToken};
use crate::json::Text;
use crate::path::{TokenSegment, unescaped};
use crate::placeholder::{PlaceholderTable, Sighting};
use crate::rule::{Rule, Shape};
use crate::session::{Session, SessionId};

/// Every placeholder in force at one moment.
#[derive(Clone, Copy)]
pub struct InForce<'t> {
    /// Those of credentials.
    pub credentials: &'t PlaceholderTable,
    /// Those of derived tokens.
    pub derived: &'t DerivedTable,
    /// The moment.
    pub now: Instant,
}

/// A placeholder in a request.
pub(super) struct Seen<'t> {
    pub(super) place: Place,
    pub(super) text: String,
    pub(super) session: &'t SessionId,
    pub(super) credential: &'t CredentialName,
    /// What it stands for, if not for the credential itself.
    pub(super) derived: Option<&'t Arc<DerivedToken>>,
    /// Whether that has ended.
    pub(super) ended: bool,
}

/// Where a placeholder stands.
pub(super) enum Place {
    /// It is the whole token, user or password of `Authorization`.
    Authorization,
    /// In another field, or with other things in `Authorization`.
    Header(HeaderName),
    /// In the value of this parameter.
    Query(String),
    /// In the value of this cookie.
    Cookie(String),
    /// It is the whole of this member or pair of the body.
    Field(String),
    /// In the body otherwise.
    Body,
    /// In this segment of the path, with other things before and after it there.
    Path(TokenSegment),
    /// In a URL in escapes, or as a name.
    Elsewhere,
}

/// Every placeholder in the head, and in the body if that was read; whoever's it is.
pub(super) fn placeholders<'t>(
    parts: &Parts,
    body: Option<&Bytes>,
    session: &Session,
    in_force: InForce<'t>,
) -> Vec<Seen<'t>> {
    let mut look = Look { in_force, session, seen: Vec::new() };
    for (name, value) in &parts.headers {
        look.header(name, value);
    }
    look.path(parts.uri.path());
    if let Some(query) = parts.uri.query() {
        look.query(query);
    }
    if let Some(body) = body {
        look.body(&parts.headers, body);
    }
    look.seen
}

/// Refuses two values of a field that a secret goes into: the origin might read the other one.
pub(super) fn single_valued(parts: &Parts, shape: &Shape) -> Result<(), Denial> {
    let list = |name: &HeaderName| [COOKIE, SEC_WEBSOCKET_PROTOCOL].contains(name);
    let twice = |name: &HeaderName| !list(name) && parts.headers.get_all(name).iter().nth(1).is_some();
    let Some(name) = fields(shape).find(twice) else { return Ok(()) };
    Err(Denial::new(DenialCode::MalformedRequest, format!("the field `{name}` was sent more than once")))
}

/// Whether the client put something of its own on the surface. A scheme with nothing after it is what tools send for an
/// empty variable, and counts as nothing.
pub(super) fn carries_credential(parts: &Parts, shape: &Shape) -> bool {
    let has = |name: &HeaderName| parts.headers.get_all(name).iter().any(|value| !is_blank(value));
    match shape {
        Shape::Query { key } => pairs(parts.uri.query().unwrap_or_default()).any(|(name, _)| decode(name) == **key),
        Shape::Cookie { name } => {
            let values = parts.headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
            values.flat_map(cookies).any(|(cookie, _)| *cookie == **name)
        }
        Shape::Openai => {
            let mut protocols = parts.headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
            let keyed = |value: &HeaderValue| memchr::memmem::find(value.as_bytes(), SUBPROTOCOL.as_bytes()).is_some();
            has(&AUTHORIZATION) || protocols.any(keyed)
        }
        Shape::GoogleKey => {
            let keyed = |query| pairs(query).any(|(name, _)| decode(name) == GOOGLE_QUERY);
            fields(shape).any(|name| has(&name)) || parts.uri.query().is_some_and(keyed)
        }
        // It is never added.
        Shape::Path(_) | Shape::Body { .. } => true,
        Shape::Bearer
        | Shape::PagerdutyToken
        | Shape::Basic { .. }
        | Shape::RegistryBasic { .. }
        | Shape::Anthropic
        | Shape::Header { .. } => fields(shape).any(|name| has(&name)),
    }
}

/// Whether two secrets would be added in the same place.
pub(super) fn share_a_surface(one: &Shape, other: &Shape) -> bool {
    match (one, other) {
        (Shape::Query { key: one }, Shape::Query { key: other }) => one == other,
        (Shape::Cookie { name: one }, Shape::Cookie { name: other }) => one == other,
        _ => fields(one).any(|field| fields(other).any(|other| other == field)),
    }
}

/// The name-value pairs of a query, undecoded.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The cookies of one field value.
pub(super) fn cookies(value: &str) -> impl Iterator<Item = (&str, &str)> {
    value.split(';').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(name, value)| (name.trim(), value))
}

/// One name or value of a query, decoded as forms are.
pub(super) fn decode(text: &str) -> Cow<'_, str> {
    unescaped(text)
}

impl Seen<'_> {
    /// Whether it stands on the surface of this rule, which is for its credential.
    pub(super) fn is_swapped_by(&self, rule: &Rule) -> bool {
        *self.credential == rule.credential && self.place.is_on(&rule.shape)
    }
}

impl Place {
    /// Whether a placeholder here is swapped by a rule of this shape.
    pub(super) fn is_on(&self, shape: &Shape) -> bool {
        match self {
            Self::Authorization => fields(shape).any(|field| field == AUTHORIZATION),
            Self::Header(name) => *name != AUTHORIZATION && fields(shape).any(|field| field == *name),
            Self::Query(key) => {
                let named = matches!(shape, Shape::Query { key: wanted } if **wanted == **key);
                named || (*shape == Shape::GoogleKey && key == GOOGLE_QUERY)
            }
            Self::Cookie(name) => matches!(shape, Shape::Cookie { name: wanted } if **wanted == **name),
            Self::Field(name) => matches!(shape, Shape::Body { field, .. } if **field == **name),
            Self::Path(token) => matches!(shape, Shape::Path(wanted) if wanted == token),
            Self::Body | Self::Elsewhere => false,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authorization => f.write_str("in `authorization`"),
            Self::Header(name) => write!(f, "inside the field `{name}`"),
            Self::Query(_) => f.write_str("in the query"),
            Self::Cookie(_) => f.write_str("in a cookie"),
            Self::Field(_) | Self::Body => f.write_str("in the body"),
            Self::Path(_) => f.write_str("in the path"),
            Self::Elsewhere => f.write_str("in the URL"),
        }
    }
}

struct Look<'t, 's> {
    in_force: InForce<'t>,
    session: &'s Session,
    seen: Vec<Seen<'t>>,
}

impl<'t> Look<'t, '_> {
    fn header(&mut self, name: &HeaderName, value: &HeaderValue) {
        let bytes = value.as_bytes();
        if *name == AUTHORIZATION {
            self.authorization(bytes);
        } else if *name == COOKIE {
            self.cookie(bytes);
        } else {
            self.collect(bytes, |_| Place::Header(name.clone()));
        }
    }

    fn authorization(&mut self, value: &[u8]) {
        let (in_force, session, before) = (self.in_force, self.session, self.seen.len());
        let ours = |text: &str| in_force.owner(text).is_some_and(|owner| *owner == session.id);
        self.collect(value, |_| Place::Authorization);
        if let Some(inner) = auth::decoded(value) {
            self.collect(&inner, |_| Place::Authorization);
        }
        let seen = self.seen.get_mut(before..).unwrap_or_default();
        // A swap replaces one: a second, in the scheme or beside it in Basic, would go out.
        if seen.len() > 1 || Auth::parse(value, ours).is_none() {
            seen.iter_mut().for_each(|seen| seen.place = Place::Header(AUTHORIZATION));
        }
    }

    fn cookie(&mut self, value: &[u8]) {
        let before = self.seen.len();
        for (name, value) in std::str::from_utf8(value).into_iter().flat_map(cookies) {
            self.collect(value.as_bytes(), |_| Place::Cookie(name.into()));
        }
        if self.seen.len() == before {
            self.collect(value, |_| Place::Elsewhere);
        }
    }

    fn query(&mut self, query: &str) {
        let before = self.seen.len();
        for (key, value) in pairs(query) {
            let key = decode(key);
            self.collect(decode(value).as_bytes(), |_| Place::Query(key.clone().into_owned()));
            self.collect(key.as_bytes(), |_| Place::Elsewhere);
        }
        if self.seen.len() == before {
            self.collect(query.as_bytes(), |_| Place::Elsewhere);
        }
    }

    fn body(&mut self, headers: &HeaderMap, body: &[u8]) {
        match body::read(headers, body) {
            Fields::Form(pairs) => pairs.iter().for_each(|(name, value)| {
                let all = 0..value.len();
                self.collect(value.as_bytes(), |at| if *at == all { Place::Field(name.clone()) } else { Place::Body });
                self.collect(name.as_bytes(), |_| Place::Body);
            }),
            Fields::Json(texts) => self.collect(body, |at| {
                let here = |text: &&Text| text.depth == 1 && text.range == (at.start.saturating_sub(1)..at.end + 1);
                texts.iter().find(here).map_or(Place::Body, |text| Place::Field(text.name.clone()))
            }),
            Fields::Unread => self.collect(body, |_| Place::Body),
        }
    }

    /// A placeholder that is written in escapes belongs nowhere.
    fn path(&mut self, path: &str) {
        let before = self.seen.len();
        self.collect(path.as_bytes(), |at| Place::Path(segment_around(path, at)));
        let plain = self.seen.len();
        if path.contains('%') {
            self.collect(decode(path).as_bytes(), |_| Place::Elsewhere);
            if self.seen.len() - plain == plain - before {
                self.seen.truncate(plain);
            }
        }
    }

    fn collect(&mut self, text: &[u8], place: impl Fn(&Range<usize>) -> Place) {
        let InForce { credentials, derived, now } = self.in_force;
        let found = |range: Range<usize>| String::from_utf8_lossy(text.get(range).unwrap_or_default()).into_owned();
        self.seen.extend(credentials.sightings(text).map(|Sighting { range, session, credential }| Seen {
            place: place(&range),
            text: found(range),
            session,
            credential,
            derived: None,
            ended: false,
        }));
        self.seen.extend(derived.sightings(text).map(|(range, token)| Seen {
            place: place(&range),
            text: found(range),
            session: token.session(),
            credential: token.credential(),
            derived: Some(token),
            ended: !token.is_live(now),
        }));
    }
}

/// The segment in which this stands, with that in the place of a secret.
fn segment_around(path: &str, at: &Range<usize>) -> TokenSegment {
    let (before, after) = (path.get(..at.start).unwrap_or_default(), path.get(at.end..).unwrap_or_default());
    let nth = before.matches('/').count().saturating_sub(1);
    let before = before.rsplit('/').next().unwrap_or_default();
    let after = after.split('/').next().unwrap_or_default();
    TokenSegment { nth, before: before.into(), after: after.into() }
}

impl<'t> InForce<'t> {
    /// Whose placeholder `text` is, if it is one.
    fn owner(&self, text: &str) -> Option<&'t SessionId> {
        let derived = || self.derived.owner(text).map(|token| token.session());
        self.credentials.owner(text).map(|(session, _)| session).or_else(derived)
    }
}

/// The fields a shape covers.
fn fields(shape: &Shape) -> impl Iterator<Item = HeaderName> + use<> {
    let (first, second) = match shape {
        Shape::Bearer | Shape::PagerdutyToken | Shape::Basic { .. } | Shape::RegistryBasic { .. } => {
            (Some(AUTHORIZATION), None)
        }
        Shape::Openai => (Some(AUTHORIZATION), Some(SEC_WEBSOCKET_PROTOCOL)),
        Shape::Anthropic => (Some(AUTHORIZATION), Some(super::render::X_API_KEY)),
        Shape::GoogleKey => (Some(AUTHORIZATION), Some(super::render::X_GOOG_API_KEY)),
        Shape::Header { name, .. } => (Some(name.clone()), None),
        Shape::Cookie { .. } => (Some(COOKIE), None),
        Shape::Query { .. } | Shape::Path(_) | Shape::Body { .. } => (None, None),
    };
    first.into_iter().chain(second)
}

fn is_blank(value: &HeaderValue) -> bool {
    let text = value.as_bytes().trim_ascii();
    let schemes: [&[u8]; 5] = [b"", b"bearer", b"token", b"basic", b"token token="];
    schemes.iter().any(|scheme| text.eq_ignore_ascii_case(scheme))
}

/// What OpenAI's realtime clients write before the key.
const SUBPROTOCOL: &str = "openai-insecure-api-key.";
/// Where Google takes a key in the query.
pub(super) const GOOGLE_QUERY: &str = "key";
