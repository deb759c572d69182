//! Secrets without their values: the API server itself is asked for the metadata only.

use http::header::{ACCEPT, ACCEPT_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Uri};

use super::ApiRequest;

/// In which form a secret's metadata was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// As rows, for a person.
    Table,
    /// As one object, or one after the other.
    Object,
    /// As a list.
    List,
}

impl Shown {
    /// The form that a request about secrets asks for.
    pub fn asked(request: &ApiRequest<'_>, headers: &HeaderMap) -> Self {
        let named = request.resource.as_ref().is_some_and(|resource| !resource.name.is_empty());
        match request.verb {
            _ if wants_table(headers) => Self::Table,
            "list" | "deletecollection" if !named => Self::List,
            _ => Self::Object,
        }
    }

    /// Makes the request ask for metadata in place of whatever it asked for. This holds for every method: the answers to
    /// writes bring the object too.
    pub fn ask_for_metadata(self, parts: &mut Parts) {
        let accept = match self {
            Self::Table => "application/json;as=Table;v=v1;g=meta.k8s.io",
            Self::Object => "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
            Self::List => "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
        };
        parts.headers.insert(ACCEPT, HeaderValue::from_static(accept));
        // The answer is read on its way.
        parts.headers.remove(ACCEPT_ENCODING);
        if self == Self::Table {
            include_metadata(&mut parts.uri);
        }
    }
}

/// Whether the first kind of answer that the client lists is a table.
fn wants_table(headers: &HeaderMap) -> bool {
    let first = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).and_then(|text| text.split(',').next());
    first.is_some_and(|first| first.split(';').any(|part| part.trim().eq_ignore_ascii_case("as=Table")))
}

/// Each row brings its object along; how much of it is a parameter.
fn include_metadata(uri: &mut Uri) {
    let kept = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let is_it = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        percent_encoding::percent_decode_str(name).decode_utf8_lossy() == "includeObject"
    };
    let kept: Vec<&str> = kept.filter(|pair| !is_it(pair)).chain(["includeObject=Metadata"]).collect();
    let target = format!("{}?{}", uri.path(), kept.join("&"));
    if let Ok(target) = PathAndQuery::try_from(target) {
        let mut rebuilt = std::mem::take(uri).into_parts();
        rebuilt.path_and_query = Some(target);
        *uri = Uri::from_parts(rebuilt).expect("a URI with another path and query is a URI");
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing unwrap or index is the test's failure")]
mod tests {
    use http::Request;

    use super::*;
    use crate::facts::Facts;
    use crate::host::{Authority, Scheme};

    fn asked(method: &str, target: &str, accept: &str) -> (Shown, Parts) {
        let request = Request::builder().method(method).uri(target).header("accept", accept);
        let (mut parts, ()) = request.header("accept-encoding", "gzip").body(()).unwrap().into_parts();
        let origin = Authority::parse("k8s.test").unwrap().origin(Scheme::Https);
        let copy = parts.clone();
        let facts = Facts::of(&copy, &origin, false);
        let shown = Shown::asked(&ApiRequest::read(&facts).unwrap(), &parts.headers);
        shown.ask_for_metadata(&mut parts);
        (shown, parts)
    }

    #[test]
    fn every_method_gets_metadata_only() {
        let protobuf = "application/vnd.kubernetes.protobuf, application/json";
        for (method, target, shown) in [
            ("GET", "/api/v1/namespaces/a/secrets/s", Shown::Object),
            ("GET", "/api/v1/namespaces/a/secrets", Shown::List),
            ("GET", "/api/v1/secrets?watch=1", Shown::Object),
            ("POST", "/api/v1/namespaces/a/secrets", Shown::Object),
            ("PATCH", "/api/v1/namespaces/a/secrets/s", Shown::Object),
            ("DELETE", "/api/v1/namespaces/a/secrets", Shown::List),
        ] {
            let (got, parts) = asked(method, target, protobuf);
            assert_eq!(got, shown, "{method} {target}");
            assert!(parts.headers["accept"].to_str().unwrap().starts_with("application/json;as=PartialObjectMetadata"));
            assert!(!parts.headers.contains_key("accept-encoding"));
        }
    }

    #[test]
    fn a_table_brings_no_objects_along() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        let (shown, parts) = asked("GET", "/api/v1/secrets?limit=500&include%4fbject=Object", table);
        assert_eq!(shown, Shown::Table);
        assert_eq!(parts.uri, "/api/v1/secrets?limit=500&includeObject=Metadata");
        assert_eq!(parts.headers["accept"], "application/json;as=Table;v=v1;g=meta.k8s.io");
    }
}
