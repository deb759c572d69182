//! One downstream connection: who is calling, what it may ask for, and where its requests go.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clauderon_core::config::{Anonymous, Limits, Settings};
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::host::{Authority, Origin, Scheme};
use clauderon_core::policy;
use clauderon_core::session::{Session, SessionId, SessionName};
use http::header::PROXY_AUTHORIZATION;
use http::{HeaderMap, Method, Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::sync::Notify;

use crate::Proxy;
use crate::body::{Body, Observed};
use crate::drain::Drain;
use crate::gateway::{self, Guest};
use crate::http1::head::malformed;
use crate::interim::Interim;
use crate::peer;
use crate::pipeline::{self, Call};
use crate::respond;
use crate::session::{Place, Seat};
use crate::snapshot::Snapshot;
use crate::target::{Target, TunnelOrigin, at_origin};
use crate::websocket::Opened;

/// A connection that requests arrive on.
pub(crate) struct Connection {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) drain: Drain,
    settings: Arc<Settings>,
    role: Role,
}

/// What a connection is for.
enum Role {
    /// As accepted: proxy requests, CONNECT, and, on TCP, the daemon's own service.
    Front(Front),
    /// Inside an accepted tunnel.
    Tunnel { tunnel: TunnelOrigin, seat: Arc<Seat>, _place: Place },
    /// To a gateway.
    Gateway(Guest),
    /// Inside a tunnel that cannot be: every request gets the same answer.
    Refusing { denial: Denial, seat: Option<Arc<Seat>> },
}

/// A connection as accepted.
struct Front {
    caller: Caller,
    /// Among those of the session it calls as; taken when that is known, and handed on to the tunnel it becomes.
    place: Mutex<Option<Place>>,
    /// Told when the place changes.
    settled: Notify,
}

/// How a caller on a listener is known.
pub(crate) enum Caller {
    /// By the session socket it came in on.
    Socket(SessionId),
    /// By proxy credentials, or by the user its process runs as.
    Tcp {
        peer: SocketAddr,
        local: SocketAddr,
        /// Whether the listener takes callers of this machine only; on any other nobody is known by their user.
        loopback: bool,
        /// Asked of the kernel once a connection.
        same_user: OnceLock<bool>,
    },
}

/// What comes of a request.
pub(crate) enum Answer {
    /// A reply.
    Reply(Box<Reply>),
    /// An accepted CONNECT.
    Connect(Tunnel),
}

/// A reply on its way to the agent.
pub(crate) struct Reply {
    pub(crate) response: Response<Observed>,
    /// The origin's side of a WebSocket, when the response is a 101.
    pub(crate) upgraded: Option<Opened>,
}

/// An accepted CONNECT: whose it is, and where it leads.
pub(crate) struct Tunnel {
    pub(crate) seat: Arc<Seat>,
    pub(crate) target: Authority,
    pub(crate) port: u16,
    pub(crate) place: Place,
}

impl Connection {
    /// A connection just accepted; the answer to its requests when its session has too many.
    pub(crate) fn accepted(proxy: &Arc<Proxy>, caller: Caller, drain: &Drain) -> Result<Self, Box<Self>> {
        let front = Front { caller, place: Mutex::default(), settled: Notify::new() };
        let connection = Self::new(proxy, drain, Role::Front(front));
        if let Role::Front(front @ Front { caller: Caller::Socket(id), .. }) = &connection.role {
            let seat = proxy.seats.of(id);
            if let Err(denial) = front.settle(&seat, connection.limits()) {
                return Err(Box::new(Self::refusing(proxy, denial, seat, drain)));
            }
        }
        Ok(connection)
    }

    /// The inside of a tunnel to `origin`.
    pub(crate) fn tunnel(proxy: &Arc<Proxy>, origin: Origin, tunnel: Tunnel, drain: &Drain) -> Self {
        let bucket = proxy.pool.bucket(&tunnel.seat.id, &origin);
        let inside =
            TunnelOrigin { authority: origin.authority(), host: origin.host.to_string().into(), origin, bucket };
        Self::new(proxy, drain, Role::Tunnel { tunnel: inside, seat: tunnel.seat, _place: tunnel.place })
    }

    /// The inside of a tunnel that is refused after it was accepted.
    pub(crate) fn refusing(proxy: &Arc<Proxy>, denial: Denial, seat: Arc<Seat>, drain: &Drain) -> Self {
        Self::new(proxy, drain, Role::Refusing { denial, seat: Some(seat) })
    }

    /// A connection to a gateway.
    pub(crate) fn gateway(proxy: &Arc<Proxy>, guest: Guest, drain: &Drain) -> Self {
        Self::new(proxy, drain, Role::Gateway(guest))
    }

