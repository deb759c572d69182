//! Header fields that concern one connection only, and those that must not be passed on.
//!
//! No `Via` is added although RFC 9110 § 7.6.3 asks gateways to: origins switch off compression when they see it, and it
//! would tell every origin that an agent is behind the request. Loops are caught by never dialling our own listeners.

use clauderon_core::classify::is_method_override;
use http::header::{
    ALT_SVC, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

/// Removes what RFC 9110 § 7.6.1 says a proxy must not forward, keeping `TE: trailers` (§ 10.1.4).
pub(crate) fn strip_request(headers: &mut HeaderMap) {
    let trailers = headers
        .get_all(TE)
        .iter()
        .filter_map(|te| te.to_str().ok())
        .any(|te| te.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")));
    strip_connection(headers);
    headers.remove(PROXY_AUTHORIZATION);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes hop-by-hop fields, proxy challenges, and `Alt-Svc`, which would lead the agent past the proxy (RFC 7838).
pub(crate) fn strip_response(headers: &mut HeaderMap) {
    strip_connection(headers);
    remove_all(headers, &NOT_FOR_AGENTS);
}

/// Removes from an answer's trailers what its head may not hold either, or must hold to count.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    strip_response(trailers);
    remove_all(trailers, &NOT_LATE);
}

/// The trailer of a request that would say late what must be known before it goes out: the rules have not seen it.
pub(crate) fn misplaced_trailer(trailers: &HeaderMap) -> Option<&HeaderName> {
    let misplaced = |name: &&HeaderName| {
        NOT_LATE.contains(name)
            || HOP_BY_HOP.contains(name)
            || **name == PROXY_AUTHORIZATION
            || is_method_override(name)
    };
    trailers.keys().find(misplaced)
}

/// Removes the fields that belong to one connection, and those the Connection field names.
fn strip_connection(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .filter(|name| !END_TO_END.contains(name))
            .collect();
        remove_all(headers, &named);
    }
    remove_all(headers, &HOP_BY_HOP);
}

/// Most heads hold none of the names, which comparing tells sooner than looking each of them up.
fn remove_all(headers: &mut HeaderMap, names: &[HeaderName]) {
    if headers.keys().any(|name| names.contains(name)) {
        names.iter().for_each(|name| drop(headers.remove(name)));
    }
}

/// Makes a head fit the version it goes out in: `Host` and one `Cookie` line for HTTP/1, `:authority` for HTTP/2 (RFC 9113 § 8.3.1, § 8.2.3).
pub(crate) fn fit_version(headers: &mut HeaderMap, version: Version, authority: &HeaderValue) {
    if version == Version::HTTP_2 {
        headers.remove(HOST);
        return;
    }
    if headers.contains_key(TE) {
        // RFC 9110 § 10.1.4: in HTTP/1 the field concerns this connection, and must say so.
        headers.insert(CONNECTION, HeaderValue::from_static("TE"));
    }
    if headers.get(HOST) != Some(authority) {
        headers.insert(HOST, authority.clone());
    }
    if headers.get_all(COOKIE).iter().nth(1).is_some() {
        let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
            headers.insert(COOKIE, cookie);
        }
    }
}

static HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What framing, routing or authentication is decided by must not come in trailers (RFC 9110 § 6.5.1).
static NOT_LATE: [HeaderName; 8] =
    [AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, TE, TRANSFER_ENCODING];

/// A client may not have the proxy drop what the origin frames, routes or decides by.
static END_TO_END: [HeaderName; 4] = [HOST, CONTENT_LENGTH, COOKIE, AUTHORIZATION];

/// What an answer may not tell the agent.
static NOT_FOR_AGENTS: [HeaderName; 3] =
    [ALT_SVC, PROXY_AUTHENTICATE, HeaderName::from_static("proxy-authentication-info")];

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        fields.iter().map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse::<HeaderValue>().unwrap())).collect()
    }

    #[test]
    fn named_fields_go_but_not_the_ones_that_matter() {
        let mut headers = map(&[
            ("connection", "close, X-Hop, Authorization"),
            ("x-hop", "1"),
            ("authorization", "a"),
            ("te", "gzip, trailers"),
        ]);
        strip_request(&mut headers);
        assert_eq!(headers, map(&[("authorization", "a"), ("te", "trailers")]));
    }

    #[test]
    fn alt_svc_never_reaches_the_agent() {
        let mut headers = map(&[("alt-svc", "h3=\":443\""), ("etag", "x")]);
        strip_response(&mut headers);
        assert_eq!(headers, map(&[("etag", "x")]));
    }

    #[test]
    fn cookie_crumbs_are_joined_for_http1() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "a=1".parse().unwrap());
        headers.append(COOKIE, "b=2".parse().unwrap());
        fit_version(&mut headers, Version::HTTP_11, &HeaderValue::from_static("h"));
        assert_eq!(headers[COOKIE], "a=1; b=2");
    }
}
