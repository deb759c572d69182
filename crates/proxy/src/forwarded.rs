//! Ports of this machine's loopback that a user opened to a session: carried as they are, and recorded by connection.
//!
//! The user named each; nothing is decided about what is said there, and nothing is put in.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Proxy;
use crate::body::Sent;
use crate::downstream::stream::Socket;
use crate::drain::Drain;
use crate::exchange::Exchange;
use crate::session::Seat;

/// Carries one connection of the session of `seat` to `port`, to its end or that of the session.
pub(crate) async fn serve(proxy: Arc<Proxy>, socket: Socket, seat: Arc<Seat>, port: u16, drain: Drain) {
    let mut exchange = proxy.exchange_aside(Some(&seat));
    describe(&mut exchange, port);
    let limit = proxy.snapshot().settings.limits.max_connections_per_session;
    let Some(_place) = seat.take_place(limit) else {
        return refused(exchange, "the session has too many connections".into());
    };
    if proxy.own_listeners.iter().any(|own| own.port() == port) {
        return refused(exchange, "the port is the daemon's own".into());
    }
    exchange.record().allowed = true;
    if let Err(denial) = exchange.begin() {
        return exchange.denied(&denial);
    }
    let sent = exchange.sent();
    let got = Sent::default();
    let carried = tokio::select! {
        carried = carry(socket, port, &sent, &got) => carried,
        () = seat.revoked.cancelled() => Err(io::Error::other("cut off: the session ended, or the daemon stopped")),
        () = drain.begun() => Err(io::Error::other("cut off: the daemon stopped")),
    };
    exchange.count_response(usize::try_from(got.bytes()).unwrap_or(usize::MAX));
    exchange.record().error = carried.err().map(|error| error.to_string());
    exchange.complete();
}

fn describe(exchange: &mut Exchange, port: u16) {
    let record = exchange.record();
    record.method = "CONNECT".into();
    (record.host, record.port) = ("127.0.0.1".into(), port);
    record.service = record.host.clone();
    record.protocol = "tcp";
    record.rule = Some("--forward".into());
}

/// Nobody reads TCP's own words for a refusal: the connection just ends.
fn refused(mut exchange: Exchange, why: String) {
    exchange.record().error = Some(why);
    exchange.complete();
}

async fn carry(session: Socket, port: u16, sent: &Sent, got: &Sent) -> io::Result<()> {
    let service = timeout(CONNECT_LIMIT, dial(port)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let (mut from_session, mut to_session) = tokio::io::split(session);
    let (mut from_service, mut to_service) = service.into_split();
    let up = pump(&mut from_session, &mut to_service, sent);
    let down = pump(&mut from_service, &mut to_session, got);
    tokio::try_join!(up, down).map(drop)
}

/// The service, on whichever loopback it listens.
#[expect(clippy::disallowed_methods, reason = "the user named this very port of this machine; nobody else could")]
async fn dial(port: u16) -> io::Result<TcpStream> {
    let service = match TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
        Err(refused) => TcpStream::connect(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await.map_err(|_| refused)?,
        Ok(service) => service,
    };
    service.set_nodelay(true)?;
    Ok(service)
}

async fn pump(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin), count: &Sent) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..n).unwrap_or_default()).await?;
        to.flush().await?;
        count.count(n);
    }
}

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Two per connection.
const BUFFER: usize = 16 * 1024;
