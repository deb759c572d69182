//! Anthropic.

use http::Method;

use super::{Rows, Service, exact_name};
use crate::access::ReadException;
use crate::classify::Classified;
use crate::config::ServiceSettings;
use crate::credential::CredentialKind;
use crate::facts::Facts;
use crate::path::PathPattern;
use crate::rule::{InjectPolicy, Rule, Shape};

pub(super) const SERVICE: Service = Service { kind: CredentialKind::Anthropic, rules, classify, other_hosts: &[] };

fn rules(settings: &ServiceSettings) -> Vec<Rule> {
    let rows = Rows::of(CredentialKind::Anthropic).host("api.anthropic.com", PathPattern::Any, Shape::Anthropic);
    let rows = settings.hosts.iter().fold(rows, |rows, host| match exact_name(host) {
        // The user's own connectors (mail, chat): open only where the user names the host, and never added unasked.
        Some("mcp-proxy.anthropic.com") => {
            rows.pattern(host, PathPattern::under("/v1/mcp"), Shape::Bearer, InjectPolicy::Placeholder)
        }
        _ => rows.pattern(host, PathPattern::Any, Shape::Anthropic, InjectPolicy::Auto),
    });
    rows.rules
}

fn classify(facts: &Facts<'_>) -> Option<Classified> {
    let path = facts.path?;
    let inference = INFERENCE.contains(&path.as_str()) || path.as_str().starts_with("/api/event_logging/");
    let call = *facts.method == Method::POST && !facts.upgrade && inference;
    call.then_some(Classified::excepted(ReadException::ModelInference))
}

/// The model's endpoints, and what Claude Code cannot start without.
const INFERENCE: [&str; 6] = [
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/complete",
    "/api/claude_cli/bootstrap",
    "/api/claude_cli/feedback",
    "/api/claude_cli_feedback",
];
