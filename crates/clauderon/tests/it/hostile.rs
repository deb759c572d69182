//! Callers and origins that want the daemon to hold more than it should, or to mix what is kept apart.

use clauderon_testkit::body::{channel, empty, full};
use clauderon_testkit::bytes::Wire;
use clauderon_testkit::origin::{Origin, ok};
use clauderon_testkit::wait::within;
use http::Request;

use crate::{github, github_rig, rig};

#[tokio::test]
async fn slow_heads_do_not_hold_up_others() {
    let origin = github().reply("/", "x").start().await;
    let rig = github_rig(&origin).start().await;
    let mut slow = Vec::new();
    for index in 0..200 {
        let mut wire = rig.anonymous().wire().await;
        wire.send(if index % 2 == 0 { "GET http://api" } else { "CONNECT api.github.com:443 HTTP/1.1\r\nHost:" }).await;
        slow.push(wire);
    }
    assert_eq!(rig.anonymous().get("https://api.github.com/").await.status, 200);
    drop(slow);
}

#[tokio::test]
async fn hanging_requests_of_one_session_do_not_hold_up_another() {
    let origin = github().reply("/", "x").route("/hang", |_| std::future::pending()).start().await;
    let rig = github_rig(&origin).start().await;
    rig.create("one", &[]).await;
    rig.create("two", &[]).await;
    let client = rig.agent("one").await.h2("api.github.com").await;
    let mut hanging = tokio::task::JoinSet::new();
    for _ in 0..90 {
        let mut client = client.another().unwrap();
        hanging.spawn(async move { client.start(Request::get("/hang").body(empty()).unwrap()).await.is_ok() });
    }
    origin.log().wait(90).await;
    assert_eq!(rig.agent("two").await.get("https://api.github.com/").await.status, 200);
    hanging.abort_all();
}

#[tokio::test]
async fn one_session_cannot_take_every_connection() {
    let origin = github().reply("/", "x").start().await;
    let rig = github_rig(&origin).table("[limits]\nmax_connections_per_session = 4").start().await;
    rig.create("greedy", &[]).await;
    let agent = rig.agent("greedy").await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(agent.connect("api.github.com:443").await.unwrap());
    }
    let refusal = agent.connect("api.github.com:443").await.err().unwrap();
    assert_eq!((refusal.status(), refusal.head.field("x-clauderon-error")), (503, Some("too_busy")));
    assert_eq!(rig.anonymous().get("https://api.github.com/").await.status, 200);
    drop(held);
    // Places are given back as soon as their holders are gone.
    let began = std::time::Instant::now();
    while agent.connect("api.github.com:443").await.is_err() {
        assert!(began.elapsed() < clauderon_testkit::wait::LIMIT, "the places were never given back");
    }
}

#[tokio::test]
async fn rapid_resets_end_the_connection_and_nothing_else() {
    let origin = github().reply("/", "x").route("/hang", |_| std::future::pending()).start().await;
    let rig = github_rig(&origin).start().await;
    let mut frames = rig.anonymous().frames("api.github.com").await;
    for _ in 0..3000 {
        let Ok(ready) = frames.ready().await else { break };
        frames = ready;
        let request = Request::get("https://api.github.com/hang").body(()).unwrap();
        let Ok((response, mut stream)) = frames.send_request(request, false) else { break };
        stream.send_reset(h2_cancel());
        drop(response);
    }
    assert_eq!(rig.anonymous().h2("api.github.com").await.get("/").await.status, 200);
}

/// CANCEL, without naming the frame library among this crate's dependencies.
fn h2_cancel() -> clauderon_testkit::Reason {
    clauderon_testkit::Reason::CANCEL
}

