//! What the user closed to sessions, whatever their mode.

use super::Kind;
use crate::config::TalosSettings;
use crate::credential::CredentialKind;
use crate::denial::{Denial, DenialCode};
use crate::session::Session;

/// Refuses what is switched off: clusters for sessions that may not use them, nodes, secrets.
pub fn check_switches(kind: Kind, nodes: &[String], session: &Session, settings: &TalosSettings) -> Result<(), Denial> {
    let outside = settings.nodes.as_ref().and_then(|allowed| outside(nodes, allowed));
    let (message, hint) = if !session.may_use(&CredentialKind::Talos.credential()) {
        let message = "this session may not use the credential `talos`".to_owned();
        (message, "create a session with `--credential talos`".to_owned())
    } else if let Some(node) = outside {
        (node, "`nodes` under [services.talos] in proxy.toml lists those that sessions may call".to_owned())
    } else if kind == Kind::SecretRead && !settings.secret_reads {
        let message = "reading what may hold a node's secrets is switched off".to_owned();
        (message, "set `secret_reads = true` under [services.talos] in proxy.toml".to_owned())
    } else {
        return Ok(());
    };
    Err(Denial::new(DenialCode::SwitchedOff, message).detail("session", session.name.as_str()).hint(hint))
}

/// What is wrong with the nodes of a call where only some are allowed.
fn outside(nodes: &[String], allowed: &[String]) -> Option<String> {
    if nodes.is_empty() {
        return Some("a call that names no node, where only some may be called".to_owned());
    }
    let other = nodes.iter().find(|node| !allowed.contains(node))?;
    Some(format!("the node `{}` is not one that sessions may call", other.chars().take(128).collect::<String>()))
}
