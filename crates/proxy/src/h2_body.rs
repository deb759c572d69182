//! HTTP/2 message bodies in both directions; the same on either side of the proxy (RFC 9113 §§ 5.2, 8.1).

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http_body::{Body, Frame, SizeHint};

use crate::BoxError;

/// A body being received.
pub(crate) struct ReceivedBody {
    stream: RecvStream,
    /// What the sender declared, if anything.
    length: Option<u64>,
    data_done: bool,
}

impl ReceivedBody {
    pub(crate) fn new(stream: RecvStream, headers: &http::HeaderMap) -> Self {
        let length = headers.get(http::header::CONTENT_LENGTH);
        let length = length.and_then(|value| crate::http1::head::decimal(value.as_bytes()));
        let data_done = stream.is_end_stream();
        Self { stream, length, data_done }
    }
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.data_done {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Whoever polls is ready to pass the bytes on, so the sender may send as many more.
                    self.stream.flow_control().release_capacity(data.len())?;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => self.data_done = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx))?;
        Poll::Ready(trailers.map(|fields| Ok(Frame::trailers(fields))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) if !self.data_done => SizeHint::with_exact(length),
            _ => SizeHint::default(),
        }
    }
}

/// Sends a whole body, then ends the stream; ends early when the peer resets it.
///
/// A body that fails resets the stream, so that a broken message never looks complete.
pub(crate) async fn send<B>(mut stream: SendStream<Bytes>, body: B)
where
    B: Body<Data = Bytes, Error = BoxError>,
{
    let mut body = pin!(body);
    loop {
        let frame = poll_fn(|cx| {
            if let Poll::Ready(reset) = stream.poll_reset(cx) {
                return Poll::Ready(Err(reset.ok()));
            }
            body.as_mut().poll_frame(cx).map(Ok)
        });
        match frame.await {
            Err(_reset) => return,
            Ok(None) => return drop(stream.send_data(Bytes::new(), true)),
            Ok(Some(Err(error))) => return stream.send_reset(reset_reason(error.as_ref())),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    let last = body.is_end_stream();
                    if send_data(&mut stream, data, last).await.is_err() || last {
                        return;
                    }
                }
                Err(frame) => {
                    return drop(stream.send_trailers(frame.into_trailers().unwrap_or_default()));
                }
            },
        }
    }
}

/// Sends as the peer's window allows (RFC 9113 § 5.2): back-pressure reaches whoever feeds the body.
async fn send_data(stream: &mut SendStream<Bytes>, mut data: Bytes, last: bool) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let n = match stream.capacity() {
            0 => more_capacity(stream).await?,
            n => n,
        };
        let piece = data.split_to(n.min(data.len()));
        let ends = last && data.is_empty();
        stream.send_data(piece, ends)?;
        if ends {
            return Ok(());
        }
    }
    if last { stream.send_data(data, true) } else { Ok(()) }
}

async fn more_capacity(stream: &mut SendStream<Bytes>) -> Result<usize, h2::Error> {
    poll_fn(|cx| {
        if let Poll::Ready(reset) = stream.poll_reset(cx) {
            return Poll::Ready(reset.and(Err(Reason::CANCEL.into())));
        }
        stream.poll_capacity(cx).map(|capacity| capacity.unwrap_or_else(|| Err(Reason::CANCEL.into())))
    })
    .await
}

/// The reason to pass on when a body broke off: the other side's own, if it gave one.
fn reset_reason(error: &(dyn std::error::Error + 'static)) -> Reason {
    error.downcast_ref::<h2::Error>().and_then(h2::Error::reason).unwrap_or(Reason::INTERNAL_ERROR)
}
