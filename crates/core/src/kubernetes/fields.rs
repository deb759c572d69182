//! Header fields by which a client says who it is. Who it is, the gateway knows; who it shall be, the user's configuration says.

use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Removes every field an API server, or an authenticating proxy ahead of it, takes an identity from.
pub fn strip_identity(headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    let named: Vec<HeaderName> = headers.keys().filter(|name| is_identity(name)).cloned().collect();
    for name in named {
        headers.remove(name);
    }
    strip_protocols(headers);
}

fn is_identity(name: &HeaderName) -> bool {
    ["impersonate-", "x-remote-"].iter().any(|prefix| name.as_str().starts_with(prefix))
}

/// Browsers cannot send `Authorization` with a WebSocket, so API servers take a bearer token from the protocol list.
fn strip_protocols(headers: &mut HeaderMap) {
    let is_bearer = |item: &str| item.to_ascii_lowercase().starts_with(BEARER_PROTOCOL);
    let values: Vec<HeaderValue> = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().cloned().collect();
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    for value in values {
        let items = value.to_str().unwrap_or_default().split(',').map(str::trim);
        let kept: Vec<&str> = items.filter(|item| !item.is_empty() && !is_bearer(item)).collect();
        if let Some(kept) = HeaderValue::from_str(&kept.join(", ")).ok().filter(|_| !kept.is_empty()) {
            headers.append(SEC_WEBSOCKET_PROTOCOL, kept);
        }
    }
}

const BEARER_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_names_a_user_is_left() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("impersonate-user", "root"),
            ("impersonate-group", "system:masters"),
            ("impersonate-extra-scopes", "all"),
            ("x-remote-user", "root"),
            ("x-remote-extra-a", "b"),
            ("accept", "*/*"),
            ("sec-websocket-protocol", "v4.channel.k8s.io, Base64url.bearer.authorization.k8s.io.eA"),
            ("sec-websocket-protocol", "base64url.bearer.authorization.k8s.io.eA"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        strip_identity(&mut headers);
        let left: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(left, [("accept", "*/*"), ("sec-websocket-protocol", "v4.channel.k8s.io")]);
    }
}
