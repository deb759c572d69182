//! HTTP/2 toward an origin: one connection for all of a session's streams (RFC 9113).

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong};
use http::{Request, Response};
use http_body::Body as _;

use super::dial::Dialed;
use super::failure::in_short;
use crate::body::{Body, Counted};
use crate::deadline::Deadline;
use crate::h2_body::{self, ReceivedBody};
use crate::interim::Interim;

/// A connection that takes any number of requests; cheap to clone.
#[derive(Clone)]
pub(crate) struct Http2 {
    sender: SendRequest<Bytes>,
}

/// Asks over a fresh connection whether anybody is there.
pub(crate) struct Pings(Option<PingPong>);

impl Pings {
    /// Waits for the answer to a ping (RFC 9113 § 6.7).
    pub(crate) async fn answered(mut self) -> Result<(), h2::Error> {
        match &mut self.0 {
            Some(pings) => pings.ping(Ping::opaque()).await.map(drop),
            None => Ok(()),
        }
    }
}

/// Why no answer came.
pub(crate) enum Unanswered {
    /// The connection could not take the request: nothing of it was sent, and it comes back.
    NotSent(Box<Request<Counted>>),
    /// The stream failed. `refused` when the origin says that it did nothing (RFC 9113 § 8.7).
    Failed { error: h2::Error, refused: bool },
    /// Neither answer nor progress within the limit.
    TimedOut,
}

impl Http2 {
    /// A connection over fresh bytes.
    pub(crate) async fn open(io: Dialed) -> Result<(Self, Pings), h2::Error> {
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(MAX_HEADERS);
        let (sender, mut connection) = builder.handshake(io).await?;
        let pings = Pings(connection.ping_pong());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                let error = in_short(&error);
                tracing::debug!(%error, "an HTTP/2 connection to an origin ended");
            }
        });
        Ok((Self { sender }, pings))
    }

    /// Whether the connection still takes requests.
    pub(crate) async fn is_ready(&self) -> bool {
        let mut sender = self.sender.clone();
        matches!(poll_fn(|cx| Poll::Ready(sender.poll_ready(cx))).await, Poll::Ready(Ok(())) | Poll::Pending)
    }

    /// Sends a request and waits for its answer's head; the body goes out meanwhile.
    pub(crate) async fn send(
        self,
        request: Request<Counted>,
        interim: &Interim,
        limit: Duration,
        progress: impl Fn() -> u64,
    ) -> Result<Response<Body>, Unanswered> {
        let Ok(mut sender) = self.sender.ready().await else { return Err(Unanswered::NotSent(Box::new(request))) };
        let (parts, body) = request.into_parts();
        let ended = body.is_end_stream();
        let (mut answering, stream) =
            sender.send_request(Request::from_parts(parts, ()), ended).map_err(Unanswered::failed)?;
        if !ended {
            tokio::spawn(h2_body::send(stream, body));
        }
        let (mut deadline, mut seen) = (Deadline::new(limit), 0);
        let answer = poll_fn(|cx| {
            while let Poll::Ready(Some(Ok(response))) = answering.poll_informational(cx) {
                let (parts, ()) = response.into_parts();
                interim.push(parts.status, parts.headers);
            }
            match Pin::new(&mut answering).poll(cx) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending => deadline.poll_stalled(cx, &mut seen, &progress).map(|()| None),
            }
        });
        let response = answer.await.ok_or(Unanswered::TimedOut)?;
        let (parts, stream) = response.map_err(Unanswered::failed)?.into_parts();
        let body = if stream.is_end_stream() {
            Body::Empty
        } else {
            Body::Received(ReceivedBody::new(stream, &parts.headers))
        };
        Ok(Response::from_parts(parts, body))
    }
}

impl Unanswered {
    fn failed(error: h2::Error) -> Self {
        let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM)
            || (error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR));
        Self::Failed { error, refused }
    }
}

// Twice what we give downstream: model answers and packs are large, and one origin serves one session only.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const SEND_BUFFER: usize = 64 * 1024;
const MAX_HEADERS: u32 = 256 * 1024;
