//! Dialling real servers on loopback, good and bad.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]

use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::host::HostPattern;
use clauderon_core::secret::Secret;
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::ServerConfig;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::guard::Kind;
use super::*;
use crate::tls::provider;

/// A CA, and servers with certificates of its making.
struct World {
    ca: rcgen::Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl World {
    fn new() -> Self {
        Self::named("a test CA")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { ca: rcgen::Issuer::new(params, key), root }
    }

    fn tls(&self) -> UpstreamTls {
        UpstreamTls::new(std::slice::from_ref(&self.root)).unwrap()
    }

    /// The address of a server that shows a certificate made with `change` and echoes what it is sent.
    async fn echo(&self, change: impl FnOnce(&mut CertificateParams)) -> SocketAddr {
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        echo_with(params.signed_by(&key, &self.ca).unwrap().der().clone(), key).await
    }
}

async fn echo_with(certificate: CertificateDer<'static>, key: KeyPair) -> SocketAddr {
    let key = CertifiedKey::from_der(vec![certificate], PrivateKeyDer::from(key), &provider()).unwrap();
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(key));
    let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                let (mut from, mut to) = tokio::io::split(stream);
                let _peer_left = tokio::io::copy(&mut from, &mut to).await;
            }
        }
    })
    .await
}

async fn serve<F: Future<Output = ()> + Send>(
    connection: impl Fn(TcpStream) -> F + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connection = Arc::new(connection);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let connection = Arc::clone(&connection);
            tokio::spawn(async move { connection(stream).await });
        }
    });
    address
}

