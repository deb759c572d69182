//! Denials and failures: one table from cause to status, code and JSON body.

use http::StatusCode;
use serde_json::{Map, Value, json};

/// A refusal or failure made by the proxy itself, ready to be shown to the agent. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The stable cause.
    pub code: DenialCode,
    /// One sentence for the agent's user.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// Further members of the JSON body, in order (`method`, `host`, `session`).
    pub details: Vec<(&'static str, String)>,
    /// The rule that refused, for the audit record; not in the body.
    pub rule: Option<&'static str>,
    /// How the service's own clients expect an error to look.
    pub shape: ErrorShape,
}

/// The JSON in which a service reports errors, so that its clients show the sentence and not just a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ErrorShape {
    /// `error` is the sentence.
    #[default]
    Plain,
    /// `message` is, beside `error` (GitHub, Grafana).
    Message,
    /// `detail` is, beside `error` (Sentry, Docker Hub).
    Detail,
    /// `{"type":"error","error":{"type":…,"message":…}}` (Anthropic).
    Anthropic,
    /// `{"error":{"message":…,"type":…,"code":…,"param":null}}` (OpenAI).
    Openai,
    /// `{"error":{"message":…,"code":…,"errors":[…]}}` (PagerDuty).
    Pagerduty,
    /// `{"error":"access_denied","error_description":…}` (RFC 6749 § 5.2).
    Oauth,
}

/// The stable cause of a denial; sent as `X-Clauderon-Error` and recorded as `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DenialCode {
    /// The request cannot be read one way only.
    MalformedRequest,
    /// A request head beyond a limit.
    HeadTooLarge,
    /// A request target beyond its limit.
    TargetTooLong,
    /// The client took too long to send its request or handshake.
    RequestTimeout,
    /// CONNECT target, SNI, `Host` or absolute target disagree.
    AuthorityMismatch,
    /// No or wrong proxy credentials.
    ProxyAuthRequired,
    /// The session's mode forbids the operation.
    ReadOnly,
    /// The operation creates a new credential.
    Minting,
    /// A placeholder where it does not belong.
    PlaceholderMisdirected,
    /// The host is on no allow-list.
    HostNotAllowed,
    /// The address may not be dialled.
    AddressNotAllowed,
    /// The request would reach the daemon itself.
    OwnListener,
    /// An upgrade other than WebSocket, or a tunnel without TLS.
    UpgradeNotAllowed,
    /// The credential is configured but cannot be had just now, or a placeholder stands for nothing.
    CredentialUnavailable,
    /// The user's configuration closes this to the session, in whatever mode.
    SwitchedOff,
    /// The audit log cannot be written.
    AuditUnavailable,
    /// Too many connections or requests.
    TooBusy,
    /// The daemon is stopping.
    Draining,
    /// The origin's name does not resolve.
    UpstreamDns,
    /// The origin refuses connections.
    UpstreamRefused,
    /// The origin's certificate does not verify.
    UpstreamCertificate,
    /// TLS to the origin failed otherwise.
    UpstreamTls,
    /// The origin answered something that is not HTTP, or broke off.
    UpstreamProtocol,
    /// The origin did not answer in time.
    UpstreamTimeout,
    /// The corporate proxy refused or failed.
    UpstreamProxy,
    /// A fault of the daemon's own.
    Internal,
}

impl Denial {
    /// A denial with its sentence.
    pub fn new(code: DenialCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, details: Vec::new(), rule: None, shape: ErrorShape::Plain }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a member to the JSON body.
    #[must_use]
    pub fn detail(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.details.push((key, value.into()));
        self
    }

    /// Names the rule that refused.
    #[must_use]
    pub fn rule(mut self, rule: &'static str) -> Self {
        self.rule = Some(rule);
        self
    }

    /// Lets the body look like the service's own errors.
    #[must_use]
    pub fn shape(mut self, shape: ErrorShape) -> Self {
        self.shape = shape;
        self
    }

    /// The status the agent gets.
    pub fn status(&self) -> StatusCode {
        self.code.status()
    }

    /// The JSON body: the error in its shape, the details, `reason`, `hint`. The reason also travels as `X-Clauderon-Error`.
    pub fn body(&self) -> String {
        let mut members = self.error();
        members.extend(self.details.iter().map(|(key, value)| ((*key).into(), json!(value))));
        // What a read-only session's refusal looks like is promised to the letter, and has no such member.
        if self.code != DenialCode::ReadOnly {
            members.insert("reason".into(), json!(self.code.as_str()));
        }
        members.extend(self.next_step().map(|hint| ("hint".into(), json!(hint))));
        Value::Object(members).to_string()
    }

    /// What to do next: the denial's own hint, else the code's.
    pub fn next_step(&self) -> Option<&str> {
        self.hint.as_deref().or_else(|| self.code.hint())
    }

    fn error(&self) -> Map<String, Value> {
        let (text, hint) = (&self.message, self.next_step());
        let error = match self.shape {
            ErrorShape::Plain => json!({ "error": text }),
            ErrorShape::Message => json!({ "error": text, "message": text }),
            ErrorShape::Detail => json!({ "error": text, "detail": text }),
            ErrorShape::Anthropic => {
                json!({ "type": "error", "error": { "type": "permission_error", "message": text } })
            }
            ErrorShape::Openai => {
                let code = self.code.as_str();
                json!({ "error": { "message": text, "type": "permission_error", "code": code, "param": null } })
            }
            ErrorShape::Pagerduty => {
                json!({ "error": { "message": text, "code": 2010, "errors": Vec::from_iter(hint) } })
            }
            ErrorShape::Oauth => json!({ "error": "access_denied", "error_description": text }),
        };
        let Value::Object(members) = error else { unreachable!("every shape is an object") };
        members
    }
}

