//! A stand-in for a Talos node's API, and a gRPC client that is configured as talosctl is.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

mod answers;
mod client;
pub mod messages;

pub use client::TalosClient;

use crate::ca::{TestCa, client_with};

/// A running node, which lets in whoever shows a certificate of the tests' authority (or anybody, as Omni does), and grants roles
/// by the certificate's organizations.
pub struct TalosNode {
    addr: SocketAddr,
    state: Arc<State>,
    _accepting: AbortOnDropHandle<()>,
}

/// What a node keeps.
struct State {
    calls: Mutex<Vec<Seen>>,
    /// Streams that clients ended before they were over.
    cancelled: AtomicUsize,
    connections: AtomicUsize,
    grants: bool,
    /// Whether it knows callers by their certificates.
    by_certificate: bool,
}

/// A call as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The path.
    pub path: String,
    /// The metadata.
    pub metadata: HeaderMap,
    /// The roles in the certificate that was shown.
    pub roles: Vec<String>,
}

impl TalosNode {
    /// One that grants certificates for reading.
    pub async fn start() -> Self {
        Self::of_kind(true, true).await
    }

    /// One that grants none.
    pub async fn without_grants() -> Self {
        Self::of_kind(false, true).await
    }

    /// One that asks for no certificate, as Omni does.
    pub async fn omni() -> Self {
        Self::of_kind(false, false).await
    }

    async fn of_kind(grants: bool, by_certificate: bool) -> Self {
        let state = State {
            calls: Mutex::default(),
            cancelled: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            grants,
            by_certificate,
        };
        let state = Arc::new(state);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let addr = listener.local_addr().expect("it is bound");
        let names = ["127.0.0.1".to_owned()];
        let tls = match by_certificate {
            true => TestCa::shared().server_for_clients(&names, &["h2"]),
            false => TestCa::shared().server(&names, crate::ca::Certificate::Good, &["h2"]),
        };
        let accepting = tokio::spawn(accept(listener, tls, Arc::clone(&state)));
        Self { addr, state, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The calls that reached it.
    pub fn calls(&self) -> Vec<Seen> {
        self.state.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The calls of `path` that reached it.
    pub fn calls_of(&self, path: &str) -> Vec<Seen> {
        self.calls().into_iter().filter(|seen| seen.path == path).collect()
    }

    /// How many streams clients ended before they were over.
    pub fn cancelled(&self) -> usize {
        self.state.cancelled.load(Ordering::Relaxed)
    }
}

impl Seen {
    /// A field of the metadata.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A context of a talosconfig, as YAML: these endpoints, two nodes, and a certificate with `role`.
pub fn context(name: &str, endpoints: &[SocketAddr], role: &str) -> String {
    let (certificate, key) = client_with(TestCa::shared(), "ann", role);
    // As Talos itself writes it.
    let key = key.replace("PRIVATE KEY", "ED25519 PRIVATE KEY");
    let crt = format!("    crt: {}\n    key: {}\n", BASE64_STANDARD.encode(certificate), BASE64_STANDARD.encode(key));
    bare_context(name, endpoints) + &crt
}

/// The same without a certificate.
pub fn bare_context(name: &str, endpoints: &[SocketAddr]) -> String {
    let listed: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    let ca = BASE64_STANDARD.encode(TestCa::shared().pem());
    format!("  {name}:\n    endpoints: [{}]\n    nodes: [10.0.0.2, 10.0.0.3]\n    ca: {ca}\n", list(&listed))
}

/// A talosconfig whose current context is `current`.
pub fn talosconfig(current: &str, contexts: &[String]) -> String {
    format!("context: {current}\ncontexts:\n{}", contexts.concat())
}

fn list(items: &[String]) -> String {
    items.iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ")
}

async fn accept(listener: TcpListener, tls: Arc<ServerConfig>, state: Arc<State>) {
    let acceptor = TlsAcceptor::from(tls);
    // Owned here, so that aborting the acceptor closes every connection.
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(tcp).await else { return };
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "gRPC needs ALPN");
            state.connections.fetch_add(1, Ordering::Relaxed);
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let roles = Arc::new(shown.map(|shown| answers::roles(shown)).unwrap_or_default());
            let service = service_fn(move |request| {
                let (state, roles) = (Arc::clone(&state), Arc::clone(&roles));
                async move { Ok::<_, Infallible>(answers::answer(state, &roles, request).await) }
            });
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = builder.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// A service account's key as Omni hands it out, and the public key that verifies its signatures (OpenPGP, binary).
pub fn service_account() -> (String, Vec<u8>) {
    let json = serde_json::json!({ "name": ROBOT, "pgp_key": include_str!("robot.asc") });
    let inner: String = include_str!("robot.pub.asc")
        .lines()
        .filter(|line| !line.starts_with(['-', '=']) && !line.is_empty())
        .collect();
    (BASE64_STANDARD.encode(json.to_string()), BASE64_STANDARD.decode(inner).expect("the kit's own key"))
}

/// The name of the service account.
pub const ROBOT: &str = "robot@serviceaccount.omni.example";
