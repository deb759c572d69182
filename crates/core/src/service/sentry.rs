//! Sentry: the API only; event ingestion takes public keys, and agents report their own crashes there.

use super::{Operation, Rows, Service, whole_host};
use crate::config::ServiceSettings;
use crate::credential::CredentialKind;
use crate::denial::ErrorShape;
use crate::path::PathPattern;
use crate::rule::{InjectPolicy, Rule, Shape};

pub(super) const SERVICE: Service = Service {
    kind: CredentialKind::Sentry,
    rules,
    operations: &OPERATIONS,
    root: whole_host,
    other_hosts: &[],
    errors: ErrorShape::Detail,
};

fn rules(settings: &ServiceSettings) -> Vec<Rule> {
    let api = || PathPattern::under("/api/0");
    let rows = ["sentry.io", "us.sentry.io", "de.sentry.io"]
        .iter()
        .fold(Rows::of(CredentialKind::Sentry), |rows, host| rows.host(host, api(), Shape::Bearer));
    settings.hosts.iter().fold(rows, |rows, host| rows.pattern(host, api(), Shape::Bearer, InjectPolicy::Auto)).rules
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
