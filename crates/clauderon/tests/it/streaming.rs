//! Bodies that do not wait: server-sent events, gRPC, WebSocket, trailers, informational answers, uploads.

use std::sync::Arc;

use clauderon_testkit::agent::read;
use clauderon_testkit::body::{channel, empty, full, pattern};
use clauderon_testkit::grpc;
use clauderon_testkit::origin::{Origin, ok};
use clauderon_testkit::wait::within;
use clauderon_testkit::websocket::{self, Frame};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;

use crate::{GITHUB, github, github_rig, rig};

const OPENAI: &str = "sk-proj-TheRealKeyNobodyMaySee0123456789";
const OAUTH: &str = "sk-ant-oat01-TheRealTokenNobodyMaySee0123456789";

/// Events `1`, `2`, `3`; each is sent only when `gate` opens, so the test decides what may have arrived.
fn events(gate: Arc<Semaphore>) -> Response<clauderon_testkit::body::Body> {
    let (feed, body) = channel();
    tokio::spawn(async move {
        for event in 1..=3 {
            gate.acquire().await.unwrap().forget();
            feed.data(format!("data: {event}\n\n")).await;
        }
    });
    clauderon_testkit::origin::with_field(Response::new(body), "content-type", "text/event-stream")
}

#[tokio::test]
async fn every_event_arrives_before_the_next_is_sent() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let origin = Origin::https("api.anthropic.com").require("authorization", &format!("Bearer {OAUTH}"));
    let origin = origin.route("/v1/messages", move |call| {
        let gate = Arc::clone(&opened);
        async move {
            call.collect().await;
            events(gate)
        }
    });
    let origin = origin.start().await;
    let rig = rig().secret("anthropic_oauth_token", OAUTH).origin(&origin).start().await;
    for h2 in [false, true] {
        let agent = rig.anonymous();
        let mut client = if h2 { agent.h2("api.anthropic.com").await } else { agent.h1("api.anthropic.com").await };
        let request = Request::post("/v1/messages").body(full("{\"stream\":true}")).unwrap();
        let mut response = client.start(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        for event in 1..=3 {
            gate.add_permits(1);
            let data = within("the event", response.body_mut().frame()).await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(data, format!("data: {event}\n\n"));
        }
        assert!(read(response).await.body.is_empty());
    }
    rig.assert_no_secret();
}

#[tokio::test]
async fn pieces_flow_both_ways_at_once() {
    let origin = github().route("/echo", grpc::bidirectional).start().await;
    let rig = github_rig(&origin).start().await;
    for h2 in [false, true] {
        let agent = rig.anonymous();
        let mut client = if h2 { agent.h2("api.github.com").await } else { agent.h1("api.github.com").await };
        let (feed, body) = channel();
        feed.data("piece 0").await;
        let mut response = client.start(Request::post("/echo").body(body).unwrap()).await.unwrap();
        for index in 0..5 {
            let data = within("the echo", response.body_mut().frame()).await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(data, format!("piece {index}"));
            feed.data(format!("piece {}", index + 1)).await;
        }
        drop(feed);
        assert!(read(response).await.complete);
    }
}

#[tokio::test]
async fn grpc_runs_end_to_end_over_http_2() {
    let origin = Origin::https("grpc.example.test")
        .h2_only()
        .require("authorization", "Bearer the-real-key-nobody-may-see")
        .route("/test.Echo/List", |call| grpc::server_stream(call, 50))
        .route("/test.Echo/Chat", grpc::bidirectional)
        .start()
        .await;
    let credential = "[[credential]]\nname = \"echo\"\nenv = \"ECHO_KEY\"\nhosts = [\"grpc.example.test\"]\n\
                      header = \"authorization\"\nformat = \"Bearer {token}\"";
    let rig = rig().origin(&origin).table(credential).env("ECHO_KEY", "the-real-key-nobody-may-see");
    let rig = rig.guards("the-real-key-nobody-may-see").start().await;
    let mut client = rig.anonymous().h2("grpc.example.test").await;
    let listed = client.fetch(grpc::request("/test.Echo/List", full(grpc::message(b"go")))).await;
    assert_eq!(grpc::messages(&listed.body).len(), 50);
    assert_eq!(listed.trailers.unwrap()["grpc-status"], "0");
    assert_eq!(origin.log().last().field("te"), Some("trailers"));
    let (feed, body) = channel();
    let mut response = client.start(grpc::request("/test.Echo/Chat", body)).await.unwrap();
    for text in ["one", "two", "three"] {
        feed.data(grpc::message(text.as_bytes())).await;
        let data = within("the echo", response.body_mut().frame()).await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(grpc::messages(&data), [text.as_bytes()]);
    }
    drop(feed);
    let ended = read(response).await;
    assert_eq!(ended.trailers.unwrap()["grpc-message"], "done");
    let line = rig.audit_path("/test.Echo/Chat").await;
    assert_eq!((line.text("protocol"), line.get("request_bytes")), ("HTTP/2", &26.into()));
    rig.assert_no_secret();
}

