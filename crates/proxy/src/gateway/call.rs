//! One request to an API server, from its head to its answer. Every request of the gateway passes through [`handle`].

use std::sync::Arc;

use clauderon_core::audit::About;
use clauderon_core::classify::Classified;
use clauderon_core::config::SecretAccess;
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::facts::Facts;
use clauderon_core::inject::{Injected, Plan};
use clauderon_core::kubernetes::{self, ApiRequest, Shown};
use clauderon_core::policy::decide;
use clauderon_core::session::Session;
use http::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, StatusCode, Version};
use http_body::Body as _;

use super::Guest;
use super::cluster::{Cluster, Identity};
use super::members::without_values;
use crate::Proxy;
use crate::body::Body;
use crate::connection::Reply;
use crate::exchange::Exchange;
use crate::forward::Route;
use crate::headers;
use crate::http1::head::{check_http2, lists, malformed};
use crate::interim::Interim;
use crate::respond::{self, Answered};
use crate::scrub::{self, Scrub};
use crate::session::Seat;
use crate::snapshot::Snapshot;
use crate::target::at_origin;
use crate::upstream::dial::Reach;

/// One request's circumstances.
pub(crate) struct Call<'a> {
    pub(crate) proxy: &'a Proxy,
    pub(crate) guest: &'a Guest,
    pub(crate) interim: &'a Interim,
}

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
    let cluster = call.proxy.clusters.cluster(call.guest.context.as_deref()).await.map_err(|why| no_cluster(&why))?;
    at_origin(exchange.record(), &cluster.origin);
    exchange.record().service = SERVICE.into();

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

    let mut sending = Sending { call, snapshot: &snapshot, seat, session: &session, class, upgrade, exchange };
    let again = body.is_end_stream().then(|| parts.clone());
    let mut answered = sending.send(&cluster, parts, body).await?;
    if answered.status() == StatusCode::UNAUTHORIZED
        && let Some(fresh) = call.proxy.clusters.renew(&cluster).await.map_err(|why| no_cluster(&why))?
        && let Some(parts) = again
    {
        answered = sending.send(&fresh, parts, Body::Empty).await?;
    }
    match shown {
        Some(shown) => answered.try_map_body(|headers, body| without_values(shown, headers, body)),
        None => Ok(answered),
    }
}

/// A decided request on its way, perhaps twice.
struct Sending<'a> {
    call: &'a Call<'a>,
    snapshot: &'a Snapshot,
    seat: &'a Arc<Seat>,
    session: &'a Session,
    class: Classified,
    /// The protocol that the client asks for in place of HTTP.
    upgrade: Option<HeaderValue>,
    exchange: &'a mut Exchange,
}

impl Sending<'_> {
    async fn send(&mut self, cluster: &Cluster, parts: Parts, body: Body) -> Result<Answered, Denial> {
        let Self { call, snapshot, session, .. } = *self;
        let policy = &snapshot.settings.policy;
        let facts = Facts::of(&parts, &cluster.origin, self.upgrade.is_some());
        let permit = decide(&facts, self.class, session, &cluster.rules, policy)?;
        self.exchange.permitted(&permit);
        let plan = call.proxy.derived.plan(permit, &parts, None, session, &snapshot.placeholders)?;
        let (injected, scrub) = self.fill(cluster, plan, parts)?;
        self.note(cluster, &injected, scrub.as_ref());
        self.exchange.begin_once()?;
        call.proxy.clusters.used(cluster);

        let bucket = call.proxy.pool.bucket_as(&self.seat.id, &cluster.origin, cluster.serial);
        let sent = self.exchange.sent();
        let route = Route {
            reach: Reach {
                tls: &cluster.tls,
                settings: &snapshot.settings,
                own_listeners: &call.proxy.own_listeners,
                named: Some(&cluster.named),
            },
            origin: &cluster.origin,
            bucket: &bucket,
            interim: call.interim,
            sent: &sent,
        };
        match &self.upgrade {
            // Whatever is spoken from here on is passed on as it is.
            Some(protocol) => upgrade(&route, injected, protocol).await,
            None => Answered::plain(route.send(injected, body).await?).scrubbed(scrub, &cluster.origin).await,
        }
    }

    /// Puts the identity in.
    fn fill(&self, cluster: &Cluster, plan: Plan, mut parts: Parts) -> Result<(Injected, Option<Scrub>), Denial> {
        for (name, value) in &cluster.impersonate {
            parts.headers.append(name, value.clone());
        }
        let head_only = parts.method == Method::HEAD;
        prefixed(&mut parts, &cluster.prefix)?;
        let Some(secret) = cluster.secret() else { return Ok((plan.apply(parts, None, [])?, None)) };
        if !plan.changes().is_empty() {
            scrub::narrow_codings(&mut parts.headers);
        }
        let injected = plan.apply(parts, None, [Some(&**secret)])?;
        let scrub = injected.rule().map(|rule| Scrub::new(self.seat.echoes(rule, secret), head_only));
        scrub.iter().for_each(|scrub| self.call.interim.scrub_with(scrub));
        Ok((injected, scrub))
    }

    fn note(&mut self, cluster: &Cluster, injected: &Injected, scrub: Option<&Scrub>) {
        self.exchange.injected(injected, scrub);
        let record = self.exchange.record();
        record.service = SERVICE.into();
        record.auth_injected |= matches!(cluster.identity, Identity::Certificate);
        if record.auth_injected {
            record.credential = Some(SERVICE.into());
        }
        // The context tells more than a rule that covers everything.
        if record.reason.is_none() {
            record.rule = Some(cluster.context.as_str().into());
        }
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
    record.service = SERVICE.into();
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

fn session_ended() -> Denial {
    Denial::new(DenialCode::ProxyAuthRequired, "this session has ended").hint("clauderon list")
}

fn no_cluster(why: &str) -> Denial {
    Denial::new(DenialCode::CredentialUnavailable, why)
}

/// The service's name in audit records.
pub(crate) const SERVICE: &str = "kubernetes";
