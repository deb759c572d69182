//! The reading half of an HTTP/1 connection, shared by its server and the request body still on the wire.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::stream::Stream;
use crate::BoxError;
use crate::body::BodyRefused;
use crate::http1::decode::{BodyDecoder, Decoded};
use crate::http1::wire::Wire;

/// A request body still on the wire; reads from the connection as it is polled.
pub(crate) struct IncomingBody(pub(crate) Shared);

/// The connection, held by its server and, until it is read, by the body of the request under way.
pub(crate) type Shared = Arc<Mutex<Inbound>>;

/// What has come in, and how what follows is framed.
pub(crate) struct Inbound {
    pub(crate) wire: Wire<Stream>,
    /// Of the request under way.
    pub(crate) decoder: BodyDecoder,
}

impl Inbound {
    /// The next piece of the request body, reading as needed.
    pub(crate) fn poll_decode(&mut self, cx: &mut Context<'_>) -> Poll<Result<Decoded, BoxError>> {
        loop {
            match self.decoder.decode(&mut self.wire.read).map_err(|denial| BodyRefused(denial.message))? {
                Decoded::More if self.wire.eof => return Poll::Ready(Err(BodyRefused(ENDS_EARLY.into()).into())),
                Decoded::More => drop(ready!(self.wire.poll_fill(cx))?),
                decoded => return Poll::Ready(Ok(decoded)),
            }
        }
    }

    /// Whether the agent has hung up while it should be waiting for its answer.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> bool {
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
}

impl Body for IncomingBody {
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

pub(crate) fn lock(inbound: &Shared) -> MutexGuard<'_, Inbound> {
    // Everything runs in one task, so the lock is never contended; a poisoned one belongs to a task that is gone.
    inbound.lock().unwrap_or_else(PoisonError::into_inner)
}

const ENDS_EARLY: &str = "malformed request: the body ends early";
