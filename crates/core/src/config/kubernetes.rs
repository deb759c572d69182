//! `[services.kubernetes]`: which clusters sessions reach through the gateway, and what they may do there.

use std::path::PathBuf;

use super::document::{Parsed, Table};
use super::values::{self, Places};

/// `[services.kubernetes]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesSettings {
    /// The API server's URL where no kubeconfig names it (`https://host[:port]/`).
    pub server: Option<String>,
    /// PEM file with the root of that server's certificate.
    pub ca: Option<PathBuf>,
    /// The only contexts of the user's kubeconfig that sessions get; `None` means all.
    pub contexts: Option<Vec<String>>,
    /// What sessions see of secrets.
    pub secrets: SecretAccess,
    /// Whether read-write sessions may reach into pods, nodes and services (exec, attach, port-forward, proxy, debug).
    pub exec: bool,
    /// Whether read-only sessions may send writes that the API server only tries (`dryRun=All`).
    pub dry_run: bool,
}

/// What sessions see of secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretAccess {
    /// Names, labels and the like.
    Metadata,
    /// Nothing.
    Deny,
    /// Everything.
    Allow,
}

impl SecretAccess {
    /// The word used in `proxy.toml`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Deny => "deny",
            Self::Allow => "allow",
        }
    }
}

impl Default for KubernetesSettings {
    fn default() -> Self {
        Self { server: None, ca: None, contexts: None, secrets: SecretAccess::Metadata, exec: true, dry_run: false }
    }
}

/// Reads the keys that only Kubernetes has.
pub(super) fn read(table: &mut Table<'_, '_>, places: Places<'_>) -> KubernetesSettings {
    let defaults = KubernetesSettings::default();
    KubernetesSettings {
        server: table.string("server", values::service_url),
        ca: table.string("ca", |text| places.path(text)),
        contexts: table.strings("contexts", |text| Ok(text.to_owned())),
        secrets: table.string("secrets", secret_access).unwrap_or(defaults.secrets),
        exec: table.boolean("exec").unwrap_or(defaults.exec),
        dry_run: table.boolean("dry_run").unwrap_or(defaults.dry_run),
    }
}

fn secret_access(text: &str) -> Parsed<SecretAccess> {
    let all = [SecretAccess::Metadata, SecretAccess::Deny, SecretAccess::Allow];
    let known = all.into_iter().find(|access| access.as_str() == text.trim());
    known.ok_or_else(|| "must be \"metadata\", \"deny\" or \"allow\"".to_owned())
}
