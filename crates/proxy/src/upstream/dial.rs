//! From an origin to a connection: resolve once, guard every answer, dial the vetted address, verify the name.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use clauderon_core::config::{Cidr, Settings, UpstreamProxy, UpstreamSettings};
use clauderon_core::denial::Denial;
use clauderon_core::host::{Host, Origin, Scheme};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) use super::failure::DialError;
use super::failure::{Phase, ProxyFault};
use super::read_ahead::ReadAhead;
use super::{corporate, guard};
use crate::tls::client::UpstreamTls;

/// A connection to an origin; its name, if TLS, is verified.
#[derive(Debug)]
pub(crate) enum Dialed {
    /// Clear text.
    Plain(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<ReadAhead<TcpStream>>>),
}

/// Which protocols are offered to the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Alpn {
    /// `http/1.1`.
    Http1Only,
    /// `h2`, else `http/1.1`.
    Http2Allowed,
}

/// What reaching an origin depends on besides the origin.
#[derive(Clone, Copy)]
pub(crate) struct Reach<'a> {
    pub(crate) tls: &'a UpstreamTls,
    pub(crate) settings: &'a Settings,
    pub(crate) own_listeners: &'a [SocketAddr],
    /// `None` for origins that an agent names.
    pub(crate) named: Option<&'a Named>,
}

/// What the user said about reaching a server of their own naming. No agent chose its address, so the guard has no say.
#[derive(Debug, Default)]
pub struct Named {
    /// The proxy to it, in place of `upstream.proxy`.
    pub proxy: Option<UpstreamProxy>,
    /// The name its certificate is for, where that is not its host.
    pub certificate_name: Option<ServerName<'static>>,
}

impl Reach<'_> {
    /// Connects to `origin`, TLS included for `https`, within `upstream.connect_timeout`.
    pub(crate) async fn dial(&self, origin: &Origin, alpn: Alpn) -> Result<Dialed, DialError> {
        let tls = match alpn {
            Alpn::Http1Only => &self.tls.http1,
            Alpn::Http2Allowed => &self.tls.http2,
        };
        let Settings { upstream, allow_private, .. } = self.settings;
        let dialer = Dialer::new(origin, upstream, allow_private, self.own_listeners);
        Dialer { named: self.named, ..dialer }.dial(tls).await
    }
}

/// What can be said without resolving a name: whether an origin may be dialled at all.
pub(crate) fn vet(origin: &Origin, settings: &Settings) -> Result<(), Denial> {
    if settings.upstream.resolve.contains_key(&(origin.host.clone(), origin.port)) {
        return Ok(());
    }
    Ok(Dialer::new(origin, &settings.upstream, &settings.allow_private, &[]).vet_name()?)
}

impl Dialed {
    /// Whether the origin chose HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// The address dialled; the corporate proxy's, if there is one in between.
    #[cfg(test)]
    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Plain(stream) => stream.peer_addr(),
            Self::Tls(stream) => stream.get_ref().0.get_ref().peer_addr(),
        }
    }
}

/// One attempt to reach one origin.
struct Dialer<'a> {
    origin: &'a Origin,
    upstream: &'a UpstreamSettings,
    allow_private: &'a [Cidr],
    own_listeners: &'a [SocketAddr],
    named: Option<&'a Named>,
    deadline: Instant,
}

impl<'a> Dialer<'a> {
    fn new(
        origin: &'a Origin,
        upstream: &'a UpstreamSettings,
        allow_private: &'a [Cidr],
        own_listeners: &'a [SocketAddr],
    ) -> Self {
        let deadline = Instant::now() + upstream.connect_timeout;
        Self { origin, upstream, allow_private, own_listeners, named: None, deadline }
    }

    async fn dial(&self, tls: &Arc<ClientConfig>) -> Result<Dialed, DialError> {
        let stream = self.connect().await?;
        match self.origin.scheme {
            Scheme::Http => Ok(Dialed::Plain(stream)),
            Scheme::Https => self.handshake(stream, tls).await,
        }
    }

    async fn connect(&self) -> Result<TcpStream, DialError> {
        let Origin { host, port, .. } = self.origin;
        if let Some(&address) = self.upstream.resolve.get(&(host.clone(), *port)) {
            // The user named this address for this origin: the guard has no say, but a loop stays a loop.
            self.not_our_own(address)?;
            return self.connect_any(vec![address]).await;
        }
        if let Some(proxy) = self.corporate_proxy() {
            return self.tunnel(proxy).await;
        }
        let answers = self
            .within(Phase::Resolve, resolve(host, *port))
            .await?
            .map_err(|fault| DialError::Dns { target: self.target(), fault: fault.to_string() })?;
        self.connect_any(self.vetted(answers)?).await
    }

