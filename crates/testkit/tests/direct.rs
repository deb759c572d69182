//! Proves the kit with nothing between its clients and its origins.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]

use clauderon_testkit::agent::Agent;
use clauderon_testkit::body::{channel, empty, pattern};
use clauderon_testkit::ca::{Certificate, TestCa, client};
use clauderon_testkit::git_origin::{GitOrigin, git};
use clauderon_testkit::origin::{Origin, ok};
use clauderon_testkit::sightings::Sightings;
use clauderon_testkit::websocket::{self, Frame};
use clauderon_testkit::{grpc, npm_origin, pip_origin};
use http::{HeaderMap, Method, Request, Version};

#[tokio::test]
async fn an_origin_demands_the_exact_credential() {
    let origin =
        Origin::https("api.github.com").require("authorization", "Bearer real").reply("/user", "me").start().await;
    let agent = Agent::direct(&origin);
    for h2 in [false, true] {
        let mut client = if h2 { agent.h2("api.github.com").await } else { agent.h1("api.github.com").await };
        assert_eq!(client.get("/user").await.status, 401);
        let request = |value: &str| Request::get("/user").header("authorization", value).body(empty()).unwrap();
        assert_eq!(client.fetch(request("Bearer fake")).await.status, 401);
        assert_eq!(client.fetch(request("Bearer real")).await.text(), "me");
        let twice = Request::get("/user").header("authorization", "Bearer real").header("authorization", "Bearer x");
        assert_eq!(client.fetch(twice.body(empty()).unwrap()).await.status, 401);
    }
    assert_eq!(origin.log().count(), 8);
    assert_eq!(origin.log().connections(), 2);
    assert_eq!(origin.log().last().version, Version::HTTP_2);
}

#[tokio::test]
async fn bodies_and_trailers_are_recorded() {
    let origin = Origin::https("api.github.com").reply("/upload", "taken").start().await;
    let agent = Agent::direct(&origin);
    let mut h1 = agent.h1("api.github.com").await;
    assert_eq!(h1.send(Method::PUT, "/upload", vec![7; 100_000]).await.text(), "taken");
    assert_eq!((origin.log().last().body_len, origin.log().last().complete), (100_000, true));
    let mut h2 = agent.h2("api.github.com").await;
    h2.fetch(Request::put("/upload").body(pattern(3_000_000)).unwrap()).await;
    assert_eq!(origin.log().last().body_len, 3_000_000);
    let (feed, body) = channel();
    let request = tokio::spawn(async move { h2.fetch(Request::put("/upload").body(body).unwrap()).await });
    feed.data("piece").await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    feed.trailers(trailers).await;
    request.await.unwrap();
    assert_eq!(origin.log().last().trailers.unwrap()["x-sum"], "1");
}

#[tokio::test]
async fn bad_certificates_are_bad() {
    for certificate in Certificate::BAD {
        let origin = Origin::https("api.github.com").certificate(certificate).reply("/", "hello").start().await;
        let wire = Agent::direct(&origin).wire().await;
        let config = client(&TestCa::shared().pem(), &["h2", "http/1.1"]);
        assert!(wire.try_tls("api.github.com", config).await.is_err(), "{certificate:?} was accepted");
    }
}

#[tokio::test]
async fn grpc_streams_both_ways() {
    let origin = Origin::https("grpc.example.test")
        .h2_only()
        .route("/s/List", |call| grpc::server_stream(call, 5))
        .route("/s/Chat", grpc::bidirectional)
        .start()
        .await;
    let mut client = Agent::direct(&origin).h2("grpc.example.test").await;
    let request = grpc::request("/s/List", clauderon_testkit::body::full(grpc::message(b"go")));
    let answered = client.fetch(request).await;
    assert_eq!(grpc::messages(&answered.body), [b"0", b"1", b"2", b"3", b"4"]);
    assert_eq!(answered.trailers.unwrap()["grpc-status"], "0");
    let (feed, body) = channel();
    let response = client.start(grpc::request("/s/Chat", body)).await.unwrap();
    feed.data(grpc::message(b"ping")).await;
    drop(feed);
    let answered = clauderon_testkit::agent::read(response).await;
    assert_eq!(grpc::messages(&answered.body), [b"ping"]);
}

