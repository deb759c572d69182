//! HTTP/1 answer heads: read as they come, refused when their framing could be read two ways (RFC 9112 §§ 4, 6.3).

use std::mem::MaybeUninit;
use std::sync::LazyLock;

use bytes::BytesMut;
use http::{HeaderMap, Method, StatusCode, Version};
use memchr::memmem::Finder;

use crate::http1::decode::BodyDecoder;
use crate::http1::head::{Framing, framing, lists, parse_fields};

/// A complete answer head and how its body is framed.
pub(crate) struct AnswerHead {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) decoder: BodyDecoder,
    /// Whether the origin will take another request on the connection.
    pub(crate) keep_alive: bool,
}

/// Takes an answer head to a `method` request off the front of `buffer`; `None` while it is incomplete. An error says
/// what is wrong with the answer.
pub(crate) fn take_answer(buffer: &mut BytesMut, method: &Method) -> Result<Option<AnswerHead>, String> {
    let Some(end) = find_end(buffer)? else { return Ok(None) };
    let head = buffer.split_to(end).freeze();
    let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    match parse(&mut parsed, &head, &mut slots)? {
        httparse::Status::Complete(n) if n == end => {}
        _ => return Err("a head with an empty line in it".into()),
    }
    let headers = parse_fields(&head, parsed.headers).map_err(|denial| denial.message)?;
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or("a status that is no number")?;
    let framing = framing(&headers, version)?;
    let keep_alive = version == Version::HTTP_11 && !lists(&headers, "close");
    let bodiless = *method == Method::HEAD || status.is_informational();
    let decoder = match framing {
        _ if bodiless || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) => {
            BodyDecoder::new(Framing::None)
        }
        Framing::None => BodyDecoder::until_close(),
        framing => BodyDecoder::new(framing),
    };
    Ok(Some(AnswerHead { status, headers, decoder, keep_alive }))
}

/// The length of the head, once its empty line is there. Until then, what has come must at least look like an answer.
fn find_end(buffer: &[u8]) -> Result<Option<usize>, String> {
    if let Some(at) = EMPTY_LINE.find(buffer) {
        return Ok(Some(at + 4));
    }
    if buffer.len() > MAX_HEAD {
        return Err("a head beyond 256 KiB".into());
    }
    let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    match parse(&mut httparse::Response::new(&mut []), buffer, &mut slots)? {
        // Lines may end in LF alone (RFC 9112 § 2.2): what goes on to the agent is written anew.
        httparse::Status::Complete(end) => Ok(Some(end)),
        httparse::Status::Partial => Ok(None),
    }
}

fn parse<'h, 'b>(
    parsed: &mut httparse::Response<'h, 'b>,
    head: &'b [u8],
    slots: &'h mut [MaybeUninit<httparse::Header<'b>>],
) -> Result<httparse::Status<usize>, String> {
    let status = httparse::ParserConfig::default().parse_response_with_uninit_headers(parsed, head, slots);
    status.map_err(|error| format!("what is no HTTP/1 answer: {error}"))
}

static EMPTY_LINE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));

/// Long enough for the cookie collections some origins send.
const MAX_HEAD: usize = 256 * 1024;

const MAX_FIELDS: usize = 256;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    fn take(text: &str, method: &Method) -> Result<Option<AnswerHead>, String> {
        take_answer(&mut BytesMut::from(text), method)
    }

    #[test]
    fn one_framing_only() {
        let judge = |fields: &str| take(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"), &Method::GET).is_ok();
        assert!(judge("Content-Length: 3\r\n") && judge("Transfer-Encoding: Chunked\r\n") && judge(""));
        assert!(!judge("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"));
        assert!(!judge("Transfer-Encoding: gzip, chunked\r\n"));
        assert!(!judge("Content-Length: 3\r\nContent-Length: 4\r\n"));
        assert!(!judge("Content-Length: -1\r\n"));
    }

    #[test]
    fn the_body_ends_where_the_norm_says() {
        let head = |text: &str, method: &Method| take(text, method).unwrap().unwrap();
        assert!(head("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", &Method::HEAD).decoder.is_done());
        assert!(head("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", &Method::GET).decoder.is_done());
        assert!(head("HTTP/1.0 200 OK\r\n\r\n", &Method::GET).decoder.ends_at_close());
        assert!(!head("HTTP/1.0 200 OK\r\n\r\n", &Method::GET).keep_alive);
        assert!(take("HTTP/1.1 200 OK\r\nA: b\r\n", &Method::GET).unwrap().is_none());
        assert!(take("SSH-2.0-x\r\n\r\n", &Method::GET).is_err());
    }
}
