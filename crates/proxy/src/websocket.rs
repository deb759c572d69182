//! WebSocket (RFC 6455): the handshake is a request like any other, what follows is relayed and counted.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::inject::Injected;
use http::header::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use crate::body::{Body, Observed};
use crate::downstream::stream::Stream;
use crate::forward::Route;
use crate::http1::head::{lists, malformed};
use crate::respond::Answered;
use crate::scrub::Scrub;
use crate::scrub::frames::FrameScrubber;
use crate::upstream::http1::Upgraded;

/// The origin's side of an accepted handshake.
pub(crate) struct Opened {
    pub(crate) origin: Upgraded,
    /// Takes the secret of the handshake out of what the origin sends.
    pub(crate) scrub: Option<Scrub>,
}

/// The key of a WebSocket handshake; `None` for requests that stay in HTTP. Any other upgrade is refused, and so is a body
/// ahead of the frames: what is left of it would be taken for some.
pub(crate) fn asks(parts: &Parts, body: &Body) -> Result<Option<HeaderValue>, Denial> {
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
    if !body.is_end_stream() {
        return Err(malformed("a WebSocket handshake with a body"));
    }
    let version = parts.headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let key = parts.headers.get(SEC_WEBSOCKET_KEY).filter(|_| version && parts.method == Method::GET);
    key.cloned().map(Some).ok_or_else(|| malformed("a WebSocket handshake without key or version"))
}

/// Without extensions frames stay plain, so that they can be read on the way.
pub(crate) fn without_extensions(headers: &mut HeaderMap) {
    headers.remove(SEC_WEBSOCKET_EXTENSIONS);
}

/// Forwards a handshake. A 101 counts only if it answers this very request.
pub(crate) async fn upgrade(route: &Route<'_>, injected: Injected, key: &HeaderValue) -> Result<Answered, Denial> {
    let (mut response, upgraded) = route.upgrade(injected, HeaderValue::from_static("websocket")).await?;
    let Some(upgraded) = upgraded else { return Ok(Answered::plain(response)) };
    let headers = response.headers_mut();
    let to_websocket = headers.get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let accepts =
        headers.get(SEC_WEBSOCKET_ACCEPT).is_some_and(|accept| accept.as_bytes() == accept_of(key).as_bytes());
    if !to_websocket || !accepts {
        let message = format!("{} answered 101 to something that was not asked", route.origin.host);
        return Err(Denial::new(DenialCode::UpstreamProtocol, message));
    }
    if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        let message = format!("{} uses WebSocket extensions that were not offered", route.origin.host);
        return Err(Denial::new(DenialCode::UpstreamProtocol, message));
    }
    crate::headers::strip_response(headers);
    headers.remove(CONTENT_LENGTH);
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
pub(crate) async fn relay(agent: Stream, ahead: Bytes, opened: Opened, mut account: Observed) {
    let sent = account.sent();
    let Opened { origin, scrub } = opened;
    let frames = scrub.as_ref().map(FrameScrubber::new);
    let count_sent = |n: usize| {
        sent.count(n);
    };
    let ends = Ends { agent, ahead, origin, frames, last_words: LAST_WORDS };
    match join(ends, count_sent, |n| account.received(n)).await {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => account.failed(&error),
        Ok(()) | Err(_) => account.finished(),
    }
}

/// What a relay stands between.
struct Ends<A, O> {
    agent: A,
    /// Already read from the agent.
    ahead: Bytes,
    origin: O,
    /// What the origin's frames go through.
    frames: Option<FrameScrubber>,
    /// How long a side may be silent when the other has ended.
    last_words: Duration,
}

async fn join<A, O>(ends: Ends<A, O>, mut count_up: impl FnMut(usize), count_down: impl FnMut(usize)) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite,
    O: AsyncRead + AsyncWrite,
{
    let Ends { agent, ahead, origin, frames, last_words } = ends;
    let (mut agent_reads, mut agent_writes) = tokio::io::split(agent);
    let (mut origin_reads, mut origin_writes) = tokio::io::split(origin);
    let alone = Alone { since: CancellationToken::new(), last_words };
    let up = async {
        if !ahead.is_empty() {
            origin_writes.write_all(&ahead).await?;
            origin_writes.flush().await?;
            count_up(ahead.len());
        }
        pump(&mut agent_reads, &mut origin_writes, &alone, None, count_up).await
    };
    let down = pump(&mut origin_reads, &mut agent_writes, &alone, frames, count_down);
    // A side that fails ends the other; a side that merely finishes leaves it to say its last words.
    tokio::try_join!(up, down).map(|_| ())
}

/// Copies until `from` ends, or falls silent after the other direction has ended.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    alone: &Alone,
    mut frames: Option<FrameScrubber>,
    mut count: impl FnMut(usize),
) -> io::Result<()> {
    let mut buffer = vec![0; RELAY_BUFFER];
    loop {
        let n = tokio::select! {
            biased;
            n = from.read(&mut buffer) => n?,
            () = alone.silence() => 0,
        };
        if n == 0 {
            alone.since.cancel();
            return to.shutdown().await;
        }
        let bytes = buffer.get(..n).unwrap_or_default();
        let bytes = match &mut frames {
            Some(frames) => Cow::Owned(frames.push(bytes)?),
            None => Cow::Borrowed(bytes),
        };
        to.write_all(&bytes).await?;
        to.flush().await?;
        count(bytes.len());
    }
}

/// Told to the direction that is left when the other has ended.
struct Alone {
    since: CancellationToken,
    last_words: Duration,
}

impl Alone {
    async fn silence(&self) {
        self.since.cancelled().await;
        tokio::time::sleep(self.last_words).await;
    }
}

/// One TLS record: what arrives together is passed on together.
const RELAY_BUFFER: usize = 16 * 1024;

/// An origin that never closes must not keep a connection whose agent is gone.
const LAST_WORDS: Duration = Duration::from_secs(10);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_origin_that_never_closes_does_not_keep_the_relay() {
        let (mut agent, near_agent) = tokio::io::duplex(64);
        let (mut origin, near_origin) = tokio::io::duplex(64);
        let (mut up, mut down) = (0, 0);
        let ends = Ends {
            agent: near_agent,
            ahead: Bytes::from_static(b"ahead"),
            origin: near_origin,
            frames: None,
            last_words: Duration::from_millis(200),
        };
        let relay = join(ends, |n| up += n, |n| down += n);
        let talk = async {
            agent.write_all(b"last").await.unwrap();
            agent.shutdown().await.unwrap();
            origin.write_all(b"more").await.unwrap();
            let mut said = Vec::new();
            agent.read_to_end(&mut said).await.unwrap();
            assert_eq!(said, b"more");
        };
        tokio::join!(relay, talk).0.unwrap();
        let mut heard = Vec::new();
        origin.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"aheadlast");
        assert_eq!((up, down), (9, 4));
    }
}
