//! The decision: the only place where a [`Permit`] is made.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

use std::sync::Arc;

use http::Method;

use crate::access::{AccessMode, OperationClass, ReadException};
use crate::classify::{Classification, Classified, Narrowing};
use crate::config::{Closed, PolicySettings};
use crate::denial::{Denial, DenialCode};
use crate::derived::Derivation;
use crate::facts::Facts;
use crate::host::{HostPattern, Origin};
use crate::local::LocalAnswer;
use crate::rule::{Rule, RuleSet};
use crate::service;
use crate::session::Session;

/// Leave to forward one request. Only [`decide`] makes one, and only [`crate::inject::plan`] takes one.
#[derive(Debug)]
pub struct Permit {
    classified: Classified,
    service: Option<Arc<str>>,
    origin: Origin,
    rules: Vec<Arc<Rule>>,
    narrowing: Option<Narrowing>,
    derivation: Option<&'static Derivation>,
}

/// What is known of a request's class without its body, where the body would change nothing about the decision: in read-write a
/// write is as good as a read, and where read-only does not list the exception a query is as bad as a write.
pub fn settle(classification: Classification, session: &Session, settings: &PolicySettings) -> Classification {
    match classification {
        Classification::NeedsBody(rule)
            if !rule.exception().is_none_or(|exception| opens(session, settings, exception)) =>
        {
            Classified::write("method").into()
        }
        Classification::Known(_) | Classification::NeedsBody(_) => classification,
    }
}

/// Decides about one request: hosts, then the operation against the session's mode, then what no mode permits.
pub fn decide(
    facts: &Facts<'_>,
    classified: Classified,
    session: &Session,
    rules: &RuleSet,
    settings: &PolicySettings,
) -> Result<Permit, Denial> {
    check_host(facts.origin, session, settings)?;
    check_class(facts, classified, session, settings)?;
    check_closed(facts, session, rules, settings)?;
    check_form(facts, rules)?;
    Ok(Permit {
        classified,
        service: rules.service_of(facts.origin).cloned().or_else(|| answering(classified).map(Into::into)),
        origin: facts.origin.clone(),
        rules: rules.matching(facts).cloned().collect(),
        narrowing: classified.narrowing.filter(|_| reads_only(session)),
        derivation: service::derivation(facts, rules),
    })
}

/// Whether the allow-lists let `session` reach `origin`; also asked when a CONNECT opens.
pub fn check_host(origin: &Origin, session: &Session, settings: &PolicySettings) -> Result<(), Denial> {
    let on = |list: &Option<Vec<HostPattern>>| list.as_ref().is_none_or(|list| list.iter().any(|p| covers(p, origin)));
    let hint = if !on(&settings.allow_hosts) {
        format!("add \"{}\" to `network.allow_hosts` in proxy.toml", origin.host)
    } else if !on(&session.allow_hosts) {
        format!("create the session with `--allow-host {}`", origin.host)
    } else {
        return Ok(());
    };
    let message = format!("the host `{}` is not on the list of allowed hosts", origin.authority());
    Err(with_context(Denial::new(DenialCode::HostNotAllowed, message), None, origin, session).hint(hint))
}

impl Permit {
    /// The service that owns the origin, if any rule knows it.
    pub fn service(&self) -> Option<&Arc<str>> {
        self.service.as_ref()
    }

    /// The first rule that covers the request.
    pub fn rule(&self) -> Option<&Arc<Rule>> {
        self.rules.first()
    }

    /// Every rule that covers the request, in order of preference.
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// The destination that was decided on.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What the request does.
    pub fn class(&self) -> OperationClass {
        self.classified.class
    }

    /// What the proxy answers itself instead of forwarding the request.
    pub fn local(&self) -> Option<LocalAnswer> {
        match self.classified.class {
            OperationClass::Local(answer) => Some(answer),
            OperationClass::Read | OperationClass::Excepted(_) | OperationClass::Write | OperationClass::Mint => None,
        }
    }

    /// What the request must lose before it goes out.
    pub fn narrowing(&self) -> Option<Narrowing> {
        self.narrowing
    }

    /// The tokens that the answer may hold.
    pub fn derivation(&self) -> Option<&'static Derivation> {
        self.derivation
    }

    /// Why the request was permitted although it is no plain read or write: the exception's or opened operation's name.
    pub fn reason(&self) -> Option<&'static str> {
        match self.classified.class {
            OperationClass::Read | OperationClass::Write => None,
            OperationClass::Excepted(exception) => Some(exception.as_str()),
            OperationClass::Mint => Some(self.classified.rule),
            OperationClass::Local(_) => Some(ANSWERED_HERE),
        }
    }

    /// The rule or exception that decided, for people.
    pub fn label(&self) -> Option<Arc<str>> {
        let named = self.reason().map(|_| self.classified.rule.into());
        named.or_else(|| self.rule().map(|rule| rule.label()))
    }
}

