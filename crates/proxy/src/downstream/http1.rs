//! HTTP/1 toward the agent: heads in, replies out, one request at a time, one task for everything.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use clauderon_core::denial::{Denial, DenialCode};
use http::{HeaderMap, Method, Request};
use http_body::Body as _;

use super::inbound::{Inbound, IncomingBody, Shared, lock};
use super::stream::{Socket, Stream};
use crate::body::{Body, Observed};
use crate::connection::{Answer, Connection, Reply, Tunnel};
use crate::deadline::Deadline;
use crate::http1::decode::{BodyDecoder, Decoded};
use crate::http1::encode::{Asked, BodyEncoder, BodyEnd, WrongLength, encode_head, encode_interim, encode_switch};
use crate::http1::head::{Framing, Head, take_head};
use crate::http1::wire::Wire;
use crate::interim::Interim;
use crate::websocket::{self, Opened};

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
            // An empty line after a body is what some old clients send: not a request that comes too slowly.
            Err(_) if lock(&self.inbound).wire.read.iter().all(|b| b"\r\n".contains(b)) => Ok(None),
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
            return Box::pin(self.switch(&parts.headers, upstream, body)).await;
        }
        let end = asked.body_end(parts.status, &parts.headers, &body.size_hint());
        let close = close || end == BodyEnd::Close;
        encode_head(lock(&self.inbound).wire.tail(), parts.status, &parts.headers, end, close);
        match write_body(&self.inbound, body, end).await {
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
            let mut budget = MAX_LINGERED;
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
        match inbound.wire.has_queued() && matches!(inbound.wire.poll_flush(cx), Poll::Ready(Err(_))) {
            true => Poll::Ready(Err(Broken)),
            false if inbound.poll_gone(cx) => Poll::Ready(Err(Broken)),
            false => Poll::Pending,
        }
    })
    .await
}

/// Writes a body as it comes: whatever the origin has sent so far goes out before waiting for more.
async fn write_body(inbound: &Shared, mut body: Observed, end: BodyEnd) -> Result<(), Broken> {
    let mut encoder = BodyEncoder::new(end);
    let mut ended = end == BodyEnd::None;
    poll_fn(|cx| {
        while !ended {
            if lock(inbound).wire.is_full() {
                ready!(lock(inbound).wire.poll_flush(cx)).map_err(|_| Broken)?;
            }
            // The lock is not held here: an answer that is polled may have to read on in the request's body.
            let frame = Pin::new(&mut body).poll_frame(cx);
            let inbound = &mut *lock(inbound);
            match frame {
                Poll::Ready(Some(Ok(frame))) => encoder.push(&mut inbound.wire, frame)?,
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Broken)),
                Poll::Ready(None) => ended = true,
                Poll::Pending if inbound.poll_gone(cx) => return Poll::Ready(Err(Broken)),
                Poll::Pending => {
                    let flushed = inbound.wire.poll_flush(cx);
                    return if let Poll::Ready(Err(_)) = flushed { Poll::Ready(Err(Broken)) } else { Poll::Pending };
                }
            }
            if ended {
                encoder.finish(&mut inbound.wire)?;
            }
        }
        lock(inbound).wire.poll_flush(cx).map_err(|_| Broken)
    })
    .await
}

impl From<WrongLength> for Broken {
    fn from(_: WrongLength) -> Self {
        Self
    }
}

async fn flush(inbound: &Shared) -> Result<(), Broken> {
    poll_fn(|cx| lock(inbound).wire.poll_flush(cx)).await.map_err(|_| Broken)
}

fn ready_or_none(head: Poll<Result<Option<Head>, Denial>>) -> Result<Option<Head>, Denial> {
    match head {
        Poll::Ready(head) => head,
        Poll::Pending => Ok(None),
    }
}

/// Reading away more than this costs more than a new connection.
const MAX_SKIPPED_BODY: u64 = 64 * 1024;

/// What a client may still have to say when its reply is there. Many send all of an upload before they read, and would take the
/// reset for the answer; a closed connection costs nothing but these bytes, which nobody keeps.
const MAX_LINGERED: u64 = 32 * 1024 * 1024;

/// How long a closing connection may take to take its last reply.
const LINGER: Duration = Duration::from_secs(1);
