//! Refusals in the shape every Kubernetes client prints well: `metav1.Status`.

use http::StatusCode;
use serde_json::json;

use super::request::names_resource;
use crate::denial::{Denial, DenialCode};

/// A refusal as a Kubernetes client gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// What the body is.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

/// A denial of a request for `path`, as an API server would put it.
///
/// About resources clients read a `Status`. Of what fails in discovery they show a text, and of a 503 nothing.
pub fn refusal(denial: &Denial, path: &str) -> Refusal {
    let special = [
        (DenialCode::ProxyAuthRequired, StatusCode::UNAUTHORIZED),
        (DenialCode::CredentialUnavailable, StatusCode::BAD_GATEWAY),
    ];
    let special = special.into_iter().find(|(code, _)| *code == denial.code);
    let status = special.map_or_else(|| denial.status(), |(_, status)| status);
    match names_resource(path) {
        true => Refusal { status, content_type: "application/json", body: status_body(denial, status) },
        false => Refusal { status, content_type: "text/plain; charset=utf-8", body: message(denial) },
    }
}

fn status_body(denial: &Denial, status: StatusCode) -> String {
    let body = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message(denial),
        "reason": reason(status),
        "code": status.as_u16(),
    });
    body.to_string()
}

/// All of a denial in one line: clients show nothing else.
fn message(denial: &Denial) -> String {
    let session = denial.details.iter().find(|(name, _)| *name == "session");
    let session = session.map_or_else(String::new, |(_, name)| format!(" (session {name})"));
    let hint = denial.next_step().map_or_else(String::new, |hint| format!("; hint: {hint}"));
    format!("clauderon: {}{session}{hint}", denial.message)
}

fn reason(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::UNAUTHORIZED => "Unauthorized",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => "Timeout",
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY => "ServiceUnavailable",
        _ => "InternalError",
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing unwrap or index is the test's failure")]
mod tests {
    use super::*;

    #[test]
    fn a_denial_reads_like_the_api_servers_own() {
        let denial = Denial::new(DenialCode::ReadOnly, "no writes").detail("session", "review").hint("switch");
        let told = refusal(&denial, "/api/v1/pods");
        let body: serde_json::Value = serde_json::from_str(&told.body).unwrap();
        assert_eq!((told.status, body["reason"].as_str()), (StatusCode::FORBIDDEN, Some("Forbidden")));
        assert_eq!(body["message"], "clauderon: no writes (session review); hint: switch");
        let told = refusal(&Denial::new(DenialCode::ProxyAuthRequired, "who?"), "/apis");
        assert_eq!((told.status, told.content_type), (StatusCode::UNAUTHORIZED, "text/plain; charset=utf-8"));
        assert!(told.body.starts_with("clauderon: who?"), "{}", told.body);
    }
}
