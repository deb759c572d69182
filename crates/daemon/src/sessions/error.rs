//! Why something could not be done with a session.

use std::io;
use std::path::PathBuf;

use clauderon_core::session::SessionName;

use crate::store::StoreError;

/// Why something could not be done with a session; the control API turns it into an answer.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No session has this name.
    #[error("there is no session named {0:?}")]
    NoSuchSession(String),
    /// The wanted name is taken.
    #[error("a session named `{0}` exists already")]
    Exists(SessionName),
    /// The request cannot be meant.
    #[error("{what}")]
    BadRequest {
        /// What is wrong.
        what: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The session's process cannot be started in the wanted way.
    #[error("{what}")]
    Backend {
        /// What is missing or failed.
        what: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The session's directory or a file in it cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The proxy is not up yet.
    #[error("the proxy is not up yet")]
    NotYetUp,
    /// The system gives no random bytes.
    #[error("the system gave no random bytes")]
    NoRandomness,
}

impl SessionError {
    pub(crate) fn bad_request(what: impl Into<String>) -> Self {
        Self::BadRequest { what: what.into(), hint: None }
    }

    /// What to do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSuchSession(_) => Some("see `clauderon list`".to_owned()),
            Self::Exists(name) => Some(format!("choose another --name, or `clauderon delete {name}` first")),
            Self::BadRequest { hint, .. } | Self::Backend { hint, .. } => hint.clone(),
            Self::Store(_) | Self::File { .. } | Self::NotYetUp | Self::NoRandomness => None,
        }
    }

    pub(crate) fn with_hint(self, new: impl Into<String>) -> Self {
        let hint = Some(new.into());
        match self {
            Self::BadRequest { what, .. } => Self::BadRequest { what, hint },
            Self::Backend { what, .. } => Self::Backend { what, hint },
            other => other,
        }
    }
}
