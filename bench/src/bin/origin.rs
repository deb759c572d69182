//! The origin: small answers, downloads, uploads and event streams; refuses whatever lacks the real credential.
//!
//! `origin CERT_AND_KEY.pem SECRET`; prints `ready TLS_PORT PLAIN_PORT`.

use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clauderon_bench::job::DOWN_BYTES;
use clauderon_bench::tls;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let certificate = args.next().context("usage: origin CERT_AND_KEY.pem SECRET")?;
    let expected: Arc<str> = format!("Bearer {}", args.next().context("no secret")?).into();
    let acceptor = acceptor(Path::new(&certificate))?;
    let tls = TcpListener::bind("127.0.0.1:0").await?;
    let plain = TcpListener::bind("127.0.0.1:0").await?;
    println!("ready {} {}", tls.local_addr()?.port(), plain.local_addr()?.port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = plain.accept().await {
            tokio::spawn(serve(stream, None, false));
        }
    });
    loop {
        let (stream, _) = tls.accept().await?;
        tokio::spawn(accept(stream, acceptor.clone(), expected.clone()));
    }
}

fn acceptor(path: &Path) -> Result<TlsAcceptor> {
    let (chain, key) = tls::read_leaf(path)?;
    let mut config = ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(stream: TcpStream, acceptor: TlsAcceptor, expected: Arc<str>) {
    let _ = stream.set_nodelay(true);
    if let Ok(stream) = acceptor.accept(stream).await {
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        serve(stream, Some(expected), h2).await;
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, expected: Option<Arc<str>>, h2: bool) {
    let service = service_fn(move |request| answer(request, expected.clone()));
    let io = TokioIo::new(stream);
    if h2 {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
    }
}

async fn answer(request: Request<Incoming>, expected: Option<Arc<str>>) -> Result<Response<Answer>, Infallible> {
    let sent = request.headers().get(http::header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
    if expected.is_some_and(|expected| sent != Some(expected.as_bytes())) {
        return Ok(respond(StatusCode::UNAUTHORIZED, "text/plain", Answer::once("the credential is missing")));
    }
    Ok(match request.uri().path() {
        "/down" => respond(StatusCode::OK, "application/octet-stream", Answer::Zeros(DOWN_BYTES)),
        "/up" => {
            let received = count(request.into_body()).await;
            respond(StatusCode::OK, "text/plain", Answer::once(received.to_string()))
        }
        "/sse" => respond(StatusCode::OK, "text/event-stream", Answer::events(request.uri().query())),
        _ => respond(StatusCode::OK, "text/plain", Answer::Once(Some(Bytes::from_static(&SMALL)))),
    })
}

fn respond(status: StatusCode, content_type: &'static str, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

async fn count(mut body: Incoming) -> u64 {
    let mut received = 0;
    while let Some(Ok(frame)) = body.frame().await {
        received += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    received
}

enum Answer {
    Once(Option<Bytes>),
    Zeros(u64),
    Events { left: usize, clock: Pin<Box<tokio::time::Interval>> },
}

impl Answer {
    fn once(text: impl Into<Bytes>) -> Self {
        Self::Once(Some(text.into()))
    }

    fn events(query: Option<&str>) -> Self {
        let left = query.and_then(|query| query.parse().ok()).unwrap_or(100);
        Self::Events { left, clock: Box::pin(tokio::time::interval(Duration::from_millis(10))) }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match &mut *self {
            Self::Once(bytes) => bytes.take(),
            Self::Zeros(0) | Self::Events { left: 0, .. } => None,
            Self::Zeros(left) => {
                let chunk = Bytes::from_static(&ZEROS);
                *left -= chunk.len() as u64;
                Some(chunk)
            }
            Self::Events { left, clock } => {
                ready!(clock.as_mut().poll_tick(cx));
                *left -= 1;
                Some(event())
            }
        };
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Once(None) | Self::Zeros(0) | Self::Events { left: 0, .. })
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Once(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Zeros(left) => SizeHint::with_exact(*left),
            Self::Events { .. } => SizeHint::new(),
        }
    }
}

/// An event that carries its own time, microseconds of the wall clock, which all processes of one machine share.
fn event() -> Bytes {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("data: {:020}\n\n", now.as_micros()).into()
}

static SMALL: [u8; 1100] = [b' '; 1100];
static ZEROS: [u8; 65536] = [0; 65536];
