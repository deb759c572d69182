//! HTTP/1 replies: one framing, one spelling, whatever the origin sent (RFC 9112 §§ 4, 6).

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, Version};
use http_body::SizeHint;

use super::head::decimal;

/// How a reply's body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplyFraming {
    /// The reply has no body, whatever its fields say.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunked, for HTTP/1.1 clients when the length is unknown.
    Chunked,
    /// Until the connection closes, for HTTP/1.0 clients.
    Close,
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

    /// RFC 9112 § 6.3 from the sender's side.
    pub(crate) fn framing(self, status: StatusCode, headers: &HeaderMap, hint: &SizeHint) -> ReplyFraming {
        let bodiless = self.head || status.is_informational();
        if bodiless || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
            return ReplyFraming::None;
        }
        let declared = headers.get(CONTENT_LENGTH).and_then(|length| decimal(length.as_bytes()));
        match declared.or_else(|| hint.exact()) {
            Some(length) => ReplyFraming::Length(length),
            None if self.version == Version::HTTP_11 => ReplyFraming::Chunked,
            None => ReplyFraming::Close,
        }
    }
}

/// Writes a final head; framing fields are ours alone.
pub(crate) fn encode_head(
    out: &mut BytesMut,
    status: StatusCode,
    headers: &HeaderMap,
    framing: ReplyFraming,
    close: bool,
) {
    status_line(out, status);
    let keeps_length = matches!(framing, ReplyFraming::None) && status != StatusCode::NO_CONTENT;
    for (name, value) in headers {
        let is_framing = name == TRANSFER_ENCODING || (name == CONTENT_LENGTH && !keeps_length) || name == CONNECTION;
        if !is_framing {
            field(out, name.as_str(), value.as_bytes());
        }
    }
    match framing {
        ReplyFraming::None | ReplyFraming::Close => {}
        ReplyFraming::Length(length) => field(out, "content-length", itoa(length, &mut [0; 20])),
        ReplyFraming::Chunked => field(out, "transfer-encoding", b"chunked"),
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

/// The line before a chunk's bytes.
pub(crate) fn chunk_size(len: usize) -> Bytes {
    format!("{len:x}\r\n").into()
}

/// The last chunk and the trailers.
pub(crate) fn encode_trailers(out: &mut BytesMut, trailers: &HeaderMap) {
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

fn itoa(mut n: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + u8::try_from(n % 10).unwrap_or_default();
        n /= 10;
        at -= 1;
        if n == 0 {
            break;
        }
    }
    digits.get(at..).unwrap_or_default()
}