/// A server that sends `answer` to whoever sends it something, then waits for the other to leave.
async fn answering(answer: &'static [u8]) -> SocketAddr {
    serve(move |mut stream| async move {
        let mut sink = [0; 4096];
        let _ = stream.read(&mut sink).await;
        let _ = stream.write_all(answer).await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await
}

/// A server that closes after the first bytes.
async fn hanging_up() -> SocketAddr {
    serve(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await
}

async fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn origin(text: &str) -> Origin {
    let (scheme, authority) = text.split_once("://").unwrap();
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    clauderon_core::host::Authority::parse(authority).unwrap().origin(scheme)
}

/// Settings that lead `origin` to `address`.
fn leading_to(origin: &Origin, address: SocketAddr) -> UpstreamSettings {
    let mut upstream = UpstreamSettings::default();
    upstream.resolve.insert((origin.host.clone(), origin.port), address);
    upstream
}

async fn dial_mapped(world: &World, address: SocketAddr) -> Result<Dialed, DialError> {
    let origin = origin(ORIGIN);
    let upstream = leading_to(&origin, address);
    Dialer::new(&origin, &upstream, &[], &[]).dial(&world.tls().http1).await
}

async fn fault(world: &World, address: SocketAddr) -> Denial {
    dial_mapped(world, address).await.unwrap_err().into()
}

async fn dial_plain(text: &str, allow: &[&str], own: &[SocketAddr]) -> Result<Dialed, DialError> {
    let (origin, upstream) = (origin(text), UpstreamSettings::default());
    let allow: Vec<Cidr> = allow.iter().map(|block| block.parse().unwrap()).collect();
    Dialer::new(&origin, &upstream, &allow, own).dial(&World::new().tls().http1).await
}

#[tokio::test]
async fn a_verified_origin_is_reached_with_the_protocol_it_chose() {
    let world = World::new();
    let address = world.echo(|_| {}).await;
    let (origin, tls) = (origin(ORIGIN), world.tls());
    let upstream = leading_to(&origin, address);
    for (config, http2) in [(&tls.http1, false), (&tls.http2, true)] {
        let dialed = Dialer::new(&origin, &upstream, &[], &[]).dial(config).await.unwrap();
        assert_eq!((dialed.is_http2(), dialed.peer_addr().unwrap()), (http2, address));
    }
}

#[tokio::test]
async fn megabytes_come_back_as_they_went() {
    let world = World::new();
    let dialed = dial_mapped(&world, world.echo(|_| {}).await).await.unwrap();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let (mut from, mut to) = tokio::io::split(dialed);
    let write = async {
        to.write_all(&sent).await.unwrap();
        to.flush().await.unwrap();
    };
    let mut got = vec![0; sent.len()];
    let (read, ()) = tokio::join!(from.read_exact(&mut got), write);
    read.unwrap();
    assert!(got == sent);
}

#[tokio::test]
async fn an_address_literal_is_verified_as_one() {
    let world = World::new();
    let tls = world.tls();
    let loopback: IpAddr = Ipv4Addr::LOCALHOST.into();
    let good = world.echo(|params| params.subject_alt_names = vec![SanType::IpAddress(loopback)]).await;
    let bad = world.echo(|_| {}).await;
    let allow = ["127.0.0.0/8".parse().unwrap()];
    let upstream = UpstreamSettings::default();
    for (address, expected) in [(good, None), (bad, Some(DenialCode::UpstreamCertificate))] {
        let origin = origin(&format!("https://{address}"));
        let outcome = Dialer::new(&origin, &upstream, &allow, &[]).dial(&tls.http1).await;
        assert_eq!(outcome.err().map(|error| Denial::from(error).code), expected);
    }
}

#[tokio::test]
async fn bad_certificates_are_told_apart() {
    let world = World::new();
    let day = time::Duration::days(1);
    let now = OffsetDateTime::now_utc();
    let expired = world.echo(|params| params.not_after = now - day).await;
    let early = world.echo(|params| params.not_before = now + day).await;
    let other = CertificateParams::new(vec!["other.example".to_owned()]).unwrap().subject_alt_names;
    let wrong_name = world.echo(|params| params.subject_alt_names = other).await;
    let stranger = World::named("another CA").echo(|_| {}).await;
    let remade = World::new().echo(|_| {}).await;
    let yesterday = (now - day).date().to_string();
    for (address, text) in [
        (expired, format!("it expired on {yesterday}")),
        (early, "it is not valid before ".to_owned()),
        (wrong_name, "it is for other.example".to_owned()),
        (stranger, "it is self-signed, or its issuer is unknown".to_owned()),
        (remade, "its issuer's key is not the trusted root's".to_owned()),
    ] {
        let denial = fault(&world, address).await;
        assert_eq!(denial.code, DenialCode::UpstreamCertificate, "{}", denial.message);
        assert!(denial.message.contains(&text), "{} lacks {text}", denial.message);
    }
}

#[tokio::test]
async fn self_signed_certificates_are_refused_with_advice() {
    for is_ca in [rcgen::IsCa::NoCa, rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained)] {
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.is_ca = is_ca;
        let key = KeyPair::generate().unwrap();
        let address = echo_with(params.self_signed(&key).unwrap().der().clone(), key).await;
        let denial = fault(&World::new(), address).await;
        assert_eq!(denial.code, DenialCode::UpstreamCertificate, "{}", denial.message);
        assert!(denial.hint.unwrap().contains("upstream.ca_file"), "{}", denial.message);
    }
}

#[tokio::test]
async fn what_is_no_tls_server_is_named() {
    let world = World::new();
    let http = fault(&world, answering(b"HTTP/1.1 400 Bad Request\r\n\r\n").await).await;
    assert_eq!(http.code, DenialCode::UpstreamTls);
    assert!(http.message.ends_with("it does not speak TLS on this port"), "{}", http.message);
    let gone = fault(&world, hanging_up().await).await;
    assert_eq!(gone.code, DenialCode::UpstreamTls);
    assert!(gone.message.ends_with("it closed the connection during the handshake"), "{}", gone.message);
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let origin = origin(ORIGIN);
    let mut upstream = leading_to(&origin, answering(b"").await);
    upstream.connect_timeout = Duration::from_millis(300);
    let outcome = Dialer::new(&origin, &upstream, &[], &[]).dial(&World::new().tls().http1).await;
    let denial = Denial::from(outcome.unwrap_err());
    assert_eq!(denial.code, DenialCode::UpstreamTimeout);
    assert_eq!(denial.message, "api.example.com:443 did not answer within 300ms (TLS handshake)");
}

#[tokio::test]
async fn a_closed_port_is_named_with_its_address() {
    let address = refusing().await;
    let denial = fault(&World::new(), address).await;
    assert_eq!(denial.code, DenialCode::UpstreamRefused);
    assert!(denial.message.contains(&address.to_string()), "{}", denial.message);
}

#[tokio::test]
async fn private_addresses_need_permission_by_literal_and_by_name() {
    let port = answering(b"").await.port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let target = format!("http://{host}:{port}");
        let refused = dial_plain(&target, &[], &[]).await.unwrap_err();
        assert!(
            matches!(&refused, DialError::Forbidden { forbidden, .. } if forbidden.kind == Kind::Loopback),
            "{refused}"
        );
        dial_plain(&target, &["127.0.0.0/8", "::1/128"], &[]).await.unwrap();
    }
}

#[tokio::test]
async fn our_own_listeners_are_never_dialled() {
    let ours = answering(b"").await;
    let (port, allow) = (ours.port(), ["0.0.0.0/0", "::/0"]);
    let everywhere: SocketAddr = ([0, 0, 0, 0], port).into();
    for own in [ours, everywhere] {
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"] {
            let outcome = dial_plain(&format!("http://{host}:{port}"), &allow, &[own]).await;
            assert!(matches!(outcome, Err(DialError::OwnListener { .. })), "{host} {own}");
        }
    }
    let origin = origin("http://api.example.com");
    let upstream = leading_to(&origin, ours);
    let outcome = Dialer::new(&origin, &upstream, &[], &[ours]).dial(&World::new().tls().http1).await;
    assert!(matches!(outcome, Err(DialError::OwnListener { .. })));
}

