//! Request bodies that a rule must read before the decision: held whole, judged, and sent on as the same bytes.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clauderon_core::classify::{BodyRule, Classified, Narrowing};
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::facts::Facts;
use http::header::EXPECT;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body::Body as _;

use crate::BoxError;
use crate::body::{Body, unread};
use crate::pipeline::Call;

/// Reads a body and asks the rule. What is too long for it stays unread: its class is a write, and nothing of it goes out.
pub(crate) async fn classify(
    rule: BodyRule,
    facts: &Facts<'_>,
    body: Body,
    call: &Call<'_>,
) -> Result<(Classified, Body), Denial> {
    Ok(match read(facts.headers, body, call).await? {
        Collected::Whole(bytes) => (rule.classify(facts, &bytes), Body::Full(bytes)),
        Collected::Beyond(rest) => (rule.too_long(), rest),
    })
}

/// Reads a body in which a placeholder may stand; one that is too long to be searched is refused.
pub(crate) async fn hold(headers: &HeaderMap, body: Body, call: &Call<'_>) -> Result<Body, Denial> {
    if body.is_end_stream() || body.read().is_some() {
        return Ok(body);
    }
    match read(headers, body, call).await? {
        Collected::Whole(bytes) => Ok(Body::Full(bytes)),
        Collected::Beyond(_) => {
            let message = "the body is longer than 1 MiB or has trailers, so it cannot be searched for placeholders";
            Err(Denial::new(DenialCode::MalformedRequest, message))
        }
    }
}

async fn read(headers: &HeaderMap, body: Body, call: &Call<'_>) -> Result<Collected, Denial> {
    if headers.contains_key(EXPECT) {
        // The client waits to be told, and the origin does not know of it yet (RFC 9110 § 10.1.1).
        call.interim.push(StatusCode::CONTINUE, HeaderMap::new());
    }
    let limit = call.proxy.snapshot().settings.limits.idle_timeout;
    let collected = tokio::time::timeout(limit, collect(body, BodyRule::MAX_BYTES)).await;
    collected.map_err(|_| too_slow(limit))?
}

/// Takes from a permitted request what a read-only session may not have.
pub(crate) fn narrow(narrowing: Narrowing, parts: &mut Parts, body: Body) -> Result<Body, Denial> {
    let narrowed = narrowing.apply(parts, body.read().map(|bytes| &bytes[..]));
    let narrowed = narrowed.map_err(|error| Denial::new(DenialCode::ReadOnly, error.to_string()))?;
    Ok(narrowed.map_or(body, |bytes| Body::Full(bytes.into())))
}

enum Collected {
    Whole(Bytes),
    /// Longer than allowed, or with trailers, which nobody sends with the bodies that are read here.
    Beyond(Body),
}

async fn collect(mut body: Body, most: usize) -> Result<Collected, Denial> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame.map_err(|error| broken(&error))?.into_data() {
            Ok(data) if bytes.len() + data.len() <= most => bytes.extend_from_slice(&data),
            _ => return Ok(Collected::Beyond(body)),
        }
    }
    Ok(Collected::Whole(bytes.freeze()))
}

fn too_slow(limit: Duration) -> Denial {
    Denial::new(DenialCode::RequestTimeout, format!("the request's body was not there within {limit:?}"))
        .hint("see `limits.idle_timeout`")
}

fn broken(error: &BoxError) -> Denial {
    Denial::new(DenialCode::MalformedRequest, unread(error))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;
    use crate::body::BodyRefused;

    fn chunks(sizes: &[usize], trailers: bool) -> Body {
        let frame = |n: &usize| Ok::<_, BoxError>(http_body::Frame::data(Bytes::from(vec![b'x'; *n])));
        let mut frames: Vec<_> = sizes.iter().map(frame).collect();
        frames.extend(trailers.then(|| Ok(http_body::Frame::trailers(HeaderMap::new()))));
        Body::Local(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync())
    }

    #[tokio::test]
    async fn a_body_is_whole_up_to_the_last_byte_that_is_allowed() {
        for (sizes, trailers, whole) in [
            (&[][..], false, Some(0)),
            (&[10], false, Some(10)),
            (&[4, 0, 6], false, Some(10)),
            (&[4, 7], false, None),
            (&[11], false, None),
            (&[3], true, None),
        ] {
            let length = match collect(chunks(sizes, trailers), 10).await.unwrap() {
                Collected::Whole(bytes) => Some(bytes.len()),
                Collected::Beyond(_) => None,
            };
            assert_eq!(length, whole, "{sizes:?} {trailers}");
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_refused() {
        let frames =
            [Ok(http_body::Frame::data(Bytes::from_static(b"x"))), Err(BodyRefused("ends early".into()).into())];
        let body = Body::Local(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync());
        let denial = collect(body, 10).await.err().unwrap();
        assert_eq!((denial.code, denial.message.as_str()), (DenialCode::MalformedRequest, "ends early"));
    }

    #[tokio::test]
    async fn a_narrowed_form_has_its_own_length() {
        let form = "grant_type=password&scope=repository%3Aa%3Apull%2Cpush";
        let request = http::Request::post("/token?scope=repository:a:push,pull").header("content-length", form.len());
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let body = narrow(Narrowing::RegistryScope, &mut parts, Body::Full(form.into())).unwrap();
        let sent = body.collect().await.unwrap().to_bytes();
        assert_eq!(sent, "grant_type=password&scope=repository%3Aa%3Apull");
        assert_eq!(parts.headers["content-length"], sent.len().to_string());
        assert_eq!(parts.uri, "/token?scope=repository%3Aa%3Apull");
        let streamed = Body::Local(Full::new(Bytes::from_static(b"x")).map_err(|never| match never {}).boxed_unsync());
        assert!(matches!(narrow(Narrowing::McpReadOnly, &mut parts, streamed).unwrap(), Body::Local(_)));
        assert_eq!(parts.headers["x-mcp-readonly"], "true");
    }
}