    async fn handshake(&self, stream: TcpStream, tls: &Arc<ClientConfig>) -> Result<Dialed, DialError> {
        let name = self.server_name()?;
        let connecting = TlsConnector::from(Arc::clone(tls)).connect(name, ReadAhead::new(stream));
        match self.within(Phase::Tls, connecting).await? {
            Ok(stream) => Ok(Dialed::Tls(Box::new(stream))),
            Err(fault) => Err(DialError::handshake(self.target(), &fault)),
        }
    }

    async fn tunnel(&self, proxy: &UpstreamProxy) -> Result<TcpStream, DialError> {
        self.vet_name()?;
        let failed =
            |fault| DialError::Proxy { target: self.target(), proxy: format!("{}:{}", proxy.host, proxy.port), fault };
        let answers = self.within(Phase::Resolve, resolve(&proxy.host, proxy.port)).await?;
        let answers = answers.map_err(|_| failed(ProxyFault::Dns))?;
        // The proxy is the user's choice and usually has a private address; it must only not be us.
        answers.iter().try_for_each(|&address| self.not_our_own(address))?;
        let mut stream = self.connect_any(answers).await.map_err(|error| match error {
            DialError::Refused { source, .. } => failed(ProxyFault::Io(source)),
            other => other,
        })?;
        let target = self.target();
        let opening = corporate::open_tunnel(&mut stream, proxy, &target);
        self.within(Phase::Tunnel, opening).await?.map_err(failed)?;
        Ok(stream)
    }

    async fn connect_any(&self, addresses: Vec<SocketAddr>) -> Result<TcpStream, DialError> {
        match self.within(Phase::Connect, first_to_connect(alternate(addresses))).await? {
            Ok(stream) => self.not_ourselves(&stream).map(|()| stream),
            Err((address, fault)) if fault.kind() == io::ErrorKind::TimedOut => {
                tracing::debug!(%address, "the system gave up connecting");
                Err(self.timeout(Phase::Connect))
            }
            Err((address, source)) => Err(DialError::Refused { target: self.target(), address, source }),
        }
    }

    async fn within<T>(&self, phase: Phase, work: impl Future<Output = T>) -> Result<T, DialError> {
        tokio::time::timeout_at(self.deadline, work).await.map_err(|_| self.timeout(phase))
    }

    /// The answers that may be dialled; an error when there were some and none may.
    fn vetted(&self, answers: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, DialError> {
        let mut refusal = None;
        let vetted: Vec<_> = answers
            .into_iter()
            .filter(|&address| self.vet(address).map_err(|error| refusal.get_or_insert(error)).is_ok())
            .collect();
        refusal.filter(|_| vetted.is_empty()).map_or(Ok(vetted), Err)
    }

    fn vet(&self, address: SocketAddr) -> Result<(), DialError> {
        self.not_our_own(address)?;
        if self.named.is_some() {
            return Ok(());
        }
        guard::check(address.ip(), self.allow_private)
            .map_err(|forbidden| DialError::Forbidden { target: self.target(), forbidden })
    }

    /// What can be said of a name that the corporate proxy will resolve.
    fn vet_name(&self) -> Result<(), DialError> {
        let local = |name: &str| name == "localhost" || name.ends_with(".localhost");
        let known = match &self.origin.host {
            Host::Ip(ip) => Some(*ip),
            Host::Name(name) => local(name).then_some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        };
        known.map_or(Ok(()), |ip| self.vet(SocketAddr::new(ip, self.origin.port)))
    }

    fn not_our_own(&self, address: SocketAddr) -> Result<(), DialError> {
        let ip = address.ip().to_canonical();
        let ours = |listener: &SocketAddr| {
            let bound = listener.ip().to_canonical();
            // Linux takes 0.0.0.0 as a destination for loopback.
            let reached = bound == ip || ip.is_unspecified() || bound.is_unspecified() && ip.is_loopback();
            listener.port() == address.port() && reached
        };
        self.refuse_own(self.own_listeners.iter().any(ours))
    }

    /// A listener on all addresses is reached by any address of this machine; such a connection has the same one at both ends.
    fn not_ourselves(&self, stream: &TcpStream) -> Result<(), DialError> {
        let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return Ok(()) };
        let everywhere = |listener: &SocketAddr| listener.ip().is_unspecified() && listener.port() == peer.port();
        self.refuse_own(peer.ip() == local.ip() && self.own_listeners.iter().any(everywhere))
    }

