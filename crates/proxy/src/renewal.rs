//! A second try with a secret that was read again. A 401 says that the origin did nothing with the request (RFC 9110
//! § 15.5.2), so whether it is idempotent does not matter.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use clauderon_core::classify::BodyRule;
use clauderon_core::denial::Denial;
use clauderon_core::inject::{Change, Injected, Plan};
use http::header::EXPECT;
use http::request::Parts;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::BoxError;
use crate::body::Body;
use crate::exchange::Exchange;
use crate::pipeline::Call;
use crate::scrub::{Given, Scrub};
use crate::session::Seat;
use crate::snapshot::Renewed;

/// What is kept of a request until its answer is known: enough to send it again with another secret, and never a secret
/// inside the request.
pub(crate) struct Spare {
    plan: Plan,
    parts: Parts,
    body: SpareBody,
    /// What was sent, a secret for each change of the plan.
    given: Vec<Option<Given>>,
    scrub: Scrub,
}

/// A request to be sent again.
pub(crate) struct Again {
    pub(crate) injected: Injected,
    pub(crate) body: Body,
    /// Takes both secrets out of the answer.
    pub(crate) scrub: Scrub,
}

impl Spare {
    /// What `plan` makes of `parts` again, after what is `given` was sent.
    pub(crate) fn new(plan: &Plan, parts: &Parts, given: &[Option<Given>], scrub: &Scrub) -> Self {
        let (plan, parts, given) = (plan.clone(), parts.clone(), given.to_vec());
        Self { plan, parts, body: SpareBody::None, given, scrub: scrub.clone() }
    }

    /// Adds the body, which is remembered as it is sent if it is short and there is room.
    pub(crate) fn with(spare: Option<Box<Self>>, body: Body, seat: &Seat) -> (Option<Box<Self>>, Body) {
        let Some(mut spare) = spare else { return (None, body) };
        let (kept, body) = SpareBody::of(body, seat);
        spare.body = kept;
        (Some(spare), body)
    }

    /// Has the credentials read again, and gives the request with the new secrets; `None` if they are the same, or the request
    /// cannot be sent again.
    pub(crate) async fn renewed(
        mut self: Box<Self>,
        call: &Call<'_>,
        exchange: &mut Exchange,
    ) -> Result<Option<Again>, Denial> {
        if !self.read_again(call, exchange).await {
            return Ok(None);
        }
        let permitted = self.is_permitted_still(call, exchange);
        let Some(body) = self.body.again(call, &self.parts).await.filter(|_| permitted) else {
            exchange.renewed("which is another now; the request could not be sent again");
            return Ok(None);
        };
        exchange.renewed("which is another now; the request was sent again with it");
        self.plan.changes().iter().filter_map(Change::credential).for_each(|name| call.proxy.secrets.used(name));
        let again = Scrub::of_given(&self.given, call.seat, false);
        let scrub = again.map_or_else(|| self.scrub.clone(), |again| self.scrub.with_echoes(again.echoes()));
        call.interim.scrub_with(&scrub);
        let injected = self.plan.apply(self.parts, body.read(), Given::secrets(&self.given))?;
        Ok(Some(Again { injected, body, scrub }))
    }

    /// Whether a secret has become another.
    async fn read_again(&mut self, call: &Call<'_>, exchange: &mut Exchange) -> bool {
        let mut changed = false;
        for (change, given) in self.plan.changes().iter().zip(&mut self.given) {
            let (Some(name), Some(given)) = (change.credential(), given.as_mut().filter(|given| given.renewable))
            else {
                continue;
            };
            match call.proxy.secrets.renew(name, &given.secret).await {
                Renewed::Changed(secret) => {
                    // The seat knows the one that was sent, and looks for both.
                    given.echoes = call.seat.echoes(change.rule(), &secret);
                    given.secret = secret;
                    changed = true;
                }
                Renewed::Same => exchange.renewed("and its source still holds the same"),
                Renewed::NotAsked => {}
                Renewed::Failed(why) => exchange.renewed(format_args!("and it could not be read again: {why}")),
            }
        }
        changed
    }

    /// Reading a credential can take as long as a person takes; what held before need not hold now.
    fn is_permitted_still(&self, call: &Call<'_>, exchange: &Exchange) -> bool {
        let snapshot = call.proxy.snapshot();
        let session = snapshot.sessions.by_id(&call.seat.id).filter(|_| !call.seat.revoked.is_cancelled());
        session.is_some_and(|session| {
            let may_use = |change: &Change| change.credential().is_none_or(|name| session.may_use(name));
            self.plan.changes().iter().all(may_use) && Some(session.mode) == exchange.mode()
        })
    }
}

/// A request's body, if it can be sent again.
enum SpareBody {
    None,
    Whole(Bytes),
    Kept(Memory),
    Gone,
}

impl SpareBody {
    fn of(body: Body, seat: &Seat) -> (Self, Body) {
        if body.is_end_stream() {
            return (Self::None, body);
        }
        if let Body::Full(bytes) = &body {
            return (Self::Whole(bytes.clone()), body);
        }
        let length = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| *length <= BodyRule::MAX_BYTES);
        let Some((length, room)) = length.and_then(|length| Some((length, seat.take_spare(length)?))) else {
            return (Self::Gone, body);
        };
        let kept = Arc::new(Kept { length, state: Mutex::new((body, Some(BytesMut::new()))), _room: room });
        (Self::Kept(Memory(kept.clone())), Body::Kept(KeptBody(kept)))
    }

    /// The whole body. What the origin did not wait for is read now, unless the client waits to be asked for it (RFC 9110
    /// § 10.1.1): then the origin has just told it not to send any.
    async fn again(self, call: &Call<'_>, parts: &Parts) -> Option<Body> {
        let limit = call.proxy.snapshot().settings.limits.idle_timeout;
        match self {
            Self::None => Some(Body::Empty),
            Self::Whole(bytes) => Some(Body::Full(bytes)),
            Self::Kept(_) if parts.headers.contains_key(EXPECT) => None,
            Self::Kept(memory) => Some(Body::Full(tokio::time::timeout(limit, memory.whole()).await.ok()??)),
            Self::Gone => None,
        }
    }
}

/// A body, and what was sent of it so far.
struct Kept {
    length: usize,
    /// No bytes if there is more to the body than bytes, or nobody wants them any more.
    state: Mutex<(Body, Option<BytesMut>)>,
    _room: OwnedSemaphorePermit,
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, (Body, Option<BytesMut>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes are copied: a small frame may be a slice of a buffer many times its size.
    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let (body, bytes) = &mut *self.lock();
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            match (frame.data_ref(), &mut *bytes) {
                (Some(data), Some(bytes)) if bytes.len() + data.len() <= self.length => bytes.extend_from_slice(data),
                _ => *bytes = None,
            }
        }
        Poll::Ready(frame)
    }
}

/// The end of a kept body at which it is remembered; without it nothing is.
struct Memory(Arc<Kept>);

impl Memory {
    async fn whole(self) -> Option<Bytes> {
        while let Some(frame) = poll_fn(|cx| self.0.poll_frame(cx)).await {
            frame.ok()?;
        }
        let bytes = self.0.lock().1.take();
        bytes.filter(|bytes| bytes.len() == self.0.length).map(BytesMut::freeze)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.0.lock().1 = None;
    }
}

/// A request body that is remembered for as long as somebody may want to send it again.
pub(crate) struct KeptBody(Arc<Kept>);

impl HttpBody for KeptBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().0.size_hint()
    }
}
