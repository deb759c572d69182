//! The data path: accept, intercept, decide, inject, forward, record

use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use bytes::Bytes;
use clauderon_core::config::Settings;
use clauderon_core::denial::Denial;
use clauderon_core::host::Origin;
use clauderon_core::session::SessionId;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

pub use crate::accept::Door;
use crate::audit::AuditLog;
use crate::derived::DerivedTokens;
use crate::drain::Drain;
use crate::exchange::Exchange;
use crate::gateway::Gateway;
use crate::gateway::access::Clusters;
use crate::gateway::kubernetes::cluster::Cluster;
use crate::gateway::talos::cluster::TalosCluster;
use crate::session::{Seat, Seats};
use crate::snapshot::{SecretBook, Snapshot};
use crate::tls::ca::Issuer;
use crate::tls::leaf::{LeafCache, LeafError};
use crate::upstream::dial::Reach;
use crate::upstream::pool::{Pool, SWEEP_EVERY};

mod accept;
pub mod audit;
mod body;
mod buffer;
mod connection;
mod deadline;
mod derived;
mod downstream;
pub mod drain;
pub mod errand;
mod exchange;
mod forward;
mod forwarded;
pub mod gateway;
mod h2_body;
mod headers;
pub mod http1;
mod intercept;
mod interim;
mod peer;
mod pipeline;
mod renewal;
mod respond;
mod scrub;
mod session;
pub mod snapshot;
mod target;
pub mod tls;
mod upstream;
mod websocket;

/// Whether `origin` may be dialled, as far as that is known before its name is resolved; for `explain`.
pub fn vet(origin: &Origin, settings: &Settings) -> Result<(), Denial> {
    upstream::dial::vet(origin, settings)
}

/// The proxy: what all its listeners and connections share.
pub struct Proxy {
    leaves: LeafCache,
    kubernetes_leaves: LeafCache,
    talos_leaves: LeafCache,
    kubernetes: Arc<dyn Clusters<Cluster>>,
    talos: Arc<dyn Clusters<TalosCluster>>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    secrets: Arc<dyn SecretBook>,
    audit: AuditLog,
    local: Arc<dyn LocalService>,
    /// Addresses that lead back to the daemon; never dialled.
    own_listeners: Vec<SocketAddr>,
    pool: Pool,
    seats: Seats,
    derived: DerivedTokens,
    connections: Arc<Semaphore>,
    /// Makes request ids unique across restarts.
    run: String,
    requests: AtomicU64,
}

/// What a proxy is made of.
pub struct ProxyParts {
    /// Signs the leaves agents see.
    pub issuer: Arc<Issuer>,
    /// What requests are decided on; swapped whole.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Where secrets come from.
    pub secrets: Arc<dyn SecretBook>,
    /// Where requests are written down.
    pub audit: AuditLog,
    /// The clusters behind the Kubernetes gateway.
    pub kubernetes: Arc<dyn Clusters<Cluster>>,
    /// The clusters behind the Talos gateway.
    pub talos: Arc<dyn Clusters<TalosCluster>>,
    /// The daemon's own HTTP service on the proxy port.
    pub local: Arc<dyn LocalService>,
    /// Every address the daemon listens on.
    pub own_listeners: Vec<SocketAddr>,
}

impl Proxy {
    /// A proxy that listens nowhere yet. Must be called inside a tokio runtime.
    pub fn new(parts: ProxyParts) -> Result<Arc<Self>, LeafError> {
        let limit = parts.snapshot.load().settings.limits.max_connections;
        let proxy = Arc::new(Self {
            leaves: LeafCache::new(parts.issuer.clone())?,
            kubernetes_leaves: LeafCache::for_gateway(parts.issuer.clone(), &["h2", "http/1.1"])?,
            talos_leaves: LeafCache::for_gateway(parts.issuer, &["h2"])?,
            kubernetes: parts.kubernetes,
            talos: parts.talos,
            snapshot: parts.snapshot,
            secrets: parts.secrets,
            audit: parts.audit,
            local: parts.local,
            own_listeners: parts.own_listeners,
            pool: Pool::default(),
            seats: Seats::default(),
            derived: DerivedTokens::default(),
            connections: Arc::new(Semaphore::new(limit)),
            run: format!("{:016x}-", RandomState::new().build_hasher().finish()),
            requests: AtomicU64::new(0),
        });
        tokio::spawn(sweep(Arc::downgrade(&proxy)));
        Ok(proxy)
    }

