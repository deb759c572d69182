//! Sending a decided request upstream: which protocol, which connection, and when to try again.

use std::sync::Arc;
use std::time::Duration;

use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::host::{Origin, Scheme};
use clauderon_core::inject::Injected;
use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body::Body as _;

use crate::body::{Body, Counted, Sent, unread};
use crate::headers;
use crate::interim::Interim;
use crate::upstream::dial::{Alpn, Dialed, Reach};
use crate::upstream::failure::in_short;
use crate::upstream::http1::{Http1, Unanswered as Unanswered1, Upgraded};
use crate::upstream::http2::{Http2, Unanswered as Unanswered2};
use crate::upstream::pool::{Bucket, Spoken};
use crate::upstream::upload::Outgoing;

/// Everything that sending needs besides the request.
#[derive(Clone, Copy)]
pub(crate) struct Route<'a> {
    pub(crate) reach: Reach<'a>,
    pub(crate) origin: &'a Origin,
    pub(crate) bucket: &'a Arc<Bucket>,
    pub(crate) interim: &'a Interim,
    pub(crate) sent: &'a Arc<Sent>,
    pub(crate) waiting: Waiting,
}

/// What is waited for, and so for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// An answer, for as long as `upstream.response_timeout` says.
    ForAnswers,
    /// A stream that may be silent until something happens; its connection must have shown that somebody is there.
    ForStreams,
}

/// What came of one try.
enum Outcome {
    Answered(Box<Response<Body>>),
    /// Nothing of the request was used: it may go out again as it is.
    Unused(Box<Request<Counted>>),
    /// The origin did nothing with it (RFC 9113 § 8.7).
    Refused(Denial),
    Failed(Denial),
}

