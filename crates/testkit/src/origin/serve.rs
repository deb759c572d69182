//! The server side: accept, handshake, route or script.

use std::convert::Infallible;
use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::call::Call;
use super::log::Log;
use super::{Answer, Spec, status, with_field};
use crate::body::{Body, empty};
use crate::bytes::Wire;

/// What every connection of one origin shares.
pub(super) struct Server {
    spec: Spec,
    tls: Option<TlsAcceptor>,
    log: Arc<Log>,
}

impl Server {
    pub(super) fn new(spec: Spec, tls: Option<Arc<ServerConfig>>, log: Arc<Log>) -> Arc<Self> {
        Arc::new(Self { spec, tls: tls.map(TlsAcceptor::from), log })
    }

    async fn connection(self: Arc<Self>, tcp: TcpStream) {
        let _ = tcp.set_nodelay(true);
        let Some(tls) = &self.tls else {
            let connection = self.log.connect();
            return self.talk(Wire::new(tcp), connection, false).await;
        };
        let Ok(stream) = tls.accept(tcp).await else { return };
        let connection = self.log.connect();
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        self.talk(Wire::new(stream), connection, h2).await;
    }

    async fn talk(self: Arc<Self>, wire: Wire, connection: usize, h2: bool) {
        if let Some(script) = &self.spec.script {
            return script(wire.counted_by(Arc::clone(&self.log))).await;
        }
        let server = Arc::clone(&self);
        let service = service_fn(move |request| {
            let server = Arc::clone(&server);
            async move { Ok::<_, Infallible>(server.answer(request, connection).await) }
        });
        let io = TokioIo::new(wire);
        if h2 {
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = builder.timer(TokioTimer::new()).serve_connection(io, service).await;
        } else {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).max_headers(512).max_buf_size(1024 * 1024);
            let _ = builder.half_close(true).serve_connection(io, service).with_upgrades().await;
        }
    }

    async fn answer(&self, request: Request<Incoming>, connection: usize) -> Response<Body> {
        let head = request.method() == Method::HEAD;
        let answer = self.answer_whole(Call::record(request, &self.log, connection)).await;
        // hyper leaves this to its users on HTTP/2.
        if head { without_body(answer) } else { answer }
    }

    async fn answer_whole(&self, call: Call) -> Response<Body> {
        if let Some(missing) = self.missing(&call) {
            call.collect().await;
            return missing;
        }
        match self.route(call.uri.path()) {
            Some(answer) => answer(call).await,
            None => {
                call.collect().await;
                status(StatusCode::NOT_FOUND, "the test origin has no such route")
            }
        }
    }

    fn missing(&self, call: &Call) -> Option<Response<Body>> {
        let exact = |(name, value): &(String, String)| {
            let mut values = call.headers.get_all(name.as_str()).iter();
            values.next().is_some_and(|got| got.as_bytes() == value.as_bytes()) && values.next().is_none()
        };
        let wrong = !self.spec.required.iter().all(exact);
        let refusal = || status(StatusCode::UNAUTHORIZED, "the exact credential did not arrive");
        wrong.then(|| with_field(refusal(), "www-authenticate", "Basic realm=\"origin\""))
    }

    fn route(&self, path: &str) -> Option<&Answer> {
        let exact = self.spec.routes.get(path);
        exact.or_else(|| {
            let begins = |pattern: &str| pattern.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix));
            let matching = self.spec.routes.iter().filter(|(pattern, _)| begins(pattern));
            matching.max_by_key(|(pattern, _)| pattern.len()).map(|(_, answer)| answer)
        })
    }
}

fn without_body(mut answer: Response<Body>) -> Response<Body> {
    if let Some(len) = answer.body().size_hint().exact() {
        answer.headers_mut().insert(CONTENT_LENGTH, len.into());
    }
    answer.map(|_| empty())
}

pub(super) async fn accept(listener: TcpListener, server: Arc<Server>) {
    // Owned here, so that aborting the acceptor closes every connection.
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        connections.spawn(Arc::clone(&server).connection(tcp));
        while connections.try_join_next().is_some() {}
    }
}
