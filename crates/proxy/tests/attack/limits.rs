//! What one session may hold, and how soon it must let go.

use std::time::Duration;

use clauderon_core::access::AccessMode;
use clauderon_testkit::bytes::Wire;
use clauderon_testkit::origin::Origin;
use clauderon_testkit::wait::within;

use crate::rig::Rig;

const GET: &str = "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[tokio::test]
async fn a_session_has_no_more_connections_than_its_share() {
    let origin = Origin::http("a.test").reply("/*", "ok").start().await;
    let rig = Rig::with(&[&origin], AccessMode::ReadWrite, |settings| {
        settings.limits.max_connections_per_session = 2;
    })
    .await;
    let (mut first, mut second) = (rig.agent.wire().await, rig.agent.wire().await);
    assert_eq!(first.exchange(GET).await.unwrap().status(), 200);
    assert_eq!(second.exchange(GET).await.unwrap().status(), 200);
    let refused = rig.agent.wire().await.exchange(GET).await.unwrap();
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.head.field("x-clauderon-error"), Some("too_busy"));
    drop(first);
    for _ in 0..1000 {
        if rig.agent.wire().await.exchange(GET).await.unwrap().status() == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a place was lost");
}

#[tokio::test]
async fn a_tunnel_takes_one_place() {
    let rig = Rig::with(&[], AccessMode::ReadWrite, |settings| settings.limits.max_connections_per_session = 2).await;
    let _first = rig.agent.connect("a.test:443").await.ok().unwrap();
    let _second = rig.agent.connect("a.test:443").await.ok().unwrap();
    let refused = rig.agent.wire().await.exchange("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n").await;
    assert_eq!(refused.unwrap().status(), 503);
}

#[tokio::test]
async fn an_evicted_session_is_cut_off_amid_a_plain_answer() {
    let origin = silent().await;
    let rig = Rig::new(&[&origin]).await;
    let mut wire = rig.agent.wire().await;
    wire.send(GET).await;
    wire.until(b"ok\r\n").await.unwrap();
    rig.proxy.evict(&rig.session);
    assert_eq!(wire.rest().await, b"");
}

#[tokio::test]
async fn a_silent_tunnel_does_not_hold_up_the_end() {
    let mut rig = Rig::new(&[]).await;
    let _silent = rig.agent.connect("a.test:443").await.ok().unwrap();
    assert!(rig.drain(Duration::from_secs(8)).await, "the drain waited for a client that says nothing");
}

#[tokio::test]
async fn an_idle_http2_client_that_answers_no_ping_is_closed() {
    let origin = Origin::https("a.test").reply("/*", "ok").start().await;
    let rig = Rig::with(&[&origin], AccessMode::ReadWrite, |settings| {
        settings.limits.idle_timeout = Duration::from_millis(200);
    })
    .await;
    let mut wire = rig.agent.tls("a.test", &["h2"]).await;
    wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    within("the connection's end", wire.rest()).await;
}

#[tokio::test]
async fn a_session_known_by_its_token_is_cut_off_as_well() {
    let origin = silent().await;
    let rig = Rig::new(&[&origin]).await;
    let mut wire = rig.tcp().await;
    // The connection is well under way before it is known whose it is.
    assert_eq!(wire.exchange("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap().status(), 200);
    let authorization = rig.authorization();
    wire.send(format!("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n{authorization}\r\n")).await;
    wire.until(b"ok\r\n").await.unwrap();
    rig.proxy.evict(&rig.session);
    assert_eq!(wire.rest().await, b"");
}

/// An origin that begins every answer and ends none.
async fn silent() -> Origin {
    let script = |mut wire: Wire| async move {
        wire.request().await;
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n").await;
        wire.rest().await;
    };
    Origin::http("a.test").script(script).start().await
}