#[tokio::test]
async fn a_listener_on_all_addresses_is_known_by_the_connection_too() {
    let address = answering(b"").await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (origin, upstream) = (origin(ORIGIN), UpstreamSettings::default());
    for (bound, ours) in [([0, 0, 0, 0], true), ([192, 0, 2, 1], false)] {
        let own = [(bound, address.port()).into()];
        assert_eq!(Dialer::new(&origin, &upstream, &[], &own).not_ourselves(&stream).is_err(), ours);
    }
}

#[test]
fn forbidden_answers_are_dropped_and_the_rest_is_dialled() {
    let (origin, upstream) = (origin("https://api.example.com"), UpstreamSettings::default());
    let dialer = Dialer::new(&origin, &upstream, &[], &[]);
    let [public, private]: [SocketAddr; 2] = [([1, 1, 1, 1], 443).into(), ([10, 0, 0, 1], 443).into()];
    assert_eq!(dialer.vetted(vec![private, public]).unwrap(), [public]);
    assert!(matches!(dialer.vetted(vec![private, private]), Err(DialError::Forbidden { .. })));
}

#[test]
fn families_take_turns() {
    let [a, b, c, d]: [SocketAddr; 4] =
        ["[2606::1]:1", "[2606::2]:1", "1.1.1.1:1", "1.1.1.2:1"].map(|address| address.parse().unwrap());
    assert_eq!(alternate(vec![a, b, c, d]), [a, c, b, d]);
    assert_eq!(alternate(vec![c, a, b]), [c, a, b]);
    assert_eq!(alternate(vec![]), []);
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_refuses() {
    let (closed, open) = (refusing().await, answering(b"").await);
    let stream = first_to_connect(vec![closed, open]).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), open);
    assert!(stream.nodelay().unwrap());
    assert_eq!(first_to_connect(vec![closed]).await.unwrap_err().0, closed);
}

/// A corporate proxy that checks the request, and relays to `to` when it is as it should be.
async fn corporate_proxy(to: SocketAddr) -> SocketAddr {
    serve(move |mut stream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let good = "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\
                    Proxy-Authorization: Basic dXNlcjpodW50ZXIy\r\n\r\n";
        if head != good.as_bytes() {
            stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.unwrap();
            return;
        }
        stream.write_all(b"HTTP/1.1 200 Connection established\r\nVia: corp\r\n\r\n").await.unwrap();
        let mut origin = TcpStream::connect(to).await.unwrap();
        let _either_left = tokio::io::copy_bidirectional(&mut stream, &mut origin).await;
    })
    .await
}

fn through(proxy: SocketAddr, credentials: Option<(&str, &str)>) -> UpstreamSettings {
    let secret = |(user, password): (&str, &str)| (user.to_owned(), Secret::parse(password).unwrap().unwrap());
    let host = Host::Ip(proxy.ip());
    let proxy = UpstreamProxy { host, port: proxy.port(), credentials: credentials.map(secret) };
    UpstreamSettings { proxy: Some(proxy), ..UpstreamSettings::default() }
}

async fn dial_through(world: &World, target: &str, upstream: &UpstreamSettings) -> Result<Dialed, DialError> {
    Dialer::new(&origin(target), upstream, &[], &[]).dial(&world.tls().http1).await
}

