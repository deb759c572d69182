//! Docker Hub: the token goes to the token endpoint only; the registry itself takes what that endpoint answers.

use super::{Rows, Service};
use crate::config::ServiceSettings;
use crate::credential::CredentialKind;
use crate::path::PathPattern;
use crate::rule::{Rule, Shape};

pub(super) const SERVICE: Service =
    Service { kind: CredentialKind::Docker, rules, classify: |_| None, other_hosts: &[] };

fn rules(settings: &ServiceSettings) -> Vec<Rule> {
    let user = settings.username.as_deref().map(Into::into);
    let token = PathPattern::Exact("/token".into());
    Rows::of(CredentialKind::Docker).host("auth.docker.io", token, Shape::RegistryBasic { user }).rules
}
