//! A session's kubeconfig: the user's contexts by their names, all at the gateway, each with a certificate of the session's.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clauderon_proxy::tls::leaf::LeafError;
use clauderon_proxy::tls::session::SessionCertificate;
use serde_json::{Value, json};

use super::{Grounds, reachable};
use crate::gateway::{NOWHERE, Offered};

/// The file, as JSON, which is YAML. Where no cluster can be had there is still one context: the gateway then says why.
pub(super) fn text(grounds: &Grounds<'_>) -> Result<String, LeafError> {
    let nowhere = || {
        let name = NOWHERE.to_owned();
        (vec![Offered { cluster: name.clone(), name: name.clone(), namespace: None }], name)
    };
    let (offered, current) = grounds.clusters.clone().unwrap_or_else(|_why| nowhere());
    let server = format!("https://{}", reachable(grounds.gateways.kubernetes));
    let authority = STANDARD.encode(grounds.issuer.certificate_pem());
    let cluster =
        |name: &str| json!({ "name": name, "cluster": { "server": server, "certificate-authority-data": authority } });
    let mut names: Vec<&str> = offered.iter().map(|context| context.cluster.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let users: Result<Vec<Value>, LeafError> = offered.iter().map(|context| user(grounds, &context.name)).collect();
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "clusters": names.into_iter().map(cluster).collect::<Vec<_>>(),
        "contexts": offered.iter().map(context).collect::<Vec<_>>(),
        "users": users?,
        "current-context": current,
    });
    Ok(format!("{config:#}\n"))
}

/// The certificate says both whose it is and which context it means, so every context has a user of its own.
fn user(grounds: &Grounds<'_>, context: &str) -> Result<Value, LeafError> {
    let issued = SessionCertificate::issue(grounds.issuer, &grounds.session.id, context)?;
    Ok(json!({
        "name": user_name(context),
        "user": {
            "client-certificate-data": STANDARD.encode(&issued.certificate_pem),
            "client-key-data": STANDARD.encode(issued.key_pem.as_bytes()),
        },
    }))
}

fn context(offered: &Offered) -> Value {
    let mut context = json!({ "cluster": offered.cluster, "user": user_name(&offered.name) });
    if let Some(namespace) = &offered.namespace {
        context["namespace"] = namespace.as_str().into();
    }
    json!({ "name": offered.name, "context": context })
}

fn user_name(context: &str) -> String {
    format!("clauderon-{context}")
}