#[tokio::test]
async fn a_corporate_proxy_carries_verified_tls() {
    let world = World::new();
    let proxy = corporate_proxy(world.echo(|_| {}).await).await;
    let upstream = through(proxy, Some(("user", "hunter2")));
    let mut dialed = dial_through(&world, ORIGIN, &upstream).await.unwrap();
    dialed.write_all(b"hello").await.unwrap();
    dialed.flush().await.unwrap();
    let mut got = [0; 5];
    dialed.read_exact(&mut got).await.unwrap();
    assert_eq!((&got, dialed.peer_addr().unwrap()), (b"hello", proxy));
}

#[tokio::test]
async fn a_corporate_proxys_refusal_tells_no_secret() {
    let world = World::new();
    let proxy = corporate_proxy(refusing().await).await;
    let outcome = dial_through(&world, ORIGIN, &through(proxy, Some(("user", "hunter3")))).await;
    let denial = Denial::from(outcome.unwrap_err());
    assert_eq!(denial.code, DenialCode::UpstreamProxy);
    assert!(denial.message.contains("407"), "{}", denial.message);
    let shown = format!("{denial:?}");
    assert!(!shown.contains("hunter3") && !shown.contains("dXNlcjpodW50ZXIz"), "{shown}");
}

#[tokio::test]
async fn bad_answers_of_a_corporate_proxy_open_no_tunnel() {
    const ENDLESS: &[u8] = &{
        let mut head = [b'a'; 20_000];
        let start = *b"HTTP/1.1 200 OK\r\nx: ";
        let mut at = 0;
        while at < start.len() {
            head[at] = start[at];
            at += 1;
        }
        head
    };
    let cases: [(&[u8], &str); 5] = [
        (b"HTTP/1.1 503 Busy\r\n\r\n", "it answered 503"),
        (b"HTTP/1.1 200 OK\r\n\r\nsurplus", "not a valid response"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "it answered 100"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not a valid response"),
        (ENDLESS, "not a valid response"),
    ];
    let world = World::new();
    for (answer, text) in cases {
        let error = dial_through(&world, ORIGIN, &through(answering(answer).await, None)).await.unwrap_err();
        assert!(matches!(error, DialError::Proxy { .. }) && error.to_string().contains(text), "{error}");
    }
    for proxy in [hanging_up().await, refusing().await] {
        let error = dial_through(&world, ORIGIN, &through(proxy, None)).await.unwrap_err();
        assert!(matches!(error, DialError::Proxy { fault: ProxyFault::Io(_), .. }), "{error}");
    }
}

#[tokio::test]
async fn a_silent_corporate_proxy_is_given_up() {
    let mut upstream = through(answering(b"").await, None);
    upstream.connect_timeout = Duration::from_millis(300);
    let error = dial_through(&World::new(), ORIGIN, &upstream).await.unwrap_err();
    assert!(matches!(error, DialError::Timeout { phase: Phase::Tunnel, .. }), "{error}");
}

#[tokio::test]
async fn a_corporate_proxy_is_no_way_round_the_guard() {
    let proxy = answering(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let world = World::new();
    for target in ["http://169.254.169.254", "http://10.0.0.1", "http://localhost", "http://a.localhost:8080"] {
        let error = dial_through(&world, target, &through(proxy, None)).await.unwrap_err();
        assert!(matches!(error, DialError::Forbidden { .. }), "{target}: {error}");
    }
    let upstream = through(proxy, None);
    let origin = origin(ORIGIN);
    let own = Dialer::new(&origin, &upstream, &[], &[proxy]).dial(&world.tls().http1).await.unwrap_err();
    assert!(matches!(own, DialError::OwnListener { .. }), "{own}");
}

#[tokio::test]
async fn hosts_without_proxy_and_mapped_ones_are_dialled_directly() {
    let world = World::new();
    let address = world.echo(|_| {}).await;
    let mut upstream = through(refusing().await, None);
    upstream.resolve = leading_to(&origin(ORIGIN), address).resolve;
    dial_through(&world, ORIGIN, &upstream).await.unwrap();

    let (host, port) = ("localhost", answering(b"").await.port());
    upstream.no_proxy = vec![HostPattern::parse(host).unwrap()];
    let origin = origin(&format!("http://{host}:{port}"));
    let allow = ["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    let dialed = Dialer::new(&origin, &upstream, &allow, &[]).dial(&world.tls().http1).await.unwrap();
    assert_eq!(dialed.peer_addr().unwrap().port(), port);
}

const NAME: &str = "api.example.com";
const ORIGIN: &str = "https://api.example.com";
