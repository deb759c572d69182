//! PagerDuty. Its events hosts take routing keys, which are other credentials.

use percent_encoding::percent_decode_str;

use super::{Operation, Rows, Service, exact_name, whole_host};
use crate::classify::BodyRule;
use crate::config::ServiceSettings;
use crate::credential::CredentialKind;
use crate::denial::ErrorShape;
use crate::derived::{Derivation, Form, Issuer, Token};
use crate::facts::Facts;
use crate::path::PathPattern;
use crate::rule::{InjectPolicy, Rule, Shape};

pub(super) const SERVICE: Service = Service {
    kind: CredentialKind::Pagerduty,
    rules,
    operations: &OPERATIONS,
    root: whole_host,
    other_hosts: &["events.pagerduty.com", "events.eu.pagerduty.com", IDENTITY],
    errors: ErrorShape::Pagerduty,
    settings: &["hosts", "region", "extra_headers"],
};

fn rules(settings: &ServiceSettings) -> Vec<Rule> {
    let (api, mcp) = match settings.region.as_deref() {
        Some("eu") => ("api.eu.pagerduty.com", "mcp.eu.pagerduty.com"),
        _ => ("api.pagerduty.com", "mcp.pagerduty.com"),
    };
    let rows = Rows::of(CredentialKind::Pagerduty, settings).host(api, PathPattern::Any, Shape::PagerdutyToken).host(
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

const OPERATIONS: [Operation; 14] = [
    Operation::mint("pagerduty.webhook", "POST", "webhook_subscriptions"),
    Operation::mint("pagerduty.integration", "POST", "services/*/integrations"),
    Operation::mint("pagerduty.integration", "POST", "event_orchestrations/*/integrations/**"),
    Operation::mint("pagerduty.oauth", "POST", "**/oauth/token").at(IDENTITY).derives(&OAUTH),
    // Whatever is sent there may wake somebody.
    Operation::write("pagerduty.event", "*", "**").at("events.pagerduty.com"),
    Operation::write("pagerduty.event", "*", "**").at("events.eu.pagerduty.com"),
    Operation::body(BodyRule::Mcp, "mcp").at("mcp.pagerduty.com"),
    Operation::body(BodyRule::Mcp, "mcp").at("mcp.eu.pagerduty.com"),
    Operation::query("pagerduty.query", "analytics/metrics/**"),
    Operation::query("pagerduty.query", "analytics/raw/**"),
    Operation::query("pagerduty.query", "schedules/preview"),
    Operation::read("pagerduty.routing-key", "GET", "services/*/integrations/**").derives(&KEYS),
    Operation::read("pagerduty.routing-key", "GET", "services/**").when(includes_integrations).derives(&KEYS),
    Operation::read("pagerduty.routing-key", "GET", "event_orchestrations/*/integrations/**").derives(&KEYS),
];

fn includes_integrations(facts: &Facts<'_>) -> bool {
    let decoded = |query| percent_decode_str(query).decode_utf8_lossy().to_ascii_lowercase();
    facts.query.is_some_and(|query| decoded(query).contains("integration"))
}

/// With a routing key anybody may page people, by another host: no session needs to see one.
static KEYS: Derivation = Derivation {
    kind: "pagerduty",
    tokens: &[key("integration_key"), key("routing_key")],
    required: false,
    always: false,
};

const fn key(member: &'static str) -> Token {
    Token { member, prefix: "", form: Form::Masked, lifetime: None, audience: |_| Vec::new() }
}

static OAUTH: Derivation = Derivation {
    kind: "pagerduty",
    tokens: &[
        Token { member: "access_token", prefix: "", form: Form::Word, lifetime: Some(3600), audience: api },
        Token { member: "refresh_token", prefix: "", form: Form::Word, lifetime: None, audience: refresh },
    ],
    required: true,
    always: true,
};

fn api(_: &Issuer<'_>) -> Vec<Rule> {
    ["api.pagerduty.com", "api.eu.pagerduty.com"]
        .iter()
        .fold(Rows::derived(CredentialKind::Pagerduty), |rows, host| rows.host(host, PathPattern::Any, Shape::Bearer))
        .rules
}

fn refresh(_: &Issuer<'_>) -> Vec<Rule> {
    let shape = Shape::Body { field: "refresh_token".into(), user: None };
    Rows::derived(CredentialKind::Pagerduty).host(IDENTITY, PathPattern::Any, shape).rules
}

const IDENTITY: &str = "identity.pagerduty.com";