#[tokio::test]
async fn websocket_frames_are_echoed() {
    let origin = Origin::https("api.openai.com").h1_only();
    let origin = origin.script(|wire| websocket::echo(wire, format!("Bearer {OPENAI}"))).start().await;
    let rig = rig().secret("openai_api_key", OPENAI).origin(&origin).start().await;
    let mut wire = rig.anonymous().tunnel("api.openai.com").await;
    wire.send(websocket::request("/v1/realtime", "api.openai.com", "")).await;
    let head = wire.head().await.unwrap();
    assert_eq!(head.status(), 101, "{head:?}");
    assert_eq!(head.field("sec-websocket-accept"), Some(websocket::KEY.1));
    for len in [0, 125, 126, 65_536, 1_000_000] {
        let frame = Frame { fin: true, opcode: 2, payload: vec![b'x'; len] };
        websocket::send(&mut wire, &frame, true).await;
        let mut echoed = websocket::receive(&mut wire).await.unwrap();
        // A long frame may come back in fragments.
        while !echoed.fin {
            let more = websocket::receive(&mut wire).await.unwrap();
            assert_eq!(more.opcode, 0);
            echoed.payload.extend(more.payload);
            echoed.fin = more.fin;
        }
        assert!(echoed == frame, "{len} bytes come back as {}", echoed.payload.len());
    }
    let close = Frame { fin: true, opcode: 8, payload: vec![3, 232] };
    websocket::send(&mut wire, &close, true).await;
    assert_eq!(websocket::receive(&mut wire).await.unwrap(), close);
    assert_eq!(websocket::receive(&mut wire).await, None);
    let line = rig.audit_path("/v1/realtime").await;
    assert_eq!((line.text("protocol"), line.get("response_code")), ("websocket", &101.into()));
    assert_eq!(line.get("auth_injected"), true);
    rig.assert_no_secret();
}

#[tokio::test]
async fn an_upgrade_the_origin_declines_stays_http() {
    let origin = github().h1_only().reply("/socket", "not here").start().await;
    let rig = github_rig(&origin).start().await;
    let mut wire = rig.anonymous().tunnel("api.github.com").await;
    let reply = wire.exchange(websocket::request("/socket", "api.github.com", "")).await.unwrap();
    assert_eq!((reply.status(), reply.text().as_str()), (200, "not here"));
    let again = wire.exchange("GET /socket HTTP/1.1\r\nHost: api.github.com\r\n\r\n").await.unwrap();
    assert_eq!(again.status(), 200);
}

#[tokio::test]
async fn other_upgrades_never_reach_the_origin() {
    let origin = github().h1_only().reply("/socket", "plain").start().await;
    let rig = github_rig(&origin).start().await;
    let mut wire = rig.anonymous().tunnel("api.github.com").await;
    let request = "GET /socket HTTP/1.1\r\nHost: api.github.com\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let reply = wire.exchange(request).await.unwrap();
    assert_ne!(reply.status(), 101);
    assert!(origin.log().requests().iter().all(|seen| seen.field("upgrade").is_none()));
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let origin = github().route("/sum", |call| async move {
        let sum = call.collect().await.trailers.and_then(|trailers| trailers.get("x-sum").cloned());
        let (feed, body) = channel();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-answer", sum.unwrap_or_else(|| "missing".parse().unwrap()));
        feed.data("body").await;
        tokio::spawn(feed.trailers(trailers));
        clauderon_testkit::origin::with_field(Response::new(body), "trailer", "x-answer")
    });
    let origin = origin.start().await;
    let rig = github_rig(&origin).start().await;
    let agent = rig.anonymous();
    for h2 in [false, true] {
        let mut client = if h2 { agent.h2("api.github.com").await } else { agent.h1("api.github.com").await };
        let (feed, body) = channel();
        let request = Request::post("/sum").header("te", "trailers").header("trailer", "x-sum").body(body).unwrap();
        let answered = tokio::spawn(async move { client.fetch(request).await });
        feed.data("body").await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "42".parse().unwrap());
        feed.trailers(trailers).await;
        let answered = answered.await.unwrap();
        assert_eq!(answered.trailers.unwrap()["x-answer"], "42", "h2: {h2}");
    }
}

