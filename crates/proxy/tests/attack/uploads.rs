//! Request bodies and heads on their way to the origin.

use clauderon_core::access::AccessMode;
use clauderon_testkit::body;
use clauderon_testkit::bytes::Wire;
use clauderon_testkit::origin::Origin;
use clauderon_testkit::wait::within;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use std::time::Duration;

use crate::rig::Rig;

#[tokio::test]
async fn an_early_answer_costs_the_upload_nothing() {
    let script = |mut wire: Wire| async move {
        let _head = wire.head().await.unwrap();
        // Long enough for the proxy to have read more than it could pass on.
        tokio::time::sleep(Duration::from_millis(300)).await;
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n").await;
        let mut body = Vec::new();
        loop {
            let line = wire.until(b"\r\n").await.unwrap();
            let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
            body.extend(wire.exactly(size).await.unwrap());
            wire.exactly(2).await.unwrap();
            if size == 0 {
                break;
            }
        }
        let text = body.len().to_string();
        wire.send(format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len())).await;
    };
    let origin = Origin::http("a.test").script(script).start().await;
    let rig = Rig::new(&[&origin]).await;
    let mut wire = rig.agent.wire().await;
    wire.send("POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let (mut reads, mut writes) = tokio::io::split(wire);
    let upload = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
        for _ in 0..8192 {
            writes.write_all(chunk.as_bytes()).await.unwrap();
        }
        writes.write_all(b"0\r\n\r\n").await.unwrap();
        writes.flush().await.unwrap();
    });
    let mut answer = Vec::new();
    within("the answer", tokio::io::AsyncReadExt::read_to_end(&mut reads, &mut answer)).await.unwrap();
    within("the upload", upload).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("\r\n8388608\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_get_keeps_its_chunked_body() {
    let origin = Origin::http("a.test").reply("/*", "ok").start().await;
    let rig = Rig::new(&[&origin]).await;
    let request =
        "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nquery\r\n0\r\n\r\n";
    assert_eq!(rig.agent.wire().await.exchange(request).await.unwrap().text(), "ok");
    assert_eq!(origin.log().only().body, "query");
}

#[tokio::test]
async fn a_get_over_http2_keeps_its_body_toward_http1() {
    let origin = Origin::https("a.test").h1_only().reply("/*", "ok").start().await;
    let rig = Rig::new(&[&origin]).await;
    let (feed, upload) = body::channel();
    let mut client = rig.agent.h2("a.test").await;
    let fetch = client.fetch(Request::get("/").body(upload).unwrap());
    let (answered, ()) = tokio::join!(fetch, async move {
        feed.data("query").await;
    });
    assert_eq!(answered.text(), "ok");
    assert_eq!(origin.log().only().body, "query");
}

