//! Looking through a request head: where placeholders stand, and whether a surface is taken.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

use std::borrow::Cow;
use std::fmt;

use http::header::{AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL};
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::auth::{self, Auth};
use crate::credential::CredentialName;
use crate::denial::{Denial, DenialCode};
use crate::placeholder::{PlaceholderTable, Sighting};
use crate::rule::Shape;
use crate::session::{Session, SessionId};

/// A placeholder in a request.
pub(super) struct Seen<'t> {
    pub(super) place: Place,
    pub(super) text: String,
    pub(super) session: &'t SessionId,
    pub(super) credential: &'t CredentialName,
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
    /// In the path, or as a name.
    Elsewhere,
}

/// Every placeholder in the head, whoever's it is.
pub(super) fn placeholders<'t>(parts: &Parts, session: &Session, table: &'t PlaceholderTable) -> Vec<Seen<'t>> {
    let mut look = Look { table, session, seen: Vec::new() };
    for (name, value) in &parts.headers {
        look.header(name, value);
    }
    look.anywhere(parts.uri.path());
    if let Some(query) = parts.uri.query() {
        look.query(query);
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
        Shape::Bearer
        | Shape::PagerdutyToken
        | Shape::Basic { .. }
        | Shape::RegistryBasic { .. }
        | Shape::Anthropic
        | Shape::Header { .. } => fields(shape).any(|name| has(&name)),
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
    percent_decode_str(text).decode_utf8_lossy()
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
            Self::Elsewhere => false,
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
            Self::Elsewhere => f.write_str("in the URL"),
        }
    }
}

struct Look<'t, 's> {
    table: &'t PlaceholderTable,
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
            self.collect(bytes, || Place::Header(name.clone()));
        }
    }

    fn authorization(&mut self, value: &[u8]) {
        let (table, session, before) = (self.table, self.session, self.seen.len());
        let ours = |text: &str| table.owner(text).is_some_and(|(owner, _)| *owner == session.id);
        self.collect(value, || Place::Authorization);
        if let Some(inner) = auth::decoded(value) {
            self.collect(&inner, || Place::Authorization);
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
            self.collect(value.as_bytes(), || Place::Cookie(name.into()));
        }
        if self.seen.len() == before {
            self.collect(value, || Place::Elsewhere);
        }
    }

    fn query(&mut self, query: &str) {
        let before = self.seen.len();
        for (key, value) in pairs(query) {
            let key = decode(key);
            self.collect(decode(value).as_bytes(), || Place::Query(key.clone().into_owned()));
            self.collect(key.as_bytes(), || Place::Elsewhere);
        }
        if self.seen.len() == before {
            self.collect(query.as_bytes(), || Place::Elsewhere);
        }
    }

    /// Text in which no placeholder belongs, as written and decoded.
    fn anywhere(&mut self, text: &str) {
        self.collect(text.as_bytes(), || Place::Elsewhere);
        if text.contains('%') {
            self.collect(decode(text).as_bytes(), || Place::Elsewhere);
        }
    }

    fn collect(&mut self, text: &[u8], place: impl Fn() -> Place) {
        let table = self.table;
        self.seen.extend(table.sightings(text).map(|Sighting { range, session, credential }| Seen {
            place: place(),
            text: String::from_utf8_lossy(text.get(range).unwrap_or_default()).into_owned(),
            session,
            credential,
        }));
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
        Shape::Query { .. } => (None, None),
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
