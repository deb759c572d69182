//! What every gateway does with a request that has been read: decide, put the identity in, record, and say how it goes out.

use std::sync::Arc;

use clauderon_core::classify::Classified;
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::facts::Facts;
use clauderon_core::host::Origin;
use clauderon_core::inject::{Injected, Plan};
use clauderon_core::policy::decide;
use clauderon_core::session::Session;
use http::request::Parts;

use super::Call;
use super::access::Access;
use crate::exchange::Exchange;
use crate::forward::{Route, Waiting};
use crate::scrub::{self, Scrub};
use crate::session::Seat;
use crate::snapshot::Snapshot;
use crate::upstream::dial::Reach;
use crate::upstream::pool::Bucket;

/// A request on its way, perhaps more than once.
pub(crate) struct Sending<'a> {
    pub(crate) call: &'a Call<'a>,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) seat: &'a Arc<Seat>,
    pub(crate) session: &'a Session,
    pub(crate) class: Classified,
    /// Whether the client asks to leave HTTP.
    pub(crate) upgrade: bool,
    pub(crate) exchange: &'a mut Exchange,
}

impl Sending<'_> {
    /// The decision about sending `parts` to `origin` as `access` says, and what is to be put in. Here the request may still be
    /// refused; after [`Self::injected`] it is on record as having gone out.
    pub(crate) fn plan(&mut self, access: &Access, origin: &Origin, parts: &Parts) -> Result<Plan, Denial> {
        let Self { call, snapshot, session, .. } = *self;
        let facts = Facts::of(parts, origin, self.upgrade);
        let permit = decide(&facts, self.class, session, &access.rules, &snapshot.settings.policy)?;
        self.exchange.permitted(&permit);
        call.proxy.derived.plan(permit, parts, None, session, &snapshot.placeholders)
    }

    /// The request with the identity in it, written down, and what takes a secret out of its answer.
    pub(crate) fn injected(
        &mut self,
        access: &Access,
        plan: Plan,
        parts: Parts,
    ) -> Result<(Injected, Option<Scrub>), Denial> {
        let (injected, scrub) = self.fill(access, plan, parts)?;
        self.note(access, &injected, scrub.as_ref());
        self.exchange.begin_once()?;
        Ok((injected, scrub))
    }

    fn fill(&self, access: &Access, plan: Plan, mut parts: Parts) -> Result<(Injected, Option<Scrub>), Denial> {
        let head_only = parts.method == http::Method::HEAD;
        let Some(secret) = access.secret() else { return Ok((plan.apply(parts, None, [])?, None)) };
        if !plan.changes().is_empty() {
            scrub::narrow_codings(&mut parts.headers);
        }
        let injected = plan.apply(parts, None, [Some(&**secret)])?;
        let scrub = injected.rule().map(|rule| Scrub::new(self.seat.echoes(rule, secret), head_only));
        scrub.iter().for_each(|scrub| self.call.interim.scrub_with(scrub));
        Ok((injected, scrub))
    }

    fn note(&mut self, access: &Access, injected: &Injected, scrub: Option<&Scrub>) {
        self.exchange.injected(injected, scrub);
        let service = self.call.guest.gateway().service();
        let record = self.exchange.record();
        record.service = service.into();
        record.auth_injected |= access.shows_itself();
        if record.auth_injected {
            record.credential = Some(service.into());
        }
        // The context tells more than a rule that covers everything.
        if record.reason.is_none() {
            record.rule = Some(access.context.as_str().into());
        }
    }

    /// The connections that this session has to `origin` as `access` says.
    pub(crate) fn bucket(&self, access: &Access, origin: &Origin) -> Arc<Bucket> {
        self.call.proxy.pool.bucket_as(&self.seat.id, origin, access.serial)
    }
}

/// How a request goes to `origin` as `access` says.
pub(crate) fn route<'a>(
    (call, snapshot): (&'a Call<'_>, &'a Snapshot),
    access: &'a Access,
    origin: &'a Origin,
    bucket: &'a Arc<Bucket>,
    (sent, waiting): (&'a Arc<crate::body::Sent>, Waiting),
) -> Route<'a> {
    let reach = Reach {
        tls: &access.tls,
        settings: &snapshot.settings,
        own_listeners: &call.proxy.own_listeners,
        named: Some(&access.named),
    };
    Route { reach, origin, bucket, interim: call.interim, sent, waiting }
}

pub(crate) fn session_ended() -> Denial {
    Denial::new(DenialCode::ProxyAuthRequired, "this session has ended").hint("clauderon list")
}

pub(crate) fn no_cluster(why: &str) -> Denial {
    Denial::new(DenialCode::CredentialUnavailable, why)
}
