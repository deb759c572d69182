//! Errors as users meet them: a chain of causes, hints, and an exit code.

use std::fmt::Display;
use std::io;

/// Exit code: done.
pub(crate) const OK: u8 = 0;
/// Exit code: it failed, and no narrower code fits.
pub(crate) const FAILURE: u8 = 1;
/// Exit code: wrong usage or configuration.
pub(crate) const USAGE: u8 = 2;
/// Exit code: no session of that name.
pub(crate) const NO_SUCH_SESSION: u8 = 3;
/// Exit code: the session's backend failed or does not exist.
pub(crate) const BACKEND: u8 = 4;
/// Exit code: the daemon cannot be reached.
pub(crate) const UNREACHABLE: u8 = 5;
/// Exit code of `run` and `exec`: the command was found but cannot be executed, as shells say it.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// Exit code of `run` and `exec`: the command was not found, as shells say it.
pub(crate) const NOT_FOUND: u8 = 127;

/// Why a command failed, what to do next, and the exit code that tells scripts.
#[derive(Debug)]
pub(crate) struct CliError {
    code: u8,
    cause: anyhow::Error,
    hints: Vec<String>,
}

/// What commands return.
pub(crate) type Result<T = ()> = std::result::Result<T, CliError>;

impl CliError {
    /// An error that begins here.
    pub(crate) fn new(code: u8, message: impl Display) -> Self {
        Self { code, cause: anyhow::Error::msg(message.to_string()), hints: Vec::new() }
    }

    /// An error with everything that led to it.
    pub(crate) fn caused(code: u8, cause: impl Into<anyhow::Error>) -> Self {
        Self { code, cause: cause.into(), hints: Vec::new() }
    }

    /// Says what was being done when it happened.
    pub(crate) fn context(mut self, doing: impl Display) -> Self {
        self.cause = self.cause.context(doing.to_string());
        self
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Says what to do next better than those before.
    pub(crate) fn hint_instead(mut self, hint: impl Into<String>) -> Self {
        self.hints = vec![hint.into()];
        self
    }

    /// The process's exit code.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// Whether the reader of our output went away, which is no failure (`clauderon list | head -1`).
    pub(crate) fn is_closed_output(&self) -> bool {
        self.cause.downcast_ref::<OutputError>().is_some_and(|OutputError(e)| e.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The messages from outermost to innermost, without those that repeat the one before.
    pub(crate) fn messages(&self) -> Vec<String> {
        let mut messages: Vec<String> = Vec::new();
        for cause in self.cause.chain().map(ToString::to_string) {
            if messages.last().is_none_or(|before| !before.contains(&cause)) {
                messages.push(cause);
            }
        }
        messages
    }

    /// What to do next, in order.
    pub(crate) fn hints(&self) -> &[String] {
        &self.hints
    }
}

/// Turns any error into a [`CliError`] with [`FAILURE`].
impl<E: std::error::Error + Send + Sync + 'static> From<E> for CliError {
    fn from(cause: E) -> Self {
        Self::caused(FAILURE, cause)
    }
}

/// Says what was being done, where an error may come out of it.
pub(crate) trait Doing<T> {
    /// Wraps the error in "`doing`", keeping its exit code.
    fn doing<D: Display>(self, doing: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<CliError>> Doing<T> for std::result::Result<T, E> {
    fn doing<D: Display>(self, doing: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| e.into().context(doing()))
    }
}

/// Standard output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub(crate) struct OutputError(#[source] pub(crate) io::Error);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        assert_eq!([OK, FAILURE, USAGE, NO_SUCH_SESSION, BACKEND, UNREACHABLE], [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_closed_pipe_is_told_from_other_output_errors() {
        let closed = |kind| CliError::from(OutputError(io::Error::from(kind))).is_closed_output();
        assert!(closed(io::ErrorKind::BrokenPipe));
        assert!(!closed(io::ErrorKind::StorageFull));
        assert!(!CliError::from(io::Error::from(io::ErrorKind::BrokenPipe)).is_closed_output());
    }

    #[test]
    fn context_keeps_the_code_and_repetition_is_dropped() {
        let error = CliError::new(BACKEND, "no room").context("no room: cannot start").context("create failed");
        assert_eq!(error.code(), BACKEND);
        assert_eq!(error.messages(), ["create failed", "no room: cannot start"]);
    }
}
