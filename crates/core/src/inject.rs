//! Injection: the only place where a secret meets a request.
//!
//! In two steps, so that a secret is only asked for when it will go out: [`plan`] reads the request, [`Plan::apply`] writes it.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

mod auth;
mod body;
mod change;
mod look;
mod render;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::request::Parts;
use smallvec::SmallVec;

use crate::credential::CredentialName;
use crate::denial::{Denial, DenialCode};
use crate::host::{Origin, Scheme};
use crate::path::CanonicalPath;
use crate::policy::Permit;
use crate::rule::{InjectPolicy, Rule, RuleSet};
use crate::secret::Secret;
use crate::session::Session;

pub use change::Change;
pub use look::InForce;
use look::Seen;

/// What is to be done to a permitted request, before its secrets are known. Nearly always that is one change, or none.
#[derive(Debug, Clone)]
pub struct Plan(SmallVec<[Change; 1]>);

/// A request head that may go out. Only [`Plan`] makes one.
pub struct Injected {
    parts: Parts,
    rules: SmallVec<[Arc<Rule>; 1]>,
    body: Option<Bytes>,
}

/// Whether a placeholder may stand in the request's body, so that it must be read before the secret is put in.
pub fn reads_body(permit: &Permit, headers: &HeaderMap) -> bool {
    permit.derivation().is_some() || body::may_stand_in_it(headers, permit.rules())
}

/// Looks through a permitted request for placeholders and decides what its rules do. `body` is the whole of it where
/// [`reads_body`] says so.
///
/// A placeholder that is another session's, or stands anywhere but on the surface of a rule for this request, is a denial.
#[expect(clippy::needless_pass_by_value, reason = "a permit is good for one request")]
pub fn plan(
    permit: Permit,
    parts: &Parts,
    body: Option<&Bytes>,
    session: &Session,
    in_force: InForce<'_>,
) -> Result<Plan, Denial> {
    let seen = look::placeholders(parts, body, session, in_force);
    if seen.is_empty() {
        return Ok(Plan(unasked(&permit, parts, body, session)));
    }
    let rules = Rules { permit: &permit, path: parts.uri.path() };
    let changes = rules.swapping(&seen, session).map_err(|stray| {
        let known = permit.rules().iter().any(|rule| rule.credential == *stray.credential);
        misdirected(permit.origin(), known, stray, session)
    })?;
    changes.iter().try_for_each(|change| look::single_valued(parts, &change.rule().shape))?;
    Ok(Plan(if changes.is_empty() { unasked(&permit, parts, body, session) } else { changes }))
}

/// What a refused request is told: a placeholder at a host that its credential never goes to, or another session's, is an alarm
/// whatever else was wrong.
pub fn or_alarm(
    denial: Denial,
    (parts, origin): (&Parts, &Origin),
    rules: &RuleSet,
    session: &Session,
    in_force: InForce<'_>,
) -> Denial {
    let own_hosts = denial.code == DenialCode::Minting;
    if !own_hosts && !matches!(denial.code, DenialCode::ReadOnly | DenialCode::HostNotAllowed) {
        return denial;
    }
    let goes = |seen: &Seen<'_>| match seen.derived {
        Some(token) => token.goes_to(origin),
        None => own_hosts || rules.of_origin(origin).any(|rule| rule.credential == *seen.credential),
    };
    let seen = look::placeholders(parts, None, session, in_force);
    match seen.iter().find(|seen| *seen.session != session.id || !goes(seen)) {
        Some(stray) => misdirected(origin, false, stray, session),
        None => denial,
    }
}

/// Why the rules add nothing to a permitted request that carries no placeholder, for people; `None` if they do.
pub fn idle_because(permit: &Permit, parts: &Parts, body: Option<&Bytes>, session: &Session) -> Option<&'static str> {
    if !unasked(permit, parts, body, session).is_empty() {
        return None;
    }
    let Some(rule) = permit.rule() else {
        return Some(match permit.origin().scheme {
            Scheme::Http => "credentials go over TLS only",
            Scheme::Https if permit.service().is_some() => "no credential goes to this path",
            Scheme::Https => "no credential goes to this host",
        });
    };
    Some(if !session.may_use(&rule.credential) {
        "the session may not use it"
    } else if rule.adds()
        && (body::takes_credential(permit, parts, body) || look::carries_credential(parts, &rule.shape))
    {
        "the request carries a credential of its own"
    } else {
        "it goes out only in place of the session's placeholder"
    })
}

impl Plan {
    /// What is done, each with a secret of its own; nothing if the request goes out as it is.
    pub fn changes(&self) -> &[Change] {
        &self.0
    }

    /// Puts the secrets in, one for each change and in their order; `None` where none is configured. An error means that one
    /// is missing, or cannot be rendered on its surface. `body` is what [`plan`] was given.
    pub fn apply<'s>(
        self,
        parts: Parts,
        body: Option<&Bytes>,
        secrets: impl IntoIterator<Item = Option<&'s Secret>>,
    ) -> Result<Injected, Denial> {
        let mut injected = Injected { parts, rules: SmallVec::new(), body: None };
        let mut secrets = secrets.into_iter();
        for change in self.0 {
            match secrets.next().flatten() {
                Some(secret) => injected.change(change, body, secret)?,
                None if change.swaps() => return Err(change.unavailable(None)),
                None => {}
            }
        }
        Ok(injected)
    }
}

