//! The built-in services: one entry each; rules, listings and classes all derive from it.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

mod anthropic;
mod chatgpt;
mod docker;
mod gemini;
mod github;
mod grafana;
mod kubernetes;
mod npm;
mod openai;
mod operation;
mod pagerduty;
mod sentry;
mod talos;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use http::{HeaderName, HeaderValue};

pub use self::operation::Operation;
use self::operation::{Asked, Site};
use crate::catalogue;
use crate::classify::Classification;
use crate::config::{Closed, ServiceSettings, Settings, UserCredential};
use crate::credential::CredentialKind;
use crate::denial::ErrorShape;
use crate::derived::Derivation;
use crate::facts::Facts;
use crate::host::{Host, HostPattern, Origin, Scheme};
use crate::kubernetes as kubernetes_api;
use crate::path::PathPattern;
use crate::rule::{InjectPolicy, Rule, RuleSet, Shape};
use crate::talos as talos_api;

/// What clauderon knows of a service.
pub struct Service {
    /// The credential it takes.
    pub kind: CredentialKind,
    /// Where the credential goes, given `[services.<name>]`.
    pub rules: fn(&ServiceSettings) -> Vec<Rule>,
    /// What requests to its origins do, where the method alone does not tell; the first row that fits counts.
    pub operations: &'static [Operation],
    /// The path above the service's own, given the path of a rule.
    root: fn(&PathPattern) -> &str,
    /// Origins (https, port 443) that are the service's although its credential never goes there.
    pub other_hosts: &'static [&'static str],
    /// How its clients expect an error to look.
    pub errors: ErrorShape,
    /// The keys of `[services.<name>]` that it reads.
    pub settings: &'static [&'static str],
}

/// Every built-in service, in the order of the documentation.
pub static SERVICES: [Service; 12] = [
    github::SERVICE,
    anthropic::SERVICE,
    openai::SERVICE,
    pagerduty::SERVICE,
    sentry::SERVICE,
    grafana::SERVICE,
    npm::SERVICE,
    docker::SERVICE,
    kubernetes::SERVICE,
    talos::SERVICE,
    chatgpt::SERVICE,
    gemini::SERVICE,
];

/// All rules the settings give: the user's own credentials first, so that they win.
pub fn rules(settings: &Settings) -> Vec<Rule> {
    let own = settings.credentials.iter().flat_map(user_rules);
    let none = ServiceSettings::default();
    let builtin = SERVICES
        .iter()
        .filter(|service| service.kind.is_in_force(settings))
        .flat_map(|service| (service.rules)(settings.services.get(service.kind.names().name).unwrap_or(&none)));
    own.chain(builtin).collect()
}

/// What `[services.<name>]` closes to sessions.
pub fn closed(services: &BTreeMap<String, ServiceSettings>) -> Vec<Closed> {
    services.get(CredentialKind::Grafana.names().name).map(grafana::closed).unwrap_or_default()
}

/// The class of a request to one of a service's origins that stays in: it would make a credential, or give other lasting access,
/// or the proxy answers it itself.
pub fn kept_in(facts: &Facts<'_>, rules: &RuleSet) -> Option<Classification> {
    judge(facts, rules, Operation::keeps_in)
}

/// The class a service gives any other request to one of its origins.
pub fn classify(facts: &Facts<'_>, rules: &RuleSet) -> Option<Classification> {
    judge(facts, rules, |operation| !operation.keeps_in()).or_else(|| catalogue::graphql(facts))
}

/// The name of every minting operation, as `allow_minting` takes it.
pub fn minting_rules() -> impl Iterator<Item = &'static str> {
    let through_the_proxy =
        SERVICES.iter().flat_map(|service| service.operations).filter(|operation| operation.mints()).map(|op| op.rule);
    through_the_proxy.chain(kubernetes_api::MINTING).chain(talos_api::MINTING)
}

/// How the refusal of the operation called `rule` looks to the clients of its service.
pub fn error_shape(rule: &str) -> ErrorShape {
    match rule.split_once('.') {
        Some((_, "oauth" | "login")) => ErrorShape::Oauth,
        Some((name, _)) => {
            SERVICES.iter().find(|service| service.name() == name).map_or_else(ErrorShape::default, |s| s.errors)
        }
        None => ErrorShape::Plain,
    }
}

