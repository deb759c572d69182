//! HTTP/1 toward the agent: heads in, replies out, one request at a time, one task for everything.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use clauderon_core::denial::{Denial, DenialCode};
use http::{HeaderMap, Method, Request};
use http_body::{Body as _, Frame, SizeHint};

use super::body1::{BodyDecoder, Decoded};
use super::head::{Framing, Head, take_head};
use super::reply1::{Asked, ReplyFraming, chunk_size, encode_head, encode_interim, encode_switch, encode_trailers};
use super::stream::{Socket, Stream};
use crate::BoxError;
use crate::body::{Body, BodyRefused, Observed};
use crate::connection::{Answer, Connection, Reply, Tunnel};
use crate::deadline::Deadline;
use crate::interim::Interim;
use crate::websocket::{self, Opened};
use crate::wire::Wire;

/// How an HTTP/1 connection ended.
pub(crate) enum Ended {
    /// It is over.
    Closed,
    /// A CONNECT was accepted; what follows on the stream belongs to the tunnel.
    Connected(Socket, Tunnel),
}

/// Serves one connection until it ends or a CONNECT is accepted.
pub(crate) async fn serve(connection: &Connection, stream: Stream) -> Ended {
    let inbound = Arc::new(Mutex::new(Inbound { wire: Wire::new(stream), decoder: BodyDecoder::new(Framing::None) }));
    let idle = Deadline::new(connection.limits().idle_timeout);
    let http1 = Http1 { connection, inbound, idle, interim: Interim::default() };
    tokio::select! {
        biased;
        ended = http1.serve() => ended,
        // One watch for the whole connection: nothing of a session that has ended may go on, not even an open answer.
        () = connection.revoked() => Ended::Closed,
    }
}

/// A request body still on the wire; reads from the connection as it is polled.
pub(crate) struct IncomingBody(Shared);

type Shared = Arc<Mutex<Inbound>>;

struct Inbound {
    wire: Wire<Stream>,
    decoder: BodyDecoder,
}

struct Http1<'a> {
    connection: &'a Connection,
    inbound: Shared,
    idle: Deadline,
    /// Empty between requests, so that one queue serves them all.
    interim: Interim,
}

enum Next {
    Request,
    Close,
    Connected(Tunnel),
}

/// The agent is gone or the answer broke off; nothing more can be said on this connection.
struct Broken;

