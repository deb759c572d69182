//! Requests that could be read two ways, or that no reader should accept: refused, and nothing reaches the origin.

use clauderon_testkit::agent::Agent;
use clauderon_testkit::bytes::{Reply, Wire};
use clauderon_testkit::ca;
use clauderon_testkit::origin::Origin;
use clauderon_testkit::rig::Rig;

use crate::{github_rig, rig};

/// An origin that counts every byte it gets.
async fn silent(builder: clauderon_testkit::origin::OriginBuilder) -> Origin {
    builder.h1_only().script(|mut wire: Wire| async move { drop(wire.rest().await) }).start().await
}

/// What a refusal looks like; `None` when it is one.
fn fault(reply: Option<&Reply>, allowed: &[u16]) -> Option<String> {
    let Some(reply) = reply else { return Some("closed without an answer".into()) };
    let json = serde_json::from_slice::<serde_json::Value>(&reply.body);
    let explained = json.is_ok_and(|json| json["error"].is_string()) && reply.head.field("x-clauderon-error").is_some();
    match (allowed.contains(&reply.status()), explained) {
        (true, true) => None,
        (true, false) => Some(format!("refused without a reason: {:?} {}", reply.head, reply.text())),
        (false, _) => Some(format!("answered {}", reply.head.start)),
    }
}

