//! Injection: the only place where a secret meets a request.
//!
//! In two steps, so that a secret is only asked for when it will go out: [`plan`] reads the request, [`Plan::apply`] writes it.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

mod auth;
mod body;
mod look;
mod render;

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;

use crate::credential::CredentialName;
use crate::denial::{Denial, DenialCode};
use crate::derived::DerivedToken;
use crate::host::{Origin, Scheme};
use crate::path::CanonicalPath;
use crate::policy::Permit;
use crate::rule::{InjectPolicy, Rule, RuleSet, Shape};
use crate::secret::Secret;
use crate::session::{Session, SessionName};

pub use look::InForce;
use look::Seen;
use render::Fault;

/// What is to be done to a permitted request, before its secret is known.
#[derive(Debug, Clone)]
pub struct Plan(Option<Change>);

/// A request head that may go out. Only [`Plan`] makes one.
pub struct Injected {
    parts: Parts,
    rule: Option<Arc<Rule>>,
    body: Option<Bytes>,
}

/// Looks through a permitted request for placeholders and decides what its rules do. `body` is the whole of it where
/// [`Permit::reads_body`] says so.
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
    let rules = Rules { permit: &permit, path: CanonicalPath::parse(parts.uri.path()).ok() };
    let rule = rules.swapping(&seen, session).map_err(|stray| {
        let known = permit.rules().iter().any(|rule| rule.credential == *stray.credential);
        misdirected(permit.origin(), known, stray, session)
    })?;
    look::single_valued(parts, &rule.shape)?;
    let placeholders = seen.iter().map(|seen| seen.text.clone()).collect();
    let derived = seen.iter().find_map(|seen| seen.derived).cloned();
    Ok(Plan(Some(Change { rule, action: Action::Swap(placeholders), derived, session: session.name.clone() })))
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
    if unasked(permit, parts, body, session).is_some() {
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
    } else if body::takes_credential(permit, body) || look::carries_credential(parts, &rule.shape) {
        "the request carries a credential of its own"
    } else {
        "it goes out only in place of the session's placeholder"
    })
}

impl Plan {
    /// The credential whose secret is needed; `None` if the request goes out as it is, or with a derived token.
    pub fn credential(&self) -> Option<&CredentialName> {
        self.0.as_ref().filter(|change| change.derived.is_none()).map(|change| &change.rule.credential)
    }

    /// The derived token that is put in.
    pub fn derived(&self) -> Option<&Arc<DerivedToken>> {
        self.0.as_ref()?.derived.as_ref()
    }

    /// The rule that asks for it.
    pub fn rule(&self) -> Option<&Arc<Rule>> {
        self.0.as_ref().map(|change| &change.rule)
    }

    /// Whether the secret takes the place of a placeholder; else it is added.
    pub fn swaps(&self) -> bool {
        self.0.as_ref().is_some_and(|change| matches!(change.action, Action::Swap(_)))
    }

    /// Puts the secret in; an error means that it cannot be rendered on its surface. `body` is what [`plan`] was given.
    pub fn apply(self, mut parts: Parts, body: Option<&Bytes>, secret: &Secret) -> Result<Injected, Denial> {
        let Some(change) = self.0 else { return Ok(Injected { parts, rule: None, body: None }) };
        match change.put_in(&mut parts, body, secret) {
            Ok((put_in, body)) => {
                if put_in {
                    change.rule.add_extra(&mut parts);
                }
                Ok(Injected { parts, rule: put_in.then_some(change.rule), body })
            }
            Err(fault) => Err(change.unrenderable(fault)),
        }
    }

    /// Goes on without a secret: none is needed, none is configured (`why` is `None`), or it cannot be had (`why` says so).
    pub fn without_secret(self, parts: Parts, why: Option<&str>) -> Result<Injected, Denial> {
        match self.0 {
            Some(change) if why.is_some() || matches!(change.action, Action::Swap(_)) => Err(change.unavailable(why)),
            Some(_) | None => Ok(Injected { parts, rule: None, body: None }),
        }
    }
}

impl Injected {
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
        self.rule.is_some()
    }

    /// The credential whose secret is in it.
    pub fn credential(&self) -> Option<&CredentialName> {
        self.rule.as_ref().map(|rule| &rule.credential)
    }

    /// The rule by which the secret was put in.
    pub fn rule(&self) -> Option<&Arc<Rule>> {
        self.rule.as_ref()
    }
}

#[derive(Debug, Clone)]
struct Change {
    rule: Arc<Rule>,
    action: Action,
    /// What is put in, if not the credential itself.
    derived: Option<Arc<DerivedToken>>,
    session: SessionName,
}

#[derive(Debug, Clone)]
enum Action {
    /// Put the secret on the surface, whatever stood there.
    Add,
    /// Put it in the place of these texts on the surface, and leave the rest as the client wrote it.
    Swap(Vec<String>),
}

