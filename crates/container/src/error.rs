//! Why an engine cannot do what a session needs.

use std::fmt::Display;

use bollard::errors::Error;

/// Why an engine cannot do what a session needs, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct EngineError {
    /// What failed, and why.
    pub what: String,
    /// What to do about it, if that is known.
    pub hint: Option<String>,
}

impl EngineError {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The engine said no at `step`.
    pub(crate) fn said(step: impl Display, error: &Error) -> Self {
        Self::new(format!("{step}: {}", reason(error)))
    }
}

/// The engine's own words without the library's around them.
pub(crate) fn reason(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } | Error::DockerStreamError { error: message } => {
            message.trim().to_owned()
        }
        Error::RequestTimeoutError => "it does not answer".to_owned(),
        other => other.to_string(),
    }
}

/// Whether the engine has no such thing.
pub(crate) fn is_absent(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}
