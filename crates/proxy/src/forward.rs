//! Sending a decided request upstream: which protocol, which connection, and when to try again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::host::{Origin, Scheme};
use clauderon_core::inject::Injected;
use http::header::{CONNECTION, SEC_WEBSOCKET_EXTENSIONS, UPGRADE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body::Body as _;

use crate::Proxy;
use crate::body::{Body, Counted};
use crate::downstream::http1::BodyRefused;
use crate::headers;
use crate::interim::Interim;
use crate::snapshot::Snapshot;
use crate::upstream::dial::{Alpn, Dialed, dial};
use crate::upstream::failure::{causes, in_short};
use crate::upstream::http1::{Http1, Unanswered as Unanswered1, Upgraded};
use crate::upstream::http2::{Http2, Unanswered as Unanswered2};
use crate::upstream::pool::{Bucket, Spoken};

/// Everything that sending needs besides the request.
pub(crate) struct Route<'a> {
    pub(crate) proxy: &'a Proxy,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) origin: &'a Origin,
    pub(crate) bucket: &'a Arc<Bucket>,
    pub(crate) interim: &'a Interim,
    pub(crate) sent: &'a Arc<AtomicU64>,
}

/// A connection chosen for a request.
enum Upstream {
    Http1(Http1),
    Http2(Http2),
}

/// What came of one try.
enum Outcome {
    Answered(Box<Response<Body>>),
    /// Nothing of the request was used: it may go out again as it is.
    Unused(Box<Request<Counted>>),
    /// The connection had been idle and closed under the request.
    Stale(Denial),
    Failed(Denial),
}

