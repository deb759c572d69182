//! Answers to requests that carried a secret: it is taken out of them again, wherever and however the origin echoes it.

pub(crate) mod body;
mod codings;
mod decode;
pub(crate) mod frames;
mod messages;
mod whole;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::derived::DerivedToken;
use clauderon_core::host::Origin;
use clauderon_core::scrub::{Echoes, Scrubber};
use clauderon_core::secret::Secret;
use http::header::{ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, Entry};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Body as _;

use crate::body::Body;
use crate::http1::head::decimal;
use crate::session::Seat;
use body::{Collected, ScrubbedBody};
use codings::Coding;
pub(crate) use codings::narrow_codings;
use decode::Decoder;
use messages::Messages;
pub(crate) use whole::whole;

/// Takes one request's secret out of all that comes back, and counts how often it was there. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Scrub {
    echoes: Arc<Echoes>,
    /// The forms of the credential behind it.
    base: Option<Arc<Echoes>>,
    redactions: Arc<AtomicU64>,
    /// The request asked for no body (HEAD).
    head_only: bool,
}

/// A secret that goes out, and what it comes back as.
#[derive(Clone)]
pub(crate) struct Given {
    pub(crate) secret: Arc<Secret>,
    pub(crate) echoes: Arc<Echoes>,
    /// The forms of the credential behind it.
    pub(crate) base: Option<Arc<Echoes>>,
    /// Whether its source could tell another one when it is asked again.
    pub(crate) renewable: bool,
}

impl Given {
    /// A derived token, which nobody can ask for again.
    pub(crate) fn derived(token: &DerivedToken) -> Self {
        let (secret, base) = (token.secret().clone(), token.base().cloned());
        Self { secret, echoes: token.echoes(), base, renewable: false }
    }

    /// The secrets of a plan's changes.
    pub(crate) fn secrets(given: &[Option<Self>]) -> impl Iterator<Item = Option<&Secret>> {
        given.iter().map(|given| given.as_ref().map(|given| &*given.secret))
    }
}

impl Scrub {
    /// For a request that carries what is `given`; `None` if that is nothing.
    pub(crate) fn of_given(given: &[Option<Given>], seat: &Seat, head_only: bool) -> Option<Self> {
        let mut all = given.iter().flatten();
        let first = all.next()?;
        let scrub = Self { base: first.base.clone(), ..Self::new(first.echoes.clone(), head_only) };
        match all.next() {
            None => Some(scrub),
            Some(_) => {
                let all = given.iter().flatten().map(|given| given.echoes.clone());
                Some(scrub.with_echoes(seat.joined_echoes(all.collect())))
            }
        }
    }

    /// For a request that carried the secret whose `echoes` these are, and asked for a head only or for a body too.
    pub(crate) fn new(echoes: Arc<Echoes>, head_only: bool) -> Self {
        let base = Some(echoes.clone());
        Self { echoes, base, redactions: Arc::default(), head_only }
    }

    /// For a request that carried nothing; it only counts.
    pub(crate) fn of_nothing() -> Self {
        Self { base: None, ..Self::new(Arc::new(Echoes::new("", "")), false) }
    }

    /// The forms of the credential that went out, or from which what went out was made.
    pub(crate) fn base(&self) -> Option<&Arc<Echoes>> {
        self.base.as_ref()
    }

    /// What is searched for.
    pub(crate) fn echoes(&self) -> Arc<Echoes> {
        self.echoes.clone()
    }

    /// The same, with these `echoes` from now on; the count goes on.
    pub(crate) fn with_echoes(&self, echoes: Arc<Echoes>) -> Self {
        Self { base: Some(echoes.clone()), echoes, ..self.clone() }
    }

    /// How often the secret was taken out so far.
    pub(crate) fn redactions(&self) -> u64 {
        self.redactions.load(Ordering::Relaxed)
    }

    /// Scrubs header or trailer fields. A field whose name holds the secret is dropped.
    pub(crate) fn fields(&self, fields: &mut HeaderMap) {
        let named: Vec<HeaderName> =
            fields.keys().filter(|name| self.text(name.as_str().as_bytes()).is_some()).cloned().collect();
        for name in named {
            fields.remove(name);
        }
        for value in fields.values_mut() {
            if let Some(clean) = self.text(value.as_bytes()) {
                // What stands in is made of letters, digits and escapes.
                *value = HeaderValue::from_maybe_shared(clean).unwrap_or(const { HeaderValue::from_static("") });
            }
        }
    }

