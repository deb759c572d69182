//! One request to an API server, from its head to its answer. Every request of the gateway passes through [`handle`].

use clauderon_core::audit::About;
use clauderon_core::config::SecretAccess;
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::facts::Facts;
use clauderon_core::inject::Injected;
use clauderon_core::kubernetes::{self, ApiRequest, Shown};
use http::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, StatusCode, Version};
use http_body::Body as _;

use super::cluster::Cluster;
use super::members::without_values;
use crate::body::Body;
use crate::connection::Reply;
use crate::exchange::Exchange;
use crate::forward::{Route, Waiting};
use crate::gateway::sending::{Sending, no_cluster, route, session_ended};
use crate::gateway::{Call, Gateway};
use crate::headers;
use crate::http1::head::{check_http2, lists, malformed};
use crate::respond::{self, Answered};
use crate::target::at_origin;

/// Answers one request: whatever happens, there is one reply and one audit record.
pub(crate) async fn handle(call: Call<'_>, request: Request<Body>) -> Reply {
    let mut exchange = call.proxy.exchange(call.guest.seat());
    match attempt(&call, request, &mut exchange).await {
        Ok(answered) => {
            if answered.status() == StatusCode::SWITCHING_PROTOCOLS {
                exchange.upgraded();
            }
            respond::pass(answered, exchange)
        }
        Err(denial) => respond::deny_kubernetes(&denial, exchange),
    }
}

/// Read, classify, decide, inject, record, forward; and once more as somebody fresh where the server says 401.
async fn attempt(call: &Call<'_>, request: Request<Body>, exchange: &mut Exchange) -> Result<Answered, Denial> {
    let (mut parts, body) = request.into_parts();
    describe(exchange, &parts);
    let seat = call.guest.admit(&parts)?;
    let snapshot = call.proxy.snapshot();
    let session = snapshot.sessions.by_id(&seat.id).ok_or_else(session_ended)?;
    let session = call.guest.limited(session);
    exchange.of_session(&session);
    let settings = &snapshot.settings;
    if parts.version == Version::HTTP_2 {
        check_http2(&parts, &settings.limits)?;
    }
    let cluster = call.proxy.kubernetes.cluster(call.guest.context()).await.map_err(|why| no_cluster(&why))?;
    at_origin(exchange.record(), &cluster.origin);
    exchange.record().service = Gateway::Kubernetes.service().into();

    let upgrade = asked_upgrade(&parts, &body)?;
    headers::strip_request(&mut parts.headers);
    kubernetes::strip_identity(&mut parts.headers);
    let facts = Facts::of(&parts, &cluster.origin, upgrade.is_some());
    let asked = ApiRequest::read(&facts).map_err(|odd| {
        Denial::new(DenialCode::MalformedRequest, odd.to_string()).hint("send the path without escapes or dot segments")
    })?;
    about(exchange, &asked, upgrade.as_ref());
    let class = kubernetes::classify(&asked, &facts, &settings.kubernetes);
    kubernetes::check_switches(&asked, &session, &settings.kubernetes)?;
    let hides_values = asked.is_about_secrets() && settings.kubernetes.secrets == SecretAccess::Metadata;
    let shown = hides_values.then(|| Shown::asked(&asked, &parts.headers));
    if let Some(shown) = shown {
        shown.ask_for_metadata(&mut parts);
    }

    let asks = upgrade.is_some();
    let mut sending = Sending { call, snapshot: &snapshot, seat, session: &session, class, upgrade: asks, exchange };
    let again = body.is_end_stream().then(|| parts.clone());
    let mut answered = send(&mut sending, &cluster, upgrade.as_ref(), parts, body).await?;
    if answered.status() == StatusCode::UNAUTHORIZED
        && let Some(fresh) = call.proxy.kubernetes.renew(&cluster).await.map_err(|why| no_cluster(&why))?
        && let Some(parts) = again
    {
        answered = send(&mut sending, &fresh, upgrade.as_ref(), parts, Body::Empty).await?;
    }
    match shown {
        Some(shown) => answered.try_map_body(|headers, body| without_values(shown, headers, body)),
        None => Ok(answered),
    }
}