impl Change {
    /// Whether the secret is in, and the body if it is in that.
    fn put_in(&self, parts: &mut Parts, body: Option<&Bytes>, secret: &Secret) -> Result<(bool, Option<Bytes>), Fault> {
        match (&self.action, &self.rule.shape) {
            (Action::Add, shape) => Ok((render::add(parts, shape, secret)?, None)),
            (Action::Swap(placeholders), Shape::Body { field, user }) => {
                let body = body.ok_or(Fault::Ambiguous)?;
                Ok((true, Some(body::swap(parts, body, (field, user.as_ref()), placeholders, secret)?)))
            }
            (Action::Swap(placeholders), shape) => {
                render::swap(parts, shape, placeholders, secret)?;
                Ok((true, None))
            }
        }
    }

    fn unavailable(&self, why: Option<&str>) -> Denial {
        let name = &self.rule.credential;
        let (message, hint) = match why {
            Some(why) => (format!("the credential `{name}` cannot be had: {why}"), "see what is wrong with it"),
            None => (format!("no secret is configured for `{name}`"), "see where it can be configured"),
        };
        self.denial(message, &format!("`clauderon config credentials` lets you {hint}"))
    }

    fn unrenderable(&self, fault: Fault) -> Denial {
        let name = &self.rule.credential;
        match fault {
            Fault::NotAHeaderValue => self.denial(
                format!("the secret of `{name}` contains bytes that no HTTP header may carry"),
                "configure it anew without them",
            ),
            Fault::NoUser => self.denial(
                format!("no user name is known that goes with `{name}`"),
                &format!("set `username` under `[services.{name}]` in proxy.toml, or write the secret as `user:token`"),
            ),
            Fault::Ambiguous => {
                let message = format!("the placeholder for `{name}` stands in a body that can be read in several ways");
                Denial::new(DenialCode::MalformedRequest, message).hint("send each field once, as JSON or as a form")
            }
            Fault::NoSecond => self.denial(
                format!("the secret of `{name}` is one key, and two are wanted"),
                "write both as `first:second`",
            ),
            Fault::BadTarget => {
                self.denial(format!("the secret of `{name}` does not fit into the URL"), "shorten the URL")
            }
        }
    }

    fn denial(&self, message: String, hint: &str) -> Denial {
        Denial::new(DenialCode::CredentialUnavailable, message)
            .detail("credential", self.rule.credential.as_str())
            .detail("session", self.session.as_str())
            .hint(hint)
    }
}

/// What the rules do to a request that carries no placeholder.
fn unasked(permit: &Permit, parts: &Parts, body: Option<&Bytes>, session: &Session) -> Option<Change> {
    let taken = body::takes_credential(permit, body);
    let wanted = |rule: &Rule| match rule.inject {
        InjectPolicy::Auto => !taken && !look::carries_credential(parts, &rule.shape),
        InjectPolicy::Placeholder => false,
        InjectPolicy::Always => true,
    };
    let rule = permit.rules().iter().find(|rule| session.may_use(&rule.credential) && wanted(rule))?;
    Some(Change { rule: Arc::clone(rule), action: Action::Add, derived: None, session: session.name.clone() })
}

/// The rules a request's placeholders are swapped by: the permit's, and each derived token's own.
struct Rules<'a> {
    permit: &'a Permit,
    path: Option<CanonicalPath<'a>>,
}

impl Rules<'_> {
    /// The rule on whose surface everything seen stands, or what stands where it does not belong.
    fn swapping<'s, 't>(&self, seen: &'s [Seen<'t>], session: &Session) -> Result<Arc<Rule>, &'s Seen<'t>> {
        let fits = |seen: &Seen<'_>, rule: &Arc<Rule>| {
            let own = *seen.session == session.id && session.may_use(seen.credential);
            own && *seen.credential == rule.credential && seen.place.is_on(&rule.shape)
        };
        let last = seen.last().expect("there is a sighting");
        if let Some(stray) = seen.iter().find(|seen| !self.of(seen).any(|rule| fits(seen, rule))) {
            return Err(stray);
        }
        // One secret goes in, so all of them must stand for the same.
        if let Some(other) = seen.iter().find(|seen| !seen.stands_for_the_same(last)) {
            return Err(other);
        }
        let all_fit = |rule: &&Arc<Rule>| seen.iter().all(|seen| fits(seen, rule));
        self.of(last).find(all_fit).cloned().ok_or(last)
    }

    fn of<'a>(&'a self, seen: &'a Seen<'_>) -> impl Iterator<Item = &'a Arc<Rule>> {
        let own = seen.derived.into_iter().flat_map(|token| token.rules(self.permit.origin(), self.path));
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