#[tokio::test]
async fn descriptors_come_back() {
    let origin = github().reply("/*", "x").start().await;
    let rig = github_rig(&origin).start().await;
    rig.anonymous().get("https://api.github.com/warm").await;
    let idle = descriptors(rig.pid());
    let mut clients = Vec::new();
    for index in 0..100 {
        let mut client = rig.anonymous().h1("api.github.com").await;
        client.get(&format!("/{index}")).await;
        clients.push(client);
    }
    assert!(descriptors(rig.pid()) >= idle + 90, "the test holds no connections open");
    drop(clients);
    clauderon_testkit::wait::until("descriptors to be given back", || {
        (descriptors(rig.pid()) <= idle + 60).then_some(())
    })
    .await;
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[tokio::test]
async fn huge_answers_heads_are_refused() {
    let origin = Origin::https("api.github.com").h1_only().script(|mut wire: Wire| async move {
        let _ = wire.request().await;
        wire.try_send("HTTP/1.1 200 OK\r\n").await;
        let line = format!("X-A: {}\r\n", "x".repeat(1000));
        for _ in 0..4000 {
            if !wire.try_send(&line).await {
                return;
            }
        }
    });
    let origin = origin.start().await;
    let rig = github_rig(&origin).start().await;
    let answered = rig.anonymous().get("https://api.github.com/huge").await;
    assert_eq!((answered.status.as_u16(), answered.field("x-clauderon-error")), (502, Some("upstream_protocol")));
    assert_eq!(rig.audit_path("/huge").await.get("response_code"), 502);
}

#[tokio::test]
async fn a_large_answer_head_still_passes() {
    let cookie = "c".repeat(20_000);
    let sent = cookie.clone();
    let origin = github().route("/", move |call| {
        let cookie = sent.clone();
        async move {
            call.collect().await;
            clauderon_testkit::origin::with_field(ok("x"), "set-cookie", &cookie)
        }
    });
    let origin = origin.start().await;
    let rig = github_rig(&origin).start().await;
    for h2 in [false, true] {
        let agent = rig.anonymous();
        let mut client = if h2 { agent.h2("api.github.com").await } else { agent.h1("api.github.com").await };
        assert_eq!(client.get("/").await.field("set-cookie"), Some(cookie.as_str()), "h2: {h2}");
    }
}

#[tokio::test]
async fn sessions_never_share_an_upstream_connection() {
    let origin = github().reply("/", "x").start().await;
    let rig = github_rig(&origin).start().await;
    for name in ["one", "two", "three"] {
        rig.create(name, &[]).await;
        for h2 in [false, true] {
            let agent = rig.agent(name).await;
            let mut client = if h2 { agent.h2("api.github.com").await } else { agent.h1("api.github.com").await };
            assert_eq!(client.get("/").await.status, 200);
        }
    }
    let mut by_connection = std::collections::HashMap::new();
    let sessions = rig.audit_lines(6).await;
    for (seen, line) in origin.log().requests().iter().zip(&sessions) {
        let session = line.text("session").to_owned();
        let first = by_connection.entry(seen.connection).or_insert_with(|| session.clone());
        assert_eq!(*first, session, "a connection served two sessions");
    }
    assert!(by_connection.len() >= 3);
}

#[tokio::test]
async fn placeholders_are_unique_to_a_session() {
    let rig = rig().secret("github_token", crate::GITHUB).start().await;
    rig.create("one", &[]).await;
    rig.create("two", &[]).await;
    let (one, two) = (rig.session_env("one").await, rig.session_env("two").await);
    assert_ne!(one["GITHUB_TOKEN"], two["GITHUB_TOKEN"]);
    assert_ne!(one["HTTPS_PROXY"], two["HTTPS_PROXY"]);
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_no_whole_request_for_the_origin() {
    let origin = github().h1_only().reply("/*", "taken").start().await;
    let rig = github_rig(&origin).start().await;
    let cases = [
        ("/length", "Content-Length: 1000", "only a part"),
        ("/chunked", "Transfer-Encoding: chunked", "5\r\nonly \r\n"),
    ];
    for (index, (path, framing, part)) in cases.into_iter().enumerate() {
        let mut wire = rig.anonymous().tunnel("api.github.com").await;
        wire.send(format!("POST {path} HTTP/1.1\r\nHost: api.github.com\r\n{framing}\r\n\r\n{part}")).await;
        origin.log().wait(index + 1).await;
        drop(wire);
        let line = rig.audit_path(path).await;
        assert!(!line.text("error").is_empty(), "{}", line.raw);
    }
    let mut client = rig.anonymous().h2("api.github.com").await;
    let (feed, body) = channel();
    feed.data("only a part").await;
    let asking = tokio::spawn(async move { client.start(Request::post("/h2").body(body).unwrap()).await.is_ok() });
    origin.log().wait(3).await;
    feed.fail().await;
    assert!(!within("the failure", asking).await.unwrap());
    rig.audit_path("/h2").await;
    assert!(origin.log().requests().iter().all(|seen| !seen.complete), "a torn upload looked whole");
}

#[tokio::test]
async fn cookie_crumbs_of_http_2_are_one_line_in_http_1() {
    let origin = github().h1_only().reply("/", "x").start().await;
    let rig = github_rig(&origin).start().await;
    let mut client = rig.anonymous().h2("api.github.com").await;
    let request = Request::get("/").header("cookie", "a=1").header("cookie", "b=2").body(empty()).unwrap();
    assert_eq!(client.fetch(request).await.status, 200);
    assert_eq!(origin.log().only().field("cookie"), Some("a=1; b=2"));
}

#[tokio::test]
async fn an_http_1_0_client_gets_an_answer_it_can_read() {
    let origin = github().h1_only().route("/", |call| async move {
        call.collect().await;
        let (feed, body) = channel();
        tokio::spawn(async move {
            feed.data("without ").await;
            feed.data("a length").await;
        });
        http::Response::new(body)
    });
    let origin = origin.start().await;
    let rig = github_rig(&origin).start().await;
    let mut wire = rig.anonymous().tunnel("api.github.com").await;
    let reply = wire.exchange("GET / HTTP/1.0\r\nHost: api.github.com\r\n\r\n").await.unwrap();
    assert_eq!((reply.head.field("transfer-encoding"), reply.text().as_str()), (None, "without a length"));
}

#[tokio::test]
async fn a_connection_the_origin_says_goodbye_on_is_replaced() {
    let origin = Origin::https("api.github.com").h2_only().script(|wire: Wire| async move {
        clauderon_testkit::grpc::serve_then_go_away(wire, 2).await;
    });
    let origin = origin.start().await;
    let rig = github_rig(&origin).start().await;
    let mut client = rig.anonymous().h2("api.github.com").await;
    for index in 0..10 {
        assert_eq!(client.get(&format!("/{index}")).await.status, 200, "request {index}");
    }
    let posted = client.fetch(Request::post("/").body(full("once")).unwrap()).await;
    assert_eq!(posted.status, 200);
}
