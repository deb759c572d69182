//! A body on its way to the agent without the secret: decoded if need be, then scrubbed, piece by piece.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use clauderon_core::scrub::Scrubber;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::Scrub;
use super::decode::{Decoder, Step};
use super::messages::Messages;
use crate::BoxError;
use crate::body::Body;

/// A scrubbed body. What the origin has sent is passed on before more is awaited, but for bytes that may be the beginning of
/// a secret; it holds one piece of the origin's, one decoded piece, and what the codings need.
pub(crate) struct ScrubbedBody {
    inner: Body,
    decoder: Option<Decoder>,
    scrubber: Scrubber,
    /// Nothing is held beyond the end of one of these.
    messages: Option<Messages>,
    scrub: Scrub,
    ready: VecDeque<Frame<Bytes>>,
    /// Fed and not yet decoded.
    decoding: bool,
    ended: bool,
}

/// What came of awaiting a short body.
pub(crate) enum Collected {
    /// All of it.
    Whole(Bytes),
    /// It is not so short after all, or has trailers.
    Begun(Box<ScrubbedBody>),
}

impl ScrubbedBody {
    pub(crate) fn new(inner: Body, decoder: Option<Decoder>, messages: Option<Messages>, scrub: Scrub) -> Self {
        let scrubber = scrub.scrubber();
        Self { inner, decoder, scrubber, messages, scrub, ready: VecDeque::new(), decoding: false, ended: false }
    }

    /// Awaits the body unless it grows beyond `limit` bytes.
    pub(crate) async fn collect(mut self: Box<Self>, limit: usize) -> Result<Collected, BoxError> {
        let mut pieces = Pieces::default();
        while let Some(frame) = poll_fn(|cx| self.poll_next(cx)).await {
            match frame?.into_data() {
                Ok(data) if pieces.len() + data.len() <= limit => pieces.push(data),
                Ok(data) => return Ok(Collected::Begun(self.preceded_by(pieces, Frame::data(data)))),
                Err(trailers) => return Ok(Collected::Begun(self.preceded_by(pieces, trailers))),
            }
        }
        Ok(Collected::Whole(pieces.into_bytes()))
    }

    fn preceded_by(mut self: Box<Self>, pieces: Pieces, frame: Frame<Bytes>) -> Box<Self> {
        self.ready.push_front(frame);
        self.ready.push_front(Frame::data(pieces.into_bytes()));
        self
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        for _ in 0..MAX_STEPS {
            if let Some(frame) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let step = if self.decoding {
                self.decode()
            } else {
                let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
                self.take(frame)
            };
            if let Err(error) = step {
                self.ended = true;
                return Poll::Ready(Some(Err(error)));
            }
        }
        // Bytes that decode to nothing for long must not hold up other tasks.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn take(&mut self, frame: Option<Result<Frame<Bytes>, BoxError>>) -> Result<(), BoxError> {
        let Some(frame) = frame.transpose()? else { return self.end(None) };
        match (frame.into_data(), &mut self.decoder) {
            (Ok(data), None) if self.inner.is_end_stream() => {
                let data = self.scrubber.finish(&data);
                self.give(data);
                self.ended = true;
            }
            (Ok(data), None) => self.pass(data),
            (Ok(data), Some(decoder)) => {
                decoder.feed(data);
                self.decoding = true;
            }
            (Err(frame), _) => return self.end(frame.into_trailers().ok()),
        }
        Ok(())
    }

    fn decode(&mut self) -> Result<(), BoxError> {
        let Some(decoder) = &mut self.decoder else { return Ok(()) };
        match decoder.step()? {
            Step::Data(data) => self.pass(data),
            Step::Working => {}
            Step::Hungry => {
                self.decoding = false;
                if self.inner.is_end_stream() {
                    self.end(None)?;
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), BoxError> {
        self.decoder.as_ref().map_or(Ok(()), Decoder::finish)?;
        let rest = self.scrubber.finish(&Bytes::new());
        self.give(rest);
        if let Some(mut trailers) = trailers {
            self.scrub.fields(&mut trailers);
            self.ready.push_back(Frame::trailers(trailers));
        }
        self.ended = true;
        Ok(())
    }

    fn pass(&mut self, mut data: Bytes) {
        while let Some(messages) = self.messages.as_mut().filter(|_| !data.is_empty()) {
            let clean = match messages.take(&mut data) {
                (last, true) => self.scrubber.finish(&last),
                (part, false) => self.scrubber.push(&part),
            };
            self.give(clean);
        }
        if !data.is_empty() {
            let clean = self.scrubber.push(&data);
            self.give(clean);
        }
    }

    fn give(&mut self, data: Bytes) {
        self.scrub.count(self.scrubber.take_redactions());
        if !data.is_empty() {
            self.ready.push_back(Frame::data(data));
        }
    }
}

impl HttpBody for ScrubbedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.poll_next(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.ready.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

/// The pieces of a short body; a single one is not copied.
#[derive(Default)]
struct Pieces {
    first: Bytes,
    rest: BytesMut,
}

impl Pieces {
    fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    fn push(&mut self, piece: Bytes) {
        match self.len() {
            0 => self.first = piece,
            _ => self.rest.extend_from_slice(&piece),
        }
    }

    fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() {
            return self.first;
        }
        [self.first, self.rest.freeze()].concat().into()
    }
}

/// Some hundred microseconds of decoding at most.
const MAX_STEPS: usize = 64;
