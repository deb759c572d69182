//! Connections that are used again.

use std::sync::Arc;

use clauderon_core::access::AccessMode;
use clauderon_testkit::bytes::Wire;
use clauderon_testkit::origin::Origin;
use tokio::sync::Barrier;

use crate::rig::Rig;

#[tokio::test]
async fn a_get_outlives_a_pool_of_dead_connections() {
    const POOLED: usize = 8;
    let together = Arc::new(Barrier::new(POOLED));
    let script = move |mut wire: Wire| {
        let together = Arc::clone(&together);
        async move {
            let Some((head, _)) = wire.request().await else { return };
            if !head.start.contains("/fresh") {
                together.wait().await;
            }
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            // It looks alive until it is used.
            wire.request().await;
            wire.reset();
        }
    };
    let origin = Origin::http("a.test").script(script).start().await;
    let rig = Rig::new(&[&origin]).await;
    let get = |path: &'static str| {
        let agent = rig.agent.clone();
        async move {
            let request = format!("GET http://a.test{path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
            agent.wire().await.exchange(request).await.unwrap().status()
        }
    };
    let warm = futures_util::future::join_all((0..POOLED).map(|_| get("/warm"))).await;
    assert_eq!(warm, [200; POOLED]);
    assert_eq!(get("/fresh").await, 200);
    assert_eq!(rig.recorded(POOLED + 1).await.len(), POOLED + 1);
}

#[tokio::test]
async fn a_dead_http2_connection_costs_one_request_only() {
    // The first connection takes requests and never answers; the others are served.
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let script = move |wire: Wire| {
        let nth = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move {
            let mut served = h2::server::handshake(wire).await.unwrap();
            let mut held = Vec::new();
            while let Some(Ok((request, mut respond))) = served.accept().await {
                if nth == 0 {
                    held.push((request, respond));
                } else {
                    respond.send_response(http::Response::new(()), true).unwrap();
                }
            }
        }
    };
    let origin = Origin::https("a.test").h2_only().script(script).start().await;
    let rig = Rig::with(&[&origin], AccessMode::ReadWrite, |settings| {
        settings.upstream.response_timeout = std::time::Duration::from_secs(1);
    })
    .await;
    let mut client = rig.agent.h2("a.test").await;
    assert_eq!(client.get("/").await.status, 504);
    assert_eq!(client.get("/").await.status, 200);
}
