//! What a request says about itself, read once at the edge.

use http::{HeaderMap, Method};

use crate::host::Origin;
use crate::path::CanonicalPath;

/// The facts decisions are made from. Whoever makes one has already refused every ambiguity.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The method, as sent.
    pub method: &'a Method,
    /// The one destination on which CONNECT target, SNI, `Host`/`:authority` and absolute target agree.
    pub origin: &'a Origin,
    /// The path policy may match on.
    pub path: CanonicalPath<'a>,
    /// The query, without `?`, undecoded.
    pub query: Option<&'a str>,
    /// The end-to-end header fields.
    pub headers: &'a HeaderMap,
    /// Whether the client asks to leave HTTP (WebSocket).
    pub upgrade: bool,
}
