//! HTTP/1 toward an origin. The connection has no task of its own: whoever waits for the answer or reads its body drives
//! it, so a request costs no wake-up of another task.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::dial::Dialed;
use super::pool::Bucket;
use crate::BoxError;
use crate::body::{Body, Counted};
use crate::deadline::Deadline;
use crate::downstream::head::framing;

/// A connection that can take one request at a time.
pub(crate) struct Http1 {
    sender: SendRequest<Counted>,
    driver: Driver,
    deadline: Deadline,
    pub(crate) idle_since: Instant,
}

type Driver = Pin<Box<Connection<TokioIo<Dialed>, Counted>>>;

/// The bytes behind a `101 Switching Protocols`.
pub(crate) type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

/// Why no answer came.
pub(crate) enum Unanswered {
    /// The connection failed; the request comes back if not a byte of it was sent.
    Failed(hyper::Error, Option<Box<Request<Counted>>>),
    /// Neither answer nor progress within the limit.
    TimedOut,
    /// The answer could be read in more than one way; the connection is closed.
    Unsound(&'static str),
}

impl Http1 {
    /// A connection over fresh bytes; answers must begin within `response_timeout` of the request's last byte.
    pub(crate) async fn open(io: Dialed, response_timeout: Duration) -> hyper::Result<Self> {
        let (sender, connection) = handshake(TokioIo::new(io)).await?;
        let deadline = Deadline::new(response_timeout);
        Ok(Self { sender, driver: Box::pin(connection), deadline, idle_since: Instant::now() })
    }

    /// Whether the connection can take a request now. Looks at the socket: an origin may have closed it, or said
    /// something nobody asked for, while it was idle.
    pub(crate) fn is_ready(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.driver.as_mut().poll(&mut cx).is_pending() && self.sender.is_ready()
    }

    /// Sends a request; the connection goes back to `bucket` when the answer has been read.
    pub(crate) async fn send(
        mut self,
        request: Request<Counted>,
        bucket: &Arc<Bucket>,
        progress: impl Fn() -> u64,
    ) -> Result<Response<Body>, Unanswered> {
        let mut answering = pin!(self.sender.try_send_request(request));
        let mut seen = 0;
        self.deadline.restart();
        let (driver, deadline) = (&mut self.driver, &mut self.deadline);
        let mut closed = false;
        let answer = poll_fn(|cx| {
            // The first poll hands the request over, the driver works, the second collects what it got.
            for round in 0..2 {
                if let Poll::Ready(answer) = answering.as_mut().poll(cx) {
                    return Poll::Ready(Some(answer));
                }
                if round == 0 && !closed {
                    closed = driver.as_mut().poll(cx).is_ready();
                }
            }
            deadline.poll_stalled(cx, &mut seen, &progress).map(|()| None)
        });
        match answer.await {
            None => Err(Unanswered::TimedOut),
            Some(Ok(response)) => match unsound(&response).or_else(|| unasked_switch(&response)) {
                Some(why) => Err(Unanswered::Unsound(why)),
                None => Ok(self.with_body(response, closed, bucket)),
            },
            Some(Err(mut error)) => {
                let unsent = error.take_message().map(Box::new);
                Err(Unanswered::Failed(error.into_error(), unsent))
            }
        }
    }

    fn with_body(self, response: Response<Incoming>, closed: bool, bucket: &Arc<Bucket>) -> Response<Body> {
        response.map(|incoming| {
            let connection = (!closed).then(|| (self, bucket.clone()));
            let mut body = AnswerBody { incoming, connection };
            if body.incoming.is_end_stream() {
                body.give_back();
                return Body::Empty;
            }
            Body::Answer(Box::new(body))
        })
    }
}

/// What another reader might frame otherwise, and hyper lets pass (RFC 9112 § 6.3).
pub(crate) fn unsound<B>(response: &Response<B>) -> Option<&'static str> {
    framing(response.headers(), response.version()).err()
}

fn unasked_switch<B>(response: &Response<B>) -> Option<&'static str> {
    (response.status() == StatusCode::SWITCHING_PROTOCOLS).then_some("a 101 that nobody asked for")
}

/// Sends a request that asks to leave HTTP, on a connection that will serve nothing else.
pub(crate) async fn send_upgrade(
    connection: Http1,
    request: Request<Counted>,
) -> hyper::Result<(Response<Body>, Option<Upgraded>)> {
    let Http1 { mut sender, driver, .. } = connection;
    tokio::spawn((*Pin::into_inner(driver)).with_upgrades());
    let mut response = sender.send_request(request).await?;
    let upgraded = if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        Some(TokioIo::new(hyper::upgrade::on(&mut response).await?))
    } else {
        None
    };
    let body = |incoming| Body::Answer(Box::new(AnswerBody { incoming, connection: None }));
    Ok((response.map(body), upgraded))
}

/// An answer's body. Reading it drives the connection; reading it to the end frees the connection for the next request,
/// dropping it early closes the connection.
pub(crate) struct AnswerBody {
    incoming: Incoming,
    connection: Option<(Http1, Arc<Bucket>)>,
}

impl AnswerBody {
    fn give_back(&mut self) {
        if let Some((mut connection, bucket)) = self.connection.take()
            && connection.is_ready()
        {
            bucket.give_back(connection);
        }
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut frame = Pin::new(&mut self.incoming).poll_frame(cx);
        if frame.is_pending()
            && let Some((connection, _)) = &mut self.connection
        {
            if connection.driver.as_mut().poll(cx).is_ready() {
                self.connection = None;
            }
            frame = Pin::new(&mut self.incoming).poll_frame(cx);
        }
        let ended = match &frame {
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers() || self.incoming.is_end_stream(),
            Poll::Ready(frame) => frame.is_none(),
            Poll::Pending => false,
        };
        if ended {
            self.give_back();
        }
        frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    #[test]
    fn one_framing_only() {
        let judge = |fields: &[(&str, &str)]| {
            let response =
                fields.iter().fold(Response::builder(), |response, (name, value)| response.header(*name, *value));
            unsound(&response.body(()).unwrap())
        };
        assert_eq!(judge(&[("content-length", "3")]), None);
        assert_eq!(judge(&[("transfer-encoding", "Chunked")]), None);
        assert!(judge(&[("transfer-encoding", "chunked"), ("content-length", "3")]).is_some());
        assert!(judge(&[("transfer-encoding", "gzip, chunked")]).is_some());
        assert!(judge(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]).is_some());
    }
}
