//! What reached an origin.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Method, Version};

use crate::wait;

/// Everything an origin saw.
#[derive(Default)]
pub struct Log {
    requests: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    bytes: AtomicUsize,
}

/// One request as the origin saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The method.
    pub method: Method,
    /// Path and query as sent.
    pub target: String,
    /// `:authority` or `Host`.
    pub authority: String,
    /// The protocol version.
    pub version: Version,
    /// All fields.
    pub headers: HeaderMap,
    /// The connection it came on, counted from 1.
    pub connection: usize,
    /// The body so far (kept up to 8 MiB; streaming answers record nothing).
    pub body: Bytes,
    /// Body bytes received.
    pub body_len: u64,
    /// Trailers, if any came.
    pub trailers: Option<HeaderMap>,
    /// Whether the body ended well.
    pub complete: bool,
}

impl Seen {
    /// The only value of a field; panics when it occurs more than once.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next();
        assert!(values.next().is_none(), "{name} arrived more than once: {:?}", self.headers);
        first.map(|value| value.to_str().expect("test fields are text"))
    }
}

impl Log {
    /// All requests so far.
    pub fn requests(&self) -> Vec<Seen> {
        self.requests.lock().expect("no holder panics").clone()
    }

    /// How many requests came.
    pub fn count(&self) -> usize {
        self.requests.lock().expect("no holder panics").len()
    }

    /// The one request that came; panics when there were none or more.
    pub fn only(&self) -> Seen {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "exactly one request was expected, these came: {requests:#?}");
        requests.into_iter().next().expect("counted above")
    }

    /// The last request that came.
    pub fn last(&self) -> Seen {
        self.requests().pop().expect("a request came")
    }

    /// Waits until at least `count` requests came.
    pub async fn wait(&self, count: usize) -> Vec<Seen> {
        wait::until(&format!("{count} requests"), || (self.count() >= count).then(|| self.requests())).await
    }

    /// Connections that were accepted and, with TLS, completed the handshake.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Bytes a scripted origin received after the handshake.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }

    pub(crate) fn connect(&self) -> usize {
        self.connections.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn count_bytes(&self, count: usize) {
        self.bytes.fetch_add(count, Ordering::SeqCst);
    }

    pub(crate) fn push(&self, seen: Seen) -> usize {
        let mut requests = self.requests.lock().expect("no holder panics");
        requests.push(seen);
        requests.len() - 1
    }

    pub(crate) fn change(&self, index: usize, change: impl FnOnce(&mut Seen)) {
        let mut requests = self.requests.lock().expect("no holder panics");
        change(requests.get_mut(index).expect("entries are never removed"));
    }
}