impl Injected {
    fn change(&mut self, change: Change, sent: Option<&Bytes>, secret: &Secret) -> Result<(), Denial> {
        let body = self.body.as_ref().or(sent);
        let (put_in, body) = change.put_in(&mut self.parts, body, secret)?;
        if body.is_some() {
            self.body = body;
        }
        if put_in {
            change.rule().add_extra(&mut self.parts);
            self.rules.push(change.into_rule());
        }
        Ok(())
    }

    /// The head as it goes upstream.
    pub fn into_parts(self) -> Parts {
        self.parts
    }

    /// Takes the body that goes with it, if another one does than the agent sent.
    pub fn take_body(&mut self) -> Option<Bytes> {
        self.body.take()
    }

    /// Whether a real secret is in it.
    pub fn auth_injected(&self) -> bool {
        !self.rules.is_empty()
    }

    /// The credentials whose secrets are in it, each once.
    pub fn credentials(&self) -> impl Iterator<Item = &CredentialName> {
        let names = || self.rules.iter().map(|rule| &rule.credential);
        names()
            .enumerate()
            .filter(move |(nth, name)| !names().take(*nth).any(|other| other == *name))
            .map(|(_, name)| name)
    }

    /// The rule by which a secret was put in; the first, if there are several.
    pub fn rule(&self) -> Option<&Arc<Rule>> {
        self.rules.first()
    }
}

/// What the rules do to a request that carries no placeholder: each credential is added once, where no other one is.
fn unasked(permit: &Permit, parts: &Parts, body: Option<&Bytes>, session: &Session) -> SmallVec<[Change; 1]> {
    let wanted = |rule: &Rule| match rule.inject {
        InjectPolicy::Auto => {
            !body::takes_credential(permit, parts, body) && !look::carries_credential(parts, &rule.shape)
        }
        InjectPolicy::Placeholder => false,
        InjectPolicy::Always => true,
    };
    let mut changes: SmallVec<[Change; 1]> = SmallVec::new();
    for rule in permit.rules() {
        let room = !changes.iter().any(|change| change.leaves_no_room_for(rule));
        if room && session.may_use(&rule.credential) && wanted(rule) {
            changes.push(Change::add(rule, session));
        }
    }
    changes
}

/// The rules a request's placeholders are swapped by: the permit's, and each derived token's own.
struct Rules<'a> {
    permit: &'a Permit,
    path: &'a str,
}

impl Rules<'_> {
    /// What is put in the place of everything seen, or what stands where it does not belong.
    fn swapping<'s, 't>(&self, seen: &'s [Seen<'t>], session: &Session) -> Result<SmallVec<[Change; 1]>, &'s Seen<'t>> {
        let mut changes: SmallVec<[Change; 1]> = SmallVec::new();
        for one in seen {
            if changes.iter_mut().any(|change| change.covers(one)) {
                continue;
            }
            let own = *one.session == session.id && session.may_use(one.credential);
            let rule = self.of(one).find(|rule| own && one.is_swapped_by(rule)).ok_or(one)?;
            // What has ended goes out as it is where it belonged: the origin says so, and the client asks for another.
            if !one.ended {
                changes.push(Change::swap(rule, one, session));
            }
        }
        Ok(changes)
    }

    fn of<'a>(&'a self, seen: &'a Seen<'_>) -> impl Iterator<Item = &'a Arc<Rule>> {
        let own = seen
            .derived
            .into_iter()
            .flat_map(|token| token.rules(self.permit.origin(), CanonicalPath::parse(self.path).ok()));
        let permitted = self.permit.rules().iter().filter(|_| seen.derived.is_none());
        own.chain(permitted)
    }
}

/// The alarm. It names the credential and the host, and never repeats the placeholder.
fn misdirected(origin: &Origin, known: bool, stray: &Seen<'_>, session: &Session) -> Denial {
    let (credential, host) = (stray.credential, origin.authority());
    let (message, hint) = if *stray.session != session.id {
        let message =
            format!("the placeholder for `{credential}` in this request to {host} belongs to another session");
        (message, format!("`clauderon env {}` prints this session's own", session.name))
    } else if !session.may_use(credential) {
        let message = format!("this session may not use the credential `{credential}`");
        (message, format!("create a session with `--credential {credential}`"))
    } else if known {
        let message =
            format!("the placeholder for `{credential}` stands where {host} does not expect it: {}", stray.place);
        (message, "send it where the service documents its token".to_owned())
    } else {
        let message = format!("the placeholder for `{credential}` does not belong in this request to {host}");
        (message, "`clauderon config credentials` shows the hosts it goes to".to_owned())
    };
    Denial::new(DenialCode::PlaceholderMisdirected, message)
        .detail("credential", credential.as_str())
        .detail("host", origin.host.to_string())
        .detail("session", session.name.as_str())
        .hint(hint)
}

#[cfg(test)]
mod tests;