    fn refuse_own(&self, own: bool) -> Result<(), DialError> {
        if own { Err(DialError::OwnListener { target: self.target() }) } else { Ok(()) }
    }

    fn corporate_proxy(&self) -> Option<&'a UpstreamProxy> {
        if let Some(proxy) = self.named.and_then(|named| named.proxy.as_ref()) {
            return Some(proxy);
        }
        let Origin { host, port, .. } = self.origin;
        let direct = self.upstream.no_proxy.iter().any(|pattern| pattern.matches(host, *port, *port));
        self.upstream.proxy.as_ref().filter(|_| !direct)
    }

    fn server_name(&self) -> Result<ServerName<'static>, DialError> {
        if let Some(name) = self.named.and_then(|named| named.certificate_name.as_ref()) {
            return Ok(name.clone());
        }
        match &self.origin.host {
            Host::Ip(ip) => Ok(ServerName::IpAddress((*ip).into())),
            Host::Name(name) => ServerName::try_from(name.to_string()).map_err(|_| DialError::Tls {
                target: self.target(),
                fault: "no certificate can be for such a name".to_owned(),
            }),
        }
    }

    fn target(&self) -> String {
        format!("{}:{}", self.origin.host, self.origin.port)
    }

    fn timeout(&self, phase: Phase) -> DialError {
        DialError::Timeout { target: self.target(), phase, after: self.upstream.connect_timeout }
    }
}

async fn resolve(host: &Host, port: u16) -> io::Result<Vec<SocketAddr>> {
    let name = match host {
        Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, port)]),
        Host::Name(name) => name.as_ref(),
    };
    let answers: Vec<_> = tokio::net::lookup_host((name, port)).await?.take(ANSWERS_MAX).collect();
    match answers.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, "it has no address")),
        false => Ok(answers),
    }
}

/// IPv6 and IPv4 in turn, beginning with the family the resolver put first (RFC 8305 § 4).
fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let v6_first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == v6_first);
    let longer = first.len().max(second.len());
    (0..longer).flat_map(|turn| [first.get(turn), second.get(turn)]).flatten().copied().collect()
}

/// Starts an attempt when the one before failed or took [`STAGGER`] (RFC 8305 § 5); the first connection made is kept.
async fn first_to_connect(addresses: Vec<SocketAddr>) -> Result<TcpStream, (SocketAddr, io::Error)> {
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = None;
    loop {
        if let Some(address) = waiting.next() {
            attempts.push(connect_one(address));
        }
        tokio::select! {
            outcome = attempts.next() => match outcome {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(fault)) => failure = Some(more_telling(failure, fault)),
                None => return Err(failure.unwrap_or_else(no_address)),
            },
            () = tokio::time::sleep(STAGGER), if waiting.len() > 0 => {}
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that dials: the guard has passed this address")]
async fn connect_one(address: SocketAddr) -> Result<TcpStream, (SocketAddr, io::Error)> {
    let stream = TcpStream::connect(address).await.map_err(|fault| (address, fault))?;
    // Without it, Nagle's algorithm against delayed acknowledgements costs 40 ms per small request.
    stream.set_nodelay(true).map_err(|fault| (address, fault))?;
    Ok(stream)
}

type Failure = (SocketAddr, io::Error);

/// A host that refuses says more than a family of addresses that this machine has no route for.
fn more_telling(earlier: Option<Failure>, later: Failure) -> Failure {
    earlier.filter(|(_, fault)| fault.kind() == io::ErrorKind::ConnectionRefused).unwrap_or(later)
}

fn no_address() -> Failure {
    (SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), io::ErrorKind::AddrNotAvailable.into())
}

/// More answers than any honest name needs; each may cost a connection attempt.
const ANSWERS_MAX: usize = 16;

/// RFC 8305 § 5's recommended delay between attempts.
const STAGGER: Duration = Duration::from_millis(250);

impl AsyncRead for Dialed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Dialed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
#[path = "dial_tests.rs"]
mod tests;
