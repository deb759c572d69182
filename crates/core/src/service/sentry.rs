//! Sentry: the API only; event ingestion takes public keys, and agents report their own crashes there.

use super::{Rows, Service};
use crate::config::ServiceSettings;
use crate::credential::CredentialKind;
use crate::path::PathPattern;
use crate::rule::{InjectPolicy, Rule, Shape};

pub(super) const SERVICE: Service =
    Service { kind: CredentialKind::Sentry, rules, classify: |_| None, other_hosts: &[] };

fn rules(settings: &ServiceSettings) -> Vec<Rule> {
    let api = || PathPattern::under("/api/0");
    let rows = ["sentry.io", "us.sentry.io", "de.sentry.io"]
        .iter()
        .fold(Rows::of(CredentialKind::Sentry), |rows, host| rows.host(host, api(), Shape::Bearer));
    settings.hosts.iter().fold(rows, |rows, host| rows.pattern(host, api(), Shape::Bearer, InjectPolicy::Auto)).rules
}