impl Http1<'_> {
    async fn serve(mut self) -> Ended {
        let mut draining = pin!(self.connection.drain.begun());
        loop {
            let head = tokio::select! {
                biased;
                head = self.read_head() => head,
                () = &mut draining => break,
            };
            let next = match head {
                Ok(Some(head)) => self.exchange(head).await,
                Ok(None) => break,
                Err(denial) => self.refuse(&denial).await,
            };
            match next {
                Next::Request => {}
                Next::Close => break,
                Next::Connected(tunnel) => return self.into_tunnel(tunnel),
            }
        }
        self.shut_down().await;
        Ended::Closed
    }

    /// The next head; `None` when the agent has nothing more to ask.
    async fn read_head(&mut self) -> Result<Option<Head>, Denial> {
        let limits = self.connection.limits();
        let mut scanned = 0;
        self.idle.restart();
        let first = poll_fn(|cx| self.poll_head(cx, &mut scanned, true)).await;
        let Poll::Pending = first else { return ready_or_none(first) };
        // The head has begun to arrive: from here a slow client is on the shorter clock.
        let rest = poll_fn(|cx| self.poll_head(cx, &mut scanned, false));
        match tokio::time::timeout(limits.header_timeout, rest).await {
            Ok(head) => ready_or_none(head),
            Err(_) => Err(Denial::new(DenialCode::RequestTimeout, "the request head did not arrive in time")),
        }
    }

    /// Ready with a head, or with `Pending` inside once the first bytes of one have arrived and `until_begun` is set.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        scanned: &mut usize,
        until_begun: bool,
    ) -> Poll<Poll<Result<Option<Head>, Denial>>> {
        let inbound = &mut *lock(&self.inbound);
        loop {
            match take_head(&mut inbound.wire.read, scanned, self.connection.limits()) {
                Ok(Some(head)) => return Poll::Ready(Poll::Ready(Ok(Some(head)))),
                Err(denial) => return Poll::Ready(Poll::Ready(Err(denial))),
                Ok(None) if inbound.wire.eof => return Poll::Ready(Poll::Ready(Ok(None))),
                Ok(None) => {}
            }
            match inbound.wire.poll_fill(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Poll::Ready(Ok(None))),
                Poll::Pending if !inbound.wire.read.is_empty() && until_begun => return Poll::Ready(Poll::Pending),
                Poll::Pending if until_begun => {
                    ready!(self.idle.poll(cx));
                    return Poll::Ready(Poll::Ready(Ok(None)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    async fn exchange(&mut self, head: Head) -> Next {
        let Head { request, framing, keep_alive, expects_continue } = head;
        let asked = Asked::new(request.method(), request.version());
        let is_connect = request.method() == Method::CONNECT;
        let request = self.with_body(request, framing);
        self.interim.begin(asked.version);
        // Pinned where it is made: it is large, and every move would copy it whole.
        let answering = pin!(self.connection.answer(request, &self.interim));
        let answer = await_answer(&self.inbound, answering, &self.interim).await;
        match answer {
            Ok(Answer::Reply(reply)) => {
                let close = !keep_alive || is_connect || self.connection.drain.is_draining();
                let close = close || !self.can_skip_body(expects_continue);
                self.reply(asked, *reply, close).await
            }
            Ok(Answer::Connect(tunnel)) => {
                lock(&self.inbound).wire.push_small(b"HTTP/1.1 200 OK\r\n\r\n");
                flush(&self.inbound).await.map_or(Next::Close, |()| Next::Connected(tunnel))
            }
            Err(Broken) => Next::Close,
        }
    }

    fn with_body(&self, request: Request<()>, framing: Framing) -> Request<Body> {
        let decoder = BodyDecoder::new(framing);
        let body = if decoder.is_done() { Body::Empty } else { Body::Incoming(IncomingBody(self.inbound.clone())) };
        lock(&self.inbound).decoder = decoder;
        request.map(|()| body)
    }

    /// Whether the rest of an unread request body is small enough to be read away, so that the connection can stay.
    fn can_skip_body(&self, expects_continue: bool) -> bool {
        // As long as the origin reads, every byte is its own.
        let unread = !self.body_is_held();
        let inbound = &mut *lock(&self.inbound);
        while unread
            && matches!(inbound.decoder.decode(&mut inbound.wire.read), Ok(Decoded::Data(_) | Decoded::Trailers(_)))
        {
        }
        inbound.decoder.is_done()
            || (!expects_continue && inbound.decoder.remaining().is_some_and(|left| left <= MAX_SKIPPED_BODY))
    }

    /// Whether somebody still holds the request's body, and may read from the connection.
    fn body_is_held(&self) -> bool {
        Arc::strong_count(&self.inbound) > 1
    }

    async fn reply(&self, asked: Asked, reply: Reply, close: bool) -> Next {
        let (parts, body) = reply.response.into_parts();
        if let Some(upstream) = reply.upgraded {
            return self.switch(&parts.headers, upstream, body).await;
        }
        let framing = asked.framing(parts.status, &parts.headers, &body.size_hint());
        let close = close || framing == ReplyFraming::Close;
        encode_head(lock(&self.inbound).wire.tail(), parts.status, &parts.headers, framing, close);
        match write_body(&self.inbound, body, framing).await {
            Ok(()) if close || self.body_is_held() || !self.skip_body().await => Next::Close,
            Ok(()) => Next::Request,
            // A broken answer must not look complete: no last chunk, no close_notify.
            Err(Broken) => {
                drop(self.take_stream());
                Next::Close
            }
        }
    }

    /// Ends HTTP here: from now on frames are relayed.
    async fn switch(&self, headers: &HeaderMap, upstream: Opened, body: Observed) -> Next {
        encode_switch(lock(&self.inbound).wire.tail(), headers);
        if flush(&self.inbound).await.is_ok() {
            let (stream, ahead) = self.take_stream();
            websocket::relay(stream, ahead, upstream, body).await;
        }
        Next::Close
    }

    /// Answers a request that could not even be read, and closes: what follows on the stream is anybody's guess.
    async fn refuse(&self, denial: &Denial) -> Next {
        let reply = self.connection.refuse_unread(denial);
        let asked = Asked { head: false, version: http::Version::HTTP_11 };
        self.reply(asked, reply, true).await
    }

    async fn skip_body(&self) -> bool {
        let skipping = poll_fn(|cx| {
            loop {
                match ready!(lock(&self.inbound).poll_decode(cx)) {
                    Ok(Decoded::End) => return Poll::Ready(true),
                    Ok(_) => {}
                    Err(_) => return Poll::Ready(false),
                }
            }
        });
        tokio::time::timeout(LINGER, skipping).await.unwrap_or(false)
    }

    /// Ends the output, then reads on for a moment, lest unread input turns into a reset that eats the reply (RFC 9112 § 9.6).
    async fn shut_down(&self) {
        let closing = async {
            let _ = poll_fn(|cx| lock(&self.inbound).wire.poll_flush(cx)).await;
            let _ = poll_fn(|cx| lock(&self.inbound).wire.poll_shutdown(cx)).await;
            let mut budget = MAX_SKIPPED_BODY;
            while budget > 0 {
                let n = poll_fn(|cx| {
                    let wire = &mut lock(&self.inbound).wire;
                    wire.read.clear();
                    if wire.eof { Poll::Ready(Ok(0)) } else { wire.poll_fill(cx) }
                });
                match n.await {
                    Ok(0) | Err(_) => break,
                    Ok(n) => budget = budget.saturating_sub(n as u64),
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, closing).await;
    }

    fn take_stream(&self) -> (Stream, Bytes) {
        let wire = &mut lock(&self.inbound).wire;
        (std::mem::replace(&mut wire.stream, Stream::Gone), std::mem::take(&mut wire.read).freeze())
    }

    fn into_tunnel(self, tunnel: Tunnel) -> Ended {
        match self.take_stream() {
            (Stream::Clear(mut socket), ahead) => {
                socket.unread(ahead);
                Ended::Connected(socket, tunnel)
            }
            _ => Ended::Closed,
        }
    }
}

impl Inbound {
    /// The next piece of the request body, reading as needed.
    fn poll_decode(&mut self, cx: &mut Context<'_>) -> Poll<Result<Decoded, BoxError>> {
        loop {
            match self.decoder.decode(&mut self.wire.read).map_err(|denial| BodyRefused(denial.message))? {
                Decoded::More if self.wire.eof => return Poll::Ready(Err(BodyRefused(ENDS_EARLY.into()).into())),
                Decoded::More => drop(ready!(self.wire.poll_fill(cx))?),
                decoded => return Poll::Ready(Ok(decoded)),
            }
        }
    }

    /// Whether the agent has hung up while it should be waiting for its answer.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> bool {
        // Bytes of a pipelined request wait their turn; reading on would let a client make us hold any amount.
        if !self.decoder.is_done() || !self.wire.read.is_empty() || self.wire.eof {
            return false;
        }
        match self.wire.poll_fill(cx) {
            Poll::Ready(Ok(0)) => self.wire.stream.eof_means_gone(),
            Poll::Ready(Err(_)) => true,
            Poll::Ready(Ok(_)) | Poll::Pending => false,
        }
    }

    fn push_frame(&mut self, frame: Frame<Bytes>, framing: ReplyFraming) {
        match (framing, frame.into_data()) {
            (ReplyFraming::None, _) => {}
            (ReplyFraming::Chunked, Ok(data)) if !data.is_empty() => {
                self.wire.push(chunk_size(data.len()));
                self.wire.push(data);
                self.wire.push_small(b"\r\n");
            }
            (_, Ok(data)) => self.wire.push(data),
            (_, Err(_)) => {}
        }
    }
}

/// Waits for the answer, passing informational ones on and noticing when the agent hangs up.
async fn await_answer(
    inbound: &Shared,
    mut answering: Pin<&mut impl Future<Output = Answer>>,
    interim: &Interim,
) -> Result<Answer, Broken> {
    poll_fn(|cx| {
        let answer = answering.as_mut().poll(cx);
        let mut inbound = lock(inbound);
        for (status, headers) in interim.take() {
            encode_interim(inbound.wire.tail(), status, &headers);
        }
        if let Poll::Ready(answer) = answer {
            return Poll::Ready(Ok(answer));
        }
        match inbound.wire.queued() > 0 && matches!(inbound.wire.poll_flush(cx), Poll::Ready(Err(_))) {
            true => Poll::Ready(Err(Broken)),
            false if inbound.poll_gone(cx) => Poll::Ready(Err(Broken)),
            false => Poll::Pending,
        }
    })
    .await
}

/// Writes a body as it comes: whatever the origin has sent so far goes out before waiting for more.
async fn write_body(inbound: &Shared, mut body: Observed, framing: ReplyFraming) -> Result<(), Broken> {
    let mut left = if let ReplyFraming::Length(length) = framing { length } else { u64::MAX };
    let mut trailers = HeaderMap::new();
    let mut ended = framing == ReplyFraming::None;
    poll_fn(|cx| {
        while !ended {
            if lock(inbound).wire.queued() >= WRITE_AHEAD {
                ready!(lock(inbound).wire.poll_flush(cx)).map_err(|_| Broken)?;
            }
            // The lock is not held here: an answer that is polled may have to read on in the request's body.
            match Pin::new(&mut body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(fields) = frame.trailers_ref() {
                        trailers.clone_from(fields);
                    }
                    let len = frame.data_ref().map_or(0, Bytes::len) as u64;
                    left = left.checked_sub(len).ok_or(Broken)?;
                    lock(inbound).push_frame(frame, framing);
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Broken)),
                Poll::Ready(None) => ended = true,
                Poll::Pending => {
                    let mut inbound = lock(inbound);
                    if inbound.poll_gone(cx) {
                        return Poll::Ready(Err(Broken));
                    }
                    let flushed = inbound.wire.poll_flush(cx);
                    return if let Poll::Ready(Err(_)) = flushed { Poll::Ready(Err(Broken)) } else { Poll::Pending };
                }
            }
            if ended && framing == ReplyFraming::Chunked {
                encode_trailers(lock(inbound).wire.tail(), &trailers);
            }
        }
        if matches!(framing, ReplyFraming::Length(_)) && left > 0 {
            return Poll::Ready(Err(Broken));
        }
        lock(inbound).wire.poll_flush(cx).map_err(|_| Broken)
    })
    .await
}

async fn flush(inbound: &Shared) -> Result<(), Broken> {
    poll_fn(|cx| lock(inbound).wire.poll_flush(cx)).await.map_err(|_| Broken)
}

impl http_body::Body for IncomingBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(match ready!(lock(&self.0).poll_decode(cx)) {
            Ok(Decoded::Data(data)) => Some(Ok(Frame::data(data))),
            Ok(Decoded::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(Decoded::End | Decoded::More) => None,
            Err(error) => Some(Err(error)),
        })
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.0).decoder.is_done()
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.0).decoder.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn ready_or_none(head: Poll<Result<Option<Head>, Denial>>) -> Result<Option<Head>, Denial> {
    match head {
        Poll::Ready(head) => head,
        Poll::Pending => Ok(None),
    }
}

fn lock(inbound: &Shared) -> MutexGuard<'_, Inbound> {
    // Everything runs in one task, so the lock is never contended; a poisoned one belongs to a task that is gone.
    inbound.lock().unwrap_or_else(PoisonError::into_inner)
}

const ENDS_EARLY: &str = "malformed request: the body ends early";

/// Above this the origin has to wait for the agent (back-pressure).
const WRITE_AHEAD: usize = 64 * 1024;

/// Reading away more than this costs more than a new connection.
const MAX_SKIPPED_BODY: u64 = 64 * 1024;

/// How long a closing connection may take to take its last reply.
const LINGER: Duration = Duration::from_secs(1);
