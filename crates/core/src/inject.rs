//! Injection: the only place where a secret meets a request.
//!
//! In two steps, so that a secret is only asked for when it will go out: [`plan`] reads the request, [`Plan::apply`] writes it.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

mod auth;
mod look;
mod render;

use std::sync::Arc;

use http::request::Parts;

use crate::credential::CredentialName;
use crate::denial::{Denial, DenialCode};
use crate::host::{Origin, Scheme};
use crate::placeholder::PlaceholderTable;
use crate::policy::Permit;
use crate::rule::{InjectPolicy, Rule, RuleSet};
use crate::secret::Secret;
use crate::session::{Session, SessionName};

use look::Seen;
use render::Fault;

/// What is to be done to a permitted request, before its secret is known.
#[derive(Debug, Clone)]
pub struct Plan(Option<Change>);

/// A request head that may go out. Only [`Plan`] makes one.
pub struct Injected {
    parts: Parts,
    rule: Option<Arc<Rule>>,
}

/// Looks through a permitted request for placeholders and decides what its rules do.
///
/// A placeholder that is another session's, or stands anywhere but on the surface of a rule for this request, is a denial.
#[expect(clippy::needless_pass_by_value, reason = "a permit is good for one request")]
pub fn plan(permit: Permit, parts: &Parts, session: &Session, table: &PlaceholderTable) -> Result<Plan, Denial> {
    let seen = look::placeholders(parts, session, table);
    if seen.is_empty() {
        return Ok(Plan(unasked(&permit, parts, session)));
    }
    let rule = swapping_rule(&permit, &seen, session).map_err(|stray| {
        let known = permit.rules().iter().any(|rule| rule.credential == *stray.credential);
        misdirected(permit.origin(), known, stray, session)
    })?;
    look::single_valued(parts, &rule.shape)?;
    let placeholders = seen.iter().map(|seen| seen.text.clone()).collect();
    Ok(Plan(Some(Change { rule, action: Action::Swap(placeholders), session: session.name.clone() })))
}

/// What a refused request is told: a placeholder at a host that its credential never goes to, or another session's, is an alarm
/// whatever else was wrong.
pub fn or_alarm(
    denial: Denial,
    (parts, origin): (&Parts, &Origin),
    rules: &RuleSet,
    session: &Session,
    table: &PlaceholderTable,
) -> Denial {
    let own_hosts = denial.code == DenialCode::Minting;
    if !own_hosts && !matches!(denial.code, DenialCode::ReadOnly | DenialCode::HostNotAllowed) {
        return denial;
    }
    let goes = |seen: &Seen<'_>| own_hosts || rules.of_origin(origin).any(|rule| rule.credential == *seen.credential);
    let seen = look::placeholders(parts, session, table);
    match seen.iter().find(|seen| *seen.session != session.id || !goes(seen)) {
        Some(stray) => misdirected(origin, false, stray, session),
        None => denial,
    }
}

/// Why the rules add nothing to a permitted request that carries no placeholder, for people; `None` if they do.
pub fn idle_because(permit: &Permit, parts: &Parts, session: &Session) -> Option<&'static str> {
    if unasked(permit, parts, session).is_some() {
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
    } else if look::carries_credential(parts, &rule.shape) {
        "the request carries a credential of its own"
    } else {
        "it goes out only in place of the session's placeholder"
    })
}

impl Plan {
    /// The credential whose secret is needed; `None` if the request goes out as it is.
    pub fn credential(&self) -> Option<&CredentialName> {
        self.rule().map(|rule| &rule.credential)
    }

    /// The rule that asks for it.
    pub fn rule(&self) -> Option<&Arc<Rule>> {
        self.0.as_ref().map(|change| &change.rule)
    }

    /// Whether the secret takes the place of a placeholder; else it is added.
    pub fn swaps(&self) -> bool {
        self.0.as_ref().is_some_and(|change| matches!(change.action, Action::Swap(_)))
    }

    /// Puts the secret in; an error means that it cannot be rendered on its surface.
    pub fn apply(self, mut parts: Parts, secret: &Secret) -> Result<Injected, Denial> {
        let Some(change) = self.0 else { return Ok(Injected { parts, rule: None }) };
        let shape = &change.rule.shape;
        let put_in = match &change.action {
            Action::Add => render::add(&mut parts, shape, secret),
            Action::Swap(placeholders) => render::swap(&mut parts, shape, placeholders, secret).map(|()| true),
        };
        if put_in == Ok(true) {
            change.rule.add_extra(&mut parts);
        }
        match put_in {
            Ok(put_in) => Ok(Injected { parts, rule: put_in.then_some(change.rule) }),
            Err(fault) => Err(change.unrenderable(fault)),
        }
    }

    /// Goes on without a secret: none is needed, none is configured (`why` is `None`), or it cannot be had (`why` says so).
    pub fn without_secret(self, parts: Parts, why: Option<&str>) -> Result<Injected, Denial> {
        match self.0 {
            Some(change) if why.is_some() || matches!(change.action, Action::Swap(_)) => Err(change.unavailable(why)),
            Some(_) | None => Ok(Injected { parts, rule: None }),
        }
    }
}

impl Injected {
    /// The head as it goes upstream.
    pub fn into_parts(self) -> Parts {
        self.parts
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
fn unasked(permit: &Permit, parts: &Parts, session: &Session) -> Option<Change> {
    let wanted = |rule: &Rule| match rule.inject {
        InjectPolicy::Auto => !look::carries_credential(parts, &rule.shape),
        InjectPolicy::Placeholder => false,
        InjectPolicy::Always => true,
    };
    let rule = permit.rules().iter().find(|rule| session.may_use(&rule.credential) && wanted(rule))?;
    Some(Change { rule: Arc::clone(rule), action: Action::Add, session: session.name.clone() })
}

/// The rule on whose surface everything seen stands, or what stands where it does not belong.
fn swapping_rule<'s, 't>(permit: &Permit, seen: &'s [Seen<'t>], session: &Session) -> Result<Arc<Rule>, &'s Seen<'t>> {
    let fits = |seen: &Seen<'_>, rule: &Rule| {
        let own = *seen.session == session.id && session.may_use(seen.credential);
        own && *seen.credential == rule.credential && seen.place.is_on(&rule.shape)
    };
    if let Some(stray) = seen.iter().find(|seen| !permit.rules().iter().any(|rule| fits(seen, rule))) {
        return Err(stray);
    }
    let all_fit = |rule: &&Arc<Rule>| seen.iter().all(|seen| fits(seen, rule));
    permit.rules().iter().find(all_fit).cloned().ok_or_else(|| seen.last().expect("there is a sighting"))
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
