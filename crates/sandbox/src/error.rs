//! Why a sandbox is not there; nothing weaker takes its place.

use std::fmt::Display;
use std::io;

use serde::{Deserialize, Serialize};

/// Why a sandbox could not be armed, or its command not be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}")]
pub struct SandboxError {
    /// What failed, and why.
    pub what: String,
    /// What to do about it, if that is known.
    pub hint: Option<String>,
    /// The exit code a launcher ends with: 4, or what shells use for a command that cannot be run.
    pub code: u8,
}

impl SandboxError {
    /// The sandbox could not be armed at `step`.
    pub fn arming(step: impl Display, why: impl Display) -> Self {
        Self { what: format!("the sandbox cannot be armed: {step}: {why}"), hint: None, code: NOT_ARMED }
    }

    /// The command could not be started in a sandbox that is armed.
    pub fn starting(program: impl Display, why: &io::Error) -> Self {
        let code = if why.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
        let hint = (code == NOT_FOUND).then(|| "it must lie in a directory that the sandbox shows".to_owned());
        Self { what: format!("cannot run `{program}` in the session: {why}"), hint, code }
    }

    /// A container is not as it must be: at `what`, for `why`.
    pub fn container(what: impl Display, why: impl Display) -> Self {
        Self { what: format!("the container is not what it must be: {what}: {why}"), hint: None, code: NOT_ARMED }
    }

    /// The same with other advice, where there is any.
    #[must_use]
    pub(crate) fn hint_instead(mut self, hint: &str) -> Self {
        self.hint = self.hint.map(|_| hint.to_owned());
        self
    }

    /// Whether the sandbox stood, and only its command could not be started.
    pub fn is_of_command(&self) -> bool {
        self.code != NOT_ARMED
    }

    /// The same with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Names the step at which the system said no.
pub(crate) trait Step<T> {
    fn step(self, step: impl Display) -> Result<T, SandboxError>;
}

impl<T, E: Display> Step<T> for Result<T, E> {
    fn step(self, step: impl Display) -> Result<T, SandboxError> {
        self.map_err(|why| SandboxError::arming(step, why))
    }
}

const NOT_ARMED: u8 = 4;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