    /// Serves a TCP port until the drain begins: the proxy, and the daemon's own service for origin-form requests.
    pub async fn serve_tcp(self: &Arc<Self>, listener: TcpListener, drain: Drain) {
        accept::tcp(self.clone(), listener, Door::Proxy, drain).await;
    }

    /// Serves a session's socket until the drain begins or the session is evicted; it speaks to what is behind `door` only.
    pub async fn serve_unix(self: &Arc<Self>, listener: UnixListener, session: SessionId, door: Door, drain: Drain) {
        accept::unix(self.clone(), listener, session, door, drain).await;
    }

    /// Serves a gateway's TCP port until the drain begins.
    pub async fn serve_gateway_tcp(self: &Arc<Self>, gateway: Gateway, listener: TcpListener, drain: Drain) {
        accept::tcp(self.clone(), listener, Door::Gateway(gateway), drain).await;
    }

    /// What each session has done since the daemon started.
    pub fn counters(&self) -> Counters {
        self.seats.counters()
    }

    /// Ends a session's traffic: its connections close, its pooled upstream connections too, and its derived tokens are forgotten.
    pub fn evict(&self, session: &SessionId) {
        self.seats.revoke(session);
        self.derived.end(session);
        self.pool.evict(session);
    }

    /// Ends the traffic of all sessions at once; what was under way is recorded as cut off.
    pub fn cut(&self) {
        self.seats.revoke_all();
    }

    /// The certificates that a gateway shows.
    fn leaves_of(&self, gateway: Gateway) -> &LeafCache {
        match gateway {
            Gateway::Kubernetes => &self.kubernetes_leaves,
            Gateway::Talos => &self.talos_leaves,
        }
    }

    fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// How origins are reached that an agent names.
    fn reach<'a>(&'a self, snapshot: &'a Snapshot) -> Reach<'a> {
        let Snapshot { settings, upstream_tls, .. } = snapshot;
        Reach { tls: upstream_tls, settings, own_listeners: &self.own_listeners, named: None }
    }

    /// Opens a request's account.
    fn exchange(&self, seat: Option<&Arc<Seat>>) -> Exchange {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        Exchange::open(&self.audit, seat, request_id(&self.run, number))
    }

    /// The account of what never enters the data path, with the session's name if it still has one.
    fn exchange_aside(&self, seat: Option<&Arc<Seat>>) -> Exchange {
        let mut exchange = self.exchange(seat);
        let snapshot = self.snapshot();
        if let Some(session) = seat.and_then(|seat| snapshot.sessions.by_id(&seat.id)) {
            exchange.of_session(session);
        }
        exchange
    }
}

/// The run and the request's number in hexadecimal.
fn request_id(run: &str, number: u64) -> String {
    let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1);
    let digit = |place| char::from_digit(u32::try_from(number >> (4 * place) & 15).ok()?, 16);
    let mut id = String::with_capacity(run.len() + 16);
    id.push_str(run);
    id.extend((0..digits).rev().filter_map(digit));
    id
}

/// Closes idle upstream connections and forgets ended tokens for as long as the proxy exists.
async fn sweep(proxy: Weak<Proxy>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let Some(proxy) = proxy.upgrade() else { return };
        proxy.pool.sweep(tokio::time::Instant::now());
        proxy.derived.sweep();
    }
}

/// Any failure of a body on its way.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body of the daemon's own HTTP service.
pub type LocalBody = UnsyncBoxBody<Bytes, BoxError>;

/// The daemon's own HTTP service on the proxy port: `/health`, the API, the dashboard (origin-form requests).
pub trait LocalService: Send + Sync + 'static {
    /// Answers a request that was sent to the daemon itself.
    fn call(&self, request: Request<LocalBody>) -> Pin<Box<dyn Future<Output = Response<LocalBody>> + Send + '_>>;
}

/// Requests, denials and placeholder sightings of each session since the daemon started.
pub type Counters = HashMap<SessionId, SessionCounters>;

/// One session's counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionCounters {
    /// Requests, denied ones included.
    pub requests: u64,
    /// Requests that were refused.
    pub denials: u64,
    /// Placeholders seen where they do not belong.
    pub alarms: u64,
}