#[tokio::test]
async fn websocket_frames_are_echoed() {
    let origin = Origin::https("api.openai.com").h1_only();
    let origin = origin.script(|wire| websocket::echo(wire, "Bearer real".into())).start().await;
    let mut wire = Agent::direct(&origin).tunnel("api.openai.com").await;
    wire.send(websocket::request("/v1/realtime", "api.openai.com", "Authorization: Bearer real\r\n")).await;
    assert_eq!(wire.head().await.unwrap().status(), 101);
    for len in [0, 5, 125, 126, 65_535, 65_536, 200_000] {
        let frame = Frame { fin: true, opcode: 2, payload: vec![b'x'; len] };
        websocket::send(&mut wire, &frame, true).await;
        assert_eq!(websocket::receive(&mut wire).await.unwrap(), frame);
    }
}

#[tokio::test]
async fn raw_replies_are_read() {
    let origin = Origin::http("example.test").script(|mut wire| async move {
        while wire.request().await.is_some() {
            wire.send(
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            )
            .await;
            wire.send("3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n").await;
        }
    });
    let origin = origin.start().await;
    let mut wire = Agent::direct(&origin).wire().await;
    for _ in 0..2 {
        let reply = wire.exchange("GET / HTTP/1.1\r\nHost: example.test\r\n\r\n").await.unwrap();
        assert_eq!(reply.informational[0].status(), 103);
        assert_eq!((reply.status(), reply.text().as_str()), (200, "abcde"));
        assert_eq!(reply.trailers, [("x-sum".to_owned(), "5".to_owned())]);
    }
}

#[tokio::test]
async fn git_clones_and_pushes_with_the_credential() {
    let host = GitOrigin::start("github.com", "real").await;
    host.repository("owner/repo").await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), TestCa::shared().pem()).unwrap();
    let port = host.origin.addr().port();
    let resolve = format!("http.curloptResolve=github.com:{port}:127.0.0.1");
    let ca = format!("http.sslCAInfo={}", dir.path().join("ca.pem").display());
    let url = format!("https://x-access-token:real@github.com:{port}/owner/repo");
    git(dir.path(), &["-c", &resolve, "-c", &ca, "clone", "--quiet", &url, "copy"]).await;
    assert!(dir.path().join("copy/README").exists());
    assert!(host.origin.log().requests().iter().any(|seen| seen.target.ends_with("git-upload-pack")));
}

#[tokio::test]
async fn registries_serve_documents() {
    let npm = npm_origin::start("npm.example.test", "real").await;
    let mut client = Agent::direct(&npm).h1("npm.example.test").await;
    assert_eq!(client.get("/plain-package").await.json()["name"], "plain-package");
    assert_eq!(client.get("/@private%2fpackage").await.status, 401);
    let pip = pip_origin::builder("pypi.example.test").await.start().await;
    let mut client = Agent::direct(&pip).h1("pypi.example.test").await;
    assert!(client.get("/simple/clauderon-test-wheel/").await.text().contains(".whl"));
}

#[test]
#[should_panic(expected = "holds the secret that begins with hunter2-")]
fn a_secret_inside_base64_is_found() {
    let sightings = Sightings::default();
    // `x-access-token:hunter2-hunter2`
    sightings.add(b"Basic eC1hY2Nlc3MtdG9rZW46aHVudGVyMi1odW50ZXIy");
    sightings.assert_free_of(&["hunter2-hunter2".into()]);
}

#[tokio::test]
async fn a_started_answer_can_be_left() {
    let origin = Origin::https("api.github.com").route("/slow", |call| async move {
        let (feed, body) = channel();
        tokio::spawn(async move {
            feed.data("first").await;
            feed.abandoned().await;
            drop(call);
        });
        http::Response::new(body)
    });
    let origin = origin.route("/plain", |_| async { ok("plain") }).start().await;
    let mut client = Agent::direct(&origin).h2("api.github.com").await;
    let response = client.start(Request::get("/slow").body(empty()).unwrap()).await.unwrap();
    drop(response);
    assert_eq!(client.get("/plain").await.text(), "plain");
}
