//! Talos: its clients speak to a gateway of their own, so no request through the proxy ever carries its credential.

use super::{Service, whole_host};
use crate::credential::CredentialKind;
use crate::denial::ErrorShape;

pub(super) const SERVICE: Service = Service {
    kind: CredentialKind::Talos,
    rules: |_| Vec::new(),
    operations: &[],
    root: whole_host,
    other_hosts: &[],
    errors: ErrorShape::Plain,
    settings: &["contexts", "nodes", "secret_reads"],
};
