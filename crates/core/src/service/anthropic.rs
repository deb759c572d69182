//! Anthropic.

use super::{Operation, Rows, Service, exact_name, whole_host};
use crate::access::ReadException;
use crate::classify::LoginRule;
use crate::config::ServiceSettings;
use crate::credential::CredentialKind;
use crate::denial::ErrorShape;
use crate::local::{LocalAnswer, Wish};
use crate::path::PathPattern;
use crate::rule::{InjectPolicy, Rule, Shape};

pub(super) const SERVICE: Service = Service {
    kind: CredentialKind::Anthropic,
    rules,
    operations: &OPERATIONS,
    root: whole_host,
    other_hosts: &[PLATFORM, CONSOLE],
    errors: ErrorShape::Anthropic,
    settings: &["hosts", "extra_headers"],
};

fn rules(settings: &ServiceSettings) -> Vec<Rule> {
    let rows =
        Rows::of(CredentialKind::Anthropic, settings).host("api.anthropic.com", PathPattern::Any, Shape::Anthropic);
    let rows = settings.hosts.iter().fold(rows, |rows, host| match exact_name(host) {
        // The user's own connectors (mail, chat): open only where the user names the host, and never added unasked.
        Some("mcp-proxy.anthropic.com") => {
            rows.pattern(host, PathPattern::under("/v1/mcp"), Shape::Bearer, InjectPolicy::Placeholder)
        }
        _ => rows.pattern(host, PathPattern::Any, Shape::Anthropic, InjectPolicy::Auto),
    });
    rows.rules
}

/// The login's refresh and end, which are the daemon's business; what makes keys and tokens; then the model's endpoints, and what Claude Code cannot start without.
const OPERATIONS: [Operation; 18] = [
    refresh(),
    refresh().at(PLATFORM),
    refresh().at(CONSOLE),
    revoke(),
    revoke().at(PLATFORM),
    revoke().at(CONSOLE),
    Operation::mint("anthropic.api-key", "POST", "api/oauth/claude_cli/create_api_key"),
    Operation::mint("anthropic.api-key", "POST", "v1/organizations/**/api_keys/**"),
    Operation::mint("anthropic.oauth", "POST", "**/oauth/token|revoke"),
    Operation::mint("anthropic.oauth", "POST", "**/oauth/token|revoke").at(PLATFORM),
    Operation::mint("anthropic.oauth", "POST", "**/oauth/token|revoke").at(CONSOLE),
    inference("v1/messages"),
    inference("v1/messages/count_tokens"),
    inference("v1/complete"),
    inference("api/event_logging/**"),
    inference("api/claude_cli/bootstrap"),
    inference("api/claude_cli/feedback"),
    inference("api/claude_cli_feedback"),
];

const fn refresh() -> Operation {
    Operation::login(login("anthropic.refresh", Wish::Refresh), "v1/oauth/token")
}

const fn revoke() -> Operation {
    Operation::login(login("anthropic.revoke", Wish::Revoke), "v1/oauth/revoke")
}

const fn login(rule: &'static str, wish: Wish) -> LoginRule {
    let answer = LocalAnswer { credential: CredentialKind::Anthropic, wish };
    LoginRule { answer, rule, minting: "anthropic.oauth" }
}

const fn inference(path: &'static str) -> Operation {
    Operation::except(ReadException::ModelInference, path)
}

const PLATFORM: &str = "platform.claude.com";
const CONSOLE: &str = "console.anthropic.com";
