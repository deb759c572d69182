//! Inside an accepted CONNECT: the ClientHello is read before anything else, and nothing is relayed unread.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use clauderon_core::denial::Denial;
use clauderon_core::host::{Host, Origin, Scheme};
use tokio::io::AsyncReadExt as _;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::Proxy;
use crate::connection::{Connection, Tunnel};
use crate::downstream::stream::{Socket, Stream};
use crate::downstream::{http1, http2};
use crate::drain::Drain;
use crate::http1::head::malformed;
use crate::session::Seat;
use crate::target::{at_origin, mismatch};
use crate::tls::leaf::LeafCache;

/// Serves what comes through an accepted tunnel.
pub(crate) async fn serve(proxy: &Arc<Proxy>, mut socket: Socket, tunnel: Tunnel, drain: &Drain) {
    let limit = proxy.snapshot().settings.limits.handshake_timeout;
    let first = tokio::select! {
        first = tokio::time::timeout(limit, peek(&mut socket)) => first,
        () = drain.begun() => return,
        () = tunnel.seat.revoked.cancelled() => return,
    };
    let Ok(Ok(Some(first))) = first else { return };
    if first != TLS_HANDSHAKE {
        return serve_clear(proxy, socket, tunnel, drain).await;
    }
    let origin = tunnel.target.clone().origin(Scheme::Https);
    let seat = tunnel.seat.clone();
    match tokio::time::timeout(limit, accept(&proxy.leaves, socket, &origin.host)).await {
        Ok(Ok((stream, disagreement))) => {
            let connection = match disagreement {
                None => Connection::tunnel(proxy, origin, tunnel, drain),
                Some(denial) => Connection::refusing(proxy, denial, seat, drain),
            };
            serve_tls(connection, stream).await;
        }
        Ok(Err(error)) => record_failure(proxy, &seat, &origin, &error),
        Err(_) => record_failure(proxy, &seat, &origin, &io::Error::other("it was not finished in time")),
    }
}

pub(crate) async fn serve_tls(connection: Connection, stream: Box<TlsStream<Socket>>) {
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = Stream::Tls(stream);
    if is_http2 {
        http2::serve(Arc::new(connection), stream).await;
    } else {
        http1::serve(&connection, stream).await;
    }
}

/// Clear-text HTTP in a tunnel: fine on any port but the one where it can only be a mistake or an attack.
async fn serve_clear(proxy: &Arc<Proxy>, socket: Socket, tunnel: Tunnel, drain: &Drain) {
    let connection = if tunnel.port == Scheme::Https.default_port() {
        let denial = malformed("clear text in a tunnel to port 443").hint("speak TLS inside the tunnel");
        Connection::refusing(proxy, denial, tunnel.seat, drain)
    } else {
        let origin = Origin { scheme: Scheme::Http, host: tunnel.target.host.clone(), port: tunnel.port };
        Connection::tunnel(proxy, origin, tunnel, drain)
    };
    http1::serve(&connection, Stream::Clear(socket)).await;
}

/// Reads the ClientHello, then shakes hands as the host it asks for. A name that is not the tunnel's is answered under
/// its own certificate, so that the client can read the refusal; no request of such a connection is forwarded.
pub(crate) async fn accept(
    leaves: &LeafCache,
    socket: Socket,
    host: &Host,
) -> io::Result<(Box<TlsStream<Socket>>, Option<Denial>)> {
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket).await?;
    let asked = start.client_hello().server_name().map(Host::parse).transpose().map_err(io::Error::other)?;
    let asked = asked.unwrap_or_else(|| host.clone());
    let disagreement = (asked != *host).then(|| mismatch(&host.to_string(), &asked.to_string()));
    let config = leaves.config_for(&asked).map_err(io::Error::other)?;
    Ok((Box::new(start.into_stream(config).await?), disagreement))
}

/// A failed handshake reached no origin, but it is what a user looks for when a tool does not trust the CA.
fn record_failure(proxy: &Proxy, seat: &Arc<Seat>, origin: &Origin, error: &io::Error) {
    let mut exchange = proxy.exchange_aside(Some(seat));
    let record = exchange.record();
    record.method = "CONNECT".into();
    record.protocol = "connect";
    at_origin(record, origin);
    record.reason = Some("tls_handshake");
    record.error = Some(format!("the TLS handshake with the client failed: {error}; does it trust the CA?"));
    exchange.complete();
}

/// The first byte, left where it was.
pub(crate) async fn peek(socket: &mut Socket) -> io::Result<Option<u8>> {
    let mut first = [0; 1];
    match socket.read(&mut first).await? {
        0 => Ok(None),
        _ => {
            socket.unread(Bytes::copy_from_slice(&first));
            Ok(first.first().copied())
        }
    }
}

/// The record type every TLS connection begins with (RFC 8446 § 5.1).
pub(crate) const TLS_HANDSHAKE: u8 = 0x16;
