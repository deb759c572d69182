//! OpenAI's API. A ChatGPT login is another audience: the key never goes to chatgpt.com.

use super::{Operation, Rows, Service, whole_host};
use crate::access::ReadException;
use crate::config::ServiceSettings;
use crate::credential::CredentialKind;
use crate::denial::ErrorShape;
use crate::derived::{Derivation, Form, Issuer, Token};
use crate::host::HostPattern;
use crate::path::PathPattern;
use crate::rule::{InjectPolicy, Rule, Shape};

pub(super) const SERVICE: Service = Service {
    kind: CredentialKind::Openai,
    rules,
    operations: &OPERATIONS,
    root: whole_host,
    other_hosts: &[],
    errors: ErrorShape::Openai,
    settings: &["hosts", "region", "extra_headers"],
};

fn rules(settings: &ServiceSettings) -> Vec<Rule> {
    let v1 = || PathPattern::under("/v1");
    let mut rows = Rows::of(CredentialKind::Openai, settings).host("api.openai.com", v1(), Shape::Openai);
    rows = match settings.region.as_deref() {
        Some("us") => rows.host("us.api.openai.com", v1(), Shape::Openai),
        Some("eu") => rows.host("eu.api.openai.com", v1(), Shape::Openai),
        _ => rows,
    };
    settings.hosts.iter().fold(rows, |rows, host| rows.pattern(host, v1(), Shape::Openai, InjectPolicy::Auto)).rules
}

const OPERATIONS: [Operation; 11] = [
    Operation::mint("openai.api-key", "POST", "v1/organization/**/api_keys|admin_api_keys|service_accounts"),
    Operation::mint("openai.client-secret", "POST", "v1/chatkit/sessions"),
    Operation::write("openai.realtime", "POST", "v1/realtime/client_secrets|sessions|transcription_sessions")
        .derives(&REALTIME),
    inference("v1/responses"),
    inference("v1/responses/compact"),
    inference("v1/chat/completions"),
    inference("v1/completions"),
    inference("v1/embeddings"),
    inference("v1/moderations"),
    inference("v1/responses").socket(),
    inference("v1/realtime").socket(),
];

const fn inference(path: &'static str) -> Operation {
    Operation::except(ReadException::ModelInference, path)
}

/// A secret for one conversation, which clients take for a key.
static REALTIME: Derivation = Derivation {
    kind: "openai",
    tokens: &[ephemeral("value"), ephemeral("client_secret")],
    required: true,
    always: false,
};

const fn ephemeral(member: &'static str) -> Token {
    Token { member, prefix: "ek_", form: Form::Word, lifetime: Some(600), audience: same_origin }
}

fn same_origin(issuer: &Issuer<'_>) -> Vec<Rule> {
    let host = HostPattern::of(issuer.origin);
    Rows::derived(CredentialKind::Openai)
        .pattern(&host, PathPattern::under("/v1"), Shape::Openai, InjectPolicy::Placeholder)
        .rules
}
