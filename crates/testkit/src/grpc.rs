//! gRPC as it looks on HTTP/2: length-prefixed messages and a status in the trailers.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;

use crate::body::{Body, channel};
use crate::bytes::Wire;
use crate::origin::Call;

/// A message with its five-byte prefix.
pub fn message(payload: &[u8]) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(payload.len()).expect("test messages are short"));
    framed.put_slice(payload);
    framed.freeze()
}

/// The messages in a complete byte string; panics on a torn one.
pub fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some((prefix, rest)) = bytes.split_at_checked(5) {
        let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        let (payload, rest) = rest.split_at_checked(len).expect("a message is whole");
        messages.push(payload.to_vec());
        bytes = rest;
    }
    assert!(bytes.is_empty(), "a torn prefix: {bytes:?}");
    messages
}

/// A call of `path` with `body` as the stream of messages.
pub fn request(path: &str, body: Body) -> Request<Body> {
    let request = Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    request.body(body).expect("a valid request")
}

/// A route: answers one message with `count` messages `0`, `1`, … and `grpc-status: 0`.
pub async fn server_stream(call: Call, count: usize) -> Response<Body> {
    call.collect().await;
    let (feed, body) = channel();
    tokio::spawn(async move {
        for index in 0..count {
            feed.data(message(index.to_string().as_bytes())).await;
        }
        feed.trailers(status("0")).await;
    });
    response(body)
}

/// A route: sends every piece back as it comes, then `grpc-status: 0`.
pub async fn bidirectional(mut call: Call) -> Response<Body> {
    let (feed, body) = channel();
    tokio::spawn(async move {
        while let Some(Ok(frame)) = call.body.frame().await {
            if let Ok(data) = frame.into_data()
                && !feed.data(data).await
            {
                return;
            }
        }
        feed.trailers(status("0")).await;
    });
    response(body)
}

/// A script: answers `count` HTTP/2 requests with 200, then says GOAWAY.
pub async fn serve_then_go_away(wire: Wire, count: usize) {
    let Ok(mut connection) = h2::server::handshake(wire).await else { return };
    for _ in 0..count {
        let Some(Ok((_, mut respond))) = connection.accept().await else { return };
        let _ = respond.send_response(Response::new(()), true);
    }
    connection.graceful_shutdown();
    while connection.accept().await.is_some_and(|accepted| accepted.is_ok()) {}
}

fn response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn status(code: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    trailers.insert("grpc-message", HeaderValue::from_static("done"));
    trailers
}
