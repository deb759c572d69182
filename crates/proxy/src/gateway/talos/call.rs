//! One call of Talos' API, from its head to its trailers. Every call of the gateway passes through [`handle`].

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clauderon_core::audit::About;
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::facts::Facts;
use clauderon_core::talos::{self, Asked, Kind, Rpc, check_switches};
use http::Request;
use http::request::Parts;
use http_body_util::{BodyExt as _, Limited};
use tokio::time::Instant;

use super::cluster::TalosCluster;
use super::reader;
use crate::body::Body;
use crate::connection::Reply;
use crate::exchange::Exchange;
use crate::forward::Waiting;
use crate::gateway::access::{Access, Identity};
use crate::gateway::sending::{Sending, no_cluster, route, session_ended};
use crate::gateway::{Call, Gateway};
use crate::headers;
use crate::http1::head::{check_http2, malformed};
use crate::respond::{self, Answered};
use crate::snapshot::Snapshot;
use crate::target::at_origin;

/// Answers one call: whatever happens, there is one reply and one audit record.
pub(crate) async fn handle(call: Call<'_>, request: Request<Body>) -> Reply {
    let mut exchange = call.proxy.exchange(call.guest.seat());
    match attempt(&call, request, &mut exchange).await {
        Ok(answered) => respond::pass(answered, exchange),
        Err(denial) => respond::deny_talos(&denial, exchange),
    }
}

/// Read, classify, decide, inject, record, forward.
async fn attempt(call: &Call<'_>, request: Request<Body>, exchange: &mut Exchange) -> Result<Answered, Denial> {
    let (mut parts, body) = request.into_parts();
    describe(exchange, &parts);
    let seat = call.guest.admit(&parts)?;
    let snapshot = call.proxy.snapshot();
    let session = snapshot.sessions.by_id(&seat.id).ok_or_else(session_ended)?;
    exchange.of_session(session);
    check_http2(&parts, &snapshot.settings.limits)?;
    let until = talos::deadline(&parts.headers)?.and_then(|left| Instant::now().checked_add(left));
    let cluster = call.proxy.talos.cluster(call.guest.context()).await.map_err(|why| no_cluster(&why))?;
    let origin = cluster.origins.first().ok_or_else(|| no_cluster("the context has no endpoints"))?;
    at_origin(exchange.record(), origin);
    exchange.record().service = Gateway::Talos.service().into();

    headers::strip_request(&mut parts.headers);
    talos::strip_identity(&mut parts.headers);
    let rpc = Rpc::read(&Facts::of(&parts, origin, false))?;
    let nodes = talos::nodes(&parts.headers)?;
    let (kind, asked, body) = classified(Kind::of(rpc), body, &snapshot).await?;
    about(exchange, &nodes, asked);
    let settings = &snapshot.settings.talos;
    check_switches(kind, &nodes, session, settings)?;
    let class = kind.class();
    let mut sending = Sending { call, snapshot: &snapshot, seat, session, class, upgrade: false, exchange };
    // Decided before anything is asked of the cluster, the reader's certificate too.
    sending.plan(&cluster.access, origin, &parts)?;
    let reads = matches!(kind, Kind::Read | Kind::ResourceRead);
    let reader = if reads { reader::access(call, &snapshot, &cluster).await } else { None };
    let access = reader.unwrap_or_else(|| Arc::clone(&cluster.access));
    let sent = send(&mut sending, (&cluster, &access), parts, body, until);
    match until {
        None => sent.await,
        Some(until) => tokio::time::timeout_at(until, sent).await.unwrap_or_else(|_| Err(too_late())),
    }
}

/// The kind of a call, for which a read of the resource API must be seen whole.
async fn classified(kind: Kind, body: Body, snapshot: &Snapshot) -> Result<(Kind, Option<Asked>, Body), Denial> {
    if kind != Kind::ResourceRead {
        return Ok((kind, None, body));
    }
    let whole = Limited::new(body, LARGEST_QUESTION).collect();
    let whole = tokio::time::timeout(snapshot.settings.limits.header_timeout, whole).await;
    let whole =
        whole.map_err(|_| Denial::new(DenialCode::RequestTimeout, "the call's message did not come in time"))?;
    let whole: Bytes = whole.map_err(|_| malformed("a question to the resource API beyond 64 KiB"))?.to_bytes();
    let asked = Asked::read(&whole).map_err(|odd| malformed(odd.to_string()))?;
    Ok((asked.kind(), Some(asked), Body::Full(whole)))
}

/// Sends a call to the first endpoint that can be reached. Only before that is another one tried: what a call has done by the time
/// it fails, nobody knows.
async fn send(
    sending: &mut Sending<'_>,
    (cluster, access): (&TalosCluster, &Access),
    parts: Parts,
    body: Body,
    until: Option<Instant>,
) -> Result<Answered, Denial> {
    let Sending { call, snapshot, .. } = *sending;
    let mut failure = no_cluster("the context has no endpoints");
    for endpoint in cluster.endpoints.in_turn(Instant::now()) {
        let origin = &endpoint.origin;
        at_origin(sending.exchange.record(), origin);
        let mut parts = parts.clone();
        let plan = sending.plan(access, origin, &parts)?;
        let (bucket, sent) = (sending.bucket(access, origin), sending.exchange.sent());
        let route = route((call, snapshot), access, origin, &bucket, (&sent, Waiting::ForStreams));
        if let Some(until) = until {
            talos::remaining(&mut parts.headers, until.saturating_duration_since(Instant::now()));
        }
        sign(access, &mut parts)?;
        let (injected, scrub) = sending.injected(access, plan, parts)?;
        let reached = route.ready_http2().await;
        endpoint.note(reached.is_ok(), Instant::now());
        if let Err(denial) = reached {
            failure = denial;
            continue;
        }
        call.proxy.talos.used(cluster);
        return Answered::plain(route.send(injected, body).await?).scrubbed(scrub, origin).await;
    }
    Err(failure)
}

fn sign(access: &Access, parts: &mut Parts) -> Result<(), Denial> {
    let Identity::Signed(signer) = &access.identity else { return Ok(()) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let path = parts.uri.path().to_owned();
    signer.sign(&path, &mut parts.headers, now).map_err(|why| malformed(why.to_string()))
}

fn describe(exchange: &mut Exchange, parts: &Parts) {
    let record = exchange.record();
    record.service = Gateway::Talos.service().into();
    record.method = parts.method.as_str().into();
    record.path = parts.uri.path().into();
    record.protocol = "HTTP/2";
    record.about = Some(Box::new(About { is_open: true, ..About::default() }));
}

fn about(exchange: &mut Exchange, nodes: &[String], asked: Option<Asked>) {
    let node = (!nodes.is_empty()).then(|| nodes.join(","));
    let (resource, namespace) = asked.map(|asked| (asked.resource, asked.namespace)).unzip();
    exchange.record().about = Some(Box::new(About { resource, namespace, node, is_open: true, ..About::default() }));
}

fn too_late() -> Denial {
    Denial::new(DenialCode::UpstreamTimeout, "the cluster did not answer before the call's own deadline")
}

/// A question names a resource; the rest of it are selectors.
const LARGEST_QUESTION: usize = 64 * 1024;
