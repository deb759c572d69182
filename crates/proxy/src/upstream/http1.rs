//! HTTP/1 toward an origin. A connection has no task of its own: whoever waits for the answer or reads its body drives
//! it, so a request costs no wake-up of another task, one write and one read.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::{Method, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::answer::{AnswerHead, take_answer};
use super::dial::Dialed;
use super::pool::Bucket;
use super::upload::{Failure, Outgoing, Upload};
use crate::BoxError;
use crate::body::Body;
use crate::deadline::Deadline;
use crate::http1::decode::{BodyDecoder, Decoded};
use crate::http1::wire::Wire;
use crate::interim::Interim;

/// A connection that can take one request at a time.
pub(crate) struct Http1 {
    wire: Wire<Dialed>,
    deadline: Deadline,
    pub(crate) idle_since: Instant,
}

/// Why no answer came.
pub(crate) enum Unanswered {
    /// The connection ended before the first byte of an answer: the origin may have closed it while it was idle.
    Closed(io::Error),
    /// The connection broke amid an answer's head.
    Broken(io::Error),
    /// The request's own body failed.
    Body(BoxError),
    /// Neither answer nor progress within the limit.
    TimedOut,
    /// The answer is no HTTP, or could be read in more than one way; the connection is closed.
    Unsound(String),
}

impl Http1 {
    /// A connection over fresh bytes; answers must begin within `response_timeout` of the request's last byte.
    pub(crate) fn new(io: Dialed, response_timeout: Duration) -> Self {
        Self { wire: Wire::new(io), deadline: Deadline::new(response_timeout), idle_since: Instant::now() }
    }

    /// Whether the connection can take a request now. Looks at the socket: an origin may have closed it, or said
    /// something nobody asked for, while it was idle.
    pub(crate) fn is_ready(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.wire.read.is_empty() && !self.wire.eof && self.wire.poll_fill(&mut cx).is_pending()
    }

