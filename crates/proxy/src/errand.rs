//! Requests of the daemon's own, over the same verified connections as the agents', and written down like theirs.

use std::sync::Arc;

use bytes::Bytes;
use clauderon_core::credential::CredentialName;
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::host::Origin;
use http::{Request, Response};

use crate::Proxy;
use crate::body::Body;
use crate::exchange::Exchange;
use crate::forward::{Route, Waiting};
use crate::interim::Interim;
use crate::scrub::whole;
use crate::target;
use crate::upstream::pool::Bucket;

/// A request that the daemon makes for itself; no session has a part in it.
pub struct Errand {
    /// The credential it is about; its secret is in the request.
    pub credential: CredentialName,
    /// Why it is made, for the audit record.
    pub reason: &'static str,
    /// Where it goes. Its certificate is verified as for agents.
    pub origin: Origin,
    /// The request in origin-form (RFC 9112 § 3.2.1), without `Host` and `Content-Length`.
    pub request: Request<Bytes>,
}

impl Proxy {
    /// Sends a request of the daemon's own and returns the answer, whole and without content codings.
    ///
    /// Errors say what failed, as agents are told. An answer beyond 1 MiB is one.
    pub async fn run(&self, errand: Errand) -> Result<Response<Bytes>, Denial> {
        let mut exchange = self.exchange(None);
        describe(&mut exchange, &errand);
        let answered = self.attempt(errand, &mut exchange).await;
        match &answered {
            Ok(response) => exchange.answered(response.status()),
            Err(denial) => exchange.denied(denial),
        }
        exchange.complete();
        answered
    }

    async fn attempt(&self, errand: Errand, exchange: &mut Exchange) -> Result<Response<Bytes>, Denial> {
        let snapshot = self.snapshot();
        exchange.begin()?;
        let (mut parts, body) = errand.request.into_parts();
        parts.headers.insert(http::header::CONTENT_LENGTH, body.len().into());
        let sent = exchange.sent();
        let route = Route {
            reach: self.reach(&snapshot),
            origin: &errand.origin,
            bucket: &Arc::new(Bucket::default()),
            interim: &Interim::default(),
            sent: &sent,
            waiting: Waiting::ForAnswers,
        };
        let response = route.send_own(parts, Body::Full(body)).await?;
        let limit = snapshot.settings.upstream.response_timeout;
        let slow =
            || Denial::new(DenialCode::UpstreamTimeout, format!("{} did not finish its answer", errand.origin.host));
        let whole =
            tokio::time::timeout(limit, whole(response, &errand.origin, MAX_ANSWER)).await.map_err(|_| slow())??;
        exchange.count_response(whole.body().len());
        Ok(whole)
    }
}

fn describe(exchange: &mut Exchange, errand: &Errand) {
    let record = exchange.record();
    target::at_origin(record, &errand.origin);
    record.method = errand.request.method().as_str().into();
    record.path = errand.request.uri().path().into();
    record.service = errand.credential.shared();
    record.credential = Some(errand.credential.shared());
    record.reason = Some(errand.reason);
    record.auth_injected = true;
    record.allowed = true;
}

/// A hundred times any token.
const MAX_ANSWER: usize = 1024 * 1024;
