//! A session's copy of a repository, from outside: git is only run on it inside the session's sandbox or container.

use std::ffi::OsString;
use std::process::Command;

use clauderon_api::{Client, SessionInfo};

use crate::cli::PlaceArgs;
use crate::error::{CliError, Result, USAGE};
use crate::{reach, sandbox};

/// The copy of one session.
pub(crate) struct Copy {
    client: Client,
    session: SessionInfo,
    /// The session's name.
    pub(crate) name: String,
    /// The user's repository.
    pub(crate) repo: String,
    /// The commit at which the copy began.
    pub(crate) base: String,
}

impl Copy {
    /// That of session `name`.
    pub(crate) async fn of(name: &str) -> Result<Self> {
        let client = reach::daemon().await?;
        let session = match client.session(name).await {
            Ok(session) => session,
            Err(error) => return Err(reach::session_failed(&client, error).await),
        };
        match (session.repo.clone(), session.base.clone()) {
            (Some(repo), Some(base)) => Ok(Self { client, name: session.name.clone(), session, repo, base }),
            _ => Err(CliError::new(USAGE, format_args!("session `{name}` has no copy of a repository"))
                .hint("`clauderon create --backend sandbox --repo PATH` makes one, as `docker` and `podman` do")),
        }
    }

    /// Git with these arguments, inside.
    pub(crate) async fn git(&self, arguments: &[&str]) -> Result<Command> {
        let words: Vec<OsString> = std::iter::once("git").chain(arguments.iter().copied()).map(Into::into).collect();
        let place = PlaceArgs { writable: false };
        sandbox::command(&self.client, &self.session, place, &words, Some(std::process::id())).await
    }
}
