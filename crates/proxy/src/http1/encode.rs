//! HTTP/1 messages as we write them: one framing, one spelling, whatever the peer sent (RFC 9112 §§ 4, 6, 7).

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, Version};
use http_body::{Frame, SizeHint};

use super::head::decimal;
use super::wire::Wire;

/// How the end of a body is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyEnd {
    /// There is no body, whatever the fields say.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunked, for HTTP/1.1 peers when the length is unknown.
    Chunked,
    /// The connection closes, for HTTP/1.0 clients.
    Close,
}

/// Puts one body into its framing.
pub(crate) struct BodyEncoder {
    end: BodyEnd,
    /// Bytes that the declared length still allows.
    left: u64,
    trailers: HeaderMap,
}

/// A body that does not have the length its head declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WrongLength {
    More,
    Less,
}

impl BodyEncoder {
    pub(crate) fn new(end: BodyEnd) -> Self {
        let left = if let BodyEnd::Length(length) = end { length } else { u64::MAX };
        Self { end, left, trailers: HeaderMap::new() }
    }

    /// Queues a frame's bytes; trailers wait for the end, where only a chunked body has a place for them.
    pub(crate) fn push<S>(&mut self, wire: &mut Wire<S>, frame: Frame<Bytes>) -> Result<(), WrongLength> {
        match (self.end, frame.into_data()) {
            (BodyEnd::None, _) => {}
            (BodyEnd::Chunked, Ok(data)) if data.is_empty() => {}
            (BodyEnd::Chunked, Ok(data)) => {
                wire.push_small(format!("{:x}\r\n", data.len()).as_bytes());
                wire.push(data);
                wire.push_small(b"\r\n");
            }
            (_, Ok(data)) => {
                self.left = self.left.checked_sub(data.len() as u64).ok_or(WrongLength::More)?;
                wire.push(data);
            }
            (_, Err(frame)) => self.trailers = frame.into_trailers().unwrap_or_default(),
        }
        Ok(())
    }

    /// Queues what marks the body's end.
    pub(crate) fn finish<S>(&mut self, wire: &mut Wire<S>) -> Result<(), WrongLength> {
        match self.end {
            BodyEnd::Length(_) if self.left > 0 => return Err(WrongLength::Less),
            BodyEnd::Chunked => encode_trailers(wire.tail(), &self.trailers),
            BodyEnd::None | BodyEnd::Length(_) | BodyEnd::Close => {}
        }
        Ok(())
    }
}

/// What a reply's framing depends on besides the reply.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// Whether the request was HEAD.
    pub(crate) head: bool,
    /// The client's HTTP version.
    pub(crate) version: Version,
}

impl Asked {
    pub(crate) fn new(method: &Method, version: Version) -> Self {
        Self { head: method == Method::HEAD, version }
    }

    /// How the reply's body ends: RFC 9112 § 6.3 from the sender's side.
    pub(crate) fn body_end(self, status: StatusCode, headers: &HeaderMap, hint: &SizeHint) -> BodyEnd {
        let bodiless = self.head || status.is_informational();
        if bodiless || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
            return BodyEnd::None;
        }
        let declared = headers.get(CONTENT_LENGTH).and_then(|length| decimal(length.as_bytes()));
        match declared.or_else(|| hint.exact()) {
            Some(length) => BodyEnd::Length(length),
            None if self.version == Version::HTTP_11 => BodyEnd::Chunked,
            None => BodyEnd::Close,
        }
    }
}

/// Writes a final head; framing fields are ours alone.
pub(crate) fn encode_head(out: &mut BytesMut, status: StatusCode, headers: &HeaderMap, end: BodyEnd, close: bool) {
    status_line(out, status);
    let keeps_length = end == BodyEnd::None && status != StatusCode::NO_CONTENT;
    for (name, value) in headers {
        let is_framing = name == TRANSFER_ENCODING || (name == CONTENT_LENGTH && !keeps_length) || name == CONNECTION;
        if !is_framing {
            field(out, name.as_str(), value.as_bytes());
        }
    }
    match end {
        BodyEnd::None | BodyEnd::Close => {}
        BodyEnd::Length(length) => field(out, "content-length", length.to_string().as_bytes()),
        BodyEnd::Chunked => field(out, "transfer-encoding", b"chunked"),
    }
    if close {
        field(out, "connection", b"close");
    }
    out.put_slice(b"\r\n");
}

/// Writes the head that ends HTTP on this connection: `Connection: Upgrade` and `Upgrade` are among `headers`.
pub(crate) fn encode_switch(out: &mut BytesMut, headers: &HeaderMap) {
    status_line(out, StatusCode::SWITCHING_PROTOCOLS);
    headers.iter().for_each(|(name, value)| field(out, name.as_str(), value.as_bytes()));
    out.put_slice(b"\r\n");
}

/// Writes an informational head.
pub(crate) fn encode_interim(out: &mut BytesMut, status: StatusCode, headers: &HeaderMap) {
    status_line(out, status);
    let shown =
        headers.iter().filter(|(name, _)| ![CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, DATE].contains(name));
    shown.for_each(|(name, value)| field(out, name.as_str(), value.as_bytes()));
    out.put_slice(b"\r\n");
}

/// The last chunk and the trailers.
fn encode_trailers(out: &mut BytesMut, trailers: &HeaderMap) {
    out.put_slice(b"0\r\n");
    trailers.iter().for_each(|(name, value)| field(out, name.as_str(), value.as_bytes()));
    out.put_slice(b"\r\n");
}

fn status_line(out: &mut BytesMut, status: StatusCode) {
    out.reserve(512);
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
}

/// Writes one field line.
pub(crate) fn field(out: &mut BytesMut, name: &str, value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}
