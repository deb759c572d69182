//! What the user closed to sessions, whatever their mode.

use super::{ApiRequest, opens_a_channel};
use crate::config::{KubernetesSettings, SecretAccess};
use crate::credential::CredentialKind;
use crate::denial::{Denial, DenialCode};
use crate::session::Session;

/// Refuses what is switched off: clusters for sessions that may not use them, ways into pods, secrets.
pub fn check_switches(asked: &ApiRequest<'_>, session: &Session, settings: &KubernetesSettings) -> Result<(), Denial> {
    let set = |key: &str| format!("set `{key}` under [services.kubernetes] in proxy.toml");
    let (message, hint) = if !session.may_use(&CredentialKind::Kubernetes.credential()) {
        let hint = "create a session with `--credential kubernetes`".to_owned();
        ("this session may not use the credential `kubernetes`", hint)
    } else if !settings.exec && opens_a_channel(asked) {
        ("reaching into pods, nodes and services is switched off", set("exec = true"))
    } else if settings.secrets == SecretAccess::Deny && asked.is_about_secrets() {
        ("secrets are switched off", set("secrets = \"metadata\""))
    } else if settings.secrets == SecretAccess::Metadata && asked.is_about_secrets() && asked.verb == "update" {
        // Whoever does not see the values would replace them with nothing.
        ("a secret whose values are not shown cannot be replaced, only patched", set("secrets = \"allow\""))
    } else {
        return Ok(());
    };
    Err(Denial::new(DenialCode::SwitchedOff, message).detail("session", session.name.as_str()).hint(hint))
}
