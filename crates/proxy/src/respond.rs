//! Replies: an origin's answer on its way back, or a denial in JSON. The only maker of responses.

use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::host::Origin;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, PROXY_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::body::{Body, Observed};
use crate::connection::Reply;
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
}

/// Passes an answer on.
pub(crate) fn pass(answered: Answered, mut exchange: Exchange) -> Reply {
    let Answered { response, upgraded } = answered;
    let (mut parts, body) = response.into_parts();
    if upgraded.is_none() {
        headers::strip_response(&mut parts.headers);
    }
    exchange.answered(parts.status);
    Reply { response: Response::from_parts(parts, Observed::new(body, exchange)), upgraded }
}

/// Tells the agent what was refused or failed, and why.
pub(crate) fn deny(denial: &Denial, mut exchange: Exchange) -> Reply {
    exchange.denied(denial);
    let body = denial.body();
    let mut response = Response::new(Observed::new(Body::Full(body.into()), exchange));
    *response.status_mut() = denial.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ERROR_CODE, HeaderValue::from_static(denial.code.as_str()));
    if denial.code == DenialCode::ProxyAuthRequired {
        headers.insert(PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"clauderon\""));
    }
    Reply { response, upgraded: None }
}

const ERROR_CODE: HeaderName = HeaderName::from_static("x-clauderon-error");
