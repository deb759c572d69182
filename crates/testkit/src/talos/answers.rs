//! What the stand-in answers.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use prost::Message;
use rustls::pki_types::CertificateDer;

use super::messages::{Data, Grant, GrantRequest, GrantResponse, LogsRequest, Metadata, Version, VersionResponse};
use super::{Seen, State};
use crate::body::{Body, Feed, channel, empty};
use crate::ca::{TestCa, client_with};
use crate::grpc;

/// The organizations in a certificate's subject; found by their DER, which is all of X.509 that the kit needs to know.
pub(super) fn roles(certificate: &CertificateDer<'_>) -> Vec<String> {
    let bytes = certificate.as_ref();
    let known = ["os:admin", "os:operator", "os:reader"];
    let holds = |role: &&&str| memchr::memmem::find(bytes, role.as_bytes()).is_some();
    known.iter().filter(holds).map(|role| (*role).to_owned()).collect()
}

/// Answers a call as a node would, as far as the tests ask.
pub(super) async fn answer(state: Arc<State>, roles: &[String], request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let seen = Seen { path: path.clone(), metadata: parts.headers.clone(), roles: roles.to_vec() };
    state.calls.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    if parts.headers.get("te").is_none_or(|te| te != "trailers") {
        return refused(13, "no te: trailers");
    }
    if state.by_certificate && roles.is_empty() {
        return refused(16, "no role");
    }
    if path == "/machine.DebugService/ContainerRun" {
        return echo(body);
    }
    let message = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let message = grpc::messages(&message).into_iter().next().unwrap_or_default();
    match path.as_str() {
        "/machine.MachineService/Version" => one(&versions(&parts.headers)),
        "/machine.MachineService/Logs" => logs(state, &nodes(&parts.headers), &message),
        "/machine.MachineService/Events" => silence(state).await,
        "/machine.MachineService/GenerateClientConfiguration" => grant(&state, roles, &message),
        "/machine.MachineService/List" => refused(5, "no such file: %2Fnowhere"),
        _ => one(&super::messages::Empty {}),
    }
}

fn nodes(headers: &HeaderMap) -> Vec<String> {
    let named = headers.get_all("node").iter().chain(headers.get_all("nodes"));
    named.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
}

fn metadata(node: &str) -> Option<Metadata> {
    Some(Metadata { hostname: node.to_owned() })
}

fn versions(headers: &HeaderMap) -> VersionResponse {
    VersionResponse { messages: nodes(headers).iter().map(|node| Version { metadata: metadata(node) }).collect() }
}

/// Lines of every node in turn; with `follow` they never end.
fn logs(state: Arc<State>, nodes: &[String], message: &[u8]) -> Response<Body> {
    let asked = LogsRequest::decode(message).unwrap_or_default();
    let (feed, body) = channel();
    let nodes = nodes.to_vec();
    tokio::spawn(async move {
        let lines = if asked.follow { i32::MAX } else { asked.tail_lines };
        for line in 0..lines {
            for node in &nodes {
                let bytes =
                    if asked.id == "long" { vec![b'x'; PIECE] } else { format!("{node}: line {line}\n").into() };
                let piece = Data { metadata: metadata(node), bytes };
                if !feed.data(grpc::message(&piece.encode_to_vec())).await {
                    state.cancelled.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
        feed.trailers(status(0, "")).await;
    });
    response(body)
}

/// Says nothing, not even a head, until the client goes.
async fn silence(state: Arc<State>) -> Response<Body> {
    let left = Left(state);
    tokio::time::sleep(Duration::from_secs(600)).await;
    drop(left);
    refused(4, "nothing happened")
}

/// Counts a client that went.
struct Left(Arc<State>);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.cancelled.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends every piece back as it comes.
fn echo(mut body: Incoming) -> Response<Body> {
    let (feed, answer) = channel();
    tokio::spawn(async move {
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data()
                && !feed.data(data).await
            {
                return;
            }
        }
        finish(feed).await;
    });
    response(answer)
}

async fn finish(feed: Feed) {
    feed.trailers(status(0, "")).await;
}

fn grant(state: &State, roles: &[String], message: &[u8]) -> Response<Body> {
    let asked = GrantRequest::decode(message).unwrap_or_default();
    let [role] = asked.roles.as_slice() else { return refused(3, "one role") };
    if !state.grants || !roles.iter().any(|role| role == "os:admin") {
        return refused(7, "not authorized");
    }
    let (crt, key) = client_with(TestCa::shared(), "granted", role);
    let grant = Grant { ca: TestCa::shared().pem().into(), crt: crt.into(), key: key.into() };
    one(&GrantResponse { messages: vec![grant] })
}

fn one(message: &impl Message) -> Response<Body> {
    let (feed, body) = channel();
    let message = grpc::message(&message.encode_to_vec());
    tokio::spawn(async move {
        feed.data(message).await;
        feed.trailers(status(0, "")).await;
    });
    response(body)
}

fn refused(code: u16, message: &'static str) -> Response<Body> {
    let mut response = response(empty());
    response.headers_mut().extend(status(code, message));
    response
}

fn response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn status(code: u16, message: &'static str) -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert("grpc-status", code.into());
    fields.insert("grpc-message", HeaderValue::from_static(message));
    fields
}

/// As large as Talos' own pieces.
const PIECE: usize = 16 * 1024;