/// Heads with `{T}` for the request target and `{H}` for the host; each must be refused with 400 unless told otherwise.
const HEADS: &[(&str, &str)] = &[
    ("CL and TE", "POST {T} HTTP/1.1\r\nHost: {H}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("TE and CL", "POST {T} HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    ("two CL that differ", "POST {T} HTTP/1.1\r\nHost: {H}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef"),
    ("two CL alike", "POST {T} HTTP/1.1\r\nHost: {H}\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde"),
    ("a list in CL", "POST {T} HTTP/1.1\r\nHost: {H}\r\nContent-Length: 5, 5\r\n\r\nabcde"),
    ("CL with a sign", "POST {T} HTTP/1.1\r\nHost: {H}\r\nContent-Length: +5\r\n\r\nabcde"),
    ("negative CL", "POST {T} HTTP/1.1\r\nHost: {H}\r\nContent-Length: -5\r\n\r\nabcde"),
    ("hexadecimal CL", "POST {T} HTTP/1.1\r\nHost: {H}\r\nContent-Length: 0x5\r\n\r\nabcde"),
    ("CL with underscore", "POST {T} HTTP/1.1\r\nHost: {H}\r\nContent-Length: 1_0\r\n\r\nabcdefghij"),
    ("empty CL", "POST {T} HTTP/1.1\r\nHost: {H}\r\nContent-Length: \r\n\r\n"),
    ("CL beyond 64 bits", "POST {T} HTTP/1.1\r\nHost: {H}\r\nContent-Length: 99999999999999999999999\r\n\r\n"),
    ("CL with a space inside", "POST {T} HTTP/1.1\r\nHost: {H}\r\nContent-Length: 5 0\r\n\r\nabcde"),
    ("unknown TE", "POST {T} HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("TE identity", "POST {T} HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: identity\r\n\r\n"),
    ("TE gzip, chunked", "POST {T} HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("TE chunked, gzip", "POST {T} HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    ("TE chunked twice", "POST {T} HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    (
        "two TE",
        "POST {T} HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("TE with a comma before", "POST {T} HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n"),
    ("TE with a parameter", "POST {T} HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
    ("TE quoted", "POST {T} HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    ("TE with vertical tab", "POST {T} HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n"),
    ("TE in HTTP/1.0", "POST {T} HTTP/1.0\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("empty TE", "POST {T} HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding:\r\nContent-Length: 3\r\n\r\nabc"),
    ("folded field", "GET {T} HTTP/1.1\r\nHost: {H}\r\nX-A: 1\r\n 2\r\n\r\n"),
    ("folded first field", "GET {T} HTTP/1.1\r\n X-A: 1\r\nHost: {H}\r\n\r\n"),
    ("folded TE", "POST {T} HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    ("bare LF between fields", "GET {T} HTTP/1.1\r\nHost: {H}\nX-A: 1\r\n\r\n"),
    ("bare LF at the end", "GET {T} HTTP/1.1\r\nHost: {H}\n\n"),
    ("bare LF after the request line", "GET {T} HTTP/1.1\nHost: {H}\r\n\r\n"),
    ("bare CR in a value", "GET {T} HTTP/1.1\r\nHost: {H}\r\nX-A: 1\rX-B: 2\r\n\r\n"),
    ("bare CR in the request line", "GET {T}\rx HTTP/1.1\r\nHost: {H}\r\n\r\n"),
    ("NUL in a value", "GET {T} HTTP/1.1\r\nHost: {H}\r\nX-A: a\0b\r\n\r\n"),
    ("NUL in a name", "GET {T} HTTP/1.1\r\nHost: {H}\r\nX\0A: b\r\n\r\n"),
    ("NUL in the target", "GET {T}\0 HTTP/1.1\r\nHost: {H}\r\n\r\n"),
    ("control byte in a value", "GET {T} HTTP/1.1\r\nHost: {H}\r\nX-A: \u{1}\r\n\r\n"),
    ("DEL in a value", "GET {T} HTTP/1.1\r\nHost: {H}\r\nX-A: \u{7f}\r\n\r\n"),
    ("space before the colon", "POST {T} HTTP/1.1\r\nHost: {H}\r\nContent-Length : 5\r\n\r\nabcde"),
    ("tab before the colon", "POST {T} HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n"),
    ("space inside a name", "GET {T} HTTP/1.1\r\nHost: {H}\r\nX A: 1\r\n\r\n"),
    ("empty name", "GET {T} HTTP/1.1\r\nHost: {H}\r\n: 1\r\n\r\n"),
    ("no colon", "GET {T} HTTP/1.1\r\nHost: {H}\r\nnonsense\r\n\r\n"),
    ("name with a slash", "GET {T} HTTP/1.1\r\nHost: {H}\r\nX/A: 1\r\n\r\n"),
    ("no Host", "GET {T} HTTP/1.1\r\nX-A: 1\r\n\r\n"),
    ("two Hosts alike", "GET {T} HTTP/1.1\r\nHost: {H}\r\nHost: {H}\r\n\r\n"),
    ("empty Host", "GET {T} HTTP/1.1\r\nHost:\r\n\r\n"),
    ("Host with userinfo", "GET {T} HTTP/1.1\r\nHost: me@{H}\r\n\r\n"),
    ("Host with a path", "GET {T} HTTP/1.1\r\nHost: {H}/x\r\n\r\n"),
    ("Host list", "GET {T} HTTP/1.1\r\nHost: {H}, {H}\r\n\r\n"),
    ("unknown version", "GET {T} HTTP/1.2\r\nHost: {H}\r\n\r\n"),
    ("version 2.0 in text", "GET {T} HTTP/2.0\r\nHost: {H}\r\n\r\n"),
    ("version 0.9", "GET {T}\r\n\r\n"),
    ("lower-case version", "GET {T} http/1.1\r\nHost: {H}\r\n\r\n"),
    ("two spaces", "GET  {T} HTTP/1.1\r\nHost: {H}\r\n\r\n"),
    ("space in the target", "GET {T} x HTTP/1.1\r\nHost: {H}\r\n\r\n"),
    ("tab for space", "GET\t{T}\tHTTP/1.1\r\nHost: {H}\r\n\r\n"),
    ("leading space", " GET {T} HTTP/1.1\r\nHost: {H}\r\n\r\n"),
    ("no method", "{T} HTTP/1.1\r\nHost: {H}\r\n\r\n"),
    ("method with a control byte", "G\u{1}T {T} HTTP/1.1\r\nHost: {H}\r\n\r\n"),
    ("fragment in the target", "GET {T}#x HTTP/1.1\r\nHost: {H}\r\n\r\n"),
    ("bytes of another protocol", "\u{16}\u{3}\u{1}\0\u{5}hello\r\n\r\n"),
];

async fn refused_everywhere(rig: &Rig, agent: &Agent, absolute: bool) {
    let mut faults = Vec::new();
    for (name, head) in HEADS {
        let target = if absolute { "http://api.github.com/x" } else { "/x" };
        let bytes = head.replace("{T}", target).replace("{H}", "api.github.com");
        let mut wire = if absolute { agent.wire().await } else { agent.tunnel("api.github.com").await };
        let reply = wire.exchange(&bytes).await;
        faults.extend(fault(reply.as_ref(), &[400, 421, 501, 505]).map(|fault| format!("{name}: {fault}")));
        if name.contains("Host") {
            // Well framed, so what follows can still be told apart and the connection may stay.
            continue;
        }
        match wire.ending().await {
            Some(rest) if rest.is_empty() => {}
            Some(_) => faults.push(format!("{name}: more than one answer")),
            None => faults.push(format!("{name}: the connection stays open")),
        }
    }
    assert!(faults.is_empty(), "{} of {} heads:\n{}", faults.len(), HEADS.len(), faults.join("\n"));
    drop(rig.anonymous());
}

#[tokio::test]
async fn malformed_heads_are_refused_inside_a_tunnel() {
    let origin = silent(Origin::https("api.github.com")).await;
    let rig = github_rig(&origin).start().await;
    refused_everywhere(&rig, &rig.anonymous(), false).await;
    assert_eq!(origin.log().bytes(), 0, "a byte reached the origin");
    rig.assert_no_secret();
}

#[tokio::test]
async fn malformed_heads_are_refused_on_the_port() {
    let origin = silent(Origin::http("api.github.com")).await;
    let rig = github_rig(&origin).start().await;
    refused_everywhere(&rig, &rig.anonymous(), true).await;
    assert_eq!(origin.log().bytes(), 0, "a byte reached the origin");
}

#[tokio::test]
async fn refusals_are_recorded() {
    let origin = silent(Origin::https("api.github.com")).await;
    let rig = github_rig(&origin).start().await;
    let mut wire = rig.anonymous().tunnel("api.github.com").await;
    let bytes =
        "POST /both HTTP/1.1\r\nHost: api.github.com\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(wire.exchange(bytes).await.unwrap().status(), 400);
    let line = rig.audit_line("the refusal", |line| line.get("response_code") == 400).await;
    assert_eq!((line.get("allowed"), line.text("reason")), (&false.into(), "malformed_request"));
    assert_eq!((line.text("host"), line.text("session")), ("api.github.com", "default"));
}

#[tokio::test]
async fn heads_beyond_the_limits_are_refused() {
    let origin = silent(Origin::https("api.github.com")).await;
    let rig = github_rig(&origin).start().await;
    let agent = rig.anonymous();
    let long = "x".repeat(70_000);
    let many: String = (0..200).map(|index| format!("X-{index}: 1\r\n")).collect();
    let cases = [
        ("a long field", 431, format!("GET / HTTP/1.1\r\nHost: api.github.com\r\nX-A: {long}\r\n\r\n")),
        ("many fields", 431, format!("GET / HTTP/1.1\r\nHost: api.github.com\r\n{many}\r\n")),
        ("a long target", 414, format!("GET /{} HTTP/1.1\r\nHost: api.github.com\r\n\r\n", "y".repeat(20_000))),
        ("an endless target", 414, format!("GET /{}", "y".repeat(80_000))),
        ("an endless field", 431, format!("GET / HTTP/1.1\r\nHost: api.github.com\r\nX-A: {long}")),
    ];
    for (name, status, bytes) in cases {
        let mut wire = agent.tunnel("api.github.com").await;
        let reply = wire.exchange(&bytes).await;
        assert_eq!(fault(reply.as_ref(), &[status]), None, "{name}");
    }
    assert_eq!(origin.log().bytes(), 0, "a byte reached the origin");
}

#[tokio::test]
async fn heads_just_below_the_limits_pass() {
    let origin = crate::github().reply("/*", "x").start().await;
    let rig = github_rig(&origin).start().await;
    let mut wire = rig.anonymous().tunnel("api.github.com").await;
    let value = "v".repeat(40_000);
    let head = format!("GET / HTTP/1.1\r\nHost: api.github.com\r\nX-A: {value}\r\n\r\n");
    assert_eq!(wire.exchange(head).await.unwrap().status(), 200);
    assert_eq!(origin.log().last().field("x-a").map(str::len), Some(40_000));
    let many: String = (0..120).map(|index| format!("X-{index}: 1\r\n")).collect();
    let head = format!("GET /{} HTTP/1.1\r\nHost: api.github.com\r\n{many}\r\n", "y".repeat(16_000));
    assert_eq!(wire.exchange(head).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_head_that_never_ends_is_given_up() {
    let origin = silent(Origin::https("api.github.com")).await;
    let rig =
        github_rig(&origin).table("[limits]\nheader_timeout = \"300ms\"\nhandshake_timeout = \"300ms\"").start().await;
    let mut wire = rig.anonymous().tunnel("api.github.com").await;
    wire.send("GET / HTTP/1.1\r\nHost: api.gith").await;
    let text = String::from_utf8(wire.rest().await).unwrap();
    assert!(text.starts_with("HTTP/1.1 408"), "{text}");
    let mut blank = rig.anonymous().tunnel("api.github.com").await;
    blank.send("\r\n").await;
    assert_eq!(blank.rest().await, b"", "an empty line is no request that comes too slowly");
    let mut plain = rig.anonymous().wire().await;
    plain.send("GET http://api.gith").await;
    plain.rest().await;
    let mut handshake = rig.anonymous().connect("api.github.com:443").await.unwrap();
    handshake.send([0x16, 3, 1, 2, 0, 1]).await;
    handshake.rest().await;
    assert_eq!(origin.log().bytes(), 0);
}

#[tokio::test]
async fn bad_connect_targets_are_refused() {
    let origin = silent(Origin::https("api.github.com")).await;
    let rig = github_rig(&origin).start().await;
    let mut faults = Vec::new();
    for target in CONNECT_TARGETS {
        let mut wire = rig.anonymous().wire().await;
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        let reply = wire.exchange(request).await;
        faults.extend(fault(reply.as_ref(), &[400, 403]).map(|fault| format!("{target:?}: {fault}")));
        if wire.ending().await.is_none_or(|rest| !rest.is_empty()) {
            faults.push(format!("{target:?}: went on after the refusal"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(origin.log().connections(), 0);
}

const CONNECT_TARGETS: &[&str] = &[
    "api.github.com",
    "api.github.com:",
    "api.github.com:0",
    "api.github.com:65536",
    "api.github.com:+443",
    "api.github.com:443x",
    "api.github.com:0x1bb",
    "api.github.com:443/path",
    "api.github.com:443?x",
    "me@api.github.com:443",
    "https://api.github.com:443",
    ":443",
    "/",
    "*",
    "[::1",
    "[::1]443",
    "[fe80::1%25eth0]:443",
    "api.github.com%00:443",
    "api.github.com%2f:443",
    "api..github.com:443",
    "api.github.com,example.test:443",
    "127.1:443",
    "0x7f000001:443",
    "2130706433:443",
];

#[tokio::test]
async fn nothing_reaches_our_own_listener() {
    let origin = silent(Origin::https("api.github.com")).await;
    let rig = github_rig(&origin).start().await;
    let port = rig.addr().port();
    for host in ["127.0.0.1", "localhost", "[::1]", "127.0.0.2", "0.0.0.0"] {
        let status = match rig.anonymous().connect(&format!("{host}:{port}")).await {
            Err(refusal) => refusal.status(),
            // It may be judged once a request is there.
            Ok(_) => rig.anonymous().get(&format!("https://{host}:{port}/")).await.status.as_u16(),
        };
        assert_eq!(status, 403, "{host}");
        let mut wire = rig.anonymous().wire().await;
        let request = format!("GET http://{host}:{port}/health HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
        assert_eq!(fault(wire.exchange(request).await.as_ref(), &[403]), None, "{host}");
    }
}

#[tokio::test]
async fn an_sni_other_than_the_connect_target_is_refused() {
    let origin = silent(Origin::https("api.github.com").also("evil.example.test")).await;
    let rig = github_rig(&origin).start().await;
    let wire = rig.anonymous().connect("evil.example.test:443").await.unwrap();
    let outcome = wire.try_tls("api.github.com", ca::client(&rig.ca_pem(), &["http/1.1"])).await;
    if let Ok(mut wire) = outcome {
        let reply = wire.exchange("GET / HTTP/1.1\r\nHost: api.github.com\r\n\r\n").await;
        assert_eq!(fault(reply.as_ref(), &[421]), None);
    }
    assert_eq!(origin.log().bytes(), 0);
    let line = rig.audit_line("the mismatch", |line| line.text("reason") == "authority_mismatch").await;
    assert_eq!((line.get("allowed"), line.get("response_code")), (&false.into(), &421.into()));
}

#[tokio::test]
async fn a_host_other_than_the_connect_target_is_refused() {
    let origin = silent(Origin::https("api.github.com").also("evil.example.test")).await;
    let rig = github_rig(&origin).start().await;
    for host in ["api.github.com", "evil.example.test:444", "evil.example.test:80", "127.0.0.1"] {
        let mut wire = rig.anonymous().tunnel("evil.example.test").await;
        let reply = wire.exchange(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(fault(reply.as_ref(), &[421]), None, "{host}");
    }
    let mut wire = rig.anonymous().tunnel("evil.example.test").await;
    let absolute = "GET https://api.github.com/ HTTP/1.1\r\nHost: api.github.com\r\n\r\n";
    assert_eq!(fault(wire.exchange(absolute).await.as_ref(), &[400, 421]), None);
    let mut wire = rig.anonymous().wire().await;
    let split = "GET http://evil.example.test/ HTTP/1.1\r\nHost: api.github.com\r\n\r\n";
    assert_eq!(fault(wire.exchange(split).await.as_ref(), &[400, 421]), None);
    assert_eq!(origin.log().bytes(), 0);
    rig.assert_no_secret();
}

#[tokio::test]
async fn the_same_host_spelled_otherwise_is_the_same_host() {
    let origin = crate::github().reply("/", "x").start().await;
    let rig = github_rig(&origin).start().await;
    for host in ["API.GitHub.com", "api.github.com:443"] {
        let mut wire = rig.anonymous().tunnel("api.github.com").await;
        let reply = wire.exchange(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await.unwrap();
        assert_eq!(reply.status(), 200, "{host}");
    }
}

#[tokio::test]
async fn an_http_2_authority_other_than_the_connect_target_is_refused() {
    let origin = crate::github().also("evil.example.test").reply("/", "x").start().await;
    let rig = github_rig(&origin).start().await;
    for authority in ["api.github.com", "evil.example.test:444"] {
        let mut frames = rig.anonymous().frames("evil.example.test").await;
        let request = http::Request::get(format!("https://{authority}/")).body(()).unwrap();
        let (response, _) = frames.send_request(request, true).unwrap();
        let response = clauderon_testkit::wait::within("the refusal", response).await.unwrap();
        assert_eq!(response.status(), 421, "{authority}");
        assert_eq!(response.headers()["x-clauderon-error"], "authority_mismatch");
    }
    let mut frames = rig.anonymous().frames("evil.example.test").await;
    let request = http::Request::get("https://evil.example.test/").header("host", "api.github.com").body(()).unwrap();
    let (response, _) = frames.send_request(request, true).unwrap();
    let refused = clauderon_testkit::wait::within("the refusal", response).await;
    assert!(refused.is_err() || [400, 421].contains(&refused.unwrap().status().as_u16()));
    assert_eq!(origin.log().count(), 0);
}

#[tokio::test]
async fn plain_http_in_a_tunnel_is_refused() {
    let origin = silent(Origin::https("api.github.com")).await;
    let rig = github_rig(&origin).table("[limits]\nheader_timeout = \"1s\"").start().await;
    let mut wire = rig.anonymous().connect("api.github.com:443").await.unwrap();
    let reply = wire.exchange("GET / HTTP/1.1\r\nHost: api.github.com\r\n\r\n").await;
    assert_eq!(fault(reply.as_ref(), &[400]), None);
    let mut wire = rig.anonymous().connect("api.github.com:443").await.unwrap();
    wire.send("SSH-2.0-OpenSSH_9.2\r\n").await;
    wire.rest().await;
    assert_eq!(origin.log().bytes(), 0);
}

#[tokio::test]
async fn trace_and_connect_inside_a_tunnel_are_refused() {
    let origin = silent(Origin::https("api.github.com")).await;
    let rig = github_rig(&origin).start().await;
    for method in ["TRACE", "CONNECT"] {
        let mut wire = rig.anonymous().tunnel("api.github.com").await;
        let reply = wire.exchange(format!("{method} / HTTP/1.1\r\nHost: api.github.com\r\n\r\n")).await;
        assert_eq!(fault(reply.as_ref(), &[400, 403, 405, 501]), None, "{method}");
    }
    assert_eq!(origin.log().bytes(), 0);
}

#[tokio::test]
async fn random_bytes_never_bring_the_daemon_down() {
    let rig = rig().start().await;
    let mut state = 1_u64;
    for _ in 0..100 {
        let mut wire = rig.anonymous().wire().await;
        let bytes: Vec<u8> = (0..200)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        wire.try_send(&bytes).await;
    }
    let mut wire = rig.anonymous().wire().await;
    let health = wire.exchange(format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", rig.addr())).await.unwrap();
    assert_eq!(health.status(), 200);
}
