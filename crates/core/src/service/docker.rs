//! Docker Hub: the token goes to the token endpoints only; the registry and the Hub's API take what these answer.

use std::sync::Arc;

use super::{Operation, Rows, Service, whole_host};
use crate::access::ReadException;
use crate::classify::registry_token;
use crate::config::ServiceSettings;
use crate::credential::CredentialKind;
use crate::denial::ErrorShape;
use crate::derived::{Derivation, Form, Issuer, Token};
use crate::path::PathPattern;
use crate::rule::{BodyUser, Rule, Shape};

pub(super) const SERVICE: Service = Service {
    kind: CredentialKind::Docker,
    rules,
    operations: &OPERATIONS,
    root: whole_host,
    other_hosts: &["login.docker.com"],
    errors: ErrorShape::Detail,
    settings: &["username", "extra_headers"],
};

fn rules(settings: &ServiceSettings) -> Vec<Rule> {
    let user: Option<Arc<str>> = settings.username.as_deref().map(Into::into);
    let secret = |field: &str, beside: &str| {
        let user = Some(BodyUser { field: beside.into(), name: user.clone() });
        Shape::Body { field: field.into(), user }
    };
    let rows = Rows::of(CredentialKind::Docker, settings)
        .host(AUTH, token(), Shape::RegistryBasic { user: user.clone() })
        .host(AUTH, token(), secret("password", "username"))
        .only_swapped()
        .host(HUB, PathPattern::under("/v2/users/login"), secret("password", "username"))
        .only_swapped()
        .host(HUB, PathPattern::under("/v2/auth/token"), secret("secret", "identifier"))
        .only_swapped();
    rows.rules
}

const OPERATIONS: [Operation; 7] = [
    Operation::mint("docker.token", "POST", "v2/access-tokens|api_tokens").at(HUB),
    Operation::mint("docker.token", "POST", "v2/orgs/*/access-tokens").at(HUB),
    Operation::mint("docker.login", "*", "oauth/**").at("login.docker.com"),
    Operation::look("registry-token", "GET POST", "token", registry_token).at(AUTH).derives(&REGISTRY),
    Operation::except(ReadException::RegistryToken, "v2/users/login/**").at(HUB).derives(&LOGIN),
    Operation::except(ReadException::RegistryToken, "v2/users/2fa-login/**").at(HUB).derives(&LOGIN),
    Operation::except(ReadException::RegistryToken, "v2/auth/token/**").at(HUB).derives(&LOGIN),
];

/// What the registry takes, under both names that clients look for.
static REGISTRY: Derivation = Derivation {
    kind: "docker",
    tokens: &[
        json_web_token("token", 60, registry),
        json_web_token("access_token", 60, registry),
        lasting("refresh_token", |_| in_body(AUTH, "/token", "refresh_token")),
    ],
    required: true,
    always: false,
};

/// What the Hub's API takes; with a second factor, what the second step takes.
static LOGIN: Derivation = Derivation {
    kind: "hub",
    tokens: &[
        json_web_token("token", 86_400, hub),
        json_web_token("access_token", 86_400, hub),
        lasting("refresh_token", hub),
        lasting("login_2fa_token", |_| in_body(HUB, "/v2/users/2fa-login", "login_2fa_token")),
    ],
    required: true,
    always: false,
};

const fn json_web_token(member: &'static str, seconds: u32, audience: fn(&Issuer<'_>) -> Vec<Rule>) -> Token {
    Token { member, prefix: "", form: Form::Jwt, lifetime: Some(seconds), audience }
}

const fn lasting(member: &'static str, audience: fn(&Issuer<'_>) -> Vec<Rule>) -> Token {
    Token { member, prefix: "", form: Form::Word, lifetime: None, audience }
}

fn registry(_: &Issuer<'_>) -> Vec<Rule> {
    let v2 = || PathPattern::under("/v2");
    let rows = Rows::derived(CredentialKind::Docker);
    rows.host("registry-1.docker.io", v2(), Shape::Bearer).host("index.docker.io", v2(), Shape::Bearer).rules
}

fn hub(_: &Issuer<'_>) -> Vec<Rule> {
    Rows::derived(CredentialKind::Docker).host(HUB, PathPattern::under("/v2"), Shape::Bearer).rules
}

fn in_body(host: &str, path: &str, field: &str) -> Vec<Rule> {
    let shape = Shape::Body { field: field.into(), user: None };
    Rows::derived(CredentialKind::Docker).host(host, PathPattern::under(path), shape).rules
}

fn token() -> PathPattern {
    PathPattern::Exact("/token".into())
}

const AUTH: &str = "auth.docker.io";
const HUB: &str = "hub.docker.com";
