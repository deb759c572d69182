//! Sentry: the API only; event ingestion takes public keys, and agents report their own crashes there.

use super::{Operation, Rows, Service};
use crate::config::ServiceSettings;
use crate::credential::CredentialKind;
use crate::denial::ErrorShape;
use crate::path::PathPattern;
use crate::rule::{InjectPolicy, Rule, Shape};

pub(super) const SERVICE: Service = Service {
    kind: CredentialKind::Sentry,
    rules,
    operations: &OPERATIONS,
    root,
    other_hosts: &[],
    errors: ErrorShape::Detail,
    settings: &["hosts", "path_prefix", "extra_headers"],
};

fn rules(settings: &ServiceSettings) -> Vec<Rule> {
    let api = || PathPattern::under("/api/0");
    let rows = ["sentry.io", "us.sentry.io", "de.sentry.io"]
        .iter()
        .fold(Rows::of(CredentialKind::Sentry, settings), |rows, host| rows.host(host, api(), Shape::Bearer));
    let own = PathPattern::under(&format!("{}/api/0", settings.path_prefix.as_deref().unwrap_or_default()));
    settings
        .hosts
        .iter()
        .fold(rows, |rows, host| rows.pattern(host, own.clone(), Shape::Bearer, InjectPolicy::Auto))
        .rules
}

/// The rules are for `/api/0`, which may lie deeper than its host.
fn root(path: &PathPattern) -> &str {
    match path {
        PathPattern::Prefix(path) => path.strip_suffix("/api/0").unwrap_or_default(),
        PathPattern::Any | PathPattern::Exact(_) | PathPattern::GitSmartHttp { .. } | PathPattern::Segments(_) => "",
    }
}

/// No POST of its API is safely a read.
const OPERATIONS: [Operation; 7] = [
    Operation::mint("sentry.token", "POST PUT", "**/api-tokens/**"),
    Operation::mint("sentry.token", "POST PUT", "**/org-auth-tokens/**"),
    Operation::mint("sentry.oauth", "POST", "**/oauth/token"),
    Operation::mint("sentry.oauth", "POST", "**/sentry-app-installations/*/authorizations"),
    Operation::mint("sentry.app", "POST", "api/0/sentry-apps"),
    Operation::mint("sentry.app", "POST", "api/0/api-applications"),
    Operation::mint("sentry.app", "POST", "api/0/sentry-apps|api-applications/*/rotate-secret"),
];
