//! Refusals in the shape every Kubernetes client prints well: `metav1.Status`.

use http::StatusCode;
use serde_json::json;

use crate::denial::{Denial, DenialCode};

/// A denial as an API server would put it, and the status it goes out with.
pub fn status_body(denial: &Denial) -> (StatusCode, String) {
    let status = match denial.code {
        DenialCode::ProxyAuthRequired => StatusCode::UNAUTHORIZED,
        _ => denial.status(),
    };
    let body = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message(denial),
        "reason": reason(status),
        "code": status.as_u16(),
    });
    (status, body.to_string())
}

/// All of a denial in one line: clients show nothing else.
fn message(denial: &Denial) -> String {
    let session = denial.details.iter().find(|(name, _)| *name == "session");
    let session = session.map_or_else(String::new, |(_, name)| format!(" (session {name})"));
    let hint = denial.hint.as_ref().map_or_else(String::new, |hint| format!("; hint: {hint}"));
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
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    #[test]
    fn a_denial_reads_like_the_api_servers_own() {
        let denial = Denial::new(DenialCode::ReadOnly, "no writes").detail("session", "review").hint("switch");
        let (status, body) = status_body(&denial);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, body["reason"].as_str()), (StatusCode::FORBIDDEN, Some("Forbidden")));
        assert_eq!(body["message"], "clauderon: no writes (session review); hint: switch");
        let (status, _) = status_body(&Denial::new(DenialCode::ProxyAuthRequired, "who?"));
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
}
