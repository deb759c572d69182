//! What travels beside a call's messages: which nodes are meant, how long the client waits, who it says it is.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::denial::{Denial, DenialCode};

/// Removes every field by which a client says who it is, or that its call has been routed already. The roles in `talos-role` are
/// believed of whoever may impersonate; `proxyfrom` makes a node answer itself, whichever node is meant.
pub fn strip_identity(headers: &mut HeaderMap) {
    let is_identity = |name: &HeaderName| IDENTITY.contains(&name.as_str()) || name.as_str().starts_with("x-sidero-");
    let named: Vec<HeaderName> = headers.keys().filter(|name| is_identity(name)).cloned().collect();
    for name in named {
        headers.remove(name);
    }
}

/// The nodes a call is for: one by `node`, or any number by `nodes`; none means the one that takes the call.
pub fn nodes(headers: &HeaderMap) -> Result<Vec<String>, Denial> {
    let odd = |message: &str| Denial::new(DenialCode::MalformedRequest, message);
    if headers.get_all("node").iter().count() > 1 {
        return Err(odd("a call with more than one `node`"));
    }
    let named = headers.get_all("node").iter().chain(headers.get_all("nodes"));
    let text = |value: &HeaderValue| value.to_str().ok().filter(|text| !text.is_empty()).map(str::to_owned);
    let nodes: Option<Vec<String>> = named.map(text).collect();
    nodes.ok_or_else(|| odd("a call for a node whose name is no text"))
}

/// How long the client waits for the whole of its call (`grpc-timeout`); `None` means as long as it takes.
pub fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Denial> {
    let mut values = headers.get_all(TIMEOUT).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(timeout).filter(|_| values.next().is_none());
    let odd = || Denial::new(DenialCode::MalformedRequest, "a call whose `grpc-timeout` is none");
    parsed.map(Some).ok_or_else(odd)
}

/// Says in `headers` how much is left of the time that the client waits.
pub fn remaining(headers: &mut HeaderMap, left: Duration) {
    // At most eight digits are allowed; beyond them nobody misses the milliseconds.
    let (number, unit) = match left.as_millis() {
        millis if millis < 100_000_000 => (millis.max(1), 'm'),
        _ => (u128::from(left.as_secs().min(99_999_999)), 'S'),
    };
    if let Ok(value) = HeaderValue::from_str(&format!("{number}{unit}")) {
        headers.insert(TIMEOUT, value);
    }
}

/// gRPC over HTTP/2, "Timeout": at most eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (unit, digits) = text.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

const TIMEOUT: &str = "grpc-timeout";

const IDENTITY: [&str; 3] = ["authorization", "talos-role", "proxyfrom"];

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn nothing_that_names_a_user_is_left() {
        let mut given = headers(&[
            ("authorization", "Basic x"),
            ("talos-role", "os:admin"),
            ("proxyfrom", "10.0.0.1"),
            ("x-sidero-signature", "siderov1 a b c"),
            ("x-sidero-payload", "{}"),
            ("node", "10.0.0.2"),
            ("runtime", "Talos"),
        ]);
        strip_identity(&mut given);
        assert_eq!(given, headers(&[("node", "10.0.0.2"), ("runtime", "Talos")]));
    }

    #[test]
    fn nodes_are_named_once_or_in_a_list() {
        assert_eq!(nodes(&headers(&[])).unwrap(), Vec::<String>::new());
        assert_eq!(nodes(&headers(&[("nodes", "a"), ("nodes", "b")])).unwrap(), ["a", "b"]);
        for odd in [&[("node", "a"), ("node", "b")][..], &[("node", "")]] {
            assert!(nodes(&headers(odd)).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn a_deadline_is_read_and_said_again() {
        for (text, millis) in [("5S", 5000), ("100m", 100), ("2M", 120_000), ("1H", 3_600_000), ("99999999u", 99_999)] {
            let read = deadline(&headers(&[("grpc-timeout", text)])).unwrap().unwrap();
            assert_eq!(read.as_millis(), millis, "{text}");
        }
        for odd in ["", "S", "5", "-5S", "123456789S", "5s", "1.5S"] {
            assert!(deadline(&headers(&[("grpc-timeout", odd)])).is_err(), "{odd}");
        }
        let mut given = headers(&[("grpc-timeout", "5S")]);
        remaining(&mut given, Duration::from_millis(1200));
        assert_eq!(given, headers(&[("grpc-timeout", "1200m")]));
        remaining(&mut given, Duration::from_hours(24 * 365));
        assert_eq!(given, headers(&[("grpc-timeout", "31536000S")]));
    }
}
