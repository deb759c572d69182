//! The gateways: listeners of their own that speak to clusters as the user and to sessions as themselves.
//!
//! A connection is known by the certificate it shows, at the Kubernetes gateway also by the session socket it came in on; requests
//! then go the way of all others: read, classify, decide, inject, record, forward.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;

use clauderon_core::access::AccessMode;
use clauderon_core::credential::CredentialKind;
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::host::{Authority, Host};
use clauderon_core::session::Session;
use http::Request;
use http::header::{HOST, ORIGIN};
use http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;

use crate::Proxy;
use crate::body::Body;
use crate::connection::{Caller, Connection, Reply};
use crate::downstream::http1;
use crate::downstream::stream::{Socket, Stream};
use crate::drain::Drain;
use crate::exchange::Exchange;
use crate::intercept::{self, TLS_HANDSHAKE};
use crate::interim::Interim;
use crate::respond;
use crate::session::{Place, Seat};
use crate::tls::session::Bearer;

pub mod access;
pub mod kubernetes;
mod sending;
pub mod talos;

/// The gateways there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gateway {
    /// To Kubernetes API servers.
    Kubernetes,
    /// To Talos nodes.
    Talos,
}

/// One request's circumstances.
pub(crate) struct Call<'a> {
    pub(crate) proxy: &'a Proxy,
    pub(crate) guest: &'a Guest,
    pub(crate) interim: &'a Interim,
}

/// Who calls on one connection.
pub(crate) struct Guest {
    gateway: Gateway,
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
    (proxy, gateway): (Arc<Proxy>, Gateway),
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
        if gateway == Gateway::Talos {
            return record_failure(&proxy, gateway, &caller, "it is not TLS, which Talos' clients always speak");
        }
        let guest = Guest::bare(&proxy, &caller, busy);
        let connection = Connection::gateway(&proxy, guest, &drain);
        http1::serve(&connection, Stream::Clear(socket)).await;
        return;
    }
    let host = own_host(&caller);
    match tokio::time::timeout(limit, intercept::accept(proxy.leaves_of(gateway), socket, &host)).await {
        Ok(Ok((stream, _any_name_will_do))) => {
            let tls = stream.get_ref().1;
            if gateway == Gateway::Talos && tls.alpn_protocol() != Some(b"h2") {
                return record_failure(&proxy, gateway, &caller, "it did not agree on HTTP/2 (ALPN), which gRPC needs");
            }
            let shown = tls.peer_certificates().and_then(|chain| chain.first());
            let guest = Guest::shown(&proxy, gateway, &caller, (shown.and_then(Bearer::of), busy));
            intercept::serve_tls(Connection::gateway(&proxy, guest, &drain), stream).await;
        }
        Ok(Err(error)) => record_failure(&proxy, gateway, &caller, &format!("{error}; does it trust the CA?")),
        Err(_) => record_failure(&proxy, gateway, &caller, "it was not finished in time"),
    }
}

/// Answers one request: whatever happens, there is one reply and one audit record.
pub(crate) async fn handle(call: Call<'_>, request: Request<Body>) -> Reply {
    match call.guest.gateway {
        Gateway::Kubernetes => kubernetes::call::handle(call, request).await,
        Gateway::Talos => talos::call::handle(call, request).await,
    }
}

impl Gateway {
    /// The service's name in audit records.
    pub(crate) const fn service(self) -> &'static str {
        match self {
            Self::Kubernetes => CredentialKind::Kubernetes.names().name,
            Self::Talos => CredentialKind::Talos.names().name,
        }
    }

    /// The variable that names a session's file for it.
    const fn variable(self) -> &'static str {
        match self {
            Self::Kubernetes => "KUBECONFIG",
            Self::Talos => "TALOSCONFIG",
        }
    }

    fn unknown(self, message: &str) -> Denial {
        let hint = format!("use the {} that `clauderon env NAME` prints", self.variable());
        Denial::new(DenialCode::ProxyAuthRequired, message).hint(hint)
    }

    /// Tells a client what was refused or failed, as the service itself would.
    pub(crate) fn deny(self, denial: &Denial, exchange: Exchange) -> Reply {
        match self {
            Self::Kubernetes => respond::deny_kubernetes(denial, exchange),
            Self::Talos => respond::deny_talos(denial, exchange),
        }
    }
}

