//! A tap on what real programs receive: it stands between them and the daemon, opens the TLS and keeps every byte.
//!
//! Inside the TLS nothing is touched: both sides agree on a protocol by ALPN through it, and bytes pass as they come.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{Issuer, KeyPair};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::StartHandshake;

use crate::bytes::Wire;
use crate::ca;
use crate::sightings::Sightings;

/// A running tap; it stops, connections and all, when dropped.
pub(crate) struct Tap {
    addr: SocketAddr,
    acceptor: JoinHandle<()>,
}

/// What every connection of one tap needs.
struct Line {
    daemon: SocketAddr,
    home: PathBuf,
    sightings: Sightings,
}

impl Tap {
    /// Stands before the daemon at `daemon`, which keeps its CA in `home`.
    pub(crate) fn start(daemon: SocketAddr, home: PathBuf, sightings: &Sightings) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        listener.set_nonblocking(true).expect("a socket option");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let line = Arc::new(Line { daemon, home, sightings: sightings.clone() });
        let listener = TcpListener::from_std(listener).expect("tests run in a runtime");
        Self { addr, acceptor: tokio::spawn(accept(listener, line)) }
    }

    /// Where it listens, in the daemon's place.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn accept(listener: TcpListener, line: Arc<Line>) {
    // Owned here, so that aborting the acceptor closes every connection.
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let line = Arc::clone(&line);
        connections.spawn(async move { line.connection(tcp).await });
        while connections.try_join_next().is_some() {}
    }
}

impl Line {
    async fn connection(&self, agent: TcpStream) -> io::Result<()> {
        let daemon = TcpStream::connect(self.daemon).await?;
        agent.set_nodelay(true)?;
        daemon.set_nodelay(true)?;
        let (mut agent, mut daemon) = (Wire::new(agent), Wire::new(daemon));
        let Some(opening) = self.opening(&mut agent, &mut daemon).await else {
            daemon = daemon.watched(&self.sightings);
            return copy_bidirectional(&mut agent, &mut daemon).await.map(drop);
        };
        let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), agent).await?;
        self.inside(hello, daemon, &opening).await
    }

    /// Relays a CONNECT that is granted and followed by TLS, and gives the name it asked for.
    async fn opening(&self, agent: &mut Wire, daemon: &mut Wire) -> Option<String> {
        if agent.peek().await? != b'C' {
            return None;
        }
        let request = agent.until(END).await?;
        daemon.send(&request).await;
        let answer = daemon.until(END).await?;
        self.sightings.add(&answer);
        agent.send(&answer).await;
        let granted = answer.starts_with(b"HTTP/1.1 200");
        if !granted || agent.peek().await? != TLS_HANDSHAKE {
            return None;
        }
        let request = String::from_utf8_lossy(&request);
        let target = request.split(' ').nth(1)?;
        target.rsplit_once(':').map(|(host, _)| host.trim_matches(['[', ']']).to_owned())
    }

    async fn inside(&self, hello: StartHandshake<Wire>, daemon: Wire, host: &str) -> io::Result<()> {
        let (name, offered) = {
            let hello = hello.client_hello();
            let offered = hello.alpn().into_iter().flatten();
            let offered: Vec<String> = offered.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
            (hello.server_name().unwrap_or(host).to_owned(), offered)
        };
        let offered: Vec<&str> = offered.iter().map(String::as_str).collect();
        let authority = read(&self.home, "proxy-ca.pem")?;
        let daemon = daemon.try_tls(&name, ca::client(&authority, &offered)).await?;
        let agreed = daemon.peer().alpn.clone().map(|name| String::from_utf8_lossy(&name).into_owned());
        let key = KeyPair::from_pem(&read(&self.home, "proxy-ca-key.pem")?).map_err(io::Error::other)?;
        let issuer = Issuer::from_ca_cert_pem(&authority, key).map_err(io::Error::other)?;
        let config = ca::signed_by(&issuer, name, agreed.as_deref());
        let mut agent = hello.into_stream(config).await?;
        copy_bidirectional(&mut agent, &mut daemon.watched(&self.sightings)).await.map(drop)
    }
}

fn read(home: &std::path::Path, file: &str) -> io::Result<String> {
    std::fs::read_to_string(home.join(file))
}

const END: &[u8] = b"\r\n\r\n";

/// The content type of a TLS record that begins a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
