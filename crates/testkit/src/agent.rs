//! Clients: what an agent's tools do on the wire, with every received byte kept.

use std::net::SocketAddr;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use crate::body::{Body, empty, full};
use crate::bytes::{Reply, Wire};
use crate::ca;
use crate::origin::Origin;
use crate::sightings::Sightings;
use crate::wait::within;

/// A caller: a way to origins, a trust store, and perhaps a session.
#[derive(Clone)]
pub struct Agent {
    route: Route,
    trust: String,
    authorization: Option<String>,
    sightings: Sightings,
}

#[derive(Clone)]
enum Route {
    Direct(SocketAddr),
    Proxy(SocketAddr),
    Socket(PathBuf),
}

impl Agent {
    /// A client of `origin` with nothing between: proves the kit.
    pub fn direct(origin: &Origin) -> Self {
        let trust = ca::TestCa::shared().pem();
        Self { route: Route::Direct(origin.addr()), trust, authorization: None, sightings: Sightings::default() }
    }

    /// A client of the proxy at `addr` that trusts `pem` only.
    pub fn proxy(addr: SocketAddr, pem: &str, sightings: &Sightings) -> Self {
        Self { route: Route::Proxy(addr), trust: pem.into(), authorization: None, sightings: sightings.clone() }
    }

    /// The same client, on a session's Unix socket.
    #[must_use]
    pub fn through_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.route = Route::Socket(path.into());
        self
    }

    /// The same client with these proxy credentials.
    #[must_use]
    pub fn authorized(mut self, name: &str, token: &str) -> Self {
        self.authorization = Some(format!("Basic {}", STANDARD.encode(format!("{name}:{token}"))));
        self
    }

    /// `Proxy-Authorization: …\r\n`, or nothing.
    pub fn proxy_authorization(&self) -> String {
        self.authorization.as_ref().map_or_else(String::new, |value| format!("Proxy-Authorization: {value}\r\n"))
    }

    /// A connection to the proxy (or, direct, to the origin), before any byte.
    pub async fn wire(&self) -> Wire {
        let wire = match &self.route {
            Route::Direct(addr) | Route::Proxy(addr) => Wire::connect(*addr).await,
            Route::Socket(path) => Wire::connect_unix(path).await,
        };
        wire.watched(&self.sightings)
    }

    /// A tunnel to `authority` (`host:port`), before any TLS; the refusal when there is one.
    pub async fn connect(&self, authority: &str) -> Result<Wire, Reply> {
        let mut wire = self.wire().await;
        if matches!(self.route, Route::Direct(_)) {
            return Ok(wire);
        }
        let authorization = self.proxy_authorization();
        wire.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{authorization}\r\n")).await;
        let head = wire.head().await.expect("the proxy answers CONNECT");
        if head.status() == 200 {
            return Ok(wire);
        }
        let body = match head.field("content-length") {
            Some(len) => wire.exactly(len.parse().expect("a number")).await.unwrap_or_default(),
            None => wire.rest().await,
        };
        Err(Reply { informational: Vec::new(), head, body, trailers: Vec::new() })
    }

    /// TLS with `host` (port 443, or as in `host:port`) offering `alpn`, for raw bytes.
    pub async fn tls(&self, host: &str, alpn: &[&str]) -> Wire {
        let (name, authority) = split(host);
        let wire = self.connect(&authority).await.unwrap_or_else(|reply| panic!("CONNECT refused: {}", reply.text()));
        wire.tls(&name, ca::client(&self.trust, alpn)).await.watched(&self.sightings)
    }

    /// Raw HTTP/1.1 bytes inside TLS with `host`.
    pub async fn tunnel(&self, host: &str) -> Wire {
        self.tls(host, &["http/1.1"]).await
    }

    /// An HTTP/1.1 client of `host`.
    pub async fn h1(&self, host: &str) -> Client {
        let io = TokioIo::new(self.tunnel(host).await);
        let (sender, connection) = http1::handshake(io).await.expect("the HTTP/1 handshake sends nothing");
        tokio::spawn(connection.with_upgrades());
        self.client(host, Sender::H1(sender))
    }

    /// An HTTP/2 client of `host`.
    pub async fn h2(&self, host: &str) -> Client {
        let wire = self.tls(host, &["h2"]).await;
        assert_eq!(wire.peer().alpn.as_deref(), Some(b"h2".as_slice()), "h2 was offered and not chosen");
        let mut builder = http2::Builder::new(TokioExecutor::new());
        let handshake = builder.timer(TokioTimer::new()).max_header_list_size(MAX_HEAD).handshake(TokioIo::new(wire));
        let (sender, connection) = within("the HTTP/2 handshake", handshake).await.expect("HTTP/2 is spoken");
        tokio::spawn(connection);
        self.client(host, Sender::H2(sender))
    }

    /// A frame-level HTTP/2 client of `host`.
    pub async fn frames(&self, host: &str) -> h2::client::SendRequest<Bytes> {
        let wire = self.tls(host, &["h2"]).await;
        let handshake = h2::client::handshake(wire);
        let (sender, connection) = within("the HTTP/2 handshake", handshake).await.expect("HTTP/2 is spoken");
        tokio::spawn(connection);
        within("SETTINGS", sender.ready()).await.expect("HTTP/2 is spoken")
    }

    /// One GET of an `http://` or `https://` URL over HTTP/1.1.
    pub async fn get(&self, url: &str) -> Answered {
        let uri: Uri = url.parse().expect("test URLs are valid");
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let authority = uri.authority().expect("test URLs are absolute").as_str().to_owned();
        if uri.scheme_str() == Some("http") {
            return self.absolute(&authority, &path).await;
        }
        self.h1(&authority).await.get(&path).await
    }

    /// What was received so far.
    pub fn sightings(&self) -> &Sightings {
        &self.sightings
    }

    async fn absolute(&self, authority: &str, path: &str) -> Answered {
        let io = TokioIo::new(self.wire().await);
        let (sender, connection) = http1::handshake(io).await.expect("the HTTP/1 handshake sends nothing");
        tokio::spawn(connection);
        let mut request = Request::get(format!("http://{authority}{path}")).header("host", authority);
        if let Some(authorization) = &self.authorization {
            request = request.header("proxy-authorization", authorization);
        }
        let request = request.body(empty()).expect("a valid request");
        self.client(authority, Sender::H1(sender)).fetch_as_is(request).await
    }

    fn client(&self, host: &str, sender: Sender) -> Client {
        let authority = host.strip_suffix(":443").unwrap_or(host).to_owned();
        Client { sender, authority }
    }
}

