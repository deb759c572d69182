//! Request heads: every cut gives the same answer, and what is accepted reads alike to an independent strict reader.
//! Input: a cut size, then the bytes.
#![no_main]

use bytes::BytesMut;
use clauderon_core::config::Limits;
use clauderon_fuzz::http1::head::{Framing, Head, take_head};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((cut, bytes)) = input.split_first() else { return };
    let whole = read(bytes, bytes.len().max(1));
    let pieces = read(bytes, usize::from(*cut).max(1));
    match (&whole, &pieces) {
        (Some((one, rest)), Some((other, _))) => {
            assert_eq!(told(one), told(other), "a cut changes the head");
            let text = &bytes[..bytes.len() - rest];
            strict(text, one);
            again(one);
        }
        (None, None) => {}
        _ => panic!("a cut changes whether there is a head"),
    }
});

/// Feeds `bytes` in pieces; the head and how many bytes are left, or nothing for refused or unfinished.
fn read(bytes: &[u8], cut: usize) -> Option<(Head, usize)> {
    let (mut buffer, mut scanned, limits) = (BytesMut::new(), 0, Limits::default());
    let mut fed = 0;
    for piece in bytes.chunks(cut) {
        buffer.extend_from_slice(piece);
        fed += piece.len();
        if let Some(head) = take_head(&mut buffer, &mut scanned, &limits).ok()? {
            return Some((head, buffer.len() + bytes.len() - fed));
        }
    }
    None
}

fn told(head: &Head) -> String {
    format!("{head:?}")
}

/// A second reader, line by line, that knows only what RFC 9112 allows.
fn strict(text: &[u8], head: &Head) {
    let text = text.strip_prefix(b"\r\n").unwrap_or(text);
    let text = text.strip_suffix(b"\r\n\r\n").expect("a head ends with an empty line");
    let lines: Vec<&[u8]> = split_crlf(text);
    assert!(
        lines.iter().all(|line| !line.iter().any(|b| matches!(b, b'\r' | b'\n' | 0))),
        "a line holds CR, LF or NUL"
    );
    let (request, fields) = lines.split_first().expect("a request line");
    let parts: Vec<&[u8]> = request.split(|b| *b == b' ').collect();
    let [method, target, version] = parts[..] else { panic!("a request line of {} parts", parts.len()) };
    assert_eq!(method, head.request.method().as_str().as_bytes());
    assert!(target.iter().all(u8::is_ascii_graphic));
    assert!(matches!(version, b"HTTP/1.1" | b"HTTP/1.0"));
    let fields: Vec<(Vec<u8>, &[u8])> = fields.iter().map(|line| field(line)).collect();
    assert_eq!(fields.len(), head.request.headers().len(), "fields got lost or joined");
    assert_eq!(framing(&fields), head.framing, "two readers frame the body differently");
    let hosts = fields.iter().filter(|(name, _)| name == b"host").count();
    assert!(hosts == 1 || (hosts == 0 && version == b"HTTP/1.0"));
}

fn split_crlf(mut text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(at) = text.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&text[..at]);
        text = &text[at + 2..];
    }
    lines.push(text);
    lines
}

fn field(line: &[u8]) -> (Vec<u8>, &[u8]) {
    let colon = line.iter().position(|b| *b == b':').expect("a field has a colon");
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    assert!(!name.is_empty() && name.iter().all(token), "a field name that is no token");
    (name.to_ascii_lowercase(), value.trim_ascii())
}

fn framing(fields: &[(Vec<u8>, &[u8])]) -> Framing {
    let of =
        |wanted: &[u8]| fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| *value).collect::<Vec<_>>();
    match (&of(b"transfer-encoding")[..], &of(b"content-length")[..]) {
        ([], []) => Framing::None,
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        ([], [length]) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            Framing::Length(std::str::from_utf8(length).expect("digits").parse().expect("a number"))
        }
        other => panic!("accepted although ambiguous: {other:?}"),
    }
}

/// Written anew, the head is read as the same again.
fn again(head: &Head) {
    let request = &head.request;
    let version = if request.version() == http::Version::HTTP_11 { "HTTP/1.1" } else { "HTTP/1.0" };
    let mut text = format!("{} {} {version}\r\n", request.method(), request.uri()).into_bytes();
    for (name, value) in request.headers() {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    let Some((second, 0)) = read(&text, text.len()) else {
        // The URI's printed form may be longer than what was sent, at the limit only.
        assert!(text.len() > 16_000, "a head that cannot be written anew: {:?}", String::from_utf8_lossy(&text));
        return;
    };
    assert_eq!(second.framing, head.framing);
    assert_eq!(second.request.uri(), request.uri());
    assert_eq!(second.request.headers(), request.headers());
}
