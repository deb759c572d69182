//! The data path: accept, intercept, decide, inject, forward, record

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use clauderon_core::session::SessionId;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;

pub mod audit;
mod peer;
pub mod snapshot;
pub mod tls;
mod upstream;

/// Any failure of a body on its way.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body of the daemon's own HTTP service.
pub type LocalBody = UnsyncBoxBody<Bytes, BoxError>;

/// The daemon's own HTTP service on the proxy port: `/health`, the API, the dashboard (origin-form requests).
pub trait LocalService: Send + Sync + 'static {
    /// Answers a request that was sent to the daemon itself.
    fn call(&self, request: Request<LocalBody>) -> Pin<Box<dyn Future<Output = Response<LocalBody>> + Send + '_>>;
}

/// Requests, denials and placeholder sightings of each session since the daemon started.
pub type Counters = HashMap<SessionId, SessionCounters>;

/// One session's counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionCounters {
    /// Requests, denied ones included.
    pub requests: u64,
    /// Requests that were refused.
    pub denials: u64,
    /// Placeholders seen where they do not belong.
    pub alarms: u64,
}
