//! Denials and failures: one table from cause to status, code and JSON body.

use http::StatusCode;
use serde_json::{Map, Value};

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
        Self { code, message: message.into(), hint: None, details: Vec::new(), rule: None }
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

    /// The status the agent gets.
    pub fn status(&self) -> StatusCode {
        self.code.status()
    }

    /// The JSON body: `error`, the details, `hint`. The code travels as `X-Clauderon-Error`.
    pub fn body(&self) -> String {
        let mut members = Map::new();
        members.insert("error".into(), Value::from(self.message.as_str()));
        members.extend(self.details.iter().map(|(key, value)| ((*key).into(), Value::from(value.as_str()))));
        members.extend(self.hint.iter().map(|hint| ("hint".into(), Value::from(hint.as_str()))));
        Value::Object(members).to_string()
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
            | Self::UpgradeNotAllowed => StatusCode::FORBIDDEN,
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
