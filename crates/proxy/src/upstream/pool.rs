//! Upstream connections kept for the next request: by session and origin, so that two sessions never share one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use clauderon_core::host::Origin;
use clauderon_core::session::SessionId;
use http::HeaderValue;
use tokio::time::Instant;

use super::http1::Http1;
use super::http2::Http2;

/// All buckets.
#[derive(Default)]
pub(crate) struct Pool(Mutex<HashMap<(SessionId, Origin, Identity), Arc<Bucket>>>);

/// As whom connections were made, where the connection itself says so: 0 is nobody.
pub(crate) type Identity = u64;

/// One session's connections to one origin. A tunnel holds its bucket, so the warm path looks nothing up.
#[derive(Default)]
pub(crate) struct Bucket {
    /// Last in, first out: the warmest connection first, the others may go idle.
    idle: Mutex<Vec<Http1>>,
    /// The origin, as a `Host` field spells it.
    authority: OnceLock<HeaderValue>,
    /// With the moment it was last asked for.
    http2: Mutex<Option<(Http2, Instant)>>,
    /// Only one request at a time finds out whether the origin speaks HTTP/2 (single flight).
    pub(crate) negotiating: tokio::sync::Mutex<Spoken>,
}

/// What is known of an origin's protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Spoken {
    /// Nobody has asked.
    #[default]
    Unknown,
    /// It chose `h2`.
    Http2,
    /// It was offered `h2` and did not choose it.
    Http1,
}

impl Pool {
    /// The bucket of a session and an origin.
    pub(crate) fn bucket(&self, session: &SessionId, origin: &Origin) -> Arc<Bucket> {
        self.bucket_as(session, origin, 0)
    }

    /// The bucket of connections that a session has to an origin as somebody.
    pub(crate) fn bucket_as(&self, session: &SessionId, origin: &Origin, identity: Identity) -> Arc<Bucket> {
        lock(&self.0).entry((session.clone(), origin.clone(), identity)).or_default().clone()
    }

    /// Closes a session's idle connections and forgets its buckets.
    pub(crate) fn evict(&self, session: &SessionId) {
        lock(&self.0).retain(|(owner, ..), bucket| {
            let keep = owner != session;
            if !keep {
                bucket.clear();
            }
            keep
        });
    }

    /// Closes connections that have idled too long by `now`, and forgets buckets nobody holds.
    pub(crate) fn sweep(&self, now: Instant) {
        lock(&self.0).retain(|_, bucket| {
            bucket.sweep(now);
            Arc::strong_count(bucket) > 1 || !bucket.is_empty()
        });
    }
}

impl Bucket {
    /// The `Host` field of requests to `origin`, whose bucket this is.
    pub(crate) fn authority(&self, origin: &Origin) -> &HeaderValue {
        let spelled = || HeaderValue::try_from(origin.authority()).expect("a host and a port are visible ASCII");
        self.authority.get_or_init(spelled)
    }

    /// The most recently used connection that still works.
    pub(crate) fn take_http1(&self) -> Option<Http1> {
        loop {
            let mut connection = lock(&self.idle).pop()?;
            if connection.idle_since.elapsed() < IDLE_TIMEOUT && connection.is_ready() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for the next request.
    pub(crate) fn give_back(&self, mut connection: Http1) {
        connection.idle_since = Instant::now();
        let mut idle = lock(&self.idle);
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }

    /// The shared HTTP/2 connection, if one is open.
    pub(crate) fn http2(&self) -> Option<Http2> {
        let mut http2 = lock(&self.http2);
        let (connection, asked) = http2.as_mut()?;
        *asked = Instant::now();
        Some(connection.clone())
    }

    /// Replaces or forgets the shared HTTP/2 connection.
    pub(crate) fn set_http2(&self, connection: Option<Http2>) {
        *lock(&self.http2) = connection.map(|connection| (connection, Instant::now()));
    }

    fn clear(&self) {
        lock(&self.idle).clear();
        self.set_http2(None);
    }

    fn sweep(&self, now: Instant) {
        let is_fresh = |since: Instant| now.duration_since(since) < IDLE_TIMEOUT;
        lock(&self.idle).retain_mut(|connection| is_fresh(connection.idle_since) && connection.is_ready());
        // Streams still open keep their connection until they end; without one it closes now.
        lock(&self.http2).take_if(|(_, asked)| !is_fresh(*asked));
    }

    fn is_empty(&self) -> bool {
        lock(&self.idle).is_empty() && lock(&self.http2).is_none()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves these collections whole: every change is a single push, pop or replace.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often [`Pool::sweep`] is called.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(15);

/// Shorter than the idle limits of common servers, so that we close before they do.
const IDLE_TIMEOUT: Duration = Duration::from_secs(55);

/// More idle connections than this to one origin serve nobody.
const MAX_IDLE: usize = 32;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::upstream::dial::Dialed;

    #[tokio::test]
    async fn an_idle_http2_connection_is_closed_and_its_bucket_forgotten() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialed = Dialed::Plain(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        let mut origin = h2::server::handshake(listener.accept().await.unwrap().0);
        let (pool, session) = (Pool::default(), SessionId::parse("7f3a9c21").unwrap());
        let origin_name = clauderon_core::host::Authority::parse("a.test").unwrap();
        let bucket = pool.bucket(&session, &origin_name.origin(clauderon_core::host::Scheme::Https));
        bucket.set_http2(Some(Http2::open(dialed).await.unwrap().0));
        pool.sweep(Instant::now());
        assert!(bucket.http2().is_some());
        drop(bucket);
        pool.sweep(Instant::now() + IDLE_TIMEOUT);
        assert!(lock(&pool.0).is_empty());
        let mut served = std::pin::Pin::new(&mut origin).await.unwrap();
        assert!(!matches!(served.accept().await, Some(Ok(_))));
    }
}
