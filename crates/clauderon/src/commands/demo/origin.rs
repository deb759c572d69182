//! The stand-in origin: a TLS server on loopback that writes down what arrives.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::error::Result;

/// What the stand-in answers; it repeats nothing of the request.
pub(in crate::commands) const ANSWER: &str = r#"{"login":"octocat","id":583231}"#;

/// A running stand-in.
pub(in crate::commands) struct Origin {
    address: SocketAddr,
    root_pem: String,
    seen: Log,
    task: AbortHandle,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(in crate::commands) struct Seen {
    pub(in crate::commands) method: String,
    pub(in crate::commands) path: String,
    pub(in crate::commands) authorization: Option<String>,
}

type Log = Arc<Mutex<Vec<Seen>>>;

impl Origin {
    /// Starts a stand-in for `host` with a root of its own.
    pub(in crate::commands) async fn start(host: &str) -> Result<Self> {
        let (root_pem, config) = identity(host)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (address, seen) = (listener.local_addr()?, Log::default());
        let task = tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), Arc::clone(&seen)));
        Ok(Self { address, root_pem, seen, task: task.abort_handle() })
    }

    /// Where it listens.
    pub(in crate::commands) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The root that its certificate chains to.
    pub(in crate::commands) fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Every request so far.
    pub(in crate::commands) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, seen: Log) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, acceptor.clone(), Arc::clone(&seen)));
    }
}

async fn answer(stream: TcpStream, acceptor: TlsAcceptor, seen: Log) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(|request: Request<Incoming>| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(Seen::of(&request));
        let response = Response::builder().header(header::CONTENT_TYPE, "application/json");
        async move { response.body(Full::new(Bytes::from_static(ANSWER.as_bytes()))) }
    });
    // A connection that breaks shows in what the agent gets.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl Seen {
    fn of(request: &Request<Incoming>) -> Self {
        let authorization = request.headers().get(header::AUTHORIZATION);
        Self {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            authorization: authorization.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        }
    }
}

/// A root, and a server's configuration with a leaf for `host` under it.
fn identity(host: &str) -> Result<(String, ServerConfig)> {
    let root_key = KeyPair::generate()?;
    let mut root = CertificateParams::new(Vec::new())?;
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root_pem = root.self_signed(&root_key)?.pem();
    let leaf_key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec![host.to_owned()])?.signed_by(&leaf_key, &Issuer::new(root, root_key))?;
    Ok((root_pem, server(leaf.der().clone(), &leaf_key)?))
}

fn server(leaf: CertificateDer<'static>, key: &KeyPair) -> Result<ServerConfig> {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![leaf], key.into())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
