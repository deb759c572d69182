//! Where each built-in credential goes and where it never does. `UPDATE_MATRIX=1 cargo test -p clauderon-core` rewrites the table.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]

use std::fmt::Write as _;
use std::path::Path;

use clauderon_core::config::Settings;
use clauderon_core::facts::Facts;
use clauderon_core::host::{Authority, Scheme};
use clauderon_core::rule::RuleSet;
use clauderon_core::service::{self, SERVICES};
use http::Request;

#[test]
fn destinations_are_as_checked_in() {
    let mut text = String::new();
    for service in &SERVICES {
        writeln!(text, "[{}] {}", service.name(), service.settings.join(" ")).unwrap();
        for rule in service::rules(&everything()).iter().filter(|rule| *rule.service == *service.name()) {
            writeln!(text, "{:<12}{}{}  {}", format!("{:?}", rule.inject), rule.host, rule.path, rule.shape).unwrap();
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/destinations.txt");
    if std::env::var_os("UPDATE_MATRIX").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let checked_in = std::fs::read_to_string(&file).unwrap();
    assert!(text == checked_in, "credentials go elsewhere; if they should, run with UPDATE_MATRIX=1\n{text}");
}

#[test]
fn some_hosts_and_paths_never_get_a_credential() {
    let rules = RuleSet::new(service::rules(&everything()));
    for url in NEVER {
        let (scheme, rest) = url.split_once("://").unwrap();
        let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
        let (authority, target) = rest.split_at(rest.find('/').unwrap());
        let origin = Authority::parse(authority).unwrap().origin(scheme);
        let parts = Request::get(target).body(()).unwrap().into_parts().0;
        let found = rules.find(&Facts::of(&parts, &origin, false));
        assert!(found.is_none(), "{url} gets a credential by {}", found.unwrap());
    }
}

#[test]
fn every_host_and_setting_is_documented() {
    let docs = |name: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)).unwrap()
    };
    let (credentials, configuration) = (docs("credentials.md"), docs("configuration.md"));
    for rule in service::rules(&Settings::defaults(Path::new("/h"))) {
        assert!(credentials.contains(&format!("`{}", rule.host)), "{} is not documented", rule.host);
    }
    for (service, key) in SERVICES.iter().flat_map(|service| service.settings.iter().map(move |key| (service, key))) {
        let row = configuration.lines().find(|line| line.starts_with(&format!("| `{key}` |")));
        let row = row.unwrap_or_else(|| panic!("`{key}` is not documented"));
        assert!(row.contains(service.name()) || row.contains("every service"), "{}: {key}: {row}", service.name());
    }
}

/// Every service with everything that can be configured.
fn everything() -> Settings {
    let text = r#"
        [services.github]
        hosts = ["ghes.example.com", "acme.ghe.com"]
        [services.anthropic]
        hosts = ["mcp-proxy.anthropic.com"]
        [services.openai]
        region = "eu"
        [services.pagerduty]
        region = "eu"
        hosts = ["api.pagerduty.com", "mcp.pagerduty.com"]
        [services.sentry]
        hosts = ["acme.sentry.io", "sentry.example.com:8443"]
        path_prefix = "/s"
        [services.grafana]
        url = "https://graf.example.com/g/"
        hosts = ["acme.grafana.net"]
        [services.npm]
        registries = ["https://reg.example.com/", "https://art.example.com/npm/team/"]
        [services.docker]
        username = "me"
    "#;
    Settings::parse(text, Path::new("/h/.clauderon"), Path::new("/h")).unwrap()
}

const NEVER: &[&str] = &[
    // Clear text, other ports, look-alikes.
    "http://api.github.com/user",
    "https://api.github.com:8443/user",
    "https://api.github.com.evil.example/user",
    "https://xapi.github.com/user",
    "https://api-github.com/user",
    "https://xn--pi-7lc.github.com/user",
    "https://github.evil.example/o/r/info/refs",
    // GitHub: what carries its own permission, and what needs none.
    "https://codeload.github.com/o/r/tar.gz/main",
    "https://objects.githubusercontent.com/x",
    "https://release-assets.githubusercontent.com/x",
    "https://github-cloud.githubusercontent.com/x",
    "https://media.githubusercontent.com/media/o/r/x",
    "https://pkg-containers.githubusercontent.com/x",
    "https://github.com/login/oauth/access_token",
    "https://github.com/o/r/releases/download/v1/x",
    "https://github.com/o/r/archive/main.zip",
    "https://github.com/o/r/issues",
    "https://collector.github.com/x",
    "https://api.githubcopilot.com/chat/completions",
    "https://uploads.github.com/user",
    "https://ghcr.io/o/r",
    "https://other.ghe.com/o/r/info/refs",
    "https://ghes.example.com/login",
    "https://account.blob.core.windows.net/x",
    "https://github-production.s3.amazonaws.com/x",
    // Anthropic.
    "https://claude.ai/api/organizations",
    "https://claude.com/",
    "https://downloads.claude.ai/x",
    "https://statsig.anthropic.com/v1/rgstr",
    "https://bridge.claudeusercontent.com/",
    "https://console.anthropic.com/v1/oauth/token",
    "https://mcp-proxy.anthropic.com/v2/x",
    "https://http-intake.logs.datadoghq.com/api/v2/logs",
    // OpenAI: a key is no login.
    "https://platform.openai.com/",
    "https://auth.openai.com/oauth/token",
    "https://ab.chatgpt.com/v1/initialize",
    "https://files.oaiusercontent.com/x",
    "https://us.api.openai.com/v1/models",
    "https://api.openai.com/",
    // PagerDuty.
    "https://events.pagerduty.com/v2/enqueue",
    "https://events.eu.pagerduty.com/v2/change/enqueue",
    "https://identity.pagerduty.com/oauth/token",
    "https://mcp.eu.pagerduty.com/other",
    // Sentry: ingestion, and other tenants.
    "https://o1.ingest.sentry.io/api/1/envelope/",
    "https://o1.ingest.us.sentry.io/api/1/envelope/",
    "https://sentry.io/api/1/store/",
    "https://sentry.example.com:8443/api/1/envelope/",
    "https://other.sentry.io/api/0/projects/",
    "https://release-registry.services.sentry.io/apps/sentry-cli/latest",
    "https://browser.sentry-cdn.com/x",
    // Grafana.
    "https://other.grafana.net/api/search",
    "https://grafana.com/api/orgs",
    "https://graf.example.com/api/search",
    "https://graf.example.com/g/login",
    // npm.
    "https://art.example.com/npm/other/x",
    "https://art.example.com/npm/teams",
    "https://cdn.example.com/x.tgz",
    // Docker.
    "https://production.cloudflare.docker.com/registry-v2/x",
    "https://production.cloudfront.docker.com/x",
    "https://login.docker.com/oauth/device/code",
];
