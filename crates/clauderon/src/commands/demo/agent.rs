//! The agent's side: an HTTPS client that knows no more than its session's environment.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clauderon_api::SessionEnv;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::HOST;
use crate::error::{CliError, Doing, FAILURE, Result};

/// A client in a session.
pub(super) struct Agent<'a> {
    env: &'a SessionEnv,
    placeholder: &'a str,
    /// `host:port` of the proxy.
    proxy: &'a str,
    /// `name:token` for it.
    user: &'a str,
    tls: TlsConnector,
}

/// An answer, whole.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
    headers: HeaderMap,
}

impl<'a> Agent<'a> {
    /// Reads what every tool in the session would read.
    pub(super) fn in_session(env: &'a SessionEnv) -> Result<Self> {
        let proxy = variable(env, "HTTPS_PROXY")?;
        let (user, proxy) =
            proxy
                .strip_prefix("http://")
                .and_then(|rest| rest.trim_end_matches('/').split_once('@'))
                .ok_or_else(|| CliError::new(FAILURE, "HTTPS_PROXY is not `http://name:token@host:port`"))?;
        let tls = trust(variable(env, "SSL_CERT_FILE")?)?;
        Ok(Self { env, placeholder: variable(env, "GITHUB_TOKEN")?, proxy, user, tls })
    }

    /// Its `GITHUB_TOKEN`.
    pub(super) fn placeholder(&self) -> &str {
        self.placeholder
    }

    /// The credential it sends.
    pub(super) fn authorization(&self) -> String {
        format!("Bearer {}", self.placeholder)
    }

    /// Whether any of its variables holds `text`.
    pub(super) fn environment_holds(&self, text: &str) -> bool {
        self.env.set.iter().any(|(_, value)| value.contains(text))
    }

    /// Sends a request to the origin, through the proxy.
    pub(super) async fn send(&self, method: &str, path: &str) -> Result<Answer> {
        self.exchange(method, path).await.doing(|| format!("{method} https://{HOST}{path} through the proxy failed"))
    }

    async fn exchange(&self, method: &str, path: &str) -> Result<Answer> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.tunnel().await?)).await?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, HOST)
            .header(header::USER_AGENT, "clauderon-demo")
            .header(header::AUTHORIZATION, self.authorization())
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        driver.abort();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: String::from_utf8_lossy(&body).into() })
    }

    /// CONNECT, then TLS with the session's trust bundle.
    #[expect(clippy::disallowed_methods, reason = "an agent dials its proxy; no guard stands between them")]
    async fn tunnel(&self) -> Result<TlsStream<TokioIo<hyper::upgrade::Upgraded>>> {
        let stream = TcpStream::connect(self.proxy).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection.with_upgrades());
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri(format!("{HOST}:443"))
            .header(header::HOST, format!("{HOST}:443"))
            .header(header::PROXY_AUTHORIZATION, format!("Basic {}", STANDARD.encode(self.user)))
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        if !response.status().is_success() {
            return Err(CliError::new(FAILURE, format_args!("the proxy answered CONNECT with {}", response.status())));
        }
        let tunnel = TokioIo::new(hyper::upgrade::on(response).await?);
        Ok(self.tls.connect(ServerName::try_from(HOST)?, tunnel).await?)
    }
}

impl Answer {
    /// Whether `text` is anywhere in it.
    pub(super) fn holds(&self, text: &str) -> bool {
        let in_header = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).contains(text);
        self.body.contains(text) || self.headers.values().any(in_header)
    }
}

fn variable<'a>(env: &'a SessionEnv, name: &str) -> Result<&'a str> {
    let found = env.set.iter().find(|(set, _)| set == name).map(|(_, value)| value.as_str());
    found.ok_or_else(|| CliError::new(FAILURE, format_args!("the session's environment lacks {name}")))
}

fn trust(bundle: &str) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(bundle).doing(|| format!("cannot read {bundle}"))? {
        // As every client does: a root that this library cannot use is passed over.
        let _ = roots.add(certificate?);
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
