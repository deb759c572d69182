//! GitHub, GitHub Enterprise Server and `ghe.com` tenants.

use http::Method;

use super::{Operation, Rows, Service, exact_name};
use crate::access::ReadException;
use crate::classify::{BodyRule, Classification, Classified, Narrowing, registry_token};
use crate::config::ServiceSettings;
use crate::credential::CredentialKind;
use crate::denial::ErrorShape;
use crate::derived::{Derivation, Form, Issuer, Token};
use crate::facts::Facts;
use crate::host::HostPattern;
use crate::path::PathPattern;
use crate::rule::{InjectPolicy, Rule, Shape};

pub(super) const SERVICE: Service = Service {
    kind: CredentialKind::Github,
    rules,
    operations: &OPERATIONS,
    root,
    other_hosts: &[],
    errors: ErrorShape::Message,
    settings: &["hosts", "extra_headers"],
};

fn rules(settings: &ServiceSettings) -> Vec<Rule> {
    let any = || PathPattern::Any;
    let under = PathPattern::under;
    let rows = Rows::of(CredentialKind::Github, settings)
        .host("api.github.com", any(), Shape::Bearer)
        .host("github.com", REPOSITORY, basic())
        .host("gist.github.com", PathPattern::GitSmartHttp { min: 1, max: 2 }, basic())
        .host("uploads.github.com", under("/repos"), Shape::Bearer)
        .host("raw.githubusercontent.com", any(), Shape::Bearer)
        .only_swapped()
        .host(GHCR, PathPattern::Exact("/token".into()), basic())
        .host(GHCR, under("/v2"), Shape::Bearer)
        .only_swapped()
        .host("npm.pkg.github.com", any(), Shape::Bearer)
        .host("rubygems.pkg.github.com", any(), Shape::Bearer)
        .host("maven.pkg.github.com", any(), basic())
        .host("nuget.pkg.github.com", any(), basic())
        .host("api.githubcopilot.com", under("/mcp"), Shape::Bearer)
        .only_swapped();
    settings.hosts.iter().fold(rows, enterprise).rules
}

/// A configured host: a tenant of `ghe.com` is laid out as github.com, anything else as an Enterprise Server.
fn enterprise(rows: Rows, host: &HostPattern) -> Rows {
    let auto = InjectPolicy::Auto;
    let name = exact_name(host).unwrap_or_default();
    if let Some(tenant) = name.strip_suffix(".ghe.com").filter(|tenant| !tenant.contains('.')) {
        return rows.host(&format!("api.{tenant}.ghe.com"), PathPattern::Any, Shape::Bearer).pattern(
            host,
            REPOSITORY,
            basic(),
            auto,
        );
    }
    if name.starts_with("api.") && name.ends_with(".ghe.com") {
        return rows.pattern(host, PathPattern::Any, Shape::Bearer, auto);
    }
    ["/api/v3", "/api/graphql", "/api/uploads"]
        .iter()
        .fold(rows, |rows, prefix| rows.pattern(host, PathPattern::under(prefix), Shape::Bearer, auto))
        .pattern(host, PathPattern::GitSmartHttp { min: 2, max: 3 }, basic(), auto)
}

/// An Enterprise Server has the API's paths below `/api/v3`.
fn root(path: &PathPattern) -> &str {
    match path {
        PathPattern::Prefix(prefix) if &**prefix == "/api/v3" => prefix,
        PathPattern::Any
        | PathPattern::Prefix(_)
        | PathPattern::Exact(_)
        | PathPattern::GitSmartHttp { .. }
        | PathPattern::Segments(_) => "",
    }
}

/// The tool server has a switch of its own, so that its calls need not be read.
fn tools(facts: &Facts<'_>) -> Classification {
    let class = if *facts.method == Method::POST {
        Classified::excepted_by(ReadException::GraphqlQuery, "github.mcp")
    } else {
        Classified::read("github.mcp")
    };
    class.narrowed(Narrowing::McpReadOnly).into()
}

fn basic() -> Shape {
    Shape::Basic { user: "x-access-token".into() }
}

const REPOSITORY: PathPattern = PathPattern::GitSmartHttp { min: 2, max: 2 };

