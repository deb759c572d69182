//! Answers that hold derived tokens: read whole, and passed on with placeholders or not at all.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::derived::{Answer, Derivation, DerivedTable, Issuer, Keep, Swapped};
use clauderon_core::host::Origin;
use clauderon_core::inject::{self, InForce, Plan};
use clauderon_core::placeholder::PlaceholderTable;
use clauderon_core::policy::Permit;
use clauderon_core::session::{Session, SessionId};
use http::header::{CONTENT_LENGTH, SET_COOKIE};
use http::request::Parts;
use http::response::Parts as ResponseParts;
use http::{Response, StatusCode};

use crate::body::Body;
use crate::pipeline::Call;
use crate::scrub::{self, Scrub};
use crate::session::Seat;
use crate::snapshot::Snapshot;

/// The derived tokens of all sessions.
pub(crate) struct DerivedTokens(RwLock<DerivedTable>);

/// A request whose answer may hold tokens.
pub(crate) struct Issue<'a> {
    derivation: &'static Derivation,
    call: &'a Call<'a>,
    path: String,
    head_only: bool,
}

impl DerivedTokens {
    /// [`inject::plan`] with the tokens in force.
    pub(crate) fn plan(
        &self,
        permit: Permit,
        parts: &Parts,
        body: Option<&Bytes>,
        session: &Session,
        credentials: &PlaceholderTable,
    ) -> Result<Plan, Denial> {
        let derived = self.read();
        inject::plan(permit, parts, body, session, InForce { credentials, derived: &derived, now: Instant::now() })
    }

    /// [`inject::or_alarm`] with the tokens in force.
    pub(crate) fn or_alarm(
        &self,
        denial: Denial,
        request: (&Parts, &Origin),
        session: &Session,
        snapshot: &Snapshot,
    ) -> Denial {
        let derived = self.read();
        let in_force = InForce { credentials: &snapshot.placeholders, derived: &derived, now: Instant::now() };
        inject::or_alarm(denial, request, &snapshot.rules, session, in_force)
    }

    /// Forgets the tokens of a session that has ended.
    pub(crate) fn end(&self, session: &SessionId) {
        self.write().end(session);
    }

    /// Forgets the tokens that have ended.
    pub(crate) fn sweep(&self) {
        self.write().sweep(Instant::now());
    }

    /// Keeps the tokens of an answer, unless the session has ended meanwhile.
    fn swap(&self, answer: Answer<'_>, keep: &Keep<'_>, seat: &Seat) -> Option<Swapped> {
        let mut table = self.write();
        // Whoever ends a session revokes its seat first and then waits here.
        let live = !seat.revoked.is_cancelled();
        live.then(|| answer.swap(|token, secret, lifetime| table.keep(keep, token, secret, lifetime)))
    }

    fn read(&self) -> RwLockReadGuard<'_, DerivedTable> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, DerivedTable> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for DerivedTokens {
    fn default() -> Self {
        let [.., a, b, c, d] = RandomState::new().build_hasher().finish().to_be_bytes();
        Self(RwLock::new(DerivedTable::new(u32::from_be_bytes([a, b, c, d]))))
    }
}

impl<'a> Issue<'a> {
    pub(crate) fn new(derivation: &'static Derivation, call: &'a Call<'a>, parts: &Parts) -> Self {
        let head_only = parts.method == http::Method::HEAD;
        Self { derivation, call, path: parts.uri.path().to_owned(), head_only }
    }

    /// Whether the tokens are the user's whatever the request carried.
    pub(crate) fn is_certain(&self) -> bool {
        self.derivation.always
    }

    /// The answer with placeholders. One that cannot be read to its end is a failure of the origin, whatever its status.
    pub(crate) async fn swap(
        &self,
        response: Response<Body>,
        scrub: &Scrub,
        origin: &Origin,
    ) -> Result<Response<Body>, Denial> {
        let mut response = response;
        // The cookies of a login are as good as its token.
        response.headers_mut().remove(SET_COOKIE);
        if self.head_only || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&response.status()) {
            scrub.fields(response.headers_mut());
            return Ok(response.map(|_| Body::Empty));
        }
        let limit = self.call.proxy.snapshot().settings.upstream.response_timeout;
        let read = tokio::time::timeout(limit, scrub::whole(response, origin, Derivation::MAX_BYTES)).await;
        let too_slow = || format!("{} did not end its answer within {limit:?}", origin.host);
        let read = read.map_err(|_| Denial::new(DenialCode::UpstreamTimeout, too_slow()))??;
        let (mut parts, body) = read.into_parts();
        scrub::becomes_identity(&mut parts.headers);
        let body = self.without_tokens(&body, &mut parts, scrub, origin)?;
        parts.headers.insert(CONTENT_LENGTH, body.len().into());
        Ok(Response::from_parts(parts, Body::Full(body)))
    }

    /// The body with placeholders; the fields and the rest of the body are searched for the tokens as well.
    fn without_tokens(
        &self,
        body: &[u8],
        parts: &mut ResponseParts,
        scrub: &Scrub,
        origin: &Origin,
    ) -> Result<Bytes, Denial> {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let answer = Answer::read(body, parts.status.is_success(), self.derivation, unix);
        let answer = answer.map_err(|why| withheld(origin, parts.status, &why))?;
        let keep = Keep {
            session: &self.call.seat.id,
            derivation: self.derivation,
            issuer: Issuer { origin, path: &self.path },
            base: scrub.base(),
            now: Instant::now(),
            unix,
        };
        let ended = || Denial::new(DenialCode::ProxyAuthRequired, "this session has ended");
        let Swapped { body, tokens, count } =
            self.call.proxy.derived.swap(answer, &keep, self.call.seat).ok_or_else(ended)?;
        scrub.count(count);
        let mut body = Bytes::from_owner(body);
        let tokens = tokens.iter().map(|token| scrub.with_echoes(token.echoes()));
        for scrub in tokens.chain([scrub.clone()]) {
            scrub.fields(&mut parts.headers);
            body = scrub.text(&body).unwrap_or(body);
        }
        Ok(body)
    }
}

/// What the agent is told of an answer that may hold a token somewhere.
fn withheld(origin: &Origin, status: StatusCode, what: &dyn std::fmt::Display) -> Denial {
    let message = format!("{} answered {} with {what} where it gives out tokens", origin.host, status.as_u16());
    Denial::new(DenialCode::UpstreamProtocol, message).hint("the answer is withheld, since a token could be in it")
}
