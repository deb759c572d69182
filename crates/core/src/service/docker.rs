//! Docker Hub: the token goes to the token endpoint only; the registry itself takes what that endpoint answers.

use super::{Operation, Rows, Service, whole_host};
use crate::access::ReadException;
use crate::classify::registry_token;
use crate::config::ServiceSettings;
use crate::credential::CredentialKind;
use crate::denial::ErrorShape;
use crate::path::PathPattern;
use crate::rule::{Rule, Shape};

pub(super) const SERVICE: Service = Service {
    kind: CredentialKind::Docker,
    rules,
    operations: &OPERATIONS,
    root: whole_host,
    other_hosts: &[HUB, "login.docker.com"],
    errors: ErrorShape::Detail,
    settings: &["username", "extra_headers"],
};

fn rules(settings: &ServiceSettings) -> Vec<Rule> {
    let user = settings.username.as_deref().map(Into::into);
    let token = PathPattern::Exact("/token".into());
    Rows::of(CredentialKind::Docker, settings).host("auth.docker.io", token, Shape::RegistryBasic { user }).rules
}

const OPERATIONS: [Operation; 6] = [
    Operation::mint("docker.token", "POST", "v2/access-tokens|api_tokens").at(HUB),
    Operation::mint("docker.token", "POST", "v2/orgs/*/access-tokens").at(HUB),
    Operation::mint("docker.login", "POST", "oauth/**").at("login.docker.com"),
    Operation::look("registry-token", "GET POST", "token", registry_token).at("auth.docker.io"),
    Operation::except(ReadException::RegistryToken, "v2/users/login").at(HUB),
    Operation::except(ReadException::RegistryToken, "v2/auth/token").at(HUB),
];

const HUB: &str = "hub.docker.com";