/// The service in whose place the proxy answers; its rules need not know the origin.
fn answering(classified: Classified) -> Option<&'static str> {
    let OperationClass::Local(answer) = classified.class else { return None };
    Some(answer.credential.names().name)
}

fn covers(pattern: &HostPattern, origin: &Origin) -> bool {
    pattern.port.is_none_or(|port| port == origin.port) && pattern.matches_host(&origin.host)
}

/// TRACE echoes the head, secret included; CONNECT inside a connection would hide its destination from the rules.
fn check_form(facts: &Facts<'_>, rules: &RuleSet) -> Result<(), Denial> {
    let tunnel = *facts.method == Method::CONNECT && !facts.upgrade;
    if tunnel || *facts.method == Method::TRACE {
        let message = format!("the method {} is not forwarded", facts.method);
        return Err(Denial::new(DenialCode::MalformedRequest, message));
    }
    if facts.path.is_none() && rules.knows(facts.origin) {
        let message = "the path has dot segments, empty segments, backslashes or invalid escapes";
        return Err(Denial::new(DenialCode::MalformedRequest, message).hint("send the path in its normal form"));
    }
    Ok(())
}

fn check_class(
    facts: &Facts<'_>,
    classified: Classified,
    session: &Session,
    settings: &PolicySettings,
) -> Result<(), Denial> {
    let denial = |denial| with_context(denial, Some(facts.method), facts.origin, session).rule(classified.rule);
    let reads_only = reads_only(session);
    let permitted = match classified.class {
        OperationClass::Read | OperationClass::Local(_) => true,
        OperationClass::Excepted(exception) => !reads_only || settings.read_only_allow.contains(&exception),
        OperationClass::Write => !reads_only,
        OperationClass::Mint if !settings.allow_minting.iter().any(|open| open == classified.rule) => {
            return Err(denial(minting(classified.rule)));
        }
        OperationClass::Mint => !reads_only,
    };
    if permitted {
        return Ok(());
    }
    let refused = denial(Denial::new(DenialCode::ReadOnly, WRITES_ARE_BLOCKED));
    // What the method alone decides is promised to the letter; where a protocol is known, its clients show this member.
    let refused = if classified.rule == "method" { refused } else { refused.detail("message", WRITES_ARE_BLOCKED) };
    Err(refused.hint(format!("clauderon set-access-mode {} read-write", session.name)))
}

/// Refuses what the user's configuration closes to this session. The service is asked anew: a field that overrides the method
/// gives a request another class, and does not open it.
fn check_closed(
    facts: &Facts<'_>,
    session: &Session,
    rules: &RuleSet,
    settings: &PolicySettings,
) -> Result<(), Denial> {
    if settings.closed.is_empty() {
        return Ok(());
    }
    let asked = service::classify(facts, rules).map(|classification| classification.without_body().rule);
    let closes = |closed: &&Closed| Some(closed.rule) == asked && (!closed.to_readers_only || reads_only(session));
    let Some(Closed { service, key, rule, .. }) = settings.closed.iter().find(closes) else { return Ok(()) };
    let denial =
        Denial::new(DenialCode::SwitchedOff, "this is switched off").shape(service::error_shape(rule)).rule(rule);
    let hint = format!("set `{key} = true` under [services.{service}] in proxy.toml");
    Err(with_context(denial, Some(facts.method), facts.origin, session).hint(hint))
}

/// Whether an exception makes a difference to this session.
fn opens(session: &Session, settings: &PolicySettings, exception: ReadException) -> bool {
    reads_only(session) && settings.read_only_allow.contains(&exception)
}

fn reads_only(session: &Session) -> bool {
    match session.mode {
        AccessMode::ReadOnly => true,
        AccessMode::ReadWrite => false,
    }
}

fn minting(rule: &str) -> Denial {
    let message = "operations that create lasting credentials are blocked";
    Denial::new(DenialCode::Minting, message)
        .hint(format!("add \"{rule}\" to `allow_minting` in proxy.toml"))
        .shape(service::error_shape(rule))
}

fn with_context(denial: Denial, method: Option<&Method>, origin: &Origin, session: &Session) -> Denial {
    let denial = match method {
        Some(method) => denial.detail("method", method.as_str()),
        None => denial,
    };
    denial.detail("host", origin.host.to_string()).detail("session", session.name.as_str())
}

const WRITES_ARE_BLOCKED: &str = "Write operations are blocked in read-only mode";

/// Why a request that the proxy answered itself was let through, in audit records.
const ANSWERED_HERE: &str = "answered-here";