impl Guest {
    /// Whose seat it is.
    pub(crate) fn seat(&self) -> Option<&Arc<Seat>> {
        self.seat.as_ref()
    }

    /// To what.
    pub(crate) fn gateway(&self) -> Gateway {
        self.gateway
    }

    /// The key of the context that the certificate is for.
    fn context(&self) -> Option<&str> {
        self.context.as_deref()
    }

    /// The one who calls over TLS.
    fn shown(
        proxy: &Arc<Proxy>,
        gateway: Gateway,
        caller: &Caller,
        (bearer, busy): (Option<Bearer>, Option<Denial>),
    ) -> Self {
        let unknown = |message| gateway.unknown(message);
        let context = bearer.as_ref().map(|bearer| bearer.context.clone());
        let known = match (caller, bearer) {
            (Caller::Socket(id), Some(bearer)) if bearer.session != *id => {
                Err(unknown("the certificate is another session's"))
            }
            // Whoever shows none gets no further at Talos: the certificate says which cluster is meant.
            (Caller::Socket(_), None) if gateway == Gateway::Talos => Err(unknown(BY_CERTIFICATE)),
            (Caller::Socket(id), _) => Ok(proxy.seats.of(id)),
            (Caller::Tcp { .. }, Some(bearer)) => match proxy.snapshot().sessions.by_id(&bearer.session) {
                Some(session) => Ok(proxy.seats.of(&session.id)),
                None => Err(unknown("the session of this certificate has ended")),
            },
            (Caller::Tcp { .. }, None) => Err(unknown(BY_CERTIFICATE)),
        };
        Self { context, ..Self::seated(proxy, gateway, known, busy) }
    }

    /// The one who calls in clear text.
    fn bare(proxy: &Arc<Proxy>, caller: &Caller, busy: Option<Denial>) -> Self {
        if let Caller::Socket(id) = caller {
            return Self::seated(proxy, Gateway::Kubernetes, Ok(proxy.seats.of(id)), busy);
        }
        let snapshot = proxy.snapshot();
        let known = match caller.default_session(&snapshot) {
            Some(session) => Ok(proxy.seats.of(&session.id)),
            None => Err(Gateway::Kubernetes.unknown("clear text is for this machine's own user only")),
        };
        Self { bare: true, ..Self::seated(proxy, Gateway::Kubernetes, known, busy) }
    }

    fn seated(proxy: &Arc<Proxy>, gateway: Gateway, known: Result<Arc<Seat>, Denial>, busy: Option<Denial>) -> Self {
        let nobody = Self { gateway, seat: None, refusal: None, context: None, bare: false, _place: None };
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
            return Err(self.gateway.unknown("clear text is for this machine's own tools only"));
        }
        self.seat.as_ref().ok_or_else(|| self.gateway.unknown(BY_CERTIFICATE))
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

fn too_many() -> Denial {
    Denial::new(DenialCode::TooBusy, "too many connections").hint("see `limits` in proxy.toml")
}

/// A failed handshake reached no server, but it is what a user looks for when a tool does not trust the CA.
fn record_failure(proxy: &Proxy, gateway: Gateway, caller: &Caller, error: &str) {
    let seat = match caller {
        Caller::Socket(id) => Some(proxy.seats.of(id)),
        Caller::Tcp { .. } => None,
    };
    let mut exchange = proxy.exchange(seat.as_ref());
    let record = exchange.record();
    record.method = "CONNECT".into();
    record.service = gateway.service().into();
    record.reason = Some("tls_handshake");
    record.error = Some(format!("the TLS handshake with the client failed: {error}"));
    exchange.complete();
}

const BY_CERTIFICATE: &str = "the gateway knows sessions by their certificates";
