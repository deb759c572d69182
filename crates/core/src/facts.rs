//! What a request says about itself, read once at the edge.

use http::{HeaderMap, Method};

use crate::host::Origin;
use crate::path::CanonicalPath;

/// The facts decisions are made from. Whoever makes one has already refused every ambiguity but that of the path, which only
/// matters where a rule looks at it.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The method, as sent.
    pub method: &'a Method,
    /// The one destination on which CONNECT target, SNI, `Host`/`:authority` and absolute target agree.
    pub origin: &'a Origin,
    /// The path policy may match on; `None` when it is not canonical.
    pub path: Option<CanonicalPath<'a>>,
    /// The path as sent, without query.
    pub raw_path: &'a str,
    /// The query, without `?`, undecoded.
    pub query: Option<&'a str>,
    /// The end-to-end header fields.
    pub headers: &'a HeaderMap,
    /// Whether the client asks to leave HTTP (WebSocket).
    pub upgrade: bool,
}

impl<'a> Facts<'a> {
    /// The facts of a request head that goes to `origin`.
    pub fn of(parts: &'a http::request::Parts, origin: &'a Origin, upgrade: bool) -> Self {
        Self {
            method: &parts.method,
            origin,
            path: CanonicalPath::parse(parts.uri.path()).ok(),
            raw_path: parts.uri.path(),
            query: parts.uri.query(),
            headers: &parts.headers,
            upgrade,
        }
    }
}
