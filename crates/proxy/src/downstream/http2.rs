//! HTTP/2 toward the agent: one task a stream, all through the same path as HTTP/1 (RFC 9113).

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use clauderon_core::config::Limits;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};

use super::stream::Stream;
use crate::BoxError;
use crate::body::Body;
use crate::connection::{Answer, Connection, Reply};
use crate::deadline::Deadline;
use crate::h2_body::{self, ReceivedBody};
use crate::interim::Interim;

/// Serves one connection until the agent leaves, goes idle, or the daemon drains.
pub(crate) async fn serve(connection: Arc<Connection>, stream: Stream) {
    let limits = connection.limits();
    let handshake = builder(limits).handshake::<_, Bytes>(stream);
    let Ok(Ok(mut http2)) = tokio::time::timeout(limits.handshake_timeout, handshake).await else { return };
    let open = Arc::new(AtomicUsize::new(0));
    let mut idle = Deadline::new(limits.idle_timeout);
    let mut draining = pin!(connection.drain.begun());
    let mut closing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = http2.accept() => accepted,
            () = &mut draining, if !closing => {
                closing = true;
                http2.graceful_shutdown();
                continue;
            }
            () = connection.revoked() => return,
            () = poll_fn(|cx| idle.poll(cx)) => {
                idle.restart();
                // A long answer keeps its connection; only one without any stream is idle.
                if open.load(Ordering::Relaxed) == 0 {
                    if closing {
                        // It was asked to leave, and does not even answer the ping that goes with that.
                        return;
                    }
                    closing = true;
                    http2.graceful_shutdown();
                }
                continue;
            }
        };
        let Some(Ok((request, respond))) = accepted else { return };
        idle.restart();
        let place = OpenStream::new(&open);
        let exchange = exchange(connection.clone(), request, respond);
        connection.drain.spawn(async move {
            exchange.await;
            drop(place);
        });
    }
}

fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(limits.max_head_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(Some(MAX_ERROR_RESETS));
    builder
}

async fn exchange(connection: Arc<Connection>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (request, upload) = with_body(request);
    let interim = Interim::default();
    interim.begin(request.version());
    let is_head = request.method() == Method::HEAD;
    let mut answering = pin!(connection.answer(request, &interim));
    let answer = poll_fn(|cx| {
        let answer = answering.as_mut().poll(cx);
        for (status, headers) in interim.take() {
            let mut response = Response::new(());
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            // The agent may have gone; the final answer will find out.
            let _ = respond.send_informational(response);
        }
        match answer {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => respond.poll_reset(cx).map(|_| None),
        }
    });
    match answer.await {
        Some(Answer::Reply(reply)) => tokio::select! {
            () = send(*reply, &mut respond, is_head) => {}
            () = connection.revoked() => respond.send_reset(Reason::CANCEL),
        },
        // CONNECT inside a tunnel is refused by the connection, so this cannot be an accepted one.
        Some(Answer::Connect(_)) => respond.send_reset(Reason::REFUSED_STREAM),
        None => {}
    }
    if let Some(upload) = upload {
        upload.discard_rest().await;
    }
}

async fn send(reply: Reply, respond: &mut SendResponse<Bytes>, is_head: bool) {
    let (mut parts, mut body) = reply.response.into_parts();
    parts.version = http::Version::HTTP_2;
    if parts.status == StatusCode::NO_CONTENT {
        // RFC 9110 § 8.6 forbids it, and HTTP/2 clients reset the stream over it.
        parts.headers.remove(CONTENT_LENGTH);
    }
    if is_head {
        // RFC 9110 § 9.3.2: the head is all of the answer, our own refusals included.
        body.finished();
    }
    let ended = is_head || body.is_end_stream();
    if let Ok(stream) = respond.send_response(Response::from_parts(parts, ()), ended)
        && !ended
    {
        h2_body::send(stream, body).await;
    }
}

fn with_body(request: Request<RecvStream>) -> (Request<Body>, Option<UploadedBody>) {
    let (parts, stream) = request.into_parts();
    if stream.is_end_stream() {
        return (Request::from_parts(parts, Body::Empty), None);
    }
    let upload = UploadedBody(Arc::new(Mutex::new(ReceivedBody::new(stream, &parts.headers))));
    let body = Body::Uploaded(UploadedBody(upload.0.clone()));
    (Request::from_parts(parts, body), Some(upload))
}

/// A request body that outlives whoever reads it: were the stream dropped before its answer is on the wire, the agent
/// would get a reset instead of the answer.
pub(crate) struct UploadedBody(Arc<Mutex<ReceivedBody>>);

impl UploadedBody {
    fn lock(&self) -> MutexGuard<'_, ReceivedBody> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads away what nobody wanted, for a moment, so that the agent can end its upload in peace (RFC 9113 § 8.1).
    async fn discard_rest(self) {
        if Arc::strong_count(&self.0) > 1 {
            return; // the origin still reads
        }
        let mut budget = MAX_DISCARDED;
        let discarding = poll_fn(|cx| {
            while budget > 0 {
                match ready!(Pin::new(&mut *self.lock()).poll_frame(cx)) {
                    Some(Ok(frame)) => budget = budget.saturating_sub(frame.data_ref().map_or(0, Bytes::len)),
                    Some(Err(_)) | None => return Poll::Ready(()),
                }
            }
            Poll::Ready(())
        });
        // Too long or too slow an upload is cut off: by now its answer is out.
        let _ = tokio::time::timeout(LINGER, discarding).await;
    }
}

impl http_body::Body for UploadedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut *self.lock()).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().size_hint()
    }
}

/// Counts the streams that keep a connection from being idle.
struct OpenStream(Arc<AtomicUsize>);

impl OpenStream {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open.clone())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

// What Envoy's guide for untrusted clients advises, with the resets of RUSTSEC-2023-0034 and 2024-0003 bounded.
const MAX_STREAMS: u32 = 100;
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const MAX_FRAME: u32 = 16 * 1024;
const SEND_BUFFER: usize = 64 * 1024;
const MAX_PENDING_RESETS: usize = 20;
const MAX_ERROR_RESETS: usize = 1024;

/// What is read away of an upload that was answered early, and for how long.
const MAX_DISCARDED: usize = 4 * 1024 * 1024;
const LINGER: Duration = Duration::from_secs(1);
