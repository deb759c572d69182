//! Anthropic.

use super::{Operation, Rows, Service, exact_name, whole_host};
use crate::access::ReadException;
use crate::config::ServiceSettings;
use crate::credential::CredentialKind;
use crate::denial::ErrorShape;
use crate::path::PathPattern;
use crate::rule::{InjectPolicy, Rule, Shape};

pub(super) const SERVICE: Service = Service {
    kind: CredentialKind::Anthropic,
    rules,
    operations: &OPERATIONS,
    root: whole_host,
    other_hosts: &["platform.claude.com", "console.anthropic.com"],
    errors: ErrorShape::Anthropic,
};

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

/// What makes keys and tokens; then the model's endpoints, and what Claude Code cannot start without.
const OPERATIONS: [Operation; 12] = [
    Operation::mint("anthropic.api-key", "POST", "api/oauth/claude_cli/create_api_key"),
    Operation::mint("anthropic.api-key", "POST", "v1/organizations/**/api_keys/**"),
    Operation::mint("anthropic.oauth", "POST", "**/oauth/token|revoke"),
    Operation::mint("anthropic.oauth", "POST", "**/oauth/token|revoke").at("platform.claude.com"),
    Operation::mint("anthropic.oauth", "POST", "**/oauth/token|revoke").at("console.anthropic.com"),
    inference("v1/messages"),
    inference("v1/messages/count_tokens"),
    inference("v1/complete"),
    inference("api/event_logging/**"),
    inference("api/claude_cli/bootstrap"),
    inference("api/claude_cli/feedback"),
    inference("api/claude_cli_feedback"),
];

const fn inference(path: &'static str) -> Operation {
    Operation::except(ReadException::ModelInference, path)
}
