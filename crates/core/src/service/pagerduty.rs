//! PagerDuty. Its events hosts take routing keys, which are other credentials.

use super::{Rows, Service, exact_name};
use crate::config::ServiceSettings;
use crate::credential::CredentialKind;
use crate::path::PathPattern;
use crate::rule::{InjectPolicy, Rule, Shape};

pub(super) const SERVICE: Service =
    Service { kind: CredentialKind::Pagerduty, rules, classify: |_| None, other_hosts: &[] };

fn rules(settings: &ServiceSettings) -> Vec<Rule> {
    let (api, mcp) = match settings.region.as_deref() {
        Some("eu") => ("api.eu.pagerduty.com", "mcp.eu.pagerduty.com"),
        _ => ("api.pagerduty.com", "mcp.pagerduty.com"),
    };
    let rows = Rows::of(CredentialKind::Pagerduty).host(api, PathPattern::Any, Shape::PagerdutyToken).host(
        mcp,
        PathPattern::under("/mcp"),
        Shape::PagerdutyToken,
    );
    let rows = settings.hosts.iter().fold(rows, |rows, host| {
        let mcp = exact_name(host).is_some_and(|name| name.starts_with("mcp."));
        let path = if mcp { PathPattern::under("/mcp") } else { PathPattern::Any };
        rows.pattern(host, path, Shape::PagerdutyToken, InjectPolicy::Auto)
    });
    rows.rules
}
