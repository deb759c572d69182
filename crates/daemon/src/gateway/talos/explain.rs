//! `explain` for what goes through the Talos gateway: the same decision, without asking a cluster.

use std::net::SocketAddr;

use clauderon_api::{ExplainRequest, Explanation};
use clauderon_core::credential::CredentialKind;
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::facts::Facts;
use clauderon_core::policy::{Permit, decide};
use clauderon_core::rule::RuleSet;
use clauderon_core::session::Session;
use clauderon_core::talos::{self, Kind, Rpc, check_switches};
use clauderon_proxy::snapshot::Snapshot;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};

use super::TalosContexts;
use crate::control::Failure;
use crate::explain::{Target, class_name, denied, session};
use crate::gateway::explain::{about, allowed, is_gateway};

/// The decision about `asked`, if its URL is one of the gateway at `address`; the context is the current one.
pub(crate) fn explain(
    asked: &ExplainRequest,
    snapshot: &Snapshot,
    contexts: &TalosContexts,
    address: SocketAddr,
) -> Result<Option<Explanation>, Failure> {
    let Target { mut parts, origin, .. } = Target::read(asked)?;
    if !is_gateway(&origin, address) {
        return Ok(None);
    }
    let session = session(asked, snapshot)?;
    let told = about((CredentialKind::Talos, "talosconfig"), session, &origin);
    let (context, cluster) = match contexts.current() {
        Ok(found) => found,
        Err(why) => return Ok(Some(denied(told, &Denial::new(DenialCode::CredentialUnavailable, why)))),
    };
    // Every call is a POST of gRPC; whoever asks about one names its path.
    parts.method = Method::POST;
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let told = Explanation { origin: cluster.to_string(), rule: Some(context), ..told };
    let facts = Facts::of(&parts, &cluster, false);
    Ok(Some(match judge(&facts, session, snapshot) {
        (class, Ok(permit)) => allowed(Explanation { class, ..told }, &permit),
        (class, Err(denial)) => denied(Explanation { class, ..told }, &denial),
    }))
}

fn judge(facts: &Facts<'_>, session: &Session, snapshot: &Snapshot) -> (String, Result<Permit, Denial>) {
    let kind = match Rpc::read(facts) {
        Ok(rpc) => Kind::of(rpc),
        Err(denial) => return ("write".into(), Err(denial)),
    };
    let permit = talos::nodes(facts.headers)
        .and_then(|nodes| check_switches(kind, &nodes, session, &snapshot.settings.talos))
        .and_then(|()| decide(facts, kind.class(), session, &RuleSet::default(), &snapshot.settings.policy));
    (class_name(kind.class().class).to_owned(), permit)
}
