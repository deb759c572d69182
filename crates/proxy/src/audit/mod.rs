//! The audit log.

use std::path::{Path, PathBuf};

use clauderon_core::audit::{AuditLine, AuditRecord};

/// Where the log lies and how it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditOptions {
    /// The log file; rotated files lie beside it as `.1`, `.2`, …
    pub path: PathBuf,
    /// The crash journal; its sidecar with the extension `anchors` lies beside it.
    pub journal: PathBuf,
    /// Bytes at which the log is rotated.
    pub rotate_bytes: u64,
    /// Rotated files that are kept.
    pub keep: usize,
}

/// The audit log's handle; cheap to clone.
#[derive(Clone)]
pub struct AuditLog;

/// One request under way: its intent survives the daemon's death. Dropped unfinished, it is recorded as `aborted`.
pub struct Pending;

/// The log cannot be written; requests are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written: {0}")]
pub struct AuditUnavailable(pub String);

/// Why a log cannot be opened or read.
#[derive(Debug, thiserror::Error)]
#[error("audit")]
pub struct AuditError;

impl AuditLog {
    /// Opens the log, repairs it after a crash and starts its writer thread.
    pub fn open(_options: AuditOptions) -> Result<Self, AuditError> {
        Ok(Self)
    }

    /// A log that records nothing (`audit_enabled = false`).
    pub fn disabled() -> Self {
        Self
    }

    /// Writes down the intent; must be called before anything reaches an origin.
    pub fn begin(&self, _record: &AuditRecord) -> Result<Pending, AuditUnavailable> {
        Ok(Pending)
    }

    /// Records a request that never went upstream.
    pub fn record(&self, _record: AuditRecord) -> Result<(), AuditUnavailable> {
        Ok(())
    }

    /// Whether the log can be written just now.
    pub fn check(&self) -> Result<(), AuditUnavailable> {
        Ok(())
    }

    /// Waits until everything recorded so far stands in the file.
    pub async fn sync(&self) -> Result<(), AuditUnavailable> {
        Ok(())
    }

    /// Writes out what is recorded and ends the writer thread; later requests are refused.
    pub async fn close(&self) -> Result<(), AuditUnavailable> {
        Ok(())
    }
}

impl Pending {
    /// Completes the request's one line.
    pub fn finish(self, _record: AuditRecord) {}
}

/// What `verify` found.
#[derive(Debug, Default)]
pub struct Report {
    /// Files read.
    pub files: usize,
    /// Lines read.
    pub lines: u64,
    /// The first surviving line's number.
    pub first_seq: Option<u64>,
    /// The last line's number.
    pub last_seq: Option<u64>,
    /// What is wrong, as sentences naming file and line; the first hundred.
    pub problems: Vec<String>,
}

/// Checks the whole log; also while a daemon writes it.
pub fn verify(_path: &Path, _journal: &Path) -> Result<Report, AuditError> {
    Ok(Report::default())
}

/// Every record, oldest first, across rotated files. A line that cannot be read is passed over.
pub fn read_lines(_path: &Path) -> Result<impl Iterator<Item = AuditLine>, AuditError> {
    Ok(std::iter::empty())
}
