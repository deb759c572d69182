//! The data path. Read this file first: every request that may leave passes through [`handle`], top to bottom.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use clauderon_core::classify::{Classification, classify};
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::facts::Facts;
use clauderon_core::host::Origin;
use clauderon_core::inject::{self, Change, Injected, Plan};
use clauderon_core::local;
use clauderon_core::policy::{decide, settle};
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, Version};

use crate::Proxy;
use crate::body::Body;
use crate::buffer;
use crate::connection::Reply;
use crate::derived::Issue;
use crate::exchange::Exchange;
use crate::forward::{Route, Waiting};
use crate::headers;
use crate::http1::head::check_http2;
use crate::interim::Interim;
use crate::renewal::{Again, Spare};
use crate::respond;
use crate::scrub::{self, Given, Scrub};
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
    if upgrade.is_some() {
        websocket::without_extensions(&mut parts.headers);
    }
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
    let permit = decide(&facts, class, session, &snapshot.rules, policy)
        .map_err(|denial| call.proxy.derived.or_alarm(denial, (&parts, &origin), session, &snapshot))?;
    exchange.permitted(&permit);
    if let Some(wish) = permit.local() {
        let request = (&permit, &parts, body.read().map_or(&[][..], |bytes| bytes));
        let answer = local::answer(wish, request, session, &snapshot.placeholders)?;
        return Ok(respond::Answered::plain(answer.map(Body::from)));
    }
    let body = match permit.narrowing() {
        None => body,
        Some(narrowing) => buffer::narrow(narrowing, &mut parts, body)?,
    };
    let body = if inject::reads_body(&permit, &parts.headers) {
        exchange.hold_body(snapshot.settings.limits.header_timeout).await?;
        Box::pin(buffer::hold(&parts.headers, body, call)).await?
    } else {
        body
    };
    let issue = permit.derivation().map(|derivation| Issue::new(derivation, call, &parts));
    let plan = call.proxy.derived.plan(permit, &parts, body.read(), session, &snapshot.placeholders)?;
    let filled = fill(call, plan, parts, body.read()).await?.counted_for(issue.as_ref());
    exchange.injected(&filled.injected, filled.scrub.as_ref());
    exchange.begin()?;

    let bucket = call.bucket(&origin);
    let sent = exchange.sent();
    let route = Route {
        reach: call.proxy.reach(&snapshot),
        origin: &origin,
        bucket: &bucket,
        interim: call.interim,
        sent: &sent,
        waiting: Waiting::ForAnswers,
    };
    forward(call, &route, Outbound { filled, body, upgrade, issue }, exchange).await
}

/// A request that may go out.
struct Outbound<'a> {
    filled: Filled,
    body: Body,
    /// The key, if it is a WebSocket handshake.
    upgrade: Option<HeaderValue>,
    /// What its answer may hold.
    issue: Option<Issue<'a>>,
}

/// Sends a request, and once again where the origin refuses a secret that has become another since.
async fn forward(
    call: &Call<'_>,
    route: &Route<'_>,
    outbound: Outbound<'_>,
    exchange: &mut Exchange,
) -> Result<respond::Answered, Denial> {
    let Outbound { filled: Filled { injected, scrub, spare }, body, upgrade, issue } = outbound;
    let (spare, body) = Spare::with(spare, body, call.seat);
    let answered = send(route, injected, body, upgrade.as_ref()).await?;
    let again = match spare {
        Some(spare) if answered.status() == StatusCode::UNAUTHORIZED => Box::pin(spare.renewed(call, exchange)).await?,
        _ => None,
    };
    let Some(Again { injected, body, scrub }) = again else {
        return conceal(answered, issue, scrub, route.origin).await;
    };
    drop(answered);
    exchange.injected(&injected, Some(&scrub));
    // What the agent sent is counted already.
    let route = Route { sent: &Arc::default(), ..*route };
    let answered = Box::pin(send(&route, injected, body, upgrade.as_ref())).await?;
    conceal(answered, issue, Some(scrub), route.origin).await
}

/// Takes out of an answer what the agent may not have.
async fn conceal(
    answered: respond::Answered,
    issue: Option<Issue<'_>>,
    scrub: Option<Scrub>,
    origin: &Origin,
) -> Result<respond::Answered, Denial> {
    match (issue, scrub) {
        (Some(issue), Some(scrub)) => Box::pin(answered.swapped(issue, scrub, origin)).await,
        (_, scrub) => answered.scrubbed(scrub, origin).await,
    }
}

