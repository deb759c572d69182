//! HTTP/1 request heads, read strictly: whatever two readers could frame differently is refused, never repaired
//! (RFC 9112 §§ 2.2, 3, 5, 6; the attacks are the smuggling literature's).

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use clauderon_core::config::Limits;
use clauderon_core::denial::{Denial, DenialCode};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

/// A complete request head and how its body is framed.
#[derive(Debug)]
pub struct Head {
    /// Method, target, version, fields.
    pub request: Request<()>,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the client means to send another request.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends its body.
    pub expects_continue: bool,
}

/// Where a request body ends (RFC 9112 § 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
}

/// Takes a head off the front of `buffer`, or says that more bytes are needed (`None`).
///
/// `scanned` remembers how far earlier calls have looked; begin with 0.
pub fn take_head(buffer: &mut BytesMut, scanned: &mut usize, limits: &Limits) -> Result<Option<Head>, Denial> {
    if !skip_one_empty_line(buffer, *scanned) {
        return Ok(None);
    }
    let Some(end) = find_end(buffer, scanned)? else {
        return if buffer.len() > limits.max_head_bytes { Err(too_large(buffer, limits)) } else { Ok(None) };
    };
    if end > limits.max_head_bytes {
        return Err(too_large(buffer, limits));
    }
    *scanned = 0;
    parse(&buffer.split_to(end).freeze(), limits).map(Some)
}

/// A server should ignore one empty line before a request (RFC 9112 § 2.2); more than one is noise. False when the next
/// bytes must tell: however they are cut, only one line may go.
fn skip_one_empty_line(buffer: &mut BytesMut, scanned: usize) -> bool {
    if scanned > 0 || !buffer.starts_with(b"\r\n") {
        return true;
    }
    let undecided = buffer.len() < 4 && matches!(buffer.get(2), None | Some(b'\r'));
    if !undecided {
        let _ = buffer.split_to(2);
    }
    !undecided
}

/// The length of the head, once its empty line is there. Every line must end in CRLF, and nothing else may hold CR or LF.
fn find_end(buffer: &[u8], scanned: &mut usize) -> Result<Option<usize>, Denial> {
    while let Some(at) = memchr::memchr3(b'\n', b'\r', 0, buffer.get(*scanned..).unwrap_or_default()) {
        let rest = buffer.get(*scanned + at..).unwrap_or_default();
        *scanned += at;
        match rest {
            [b'\r', b'\n', ..] if *scanned == 0 => return Err(malformed("an empty line where a request line belongs")),
            [b'\r', b'\n', b'\r', b'\n', ..] => return Ok(Some(*scanned + 4)),
            // Perhaps the beginning of the empty line: the next call looks at it again, from its CR.
            [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] => *scanned += 2,
            [b'\r', ..] => return Err(malformed("a bare CR in the request head")),
            [b'\n', ..] => return Err(malformed("a line that ends in LF without CR")),
            _ => return Err(malformed("a NUL in the request head")),
        }
    }
    *scanned = buffer.len();
    Ok(None)
}

fn parse(head: &Bytes, limits: &Limits) -> Result<Head, Denial> {
    let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let slots = slots.get_mut(..limits.max_fields.min(MAX_FIELDS)).unwrap_or_default();
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, slots) {
        Ok(httparse::Status::Complete(n)) if n == head.len() => {}
        Ok(_) => return Err(malformed("a request head that ends early")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(too_many_fields(limits));
        }
        Err(error) => return Err(malformed(format!("not an HTTP/1 request: {error}"))),
    }
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes())
        .map_err(|_| malformed("a method that is no token"))?;
    let uri = parse_target(head, parsed.path.unwrap_or_default(), &method, limits)?;
    let headers = parse_fields(head, parsed.headers)?;
    let framing = framing(&headers, version).map_err(malformed)?;
    check_host(&headers, version)?;
    let keep_alive = version == Version::HTTP_11 && !lists(&headers, "close");
    let expects_continue = headers.get(EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = version;
    *request.headers_mut() = headers;
    Ok(Head { request, framing, keep_alive, expects_continue })
}

fn parse_target(head: &Bytes, target: &str, method: &Method, limits: &Limits) -> Result<Uri, Denial> {
    if target.len() > limits.max_target_bytes {
        return Err(target_too_long(target.len(), limits));
    }
    // `#` has no place in a request target (RFC 9112 § 3.2), and the URI parser would silently cut there.
    if target.bytes().any(|b| b == b'#' || !(0x21..0x7f).contains(&b)) {
        return Err(malformed("a request target with bytes that no URI has"));
    }
    let uri = Uri::from_maybe_shared(head.slice_ref(target.as_bytes()));
    let uri = uri.map_err(|_| malformed("a request target that is no URI"))?;
    let authority_form = uri.scheme().is_none() && uri.authority().is_some();
    if authority_form != (method == Method::CONNECT) {
        return Err(malformed("a request target whose form does not fit its method"));
    }
    if uri.path() == "*" && method != Method::OPTIONS {
        return Err(malformed("the target `*` belongs to OPTIONS alone"));
    }
    Ok(uri)
}

pub(crate) fn parse_fields(head: &Bytes, fields: &[httparse::Header<'_>]) -> Result<HeaderMap, Denial> {
    // Room for one more: setting a field grows a full map, even where it only replaces.
    let mut headers = HeaderMap::with_capacity(fields.len() + 1);
    for field in fields {
        let name =
            HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| malformed("a field name that is no token"))?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value))
            .map_err(|_| malformed(format!("control characters in the field `{name}`")))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// RFC 9112 § 6.3, with every case a recipient might "repair" refused; an error says what is ambiguous.
