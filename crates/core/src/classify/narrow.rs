//! What a read-only session's request loses before it goes out, so that the origin itself gives no more than reading needs.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Uri};

use super::registry;

/// A way to narrow a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Narrowing {
    /// A registry token is asked for pulling only, and for no lasting one.
    RegistryScope,
    /// GitHub's tool server is told to offer no tool that writes.
    McpReadOnly,
}

/// A request that cannot be narrowed; its classification should have made it a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request cannot be narrowed to reading")]
pub struct NotNarrowed;

impl Narrowing {
    /// Narrows a head, and the body if it was read; returns what takes the body's place.
    pub fn apply(self, parts: &mut Parts, body: Option<&[u8]>) -> Result<Option<Vec<u8>>, NotNarrowed> {
        match self {
            Self::McpReadOnly => {
                parts.headers.insert(MCP_READ_ONLY, HeaderValue::from_static("true"));
                Ok(None)
            }
            Self::RegistryScope => {
                if let Some(query) = parts.uri.query() {
                    let query = registry::narrow(query).ok_or(NotNarrowed)?;
                    parts.uri = with_query(&parts.uri, &query).ok_or(NotNarrowed)?;
                }
                let Some(body) = body else { return Ok(None) };
                let form = std::str::from_utf8(body).ok().and_then(registry::narrow).ok_or(NotNarrowed)?;
                parts.headers.insert(CONTENT_LENGTH, form.len().into());
                Ok(Some(form.into_bytes()))
            }
        }
    }
}

fn with_query(uri: &Uri, query: &str) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{}?{query}", uri.path())).ok()?);
    Uri::from_parts(parts).ok()
}

const MCP_READ_ONLY: HeaderName = HeaderName::from_static("x-mcp-readonly");
