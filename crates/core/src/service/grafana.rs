//! Grafana: every instance is somebody's own, so without a configured one the credential goes nowhere.

use percent_encoding::percent_decode_str;

use super::{Rows, Service, base_url};
use crate::classify::Classified;
use crate::config::ServiceSettings;
use crate::credential::CredentialKind;
use crate::facts::Facts;
use crate::host::HostPattern;
use crate::path::PathPattern;
use crate::rule::{InjectPolicy, Rule, Shape};

pub(super) const SERVICE: Service = Service { kind: CredentialKind::Grafana, rules, classify, other_hosts: &[] };

fn rules(settings: &ServiceSettings) -> Vec<Rule> {
    let url = settings.url.as_deref().and_then(base_url);
    let hosts = settings.hosts.iter().map(|host| (host.clone(), ""));
    let rows = Rows::of(CredentialKind::Grafana);
    url.into_iter().chain(hosts).fold(rows, |rows, (host, prefix)| instance(rows, &host, prefix)).rules
}

fn instance(rows: Rows, host: &HostPattern, prefix: &str) -> Rows {
    ["/api", "/apis"].iter().fold(rows, |rows, api| {
        rows.pattern(host, PathPattern::under(&format!("{prefix}{api}")), Shape::Bearer, InjectPolicy::Auto)
    })
}

/// The GETs that Grafana's own route table lets write, under whatever prefix and spelling.
fn classify(facts: &Facts<'_>) -> Option<Classified> {
    let path = percent_decode_str(facts.raw_path).decode_utf8_lossy();
    let proxied = path.split_once("/api/datasources/proxy/").is_some_and(|(_, tail)| !is_data_query(tail));
    let route = path.contains("/api/snapshots-delete/") || path.contains("/api/user/auth-tokens/rotate");
    let writes = proxied || route || path.split('/').any(|segment| segment == "logout");
    writes.then_some(Classified::write("grafana-writing-get"))
}

/// Whether `tail` (`<id>/…` or `uid/<uid>/…`) asks a data source for data. Anything else is the data source's own API.
fn is_data_query(tail: &str) -> bool {
    let route = tail.strip_prefix("uid/").unwrap_or(tail);
    route.split_once('/').is_some_and(|(_, route)| DATA_QUERIES.contains(&route))
}

const DATA_QUERIES: [&str; 8] = [
    "api/v1/query",
    "api/v1/query_range",
    "api/v1/series",
    "api/v1/labels",
    "loki/api/v1/query",
    "loki/api/v1/query_range",
    "_msearch",
    "_search",
];
