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
    let writes = |route: &&str| path.contains(*route);
    WRITING_GETS.iter().any(|route| writes(route)).then_some(Classified::write("grafana-writing-get"))
}

const WRITING_GETS: [&str; 4] =
    ["/api/snapshots-delete/", "/logout", "/api/user/auth-tokens/rotate", "/api/datasources/proxy/"];
