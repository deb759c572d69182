//! The audit record and its hash chain.

use std::sync::Arc;

use crate::access::AccessMode;
use crate::session::{SessionId, SessionName};

/// One request, as the audit log tells it. Holds only what may be shown: no query, no header values, no secrets.
#[derive(Debug, Clone)]
pub struct AuditRecord {
    /// When the request began, as the wall clock told it: milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Whose request; `None` when nobody could be made out (407).
    pub session: Option<(SessionId, SessionName)>,
    /// The service's short name, or the host where no service is known.
    pub service: Arc<str>,
    /// The method as sent.
    pub method: String,
    /// The path without query, secrets in segments masked.
    pub path: String,
    /// Whether a real secret went out.
    pub auth_injected: bool,
    /// The status the agent got; `None` if none.
    pub response_code: Option<u16>,
    /// From the request head to the last byte of the answer.
    pub duration_ms: u64,
    /// The destination's host.
    pub host: String,
    /// The destination's port.
    pub port: u16,
    /// `HTTP/1.1`, `HTTP/2`, `websocket`, `connect`.
    pub protocol: &'static str,
    /// The session's mode at the decision.
    pub access_mode: Option<AccessMode>,
    /// Whether policy let the request out.
    pub allowed: bool,
    /// Why not (a denial code), or why it was allowed although not a plain read.
    pub reason: Option<&'static str>,
    /// The rule or exception that decided, for people.
    pub rule: Option<String>,
    /// The credential that was injected or meant.
    pub credential: Option<String>,
    /// Body bytes the agent sent.
    pub request_bytes: u64,
    /// Body bytes the agent got.
    pub response_bytes: u64,
    /// Secrets taken out of the answer.
    pub redactions: u64,
    /// What went wrong, for people; never a secret.
    pub error: Option<String>,
    /// Unique per request; sent upstream to nobody.
    pub request_id: String,
}