/// Sends a request, or a WebSocket handshake with this key.
async fn send(
    route: &Route<'_>,
    mut injected: Injected,
    body: Body,
    upgrade: Option<&HeaderValue>,
) -> Result<respond::Answered, Denial> {
    let body = injected.take_body().map_or(body, Body::Full);
    match upgrade {
        None => Ok(respond::Answered::plain(route.send(injected, body).await?)),
        // Rare: it shall not make every request's future larger.
        Some(key) => Box::pin(websocket::upgrade(route, injected, key)).await,
    }
}

/// A request head that may go out, and what its secret calls for.
struct Filled {
    injected: Injected,
    scrub: Option<Scrub>,
    spare: Option<Box<Spare>>,
}

impl Filled {
    fn without_secret(injected: Injected) -> Self {
        Self { injected, scrub: None, spare: None }
    }

    /// The same; what is taken out of an answer that holds tokens for certain is counted although no secret went out.
    fn counted_for(self, issue: Option<&Issue<'_>>) -> Self {
        let nothing = || issue.filter(|issue| issue.is_certain()).map(|_| Scrub::of_nothing());
        Self { scrub: self.scrub.or_else(nothing), ..self }
    }
}

/// Fetches the secrets the plan needs, and only then; a plan that needs none costs nothing. Where one goes out, the answer
/// will be scrubbed.
async fn fill(call: &Call<'_>, plan: Plan, parts: Parts, body: Option<&Bytes>) -> Result<Filled, Denial> {
    match plan.changes() {
        [] => Ok(Filled::without_secret(plan.apply(parts, None, [])?)),
        [change] => {
            let given = [give(call, change).await?];
            put_in(call, plan, (parts, body), &given)
        }
        // Rare: it shall not make every request's future larger.
        _ => Box::pin(fill_several(call, plan, parts, body)).await,
    }
}

async fn fill_several(call: &Call<'_>, plan: Plan, parts: Parts, body: Option<&Bytes>) -> Result<Filled, Denial> {
    let mut given = Vec::with_capacity(plan.changes().len());
    for change in plan.changes() {
        given.push(give(call, change).await?);
    }
    put_in(call, plan, (parts, body), &given)
}

/// The secret for one change; `None` where none is configured.
async fn give(call: &Call<'_>, change: &Change) -> Result<Option<Given>, Denial> {
    if let Some(token) = change.derived() {
        return Ok(Some(Given::derived(token)));
    }
    let Some(name) = change.credential() else { return Ok(None) };
    let secrets = &call.proxy.secrets;
    let secret = match secrets.peek(name) {
        Known::Ready(secret) => secret,
        Known::Absent => return Ok(None),
        Known::Unresolved => secrets.resolve(name).await.map_err(|why| change.unavailable(Some(&why)))?,
    };
    secrets.used(name);
    let echoes = call.seat.echoes(change.rule(), &secret);
    Ok(Some(Given { secret, base: Some(echoes.clone()), echoes, renewable: secrets.is_renewable(name) }))
}

/// Puts the secrets in. Where one of them could become another by being read again, the request is kept until its answer is
/// known.
fn put_in(
    call: &Call<'_>,
    plan: Plan,
    (mut parts, body): (Parts, Option<&Bytes>),
    given: &[Option<Given>],
) -> Result<Filled, Denial> {
    let Some(scrub) = Scrub::of_given(given, call.seat, parts.method == Method::HEAD) else {
        let nothing = given.iter().map(|_| None);
        return Ok(Filled::without_secret(plan.apply(parts, body, nothing)?));
    };
    scrub::narrow_codings(&mut parts.headers);
    let renewable = given.iter().flatten().any(|given| given.renewable);
    let spare = renewable.then(|| Box::new(Spare::new(&plan, &parts, given, &scrub)));
    let injected = plan.apply(parts, body, Given::secrets(given))?;
    let scrub = injected.auth_injected().then_some(scrub);
    scrub.iter().for_each(|scrub| call.interim.scrub_with(scrub));
    Ok(Filled { injected, scrub, spare })
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