impl DenialCode {
    /// The status of this cause.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::MalformedRequest => StatusCode::BAD_REQUEST,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::AuthorityMismatch => StatusCode::MISDIRECTED_REQUEST,
            Self::ProxyAuthRequired => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            Self::ReadOnly
            | Self::Minting
            | Self::PlaceholderMisdirected
            | Self::HostNotAllowed
            | Self::AddressNotAllowed
            | Self::OwnListener
            | Self::UpgradeNotAllowed
            | Self::SwitchedOff => StatusCode::FORBIDDEN,
            Self::CredentialUnavailable | Self::AuditUnavailable | Self::TooBusy | Self::Draining => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::UpstreamDns
            | Self::UpstreamRefused
            | Self::UpstreamCertificate
            | Self::UpstreamTls
            | Self::UpstreamProtocol
            | Self::UpstreamProxy => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What to do next where the denial itself does not say.
    const fn hint(self) -> Option<&'static str> {
        match self {
            Self::MalformedRequest | Self::AuthorityMismatch => {
                Some("the client must send the request in another form")
            }
            Self::HeadTooLarge => Some("see `limits.max_head_bytes` and `limits.max_fields` in proxy.toml"),
            Self::TargetTooLong => Some("see `limits.max_target_bytes` in proxy.toml"),
            Self::RequestTimeout => Some("see `limits` in proxy.toml"),
            Self::ProxyAuthRequired => Some("use the proxy URL that `clauderon env NAME` prints"),
            Self::UpgradeNotAllowed => Some("WebSocket over TLS is the only upgrade"),
            Self::AuditUnavailable => Some("free space where the audit log lies; `clauderon config paths` shows where"),
            Self::TooBusy => Some("try again when other requests have ended"),
            Self::Draining => Some("try again in a moment"),
            Self::UpstreamDns | Self::UpstreamRefused | Self::UpstreamTimeout | Self::UpstreamProtocol => {
                Some("try again; if it stays, see whether the host answers without the proxy")
            }
            Self::Internal => Some("`clauderon logs --daemon` may say more"),
            Self::ReadOnly
            | Self::Minting
            | Self::PlaceholderMisdirected
            | Self::HostNotAllowed
            | Self::AddressNotAllowed
            | Self::OwnListener
            | Self::CredentialUnavailable
            | Self::SwitchedOff
            | Self::UpstreamCertificate
            | Self::UpstreamTls
            | Self::UpstreamProxy => None,
        }
    }

    /// The code on the wire and in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MalformedRequest => "malformed_request",
            Self::HeadTooLarge => "head_too_large",
            Self::TargetTooLong => "target_too_long",
            Self::RequestTimeout => "request_timeout",
            Self::AuthorityMismatch => "authority_mismatch",
            Self::ProxyAuthRequired => "proxy_auth_required",
            Self::ReadOnly => "read_only",
            Self::Minting => "minting",
            Self::PlaceholderMisdirected => "placeholder_misdirected",
            Self::HostNotAllowed => "host_not_allowed",
            Self::AddressNotAllowed => "address_not_allowed",
            Self::OwnListener => "own_listener",
            Self::UpgradeNotAllowed => "upgrade_not_allowed",
            Self::CredentialUnavailable => "credential_unavailable",
            Self::SwitchedOff => "switched_off",
            Self::AuditUnavailable => "audit_unavailable",
            Self::TooBusy => "too_busy",
            Self::Draining => "draining",
            Self::UpstreamDns => "upstream_dns",
            Self::UpstreamRefused => "upstream_refused",
            Self::UpstreamCertificate => "upstream_certificate",
            Self::UpstreamTls => "upstream_tls",
            Self::UpstreamProtocol => "upstream_protocol",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamProxy => "upstream_proxy",
            Self::Internal => "internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_gets_errors_in_its_own_shape() {
        let body = |shape| Denial::new(DenialCode::Minting, "no").detail("host", "h").hint("do").shape(shape).body();
        let rest = r#""host":"h","reason":"minting","hint":"do"}"#;
        for (shape, error) in [
            (ErrorShape::Plain, r#"{"error":"no","#),
            (ErrorShape::Message, r#"{"error":"no","message":"no","#),
            (ErrorShape::Detail, r#"{"error":"no","detail":"no","#),
            (ErrorShape::Anthropic, r#"{"type":"error","error":{"type":"permission_error","message":"no"},"#),
            (
                ErrorShape::Openai,
                r#"{"error":{"message":"no","type":"permission_error","code":"minting","param":null},"#,
            ),
            (ErrorShape::Pagerduty, r#"{"error":{"message":"no","code":2010,"errors":["do"]},"#),
            (ErrorShape::Oauth, r#"{"error":"access_denied","error_description":"no","#),
        ] {
            assert_eq!(body(shape), format!("{error}{rest}"), "{shape:?}");
        }
    }
}
