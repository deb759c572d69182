//! The test kit itself: a secret that reaches an agent is found, whatever it is wrapped in, and fails the test.
//!
//! The value leaked here is no credential of the daemon's, so nothing takes it out on the way.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clauderon_testkit::body::{Body, channel, empty};
use clauderon_testkit::origin::{Call, Origin, ok, with_field};
use clauderon_testkit::rig::Rig;
use clauderon_testkit::websocket::{self, Frame};
use http::{HeaderMap, Request, Response};

use crate::rig;

const LEAK: &str = "leak/s3cr+t&<that \"nobody\" may=see";

const WAYS: [&str; 11] =
    ["plain", "pieces", "field", "trailer", "base64", "percent", "json", "gzip", "deflate", "br", "zstd"];

async fn leaking() -> (Origin, Rig) {
    let origin = Origin::https("leak.example.test").reply("/clean", "nothing here");
    let origin = origin.route("/*", |call| async move { leak(call).await }).start().await;
    let rig = rig().guards(LEAK).origin(&origin).start().await;
    (origin, rig)
}

async fn leak(call: Call) -> Response<Body> {
    let way = call.uri.path().trim_start_matches('/').to_owned();
    call.collect().await;
    let text = format!("{{\"before\":1,\"token\":{}}}", serde_json::Value::from(LEAK));
    match way.as_str() {
        "plain" => ok(format!("before {LEAK} after")),
        "pieces" | "trailer" => in_pieces(&way),
        "field" => with_field(ok("clean"), "x-debug", LEAK),
        "base64" => ok(URL_SAFE_NO_PAD.encode(format!("user:{LEAK}:more"))),
        "percent" => ok(LEAK.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>()),
        "json" => ok(text),
        coding => with_field(ok(coded(coding, text.as_bytes())), "content-encoding", coding),
    }
}

fn in_pieces(way: &str) -> Response<Body> {
    let (feed, body) = channel();
    let (whole, mut trailers) = (way == "pieces", HeaderMap::new());
    if !whole {
        trailers.insert("x-debug", LEAK.parse().unwrap());
    }
    tokio::spawn(async move {
        for byte in LEAK.bytes().filter(|_| whole) {
            feed.data(vec![byte]).await;
        }
        feed.trailers(trailers).await;
    });
    with_field(ok(""), "trailer", "x-debug").map(|_| body)
}

fn coded(coding: &str, text: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut out = Vec::new();
            brotli::BrotliCompress(&mut &text[..], &mut out, &brotli::enc::BrotliEncoderParams::default()).unwrap();
            out
        }
        "zstd" => {
            let mut out = vec![0; zstd_safe::compress_bound(text.len())];
            let len = zstd_safe::compress(out.as_mut_slice(), text, 3).unwrap();
            out.truncate(len);
            out
        }
        other => panic!("no such way: {other}"),
    }
}

#[tokio::test]
async fn what_the_kits_own_clients_receive_is_read() {
    let (_origin, rig) = leaking().await;
    for h2 in [false, true] {
        let agent = rig.anonymous();
        let mut client = if h2 { agent.h2("leak.example.test").await } else { agent.h1("leak.example.test").await };
        client.get("/clean").await;
        rig.assert_no_secret();
        for way in WAYS {
            // A fresh connection: what was forgotten includes its beginning.
            let mut client = if h2 { agent.h2("leak.example.test").await } else { agent.h1("leak.example.test").await };
            let request = Request::get(format!("/{way}")).header("te", "trailers").body(empty()).unwrap();
            assert_eq!(client.fetch(request).await.status, 200, "{way}");
            rig.expect_leak_of(&format!("{way}, HTTP/2: {h2}"));
        }
    }
}

#[tokio::test]
async fn what_real_programs_receive_is_read_inside_their_tls() {
    let (_origin, rig) = leaking().await;
    for version in ["--http1.1", "--http2"] {
        let curl = rig.tool("curl", "default", rig.outside()).await;
        curl.args(["-sSf", version, "https://leak.example.test/clean"]).succeed().await;
        rig.assert_no_secret();
        for way in WAYS {
            let curl = rig.tool("curl", "default", rig.outside()).await;
            let url = format!("https://leak.example.test/{way}");
            curl.args(["-sSf", version, "-H", "TE: trailers", "-o", "/dev/null", &url]).succeed().await;
            rig.expect_leak_of(&format!("{way}, curl {version}"));
        }
    }
}

#[tokio::test]
async fn what_programs_print_is_read() {
    let (_origin, rig) = leaking().await;
    let echo = rig.direct_tool("echo", "default", rig.outside()).await;
    echo.args([LEAK]).succeed().await;
    rig.expect_leak_of("printed");
}

#[tokio::test]
async fn fragments_of_a_web_socket_message_are_joined() {
    let origin = Origin::https("leak.example.test").h1_only().script(|mut wire| async move {
        wire.request().await.unwrap();
        let accept = websocket::KEY.1;
        let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
        wire.send(format!("{switching}Sec-WebSocket-Accept: {accept}\r\n\r\n")).await;
        let (first, second) = LEAK.split_at(9);
        for (opcode, fin, text) in [(1, false, first), (0, true, second), (8, true, "")] {
            websocket::send(&mut wire, &Frame { fin, opcode, payload: text.into() }, false).await;
        }
    });
    let origin = origin.start().await;
    let rig = rig().guards(LEAK).origin(&origin).start().await;
    let mut wire = rig.anonymous().tunnel("leak.example.test").await;
    wire.send(websocket::request("/", "leak.example.test", "")).await;
    assert_eq!(wire.head().await.unwrap().status(), 101);
    while websocket::receive(&mut wire).await.is_some_and(|frame| frame.opcode != 8) {}
    rig.expect_leak_of("fragments");
}

#[tokio::test]
#[should_panic(expected = "what agents received holds the secret that begins with leak/s3c")]
async fn a_test_that_never_asks_fails_too() {
    let (_origin, rig) = leaking().await;
    rig.anonymous().get("https://leak.example.test/gzip").await;
}