#[tokio::test]
async fn after_a_malformed_chunk_nothing_more_is_read() {
    let origin = Origin::http("a.test").reply("/*", "ok").start().await;
    let rig = Rig::new(&[&origin]).await;
    let mut wire = rig.agent.wire().await;
    wire.send("POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n0\r\n\r\nGET http://a.test/second HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(wire.reply().await.unwrap().status(), 400);
    assert!(wire.reply().await.is_none(), "the rest was taken for a request");
    assert!(origin.log().requests().iter().all(|seen| seen.target != "/second"));
}

#[tokio::test]
async fn a_connect_with_a_body_is_refused() {
    let rig = Rig::new(&[]).await;
    let mut wire = rig.agent.wire().await;
    let reply =
        wire.exchange("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nContent-Length: 5\r\n\r\n").await.unwrap();
    assert_eq!(reply.status(), 400);
}

#[tokio::test]
async fn http2_heads_are_held_to_the_limits_of_http1() {
    let origin = Origin::https("a.test").h1_only().reply("/*", "ok").start().await;
    let rig = Rig::new(&[&origin]).await;
    let mut client = rig.agent.h2("a.test").await;
    let many = (0..200).fold(Request::get("/"), |request, n| request.header(format!("x-{n}"), "y"));
    assert_eq!(client.fetch(many.body(body::empty()).unwrap()).await.status, 431);
    assert_eq!(client.get(&format!("/{}", "a".repeat(17_000))).await.status, 414);
    assert_eq!(client.get("/").await.text(), "ok");
    let records = rig.recorded(3).await;
    let reasons: Vec<_> = records.iter().map(|record| record["reason"].as_str()).collect();
    assert_eq!(reasons, [Some("head_too_large"), Some("target_too_long"), None]);
    origin.log().only();
}

#[tokio::test]
async fn http2_heads_with_two_readings_are_refused() {
    let origin = Origin::https("a.test").h1_only().reply("/*", "ok").start().await;
    let rig = Rig::new(&[&origin]).await;
    for (path, lengths) in [("http://b.test/", vec![]), ("x", vec![]), ("/", vec!["5", "5"])] {
        let mut wire = rig.agent.tls("a.test", &["h2"]).await;
        wire.send(raw_post(path, &lengths)).await;
        let status = status_of_stream(&mut wire).await;
        assert!(matches!(status, None | Some(400)), "{path} {lengths:?}: {status:?}");
    }
    assert_eq!(origin.log().count(), 0, "{:#?}", origin.log().requests());
}

/// Preface, SETTINGS, and a POST with these lengths and a body of five bytes, its fields literal (RFC 7541 § 6.2.2).
fn raw_post(path: &str, lengths: &[&str]) -> Vec<u8> {
    let mut block = Vec::new();
    let fields = [(":method", "POST"), (":scheme", "https"), (":authority", "a.test"), (":path", path)];
    let lengths = lengths.iter().map(|length| ("content-length", *length));
    for (name, value) in fields.into_iter().chain(lengths) {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend([0, 0, u8::try_from(block.len()).unwrap(), 1, 4, 0, 0, 0, 1]);
    bytes.extend(block);
    bytes.extend(b"\0\0\x05\0\x01\0\0\0\x01hello");
    bytes
}

/// The status the first stream gets; `None` when it is reset or the connection ends. Only statuses with an index of
/// their own in HPACK's static table are told apart (RFC 7541 appendix A).
async fn status_of_stream(wire: &mut Wire) -> Option<u16> {
    loop {
        let head = wire.exactly(9).await?;
        let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let payload = wire.exactly(len).await?;
        match head[3] {
            1 => return [200, 204, 206, 304, 400, 404, 500].get(usize::from(payload[0] & 0x7f) - 8).copied(),
            3 | 7 => return None,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_long_upload_over_http2_is_no_slow_answer() {
    let origin = Origin::https("a.test").reply("/*", "ok").start().await;
    let rig = Rig::with(&[&origin], AccessMode::ReadWrite, |settings| {
        settings.upstream.response_timeout = Duration::from_secs(1);
    })
    .await;
    let (feed, upload) = body::channel();
    let mut client = rig.agent.h2("a.test").await;
    let fetch = client.fetch(Request::builder().method(Method::POST).uri("/").body(upload).unwrap());
    let (answered, ()) = tokio::join!(fetch, async move {
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            feed.data("piece").await;
        }
    });
    assert_eq!(answered.status, 200);
}

#[tokio::test]
async fn a_websocket_handshake_with_a_body_is_refused() {
    let origin = Origin::http("a.test").reply("/*", "ok").start().await;
    let rig = Rig::new(&[&origin]).await;
    let request = "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(rig.agent.wire().await.exchange(request).await.unwrap().status(), 400);
    assert_eq!(origin.log().count(), 0);
}

#[tokio::test]
async fn a_connection_outlives_its_uploads() {
    let origin = Origin::http("a.test").reply("/*", "ok").start().await;
    let rig = Rig::new(&[&origin]).await;
    let mut wire = rig.agent.wire().await;
    for framed in ["Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "Content-Length: 5\r\n\r\nhello"] {
        for _ in 0..3 {
            let reply =
                wire.exchange(format!("POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\n{framed}")).await.unwrap();
            assert_eq!((reply.text().as_str(), reply.head.field("connection")), ("ok", None), "{framed}");
        }
    }
    assert_eq!(origin.log().connections(), 1);
}

#[tokio::test]
async fn trailers_cannot_say_late_what_a_head_must_say() {
    for to_http1 in [true, false] {
        let origin = Origin::https("a.test").reply("/*", "ok");
        let origin = if to_http1 { origin.h1_only() } else { origin }.start().await;
        let rig = Rig::new(&[&origin]).await;
        for name in ["authorization", "content-length", "host", "proxy-authorization", "x-http-method-override"] {
            let (feed, upload) = body::channel();
            let mut client = rig.agent.h2("a.test").await;
            let trailers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static("1"))]);
            let fetch = client.start(Request::post("/").body(upload).unwrap());
            let (answered, ()) = tokio::join!(fetch, async move {
                feed.data("body").await;
                feed.trailers(trailers).await;
            });
            assert_eq!(
                answered.ok().map(|answer| answer.status().as_u16()),
                Some(400),
                "{name}, to HTTP/1: {to_http1}"
            );
        }
        assert!(origin.log().requests().iter().all(|seen| seen.trailers.is_none()), "to HTTP/1: {to_http1}");
    }
}
