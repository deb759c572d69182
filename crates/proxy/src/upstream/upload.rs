//! HTTP/1 requests on their way out: one head, one framing (RFC 9112 §§ 3, 6), and the body as it comes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http::Method;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http_body::Body as _;

use super::dial::Dialed;
use crate::BoxError;
use crate::body::{BodyRefused, Counted};
use crate::http1::encode::{BodyEncoder, BodyEnd, WrongLength, field};
use crate::http1::wire::Wire;

/// A request in its HTTP/1 form. Its head can be sent again; its body, if it has one, only once.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    head: Bytes,
    end: BodyEnd,
    body: Option<Counted>,
}

/// What of a request is still to be written.
pub(crate) struct Upload {
    body: Option<Counted>,
    encoder: BodyEncoder,
    written: bool,
}

/// Why a request could not be written to its end.
pub(crate) enum Failure {
    /// The agent's side broke off or broke its framing.
    Body(BoxError),
    /// The origin no longer reads.
    Io(std::io::Error),
}

impl Outgoing {
    /// Encodes a head whose fields already fit HTTP/1.
    pub(crate) fn new(parts: Parts, body: Counted) -> Self {
        let empty = body.is_end_stream();
        let length = if empty { Some(0) } else { body.size_hint().exact() };
        let says_length = !empty || parts.headers.contains_key(CONTENT_LENGTH) || expects_body(&parts.method);
        let head = encode_head(&parts, length.filter(|_| says_length), length.is_none());
        let end = length.map_or(BodyEnd::Chunked, BodyEnd::Length);
        Self { method: parts.method, head, end, body: (!empty).then_some(body) }
    }
}

impl Upload {
    /// Queues a request's head and takes charge of its body.
    pub(crate) fn begin(wire: &mut Wire<Dialed>, outgoing: &mut Outgoing) -> Self {
        wire.push(outgoing.head.clone());
        Self { body: outgoing.body.take(), encoder: BodyEncoder::new(outgoing.end), written: false }
    }

    /// Whether every byte has been given to the kernel.
    pub(crate) fn is_done(&self) -> bool {
        self.written
    }

    /// Writes on as far as the agent sends and the origin reads.
    pub(crate) fn poll(&mut self, wire: &mut Wire<Dialed>, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        while let Some(body) = &mut self.body {
            if wire.is_full() {
                ready!(wire.poll_flush(cx)).map_err(Failure::Io)?;
            }
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => self.encoder.push(wire, frame)?,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Failure::Body(error))),
                Poll::Ready(None) => {
                    self.body = None;
                    self.encoder.finish(wire)?;
                }
                Poll::Pending => {
                    ready!(wire.poll_flush(cx)).map_err(Failure::Io)?;
                    return Poll::Pending;
                }
            }
        }
        if !self.written {
            ready!(wire.poll_flush(cx)).map_err(Failure::Io)?;
            self.written = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl From<WrongLength> for Failure {
    fn from(wrong: WrongLength) -> Self {
        let why = match wrong {
            WrongLength::More => "the client sent more than its Content-Length",
            WrongLength::Less => "the client sent less than its Content-Length",
        };
        Self::Body(BodyRefused(why.into()).into())
    }
}

/// Methods whose requests origins expect to have a body, and to say so when it is empty (RFC 9110 § 8.6).
fn expects_body(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

fn encode_head(parts: &Parts, length: Option<u64>, chunked: bool) -> Bytes {
    let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut head = BytesMut::with_capacity(target.len() + 512);
    let out = &mut head;
    out.put_slice(parts.method.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(target.as_bytes());
    out.put_slice(b" HTTP/1.1\r\n");
    for (name, value) in parts.headers.iter().filter(|(name, _)| ![CONTENT_LENGTH, TRANSFER_ENCODING].contains(name)) {
        field(out, name.as_str(), value.as_bytes());
    }
    if let Some(length) = length {
        field(out, "content-length", length.to_string().as_bytes());
    }
    if chunked {
        field(out, "transfer-encoding", b"chunked");
    }
    out.put_slice(b"\r\n");
    head.freeze()
}
