//! Accept loops: a bounded number of connections, each in a task of its own that the drain waits for.

use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use clauderon_core::session::SessionId;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::OwnedSemaphorePermit;

use crate::Proxy;
use crate::connection::{Caller, Connection};
use crate::downstream::http1::{self, Ended};
use crate::downstream::stream::{Socket, Stream};
use crate::drain::Drain;
use crate::forwarded;
use crate::gateway::{self, Gateway};
use crate::intercept;

/// What is behind a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The proxy.
    Proxy,
    /// A gateway.
    Gateway(Gateway),
    /// This port of the machine's loopback, which the user opened to the session whose socket it is.
    Forwarded(u16),
}

/// Accepts on a TCP port until the drain begins.
pub(crate) async fn tcp(proxy: Arc<Proxy>, listener: TcpListener, door: Door, drain: Drain) {
    let loopback = listener.local_addr().is_ok_and(|bound| bound.ip().to_canonical().is_loopback());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.begun() => return,
        };
        let caller = accepted.and_then(|(stream, peer)| {
            // Without this, Nagle and delayed ACK together cost 40 ms a small answer.
            stream.set_nodelay(true)?;
            let local = stream.local_addr()?;
            Ok((Socket::tcp(stream), Caller::Tcp { peer, local, loopback, same_user: OnceLock::new() }))
        });
        start(&proxy, door, caller, &drain).await;
    }
}

/// Accepts on a session's socket until the drain begins or the session ends.
pub(crate) async fn unix(proxy: Arc<Proxy>, listener: UnixListener, session: SessionId, door: Door, drain: Drain) {
    let seat = proxy.seats.of(&session);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.begun() => return,
            () = seat.revoked.cancelled() => return,
        };
        let caller = accepted.map(|(stream, _)| (Socket::unix(stream), Caller::Socket(session.clone())));
        start(&proxy, door, caller, &drain).await;
    }
}

async fn start(proxy: &Arc<Proxy>, door: Door, accepted: io::Result<(Socket, Caller)>, drain: &Drain) {
    match accepted {
        Ok((socket, caller)) => {
            let permit = proxy.connections.clone().try_acquire_owned().ok();
            match door {
                Door::Proxy => drain.spawn(serve(proxy.clone(), socket, caller, drain.clone(), permit)),
                Door::Gateway(gateway) => {
                    let inside = (proxy.clone(), gateway);
                    drain.spawn(gateway::serve(inside, socket, caller, drain.clone(), permit));
                }
                Door::Forwarded(port) => {
                    let (Caller::Socket(session), Some(permit)) = (caller, permit) else { return };
                    let carrying =
                        forwarded::serve(proxy.clone(), socket, proxy.seats.of(&session), port, drain.clone());
                    drain.spawn(async move {
                        carrying.await;
                        drop(permit);
                    });
                }
            }
        }
        Err(error) => {
            // Out of descriptors, most likely: accepting again at once would spin.
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(BACK_OFF).await;
        }
    }
}

async fn serve(proxy: Arc<Proxy>, socket: Socket, caller: Caller, drain: Drain, permit: Option<OwnedSemaphorePermit>) {
    let Some(permit) = permit else {
        return busy(&Connection::overloaded(&proxy, &caller, &drain), socket).await;
    };
    let connection = match Connection::accepted(&proxy, caller, &drain) {
        Ok(connection) => connection,
        Err(refusing) => {
            drop(permit);
            return busy(&refusing, socket).await;
        }
    };
    if let Ended::Connected(socket, tunnel) = http1::serve(&connection, Stream::Clear(socket)).await {
        drop(connection);
        // Boxed: the tunnel's state is the larger part, and the accepted connection's is gone.
        Box::pin(intercept::serve(&proxy, socket, tunnel, &drain)).await;
    }
}

/// Tells a caller that there are too many; the telling is itself bounded by its first request.
async fn busy(connection: &Connection, socket: Socket) {
    let _ = tokio::time::timeout(BUSY_LIMIT, http1::serve(connection, Stream::Clear(socket))).await;
}

const BACK_OFF: Duration = Duration::from_millis(100);

const BUSY_LIMIT: Duration = Duration::from_secs(1);
