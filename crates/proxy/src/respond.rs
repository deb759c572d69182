//! Replies: an origin's answer on its way back, or a denial in JSON. The only maker of responses.

use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::host::Origin;
use clauderon_core::{kubernetes, talos};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, PROXY_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::body::{Body, Observed};
use crate::connection::Reply;
use crate::derived::Issue;
use crate::exchange::Exchange;
use crate::headers;
use crate::scrub::Scrub;
use crate::upstream::http1::Upgraded;
use crate::websocket::Opened;

/// An origin's answer, as received.
pub(crate) struct Answered {
    response: Response<Body>,
    upgraded: Option<Opened>,
}

impl Answered {
    /// An ordinary answer.
    pub(crate) fn plain(response: Response<Body>) -> Self {
        Self { response, upgraded: None }
    }

    /// An answer that ends HTTP on this connection; `response` holds the fields the agent gets.
    pub(crate) fn switching(response: Response<Body>, upgraded: Upgraded) -> Self {
        Self { response, upgraded: Some(Opened { origin: upgraded, scrub: None }) }
    }

    /// Its status.
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The same answer with another body.
    pub(crate) fn try_map_body(
        self,
        map: impl FnOnce(&mut HeaderMap, Body) -> Result<Body, Denial>,
    ) -> Result<Self, Denial> {
        let (mut parts, body) = self.response.into_parts();
        let body = map(&mut parts.headers, body)?;
        Ok(Self { response: Response::from_parts(parts, body), upgraded: self.upgraded })
    }

    /// The answer without the secret that `scrub` knows. Bodies are scrubbed as they come; one that cannot be is a failure
    /// of the origin.
    pub(crate) async fn scrubbed(mut self, scrub: Option<Scrub>, origin: &Origin) -> Result<Self, Denial> {
        let Some(scrub) = scrub else { return Ok(self) };
        match &mut self.upgraded {
            None => self.response = scrub.answer(self.response, origin).await?,
            Some(opened) => {
                scrub.fields(self.response.headers_mut());
                opened.scrub = Some(scrub);
            }
        }
        Ok(self)
    }

    /// The answer with placeholders for the tokens in it.
    pub(crate) async fn swapped(mut self, issue: Issue<'_>, scrub: Scrub, origin: &Origin) -> Result<Self, Denial> {
        if self.upgraded.is_some() {
            let message = format!("{} switched protocols where a token was asked for", origin.host);
            return Err(Denial::new(DenialCode::UpstreamProtocol, message));
        }
        self.response = issue.swap(self.response, &scrub, origin).await?;
        Ok(self)
    }
}

/// Passes an answer on.
pub(crate) fn pass(answered: Answered, mut exchange: Exchange) -> Reply {
    let Answered { response, upgraded } = answered;
    let (mut parts, body) = response.into_parts();
    if upgraded.is_none() {
        headers::strip_response(&mut parts.headers);
    }
    exchange.answered(parts.status);
    exchange.ended_with(&parts.headers);
    Reply { response: Response::from_parts(parts, Observed::new(body, exchange)), upgraded }
}

/// Tells the agent what was refused or failed, and why.
pub(crate) fn deny(denial: &Denial, mut exchange: Exchange) -> Reply {
    exchange.denied(denial);
    let body = denial.body();
    let mut response = Response::new(Observed::new(Body::Full(body.into()), exchange));
    *response.status_mut() = denial.status();
    let headers = response.headers_mut();
    mark(headers, denial);
    if denial.code == DenialCode::ProxyAuthRequired {
        headers.insert(PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"clauderon\""));
    }
    Reply { response, upgraded: None }
}

/// Tells a Kubernetes client what was refused or failed, as an API server would.
pub(crate) fn deny_kubernetes(denial: &Denial, mut exchange: Exchange) -> Reply {
    exchange.denied(denial);
    let told = kubernetes::refusal(denial, &exchange.record().path);
    exchange.answered(told.status);
    let mut response = Response::new(Observed::new(Body::Full(told.body.into()), exchange));
    *response.status_mut() = told.status;
    mark(response.headers_mut(), denial);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(told.content_type));
    Reply { response, upgraded: None }
}

/// Tells a gRPC client what was refused or failed: no body, and the status where it looks for it ("Trailers-Only").
pub(crate) fn deny_talos(denial: &Denial, mut exchange: Exchange) -> Reply {
    exchange.denied(denial);
    exchange.answered(StatusCode::OK);
    let told = talos::refusal(denial);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(u16::from(told.code)));
    headers.insert("grpc-message", HeaderValue::from_str(&told.message).unwrap_or(HeaderValue::from_static("refused")));
    headers.insert(ERROR_CODE, HeaderValue::from_static(denial.code.as_str()));
    exchange.ended_with(&headers);
    let mut response = Response::new(Observed::new(Body::Empty, exchange));
    *response.headers_mut() = headers;
    Reply { response, upgraded: None }
}

fn mark(headers: &mut HeaderMap, denial: &Denial) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ERROR_CODE, HeaderValue::from_static(denial.code.as_str()));
}

const ERROR_CODE: HeaderName = HeaderName::from_static("x-clauderon-error");
