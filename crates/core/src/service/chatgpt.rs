//! ChatGPT, as Codex uses it after a login. Another audience than OpenAI's API: neither takes the other's token.

use super::{Operation, Rows, Service, whole_host};
use crate::access::ReadException;
use crate::classify::LoginRule;
use crate::config::ServiceSettings;
use crate::credential::CredentialKind;
use crate::denial::ErrorShape;
use crate::local::{LocalAnswer, Wish};
use crate::path::PathPattern;
use crate::rule::{Rule, Shape};

pub(super) const SERVICE: Service = Service {
    kind: CredentialKind::Chatgpt,
    rules,
    operations: &OPERATIONS,
    root: whole_host,
    other_hosts: &[AUTH],
    errors: ErrorShape::Openai,
    settings: &["extra_headers"],
};

/// Only swapped: a request that nobody logged in for has no account to name either.
fn rules(settings: &ServiceSettings) -> Vec<Rule> {
    Rows::of(CredentialKind::Chatgpt, settings)
        .host("chatgpt.com", PathPattern::under("/backend-api"), Shape::Bearer)
        .only_swapped()
        .host(AUTH, PathPattern::Exact(WHO.into()), Shape::Bearer)
        .only_swapped()
        .rules
}

const OPERATIONS: [Operation; 7] = [
    Operation::login(login("chatgpt.refresh", Wish::Refresh), "oauth/token").at(AUTH),
    Operation::login(login("chatgpt.revoke", Wish::Revoke), "oauth/revoke").at(AUTH),
    Operation::mint("openai.oauth", "POST", "oauth/token|revoke").at(AUTH),
    Operation::mint("openai.oauth", "POST", "**/deviceauth/**").at(AUTH),
    inference("backend-api/codex/responses/**"),
    inference("backend-api/codex/responses/**").socket(),
    inference("backend-api/codex/analytics-events/**"),
];

const fn login(rule: &'static str, wish: Wish) -> LoginRule {
    LoginRule { answer: LocalAnswer { credential: CredentialKind::Chatgpt, wish }, rule, minting: "openai.oauth" }
}

const fn inference(path: &'static str) -> Operation {
    Operation::except(ReadException::ModelInference, path).at("chatgpt.com")
}

const AUTH: &str = "auth.openai.com";
/// Where Codex asks whose account a personal access token (`at-…`) is for.
const WHO: &str = "/api/accounts/v1/user-auth-credential/whoami";
