//! One request in the hands of a route.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Uri, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::log::{Log, Seen};

/// A request that reached a route, already in the log.
pub struct Call {
    /// The method.
    pub method: Method,
    /// The target.
    pub uri: Uri,
    /// The fields.
    pub headers: HeaderMap,
    /// The protocol version.
    pub version: Version,
    /// The body, unread.
    pub body: Incoming,
    /// The connection after a 101, if the request asks for an upgrade.
    pub upgrade: OnUpgrade,
    log: Arc<Log>,
    index: usize,
}

/// A body read to its end.
pub struct Collected {
    /// The bytes; only the first 8 MiB are kept.
    pub bytes: Bytes,
    /// All bytes that came.
    pub len: u64,
    /// Trailers, if any.
    pub trailers: Option<HeaderMap>,
    /// Whether the body ended well.
    pub complete: bool,
}

impl Call {
    pub(super) fn record(mut request: Request<Incoming>, log: &Arc<Log>, connection: usize) -> Self {
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, body) = request.into_parts();
        let target = parts.uri.path_and_query().map_or_else(|| parts.uri.to_string(), ToString::to_string);
        let host = parts.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
        let index = log.push(Seen {
            method: parts.method.clone(),
            target,
            authority: parts.uri.authority().map_or(host, |authority| authority.as_str()).to_owned(),
            version: parts.version,
            headers: parts.headers.clone(),
            connection,
            body: Bytes::new(),
            body_len: 0,
            trailers: None,
            complete: false,
        });
        let (method, uri, headers, version) = (parts.method, parts.uri, parts.headers, parts.version);
        Self { method, uri, headers, version, body, upgrade, log: Arc::clone(log), index }
    }

    /// Reads the body to its end and records it.
    pub async fn collect(mut self) -> Collected {
        let collected = read(&mut self.body).await;
        self.log.change(self.index, |seen| {
            seen.body = collected.bytes.clone();
            seen.body_len = collected.len;
            seen.trailers.clone_from(&collected.trailers);
            seen.complete = collected.complete;
        });
        collected
    }

    /// The value of a field, if it is there and text.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

async fn read(body: &mut Incoming) -> Collected {
    let mut kept = BytesMut::new();
    let mut collected = Collected { bytes: Bytes::new(), len: 0, trailers: None, complete: true };
    while let Some(frame) = body.frame().await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => {
                collected.len += data.len() as u64;
                kept.extend_from_slice(data.get(..data.len().min(KEPT - kept.len())).unwrap_or_default());
            }
            Ok(Err(frame)) => collected.trailers = frame.into_trailers().ok(),
            Err(_) => {
                collected.complete = false;
                break;
            }
        }
    }
    collected.bytes = kept.freeze();
    collected
}

const KEPT: usize = 8 * 1024 * 1024;
