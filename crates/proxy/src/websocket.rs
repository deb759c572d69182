//! WebSocket (RFC 6455): the handshake is a request like any other, what follows is relayed and counted.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::inject::Injected;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::body::Observed;
use crate::downstream::head::{lists, malformed};
use crate::downstream::stream::Stream;
use crate::forward::Route;
use crate::respond::Answered;
use crate::upstream::http1::Upgraded;

/// The key of a WebSocket handshake; `None` for requests that stay in HTTP. Any other upgrade is refused.
pub(crate) fn asks(parts: &Parts) -> Result<Option<HeaderValue>, Denial> {
    let mut protocols = parts.headers.get_all(UPGRADE).iter();
    let Some(protocol) = protocols.next().filter(|_| parts.version == Version::HTTP_11) else { return Ok(None) };
    if !lists(&parts.headers, "upgrade") {
        // Without the Connection option the field says nothing to us (RFC 9110 § 7.8), and it is not forwarded.
        return Ok(None);
    }
    if !protocol.as_bytes().eq_ignore_ascii_case(b"websocket") || protocols.next().is_some() {
        // A client that offers h2c in passing is content with HTTP/1.1.
        let harmless = protocol.as_bytes().eq_ignore_ascii_case(b"h2c");
        let refused = || Denial::new(DenialCode::UpgradeNotAllowed, "only upgrades to WebSocket are forwarded");
        return if harmless { Ok(None) } else { Err(refused()) };
    }
    let version = parts.headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let key = parts.headers.get(SEC_WEBSOCKET_KEY).filter(|_| version && parts.method == Method::GET);
    key.cloned().map(Some).ok_or_else(|| malformed("a WebSocket handshake without key or version"))
}

/// Forwards a handshake. A 101 counts only if it answers this very request.
pub(crate) async fn upgrade(route: &Route<'_>, injected: Injected, key: &HeaderValue) -> Result<Answered, Denial> {
    let (mut response, upgraded) = route.upgrade(injected).await?;
    let Some(upgraded) = upgraded else { return Ok(Answered::plain(response)) };
    let headers = response.headers_mut();
    let to_websocket = headers.get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let accepts =
        headers.get(SEC_WEBSOCKET_ACCEPT).is_some_and(|accept| accept.as_bytes() == accept_of(key).as_bytes());
    if !to_websocket || !accepts {
        let message = format!("{} answered 101 to something that was not asked", route.origin.host);
        return Err(Denial::new(DenialCode::UpstreamProtocol, message));
    }
    crate::headers::strip_response(headers);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    debug_assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    Ok(Answered::switching(response, upgraded))
}

/// RFC 6455 § 4.2.2, step 5.4.
fn accept_of(key: &HeaderValue) -> String {
    let text = [key.as_bytes(), b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text))
}

/// Relays frames both ways until both sides have ended; `account` is the request's, and is closed with the byte counts.
pub(crate) async fn relay(agent: Stream, ahead: Bytes, origin: Upgraded, mut account: Observed) {
    let sent = account.sent();
    let (mut agent_reads, mut agent_writes) = tokio::io::split(agent);
    let (mut origin_reads, mut origin_writes) = tokio::io::split(origin);
    let up = async {
        if !ahead.is_empty() {
            sent.fetch_add(ahead.len() as u64, std::sync::atomic::Ordering::Relaxed);
            origin_writes.write_all(&ahead).await?;
        }
        pump(&mut agent_reads, &mut origin_writes, |n| {
            sent.fetch_add(n as u64, std::sync::atomic::Ordering::Relaxed);
        })
        .await
    };
    let down = pump(&mut origin_reads, &mut agent_writes, |n| account.received(n));
    // A side that fails ends the other; a side that merely finishes leaves it to say its last words.
    let _ = tokio::try_join!(up, down);
    account.finished();
}

async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut count: impl FnMut(usize),
) -> std::io::Result<()> {
    let mut buffer = vec![0; RELAY_BUFFER];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..n).unwrap_or_default()).await?;
        to.flush().await?;
        count(n);
    }
}

/// One TLS record: what arrives together is passed on together.
const RELAY_BUFFER: usize = 16 * 1024;
