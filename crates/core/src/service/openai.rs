//! OpenAI and Codex. The API key and a ChatGPT login are different audiences: the key never goes to chatgpt.com.

use http::Method;

use super::{Rows, Service};
use crate::access::ReadException;
use crate::classify::Classified;
use crate::config::ServiceSettings;
use crate::credential::CredentialKind;
use crate::facts::Facts;
use crate::path::{CanonicalPath, PathPattern};
use crate::rule::{InjectPolicy, Rule, Shape};

pub(super) const SERVICE: Service =
    Service { kind: CredentialKind::Openai, rules, classify, other_hosts: &["chatgpt.com"] };

fn rules(settings: &ServiceSettings) -> Vec<Rule> {
    let v1 = || PathPattern::under("/v1");
    let mut rows = Rows::of(CredentialKind::Openai).host("api.openai.com", v1(), Shape::Openai);
    rows = match settings.region.as_deref() {
        Some("us") => rows.host("us.api.openai.com", v1(), Shape::Openai),
        Some("eu") => rows.host("eu.api.openai.com", v1(), Shape::Openai),
        _ => rows,
    };
    settings.hosts.iter().fold(rows, |rows, host| rows.pattern(host, v1(), Shape::Openai, InjectPolicy::Auto)).rules
}

fn classify(facts: &Facts<'_>) -> Option<Classified> {
    let path = facts.path?;
    let chatgpt = facts.origin.host.name() == Some("chatgpt.com");
    let inference = if chatgpt { is_codex(path, facts.upgrade) } else { is_api(path, facts.upgrade) };
    let call = facts.upgrade || *facts.method == Method::POST;
    (call && inference).then_some(Classified::excepted(ReadException::ModelInference))
}

fn is_api(path: CanonicalPath<'_>, upgrade: bool) -> bool {
    let list: &[&str] = if upgrade { &API_SOCKETS } else { &API_CALLS };
    list.contains(&path.as_str())
}

fn is_codex(path: CanonicalPath<'_>, upgrade: bool) -> bool {
    let responses = path.is_under("/backend-api/codex/responses");
    responses || (!upgrade && path.is_under("/backend-api/codex/analytics-events"))
}

const API_CALLS: [&str; 6] = [
    "/v1/responses",
    "/v1/responses/compact",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/moderations",
];
const API_SOCKETS: [&str; 2] = ["/v1/responses", "/v1/realtime"];
