//! npm: the registries are those the user's npm is configured with; none is known by itself.

use super::{Operation, Rows, Service, base_url};
use crate::access::ReadException;
use crate::config::ServiceSettings;
use crate::credential::CredentialKind;
use crate::denial::ErrorShape;
use crate::derived::{Derivation, Form, Issuer, Token};
use crate::facts::Facts;
use crate::host::HostPattern;
use crate::local::{LocalAnswer, Wish};
use crate::path::PathPattern;
use crate::rule::{InjectPolicy, Rule, Shape};

pub(super) const SERVICE: Service = Service {
    kind: CredentialKind::Npm,
    rules,
    operations: &OPERATIONS,
    root,
    other_hosts: &[],
    errors: ErrorShape::Plain,
    settings: &["registries", "extra_headers"],
};

/// Only swapped, never added: a dead token would turn public installs into 401 and 404.
fn rules(settings: &ServiceSettings) -> Vec<Rule> {
    let registries = settings.registries.iter().filter_map(|url| base_url(url));
    let rows = registries.fold(Rows::of(CredentialKind::Npm, settings), |rows, (host, prefix)| {
        rows.pattern(&host, PathPattern::under(prefix), Shape::Bearer, InjectPolicy::Placeholder)
    });
    rows.rules
}

/// A registry is its URL's path and everything below.
fn root(path: &PathPattern) -> &str {
    match path {
        PathPattern::Prefix(root) => root,
        PathPattern::Any | PathPattern::Exact(_) | PathPattern::GitSmartHttp { .. } | PathPattern::Segments(_) => "",
    }
}

const OPERATIONS: [Operation; 11] = [
    // npm names the token it ends in the path; swapped, it would end the user's own. One that the session was issued is its own.
    Operation::local("npm.logout", "DELETE", "**/-/user/token/*", LOGOUT).when(names_a_placeholder),
    Operation::mint("npm.token", "POST", "**/-/npm/v1/tokens").derives(&TOKEN),
    Operation::mint("npm.token", "POST", "**/-/npm/v1/oidc/token/exchange/**").derives(&TOKEN),
    Operation::mint("npm.login", "POST", "**/-/v1/login"),
    // Where a login in the browser has its end: the answer is the token.
    Operation::mint("npm.login", "GET", "**/-/v1/done/**").derives(&LOGIN),
    Operation::mint("npm.login", "PUT", "**/-/user/org.couchdb.user:*/**").derives(&LOGIN),
    Operation::mint("npm.logout", "DELETE", "**/-/user/token/**").when(names_anything_else),
    Operation::read("npm.tokens", "GET", "-/npm/v1/tokens/**").derives(&LISTING),
    audit("-/npm/v1/security/advisories/bulk"),
    audit("-/npm/v1/security/audits"),
    audit("-/npm/v1/security/audits/quick"),
];

const LOGOUT: LocalAnswer = LocalAnswer { credential: CredentialKind::Npm, wish: Wish::Logout };

fn names_a_placeholder(facts: &Facts<'_>) -> bool {
    crate::placeholder::looks_like_one(facts.raw_path) && names_anything_else(facts)
}

/// Whether what is ended is no token that the session was issued.
fn names_anything_else(facts: &Facts<'_>) -> bool {
    let named = facts.raw_path.split_once(ENDED).map(|(_, named)| named);
    !named.is_some_and(|named| named.starts_with("clauderon-derived-npm-") && !named.contains(['/', '%']))
}

const fn audit(path: &'static str) -> Operation {
    Operation::except(ReadException::NpmAudit, path)
}

/// Where making one is allowed, the session gets a placeholder for it all the same.
static TOKEN: Derivation = Derivation { kind: "npm", tokens: &[token(Form::Word)], required: true, always: true };

/// As long as the user has not confirmed it, a login answers without one.
static LOGIN: Derivation = Derivation { kind: "npm", tokens: &[token(Form::Word)], required: false, always: true };

static LISTING: Derivation = Derivation { kind: "npm", tokens: &[token(Form::Masked)], required: false, always: false };

const fn token(form: Form) -> Token {
    Token { member: "token", prefix: "", form, lifetime: None, audience: same_registry }
}

fn same_registry(issuer: &Issuer<'_>) -> Vec<Rule> {
    let registry = issuer.path.split_once("/-/").map_or("", |(registry, _)| registry);
    let (host, path) = (HostPattern::of(issuer.origin), PathPattern::under(registry));
    let rows = Rows::derived(CredentialKind::Npm).pattern(&host, path, Shape::Bearer, InjectPolicy::Placeholder);
    // Where `npm logout` names it.
    let ended = PathPattern::like(&format!("{registry}{ENDED}{{token}}"));
    let named = ended.and_then(|path| Some((path.token().cloned().map(Shape::Path)?, path)));
    match named {
        Some((shape, path)) => rows.pattern(&host, path, shape, InjectPolicy::Placeholder).rules,
        None => rows.rules,
    }
}

/// What stands before a token that is ended.
const ENDED: &str = "/-/user/token/";
