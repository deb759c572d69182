//! The peer: hudsucker, tuned: HTTP/1.1 upstream and TCP_NODELAY on both sides, which stock hudsucker never sets.
//!
//! `hudsucker CA.pem CA_KEY.pem ORIGIN_CA.pem SECRET ORIGIN_TLS_PORT ORIGIN_PLAIN_PORT`; prints `ready PORT`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use clauderon_bench::tls;
use http::{HeaderValue, Request, Uri};
use hudsucker::certificate_authority::RcgenAuthority;
use hudsucker::{Body, HttpContext, HttpHandler, Proxy, RequestOrResponse};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone)]
struct Inject(HeaderValue);

impl HttpHandler for Inject {
    async fn handle_request(&mut self, _: &HttpContext, mut request: Request<Body>) -> RequestOrResponse {
        if let Some(value) = request.headers_mut().get_mut(http::header::AUTHORIZATION) {
            *value = self.0.clone();
        }
        request.into()
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [ca, ca_key, origin_ca, secret, tls_port, plain_port] = args.as_slice() else {
        anyhow::bail!("usage: hudsucker CA.pem CA_KEY.pem ORIGIN_CA.pem SECRET TLS_PORT PLAIN_PORT");
    };
    let key = hudsucker::rcgen::KeyPair::from_pem(&std::fs::read_to_string(ca_key)?)?;
    let issuer = hudsucker::rcgen::Issuer::from_ca_cert_pem(&std::fs::read_to_string(ca)?, key)?;
    let (tls_port, plain_port) = (tls_port.parse::<u16>()?, plain_port.parse::<u16>()?);
    // Every name of the bench lives at the origin.
    let dial = tower::service_fn(move |uri: Uri| async move {
        let port = if uri.scheme_str() == Some("https") { tls_port } else { plain_port };
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        Ok::<_, std::io::Error>(TokioIo::new(stream))
    });
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls::client(Path::new(origin_ca), &[], true)?.as_ref().clone())
        .https_or_http()
        .enable_http1()
        .wrap_connector(dial);
    let listener = listener()?;
    println!("ready {}", listener.local_addr()?.port());
    let proxy = Proxy::builder()
        .with_listener(listener)
        .with_ca(RcgenAuthority::new(issuer, 1_000, aws_lc_rs::default_provider()))
        .with_http_connector(connector)
        .with_http_handler(Inject(format!("Bearer {secret}").parse()?))
        .build()?;
    proxy.start().await.context("the proxy ended")
}

/// On Linux accepted sockets inherit TCP_NODELAY from their listener, which hudsucker itself would not set.
fn listener() -> Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(1024)?;
    Ok(TcpListener::from_std(socket.into())?)
}