pub(crate) fn framing(headers: &HeaderMap, version: Version) -> Result<Framing, &'static str> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(Framing::None),
        (Some(_), Some(_)) => Err("both Transfer-Encoding and Content-Length"),
        (Some(_), None) if version != Version::HTTP_11 => Err("Transfer-Encoding in HTTP/1.0"),
        (Some(coding), None) => {
            let only_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
            only_chunked.then_some(Framing::Chunked).ok_or("a Transfer-Encoding other than `chunked`")
        }
        (None, Some(length)) => {
            let only_one = lengths.next().is_none();
            let length = only_one.then(|| decimal(length.as_bytes())).flatten();
            length.map(Framing::Length).ok_or("a Content-Length that is not one plain number")
        }
    }
}

/// Holds a head that came over HTTP/2 to what HTTP/1 ones are held to; the rest its codec has seen to.
pub(crate) fn check_http2(parts: &Parts, limits: &Limits) -> Result<(), Denial> {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.max_target_bytes {
        return Err(target_too_long(target, limits));
    }
    if parts.headers.len() > limits.max_fields {
        return Err(too_many_fields(limits));
    }
    let asterisk = parts.uri.path() == "*" && parts.method == Method::OPTIONS;
    if !parts.uri.path().starts_with('/') && !asterisk && parts.method != Method::CONNECT {
        return Err(malformed("a path that does not begin with a slash"));
    }
    framing(&parts.headers, Version::HTTP_2).map(drop).map_err(malformed)
}

/// A decimal number as RFC 9110 § 8.6 spells it: digits, nothing else, and no overflow.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    let digits = (1..=18).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    digits.then(|| text.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0')))
}

/// RFC 9112 § 3.2: exactly one `Host` in HTTP/1.1, at most one in HTTP/1.0.
fn check_host(headers: &HeaderMap, version: Version) -> Result<(), Denial> {
    let count = headers.get_all(HOST).iter().count();
    match count {
        1 => Ok(()),
        0 if version == Version::HTTP_10 => Ok(()),
        0 => Err(malformed("no Host field")),
        _ => Err(malformed("more than one Host field")),
    }
}

/// Whether the Connection field lists `option`.
pub(crate) fn lists(headers: &HeaderMap, option: &str) -> bool {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(option))
}

/// A request that cannot be read one way only.
pub(crate) fn malformed(what: impl std::fmt::Display) -> Denial {
    Denial::new(DenialCode::MalformedRequest, format!("malformed request: {what}"))
}

fn target_too_long(len: usize, limits: &Limits) -> Denial {
    let text = format!("a request target of {len} bytes; the limit is {}", limits.max_target_bytes);
    Denial::new(DenialCode::TargetTooLong, text)
}

fn too_many_fields(limits: &Limits) -> Denial {
    Denial::new(DenialCode::HeadTooLarge, format!("more than {} header fields", limits.max_fields))
}

fn too_large(buffer: &[u8], limits: &Limits) -> Denial {
    // A head that has no end yet may be one endless target: say which limit it broke.
    let line = memchr::memchr(b'\n', buffer).unwrap_or(buffer.len());
    if line > limits.max_target_bytes {
        return Denial::new(
            DenialCode::TargetTooLong,
            format!("a request line beyond {} bytes", limits.max_target_bytes),
        );
    }
    Denial::new(DenialCode::HeadTooLarge, format!("a request head beyond {} bytes", limits.max_head_bytes))
}

/// The most header fields whatever the configuration says: the parser's slots live on the stack.
const MAX_FIELDS: usize = 256;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    fn take(text: &str) -> Result<Option<Head>, Denial> {
        take_head(&mut BytesMut::from(text), &mut 0, &Limits::default())
    }

    #[test]
    fn a_plain_head_is_read_whole() {
        let head = take("POST /a?b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc").unwrap().unwrap();
        assert_eq!(head.request.uri().path_and_query().unwrap(), "/a?b");
        assert_eq!(head.framing, Framing::Length(3));
        assert!(head.keep_alive);
    }

    #[test]
    fn any_cut_gives_the_same_head() {
        let text = "GET /x HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n";
        for size in 1..text.len() {
            assert!(take_in_pieces(text, size).unwrap().is_some(), "pieces of {size}");
            assert!(take_in_pieces(&format!("\r\n{text}"), size).unwrap().is_some(), "pieces of {size}");
            assert!(take_in_pieces(&format!("\r\n\r\n{text}"), size).is_err(), "pieces of {size}");
        }
    }

    fn take_in_pieces(text: &str, size: usize) -> Result<Option<Head>, Denial> {
        let (mut buffer, mut scanned) = (BytesMut::new(), 0);
        for piece in text.as_bytes().chunks(size) {
            buffer.extend_from_slice(piece);
            if let Some(head) = take_head(&mut buffer, &mut scanned, &Limits::default())? {
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    #[test]
    fn ambiguity_is_refused() {
        let bad = [
            "GET / HTTP/1.1\nHost: h\n\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: \r\n\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
            "CONNECT /x HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: h\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ];
        for text in bad {
            let denial = take(text).expect_err(text);
            assert_eq!(denial.code, DenialCode::MalformedRequest, "{text}");
        }
    }

    #[test]
    fn limits_name_themselves() {
        let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(17_000));
        assert_eq!(take(&long).unwrap_err().code, DenialCode::TargetTooLong);
        let large = format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "a".repeat(70_000));
        assert_eq!(take(&large).unwrap_err().code, DenialCode::HeadTooLarge);
        let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(128));
        assert_eq!(take(&many).unwrap_err().code, DenialCode::HeadTooLarge);
    }
}
