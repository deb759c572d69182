//! Content codings (RFC 9110 § 8.4): which ones an answer is in, and which ones may be asked for.

use std::fmt;

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue};

/// A coding that can be taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// Codings that cannot be taken off.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unknown(String);

impl Coding {
    /// The codings of a message, in the order they were applied.
    pub(crate) fn all(headers: &HeaderMap) -> Result<Vec<Self>, Unknown> {
        let mut codings = Vec::new();
        for value in headers.get_all(CONTENT_ENCODING) {
            let named = value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii);
            for name in named.filter(|name| !is_identity(name)) {
                codings.push(Self::parse(name).ok_or_else(|| Unknown::named(name))?);
            }
        }
        if let Some(inner) = headers.get(GRPC_ENCODING).filter(|name| !is_identity(name.as_bytes().trim_ascii())) {
            return Err(Unknown::named(inner.as_bytes()));
        }
        if codings.len() > MAX_CODINGS {
            return Err(Unknown(format!("{} content codings at once", codings.len())));
        }
        Ok(codings)
    }

    fn parse(name: &[u8]) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_slice() {
            b"gzip" | b"x-gzip" => Self::Gzip,
            b"deflate" => Self::Deflate,
            b"br" => Self::Brotli,
            b"zstd" => Self::Zstd,
            _ => return None,
        })
    }
}

/// Leaves of what a client accepts only the codings that can be taken off again. A part of a body must come as it is: an
/// encoded part cannot be decoded.
pub(crate) fn narrow_codings(headers: &mut HeaderMap) {
    if headers.contains_key(GRPC_ACCEPT_ENCODING) {
        // Messages encoded each for itself are not taken apart.
        headers.insert(GRPC_ACCEPT_ENCODING, IDENTITY);
    }
    if headers.contains_key(RANGE) {
        headers.insert(ACCEPT_ENCODING, IDENTITY);
        return;
    }
    let offers = || headers.get_all(ACCEPT_ENCODING).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    if offers().all(is_known) {
        return;
    }
    let known: Vec<&[u8]> = offers().filter(|offer| is_known(offer)).map(<[u8]>::trim_ascii).collect();
    let narrowed = HeaderValue::from_bytes(&known.join(&b", "[..])).ok().filter(|value| !value.is_empty());
    headers.insert(ACCEPT_ENCODING, narrowed.unwrap_or(IDENTITY));
}

/// Whether an offer (`br;q=0.5`) asks for nothing that cannot be taken off; `*` would.
fn is_known(offer: &[u8]) -> bool {
    let name = offer.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    is_identity(name) || Coding::parse(name).is_some()
}

fn is_identity(name: &[u8]) -> bool {
    name.is_empty() || name.eq_ignore_ascii_case(b"identity")
}

impl Unknown {
    fn named(name: &[u8]) -> Self {
        let shown: String = String::from_utf8_lossy(name).chars().filter(char::is_ascii_graphic).take(32).collect();
        Self(format!("the content coding `{shown}`"))
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// More than two were never seen in earnest, and each multiplies what a few bytes can become.
const MAX_CODINGS: usize = 2;

const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    fn narrowed(offered: &[&str], range: bool) -> String {
        let mut headers = HeaderMap::new();
        for value in offered {
            headers.append(ACCEPT_ENCODING, value.parse().unwrap());
        }
        if range {
            headers.insert(RANGE, "bytes=0-9".parse().unwrap());
        }
        narrow_codings(&mut headers);
        let values: Vec<_> = headers.get_all(ACCEPT_ENCODING).iter().map(|v| v.to_str().unwrap()).collect();
        values.join(" | ")
    }

    #[test]
    fn only_what_can_be_decoded_is_asked_for() {
        assert_eq!(narrowed(&["gzip, deflate, br, zstd"], false), "gzip, deflate, br, zstd");
        assert_eq!(narrowed(&["GZIP;q=1.0,dcz , br;q=0.5"], false), "GZIP;q=1.0, br;q=0.5");
        assert_eq!(narrowed(&["gzip", "compress, *;q=0.1"], false), "gzip");
        assert_eq!(narrowed(&["*"], false), "identity");
        assert_eq!(narrowed(&[], false), "");
        assert_eq!(narrowed(&["gzip"], true), "identity");
    }

    #[test]
    fn grpc_messages_come_as_they_are() {
        let mut headers = HeaderMap::new();
        headers.insert(GRPC_ACCEPT_ENCODING, "gzip, identity".parse().unwrap());
        narrow_codings(&mut headers);
        assert_eq!(headers[GRPC_ACCEPT_ENCODING], IDENTITY);
        headers.insert(GRPC_ENCODING, IDENTITY);
        assert_eq!(Coding::all(&headers), Ok(vec![]));
        headers.insert(GRPC_ENCODING, "gzip".parse().unwrap());
        assert_eq!(Coding::all(&headers).unwrap_err().to_string(), "the content coding `gzip`");
    }

    #[test]
    fn codings_are_read_in_order() {
        let all = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, value.parse().unwrap());
            }
            Coding::all(&headers).map_err(|unknown| unknown.to_string())
        };
        assert_eq!(all(&[]), Ok(vec![]));
        assert_eq!(all(&["identity"]), Ok(vec![]));
        assert_eq!(all(&["X-GZip ,", "br"]), Ok(vec![Coding::Gzip, Coding::Brotli]));
        assert_eq!(all(&["gzip, rot13"]), Err("the content coding `rot13`".into()));
        assert_eq!(all(&["gzip, gzip, gzip"]), Err("3 content codings at once".into()));
    }
}