/// Sends a request to the cluster, whose answer says whether it knows who asks.
async fn send(
    sending: &mut Sending<'_>,
    cluster: &Cluster,
    upgrade_to: Option<&HeaderValue>,
    mut parts: Parts,
    body: Body,
) -> Result<Answered, Denial> {
    let plan = sending.plan(&cluster.access, &cluster.origin, &parts)?;
    for (name, value) in &cluster.impersonate {
        parts.headers.append(name, value.clone());
    }
    prefixed(&mut parts, &cluster.prefix)?;
    let (injected, scrub) = sending.injected(&cluster.access, plan, parts)?;
    let Sending { call, snapshot, .. } = *sending;
    call.proxy.kubernetes.used(cluster);
    let bucket = sending.bucket(&cluster.access, &cluster.origin);
    let sent = sending.exchange.sent();
    let (access, origin) = (&cluster.access, &cluster.origin);
    let route = route((call, snapshot), access, origin, &bucket, (&sent, Waiting::ForAnswers));
    match upgrade_to {
        // Whatever is spoken from here on is passed on as it is.
        Some(protocol) => upgrade(&route, injected, protocol).await,
        None => Answered::plain(route.send(injected, body).await?).scrubbed(scrub, origin).await,
    }
}

/// Asks the server to leave HTTP. It may answer in HTTP all the same.
async fn upgrade(route: &Route<'_>, injected: Injected, protocol: &HeaderValue) -> Result<Answered, Denial> {
    let (mut response, upgraded) = route.upgrade(injected, protocol.clone()).await?;
    let Some(upgraded) = upgraded else { return Ok(Answered::plain(response)) };
    let headers = response.headers_mut();
    let agrees = |to: &HeaderValue| to.as_bytes().eq_ignore_ascii_case(protocol.as_bytes());
    if !headers.get(UPGRADE).is_some_and(agrees) {
        let message = format!("{} switched to a protocol that was not asked for", route.origin.host);
        return Err(Denial::new(DenialCode::UpstreamProtocol, message));
    }
    headers::strip_response(headers);
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, protocol.clone());
    Ok(Answered::switching(response, upgraded))
}

/// The protocol a client asks for in place of HTTP: a WebSocket, or SPDY as older clients have it.
fn asked_upgrade(parts: &Parts, body: &Body) -> Result<Option<HeaderValue>, Denial> {
    let mut protocols = parts.headers.get_all(UPGRADE).iter();
    let Some(protocol) = protocols.next().filter(|_| parts.version == Version::HTTP_11) else { return Ok(None) };
    if !lists(&parts.headers, "upgrade") {
        return Ok(None);
    }
    let known =
        ["websocket", "spdy/3.1"].iter().any(|known| protocol.as_bytes().eq_ignore_ascii_case(known.as_bytes()));
    if !known || protocols.next().is_some() {
        let message = "only upgrades to WebSocket and SPDY/3.1 are forwarded";
        return Err(Denial::new(DenialCode::UpgradeNotAllowed, message));
    }
    if !body.is_end_stream() {
        return Err(malformed("an upgrade with a body"));
    }
    Ok(Some(protocol.clone()))
}

/// Puts the path of the server's URL in front.
fn prefixed(parts: &mut Parts, prefix: &str) -> Result<(), Denial> {
    if prefix.is_empty() {
        return Ok(());
    }
    let target = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let target = format!("{prefix}{target}").parse().map_err(|_| malformed("a target that cannot be extended"))?;
    parts.uri = target;
    Ok(())
}

fn describe(exchange: &mut Exchange, parts: &Parts) {
    let record = exchange.record();
    record.service = Gateway::Kubernetes.service().into();
    record.method = parts.method.as_str().into();
    record.path = parts.uri.path().into();
    record.protocol = if parts.version == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" };
}

fn about(exchange: &mut Exchange, asked: &ApiRequest<'_>, upgrade: Option<&HeaderValue>) {
    let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let record = exchange.record();
    record.about = Some(Box::new(About {
        verb: Some(asked.verb),
        resource: asked.resource.as_ref().map(kubernetes::Resource::label),
        namespace: asked.resource.as_ref().and_then(|resource| filled(resource.namespace)),
        ..About::default()
    }));
    if let Some(protocol) = upgrade {
        record.protocol = if protocol.as_bytes().eq_ignore_ascii_case(b"websocket") { "websocket" } else { "spdy" };
    }
}
