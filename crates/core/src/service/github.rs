//! GitHub, GitHub Enterprise Server and `ghe.com` tenants.

use super::{Rows, Service, exact_name};
use crate::config::ServiceSettings;
use crate::credential::CredentialKind;
use crate::host::HostPattern;
use crate::path::PathPattern;
use crate::rule::{InjectPolicy, Rule, Shape};

pub(super) const SERVICE: Service =
    Service { kind: CredentialKind::Github, rules, classify: |_| None, other_hosts: &[] };

fn rules(settings: &ServiceSettings) -> Vec<Rule> {
    let any = || PathPattern::Any;
    let under = PathPattern::under;
    let rows = Rows::of(CredentialKind::Github)
        .host("api.github.com", any(), Shape::Bearer)
        .host("github.com", REPOSITORY, basic())
        .host("gist.github.com", PathPattern::GitSmartHttp { min: 1, max: 2 }, basic())
        .host("uploads.github.com", under("/repos"), Shape::Bearer)
        .host("raw.githubusercontent.com", any(), Shape::Bearer)
        .only_swapped()
        .host("ghcr.io", PathPattern::Exact("/token".into()), basic())
        .host("ghcr.io", under("/v2"), Shape::Bearer)
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

fn basic() -> Shape {
    Shape::Basic { user: "x-access-token".into() }
}

const REPOSITORY: PathPattern = PathPattern::GitSmartHttp { min: 2, max: 2 };
