//! A session's talosconfig: the user's contexts by their names, all at the gateway, each with a certificate of the session's.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clauderon_proxy::tls::leaf::LeafError;
use clauderon_proxy::tls::session::SessionCertificate;
use serde_json::{Map, Value, json};

use super::{Grounds, reachable};
use crate::gateway::NOWHERE;
use crate::gateway::talos::Offered;

/// The file, as JSON, which is YAML. Where no cluster can be had there is still one context: the gateway then says why.
pub(super) fn text(grounds: &Grounds<'_>) -> Result<String, LeafError> {
    let nowhere = || {
        let name = NOWHERE.to_owned();
        (vec![Offered { name: name.clone(), nodes: Vec::new(), cluster: None }], name)
    };
    let (offered, current) = grounds.talos.clone().unwrap_or_else(|_why| nowhere());
    let mut contexts = Map::new();
    for context in &offered {
        contexts.insert(context.name.clone(), entry(grounds, context)?);
    }
    let config = json!({ "context": current, "contexts": contexts });
    Ok(format!("{config:#}\n"))
}

/// The names of nodes are the cluster's own: they travel with each call, and the cluster finds them.
fn entry(grounds: &Grounds<'_>, offered: &Offered) -> Result<Value, LeafError> {
    let issued = SessionCertificate::issue(grounds.issuer, &grounds.session.id, &offered.name)?;
    let mut entry = json!({
        "endpoints": [reachable(grounds.gateways.talos).to_string()],
        "ca": STANDARD.encode(grounds.issuer.certificate_pem()),
        "crt": STANDARD.encode(&issued.certificate_pem),
        "key": STANDARD.encode(issued.key_pem.as_bytes()),
    });
    if !offered.nodes.is_empty() {
        entry["nodes"] = offered.nodes.clone().into();
    }
    if let Some(cluster) = &offered.cluster {
        entry["cluster"] = cluster.as_str().into();
    }
    Ok(entry)
}