/// Keys, tokens and logins; then secrets, hooks and collaborators, which are no credentials but lasting access.
const OPERATIONS: [Operation; 37] = [
    Operation::mint("github.runner", "POST", "**/actions/runners/registration-token|remove-token|generate-jitconfig"),
    Operation::mint("github.app-token", "POST", "app/installations/*/access_tokens"),
    Operation::mint("github.app", "POST", "app-manifests/*/conversions"),
    Operation::mint("github.user-key", "POST", "user/keys|gpg_keys|ssh_signing_keys"),
    Operation::mint("github.user-key", "POST", "admin/users/*/keys"),
    Operation::mint("github.deploy-key", "POST", "repos/*/*/keys"),
    Operation::mint("github.codespace", "POST PUT PATCH", "user/codespaces/**"),
    Operation::mint("github.codespace", "POST PUT PATCH", "repos/*/*/codespaces/**"),
    Operation::mint("github.codespace", "POST", "repos/*/*/pulls/*/codespaces"),
    Operation::mint("github.codespace", "POST PUT PATCH", "orgs/*/codespaces/**"),
    Operation::mint("github.codespace", "POST", "orgs/*/members/*/codespaces/**"),
    Operation::mint("github.token", "POST PATCH DELETE", "applications/*/token|tokens/**"),
    Operation::mint("github.token", "POST PUT", "authorizations/**"),
    Operation::mint("github.token", "POST", "admin/users/*/authorizations"),
    Operation::mint("github.token", "POST", "orgs/*/personal-access-token-requests/**"),
    Operation::mint("github.login", "POST", "login/oauth/access_token"),
    Operation::mint("github.login", "POST", "login/device/**"),
    Operation::mint("github.secret", "PUT", "repos/*/*/actions|dependabot/secrets/*"),
    Operation::mint("github.secret", "PUT", "orgs/*/actions|dependabot/secrets/**"),
    Operation::mint("github.secret", "PUT", "repos/*/*/environments/*/secrets/*"),
    Operation::mint("github.secret", "PUT", "repositories/*/environments/*/secrets/*"),
    Operation::mint("github.hook", "POST", "repos/*/*/hooks"),
    Operation::mint("github.hook", "PATCH", "repos/*/*/hooks/**"),
    Operation::mint("github.hook", "POST", "orgs/*/hooks"),
    Operation::mint("github.hook", "PATCH", "orgs/*/hooks/**"),
    Operation::mint("github.hook", "POST PATCH", "admin/hooks/**"),
    Operation::mint("github.collaborator", "PUT", "repos/*/*/collaborators/*"),
    Operation::mint("github.collaborator", "PUT", "orgs/*/outside_collaborators/*"),
    Operation::look("github.mcp", "GET POST", "mcp/**", tools).at("api.githubcopilot.com"),
    Operation::look("registry-token", "GET POST", "token", registry_token).at(GHCR).derives(&REGISTRY),
    Operation::read("github.copilot", "GET", "copilot_internal/**").derives(&COPILOT),
    Operation::write("github.copilot", "POST PUT PATCH", "copilot_internal/**").derives(&COPILOT),
    Operation::body(BodyRule::Graphql, "graphql"),
    Operation::body(BodyRule::Graphql, "api/graphql"),
    Operation::query("github.markdown", "markdown"),
    Operation::query("github.markdown", "markdown/raw"),
    Operation::query("github.release-notes", "repos/*/*/releases/generate-notes"),
];

/// What the registry takes. GitHub does not say for how long.
static REGISTRY: Derivation = Derivation {
    kind: "ghcr",
    tokens: &[derived("token", 3600, registry), derived("access_token", 3600, registry)],
    required: true,
    always: false,
};

/// What the model's hosts take; whatever else lies there is the account's settings.
static COPILOT: Derivation =
    Derivation { kind: "copilot", tokens: &[derived("token", 1800, copilot)], required: false, always: false };

const fn derived(member: &'static str, seconds: u32, audience: fn(&Issuer<'_>) -> Vec<Rule>) -> Token {
    Token { member, prefix: "", form: Form::Word, lifetime: Some(seconds), audience }
}

fn registry(_: &Issuer<'_>) -> Vec<Rule> {
    Rows::derived(CredentialKind::Github).host(GHCR, PathPattern::under("/v2"), Shape::Bearer).rules
}

fn copilot(_: &Issuer<'_>) -> Vec<Rule> {
    let rows = Rows::derived(CredentialKind::Github);
    COPILOT_HOSTS.iter().fold(rows, |rows, host| rows.host(host, PathPattern::Any, Shape::Bearer)).rules
}

const GHCR: &str = "ghcr.io";
const COPILOT_HOSTS: [&str; 8] = [
    "api.githubcopilot.com",
    "api.individual.githubcopilot.com",
    "api.business.githubcopilot.com",
    "api.enterprise.githubcopilot.com",
    "proxy.individual.githubcopilot.com",
    "proxy.business.githubcopilot.com",
    "proxy.enterprise.githubcopilot.com",
    "copilot-proxy.githubusercontent.com",
];