impl Route<'_> {
    /// Sends a request and returns the answer's head and body.
    ///
    /// A request goes out a second time only when nothing of it can have been acted on: no byte was sent, the origin
    /// refused the stream, or it is idempotent, bodiless, and an idle connection broke before it answered (RFC 9110 § 9.2.2).
    /// The one other case is an answer: a 401 to a credential that has become another since ([`Spare`](crate::renewal::Spare)).
    pub(crate) async fn send(&self, injected: Injected, body: Body) -> Result<Response<Body>, Denial> {
        self.send_own(injected.into_parts(), body).await
    }

    /// Sends a request of the daemon's own, which no agent had a part in.
    pub(crate) async fn send_own(&self, parts: Parts, body: Body) -> Result<Response<Body>, Denial> {
        let replayable = body.is_end_stream() && parts.method.is_idempotent();
        let http2_wanted = parts.version == Version::HTTP_2 && self.origin.scheme == Scheme::Https;
        let request = Request::from_parts(parts, Counted::new(body, self.sent.clone()));
        if http2_wanted {
            self.send_http2(request, replayable).await
        } else {
            self.send_http1(request, replayable).await
        }
    }

    async fn send_http1(&self, request: Request<Counted>, replayable: bool) -> Result<Response<Body>, Denial> {
        let mut outgoing = self.outgoing(request);
        for tried in 0..MAX_TRIES {
            // Where one pooled connection was dead the others may be too: the next try takes none of them.
            let (connection, reused) = self.connection1(tried > 0).await?;
            match connection.send(&mut outgoing, self.bucket, self.interim, || self.progress()).await {
                Ok(response) => return Ok(response),
                Err(Unanswered1::Closed(_)) if reused && replayable => {}
                Err(why) => return Err(self.unanswered(why)),
            }
        }
        Err(self.keeps_closing())
    }

    async fn send_http2(&self, mut request: Request<Counted>, replayable: bool) -> Result<Response<Body>, Denial> {
        let spare = replayable.then(|| request_head(&request));
        for _ in 0..MAX_TRIES {
            let Some(connection) = self.connection2().await? else {
                return self.send_http1(request, replayable).await;
            };
            match self.try_http2(connection, request).await {
                Outcome::Answered(response) => return Ok(*response),
                Outcome::Unused(unused) => request = *unused,
                Outcome::Failed(denial) => return Err(denial),
                Outcome::Refused(denial) => match &spare {
                    Some(spare) => request = self.bodiless(spare),
                    None => return Err(denial),
                },
            }
        }
        Err(self.keeps_closing())
    }

    /// Asks to leave HTTP for `protocol`, on a connection of its own.
    pub(crate) async fn upgrade(
        &self,
        injected: Injected,
        protocol: HeaderValue,
    ) -> Result<(Response<Body>, Option<Upgraded>), Denial> {
        let mut parts = injected.into_parts();
        headers::fit_version(&mut parts.headers, Version::HTTP_11, self.bucket.authority(self.origin));
        let headers = &mut parts.headers;
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
        let mut outgoing = Outgoing::new(parts, Counted::new(Body::Empty, self.sent.clone()));
        let connection = self.dial_http1().await?;
        connection.upgrade(&mut outgoing).await.map_err(|why| self.unanswered(why))
    }

    async fn try_http2(&self, connection: Http2, request: Request<Counted>) -> Outcome {
        let request = match self.fit_http2(request) {
            Ok(request) => request,
            Err(denial) => return Outcome::Failed(denial),
        };
        let limit = match self.waiting {
            Waiting::ForAnswers => self.reach.settings.upstream.response_timeout,
            Waiting::ForStreams => FOR_EVER,
        };
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
                if refused { Outcome::Refused(denial) } else { Outcome::Failed(denial) }
            }
        }
    }

    /// The shared HTTP/2 connection or a new one; none where the origin speaks HTTP/1 only.
    async fn connection2(&self) -> Result<Option<Http2>, Denial> {
        let mut spoken = self.negotiating().await?;
        match (*spoken, self.bucket.http2()) {
            (Spoken::Http2, Some(open)) if open.is_ready().await => return Ok(Some(open)),
            (Spoken::Http1, _) => return Ok(None),
            _ => {}
        }
        let io = self.dial(Alpn::Http2Allowed).await?;
        if io.is_http2() {
            let connection = self.open_http2(io).await?;
            *spoken = Spoken::Http2;
            self.bucket.set_http2(Some(connection.clone()));
            return Ok(Some(connection));
        }
        *spoken = Spoken::Http1;
        self.bucket.give_back(self.open_http1(io));
        Ok(None)
    }

    /// Makes sure that a connection is there over which HTTP/2 can be spoken; nothing is asked yet.
    pub(crate) async fn ready_http2(&self) -> Result<(), Denial> {
        let message = || format!("{} does not speak HTTP/2", self.origin.host);
        let open = self.connection2().await?;
        open.map(drop).ok_or_else(|| Denial::new(DenialCode::UpstreamProtocol, message()))
    }

    async fn open_http2(&self, io: Dialed) -> Result<Http2, Denial> {
        let (connection, pings) = Http2::open(io).await.map_err(|error| self.broken(&error))?;
        if self.waiting == Waiting::ForStreams {
            let limit = self.reach.settings.upstream.connect_timeout;
            let message = || format!("{} did not answer within {limit:?} (HTTP/2)", self.origin.host);
            let shown = tokio::time::timeout(limit, pings.answered()).await;
            let shown = shown.map_err(|_| Denial::new(DenialCode::UpstreamTimeout, message()))?;
            shown.map_err(|error| self.broken(&error))?;
        }
        Ok(connection)
    }

    /// A pooled connection or a new one, and whether it was used before.
    async fn connection1(&self, anew: bool) -> Result<(Http1, bool), Denial> {
        match if anew { None } else { self.bucket.take_http1() } {
            Some(idle) => Ok((idle, true)),
            None => Ok((self.dial_http1().await?, false)),
        }
    }

    /// Waits while another request finds out what the origin speaks, but no longer than finding out may take.
    async fn negotiating(&self) -> Result<tokio::sync::MutexGuard<'_, Spoken>, Denial> {
        let limit = self.reach.settings.upstream.connect_timeout;
        let message = || format!("{} did not answer within {limit:?} (connecting)", self.origin.host);
        let locked = tokio::time::timeout(limit, self.bucket.negotiating.lock()).await;
        locked.map_err(|_| Denial::new(DenialCode::UpstreamTimeout, message()))
    }

    async fn dial_http1(&self) -> Result<Http1, Denial> {
        let io = self.dial(Alpn::Http1Only).await?;
        Ok(self.open_http1(io))
    }

    /// Boxed, as it is rare and large: every request's future would have to make room for it, and every tunnel's keep it.
    async fn dial(&self, alpn: Alpn) -> Result<Dialed, Denial> {
        Ok(Box::pin(self.reach.dial(self.origin, alpn)).await?)
    }

    fn open_http1(&self, io: Dialed) -> Http1 {
        Http1::new(io, self.reach.settings.upstream.response_timeout)
    }

    /// The request in HTTP/1's form (RFC 9112 § 3.2).
    fn outgoing(&self, request: Request<Counted>) -> Outgoing {
        let (mut parts, body) = request.into_parts();
        headers::fit_version(&mut parts.headers, Version::HTTP_11, self.bucket.authority(self.origin));
        Outgoing::new(parts, body)
    }

    /// The request in HTTP/2's form (RFC 9113 § 8.3.1).
    fn fit_http2(&self, request: Request<Counted>) -> Result<Request<Counted>, Denial> {
        let (mut parts, body) = request.into_parts();
        let authority = self.bucket.authority(self.origin);
        headers::fit_version(&mut parts.headers, Version::HTTP_2, authority);
        parts.version = Version::HTTP_2;
        let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let scheme = self.origin.scheme.as_str();
        let uri = Uri::builder().scheme(scheme).authority(authority.as_bytes()).path_and_query(path).build();
        parts.uri = uri.map_err(|_| Denial::new(DenialCode::Internal, "the request target cannot be rebuilt"))?;
        Ok(Request::from_parts(parts, body))
    }

    fn bodiless(&self, head: &Request<()>) -> Request<Counted> {
        head.clone().map(|()| Counted::new(Body::Empty, self.sent.clone()))
    }

    fn keeps_closing(&self) -> Denial {
        Denial::new(DenialCode::UpstreamProtocol, format!("{} keeps closing its connections", self.origin.host))
    }

    /// Body bytes sent so far.
    fn progress(&self) -> u64 {
        self.sent.bytes()
    }

    fn timed_out(&self) -> Denial {
        let limit = self.reach.settings.upstream.response_timeout;
        let message = format!("{} did not answer within {limit:?}", self.origin.host);
        Denial::new(DenialCode::UpstreamTimeout, message)
            .hint("raise `upstream.response_timeout` if the origin is slow by nature")
    }

    fn unanswered(&self, why: Unanswered1) -> Denial {
        match why {
            Unanswered1::Closed(error) | Unanswered1::Broken(error) => self.broken(&error),
            Unanswered1::Body(error) => Denial::new(DenialCode::MalformedRequest, unread(&error)),
            Unanswered1::TimedOut => self.timed_out(),
            Unanswered1::Unsound(why) => {
                Denial::new(DenialCode::UpstreamProtocol, format!("{} answered with {why}", self.origin.host))
            }
        }
    }

    fn broken(&self, error: &(dyn std::error::Error + 'static)) -> Denial {
        if let Some(why) = self.sent.refused() {
            return Denial::new(DenialCode::MalformedRequest, why);
        }
        let message = format!("{} broke off or did not answer in HTTP: {}", self.origin.host, in_short(error));
        Denial::new(DenialCode::UpstreamProtocol, message)
    }
}

fn request_head(request: &Request<Counted>) -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.version_mut() = request.version();
    *head.headers_mut() = request.headers().clone();
    head
}

/// Longer than any connection lives; a timer can still count it.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A stale connection may be followed by another stale one, hardly by a third.
const MAX_TRIES: usize = 4;
