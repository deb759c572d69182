//! The data path. Read this file first: every request that may leave passes through [`handle`], top to bottom.

use std::borrow::Cow;
use std::sync::Arc;

use clauderon_core::classify::{Classification, classify};
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::facts::Facts;
use clauderon_core::host::Origin;
use clauderon_core::inject::{self, Injected, Plan};
use clauderon_core::local;
use clauderon_core::policy::{decide, settle};
use http::request::Parts;
use http::{Method, Request, Version};

use crate::Proxy;
use crate::body::Body;
use crate::buffer;
use crate::connection::Reply;
use crate::exchange::Exchange;
use crate::forward::Route;
use crate::headers;
use crate::http1::head::check_http2;
use crate::interim::Interim;
use crate::respond;
use crate::scrub::{self, Scrub};
use crate::session::Seat;
use crate::snapshot::Known;
use crate::target::{self, Target};
use crate::upstream::pool::Bucket;
use crate::websocket;

/// One request's circumstances.
pub(crate) struct Call<'a> {
    pub(crate) proxy: &'a Proxy,
    pub(crate) seat: &'a Arc<Seat>,
    pub(crate) target: Target<'a>,
    pub(crate) interim: &'a Interim,
}

/// Answers one request: whatever happens, there is one reply and one audit record.
pub(crate) async fn handle(call: Call<'_>, request: Request<Body>) -> Reply {
    let mut exchange = call.proxy.exchange(Some(call.seat));
    match attempt(&call, request, &mut exchange).await {
        Ok(answered) => respond::pass(answered, exchange),
        Err(denial) => respond::deny(&denial, exchange),
    }
}

/// Read, classify, decide, inject, record, forward; each step takes what the one before it made.
async fn attempt(
    call: &Call<'_>,
    request: Request<Body>,
    exchange: &mut Exchange,
) -> Result<respond::Answered, Denial> {
    let (mut parts, body) = request.into_parts();
    target::describe(exchange.record(), &parts, &call.target);
    let snapshot = call.proxy.snapshot();
    let session = snapshot.sessions.by_id(&call.seat.id).ok_or_else(session_ended)?;
    exchange.of_session(session);

    if parts.version == Version::HTTP_2 {
        check_http2(&parts, &snapshot.settings.limits)?;
    }
    let origin = call.target.agree(&parts)?;
    let upgrade = websocket::asks(&parts, &body)?;
    headers::strip_request(&mut parts.headers);
    let facts = Facts::of(&parts, &origin, upgrade.is_some());
    target::name(exchange.record(), &facts, &snapshot.rules);

    let policy = &snapshot.settings.policy;
    let (class, body) = match settle(classify(&facts, &snapshot.rules), session, policy) {
        Classification::Known(class) => (class, body),
        Classification::NeedsBody(rule) => {
            exchange.hold_body(snapshot.settings.limits.header_timeout).await?;
            Box::pin(buffer::classify(rule, &facts, body, call)).await?
        }
    };
    let permit = decide(&facts, class, session, &snapshot.rules, policy)?;
    exchange.permitted(&permit);
    if let Some(wish) = permit.local() {
        let request = (&permit, &parts, body.read().unwrap_or_default());
        let answer = local::answer(wish, request, session, &snapshot.placeholders)?;
        return Ok(respond::Answered::plain(answer.map(Body::from)));
    }
    let body = match permit.narrowing() {
        None => body,
        Some(narrowing) => buffer::narrow(narrowing, &mut parts, body)?,
    };
    let plan = inject::plan(permit, &parts, session, &snapshot.placeholders)?;
    let (injected, scrub) = fill(call, plan, parts).await?;
    exchange.injected(&injected, scrub.as_ref());
    exchange.begin()?;

    let bucket = call.bucket(&origin);
    let sent = exchange.sent();
    let route = Route {
        proxy: call.proxy,
        snapshot: &snapshot,
        origin: &origin,
        bucket: &bucket,
        interim: call.interim,
        sent: &sent,
    };
    let answered = match upgrade {
        None => respond::Answered::plain(route.send(injected, body).await?),
        Some(key) => websocket::upgrade(&route, injected, &key).await?,
    };
    answered.scrubbed(scrub, &origin).await
}

/// Fetches the secret the plan needs, and only then; a plan that needs none costs nothing. Where the secret goes out, the
/// answer will be scrubbed.
async fn fill(call: &Call<'_>, plan: Plan, mut parts: Parts) -> Result<(Injected, Option<Scrub>), Denial> {
    let secrets = &call.proxy.secrets;
    let Some(name) = plan.credential() else { return Ok((plan.without_secret(parts, None)?, None)) };
    let secret = match secrets.peek(name) {
        Known::Ready(secret) => Ok(secret),
        Known::Absent => return Ok((plan.without_secret(parts, None)?, None)),
        Known::Unresolved => secrets.resolve(name).await,
    };
    match secret {
        Ok(secret) => {
            secrets.used(name);
            let head_only = parts.method == Method::HEAD;
            scrub::narrow_codings(&mut parts.headers);
            let injected = plan.apply(parts, &secret)?;
            let scrub = injected.rule().map(|rule| Scrub::new(call.seat.echoes(rule, &secret), head_only));
            scrub.iter().for_each(|scrub| call.interim.scrub_with(scrub));
            Ok((injected, scrub))
        }
        Err(why) => Ok((plan.without_secret(parts, Some(&why))?, None)),
    }
}

impl Call<'_> {
    fn bucket(&self, origin: &Origin) -> Cow<'_, Arc<Bucket>> {
        match &self.target {
            Target::Tunnel(tunnel) => Cow::Borrowed(&tunnel.bucket),
            Target::Absolute => Cow::Owned(self.proxy.pool.bucket(&self.seat.id, origin)),
        }
    }
}

fn session_ended() -> Denial {
    Denial::new(DenialCode::ProxyAuthRequired, "this session has ended").hint("clauderon list")
}
