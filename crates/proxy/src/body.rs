//! The one body type of the data path, whichever way it came, and what is observed of it.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::downstream::http2::UploadedBody;
use crate::downstream::inbound::IncomingBody;
use crate::exchange::Exchange;
use crate::gateway::kubernetes::members::WithoutValues;
use crate::h2_body::ReceivedBody;
use crate::headers::{misplaced_trailer, strip_trailers};
use crate::renewal::KeptBody;
use crate::scrub::body::ScrubbedBody;
use crate::upstream::failure::in_short;
use crate::upstream::http1::AnswerBody;
use crate::{BoxError, LocalBody};

/// A message body on its way through.
#[derive(Default)]
pub(crate) enum Body {
    /// None.
    #[default]
    Empty,
    /// Made by the proxy itself, or read whole because a rule must see it.
    Full(Bytes),
    /// From an agent over HTTP/1.
    Incoming(IncomingBody),
    /// From an agent over HTTP/2.
    Uploaded(UploadedBody),
    /// From an agent, remembered as it is sent.
    Kept(KeptBody),
    /// From an origin over HTTP/2.
    Received(ReceivedBody),
    /// From an origin over HTTP/1.
    Answer(Box<AnswerBody>),
    /// From an origin, without the secret that went there.
    Scrubbed(Box<ScrubbedBody>),
    /// From an API server, about secrets, without their values.
    WithoutValues(Box<WithoutValues>),
    /// From the daemon's own service.
    Local(LocalBody),
}

impl Body {
    /// The bytes, where a rule had them read whole.
    pub(crate) fn read(&self) -> Option<&Bytes> {
        if let Self::Full(bytes) = self { Some(bytes) } else { None }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Full(text.into())
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Full(_) => {
                let Self::Full(bytes) = std::mem::take(this) else { return Poll::Ready(None) };
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Incoming(body) => Pin::new(body).poll_frame(cx),
            Self::Uploaded(body) => Pin::new(body).poll_frame(cx),
            Self::Kept(body) => Pin::new(body).poll_frame(cx),
            Self::Received(body) => Pin::new(body).poll_frame(cx),
            Self::Answer(body) => Pin::new(body.as_mut()).poll_frame(cx),
            Self::Scrubbed(body) => Pin::new(body.as_mut()).poll_frame(cx),
            Self::WithoutValues(body) => Pin::new(body.as_mut()).poll_frame(cx),
            Self::Local(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Incoming(body) => body.is_end_stream(),
            Self::Uploaded(body) => body.is_end_stream(),
            Self::Kept(body) => body.is_end_stream(),
            Self::Received(body) => body.is_end_stream(),
            Self::Answer(body) => body.is_end_stream(),
            Self::Scrubbed(body) => body.is_end_stream(),
            Self::WithoutValues(body) => body.is_end_stream(),
            Self::Local(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Incoming(body) => body.size_hint(),
            Self::Uploaded(body) => body.size_hint(),
            Self::Kept(body) => body.size_hint(),
            Self::Received(body) => body.size_hint(),
            Self::Answer(body) => body.size_hint(),
            Self::Scrubbed(body) => body.size_hint(),
            Self::WithoutValues(body) => body.size_hint(),
            Self::Local(body) => body.size_hint(),
        }
    }
}

/// What has become of a request's body, for whoever waits for the answer.
#[derive(Default)]
pub(crate) struct Sent {
    bytes: AtomicU64,
    /// Why the body could not be sent to its end; the agent's fault, not the origin's.
    refused: OnceLock<String>,
}

impl Sent {
    /// Body bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts bytes on their way to the origin.
    pub(crate) fn count(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Why the body was not sent to its end, if it was not.
    pub(crate) fn refused(&self) -> Option<&str> {
        self.refused.get().map(String::as_str)
    }
}

/// The agent's request body is malformed or ends early; the request is refused, not repaired.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BodyRefused(pub(crate) String);

/// Why a request's body could not be read to its end, for people.
pub(crate) fn unread(error: &BoxError) -> String {
    match error.downcast_ref::<BodyRefused>() {
        Some(refused) => refused.0.clone(),
        None => format!("the request's body broke off: {}", in_short(error.as_ref())),
    }
}

/// A request body on its way out: counted, and held to what its head may not hold either.
pub(crate) struct Counted {
    body: Body,
    sent: Arc<Sent>,
}

impl Counted {
    pub(crate) fn new(body: Body, sent: Arc<Sent>) -> Self {
        Self { body, sent }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx)).map(|frame| frame.and_then(check_trailers));
        match &frame {
            Some(Ok(frame)) => self.sent.count(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(error)) => drop(self.sent.refused.set(unread(error))),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn check_trailers(frame: Frame<Bytes>) -> Result<Frame<Bytes>, BoxError> {
    match frame.trailers_ref().and_then(misplaced_trailer) {
        Some(name) => Err(BodyRefused(format!("malformed request: `{name}` among the trailers")).into()),
        None => Ok(frame),
    }
}

/// A response body; its end, failure or abandonment is the end of the exchange, and writes the audit record.
pub(crate) struct Observed {
    body: Body,
    /// `None` for the daemon's own replies, which concern no origin.
    exchange: Option<Exchange>,
}

impl Observed {
    pub(crate) fn new(body: Body, exchange: Exchange) -> Self {
        Self { body, exchange: Some(exchange) }
    }

    /// A body that is nobody's request.
    pub(crate) fn unrecorded(body: Body) -> Self {
        Self { body, exchange: None }
    }

    /// The account of what is sent upstream, for a relay.
    pub(crate) fn sent(&self) -> Arc<Sent> {
        self.exchange.as_ref().map(Exchange::sent).unwrap_or_default()
    }

    /// Counts bytes a relay gave to the agent.
    pub(crate) fn received(&mut self, bytes: usize) {
        if let Some(exchange) = &mut self.exchange {
            exchange.count_response(bytes);
        }
    }

    /// Notes that a relay broke off.
    pub(crate) fn failed(&mut self, error: &(dyn std::error::Error + 'static)) {
        if let Some(exchange) = &mut self.exchange {
            exchange.fail(error);
        }
    }

    /// Ends the account of a relay.
    pub(crate) fn finished(&mut self) {
        if let Some(exchange) = &mut self.exchange {
            exchange.complete();
        }
    }
}

impl HttpBody for Observed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(trailers) = frame.as_mut().and_then(|frame| frame.as_mut().ok()).and_then(Frame::trailers_mut) {
            strip_trailers(trailers);
        }
        if let Some(exchange) = &mut self.exchange {
            match &frame {
                // Nothing comes after trailers, and not everyone asks.
                Some(Ok(frame)) if frame.is_trailers() => {
                    frame.trailers_ref().into_iter().for_each(|trailers| exchange.ended_with(trailers));
                    exchange.complete();
                }
                Some(Ok(frame)) => exchange.count_response(frame.data_ref().map_or(0, Bytes::len)),
                Some(Err(error)) => exchange.fail(error.as_ref()),
                None => exchange.complete(),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            self.finished();
        }
    }
}