/// The tokens that the answer to a request may hold.
pub fn derivation(facts: &Facts<'_>, rules: &RuleSet) -> Option<&'static Derivation> {
    let asked = Asked::of(facts);
    sites(facts, rules).find_map(|(service, site)| service.operations.iter().find_map(|row| row.answers(&asked, &site)))
}

fn judge(facts: &Facts<'_>, rules: &RuleSet, which: fn(&Operation) -> bool) -> Option<Classification> {
    let asked = Asked::of(facts);
    let rows = |service: &'static Service| service.operations.iter().filter(move |operation| which(operation));
    sites(facts, rules).find_map(|(service, site)| rows(service).find_map(|operation| operation.judge(&asked, &site)))
}

/// The services that may know a request's origin: those with a rule for it, and those that name it.
fn sites<'a>(facts: &Facts<'a>, rules: &'a RuleSet) -> impl Iterator<Item = (&'static Service, Site<'a>)> {
    let named = |name: &str| SERVICES.iter().find(|service| service.name() == name);
    let by_rule = rules.of_origin(facts.origin).filter_map(move |rule| {
        let service = named(&rule.service)?;
        Some((service, Site { root: (service.root)(&rule.path), named_only: false }))
    });
    let origin = facts.origin;
    let by_host = SERVICES.iter().filter(move |service| service.has_other(origin));
    by_rule.chain(by_host.map(|service| (service, Site { root: "", named_only: true })))
}

impl Service {
    /// The short name in rules and audit records.
    pub const fn name(&self) -> &'static str {
        self.kind.names().name
    }

    fn has_other(&self, origin: &Origin) -> bool {
        let plain = origin.scheme == Scheme::Https && origin.port == Scheme::Https.default_port();
        plain && origin.host.name().is_some_and(|name| self.other_hosts.contains(&name))
    }
}

/// The root of services that have a host to themselves.
fn whole_host(_: &PathPattern) -> &str {
    ""
}

/// Git comes first: where it and the API share a host, its paths take nothing else.
fn user_rules(credential: &UserCredential) -> Vec<Rule> {
    let UserCredential { hosts, reach, .. } = credential;
    let whole = [PathPattern::Any];
    let paths = if reach.paths.is_empty() { &whole } else { &reach.paths[..] };
    let git = reach.git_user.as_deref().map(|user| Shape::Basic { user: user.into() });
    let row = |hosts: &[HostPattern], path: &PathPattern, shape: Shape, inject| -> Vec<Rule> {
        hosts.iter().map(|host| user_rule(credential, host, (path.clone(), shape.clone(), inject))).collect()
    };
    let mut rules =
        git.map(|shape| row(&reach.git_hosts, &ANY_REPOSITORY, shape, credential.inject)).unwrap_or_default();
    for path in paths {
        if !credential.shape.is_only_swapped() {
            rules.extend(row(hosts, path, credential.shape.clone(), credential.inject));
        }
        let bearer = reach.bearer.then_some(Shape::Bearer);
        let in_path = path.token().cloned().map(Shape::Path);
        let in_body = reach.body.as_deref().map(|field| Shape::Body { field: field.into(), user: None });
        for shape in [bearer, in_path, in_body].into_iter().flatten() {
            rules.extend(row(hosts, path, shape, InjectPolicy::Placeholder));
        }
    }
    rules
}

fn user_rule(
    credential: &UserCredential,
    host: &HostPattern,
    (path, shape, inject): (PathPattern, Shape, InjectPolicy),
) -> Rule {
    Rule {
        service: credential.name.as_str().into(),
        credential: credential.name.clone(),
        host: host.clone(),
        path,
        shape,
        inject,
        extra: Arc::default(),
        label: OnceLock::new(),
    }
}

/// Groups within groups are as deep as anybody has them.
const ANY_REPOSITORY: PathPattern = PathPattern::GitSmartHttp { min: 1, max: 20 };

/// The rows of one service.
struct Rows {
    kind: CredentialKind,
    extra: Arc<[(HeaderName, HeaderValue)]>,
    rules: Vec<Rule>,
}

