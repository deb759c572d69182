//! The daemon's own HTTP service on the proxy port. The API takes the bearer token, and no page of another site gets near it.

use std::fs;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use axum::routing::get;
use clauderon_core::digest;
use clauderon_core::host::{Authority, Host};
use clauderon_proxy::{LocalBody, LocalService};
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode, header};
use http::{Request, Response};
use http_body_util::BodyExt;
use subtle::ConstantTimeEq;
use tower::ServiceExt;

use crate::RunError;
use crate::control::{self, Control, Failure, not_found};
use crate::home::write_private;
use crate::sessions;

/// The bearer token of the HTTP API, as its hash.
pub struct ApiToken([u8; 32]);

/// `/health`, the API, and a pointer at `/`.
pub struct Web {
    routes: Router,
    token: Arc<ApiToken>,
    address: SocketAddr,
}

impl ApiToken {
    /// Reads the token's file, or makes it: when it is missing, damaged, or was open to others.
    pub fn load_or_create(path: &Path) -> Result<Self, RunError> {
        let failed = |source| RunError::File { path: path.into(), source };
        if let Some(token) = read_token(path).map_err(failed)? {
            return Ok(Self::of(&token));
        }
        let token = digest::hex(&sessions::random::<32>()?);
        write_private(path, format!("{token}\n").as_bytes(), 0o600).map_err(failed)?;
        Ok(Self::of(&token))
    }

    fn of(token: &str) -> Self {
        Self(digest::sha256(&[token.as_bytes()]))
    }

    /// Whether `given` is the token; takes the same time for every wrong one.
    fn is(&self, given: &str) -> bool {
        self.0.ct_eq(&Self::of(given).0).into()
    }
}

impl Web {
    /// The service of the daemon that `control` belongs to.
    pub(crate) fn new(control: Arc<Control>, token: Arc<ApiToken>) -> Self {
        let address = control.proxy;
        let routes = control::routes(control).route("/", get(pointer)).fallback(not_found);
        Self { routes, token, address }
    }

    /// Refuses what did not come from this user's own tools. `/health` tells nothing that needs it.
    fn check(&self, parts: &Parts) -> Result<(), Failure> {
        if parts.uri.path() == "/health" {
            return Ok(());
        }
        let host = only(&parts.headers, &header::HOST).filter(|host| self.is_own(host));
        if host.is_none() {
            return Err(forbidden("this is not an address of clauderon's API"));
        }
        let own_origin = |origin: &str| origin.strip_prefix("http://").is_some_and(|host| self.is_own(host));
        if parts.headers.contains_key(header::ORIGIN) && !only(&parts.headers, &header::ORIGIN).is_some_and(own_origin)
        {
            return Err(forbidden("other sites may not call clauderon's API"));
        }
        if parts.uri.path() == "/" { Ok(()) } else { self.authorize(&parts.headers) }
    }

    /// Whether `authority` is the daemon by one of its own names; a name that resolves to it is none (DNS rebinding).
    fn is_own(&self, authority: &str) -> bool {
        let Ok(Authority { host, port }) = Authority::parse(authority) else { return false };
        let names_it = match &host {
            Host::Name(name) => name.as_ref() == "localhost",
            Host::Ip(ip) => ip.is_loopback() || *ip == self.address.ip(),
        };
        names_it && port.unwrap_or(80) == self.address.port()
    }

    fn authorize(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let given = only(headers, &header::AUTHORIZATION).and_then(|value| value.split_once(' '));
        let token = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        if token.is_some_and(|token| self.token.is(token)) {
            return Ok(());
        }
        let error = Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", "the API needs its bearer token");
        Err(error.hint("send `Authorization: Bearer` with what the file api-token in clauderon's home holds"))
    }
}

impl LocalService for Web {
    fn call(&self, request: Request<LocalBody>) -> Pin<Box<dyn Future<Output = Response<LocalBody>> + Send + '_>> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let response = match self.check(&parts) {
                Ok(()) => {
                    let request = Request::from_parts(parts, Body::new(body));
                    self.routes.clone().oneshot(request).await.unwrap_or_else(|never| match never {})
                }
                Err(failure) => failure.into_response(),
            };
            response.map(|body| body.map_err(Into::into).boxed_unsync())
        })
    }
}

async fn pointer() -> &'static str {
    "clauderon runs here: a proxy for the tools of its sessions. Try `clauderon list`, or GET /health.\n"
}

/// The value of a field that is there exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn forbidden(what: &str) -> Failure {
    Failure::new(StatusCode::FORBIDDEN, "forbidden", what)
}

/// The token that is kept; `None` calls for a new one.
fn read_token(path: &Path) -> io::Result<Option<String>> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let text = fs::read_to_string(path)?;
    let token = text.trim();
    let whole = token.len() == TOKEN_DIGITS && token.bytes().all(|digit| digit.is_ascii_hexdigit());
    let closed = metadata.mode() & 0o077 == 0;
    if !whole || !closed {
        tracing::warn!("{} was damaged or open to others: it holds a new token now", path.display());
    }
    Ok((whole && closed).then(|| token.to_owned()))
}

/// 256 bits.
const TOKEN_DIGITS: usize = 64;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests;
