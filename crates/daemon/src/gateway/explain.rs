//! `explain` for what goes through the Kubernetes gateway: the same decision, without asking a cluster or a program.

use std::net::SocketAddr;

use clauderon_api::{ExplainRequest, Explanation};
use clauderon_core::credential::CredentialKind;
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::facts::Facts;
use clauderon_core::host::{Host, Origin};
use clauderon_core::kubernetes::{ApiRequest, check_switches, classify};
use clauderon_core::policy::{Permit, decide};
use clauderon_core::rule::RuleSet;
use clauderon_core::session::Session;
use clauderon_proxy::snapshot::Snapshot;

use super::Contexts;
use crate::control::Failure;
use crate::explain::{Target, class_name, denied, session};

/// The decision about `asked`, if its URL is one of the gateway at `address`; the context is the current one.
pub(crate) fn explain(
    asked: &ExplainRequest,
    snapshot: &Snapshot,
    contexts: &Contexts,
    address: SocketAddr,
) -> Result<Option<Explanation>, Failure> {
    let Target { parts, origin, upgrade } = Target::read(asked)?;
    if !is_gateway(&origin, address) {
        return Ok(None);
    }
    let session = session(asked, snapshot)?;
    let told = about((CredentialKind::Kubernetes, "kubeconfig"), session, &origin);
    let (context, cluster) = match contexts.current() {
        Ok(found) => found,
        Err(why) => return Ok(Some(denied(told, &Denial::new(DenialCode::CredentialUnavailable, why)))),
    };
    let told = Explanation { origin: cluster.to_string(), rule: Some(context), ..told };
    let facts = Facts::of(&parts, &cluster, upgrade);
    Ok(Some(match judge(&facts, session, snapshot) {
        (class, Ok(permit)) => allowed(Explanation { class, ..told }, &permit),
        (class, Err(denial)) => denied(Explanation { class, ..told }, &denial),
    }))
}

fn judge(facts: &Facts<'_>, session: &Session, snapshot: &Snapshot) -> (String, Result<Permit, Denial>) {
    let asked = match ApiRequest::read(facts) {
        Ok(asked) => asked,
        Err(odd) => return ("write".into(), Err(Denial::new(DenialCode::MalformedRequest, odd.to_string()))),
    };
    let kubernetes = &snapshot.settings.kubernetes;
    let class = classify(&asked, facts, kubernetes);
    let permit = check_switches(&asked, session, kubernetes)
        .and_then(|()| decide(facts, class, session, &RuleSet::default(), &snapshot.settings.policy));
    (class_name(class.class).to_owned(), permit)
}

pub(super) fn allowed(told: Explanation, permit: &Permit) -> Explanation {
    let reason =
        permit.reason().map_or_else(|| format!("{} permits a {}", told.access_mode, told.class), str::to_owned);
    Explanation {
        allowed: true,
        reason,
        auth_injected: true,
        injection: "yes: the identity of the context's user".to_owned(),
        ..told
    }
}

/// What is known before anything is decided; `file` is where the identity is from.
pub(super) fn about((kind, file): (CredentialKind, &str), session: &Session, origin: &Origin) -> Explanation {
    let name = kind.names().name;
    Explanation {
        allowed: false,
        reason: String::new(),
        origin: origin.to_string(),
        rule: None,
        service: Some(name.to_owned()),
        credential: Some(name.to_owned()),
        source: Some(file.to_owned()),
        surface: None,
        auth_injected: false,
        injection: String::new(),
        answer: None,
        class: String::new(),
        session: session.name.to_string(),
        access_mode: session.mode.to_string(),
        error: None,
        denial: None,
    }
}

/// Whether a URL means the gateway, by any of its names on this machine.
pub(super) fn is_gateway(origin: &Origin, address: SocketAddr) -> bool {
    let here = match &origin.host {
        Host::Ip(ip) => *ip == address.ip() || ip.is_loopback(),
        Host::Name(name) => &**name == "localhost",
    };
    here && origin.port == address.port()
}