impl Rows {
    fn of(kind: CredentialKind, settings: &ServiceSettings) -> Self {
        Self { kind, extra: settings.extra_headers.as_slice().into(), rules: Vec::new() }
    }

    /// The audience of a derived token.
    fn derived(kind: CredentialKind) -> Self {
        Self::of(kind, &ServiceSettings::default())
    }

    /// A row for a host that is written in the code.
    fn host(self, host: &str, path: PathPattern, shape: Shape) -> Self {
        let host = HostPattern::parse(host).expect("hosts of the built-in services are valid");
        self.pattern(&host, path, shape, InjectPolicy::Auto)
    }

    fn pattern(mut self, host: &HostPattern, path: PathPattern, shape: Shape, inject: InjectPolicy) -> Self {
        let service = Arc::from(self.kind.names().name);
        let credential = self.kind.credential();
        let (host, extra) = (host.clone(), self.extra.clone());
        self.rules.push(Rule { service, credential, host, path, shape, inject, extra, label: OnceLock::new() });
        self
    }

    fn only_swapped(mut self) -> Self {
        if let Some(last) = self.rules.last_mut() {
            last.inject = InjectPolicy::Placeholder;
        }
        self
    }
}

/// Domains under which many tenants have hosts: a wildcard there would send a credential to strangers.
pub const SHARED_DOMAINS: [&str; 13] = [
    "sentry.io",
    "grafana.net",
    "ghe.com",
    "github.com",
    "github.io",
    "githubusercontent.com",
    "pagerduty.com",
    "openai.com",
    "chatgpt.com",
    "googleapis.com",
    "anthropic.com",
    "claude.com",
    "docker.io",
];

/// Host, port and path of an `https` base URL (`https://host:port/path/`, or `//host/path/` as npm writes it). Secrets never go
/// over clear text, so any other scheme gives nothing.
fn base_url(url: &str) -> Option<(HostPattern, &str)> {
    let rest = url.trim().strip_prefix("https:").or_else(|| url.trim().strip_prefix("//").map(|_| url.trim()))?;
    let rest = rest.strip_prefix("//")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = HostPattern::parse(authority).ok().filter(|host| host.exact().is_some())?;
    Some((host, path.trim_end_matches('/')))
}

/// The DNS name of a pattern without wildcard.
fn exact_name(pattern: &HostPattern) -> Option<&str> {
    pattern.exact().and_then(Host::name)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_kind_has_its_service() {
        for (service, kind) in SERVICES.iter().zip(CredentialKind::ALL) {
            assert_eq!(service.kind, kind);
        }
    }

    #[test]
    fn services_without_a_fixed_host_have_no_rules_by_default() {
        let rules = rules(&Settings::defaults(Path::new("/h")));
        let silent = ["grafana", "npm", "kubernetes", "talos"];
        assert!(!rules.iter().any(|rule| silent.contains(&&*rule.service)));
        for service in SERVICES.iter().filter(|service| !silent.contains(&service.name())) {
            assert!(rules.iter().any(|rule| *rule.service == *service.name()), "{}", service.name());
        }
    }

    #[test]
    fn refusals_look_like_the_services_own_errors() {
        for (rule, shape) in [
            ("github.runner", ErrorShape::Message),
            ("github.login", ErrorShape::Oauth),
            ("anthropic.api-key", ErrorShape::Anthropic),
            ("sentry.token", ErrorShape::Detail),
            ("npm.token", ErrorShape::Plain),
            ("example.operation", ErrorShape::Plain),
            ("method", ErrorShape::Plain),
        ] {
            assert_eq!(error_shape(rule), shape, "{rule}");
        }
    }

    #[test]
    fn base_urls_are_https_or_nothing() {
        let parse = |url| base_url(url).map(|(host, path)| format!("{host}{path}"));
        assert_eq!(parse("https://h.example:8443/a/b/").unwrap(), "h.example:8443/a/b");
        assert_eq!(parse("//h.example/").unwrap(), "h.example");
        assert_eq!(parse(" https://h.example ").unwrap(), "h.example");
        for bad in [
            "http://h.example/",
            "ftp://h.example/",
            "h.example",
            "https:h.example",
            "https://u:p@h.example/",
            "https://*.h.example/",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