    /// Scrubs an answer: fields now, the body as it comes, decoded where the secret could hide in a content coding.
    pub(crate) async fn answer(&self, response: Response<Body>, origin: &Origin) -> Result<Response<Body>, Denial> {
        let (mut parts, body) = response.into_parts();
        self.fields(&mut parts.headers);
        let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&parts.status);
        let body = if self.head_only || bodiless { Body::Empty } else { body };
        let codings = match Coding::all(&parts.headers) {
            Ok(codings) => codings,
            Err(_) if body.is_end_stream() => Vec::new(),
            Err(unknown) => return Err(unsearchable(origin, &format!("in {unknown}"))),
        };
        if !codings.is_empty() {
            if parts.status == StatusCode::PARTIAL_CONTENT && !body.is_end_stream() {
                return Err(unsearchable(origin, "with a part of an encoded body"));
            }
            becomes_identity(&mut parts.headers);
        }
        if body.is_end_stream() {
            return Ok(Response::from_parts(parts, body));
        }
        let decoder = (!codings.is_empty()).then(|| Decoder::new(&codings));
        self.with_body(parts, body, decoder, origin).await
    }

    /// A short body is awaited, so that its new length can be told; clients of registries and others rely on it.
    async fn with_body(
        &self,
        mut parts: Parts,
        body: Body,
        decoder: Option<Decoder>,
        origin: &Origin,
    ) -> Result<Response<Body>, Denial> {
        let short = body.size_hint().exact().is_some_and(|length| length <= MAX_AWAITED);
        let may_change = decoder.is_some() || !self.echoes.keeps_length();
        let scrubbed = Box::new(ScrubbedBody::new(body, decoder, Messages::of(&parts.headers), self.clone()));
        if !short {
            if may_change {
                parts.headers.remove(CONTENT_LENGTH);
            }
            return Ok(Response::from_parts(parts, Body::Scrubbed(scrubbed)));
        }
        let collected = scrubbed.collect(MAX_COLLECTED).await.map_err(|error| {
            Denial::new(DenialCode::UpstreamProtocol, format!("the answer of {} broke off: {error}", origin.host))
        })?;
        Ok(match collected {
            Collected::Whole(bytes) => {
                let told = parts.headers.get(CONTENT_LENGTH).and_then(|length| decimal(length.as_bytes()));
                if told != Some(bytes.len() as u64) {
                    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
                }
                Response::from_parts(parts, Body::Full(bytes))
            }
            Collected::Begun(body) => {
                parts.headers.remove(CONTENT_LENGTH);
                Response::from_parts(parts, Body::Scrubbed(body))
            }
        })
    }

    fn scrubber(&self) -> Scrubber {
        Scrubber::new(self.echoes.clone())
    }

    /// A whole text without the secret; `None` if that is not in it.
    pub(crate) fn text(&self, text: &[u8]) -> Option<Bytes> {
        let (clean, redactions) = self.echoes.scrub(text)?;
        self.count(redactions);
        Some(clean)
    }

    /// Notes that so many secrets were taken out.
    pub(crate) fn count(&self, redactions: u64) {
        if redactions > 0 {
            self.redactions.fetch_add(redactions, Ordering::Relaxed);
        }
    }
}

/// The fields of an answer whose content codings are removed on the way (RFC 9110 §§ 7.7, 8.8.1): what is told of the encoded
/// bytes no longer holds.
pub(crate) fn becomes_identity(headers: &mut HeaderMap) {
    for name in [CONTENT_ENCODING, CONTENT_LENGTH, ACCEPT_RANGES].iter().chain(&DIGESTS) {
        headers.remove(name);
    }
    if let Entry::Occupied(mut tag) = headers.entry(ETAG)
        && !tag.get().as_bytes().starts_with(b"W/")
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.get().as_bytes()].concat())
    {
        tag.insert(weak);
    }
}

fn unsearchable(origin: &Origin, how: &str) -> Denial {
    let message = format!("{} answered {how}, which cannot be searched for the credential it was sent", origin.host);
    Denial::new(DenialCode::UpstreamProtocol, message).hint("ask for gzip, deflate, br, zstd or identity")
}

static DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

/// Most API answers are shorter, and come in one piece with their head.
const MAX_AWAITED: u64 = 64 * 1024;

/// What a short body may become when decoded before it is passed on as it comes.
const MAX_COLLECTED: usize = 512 * 1024;

#[cfg(test)]
mod tests;