    /// One connection too many.
    pub(crate) fn overloaded(proxy: &Arc<Proxy>, caller: &Caller, drain: &Drain) -> Self {
        let denial = Denial::new(DenialCode::TooBusy, "too many connections").hint("see `limits.max_connections`");
        let seat = match caller {
            Caller::Socket(id) => Some(proxy.seats.of(id)),
            Caller::Tcp { .. } => None,
        };
        Self::new(proxy, drain, Role::Refusing { denial, seat })
    }

    fn new(proxy: &Arc<Proxy>, drain: &Drain, role: Role) -> Self {
        let settings = proxy.snapshot().settings.clone();
        Self { proxy: proxy.clone(), drain: drain.clone(), settings, role }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    /// Ends when the connection's session does.
    pub(crate) async fn revoked(&self) {
        match &self.role {
            Role::Tunnel { seat, .. } | Role::Refusing { seat: Some(seat), .. } => seat.revoked.cancelled().await,
            Role::Front(front) => front.revoked().await,
            Role::Gateway(guest) if guest.seat().is_some() => {
                if let Some(seat) = guest.seat() {
                    seat.revoked.cancelled().await;
                }
            }
            Role::Gateway(_) | Role::Refusing { seat: None, .. } => std::future::pending().await,
        }
    }

    /// Answers one request.
    pub(crate) async fn answer(&self, request: Request<Body>, interim: &Interim) -> Answer {
        let reply = match &self.role {
            Role::Tunnel { tunnel, seat, .. } => {
                let call = Call { proxy: &self.proxy, seat, target: Target::Tunnel(tunnel), interim };
                pipeline::handle(call, request).await
            }
            Role::Gateway(guest) => {
                gateway::handle(gateway::Call { proxy: &self.proxy, guest, interim }, request).await
            }
            Role::Refusing { denial, seat } => self.deny(denial, seat.as_ref(), &request),
            Role::Front(front) if request.method() == Method::CONNECT => return self.connect(front, &request),
            Role::Front(front) if request.uri().scheme().is_some() => self.absolute(front, request, interim).await,
            Role::Front(Front { caller: Caller::Tcp { .. }, .. }) => self.local(request).await,
            Role::Front(Front { caller: Caller::Socket(id), .. }) => {
                let denial = malformed("a session's socket speaks proxy requests only").hint(PROXY_HINT);
                self.deny(&denial, Some(&self.proxy.seats.of(id)), &request)
            }
        };
        Answer::Reply(Box::new(reply))
    }

    /// The reply to a head that could not be read.
    pub(crate) fn refuse_unread(&self, denial: &Denial) -> Reply {
        let seat = match &self.role {
            Role::Tunnel { seat, .. } => Some(seat.clone()),
            Role::Refusing { seat, .. } => seat.clone(),
            Role::Gateway(guest) => guest.seat().cloned(),
            Role::Front(Front { caller: Caller::Socket(id), .. }) => Some(self.proxy.seats.of(id)),
            Role::Front(Front { caller: Caller::Tcp { .. }, .. }) => None,
        };
        let mut exchange = self.proxy.exchange_aside(seat.as_ref());
        if let Role::Tunnel { tunnel, .. } = &self.role {
            at_origin(exchange.record(), &tunnel.origin);
        }
        match &self.role {
            Role::Gateway(guest) => guest.gateway().deny(denial, exchange),
            Role::Front(_) | Role::Tunnel { .. } | Role::Refusing { .. } => respond::deny(denial, exchange),
        }
    }

    fn connect(&self, front: &Front, request: &Request<Body>) -> Answer {
        match self.accept_connect(front, request) {
            Ok(tunnel) => Answer::Connect(tunnel),
            Err((denial, seat)) => Answer::Reply(Box::new(self.deny(&denial, seat.as_ref(), request))),
        }
    }

    fn accept_connect(&self, front: &Front, request: &Request<Body>) -> Result<Tunnel, (Denial, Option<Arc<Seat>>)> {
        let snapshot = self.proxy.snapshot();
        let session = self.identify(&front.caller, request.headers(), &snapshot).map_err(|denial| (denial, None))?;
        let seat = self.proxy.seats.of(&session.id);
        let refuse = |denial| (denial, Some(seat.clone()));
        if !request.body().is_end_stream() {
            // RFC 9110 § 9.3.6 gives it no meaning: the tunnel's first bytes, say some.
            return Err(refuse(malformed("a CONNECT with a body")));
        }
        let text = request.uri().authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let target =
            Authority::parse(text).map_err(|_| refuse(malformed("a CONNECT target that is no host and port")))?;
        let port = target.port.ok_or_else(|| refuse(malformed("a CONNECT target without a port")))?;
        let origin = target.clone().origin(Scheme::Https);
        policy::check_host(&origin, session, &snapshot.settings.policy).map_err(refuse)?;
        front.settle(&seat, self.limits()).map_err(refuse)?;
        let place = front.place().take().expect("the connection was just given a place");
        Ok(Tunnel { seat: seat.clone(), target, port, place })
    }

    async fn absolute(&self, front: &Front, request: Request<Body>, interim: &Interim) -> Reply {
        let session =
            self.identify(&front.caller, request.headers(), &self.proxy.snapshot()).map(|session| session.id.clone());
        let seat = match session {
            Ok(id) => self.proxy.seats.of(&id),
            Err(denial) => return self.deny(&denial, None, &request),
        };
        if let Err(denial) = front.settle(&seat, self.limits()) {
            return self.deny(&denial, Some(&seat), &request);
        }
        let call = Call { proxy: &self.proxy, seat: &seat, target: Target::Absolute, interim };
        pipeline::handle(call, request).await
    }

    /// The daemon's own service; its requests go nowhere, so they are not audited.
    async fn local(&self, request: Request<Body>) -> Reply {
        let response = self.proxy.local.call(request.map(BodyExt::boxed_unsync)).await;
        Reply { response: response.map(|body| Observed::unrecorded(Body::Local(body))), upgraded: None }
    }

    /// Who is calling, in the order of trust: the socket, proxy credentials, the process's user.
    fn identify<'s>(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        snapshot: &'s Snapshot,
    ) -> Result<&'s Arc<Session>, Denial> {
        match caller {
            Caller::Socket(id) => snapshot.sessions.by_id(id).ok_or_else(|| unauthorized("this session has ended")),
            Caller::Tcp { .. } => match headers.get(PROXY_AUTHORIZATION) {
                Some(value) => by_credentials(value.as_bytes(), snapshot),
                None => {
                    let session = caller.default_session(snapshot);
                    session.ok_or_else(|| unauthorized("this proxy needs a session's name and token"))
                }
            },
        }
    }

    fn deny(&self, denial: &Denial, seat: Option<&Arc<Seat>>, request: &Request<Body>) -> Reply {
        let mut exchange = self.proxy.exchange_aside(seat);
        let record = exchange.record();
        record.method = request.method().as_str().into();
        record.path = request.uri().path().into();
        record.protocol = if request.method() == Method::CONNECT { "connect" } else { "HTTP/1.1" };
        let authority = request.uri().authority().and_then(|text| Authority::parse(text.as_str()).ok());
        if let Some(authority) = authority {
            at_origin(record, &authority.origin(Scheme::Https));
        }
        respond::deny(denial, exchange)
    }
}

