//! Origins: servers on loopback that answer by route or by script and remember what reached them.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Response, StatusCode};
use tokio::task::JoinHandle;

use crate::body::{Body, full};
use crate::bytes::Wire;
use crate::ca::{Certificate, TestCa};

mod call;
mod log;
mod serve;

pub use call::{Call, Collected};
pub use log::{Log, Seen};

/// Answers one request of a routed origin.
pub type Answer = Arc<dyn Fn(Call) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Plays the server's part on one connection of a scripted origin.
pub type Script = Arc<dyn Fn(Wire) -> BoxFuture<'static, ()> + Send + Sync>;

/// A running origin; it stops, connections and all, when dropped.
pub struct Origin {
    names: Vec<String>,
    port: u16,
    addr: SocketAddr,
    plain: bool,
    log: Arc<Log>,
    acceptor: JoinHandle<()>,
}

impl Origin {
    /// Begins an origin known as `https://name`.
    pub fn https(name: &str) -> OriginBuilder {
        OriginBuilder::new(name, false)
    }

    /// Begins an origin known as `http://name`.
    pub fn http(name: &str) -> OriginBuilder {
        OriginBuilder::new(name, true)
    }

    /// Its first name.
    pub fn name(&self) -> &str {
        self.names.first().expect("the builder begins with one name")
    }

    /// Where it really listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL of `path` at this origin.
    pub fn url(&self, path: &str) -> String {
        let (scheme, default) = if self.plain { ("http", 80) } else { ("https", 443) };
        let port = if self.port == default { String::new() } else { format!(":{}", self.port) };
        format!("{scheme}://{}{port}{path}", self.name())
    }

    /// `name:port = address` pairs for `upstream.resolve`.
    pub fn mappings(&self) -> Vec<(String, SocketAddr)> {
        self.names.iter().map(|name| (format!("{name}:{}", self.port), self.addr)).collect()
    }

    /// What reached it.
    pub fn log(&self) -> &Log {
        &self.log
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// What an origin shall be.
pub struct OriginBuilder {
    names: Vec<String>,
    port: u16,
    plain: bool,
    certificate: Certificate,
    asks_clients: bool,
    alpn: Vec<&'static str>,
    spec: Spec,
}

/// What the server task needs.
#[derive(Default)]
struct Spec {
    required: Vec<(String, String)>,
    routes: HashMap<String, Answer>,
    script: Option<Script>,
}

impl OriginBuilder {
    fn new(name: &str, plain: bool) -> Self {
        let alpn = vec!["h2", "http/1.1"];
        let port = if plain { 80 } else { 443 };
        let certificate = Certificate::Good;
        Self { names: vec![name.into()], port, plain, certificate, asks_clients: false, alpn, spec: Spec::default() }
    }

    /// Gives it a further name.
    #[must_use]
    pub fn also(mut self, name: &str) -> Self {
        self.names.push(name.into());
        self
    }

    /// Makes clients reach it at `port`, not the scheme's own.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Offers HTTP/1.1 only.
    #[must_use]
    pub fn h1_only(mut self) -> Self {
        self.alpn = vec!["http/1.1"];
        self
    }

    /// Offers HTTP/2 only.
    #[must_use]
    pub fn h2_only(mut self) -> Self {
        self.alpn = vec!["h2"];
        self
    }

    /// Shows another certificate.
    #[must_use]
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificate = certificate;
        self
    }

    /// Shakes hands only with clients that show a certificate of the tests' authority.
    #[must_use]
    pub fn clients_with_certificates(mut self) -> Self {
        self.asks_clients = true;
        self
    }

    /// Answers 401 to every request that does not carry exactly one field `name` with exactly `value`.
    #[must_use]
    pub fn require(mut self, name: &str, value: &str) -> Self {
        self.spec.required.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// Answers `path` (any method; a trailing `*` means everything that begins so).
    #[must_use]
    pub fn route<F, T>(mut self, path: &str, answer: F) -> Self
    where
        F: Fn(Call) -> T + Send + Sync + 'static,
        T: Future<Output = Response<Body>> + Send + 'static,
    {
        self.spec.routes.insert(path.into(), Arc::new(move |call| Box::pin(answer(call))));
        self
    }

    /// Answers every path with 200 and `text`, having read the whole request.
    #[must_use]
    pub fn reply(self, path: &str, text: &'static str) -> Self {
        self.route(path, move |call| async move {
            call.collect().await;
            Response::new(full(text))
        })
    }

    /// Plays `script` on every connection instead of speaking HTTP (HTTP/1.1 by ALPN unless told otherwise).
    #[must_use]
    pub fn script<F, T>(mut self, script: F) -> Self
    where
        F: Fn(Wire) -> T + Send + Sync + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        self.spec.script = Some(Arc::new(move |wire| Box::pin(script(wire))));
        self
    }

    /// Starts it.
    pub async fn start(self) -> Origin {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let log = Arc::new(Log::default());
        let ca = TestCa::shared();
        let tls = (!self.plain).then(|| match self.asks_clients {
            true => ca.server_for_clients(&self.names, &self.alpn),
            false => ca.server(&self.names, self.certificate, &self.alpn),
        });
        let server = serve::Server::new(self.spec, tls, Arc::clone(&log));
        let acceptor = tokio::spawn(serve::accept(listener, server));
        Origin { names: self.names, port: self.port, addr, plain: self.plain, log, acceptor }
    }
}

/// A 200 with these bytes.
pub fn ok(bytes: impl Into<bytes::Bytes>) -> Response<Body> {
    Response::new(full(bytes))
}

/// An answer with this status and text.
pub fn status(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    response
}

/// The same answer with one more field.
pub fn with_field(mut response: Response<Body>, name: &'static str, value: &str) -> Response<Body> {
    response.headers_mut().append(name, value.parse().expect("test fields are valid"));
    response
}