    /// Sends a request; the connection goes back to `bucket` when the answer has been read.
    pub(crate) async fn send(
        mut self,
        request: &mut Outgoing,
        bucket: &Arc<Bucket>,
        interim: &Interim,
        progress: impl Fn() -> u64,
    ) -> Result<Response<Body>, Unanswered> {
        let (head, upload) = self.exchange(request, interim, progress).await?;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Unanswered::Unsound("a 101 that nobody asked for".into()));
        }
        Ok(self.answer(head, upload, Some(bucket)))
    }

    /// Sends a request that asks to leave HTTP, on a connection that will serve nothing else.
    pub(crate) async fn upgrade(
        mut self,
        request: &mut Outgoing,
    ) -> Result<(Response<Body>, Option<Upgraded>), Unanswered> {
        let (head, upload) = self.exchange(request, &Interim::default(), || 0).await?;
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok((self.answer(head, upload, None), None));
        }
        let response = respond(head.status, head.headers, Body::Empty);
        Ok((response, Some(Upgraded { ahead: self.wire.read.split().freeze(), io: self.wire.stream })))
    }

    /// Writes the request while reading for its answer: an origin may answer before it has read everything.
    async fn exchange(
        &mut self,
        request: &mut Outgoing,
        interim: &Interim,
        progress: impl Fn() -> u64,
    ) -> Result<(AnswerHead, Upload), Unanswered> {
        let mut upload = Upload::begin(&mut self.wire, request);
        let (mut seen, mut gone) = (progress(), None);
        self.deadline.restart();
        let head = poll_fn(|cx| {
            if gone.is_none() {
                match upload.poll(&mut self.wire, cx) {
                    Poll::Ready(Err(Failure::Body(error))) => return Poll::Ready(Err(Unanswered::Body(error))),
                    // An origin that stops reading may have said why: its answer is still worth reading.
                    Poll::Ready(Err(Failure::Io(error))) => gone = Some(error),
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
            match poll_head(&mut self.wire, &request.method, interim, cx) {
                Poll::Ready(Err(Unanswered::Closed(error))) => {
                    Poll::Ready(Err(Unanswered::Closed(gone.take().unwrap_or(error))))
                }
                Poll::Ready(head) => Poll::Ready(head),
                Poll::Pending => {
                    self.deadline.poll_stalled(cx, &mut seen, &progress).map(|()| Err(Unanswered::TimedOut))
                }
            }
        });
        Ok((head.await?, upload))
    }

    fn answer(self, head: AnswerHead, upload: Upload, bucket: Option<&Arc<Bucket>>) -> Response<Body> {
        let AnswerHead { status, headers, decoder, keep_alive } = head;
        let bucket = bucket.filter(|_| keep_alive).cloned();
        let mut body = AnswerBody { decoder, upload, connection: Some(self), bucket };
        if body.decoder.is_done() {
            body.give_back();
            return respond(status, headers, Body::Empty);
        }
        respond(status, headers, Body::Answer(Box::new(body)))
    }
}

fn respond(status: StatusCode, headers: http::HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Reads until a final head is there; informational ones are passed on (RFC 9110 § 15.2).
fn poll_head(
    wire: &mut Wire<Dialed>,
    method: &Method,
    interim: &Interim,
    cx: &mut Context<'_>,
) -> Poll<Result<AnswerHead, Unanswered>> {
    loop {
        while !wire.read.is_empty() {
            match take_answer(&mut wire.read, method).map_err(Unanswered::Unsound)? {
                Some(head) if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS => {
                    interim.push(head.status, head.headers);
                }
                Some(head) => return Poll::Ready(Ok(head)),
                None => break,
            }
        }
        let begun = !wire.read.is_empty();
        match ready!(wire.poll_fill(cx)) {
            Ok(0) if begun => return Poll::Ready(Err(Unanswered::Broken(io::ErrorKind::UnexpectedEof.into()))),
            Ok(0) => return Poll::Ready(Err(Unanswered::Closed(io::ErrorKind::UnexpectedEof.into()))),
            Err(error) if begun => return Poll::Ready(Err(Unanswered::Broken(error))),
            Err(error) => return Poll::Ready(Err(Unanswered::Closed(error))),
            Ok(_) => {}
        }
    }
}

/// An answer's body. Reading it drives the connection; reading it to the end frees the connection for the next request,
/// dropping it early closes the connection.
pub(crate) struct AnswerBody {
    decoder: BodyDecoder,
    upload: Upload,
    connection: Option<Http1>,
    /// Where the connection goes when it can be used again.
    bucket: Option<Arc<Bucket>>,
}

impl AnswerBody {
    /// The connection is done with this answer; surplus bytes or an unfinished request make it useless for the next.
    fn give_back(&mut self) {
        if let (Some(connection), Some(bucket)) = (self.connection.take(), self.bucket.take())
            && self.upload.is_done()
            && connection.wire.read.is_empty()
            && !connection.wire.eof
        {
            bucket.give_back(connection);
        }
    }

    fn poll_decoded(&mut self, cx: &mut Context<'_>) -> Poll<Result<Decoded, BoxError>> {
        let Some(Http1 { wire, .. }) = &mut self.connection else { return Poll::Ready(Ok(Decoded::End)) };
        if !self.upload.is_done()
            && let Poll::Ready(Err(Failure::Body(error))) = self.upload.poll(wire, cx)
        {
            return Poll::Ready(Err(error));
        }
        loop {
            match self.decoder.decode(&mut wire.read) {
                Err(denial) => return Poll::Ready(Err(denial.message.replace("request", "answer").into())),
                Ok(Decoded::More) if wire.eof && self.decoder.ends_at_close() => return Poll::Ready(Ok(Decoded::End)),
                Ok(Decoded::More) if wire.eof => return Poll::Ready(Err(ENDS_EARLY.into())),
                Ok(Decoded::More) => drop(ready!(wire.poll_fill(cx))?),
                Ok(decoded) => return Poll::Ready(Ok(decoded)),
            }
        }
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match ready!(self.poll_decoded(cx)) {
            Ok(Decoded::Data(data)) => Some(Ok(Frame::data(data))),
            Ok(Decoded::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(Decoded::End | Decoded::More) => None,
            Err(error) => Some(Err(error)),
        };
        if self.decoder.is_done() || frame.is_none() {
            self.give_back();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.decoder.is_done()
    }

    fn size_hint(&self) -> SizeHint {
        self.decoder.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The bytes behind a `101 Switching Protocols`.
pub(crate) struct Upgraded {
    /// Read together with the answer's head.
    ahead: Bytes,
    io: Dialed,
}

impl AsyncRead for Upgraded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = self.ahead.len().min(buf.remaining());
        buf.put_slice(self.ahead.get(..n).unwrap_or_default());
        self.ahead.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

const ENDS_EARLY: &str = "the origin closed before the answer's end";