#[tokio::test]
async fn early_hints_are_relayed() {
    let origin = Origin::https("api.github.com").h1_only().script(|mut wire| async move {
        while wire.request().await.is_some() {
            wire.send("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n").await;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await;
        }
    });
    let origin = origin.start().await;
    let rig = github_rig(&origin).start().await;
    let mut wire = rig.anonymous().tunnel("api.github.com").await;
    let reply = wire.exchange("GET / HTTP/1.1\r\nHost: api.github.com\r\n\r\n").await.unwrap();
    assert_eq!(reply.text(), "done");
    assert_eq!(reply.informational.len(), 1);
    assert_eq!(reply.informational[0].status(), 103);
    assert_eq!(reply.informational[0].field("link"), Some("</style.css>; rel=preload"));
    let mut frames = rig.anonymous().frames("api.github.com").await;
    let request = Request::get("https://api.github.com/").body(()).unwrap();
    let (mut response, _) = frames.send_request(request, true).unwrap();
    let hints = within("103", std::future::poll_fn(|cx| response.poll_informational(cx))).await.unwrap().unwrap();
    assert_eq!(
        (hints.status().as_u16(), &hints.headers()["link"]),
        (103, &"</style.css>; rel=preload".parse().unwrap())
    );
    assert_eq!(within("the answer", response).await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_expectation_the_origin_declines_gets_its_answer_without_a_body() {
    let origin = Origin::https("api.github.com").h1_only().script(|mut wire| async move {
        let head = wire.head().await.unwrap();
        assert_eq!(head.field("expect"), Some("100-continue"));
        wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 7\r\nConnection: close\r\n\r\ntoo big").await;
    });
    let origin = origin.start().await;
    let rig = github_rig(&origin).start().await;
    let mut wire = rig.anonymous().tunnel("api.github.com").await;
    let head = "POST /up HTTP/1.1\r\nHost: api.github.com\r\nExpect: 100-continue\r\nContent-Length: 5000000\r\n\r\n";
    let reply = wire.exchange(head).await.unwrap();
    assert_eq!((reply.status(), reply.informational.len()), (413, 0));
    assert_eq!(reply.text(), "too big");
}

#[tokio::test]
async fn an_upload_without_length_reaches_an_http_1_origin_chunked() {
    let origin = github().h1_only().reply("/upload", "taken").start().await;
    let rig = github_rig(&origin).start().await;
    let mut client = rig.anonymous().h2("api.github.com").await;
    let answered = client.fetch(Request::post("/upload").body(pattern(2_500_000)).unwrap()).await;
    assert_eq!(answered.text(), "taken");
    let seen = origin.log().only();
    assert_eq!((seen.body_len, seen.complete), (2_500_000, true));
    assert_eq!(seen.field("transfer-encoding"), Some("chunked"));
    rig.assert_no_secret();
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_still_sends() {
    let origin =
        github().route("/early", |_| async { clauderon_testkit::origin::status(http::StatusCode::FORBIDDEN, "no") });
    let origin = origin.start().await;
    let rig = github_rig(&origin).start().await;
    let mut client = rig.anonymous().h2("api.github.com").await;
    let (feed, body) = channel();
    feed.data("the beginning").await;
    let response = client.start(Request::post("/early").body(body).unwrap()).await.unwrap();
    assert_eq!(response.status(), 403);
    drop(feed);
    assert_eq!(client.get("/early").await.status, 403);
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_sends_everything_first() {
    const LEN: usize = 4 * 1024 * 1024;
    let origin = github().start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("review", &["--access-mode", "read-only"]).await;
    let mut wire = rig.agent("review").await.tunnel("api.github.com").await;
    wire.send(format!("PUT /upload HTTP/1.1\r\nHost: api.github.com\r\nContent-Length: {LEN}\r\n\r\n")).await;
    wire.send(vec![b'x'; LEN]).await;
    let reply = wire.reply().await.unwrap();
    assert_eq!((reply.status(), reply.head.field("x-clauderon-error")), (403, Some("read_only")));
    assert_eq!(origin.log().count(), 0);
}

#[tokio::test]
async fn big_bodies_stream_through_a_small_daemon() {
    const LEN: u64 = 96 * 1024 * 1024;
    let origin = github().route("/down", |call| async move {
        call.collect().await;
        Response::new(pattern(LEN))
    });
    let origin = origin.reply("/up", "taken").start().await;
    let rig = github_rig(&origin).start().await;
    let before = resident(rig.pid());
    let mut client = rig.anonymous().h1("api.github.com").await;
    let mut response = client.start(Request::get("/down").body(empty()).unwrap()).await.unwrap();
    let mut len = 0;
    while let Some(frame) = response.body_mut().frame().await {
        len += frame.unwrap().into_data().map_or(0, |data| data.len() as u64);
    }
    assert_eq!(len, LEN);
    let answered = client.fetch(Request::post("/up").body(pattern(LEN / 4)).unwrap()).await;
    assert_eq!((answered.text().as_str(), origin.log().last().body_len), ("taken", LEN / 4));
    let grown = resident(rig.pid()).saturating_sub(before);
    assert!(grown < 48 * 1024, "the daemon grew by {grown} KiB");
}

#[tokio::test]
async fn a_slow_reader_holds_the_origin_back() {
    let origin = github().route("/down", |call| async move {
        call.collect().await;
        Response::new(pattern(1 << 40))
    });
    let origin = origin.start().await;
    let rig = github_rig(&origin).start().await;
    let before = resident(rig.pid());
    let mut client = rig.anonymous().h2("api.github.com").await;
    let mut response = client.start(Request::get("/down").body(empty()).unwrap()).await.unwrap();
    response.body_mut().frame().await.unwrap().unwrap();
    // Nobody reads on; an endless origin would fill whatever does not push back.
    let other = rig.anonymous().h2("api.github.com").await;
    assert!(other.another().is_some());
    for _ in 0..50 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        assert!(resident(rig.pid()).saturating_sub(before) < 48 * 1024);
    }
    drop(response);
}

#[tokio::test]
async fn alt_svc_is_taken_out() {
    let origin = github().route("/", |call| async move {
        call.collect().await;
        clauderon_testkit::origin::with_field(ok("x"), "alt-svc", "h3=\":443\"; ma=86400")
    });
    let origin = origin.start().await;
    let rig = github_rig(&origin).start().await;
    for h2 in [false, true] {
        let agent = rig.anonymous();
        let mut client = if h2 { agent.h2("api.github.com").await } else { agent.h1("api.github.com").await };
        assert_eq!(client.get("/").await.field("alt-svc"), None);
    }
}

#[tokio::test]
async fn hop_by_hop_fields_stay_on_their_hop() {
    let origin = github().h1_only().reply("/", "x").start().await;
    let rig = github_rig(&origin).start().await;
    let mut wire = rig.anonymous().tunnel("api.github.com").await;
    let request = "GET / HTTP/1.1\r\nHost: api.github.com\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\n\
                   Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nX-Kept: 2\r\n\
                   Proxy-Authorization: Basic eDp5\r\n\r\n";
    assert_eq!(wire.exchange(request).await.unwrap().status(), 200);
    let seen = origin.log().only();
    for name in ["x-mine", "keep-alive", "proxy-connection", "proxy-authorization", "te"] {
        assert_eq!(seen.field(name), None, "{name} went on to the origin");
    }
    assert_eq!(seen.field("x-kept"), Some("2"));
    assert_eq!(seen.field("authorization"), Some(format!("Bearer {GITHUB}").as_str()));
}

/// The resident set of a process in KiB.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
