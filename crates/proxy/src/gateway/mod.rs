//! The Kubernetes gateway: a listener of its own that speaks to API servers as the user and to sessions as themselves.
//!
//! A connection is known by the session socket it came in on or by the certificate it shows; requests then go the way of all
//! others: read, classify, decide, inject, record, forward.

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;

use clauderon_core::access::AccessMode;
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::host::{Authority, Host};
use clauderon_core::session::Session;
use http::header::{HOST, ORIGIN};
use http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;

use crate::Proxy;
use crate::connection::{Caller, Connection};
use crate::downstream::http1;
use crate::downstream::stream::{Socket, Stream};
use crate::drain::Drain;
use crate::intercept::{self, TLS_HANDSHAKE};
use crate::session::{Place, Seat};
use crate::tls::session::Bearer;

pub(crate) mod call;
pub mod cluster;
pub(crate) mod members;

/// Who calls on one connection.
pub(crate) struct Guest {
    seat: Option<Arc<Seat>>,
    /// What every request gets where nobody could be made out, or the session has too many connections.
    refusal: Option<Denial>,
    /// The context that the certificate is for.
    context: Option<String>,
    /// Clear text from this machine: whoever runs as the user may look, and pages of other sites may not.
    bare: bool,
    _place: Option<Place>,
}

/// Serves one accepted connection.
pub(crate) async fn serve(
    proxy: Arc<Proxy>,
    mut socket: Socket,
    caller: Caller,
    drain: Drain,
    permit: Option<OwnedSemaphorePermit>,
) {
    let limit = proxy.snapshot().settings.limits.handshake_timeout;
    let first = tokio::select! {
        first = tokio::time::timeout(limit, intercept::peek(&mut socket)) => first,
        () = drain.begun() => return,
    };
    let Ok(Ok(Some(first))) = first else { return };
    let busy = permit.is_none().then(too_many);
    if first != TLS_HANDSHAKE {
        let guest = Guest::bare(&proxy, &caller, busy);
        let connection = Connection::gateway(&proxy, guest, &drain);
        http1::serve(&connection, Stream::Clear(socket)).await;
        return;
    }
    let host = own_host(&caller);
    match tokio::time::timeout(limit, intercept::accept(&proxy.gateway_leaves, socket, &host)).await {
        Ok(Ok((stream, _any_name_will_do))) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let guest = Guest::shown(&proxy, &caller, shown.and_then(Bearer::of), busy);
            intercept::serve_tls(Connection::gateway(&proxy, guest, &drain), stream).await;
        }
        Ok(Err(error)) => record_failure(&proxy, &caller, &error),
        Err(_) => record_failure(&proxy, &caller, &io::Error::other("it was not finished in time")),
    }
}

impl Guest {
    /// Whose seat it is.
    pub(crate) fn seat(&self) -> Option<&Arc<Seat>> {
        self.seat.as_ref()
    }

    /// The one who calls over TLS.
    fn shown(proxy: &Arc<Proxy>, caller: &Caller, bearer: Option<Bearer>, busy: Option<Denial>) -> Self {
        let context = bearer.as_ref().map(|bearer| bearer.context.clone());
        let known = match (caller, bearer) {
            (Caller::Socket(id), Some(bearer)) if bearer.session != *id => {
                Err(unknown("the certificate is another session's"))
            }
            (Caller::Socket(id), _) => Ok(proxy.seats.of(id)),
            (Caller::Tcp { .. }, Some(bearer)) => match proxy.snapshot().sessions.by_id(&bearer.session) {
                Some(session) => Ok(proxy.seats.of(&session.id)),
                None => Err(unknown("the session of this certificate has ended")),
            },
            (Caller::Tcp { .. }, None) => Err(unknown("the gateway knows sessions by their certificates")),
        };
        Self { context, ..Self::seated(proxy, known, busy) }
    }

    /// The one who calls in clear text.
    fn bare(proxy: &Arc<Proxy>, caller: &Caller, busy: Option<Denial>) -> Self {
        if let Caller::Socket(id) = caller {
            return Self::seated(proxy, Ok(proxy.seats.of(id)), busy);
        }
        let snapshot = proxy.snapshot();
        let known = match caller.default_session(&snapshot) {
            Some(session) => Ok(proxy.seats.of(&session.id)),
            None => Err(unknown("clear text is for this machine's own user only")),
        };
        Self { bare: true, ..Self::seated(proxy, known, busy) }
    }

    fn seated(proxy: &Arc<Proxy>, known: Result<Arc<Seat>, Denial>, busy: Option<Denial>) -> Self {
        let nobody = Self { seat: None, refusal: None, context: None, bare: false, _place: None };
        let seat = match known {
            Ok(seat) => seat,
            Err(denial) => return Self { refusal: Some(denial), ..nobody },
        };
        let place = seat.take_place(proxy.snapshot().settings.limits.max_connections_per_session);
        let refusal = busy.or_else(|| place.is_none().then(too_many));
        Self { seat: Some(seat), refusal, _place: place, ..nobody }
    }

    /// Whose request this is, or why it is nobody's.
    fn admit(&self, parts: &Parts) -> Result<&Arc<Seat>, Denial> {
        if let Some(denial) = &self.refusal {
            return Err(denial.clone());
        }
        if self.bare && (parts.headers.contains_key(ORIGIN) || !names_this_machine(parts)) {
            // A page of another site may have had its name resolve to this machine.
            return Err(unknown("clear text is for this machine's own tools only"));
        }
        self.seat.as_ref().ok_or_else(|| unknown("the gateway knows sessions by their certificates"))
    }

    /// The session as it may act here.
    fn limited(&self, session: &Arc<Session>) -> Arc<Session> {
        match self.bare {
            false => Arc::clone(session),
            true => Arc::new(Session { mode: AccessMode::ReadOnly, ..Session::clone(session) }),
        }
    }
}

fn names_this_machine(parts: &Parts) -> bool {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let host = host.to_str().ok().and_then(|text| Authority::parse(text).ok()).map(|authority| authority.host);
    match host {
        Some(Host::Ip(ip)) => ip.to_canonical().is_loopback(),
        Some(Host::Name(name)) => &*name == "localhost",
        None => false,
    }
}

/// The name that a client without SNI calls: the address it dialled.
fn own_host(caller: &Caller) -> Host {
    Host::Ip(match caller {
        Caller::Tcp { local, .. } => local.ip().to_canonical(),
        Caller::Socket(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
    })
}

fn unknown(message: &str) -> Denial {
    Denial::new(DenialCode::ProxyAuthRequired, message).hint("use the KUBECONFIG that `clauderon env NAME` prints")
}

fn too_many() -> Denial {
    Denial::new(DenialCode::TooBusy, "too many connections").hint("see `limits` in proxy.toml")
}

/// A failed handshake reached no server, but it is what a user looks for when a tool does not trust the CA.
fn record_failure(proxy: &Proxy, caller: &Caller, error: &io::Error) {
    let seat = match caller {
        Caller::Socket(id) => Some(proxy.seats.of(id)),
        Caller::Tcp { .. } => None,
    };
    let mut exchange = proxy.exchange(seat.as_ref());
    let record = exchange.record();
    record.method = "CONNECT".into();
    record.service = call::SERVICE.into();
    record.reason = Some("tls_handshake");
    record.error = Some(format!("the TLS handshake with the client failed: {error}; does it trust the CA?"));
    exchange.complete();
}