/// An HTTP client on one connection.
pub struct Client {
    sender: Sender,
    authority: String,
}

enum Sender {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>),
}

/// A response read to its end.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The status.
    pub status: StatusCode,
    /// The protocol version.
    pub version: Version,
    /// The fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Trailers, if any.
    pub trailers: Option<HeaderMap>,
    /// Whether the body ended well.
    pub complete: bool,
}

impl Client {
    /// GET `path`.
    pub async fn get(&mut self, path: &str) -> Answered {
        self.fetch(Request::get(path).body(empty()).expect("a valid request")).await
    }

    /// `method` on `path` with a body.
    pub async fn send(&mut self, method: Method, path: &str, body: impl Into<Bytes>) -> Answered {
        let request = Request::builder().method(method).uri(path).body(full(body));
        self.fetch(request.expect("a valid request")).await
    }

    /// Sends a request given in origin-form and reads the whole answer.
    pub async fn fetch(&mut self, request: Request<Body>) -> Answered {
        let request = self.addressed(request);
        self.fetch_as_is(request).await
    }

    /// Sends a request given in origin-form and gives the answer as soon as its head is there.
    pub async fn start(&mut self, request: Request<Body>) -> Result<Response<Incoming>, hyper::Error> {
        let request = self.addressed(request);
        self.dispatch(request).await
    }

    /// A second sender on the same HTTP/2 connection; `None` on HTTP/1.1.
    pub fn another(&self) -> Option<Self> {
        let Sender::H2(sender) = &self.sender else { return None };
        Some(Self { sender: Sender::H2(sender.clone()), authority: self.authority.clone() })
    }

    async fn fetch_as_is(&mut self, request: Request<Body>) -> Answered {
        let response = self.dispatch(request).await.expect("an answer comes");
        read(response).await
    }

    async fn dispatch(&mut self, request: Request<Body>) -> Result<Response<Incoming>, hyper::Error> {
        let response = async {
            match &mut self.sender {
                Sender::H1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Sender::H2(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
            }
        };
        within("a response head", response).await
    }

    fn addressed(&self, request: Request<Body>) -> Request<Body> {
        let (mut parts, body) = request.into_parts();
        match &self.sender {
            Sender::H1(_) => {
                let host = self.authority.parse().expect("an authority is a valid field");
                parts.headers.entry("host").or_insert(host);
            }
            Sender::H2(_) => {
                let absolute = format!("https://{}{}", self.authority, parts.uri);
                parts.uri = absolute.parse().expect("a valid request");
            }
        }
        Request::from_parts(parts, body)
    }
}

impl Answered {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{} is no JSON: {}", self.status, self.text()))
    }

    /// A field's value, if it is there and text.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Reads a response to its end.
pub async fn read(response: Response<Incoming>) -> Answered {
    let (parts, mut body) = response.into_parts();
    let (mut bytes, mut trailers, mut complete) = (Vec::new(), None, true);
    while let Some(frame) = within("a body frame", body.frame()).await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => bytes.extend_from_slice(&data),
            Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
            Err(_) => {
                complete = false;
                break;
            }
        }
    }
    let (status, version, headers) = (parts.status, parts.version, parts.headers);
    Answered { status, version, headers, body: bytes.into(), trailers, complete }
}

fn split(host: &str) -> (String, String) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name.trim_matches(['[', ']']).into(), host.into()),
        _ if host.starts_with('[') => (host.trim_matches(['[', ']']).into(), format!("{host}:443")),
        _ => (host.into(), format!("{host}:443")),
    }
}

/// As generous as curl; hyper's own 16 KiB is below what real answers carry.
const MAX_HEAD: u32 = 256 * 1024;
