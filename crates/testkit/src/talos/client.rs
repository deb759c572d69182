//! A client as talosctl is one: everything it knows is in a talosconfig.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{IntoStreamingRequest, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// A client of the current context.
#[derive(Clone)]
pub struct TalosClient {
    endpoint: String,
    tls: TlsConnector,
    channel: Channel,
    metadata: Vec<(&'static str, String)>,
}

impl TalosClient {
    /// Reads the talosconfig at `path` (JSON, as sessions get it); no connection is made yet.
    pub fn of(path: &Path) -> Self {
        let config: Value = serde_json::from_slice(&std::fs::read(path).expect("a talosconfig")).expect("it is JSON");
        let current = config["context"].as_str().expect("a current context");
        Self::of_context(&config["contexts"][current], true)
    }

    /// The same for another context of it.
    pub fn of_named(path: &Path, context: &str) -> Self {
        let config: Value = serde_json::from_slice(&std::fs::read(path).expect("a talosconfig")).expect("it is JSON");
        Self::of_context(&config["contexts"][context], true)
    }

    /// The same, but it shows no certificate.
    pub fn without_certificate(path: &Path) -> Self {
        let config: Value = serde_json::from_slice(&std::fs::read(path).expect("a talosconfig")).expect("it is JSON");
        let current = config["context"].as_str().expect("a current context");
        Self::of_context(&config["contexts"][current], false)
    }

    fn of_context(context: &Value, shows: bool) -> Self {
        let endpoint = context["endpoints"][0].as_str().expect("an endpoint").to_owned();
        let tls = TlsConnector::from(Arc::new(tls(context, shows)));
        let (with_tls, to) = (tls.clone(), endpoint.clone());
        let connect = move |_: http::Uri| {
            let (tls, endpoint) = (with_tls.clone(), to.clone());
            async move { connect(&tls, &endpoint).await.map(TokioIo::new) }
        };
        let channel =
            Endpoint::from_static("https://talos.test").connect_with_connector_lazy(tower::service_fn(connect));
        Self { endpoint, tls, channel, metadata: Vec::new() }
    }

    /// A connection of its own, for what no gRPC client would send.
    pub async fn stream_to_gateway(&self) -> TlsStream<TcpStream> {
        connect(&self.tls, &self.endpoint).await.expect("the gateway takes connections")
    }

    /// The same with a field of metadata on every call.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.metadata.push((name, value.to_owned()));
        self
    }

    /// A call with one message and one answer.
    pub async fn unary<A, B>(&self, path: &'static str, message: A) -> Result<Response<B>, Status>
    where
        A: Message + Send + Sync + 'static,
        B: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.ready().await?;
        grpc.unary(self.request(message), PathAndQuery::from_static(path), ProstCodec::<A, B>::default()).await
    }

    /// A call with one message and a stream of answers.
    pub async fn stream<A, B>(&self, path: &'static str, message: A) -> Result<Streaming<B>, Status>
    where
        A: Message + Send + Sync + 'static,
        B: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.ready().await?;
        let path = PathAndQuery::from_static(path);
        let answer = grpc.server_streaming(self.request(message), path, ProstCodec::<A, B>::default()).await?;
        Ok(answer.into_inner())
    }

    /// A call with a deadline.
    pub async fn unary_within<A, B>(
        &self,
        path: &'static str,
        message: A,
        limit: std::time::Duration,
    ) -> Result<Response<B>, Status>
    where
        A: Message + Send + Sync + 'static,
        B: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.ready().await?;
        let mut request = self.request(message);
        request.set_timeout(limit);
        grpc.unary(request, PathAndQuery::from_static(path), ProstCodec::<A, B>::default()).await
    }

    /// A call with streams both ways.
    pub async fn both_ways<A, B>(
        &self,
        path: &'static str,
        messages: impl IntoStreamingRequest<Message = A>,
    ) -> Result<Streaming<B>, Status>
    where
        A: Message + Send + Sync + 'static,
        B: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.ready().await?;
        let path = PathAndQuery::from_static(path);
        let answer = grpc.streaming(messages.into_streaming_request(), path, ProstCodec::<A, B>::default()).await?;
        Ok(answer.into_inner())
    }

    async fn ready(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Status::unavailable(format!("{error:?}")))?;
        Ok(grpc)
    }

    fn request<A>(&self, message: A) -> Request<A> {
        let mut request = Request::new(message);
        for (name, value) in &self.metadata {
            let value = value.parse::<MetadataValue<_>>().expect("test metadata is text");
            request.metadata_mut().append(*name, value);
        }
        request
    }
}

async fn connect(tls: &TlsConnector, endpoint: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(endpoint).await?;
    let ip = tcp.peer_addr()?.ip();
    let stream = tls.connect(ServerName::IpAddress(ip.into()), tcp).await?;
    match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Ok(stream),
        _ => Err(std::io::Error::other("no ALPN, which grpc-go insists on")),
    }
}

fn tls(context: &Value, shows: bool) -> ClientConfig {
    let pem = |name: &str| BASE64_STANDARD.decode(context[name].as_str().expect("a PEM")).expect("base64");
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(&pem("ca")).expect("a root");
    roots.add(ca).expect("a CA certificate is a trust anchor");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(roots);
    let mut config = match shows {
        false => builder.with_no_client_auth(),
        true => {
            let chain = vec![CertificateDer::from_pem_slice(&pem("crt")).expect("a certificate")];
            let key = PrivateKeyDer::from_pem_slice(&pem("key")).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("they belong together")
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}