impl Route<'_> {
    /// Sends a request and returns the answer's head and body.
    ///
    /// A request goes out a second time only when nothing of it can have been acted on: no byte was sent, the origin
    /// refused the stream, or it is idempotent, bodiless, and an idle connection broke before it answered (RFC 9110 § 9.2.2).
    pub(crate) async fn send(&self, injected: Injected, body: Body) -> Result<Response<Body>, Denial> {
        let parts = injected.into_parts();
        let http2_wanted = parts.version == Version::HTTP_2 && self.origin.scheme == Scheme::Https;
        let spare = (body.is_end_stream() && parts.method.is_idempotent()).then(|| parts.clone());
        let mut request = Request::from_parts(parts, Counted::new(body, self.sent.clone()));
        for tried in 0..MAX_TRIES {
            // Where one pooled connection was dead the others may be too: the next try takes none of them.
            let (upstream, reused) = self.connection(http2_wanted, tried > 0).await?;
            match self.try_send(upstream, reused, request).await {
                Outcome::Answered(response) => return Ok(*response),
                Outcome::Unused(unused) => request = *unused,
                Outcome::Failed(denial) => return Err(denial),
                Outcome::Stale(denial) => match &spare {
                    Some(parts) => {
                        request = Request::from_parts(parts.clone(), Counted::new(Body::Empty, self.sent.clone()));
                    }
                    None => return Err(denial),
                },
            }
        }
        Err(Denial::new(DenialCode::UpstreamProtocol, format!("{} keeps closing its connections", self.origin.host)))
    }

    /// Sends a WebSocket handshake on a connection of its own.
    pub(crate) async fn upgrade(&self, injected: Injected) -> Result<(Response<Body>, Option<Upgraded>), Denial> {
        let request = Request::from_parts(injected.into_parts(), Counted::new(Body::Empty, self.sent.clone()));
        let connection = self.dial_http1().await?;
        let mut request = self.fit(request, Version::HTTP_11)?;
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        // Without extensions frames stay plain, so that they can be read on the way.
        headers.remove(SEC_WEBSOCKET_EXTENSIONS);
        connection.upgrade(request).await.map_err(|why| self.unanswered(why))
    }

    async fn try_send(&self, upstream: Upstream, reused: bool, request: Request<Counted>) -> Outcome {
        match upstream {
            Upstream::Http1(connection) => self.try_http1(connection, reused, request).await,
            Upstream::Http2(connection) => self.try_http2(connection, request).await,
        }
    }

    async fn try_http1(&self, connection: Http1, reused: bool, request: Request<Counted>) -> Outcome {
        let request = match self.fit(request, Version::HTTP_11) {
            Ok(request) => request,
            Err(denial) => return Outcome::Failed(denial),
        };
        match connection.send(request, self.bucket, self.interim, || self.progress()).await {
            Ok(response) => Outcome::Answered(Box::new(response)),
            Err(why @ Unanswered1::Closed(_)) if reused => Outcome::Stale(self.unanswered(why)),
            Err(why) => Outcome::Failed(self.unanswered(why)),
        }
    }

    async fn try_http2(&self, connection: Http2, request: Request<Counted>) -> Outcome {
        let request = match self.fit(request, Version::HTTP_2) {
            Ok(request) => request,
            Err(denial) => return Outcome::Failed(denial),
        };
        let limit = self.snapshot.settings.upstream.response_timeout;
        match connection.send(request, self.interim, limit, || self.progress()).await {
            Ok(response) => Outcome::Answered(Box::new(response)),
            Err(Unanswered2::TimedOut) => {
                // Perhaps the way there is dead and nobody said so: no later request shall wait on it as well.
                self.bucket.set_http2(None);
                Outcome::Failed(self.timed_out())
            }
            Err(Unanswered2::NotSent(request)) => {
                self.bucket.set_http2(None);
                Outcome::Unused(request)
            }
            Err(Unanswered2::Failed { error, refused }) => {
                let denial = self.broken(&error);
                if error.is_io() || error.is_go_away() {
                    self.bucket.set_http2(None);
                }
                if refused { Outcome::Stale(denial) } else { Outcome::Failed(denial) }
            }
        }
    }

    /// A pooled connection or a new one, and whether it was used before.
    async fn connection(&self, http2_wanted: bool, anew: bool) -> Result<(Upstream, bool), Denial> {
        if !http2_wanted {
            return self.connection1(anew).await;
        }
        let mut spoken = self.negotiating().await?;
        match (*spoken, self.bucket.http2()) {
            (Spoken::Http2, Some(open)) if open.is_ready().await => return Ok((Upstream::Http2(open), true)),
            (Spoken::Http1, _) => {
                drop(spoken);
                return self.connection1(anew).await;
            }
            _ => {}
        }
        let io = dial(self.origin, Alpn::Http2Allowed, self.snapshot, &self.proxy.own_listeners).await?;
        if io.is_http2() {
            let connection = Http2::open(io).await.map_err(|error| self.broken(&error))?;
            *spoken = Spoken::Http2;
            self.bucket.set_http2(Some(connection.clone()));
            return Ok((Upstream::Http2(connection), false));
        }
        *spoken = Spoken::Http1;
        Ok((Upstream::Http1(self.open_http1(io)), false))
    }

    async fn connection1(&self, anew: bool) -> Result<(Upstream, bool), Denial> {
        match if anew { None } else { self.bucket.take_http1() } {
            Some(idle) => Ok((Upstream::Http1(idle), true)),
            None => Ok((Upstream::Http1(self.dial_http1().await?), false)),
        }
    }

    /// Waits while another request finds out what the origin speaks, but no longer than finding out may take.
    async fn negotiating(&self) -> Result<tokio::sync::MutexGuard<'_, Spoken>, Denial> {
        let limit = self.snapshot.settings.upstream.connect_timeout;
        let message = || format!("{} did not answer within {limit:?} (connecting)", self.origin.host);
        let locked = tokio::time::timeout(limit, self.bucket.negotiating.lock()).await;
        locked.map_err(|_| Denial::new(DenialCode::UpstreamTimeout, message()))
    }

    async fn dial_http1(&self) -> Result<Http1, Denial> {
        let io = dial(self.origin, Alpn::Http1Only, self.snapshot, &self.proxy.own_listeners).await?;
        Ok(self.open_http1(io))
    }

    fn open_http1(&self, io: Dialed) -> Http1 {
        Http1::new(io, self.snapshot.settings.upstream.response_timeout)
    }

    /// The same request in the form its version needs (RFC 9112 § 3.2, RFC 9113 § 8.3.1).
    fn fit(&self, request: Request<Counted>, version: Version) -> Result<Request<Counted>, Denial> {
        let (mut parts, body) = request.into_parts();
        let authority = self.origin.authority();
        headers::fit_version(&mut parts.headers, version, &authority);
        parts.version = version;
        parts.uri = target(&parts, self.origin, &authority)?;
        Ok(Request::from_parts(parts, body))
    }

    /// Body bytes sent so far.
    fn progress(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn timed_out(&self) -> Denial {
        let limit = self.snapshot.settings.upstream.response_timeout;
        let message = format!("{} did not answer within {limit:?}", self.origin.host);
        Denial::new(DenialCode::UpstreamTimeout, message)
            .hint("raise `upstream.response_timeout` if the origin is slow by nature")
    }

    fn unanswered(&self, why: Unanswered1) -> Denial {
        match why {
            Unanswered1::Closed(error) | Unanswered1::Broken(error) => self.broken(&error),
            Unanswered1::Body(error) => self.broken(error.as_ref()),
            Unanswered1::TimedOut => self.timed_out(),
            Unanswered1::Unsound(why) => {
                Denial::new(DenialCode::UpstreamProtocol, format!("{} answered with {why}", self.origin.host))
            }
        }
    }

    fn broken(&self, error: &(dyn std::error::Error + 'static)) -> Denial {
        if let Some(refused) = causes(error).find_map(|cause| cause.downcast_ref::<BodyRefused>()) {
            return Denial::new(DenialCode::MalformedRequest, refused.0.clone());
        }
        let message = format!("{} broke off or did not answer in HTTP: {}", self.origin.host, in_short(error));
        Denial::new(DenialCode::UpstreamProtocol, message)
    }
}

fn target(parts: &Parts, origin: &Origin, authority: &str) -> Result<Uri, Denial> {
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    if parts.version != Version::HTTP_2 {
        return Ok(Uri::from(path));
    }
    let uri = Uri::builder().scheme(origin.scheme.as_str()).authority(authority).path_and_query(path).build();
    uri.map_err(|_| Denial::new(DenialCode::Internal, "the request target cannot be rebuilt"))
}

/// A stale connection may be followed by another stale one, hardly by a third.
const MAX_TRIES: usize = 4;
