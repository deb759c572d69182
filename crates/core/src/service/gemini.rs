//! Google's Gemini API with an API key.

use super::{Operation, Rows, Service, whole_host};
use crate::access::ReadException;
use crate::config::ServiceSettings;
use crate::credential::CredentialKind;
use crate::denial::ErrorShape;
use crate::facts::Facts;
use crate::path::PathPattern;
use crate::rule::{InjectPolicy, Rule, Shape};

pub(super) const SERVICE: Service = Service {
    kind: CredentialKind::Gemini,
    rules,
    operations: &OPERATIONS,
    root: whole_host,
    other_hosts: &[],
    errors: ErrorShape::Openai,
    settings: &["hosts", "extra_headers"],
};

fn rules(settings: &ServiceSettings) -> Vec<Rule> {
    let rows = Rows::of(CredentialKind::Gemini, settings).host(
        "generativelanguage.googleapis.com",
        PathPattern::Any,
        Shape::GoogleKey,
    );
    let more = |rows: Rows, host| rows.pattern(host, PathPattern::Any, Shape::GoogleKey, InjectPolicy::Auto);
    settings.hosts.iter().fold(rows, more).rules
}

/// The model's calls, also in the form of OpenAI's clients, and the live WebSocket.
const OPERATIONS: [Operation; 5] = [
    inference("*/models|tunedModels/*").when(asks_a_model),
    inference("*/openai/chat/completions"),
    inference("*/openai/embeddings"),
    inference("ws/google.ai.generativelanguage.*").socket(),
    Operation::mint("gemini.token", "POST", "*/auth_tokens"),
];

const fn inference(path: &'static str) -> Operation {
    Operation::except(ReadException::ModelInference, path)
}

/// The verb after the model's name; others start work that outlives the request.
fn asks_a_model(facts: &Facts<'_>) -> bool {
    facts.raw_path.rsplit_once(':').is_some_and(|(_, verb)| VERBS.contains(&verb))
}

const VERBS: [&str; 6] =
    ["generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents", "predict"];
