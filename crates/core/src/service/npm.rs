//! npm: the registries are those the user's npm is configured with; none is known by itself.

use super::{Rows, Service, base_url};
use crate::config::ServiceSettings;
use crate::credential::CredentialKind;
use crate::path::PathPattern;
use crate::rule::{InjectPolicy, Rule, Shape};

pub(super) const SERVICE: Service = Service { kind: CredentialKind::Npm, rules, classify: |_| None, other_hosts: &[] };

/// Only swapped, never added: a dead token would turn public installs into 401 and 404.
fn rules(settings: &ServiceSettings) -> Vec<Rule> {
    let registries = settings.registries.iter().filter_map(|url| base_url(url));
    let rows = registries.fold(Rows::of(CredentialKind::Npm), |rows, (host, prefix)| {
        rows.pattern(&host, PathPattern::under(prefix), Shape::Bearer, InjectPolicy::Placeholder)
    });
    rows.rules
}
