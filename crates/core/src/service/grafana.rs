//! Grafana: every instance is somebody's own, so without a configured one the credential goes nowhere.

use percent_encoding::percent_decode_str;

use super::{Operation, Rows, Service, base_url};
use crate::config::{Closed, ServiceSettings};
use crate::credential::CredentialKind;
use crate::denial::ErrorShape;
use crate::facts::Facts;
use crate::host::HostPattern;
use crate::path::PathPattern;
use crate::rule::{InjectPolicy, Rule, Shape};

pub(super) const SERVICE: Service = Service {
    kind: CredentialKind::Grafana,
    rules,
    operations: &OPERATIONS,
    root,
    other_hosts: &[],
    errors: ErrorShape::Message,
    settings: &["url", "hosts", "path_prefix", "extra_headers", "sql_query", "datasource_proxy"],
};

fn rules(settings: &ServiceSettings) -> Vec<Rule> {
    let url = settings.url.as_deref().and_then(base_url);
    let prefix = settings.path_prefix.as_deref().unwrap_or_default();
    let hosts = settings.hosts.iter().map(|host| (host.clone(), prefix));
    let rows = Rows::of(CredentialKind::Grafana, settings);
    url.into_iter().chain(hosts).fold(rows, |rows, (host, prefix)| instance(rows, &host, prefix)).rules
}

fn instance(rows: Rows, host: &HostPattern, prefix: &str) -> Rows {
    ["/api", "/apis"].iter().fold(rows, |rows, api| {
        rows.pattern(host, PathPattern::under(&format!("{prefix}{api}")), Shape::Bearer, InjectPolicy::Auto)
    })
}

/// The rules are for `/api` and `/apis` of an instance, which may lie deeper than its host.
fn root(path: &PathPattern) -> &str {
    match path {
        PathPattern::Prefix(path) => path.rsplit_once('/').map_or("", |(root, _)| root),
        PathPattern::Any | PathPattern::Exact(_) | PathPattern::GitSmartHttp { .. } | PathPattern::Segments(_) => "",
    }
}

/// Whether an export is asked to show the secrets in it. Any value but `false` may count as yes.
fn decrypts(facts: &Facts<'_>) -> bool {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().to_ascii_lowercase();
    let pairs =
        facts.query.unwrap_or_default().split(['&', ';']).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    { pairs }.any(|(name, value)| decode(name) == "decrypt" && value != "false")
}

/// What the settings close.
pub(super) fn closed(settings: &ServiceSettings) -> Vec<Closed> {
    let off = |switch: Option<bool>| switch == Some(false);
    let queries = off(settings.sql_query).then(|| closed_by("sql_query", DATA_QUERY, true));
    let proxied = [PROXIED, PROXIED_QUERY].map(|rule| closed_by("datasource_proxy", rule, false));
    queries.into_iter().chain(proxied.into_iter().filter(|_| off(settings.datasource_proxy))).collect()
}

const fn closed_by(key: &'static str, rule: &'static str, to_readers_only: bool) -> Closed {
    Closed { service: "grafana", key, rule, to_readers_only }
}

/// Queries of any data source, which runs them as it runs its own: SQL may do more than read.
const DATA_QUERY: &str = "grafana.data-query";
const PROXIED_QUERY: &str = "grafana.proxied-query";
const PROXIED: &str = "grafana.proxied";

const OPERATIONS: [Operation; 29] = [
    Operation::mint("grafana.token", "POST", "**/api/serviceaccounts/*/tokens"),
    Operation::mint("grafana.token", "POST", "**/api/auth/keys"),
    Operation::mint("grafana.token", "POST", "**/apis/iam.grafana.app/**/tokens"),
    Operation::mint("grafana.cloud-token", "POST", "**/api/cloudmigration/token"),
    Operation::mint("grafana.cloud-token", "POST", "api/v1/tokens|accesspolicies"),
    Operation::mint("grafana.cloud-token", "POST", "api/orgs/*/api-keys"),
    Operation::mint("grafana.login", "*", "**/api/user/auth-tokens/rotate"),
    Operation::mint("grafana.license", "*", "**/api/licensing/token/**"),
    Operation::mint("grafana.decrypt", "GET", "**/api/v1/provisioning/**").when(decrypts),
    Operation::query(DATA_QUERY, "api/ds/query"),
    Operation::query(DATA_QUERY, "api/tsdb/query"),
    Operation::query(DATA_QUERY, "apis/query.grafana.app/**/query"),
    Operation::query("grafana.query", "api/dashboards/calculate-diff"),
    Operation::query("grafana.query", "api/public/dashboards/*/panels/*/query"),
    Operation::query(PROXIED_QUERY, "api/datasources/proxy/*/api/v1/query|query_range|series|labels"),
    Operation::query(PROXIED_QUERY, "api/datasources/proxy/*/loki/api/v1/query|query_range"),
    Operation::query(PROXIED_QUERY, "api/datasources/proxy/*/_msearch|_search"),
    Operation::query(PROXIED_QUERY, "api/datasources/proxy/uid/*/api/v1/query|query_range|series|labels"),
    Operation::query(PROXIED_QUERY, "api/datasources/proxy/uid/*/loki/api/v1/query|query_range"),
    Operation::query(PROXIED_QUERY, "api/datasources/proxy/uid/*/_msearch|_search"),
    Operation::read(PROXIED_QUERY, "GET", "api/datasources/proxy/*/api/v1/query|query_range|series|labels"),
    Operation::read(PROXIED_QUERY, "GET", "api/datasources/proxy/*/loki/api/v1/query|query_range"),
    Operation::read(PROXIED_QUERY, "GET", "api/datasources/proxy/*/_msearch|_search"),
    Operation::read(PROXIED_QUERY, "GET", "api/datasources/proxy/uid/*/api/v1/query|query_range|series|labels"),
    Operation::read(PROXIED_QUERY, "GET", "api/datasources/proxy/uid/*/loki/api/v1/query|query_range"),
    Operation::read(PROXIED_QUERY, "GET", "api/datasources/proxy/uid/*/_msearch|_search"),
    // The rest of a data source's API is what the data source makes of it.
    Operation::write(PROXIED, "*", "**/api/datasources/proxy/**"),
    // GETs that write, in Grafana's own route table.
    Operation::write("grafana.writing-get", "*", "**/api/snapshots-delete/**"),
    Operation::write("grafana.writing-get", "*", "**/logout/**"),
];
