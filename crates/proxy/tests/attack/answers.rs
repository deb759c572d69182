//! Answers that lie, and answers that must not be taken for something else.

use clauderon_testkit::origin::Origin;
use clauderon_testkit::wait::within;
use http::{Method, Request};

use crate::rig::{Rig, SECRET};

const GET: &str = "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// An origin that answers every request with these bytes.
async fn saying(answer: &'static str) -> Origin {
    let script = move |mut wire: clauderon_testkit::bytes::Wire| async move {
        while wire.request().await.is_some() && wire.try_send(answer).await {}
    };
    Origin::http("a.test").script(script).start().await
}

#[tokio::test]
async fn answers_of_two_readings_are_refused() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        let origin = saying(answer).await;
        let rig = Rig::new(&[&origin]).await;
        let reply = rig.agent.wire().await.exchange(GET).await.unwrap();
        assert_eq!(reply.status(), 502, "{answer}");
        assert_eq!(reply.head.field("x-clauderon-error"), Some("upstream_protocol"), "{answer}");
        assert_eq!(rig.recorded(1).await.len(), 1, "{answer}");
    }
}

#[tokio::test]
async fn surplus_bytes_answer_nobody() {
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let origin = saying(poison).await;
    let rig = Rig::new(&[&origin]).await;
    let mut wire = rig.agent.wire().await;
    for _ in 0..5 {
        assert_eq!(wire.exchange(GET).await.unwrap().text(), "ok");
    }
}

#[tokio::test]
async fn interim_answers_lose_what_final_ones_lose() {
    let answer = "HTTP/1.1 103 Early Hints\r\nAlt-Svc: h3=\":443\"\r\nLink: </x>\r\nKeep-Alive: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let origin = saying(answer).await;
    let rig = Rig::new(&[&origin]).await;
    let reply = rig.agent.wire().await.exchange(GET).await.unwrap();
    let hints = reply.informational.first().unwrap();
    assert_eq!(hints.fields, [("link".to_owned(), "</x>".to_owned())]);
}

#[tokio::test]
async fn http10_clients_get_no_interim_answer() {
    let origin =
        saying("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let rig = Rig::new(&[&origin]).await;
    let reply = rig.agent.wire().await.exchange("GET http://a.test/ HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(reply.informational.is_empty());
    assert_eq!(reply.status(), 200);
}

#[tokio::test]
async fn a_flood_of_interim_answers_is_cut() {
    let script = |mut wire: clauderon_testkit::bytes::Wire| async move {
        while wire.request().await.is_some() {
            for _ in 0..500 {
                wire.send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n").await;
                tokio::task::yield_now().await;
            }
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    };
    let origin = Origin::http("a.test").script(script).start().await;
    let rig = Rig::new(&[&origin]).await;
    let reply = rig.agent.wire().await.exchange(GET).await.unwrap();
    assert!((1..=32).contains(&reply.informational.len()), "{}", reply.informational.len());
}

#[tokio::test]
async fn a_refused_head_over_http2_has_no_body() {
    let rig = Rig::new(&[]).await;
    let mut frames = rig.agent.frames("127.0.0.1").await;
    let request = Request::builder().method(Method::HEAD).uri("https://127.0.0.1/x").body(()).unwrap();
    let (response, _) = frames.send_request(request, true).unwrap();
    let response = within("the refusal", response).await.unwrap();
    assert_eq!(response.status(), 403);
    let mut body = response.into_body();
    assert!(within("the end", body.data()).await.is_none());
}

#[tokio::test]
async fn an_answer_with_trailers_is_whole_and_frees_its_connection() {
    let script = |mut wire: clauderon_testkit::bytes::Wire| async move {
        let answer =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n";
        while wire.request().await.is_some() && wire.try_send(answer).await {}
    };
    let origin = Origin::https("a.test").h1_only().script(script).start().await;
    let rig = Rig::new(&[&origin]).await;
    let mut client = rig.agent.h2("a.test").await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "ok");
    }
    assert_eq!(origin.log().connections(), 1);
    for record in rig.recorded(3).await {
        assert!(record["error"].is_null(), "{record}");
    }
}

#[tokio::test]
async fn what_an_origin_says_when_it_goes_away_is_not_repeated() {
    let script = |mut wire: clauderon_testkit::bytes::Wire| async move {
        wire.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
        wire.exactly(24).await;
        until_headers(&mut wire).await;
        let mut frame = vec![0, 0, u8::try_from(8 + SECRET.len()).unwrap(), 7, 0, 0, 0, 0, 0];
        frame.extend([0, 0, 0, 0, 0, 0, 0, 1]);
        frame.extend(SECRET.as_bytes());
        wire.send(frame).await;
        wire.rest().await;
    };
    let origin = Origin::https("a.test").h2_only().script(script).start().await;
    let rig = Rig::new(&[&origin]).await;
    let answered = rig.agent.h2("a.test").await.get("/").await;
    assert_eq!(answered.status, 502);
    rig.agent.sightings().assert_free_of(&[SECRET.to_owned()]);
    let records = rig.recorded(1).await;
    assert!(!format!("{records:?}").contains(SECRET), "{records:?}");
}

/// Reads frames up to the first HEADERS.
async fn until_headers(wire: &mut clauderon_testkit::bytes::Wire) {
    loop {
        let head = wire.exactly(9).await.unwrap();
        wire.exactly(usize::from(head[1]) << 8 | usize::from(head[2])).await.unwrap();
        if head[3] == 1 {
            return;
        }
    }
}

#[tokio::test]
async fn trailers_lose_what_heads_lose() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nAlt-Svc: h3=\":443\"\r\nContent-Length: 9\r\nX-Sum: 1\r\n\r\n";
    let origin = saying(answer).await;
    let rig = Rig::new(&[&origin]).await;
    let reply = rig.agent.wire().await.exchange(GET).await.unwrap();
    assert_eq!(reply.trailers, [("x-sum".to_owned(), "1".to_owned())]);
}

#[tokio::test]
async fn an_empty_answer_over_http2_declares_no_length() {
    let script = |mut wire: clauderon_testkit::bytes::Wire| async move {
        while wire.request().await.is_some() {
            wire.send("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n").await;
        }
    };
    let origin = Origin::https("a.test").h1_only().script(script).start().await;
    let rig = Rig::new(&[&origin]).await;
    let answered = rig.agent.h2("a.test").await.get("/").await;
    assert_eq!((answered.status.as_u16(), answered.field("content-length")), (204, None));
}
