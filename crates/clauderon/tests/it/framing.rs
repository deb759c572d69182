//! Bodies that break their framing, on either side: what follows a broken message is never read as another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clauderon_testkit::bytes::Wire;
use clauderon_testkit::origin::{Origin, ok};
use http::Request;

use crate::{GITHUB, github, github_rig};

const BROKEN: &[(&str, &str)] = &[
    ("no chunk size", "\r\nabc\r\n0\r\n\r\n"),
    ("letters for a chunk size", "xyz\r\nabc\r\n0\r\n\r\n"),
    ("chunk size with 0x", "0x3\r\nabc\r\n0\r\n\r\n"),
    ("chunk size with a sign", "+3\r\nabc\r\n0\r\n\r\n"),
    ("negative chunk size", "-3\r\nabc\r\n0\r\n\r\n"),
    ("chunk size with underscore", "0_3\r\nabc\r\n0\r\n\r\n"),
    ("chunk size beyond 64 bits", "fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
    ("chunk size with a blank before", " 3\r\nabc\r\n0\r\n\r\n"),
    ("bare LF after the size", "3\nabc\r\n0\r\n\r\n"),
    ("bare CR after the size", "3\rabc\r\n0\r\n\r\n"),
    ("bare LF after the data", "3\r\nabc\n0\r\n\r\n"),
    ("data longer than its size", "3\r\nabcd\r\n0\r\n\r\n"),
    ("bare LF in an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
    ("bare CR in an extension", "3;a\rb\r\nabc\r\n0\r\n\r\n"),
    ("bare LF ends the trailers", "3\r\nabc\r\n0\n\n"),
    ("bare LF in the trailers", "3\r\nabc\r\n0\r\nX-A: 1\nX-B: 2\r\n\r\n"),
    ("folded trailer", "3\r\nabc\r\n0\r\nX-A: 1\r\n 2\r\n\r\n"),
    ("trailer with a space before the colon", "3\r\nabc\r\n0\r\nX-A : 1\r\n\r\n"),
    ("NUL in a trailer", "3\r\nabc\r\n0\r\nX-A: \0\r\n\r\n"),
];

#[tokio::test]
async fn a_broken_chunked_request_never_completes_and_smuggles_nothing() {
    let origin = github().h1_only().reply("/*", "x").start().await;
    let rig = github_rig(&origin).start().await;
    let mut faults = Vec::new();
    for (name, body) in BROKEN {
        let before = origin.log().count();
        let mut wire = rig.anonymous().tunnel("api.github.com").await;
        let head = "POST /first HTTP/1.1\r\nHost: api.github.com\r\nTransfer-Encoding: chunked\r\n\r\n";
        let second = "GET /smuggled HTTP/1.1\r\nHost: api.github.com\r\n\r\n";
        wire.try_send(format!("{head}{body}{second}")).await;
        let Some(answer) = wire.ending().await else {
            faults.push(format!("{name}: the connection stays open after {:?}", wire.pending()));
            continue;
        };
        let answer = String::from_utf8_lossy(&answer).into_owned();
        if answer.starts_with("HTTP/1.1 2") {
            faults.push(format!("{name}: accepted: {answer}"));
        }
        let after = origin.log().requests().split_off(before);
        if after.iter().any(|seen| seen.complete || seen.target == "/smuggled") {
            faults.push(format!("{name}: the origin saw {after:#?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    rig.assert_no_secret();
}

#[tokio::test]
async fn chunk_extensions_and_case_are_understood_and_dropped() {
    let origin = github().h1_only().reply("/", "x").start().await;
    let rig = github_rig(&origin).start().await;
    let mut wire = rig.anonymous().tunnel("api.github.com").await;
    let request = "POST / HTTP/1.1\r\nHost: api.github.com\r\nTransfer-Encoding: Chunked\r\n\r\n\
                   A;name=\"value\"\r\n0123456789\r\n00;x\r\n\r\n";
    assert_eq!(wire.exchange(request).await.unwrap().status(), 200);
    assert_eq!(origin.log().only().body.as_ref(), b"0123456789");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let origin = github().h1_only().route("/*", |call| async move {
        let path = call.uri.path().to_owned();
        call.collect().await;
        ok(path)
    });
    let origin = origin.start().await;
    let rig = github_rig(&origin).start().await;
    let mut wire = rig.anonymous().tunnel("api.github.com").await;
    let requests: String =
        (0..5).map(|index| format!("GET /{index} HTTP/1.1\r\nHost: api.github.com\r\n\r\n")).collect();
    wire.send(requests).await;
    for index in 0..5 {
        assert_eq!(wire.reply().await.unwrap().text(), format!("/{index}"));
    }
}

#[tokio::test]
async fn bytes_after_a_get_are_the_next_request_not_its_body() {
    let origin = github().h1_only().reply("/*", "x").start().await;
    let rig = github_rig(&origin).start().await;
    let mut wire = rig.anonymous().tunnel("api.github.com").await;
    let both = "GET /first HTTP/1.1\r\nHost: api.github.com\r\nContent-Length: 0\r\n\r\n\
                GET /second HTTP/1.1\r\nHost: evil.example.test\r\n\r\n";
    wire.send(both).await;
    assert_eq!(wire.reply().await.unwrap().status(), 200);
    assert_eq!(wire.reply().await.unwrap().status(), 421);
    assert_eq!(origin.log().only().target, "/first");
}

/// Answers that could be read two ways, or that break off.
const LIES: &[(&str, &str)] = &[
    ("CL and TE", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ("two CL that differ", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    ("a CL that is no number", "HTTP/1.1 200 OK\r\nContent-Length: three\r\n\r\nabc"),
    ("unknown TE", "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\nabc"),
    ("folded field", "HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nContent-Length: 0\r\n\r\n"),
    ("space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc"),
    ("NUL in a value", "HTTP/1.1 200 OK\r\nX-A: \0\r\nContent-Length: 0\r\n\r\n"),
    ("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n"),
    ("binary", "\u{1}\u{2}\u{3}\u{4}\r\n\r\n"),
    ("status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
    ("101 nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
    ("nothing", ""),
    ("half a head", "HTTP/1.1 200 OK\r\nContent-Le"),
];

#[tokio::test]
async fn answers_that_lie_are_refused() {
    let mut faults = Vec::new();
    for (name, answer) in LIES {
        let origin = Origin::https("api.github.com").h1_only().script(move |mut wire: Wire| async move {
            let _ = wire.request().await;
            wire.try_send(answer).await;
        });
        let origin = origin.start().await;
        let rig = github_rig(&origin).start().await;
        let mut wire = rig.anonymous().tunnel("api.github.com").await;
        let Some(reply) = wire.exchange("GET /lie HTTP/1.1\r\nHost: api.github.com\r\n\r\n").await else {
            faults.push(format!("{name}: closed without an answer"));
            continue;
        };
        if reply.status() != 502 {
            faults.push(format!("{name}: {}", reply.head.start));
            continue;
        }
        let line = rig.audit_path("/lie").await;
        if line.get("response_code") != 502 || line.text("error").is_empty() {
            faults.push(format!("{name}: recorded as {}", line.raw));
        }
        rig.assert_no_secret();
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Bodies that end before their framing says so.
const TORN: &[(&str, &str)] = &[
    ("content-length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"),
    ("a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"),
    ("no last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
    ("a bad chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"),
];

#[tokio::test]
async fn a_torn_answer_is_torn_for_the_client_too() {
    for (name, answer) in TORN {
        let origin = Origin::https("api.github.com").h1_only().script(move |mut wire: Wire| async move {
            let _ = wire.request().await;
            wire.try_send(answer).await;
        });
        let origin = origin.start().await;
        let rig = github_rig(&origin).start().await;
        for h2 in [false, true] {
            let agent = rig.anonymous();
            let mut client = if h2 { agent.h2("api.github.com").await } else { agent.h1("api.github.com").await };
            let path = format!("/torn/{h2}");
            let response = client.start(Request::get(&path).body(clauderon_testkit::body::empty()).unwrap()).await;
            // The tear may be known before the head is passed on.
            if let Ok(response) = response
                && response.status() != 502
            {
                assert!(!clauderon_testkit::agent::read(response).await.complete, "{name}, h2: {h2}");
            }
            let line = rig.audit_path(&path).await;
            assert!(!line.text("error").is_empty(), "{name}: {}", line.raw);
        }
    }
}

#[tokio::test]
async fn surplus_bytes_are_no_answer_to_the_next_request() {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let origin = Origin::https("api.github.com").h1_only().script(move |mut wire: Wire| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            while wire.request().await.is_some() {
                let surplus = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned";
                wire.try_send(format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood{surplus}")).await;
            }
        }
    });
    let origin = origin.start().await;
    let rig = github_rig(&origin).start().await;
    let mut wire = rig.anonymous().tunnel("api.github.com").await;
    for _ in 0..5 {
        let reply = wire.exchange("GET / HTTP/1.1\r\nHost: api.github.com\r\n\r\n").await.unwrap();
        assert_eq!(reply.text(), "good");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 5, "a connection with surplus bytes was used again");
}

#[tokio::test]
async fn a_stale_connection_is_replaced_for_a_get() {
    let origin = Origin::https("api.github.com").h1_only().script(|mut wire: Wire| async move {
        // Says keep-alive, and closes.
        if wire.request().await.is_some() {
            wire.try_send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    });
    let origin = origin.start().await;
    let rig = github_rig(&origin).start().await;
    let mut wire = rig.anonymous().tunnel("api.github.com").await;
    for _ in 0..10 {
        let reply = wire.exchange("GET / HTTP/1.1\r\nHost: api.github.com\r\n\r\n").await.unwrap();
        assert_eq!(reply.text(), "ok");
    }
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let posts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&posts);
    let origin = Origin::https("api.github.com").h1_only().script(move |mut wire: Wire| {
        let count = Arc::clone(&count);
        async move {
            if wire.request().await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
                wire.reset();
            }
        }
    });
    let origin = origin.start().await;
    let rig = github_rig(&origin).start().await;
    let mut wire = rig.anonymous().tunnel("api.github.com").await;
    let request = "POST /once HTTP/1.1\r\nHost: api.github.com\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(wire.exchange(request).await.unwrap().status(), 502);
    assert_eq!(posts.load(Ordering::SeqCst), 1);
    assert_eq!(rig.audit_path("/once").await.get("response_code"), 502);
    assert!(!rig.output().contains(GITHUB));
}