impl Caller {
    /// The session of callers who are known by nothing but the user their process runs as.
    pub(crate) fn default_session<'s>(&self, snapshot: &'s Snapshot) -> Option<&'s Arc<Session>> {
        let Self::Tcp { peer, local, loopback, same_user } = self else { return None };
        let near = *loopback && peer.ip().to_canonical().is_loopback();
        let open = near && snapshot.settings.anonymous == Anonymous::SameUser;
        let known = open && *same_user.get_or_init(|| peer::same_user(*peer, *local));
        let default = SessionName::parse(SessionName::DEFAULT).ok();
        default.filter(|_| known).and_then(|name| snapshot.sessions.by_name(&name))
    }
}

impl Front {
    /// Gives the connection a place among those of `seat`'s session, which it keeps until it ends or calls as another.
    fn settle(&self, seat: &Arc<Seat>, limits: &Limits) -> Result<(), Denial> {
        let mut place = self.place();
        if place.as_ref().is_none_or(|place| !Arc::ptr_eq(place.seat(), seat)) {
            let too_many = || Denial::new(DenialCode::TooBusy, "the session has too many connections");
            *place = Some(seat.take_place(limits.max_connections_per_session).ok_or_else(too_many)?);
            self.settled.notify_waiters();
        }
        Ok(())
    }

    /// Ends when the session does that the connection calls as, whenever that became known.
    async fn revoked(&self) {
        loop {
            let settled = self.settled.notified();
            let seat = self.place().as_ref().map(|place| place.seat().clone());
            match seat {
                None => settled.await,
                Some(seat) => tokio::select! {
                    () = seat.revoked.cancelled() => return,
                    () = settled => {}
                },
            }
        }
    }

    fn place(&self) -> MutexGuard<'_, Option<Place>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `Basic name:token` (RFC 7617).
fn by_credentials<'s>(value: &[u8], snapshot: &'s Snapshot) -> Result<&'s Arc<Session>, Denial> {
    let encoded = value.get(..6).filter(|scheme| scheme.eq_ignore_ascii_case(b"basic ")).and_then(|_| value.get(6..));
    let decoded =
        encoded.and_then(|encoded| STANDARD.decode(encoded).ok()).and_then(|text| String::from_utf8(text).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    pair.and_then(|(name, token)| snapshot.sessions.by_token(name, token))
        .ok_or_else(|| unauthorized("no session has this name and token"))
}

fn unauthorized(message: &str) -> Denial {
    Denial::new(DenialCode::ProxyAuthRequired, message).hint("use the proxy URL that `clauderon env NAME` prints")
}

const PROXY_HINT: &str = "set HTTPS_PROXY and HTTP_PROXY to this socket's relay, and ask for absolute URLs";
